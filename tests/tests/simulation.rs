//! The simulator's own tests: that it can be repeated, and that it tests what it says. The runs
//! themselves are `scripts/soak`'s, of which `scripts/test` runs a share.

use customhouse_tests::simulator::{self, Mutant, Summary};

const SEEDS: std::ops::Range<u64> = 0..24;

#[test]
fn a_seed_gives_the_same_run_event_for_event() {
    for seed in SEEDS.take(6) {
        let runs = [simulator::run(seed), simulator::run(seed)];
        let [first, second] = runs.map(|run| run.unwrap_or_else(|failure| panic!("{failure}")));
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn other_seeds_give_other_runs() {
    let trace = |seed| simulator::run(seed).unwrap_or_else(|failure| panic!("{failure}")).trace;
    assert_ne!(trace(1), trace(2));
}

#[test]
fn a_few_runs_hold_and_see_most_kinds_of_fault() {
    let mut all = Summary::default();
    for seed in SEEDS {
        match simulator::run(seed) {
            Ok(outcome) => all.add(&outcome.summary),
            Err(failure) => panic!("{failure}"),
        }
    }
    let never = all.never();
    assert!(never.len() <= 4, "never seen in {} runs: {}", all.seeds, never.join(", "));
    assert!(all.heights > 10 * all.seeds, "{all}");
}

/// A forgotten certificate takes more seeds than a test should run (`scripts/soak --mutant
/// forgotten-certificate`); `consensus/tests/memory.rs` shows what it does.
#[test]
#[allow(clippy::print_stdout, reason = "the figures are the test's result")]
fn every_planted_fault_is_found_within_its_number_of_seeds() {
    for (mutant, seeds) in [
        (Mutant::SendBeforeSync, 1..2),
        (Mutant::ForgottenVote, 1..21),
        (Mutant::AcknowledgeBeforeSync, 1..21),
        (Mutant::UnsyncedJournalTrusted, 1..21),
    ] {
        let found = seeds.clone().find_map(|seed| {
            let failure = simulator::run_mutant(seed, mutant).err()?;
            Some((seed, failure.what.lines().next().unwrap_or_default().to_owned()))
        });
        let (seed, what) = found.unwrap_or_else(|| panic!("{mutant:?}: not in seeds {seeds:?}"));
        println!("{mutant:?}: found at seed {seed}: {what}");
    }
}
