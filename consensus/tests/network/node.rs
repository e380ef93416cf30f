//! A node of the network: its core, and what of it survives a crash.

use std::collections::{BTreeMap, BTreeSet};

use customhouse_consensus::{Action, Core, Entry, Evidence, HaltReason, Journal};
use customhouse_ledger::{
    agency::AgencyCode,
    finality::{
        certificate::Certificate,
        decision::{Decision, Grounds},
        header::Block,
        validators::{Validator, ValidatorSet},
    },
    hash::Hash,
    keys::SigningKey,
};

use super::Ledger;

/// A journal in memory: encoded, as a file would be.
#[derive(Default)]
pub struct MemoryJournal {
    entries: Vec<Vec<u8>>,
    held: BTreeSet<Vec<u8>>,
}

impl Journal for MemoryJournal {
    type Error = std::convert::Infallible;

    fn append(&mut self, entries: &[Entry]) -> Result<(), Self::Error> {
        assert!(!entries.is_empty(), "an append costs a sync");
        for entry in entries.iter().map(Entry::encode) {
            self.entries.push(entry.clone());
            self.held.insert(entry);
        }
        Ok(())
    }
}

impl MemoryJournal {
    pub fn read(&self) -> Vec<Entry> {
        self.entries.iter().map(|b| Entry::decode(b).expect("as written")).collect()
    }

    pub fn holds(&self, entry: &Entry) -> bool {
        self.held.contains(&entry.encode())
    }
}

/// Where in a step a node dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    BeforePersist,
    AfterPersist,
    AfterSend,
}

pub struct Node {
    pub key: SigningKey,
    /// The key that is to take its place, with its journal.
    pub next: Option<(SigningKey, MemoryJournal)>,
    /// None while it is down.
    pub core: Option<Core>,
    pub journal: MemoryJournal,
    pub ledger: Ledger,
    /// Counts restarts: what was under way before a crash never arrives.
    pub(super) life: u64,
    pub(super) wake_at: Option<u64>,
    pub(super) sync: Option<(usize, u64)>,
    pub(super) crash_at: Option<CrashPoint>,
    pub evidence: Vec<Evidence>,
    pub actions: Vec<Action>,
    /// What it has passed on.
    pub(super) passed_on: BTreeSet<Vec<u8>>,
    /// How often it has held something against a peer.
    pub charges: usize,
    /// By height: what was held when it committed. Durable.
    pub grounds: BTreeMap<u64, Grounds>,
}

/// The first key of a node.
pub fn key(node: usize) -> SigningKey {
    SigningKey::from_seed(&[node as u8 + 1; 32])
}

/// The agency of a node.
pub fn agency(node: usize) -> AgencyCode {
    format!("A{node:03}").parse().expect("a code")
}

/// A set of nodes, each with the key that votes.
pub fn set_of(members: impl IntoIterator<Item = (usize, SigningKey)>) -> ValidatorSet {
    let validator =
        |(i, key): (usize, SigningKey)| Validator { agency: agency(i), key: key.public() };
    ValidatorSet::new(members.into_iter().map(validator).collect()).expect("a set")
}

impl Node {
    pub(super) fn new(key: SigningKey, ledger: Ledger) -> Self {
        Self {
            key,
            next: None,
            core: None,
            journal: MemoryJournal::default(),
            ledger,
            life: 0,
            wake_at: None,
            sync: None,
            crash_at: None,
            evidence: Vec::new(),
            actions: Vec::new(),
            passed_on: BTreeSet::new(),
            charges: 0,
            grounds: BTreeMap::new(),
        }
    }

    /// Goes over to the next key where it is the one that votes. True where it is so now.
    pub(super) fn change_key(&mut self) -> bool {
        let validators = self.ledger.validators();
        let votes = |key: &SigningKey| validators.index_of(&key.public()).is_some();
        let takes_over = |next: &mut (SigningKey, MemoryJournal)| votes(&next.0);
        match self.next.take_if(takes_over) {
            Some((key, journal)) => {
                (self.key, self.journal) = (key, journal);
                true
            }
            None => false,
        }
    }

    /// What this node can tell of how a height was decided, as the driver keeps it.
    pub fn decision(&self, height: u64) -> Decision {
        let index = usize::try_from(height - 1).expect("a height of a test");
        let decided = self.ledger.chain.get(index);
        let decided =
            decided.map(|(block, certificate)| (block.header.clone(), certificate.clone()));
        let mut grounds = self.grounds.get(&height).cloned().unwrap_or_default();
        let core = self.core.as_ref().filter(|core| core.height() == height);
        grounds.join(core.map(Core::grounds).unwrap_or_default());
        for action in &self.actions {
            if let Action::Halt { reason: HaltReason::ContradictingCertificates(a, b) } = action {
                let both = [a, b].map(|certificate| Certificate::clone(certificate));
                let certificates = both.into_iter().filter(|c| c.ballot.height == height).collect();
                grounds.join(Grounds { certificates, claims: Vec::new() });
            }
        }
        Decision { height, decided, grounds }
    }

    pub(super) fn find(&self, hash: &Hash) -> Option<&Block> {
        let committed = self.ledger.chain.iter().map(|(block, _)| block);
        let mut committed = committed.filter(|block| block.hash() == *hash);
        self.ledger.blocks.get(hash).or_else(|| committed.next())
    }
}
