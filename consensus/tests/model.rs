//! Every state that four real cores can come to at one height, one of them faulty, up to a bound of
//! views: nobody divides, contradicts itself or halts. `CUSTOMHOUSE_MODEL_VIEWS` sets the bound.

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
