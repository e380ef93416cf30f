//! The state machine.

use customhouse_ledger::{
    certificate::Certificate,
    hash::Hash,
    header::Block,
    keys::PublicKey,
    vote::{Proposal, Vote},
};

use crate::{
    input::{Committed, Config, Input, Now},
    journal::Entry,
    ready::Ready,
};

/// The consensus of one node.
#[derive(Debug)]
pub struct Core {
    config: Config,
    committed: Committed,
    recovered: Vec<Entry>,
}

impl Core {
    /// A core on this committed state that remembers what the journal does.
    pub fn new(config: Config, committed: Committed, recovered: Vec<Entry>) -> Self {
        Self { config, committed, recovered }
    }

    /// Takes one input, and says what is to be done about it.
    pub fn step(&mut self, _now: Now, _input: Input) -> Ready {
        Ready::default()
    }

    /// The height in progress.
    pub fn height(&self) -> u64 {
        self.committed.header.height.saturating_add(1)
    }

    /// The view of the height in progress.
    pub fn view(&self) -> u64 {
        1
    }

    /// Whether this node signs: it has a key, the key is a validator's at this height, and it has
    /// not been stopped.
    pub fn is_signing(&self) -> bool {
        self.config.signer.is_some()
    }

    /// The certificates held of a view of the height in progress, to answer a peer that asks.
    pub fn certificates(&self, _height: u64, _view: u64) -> Vec<Certificate> {
        Vec::new()
    }

    /// A block proposed at the height in progress, to answer a peer that asks.
    pub fn block(&self, _block_hash: &Hash) -> Option<&Block> {
        None
    }

    /// Votes and proposals held of this validator at or above a height, to answer a peer that
    /// compares them with its journal.
    pub fn signed_by(
        &self,
        _validator: &PublicKey,
        _from_height: u64,
    ) -> (Vec<Vote>, Vec<Proposal>) {
        (self.recovered.iter().filter_map(|_| None).collect(), Vec::new())
    }
}
