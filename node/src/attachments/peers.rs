//! Which peers are asked for attachments, and in which order: who was slow comes last for a while, so that one that
//! gives little, or nothing, does not hold what others would give at once. Without clock or sockets.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use customhouse_ledger::agency::AgencyCode;
use tokio::sync::Semaphore;

use crate::network::{ConnectedPeer, PeerKey};

/// Questions for pieces to one peer at a time, of those that it may be asked: consensus needs the others.
const OF_PEER_MAX: usize = 2;
/// Peers of which something is remembered before what is over is forgotten.
const REMEMBERED: usize = 512;
/// An answer that takes longer than this and its bytes at this pace is slow.
const SLOW_AFTER: Duration = Duration::from_secs(1);
const SLOW_BYTES_A_SECOND: u32 = 64 << 10;
/// For how long a peer is slow at first; it doubles each time that it is so again.
const SLOW_FOR_FIRST: Duration = Duration::from_secs(60);
const SLOW_FOR_MAX: Duration = Duration::from_secs(16 * 60);

/// What is known of the peers.
#[derive(Debug, Default)]
pub(super) struct Peers(Mutex<HashMap<PeerKey, Peer>>);

#[derive(Debug)]
struct Peer {
    places: Arc<Semaphore>,
    slow: Option<Slow>,
}

#[derive(Clone, Copy, Debug)]
struct Slow {
    until: Instant,
    /// For how long the next time.
    next_for: Duration,
}

impl Peers {
    /// The places for questions to a peer.
    pub(super) fn places(&self, peer: PeerKey) -> Arc<Semaphore> {
        let mut peers = self.peers();
        if peers.len() > REMEMBERED {
            // Of whom nothing is under way and nothing bad is known.
            peers.retain(|_, peer| Arc::strong_count(&peer.places) > 1 || peer.slow.is_some());
        }
        if peers.len() > 2 * REMEMBERED {
            peers.retain(|_, peer| Arc::strong_count(&peer.places) > 1);
        }
        let new = || Peer { places: Arc::new(Semaphore::new(OF_PEER_MAX)), slow: None };
        Arc::clone(&peers.entry(peer).or_insert_with(new).places)
    }

    /// A peer took so long to give these bytes of right pieces, or none. Says whether that was slow.
    pub(super) fn answered(
        &self,
        key: PeerKey,
        bytes: usize,
        took: Duration,
        now: Instant,
    ) -> bool {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let is_slow = took > SLOW_AFTER + Duration::from_secs(1) * bytes / SLOW_BYTES_A_SECOND;
        let mut peers = self.peers();
        let Some(peer) = peers.get_mut(&key) else { return is_slow };
        match peer.slow {
            // Several questions may have been under way.
            Some(slow) if now < slow.until => {}
            Some(Slow { next_for, .. }) if is_slow => {
                let twice = (2 * next_for).min(SLOW_FOR_MAX);
                peer.slow = Some(Slow { until: now + next_for, next_for: twice });
            }
            None if is_slow => {
                let (until, next_for) = (now + SLOW_FOR_FIRST, 2 * SLOW_FOR_FIRST);
                peer.slow = Some(Slow { until, next_for });
            }
            // That it has nothing anybody can say at once.
            Some(_) if bytes > 0 => peer.slow = None,
            Some(_) | None => {}
        }
        is_slow
    }

    pub(super) fn is_slow(&self, peer: &PeerKey, now: Instant) -> bool {
        let slow = self.peers().get(peer).and_then(|peer| peer.slow);
        slow.is_some_and(|slow| now < slow.until)
    }

    /// These peers as they are to be asked: those that are slow last, before that those of agencies whose records
    /// refer to it first, the others from a turn on, so that not all nodes ask the same.
    pub(super) fn order(
        &self,
        connected: &[ConnectedPeer],
        (agencies, turn): (&[AgencyCode], u8),
        now: Instant,
    ) -> Vec<PeerKey> {
        let mut peers: Vec<_> = connected.iter().map(|peer| (peer.agency, peer.key)).collect();
        peers.rotate_left(usize::from(turn) % connected.len().max(1));
        let last = |(agency, key): &(AgencyCode, PeerKey)| {
            (self.is_slow(key, now), !agencies.contains(agency))
        };
        peers.sort_by_cached_key(last);
        peers.into_iter().map(|(_, key)| key).collect()
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<PeerKey, Peer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::keys::SigningKey;

    use super::*;

    fn peer(i: u8) -> ConnectedPeer {
        let address = "/ip4/127.0.0.1/tcp/1".parse().expect("an address");
        let agency = format!("AGENCY-{i}").parse().expect("a code");
        ConnectedPeer { agency, key: SigningKey::from_seed(&[i; 32]).public(), address }
    }

    #[test]
    fn a_peer_that_was_slow_is_asked_last_for_a_while_and_for_longer_each_time() {
        let (peers, connected, mut now) =
            (Peers::default(), [0, 1, 2, 3].map(peer), Instant::now());
        let [first, second, third, fourth] = [0, 1, 2, 3].map(|i: usize| connected[i].key);
        let agencies = [connected[3].agency, connected[0].agency];
        let order = |now| peers.order(&connected, (&agencies, 1), now);
        assert_eq!(order(now), [fourth, first, second, third], "of any of the agencies first");
        let second_long = Duration::from_secs(1);
        connected.iter().for_each(|peer| drop(peers.places(peer.key)));
        assert!(!peers.answered(fourth, 8 * 65_536, 8 * second_long, now));
        assert!(!peers.answered(fourth, 0, second_long, now));
        for slow_for in [60, 120, 240, 480, 960, 960] {
            assert!(peers.answered(fourth, 65_536, 3 * second_long, now));
            assert!(peers.answered(fourth, 0, 10 * second_long, now), "once for both");
            assert!(!peers.answered(fourth, 65_536, second_long, now), "it is slow all the same");
            now += slow_for * second_long;
            assert_eq!(order(now - second_long), [first, second, third, fourth]);
            assert_eq!(order(now), [fourth, first, second, third]);
            assert!(!peers.answered(fourth, 0, second_long, now), "is no sign that it is better");
        }
        assert!(!peers.answered(fourth, 65_536, second_long, now), "it is better");
        assert!(peers.answered(fourth, 0, 10 * second_long, now));
        assert_eq!(order(now + 60 * second_long)[0], fourth, "for as long as at first");
    }
}
