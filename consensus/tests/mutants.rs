//! Planted bugs, each found by a check of this crate within a stated number of states or seeds. The
//! same checks find nothing in the core as it is.

mod bench;
mod checker;
mod network;

use std::{
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
};

use checker::{Model, run};
use customhouse_consensus::{Core, core::mutants::Mutant};
use customhouse_ledger::registry::parameters::Parameters;
use network::{Lies, MakeCore, Network, Weather, progress::beside_a_liar};
use rand::RngExt;

fn says(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

// ---------------------------------------------------------------- by the model checker

fn model(make: MakeCore, faulty: usize, views: u64) -> Model {
    let (twins, restarts, forgeries) = (false, false, false);
    let (loser, states_max) = (None, usize::MAX);
    Model { views, faulty, twins, restarts, forgeries, loser, make, states_max }
}

/// The search finds it within `states_max` states, and nothing in the core as it is.
fn is_found(name: &str, model: Model, states_max: usize, expected: &str) {
    let violation = run(Model { states_max, ..model }).expect_err(name);
    says(&format!("{name}: after {} states: {}", violation.states, violation.what));
    says(&format!("  {}", violation.trace.join("\n  ")));
    assert!(violation.states <= states_max, "{name}: {} states", violation.states);
    assert!(violation.what.contains(expected), "{name}: {}", violation.what);
    // All of it, or as far as is quick: tests/model.rs goes all the way.
    let states_max = states_max.min(10_000);
    let report = run(Model { states_max, make: Core::new, ..model });
    assert!(report.is_ok(), "{name}: the core as it is: {report:?}");
}

#[test]
fn a_quorum_of_2f_divides() {
    let make: MakeCore = |c, s, j| Core::with_mutants(c, s, j, &[Mutant::SmallQuorum]);
    is_found("quorum 2f", model(make, 2, 1), 1_000, "contradict");
}

#[test]
fn an_unchecked_justification_divides() {
    let make: MakeCore = |c, s, j| Core::with_mutants(c, s, j, &[Mutant::UncheckedJustification]);
    is_found("unchecked justification", model(make, 3, 2), 2_000_000, "another one");
}

#[test]
fn finalize_after_nullify_contradicts_itself() {
    let make: MakeCore = |c, s, j| Core::with_mutants(c, s, j, &[Mutant::FinalizeAfterNullify]);
    is_found("finalize after nullify", model(make, 2, 1), 1_000, "contradicts");
}

#[test]
fn a_vote_forgotten_in_a_restart_contradicts_itself() {
    let make: MakeCore = |c, s, j| Core::with_mutants(c, s, j, &[Mutant::ForgottenVote]);
    let model = Model { restarts: true, ..model(make, 2, 1) };
    is_found("forgotten vote", model, 1_000, "");
}

#[test]
fn a_key_that_signs_before_enough_have_told_of_it_contradicts_itself() {
    let make: MakeCore = |c, s, j| Core::with_mutants(c, s, j, &[Mutant::TellerLess]);
    let model = Model { loser: Some(0), ..model(make, 2, 1) };
    is_found("a teller less", model, 1_000, "contradicts");
}

#[test]
fn one_that_has_committed_the_height_does_not_know_what_a_key_has_signed_at_it() {
    let make: MakeCore = |c, s, j| Core::with_mutants(c, s, j, &[Mutant::TellerBeyond]);
    let model = Model { loser: Some(0), ..model(make, 2, 1) };
    is_found("a teller beyond the height", model, 1_000, "contradicts");
}

#[test]
fn an_unverified_signature_in_a_certificate_divides() {
    let make: MakeCore = |c, s, j| Core::with_mutants(c, s, j, &[Mutant::UnverifiedCertificate]);
    let model = Model { forgeries: true, ..model(make, 2, 1) };
    is_found("unverified certificate", model, 1_000, "");
}

/// Finalize is signed on a notarization, which leads out of the view in the same step; so the guard
/// of rule 3 matters only where the certificate has been lost.
#[test]
fn nullify_after_finalize_shows_where_a_certificate_was_forgotten() {
    let both: MakeCore = |c, s, j| {
        let mutants = [Mutant::NullifyAfterFinalize, Mutant::ForgottenCertificate];
        Core::with_mutants(c, s, j, &mutants)
    };
    let alone: MakeCore = |c, s, j| Core::with_mutants(c, s, j, &[Mutant::NullifyAfterFinalize]);
    let model = |make| Model { restarts: true, ..model(make, 2, 1) };
    is_found("nullify after finalize", model(both), 10_000, "contradicts");
    let report = run(model(alone)).expect("the other guard holds");
    assert!(report.complete, "{report:?}");
}

// ---------------------------------------------------------------- by seeds

const SEEDS: u64 = 60;
const WIND: Weather = Weather { delay_ms_max: 30, loss: 0, duplication: 0 };

/// One node hears nothing of the first view; the power fails at all others, for longer than the
/// clocks may differ, and the first one gives the view up; one of the others never comes back. The
/// three that are left go on.
fn power_failure(make: MakeCore, seed: u64) {
    let mut network = Network::made_of(make, 4, seed, WIND, Parameters::default());
    let deaf = network.rng.random_range(0..4);
    let dead = (deaf + network.rng.random_range(1..4)) % 4;
    network.isolate(deaf);
    network.submit();
    let fails_at = network.rng.random_range(1..150);
    network.run_for(fails_at);
    (0..4).filter(|&node| node != deaf).for_each(|node| network.kill(node));
    network.run_for(2 * Parameters::default().time_skew_ms_max);
    network.heal();
    (0..4).filter(|&node| node != dead).for_each(|node| network.recover(node));
    let leaf = network.submit();
    network.run_until("the three left go on", 20_000, |network| {
        let mut left = network.honest().filter(|(index, _)| *index != dead);
        left.all(|(_, node)| node.ledger.has_committed(&leaf))
    });
}

/// The check fails for one of the seeds.
fn is_found_by_seed(name: &str, make: MakeCore) {
    let fails = |seed: &u64| catch_unwind(AssertUnwindSafe(|| power_failure(make, *seed))).is_err();
    let first = (0..SEEDS).find(fails);
    says(&format!("{name}: seed {first:?} of {SEEDS} finds it"));
    assert!(first.is_some(), "{name}: not found in {SEEDS} seeds");
}

/// No first view is lost beside the liar but its own.
fn loses_a_view(name: &str, make: MakeCore, lies: Lies) {
    let loses = |make: MakeCore, seed: u64| {
        let lost = catch_unwind(|| beside_a_liar(make, lies, seed));
        lost.is_err() || lost.is_ok_and(|lost| lost.len() > 1)
    };
    let first = (0..SEEDS).find(|seed| loses(make, *seed));
    says(&format!("{name}: seed {first:?} of {SEEDS} finds it"));
    let seed = first.unwrap_or_else(|| panic!("{name}: not found in {SEEDS} seeds"));
    assert!(!loses(Core::new, seed), "{name}: the core as it is");
}

#[test]
fn leaves_that_are_not_signed_lose_views() {
    let make: MakeCore = |c, s, j| Core::with_mutants(c, s, j, &[Mutant::UnsignedLeaves]);
    loses_a_view("unsigned leaves", make, Lies::SwapLeaves);
}

#[test]
fn early_messages_that_are_believed_lose_views() {
    let make: MakeCore = |c, s, j| Core::with_mutants(c, s, j, &[Mutant::BelievedEarly]);
    loses_a_view("believed early messages", make, Lies::Forge);
}

#[test]
fn three_of_four_go_on_after_a_power_failure() {
    for seed in 0..SEEDS {
        power_failure(Core::new, seed);
    }
}

#[test]
fn a_certificate_forgotten_in_a_restart_kills_the_height() {
    let make: MakeCore = |c, s, j| Core::with_mutants(c, s, j, &[Mutant::ForgottenCertificate]);
    is_found_by_seed("forgotten certificate", make);
}

#[test]
fn a_time_check_on_a_re_proposal_kills_the_height() {
    let make: MakeCore = |c, s, j| Core::with_mutants(c, s, j, &[Mutant::TimeOfReproposal]);
    is_found_by_seed("time check on a re-proposal", make);
}
