//! What of a block's transactions is on the chain already.

use std::{collections::HashMap, sync::Arc};

use crate::{
    chain::SlotOutcome,
    hash::Hash,
    store::{
        Store, StoreError, Table, table,
        value::{self, DedupeRow, PlaceRow},
    },
    transaction::{Slot, VerifiedTransaction},
};

/// Key of [`Table::Dedupe`].
pub(super) type DedupeKey = [u8; 48];

/// The key that a slot's dedupe key has on the chain.
pub(super) fn dedupe_key(transaction: &VerifiedTransaction, slot: &Slot) -> DedupeKey {
    table::dedupe(slot.scope.of(&transaction.header().agency), &slot.dedupe_key)
}

/// What the committed state holds of some transactions. It is read for many of them at once: asking
/// for each by itself takes longer than all else that a transaction of one record needs here.
#[derive(Default)]
pub(super) struct Known {
    transactions: HashMap<Hash, u64>,
    dedupe: HashMap<DedupeKey, SlotOutcome>,
    records: HashMap<Hash, SlotOutcome>,
}

impl Known {
    /// Reads what is known of these transactions.
    pub(super) fn read(
        store: &Store,
        transactions: &[Arc<VerifiedTransaction>],
    ) -> Result<Self, StoreError> {
        let mut known = Self::default();
        let ids: Vec<_> = transactions.iter().map(|transaction| transaction.id().0).collect();
        for (id, log_index) in found(store, Table::TransactionIds, &ids)? {
            known.transactions.insert(Hash(id), log_index);
        }
        let slots =
            || transactions.iter().flat_map(|t| t.slots().iter().map(move |slot| (t, slot)));
        let keys: Vec<_> = slots().map(|(t, slot)| dedupe_key(t, slot)).collect();
        for (key, row) in found::<_, DedupeRow>(store, Table::Dedupe, &keys)? {
            known.dedupe.insert(key, SlotOutcome::duplicate(row.log_index, row.position));
        }
        let ids: Vec<_> = slots().map(|(_, slot)| slot.record_id.0).collect();
        for (id, row) in found::<_, PlaceRow>(store, Table::Records, &ids)? {
            known.records.insert(Hash(id), SlotOutcome::duplicate(row.log_index, row.position));
        }
        Ok(known)
    }

    /// Where a transaction is in the log.
    pub(super) fn log_index(&self, id: &Hash) -> Option<u64> {
        self.transactions.get(id).copied()
    }

    /// Where a slot's dedupe key or, failing that, its record was first.
    pub(super) fn first(&self, key: &DedupeKey, record_id: &Hash) -> Option<SlotOutcome> {
        self.dedupe.get(key).or_else(|| self.records.get(record_id)).copied()
    }
}

/// The rows that there are of these keys.
fn found<const LENGTH: usize, V: bincode::Decode<()>>(
    store: &Store,
    table: Table,
    keys: &[[u8; LENGTH]],
) -> Result<Vec<([u8; LENGTH], V)>, StoreError> {
    let rows = store.read_many(table, keys)?;
    let there = keys.iter().zip(rows).filter_map(|(key, row)| Some((key, row?)));
    there.map(|(key, row)| Ok((*key, value::decode(table, key, &row)?))).collect()
}
