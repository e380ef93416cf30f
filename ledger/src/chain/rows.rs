//! The rows that a block writes, in one synced batch.

use crate::{
    certificate::Certificate,
    chain::{Chain, SlotOutcome, Staged, known::dedupe_key},
    decision::Grounds,
    history::HistoryEntry,
    store::{
        Batch, StoreError, Table,
        table::{self, META_TIP},
        value::{self, DedupeRow, HeaderRow, PlaceRow, TipRow},
    },
};

impl Chain {
    /// Writes a block that the caller has checked.
    pub(super) fn write_block(
        &mut self,
        staged: &Staged,
        certificate: &Certificate,
        grounds: Grounds,
    ) -> Result<(), StoreError> {
        let header = &staged.block.header;
        let hash = header.hash();
        let bodies_stored = self.shared.state().pending.block(&hash).is_some();
        let mut batch = self.shared.store.batch_of(bytes_expected(staged, bodies_stored));
        let row = HeaderRow::new(header, Some(certificate));
        batch.put(Table::Headers, table::number(header.height), value::encode(&row));
        if header.log_size > header.log_start {
            let last = table::number(header.log_size - 1);
            batch.put(Table::Heights, last, value::encode(&header.height));
        }
        put_transactions(&mut batch, staged, bodies_stored);
        for ((level, index), hashes) in &staged.tiles {
            let hashes: Vec<_> = hashes.iter().map(|hash| hash.0).collect();
            batch.put(Table::Tiles, table::tile(*level, *index), hashes.as_flattened());
        }
        let mut entries: Vec<_> =
            staged.entries.iter().copied().map(HistoryEntry::to_bytes).collect();
        entries.sort_unstable();
        for entry in entries {
            batch.put(Table::History, entry, []);
        }
        for (bucket, head) in staged.history.heads() {
            batch.put(Table::Heads, table::bucket(*bucket), head.as_bytes());
        }
        for (key, entry) in staged.members.iter().flat_map(|m| m.rows_changed_at(header.height)) {
            batch.put(Table::Registry, key, entry);
        }
        self.delete_pending(&mut batch, staged);
        self.kept.put(&mut batch, header.height, grounds);
        let tip = TipRow { height: header.height, block_hash: hash.0 };
        batch.put(Table::Meta, META_TIP, value::encode(&tip));
        batch.write()
    }

    /// The height is decided: its pending blocks go, with the bodies of those that lost.
    fn delete_pending(&self, batch: &mut Batch<'_>, staged: &Staged) {
        let state = self.shared.state();
        for (hash, block) in state.pending.blocks() {
            batch.delete(Table::Pending, table::numbered(block.header.height, hash));
            for (position, leaf) in block.leaves.iter().enumerate() {
                if staged.block.leaves.get(position) != Some(leaf) {
                    let log_index = block.header.log_start + position as u64;
                    batch.delete(Table::Transactions, table::numbered(log_index, leaf));
                }
            }
        }
    }
}

/// About how long the batch of a block is: growing to megabytes step by step would copy it again and
/// again.
fn bytes_expected(staged: &Staged, bodies_stored: bool) -> usize {
    // Key, value and framing of the rows below, and of an entry with its bucket's head.
    const TRANSACTION: usize = 2 * 50;
    const SLOT: usize = 70 + 100;
    const ENTRY: usize = 50 + 42;
    let slots: usize = staged.transactions.iter().map(|t| t.slots().len()).sum();
    let bodies = staged.transactions.iter().map(|t| t.encoded().len() + 50);
    let bodies: usize = if bodies_stored { 0 } else { bodies.sum() };
    let rows =
        staged.transactions.len() * TRANSACTION + slots * SLOT + staged.entries.len() * ENTRY;
    bodies + rows + (64 << 10)
}

/// Puts the rows that transactions and records are found by, one table after another.
fn put_transactions(batch: &mut Batch<'_>, staged: &Staged, bodies_stored: bool) {
    let (mut leaves, mut ids) = (Vec::new(), Vec::new());
    let (mut records, mut dedupe) = (Vec::new(), Vec::new());
    let log_start = staged.block.header.log_start;
    for (log_index, (transaction, outcomes)) in
        (log_start..).zip(staged.transactions.iter().zip(&staged.outcomes))
    {
        let leaf = transaction.leaf_hash();
        if !bodies_stored {
            let key = table::numbered(log_index, &leaf);
            batch.put(Table::Transactions, key, transaction.encoded());
        }
        leaves.push((leaf.0, log_index));
        ids.push((transaction.id().0, log_index));
        let agency = &transaction.header().agency;
        for (position, (slot, outcome)) in (0..).zip(transaction.slots().iter().zip(outcomes)) {
            if *outcome == SlotOutcome::Applied {
                records.push((slot.record_id.0, PlaceRow::new(log_index, position, agency)));
                let row = DedupeRow::new(log_index, position, &slot.record_id);
                dedupe.push((dedupe_key(transaction, slot), row));
            }
        }
    }
    put_sorted(batch, Table::Leaves, leaves);
    put_sorted(batch, Table::TransactionIds, ids);
    put_sorted(batch, Table::Records, records);
    put_sorted(batch, Table::Dedupe, dedupe);
}

/// In key order, RocksDB's write buffer is walked from neighbour to neighbour.
fn put_sorted<const LENGTH: usize>(
    batch: &mut Batch<'_>,
    table: Table,
    mut rows: Vec<([u8; LENGTH], impl value::Row)>,
) {
    rows.sort_unstable_by_key(|(key, _)| *key);
    let mut value = Vec::new();
    for (key, row) in &rows {
        value.clear();
        value::encode_into(&mut value, row);
        batch.put(table, key, &value);
    }
}
