//! The rows that a block writes, in one synced batch.

use prost::Message as _;

use crate::{
    chain::{Chain, Staged, known::dedupe_key},
    finality::{certificate::Certificate, decision::Grounds},
    hash::Hash,
    history::HistoryEntry,
    store::{
        Batch, StoreError, Table,
        table::{self, META_TIP},
        tile::LogEdge,
        value::{self, DedupeRow, HeaderRow, OutcomesRow, PlaceRow, SharedRow, TipRow},
    },
    transaction::SlotForm,
};

/// The tables whose rows all follow from headers and transactions.
pub(super) const INDEXES: [Table; 13] = [
    Table::Heights,
    Table::Leaves,
    Table::TransactionIds,
    Table::Outcomes,
    Table::Records,
    Table::Dedupe,
    Table::Tiles,
    Table::History,
    Table::Heads,
    Table::Registry,
    Table::Agreements,
    Table::AgreementRoots,
    Table::Shared,
];

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
        if !bodies_stored {
            put_bodies(&mut batch, staged);
        }
        put_indexes(&mut batch, staged);
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
    const SLOT: usize = 110 + 100;
    const ENTRY: usize = 50 + 42;
    let slots: usize = staged.transactions.iter().map(|t| t.slots().len()).sum();
    let bodies = staged.transactions.iter().map(|t| t.encoded().len() + 50);
    let bodies: usize = if bodies_stored { 0 } else { bodies.sum() };
    let rows =
        staged.transactions.len() * TRANSACTION + slots * SLOT + staged.entries.len() * ENTRY;
    bodies + rows + (64 << 10)
}

fn put_bodies(batch: &mut Batch<'_>, staged: &Staged) {
    let log_start = staged.block.header.log_start;
    for (log_index, transaction) in (log_start..).zip(&staged.transactions) {
        let key = table::numbered(log_index, &transaction.leaf_hash());
        batch.put(Table::Transactions, key, transaction.encoded());
    }
}

/// Where the rows of a block's indexes go.
pub(super) trait Rows {
    /// A row, which a later block may replace where it is a tile's, a bucket's head or the registry's.
    fn row(&mut self, table: Table, key: &[u8], value: &[u8]);

    /// A row that no block replaces any more.
    fn row_at_the_end(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.row(table, key, value);
    }
}

impl Rows for Batch<'_> {
    fn row(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.put(table, key, value);
    }
}

/// The rows that follow from a block's header and transactions: those of [`INDEXES`].
pub(super) fn put_indexes(rows: &mut impl Rows, staged: &Staged) {
    let header = &staged.block.header;
    if header.log_size > header.log_start {
        let last = table::number(header.log_size - 1);
        rows.row(Table::Heights, &last, &value::encode(&header.height));
        let outcomes = value::encode(&OutcomesRow::new(&staged.outcomes));
        rows.row(Table::Outcomes, &table::number(header.height), &outcomes);
    }
    put_places(rows, staged);
    for ((level, index), hashes) in &staged.tiles {
        rows.row(Table::Tiles, &table::tile(*level, *index), &tile(hashes));
    }
    let mut entries: Vec<_> = staged.entries.iter().copied().map(HistoryEntry::to_bytes).collect();
    entries.sort_unstable();
    for entry in entries {
        rows.row(Table::History, &entry, &[]);
    }
    for (bucket, head) in staged.history.heads() {
        rows.row(Table::Heads, &table::bucket(*bucket), head.as_bytes());
    }
    for (key, entry) in staged.members.iter().flat_map(|m| m.rows_changed_at(header.height)) {
        rows.row(Table::Registry, &key, &entry);
    }
    for (number, event) in &staged.agreed {
        rows.row(Table::Agreements, &table::number(*number), &event.encode_to_vec());
    }
    if let Some(members) = staged.members.as_ref().filter(|_| !staged.agreed.is_empty()) {
        let root = members.agreements().root();
        rows.row(Table::AgreementRoots, &table::number(header.height), root.as_bytes());
    }
}

/// The rows of tiles that are not full yet, as they are after the last block.
pub(super) fn put_unfinished_tiles(rows: &mut impl Rows, edge: &LogEdge) {
    for ((level, index), hashes) in edge.unfinished() {
        rows.row_at_the_end(Table::Tiles, &table::tile(level, index), &tile(hashes));
    }
}

fn tile(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The rows that transactions and records are found by, one table after another.
fn put_places(rows: &mut impl Rows, staged: &Staged) {
    let (mut leaves, mut ids) = (Vec::new(), Vec::new());
    let (mut records, mut dedupe, mut shared) = (Vec::new(), Vec::new(), Vec::new());
    let log_start = staged.block.header.log_start;
    for (log_index, (transaction, outcomes)) in
        (log_start..).zip(staged.transactions.iter().zip(&staged.outcomes))
    {
        leaves.push((transaction.leaf_hash().0, log_index));
        ids.push((transaction.id().0, log_index));
        let agency = &transaction.header().agency;
        let slots = transaction.slots().iter().zip(transaction.stated());
        for (position, ((slot, stated), outcome)) in (0..).zip(slots.zip(outcomes)) {
            if outcome.is_applied() {
                if !matches!(slot.form, SlotForm::Grant(_)) {
                    let row = PlaceRow::new(log_index, position, stated.as_ref());
                    records.push((table::record(&slot.record_id, agency), row));
                }
                if let Some(epoch) = slot.form.epoch() {
                    let key = table::shared(&slot.record_id, agency, log_index, position);
                    shared.push((key, SharedRow::new(&epoch)));
                }
                let row = DedupeRow::new(log_index, position, &slot.record_id);
                dedupe.push((dedupe_key(transaction.header(), slot), row));
            }
        }
    }
    put_sorted(rows, Table::Leaves, leaves);
    put_sorted(rows, Table::TransactionIds, ids);
    put_sorted(rows, Table::Records, records);
    put_sorted(rows, Table::Dedupe, dedupe);
    put_sorted(rows, Table::Shared, shared);
}

/// In key order, RocksDB's write buffer is walked from neighbour to neighbour.
fn put_sorted<const LENGTH: usize>(
    rows: &mut impl Rows,
    table: Table,
    mut sorted: Vec<([u8; LENGTH], impl value::Row)>,
) {
    sorted.sort_unstable_by_key(|(key, _)| *key);
    let mut value = Vec::new();
    for (key, row) in &sorted {
        value.clear();
        value::encode_into(&mut value, row);
        rows.row(table, key, &value);
    }
}
