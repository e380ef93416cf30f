//! Gossip as nodes pass it on: each message once, in the batch that it came in, and only what the
//! node's own judgement accepted. What it rejects is a fault of whoever handed it over; after as many
//! as the real network allows, that peer is cut off. What counts as a repeat, and when a peer is cut
//! off, is the real network's code.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hasher as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use customhouse_consensus::Message;
use customhouse_ledger::keys::PublicKey;
use customhouse_node::{
    driver::DriverInput,
    network::{
        self, CONSENSUS_BATCH_MAX, Faults, Judgement, Limits, PendingJudgement, Publication, Recent,
    },
};
use customhouse_proto::v1;
use prost::{Message as _, encoding};
use rand::seq::IndexedRandom as _;
use tokio::time::Instant;

use super::{endpoint::endpoints_of, event::Event, liar::encode, run::Simulation};

/// For this long a message of the same bytes is the same one, as in the real network.
const DUPLICATE: Duration = Duration::from_secs(30);
/// Gossip keeps a message this long to be judged; later it is no longer passed on.
const KEPT_MS: u64 = 3_000;
/// Messages remembered before those that are too old are looked for.
const SEEN_MAX: usize = 8_192;
/// The field that tells a repeat from its first: no message of a topic uses it.
const REPEAT_FIELD: u32 = 15;

/// What gossip is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Topic {
    Consensus,
    Transactions,
}

/// What a process knows of the gossip that it has seen. It ends with the process.
pub(super) struct Gossip {
    /// When each was first seen.
    seen: BTreeMap<u64, u64>,
    recent: Recent,
    /// Judged, and to be passed on or held against somebody.
    judged: Arc<Mutex<Vec<Judged>>>,
    faults: BTreeMap<PublicKey, Faults>,
    repeats: u64,
    /// Planted: the heights for which something was held that does not verify.
    pub(super) held_wrong: Vec<u64>,
}

struct Judged {
    from: usize,
    topic: Topic,
    bytes: Bytes,
    came: u64,
    judgement: Judgement,
}

impl Gossip {
    pub(super) fn new() -> Self {
        Self {
            seen: BTreeMap::new(),
            recent: Recent::new(DUPLICATE),
            judged: Arc::default(),
            faults: BTreeMap::new(),
            repeats: 0,
            held_wrong: Vec::new(),
        }
    }

    /// Whether a peer is cut off for its faults.
    pub(super) fn has_cut_off(&self, peer: &PublicKey) -> bool {
        self.faults.get(peer).is_some_and(|faults| faults.cut_off_until.is_some())
    }

    /// Remembers a message. False where it was seen lately.
    fn is_new(&mut self, topic: Topic, bytes: &[u8], now: u64) -> bool {
        let window = DUPLICATE.as_millis() as u64;
        if self.seen.len() > SEEN_MAX {
            self.seen.retain(|_, at| *at + window > now);
        }
        let fresh = |at: &u64| *at + window > now;
        let id = short_id((topic, bytes));
        if self.seen.get(&id).is_some_and(fresh) {
            return false;
        }
        self.seen.insert(id, now);
        true
    }

    fn judgement(&self, from: usize, topic: Topic, bytes: &Bytes, came: u64) -> PendingJudgement {
        let (judged, bytes) = (Arc::clone(&self.judged), bytes.clone());
        let count = match topic {
            Topic::Consensus => decode(&bytes).len(),
            Topic::Transactions => 1,
        };
        PendingJudgement::told_to(count, move |judgement| {
            let verdict = Judged { from, topic, bytes, came, judgement };
            judged.lock().unwrap_or_else(PoisonError::into_inner).push(verdict);
        })
    }

    /// Notes what came of a batch of consensus messages.
    fn note(&mut self, batch: &[u8], judgement: Judgement, now: Instant) {
        let ids = decode(batch);
        self.recent.judged(ids.iter().map(long_id), judgement.accepted(), now);
    }

    fn take_judged(&self) -> Vec<Judged> {
        std::mem::take(&mut *self.judged.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Marks a message that was sent before, so that it is not taken for the first.
    fn as_repeat(&mut self, mut bytes: Vec<u8>, now: u64) -> Vec<u8> {
        self.repeats += 1;
        encoding::uint64::encode(REPEAT_FIELD, &(now * 1_000 + self.repeats), &mut bytes);
        bytes
    }
}

/// The address of a message's content; a short one is enough among those of one run.
fn short_id(content: impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

/// The messages of a batch; none where it is not a batch.
fn decode(bytes: &[u8]) -> Vec<v1::ConsensusMessage> {
    v1::ConsensusBatch::decode(bytes).map(|batch| batch.messages).unwrap_or_default()
}

fn long_id(message: &v1::ConsensusMessage) -> [u8; 32] {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&short_id(message.encode_to_vec()).to_be_bytes());
    id
}

impl Simulation {
    /// The moment on the clock by which the real network counts. Only differences are looked at.
    pub(super) fn instant(&self) -> Instant {
        self.began + Duration::from_millis(self.now)
    }

    /// Gossips an endpoint's own consensus messages to all its peers, together. What was sent before
    /// is marked as a repeat, and pushed to everybody besides; what came a moment ago is on its way.
    pub(super) fn publish(&mut self, index: usize, messages: &[Message]) {
        let now = self.instant();
        let (mut together, mut again) = (Vec::new(), Vec::new());
        let Some(process) = &mut self.endpoints[index].process else { return };
        for message in messages {
            match process.gossip.recent.publish(long_id(&message.to_proto()), now) {
                Publication::First => {}
                Publication::Repeat => again.push(message.clone()),
                Publication::OnItsWay => continue,
            }
            together.push(message.clone());
        }
        for batch in together.chunks(CONSENSUS_BATCH_MAX) {
            let mut bytes = encode(batch);
            let Some(process) = &mut self.endpoints[index].process else { return };
            // What came from a peer as it is, and was of no use then, has an address already.
            if !again.is_empty() || !process.gossip.is_new(Topic::Consensus, &bytes, self.now) {
                bytes = process.gossip.as_repeat(bytes, self.now);
            }
            self.gossip(index, Topic::Consensus, bytes.into());
        }
        for message in again {
            for to in 0..self.endpoints.len() {
                self.push(index, to, std::slice::from_ref(&message));
            }
        }
    }

    /// Gossips a transaction to all peers.
    pub(super) fn broadcast_transaction(&mut self, index: usize, encoded: &Bytes) {
        self.publish_transactions(index, vec![encoded.clone()]);
    }

    /// Gossips transactions to all peers, in one batch.
    pub(super) fn publish_transactions(&mut self, index: usize, transactions: Vec<Bytes>) {
        let mut bytes = v1::TransactionBatch { transactions, announced: None }.encode_to_vec();
        if let Some(process) = &mut self.endpoints[index].process {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&short_id(&bytes).to_be_bytes());
            let now = self.began + Duration::from_millis(self.now);
            if process.gossip.recent.publish(id, now) != Publication::First {
                bytes = process.gossip.as_repeat(bytes, self.now);
            }
        }
        self.gossip(index, Topic::Transactions, bytes.into());
    }

    /// A node's own message goes to all its peers at once.
    fn gossip(&mut self, index: usize, topic: Topic, bytes: Bytes) {
        if let Some(process) = &mut self.endpoints[index].process {
            process.gossip.is_new(topic, &bytes, self.now);
        }
        for to in 0..self.endpoints.len() {
            self.send_gossip(index, to, topic, &bytes);
        }
    }

    pub(super) fn send_gossip(&mut self, from: usize, to: usize, topic: Topic, bytes: &Bytes) {
        let bytes = bytes.clone();
        self.send(from, to, move || Event::Gossip { to, from, topic, bytes: bytes.clone() });
    }

    /// Sends messages to one endpoint alone.
    pub(super) fn push(&mut self, from: usize, to: usize, messages: &[Message]) {
        for message in messages {
            let bytes = Bytes::from(encode(std::slice::from_ref(message)));
            self.send(from, to, move || Event::Push { to, from, bytes: bytes.clone() });
        }
    }

    /// A gossip message comes in.
    pub(super) fn gossip_arrives(
        &mut self,
        (to, from): (usize, usize),
        topic: Topic,
        bytes: &Bytes,
    ) -> Result<(), String> {
        self.summary.messages += 1;
        self.overhear((to, from), topic, bytes);
        if !self.are_on_terms(to, from) {
            return Ok(());
        }
        let Some(process) = &mut self.endpoints[to].process else { return Ok(()) };
        if !process.gossip.is_new(topic, bytes, self.now) {
            return Ok(());
        }
        let judgement = process.gossip.judgement(from, topic, bytes, self.now);
        match topic {
            Topic::Consensus => self.judge_messages((to, from), bytes, judgement)?,
            Topic::Transactions => self.judge_transactions(to, bytes, judgement)?,
        }
        self.settle(to)
    }

    /// A message that was sent to this endpoint alone comes in. It is never passed on.
    pub(super) fn push_arrives(
        &mut self,
        (to, from): (usize, usize),
        bytes: &Bytes,
    ) -> Result<(), String> {
        self.summary.messages += 1;
        self.overhear((to, from), Topic::Consensus, bytes);
        if !self.are_on_terms(to, from) {
            return Ok(());
        }
        let Ok(batch) = v1::ConsensusBatch::decode(&bytes[..]) else { return Ok(()) };
        for message in &batch.messages {
            self.judge_message((to, from), message, None)?;
        }
        self.settle(to)
    }

    fn judge_messages(
        &mut self,
        (to, from): (usize, usize),
        bytes: &[u8],
        judgement: PendingJudgement,
    ) -> Result<(), String> {
        let batch = v1::ConsensusBatch::decode(bytes).ok();
        let Some(batch) = batch.filter(|batch| batch.messages.len() <= CONSENSUS_BATCH_MAX) else {
            judgement.reject("undecodable");
            return Ok(());
        };
        let now = self.instant();
        let known = (0..).zip(&batch.messages).filter(|(_, message)| message.message.is_some());
        for (index, message) in known {
            if let Some(process) = &mut self.endpoints[to].process {
                process.gossip.recent.received(long_id(message), now);
            }
            self.judge_message((to, from), message, Some(judgement.another(index)))?;
        }
        Ok(())
    }

    fn judge_message(
        &mut self,
        (to, from): (usize, usize),
        message: &v1::ConsensusMessage,
        judgement: Option<PendingJudgement>,
    ) -> Result<(), String> {
        let peer = self.identities[self.endpoints[from].identity].peer;
        let Ok(message) = Message::from_proto(message) else {
            judgement.into_iter().for_each(|judgement| judgement.reject("malformed"));
            return Ok(());
        };
        if self.endpoints[to].twin && self.is_of_own_key(to, &message) {
            return Ok(());
        }
        let message = self.without_signed_leaves(message);
        let judgement = self.unless_early(to, &message, judgement);
        self.note_early(to, &message);
        let input = DriverInput::Message { from: peer, message, judgement };
        self.drive(to, |driver| driver.take(input))?;
        self.blame_speaker(to, from)
    }

    /// Admits what is new of a batch, as a node does.
    fn judge_transactions(
        &mut self,
        to: usize,
        bytes: &[u8],
        judgement: PendingJudgement,
    ) -> Result<(), String> {
        let batch = v1::TransactionBatch::decode(bytes).ok();
        let Some(batch) = batch.filter(|batch| !batch.transactions.is_empty()) else {
            judgement.reject("undecodable");
            return Ok(());
        };
        let unix_ms = self.endpoints[to].now(self.now).unix_ms;
        let Some(process) = &self.endpoints[to].process else { return Ok(()) };
        let (admitted, goes_on) = process.admit_all(batch.transactions, unix_ms);
        match goes_on {
            Ok(true) => judgement.accept(),
            Ok(false) => judgement.ignore(),
            Err(code) => judgement.reject(code),
        }
        if admitted { self.drive(to, |driver| driver.work()) } else { Ok(()) }
    }

    /// Passes on what was accepted, and holds against its sender what was rejected.
    fn settle(&mut self, at: usize) -> Result<(), String> {
        let now = self.instant();
        let Some(process) = &self.endpoints[at].process else { return Ok(()) };
        for Judged { from, topic, bytes, came, judgement } in process.gossip.take_judged() {
            if let (Topic::Consensus, Some(process)) = (topic, &mut self.endpoints[at].process) {
                process.gossip.note(&bytes, judgement, now);
            }
            match judgement {
                Judgement::Accepted if self.now < came + KEPT_MS => {
                    for to in self.mesh(at, from, topic) {
                        self.summary.passed_on += 1;
                        self.send_gossip(at, to, topic, &bytes);
                    }
                }
                Judgement::InPart(accepted) => {
                    let bits = (0..u64::BITS).map(|index| accepted >> index & 1 == 1);
                    let part = decode(&bytes).into_iter().zip(bits).filter(|(_, bit)| *bit);
                    let messages = part.map(|(message, _)| message).collect();
                    self.summary.passed_on += 1;
                    let bytes = v1::ConsensusBatch { messages }.encode_to_vec();
                    self.gossip(at, topic, bytes.into());
                }
                Judgement::Accepted | Judgement::Ignored => {}
                Judgement::Rejected(reason, _) => self.fault(at, from, reason)?,
            }
        }
        Ok(())
    }

    /// The peers to whom a message of another is passed on, as many as the real network's mesh has.
    /// Anew each time, because that mesh changes, too.
    fn mesh(&mut self, at: usize, from: usize, topic: Topic) -> Vec<usize> {
        let source = self.endpoints[from].identity;
        let peers: Vec<usize> = (0..self.endpoints.len())
            .filter(|to| self.endpoints[*to].identity != source)
            .filter(|to| self.endpoints[*to].identity != self.endpoints[at].identity)
            .filter(|to| self.reach_each_other(at, *to))
            .collect();
        let count = network::mesh(topic == Topic::Consensus, peers.len() + 1);
        peers.sample(&mut self.streams.network, count).copied().collect()
    }

    /// The driver holds something against a peer that did not come by gossip.
    pub(super) fn charged(
        &mut self,
        at: usize,
        peer: PublicKey,
        reason: &'static str,
    ) -> Result<(), String> {
        let from = endpoints_of(&self.endpoints, &self.identities, peer).next();
        match from {
            Some(from) => self.fault(at, from, reason),
            None => Ok(()),
        }
    }

    /// A peer has handed over what no honest peer would have.
    pub(super) fn fault(
        &mut self,
        at: usize,
        from: usize,
        reason: &'static str,
    ) -> Result<(), String> {
        let peer = self.identities[self.endpoints[from].identity].peer;
        let cuts_off = self.swarm.cuts_off;
        let (now, epoch) = (self.instant(), self.endpoints[at].epoch);
        self.summary.faults += 1;
        self.blame(at, from, reason)?;
        let Some(process) = self.endpoints[at].process.as_mut().filter(|_| cuts_off) else {
            return Ok(());
        };
        let faults = process.gossip.faults.entry(peer);
        let faults = faults.or_insert_with(|| Faults::new(&Limits::default(), now));
        if faults.add(now)
            && let Some(until) = faults.cut_off_until
        {
            self.summary.cut_offs += 1;
            let time = until.duration_since(now).as_millis() as u64;
            self.later(time, Event::LetIn { at, epoch, peer });
        }
        Ok(())
    }

    /// Nobody honest is ever at fault.
    fn blame(&mut self, at: usize, from: usize, reason: &str) -> Result<(), String> {
        let is_honest = |index: usize| {
            self.honest().any(|other| other == index)
                && !self.is_excused(self.endpoints[index].identity)
        };
        if !is_honest(at) || !is_honest(from) {
            return Ok(());
        }
        self.summary.honest_blamed += 1;
        if self.tolerates_blame {
            return Ok(());
        }
        Err(format!("endpoint {at} blames endpoint {from}, which is honest: {reason}"))
    }

    /// A peer that was cut off may connect again.
    pub(super) fn let_in(&mut self, at: usize, epoch: u64, peer: PublicKey) {
        if !self.runs(at, epoch) {
            return;
        }
        let now = self.instant();
        let faults =
            self.endpoints[at].process.as_mut().and_then(|p| p.gossip.faults.get_mut(&peer));
        if faults.is_some_and(|faults| faults.ended(now)) {
            let places: Vec<_> = endpoints_of(&self.endpoints, &self.identities, peer).collect();
            places.into_iter().for_each(|other| self.connect(at, other));
        }
    }

    /// Whether neither has cut the other off.
    pub(super) fn are_on_terms(&self, a: usize, b: usize) -> bool {
        let cut_off = |by: usize, other: usize| {
            let peer = &self.identities[self.endpoints[other].identity].peer;
            let process = self.endpoints[by].process.as_ref();
            process.is_some_and(|process| process.gossip.has_cut_off(peer))
        };
        !cut_off(a, b) && !cut_off(b, a)
    }
}
