//! What is refused, who is accused of what, and what cannot grow.

mod bench;

use bench::*;
use customhouse_consensus::{Message, Refusal};
use customhouse_ledger::{
    finality::{
        certificate::Certificate,
        header::Block,
        vote::{Ballot, Proposal, Vote, VoteKind},
    },
    hash::Hash,
};

fn a() -> Block {
    block(1, 'A')
}

fn b() -> Block {
    block(1, 'B')
}

/// The block A with other leaves.
fn swapped() -> Block {
    Block { leaves: vec![Hash([9; 32])], ..a() }
}

#[test]
fn contradictions_are_evidence_once() {
    let rows: [(&str, Event, Event, bool); 8] = [
        ("two proposals", proposal(1, 0, a()), proposal(1, 0, b()), true),
        ("one with two lists of leaves", proposal(1, 0, a()), proposal(1, 0, swapped()), true),
        ("two notarize", notarize(2, 1, a()), notarize(2, 1, b()), true),
        ("two finalize", finalize(2, 1, a()), finalize(2, 1, b()), true),
        ("nullify and finalize", nullify(2, 1), finalize(2, 1, a()), true),
        ("proposal and notarize", proposal(1, 0, a()), notarize(2, 1, b()), true),
        ("notarize and nullify", notarize(2, 1, a()), nullify(2, 1), false),
        ("two views", finalize(2, 1, a()), finalize(2, 2, b()), false),
    ];
    for (what, first, second, evidence) in rows {
        for (first, second) in [(&first, &second), (&second, &first)] {
            let mut bench = Bench::new(0);
            bench.take(first.clone());
            let accused = |effects: Vec<String>| effects.contains(&"accuse 2 in 1".to_owned());
            assert_eq!(accused(bench.take(second.clone())), evidence, "{what}");
            assert!(!accused(bench.take(second.clone())), "{what}: once");
            assert!(!accused(bench.take(first.clone())), "{what}: once");
        }
    }
}

#[test]
fn a_contradiction_inside_a_certificate_is_evidence() {
    let mut bench = Bench::new(0);
    bench.take(notarize(3, 1, b()));
    assert!(bench.take(notarization(1, a())).contains(&"accuse 3 in 1".to_owned()));
}

#[test]
fn what_does_not_verify_is_refused() {
    let mut forged = vote(VoteKind::Notarize, 1, 1, &a());
    forged.signature.0[9] ^= 1;
    let stranger = vote(VoteKind::Notarize, 8, 1, &a());
    let ballot = Ballot { kind: VoteKind::Notarize, height: 1, view: 1, block_hash: a().hash() };
    let foreign = Vote::sign(ballot, &Hash([8; 32]), &key(1));
    let votes = [1, 2, 3].map(|by| vote(VoteKind::Notarize, by, 1, &a()));
    let few = Certificate::from_votes(ballot, &votes[..1], &validators(1));
    assert_eq!(few, None);
    let with_forged = [forged, votes[1], votes[2]];
    let certificate = Certificate::from_votes(ballot, &with_forged, &validators(4));
    let mut proposal = propose(1, 0, a());
    proposal.signature.0[9] ^= 1;
    for (message, refusal) in [
        (Message::Vote(forged), "refuse: Signature"),
        (Message::Vote(stranger), "refuse: NotAValidator"),
        (Message::Vote(foreign), "refuse: Signature"),
        (Message::Certificate(certificate.expect("three votes")), "refuse: Certificate"),
        (Message::Proposal(proposal), "refuse: Signature"),
    ] {
        assert_eq!(Bench::new(0).take(said(message)), [refusal]);
    }
}

#[test]
fn what_is_known_in_other_bytes_is_neither_verified_nor_kept() {
    let mut bench = Bench::new(0);
    let forge = |vote: Vote| {
        let mut forged = vote;
        forged.signature.0[9] ^= 1;
        forged
    };
    let votes = [1, 2, 3].map(|by| vote(VoteKind::Nullify, by, 1, &a()));
    let nullified = certificate(VoteKind::Nullify, &[1, 2, 3], 1, &a());
    let forged = votes.map(forge);
    let other = Certificate::from_votes(votes[0].ballot, &forged, &validators(4));
    let mut proposed = propose(1, 0, a());
    bench.take(said(Message::Proposal(proposed.clone())));
    proposed.signature.0[9] ^= 1;
    assert_eq!(bench.take(said(Message::Proposal(proposed))), ["ignore: Known"]);
    bench.take(said(Message::Certificate(nullified.clone())));
    let again = bench.take(said(Message::Vote(votes[0])));
    assert_eq!(again, ["contained"], "the very bytes are welcome");
    assert_eq!(bench.take(said(Message::Vote(forged[0]))), ["ignore: Known"]);
    assert_eq!(bench.take(said(Message::Certificate(other.expect("3")))), ["ignore: Known"]);
    assert_eq!(bench.core.certificates(1, 1), [nullified]);
    assert!(!Refusal::Known.is_fault() && Refusal::Signature.is_fault());
}

#[test]
fn a_proposal_with_other_leaves_is_refused_and_takes_no_place() {
    let genuine = propose(1, 0, a());
    let altered = Message::Proposal(Proposal { block: swapped(), ..genuine.clone() });
    let mut bench = Bench::new(0);
    assert_eq!(bench.take(said(altered.clone())), ["refuse: Signature"]);
    assert_eq!(bench.take(said(Message::Proposal(genuine))), ["validate 1 A"]);
    assert_eq!(bench.take(said(altered)), ["refuse: Signature"], "though the block is known");
    // Signed with them by a later leader, of a block that is here with its own: no vote, and nothing
    // of it in the journal, which would have the wrong leaves after a restart.
    let mut bench = Bench::new(1);
    bench.take_all(vec![proposal(1, 0, a()), valid(1, a()), notarization(1, a())]);
    assert!(bench.take(proposal(2, 1, swapped())).is_empty());
    // Of this node's own proposal too.
    let mut bench = Bench::new(2);
    bench.take_all(vec![work(), built(1, a())]);
    let altered = Proposal { block: swapped(), ..propose(1, 0, a()) };
    assert_eq!(bench.take(said(Message::Proposal(altered))), ["refuse: Signature"]);
    assert!(bench.core.is_signing());
}

#[test]
fn a_block_of_too_many_transactions_is_refused() {
    let mut large = a();
    large.leaves = vec![Hash([1; 32]); genesis().parameters.block_transactions_max as usize + 1];
    assert_eq!(Bench::new(0).take(proposal(1, 0, large.clone())), ["refuse: Block"]);
    large.leaves.pop();
    assert_eq!(Bench::new(0).take(proposal(1, 0, large)), ["validate 1 A"]);
}

#[test]
fn far_views_and_later_heights_cannot_fill_the_memory() {
    let mut bench = Bench::new(0);
    for view in [10, 1_000, u64::MAX] {
        assert_eq!(bench.take(nullify(1, view)), ["ignore: FarView"]);
    }
    let d = block_on(&after(&a(), certificate(VoteKind::Finalize, &[1, 2, 3], 1, &a())), 1, 'D');
    let mut refused = 0;
    for view in 1..2_000 {
        let early = said(Message::Vote(vote(VoteKind::Nullify, 1, view, &d)));
        refused += usize::from(bench.take(early) == ["ignore: TooEarly"]);
    }
    assert!(refused >= 900, "{refused}");
}

#[test]
fn a_long_height_keeps_the_blocks_that_may_still_be_needed_and_no_others() {
    let mut bench = Bench::new(0);
    bench.take_all(vec![proposal(1, 0, a()), valid(1, a())]);
    bench.take_all((1..=8).map(nullification).collect());
    assert!(bench.core.block(&a().hash()).is_some(), "its notarization may be on its way");
    bench.take(nullification(9));
    assert!(bench.core.block(&a().hash()).is_none(), "the store has it");
    let mut bench = Bench::new(0);
    bench.take_all(vec![proposal(1, 0, a()), valid(1, a()), notarization(1, a())]);
    bench.take_all((2..=20).map(nullification).collect());
    assert!(bench.core.block(&a().hash()).is_some(), "it will be proposed again");
}

#[test]
fn certificates_of_all_views_are_sent_again_a_page_at_a_time() {
    let mut bench = Bench::timed(0, customhouse_consensus::Timing { resend_ms: 100, ..TIMING });
    bench.take_all((1..=40).map(nullification).collect());
    let mut pages = || {
        let again = bench.take(Event::Wait(100));
        again.into_iter().filter(|effect| effect.contains("nullification")).collect::<Vec<_>>()
    };
    let (first, second, third) = (pages(), pages(), pages());
    assert_eq!((first.len(), second.len()), (32, 8));
    assert_eq!((&*first[0], &*second[7]), ("send nullification 40", "send nullification 1"));
    assert_eq!(first, third, "and from the newest again");
}
