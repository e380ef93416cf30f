//! How often something may happen.

use tokio::time::Instant;

/// A number at once, and then a number a second.
#[derive(Debug)]
pub(super) struct Rate {
    most: f64,
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Rate {
    /// `per_second` a second, and as many at once.
    pub(super) fn of(per_second: u32) -> Self {
        Self::new(per_second, per_second)
    }

    /// `most` at once, and then `per_second` a second.
    pub(super) fn new(most: u32, per_second: u32) -> Self {
        let (most, per_second) = (f64::from(most), f64::from(per_second));
        Self { most, per_second, left: most, at: Instant::now() }
    }

    /// Whether it may happen now; it counts then.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at);
        self.left = (self.left + passed.as_secs_f64() * self.per_second).min(self.most);
        self.at = now;
        let taken = self.left >= 1.0;
        if taken {
            self.left -= 1.0;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_comes_at_once_is_limited_and_so_is_its_pace() {
        for (mut rate, most, half_a_second) in [(Rate::of(10), 10, 5), (Rate::new(16, 2), 16, 1)] {
            let start = Instant::now();
            assert_eq!((0..100).filter(|_| rate.take(start)).count(), most);
            let later = start + Duration::from_millis(500);
            assert_eq!((0..100).filter(|_| rate.take(later)).count(), half_a_second);
            let much_later = start + Duration::from_secs(3600);
            assert_eq!((0..100).filter(|_| rate.take(much_later)).count(), most);
        }
    }
}
