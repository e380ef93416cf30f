//! Where the bytes of sealed records are at this node: a small store of its own beside the ledger's, all of it
//! sealed under the vault's keys.
//!
//! | column family | key | value |
//! |---|---|---|
//! | `contents` | lodging agency (16), record id (32) | wrapped key (81), and behind it nonce, ciphertext and tag; the wrapped key alone while it is being sealed |
//! | `rows` | the same | how it stands: see [`Row`] |
//! | `missing` | the same | log index (8), position (4) of the slot by which this agency is entitled to it |
//! | `unchecked` | the same | the same, of a record whose epoch's secret or terms were not here when it came |
//! | `pending` | `not_after_ms` (8), lodging agency (16), record id (32) | bytes that it takes (4) |
//! | `outgoing` | receiving agency (16), `not_after_ms` (8), record id (32) | agreement (32), epoch (4) |
//! | `delivered` | record id (32), receiving agency (16) | see [`Delivery`] |
//! | `meta` | `cursor` | log index (8) up to which the log was looked at |
//! | | `chain` | the chain's id (32) |
//!
//! Nothing in it says what a record says, who lodged it at the agency, or what it is about: ids, epochs and times are
//! on the chain already.

use std::{path::Path, sync::Arc};

use customhouse_ledger::{
    agency::AgencyCode,
    hash::Hash,
    layout::{Reader, Writer},
    store::refuse_hidden_loss,
    transaction::EpochId,
};
use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, DBRecoveryMode, Direction, IteratorMode, Options,
    WriteBatch, WriteOptions,
};

use super::{
    error::SealedStoreError,
    row::{Delivery, Row},
};
use crate::descriptors::SEALED_FILES_MAX;

const CONTENTS: &str = "contents";
const ROWS: &str = "rows";
const MISSING: &str = "missing";
const UNCHECKED: &str = "unchecked";
const PENDING: &str = "pending";
const OUTGOING: &str = "outgoing";
const DELIVERED: &str = "delivered";
const META: &str = "meta";
const FAMILIES: [&str; 8] =
    [CONTENTS, ROWS, MISSING, UNCHECKED, PENDING, OUTGOING, DELIVERED, META];
const CURSOR: &str = "cursor";
const CHAIN: &str = "chain";

/// A sealed record, by who lodged it and its id: ids are unique within an agency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SealedId {
    /// Who lodged it.
    pub agency: AgencyCode,
    /// Its id.
    pub record_id: Hash,
}

/// The slot by which an agency is entitled to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotPlace {
    pub(crate) log_index: u64,
    pub(crate) position: u32,
}

/// What waits to be delivered to an agency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) to: AgencyCode,
    pub(crate) not_after_ms: u64,
    pub(crate) record_id: Hash,
    pub(crate) epoch: EpochId,
}

#[derive(Clone, Debug)]
pub(crate) struct SealedStore {
    db: Arc<DB>,
}

/// Changes that are written together.
pub(crate) struct Batch<'a> {
    store: &'a SealedStore,
    changes: WriteBatch,
}

impl SealedId {
    fn to_key(self) -> Vec<u8> {
        [self.agency.as_bytes(), &self.record_id.0[..]].concat()
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (agency, record_id) = (reader.agency("agency").ok()?, reader.hash("record id").ok()?);
        Some(Self { agency, record_id })
    }
}

impl Outgoing {
    fn to_key(self) -> Vec<u8> {
        let not_after_ms = self.not_after_ms.to_be_bytes();
        [self.to.as_bytes(), &not_after_ms[..], &self.record_id.0].concat()
    }

    fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let (mut key, mut value) = (Reader::new(key), Reader::new(value));
        Some(Self {
            to: key.agency("to").ok()?,
            not_after_ms: key.u64("not after").ok()?,
            record_id: key.hash("record id").ok()?,
            epoch: EpochId {
                agreement: value.hash("agreement").ok()?,
                number: value.u32("epoch").ok()?,
            },
        })
    }
}

impl SealedStore {
    /// Opens it, or makes a new one.
    ///
    /// # Errors
    /// RocksDB's, or files that would hide a loss.
    pub(crate) fn open(path: &Path, chain_id: &Hash) -> Result<Self, SealedStoreError> {
        refuse_hidden_loss(path).map_err(|error| SealedStoreError::HiddenLoss {
            path: path.to_owned(),
            what: error.to_string(),
        })?;
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_max_open_files(SEALED_FILES_MAX);
        options.set_keep_log_file_num(2);
        options.set_max_total_wal_size(64 * 1024 * 1024);
        options.set_db_write_buffer_size(32 * 1024 * 1024);
        let family = |name| {
            let mut options = Options::default();
            options.set_write_buffer_size(8 * 1024 * 1024);
            // Ciphertext: nothing in it would become shorter.
            options.set_compression_type(rocksdb::DBCompressionType::None);
            ColumnFamilyDescriptor::new(name, options)
        };
        let db = DB::open_cf_descriptors(&options, path, FAMILIES.map(family))?;
        let store = Self { db: db.into() };
        store.check_chain(path, chain_id)?;
        Ok(store)
    }

    /// Whether it is of this chain; a new one is from here on.
    fn check_chain(&self, path: &Path, chain_id: &Hash) -> Result<(), SealedStoreError> {
        match self.db.get_cf(self.family(META), CHAIN)? {
            Some(kept) if kept == chain_id.0 => Ok(()),
            Some(_) => Err(SealedStoreError::OtherChain(path.to_owned())),
            None => {
                let mut batch = self.batch();
                batch.changes.put_cf(self.family(META), CHAIN, chain_id.0);
                batch.commit()
            }
        }
    }

    fn family(&self, name: &'static str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("opened with every column family")
    }

    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch { store: self, changes: WriteBatch::default() }
    }

    /// What is kept of a record: its wrapped key, with or without the ciphertext behind it.
    pub(crate) fn content(&self, id: &SealedId) -> Result<Option<Vec<u8>>, SealedStoreError> {
        Ok(self.db.get_cf(self.family(CONTENTS), id.to_key())?)
    }

    pub(crate) fn row(&self, id: &SealedId) -> Result<Option<Row>, SealedStoreError> {
        let Some(value) = self.db.get_cf(self.family(ROWS), id.to_key())? else { return Ok(None) };
        Row::decode(&value).map(Some).ok_or_else(|| damaged(ROWS, &id.to_key()))
    }

    /// Whether this agency is entitled to a record and does not have it.
    pub(crate) fn missing(&self, id: &SealedId) -> Result<Option<SlotPlace>, SealedStoreError> {
        let value = self.db.get_cf(self.family(MISSING), id.to_key())?;
        let place =
            |value: Vec<u8>| slot_place(&value).ok_or_else(|| damaged(MISSING, &id.to_key()));
        value.map(place).transpose()
    }

    /// Those of an agency that are missing, behind one of them, ascending.
    pub(crate) fn missing_of(
        &self,
        agency: AgencyCode,
        after: Option<&SealedId>,
        count_max: usize,
    ) -> Result<Vec<(SealedId, SlotPlace)>, SealedStoreError> {
        let start = after.map_or(agency.as_bytes().to_vec(), behind);
        self.scan(MISSING, &start, agency.as_bytes(), count_max, slot_row)
    }

    /// Whose records are missing.
    pub(crate) fn lacking(&self) -> Result<Vec<AgencyCode>, SealedStoreError> {
        let (mut found, mut start) = (Vec::new(), Vec::new());
        while let Some((next, _)) = self.scan(MISSING, &start, &[], 1, slot_row)?.first() {
            found.push(next.agency);
            start = [next.agency.as_bytes(), &[0xff; 33][..]].concat();
        }
        Ok(found)
    }

    /// Those that were not checked, behind one of them, ascending.
    pub(crate) fn unchecked_after(
        &self,
        after: Option<&SealedId>,
        count_max: usize,
    ) -> Result<Vec<(SealedId, SlotPlace)>, SealedStoreError> {
        let start = after.map(behind).unwrap_or_default();
        self.scan(UNCHECKED, &start, &[], count_max, slot_row)
    }

    /// Pending records whose slots can be committed no more as of a time, at most so many.
    pub(crate) fn expired(
        &self,
        time_ms: u64,
        count_max: usize,
    ) -> Result<Vec<(u64, SealedId)>, SealedStoreError> {
        let mut all = self.scan(PENDING, &[], &[], count_max, |key, _| {
            let mut reader = Reader::new(key);
            Some((reader.u64("not after").ok()?, SealedId::read(&mut reader)?))
        })?;
        all.retain(|(not_after_ms, _)| *not_after_ms < time_ms);
        Ok(all)
    }

    /// All that is pending, with the bytes that it takes.
    pub(crate) fn pending(&self) -> Result<Vec<(SealedId, u32)>, SealedStoreError> {
        self.scan(PENDING, &[], &[], usize::MAX, |key, value| {
            let mut reader = Reader::new(key);
            reader.u64("not after").ok()?;
            Some((SealedId::read(&mut reader)?, u32::from_be_bytes(value.try_into().ok()?)))
        })
    }

    /// What waits to be delivered to an agency, behind one of them, oldest first.
    pub(crate) fn outgoing(
        &self,
        to: AgencyCode,
        after: Option<&Outgoing>,
        count_max: usize,
    ) -> Result<Vec<Outgoing>, SealedStoreError> {
        let start = after.map_or(to.as_bytes().to_vec(), |last| [last.to_key(), vec![0]].concat());
        self.scan(OUTGOING, &start, to.as_bytes(), count_max, Outgoing::read)
    }

    /// Who waits for anything.
    pub(crate) fn recipients(&self) -> Result<Vec<AgencyCode>, SealedStoreError> {
        let (mut found, mut start) = (Vec::new(), Vec::new());
        while let Some(next) = self.scan(OUTGOING, &start, &[], 1, Outgoing::read)?.first() {
            found.push(next.to);
            start = [next.to.as_bytes(), &[0xff; 41][..]].concat();
        }
        Ok(found)
    }

    /// To whom a record of this agency was delivered.
    pub(crate) fn delivered(
        &self,
        record_id: &Hash,
    ) -> Result<Vec<(AgencyCode, Delivery)>, SealedStoreError> {
        self.scan(
            DELIVERED,
            record_id.as_bytes(),
            record_id.as_bytes(),
            usize::MAX,
            |key, value| {
                Some((Reader::new(key.get(32..)?).agency("to").ok()?, Delivery::decode(value)?))
            },
        )
    }

    /// How much of the log was looked at.
    pub(crate) fn cursor(&self) -> Result<u64, SealedStoreError> {
        let Some(value) = self.db.get_cf(self.family(META), CURSOR)? else { return Ok(0) };
        let value = value.try_into().map_err(|_| damaged(META, CURSOR.as_bytes()))?;
        Ok(u64::from_be_bytes(value))
    }

    fn scan<T>(
        &self,
        family: &'static str,
        start: &[u8],
        prefix: &[u8],
        count_max: usize,
        read: impl Fn(&[u8], &[u8]) -> Option<T>,
    ) -> Result<Vec<T>, SealedStoreError> {
        let from = IteratorMode::From(start, Direction::Forward);
        let mut found = Vec::new();
        for row in self.db.iterator_cf(self.family(family), from).take(count_max) {
            let (key, value) = row?;
            if !key.starts_with(prefix) {
                break;
            }
            found.push(read(&key, &value).ok_or_else(|| damaged(family, &key))?);
        }
        Ok(found)
    }
}

fn behind(id: &SealedId) -> Vec<u8> {
    [id.to_key(), vec![0]].concat()
}

fn slot_row(key: &[u8], value: &[u8]) -> Option<(SealedId, SlotPlace)> {
    Some((SealedId::read(&mut Reader::new(key))?, slot_place(value)?))
}

fn slot_place(value: &[u8]) -> Option<SlotPlace> {
    let mut reader = Reader::new(value);
    let (log_index, position) = (reader.u64("log index").ok()?, reader.u32("position").ok()?);
    Some(SlotPlace { log_index, position })
}

fn damaged(family: &'static str, key: &[u8]) -> SealedStoreError {
    SealedStoreError::Damaged { family, key: hex::encode(key) }
}

impl Batch<'_> {
    pub(crate) fn put_content(&mut self, id: &SealedId, bytes: &[u8]) {
        self.changes.put_cf(self.store.family(CONTENTS), id.to_key(), bytes);
    }

    pub(crate) fn put_row(&mut self, id: &SealedId, row: &Row) {
        self.changes.put_cf(self.store.family(ROWS), id.to_key(), row.encode());
    }

    pub(crate) fn put_missing(&mut self, id: &SealedId, place: SlotPlace) {
        let SlotPlace { log_index, position } = place;
        let value = Writer::with_capacity(12).u64(log_index).u32(position).finish();
        self.changes.put_cf(self.store.family(MISSING), id.to_key(), value);
    }

    pub(crate) fn found(&mut self, id: &SealedId) {
        self.changes.delete_cf(self.store.family(MISSING), id.to_key());
    }

    pub(crate) fn put_unchecked(&mut self, id: &SealedId, place: SlotPlace) {
        let SlotPlace { log_index, position } = place;
        let value = Writer::with_capacity(12).u64(log_index).u32(position).finish();
        self.changes.put_cf(self.store.family(UNCHECKED), id.to_key(), value);
    }

    pub(crate) fn checked(&mut self, id: &SealedId) {
        self.changes.delete_cf(self.store.family(UNCHECKED), id.to_key());
    }

    pub(crate) fn put_pending(&mut self, not_after_ms: u64, id: &SealedId, bytes: u32) {
        let key = pending_key(not_after_ms, id);
        self.changes.put_cf(self.store.family(PENDING), key, bytes.to_be_bytes());
    }

    pub(crate) fn end_pending(&mut self, not_after_ms: u64, id: &SealedId) {
        self.changes.delete_cf(self.store.family(PENDING), pending_key(not_after_ms, id));
    }

    /// Removes what was kept of a record that never came onto the chain.
    pub(crate) fn forget(&mut self, id: &SealedId) {
        self.changes.delete_cf(self.store.family(CONTENTS), id.to_key());
        self.changes.delete_cf(self.store.family(ROWS), id.to_key());
    }

    pub(crate) fn put_outgoing(&mut self, outgoing: &Outgoing) {
        let epoch = Writer::with_capacity(36).hash(&outgoing.epoch.agreement);
        let value = epoch.u32(outgoing.epoch.number).finish();
        self.changes.put_cf(self.store.family(OUTGOING), outgoing.to_key(), value);
    }

    pub(crate) fn end_outgoing(&mut self, outgoing: &Outgoing) {
        self.changes.delete_cf(self.store.family(OUTGOING), outgoing.to_key());
    }

    pub(crate) fn put_delivered(&mut self, record_id: &Hash, to: AgencyCode, delivery: &Delivery) {
        let key = [record_id.as_bytes(), &to.as_bytes()[..]].concat();
        self.changes.put_cf(self.store.family(DELIVERED), key, delivery.encode());
    }

    pub(crate) fn put_cursor(&mut self, log_index: u64) {
        self.changes.put_cf(self.store.family(META), CURSOR, log_index.to_be_bytes());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Writes the changes; they are durable when it returns.
    pub(crate) fn commit(self) -> Result<(), SealedStoreError> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        Ok(self.store.db.write_opt(self.changes, &options)?)
    }

    /// Writes the changes; a crash may lose them, and they are made again.
    pub(crate) fn commit_unsynced(self) -> Result<(), SealedStoreError> {
        Ok(self.store.db.write(self.changes)?)
    }
}

fn pending_key(not_after_ms: u64, id: &SealedId) -> Vec<u8> {
    [&not_after_ms.to_be_bytes()[..], &id.to_key()].concat()
}
