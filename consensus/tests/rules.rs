//! The six rules as tables: what was, what happens, what follows. In every row the order of the
//! words is the order of effects: persist, send, do.

mod bench;

use bench::*;
use customhouse_consensus::{BlockVerdict, Input};

struct Row {
    what: &'static str,
    me: usize,
    given: Vec<Event>,
    when: Event,
    then: &'static [&'static str],
}

fn check(rows: Vec<Row>) {
    for Row { what, me, given, when, then } in rows {
        let mut bench = Bench::new(me);
        bench.take(Event::Wait(0));
        bench.take_all(given);
        assert_eq!(bench.take(when), then, "{what}");
    }
}

fn a() -> customhouse_ledger::finality::header::Block {
    block(1, 'A')
}

fn b() -> customhouse_ledger::finality::header::Block {
    block(1, 'B')
}

#[test]
fn rule_1_propose() {
    let proposed =
        &["persist proposal 1 A", "persist notarize 1 A", "send proposal 1 A", "send notarize 1 A"];
    check(vec![
        Row {
            what: "the leader of view 1 waits for a transaction",
            me: 2,
            given: vec![],
            when: Event::Wait(900),
            then: &[],
        },
        Row {
            what: "a transaction makes it build",
            me: 2,
            given: vec![],
            when: work(),
            then: &["build 1"],
        },
        Row { what: "once", me: 2, given: vec![work()], when: work(), then: &[] },
        Row {
            what: "where there was nothing after all, again when there is something",
            me: 2,
            given: vec![work(), no_work()],
            when: work(),
            then: &["build 1"],
        },
        Row { what: "and others not", me: 3, given: vec![], when: work(), then: &[] },
        Row {
            what: "what was built is proposed, and notarized with it",
            me: 2,
            given: vec![work()],
            when: built(1, a()),
            then: proposed,
        },
        Row {
            what: "one proposal a view",
            me: 2,
            given: vec![work(), built(1, a())],
            when: built(1, b()),
            then: &[],
        },
        Row {
            what: "what was not asked for is not proposed",
            me: 2,
            given: vec![],
            when: built(1, a()),
            then: &[],
        },
        Row {
            what: "nothing is proposed in a view that was nullified",
            me: 2,
            given: vec![work(), Event::Wait(1_000)],
            when: built(1, a()),
            then: &[],
        },
        Row {
            what: "a heartbeat is proposed without a transaction",
            me: 2,
            given: vec![],
            when: Event::Wait(600_000),
            then: &["build 1"],
        },
        Row {
            what: "from view 2 on the leader builds at once",
            me: 3,
            given: vec![],
            when: nullification(1),
            then: &["persist nullification 1", "send nullification 1", "build 2"],
        },
        Row {
            what: "a block notarized earlier is proposed again, unchanged",
            me: 3,
            given: vec![proposal(1, 0, a()), valid(1, a())],
            when: notarization(1, a()),
            then: &[
                "persist notarization 1",
                "persist finalize 1 A",
                "persist proposal 2 A",
                "persist notarize 2 A",
                "send notarization 1",
                "send finalize 1 A",
                "send proposal 2 A",
                "send notarize 2 A",
            ],
        },
        Row {
            what: "after it was fetched, where it is not stored here",
            me: 3,
            given: vec![notarization(1, a())],
            when: fetched(a()),
            then: &[
                "persist proposal 2 A",
                "persist notarize 2 A",
                "send proposal 2 A",
                "send notarize 2 A",
            ],
        },
        Row {
            what: "the highest notarization decides, over nullified views",
            me: 0,
            given: vec![proposal(1, 0, a()), valid(1, a()), notarization(1, a())],
            when: nullification(2),
            then: &[
                "persist nullification 2",
                "persist proposal 3 A",
                "persist notarize 3 A",
                "send nullification 2",
                "send proposal 3 A",
                "send notarize 3 A",
            ],
        },
        Row {
            what: "a built block gives way to a notarization that came meanwhile",
            me: 3,
            given: vec![nullification(1), notarization(1, a())],
            when: built(2, block(2, 'C')),
            then: &[],
        },
    ]);
}

#[test]
fn rule_2_notarize() {
    let voted = &["persist proposal 1 A", "persist notarize 1 A", "send notarize 1 A"];
    check(vec![
        Row {
            what: "a new block is checked in full",
            me: 0,
            given: vec![],
            when: proposal(1, 0, a()),
            then: &["validate 1 A"],
        },
        Row {
            what: "once",
            me: 0,
            given: vec![proposal(1, 0, a())],
            when: proposal(1, 0, a()),
            then: &[],
        },
        Row {
            what: "then notarized",
            me: 0,
            given: vec![proposal(1, 0, a())],
            when: valid(1, a()),
            then: voted,
        },
        Row {
            what: "an invalid one is not",
            me: 0,
            given: vec![proposal(1, 0, a())],
            when: verdict(1, a(), BlockVerdict::Invalid),
            then: &[],
        },
        Row {
            what: "a verdict about another block counts for nothing",
            me: 0,
            given: vec![proposal(1, 0, a())],
            when: valid(1, b()),
            then: &[],
        },
        Row {
            what: "nothing is notarized in a view that was nullified",
            me: 0,
            given: vec![proposal(1, 0, a()), Event::Wait(1_000)],
            when: valid(1, a()),
            then: &[],
        },
        Row {
            what: "a proposal by another than the leader is refused",
            me: 0,
            given: vec![],
            when: said(customhouse_consensus::Message::Proposal(
                customhouse_ledger::finality::vote::Proposal::sign(a(), 1, 0, &CHAIN, &key(1)),
            )),
            then: &["refuse: NotTheLeader"],
        },
        Row {
            what: "a proposal of a later view waits for the view",
            me: 1,
            given: vec![proposal(2, 0, block(2, 'C'))],
            when: nullification(1),
            then: &["persist nullification 1", "send nullification 1", "validate 2 C"],
        },
        Row {
            what: "an unjustified one waits for its certificates, which are fetched",
            me: 1,
            given: vec![nullification(1), nullification(2)],
            when: proposal(3, 1, a()),
            then: &["fetch certificates 1"],
        },
        Row {
            what: "with them, it is stored but not checked again",
            me: 1,
            given: vec![nullification(1), nullification(2), proposal(3, 1, a())],
            when: notarization(1, a()),
            then: &[
                "persist notarization 1",
                "persist finalize 1 A",
                "send notarization 1",
                "send finalize 1 A",
                "store 3 A",
            ],
        },
        Row {
            what: "and notarized",
            me: 1,
            given: vec![notarization(1, a()), nullification(2), proposal(3, 1, a())],
            when: valid(3, a()),
            then: &["persist proposal 3 A", "persist notarize 3 A", "send notarize 3 A"],
        },
        Row {
            what: "without a nullification between, it is not",
            me: 1,
            given: vec![notarization(1, a()), notarization(2, a())],
            when: proposal(3, 1, a()),
            then: &["fetch certificates 2"],
        },
        Row {
            what: "another block than the notarized one never is",
            me: 1,
            given: vec![notarization(1, a()), nullification(2)],
            when: proposal(3, 1, b()),
            then: &[],
        },
        Row {
            what: "a verdict that was not asked for counts for nothing",
            me: 1,
            given: vec![nullification(1), nullification(2), proposal(3, 1, a()), valid(3, a())],
            when: notarization(1, a()),
            then: &[
                "persist notarization 1",
                "persist finalize 1 A",
                "send notarization 1",
                "send finalize 1 A",
                "store 3 A",
            ],
        },
        Row {
            what: "a block of an earlier view is not new, though it was checked then",
            me: 0,
            given: vec![
                proposal(1, 0, a()),
                valid(1, a()),
                nullification(1),
                nullification(2),
                nullification(3),
            ],
            when: proposal(4, 0, a()),
            then: &[],
        },
        Row {
            what: "a lower justified view than one's highest is accepted",
            me: 1,
            given: vec![nullification(1), notarization(1, a()), nullification(2)],
            when: proposal(3, 0, block(3, 'C')),
            then: &["validate 3 C"],
        },
    ]);
}

#[test]
fn a_new_block_must_say_the_right_things_in_its_header() {
    let wrong: [fn(&mut customhouse_ledger::finality::header::Header); 9] = [
        |header| header.version = 2,
        |header| header.parent_hash.0[0] ^= 1,
        |header| header.chain_id.0[0] ^= 1,
        |header| header.time_ms = UNIX_MS - 5,
        |header| header.time_ms = UNIX_MS + 30_001,
        |header| header.view = 2,
        |header| header.proposer[0] ^= 1,
        |header| header.log_start = 1,
        |header| header.validators_hash.0[0] ^= 1,
    ];
    for (row, wrong) in wrong.iter().enumerate() {
        let mut bench = Bench::new(0);
        let mut block = a();
        wrong(&mut block.header);
        assert!(bench.take(proposal(1, 0, block)).is_empty(), "row {row}");
    }
    let mut late = a();
    late.header.time_ms = UNIX_MS + 30_000;
    assert_eq!(Bench::new(0).take(proposal(1, 0, late)), ["validate 1 ?"], "within the skew");
}

#[test]
fn a_header_from_a_faster_clock_waits_for_its_time() {
    let ahead = |ms| {
        let mut block = a();
        block.header.time_ms = UNIX_MS + 30_000 + ms;
        block
    };
    let mut bench = Bench::new(0);
    assert!(bench.take(proposal(1, 0, ahead(400))).is_empty());
    assert_eq!(bench.wake_at, Some(bench.now.monotonic_ms + 400), "before the view ends");
    assert!(bench.take(Event::Wait(399)).is_empty());
    assert_eq!(bench.take(Event::Wait(1)), ["validate 1 ?"]);
    assert!(bench.take(Event::Wait(1)).is_empty(), "once");
    // The view's timer fires first: its leader is passed over.
    let mut bench = Bench::new(0);
    assert!(bench.take(proposal(1, 0, ahead(3_600_000))).is_empty());
    assert_eq!(bench.take(Event::Wait(1_000)), ["persist nullify 1", "send nullify 1"]);
    assert!(bench.take(Event::Wait(3_600_000)).iter().all(|word| !word.contains("validate")));
}

#[test]
fn rule_3_nullify() {
    check(vec![
        Row {
            what: "no timer runs without work",
            me: 0,
            given: vec![],
            when: Event::Wait(100_000),
            then: &[],
        },
        Row {
            what: "with work, the timer nullifies the view",
            me: 0,
            given: vec![work(), Event::Wait(999)],
            when: Event::Wait(1),
            then: &["persist nullify 1", "send nullify 1"],
        },
        Row {
            what: "once",
            me: 0,
            given: vec![work(), Event::Wait(1_000)],
            when: Event::Wait(1),
            then: &[],
        },
        Row {
            what: "also after notarize",
            me: 0,
            given: vec![proposal(1, 0, a()), valid(1, a())],
            when: Event::Wait(1_000),
            then: &["persist nullify 1", "send nullify 1"],
        },
        Row {
            what: "one nullify is not joined",
            me: 0,
            given: vec![],
            when: nullify(1, 1),
            then: &[],
        },
        Row {
            what: "f+1 are",
            me: 0,
            given: vec![nullify(1, 1)],
            when: nullify(2, 1),
            then: &[
                "persist nullify 1",
                "persist nullification 1",
                "send nullify 1",
                "send nullification 1",
                "contained",
            ],
        },
        Row {
            what: "those of a later view are not",
            me: 0,
            given: vec![nullify(1, 2)],
            when: nullify(2, 2),
            then: &[],
        },
        Row {
            what: "votes of f+1 validators are work",
            me: 0,
            given: vec![notarize(1, 1, a()), notarize(2, 1, a())],
            when: Event::Wait(1_000),
            then: &["persist nullify 1", "send nullify 1"],
        },
        Row {
            what: "a vote of one is not",
            me: 0,
            given: vec![notarize(1, 1, a())],
            when: Event::Wait(1_000),
            then: &[],
        },
        Row {
            what: "later views take longer",
            me: 1,
            given: vec![nullification(1), Event::Wait(1_499)],
            when: Event::Wait(1),
            then: &["persist nullify 2", "send nullify 2"],
        },
        Row {
            what: "when the work is gone, so is the timer",
            me: 0,
            given: vec![work(), step(Input::Work { pending: false })],
            when: Event::Wait(1_000),
            then: &[],
        },
    ]);
}

#[test]
fn rule_4_next_view() {
    let mut bench = Bench::new(0);
    bench.take(nullification(2));
    assert_eq!(bench.core.view(), 1, "a nullification of a later view leads nowhere");
    bench.take(nullification(1));
    assert_eq!(bench.core.view(), 3, "until its view is reached");
    bench.take(notarization(6, block(6, 'A')));
    assert_eq!(bench.core.view(), 7, "a notarization of any later view leads past it");
    bench.take(notarization(5, block(6, 'A')));
    assert_eq!(bench.core.view(), 7, "never back");
    bench.take(nullify(1, 7));
    bench.take(nullify(2, 7));
    assert_eq!(bench.core.view(), 8, "its own vote completes a quorum");
}

#[test]
fn rule_5_finalize() {
    let finalized = &[
        "persist notarization 1",
        "persist finalize 1 A",
        "send notarization 1",
        "send finalize 1 A",
    ];
    check(vec![
        Row {
            what: "a notarization is finalized without its body",
            me: 0,
            given: vec![],
            when: notarization(1, a()),
            then: finalized,
        },
        Row {
            what: "also one made of votes",
            me: 0,
            given: vec![notarize(1, 1, a()), notarize(2, 1, a())],
            when: notarize(3, 1, a()),
            then: &[
                "persist notarization 1",
                "persist finalize 1 A",
                "send notarization 1",
                "send finalize 1 A",
                "contained",
            ],
        },
        Row {
            what: "also in a later view",
            me: 0,
            given: vec![nullification(1)],
            when: notarization(1, a()),
            then: finalized,
        },
        Row {
            what: "not in a view that was nullified here",
            me: 0,
            given: vec![work(), Event::Wait(1_000)],
            when: notarization(1, a()),
            then: &["persist notarization 1", "send notarization 1"],
        },
        Row {
            what: "once",
            me: 0,
            given: vec![notarization(1, a())],
            when: notarization(1, a()),
            then: &[],
        },
        Row {
            what: "and a finalized view is not nullified",
            me: 0,
            given: vec![nullify(1, 1), notarization(1, a())],
            when: nullify(2, 1),
            then: &[],
        },
    ]);
}

#[test]
fn rule_6_commit() {
    let stored = || vec![proposal(1, 0, a()), valid(1, a())];
    let with = |more: Vec<Event>| [stored(), more].concat();
    check(vec![
        Row {
            what: "q finalize votes commit",
            me: 0,
            given: with(vec![finalize(1, 1, a()), finalize(2, 1, a())]),
            when: finalize(3, 1, a()),
            then: &["commit A"],
        },
        Row {
            what: "in whichever view the node is",
            me: 1,
            given: with(vec![notarization(1, a()), nullification(2), finalize(0, 1, a())]),
            when: finalize(2, 1, a()),
            then: &["commit A"],
        },
        Row {
            what: "not votes of different views",
            me: 0,
            given: with(vec![finalize(1, 1, a()), finalize(2, 1, a())]),
            when: finalize(3, 2, a()),
            then: &[],
        },
        Row {
            what: "not votes for different blocks",
            me: 0,
            given: with(vec![finalize(1, 1, a()), finalize(2, 1, a())]),
            when: finalize(3, 1, b()),
            then: &[],
        },
        Row {
            what: "a block that is not here is fetched",
            me: 0,
            given: vec![],
            when: finalization(1, a()),
            then: &["fetch block A"],
        },
        Row {
            what: "also while it is being checked: its proposer may never give the bodies",
            me: 0,
            given: vec![proposal(1, 0, a())],
            when: finalization(1, a()),
            then: &["fetch block A"],
        },
        Row {
            what: "then committed",
            me: 0,
            given: vec![finalization(1, a())],
            when: fetched(a()),
            then: &["commit A"],
        },
        Row {
            what: "a tip of this height carries its finalization",
            me: 0,
            given: stored(),
            when: tip(a()),
            then: &["commit A"],
        },
        Row {
            what: "nothing is signed any more while the ledger commits",
            me: 0,
            given: with(vec![finalization(1, a())]),
            when: notarization(1, a()),
            then: &[],
        },
    ]);
}
