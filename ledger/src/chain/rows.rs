//! The rows that a block writes, in one synced batch.

use crate::{
    certificate::Certificate,
    chain::{Chain, SlotOutcome, Staged},
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
        let mut batch = self.shared.store.batch();
        let row = HeaderRow::new(header, Some(certificate));
        batch.put(Table::Headers, table::number(header.height), value::encode(&row));
        if header.log_size > header.log_start {
            let last = table::number(header.log_size - 1);
            batch.put(Table::Heights, last, value::encode(&header.height));
        }
        let bodies_stored = self.shared.state().pending.block(&hash).is_some();
        put_transactions(&mut batch, staged, bodies_stored);
        for ((level, index), hashes) in &staged.tiles {
            let hashes: Vec<_> = hashes.iter().map(|hash| hash.0).collect();
            batch.put(Table::Tiles, table::tile(*level, *index), hashes.as_flattened());
        }
        let mut entries: Vec<_> = staged.entries.iter().map(HistoryEntry::encode).collect();
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
        leaves.push((leaf.0.to_vec(), value::encode(&log_index)));
        ids.push((transaction.id().0.to_vec(), value::encode(&log_index)));
        let agency = &transaction.header().agency;
        for (position, (slot, outcome)) in (0..).zip(transaction.slots().iter().zip(outcomes)) {
            if *outcome == SlotOutcome::Applied {
                let place = PlaceRow::new(log_index, position, agency);
                records.push((slot.record_id.0.to_vec(), value::encode(&place)));
                let key = table::dedupe(slot.scope.of(agency), &slot.dedupe_key);
                let row = DedupeRow::new(log_index, position, &slot.record_id);
                dedupe.push((key.to_vec(), value::encode(&row)));
            }
        }
    }
    let tables = [
        (Table::Leaves, leaves),
        (Table::TransactionIds, ids),
        (Table::Records, records),
        (Table::Dedupe, dedupe),
    ];
    for (table, mut rows) in tables {
        // In key order, RocksDB's write buffer is walked from neighbour to neighbour.
        rows.sort_unstable();
        for (key, row) in rows {
            batch.put(table, key, row);
        }
    }
}
