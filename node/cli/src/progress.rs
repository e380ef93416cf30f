//! Progress bars, on standard error and only where it is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const TICK: Duration = Duration::from_millis(120);

/// A bar for work of a known length.
pub(crate) fn bar(length: usize, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{prefix:>14} [{bar:30}] {pos}/{len}  {per_sec}  {eta} left  {wide_msg}",
    )
    .expect("a template of known parts")
    .progress_chars("=> ");
    let bar = ProgressBar::new(length as u64).with_style(style).with_prefix(what);
    bar.enable_steady_tick(TICK);
    bar
}

/// A bar for a number of bytes.
pub(crate) fn bytes(length: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{prefix:>14} [{bar:30}] {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
    )
    .expect("a template of known parts")
    .progress_chars("=> ");
    let bar = ProgressBar::new(length).with_style(style).with_prefix(what);
    bar.enable_steady_tick(TICK);
    bar
}

/// A counter for work of unknown length.
pub(crate) fn counter(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>14} {spinner} {pos}  {per_sec}  {wide_msg}")
        .expect("a template of known parts");
    let bar = ProgressBar::new_spinner().with_style(style).with_prefix(what);
    bar.enable_steady_tick(TICK);
    bar
}
