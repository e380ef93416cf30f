//! How far the work on a store is.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use customhouse_node::store::{Pass, Progress};
use indicatif::ProgressBar;

use crate::progress;

/// A bar for the files, one for each pass through the blocks, and a counter for index rows.
pub(super) struct Bars {
    shown: Mutex<Shown>,
}

struct Shown {
    step: Option<Step>,
    bar: ProgressBar,
    begun: Instant,
}

/// What is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Files,
    Blocks(Pass),
    IndexRows,
}

impl Bars {
    pub(super) fn new() -> Self {
        let (bar, begun) = (ProgressBar::hidden(), Instant::now());
        Self { shown: Mutex::new(Shown { step: None, bar, begun }) }
    }

    /// Shows how far it is. Any thread may.
    pub(super) fn show(&self, progress: Progress) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        match progress {
            Progress::Blocks { pass, done, of, records } => shown.blocks(pass, done, of, records),
            Progress::Files { bytes, of } => {
                if shown.step.replace(Step::Files) != Some(Step::Files) {
                    shown.next(progress::bytes(of, "files read"));
                }
                shown.bar.inc(bytes);
            }
            Progress::IndexRows(rows) => {
                if shown.step.replace(Step::IndexRows) != Some(Step::IndexRows) {
                    shown.next(progress::counter("index rows"));
                }
                shown.bar.inc(rows);
            }
        }
    }

    pub(super) fn finish(self) {
        self.shown.into_inner().unwrap_or_else(PoisonError::into_inner).bar.finish_and_clear();
    }
}

impl Shown {
    fn next(&mut self, bar: ProgressBar) {
        self.bar.finish_and_clear();
        (self.bar, self.begun) = (bar, Instant::now());
    }

    fn blocks(&mut self, pass: Pass, done: u64, of: u64, records: u64) {
        if self.step.replace(Step::Blocks(pass)) != Some(Step::Blocks(pass)) {
            let what = match pass {
                Pass::Check => "blocks checked",
                Pass::Locate => "locating",
                Pass::Survey => "blocks checked",
                Pass::Rebuild => "rebuilt",
            };
            self.next(progress::bar(usize::try_from(of).unwrap_or(usize::MAX), what));
        }
        self.bar.set_position(done);
        if records > 0 {
            let per_second = records as f64 / self.begun.elapsed().as_secs_f64().max(1e-3);
            self.bar.set_message(format!("{records} records, {per_second:.0}/s"));
        }
    }
}
