//! Times as people read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use customhouse_files::date::date;

/// Unix milliseconds as `2026-03-01 12:00:05 UTC`.
pub fn shown(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// How long ago that was, by this machine's clock: `40 s old`, `3 h old`, or `from the future by 20 s`.
pub fn age(unix_ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let then = Duration::from_millis(unix_ms);
    let ahead = then.saturating_sub(now);
    if ahead >= Duration::from_secs(1) {
        return format!("from the future by {}", length(ahead));
    }
    format!("{} old", length(now.saturating_sub(then)))
}

/// A length of time in one unit.
pub fn length(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7200 => format!("{} min", seconds / 60),
        seconds @ ..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_utc() {
        for (unix_ms, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399_999, "2000-02-28 23:59:59 UTC"),
            (951_868_800_000, "2000-03-01 00:00:00 UTC"),
            (1_735_689_599_000, "2024-12-31 23:59:59 UTC"),
            (4_107_542_400_000, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(shown(unix_ms), text);
        }
    }

    #[test]
    fn an_age_has_one_unit_and_the_future_is_told() {
        assert!(age(u64::MAX).starts_with("from the future by "), "{}", age(u64::MAX));
        assert!(age(u64::MAX).ends_with("days"));
        assert!(age(0).ends_with("days old"));
        assert_eq!(length(Duration::from_secs(40)), "40 s");
    }
}
