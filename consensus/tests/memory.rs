//! What survives a crash, what is never signed, who is accused, and what cannot grow.

mod bench;

use bench::*;
use customhouse_consensus::{
    Core, Entry, Input, Message, PeerTag, Refusal, Signatures, VOTES_TOLD_MAX,
};
use customhouse_ledger::{
    agreement::{
        certificate::Certificate,
        header::Block,
        vote::{Ballot, Proposal, Vote, VoteKind},
    },
    hash::Hash,
    limits::{BLOCK_TRANSACTIONS_MAX, CERTIFICATE_BYTES_MAX},
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

fn restart(bench: Bench, me: usize) -> Bench {
    Bench::recovered(me, genesis(), bench.journal)
}

#[test]
fn a_restarted_leader_sends_the_same_proposal_again() {
    let mut bench = Bench::new(2);
    bench.take_all(vec![work(), built(1, a())]);
    let mut bench = restart(bench, 2);
    let first = bench.take(Event::Wait(0));
    assert_eq!(first, ["send proposal 1 A", "send notarize 1 A"]);
    assert!(bench.take(work()).is_empty(), "it does not build another");
}

#[test]
fn a_restarted_voter_keeps_to_its_votes() {
    let mut bench = Bench::new(0);
    bench.take_all(vec![proposal(1, 0, a()), valid(1, a()), Event::Wait(1_000)]);
    let mut bench = restart(bench, 0);
    assert_eq!(bench.take(Event::Wait(0)), ["send notarize 1 A", "send nullify 1"]);
    assert!(bench.take(proposal(1, 0, b())).contains(&"accuse 2 in 1".to_owned()));
    let entered = bench.take(notarization(1, a()));
    assert_eq!(entered, ["persist notarization 1", "send notarization 1"], "no finalize");
}

#[test]
fn a_restarted_finalizer_can_prove_why_it_is_in_the_next_view() {
    let mut bench = Bench::new(0);
    bench.take(notarization(1, a()));
    let mut bench = restart(bench, 0);
    let first = bench.take(Event::Wait(0));
    assert_eq!(first, ["send notarization 1", "send finalize 1 A"]);
    assert_eq!(bench.core.view(), 2);
}

#[test]
fn a_journal_torn_between_two_entries_is_completed() {
    let mut bench = Bench::new(0);
    bench.take_all(vec![proposal(1, 0, a()), valid(1, a()), notarization(1, a())]);
    let whole = bench.journal;
    for length in 0..=whole.len() {
        let mut bench = Bench::recovered(0, genesis(), whole[..length].to_vec());
        bench.take_all(vec![
            Event::Wait(0),
            proposal(1, 0, a()),
            valid(1, a()),
            notarization(1, a()),
        ]);
        let votes = |journal: &[Entry]| {
            let votes = journal.iter().filter(|entry| matches!(entry, Entry::Vote(_)));
            votes.cloned().collect::<Vec<_>>()
        };
        assert_eq!(votes(&bench.journal), votes(&whole), "{length} entries");
    }
}

#[test]
fn a_restarted_node_commits_the_block_that_it_had_notarized() {
    let mut bench = Bench::new(0);
    bench.take_all(vec![proposal(1, 0, a()), valid(1, a())]);
    let mut bench = restart(bench, 0);
    assert_eq!(bench.take(finalization(1, a())), ["send notarize 1 A", "commit A"]);
}

#[test]
fn a_journal_ahead_of_the_store_is_followed_and_not_signed() {
    let finalization = certificate(VoteKind::Finalize, &[1, 2, 3], 1, &a());
    let state = after(&a(), finalization.clone());
    let d = block_on(&state, 1, 'D');
    let remembered = Entry::Vote(vote(VoteKind::Notarize, 0, 1, &d));
    let mut bench = Bench::recovered(0, genesis(), vec![remembered]);
    assert!(!bench.core.is_signing());
    let nothing = bench.take_all(vec![proposal(1, 0, a()), valid(1, a()), Event::Wait(5_000)]);
    assert!(nothing.is_empty(), "{nothing:?}");
    let from = PeerTag(1);
    bench.take(step(Input::Certified { from, block: a(), finalization }));
    bench.take(step(Input::Committed { committed: state, pending: false }));
    assert!(bench.core.is_signing(), "at the height that it knows it goes on");
    assert!(bench.take(notarize_again(&d)).is_empty(), "its own vote is no surprise");
}

fn notarize_again(d: &Block) -> Event {
    said(Message::Vote(vote(VoteKind::Notarize, 0, 1, d)))
}

#[test]
fn nothing_is_signed_up_to_the_watermark() {
    let mut bench = Bench::recovered(0, genesis(), vec![Entry::Watermark(1)]);
    let nothing = bench.take_all(vec![proposal(1, 0, a()), valid(1, a()), Event::Wait(5_000)]);
    assert!(nothing.is_empty(), "{nothing:?}");
}

#[test]
fn an_own_signature_that_the_journal_lacks_stops_the_signer() {
    let later =
        block_on(&after(&a(), certificate(VoteKind::Finalize, &[1, 2, 3], 1, &a())), 1, 'D');
    let certificate = certificate(VoteKind::Notarize, &[0, 1, 2], 1, &a());
    for unknown in [
        said(Message::Vote(vote(VoteKind::Notarize, 0, 1, &a()))),
        said(Message::Vote(vote(VoteKind::Notarize, 0, 90, &a()))),
        said(Message::Vote(vote(VoteKind::Finalize, 0, 1, &later))),
        said(Message::Proposal(Proposal::sign(block(3, 'C'), 3, 0, &CHAIN, &key(0)))),
        said(Message::Certificate(certificate)),
    ] {
        let mut bench = Bench::new(0);
        assert!(bench.take(unknown).contains(&"stop signing".to_owned()));
        assert!(!bench.core.is_signing());
        let after = bench.take_all(vec![work(), Event::Wait(100_000)]);
        assert!(!after.iter().any(|effect| effect.starts_with("persist")), "{after:?}");
    }
    let mut forged = vote(VoteKind::Notarize, 0, 1, &a());
    forged.signature.0[0] ^= 1;
    let mut bench = Bench::new(0);
    assert_eq!(bench.take(said(Message::Vote(forged))), ["refuse: Signature"]);
    assert!(bench.core.is_signing(), "a forgery does not");
}

#[test]
fn a_stopped_signer_stays_stopped_after_a_restart() {
    let mut bench = Bench::new(0);
    let stopped = bench.take(notarize_again(&a()));
    assert!(stopped.contains(&format!("persist watermark {}", u64::MAX)), "{stopped:?}");
    let mut bench = restart(bench, 0);
    let after =
        bench.take_all(vec![proposal(1, 0, a()), valid(1, a()), work(), Event::Wait(100_000)]);
    assert!(!bench.core.is_signing());
    assert_eq!(after, ["resend transactions"], "others may include them");
}

#[test]
fn nothing_is_signed_before_peers_have_been_asked() {
    let mut bench = Bench::new(0).unasked();
    let before = bench.take(proposal(1, 0, a()));
    assert!(!bench.core.is_signing());
    assert!(!before.iter().any(|effect| effect.starts_with("persist")), "{before:?}");
    let asked = bench.take_all(vec![step(Input::Asked), valid(1, a())]);
    assert!(asked.contains(&"send notarize 1 A".to_owned()), "{asked:?}");
}

#[test]
fn what_is_told_of_a_key_covers_certificates_of_all_views_and_the_next_height() {
    // Nullified by 0, 1 and 3 one view after the other, far beyond those whose votes are kept.
    let mut bench = Bench::new(2);
    let nullified = |view| certificate(VoteKind::Nullify, &[0, 1, 3], view, &a());
    for view in 1..=40 {
        bench.take(said(Message::Certificate(nullified(view))));
    }
    let next = after(&a(), certificate(VoteKind::Finalize, &[1, 2, 3], 1, &a()));
    let d = block_on(&next, 1, 'D');
    bench.take(said(Message::Vote(vote(VoteKind::Notarize, 3, 1, &d))));
    let told = bench.core.signed_by(&key(3).public(), 1);
    let places: Vec<_> = told.votes.iter().map(|v| (v.ballot.height, v.ballot.view)).collect();
    let expected: Vec<_> = [(2, 1)].into_iter().chain((1..=40).rev().map(|v| (1, v))).collect();
    assert_eq!(places, expected, "the newest first");
    assert!(told.votes.iter().all(|vote| vote.verify(&CHAIN).is_ok()));
    let above = bench.core.signed_by(&key(3).public(), 2);
    assert_eq!(above.votes.len(), 1, "what is asked for and no more");
    assert_eq!(bench.core.signed_by(&key(3).public(), 3), Signatures::default());
    for view in 41..=600 {
        bench.take(said(Message::Certificate(nullified(view))));
    }
    let told = bench.core.signed_by(&key(3).public(), 1);
    assert_eq!(told.votes.len(), VOTES_TOLD_MAX, "bounded");
    // A node that has lost all but the newest of its journal stops for any of them.
    let mut asked = Bench::new(3).unasked();
    let old = Signatures { votes: vec![told.votes[500]], claims: Vec::new() };
    let stopped = asked.take(step(Input::Signatures { from: PEER, held: old }));
    assert!(stopped.contains(&"stop signing".to_owned()), "{stopped:?}");
}

#[test]
fn a_proposal_that_the_journal_lacks_is_told_of_and_stops_its_key() {
    let mut bench = Bench::new(0);
    bench.take(proposal(1, 0, a()));
    bench.take_all((1..=5).map(nullification).collect());
    let mut held = bench.core.signed_by(&key(2).public(), 1);
    held.votes.clear();
    assert_eq!(held.claims.len(), 1, "though its block is forgotten");
    let told = |held: &Signatures| step(Input::Signatures { from: PEER, held: held.clone() });
    let stopped = Bench::new(2).take(told(&held));
    assert!(stopped.contains(&"stop signing".to_owned()), "{stopped:?}");
    let mut knows = Bench::new(2);
    knows.take_all(vec![work(), built(1, a())]);
    assert!(knows.take(told(&held)).is_empty(), "its own journal has it");
    let mut forged = held;
    forged.claims[0].signature.0[0] ^= 1;
    let mut bench = Bench::new(2);
    assert_eq!(bench.take(told(&forged)), ["refuse: Signature"]);
    assert!(bench.core.is_signing());
}

#[test]
fn a_certificate_acted_on_before_peers_have_been_asked_is_durable_too() {
    let mut bench = Bench::new(0).unasked();
    bench.take(notarization(1, a()));
    bench.take(step(Input::Asked));
    let mut bench = restart(bench, 0);
    let first = bench.take(Event::Wait(0));
    assert_eq!(first, ["send notarization 1", "send finalize 1 A"]);
}

#[test]
fn what_a_vote_rests_on_is_durable_with_it_though_it_led_into_no_view() {
    let (mut bench, c) = (Bench::new(1), block(3, 'C'));
    bench.take(notarization(2, block(2, 'A')));
    // It is in view 3 already, and acts on neither of these.
    bench.take_all(vec![nullification(1), nullification(2)]);
    bench.take(proposal(3, 0, c.clone()));
    let voted = bench.take(valid(3, c));
    let persisted: Vec<_> = voted.iter().filter(|word| word.starts_with("persist")).collect();
    let expected = [
        "persist nullification 1",
        "persist nullification 2",
        "persist proposal 3 C",
        "persist notarize 3 C",
    ];
    assert_eq!(persisted, expected);
    let held = bench.core.grounds();
    assert_eq!((held.certificates.len(), held.claims.len()), (3, 1));
    assert_eq!(restart(bench, 1).core.grounds(), held, "for whoever asks who divided the chain");
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

#[test]
fn a_vote_of_the_next_height_waits_for_it() {
    let finalization = certificate(VoteKind::Finalize, &[1, 2, 3], 1, &a());
    let state = after(&a(), finalization.clone());
    let d = block_on(&state, 1, 'D');
    let mut bench = Bench::new(0);
    bench.take_all(vec![proposal(1, 0, a()), valid(1, a())]);
    bench.take(said(Message::Proposal(propose(1, 0, d))));
    assert_eq!(bench.take(tip(a())), ["commit A"]);
    let next = bench.take(step(Input::Committed { committed: state, pending: false }));
    assert_eq!(next, ["validate 1 D"]);
    let old = bench.take(finalize(3, 1, a()));
    assert_eq!(old, ["ignore: Past"], "a late vote is no sign of lagging");
    bench.take(Event::Wait(6_000));
    assert_eq!(bench.take(finalize(3, 1, a())), ["send tip 1", "ignore: Past"]);
    assert_eq!(bench.take(finalize(3, 1, a())), ["ignore: Past"], "not with every message");
}

#[test]
fn a_tip_ahead_is_synced_to_and_its_heights_are_not_signed() {
    let first = after(&a(), certificate(VoteKind::Finalize, &[1, 2, 3], 1, &a()));
    let second = block_on(&first, 1, 'D');
    let mut bench = Bench::new(2);
    assert_eq!(bench.take(tip(second.clone())), ["sync to 2"]);
    assert!(bench.core.is_catching_up());
    assert!(bench.take(work()).is_empty(), "the leader of a decided height builds nothing");
    let mut forged = certificate(VoteKind::Finalize, &[1, 2, 3], 1, &second).votes(&validators(4));
    forged[0].signature.0[0] ^= 1;
    let ballot = forged[0].ballot;
    let finalization = Certificate::from_votes(ballot, &forged, &validators(4)).expect("three");
    let tip = customhouse_consensus::Tip { header: second.header, finalization };
    let mut bench = Bench::new(2);
    assert_eq!(bench.take(said(Message::Tip(tip))), ["refuse: Certificate"]);
    assert!(!bench.core.is_catching_up());
}

#[test]
fn a_tip_that_is_older_than_a_known_one_costs_no_signature() {
    let after_a = after(&a(), certificate(VoteKind::Finalize, &[1, 2, 3], 1, &a()));
    let second = block_on(&after_a, 1, 'D');
    let finalization = certificate(VoteKind::Finalize, &[1, 2, 3], 1, &second);
    let third = block_on(&after(&second, finalization.clone()), 1, 'E');
    let mut bench = Bench::new(2);
    assert_eq!(bench.take(tip(third.clone())), ["sync to 3"]);
    assert!(bench.take(tip(third)).is_empty(), "the same again is passed on");
    assert_eq!(bench.take(tip(second.clone())), ["ignore: Known"]);
    // Nobody looks whether it is genuine, so nobody is charged.
    let mut forged = finalization.votes(&validators(4));
    forged[0].signature.0[0] ^= 1;
    let finalization = Certificate::from_votes(forged[0].ballot, &forged, &validators(4));
    let finalization = finalization.expect("three");
    let forged = customhouse_consensus::Tip { header: second.header, finalization };
    assert_eq!(bench.take(said(Message::Tip(forged))), ["ignore: Known"]);
}

#[test]
fn a_tip_seen_ahead_decides_its_height_even_when_its_sender_is_gone() {
    let finalization = certificate(VoteKind::Finalize, &[1, 2, 3], 1, &a());
    let state = after(&a(), finalization.clone());
    let d = block_on(&state, 1, 'D');
    let mut bench = Bench::new(0);
    bench.take(tip(d.clone()));
    let from = PeerTag(1);
    let first = bench.take(step(Input::Certified { from, block: a(), finalization }));
    assert_eq!(first, ["commit A"]);
    let next = bench.take(step(Input::Committed { committed: state, pending: true }));
    assert_eq!(next, ["fetch block D"]);
    assert_eq!(bench.take(fetched(d)), ["commit D"]);
}

#[test]
fn what_does_not_follow_the_committed_block_halts_the_core() {
    let mut foreign = a();
    foreign.header.parent_hash.0[0] ^= 1;
    let mut bench = Bench::new(0);
    bench.take(finalization(1, foreign.clone()));
    assert_eq!(bench.take(fetched(foreign)), ["halt"]);
}

#[test]
fn a_commit_of_another_block_than_the_decided_one_halts_the_core() {
    let state = |block: Block| {
        let finalization = certificate(VoteKind::Finalize, &[1, 2, 3], 1, &block);
        step(Input::Committed { committed: after(&block, finalization), pending: false })
    };
    let mut bench = Bench::new(0);
    bench.take_all(vec![proposal(1, 0, a()), valid(1, a()), finalization(1, a())]);
    assert_eq!(bench.take(state(b())), ["halt"]);
    assert_eq!(Bench::new(0).take(state(a())), ["halt"], "nothing was decided");
}

#[test]
fn a_finalization_that_contradicts_the_committed_block_halts_the_core() {
    let state = after(&a(), certificate(VoteKind::Finalize, &[1, 2, 3], 1, &a()));
    let mut bench = Bench::new(0);
    bench.take_all(vec![proposal(1, 0, a()), valid(1, a()), finalization(1, a())]);
    bench.take(step(Input::Committed { committed: state, pending: false }));
    assert_eq!(bench.take(tip(a())), ["ignore: Past"]);
    assert_eq!(bench.take(tip(b())), ["halt"]);
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
fn a_node_that_connects_is_told_the_tip() {
    let state = after(&a(), certificate(VoteKind::Finalize, &[1, 2, 3], 1, &a()));
    let mut bench = Bench::recovered(0, state, Vec::new());
    bench.take(Event::Wait(0));
    assert_eq!(bench.take(step(Input::Connected(PEER))), ["send tip 1"]);
    assert_eq!(bench.take(Event::Wait(TIMING.tip_ms)), ["send tip 1"], "and now and then");
}

#[test]
fn contradicting_finalizations_halt_the_core() {
    let mut bench = Bench::new(0);
    bench.take(finalization(1, a()));
    let effects = bench.take(finalization(2, block(2, 'B')));
    assert_eq!(effects, ["halt"]);
    assert!(bench.core.is_halted());
    assert!(bench.take(work()).is_empty());
}

#[test]
fn an_observer_follows_and_signs_nothing() {
    let config = customhouse_consensus::Config { chain_id: CHAIN, signer: None, timing: TIMING };
    let mut bench = Bench { core: Core::new(config, genesis(), Vec::new()), ..Bench::new(0) };
    bench.take_all(vec![proposal(1, 0, a()), Event::Wait(5_000), fetched(a())]);
    assert_eq!(bench.take(finalization(1, a())), ["fetch block A"]);
    assert_eq!(bench.take(fetched(a())), ["commit A"]);
    assert!(bench.journal.is_empty());
}

#[test]
fn every_message_and_entry_round_trips() {
    let messages = [
        Message::Proposal(propose(3, 1, a())),
        Message::Vote(vote(VoteKind::Notarize, 1, 2, &a())),
        Message::Vote(vote(VoteKind::Nullify, 1, 2, &a())),
        Message::Vote(vote(VoteKind::Finalize, 1, 2, &a())),
        Message::Certificate(certificate(VoteKind::Nullify, &[0, 1, 3], 4, &a())),
        Message::Tip(customhouse_consensus::Tip {
            header: a().header,
            finalization: certificate(VoteKind::Finalize, &[0, 1, 3], 1, &a()),
        }),
    ];
    for message in messages {
        let bytes = message.encode();
        assert_eq!(Message::decode(&bytes), Ok(message.clone()));
        for length in 0..bytes.len() {
            assert_ne!(Message::decode(&bytes[..length]).ok(), Some(message.clone()));
        }
        let entry = match message {
            Message::Proposal(proposal) => Entry::Proposal(proposal),
            Message::Vote(vote) => Entry::Vote(vote),
            Message::Certificate(certificate) => Entry::Certificate(certificate),
            Message::Tip(_) => Entry::Watermark(7),
        };
        let bytes = entry.encode();
        assert_eq!(Entry::decode(&bytes).as_ref(), Ok(&entry));
        assert!(Entry::decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(Entry::decode(&[&[9], &bytes[1..]].concat()).is_err());
    }
    assert!(Entry::decode(&[]).is_err());
}

#[test]
fn no_bytes_make_decoding_panic() {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let tip = customhouse_consensus::Tip {
        header: a().header,
        finalization: certificate(VoteKind::Finalize, &[0, 1, 3], 1, &a()),
    };
    let whole = [
        Message::Proposal(propose(3, 1, a())).encode(),
        Message::Vote(vote(VoteKind::Notarize, 1, 2, &a())).encode(),
        Message::Certificate(tip.finalization.clone()).encode(),
        Message::Tip(tip).encode(),
    ];
    for _ in 0..20_000 {
        let mut bytes = whole[rng.random_range(0..whole.len())].clone();
        for _ in 0..rng.random_range(1..4) {
            let place = rng.random_range(0..bytes.len());
            bytes[place] = rng.random();
        }
        bytes.truncate(rng.random_range(0..=bytes.len()));
        if let Ok(message) = Message::decode(&bytes) {
            assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
        let _ = Entry::decode(&bytes);
    }
}

#[test]
fn what_is_too_large_is_refused_before_it_is_decoded() {
    use customhouse_consensus::{WireError, wire};
    let huge = vec![0; wire::MESSAGE_BYTES_MAX + 1];
    assert!(matches!(Message::decode(&huge), Err(WireError::TooLarge { .. })));
    let mut block = a();
    block.leaves = vec![Hash([1; 32]); BLOCK_TRANSACTIONS_MAX];
    let largest = Message::Proposal(propose(1, 0, block.clone()));
    assert_eq!(Message::decode(&largest.encode()), Ok(largest));
    block.leaves.push(Hash([1; 32]));
    let proto = wire::block_to_proto(&block);
    assert!(matches!(wire::block_from_proto(&proto), Err(WireError::TooLarge { .. })));
    let certificate = vec![0; CERTIFICATE_BYTES_MAX + 1];
    let refused = wire::certificate_from_bytes(&certificate);
    assert!(matches!(refused, Err(WireError::TooLarge { .. })));
}
