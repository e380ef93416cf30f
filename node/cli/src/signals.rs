//! The signals that ask a command that runs for long to end.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT, SIGTERM and SIGHUP.
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    /// `None` where it is to be ignored.
    hangup: Option<Signal>,
}

impl StopSignals {
    /// Catches them from now on. Needs a runtime.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("signals cannot be caught");
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hangup: match ignores_hangup() {
                true => None,
                false => Some(catch(SignalKind::hangup())?),
            },
        })
    }

    /// Waits for the next of any.
    pub(crate) async fn next(&mut self) {
        let Self { interrupt, terminate, hangup } = self;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = next_of(hangup) => {}
        }
    }

    /// Waits for the next SIGINT or SIGTERM. Not for SIGHUP: a terminal that is closed sends it
    /// twice, through its shell and by itself, and nobody is impatient.
    pub(crate) async fn next_insistent(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The next of a signal; never where it is not caught.
async fn next_of(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether this process was started with SIGHUP ignored, as by nohup: to catch it would undo that.
/// Linux tells in `SigIgn`, a mask in hexadecimal; where it is not told, nothing is ignored.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let hangup = 1 << (SignalKind::hangup().as_raw_value() - 1);
    ignored_signals(&status) & hangup != 0
}

/// The mask of ignored signals in a `/proc/<process>/status`; signal 1 is the lowest bit.
fn ignored_signals(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_system_s_mask() {
        for (status, mask) in [
            ("Name:\tcat\nSigIgn:\t0000000000000001\nSigCgt:\t0000000000000000\n", 1),
            ("SigIgn:\t0000000000001000\n", 0x1000),
            ("SigIgn:\tnone\n", 0),
            ("", 0),
        ] {
            assert_eq!(ignored_signals(status), mask, "{status}");
        }
    }
}
