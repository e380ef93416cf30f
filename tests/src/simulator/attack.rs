//! What an attacker does when: at a new height, on what it hears, and when it is asked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use customhouse_consensus::Message;
use customhouse_ledger::{
    chain::Tip,
    finality::vote::{Proposal, VoteKind},
    hash::Hash,
    keys::{PublicKey, SigningKey},
    transaction::VerifiedTransaction,
};
use customhouse_proto::v1::{self, sync_request::Request, sync_response::Response};
use prost::Message as _;
use rand::{RngExt as _, seq::IndexedRandom as _};

use super::{
    attacker::Attacker, contest::MEMPOOL_MAX, event::Event, forgery, gossip::Topic, liar::encode,
    run::Simulation,
};

/// Transactions of its own that an attacker has waiting and shows nobody.
const KEPT: usize = 6;
/// Transactions of others that it remembers.
const HEARD_MAX: usize = 200;
/// Most transactions with which it fills a mempool.
const FILLING_MAX: usize = MEMPOOL_MAX;
/// Votes that it floods others with at each height: its own, and in each other's name.
const FLOOD: u64 = 30;
/// How often one finalization is sent.
const RESENDS: usize = 300;
/// When a body drips: just before a patient node would ask somebody else.
const DRIP_MS: [u64; 3] = [900, 3_900, 14_000];
/// Bodies that drip before nothing comes any more.
const DRIPS: u32 = 3;
/// When the connections of a node begin to lead nowhere, and for how long.
const HALF_OPEN_MS: (u64, u64) = (3_000, 20_000);

/// What an attacker remembers.
pub(super) struct Attack {
    pub(super) kind: Attacker,
    /// The newest height that it has struck at.
    struck: u64,
    /// Proposals that it has passed on with other leaves.
    swapped: BTreeSet<Hash>,
    /// Leaves whose bodies it shows nobody.
    kept: BTreeSet<Hash>,
    heard: VecDeque<Bytes>,
    /// The newest height whose finalization it has sent again.
    resent: u64,
    /// How often each of its blocks' bodies was asked for by its victim.
    asked: BTreeMap<u64, u32>,
    /// Transactions that it leads with and that wait nowhere, by leaf.
    pub(super) bodies: BTreeMap<Hash, Bytes>,
}

/// How a request is answered.
pub(super) enum Answering {
    /// As an honest node does.
    Honestly,
    Never,
    /// With this, later by this many milliseconds.
    With(u64, Option<Response>),
}

impl Attack {
    pub(super) fn new(kind: Attacker) -> Self {
        let (swapped, kept) = (BTreeSet::new(), BTreeSet::new());
        let (heard, asked, bodies) = (VecDeque::new(), BTreeMap::new(), BTreeMap::new());
        Self { kind, struck: 0, swapped, kept, heard, resent: 0, asked, bodies }
    }
}

impl Simulation {
    /// What an attacker does from the beginning on.
    pub(super) fn begin_attack(&mut self, at: usize, kind: Attacker) {
        const HOUR_MS: i64 = 3_600_000;
        match kind {
            Attacker::ClockAhead => self.endpoints[at].clock.offset_ms = HOUR_MS,
            Attacker::ClockBehind => self.endpoints[at].clock.offset_ms = -HOUR_MS,
            Attacker::HalfOpen => self.later(HALF_OPEN_MS.0, Event::Lie { at }),
            _ => {}
        }
    }

    /// After a step of an attacker's node: it may be at a new height.
    pub(super) fn watch_attacker(&mut self, at: usize) {
        let height = self.endpoints[at].height();
        if let Some(attack) = self.attacks.get_mut(&at)
            && attack.kind.lies()
            && height + 1 > attack.struck
        {
            attack.struck = height + 1;
            self.later(0, Event::Lie { at });
        }
    }

    /// Everybody that does not attack.
    pub(super) fn others(&self) -> Vec<usize> {
        (0..self.endpoints.len()).filter(|index| !self.attacks.contains_key(index)).collect()
    }

    fn victim(&self) -> Option<usize> {
        self.others().last().copied()
    }

    /// An attacker's node has come to a height, or its moment has.
    pub(super) fn strike_out(&mut self, at: usize) -> Result<(), String> {
        let Some(kind) = self.attacks.get(&at).map(|attack| attack.kind) else { return Ok(()) };
        if kind == Attacker::HalfOpen {
            self.half_open(at, HALF_OPEN_MS.1);
            return Ok(());
        }
        let Some(process) = &self.endpoints[at].process else { return Ok(()) };
        let tip = process.reader.tip();
        self.summary.lies += 1;
        self.attacking = true;
        match kind {
            Attacker::PushesForgeries => self.push_forgeries(at, &tip),
            Attacker::GossipsForgeries => self.gossip_forgeries(at, &tip),
            Attacker::CrowdsOutLeaders => self.crowd_out(at, &tip),
            Attacker::FloodsEarly => self.flood(at, &tip),
            Attacker::GossipsJunk => self.gossip_junk(at),
            Attacker::ProposesTooMuch => self.propose_too_much(at, &tip),
            Attacker::FillsMempools if !self.calm => self.fill_mempools(at),
            _ => {}
        }
        self.attacking = false;
        if kind.keeps_bodies() { self.keep_bodies(at) } else { Ok(()) }
    }

    /// Somebody else's key than this endpoint's.
    fn a_name_other_than(&mut self, tip: &Tip, to: usize) -> PublicKey {
        let own = self.identities[self.endpoints[to].identity].validator().public();
        let keys: Vec<_> = tip.validators.as_slice().iter().map(|v| v.key).collect();
        let others: Vec<_> = keys.into_iter().filter(|key| *key != own).collect();
        *others.choose(&mut self.streams.byzantine).unwrap_or(&own)
    }

    fn push_forgeries(&mut self, at: usize, tip: &Tip) {
        let height = tip.header.height + 1;
        for to in self.others() {
            let name = self.a_name_other_than(tip, to);
            let rng = &mut self.streams.byzantine;
            let votes = [height, height + 1, u64::MAX].map(|h| forgery::vote((h, 1), name, rng));
            self.push(at, to, &votes);
        }
    }

    fn gossip_forgeries(&mut self, at: usize, tip: &Tip) {
        let height = tip.header.height + 1;
        for to in self.others() {
            let name = self.a_name_other_than(tip, to);
            for forged in [height, height + 1, height + 2, u64::MAX - 1, u64::MAX] {
                let view = self.streams.byzantine.random_range(1..4);
                let leader = tip.leaders.leader(&tip.validators, forged.min(height + 2), view);
                let rng = &mut self.streams.byzantine;
                let vote = forgery::vote((forged, view), name, rng);
                let proposal = forgery::proposal(&tip.header, (forged, view), leader, rng);
                for message in [vote, proposal] {
                    let bytes = Bytes::from(encode(&[message]));
                    self.send_gossip(at, to, Topic::Consensus, &bytes);
                }
            }
        }
    }

    fn crowd_out(&mut self, at: usize, tip: &Tip) {
        let height = tip.header.height + 2;
        let leader = tip.leaders.leader(&tip.validators, height, 1);
        for to in self.others() {
            for view in [1, 1, 1, 2] {
                let rng = &mut self.streams.byzantine;
                let forged = forgery::proposal(&tip.header, (height, view), leader, rng);
                self.push(at, to, std::slice::from_ref(&forged));
                self.send_gossip(at, to, Topic::Consensus, &Bytes::from(encode(&[forged])));
            }
        }
    }

    fn flood(&mut self, at: usize, tip: &Tip) {
        let height = tip.header.height + 2;
        let key = self.identities[self.endpoints[at].identity].validator().clone();
        for to in self.others() {
            let name = self.a_name_other_than(tip, to);
            let mut votes = Vec::new();
            for view in 1..=FLOOD {
                let rng = &mut self.streams.byzantine;
                votes.push(forgery::own_vote((height, view), &self.chain_id, &key, rng));
                votes.push(forgery::vote((height, view), name, rng));
            }
            self.push(at, to, &votes);
            let bytes = Bytes::from(encode(&votes));
            self.send_gossip(at, to, Topic::Consensus, &bytes);
        }
    }

    /// Each to one node, which is not to pass it on.
    fn gossip_junk(&mut self, at: usize) {
        let stranger = self.by_stranger(at);
        let mut junk = vec![stranger];
        if let Some(attack) = self.attacks.get(&at) {
            junk.extend(
                attack.heard.front().filter(|_| attack.heard.len() > HEARD_MAX / 4).cloned(),
            );
        }
        for encoded in junk {
            let others = self.others();
            let Some(to) = others.choose(&mut self.streams.byzantine).copied() else { return };
            let mut bytes = v1::TransactionBatch { transactions: vec![encoded], announced: None }
                .encode_to_vec();
            // As a repeat: it was seen before.
            prost::encoding::uint64::encode(15, &self.streams.byzantine.random(), &mut bytes);
            self.send_gossip(at, to, Topic::Transactions, &bytes.into());
        }
    }

    /// Nothing is wrong with any of them.
    fn fill_mempools(&mut self, at: usize) {
        let key = self.identities[self.endpoints[at].identity].signing.clone();
        let signed = 0..=self.swarm.mempool_max.min(FILLING_MAX);
        let transactions = signed.map(|_| self.signed_transaction(at, 1, &key)).collect();
        let bytes =
            Bytes::from(v1::TransactionBatch { transactions, announced: None }.encode_to_vec());
        for to in self.others() {
            self.send_gossip(at, to, Topic::Transactions, &bytes);
        }
    }

    /// A transaction with nothing wrong except its signer, whom nobody knows.
    fn by_stranger(&mut self, at: usize) -> Bytes {
        let key = SigningKey::from_seed(&[251; 32]);
        self.signed_transaction(at, 1, &key)
    }

    /// Has transactions waiting that nobody else knows, for when it leads.
    fn keep_bodies(&mut self, at: usize) -> Result<(), String> {
        let Some(attack) = self.attacks.get(&at) else { return Ok(()) };
        let Some(process) = &self.endpoints[at].process else { return Ok(()) };
        let mempool = customhouse_node::driver::lock(&process.mempool);
        let waiting = attack.kept.iter().filter(|leaf| mempool.by_leaf(leaf).is_some()).count();
        drop(mempool);
        let unix_ms = self.endpoints[at].now(self.now).unix_ms;
        // In the end the network comes to rest.
        for _ in if self.calm { KEPT } else { waiting }..KEPT {
            let encoded = self.transaction(at, 1);
            let verified = VerifiedTransaction::from_bytes(encoded, &self.chain_id);
            let transaction = verified.map_err(|error| error.to_string())?;
            if let Some(attack) = self.attacks.get_mut(&at) {
                attack.kept.insert(transaction.leaf_hash());
            }
            self.endpoints[at].admit(transaction.into(), unix_ms);
        }
        self.drive(at, |driver| driver.work())
    }

    /// All connections of a node lead nowhere; after a while that is found out, and they are made
    /// anew.
    pub(super) fn half_open(&mut self, at: usize, lasts_ms: u64) {
        let all = (0..self.endpoints.len()).filter(|other| *other != at);
        let links: Vec<_> = all.flat_map(|other| [(at, other), (other, at)]).collect();
        self.summary.half_opens += 1;
        self.links.swallow(&links);
        self.later(lasts_ms, Event::Renew(links));
    }

    /// Whether an attacker keeps a transaction from going out.
    pub(super) fn keeps(&self, at: usize, encoded: &Bytes) -> bool {
        let leaf = VerifiedTransaction::leaf_hash_unchecked(encoded);
        self.attacks.get(&at).zip(leaf).is_some_and(|(attack, leaf)| attack.kept.contains(&leaf))
    }

    /// What comes in, as liars and attackers take it.
    pub(super) fn overhear(&mut self, (to, from): (usize, usize), topic: Topic, bytes: &[u8]) {
        self.attacking = true;
        self.listen((to, from), topic, bytes);
        self.attacking = false;
    }

    fn listen(&mut self, (to, from): (usize, usize), topic: Topic, bytes: &[u8]) {
        match topic {
            Topic::Transactions => {
                if self.attacks.get(&to).is_some_and(|a| a.kind == Attacker::GossipsJunk)
                    && let Ok(batch) = v1::TransactionBatch::decode(bytes)
                {
                    batch.transactions.iter().for_each(|t| self.spoil((to, from), t));
                }
            }
            Topic::Consensus => {
                let listens = self.liars.contains_key(&to) || self.attacks.contains_key(&to);
                let batch = v1::ConsensusBatch::decode(bytes).ok().filter(|_| listens);
                let messages = batch.into_iter().flat_map(|batch| batch.messages);
                for message in messages.filter_map(|m| Message::from_proto(&m).ok()) {
                    if let Some(Some(liar)) = self.liars.get_mut(&to) {
                        liar.hear(&message);
                    }
                    self.attacker_hears(to, &message);
                }
            }
        }
    }

    fn attacker_hears(&mut self, at: usize, message: &Message) {
        let Some(attack) = self.attacks.get(&at) else { return };
        match (attack.kind, message) {
            (Attacker::SwapsLeaves, Message::Proposal(proposal)) => self.swap(at, proposal),
            (Attacker::ResendsFinalizations, Message::Certificate(certificate))
                if certificate.ballot.kind == VoteKind::Finalize =>
            {
                self.resend(at, message);
            }
            (Attacker::ResendsFinalizations, Message::Tip(_)) => self.resend(at, message),
            _ => {}
        }
    }

    /// Passes a proposal on with other leaves, before the genuine one is there.
    fn swap(&mut self, at: usize, proposal: &Proposal) {
        let block_hash = proposal.block.hash();
        let Some(attack) = self.attacks.get_mut(&at) else { return };
        if !attack.swapped.insert(block_hash) {
            return;
        }
        self.summary.lies += 1;
        let swapped = forgery::with_other_leaves(proposal, &mut self.streams.byzantine);
        let bytes = Bytes::from(encode(std::slice::from_ref(&swapped)));
        for to in self.others() {
            self.send_gossip(at, to, Topic::Consensus, &bytes);
            self.push(at, to, std::slice::from_ref(&swapped));
        }
    }

    /// Sends the finalization of a block of its own, again and again.
    fn resend(&mut self, at: usize, message: &Message) {
        let Some(victim) = self.victim().filter(|_| self.led(at, message.height())) else { return };
        let Some(attack) = self.attacks.get_mut(&at) else { return };
        if message.height() <= attack.resent {
            return;
        }
        attack.resent = message.height();
        self.summary.lies += 1;
        for _ in 0..RESENDS {
            self.push(at, victim, std::slice::from_ref(message));
        }
    }

    /// Whether an endpoint leads the height that its node is at, or has led the one before.
    fn led(&self, at: usize, height: u64) -> bool {
        let Some(process) = &self.endpoints[at].process else { return false };
        let own = self.identities[self.endpoints[at].identity].validator().public();
        let header = &process.reader.tip().header;
        match header.height == height {
            true => header.proposer == *own.as_bytes(),
            false => process.driver.core().leader() == own,
        }
    }

    /// A transaction comes by: remembers it, and passes its leaf on with another's records.
    fn spoil(&mut self, (at, from): (usize, usize), encoded: &Bytes) {
        let Some(attack) = self.attacks.get_mut(&at) else { return };
        let Ok(mut parts) = v1::Transaction::decode(encoded.clone()) else { return };
        let other = attack.heard.back().cloned();
        if attack.heard.contains(encoded) {
            return;
        }
        attack.heard.push_back(encoded.clone());
        while attack.heard.len() > HEARD_MAX {
            attack.heard.pop_front();
        }
        let Some(other) = other.and_then(|other| v1::Transaction::decode(other).ok()) else {
            return;
        };
        parts.records = other.records;
        let transactions = vec![Bytes::from(parts.encode_to_vec())];
        let bytes =
            Bytes::from(v1::TransactionBatch { transactions, announced: None }.encode_to_vec());
        let others: Vec<_> = self.others().into_iter().filter(|to| *to != from).collect();
        if let Some(to) = others.choose(&mut self.streams.byzantine).copied() {
            self.summary.lies += 1;
            self.send_gossip(at, to, Topic::Transactions, &bytes);
        }
    }

    /// How an attacker answers.
    pub(super) fn answering(&mut self, to: usize, from: usize, request: &Request) -> Answering {
        let Some(kind) = self.attacks.get(&to).map(|attack| attack.kind) else {
            return Answering::Honestly;
        };
        let of_bodies = matches!(request, Request::Transactions(_) | Request::Block(_));
        let catches_up = matches!(request, Request::Blocks(_));
        let to_victim = kind.has_a_victim() && Some(from) == self.victim();
        match kind {
            Attacker::WithholdsBodies if of_bodies => Answering::Never,
            Attacker::DripsBodies if to_victim && (of_bodies || catches_up) => {
                self.drip(to, request)
            }
            Attacker::AnswersWrong if to_victim => self.wrong(to, request),
            Attacker::ProposesTooMuch => match request {
                Request::Transactions(request) => self.give_too_much(to, request),
                _ => Answering::Honestly,
            },
            Attacker::ResendsFinalizations if to_victim && (of_bodies || catches_up) => {
                Answering::Never
            }
            _ => Answering::Honestly,
        }
    }

    /// One body, late; and after a few nothing.
    fn drip(&mut self, at: usize, request: &Request) -> Answering {
        let height = self.endpoints[at].height();
        let Request::Transactions(request) = request else { return Answering::Never };
        let Some(attack) = self.attacks.get_mut(&at) else { return Answering::Honestly };
        let asked = attack.asked.entry(height).or_default();
        *asked += 1;
        if *asked > DRIPS {
            return Answering::Never;
        }
        let late_ms = *DRIP_MS.choose(&mut self.streams.byzantine).unwrap_or(&900);
        let first = request.leaves.iter().filter_map(|leaf| Hash::from_slice(leaf).ok()).next();
        let Some(process) = &self.endpoints[at].process else { return Answering::Never };
        let body = first.and_then(|leaf| {
            let mempool = customhouse_node::driver::lock(&process.mempool);
            let waiting = mempool.by_leaf(&leaf).map(|t| t.encoded().clone());
            drop(mempool);
            waiting.or_else(|| process.reader.body(&leaf).ok().flatten())
        });
        let transactions = body.into_iter().collect();
        let answer = Response::Transactions(v1::TransactionsResponse { transactions });
        Answering::With(late_ms, Some(answer))
    }

    /// Something true that was not asked for; for bodies mostly nothing, because wrong ones are charged to
    /// whoever gives them.
    fn wrong(&mut self, at: usize, request: &Request) -> Answering {
        let Some(process) = &self.endpoints[at].process else { return Answering::Never };
        let old = process.reader.block(process.reader.tip().header.height / 2).ok().flatten();
        let Some(old) = old else { return Answering::Never };
        let block = customhouse_consensus::wire::block_to_proto(&old.block);
        let answer = match request {
            Request::Transactions(_) => {
                let wrong = self.streams.byzantine.random_range(0..64) == 0;
                let transactions = if wrong { old.transactions } else { Vec::new() };
                Response::Transactions(v1::TransactionsResponse { transactions })
            }
            Request::Block(_) => Response::Block(v1::BlockResponse { block: Some(block) }),
            Request::Blocks(_) => {
                let certificate = old.certificate.map(|c| c.encode()).unwrap_or_default();
                let block = Some(v1::CertifiedBlock { block: Some(block), certificate });
                let blocks = vec![v1::BlockWithBody { block, transactions: old.transactions }];
                Response::Blocks(v1::BlocksResponse { blocks, tip: None })
            }
            _ => return Answering::Honestly,
        };
        Answering::With(0, Some(answer))
    }
}
