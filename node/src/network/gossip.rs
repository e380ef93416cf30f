//! Gossip: the two topics, what a message is addressed by, and how messages travel together.
//!
//! A message's id is the hash of its topic and bytes, so that the same message coming over several
//! ways is one. Consensus sends a message again when the first may have been lost; such a repeat
//! must pass although its content is the same. It carries one more protobuf field ([`REPEAT_FIELD`],
//! unknown to the message's type and so ignored by the reader), which gives it an id of its own.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use customhouse_ledger::hash::Hash;
use customhouse_proto::v1;
use libp2p::gossipsub::{self, IdentTopic, TopicHash};
use prost::{Message, encoding};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{config::Limits, wire};

/// Field number that no message of a topic uses, see the module documentation.
const REPEAT_FIELD: u32 = 15;

/// Most bytes of that field: its number and a varint.
const REPEAT_BYTES_MAX: usize = 11;

/// Most consensus messages that travel together: a resend has some 32 certificates, and votes and
/// proposals of a few views.
pub const CONSENSUS_BATCH_MAX: usize = 64;

/// Most bytes of the header and signature of a transaction that is told of.
const ANNOUNCED_BYTES_MAX: usize = 1024;

/// Messages remembered of each kind, own ones and those of others, to tell a repeat from a message that is
/// already on its way.
const RECENT_MAX: usize = 8192;

/// A message received this recently is on its way to everybody: there is no need to publish it too.
const JUST_RECEIVED: Duration = Duration::from_secs(1);

/// A message accepted this recently is not looked at again. Consensus waits longer before it sends again.
pub(super) const JUST_ACCEPTED: Duration = Duration::from_millis(500);

/// Most message ids in one control message: gossip's offers of what a heartbeat or three have seen.
const CONTROL_IDS_MAX: usize = 1024;

/// Largest sum of control messages in one frame that is read, bytes. It must hold all the ids that
/// an honest peer may send, each with its tag and length, and the topic's name: gossipsub ends the
/// stream at a larger one, and its own defaults (5000 ids sent, 16 KiB read) contradict each other.
const CONTROL_BYTES_MAX: usize = CONTROL_IDS_MAX * 40 + 1024;

/// Fewest peers to whom a consensus message is passed on, where there are that many.
const CONSENSUS_MESH_MIN: usize = 4;

/// How often gossipsub mends its mesh and forgets the oldest messages.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(500);

/// For how many heartbeats a message is kept to be judged and forwarded: three seconds.
const KEPT_HEARTBEATS: u32 = 6;

/// A message that is accepted this soon is passed on; later, gossip may have it no more.
pub const PASSED_ON_WITHIN: Duration = HEARTBEAT.saturating_mul(KEPT_HEARTBEATS - 2);

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

/// To how many of its peers a node passes on what came from another one.
///
/// A node's own messages go to every peer it is connected to (flood publishing); the mesh is for those
/// that a missing connection or a dishonest publisher left out, and every message that it carries twice
/// costs all nodes processor time. A third of the peers is enough to reach them: where a mesh peer fails
/// too, gossipsub offers what was missed at the next heartbeat. A height takes less time than that, and
/// a validator that some others have cut off leads as late as it hears: consensus messages, which are
/// small, are passed on to at least [`CONSENSUS_MESH_MIN`].
pub fn mesh(topic_is_consensus: bool, peers: usize) -> usize {
    let third = peers.div_ceil(3).clamp(1, 8);
    if topic_is_consensus { third.max(peers.min(CONSENSUS_MESH_MIN)) } else { third }
}

/// Gossipsub's settings for a network of `peers` other nodes.
pub(super) fn gossip_config(
    limits: &Limits,
    topics: &Topics,
    peers: usize,
) -> Result<gossipsub::Config, gossipsub::ConfigBuilderError> {
    let (consensus, others) = (mesh(true, peers), mesh(false, peers));
    let most = consensus.max(peers).max(12);
    gossipsub::ConfigBuilder::default()
        .validate_messages()
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        .message_id_fn(|message| {
            gossipsub::MessageId::new(&message_id(&message.topic, &message.data))
        })
        .flood_publish(true)
        .mesh_n_low(others)
        .mesh_n(others)
        .mesh_n_high(most)
        .mesh_outbound_min(0)
        .mesh_n_low_for_topic(consensus, topics.consensus.clone())
        .mesh_n_for_topic(consensus, topics.consensus.clone())
        .mesh_n_high_for_topic(most, topics.consensus.clone())
        .mesh_outbound_min_for_topic(0, topics.consensus.clone())
        .duplicate_cache_time(limits.duplicate_window)
        .heartbeat_interval(HEARTBEAT)
        .heartbeat_initial_delay(Duration::from_millis(100))
        .history_length(KEPT_HEARTBEATS as usize)
        .history_gossip(3)
        // Twice the limit, so that what is somewhat too large is seen, counted and held against
        // its sender; what is larger still ends the stream.
        .max_transmit_size(2 * limits.gossip_bytes_max)
        .max_control_messages_sent(CONTROL_IDS_MAX)
        .max_control_message_size(CONTROL_BYTES_MAX)
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

/// Decodes a batch of at most [`CONSENSUS_BATCH_MAX`] consensus messages.
pub(super) fn decode_messages(data: &[u8]) -> Option<Vec<v1::ConsensusMessage>> {
    let batch =
        wire::is_proportionate(data, 3).then(|| v1::ConsensusBatch::decode(data).ok())??;
    (batch.messages.len() <= CONSENSUS_BATCH_MAX).then_some(batch.messages)
}

/// Whether a batch has bytes beside these messages, which are all that it holds of known kinds:
/// fields that are not known, or more than the mark of a repeat.
pub(super) fn has_more_than(data: &[u8], messages: &[v1::ConsensusMessage]) -> bool {
    let length = |message: &v1::ConsensusMessage| {
        let length = message.encoded_len();
        1 + encoding::encoded_len_varint(length as u64) + length
    };
    is_longer_than(data, messages.iter().map(length).sum())
}

/// Whether an encoding has more than this length and the mark of a repeat.
fn is_longer_than(data: &[u8], length: usize) -> bool {
    let mark = data.len().checked_sub(length);
    mark.is_none_or(|mark| mark > REPEAT_BYTES_MAX)
}

/// What a batch brings.
pub(super) enum Batch {
    Transactions(Vec<Bytes>),
    Announced(v1::AnnouncedTransaction),
}

/// Decodes a batch of transactions, copying each, so that one that is kept for long does not pin the batch;
/// or of one that is only told of, because it is too large to be in a batch.
///
/// A batch is passed on in the bytes in which it came: it has nothing that is looked at by nobody.
pub(super) fn decode_batch(data: &[u8], limits: &Limits) -> Option<Batch> {
    let batch =
        wire::is_proportionate(data, 0).then(|| v1::TransactionBatch::decode(data).ok())??;
    if is_longer_than(data, batch.encoded_len()) {
        return None;
    }
    let count = batch.transactions.len();
    match batch.announced {
        None => (1..=limits.batch_transactions_max)
            .contains(&count)
            .then_some(Batch::Transactions(batch.transactions)),
        Some(announced) => {
            let is_short =
                announced.header.len() + announced.signature.len() <= ANNOUNCED_BYTES_MAX;
            let is_large = announced.bytes as usize > limits.gossiped_transaction_bytes_max;
            (count == 0 && is_short && is_large).then_some(Batch::Announced(announced))
        }
    }
}

/// A batch that tells of a transaction.
pub(super) fn batch_announcing(announced: v1::AnnouncedTransaction) -> v1::TransactionBatch {
    v1::TransactionBatch { transactions: Vec::new(), announced: Some(announced) }
}

/// How an own message is to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publication {
    /// Not seen before.
    First,
    /// This node has published it already.
    Repeat,
    /// It came from a peer a moment ago, and so goes to everybody without this node's help.
    OnItsWay,
}

/// The messages of the last while, by content address: what this node published, what came, and what of
/// that it accepted. Each is bounded on its own, by count and by the duplicate window, so that nothing
/// that peers send makes this node forget what it has published.
#[derive(Debug)]
pub struct Recent {
    published: Seen,
    received: Seen,
    accepted: Seen,
}

impl Recent {
    /// Nothing yet; what is in it is forgotten after this time.
    pub fn new(window: Duration) -> Self {
        let seen = || Seen { window, last: HashMap::new(), order: VecDeque::new() };
        Self { published: seen(), received: seen(), accepted: seen() }
    }

    /// Notes a message that came from a peer.
    pub fn received(&mut self, id: [u8; 32], now: Instant) {
        if self.received.last.contains_key(&id) {
            return;
        }
        self.received.note(id, now);
    }

    /// Notes what came of messages that travelled together: a bit for each that was accepted, from the lowest
    /// on. What was not accepted goes no further, so this node is not sending it to anybody: a message that
    /// came before its time, and that this node takes up and publishes later, is sent then.
    pub fn judged(&mut self, ids: impl IntoIterator<Item = [u8; 32]>, accepted: u64, now: Instant) {
        let bits = (0..u64::BITS).map(|index| accepted >> index & 1 == 1);
        for (id, is_accepted) in ids.into_iter().zip(bits) {
            if is_accepted {
                self.accepted.note(id, now);
            } else if !self.accepted.last.contains_key(&id) {
                self.received.last.remove(&id);
            }
        }
    }

    /// Whether a message was accepted a moment ago: coming again, in another batch or under another mark,
    /// it has nothing new for this node and is passed on by nobody. Whoever sends it again because the
    /// first may have been lost waits longer.
    pub fn was_just_accepted(&self, id: &[u8; 32], now: Instant) -> bool {
        self.accepted.was_within(id, JUST_ACCEPTED, now)
    }

    /// Notes that this node publishes a message, and says how.
    pub fn publish(&mut self, id: [u8; 32], now: Instant) -> Publication {
        let publication = if self.published.last.contains_key(&id) {
            Publication::Repeat
        } else if self.received.was_within(&id, JUST_RECEIVED, now) {
            Publication::OnItsWay
        } else if self.received.last.contains_key(&id) {
            // Gossip still holds the content for a duplicate.
            Publication::Repeat
        } else {
            Publication::First
        };
        self.published.note(id, now);
        publication
    }
}

/// When each was seen last.
#[derive(Debug)]
struct Seen {
    window: Duration,
    last: HashMap<[u8; 32], Instant>,
    order: VecDeque<([u8; 32], Instant)>,
}

impl Seen {
    fn was_within(&self, id: &[u8; 32], time: Duration, now: Instant) -> bool {
        self.last.get(id).is_some_and(|at| now.duration_since(*at) < time)
    }

    fn note(&mut self, id: [u8; 32], now: Instant) {
        self.last.insert(id, now);
        self.order.push_back((id, now));
        while let Some(&(oldest, at)) = self.order.front() {
            if self.order.len() <= RECENT_MAX && now.duration_since(at) < self.window {
                break;
            }
            self.order.pop_front();
            // A later note of the same message stands further back in the queue.
            if self.last.get(&oldest).is_some_and(|last| *last == at) {
                self.last.remove(&oldest);
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
    /// When the first of those came.
    waiting_since: Instant,
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
            waiting_since: Instant::now(),
            last_sent: None,
        }
    }

    /// Adds a transaction; gives a batch where it would not fit with those that wait.
    pub(super) fn add(&mut self, transaction: Bytes, now: Instant) -> Option<v1::TransactionBatch> {
        let full = self.waiting_bytes + transaction.len() > self.bytes_max
            || self.waiting.len() >= self.count_max;
        let batch = (full && !self.waiting.is_empty()).then(|| self.take(now));
        if self.waiting.is_empty() {
            self.waiting_since = now;
        }
        self.waiting_bytes += transaction.len();
        self.waiting.push(transaction);
        batch
    }

    /// When the waiting transactions are due; none wait: `None`.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.waiting.is_empty() {
            return None;
        }
        let full = self.waiting_bytes >= self.bytes_max || self.waiting.len() >= self.count_max;
        match self.last_sent {
            Some(at) if !full => Some(self.waiting_since.max(at + self.pace)),
            _ => Some(self.waiting_since),
        }
    }

    /// The batch, where it is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<v1::TransactionBatch> {
        self.due().is_some_and(|due| due <= now).then(|| self.take(now))
    }

    fn take(&mut self, now: Instant) -> v1::TransactionBatch {
        self.last_sent = Some(now);
        self.waiting_bytes = 0;
        v1::TransactionBatch { transactions: std::mem::take(&mut self.waiting), announced: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batcher() -> Batcher {
        Batcher::new(&Limits {
            batch_bytes: 1000,
            batch_transactions_max: 5,
            batch_pace: Duration::from_millis(2),
            ..Limits::default()
        })
    }

    fn transaction(bytes: usize) -> Bytes {
        vec![1; bytes].into()
    }

    fn sizes(batch: Option<v1::TransactionBatch>) -> Vec<usize> {
        batch.map(|batch| batch.transactions.iter().map(Bytes::len).collect()).unwrap_or_default()
    }

    #[test]
    fn the_first_transaction_after_a_pause_goes_at_once_and_the_next_ones_together() {
        let mut batcher = batcher();
        let start = Instant::now();
        assert!(batcher.add(transaction(10), start).is_none());
        assert_eq!(sizes(batcher.take_due(start)), [10]);
        assert_eq!(batcher.due(), None);
        let soon = start + Duration::from_millis(1);
        assert!(batcher.add(transaction(20), soon).is_none());
        assert!(batcher.add(transaction(30), soon).is_none());
        assert!(batcher.take_due(soon).is_none());
        assert_eq!(batcher.due(), Some(start + Duration::from_millis(2)));
        assert_eq!(sizes(batcher.take_due(start + Duration::from_millis(2))), [20, 30]);
        let later = start + Duration::from_secs(1);
        assert!(batcher.add(transaction(40), later).is_none());
        assert_eq!(sizes(batcher.take_due(later)), [40]);
    }

    #[test]
    fn a_batch_that_is_full_by_bytes_or_count_does_not_wait() {
        let mut batcher = batcher();
        let now = Instant::now();
        batcher.add(transaction(1), now);
        assert_eq!(sizes(batcher.take_due(now)), [1]);
        batcher.add(transaction(600), now);
        assert_eq!(sizes(batcher.add(transaction(600), now)), [600]);
        batcher.add(transaction(400), now);
        assert_eq!(sizes(batcher.take_due(now)), [600, 400]);
        for _ in 0..5 {
            assert!(batcher.add(transaction(1), now).is_none());
        }
        assert_eq!(sizes(batcher.take_due(now)), [1; 5]);
        // One that alone is above the size still goes, by itself.
        batcher.add(transaction(5000), now);
        assert_eq!(sizes(batcher.take_due(now)), [5000]);
    }

    #[test]
    fn what_is_remembered_of_messages_is_bounded_by_time_and_number() {
        let window = Duration::from_secs(30);
        let mut recent = Recent::new(window);
        let start = Instant::now();
        assert_eq!(recent.publish([1; 32], start), Publication::First);
        assert_eq!(recent.publish([1; 32], start), Publication::Repeat);
        recent.received([2; 32], start);
        assert_eq!(recent.publish([2; 32], start), Publication::OnItsWay);
        assert_eq!(recent.publish([2; 32], start), Publication::Repeat);
        recent.received([3; 32], start);
        assert_eq!(recent.publish([3; 32], start + JUST_RECEIVED), Publication::Repeat);
        for number in 0..3 * RECENT_MAX as u64 {
            let mut id = [9; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            recent.received(id, start);
        }
        let seen = &recent.received;
        assert!(seen.last.len() <= RECENT_MAX && seen.order.len() <= RECENT_MAX);
        let published = recent.publish([1; 32], start);
        assert_eq!(published, Publication::Repeat, "whatever has come since");
        recent.received([4; 32], start + window);
        assert_eq!((recent.received.last.len(), recent.received.order.len()), (1, 1));
    }

    #[test]
    fn what_came_and_was_not_accepted_is_not_taken_to_be_on_its_way() {
        let (mut recent, now) = (Recent::new(Duration::from_secs(30)), Instant::now());
        let ids = [[1; 32], [2; 32], [3; 32]];
        ids.iter().for_each(|id| recent.received(*id, now));
        recent.judged(ids, 0b010, now);
        // Coming again, it is of no more use than before.
        recent.judged([ids[1]], 0, now);
        let published = ids.map(|id| recent.publish(id, now));
        use Publication::{First, OnItsWay};
        assert_eq!(published, [First, OnItsWay, First]);
        let early = [4; 32];
        recent.received(early, now);
        recent.judged([early], 0, now);
        recent.received(early, now);
        assert_eq!(recent.publish(early, now), OnItsWay, "it is being judged");
    }

    #[test]
    fn a_repeat_has_another_address_and_the_same_meaning() {
        let topic = Topics::new(&Hash::ZERO).consensus;
        let vote = v1::Vote { height: 5, ..v1::Vote::default() };
        let message =
            v1::ConsensusMessage { message: Some(v1::consensus_message::Message::Vote(vote)) };
        let data = v1::ConsensusBatch { messages: vec![message.clone()] }.encode_to_vec();
        let repeat = as_repeat(data.clone());
        assert_ne!(message_id(&topic, &data), message_id(&topic, &repeat));
        assert_eq!(decode_messages(&repeat), Some(vec![message]));
        let batch = v1::TransactionBatch { transactions: vec![transaction(3)], announced: None };
        let limits = Limits::default();
        let repeat = as_repeat(batch.encode_to_vec());
        let read = decode_batch(&repeat, &limits);
        let Some(Batch::Transactions(found)) = read else { panic!("a batch") };
        assert_eq!(found, batch.transactions);
        let announced = told_of(2 << 20);
        let repeat = as_repeat(batch_announcing(announced.clone()).encode_to_vec());
        let read = decode_batch(&repeat, &limits);
        let Some(Batch::Announced(found)) = read else { panic!("told of") };
        assert_eq!(found, announced);
        let two = v1::TransactionBatch { transactions: vec![transaction(3); 2], announced: None };
        let long = v1::AnnouncedTransaction { header: vec![1; 2000], ..announced.clone() };
        let both = v1::TransactionBatch { announced: Some(announced), ..batch };
        for wrong in [both, two, batch_announcing(long), v1::TransactionBatch::default()] {
            assert!(read_of(&wrong).is_none());
        }
    }

    #[test]
    fn consensus_is_passed_on_to_all_of_few_peers_and_nothing_to_all_of_many() {
        let peers = [1, 3, 6, 12, 29];
        assert_eq!(peers.map(|peers| mesh(false, peers)), [1, 1, 2, 4, 8]);
        assert_eq!(peers.map(|peers| mesh(true, peers)), [1, 3, 4, 4, 8]);
        for peers in 0..40 {
            gossip_config(&Limits::default(), &Topics::new(&Hash::ZERO), peers).expect("settings");
        }
    }

    #[test]
    fn as_many_ids_as_may_be_sent_are_read_too() {
        let settings =
            gossip_config(&Limits::default(), &Topics::new(&Hash::ZERO), 30).expect("settings");
        // An offer (IHAVE): the topic and the ids, in a control message, in a frame.
        let topic = Topics::new(&Hash::ZERO).transactions;
        let ids: Vec<Vec<u8>> = vec![vec![1; 32]; settings.max_control_messages_sent()];
        let mut offer = Vec::new();
        encoding::string::encode(1, &topic.as_str().to_owned(), &mut offer);
        encoding::bytes::encode_repeated(2, &ids, &mut offer);
        let (mut control, mut frame) = (Vec::new(), Vec::new());
        encoding::bytes::encode(1, &offer, &mut control);
        encoding::bytes::encode(3, &control, &mut frame);
        assert!(frame.len() <= settings.max_control_message_size(), "{} bytes", frame.len());
    }

    /// What a batch is read as, where it may have one transaction.
    fn read_of(batch: &v1::TransactionBatch) -> Option<Batch> {
        let limits = Limits { batch_transactions_max: 1, ..Limits::default() };
        decode_batch(&batch.encode_to_vec(), &limits)
    }

    fn told_of(bytes: usize) -> v1::AnnouncedTransaction {
        let bytes = u32::try_from(bytes).expect("short");
        v1::AnnouncedTransaction { header: vec![1; 124], signature: vec![2; 64], bytes }
    }

    #[test]
    fn what_would_be_gossiped_whole_is_not_told_of() {
        let max = Limits::default().gossiped_transaction_bytes_max;
        for (bytes, is_read) in [(0, false), (max, false), (max + 1, true)] {
            let read = read_of(&batch_announcing(told_of(bytes)));
            assert_eq!(read.is_some(), is_read, "{bytes} bytes");
        }
    }

    #[test]
    fn a_batch_of_transactions_has_nothing_beside_them() {
        let batch = v1::TransactionBatch { transactions: vec![transaction(500)], announced: None };
        let told_of = told_of(2 << 20);
        let limits = Limits::default();
        for batch in [batch, batch_announcing(told_of.clone())] {
            assert!(read_of(&batch).is_some());
            let mut data = batch.encode_to_vec();
            encoding::bytes::encode(14, &vec![7_u8; 64], &mut data);
            assert!(decode_batch(&data, &limits).is_none());
        }
        // The same inside of what is told of.
        let mut inside = told_of.encode_to_vec();
        encoding::bytes::encode(14, &vec![7_u8; 64], &mut inside);
        let mut data = Vec::new();
        encoding::bytes::encode(2, &inside, &mut data);
        assert_eq!(v1::TransactionBatch::decode(&data[..]), Ok(batch_announcing(told_of)));
        assert!(decode_batch(&data, &limits).is_none());
    }
}
