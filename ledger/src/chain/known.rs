//! Which of a block's transactions, keys and records are on the chain already.

use std::{collections::HashMap, sync::Arc};

use crate::{
    chain::SlotOutcome,
    hash::Hash,
    limits::SLOTS_MAX,
    store::{
        Store, StoreError, Table, table,
        value::{self, DedupeRow, PlaceRow},
    },
    transaction::{Slot, VerifiedTransaction},
};

/// Key of [`Table::Dedupe`].
pub(super) type DedupeKey = [u8; 48];

/// The table's key for a slot's dedupe key.
pub(super) fn dedupe_key(transaction: &VerifiedTransaction, slot: &Slot) -> DedupeKey {
    table::dedupe(slot.scope.of(&transaction.header().agency), &slot.dedupe_key)
}

/// Slots that are looked up at once: as many as one transaction may have.
const SLOTS_AT_ONCE: usize = SLOTS_MAX;

/// Which of a block's transactions are looked up, and which of the rows found count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lookup {
    /// Only transactions that have a slot without subjects.
    pub(super) only_without_subjects: bool,
    /// Only what is before this log index.
    pub(super) before: u64,
}

impl Lookup {
    /// On the tip: all transactions, and every row that is there.
    pub(super) const ALL: Self = Self { only_without_subjects: false, before: u64::MAX };

    fn is_for(&self, transaction: &VerifiedTransaction) -> bool {
        let without = |slot: &Slot| slot.subject_keys.is_empty();
        !self.only_without_subjects || transaction.slots().iter().any(without)
    }
}

/// What the committed state holds of a block's transactions, read for many of them at once: asking for
/// each by itself takes longer than executing a transaction of one record. It is read as execution comes
/// to them, so that what an invalid block costs, and the values that are held meanwhile, stay bounded.
pub(super) struct Known<'a> {
    store: &'a Store,
    /// Those that were not looked up yet.
    ahead: &'a [Arc<VerifiedTransaction>],
    /// How many of those that were looked up are still to be executed.
    left: usize,
    found: Found,
    lookup: Lookup,
}

#[derive(Default)]
struct Found {
    transactions: HashMap<Hash, u64>,
    dedupe: HashMap<DedupeKey, SlotOutcome>,
    records: HashMap<Hash, SlotOutcome>,
}

impl<'a> Known<'a> {
    /// What is known of these transactions, which are in the order in which they are executed.
    pub(super) fn of(
        store: &'a Store,
        transactions: &'a [Arc<VerifiedTransaction>],
        lookup: Lookup,
    ) -> Self {
        Self { store, ahead: transactions, left: 0, found: Found::default(), lookup }
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
            let asked: Vec<_> = next.iter().filter(|t| self.lookup.is_for(t)).collect();
            self.found = Found::read(self.store, &asked, self.lookup.before)?;
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
    fn read(
        store: &Store,
        transactions: &[&Arc<VerifiedTransaction>],
        before: u64,
    ) -> Result<Self, StoreError> {
        let mut known = Self::default();
        let ids: Vec<_> = transactions.iter().map(|transaction| transaction.id().0).collect();
        for (id, log_index) in found(store, Table::TransactionIds, &ids)? {
            if log_index < before {
                known.transactions.insert(Hash(id), log_index);
            }
        }
        let slots =
            || transactions.iter().flat_map(|t| t.slots().iter().map(move |slot| (t, slot)));
        let keys: Vec<_> = slots().map(|(t, slot)| dedupe_key(t, slot)).collect();
        for (key, row) in found::<_, DedupeRow>(store, Table::Dedupe, &keys)? {
            if row.log_index < before {
                known.dedupe.insert(key, SlotOutcome::duplicate(row.log_index, row.position));
            }
        }
        let ids: Vec<_> = slots().map(|(_, slot)| slot.record_id.0).collect();
        for (id, row) in found::<_, PlaceRow>(store, Table::Records, &ids)? {
            if row.log_index < before {
                known.records.insert(Hash(id), SlotOutcome::duplicate(row.log_index, row.position));
            }
        }
        Ok(known)
    }
}

/// The rows that exist for these keys.
fn found<const LENGTH: usize, V: value::Row>(
    store: &Store,
    table: Table,
    keys: &[[u8; LENGTH]],
) -> Result<Vec<([u8; LENGTH], V)>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let rows = store.read_many(table, keys)?;
    let there = keys.iter().zip(rows).filter_map(|(key, row)| Some((key, row?)));
    there.map(|(key, row)| Ok((*key, value::decode(table, key, &row)?))).collect()
}
