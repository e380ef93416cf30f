//! The listed peers, and the connection to each.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
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

use super::{
    config::{Limits, NetworkConfig, NetworkError, PeerConfig, PeerKey},
    faults::Faults,
    redial::Redial,
};

/// The libp2p peer id of a registry key.
pub(crate) fn peer_id(key: &PeerKey) -> PeerId {
    let key = ed25519::PublicKey::try_from_bytes(key.as_bytes())
        .expect("a ledger key is a point of the curve");
    identity::PublicKey::from(key).to_peer_id()
}

/// Most peers listed at a time. What waits to be judged or answered is bounded for each of them,
/// and the queues have room for all.
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
        self.by_id.insert(id, Peer::new(id, listed, limits));
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

/// The open connection to a listed peer, with all that is true of it alone.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    /// The other end.
    pub(super) address: Multiaddr,
    /// When the peer last answered something on it.
    pub(super) alive: Instant,
    pub(super) backlog: Backlog,
    /// Which of the two topics the peer has subscribed to.
    consensus: bool,
    transactions: bool,
    /// Since when it has been subscribed to both, or not to both.
    since: Instant,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, address: Multiaddr, limits: &Limits, now: Instant) -> Self {
        Self {
            id,
            address,
            alive: now,
            backlog: Backlog::new(limits.gossip_stuck),
            consensus: false,
            transactions: false,
            since: now,
        }
    }

    /// The peer has subscribed to the consensus topic, or has unsubscribed.
    pub(super) fn subscribed_to_consensus(&mut self, subscribed: bool, now: Instant) {
        self.change(|connection| connection.consensus = subscribed, now);
    }

    /// The same for the topic of transactions.
    pub(super) fn subscribed_to_transactions(&mut self, subscribed: bool, now: Instant) {
        self.change(|connection| connection.transactions = subscribed, now);
    }

    fn change(&mut self, change: impl FnOnce(&mut Self), now: Instant) {
        let before = self.is_ready();
        change(self);
        if self.is_ready() != before {
            self.since = now;
        }
    }

    /// Subscribed to both topics: what is published now reaches the peer.
    pub(super) fn is_ready(&self) -> bool {
        self.consensus && self.transactions
    }

    /// For how long it has been ready, where it is.
    pub(super) fn took_part(&self, now: Instant) -> Option<Duration> {
        self.is_ready().then(|| now.duration_since(self.since))
    }

    /// For how long it has not been ready, where it is not.
    pub(super) fn unready(&self, now: Instant) -> Option<Duration> {
        (!self.is_ready()).then(|| now.duration_since(self.since))
    }
}

/// One listed peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) key: PeerKey,
    pub(super) agency: AgencyCode,
    pub(super) addresses: Vec<Multiaddr>,
    pub(super) connection: Option<Connection>,
    /// The node has been told that it is connected.
    pub(super) announced: bool,
    pub(super) redial: Redial,
    pub(super) faults: Faults,
    /// One permit for each byte of consensus messages that may wait for the node's judgement.
    pub(super) unjudged_consensus: Arc<Semaphore>,
    /// The same for transactions.
    pub(super) unjudged_transactions: Arc<Semaphore>,
    /// One permit for each request that may be in work for this peer.
    pub(super) answering: Arc<Semaphore>,
    /// One permit for each request about sealed records.
    pub(super) answering_sealed: Arc<Semaphore>,
    /// Messages waiting to be pushed.
    pub(super) pushes: VecDeque<v1::ConsensusMessage>,
    /// Pushes under way.
    pub(super) pushes_out: usize,
}

impl Peer {
    fn new(id: PeerId, listed: &PeerConfig, limits: &Limits) -> Self {
        Self {
            id,
            key: listed.key,
            agency: listed.agency,
            addresses: listed.addresses.clone(),
            connection: None,
            announced: false,
            redial: Redial::new(limits),
            faults: Faults::new(limits, Instant::now()),
            unjudged_consensus: Arc::new(Semaphore::new(limits.unjudged_bytes_max)),
            unjudged_transactions: Arc::new(Semaphore::new(limits.unjudged_bytes_max)),
            answering: Arc::new(Semaphore::new(limits.requests_inbound_max)),
            answering_sealed: Arc::new(Semaphore::new(limits.sealed_requests_max)),
            pushes: VecDeque::new(),
            pushes_out: 0,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    fn due(&self) -> Option<Instant> {
        if let Some(until) = self.faults.cut_off_until {
            return Some(until);
        }
        if self.is_connected() || self.addresses.is_empty() {
            return None;
        }
        self.redial.due()
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_stuck_when_it_is_full_for_long_without_a_gap() {
        let mut backlog = Backlog::new(Duration::from_secs(8));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let full = [0, 3, 6, 9].map(|seconds| backlog.add(at(seconds)));
        assert_eq!(full, [false, false, false, true]);
        // It is told once, and again after the same time.
        assert_eq!([10, 13, 16, 19].map(|s| backlog.add(at(s))), [false, false, false, true]);
        // Full now and then is a slow peer, not a stuck one.
        assert!((5..50).all(|fours| !backlog.add(at(4 * fours))));
        let mut backlog = Backlog::new(Duration::from_secs(8));
        assert!((0..8).all(|seconds| !backlog.add(at(seconds))));
        // Telling it starts again.
        assert!(backlog.add(at(8)) && !backlog.add(at(9)));
    }

    #[test]
    fn a_connection_is_ready_while_the_peer_is_subscribed_to_both_topics() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let id = ConnectionId::new_unchecked(1);
        let mut connection = Connection::new(id, Multiaddr::empty(), &Limits::default(), start);
        connection.subscribed_to_consensus(true, at(1));
        connection.subscribed_to_consensus(true, at(2));
        assert_eq!(connection.unready(at(3)), Some(Duration::from_secs(3)));
        connection.subscribed_to_transactions(true, at(3));
        connection.subscribed_to_transactions(true, at(4));
        assert_eq!(connection.took_part(at(5)), Some(Duration::from_secs(2)));
        assert_eq!(connection.unready(at(5)), None);
        connection.subscribed_to_consensus(false, at(5));
        assert_eq!(connection.unready(at(7)), Some(Duration::from_secs(2)));
        assert_eq!(connection.took_part(at(7)), None);
    }
}
