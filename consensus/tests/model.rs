//! Every state that four real cores can come to at one height, one of them faulty, up to a bound of
//! views: nobody divides, contradicts itself or halts, also where a journal was lost.
//! `CUSTOMHOUSE_MODEL_VIEWS` sets the bound.

mod bench;
mod checker;

use checker::{
    Model, run,
    search::{Report, leaders},
};
use customhouse_consensus::Core;

fn bound(ordinary: u64) -> u64 {
    let bound = std::env::var("CUSTOMHOUSE_MODEL_VIEWS").ok();
    bound.map_or(ordinary, |views| views.parse().expect("CUSTOMHOUSE_MODEL_VIEWS is a number"))
}

fn check(name: &str, model: Model) -> Report {
    let report = run(model).unwrap_or_else(|violation| {
        panic!("{name}, faulty {}: {}\n{:#?}", model.faulty, violation.what, violation.trace)
    });
    let says = format!(
        "{name}: key {} faulty, {} views led by {:?}, restarts {}: {report:?}\n",
        model.faulty,
        model.views,
        leaders(model.views),
        model.restarts,
    );
    use std::io::Write as _;
    std::io::stderr().write_all(says.as_bytes()).expect("stderr is open");
    report
}

fn model(views: u64, faulty: usize, twins: bool, restarts: bool) -> Model {
    Model {
        views,
        faulty,
        twins,
        restarts,
        forgeries: false,
        loser: None,
        make: Core::new,
        states_max: usize::MAX,
    }
}

fn liar(faulty: usize) {
    let report = check("liar", model(bound(2), faulty, false, false));
    assert!(report.complete && report.states > 200_000, "{report:?}");
    // View 1 and a later one decide, or the search went nowhere.
    assert!(report.decidable_in[1] > 0 && report.decidable_in[2] > 0, "{report:?}");
}

/// The same with more freedom, which takes longer: one view, where no other bound is set.
fn short(name: &str, faulty: usize, twins: bool, restarts: bool) {
    let report = check(name, model(bound(1), faulty, twins, restarts));
    assert!(report.complete && report.states > 100, "{report:?}");
    assert!(report.decidable_in[1] > 0, "{report:?}");
}

/// Each honest node in turn loses its journal, beside a liar that lies about its key too, and restarts; one
/// of them also within two views and without restarts, which takes longest.
fn loss(faulty: usize, longest: usize) {
    let honest = (0..4).filter(|key| *key != faulty).map(|loser| (loser, bound(1), true));
    for (loser, views, restarts) in honest.chain([(longest, bound(2), false)]) {
        let model = Model { loser: Some(loser), ..model(views, faulty, false, restarts) };
        let report = check(&format!("liar and the journal of {loser} lost"), model);
        assert!(report.complete && report.states > 100, "{report:?}");
        let (stopped, signed_since) = report.after_loss;
        // Who leads view 1 has proposed before it can lose anything.
        let leads = leaders(1) == [loser];
        assert!(stopped > 0 && (signed_since > 0) != leads, "{report:?}");
    }
}

#[test]
fn a_liar_that_leads_view_1_divides_nobody() {
    liar(2);
}

#[test]
fn a_liar_that_leads_view_2_divides_nobody() {
    liar(3);
}

#[test]
fn twins_that_lead_view_1_divide_nobody() {
    short("twins", 2, true, false);
}

#[test]
fn twins_that_lead_view_2_divide_nobody() {
    short("twins", 3, true, false);
}

#[test]
fn restarts_and_a_liar_that_leads_view_1_divide_nobody() {
    short("liar and restarts", 2, false, true);
}

#[test]
fn restarts_and_a_liar_that_leads_view_2_divide_nobody() {
    short("liar and restarts", 3, false, true);
}

#[test]
fn a_journal_lost_beside_a_liar_that_leads_view_1_divides_nobody() {
    loss(2, 3);
}

#[test]
fn a_journal_lost_beside_a_liar_that_leads_view_2_divides_nobody() {
    loss(3, 0);
}
