//! How old a head may be: a node that shows an old head as its newest shows less than there is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use customhouse_audit::{compare::HeadComparison, head::Certified, time, verdict::Verdict};

/// How far a head may be ahead of this machine's clock: more than the clocks of machines differ when they are
/// set.
const AHEAD_MAX: Duration = Duration::from_secs(5 * 60);

/// How old a node's head may be.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(super) struct MaxAge {
    /// Minutes that the node's head may be old, by this machine's clock; older is not enough evidence, and
    /// so is one that is more than five minutes ahead of the clock. A network makes a block at least every
    /// heartbeat, by default 10 minutes.
    #[arg(long = "max-age", value_name = "MINUTES")]
    minutes: Option<u64>,
}

impl MaxAge {
    /// Why a head is too old, if it is.
    pub(super) fn refuses(self, time_ms: u64) -> Option<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.refuses_at(time_ms, now)
    }

    fn refuses_at(self, time_ms: u64, now: Duration) -> Option<String> {
        let minutes = self.minutes?;
        let time = Duration::from_millis(time_ms);
        let ahead = time.saturating_sub(now);
        if ahead > AHEAD_MAX {
            return Some(format!(
                "its head is from the future by {}, by this machine's clock, so that its age says nothing: \
                 set the clock, or ask another node",
                time::length(ahead)
            ));
        }
        let age = now.saturating_sub(time);
        (age > Duration::from_secs(minutes.saturating_mul(60))).then(|| {
            format!(
                "its head is {} old, {minutes} min are allowed: the network stands still, or the node is \
                 behind, or it shows an old head as its newest; ask another node",
                time::length(age)
            )
        })
    }
}

/// What was found, unless the head is too old for it to count.
pub(super) fn too_old(
    head: &Certified,
    max_age: MaxAge,
    finding: HeadComparison,
) -> HeadComparison {
    match max_age.refuses(head.header.time_ms) {
        Some(why) if finding.verdict == Verdict::Verified => {
            HeadComparison::new(Verdict::NotEnoughEvidence, why)
        }
        _ => finding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_too_old_above_the_limit_and_never_without_one() {
        let now = Duration::from_secs(100_000);
        let made = |minutes: u64| 1000 * (100_000 - 60 * minutes);
        let refused =
            |limit, minutes| MaxAge { minutes: limit }.refuses_at(made(minutes), now).is_some();
        assert!(!refused(None, 1000));
        assert!(!refused(Some(20), 20));
        assert!(refused(Some(20), 21));
        assert!(!refused(Some(u64::MAX), 1000));
        let ahead = |limit, seconds: u64| {
            MaxAge { minutes: limit }.refuses_at(1000 * (100_000 + seconds), now)
        };
        assert_eq!(ahead(Some(0), 300), None, "a clock that is behind makes nothing old");
        let refused = ahead(Some(u64::MAX), 301).expect("too far ahead");
        assert!(refused.contains("from the future by 5 min"), "{refused}");
        assert_eq!(ahead(None, 301), None);
    }
}
