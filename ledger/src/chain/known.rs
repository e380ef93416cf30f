//! Which of a block's transactions, keys and records are on the chain already.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    agency::AgencyCode,
    authority::{self, SlotRefused, Stated, StatedReference, Target},
    chain::ChainReader,
    hash::Hash,
    limits::SLOTS_MAX,
    store::{
        Store, StoreError, Table, table,
        value::{self, DedupeRow, PlaceRow},
    },
    transaction::{EpochId, Slot, SlotForm, SlotOutcome, TransactionHeader, VerifiedTransaction},
};

/// Key of [`Table::Dedupe`].
pub(super) type DedupeKey = [u8; 48];
/// Key of [`Table::Records`].
type RecordKey = [u8; 48];

/// The table's key for a slot's dedupe key.
pub(super) fn dedupe_key(header: &TransactionHeader, slot: &Slot) -> DedupeKey {
    let (agency, key) = slot.scope.place(header, &slot.dedupe_key);
    table::dedupe(agency.as_ref(), &key)
}

/// A slot that is being executed, and where.
pub(super) struct SlotAt<'a> {
    pub(super) transaction: &'a Arc<VerifiedTransaction>,
    pub(super) log_index: u64,
    pub(super) position: u32,
}

impl SlotAt<'_> {
    fn slot(&self) -> &Slot {
        &self.transaction.slots()[self.position as usize]
    }

    fn stated(&self) -> Option<&Stated> {
        self.transaction.stated()[self.position as usize].as_ref()
    }

    fn dedupe_key(&self) -> DedupeKey {
        let slot = self.slot();
        dedupe_key(self.transaction.header(), slot)
    }

    fn record_key(&self) -> RecordKey {
        table::record(&self.slot().record_id, &self.transaction.header().agency)
    }
}

/// What the slots of a block so far have taken.
#[derive(Default)]
pub(super) struct Firsts {
    dedupe: HashMap<DedupeKey, SlotOutcome>,
    records: HashMap<RecordKey, (SlotOutcome, Arc<VerifiedTransaction>)>,
}

impl Firsts {
    /// A slot is applied: what it takes is taken for those behind it.
    pub(super) fn take(&mut self, at: &SlotAt<'_>) {
        let here = SlotOutcome::Duplicate { log_index: at.log_index, position: at.position };
        self.dedupe.insert(at.dedupe_key(), here);
        if !matches!(at.slot().form, SlotForm::Grant(_)) {
            self.records.insert(at.record_key(), (here, Arc::clone(at.transaction)));
        }
    }

    fn record(&self, key: &RecordKey) -> Option<SlotOutcome> {
        self.records.get(key).map(|(first, _)| *first)
    }

    fn target(&self, key: &RecordKey) -> Option<Target> {
        let (SlotOutcome::Duplicate { position, .. }, transaction) = self.records.get(key)? else {
            return None;
        };
        Some(Target::of(transaction.stated().get(*position as usize)?.as_ref()))
    }
}

/// Slots that are looked up at once: as many as one transaction may have.
const SLOTS_AT_ONCE: usize = SLOTS_MAX;

/// What is looked up, and which of the rows found count. What a record refers to is looked up always.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lookup {
    /// Whether transactions, dedupe keys and records are. Where they are not, all are taken to be new; whether
    /// they are shows in the root over the outcomes.
    pub(super) repeats: bool,
    /// Only what is before this log index counts.
    pub(super) before: u64,
}

impl Lookup {
    /// On the tip: everything, and every row that is there.
    pub(super) const ALL: Self = Self { repeats: true, before: u64::MAX };
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
    records: HashMap<RecordKey, SlotOutcome>,
    targets: HashMap<RecordKey, Target>,
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
            self.found = Found::read(self.store, next, self.lookup)?;
            self.ahead = ahead;
        }
        self.left -= 1;
        Ok(())
    }

    /// Where a transaction is in the log.
    pub(super) fn log_index(&self, id: &Hash) -> Option<u64> {
        self.found.transactions.get(id).copied()
    }

    /// What becomes of a slot, behind those that were taken before it in its block. `admits` says whether an epoch
    /// is in force for the slot's agency.
    pub(super) fn outcome(
        &self,
        firsts: &Firsts,
        at: &SlotAt<'_>,
        admits: impl Fn(&EpochId) -> Result<(), SlotRefused>,
    ) -> SlotOutcome {
        let (dedupe_key, record_key) = (at.dedupe_key(), at.record_key());
        // A grant is of a record whose id is taken.
        let takes_id = !matches!(at.slot().form, SlotForm::Grant(_));
        let by_id = |first: Option<SlotOutcome>| first.filter(|_| takes_id);
        let committed = || {
            let by_key = self.found.dedupe.get(&dedupe_key).copied();
            by_key.or_else(|| by_id(self.found.records.get(&record_key).copied()))
        };
        let in_block = || {
            let by_key = firsts.dedupe.get(&dedupe_key).copied();
            by_key.or_else(|| by_id(firsts.record(&record_key)))
        };
        if let Some(first) = committed().or_else(in_block) {
            return first;
        }
        let checked = match at.slot().form {
            SlotForm::Open => self.check_references(firsts, at),
            SlotForm::Sealed(epoch) => admits(&epoch),
            SlotForm::Grant(epoch) => {
                admits(&epoch).and_then(|()| self.check_granted(firsts, &record_key))
            }
        };
        match checked {
            Ok(()) => SlotOutcome::Applied,
            Err(refused) => SlotOutcome::Refused(refused),
        }
    }

    /// What is granted is a sealed record of the agency, which the granting slot is behind.
    fn check_granted(&self, firsts: &Firsts, record: &RecordKey) -> Result<(), SlotRefused> {
        let in_block = firsts.target(record);
        let target = in_block.as_ref().or_else(|| self.found.targets.get(record));
        let is_sealed = target.is_some_and(|target| target.kind.is_none());
        if is_sealed { Ok(()) } else { Err(SlotRefused::GrantRecord) }
    }

    fn check_references(&self, firsts: &Firsts, at: &SlotAt<'_>) -> Result<(), SlotRefused> {
        let Some(stated) = at.stated() else { return Ok(()) };
        for reference in &stated.references {
            let key = table::record(&reference.record_id, &reference.agency);
            let in_block = firsts.target(&key);
            let target = in_block.as_ref().or_else(|| self.found.targets.get(&key));
            authority::check_target(&at.transaction.header().agency, stated, reference, target)?;
        }
        Ok(())
    }
}

impl Found {
    fn read(
        store: &Store,
        transactions: &[Arc<VerifiedTransaction>],
        lookup: Lookup,
    ) -> Result<Self, StoreError> {
        let mut known = Self::default();
        known.read_targets(store, transactions, lookup.before)?;
        if lookup.repeats {
            known.read_repeats(store, transactions, lookup.before)?;
        }
        Ok(known)
    }

    fn read_targets(
        &mut self,
        store: &Store,
        transactions: &[Arc<VerifiedTransaction>],
        before: u64,
    ) -> Result<(), StoreError> {
        let mut keys = BTreeSet::new();
        for transaction in transactions {
            let agency = &transaction.header().agency;
            for (slot, stated) in transaction.slots().iter().zip(transaction.stated()) {
                let references = stated.iter().flat_map(|stated| &stated.references);
                keys.extend(references.map(|r| table::record(&r.record_id, &r.agency)));
                if matches!(slot.form, SlotForm::Grant(_)) {
                    keys.insert(table::record(&slot.record_id, agency));
                }
            }
        }
        let keys: Vec<_> = keys.into_iter().collect();
        for (key, row) in found::<_, PlaceRow>(store, Table::Records, &keys)? {
            if row.log_index < before {
                let corrupt = || StoreError::corrupt(Table::Records, &key, "of no kind");
                self.targets.insert(key, row.target().ok_or_else(corrupt)?);
            }
        }
        Ok(())
    }

    fn read_repeats(
        &mut self,
        store: &Store,
        transactions: &[Arc<VerifiedTransaction>],
        before: u64,
    ) -> Result<(), StoreError> {
        let ids: Vec<_> = transactions.iter().map(|transaction| transaction.id().0).collect();
        for (id, log_index) in found(store, Table::TransactionIds, &ids)? {
            if log_index < before {
                self.transactions.insert(Hash(id), log_index);
            }
        }
        let slots = || {
            transactions.iter().flat_map(|t| t.slots().iter().map(move |slot| (t.header(), slot)))
        };
        let keys: Vec<_> = slots().map(|(h, s)| dedupe_key(h, s)).collect();
        for (key, row) in found::<_, DedupeRow>(store, Table::Dedupe, &keys)? {
            if row.log_index < before {
                self.dedupe.insert(key, duplicate(row.log_index, row.position));
            }
        }
        let keys: Vec<_> = slots().map(|(h, s)| table::record(&s.record_id, &h.agency)).collect();
        for (key, row) in found::<_, PlaceRow>(store, Table::Records, &keys)? {
            if row.log_index < before {
                self.records.insert(key, duplicate(row.log_index, row.position));
            }
        }
        Ok(())
    }
}

fn duplicate(log_index: u64, position: u32) -> SlotOutcome {
    SlotOutcome::Duplicate { log_index, position }
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

impl ChainReader {
    /// Whether a record that is not on the chain yet may refer to what it refers to, as far as the committed
    /// records tell. `pending` gives those that wait.
    ///
    /// # Errors
    /// The outer error is the store's; the inner is the record's fault.
    pub fn check_references(
        &self,
        agency: &AgencyCode,
        stated: &Stated,
        mut pending: impl FnMut(&StatedReference) -> Option<Target>,
    ) -> Result<Result<(), SlotRefused>, StoreError> {
        let log_size = self.tip().header.log_size;
        for reference in &stated.references {
            let key = table::record(&reference.record_id, &reference.agency);
            let row: Option<PlaceRow> = self.store().value(Table::Records, key)?;
            let row = row.filter(|row| row.log_index < log_size);
            let target = row.and_then(|row| row.target()).or_else(|| pending(reference));
            let checked = authority::check_target(agency, stated, reference, target.as_ref());
            if checked.is_err() {
                return Ok(checked);
            }
        }
        Ok(Ok(()))
    }
}
