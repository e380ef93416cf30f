//! When to dial a peer.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use tokio::time::Instant;

use super::config::Limits;

/// When to dial a peer. The pause doubles with every failure and is spread by a quarter either way, by
/// different amounts in each process, so that those that lost each other at the same moment do not all
/// dial at the same moment.
#[derive(Debug)]
pub(super) struct Redial {
    /// `None`: a dial is under way, or a connection open.
    due: Option<Instant>,
    /// The next dial is left to the other side until then.
    not_before: Option<Instant>,
    failures: u32,
    /// A connection that was gone at once has been dialled for again without the long pause.
    retried: bool,
    spread: RandomState,
    first: Duration,
    max: Duration,
    /// How long the other side may take to dial, and a connection must last to be a success.
    grace: Duration,
}

impl Redial {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            due: Some(Instant::now()),
            not_before: None,
            failures: 0,
            retried: false,
            spread: RandomState::new(),
            first: limits.redial_first,
            max: limits.redial_max,
            grace: limits.handshake_timeout,
        }
    }

    /// When to dial next, where that is known.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether to dial now; if so, the dial counts as under way.
    pub(super) fn start(&mut self, now: Instant) -> bool {
        let due = self.due.is_some_and(|due| due <= now);
        if due {
            self.due = None;
        }
        due
    }

    /// A dial has failed.
    pub(super) fn failed(&mut self, now: Instant) {
        let pause = self.pause(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.dial_in(pause, now);
    }

    /// A connection is up: nothing to dial.
    pub(super) fn connected(&mut self) {
        self.due = None;
    }

    /// The other side is about to dial: this one waits for that.
    pub(super) fn leave_to_the_other(&mut self, now: Instant) {
        let not_before = now + self.grace;
        self.not_before = Some(not_before);
        self.due = self.due.map(|due| due.max(not_before));
    }

    /// The connection is gone. `took_part`: for how long the peer was ready on it, where it was. One
    /// that was gone at once shows nothing (a node that is cut off over there sees its connections open,
    /// and close) except that it closed an older one beside it: so there is one short pause, and long
    /// ones after that.
    pub(super) fn lost(&mut self, took_part: Option<Duration>, now: Instant) {
        if took_part.is_some_and(|time| time >= self.grace) {
            self.failures = 0;
            self.retried = false;
        }
        if std::mem::replace(&mut self.retried, true) {
            self.failed(now);
        } else {
            self.dial_in(self.pause(0), now);
        }
    }

    fn dial_in(&mut self, pause: Duration, now: Instant) {
        let not_before = self.not_before.take();
        self.due = Some((now + pause).max(not_before.unwrap_or(now)));
    }

    fn pause(&self, failures: u32) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.min(16)).min(self.max);
        // 75 % to 125 %.
        doubled.mul_f64(0.75 + (self.spread.hash_one(failures) % 1000) as f64 / 2000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(redial: &Redial, now: Instant) -> Duration {
        redial.due().expect("scheduled") - now
    }

    #[test]
    fn the_pause_before_a_dial_doubles_up_to_its_cap_and_starts_again_after_success() {
        let limits = Limits::default();
        let mut redial = Redial::new(&limits);
        let mut now = Instant::now();
        for failures in 0..12 {
            assert!(redial.start(now), "due");
            assert!(!redial.start(now), "one dial at a time");
            redial.failed(now);
            let pause = pause(&redial, now);
            let nominal = (limits.redial_first * (1 << failures)).min(limits.redial_max);
            assert!(pause >= nominal.mul_f64(0.75) && pause <= nominal.mul_f64(1.25), "{pause:?}");
            now += pause;
        }
        redial.connected();
        redial.lost(Some(limits.handshake_timeout), now);
        assert!(pause(&redial, now) < limits.redial_first * 2);
        redial.failed(now);
        assert!(pause(&redial, now) < limits.redial_first * 2);
    }

    #[test]
    fn a_connection_that_is_gone_at_once_is_dialled_for_again_quickly_but_only_the_first_time() {
        let limits = Limits::default();
        let mut redial = Redial::new(&limits);
        let now = Instant::now();
        (0..10).for_each(|_| redial.failed(now));
        redial.connected();
        redial.lost(None, now);
        assert!(pause(&redial, now) < limits.redial_first * 2);
        redial.connected();
        redial.lost(Some(Duration::from_millis(1)), now);
        assert!(pause(&redial, now) > limits.redial_max / 2);
    }

    #[test]
    fn a_dial_that_is_left_to_the_other_side_waits_for_as_long_as_that_may_take() {
        let limits = Limits::default();
        let now = Instant::now();
        // While there is a connection, and when there is none.
        for connected in [true, false] {
            let mut redial = Redial::new(&limits);
            if connected {
                redial.connected();
            }
            redial.leave_to_the_other(now);
            redial.lost(None, now);
            assert_eq!(pause(&redial, now), limits.handshake_timeout);
            redial.failed(now);
            assert!(pause(&redial, now) < limits.redial_first * 2, "once");
        }
    }
}
