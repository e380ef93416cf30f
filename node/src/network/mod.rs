//! The network among the agencies' nodes: libp2p over TCP, Noise and Yamux.
//!
//! [`spawn`] starts one task that owns the swarm. The node talks to it through a [`NetworkHandle`]
//! and hears from it through [`NetworkEvent`]s; nothing else is shared.
//!
//! | file | subject |
//! |---|---|
//! | `config` | what the network is told at its start, its limits |
//! | `behaviour` | the libp2p behaviours and the swarm |
//! | `task` | the task: commands in, messages out, time |
//! | `events` | what the swarm reports: connections, gossip, requests |
//! | `gossip` | topics, content addresses, repeats, batches |
//! | `codec`, `wire` | frames of the sync protocol, a look at bytes before they are decoded |
//! | `peers` | the allow list, redialling, faults |
//! | `handle` | what the rest of the node holds |
//! | `metrics` | counters |
//!
//! # Who may connect
//! Only the peers of the registry, known by their Ed25519 keys: the handshake proves the key, and
//! any other is refused and counted. The chain id is part of the handshake (the Noise prologue), so
//! that a node of another chain does not even get that far. Every listed peer is dialled until it
//! is connected, with a pause that doubles up to a cap; both sides may dial at once, and two
//! connections to a peer are as good as one. Pings find connections whose other end is gone; one
//! whose peer answers pings but has taken no gossip for long is closed and made anew too.
//!
//! The list follows the registry while the network runs ([`NetworkHandle::list`]): who is new on it may
//! connect at once, who is off it is disconnected. How gossip's mesh is laid out is decided at the
//! start, by the number of peers then; a node's own messages go to all of them in any case.
//!
//! # Gossip
//! Transactions and consensus messages travel by gossipsub, each on its topic. A node's own message
//! goes to all its peers at once; others pass it on to their mesh (a third of the peers, at most 8),
//! but only after the node has judged it ([`GossipReceipt`]). Messages carry no author: what is in
//! them is signed already. Their id is the hash of their content. A message that is published again
//! is marked as a repeat, which makes its id new, see `gossip`; a consensus message is then also pushed
//! to every connected peer, so that no state of gossip's queues can keep a height from being decided.
//!
//! # Requests
//! `/customhouse/<chain id>/sync/1` carries one request and its answer a stream. A `push` is a
//! request too: a consensus message for one peer alone, acknowledged when it is queued.
//!
//! # Bounds
//! Every queue is bounded, and so is everything that one peer can make grow: connections, message
//! and frame sizes, unjudged messages (by bytes), requests in work. What is above its bound is
//! dropped and counted by reason ([`DropReason`]). Bytes that an honest peer would not have sent are
//! faults; too many, and the peer is cut off for a while. Nothing here is needed for safety, and
//! what is lost the core sends again.

mod behaviour;
mod codec;
mod config;
mod events;
mod gossip;
mod handle;
mod metrics;
mod peers;
mod task;
#[cfg(test)]
mod tests;
mod wire;

pub use config::{Addresses, Limits, NetworkConfig, NetworkError, PeerConfig, PeerKey};
pub use gossip::{CONSENSUS_BATCH_MAX, Publication, Recent};
pub use handle::{
    ConnectedPeer, GossipReceipt, Judgement, NetworkEvent, NetworkHandle, QueueShare, Reply,
    RequestError,
};
pub use libp2p::Multiaddr;
pub use metrics::{DropReason, NetworkMetrics};
pub use peers::Faults;
pub(crate) use peers::peer_id;
pub use task::spawn;
