//! The wall clock, and whether the other agencies' clocks agree with it ([`comparing`]).

use std::{
    path::PathBuf,
    sync::LazyLock,
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::sync::watch;

pub(crate) mod comparing;

/// What is known of this node's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockState {
    /// Milliseconds by which it is ahead of the other validators', negative where it is behind; `None`
    /// where too few have answered yet.
    pub ahead_ms: Option<i64>,
    /// Whether that is more than the chain's parameters allow.
    pub wrong: bool,
}

/// The newest state; also told on.
pub type ClockStatus = watch::Receiver<ClockState>;

/// For tests: names a file with milliseconds, which may be negative, that are added to the system's
/// clock. Read at every look at the clock, so that a test can set the clock of a running node.
pub const SHIFT_VARIABLE: &str = "CUSTOMHOUSE_TEST_CLOCK_SHIFT";

static SHIFT_FILE: LazyLock<Option<PathBuf>> =
    LazyLock::new(|| std::env::var_os(SHIFT_VARIABLE).map(PathBuf::from));

/// Milliseconds since 1970; 0 where the clock stands before.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    match &*SHIFT_FILE {
        None => now,
        Some(_) => now.saturating_add_signed(shift_ms()),
    }
}

/// Says that the clock is not the system's, where it is not.
pub(crate) fn warn_of_shift() {
    if SHIFT_FILE.is_some() {
        let shift_ms = shift_ms();
        tracing::warn!(
            shift_ms,
            "{SHIFT_VARIABLE} is set, which is for tests: the clock is shifted"
        );
    }
}

fn shift_ms() -> i64 {
    let text = SHIFT_FILE.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
