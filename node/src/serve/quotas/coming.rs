//! Calls whose requests come in many messages: how fast each comes, so that where all places of a kind are
//! taken the slowest gives its place to who waits for one.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a call has before it is looked at how fast it comes: it must be able to begin.
const BEGINNING: Duration = Duration::from_secs(2);
/// What comes at least as fast is not ended for another.
const FAST_BYTES_A_SECOND: u64 = 64 * 1024;

/// How a request comes. Only the time in which the node waits for the client counts.
#[derive(Default)]
pub(in crate::serve) struct Coming {
    state: Mutex<State>,
    given_up: CancellationToken,
}

#[derive(Default)]
struct State {
    bytes: u64,
    /// How long the client was waited for, before `since`.
    waited: Duration,
    /// Since when it is waited for.
    since: Option<Instant>,
    /// What has come waits for room, so the client is not waited for.
    is_held_back: bool,
}

impl Coming {
    /// The client is waited for, until the guard is dropped.
    pub(in crate::serve) fn wait(self: &Arc<Self>) -> Waiting {
        self.lock().since = Some(Instant::now());
        Waiting(Arc::clone(self))
    }

    /// The client waits for the node's room, until the guard is dropped.
    pub(super) fn hold_back(self: &Arc<Self>) -> HeldBack {
        let mut state = self.lock();
        state.is_held_back = state.since.is_some();
        state.stop();
        drop(state);
        HeldBack(Arc::clone(self))
    }

    /// Bytes have come.
    pub(in crate::serve) fn came(&self, bytes: usize) {
        self.lock().bytes += bytes as u64;
    }

    /// How long the client was waited for, and the bytes that have come meanwhile.
    pub(in crate::serve) fn so_far(&self) -> (Duration, u64) {
        let state = self.lock();
        (state.time(), state.bytes)
    }

    /// Done when its place is needed by another.
    pub(in crate::serve) async fn given_up(&self) {
        self.given_up.cancelled().await;
    }

    /// Bytes a second, where the client is waited for and that is slow.
    fn slowness(&self) -> Option<u64> {
        let state = self.lock();
        let time = state.time();
        let is_judged = state.since.is_some() && time >= BEGINNING && !self.given_up.is_cancelled();
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        let pace = state.bytes.saturating_mul(1000) / milliseconds;
        Some(pace).filter(|pace| is_judged && *pace < FAST_BYTES_A_SECOND)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn time(&self) -> Duration {
        self.waited + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn stop(&mut self) {
        self.waited = self.time();
        self.since = None;
    }
}

/// The client is waited for.
pub(in crate::serve) struct Waiting(Arc<Coming>);

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.stop();
        state.is_held_back = false;
    }
}

/// The client waits for room.
pub(super) struct HeldBack(Arc<Coming>);

impl Drop for HeldBack {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if std::mem::take(&mut state.is_held_back) {
            state.since = Some(Instant::now());
        }
    }
}

/// Ends the slowest of these, where one is slow.
pub(super) fn end_slowest(all: impl Iterator<Item = Arc<Coming>>) {
    let paces = all.filter_map(|coming| coming.slowness().map(|pace| (pace, coming)));
    if let Some((_, slowest)) = paces.min_by_key(|(pace, _)| *pace) {
        slowest.given_up.cancel();
    }
}
