//! Everything that may be said at one height up to a bound of views: each fact is one bit.

use customhouse_consensus::Message;
use customhouse_ledger::{
    finality::{
        header::Block,
        vote::{Ballot, Proposal, Vote, VoteKind},
    },
    hash::Hash,
};

use crate::bench::{CHAIN, block, genesis, key, validators};

/// A set of facts.
pub type Facts = u128;

/// Something that a key may sign. Blocks are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    Vote { kind: VoteKind, view: u64, block: Option<usize> },
    Proposal { view: u64, parent: u64, block: usize },
}

impl Fact {
    pub fn view(self) -> u64 {
        match self {
            Self::Vote { view, .. } | Self::Proposal { view, .. } => view,
        }
    }
}

/// The blocks and facts of one height, in a fixed order.
pub struct Catalogue {
    pub blocks: Vec<Block>,
    hashes: Vec<Hash>,
    pub facts: Vec<Fact>,
    /// Of each fact: those that no honest key signs beside it.
    conflicts: Vec<Facts>,
    /// Of each fact: it, signed by each key.
    signed: Vec<[Message; 4]>,
}

impl Catalogue {
    /// Two blocks in a view that the faulty key leads, one in any other.
    pub fn new(views: u64, faulty: usize) -> Self {
        let mut blocks = Vec::new();
        for view in 1..=views {
            let names: &[char] = if leader_of(view) == faulty { &['A', 'B'] } else { &['A'] };
            blocks.extend(names.iter().map(|&name| block(view, name)));
        }
        let mut facts = Vec::new();
        for view in 1..=views {
            facts.push(Fact::Vote { kind: VoteKind::Nullify, view, block: None });
            for (number, _) in blocks.iter().enumerate().filter(|(_, b)| b.header.view <= view) {
                for kind in [VoteKind::Notarize, VoteKind::Finalize] {
                    facts.push(Fact::Vote { kind, view, block: Some(number) });
                }
                let proposal = |parent| Fact::Proposal { view, parent, block: number };
                facts.extend((0..view).map(proposal));
            }
        }
        assert!(facts.len() <= 128, "{} facts: too many views", facts.len());
        let among = |fact| {
            let conflicting = facts.iter().enumerate().filter(|(_, other)| conflict(fact, **other));
            conflicting.fold(0, |set, (bit, _)| set | 1 << bit)
        };
        let conflicts = facts.iter().map(|&fact| among(fact)).collect();
        let signed = facts.iter().map(|&fact| [0, 1, 2, 3].map(|by| sign(&blocks, fact, by)));
        let signed = signed.collect();
        let hashes = blocks.iter().map(Block::hash).collect();
        Self { blocks, hashes, facts, conflicts, signed }
    }

    /// The set of this one fact; empty where it is beyond the bound.
    pub fn bit(&self, fact: Option<Fact>) -> Facts {
        let at = fact.and_then(|fact| self.facts.iter().position(|other| *other == fact));
        at.map_or(0, |at| 1 << at)
    }

    pub fn of_ballot(&self, ballot: &Ballot) -> Facts {
        let block = self.number(&ballot.block_hash);
        let known = block.is_some() == (ballot.kind != VoteKind::Nullify);
        let fact = Fact::Vote { kind: ballot.kind, view: ballot.view, block };
        self.bit(known.then_some(fact))
    }

    pub fn of_proposal(&self, proposal: &Proposal) -> Facts {
        let (view, parent) = (proposal.view, proposal.parent_view);
        let block = self.number(&proposal.block.hash());
        self.bit(block.map(|block| Fact::Proposal { view, parent, block }))
    }

    pub fn number(&self, hash: &Hash) -> Option<usize> {
        self.hashes.iter().position(|held| held == hash)
    }

    /// The fact of this number, signed by this key.
    pub fn signed(&self, fact: usize, by: usize) -> Message {
        self.signed[fact][by].clone()
    }

    /// A fact of the set that conflicts with another of it.
    pub fn contradiction(&self, said: Facts) -> Option<Fact> {
        let mut of_set = self.facts.iter().enumerate().filter(|(bit, _)| said >> bit & 1 == 1);
        of_set.find(|(bit, _)| self.conflicts[*bit] & said != 0).map(|(_, fact)| *fact)
    }
}

/// The index of the key that leads a view of height 1.
pub fn leader_of(view: u64) -> usize {
    validators(4).index_of(&genesis().leader(view)).expect("a validator leads")
}

fn sign(blocks: &[Block], fact: Fact, by: usize) -> Message {
    match fact {
        Fact::Vote { kind, view, block } => {
            let block_hash = block.map_or(Hash::ZERO, |number| blocks[number].hash());
            let ballot = Ballot { kind, height: 1, view, block_hash };
            Message::Vote(Vote::sign(ballot, &CHAIN, &key(by)))
        }
        Fact::Proposal { view, parent, block } => {
            let block = blocks[block].clone();
            Message::Proposal(Proposal::sign(block, view, parent, &CHAIN, &key(by)))
        }
    }
}

/// The rule of `customhouse_ledger::finality::evidence`, written a second time.
fn conflict(a: Fact, b: Fact) -> bool {
    use VoteKind::{Finalize, Notarize, Nullify};
    if a.view() != b.view() {
        return false;
    }
    match (a, b) {
        (Fact::Proposal { block: a, .. }, Fact::Proposal { block: b, .. }) => a != b,
        (Fact::Proposal { block, .. }, Fact::Vote { kind: Notarize, block: voted, .. })
        | (Fact::Vote { kind: Notarize, block: voted, .. }, Fact::Proposal { block, .. }) => {
            voted != Some(block)
        }
        (Fact::Vote { kind: a, block: x, .. }, Fact::Vote { kind: b, block: y, .. }) => {
            match (a, b) {
                (Notarize, Notarize) | (Finalize, Finalize) => x != y,
                (Nullify, Finalize) | (Finalize, Nullify) => true,
                _ => false,
            }
        }
        _ => false,
    }
}
