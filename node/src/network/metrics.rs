//! Counters of the network, in families that the node registers with its metrics.

use std::sync::Arc;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// One label and its value, for example `("reason", "oversize")`.
type Label = [(&'static str, &'static str); 1];

/// Why something was refused or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// A connection by a key that the registry does not list.
    UnlistedPeer,
    /// A connection that did not finish the handshake: another chain id, another protocol, a
    /// port scan.
    Handshake,
    /// A connection beyond a limit.
    ConnectionLimit,
    /// A connection beside one that the peer had already; both were closed, or this one.
    SecondConnection,
    /// A connection without a sign of life.
    DeadConnection,
    /// A connection whose peer has not subscribed in time.
    UnreadyConnection,
    /// A connection whose peer takes no gossip any more.
    StuckConnection,
    /// A listed peer cut off for its faults.
    CutOff,
    /// A message or frame above its limit.
    Oversize,
    /// Bytes that are not what the topic or protocol carries.
    Undecodable,
    /// A message of a kind that this version does not know. No fault: the sender may be newer.
    UnknownKind,
    /// A gossip message, push or answer that the node judged to be wrong.
    Rejected,
    /// A received message while the node had too many unjudged ones of that peer.
    ConsumerBehind,
    /// A request beyond the number that one peer may have open.
    RequestLimit,
    /// A request that the node did not answer in time.
    Unanswered,
    /// An own message while the queue to the network was full.
    QueueFull,
    /// An own message while no peer was there to take it.
    NoPeers,
    /// A gossip message that a slow peer did not take in time.
    SlowPeer,
    /// A push that did not arrive.
    PushFailed,
}

impl DropReason {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnlistedPeer => "unlisted_peer",
            Self::Handshake => "handshake",
            Self::ConnectionLimit => "connection_limit",
            Self::SecondConnection => "second_connection",
            Self::DeadConnection => "dead_connection",
            Self::UnreadyConnection => "unready_connection",
            Self::StuckConnection => "stuck_connection",
            Self::CutOff => "cut_off",
            Self::Oversize => "oversize",
            Self::Undecodable => "undecodable",
            Self::UnknownKind => "unknown_kind",
            Self::Rejected => "rejected",
            Self::ConsumerBehind => "consumer_behind",
            Self::RequestLimit => "request_limit",
            Self::Unanswered => "unanswered",
            Self::QueueFull => "queue_full",
            Self::NoPeers => "no_peers",
            Self::SlowPeer => "slow_peer",
            Self::PushFailed => "push_failed",
        }
    }
}

/// The network's counters. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct NetworkMetrics(Arc<Families>);

#[derive(Debug, Default)]
struct Families {
    messages_in: Family<Label, Counter>,
    messages_out: Family<Label, Counter>,
    bytes_in: Family<Label, Counter>,
    bytes_out: Family<Label, Counter>,
    dropped: Family<Label, Counter>,
    connected_peers: Gauge,
}

impl NetworkMetrics {
    /// Registers all families under the prefix `network`.
    pub fn register(&self, registry: &mut Registry) {
        let families = &self.0;
        let registry = registry.sub_registry_with_prefix("network");
        for (name, help, family) in [
            ("messages_in", "Messages received, by channel", &families.messages_in),
            ("messages_out", "Messages sent, by channel", &families.messages_out),
            ("bytes_in", "Payload bytes received, by channel", &families.bytes_in),
            ("bytes_out", "Payload bytes sent, by channel", &families.bytes_out),
            ("dropped", "What was refused or dropped, by reason", &families.dropped),
        ] {
            registry.register(name, help, family.clone());
        }
        let gauge = families.connected_peers.clone();
        registry.register("connected_peers", "Listed peers connected", gauge);
    }

    /// Messages received on a channel: `consensus`, `transactions`, `push`, `request`, `response`.
    pub fn messages_in(&self, channel: &'static str) -> u64 {
        self.0.messages_in.get_or_create(&[("channel", channel)]).get()
    }

    /// Payload bytes received on a channel.
    pub fn bytes_in(&self, channel: &'static str) -> u64 {
        self.0.bytes_in.get_or_create(&[("channel", channel)]).get()
    }

    /// Messages sent on a channel; a gossip message counts once, however many peers take it.
    pub fn messages_out(&self, channel: &'static str) -> u64 {
        self.0.messages_out.get_or_create(&[("channel", channel)]).get()
    }

    /// What was refused or dropped for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.0.dropped.get_or_create(&[("reason", reason.as_str())]).get()
    }

    pub(super) fn received(&self, channel: &'static str, bytes: usize) {
        self.0.messages_in.get_or_create(&[("channel", channel)]).inc();
        self.0.bytes_in.get_or_create(&[("channel", channel)]).inc_by(bytes as u64);
    }

    pub(super) fn sent(&self, channel: &'static str, bytes: usize) {
        self.0.messages_out.get_or_create(&[("channel", channel)]).inc();
        self.0.bytes_out.get_or_create(&[("channel", channel)]).inc_by(bytes as u64);
    }

    pub(super) fn drop_one(&self, reason: DropReason) {
        self.drop_many(reason, 1);
    }

    pub(super) fn drop_many(&self, reason: DropReason, count: u64) {
        self.0.dropped.get_or_create(&[("reason", reason.as_str())]).inc_by(count);
    }

    pub(super) fn connected(&self, peers: usize) {
        self.0.connected_peers.set(i64::try_from(peers).unwrap_or(i64::MAX));
    }
}
