//! What the rest of the node holds: the handle to send with, and the events that come.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use customhouse_ledger::agency::AgencyCode;
use customhouse_proto::v1;
use libp2p::{
    Multiaddr, PeerId,
    gossipsub::{MessageAcceptance, MessageId},
    request_response::{InboundRequestId, ResponseChannel},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::{
    config::{PeerConfig, PeerKey},
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
    /// The answer is no message of the protocol.
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
}

/// A request on its way, with its place among the peer's open requests.
pub(super) struct OpenRequest {
    pub(super) peer: PeerKey,
    pub(super) request: v1::SyncRequest,
    pub(super) answer: oneshot::Sender<Result<v1::SyncResponse, RequestError>>,
    pub(super) place: OwnedSemaphorePermit,
}

/// Sends to the network. Cheap to clone.
#[derive(Clone)]
pub struct NetworkHandle(pub(super) Arc<Sender>);

pub(super) struct Sender {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) transactions: mpsc::Sender<Bytes>,
    /// Bytes in `transactions`.
    pub(super) queued_bytes: Arc<AtomicUsize>,
    pub(super) queued_bytes_max: usize,
    /// One permit for each request that may be open to a peer.
    pub(super) requests: RwLock<HashMap<PeerKey, Arc<Semaphore>>>,
    pub(super) requests_outbound_max: usize,
    pub(super) listed: watch::Sender<Vec<PeerConfig>>,
    pub(super) request_timeout: Duration,
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
    /// what comes in quick succession travels in one message.
    pub fn publish_transaction(&self, transaction: Bytes) {
        let length = transaction.len();
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
        let places = self.places(&peer).ok_or(RequestError::UnknownPeer)?;
        let (answer, answered) = oneshot::channel();
        let asked = async {
            let place = places.acquire_owned().await.map_err(|_| RequestError::Stopped)?;
            let open = OpenRequest { peer, request, answer, place };
            let sent = self.0.commands.send(Command::Request(open)).await;
            sent.map_err(|_| RequestError::Stopped)?;
            answered.await.map_err(|_| RequestError::Stopped)?
        };
        tokio::time::timeout(self.0.request_timeout, asked)
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
                let places = || Arc::new(Semaphore::new(self.0.requests_outbound_max));
                requests.entry(listed.key).or_insert_with(places);
            }
        }
        self.0.listed.send_if_modified(|current| {
            let changed = *current != peers;
            *current = peers;
            changed
        });
    }

    fn places(&self, peer: &PeerKey) -> Option<Arc<Semaphore>> {
        let requests = self.0.requests.read().unwrap_or_else(PoisonError::into_inner);
        requests.get(peer).cloned()
    }

    /// The connected peers, by agency; the receiver learns of every change.
    pub fn connected(&self) -> watch::Receiver<Arc<[ConnectedPeer]>> {
        self.0.connected.clone()
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
        /// Who passed it on; not necessarily who made it.
        from: PeerKey,
        /// The message, decoded and nothing more.
        message: v1::ConsensusMessage,
        /// Says whether it is passed on.
        receipt: GossipReceipt,
    },
    /// Transactions came by gossip.
    Transactions {
        /// Who passed them on.
        from: PeerKey,
        /// Each an encoded [`v1::Transaction`].
        transactions: Vec<Bytes>,
        /// Says whether the whole batch is passed on.
        receipt: GossipReceipt,
    },
    /// A peer asks something. Never a push.
    Request {
        /// Who asks.
        from: PeerKey,
        /// What it asks; `request` is `None` when a newer version asks what this one does not know.
        request: v1::SyncRequest,
        /// Where the answer goes.
        reply: Reply,
    },
    /// A peer sent a consensus message to this node alone. Not passed on.
    Pushed {
        /// Who sent it.
        from: PeerKey,
        /// The message.
        message: v1::ConsensusMessage,
        /// Its share of what the peer may have waiting; drop it with the message.
        share: QueueShare,
    },
}

/// Bytes of a peer's messages that wait to be judged; given back when dropped.
#[derive(Debug)]
pub struct QueueShare(
    #[allow(dead_code, reason = "held, not read")] pub(super) OwnedSemaphorePermit,
);

/// The node's judgement of a gossip message, on its way to the network.
pub(super) struct Verdict {
    pub(super) id: MessageId,
    pub(super) source: PeerId,
    pub(super) acceptance: MessageAcceptance,
    pub(super) reason: &'static str,
    /// Given back when the verdict is dealt with, so that verdicts are as bounded as messages.
    pub(super) _share: OwnedSemaphorePermit,
}

/// Says what to do with a gossip message. It is passed on only when accepted, and only within about
/// three seconds of its coming. Dropped without a word, it is ignored.
///
/// What travelled together is judged message by message and passed on together: when any of it is
/// rejected not at all, else when any is accepted.
#[derive(Debug)]
pub struct GossipReceipt(Arc<Judged>);

/// What became of a gossip message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is passed on.
    Accepted,
    /// It is not, and nobody is blamed.
    Ignored,
    /// It is not, and who passed it on has a fault more, for this reason.
    Rejected(&'static str),
}

/// Who is told what became of a message, once.
type Judge = Box<dyn FnOnce(Judgement) + Send + Sync>;

/// The judgement of all that travelled together, given when the last receipt of it is gone.
struct Judged {
    accepted: AtomicBool,
    rejected: OnceLock<&'static str>,
    /// Taken out when the judgement is given.
    judge: Option<Judge>,
}

impl GossipReceipt {
    pub(super) fn new(
        (id, source, share): (MessageId, PeerId, OwnedSemaphorePermit),
        verdicts: mpsc::Sender<Verdict>,
    ) -> Self {
        Self::told_to(move |judgement| {
            let (acceptance, reason) = match judgement {
                Judgement::Accepted => (MessageAcceptance::Accept, ""),
                Judgement::Ignored => (MessageAcceptance::Ignore, ""),
                Judgement::Rejected(reason) => (MessageAcceptance::Reject, reason),
            };
            // Every verdict holds a share of the peer's budget, and the channel has room for all
            // shares: this fails only when the network has stopped.
            let _ = verdicts.try_send(Verdict { id, source, acceptance, reason, _share: share });
        })
    }

    /// The receipt of a message of another network than this one: a simulated one's.
    pub fn told_to(judge: impl FnOnce(Judgement) + Send + Sync + 'static) -> Self {
        let (accepted, rejected) = (AtomicBool::new(false), OnceLock::new());
        Self(Arc::new(Judged { accepted, rejected, judge: Some(Box::new(judge)) }))
    }

    /// One for another message that travelled with it.
    pub fn another(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// Valid, and new to this node: pass it on.
    pub fn accept(self) {
        self.0.accepted.store(true, Ordering::Release);
    }

    /// Neither passed on nor held against anyone: known already, too old, or nothing that can be
    /// judged now.
    pub fn ignore(self) {}

    /// Wrong in a way that an honest peer would have noticed before passing it on. Counted as a
    /// fault of the peer that did.
    pub fn reject(self, reason: &'static str) {
        // The first reason is as good as the others.
        let _ = self.0.rejected.set(reason);
    }
}

impl Drop for Judged {
    fn drop(&mut self) {
        let judgement = match (self.rejected.get(), *self.accepted.get_mut()) {
            (Some(reason), _) => Judgement::Rejected(reason),
            (None, true) => Judgement::Accepted,
            (None, false) => Judgement::Ignored,
        };
        if let Some(judge) = self.judge.take() {
            judge(judgement);
        }
    }
}

impl fmt::Debug for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judged").finish_non_exhaustive()
    }
}

/// An answer on its way to the network.
pub(super) struct Answer {
    pub(super) id: InboundRequestId,
    pub(super) channel: ResponseChannel<v1::SyncResponse>,
    pub(super) response: v1::SyncResponse,
    /// The request's place among those in work for the peer.
    pub(super) place: OwnedSemaphorePermit,
}

/// Where the answer to a request goes. Dropped without one, the peer sees that it is refused.
#[derive(Debug)]
pub struct Reply {
    pub(super) id: InboundRequestId,
    pub(super) channel: ResponseChannel<v1::SyncResponse>,
    pub(super) place: OwnedSemaphorePermit,
    pub(super) answers: mpsc::Sender<Answer>,
}

impl Reply {
    /// Answers. Never waits.
    pub fn send(self, response: v1::SyncResponse) {
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
