//! The world of a simulated driver: what it wants done is written down, and the clock is told.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use customhouse_consensus::{Evidence, Message, Now};
use customhouse_ledger::{agency::AgencyCode, chain::BlockOutcome, keys::PublicKey};
use customhouse_node::driver::{ConsensusStatus, Fetch, Outside};

/// Something that a driver wants done, in the order in which it said so.
pub(super) enum Out {
    Publish(Vec<Message>),
    Push(PublicKey, Message),
    /// A peer has handed over what no honest peer would have.
    Charged(PublicKey, &'static str),
    Transaction(Bytes),
    Fetch(Fetch),
    Committed(Arc<BlockOutcome>),
    Evidence(Evidence),
    /// Who may connect from now on.
    Listed(BTreeSet<PublicKey>),
}

pub(super) struct World {
    pub(super) now: Now,
    pub(super) out: Vec<Out>,
    pub(super) catching_up: bool,
}

impl World {
    pub(super) fn new(now: Now) -> Self {
        Self { now, out: Vec::new(), catching_up: false }
    }
}

impl Outside for World {
    fn now(&self) -> Now {
        self.now
    }

    fn publish(&mut self, messages: Vec<Message>) {
        self.out.push(Out::Publish(messages));
    }

    fn push(&mut self, peer: PublicKey, message: Message) {
        self.out.push(Out::Push(peer, message));
    }

    fn charge(&mut self, peer: PublicKey, reason: &'static str) {
        self.out.push(Out::Charged(peer, reason));
    }

    fn publish_transaction(&mut self, encoded: Bytes) {
        self.out.push(Out::Transaction(encoded));
    }

    fn fetch(&mut self, fetch: Fetch) {
        self.out.push(Out::Fetch(fetch));
    }

    fn is_catching_up(&self) -> bool {
        self.catching_up
    }

    fn committed(&mut self, block: Arc<BlockOutcome>) {
        self.out.push(Out::Committed(block));
    }

    fn listed(&mut self, peers: &[(AgencyCode, PublicKey)]) {
        self.out.push(Out::Listed(peers.iter().map(|(_, key)| *key).collect()));
    }

    fn evidence(&mut self, evidence: &Evidence) {
        self.out.push(Out::Evidence(evidence.clone()));
    }

    fn status(&mut self, _status: ConsensusStatus) {}
}
