//! What the network is told at its start, and its limits.

use std::{collections::BTreeMap, time::Duration};

use customhouse_ledger::{
    agency::AgencyCode,
    hash::Hash,
    keys::{PublicKey, SigningKey},
};
use libp2p::Multiaddr;

/// A peer's key, as its entry in the registry names it. Its libp2p peer id follows from it.
pub type PeerKey = PublicKey;

/// What [`spawn`](super::spawn) needs.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// This node's peer key, the one its registry entry names.
    pub identity: SigningKey,
    /// Separates this network from every other: it is part of the handshake, the topics and the
    /// protocol names.
    pub chain_id: Hash,
    /// Where to accept connections, for example `/ip4/0.0.0.0/tcp/7000`. Empty: only dials.
    pub listen: Vec<Multiaddr>,
    /// The other nodes of the registry, until [`NetworkHandle::list`](super::NetworkHandle::list) says
    /// otherwise. Nobody else may connect. An entry for this node's own key is passed over.
    pub peers: Vec<PeerConfig>,
    /// Limits; the default serves a network of up to some thirty agencies.
    pub limits: Limits,
}

/// One other node of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Whose node it is.
    pub agency: AgencyCode,
    /// Its peer key.
    pub key: PeerKey,
    /// Where to find it. Empty: it is waited for, never dialled.
    pub addresses: Vec<Multiaddr>,
}

/// Where agencies' nodes listen, as the configuration says.
#[derive(Clone, Debug, Default)]
pub struct Addresses(BTreeMap<AgencyCode, Vec<Multiaddr>>);

impl Addresses {
    /// The addresses of these agencies.
    pub fn new(of_agencies: impl IntoIterator<Item = (AgencyCode, Vec<Multiaddr>)>) -> Self {
        Self(of_agencies.into_iter().collect())
    }

    /// These peers, with their addresses where those are known.
    pub fn of_all(&self, peers: &[(AgencyCode, PeerKey)]) -> Vec<PeerConfig> {
        let addresses = |agency| self.0.get(agency).cloned().unwrap_or_default();
        let listed = peers.iter();
        listed
            .map(|(agency, key)| PeerConfig {
                agency: *agency,
                key: *key,
                addresses: addresses(agency),
            })
            .collect()
    }
}

/// Everything that a peer or this node's own load could make grow.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest gossip message, bytes.
    pub gossip_bytes_max: usize,
    /// A transaction batch is sent when it reaches this size, bytes.
    pub batch_bytes: usize,
    /// Least time between two transaction batches. The first after a pause goes at once; what comes
    /// within this time of it travels together.
    pub batch_pace: Duration,
    /// Most transactions in one batch; a received batch with more is undecodable.
    pub batch_transactions_max: usize,
    /// A larger transaction is not gossiped, bytes: peers are told of it, and ask for it.
    pub gossiped_transaction_bytes_max: usize,
    /// Transactions waiting to be published, bytes; more are dropped.
    pub publish_queue_bytes_max: usize,
    /// For how long a gossip message of the same content counts as the same message.
    pub duplicate_window: Duration,
    /// Gossip messages waiting to be sent to one peer; more are dropped.
    pub gossip_queue_max: usize,
    /// A peer whose queue of gossip messages has been full for this long is connected to anew: it may
    /// be that its stream is open and nobody reads it.
    pub gossip_stuck: Duration,
    /// Largest request, bytes. A pushed consensus message is one.
    pub request_bytes_max: usize,
    /// Largest response, bytes: a block's 8 MiB and what surrounds it.
    pub response_bytes_max: usize,
    /// Largest request of sealed records, bytes: one record of 4 MiB and what surrounds it.
    pub sealed_request_bytes_max: usize,
    /// Requests of sealed records to one peer at a time, and of one peer being answered.
    pub sealed_requests_max: usize,
    /// A request without an answer fails after this time.
    pub request_timeout: Duration,
    /// Requests to one peer at a time; more wait.
    pub requests_outbound_max: usize,
    /// Requests of one peer being answered at a time; more are refused.
    pub requests_inbound_max: usize,
    /// Consensus messages waiting to be pushed to one peer; more are dropped.
    pub push_queue_max: usize,
    /// Received consensus messages of one peer that the node has not judged yet, bytes, and as much
    /// again of transactions; more are dropped.
    pub unjudged_bytes_max: usize,
    /// Dials under way; more are made later.
    pub dials_pending_max: u32,
    /// Connections from addresses where no listed peer is known to be, that have not shown who they
    /// are.
    pub strangers_pending_max: usize,
    /// The same from one network: 24 bits of an IPv4 address, 48 of an IPv6 address.
    pub strangers_pending_per_prefix_max: usize,
    /// How many of those are taken in in a second.
    pub strangers_a_second_max: u32,
    /// Connections that have not shown who they are, from addresses where listed peers are known to be,
    /// beyond the few places that each of these has.
    pub familiar_pending_max: usize,
    /// A connection to this node on which nothing was said by then is given up. Whoever dials speaks
    /// first, at once.
    pub silence_timeout: Duration,
    /// A connection that has not finished its handshake by then is given up.
    pub handshake_timeout: Duration,
    /// A peer that has not subscribed to both topics by then is connected to anew.
    pub ready_timeout: Duration,
    /// First pause before a peer is dialled again; it doubles with every failure.
    pub redial_first: Duration,
    /// Longest pause before a peer is dialled again.
    pub redial_max: Duration,
    /// Every open connection is asked for a sign of life this often, and closed when there is none
    /// for three times as long.
    pub ping_interval: Duration,
    /// A peer is cut off at this many faults; one is forgiven every `fault_forgiven`.
    pub faults_max: u32,
    /// See `faults_max`.
    pub fault_forgiven: Duration,
    /// How long a peer is cut off the first time; it doubles every time, up to 64 times that.
    pub cut_off: Duration,
    /// One time of being cut off is forgotten whenever a peer has behaved for this long.
    pub cut_off_forgotten: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            gossip_bytes_max: 2 << 20,
            batch_bytes: 256 << 10,
            batch_pace: Duration::from_millis(2),
            batch_transactions_max: 4096,
            gossiped_transaction_bytes_max: 1 << 20,
            publish_queue_bytes_max: 16 << 20,
            duplicate_window: Duration::from_secs(30),
            gossip_queue_max: 128,
            gossip_stuck: Duration::from_secs(8),
            request_bytes_max: (2 << 20) + (64 << 10),
            response_bytes_max: 9 << 20,
            sealed_request_bytes_max: 5 << 20,
            sealed_requests_max: 4,
            request_timeout: Duration::from_secs(15),
            requests_outbound_max: 8,
            requests_inbound_max: 8,
            push_queue_max: 128,
            unjudged_bytes_max: 8 << 20,
            dials_pending_max: 64,
            strangers_pending_max: 64,
            strangers_pending_per_prefix_max: 16,
            strangers_a_second_max: 64,
            familiar_pending_max: 128,
            silence_timeout: Duration::from_millis(500),
            handshake_timeout: Duration::from_secs(5),
            ready_timeout: Duration::from_secs(10),
            redial_first: Duration::from_millis(200),
            redial_max: Duration::from_secs(10),
            ping_interval: Duration::from_secs(5),
            faults_max: 16,
            fault_forgiven: Duration::from_secs(10),
            cut_off: Duration::from_secs(30),
            cut_off_forgotten: Duration::from_secs(600),
        }
    }
}

/// Why the network could not be started.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The seed is not an Ed25519 key, or the transport cannot be set up with it.
    #[error("the peer key cannot be used: {0}")]
    Identity(String),
    /// Two peers have one key.
    #[error("two peers have the key {0}")]
    DuplicatePeer(PeerKey),
    /// The gossip settings contradict each other.
    #[error("gossip: {0}")]
    Gossip(String),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The configured address.
        address: Multiaddr,
        /// What the system said.
        reason: String,
    },
    /// No listener came up in time.
    #[error("the listeners did not come up")]
    ListenTimeout,
}
