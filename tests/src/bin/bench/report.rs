//! What was measured, as a table and as JSON.

use std::{fmt::Write as _, io::Write as _};

use serde_json::{Map, Value, json};

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Section {
    /// The most that the machine can do: syncs and signature checks.
    Baseline,
    /// The full check of a store.
    StoreCheck,
    /// Size and verification of receipts and history proofs at ten million.
    Proofs,
    /// The history index, the start, receipts and histories of a ledger as it grows.
    GrowingLedger,
    /// One record at a time.
    Idle,
    /// Size and verification of receipts.
    Receipts,
    /// A subscriber that catches up, and receipts in bulk.
    Feed,
    /// Transactions of one record that the client signed.
    ClientSigned,
    /// Records that the node signs.
    NodeSigned,
    /// A node that was away.
    CatchUp,
    /// Three of four nodes, and the fourth's return.
    OneDead,
}

impl Section {
    fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::StoreCheck => "store_check",
            Self::Proofs => "proofs",
            Self::GrowingLedger => "growing_ledger",
            Self::Idle => "idle",
            Self::Receipts => "receipts",
            Self::Feed => "feed",
            Self::ClientSigned => "client_signed",
            Self::NodeSigned => "node_signed",
            Self::CatchUp => "catch_up",
            Self::OneDead => "one_dead",
        }
    }
}

/// What a figure should be, as the project's goals have it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// Less than this.
    Below(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
            Self::Below(bound) => value < bound,
        }
    }
}

struct Figure {
    section: Section,
    name: String,
    value: f64,
    unit: &'static str,
    goal: Option<Goal>,
}

/// The figures, in the order in which they were measured.
pub(crate) struct Report {
    machine: Vec<(&'static str, String)>,
    figures: Vec<Figure>,
}

impl Report {
    pub(crate) fn new(machine: Vec<(&'static str, String)>) -> Self {
        Self { machine, figures: Vec::new() }
    }

    pub(crate) fn figure(
        &mut self,
        section: Section,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
    ) {
        self.add(Figure { section, name: name.into(), value, unit, goal: None });
    }

    pub(crate) fn goal(
        &mut self,
        section: Section,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        goal: Goal,
    ) {
        self.add(Figure { section, name: name.into(), value, unit, goal: Some(goal) });
    }

    /// Percentiles of times in milliseconds, with a goal for the median where there is one. Gives the
    /// median.
    pub(crate) fn times(
        &mut self,
        section: Section,
        name: &str,
        times_ms: &mut [f64],
        median: Option<Goal>,
    ) -> Option<f64> {
        self.percentiles(section, name, times_ms, "ms", median)
    }

    /// Percentiles of values of another unit, likewise.
    pub(crate) fn percentiles(
        &mut self,
        section: Section,
        name: &str,
        values: &mut [f64],
        unit: &'static str,
        median: Option<Goal>,
    ) -> Option<f64> {
        values.sort_by(f64::total_cmp);
        for (percent, label) in [(50, "p50"), (95, "p95"), (99, "p99")] {
            let Some(value) = percentile(values, percent) else { continue };
            let goal = median.filter(|_| percent == 50);
            self.add(Figure { section, name: format!("{name} {label}"), value, unit, goal });
        }
        percentile(values, 50)
    }

    /// A figure is said when it is known: the whole takes minutes.
    fn add(&mut self, figure: Figure) {
        eprintln!("{}", line(&figure));
        self.figures.push(figure);
    }

    pub(crate) fn print(&self) -> std::io::Result<()> {
        let mut text = String::new();
        for (name, value) in &self.machine {
            let _infallible = writeln!(text, "{name:<16} {value}");
        }
        let mut section = None;
        for figure in &self.figures {
            if section.replace(figure.section) != Some(figure.section) {
                text.push('\n');
            }
            let _infallible = writeln!(text, "{}", line(figure));
        }
        std::io::stdout().write_all(text.as_bytes())
    }

    pub(crate) fn to_json(&self) -> String {
        let machine: Map<String, Value> =
            self.machine.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let figures: Vec<Value> = self.figures.iter().map(to_json).collect();
        let text = serde_json::to_string_pretty(&json!({ "machine": machine, "figures": figures }));
        text.expect("a tree of strings and numbers always serialises") + "\n"
    }
}

fn line(figure: &Figure) -> String {
    let Figure { section, name, value, unit, goal } = figure;
    let goal = match goal {
        None => String::new(),
        Some(goal) => {
            let bound = match goal {
                Goal::AtLeast(least) => format!("at least {least}"),
                Goal::AtMost(most) => format!("at most {most}"),
                Goal::Below(bound) => format!("below {bound}"),
            };
            format!("  goal {bound}: {}", if goal.is_met(*value) { "met" } else { "MISSED" })
        }
    };
    let decimals = match *value {
        1000.0.. => 0,
        1.0.. => 2,
        _ => 3,
    };
    format!("{:<14} {name:<56} {value:>10.decimals$} {unit}{goal}", section.name())
}

fn to_json(figure: &Figure) -> Value {
    let Figure { section, name, value, unit, goal } = figure;
    let mut json = json!({
        "section": section.name(), "name": name, "value": value, "unit": unit,
    });
    if let Some(goal) = goal {
        let (bound, at) = match goal {
            Goal::AtLeast(least) => ("at_least", least),
            Goal::AtMost(most) => ("at_most", most),
            Goal::Below(bound) => ("below", bound),
        };
        json["goal"] = json!({ bound: at, "met": goal.is_met(*value) });
    }
    json
}

/// The smallest value that at least this percentage of the sorted values does not exceed.
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}
