//! Gossip: the two topics, what a message is addressed by, and how transactions travel together.
//!
//! A message's id is the hash of its topic and bytes, so that the same message coming over several
//! ways is one. Consensus sends a message again when the first may have been lost; such a repeat
//! must pass although its content is the same. It carries one more protobuf field ([`REPEAT_FIELD`],
//! unknown to the message's type and so ignored by the reader), which gives it an id of its own.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::{Buf, Bytes};
use customhouse_ledger::hash::Hash;
use customhouse_proto::v1;
use libp2p::gossipsub::{self, IdentTopic, TopicHash};
use prost::{
    Message,
    encoding::{self, WireType},
};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::config::Limits;

/// Field number that no message of a topic uses, see the module documentation.
const REPEAT_FIELD: u32 = 15;

/// Own and foreign messages remembered, to tell a repeat from a message that is already on its way.
const RECENT_MAX: usize = 8192;

/// A message received this recently is on its way to everybody: there is no need to publish it too.
const JUST_RECEIVED: Duration = Duration::from_secs(1);

/// The two topics of a chain.
#[derive(Clone, Debug)]
pub(super) struct Topics {
    pub(super) consensus: TopicHash,
    pub(super) transactions: TopicHash,
}

impl Topics {
    pub(super) fn new(chain_id: &Hash) -> Self {
        Self {
            consensus: Self::topic(chain_id, "consensus").hash(),
            transactions: Self::topic(chain_id, "transactions").hash(),
        }
    }

    /// Both, to subscribe to.
    pub(super) fn of(chain_id: &Hash) -> [IdentTopic; 2] {
        [Self::topic(chain_id, "consensus"), Self::topic(chain_id, "transactions")]
    }

    fn topic(chain_id: &Hash, name: &str) -> IdentTopic {
        IdentTopic::new(format!("{chain_id}/{name}"))
    }
}

/// The content address of a message.
pub(super) fn message_id(topic: &TopicHash, data: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    // A topic has no NUL, so that no topic and data read as another pair.
    hasher.update(topic.as_str().as_bytes());
    hasher.update([0]);
    hasher.update(data);
    hasher.finalize().into()
}

/// Gossipsub's settings for a network of `peers` other nodes.
pub(super) fn gossip_config(
    limits: &Limits,
    peers: usize,
) -> Result<gossipsub::Config, gossipsub::ConfigBuilderError> {
    // Small networks are a full mesh. A larger one forwards to eight; a node's own messages go to
    // every peer it is connected to in any case (flood publishing).
    let mesh = peers.clamp(1, 8);
    gossipsub::ConfigBuilder::default()
        .validate_messages()
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        .message_id_fn(|message| {
            gossipsub::MessageId::new(&message_id(&message.topic, &message.data))
        })
        .flood_publish(true)
        .mesh_n_low(mesh)
        .mesh_n(mesh)
        .mesh_n_high(mesh.max(peers).max(12))
        .mesh_outbound_min(0)
        .duplicate_cache_time(limits.duplicate_window)
        // Messages are kept for six heartbeats to be judged and forwarded: three seconds.
        .heartbeat_interval(Duration::from_millis(500))
        .heartbeat_initial_delay(Duration::from_millis(100))
        .history_length(6)
        .history_gossip(3)
        // Twice the limit, so that what is somewhat too large is seen, counted and held against
        // its sender; what is larger still ends the stream.
        .max_transmit_size(2 * limits.gossip_bytes_max)
        .connection_handler_queue_len(limits.gossip_queue_max)
        .build()
}

/// What a consensus message or batch is encoded to when it is sent again: see [`REPEAT_FIELD`].
pub(super) fn as_repeat(mut data: Vec<u8>) -> Vec<u8> {
    // The time, so that a restarted node does not use a number again.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let number = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
    encoding::uint64::encode(REPEAT_FIELD, &number, &mut data);
    data
}

/// Decodes a batch of at most `max` transactions, copying each, so that one that is kept for long
/// does not pin the batch.
pub(super) fn decode_batch(data: &[u8], max: usize) -> Option<Vec<Bytes>> {
    if entries(data)? > max {
        return None;
    }
    Some(v1::TransactionBatch::decode(data).ok()?.transactions)
}

/// Counts the fields of a message without decoding it: two bytes of input can make a 32-byte
/// `Bytes`, so that the count is checked first.
fn entries(mut data: &[u8]) -> Option<usize> {
    let mut count = 0;
    while data.has_remaining() {
        let (_, wire_type) = encoding::decode_key(&mut data).ok()?;
        let length = match wire_type {
            WireType::Varint => encoding::decode_varint(&mut data).map(|_| 0).ok()?,
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => encoding::decode_varint(&mut data).ok()?,
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        data = data.get(usize::try_from(length).ok()?..)?;
        count += 1;
    }
    Some(count)
}

/// How an own message is to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Publication {
    /// Not seen before.
    First,
    /// This node has published it already.
    Repeat,
    /// It came from a peer a moment ago, and so goes to everybody without this node's help.
    OnItsWay,
}

/// The messages of the last while, by content address. Bounded by count and by the duplicate window.
#[derive(Debug)]
pub(super) struct Recent {
    window: Duration,
    /// When it was last seen, and whether this node has published it (or would have).
    seen: HashMap<[u8; 32], (Instant, bool)>,
    order: VecDeque<([u8; 32], Instant)>,
}

impl Recent {
    pub(super) fn new(window: Duration) -> Self {
        Self { window, seen: HashMap::new(), order: VecDeque::new() }
    }

    /// Notes a message that came from a peer.
    pub(super) fn received(&mut self, id: [u8; 32], now: Instant) {
        if !self.seen.contains_key(&id) {
            self.insert(id, now, false);
        }
    }

    /// Notes that this node publishes a message, and says how.
    pub(super) fn publish(&mut self, id: [u8; 32], now: Instant) -> Publication {
        let publication = match self.seen.get(&id) {
            Some((_, true)) => Publication::Repeat,
            Some((at, false)) if now.duration_since(*at) < JUST_RECEIVED => Publication::OnItsWay,
            // Gossip still holds the content for a duplicate.
            Some((_, false)) => Publication::Repeat,
            None => Publication::First,
        };
        self.insert(id, now, true);
        publication
    }

    fn insert(&mut self, id: [u8; 32], now: Instant, own: bool) {
        self.seen.insert(id, (now, own));
        self.order.push_back((id, now));
        while let Some(&(oldest, at)) = self.order.front() {
            if self.order.len() <= RECENT_MAX && now.duration_since(at) < self.window {
                break;
            }
            self.order.pop_front();
            // A later note of the same message stands further back in the queue.
            if self.seen.get(&oldest).is_some_and(|(last, _)| *last == at) {
                self.seen.remove(&oldest);
            }
        }
    }
}

/// Gathers transactions into batches: the first after a pause goes at once, those that come within
/// the pace of it go together.
#[derive(Debug)]
pub(super) struct Batcher {
    pace: Duration,
    bytes_max: usize,
    count_max: usize,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    last_sent: Option<Instant>,
}

impl Batcher {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            pace: limits.batch_pace,
            bytes_max: limits.batch_bytes,
            count_max: limits.batch_transactions_max,
            waiting: Vec::new(),
            waiting_bytes: 0,
            last_sent: None,
        }
    }

    /// Adds a transaction; gives a batch where it would not fit with those that wait.
    pub(super) fn add(&mut self, transaction: Bytes, now: Instant) -> Option<v1::TransactionBatch> {
        let full = self.waiting_bytes + transaction.len() > self.bytes_max
            || self.waiting.len() >= self.count_max;
        let batch = (full && !self.waiting.is_empty()).then(|| self.take(now));
        self.waiting_bytes += transaction.len();
        self.waiting.push(transaction);
        batch
    }

    /// When the waiting transactions are due; none wait: `None`.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.waiting.is_empty() {
            return None;
        }
        // Full, or never sent: long due.
        let full = self.waiting_bytes >= self.bytes_max;
        Some(self.last_sent.filter(|_| !full).map_or_else(Instant::now, |at| at + self.pace))
    }

    /// The batch, where it is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<v1::TransactionBatch> {
        self.due().is_some_and(|due| due <= now || self.last_sent.is_none()).then(|| self.take(now))
    }

    fn take(&mut self, now: Instant) -> v1::TransactionBatch {
        self.last_sent = Some(now);
        self.waiting_bytes = 0;
        v1::TransactionBatch { transactions: std::mem::take(&mut self.waiting) }
    }
}
