//! What is said of other heights than the one in progress, and what halts a core.

mod bench;

use bench::*;
use customhouse_consensus::{Input, Message, PeerTag};
use customhouse_ledger::finality::{certificate::Certificate, header::Block, vote::VoteKind};

fn a() -> Block {
    block(1, 'A')
}

fn b() -> Block {
    block(1, 'B')
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
    let tip = customhouse_consensus::CertifiedTip { header: second.header, finalization };
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
    let forged = customhouse_consensus::CertifiedTip { header: second.header, finalization };
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
fn a_node_that_connects_is_told_the_tip() {
    let state = after(&a(), certificate(VoteKind::Finalize, &[1, 2, 3], 1, &a()));
    let mut bench = Bench::recovered(0, state, Vec::new());
    bench.take(Event::Wait(0));
    assert_eq!(bench.take(step(Input::Connected(PEER))), ["send tip 1"]);
    assert_eq!(bench.take(Event::Wait(TIMING.tip_ms)), ["send tip 1"], "and now and then");
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
fn contradicting_finalizations_halt_the_core() {
    let mut bench = Bench::new(0);
    bench.take(finalization(1, a()));
    let effects = bench.take(finalization(2, block(2, 'B')));
    assert_eq!(effects, ["halt"]);
    assert!(bench.core.is_halted());
    assert!(bench.take(work()).is_empty());
}
