//! What of a block's transactions is on the chain already.

use std::{collections::HashMap, sync::Arc};

use crate::{
    chain::SlotOutcome,
    hash::Hash,
    store::{
        Store, StoreError, Table, table,
        value::{self, DedupeRow, PlaceRow},
    },
    transaction::{SLOTS_MAX, Slot, VerifiedTransaction},
};

/// Key of [`Table::Dedupe`].
pub(super) type DedupeKey = [u8; 48];

/// The key that a slot's dedupe key has on the chain.
pub(super) fn dedupe_key(transaction: &VerifiedTransaction, slot: &Slot) -> DedupeKey {
    table::dedupe(slot.scope.of(&transaction.header().agency), &slot.dedupe_key)
}

/// Slots that are looked up at once: as many as one transaction may have.
const SLOTS_AT_ONCE: usize = SLOTS_MAX;

/// What the committed state holds of a block's transactions, read for many of them at once: asking for
/// each by itself takes longer than executing a transaction of one record. It is read as execution comes
/// to them, so that what an invalid block costs, and the values that are held meanwhile, stay bounded.
pub(super) struct Known<'a> {
    store: &'a Store,
    /// Those that were not looked up yet.
    ahead: &'a [Arc<VerifiedTransaction>],
    /// How many of those that were are still to be executed.
    left: usize,
    found: Found,
}

#[derive(Default)]
struct Found {
    transactions: HashMap<Hash, u64>,
    dedupe: HashMap<DedupeKey, SlotOutcome>,
    records: HashMap<Hash, SlotOutcome>,
}

impl<'a> Known<'a> {
    /// Of these transactions, in the order in which they are executed.
    pub(super) fn of(store: &'a Store, transactions: &'a [Arc<VerifiedTransaction>]) -> Self {
        Self { store, ahead: transactions, left: 0, found: Found::default() }
    }

    /// Goes on to the next transaction, which must be looked up now at the latest.
    pub(super) fn advance(&mut self) -> Result<(), StoreError> {
        if self.left == 0 {
            let mut slots = 0;
            let fits = |transaction: &&Arc<VerifiedTransaction>| {
                slots += transaction.slots().len();
                slots <= SLOTS_AT_ONCE
            };
            self.left = self.ahead.iter().take_while(fits).count().max(1);
            let (next, ahead) = self.ahead.split_at(self.left.min(self.ahead.len()));
            self.found = Found::read(self.store, next)?;
            self.ahead = ahead;
        }
        self.left -= 1;
        Ok(())
    }

    /// Where a transaction is in the log.
    pub(super) fn log_index(&self, id: &Hash) -> Option<u64> {
        self.found.transactions.get(id).copied()
    }

    /// Where a slot's dedupe key or, failing that, its record was first.
    pub(super) fn first(&self, key: &DedupeKey, record_id: &Hash) -> Option<SlotOutcome> {
        self.found.dedupe.get(key).or_else(|| self.found.records.get(record_id)).copied()
    }
}

impl Found {
    fn read(store: &Store, transactions: &[Arc<VerifiedTransaction>]) -> Result<Self, StoreError> {
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
}

/// The rows that there are of these keys.
fn found<const LENGTH: usize, V: value::Row>(
    store: &Store,
    table: Table,
    keys: &[[u8; LENGTH]],
) -> Result<Vec<([u8; LENGTH], V)>, StoreError> {
    let rows = store.read_many(table, keys)?;
    let there = keys.iter().zip(rows).filter_map(|(key, row)| Some((key, row?)));
    there.map(|(key, row)| Ok((*key, value::decode(table, key, &row)?))).collect()
}
