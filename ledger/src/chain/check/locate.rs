//! Where a table differs from what the blocks give: rows that are missing or have another value, found
//! by looking each expected row up, and rows that should not be there.

use std::collections::BTreeMap;

use crate::{
    chain::{
        ChainState,
        check::{Damage, Pass, StoreCheck},
        known::dedupe_key,
        reader::{history_entry, read_header},
        rows::{self, Rows},
    },
    hash::Hash,
    store::{
        Row, Store, StoreError, Table,
        table::{self, read_numbered},
        tile::TILE_HASHES,
        value::{self, DedupeRow, PlaceRow},
    },
    transaction::{SlotForm, VerifiedTransaction},
};

/// Looks rows up.
pub(super) struct Located {
    /// Rows to be looked up, by table.
    wanted: BTreeMap<&'static str, (Table, Vec<Row>)>,
    /// How many expected rows have a row with their key.
    present: BTreeMap<&'static str, u64>,
}

impl Located {
    pub(super) fn new(tables: &[Table]) -> Self {
        let wanted = tables.iter().map(|table| (table.name(), (*table, Vec::new()))).collect();
        Self { wanted, present: BTreeMap::new() }
    }

    /// Looks up the rows of a block.
    pub(super) fn look_up(
        &mut self,
        store: &Store,
        height: Option<u64>,
        mut found: impl FnMut(Damage),
    ) {
        for (table, expected) in self.wanted.values_mut() {
            let present = self.present.entry(table.name()).or_default();
            for (key, value) in std::mem::take(expected) {
                match store.read(*table, &key) {
                    Ok(None) => found(Damage::new(height, *table, &key, "missing")),
                    Ok(Some(stored)) => {
                        *present += 1;
                        if *stored != *value {
                            found(Damage::new(height, *table, &key, "another value"));
                        }
                    }
                    Err(error) => found(Damage::unread(height, *table, &key, error)),
                }
            }
        }
    }
}

impl Rows for Located {
    fn row(&mut self, table: Table, key: &[u8], value: &[u8]) {
        // A tile counts once, when it is full or at the end.
        if table != Table::Tiles || value.len() == TILE_HASHES * 32 {
            self.row_at_the_end(table, key, value);
        }
    }

    fn row_at_the_end(&mut self, table: Table, key: &[u8], value: &[u8]) {
        if let Some((_, rows)) = self.wanted.get_mut(table.name()) {
            rows.push((key.into(), value.into()));
        }
    }
}

impl StoreCheck {
    /// After the second pass: rows that no block gives, of tables that have more than they should.
    pub(super) fn find_surplus(&mut self) {
        let Pass::Locate(mut located) =
            std::mem::replace(&mut self.pass, Pass::Sum(Box::default()))
        else {
            return;
        };
        let shared = std::sync::Arc::clone(&self.chain.shared);
        rows::put_unfinished_tiles(&mut located, &self.chain.edge);
        located.look_up(&shared.store, None, |found| self.damage.push(found));
        for (table, count) in std::mem::take(&mut self.scanned) {
            let present = located.present.get(table.name());
            if present.is_some_and(|present| count > *present) {
                self.find_surplus_of(&shared, table);
            }
        }
    }

    fn find_surplus_of(&mut self, shared: &ChainState, table: Table) {
        let mut origin = Origin { shared, last: None };
        for (key, value) in shared.store.whole(table).filter_map(Result::ok) {
            if !origin.has(table, &key, &value).unwrap_or(false) {
                self.damage.push(Damage::new(None, table, &key, "follows from no block"));
            }
        }
    }
}

/// Where rows say that they come from.
struct Origin<'a> {
    shared: &'a ChainState,
    last: Option<(u64, VerifiedTransaction)>,
}

impl Origin<'_> {
    /// Whether a block gives a row with this key. What is read here was verified before.
    fn has(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<bool, StoreError> {
        let log_index = || value::decode::<u64>(table, key, value);
        match table {
            Table::Heights => self.has_height(key, value),
            Table::Outcomes => self.has_outcomes(key),
            Table::Leaves => {
                let found = self.transaction(log_index()?)?;
                Ok(found.is_some_and(|transaction| transaction.leaf_hash().0 == *key))
            }
            Table::TransactionIds => {
                let found = self.transaction(log_index()?)?;
                Ok(found.is_some_and(|transaction| transaction.id().0 == *key))
            }
            Table::Records => {
                let PlaceRow { log_index, position, .. } = value::decode(table, key, value)?;
                self.has_slot(log_index, position, |t, slot| {
                    table::record(&slot.record_id, &t.header().agency) == *key
                })
            }
            Table::Dedupe => {
                let DedupeRow { log_index, position, .. } = value::decode(table, key, value)?;
                self.has_slot(log_index, position, |t, slot| dedupe_key(t.header(), slot) == *key)
            }
            Table::History => {
                let entry = history_entry(key)?;
                self.has_slot(entry.log_index, entry.position, |t, slot| {
                    slot.index_keys(&t.header().agency).contains(&entry.key)
                })
            }
            Table::Shared => {
                let Some((log_index, position)) = table::place_of_shared(key) else {
                    return Ok(false);
                };
                self.has_slot(log_index, position, |t, slot| {
                    let id = &slot.record_id;
                    let own = table::shared(id, &t.header().agency, log_index, position);
                    slot.form.epoch().is_some() && own == *key
                })
            }
            Table::Tiles => Ok(self.has_tile(key)),
            Table::Agreements => {
                let number = key.try_into().map(u64::from_be_bytes);
                let events = self.shared.members().agreements().events();
                Ok(number.is_ok_and(|number| number < events))
            }
            Table::AgreementRoots => self.has_agreement_root(key),
            _ => Ok(true),
        }
    }

    fn has_height(&self, key: &[u8], value: &[u8]) -> Result<bool, StoreError> {
        let height: u64 = value::decode(Table::Heights, key, value)?;
        let header = read_header(&self.shared.store, height)?.map(|(header, _)| header);
        Ok(header.is_some_and(|header| {
            header.log_size > header.log_start && table::number(header.log_size - 1) == *key
        }))
    }

    fn has_outcomes(&self, key: &[u8]) -> Result<bool, StoreError> {
        let Ok(height) = key.try_into().map(u64::from_be_bytes) else { return Ok(false) };
        let header = read_header(&self.shared.store, height)?.map(|(header, _)| header);
        Ok(header.is_some_and(|header| header.log_size > header.log_start))
    }

    /// Whether a block of this height has changed an agreement.
    fn has_agreement_root(&self, key: &[u8]) -> Result<bool, StoreError> {
        let Ok(height) = key.try_into().map(u64::from_be_bytes) else { return Ok(false) };
        let Some((header, _)) = read_header(&self.shared.store, height)? else { return Ok(false) };
        for log_index in header.log_start..header.log_size {
            let found = self.read(log_index)?;
            if found.is_some_and(|transaction| transaction.agreement_change().is_some()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has_tile(&self, key: &[u8]) -> bool {
        let Some((&level, index)) = key.split_first() else { return false };
        let Ok(index) = index.try_into().map(u64::from_be_bytes) else { return false };
        let hashes = self.shared.tip().header.log_size.checked_shr(u32::from(level) * 8);
        hashes.is_some_and(|hashes| index < hashes.div_ceil(TILE_HASHES as u64))
    }

    /// Whether a slot is as wanted, and was applied.
    fn has_slot(
        &mut self,
        log_index: u64,
        position: u32,
        wanted: impl FnOnce(&VerifiedTransaction, &crate::transaction::Slot) -> bool,
    ) -> Result<bool, StoreError> {
        let shared = self.shared;
        let Some(transaction) = self.transaction(log_index)? else { return Ok(false) };
        let Some(slot) = transaction.slots().get(position as usize) else { return Ok(false) };
        let is_wanted = wanted(transaction, slot);
        let store = &shared.store;
        let first = match slot.form {
            // It takes no record id.
            SlotForm::Grant(_) => {
                let key = dedupe_key(transaction.header(), slot);
                let row: Option<DedupeRow> = store.value(Table::Dedupe, key)?;
                row.map(|row| (row.log_index, row.position))
            }
            SlotForm::Open | SlotForm::Sealed(_) => {
                let key = table::record(&slot.record_id, &transaction.header().agency);
                let row: Option<PlaceRow> = store.value(Table::Records, key)?;
                row.map(|row| (row.log_index, row.position))
            }
        };
        Ok(is_wanted && first == Some((log_index, position)))
    }

    fn transaction(&mut self, log_index: u64) -> Result<Option<&VerifiedTransaction>, StoreError> {
        if self.last.as_ref().is_none_or(|(last, _)| *last != log_index) {
            self.last = self.read(log_index)?.map(|transaction| (log_index, transaction));
        }
        Ok(self.last.as_ref().map(|(_, transaction)| transaction))
    }

    fn read(&self, log_index: u64) -> Result<Option<VerifiedTransaction>, StoreError> {
        if log_index >= self.shared.tip().header.log_size {
            return Ok(None);
        }
        let from = table::number(log_index);
        for row in self.shared.store.scan(Table::Transactions, &from, &from) {
            let (key, bytes) = row?;
            let leaf: Option<Hash> = read_numbered(&key).map(|(_, leaf)| leaf);
            let read = VerifiedTransaction::from_bytes(bytes.into(), &self.shared.chain_id).ok();
            if let Some(transaction) = read.filter(|read| Some(read.leaf_hash()) == leaf) {
                return Ok(Some(transaction));
            }
        }
        Ok(None)
    }
}
