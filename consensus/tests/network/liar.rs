//! A byzantine validator, of one kind at a time.

use std::collections::BTreeSet;

use customhouse_consensus::{Build, Message};
use customhouse_ledger::{
    finality::vote::{Ballot, Proposal, Vote, VoteKind},
    hash::Hash,
    keys::SigningKey,
};
use rand::{Rng, seq::IndexedRandom};

use super::{CHAIN, GENESIS_TIME_MS, Node};

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lies {
    /// Votes for everything at once, and proposes different blocks to different nodes.
    Contradict,
    /// Speaks in the name of others, most of all about the next height, where nobody can tell yet who
    /// decides it; signs in its own name what it must not sign.
    Forge,
    /// Passes on each leader's proposal with other leaves.
    SwapLeaves,
}

pub struct Liar {
    pub index: usize,
    pub lies: Lies,
    pub key: SigningKey,
    /// Block hashes it has heard of lately.
    hashes: Vec<Hash>,
    proposed: BTreeSet<(u64, u64)>,
}

impl Liar {
    pub fn new(index: usize, key: SigningKey, lies: Lies) -> Self {
        Self { index, lies, key, hashes: Vec::new(), proposed: BTreeSet::new() }
    }

    /// Answers whatever it hears with something harmful, to somebody.
    pub fn hear(
        &mut self,
        message: &Message,
        nodes: &[Node],
        rng: &mut impl Rng,
    ) -> Vec<(usize, Message)> {
        let others = (0..nodes.len()).filter(|&to| to != self.index);
        let to_all = |said: &Message| others.clone().map(|to| (to, said.clone())).collect();
        match (self.lies, message) {
            (Lies::Contradict, _) => self.contradict(message, nodes, rng),
            (Lies::Forge, Message::Proposal(heard)) => self
                .forge(heard, nodes)
                .iter()
                .flat_map(|forged| -> Vec<_> { to_all(forged) })
                .collect(),
            (Lies::SwapLeaves, Message::Proposal(heard)) => {
                let mut swapped = heard.clone();
                swapped.block.leaves.push(Hash([3; 32]));
                to_all(&Message::Proposal(swapped))
            }
            _ => Vec::new(),
        }
    }

    /// About the height of a proposal and the next.
    fn forge(&self, heard: &Proposal, nodes: &[Node]) -> Vec<Message> {
        let mut forged = Vec::new();
        let mut next = heard.block.clone();
        next.header.height += 1;
        for block in [&heard.block, &next] {
            let height = block.header.height;
            for name in nodes.iter().map(|node| node.key.public()) {
                let ballot =
                    Ballot { kind: VoteKind::Nullify, height, view: 1, block_hash: Hash::ZERO };
                let vote = Vote::sign(ballot, &CHAIN, &self.key);
                forged.push(Message::Vote(Vote { validator: name, ..vote }));
                let proposal = Proposal::sign(block.clone(), 1, 0, &CHAIN, &self.key);
                forged.push(Message::Proposal(Proposal { leader: name, ..proposal }));
            }
            let stranger = SigningKey::from_seed(&[99; 32]);
            let block_hash = block.hash();
            let ballot = Ballot { kind: VoteKind::Notarize, height, view: 1, block_hash };
            forged.push(Message::Vote(Vote::sign(ballot, &CHAIN, &stranger)));
        }
        forged
    }

    fn contradict(
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
            may_be_empty: true,
        };
        let twins = [Vec::new(), vec![Hash([3; 32])]].map(|leaves| {
            let block = ledger.build(&build, leaves);
            Message::Proposal(Proposal::sign(block, view, 0, &CHAIN, &self.key))
        });
        let others = (0..nodes.len()).filter(|&to| to != self.index);
        others.map(|to| (to, twins[to % 2].clone())).collect()
    }
}
