//! Who has gone too far.

use std::time::Duration;

use tokio::time::Instant;

use super::config::Limits;

/// How often the time doubles.
const TIMES_MAX: u32 = 6;

/// What a peer has done wrong. Faults are forgiven with time; too many cut it off for a while, for longer
/// every time, and that is forgotten with time too.
#[derive(Debug)]
pub struct Faults {
    count: u32,
    last_forgiven: Instant,
    times_cut_off: u32,
    /// When it was last let in again.
    behaved_since: Instant,
    /// Until when it may not connect.
    pub cut_off_until: Option<Instant>,
    count_max: u32,
    forgiven: Duration,
    cut_off: Duration,
    cut_off_forgotten: Duration,
}

impl Faults {
    /// Nothing yet.
    pub fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            count: 0,
            last_forgiven: now,
            times_cut_off: 0,
            behaved_since: now,
            cut_off_until: None,
            count_max: limits.faults_max.max(1),
            forgiven: limits.fault_forgiven.max(Duration::from_millis(1)),
            cut_off: limits.cut_off,
            cut_off_forgotten: limits.cut_off_forgotten.max(Duration::from_millis(1)),
        }
    }

    /// Counts a fault; true when the peer is to be cut off for it.
    pub fn add(&mut self, now: Instant) -> bool {
        if self.cut_off_until.is_some() {
            return false;
        }
        let forgiven = periods(self.last_forgiven, now, self.forgiven);
        if forgiven > 0 {
            self.count = self.count.saturating_sub(forgiven);
            self.last_forgiven = now;
        }
        self.count += 1;
        if self.count < self.count_max {
            return false;
        }
        let forgotten = periods(self.behaved_since, now, self.cut_off_forgotten);
        let times = self.times_cut_off.saturating_sub(forgotten).min(TIMES_MAX);
        self.times_cut_off = times + 1;
        let until = now + self.cut_off.saturating_mul(1 << times);
        self.cut_off_until = Some(until);
        self.behaved_since = until;
        self.count = 0;
        true
    }

    /// True when a time of being cut off has just ended.
    pub fn ended(&mut self, now: Instant) -> bool {
        let ended = self.cut_off_until.is_some_and(|until| until <= now);
        if ended {
            self.cut_off_until = None;
        }
        ended
    }
}

/// Whole periods between two times.
fn periods(since: Instant, now: Instant, period: Duration) -> u32 {
    let periods = now.saturating_duration_since(since).as_millis() / period.as_millis();
    u32::try_from(periods).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_cut_off_at_its_limit_of_faults_and_longer_every_time() {
        let limits = Limits { faults_max: 3, ..Limits::default() };
        let now = Instant::now();
        let mut faults = Faults::new(&limits, now);
        assert_eq!([(); 3].map(|()| faults.add(now)), [false, false, true]);
        assert!(!faults.add(now), "already cut off");
        assert!(!faults.ended(now));
        let later = now + limits.cut_off;
        assert!(faults.ended(later));
        assert_eq!([(); 3].map(|()| faults.add(later)), [false, false, true]);
        assert!(!faults.ended(later + limits.cut_off));
        assert!(faults.ended(later + 2 * limits.cut_off));
    }

    #[test]
    fn a_fault_now_and_then_is_forgiven() {
        let limits = Limits { faults_max: 3, ..Limits::default() };
        let mut now = Instant::now();
        let mut faults = Faults::new(&limits, now);
        for _ in 0..100 {
            assert!(!faults.add(now));
            now += limits.fault_forgiven;
        }
    }

    #[test]
    fn being_cut_off_is_forgotten_after_a_time_of_good_behaviour() {
        let limits = Limits { faults_max: 1, ..Limits::default() };
        let mut now = Instant::now();
        let mut faults = Faults::new(&limits, now);
        let mut cut_off = |now: &mut Instant| {
            assert!(faults.add(*now));
            let time = faults.cut_off_until.expect("cut off") - *now;
            *now += time;
            assert!(faults.ended(*now));
            time
        };
        let doubling = [1, 2, 4, 8, 16, 32, 64, 64, 64].map(|times| times * limits.cut_off);
        assert_eq!([(); 9].map(|()| cut_off(&mut now)), doubling);
        now += limits.cut_off_forgotten;
        assert_eq!(cut_off(&mut now), 64 * limits.cut_off, "once of more than enough");
        now += 2 * limits.cut_off_forgotten;
        assert_eq!(cut_off(&mut now), 32 * limits.cut_off);
        now += 10 * limits.cut_off_forgotten;
        assert_eq!(cut_off(&mut now), limits.cut_off, "all");
    }
}
