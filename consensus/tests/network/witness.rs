//! Sees everything that is said and done, and fails the run when something must not be.

use std::collections::{BTreeMap, BTreeSet};

use customhouse_consensus::{Entry, Evidence, HaltReason, Message, Refusal};
use customhouse_ledger::{
    finality::{
        header::Block,
        vote::{Vote, VoteKind},
    },
    hash::Hash,
    keys::PublicKey,
};

use super::{CHAIN, Node};

#[derive(Default)]
pub struct Witness {
    seed: u64,
    /// By key, height and view: what was ever sent.
    votes: BTreeMap<(PublicKey, u64, u64, VoteKind), Hash>,
    proposals: BTreeMap<(PublicKey, u64, u64), Hash>,
    committed: BTreeMap<u64, Hash>,
    /// Keys that run in two places, and so contradict themselves.
    twins: BTreeSet<PublicKey>,
    /// So many lie that agreement cannot be had.
    hopeless: bool,
}

impl Witness {
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// This key may contradict itself.
    pub fn forgive(&mut self, twin: PublicKey) {
        self.twins.insert(twin);
    }

    /// More lie than may: a fork is not a failure.
    pub fn despair(&mut self) {
        self.hopeless = true;
    }

    pub fn fails(&self, why: String) -> ! {
        panic!("seed {}: {why}", self.seed)
    }

    /// An honest node sends: durable before it leaves; never in contradiction to anything it ever
    /// sent, in this life or an earlier one.
    pub fn sends(&mut self, node: &Node, message: &Message) {
        match message {
            Message::Vote(vote) if vote.validator == node.key.public() => {
                if !node.journal.holds(&Entry::Vote(*vote)) {
                    self.fails(format!("sent before durable: {vote:?}"));
                }
                if !self.twins.contains(&vote.validator) {
                    self.votes_consistently(vote);
                }
            }
            Message::Proposal(proposal) if proposal.leader == node.key.public() => {
                if !node.journal.holds(&Entry::Proposal(proposal.clone())) {
                    self.fails(format!("sent before durable: {proposal:?}"));
                }
                let key = (proposal.leader, proposal.block.header.height, proposal.view);
                let hash = proposal.block.hash();
                let first = *self.proposals.entry(key).or_insert(hash);
                if first != hash && !self.twins.contains(&proposal.leader) {
                    self.fails(format!("two proposals at {key:?}"));
                }
            }
            _ => {}
        }
    }

    fn votes_consistently(&mut self, vote: &Vote) {
        let ballot = vote.ballot;
        let key = |kind| (vote.validator, ballot.height, ballot.view, kind);
        let first = *self.votes.entry(key(ballot.kind)).or_insert(ballot.block_hash);
        let nullify = self.votes.contains_key(&key(VoteKind::Nullify));
        let finalize = self.votes.contains_key(&key(VoteKind::Finalize));
        if first != ballot.block_hash || (nullify && finalize) {
            self.fails(format!("contradicting votes: {:?}", key(ballot.kind)));
        }
    }

    /// Agreement.
    pub fn commits(&mut self, node: usize, block: &Block) {
        let (height, hash) = (block.header.height, block.hash());
        let first = *self.committed.entry(height).or_insert(hash);
        if first != hash && !self.hopeless {
            self.fails(format!("node {node} commits another block at height {height}"));
        }
    }

    /// The core gave up, which it may do only where it is hopeless.
    pub fn halts(&self, node: usize, reason: &HaltReason) {
        if !self.hopeless {
            self.fails(format!("node {node}: {reason}"));
        }
    }

    /// A node holds something against a peer: nobody honest is ever charged. Where the chain is divided,
    /// the two sides may have different leaders.
    pub fn charges(&self, by: usize, peer: usize, liar: Option<usize>, reason: Refusal) {
        if liar != Some(peer) && !self.hopeless {
            self.fails(format!("node {by} charges {peer}, which is honest: {reason}"));
        }
    }

    /// Evidence proves what it says, about a liar.
    pub fn accuses(&self, liar: Option<PublicKey>, evidence: &Evidence) {
        let culprit = evidence.culprit();
        let lies = Some(culprit) == liar || self.twins.contains(&culprit);
        if !evidence.proves(&CHAIN) || !lies {
            self.fails(format!("wrong accusation: {evidence:?}"));
        }
    }
}
