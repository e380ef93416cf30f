//! Blocks stored for voting, until their height commits.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    chain::Chain,
    finality::header::Block,
    hash::Hash,
    store::{
        Store, StoreError, Table,
        table::{self, read_numbered},
        value::{self, BlockRow},
    },
    transaction::VerifiedTransaction,
};

/// The blocks of the next height that were stored, and where their bodies are.
#[derive(Default)]
pub(super) struct PendingBlocks {
    blocks: BTreeMap<Hash, Block>,
    /// Leaf hash → log index of the body's row.
    bodies: BTreeMap<Hash, u64>,
}

impl PendingBlocks {
    /// Reads the stored blocks, all of which must be of the next height.
    pub(super) fn read(store: &Store, next_height: u64) -> Result<Self, StoreError> {
        let mut pending = Self::default();
        for row in store.scan_while(Table::Pending, &[], |_| true) {
            let (key, bytes) = row?;
            let corrupt = |what| StoreError::corrupt(Table::Pending, &key, what);
            let row: BlockRow = value::decode(Table::Pending, &key, &bytes)?;
            let block = row.block().ok_or_else(|| corrupt("not a block"))?;
            if read_numbered(&key) != Some((next_height, block.hash())) {
                return Err(corrupt("not the block of its key, or not of the next height"));
            }
            pending.insert(block);
        }
        Ok(pending)
    }

    fn insert(&mut self, block: Block) {
        for (log_index, leaf) in (block.header.log_start..).zip(&block.leaves) {
            self.bodies.insert(*leaf, log_index);
        }
        self.blocks.insert(block.hash(), block);
    }

    pub(super) fn block(&self, hash: &Hash) -> Option<&Block> {
        self.blocks.get(hash)
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = (&Hash, &Block)> {
        self.blocks.iter()
    }

    /// Log index under which a body is stored.
    pub(super) fn body(&self, leaf: &Hash) -> Option<u64> {
        self.bodies.get(leaf).copied()
    }
}

impl Chain {
    /// Makes a block of the next height and its bodies durable, before it is voted for. Storing it
    /// again does nothing. `transactions` are the block's, in order.
    ///
    /// # Errors
    /// [`StoreError::NotOnTip`] for a block that is not on the tip or whose transactions are not
    /// these; else the store failed.
    pub fn store_pending(
        &mut self,
        block: &Block,
        transactions: &[Arc<VerifiedTransaction>],
    ) -> Result<(), StoreError> {
        let tip = self.tip();
        let header = &block.header;
        let leaves = transactions.iter().map(|transaction| transaction.leaf_hash());
        let on_tip = header.parent_hash == tip.hash
            && header.height == tip.header.height + 1
            && header.log_start == tip.header.log_size;
        if !on_tip || !block.leaves.iter().copied().eq(leaves) {
            return Err(StoreError::NotOnTip);
        }
        let hash = block.hash();
        if self.shared.state().pending.block(&hash).is_some() {
            return Ok(());
        }
        let mut batch = self.shared.store.batch();
        let key = table::numbered(header.height, &hash);
        batch.put(Table::Pending, key, value::encode(&BlockRow::new(block)));
        for (log_index, transaction) in (header.log_start..).zip(transactions) {
            let key = table::numbered(log_index, &transaction.leaf_hash());
            batch.put(Table::Transactions, key, transaction.encoded());
        }
        batch.write()?;
        let mut state =
            self.shared.state.write().expect("no writer panics while it holds the lock");
        state.pending.insert(block.clone());
        Ok(())
    }
}
