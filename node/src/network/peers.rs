//! The listed peers: who may connect, whom to dial and when, and who has gone too far.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{DefaultHasher, Hash as _, Hasher},
    sync::Arc,
    time::Duration,
};

use customhouse_ledger::agency::AgencyCode;
use customhouse_proto::v1;
use libp2p::{
    Multiaddr, PeerId,
    identity::{self, ed25519},
    swarm::ConnectionId,
};
use tokio::{sync::Semaphore, time::Instant};

use super::config::{Limits, NetworkConfig, NetworkError, PeerConfig, PeerKey};

/// Connections kept to one peer: two, because both sides may dial at once.
pub(super) const CONNECTIONS_PER_PEER: usize = 2;

/// The libp2p peer id of a registry key.
pub(crate) fn peer_id(key: &PeerKey) -> PeerId {
    let key = ed25519::PublicKey::try_from_bytes(key.as_bytes())
        .expect("a ledger key is a point of the curve");
    identity::PublicKey::from(key).to_peer_id()
}

/// Peers listed at a time at the most. What waits to be judged or answered is bounded for each of
/// them, and the queues have room for all.
pub(super) const PEERS_MAX: usize = 512;

/// All listed peers but this node.
#[derive(Debug)]
pub(super) struct Peers {
    own: PeerKey,
    by_id: BTreeMap<PeerId, Peer>,
}

impl Peers {
    pub(super) fn new(config: &NetworkConfig) -> Result<Self, NetworkError> {
        let mut peers = Self { own: config.identity.public(), by_id: BTreeMap::new() };
        for (index, listed) in config.peers.iter().enumerate() {
            if config.peers[..index].iter().any(|other| other.key == listed.key) {
                return Err(NetworkError::DuplicatePeer(listed.key));
            }
            peers.add(listed, &config.limits);
        }
        Ok(peers)
    }

    /// Lists a peer, or its addresses where it is listed already. Gives its id where it is new.
    pub(super) fn add(&mut self, listed: &PeerConfig, limits: &Limits) -> Option<PeerId> {
        let id = peer_id(&listed.key);
        if let Some(peer) = self.by_id.get_mut(&id) {
            peer.addresses.clone_from(&listed.addresses);
            return None;
        }
        if listed.key == self.own {
            return None;
        }
        if self.by_id.len() == PEERS_MAX {
            tracing::error!(agency = %listed.agency, "more than {PEERS_MAX} peers: not this one");
            return None;
        }
        self.by_id.insert(id, Peer::new(id, listed, &self.own, limits));
        Some(id)
    }

    /// Ids of the peers that a list does not have.
    pub(super) fn beside(&self, list: &[PeerConfig]) -> Vec<PeerId> {
        let keys: BTreeSet<_> = list.iter().map(|listed| listed.key).collect();
        self.iter().filter(|peer| !keys.contains(&peer.key)).map(|peer| peer.id).collect()
    }

    pub(super) fn remove(&mut self, id: &PeerId) {
        self.by_id.remove(id);
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.by_id.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.by_id.values_mut()
    }

    pub(super) fn find(&mut self, id: &PeerId) -> Option<&mut Peer> {
        self.by_id.get_mut(id)
    }

    /// The next time at which a peer is to be dialled or let in again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.iter().filter_map(Peer::due).min()
    }
}

/// Which of the two topics a peer has subscribed to on its connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Subscribed {
    pub(super) consensus: bool,
    pub(super) transactions: bool,
}

/// An open connection to a listed peer.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    /// The other end.
    pub(super) address: Multiaddr,
    pub(super) since: Instant,
    /// When it last gave a sign of life.
    pub(super) alive: Instant,
}

/// One listed peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) key: PeerKey,
    pub(super) agency: AgencyCode,
    pub(super) addresses: Vec<Multiaddr>,
    /// Open connections, oldest first.
    pub(super) connections: Vec<Connection>,
    pub(super) subscribed: Subscribed,
    /// The node has been told that it is connected.
    pub(super) announced: bool,
    pub(super) redial: Redial,
    pub(super) faults: Faults,
    pub(super) backlog: Backlog,
    /// One permit for each byte of consensus messages that may wait for the node's judgement.
    pub(super) unjudged_consensus: Arc<Semaphore>,
    /// The same for transactions.
    pub(super) unjudged_transactions: Arc<Semaphore>,
    /// One permit for each request that may be in work for this peer.
    pub(super) answering: Arc<Semaphore>,
    /// Messages waiting to be pushed.
    pub(super) pushes: VecDeque<v1::ConsensusMessage>,
    /// Pushes under way.
    pub(super) pushes_out: usize,
}

impl Peer {
    fn new(id: PeerId, listed: &PeerConfig, own: &PeerKey, limits: &Limits) -> Self {
        Self {
            id,
            key: listed.key,
            agency: listed.agency,
            addresses: listed.addresses.clone(),
            connections: Vec::new(),
            subscribed: Subscribed::default(),
            announced: false,
            redial: Redial::new(own, &listed.key, limits),
            faults: Faults::new(limits, Instant::now()),
            backlog: Backlog::new(limits.gossip_stuck),
            unjudged_consensus: Arc::new(Semaphore::new(limits.unjudged_bytes_max)),
            unjudged_transactions: Arc::new(Semaphore::new(limits.unjudged_bytes_max)),
            answering: Arc::new(Semaphore::new(limits.requests_inbound_max)),
            pushes: VecDeque::new(),
            pushes_out: 0,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        !self.connections.is_empty()
    }

    /// Connected, and subscribed to both topics: what is published now reaches it.
    pub(super) fn is_ready(&self) -> bool {
        self.is_connected() && self.subscribed.consensus && self.subscribed.transactions
    }

    fn due(&self) -> Option<Instant> {
        if let Some(until) = self.faults.cut_off_until {
            return Some(until);
        }
        if self.is_connected() || self.addresses.is_empty() {
            return None;
        }
        self.redial.due
    }
}

/// When to dial a peer. The pause doubles with every failure and is spread by a quarter either way,
/// so that nodes that lost each other at the same moment do not all dial at the same moment.
#[derive(Debug)]
pub(super) struct Redial {
    /// `None`: a dial is under way.
    due: Option<Instant>,
    failures: u32,
    spread: u64,
    first: Duration,
    max: Duration,
}

impl Redial {
    fn new(own: &PeerKey, peer: &PeerKey, limits: &Limits) -> Self {
        let mut hasher = DefaultHasher::new();
        (own.as_bytes(), peer.as_bytes()).hash(&mut hasher);
        Self {
            due: Some(Instant::now()),
            failures: 0,
            spread: hasher.finish(),
            first: limits.redial_first,
            max: limits.redial_max,
        }
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
        let pause = self.pause();
        self.failures = self.failures.saturating_add(1);
        self.due = Some(now + pause);
    }

    /// A connection is up: nothing to dial.
    pub(super) fn connected(&mut self) {
        self.due = None;
    }

    /// The peer has shown that it takes part. A connection alone shows nothing: whoever is cut off
    /// over there sees its connections open, and close at once.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The last connection is gone.
    pub(super) fn lost(&mut self, now: Instant) {
        self.failed(now);
    }

    fn pause(&self) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.failures.min(16)).min(self.max);
        let mut hasher = DefaultHasher::new();
        (self.spread, self.failures).hash(&mut hasher);
        // 75 % to 125 %.
        doubled.mul_f64(0.75 + (hasher.finish() % 1000) as f64 / 2000.0)
    }
}

/// What a peer has done wrong. Faults are forgiven with time; too many cut it off for a while.
#[derive(Debug)]
pub struct Faults {
    count: u32,
    last_forgiven: Instant,
    times_cut_off: u32,
    /// Until when it may not connect.
    pub cut_off_until: Option<Instant>,
    count_max: u32,
    forgiven: Duration,
    cut_off: Duration,
}

impl Faults {
    /// Nothing yet.
    pub fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            count: 0,
            last_forgiven: now,
            times_cut_off: 0,
            cut_off_until: None,
            count_max: limits.faults_max.max(1),
            forgiven: limits.fault_forgiven.max(Duration::from_millis(1)),
            cut_off: limits.cut_off,
        }
    }

    /// Counts a fault; true when the peer is to be cut off for it.
    pub fn add(&mut self, now: Instant) -> bool {
        if self.cut_off_until.is_some() {
            return false;
        }
        let periods =
            now.duration_since(self.last_forgiven).as_millis() / self.forgiven.as_millis();
        if periods > 0 {
            self.count = self.count.saturating_sub(u32::try_from(periods).unwrap_or(u32::MAX));
            self.last_forgiven = now;
        }
        self.count += 1;
        if self.count < self.count_max {
            return false;
        }
        let time = self.cut_off.saturating_mul(1 << self.times_cut_off.min(6));
        self.times_cut_off = self.times_cut_off.saturating_add(1);
        self.cut_off_until = Some(now + time);
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

/// For how long gossip's queue to a peer has been full. Gossipsub tells of a full queue once a
/// heartbeat, and only where a message was to be sent.
#[derive(Debug)]
pub(super) struct Backlog {
    stuck: Duration,
    /// When it was first and last found full.
    full: Option<(Instant, Instant)>,
}

impl Backlog {
    fn new(stuck: Duration) -> Self {
        Self { stuck, full: None }
    }

    /// The queue was found full; true when that has gone on for too long. Then it starts again.
    pub(super) fn add(&mut self, now: Instant) -> bool {
        let first = match self.full {
            // Consensus sends something every second or so while it waits for a peer: without a
            // full queue for this long, it has emptied.
            Some((first, last)) if now.duration_since(last) < self.stuck / 2 => first,
            _ => now,
        };
        let stuck = now.duration_since(first) >= self.stuck;
        self.full = (!stuck).then_some((first, now));
        stuck
    }

    /// A new connection has a new queue.
    pub(super) fn clear(&mut self) {
        self.full = None;
    }
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::keys::SigningKey;

    use super::*;

    fn redial(limits: &Limits) -> Redial {
        let [own, peer] = [1, 2].map(|seed| SigningKey::from_seed(&[seed; 32]).public());
        Redial::new(&own, &peer, limits)
    }

    #[test]
    fn the_pause_before_a_dial_doubles_up_to_its_cap_and_starts_again_after_success() {
        let limits = Limits::default();
        let mut redial = redial(&limits);
        let mut now = Instant::now();
        for failures in 0..12 {
            assert!(redial.start(now), "due");
            assert!(!redial.start(now), "one dial at a time");
            redial.failed(now);
            let pause = redial.due.expect("scheduled") - now;
            let nominal = (limits.redial_first * (1 << failures)).min(limits.redial_max);
            assert!(pause >= nominal.mul_f64(0.75) && pause <= nominal.mul_f64(1.25), "{pause:?}");
            now += pause;
        }
        redial.connected();
        redial.succeeded();
        redial.lost(now);
        assert!(redial.due.expect("scheduled") - now < limits.redial_first * 2);
    }

    #[test]
    fn a_peer_is_cut_off_at_its_limit_of_faults_and_longer_every_time() {
        let limits = Limits { faults_max: 3, ..Limits::default() };
        let mut faults = Faults::new(&limits, Instant::now());
        let now = Instant::now();
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
        let mut faults = Faults::new(&limits, Instant::now());
        let mut now = Instant::now();
        for _ in 0..100 {
            assert!(!faults.add(now));
            now += limits.fault_forgiven;
        }
    }

    #[test]
    fn a_queue_is_stuck_when_it_is_full_for_long_without_a_gap() {
        let mut backlog = Backlog::new(Duration::from_secs(8));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let full = [0, 3, 6, 9].map(|seconds| backlog.add(at(seconds)));
        assert_eq!(full, [false, false, false, true]);
        // It is told once, and again after as long.
        assert_eq!([10, 13, 16, 19].map(|s| backlog.add(at(s))), [false, false, false, true]);
        // Full now and then is a slow peer, not a stuck one.
        assert!((5..50).all(|fours| !backlog.add(at(4 * fours))));
        let mut backlog = Backlog::new(Duration::from_secs(8));
        assert!((0..8).all(|seconds| !backlog.add(at(seconds))));
        backlog.clear();
        assert!(!backlog.add(at(8)));
    }
}
