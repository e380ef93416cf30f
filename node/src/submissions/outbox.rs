//! The outbox: what this node has accepted and the chain has not yet ended. A small store of its
//! own, so that a border post can lodge while the network is out of reach (DESIGN §7).
//!
//! | column family | key | value |
//! |---|---|---|
//! | `transactions` | transaction id | the encoded transaction, while it is pending |
//! | `records` | record id | dedupe key (32), transaction id (32), slot index (4), state (1) |
//! | `keys` | dedupe key | record id (32) |
//!
//! What has become final is removed: the ledger answers for it from then on. What has expired or
//! was rejected stays, so that every submission's end can be told after a restart.

use std::path::Path;

use customhouse_ledger::{hash::Hash, transaction::VerifiedTransaction};
use rocksdb::{ColumnFamilyDescriptor, DB, DBRecoveryMode, Options, WriteBatch, WriteOptions};

use crate::descriptors::OUTBOX_FILES_MAX;

const TRANSACTIONS: &str = "transactions";
const RECORDS: &str = "records";
const KEYS: &str = "keys";

/// Why the outbox cannot go on. The node stops: acceptance means durable.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// RocksDB failed.
    #[error("outbox: {0}. Check the disk; the node stops before it accepts anything more")]
    Store(#[from] rocksdb::Error),
    /// A value is not what was written.
    #[error("outbox: damaged value in `{family}` for {key}. Restore the outbox from a backup")]
    Damaged {
        /// Column family.
        family: &'static str,
        /// In hexadecimal.
        key: String,
    },
    /// The system started no thread for it.
    #[error("outbox: no thread could be started: {0}")]
    Thread(std::io::Error),
}

/// Where an accepted record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordState {
    /// Its transaction is pending.
    Pending = 0,
    /// Its transaction expired.
    Expired = 1,
    /// It committed as a no-op: another record had its dedupe key. With the same body but for the salt
    /// its end is that record's.
    Duplicate = 2,
}

/// An accepted record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AcceptedRecord {
    pub(super) dedupe_key: Hash,
    pub(super) transaction_id: Hash,
    pub(super) slot_index: u32,
    pub(super) state: RecordState,
}

#[derive(Debug)]
pub(super) struct Outbox {
    db: DB,
}

/// Changes that become durable together.
#[derive(Default)]
pub(super) struct Changes(WriteBatch);

impl Outbox {
    pub(super) fn open(path: &Path) -> Result<Self, OutboxError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_max_open_files(OUTBOX_FILES_MAX);
        options.set_keep_log_file_num(2);
        options.set_max_total_wal_size(64 * 1024 * 1024);
        options.set_db_write_buffer_size(32 * 1024 * 1024);
        let family = |name| {
            let mut options = Options::default();
            options.set_write_buffer_size(8 * 1024 * 1024);
            ColumnFamilyDescriptor::new(name, options)
        };
        let families = [TRANSACTIONS, RECORDS, KEYS].map(family);
        Ok(Self { db: DB::open_cf_descriptors(&options, path, families)? })
    }

    fn family(&self, name: &'static str) -> &rocksdb::ColumnFamily {
        self.db.cf_handle(name).expect("opened with every column family")
    }

    pub(super) fn record(&self, id: &Hash) -> Result<Option<AcceptedRecord>, OutboxError> {
        let Some(value) = self.db.get_cf(self.family(RECORDS), id.as_bytes())? else {
            return Ok(None);
        };
        let damaged = || OutboxError::Damaged { family: RECORDS, key: id.to_string() };
        AcceptedRecord::decode(&value).map(Some).ok_or_else(damaged)
    }

    /// The record that a dedupe key was accepted for.
    pub(super) fn record_of_key(&self, dedupe_key: &Hash) -> Result<Option<Hash>, OutboxError> {
        let value = self.db.get_cf(self.family(KEYS), dedupe_key.as_bytes())?;
        let damaged = |_| OutboxError::Damaged { family: KEYS, key: dedupe_key.to_string() };
        value.map(|bytes| Hash::from_slice(&bytes).map_err(damaged)).transpose()
    }

    pub(super) fn transaction(&self, id: &Hash) -> Result<Option<Vec<u8>>, OutboxError> {
        Ok(self.db.get_cf(self.family(TRANSACTIONS), id.as_bytes())?)
    }

    /// Every pending transaction: id and encoding.
    pub(super) fn pending(
        &self,
    ) -> impl Iterator<Item = Result<(Hash, Vec<u8>), OutboxError>> + '_ {
        let all = self.db.iterator_cf(self.family(TRANSACTIONS), rocksdb::IteratorMode::Start);
        all.map(|item| {
            let (key, value) = item?;
            let damaged = |_| OutboxError::Damaged { family: TRANSACTIONS, key: hex::encode(&key) };
            Ok((Hash::from_slice(&key).map_err(damaged)?, value.into_vec()))
        })
    }

    /// Makes changes durable before it returns.
    pub(super) fn commit(&self, changes: Changes) -> Result<(), OutboxError> {
        Ok(self.db.write_opt(changes.0, &synced())?)
    }

    /// Makes changes that need not survive: they only forget what the ledger remembers.
    pub(super) fn commit_unsynced(&self, changes: Changes) -> Result<(), OutboxError> {
        Ok(self.db.write(changes.0)?)
    }

    /// Adds a pending transaction with its records.
    pub(super) fn accept(&self, changes: &mut Changes, transaction: &VerifiedTransaction) {
        let id = transaction.id();
        let encoded = transaction.encoded();
        changes.0.put_cf(self.family(TRANSACTIONS), id.as_bytes(), encoded);
        for (slot_index, slot) in (0..).zip(transaction.slots()) {
            let record = AcceptedRecord {
                dedupe_key: slot.dedupe_key,
                transaction_id: id,
                slot_index,
                state: RecordState::Pending,
            };
            self.put_record(changes, &slot.record_id, &record);
            let (key, value) = (slot.dedupe_key.as_bytes(), slot.record_id.as_bytes());
            changes.0.put_cf(self.family(KEYS), key, value);
        }
    }

    pub(super) fn put_record(&self, changes: &mut Changes, id: &Hash, record: &AcceptedRecord) {
        changes.0.put_cf(self.family(RECORDS), id.as_bytes(), record.encode());
    }

    /// Forgets a record that the ledger now answers for.
    pub(super) fn forget_record(&self, changes: &mut Changes, id: &Hash, dedupe_key: &Hash) {
        changes.0.delete_cf(self.family(RECORDS), id.as_bytes());
        changes.0.delete_cf(self.family(KEYS), dedupe_key.as_bytes());
    }

    pub(super) fn forget_transaction(&self, changes: &mut Changes, id: &Hash) {
        changes.0.delete_cf(self.family(TRANSACTIONS), id.as_bytes());
    }
}

impl AcceptedRecord {
    fn encode(&self) -> [u8; 69] {
        let mut bytes = [0; 69];
        bytes[..32].copy_from_slice(self.dedupe_key.as_bytes());
        bytes[32..64].copy_from_slice(self.transaction_id.as_bytes());
        bytes[64..68].copy_from_slice(&self.slot_index.to_be_bytes());
        bytes[68] = self.state as u8;
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (key, rest) = bytes.split_first_chunk::<32>()?;
        let (transaction_id, rest) = rest.split_first_chunk::<32>()?;
        let (slot_index, rest) = rest.split_first_chunk::<4>()?;
        let state = match rest {
            [0] => RecordState::Pending,
            [1] => RecordState::Expired,
            [2] => RecordState::Duplicate,
            _ => return None,
        };
        Some(Self {
            dedupe_key: Hash(*key),
            transaction_id: Hash(*transaction_id),
            slot_index: u32::from_be_bytes(*slot_index),
            state,
        })
    }
}

fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}
