//! What peers may have this node do for them: each takes its turn, and none goes faster than a pace, so that
//! whatever one of them asks and sends, the others wait for no more than its turn.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use customhouse_ledger::keys::PublicKey;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Gossiped batches that are being verified at once.
const BATCHES_MAX: usize = 2;
/// What a peer is answered in a second, in bytes, or in what costs as much as these: several times what a
/// node that catches up can take.
const PACE: u64 = 64 << 20;
/// How much time without questions a peer may save up, to be answered faster afterwards.
const SAVED: Duration = Duration::from_millis(250);
/// Peers that are remembered before those that are owed no pause are forgotten.
const PEERS_MAX: usize = 512;

/// Turns for verifying batches: one of each peer is verified or waits for its turn among all.
#[derive(Debug)]
pub(super) struct Turns {
    all: Arc<Semaphore>,
    of_peers: Mutex<BTreeMap<PublicKey, Arc<Semaphore>>>,
}

/// A turn. It is over when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _of_all: OwnedSemaphorePermit,
    _of_peer: OwnedSemaphorePermit,
}

impl Default for Turns {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(BATCHES_MAX)), of_peers: Mutex::default() }
    }
}

impl Turns {
    /// A peer's turn, if it is now.
    pub(super) fn now(&self, peer: PublicKey) -> Option<Turn> {
        let of_peer = self.of(peer).try_acquire_owned().ok()?;
        let of_all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Turn { _of_all: of_all, _of_peer: of_peer })
    }

    /// Waits for a peer's turn. `None` never comes: no semaphore here is ever closed.
    pub(super) async fn next(&self, peer: PublicKey) -> Option<Turn> {
        let of_peer = self.of(peer).acquire_owned().await.ok()?;
        let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Turn { _of_all: of_all, _of_peer: of_peer })
    }

    fn of(&self, peer: PublicKey) -> Arc<Semaphore> {
        let mut of_peers = self.of_peers.lock().unwrap_or_else(PoisonError::into_inner);
        if of_peers.len() >= PEERS_MAX {
            of_peers.retain(|_, turns| Arc::strong_count(turns) > 1);
        }
        Arc::clone(of_peers.entry(peer).or_insert_with(|| Arc::new(Semaphore::new(1))))
    }
}

/// How fast each peer is answered.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When a peer will have waited for all that it was given.
    paid_at: Mutex<BTreeMap<PublicKey, Instant>>,
}

impl Pace {
    /// Waits until a peer may be answered.
    pub(super) async fn due(&self, peer: PublicKey) {
        let due = self.paid_at(&peer).filter(|due| *due > Instant::now());
        if let Some(due) = due {
            tokio::time::sleep_until(due).await;
        }
    }

    /// A peer was given something that costs `cost`.
    pub(super) fn spent(&self, peer: PublicKey, cost: u64, now: Instant) {
        let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        if paid_at.len() >= PEERS_MAX {
            paid_at.retain(|_, at| *at > now);
        }
        let saved = now.checked_sub(SAVED).unwrap_or(now);
        let since = paid_at.get(&peer).map_or(saved, |at| (*at).max(saved));
        paid_at.insert(peer, since + Duration::from_secs_f64(cost as f64 / PACE as f64));
    }

    fn paid_at(&self, peer: &PublicKey) -> Option<Instant> {
        self.paid_at.lock().unwrap_or_else(PoisonError::into_inner).get(peer).copied()
    }
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::keys::SigningKey;

    use super::*;

    fn peer(number: u8) -> PublicKey {
        SigningKey::from_seed(&[number; 32]).public()
    }

    #[tokio::test]
    async fn who_sends_many_batches_takes_one_turn_at_a_time_and_leaves_the_others_theirs() {
        let turns = Arc::new(Turns::default());
        let first = turns.now(peer(1)).expect("nobody else");
        assert!(turns.now(peer(1)).is_none(), "one at a time");
        let second = turns.now(peer(2)).expect("another peer");
        assert!(turns.now(peer(3)).is_none(), "few of all");
        let waits = |number| {
            let turns = Arc::clone(&turns);
            Box::pin(async move { turns.next(peer(number)).await.expect("a turn") })
        };
        let mut greedy: Vec<_> = (0..10).map(|_| waits(1)).collect();
        for waiting in &mut greedy {
            assert!(futures::poll!(waiting).is_pending());
        }
        let mut other = waits(3);
        assert!(futures::poll!(&mut other).is_pending());
        drop(first);
        assert!(futures::poll!(&mut greedy[0]).is_pending(), "its next is behind the others");
        let held = futures::poll!(&mut other);
        assert!(held.is_ready(), "those who came later are next");
        drop(second);
        let held = (held, futures::poll!(&mut greedy[0]));
        assert!(held.1.is_ready() && futures::poll!(&mut greedy[1]).is_pending());
    }

    #[test]
    fn a_peer_is_answered_at_a_pace_and_no_other_for_it() {
        let pace = Pace::default();
        let now = Instant::now();
        let owes = |number| pace.paid_at(&peer(number)).map(|at| at.saturating_duration_since(now));
        for _ in 0..4 {
            pace.spent(peer(1), PACE / 16, now);
        }
        assert_eq!(owes(1), Some(Duration::ZERO), "a quarter of a second was saved");
        pace.spent(peer(1), PACE, now);
        assert_eq!((owes(1), owes(2)), (Some(Duration::from_secs(1)), None));
        let later = now + Duration::from_secs(3600);
        pace.spent(peer(1), PACE, later);
        let at = pace.paid_at(&peer(1)).expect("known");
        assert_eq!(at - later, Duration::from_millis(750), "no more is ever saved");
    }

    #[test]
    fn peers_that_are_gone_are_forgotten() {
        let (turns, pace, now) = (Turns::default(), Pace::default(), Instant::now());
        for number in 0..2 * PEERS_MAX as u32 {
            let mut seed = [1; 32];
            seed[..4].copy_from_slice(&number.to_be_bytes());
            let peer = SigningKey::from_seed(&seed).public();
            drop(turns.now(peer));
            pace.spent(peer, 1, now);
        }
        assert!(turns.of_peers.lock().expect("whole").len() <= PEERS_MAX);
        assert!(pace.paid_at.lock().expect("whole").len() <= PEERS_MAX);
    }
}
