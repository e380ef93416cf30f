//! A byzantine validator: votes for everything at once, and proposes different blocks to
//! different nodes.

use std::collections::BTreeSet;

use customhouse_consensus::{Build, Message};
use customhouse_ledger::{
    hash::Hash,
    keys::SigningKey,
    vote::{Ballot, Proposal, Vote, VoteKind},
};
use rand::{Rng, seq::IndexedRandom};

use super::{CHAIN, GENESIS_TIME_MS, Node};

pub struct Liar {
    pub index: usize,
    pub key: SigningKey,
    /// Block hashes it has heard of lately.
    hashes: Vec<Hash>,
    proposed: BTreeSet<(u64, u64)>,
}

impl Liar {
    pub fn new(index: usize, key: SigningKey) -> Self {
        Self { index, key, hashes: Vec::new(), proposed: BTreeSet::new() }
    }

    /// Answers whatever it hears with something harmful, to somebody.
    pub fn hear(
        &mut self,
        message: &Message,
        nodes: &[Node],
        rng: &mut impl Rng,
    ) -> Vec<(usize, Message)> {
        let (height, view) = match message {
            Message::Proposal(proposal) => (proposal.block.header.height, proposal.view),
            Message::Vote(vote) => (vote.ballot.height, vote.ballot.view),
            Message::Certificate(certificate) => {
                (certificate.ballot.height, certificate.ballot.view + 1)
            }
            Message::Tip(tip) => (tip.header.height + 1, 1),
        };
        match message {
            Message::Proposal(proposal) => self.hashes.push(proposal.block.hash()),
            Message::Vote(vote) if vote.ballot.block_hash != Hash::ZERO => {
                self.hashes.push(vote.ballot.block_hash);
            }
            _ => {}
        }
        if self.hashes.len() > 6 {
            self.hashes.remove(0);
        }
        let mut lies = self.propose_twice(height, view, nodes);
        for to in (0..nodes.len()).filter(|&to| to != self.index) {
            if rng.next_u32().is_multiple_of(3) {
                lies.push((to, Message::Vote(self.vote(height, view, rng))));
            }
        }
        lies
    }

    fn vote(&self, height: u64, view: u64, rng: &mut impl Rng) -> Vote {
        let kinds = [VoteKind::Notarize, VoteKind::Nullify, VoteKind::Finalize];
        let kind = kinds[rng.next_u32() as usize % 3];
        let heard = self.hashes.choose(rng).copied().unwrap_or(Hash([1; 32]));
        let block_hash = if kind == VoteKind::Nullify { Hash::ZERO } else { heard };
        Vote::sign(Ballot { kind, height, view, block_hash }, &CHAIN, &self.key)
    }

    fn propose_twice(&mut self, height: u64, view: u64, nodes: &[Node]) -> Vec<(usize, Message)> {
        let at_tip = |node: &&Node| node.ledger.tip().height + 1 == height;
        let Some(node) = nodes.iter().find(at_tip) else { return Vec::new() };
        let me = self.key.public();
        if view == 0
            || node.ledger.committed().leader(view) != me
            || !self.proposed.insert((height, view))
        {
            return Vec::new();
        }
        let mut ledger = node.ledger.clone();
        let after_parent = ledger.tip().time_ms + 1;
        let build = Build {
            height,
            view,
            proposer: me,
            time_ms: after_parent.max(GENESIS_TIME_MS),
            parent_hash: ledger.tip().hash(),
            block_bytes_max: u64::MAX,
        };
        let twins = [Vec::new(), vec![Hash([3; 32])]].map(|leaves| {
            let block = ledger.build(&build, leaves);
            Message::Proposal(Proposal::sign(block, view, 0, &CHAIN, &self.key))
        });
        let others = (0..nodes.len()).filter(|&to| to != self.index);
        others.map(|to| (to, twins[to % 2].clone())).collect()
    }
}
