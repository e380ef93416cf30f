//! What the rest of the node holds: the handle to send with, and the events that come.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use customhouse_ledger::agency::AgencyCode;
use customhouse_proto::v1;
use libp2p::{
    Multiaddr, PeerId,
    gossipsub::MessageId,
    request_response::{InboundRequestId, ResponseChannel},
};
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::{
    config::{Limits, PeerConfig, PeerKey},
    judgement::{Judgement, PendingJudgement},
    metrics::{DropReason, NetworkMetrics},
};

/// A listed peer that is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectedPeer {
    /// Whose node it is.
    pub agency: AgencyCode,
    /// Its key.
    pub key: PeerKey,
    /// The other end of the newest connection.
    pub address: Multiaddr,
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The key is not in the registry, or is this node's own.
    #[error("not a listed peer")]
    UnknownPeer,
    /// The peer is not connected.
    #[error("the peer is not connected")]
    NotConnected,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The request, or the answer, is larger than its limit.
    #[error("larger than the limit")]
    Oversize,
    /// The answer is not a message of the protocol.
    #[error("the answer cannot be decoded")]
    Undecodable,
    /// The connection was lost, or the peer refused to answer.
    #[error("the peer did not answer")]
    Refused,
    /// The network has stopped.
    #[error("the network has stopped")]
    Stopped,
}

pub(super) enum Command {
    Publish(Vec<v1::ConsensusMessage>),
    Push(PeerKey, v1::ConsensusMessage),
    Request(OpenRequest),
    RequestSealed(OpenRequest<v1::SealedRequest, v1::SealedResponse>),
    Charge(PeerKey, &'static str),
    /// Asks for a sign of life.
    Ping(oneshot::Sender<()>),
}

/// A transaction on its way to be gossiped.
pub(super) enum Outgoing {
    Whole(Bytes),
    /// One that is too large for that.
    Announced(v1::AnnouncedTransaction),
}

impl Outgoing {
    /// What it holds while it waits.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Whole(transaction) => transaction.len(),
            Self::Announced(announced) => announced.encoded_len(),
        }
    }
}

/// What peers are told of a transaction; nothing where the bytes are none.
fn announced(encoded: &Bytes) -> Option<v1::AnnouncedTransaction> {
    // Slots and records are views of the bytes: this copies none of them.
    let parts = v1::Transaction::decode(encoded.clone()).ok()?;
    Some(v1::AnnouncedTransaction {
        header: parts.header.to_vec(),
        signature: parts.signature.to_vec(),
        bytes: u32::try_from(encoded.len()).ok()?,
    })
}

/// Room for what a peer has sent and the node has not judged, in bytes: what is fetched of the peer because
/// it told of it counts like what it sends.
#[derive(Clone, Debug)]
pub struct UnjudgedRoom {
    pub(super) left: Arc<Semaphore>,
    pub(super) bytes_max: usize,
}

impl UnjudgedRoom {
    /// Room of its own, for tests.
    #[cfg(test)]
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { left: Arc::new(Semaphore::new(bytes_max)), bytes_max }
    }

    /// Waits for room for this many bytes, which are held until what is given is dropped. More than there is
    /// in all is as much as there is.
    pub async fn hold(&self, bytes: usize) -> OwnedSemaphorePermit {
        let bytes = u32::try_from(bytes.min(self.bytes_max)).unwrap_or(u32::MAX);
        let held = Arc::clone(&self.left).acquire_many_owned(bytes).await;
        held.expect("a peer's room is never closed")
    }
}

/// A request on its way, with its place among the peer's open requests.
pub(super) struct OpenRequest<Q = v1::SyncRequest, A = v1::SyncResponse> {
    pub(super) peer: PeerKey,
    pub(super) request: Q,
    pub(super) answer: oneshot::Sender<Result<A, RequestError>>,
    pub(super) place: OwnedSemaphorePermit,
}

/// One permit for each request that may be open to a peer.
#[derive(Clone)]
pub(super) struct RequestPlaces {
    sync: Arc<Semaphore>,
    sealed: Arc<Semaphore>,
}

impl RequestPlaces {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            sync: Arc::new(Semaphore::new(limits.requests_outbound_max)),
            sealed: Arc::new(Semaphore::new(limits.sealed_requests_max)),
        }
    }
}

/// Sends to the network. Cheap to clone.
#[derive(Clone)]
pub struct NetworkHandle(pub(super) Arc<Sender>);

pub(super) struct Sender {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) transactions: mpsc::Sender<Outgoing>,
    /// Bytes in `transactions`.
    pub(super) queued_bytes: Arc<AtomicUsize>,
    pub(super) queued_bytes_max: usize,
    /// Of a transaction that is gossiped whole.
    pub(super) gossiped_bytes_max: usize,
    pub(super) requests: RwLock<HashMap<PeerKey, RequestPlaces>>,
    pub(super) limits: Limits,
    pub(super) listed: watch::Sender<Vec<PeerConfig>>,
    pub(super) connected: watch::Receiver<Arc<[ConnectedPeer]>>,
    pub(super) listening: Vec<Multiaddr>,
    pub(super) metrics: NetworkMetrics,
}

impl NetworkHandle {
    /// Gossips consensus messages, together as far as their number and size allow. Never waits; when
    /// the queue is full, they are dropped and counted, and the core sends them again. A message that
    /// was published before is sent as a repeat, which passes the peers' memory of what they have
    /// seen, and pushed to each peer besides.
    pub fn publish_consensus(&self, messages: Vec<v1::ConsensusMessage>) {
        if !messages.is_empty() {
            self.command(Command::Publish(messages));
        }
    }

    /// Gossips an encoded [`v1::Transaction`]. Never waits. At once when there is little to send;
    /// what comes in quick succession travels in one message. Of a large one the peers are only told: they
    /// ask for it, by its leaf hash.
    pub fn publish_transaction(&self, transaction: Bytes) {
        let transaction = if transaction.len() <= self.0.gossiped_bytes_max {
            Outgoing::Whole(transaction)
        } else if let Some(announced) = announced(&transaction) {
            Outgoing::Announced(announced)
        } else {
            return self.0.metrics.drop_one(DropReason::Oversize);
        };
        let length = transaction.bytes();
        let queued = self.0.queued_bytes.fetch_add(length, Ordering::Relaxed);
        let sent =
            queued <= self.0.queued_bytes_max && self.0.transactions.try_send(transaction).is_ok();
        if !sent {
            self.0.queued_bytes.fetch_sub(length, Ordering::Relaxed);
            self.0.metrics.drop_one(DropReason::QueueFull);
        }
    }

    /// Sends a consensus message to one peer alone. Never waits; dropped and counted when the peer
    /// is not connected or has too many waiting.
    pub fn push(&self, peer: PeerKey, message: v1::ConsensusMessage) {
        self.command(Command::Push(peer, message));
    }

    /// Holds something wrong against the peer that handed it over, in an answer or in something that
    /// was kept and judged later. What came by gossip has a judgement for that. Never waits.
    pub fn charge(&self, peer: PeerKey, reason: &'static str) {
        self.command(Command::Charge(peer, reason));
    }

    /// Asks a peer, and waits for its answer; while the peer has as many open requests as it may
    /// have, waits for one to end. Dropping the future gives the request up.
    ///
    /// # Errors
    /// See [`RequestError`]. After the request timeout there is always one.
    pub async fn request(
        &self,
        peer: PeerKey,
        request: v1::SyncRequest,
    ) -> Result<v1::SyncResponse, RequestError> {
        let places = self.places(&peer).ok_or(RequestError::UnknownPeer)?.sync;
        self.ask(peer, request, places, Command::Request).await
    }

    /// The same about sealed records, for which there are places of their own.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn request_sealed(
        &self,
        peer: PeerKey,
        request: v1::SealedRequest,
    ) -> Result<v1::SealedResponse, RequestError> {
        let places = self.places(&peer).ok_or(RequestError::UnknownPeer)?.sealed;
        self.ask(peer, request, places, Command::RequestSealed).await
    }

    async fn ask<Q, A>(
        &self,
        peer: PeerKey,
        request: Q,
        places: Arc<Semaphore>,
        command: fn(OpenRequest<Q, A>) -> Command,
    ) -> Result<A, RequestError> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            let place = places.acquire_owned().await.map_err(|_| RequestError::Stopped)?;
            let open = OpenRequest { peer, request, answer, place };
            let sent = self.0.commands.send(command(open)).await;
            sent.map_err(|_| RequestError::Stopped)?;
            answered.await.map_err(|_| RequestError::Stopped)?
        };
        tokio::time::timeout(self.0.limits.request_timeout, asked)
            .await
            .unwrap_or(Err(RequestError::Timeout))
    }

    /// From now on these peers may connect and no others. A peer that is off the list is disconnected.
    /// Never waits, and is never lost: of two lists in quick succession the second counts.
    pub fn list(&self, peers: Vec<PeerConfig>) {
        {
            let mut requests = self.0.requests.write().unwrap_or_else(PoisonError::into_inner);
            requests.retain(|key, _| peers.iter().any(|listed| listed.key == *key));
            for listed in &peers {
                let places = || RequestPlaces::new(&self.0.limits);
                requests.entry(listed.key).or_insert_with(places);
            }
        }
        self.0.listed.send_if_modified(|current| {
            let changed = *current != peers;
            *current = peers;
            changed
        });
    }

    fn places(&self, peer: &PeerKey) -> Option<RequestPlaces> {
        let requests = self.0.requests.read().unwrap_or_else(PoisonError::into_inner);
        requests.get(peer).cloned()
    }

    /// The connected peers, by agency; the receiver learns of every change.
    pub fn connected(&self) -> watch::Receiver<Arc<[ConnectedPeer]>> {
        self.0.connected.clone()
    }

    /// Done when the network's task has answered, among its other work; false where it is gone.
    pub async fn answered(self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.0.commands.send(Command::Ping(reply)).await.is_ok() && answer.await.is_ok()
    }

    /// Done when the network's task has ended, however it did.
    pub async fn ended(&self) {
        self.0.commands.closed().await;
    }

    /// The addresses that this node accepts connections on, with the real ports.
    pub fn listen_addresses(&self) -> &[Multiaddr] {
        &self.0.listening
    }

    /// The counters, to be registered and read.
    pub fn metrics(&self) -> &NetworkMetrics {
        &self.0.metrics
    }

    fn command(&self, command: Command) {
        if self.0.commands.try_send(command).is_err() {
            self.0.metrics.drop_one(DropReason::QueueFull);
        }
    }
}

/// What the network tells the node.
#[derive(Debug)]
pub enum NetworkEvent {
    /// A peer is connected, and what is published from now on reaches it.
    Connected(PeerKey),
    /// Its last connection is gone.
    Disconnected(PeerKey),
    /// A consensus message came by gossip.
    Consensus {
        /// The peer that passed it on; not necessarily the one that made it.
        from: PeerKey,
        /// The message, decoded and nothing more.
        message: v1::ConsensusMessage,
        /// Says whether it is passed on.
        judgement: PendingJudgement,
    },
    /// Transactions came by gossip.
    Transactions {
        /// The peer that passed them on.
        from: PeerKey,
        /// Each an encoded [`v1::Transaction`].
        transactions: Vec<Bytes>,
        /// Says whether the whole batch is passed on.
        judgement: PendingJudgement,
    },
    /// A peer has told of a transaction that is too large to be gossiped.
    Announced {
        /// The peer that told of it, and should have it.
        from: PeerKey,
        /// What it is, decoded and nothing more.
        announced: v1::AnnouncedTransaction,
        /// Says whether others are told too.
        judgement: PendingJudgement,
        /// Where what is fetched counts until it is judged.
        room: UnjudgedRoom,
    },
    /// A peer asks something. Never a push.
    Request {
        /// The peer that asks.
        from: PeerKey,
        /// What it asks; `request` is `None` when a newer version asks what this one does not know.
        request: v1::SyncRequest,
        /// Where the answer goes.
        reply: Reply,
    },
    /// A peer sends or asks for sealed records.
    Sealed {
        /// The peer.
        from: PeerKey,
        /// What it asks; `request` is `None` when a newer version asks what this one does not know.
        request: v1::SealedRequest,
        /// Where the answer goes.
        reply: Reply<v1::SealedResponse>,
    },
    /// A peer sent a consensus message to this node alone. Not passed on.
    Pushed {
        /// The peer that sent it.
        from: PeerKey,
        /// The message.
        message: v1::ConsensusMessage,
        /// Says whether the peer is at fault.
        judgement: PendingJudgement,
    },
}

/// The node's judgement of what a peer sent, on its way to the network.
pub(super) struct JudgedMessage {
    pub(super) source: PeerId,
    pub(super) judgement: Judgement,
    /// Where it came by gossip.
    pub(super) gossip: Option<Gossiped>,
    /// Given back when it is dealt with, so that judgements are as bounded as messages.
    pub(super) _share: OwnedSemaphorePermit,
}

/// What came by gossip.
pub(super) struct Gossiped {
    /// Its id there.
    pub(super) id: MessageId,
    /// Whether what is judged is all that there was.
    pub(super) whole: bool,
    /// The encoding, where a part of it may go on without the rest.
    pub(super) data: Vec<u8>,
    /// The addresses of the consensus messages that travelled together, in their order.
    pub(super) messages: Vec<[u8; 32]>,
}

/// An answer on its way to the network.
pub(super) struct Answer<A = v1::SyncResponse> {
    pub(super) id: InboundRequestId,
    pub(super) channel: ResponseChannel<A>,
    pub(super) response: A,
    /// The request's place among those in work for the peer.
    pub(super) place: OwnedSemaphorePermit,
}

/// Where the answer to a request goes. Dropped without one, the peer sees that it is refused.
#[derive(Debug)]
pub struct Reply<A = v1::SyncResponse> {
    pub(super) id: InboundRequestId,
    pub(super) channel: ResponseChannel<A>,
    pub(super) place: OwnedSemaphorePermit,
    pub(super) answers: mpsc::Sender<Answer<A>>,
}

impl<A> Reply<A> {
    /// Answers. Never waits.
    pub fn send(self, response: A) {
        let Self { id, channel, place, answers } = self;
        // The channel has room for every request that may be in work: this fails only when the
        // network has stopped.
        let _ = answers.try_send(Answer { id, channel, response, place });
    }

    /// Whether the peer still waits.
    pub fn is_open(&self) -> bool {
        self.channel.is_open()
    }
}
