//! What is done again, later or less often, so that a height comes to its end.

mod bench;

use bench::*;
use customhouse_consensus::{BlockVerdict, Input, Message, Timing};
use customhouse_ledger::finality::vote::VoteKind;

fn a() -> customhouse_ledger::finality::header::Block {
    block(1, 'A')
}

fn b() -> customhouse_ledger::finality::header::Block {
    block(1, 'B')
}

#[test]
fn bodies_that_could_not_be_had_are_asked_for_again() {
    let mut bench = Bench::timed(0, Timing { resend_ms: 100, ..TIMING });
    bench.take(proposal(1, 0, a()));
    bench.take(verdict(1, a(), BlockVerdict::Unavailable));
    assert!(bench.take(Event::Wait(99)).is_empty());
    assert_eq!(bench.take(Event::Wait(1)), ["validate 1 A"]);
}

#[test]
fn a_notarized_block_is_proposed_again_only_when_its_finalization_fails_to_come() {
    let mut bench = Bench::timed(3, Timing { repropose_ms: 100, ..TIMING });
    bench.take_all(vec![proposal(1, 0, a()), valid(1, a())]);
    let finalized = bench.take(notarization(1, a()));
    assert!(!finalized.contains(&"send proposal 2 A".to_owned()), "{finalized:?}");
    assert!(bench.take(Event::Wait(99)).is_empty());
    assert!(bench.take(Event::Wait(1)).contains(&"send proposal 2 A".to_owned()));
}

#[test]
fn new_blocks_halve_in_size_each_view_after_the_second() {
    let parameters = genesis().parameters;
    let whole = parameters.block_bytes_max;
    let of_view = |view: u64| {
        let me = (1 + view as usize) % 4;
        let mut bench = Bench::new(me);
        for nullified in 1..view {
            bench.take(nullification(nullified));
        }
        if view == 1 {
            bench.take(work());
        }
        bench.builds.last().map(|build| build.block_bytes_max)
    };
    let sizes = [whole, whole, whole / 2, whole / 4, whole / 8];
    for (view, size) in (1..).zip(sizes) {
        assert_eq!(of_view(view), Some(size), "view {view}");
    }
    assert_eq!(of_view(12), Some(1 << 20), "and no further");
}

#[test]
fn while_stuck_all_that_a_peer_may_have_missed_is_sent_again() {
    let mut bench = Bench::timed(3, Timing { resend_ms: 100, view_ms: 50, ..TIMING });
    bench.take_all(vec![nullification(1), work(), built(2, block(2, 'C')), Event::Wait(75)]);
    let again = bench.take(Event::Wait(25));
    assert_eq!(
        again,
        [
            "send proposal 2 C",
            "send nullification 1",
            "send notarize 2 C",
            "send nullify 2",
            "resend transactions",
        ]
    );
}

/// Whoever is to hear it gets it in the certificate, which goes to all.
#[test]
fn what_is_in_a_certificate_that_was_sent_need_not_go_on_by_itself() {
    let mut bench = Bench::new(0);
    let words_of = |bench: &mut Bench, event| bench.take(event).last().cloned();
    let contained = Some("contained".to_owned());
    bench.take_all(vec![proposal(1, 0, a()), valid(1, a())]);
    assert_eq!(bench.take(notarize(1, 1, a())), [""; 0], "it goes on");
    assert_eq!(words_of(&mut bench, notarize(2, 1, a())), contained, "it completes a quorum");
    assert_eq!(words_of(&mut bench, notarize(2, 1, a())), contained, "the same again");
    let of = |by: &[usize]| {
        let certificate = certificate(VoteKind::Notarize, by, 1, &a());
        step(Input::Message { from: PEER, message: Message::Certificate(certificate) })
    };
    let unverified = Some("ignore: Known".to_owned());
    assert_eq!(words_of(&mut bench, of(&[1, 2, 3])), unverified, "a vote of it is not known");
    assert_eq!(words_of(&mut bench, notarize(3, 1, a())), contained, "more than a quorum");
    assert_eq!(words_of(&mut bench, of(&[1, 2, 3])), contained, "of other votes, all known");
    assert_eq!(bench.take(of(&[0, 1, 2])), [""; 0], "what was sent, in these very bytes");
    assert_eq!(bench.take(notarize(1, 1, b())).len(), 1, "evidence against it, which goes on");
    assert_eq!(bench.take(finalize(1, 1, a())), [""; 0], "nobody has sent a finalization");
}
