//! What survives a crash, and what is never signed because of what was before it.

mod bench;

use bench::*;
use customhouse_consensus::{Core, Entry, Input, Message, PeerTag};
use customhouse_ledger::finality::{
    header::Block,
    vote::{Proposal, VoteKind},
};

fn a() -> Block {
    block(1, 'A')
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
    assert!(bench.take(proposal(1, 0, block(1, 'B'))).contains(&"accuse 2 in 1".to_owned()));
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
    assert!(!bench.core.is_signing() && bench.core.is_catching_up());
    let nothing = bench.take_all(vec![proposal(1, 0, a()), valid(1, a()), Event::Wait(5_000)]);
    assert!(nothing.is_empty(), "{nothing:?}");
    let from = PeerTag(1);
    bench.take(step(Input::Certified { from, block: a(), finalization }));
    bench.take(step(Input::Committed { committed: state, pending: false }));
    assert!(bench.core.is_signing(), "at the height that it knows it goes on");
    assert!(!bench.core.is_catching_up());
    assert!(bench.take(notarize_again(&d)).is_empty(), "its own vote is no surprise");
}

fn notarize_again(d: &Block) -> Event {
    said(Message::Vote(vote(VoteKind::Notarize, 0, 1, d)))
}

#[test]
fn a_key_that_was_stopped_says_nothing_of_how_far_the_others_are() {
    let bench = Bench::recovered(0, genesis(), vec![Entry::Watermark(u64::MAX)]);
    assert!(!bench.core.is_signing() && !bench.core.is_catching_up());
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
fn a_certificate_acted_on_before_peers_have_been_asked_is_durable_too() {
    let mut bench = Bench::new(0).unasked();
    bench.take(notarization(1, a()));
    bench.take_all(vec![tells_nothing(1), tells_nothing(2)]);
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
fn an_observer_follows_and_signs_nothing() {
    let config = customhouse_consensus::Config { chain_id: CHAIN, signer: None, timing: TIMING };
    let mut bench = Bench { core: Core::new(config, genesis(), Vec::new()), ..Bench::new(0) };
    bench.take_all(vec![proposal(1, 0, a()), Event::Wait(5_000), fetched(a())]);
    assert_eq!(bench.take(finalization(1, a())), ["fetch block A"]);
    assert_eq!(bench.take(fetched(a())), ["commit A"]);
    assert!(bench.journal.is_empty());
}
