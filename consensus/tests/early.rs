//! Messages of a height that has not begun here: what is held of them, whose place they take, and who
//! answers for them when it begins.

mod bench;

use bench::*;
use customhouse_consensus::{CertifiedTip, Input, Message, PeerTag};
use customhouse_ledger::{
    finality::{
        certificate::Certificate,
        header::Block,
        vote::{Ballot, Proposal, Vote, VoteKind},
    },
    hash::Hash,
    keys::Signature,
};

/// A peer that lies. Its tag is the lowest, so that what it hands over would come first.
const LIAR: PeerTag = PeerTag(0);

fn a() -> Block {
    block(1, 'A')
}

fn after_a() -> customhouse_consensus::Committed {
    after(&a(), certificate(VoteKind::Finalize, &[1, 2, 3], 1, &a()))
}

/// A block of height 2.
fn d() -> Block {
    block_on(&after_a(), 1, 'D')
}

fn from(from: PeerTag, message: Message) -> Event {
    step(Input::Message { from, message })
}

/// A node that has voted for the block of height 1.
fn bench() -> Bench {
    let mut bench = Bench::new(0);
    bench.take_all(vec![proposal(1, 0, a()), valid(1, a())]);
    bench
}

/// Height 1 is decided, by what an honest peer says, and committed: gives what follows from each.
fn commit(bench: &mut Bench) -> (Vec<String>, Vec<String>) {
    let said = bench.take(tip(a()));
    let next = step(Input::Committed { committed: after_a(), pending: false });
    (said, bench.take(next))
}

fn vote_2(by: usize, view: u64) -> Vote {
    vote(VoteKind::Notarize, by, view, &d())
}

/// A vote in the name of another.
fn forged_vote(of: usize, view: u64) -> Message {
    Message::Vote(Vote { validator: key(of).public(), ..vote_2(8, view) })
}

fn forged_proposal(leaf: u8) -> Message {
    let block = Block { leaves: vec![Hash([leaf; 32])], ..d() };
    let signature = Signature([leaf; 64]);
    Message::Proposal(Proposal { block, signature, ..propose(1, 0, d()) })
}

#[test]
fn what_is_signed_of_the_next_height_is_held_and_not_passed_on() {
    let mut bench = bench();
    for message in [Message::Vote(vote_2(1, 1)), Message::Proposal(propose(1, 0, d()))] {
        assert_eq!(bench.take(from(PEER, message.clone())), ["hold"]);
        assert_eq!(bench.take(from(LIAR, message)), ["hold"], "again");
    }
    let (said, next) = commit(&mut bench);
    assert_eq!((said, next), (vec!["commit A".to_owned()], vec!["validate 1 D".to_owned()]));
}

#[test]
fn a_forgery_of_the_next_height_is_refused_when_it_comes() {
    let mut nullify = vote(VoteKind::Nullify, 1, 1, &d());
    nullify.ballot.block_hash = d().hash();
    let mut bench = bench();
    for forged in [forged_vote(1, 1), forged_proposal(1), Message::Vote(nullify)] {
        assert_eq!(bench.take(from(LIAR, forged)), ["refuse: Signature"]);
    }
    assert_eq!(commit(&mut bench).1, [""; 0], "nothing of it is left");
}

#[test]
fn forgeries_take_no_place_of_an_honest_author() {
    let mut bench = bench();
    for number in 0..100 {
        bench.take(from(LIAR, forged_proposal(number)));
        bench.take(from(LIAR, forged_vote(1, u64::from(number) % 9 + 1)));
    }
    assert_eq!(bench.take(from(PEER, Message::Proposal(propose(1, 0, d())))), ["hold"]);
    assert_eq!(bench.take(from(PEER, Message::Vote(vote_2(1, 1)))), ["hold"]);
    assert_eq!(commit(&mut bench).1, ["validate 1 D"]);
}

#[test]
fn a_later_forgery_does_not_beat_the_leader_whoever_hands_it_over() {
    let mut bench = bench();
    bench.take(from(PEER, Message::Proposal(propose(1, 0, d()))));
    assert_eq!(bench.take(from(LIAR, forged_proposal(1))), ["ignore: TooEarly"]);
    assert_eq!(commit(&mut bench).1, ["validate 1 D"]);
}

#[test]
fn who_handed_over_what_was_held_answers_for_it_and_who_speaks_does_not() {
    let (few, ballot) = ([vote_2(1, 1), vote_2(2, 1), vote_2(8, 1)], vote_2(1, 1).ballot);
    let forged =
        few.map(
            |vote| if vote == few[2] { Vote { validator: key(3).public(), ..vote } } else { vote },
        );
    let forged = Certificate::from_votes(ballot, &forged, &validators(4)).expect("three votes");
    let not_leading = Proposal::sign(d(), 1, 0, &CHAIN, &key(1));
    for (wrong, charged) in [
        (Message::Vote(vote_2(8, 1)), "charge 0: NotAValidator"),
        (Message::Proposal(not_leading), "charge 0: NotTheLeader"),
        (Message::Certificate(forged), "charge 0: Certificate"),
    ] {
        let mut bench = bench();
        assert_eq!(bench.take(from(LIAR, wrong)), ["hold"], "nobody can know yet");
        let (said, next) = commit(&mut bench);
        assert_eq!(said, ["commit A"], "what the honest peer said is right");
        assert_eq!(next, [charged]);
    }
}

#[test]
fn a_certificate_of_the_next_height_counts_when_it_begins() {
    let mut bench = bench();
    let certificate = certificate(VoteKind::Notarize, &[1, 2, 3], 1, &d());
    assert_eq!(bench.take(from(PEER, Message::Certificate(certificate.clone()))), ["hold"]);
    assert_eq!(bench.take(from(PEER, Message::Certificate(certificate))), ["hold"], "again");
    let next = commit(&mut bench).1;
    assert!(next.contains(&"send finalize 1 D".to_owned()), "{next:?}");
}

#[test]
fn heights_beyond_the_next_are_a_question_to_who_speaks_of_them_and_no_more() {
    let ballot = |height| Ballot { height, ..vote_2(1, 1).ballot };
    for height in [3, 100, u64::MAX] {
        let genuine = Vote::sign(ballot(height), &CHAIN, &key(1));
        let mut bench = bench();
        let asked = format!("sync to {}", height - 1);
        assert_eq!(bench.take(said(Message::Vote(genuine))), [&*asked, "ignore: TooEarly"]);
        assert_eq!(bench.take(said(Message::Vote(genuine))), ["ignore: TooEarly"], "not each time");
    }
}

#[test]
fn a_tip_of_other_validators_is_a_question_and_is_not_passed_on() {
    let mut header = d().header;
    header.validators_hash = Hash([9; 32]);
    let finalization =
        certificate(VoteKind::Finalize, &[1, 2, 3], 1, &Block { header: header.clone(), ..d() });
    let tip = Message::Tip(CertifiedTip { header, finalization });
    assert_eq!(bench().take(said(tip)), ["sync to 2", "ignore: Unverifiable"]);
}

#[test]
fn a_peer_speaks_for_one_author_that_is_no_validator_now_and_takes_no_place_of_another_s() {
    let mut bench = bench();
    let of = |author: usize, view| Message::Vote(vote_2(author, view));
    assert_eq!(bench.take(from(LIAR, of(8, 1))), ["hold"]);
    assert_eq!(bench.take(from(LIAR, of(8, 2))), ["hold"]);
    for author in 10..100 {
        assert_eq!(bench.take(from(LIAR, of(author, 1))), ["ignore: TooEarly"]);
    }
    assert_eq!(bench.take(from(PEER, of(9, 1))), ["hold"], "another peer has its own");
    let proposal = |view| Message::Proposal(Proposal::sign(d(), view, 0, &CHAIN, &key(8)));
    assert_eq!(bench.take(from(LIAR, proposal(1))), ["hold"]);
    assert_eq!(bench.take(from(LIAR, proposal(2))), ["ignore: TooEarly"]);
}

#[test]
fn an_author_fills_its_own_share_and_no_more() {
    let mut bench = bench();
    let mut held = 0;
    for view in (1..100).chain([u64::MAX]) {
        for kind in [VoteKind::Notarize, VoteKind::Nullify, VoteKind::Finalize] {
            for block in ['D', 'E', 'F'] {
                let block = block_on(&after_a(), 1, block);
                let said = bench.take(from(LIAR, Message::Vote(vote(kind, 1, view, &block))));
                held += usize::from(said == ["hold"]);
            }
        }
        let proposal = Proposal::sign(d(), view, 0, &CHAIN, &key(1));
        let said = bench.take(from(LIAR, Message::Proposal(proposal)));
        held += usize::from(said == ["hold"]);
    }
    // One vote of a kind in each of nine views; a nullify names no block, and so is the same thrice.
    assert_eq!(held, 9 * (1 + 3 + 1) + 2);
    assert_eq!(bench.take(from(PEER, Message::Vote(vote_2(2, 1)))), ["hold"]);
}
