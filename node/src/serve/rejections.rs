//! Rejections, counted by surface and reason, and logged (rate-limited) with the reason and the
//! hash, never the payload.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Most log lines a second; those left out are counted in the next line.
const LINES_PER_SECOND: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);

/// Counts one rejection: surface (always `grpc` here) and reason code. Both come from fixed lists.
pub type Count = dyn Fn(&str, &str) + Send + Sync;

/// Where rejections go.
#[derive(Clone)]
pub struct Rejections {
    count: Arc<Count>,
    lines: Arc<Mutex<Lines>>,
}

impl Rejections {
    /// Counts with the given hook.
    pub fn new(count: impl Fn(&str, &str) + Send + Sync + 'static) -> Self {
        let lines = Lines { since: Instant::now(), written: 0, left_out: 0 };
        Self { count: Arc::new(count), lines: Arc::new(Mutex::new(lines)) }
    }

    /// Counts and logs one: of a client, calling a method, for a reason; `id` is the record's or
    /// transaction's, where known.
    pub(super) fn note(&self, client: &str, method: &str, reason_code: &str, id: &str) {
        (self.count)("grpc", reason_code);
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left_out) = lines.take(Instant::now()) {
            tracing::info!(client, method, reason = reason_code, id, left_out, "call refused");
        }
    }

    /// Counts and logs a connection that was refused, or ended, for a reason.
    pub(super) fn note_connection(&self, address: IpAddr, reason_code: &str, why: &str) {
        (self.count)("grpc", reason_code);
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left_out) = lines.take(Instant::now()) {
            tracing::info!(%address, reason = reason_code, why, left_out, "connection refused or ended");
        }
    }
}

struct Lines {
    since: Instant,
    written: u32,
    left_out: u64,
}

impl Lines {
    /// Whether a line may be written now, and how many were left out before it.
    fn take(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.since) >= SECOND {
            (self.since, self.written) = (now, 0);
        }
        if self.written == LINES_PER_SECOND {
            self.left_out += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_rejections_writes_a_few_lines_and_counts_the_rest() {
        let start = Instant::now();
        let mut lines = Lines { since: start, written: 0, left_out: 0 };
        let written = (0..1000).filter(|_| lines.take(start).is_some()).count();
        assert_eq!(written, 10);
        assert_eq!(lines.take(start + SECOND), Some(990));
        assert_eq!(lines.take(start + SECOND), Some(0));
    }
}
