//! What is told of a key, and who must have told it before the key signs.

mod bench;

use bench::*;
use customhouse_consensus::{
    Committed, Config, Core, Input, Message, Now, PeerTag, Signatures, VOTES_TOLD_MAX,
};
use customhouse_ledger::finality::{header::Header, vote::VoteKind};

/// The height of the table.
const HEIGHT: u64 = 5;
/// What one has committed that is at that height too.
const HERE: u64 = HEIGHT - 1;
/// What a liar says.
const FAR: u64 = u64::MAX;

struct Row {
    what: &'static str,
    /// So many validators; the key is that of the first.
    n: usize,
    /// Which agency's peer has told (100 more for a second one of it), and how far that is.
    told: &'static [(usize, u64)],
    signs: bool,
}

const fn row(n: usize, told: &'static [(usize, u64)], signs: bool, what: &'static str) -> Row {
    Row { what, n, told, signs }
}

const ROWS: &[Row] = &[
    row(1, &[], true, "its own key is a quorum"),
    row(2, &[], false, "nobody has told"),
    row(2, &[(1, HERE)], true, "its own key counts"),
    row(2, &[(1, 0)], true, "one that is behind counts too"),
    row(2, &[(2, HERE), (3, HERE)], false, "those who have no vote do not count"),
    row(2, &[(0, HERE)], false, "nor does another peer of its own agency"),
    row(2, &[(1, HEIGHT)], false, "the height is decided"),
    row(2, &[(1, HEIGHT), (1, HERE)], true, "until its store is put back, and it is heard again"),
    row(2, &[(1, HEIGHT), (101, HERE)], false, "another peer of its agency does not change that"),
    row(4, &[(1, HERE)], false, "two of four are no quorum"),
    row(4, &[(1, HERE), (2, HERE)], true, "three are"),
    row(4, &[(1, HERE), (4, HERE), (5, HERE)], false, "of those that have a vote"),
    row(4, &[(1, HERE), (101, 0), (1, HERE)], false, "two peers of one agency are one"),
    row(4, &[(1, HERE), (2, HEIGHT)], false, "one that has committed it holds nothing of it"),
    row(4, &[(1, HERE), (2, HERE), (2, HEIGHT)], true, "what it told before that stands"),
    row(4, &[(2, HERE), (2, HEIGHT), (1, HERE)], false, "but before that, its last word counts"),
    row(4, &[(102, HEIGHT), (2, HERE), (1, HERE)], false, "of two peers, that of the furthest"),
    row(4, &[(1, HERE), (2, FAR)], false, "a liar that is far ahead has told nothing"),
    row(4, &[(1, HERE), (2, FAR), (3, HERE)], true, "and holds back nobody"),
    row(4, &[(1, HEIGHT), (2, FAR), (3, HERE)], false, "nor does it lend its voice to another"),
    row(7, &[(1, HERE), (2, HERE), (3, HERE)], false, "four of seven are no quorum"),
    row(7, &[(1, HERE), (2, HERE), (3, HERE), (4, HERE)], true, "five are"),
    row(7, &[(1, HERE), (2, HERE), (3, FAR), (4, FAR)], false, "two liars tell nothing"),
    row(7, &[(1, 0), (2, 0), (3, FAR), (4, FAR), (5, 0), (6, 0)], true, "and hold back nobody"),
    row(7, &[(1, 0), (2, 0), (3, FAR), (4, FAR), (5, 0), (6, HEIGHT)], false, "not all are liars"),
];

/// A core of the first of so many validators, at the height of the table.
fn core(n: usize) -> Core {
    let genesis = genesis_of(n);
    let header = Header { height: HERE, ..genesis.header };
    let config = Config { chain_id: CHAIN, signer: Some(key(0)), timing: TIMING };
    Core::new(config, Committed { header, ..genesis }, Vec::new()).unasked()
}

const NOW: Now = Now { monotonic_ms: 0, unix_ms: UNIX_MS };

fn tell(core: &mut Core, by: usize, tip_height: u64) {
    let (from, agency) = (PeerTag(by as u64), agency(by % 100));
    let held = Signatures::default();
    let ready = core.step(NOW, Input::Signatures { from, agency, tip_height, held });
    assert!(ready.entries().is_empty());
}

#[test]
fn a_key_signs_when_no_quorum_is_without_those_who_told() {
    for Row { what, n, told, signs } in ROWS {
        let mut core = core(*n);
        told.iter().for_each(|&(by, tip)| tell(&mut core, by, tip));
        assert_eq!(core.is_signing(), *signs, "n = {n}, {told:?}: {what}");
        assert_eq!(core.is_unasked(), !*signs, "n = {n}, {told:?}: {what}");
    }
}

#[test]
fn liars_with_a_huge_tip_cannot_hold_a_key_back_for_ever() {
    for (n, f) in [(1, 0), (2, 0), (4, 1), (7, 2), (10, 3)] {
        let mut core = core(n);
        (1..=f).for_each(|liar| tell(&mut core, liar, FAR));
        (f + 1..n).for_each(|honest| tell(&mut core, honest, HERE));
        assert!(core.is_signing(), "n = {n}");
    }
}

#[test]
fn nothing_is_signed_before_enough_have_told() {
    let a = block(1, 'A');
    let mut bench = Bench::new(0).unasked();
    let before =
        [proposal(1, 0, a.clone()), tells_nothing(1), valid(1, a)].map(|event| bench.take(event));
    assert!(!bench.core.is_signing());
    let words: Vec<_> = before.iter().flatten().collect();
    assert!(!words.iter().any(|effect| effect.starts_with("persist")), "{words:?}");
    let asked = bench.take(tells_nothing(2));
    assert!(asked.contains(&"validate 1 A".to_owned()), "{asked:?}");
    let voted = bench.take(valid(1, block(1, 'A')));
    assert!(voted.contains(&"send notarize 1 A".to_owned()), "{voted:?}");
}

#[test]
fn what_the_last_that_was_waited_for_holds_stops_the_key_first() {
    let held = |by| Signatures {
        votes: vec![vote(VoteKind::Nullify, by, 1, &block(1, 'A'))],
        claims: vec![],
    };
    let mut bench = Bench::new(0).unasked();
    bench.take(tells_nothing(1));
    let stopped = bench.take(tells(2, 0, held(0)));
    assert!(stopped.contains(&"stop signing".to_owned()), "{stopped:?}");
    assert!(!bench.core.is_signing());
    // What is of another's key is no matter.
    let mut bench = Bench::new(0).unasked();
    bench.take_all(vec![tells_nothing(1), tells(2, 0, held(3))]);
    assert!(bench.core.is_signing());
}

#[test]
fn one_whose_answer_is_refused_has_told_nevertheless() {
    let mut forged = vote(VoteKind::Nullify, 0, 1, &block(1, 'A'));
    forged.signature.0[0] ^= 1;
    let held = Signatures { votes: vec![forged], claims: Vec::new() };
    let mut bench = Bench::new(0).unasked();
    bench.take(tells_nothing(1));
    assert_eq!(bench.take(tells(2, 0, held)), ["refuse: Signature"]);
    assert!(bench.core.is_signing(), "a liar could as well have told nothing");
}

#[test]
fn a_key_signs_beyond_the_height_that_those_who_told_had_committed() {
    let a = block(1, 'A');
    let finalization = certificate(VoteKind::Finalize, &[1, 2, 3], 1, &a);
    let state = after(&a, finalization.clone());
    let d = block_on(&state, 1, 'D');
    let mut bench = Bench::new(0).unasked();
    let nothing = Signatures::default;
    bench.take_all(vec![tells(1, 1, nothing()), tells(2, 1, nothing())]);
    assert!(bench.core.is_unasked(), "height 1 is decided");
    let from = PeerTag(1);
    bench.take(step(Input::Certified { from, block: a, finalization }));
    bench.take(step(Input::Committed { committed: state, pending: false }));
    assert!(bench.core.is_signing());
    bench.take(said(Message::Proposal(propose(1, 0, d.clone()))));
    let voted = bench.take(valid(1, d));
    assert!(voted.contains(&"send notarize 1 D".to_owned()), "{voted:?}");
}

#[test]
fn a_halted_core_takes_nothing() {
    let mut bench = Bench::new(0).unasked();
    bench.take(finalization(1, block(1, 'A')));
    assert_eq!(bench.take(finalization(2, block(2, 'B'))), ["halt"]);
    let nothing = bench.take_all(vec![tells_nothing(1), tells_nothing(2)]);
    assert!(nothing.is_empty() && bench.core.is_unasked(), "{nothing:?}");
}

#[test]
fn a_core_that_does_not_ask_signs_whoever_tells() {
    let mut bench = Bench::new(0);
    assert!(bench.core.is_signing());
    bench.take_all(vec![tells(1, FAR, Signatures::default()), tells_nothing(2)]);
    assert!(bench.core.is_signing());
}

#[test]
fn what_is_told_of_a_key_covers_certificates_of_all_views_and_the_next_height() {
    // Nullified by 0, 1 and 3 one view after the other, far beyond those whose votes are kept.
    let mut bench = Bench::new(2);
    let nullified = |view| certificate(VoteKind::Nullify, &[0, 1, 3], view, &block(1, 'A'));
    for view in 1..=40 {
        bench.take(said(Message::Certificate(nullified(view))));
    }
    let next =
        after(&block(1, 'A'), certificate(VoteKind::Finalize, &[1, 2, 3], 1, &block(1, 'A')));
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
    let stopped = asked.take(tells(1, 0, old));
    assert!(stopped.contains(&"stop signing".to_owned()), "{stopped:?}");
}

#[test]
fn a_proposal_that_the_journal_lacks_is_told_of_and_stops_its_key() {
    let mut bench = Bench::new(0);
    bench.take(proposal(1, 0, block(1, 'A')));
    bench.take_all((1..=5).map(nullification).collect());
    let mut held = bench.core.signed_by(&key(2).public(), 1);
    held.votes.clear();
    assert_eq!(held.claims.len(), 1, "though its block is forgotten");
    let told = |held: &Signatures| tells(1, 0, held.clone());
    let stopped = Bench::new(2).take(told(&held));
    assert!(stopped.contains(&"stop signing".to_owned()), "{stopped:?}");
    let mut knows = Bench::new(2);
    knows.take_all(vec![work(), built(1, block(1, 'A'))]);
    assert!(knows.take(told(&held)).is_empty(), "its own journal has it");
    let mut forged = held;
    forged.claims[0].signature.0[0] ^= 1;
    let mut bench = Bench::new(2);
    assert_eq!(bench.take(told(&forged)), ["refuse: Signature"]);
    assert!(bench.core.is_signing());
}
