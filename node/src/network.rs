//! The network among the agencies' nodes: libp2p over TCP, Noise and Yamux.
//!
//! [`spawn`] starts one task that owns the swarm. The node talks to it through a [`NetworkHandle`]
//! and hears from it through [`NetworkEvent`]s; nothing else is shared.
//!
//! | file | subject |
//! |---|---|
//! | `config` | what the network is told at its start, its limits |
//! | `behaviour` | the libp2p behaviours and the swarm |
//! | `handshakes`, `single`, `bounded_close` | who may try a handshake, one connection a peer, its end |
//! | `task` | the task: commands in, messages out, time |
//! | `events` | what the swarm reports: connections, gossip, requests |
//! | `gossip` | topics, content addresses, repeats, batches |
//! | `sealed_lane` | requests about sealed records, beside all others |
//! | `codec`, `wire` | frames of requests and answers, a look at bytes before they are decoded |
//! | `peers`, `redial`, `faults`, `rate` | the allow list, when to dial, who has gone too far, how often something may happen |
//! | `handle`, `judgement` | what the rest of the node holds, and says about what came |
//! | `metrics` | counters |
//!
//! # Who may connect
//! Only the peers of the registry, known by their Ed25519 keys: the handshake proves the key, and
//! any other is refused and counted. The chain id is part of the handshake (the Noise prologue), so
//! that a node of another chain does not even get that far. Before the handshake strangers have few
//! places, see `handshakes`; after five seconds without one they are gone.
//!
//! Every listed peer is dialled until it is connected, with a pause that doubles up to a cap. There is
//! one connection to a peer at a time, and all that is known of the peer's state belongs to it, see
//! `single`. It is closed, within half a second whatever its socket does, and made anew: when a ping's
//! answer is missing for long, when the peer has not subscribed to both topics within ten seconds, when
//! it answers pings but has taken no gossip for long, and when the peer dials anew, which shows that its
//! end is gone.
//!
//! The list follows the registry while the network runs ([`NetworkHandle::list`]): a peer that is new
//! on it may connect at once, one that is off it is disconnected. How gossip's mesh is laid out is
//! decided at the start, by the number of peers then; a node's own messages go to all of them in any
//! case.
//!
//! # Gossip
//! Transactions and consensus messages travel by gossipsub, each on its topic. A node's own message
//! goes to all its peers at once; others pass it on to their mesh (a third of the peers, at most 8),
//! but only after the node has judged it ([`PendingJudgement`]), and nothing that it could not verify.
//! Messages carry no author: what is in them is signed already. Their id is the hash of their content. A message that is published again
//! is marked as a repeat, which makes its id new, see `gossip`; a consensus message is then also pushed
//! to every connected peer, so that no state of gossip's queues can keep a height from being decided.
//!
//! A transaction above 1 MiB is not gossiped. What travels in its place is its header and signature, which
//! give its leaf hash: a peer to which it is of use asks for it ([`NetworkEvent::Announced`]). So no message of
//! gossip, and no queue of them, is larger for the largest transaction.
//!
//! # Requests
//! `/customhouse/<chain id>/sync/1` carries one request and its answer a stream. A `push` is a
//! request too: a consensus message for one peer alone, acknowledged when it is queued.
//! `/customhouse/<chain id>/sealed/1` does the same for sealed records, with streams and places of its own, so
//! that consensus waits for none of them.
//!
//! # Faults
//! Bytes that an honest peer would not have sent are faults of whoever sent them, whichever way they came:
//! gossip and pushes (each has its judgement) and answers ([`NetworkHandle::charge`]). Too many, and the peer
//! is cut off for a while, longer every time that it comes to that. Faults are forgiven with time, and so are
//! the times of being cut off.
//!
//! # Bounds
//! Every queue is bounded, and so is everything that one peer can make grow: connections, message
//! and frame sizes, unjudged messages (by bytes), requests in work. What is above its bound is
//! dropped and counted by reason ([`DropReason`]). Nothing here is needed for safety, and what is lost
//! the core sends again.

mod behaviour;
mod bounded_close;
mod codec;
mod config;
mod events;
mod faults;
mod gossip;
mod handle;
mod handshakes;
mod judgement;
mod metrics;
mod names;
mod peers;
mod rate;
mod redial;
mod sealed_lane;
mod single;
mod task;
#[cfg(test)]
mod tests;
mod wire;

pub use config::{Addresses, Limits, NetworkConfig, NetworkError, PeerConfig, PeerKey};
pub use faults::Faults;
pub use gossip::{CONSENSUS_BATCH_MAX, PASSED_ON_WITHIN, Publication, Recent, mesh};
pub use handle::{ConnectedPeer, NetworkEvent, NetworkHandle, Reply, RequestError, UnjudgedRoom};
pub use judgement::{Judgement, PendingJudgement};
pub use libp2p::Multiaddr;
pub use metrics::{DropReason, NetworkMetrics};
pub(crate) use peers::peer_id;
pub use task::spawn;
