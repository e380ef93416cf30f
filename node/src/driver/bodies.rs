//! Bodies of transactions that came from peers and are not in the mempool: for a proposal, or for
//! a block while catching up.

use std::{collections::HashMap, sync::Arc};

use customhouse_ledger::{hash::Hash, limits::BLOCK_BYTES_MAX, transaction::VerifiedTransaction};

/// Most bytes kept: a few full blocks of one height.
const BYTES_MAX: usize = 4 * BLOCK_BYTES_MAX;

/// A bounded cache by log leaf hash, emptied whenever a height commits.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    by_leaf: HashMap<Hash, Arc<VerifiedTransaction>>,
    bytes: usize,
}

impl Bodies {
    /// Keeps a body. Where there is no room, everything older goes: it can be fetched again.
    pub(super) fn insert(&mut self, transaction: Arc<VerifiedTransaction>) {
        let bytes = transaction.encoded().len();
        if self.bytes + bytes > BYTES_MAX {
            self.clear();
        }
        if self.by_leaf.insert(transaction.leaf_hash(), transaction).is_none() {
            self.bytes += bytes;
        }
    }

    pub(super) fn by_leaf(&self, leaf_hash: &Hash) -> Option<&Arc<VerifiedTransaction>> {
        self.by_leaf.get(leaf_hash)
    }

    pub(super) fn clear(&mut self) {
        self.by_leaf.clear();
        self.bytes = 0;
    }
}
