//! The outbox: what this node has accepted and the chain has not yet ended. A small store of its
//! own, so that a border post can lodge while the network is out of reach.
//!
//! | column family | key | value |
//! |---|---|---|
//! | `transactions` | transaction id | the encoded transaction, while it is pending |
//! | `records` | record id | dedupe key (32), transaction id (32), slot index (4), state (1), content (32), kind (1; 0 where sealed), submitter |
//! | `keys` | dedupe key | record id (32), for records that this node signed |
//! | `secrets` | `content` | 32 random bytes: the secret of `content` in `records` |
//!
//! It is opened only where RocksDB would not leave out a part of it in silence: what it holds was accepted.
//!
//! What has become final is removed: the ledger answers for it from then on. What has expired or
//! was rejected (its record is a no-op, or does not fit the parameters any more) stays, so that every submission's end can be told after a restart.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use customhouse_ledger::{
    authority::{RecordKind, Target},
    hash::Hash,
    store::{StoreError, WriteOut, buffered_bytes, refuse_hidden_loss, write_out},
    transaction::{DedupeScope, Slot, VerifiedTransaction},
};
use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, DBRecoveryMode, Options, WriteBatch, WriteOptions,
};
use zeroize::Zeroizing;

use super::unfit::Unfit;
use crate::descriptors::OUTBOX_FILES_MAX;

const TRANSACTIONS: &str = "transactions";
const RECORDS: &str = "records";
const KEYS: &str = "keys";
const SECRETS: &str = "secrets";
const FAMILIES: [&str; 4] = [TRANSACTIONS, RECORDS, KEYS, SECRETS];
/// The key of the secret under which `records` has what each says.
const CONTENT: &str = "content";

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
    /// Its files are not all there, or not as they were written: it would be opened without a part of it.
    #[error(
        "outbox {path}: {what}. A part of what was accepted and is not final yet would be left out. Put \
         the folder right, or move it away: what is then not final is to be submitted again, with the \
         same keys"
    )]
    HiddenLoss {
        /// Its folder.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The system gave no random bytes for its secret.
    #[error(
        "outbox: the system gives no random bytes for its secret: {0}. Start the node again when it does"
    )]
    Random(getrandom::Error),
    /// The system started no thread for it.
    #[error("outbox: no thread could be started: {0}")]
    Thread(std::io::Error),
}

/// Where an accepted record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordState {
    /// Its transaction is pending.
    Pending,
    /// Its transaction expired.
    Expired,
    /// It committed as a no-op: another record had its dedupe key, or it was refused. Why is on the ledger.
    NoOp,
    /// No block may carry its transaction since the network's parameters have changed.
    Unfit(Unfit),
}

impl RecordState {
    /// Its byte in a row.
    fn number(self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Expired => 1,
            Self::NoOp => 2,
            Self::Unfit(unfit) => unfit.number(),
        }
    }

    fn numbered(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Pending),
            1 => Some(Self::Expired),
            2 => Some(Self::NoOp),
            other => Unfit::numbered(other).map(Self::Unfit),
        }
    }
}

/// An accepted record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AcceptedRecord {
    pub(super) dedupe_key: Hash,
    pub(super) transaction_id: Hash,
    pub(super) slot_index: u32,
    pub(super) state: RecordState,
    /// What it says, under the outbox's secret; zeros where a client signed it.
    pub(super) content: Hash,
    /// What is asked of it where another refers to it.
    pub(super) target: Target,
}

#[derive(Debug)]
pub(super) struct Outbox {
    db: Arc<DB>,
}

/// Its write buffers, for as long as it is open.
#[derive(Clone, Debug)]
pub struct OutboxBuffers(Weak<DB>);

impl OutboxBuffers {
    /// Their memory.
    pub fn bytes(&self) -> u64 {
        self.0.upgrade().map_or(0, |db| buffered_bytes(&db, families(&db)))
    }

    /// Has them written out to tables, which gives their memory back, without waiting for it.
    ///
    /// # Errors
    /// It takes no more writes.
    pub fn write_out(&self) -> Result<WriteOut, OutboxError> {
        let Some(db) = self.0.upgrade() else { return Ok(WriteOut::Begun) };
        Ok(write_out(&db, families(&db))?)
    }
}

fn families(db: &DB) -> [&ColumnFamily; FAMILIES.len()] {
    FAMILIES.map(|name| family(db, name))
}

fn family<'a>(db: &'a DB, name: &str) -> &'a ColumnFamily {
    db.cf_handle(name).expect("opened with every column family")
}

/// Changes that become durable together.
#[derive(Default)]
pub(super) struct Changes(WriteBatch);

impl Outbox {
    pub(super) fn open(path: &Path) -> Result<Self, OutboxError> {
        refuse_hidden_loss(path).map_err(|error| {
            let what = match error {
                StoreError::Corrupt { what, .. } => what,
                StoreError::PointerLost(_) => "its file CURRENT is lost".to_owned(),
                other => other.to_string(),
            };
            OutboxError::HiddenLoss { path: path.to_owned(), what }
        })?;
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
        let db = DB::open_cf_descriptors(&options, path, FAMILIES.map(family))?;
        Ok(Self { db: db.into() })
    }

    pub(super) fn buffers(&self) -> OutboxBuffers {
        OutboxBuffers(Arc::downgrade(&self.db))
    }

    fn family(&self, name: &'static str) -> &ColumnFamily {
        family(&self.db, name)
    }

    /// The secret under which it has what records say. It is drawn for a new outbox, durable before anything is
    /// accepted under it, and stays for as long as the outbox: what waits is known again after the node's
    /// keys were exchanged.
    pub(super) fn content_secret(&self) -> Result<Zeroizing<[u8; 32]>, OutboxError> {
        if let Some(kept) = self.db.get_cf(self.family(SECRETS), CONTENT)?.map(Zeroizing::new) {
            let damaged = |_| OutboxError::Damaged { family: SECRETS, key: CONTENT.to_owned() };
            return Ok(Zeroizing::new(kept[..].try_into().map_err(damaged)?));
        }
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *secret).map_err(OutboxError::Random)?;
        self.db.put_cf_opt(self.family(SECRETS), CONTENT, *secret, &synced())?;
        Ok(secret)
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

    /// Whether a transaction was accepted and has not ended.
    pub(super) fn is_pending(&self, id: &Hash) -> Result<bool, OutboxError> {
        Ok(self.db.get_pinned_cf(self.family(TRANSACTIONS), id.as_bytes())?.is_some())
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

    /// Adds a pending transaction with its records, and with what each says where this node signed it.
    pub(super) fn accept(
        &self,
        changes: &mut Changes,
        transaction: &VerifiedTransaction,
        contents: &[Hash],
    ) -> Result<(), OutboxError> {
        let id = transaction.id();
        let encoded = transaction.encoded();
        changes.0.put_cf(self.family(TRANSACTIONS), id.as_bytes(), encoded);
        for (slot_index, slot) in (0..).zip(transaction.slots()) {
            let content = contents.get(slot_index as usize).copied().unwrap_or_default();
            let record = AcceptedRecord::of(transaction, slot_index, RecordState::Pending, content);
            if self.is_told_by(slot, &id)? {
                self.put_record(changes, &slot.record_id, &record);
            }
            // What a client's own key signed has dedupe keys of its own.
            if slot.scope == DedupeScope::Agency {
                let (key, value) = (slot.dedupe_key.as_bytes(), slot.record_id.as_bytes());
                changes.0.put_cf(self.family(KEYS), key, value);
            }
        }
        Ok(())
    }

    /// Whether the row of a slot's record is a transaction's. A client may sign one record into several
    /// transactions: the row tells of the first for as long as that waits.
    pub(super) fn is_told_by(
        &self,
        slot: &Slot,
        transaction_id: &Hash,
    ) -> Result<bool, OutboxError> {
        // What this node signs has a salt that was drawn for it.
        if slot.scope == DedupeScope::Agency {
            return Ok(true);
        }
        match self.record(&slot.record_id)? {
            Some(row) if row.transaction_id != *transaction_id => {
                Ok(row.state != RecordState::Pending || !self.is_pending(&row.transaction_id)?)
            }
            _ => Ok(true),
        }
    }

    pub(super) fn put_record(&self, changes: &mut Changes, id: &Hash, record: &AcceptedRecord) {
        changes.0.put_cf(self.family(RECORDS), id.as_bytes(), record.encode());
    }

    /// Forgets a record that the ledger now answers for.
    pub(super) fn forget_record(&self, changes: &mut Changes, slot: &Slot) {
        changes.0.delete_cf(self.family(RECORDS), slot.record_id.as_bytes());
        if slot.scope == DedupeScope::Agency {
            changes.0.delete_cf(self.family(KEYS), slot.dedupe_key.as_bytes());
        }
    }

    pub(super) fn forget_transaction(&self, changes: &mut Changes, id: &Hash) {
        changes.0.delete_cf(self.family(TRANSACTIONS), id.as_bytes());
    }
}

impl AcceptedRecord {
    /// The record of a slot of a transaction.
    pub(super) fn of(
        transaction: &VerifiedTransaction,
        slot_index: u32,
        state: RecordState,
        content: Hash,
    ) -> Self {
        let (slot, stated) =
            (&transaction.slots()[slot_index as usize], &transaction.stated()[slot_index as usize]);
        let target = Target::of(stated.as_ref());
        let (dedupe_key, transaction_id) = (slot.dedupe_key, transaction.id());
        Self { dedupe_key, transaction_id, slot_index, state, content, target }
    }

    fn encode(&self) -> Vec<u8> {
        [
            &self.dedupe_key.as_bytes()[..],
            self.transaction_id.as_bytes(),
            &self.slot_index.to_be_bytes(),
            &[self.state.number()],
            self.content.as_bytes(),
            &[self.target.kind.map_or(0, RecordKind::number)],
            self.target.submitter.as_bytes(),
        ]
        .concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (key, rest) = bytes.split_first_chunk::<32>()?;
        let (transaction_id, rest) = rest.split_first_chunk::<32>()?;
        let (slot_index, rest) = rest.split_first_chunk::<4>()?;
        let (&state, rest) = rest.split_first()?;
        let state = RecordState::numbered(state)?;
        let (content, rest) = rest.split_first_chunk::<32>()?;
        let (&kind, submitter) = rest.split_first()?;
        let kind = if kind == 0 { None } else { Some(RecordKind::numbered(kind)?) };
        let submitter = String::from_utf8(submitter.to_vec()).ok()?;
        Some(Self {
            dedupe_key: Hash(*key),
            transaction_id: Hash(*transaction_id),
            slot_index: u32::from_be_bytes(*slot_index),
            state,
            content: Hash(*content),
            target: Target { kind, submitter },
        })
    }
}

fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        time::{Duration, Instant},
    };

    use tempfile::TempDir;

    use super::*;
    use crate::driver::answers::tests::transaction;

    /// An outbox with `count` transactions, which is closed, and where its log is.
    fn closed(count: u64) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let outbox = Outbox::open(folder.path()).expect("opened");
        for number in 0..count {
            let read = VerifiedTransaction::from_bytes(transaction(number, 100), &Hash([9; 32]));
            let mut changes = Changes::default();
            outbox.accept(&mut changes, &read.expect("valid"), &[]).expect("readable");
            outbox.commit(changes).expect("written");
        }
        drop(outbox);
        let entries = fs::read_dir(folder.path()).expect("a folder");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let mut logs = paths.filter(|path| path.extension().is_some_and(|e| e == "log"));
        let log = logs.find(|path| path.metadata().expect("a file").len() > 0);
        (folder, log.expect("there is one"))
    }

    fn pending(folder: &TempDir) -> usize {
        Outbox::open(folder.path()).expect("opened").pending().count()
    }

    fn refused(folder: &TempDir) -> String {
        let error = Outbox::open(folder.path()).expect_err("refused");
        assert!(matches!(error, OutboxError::HiddenLoss { .. }), "{error}");
        error.to_string()
    }

    #[test]
    fn what_was_accepted_is_there_after_reopening_and_a_torn_last_write_is_cut_off() {
        let (folder, log) = closed(5);
        let bytes = fs::read(&log).expect("readable");
        fs::write(&log, &bytes[..bytes.len() - 3]).expect("writable");
        assert_eq!(pending(&folder), 4, "its acceptance was never told");
        let (folder, _) = closed(5);
        assert_eq!(pending(&folder), 5);
    }

    #[test]
    fn a_damaged_length_that_would_hide_what_was_accepted_is_refused() {
        let (folder, log) = closed(5);
        let mut bytes = fs::read(&log).expect("readable");
        // In the header of the first record: checksum (4), length (2).
        bytes[5] ^= 0x70;
        fs::write(&log, bytes).expect("writable");
        let said = refused(&folder);
        assert!(said.contains("no record can be at byte 0"), "{said}");
    }

    #[test]
    fn an_outbox_that_has_lost_its_pointer_is_not_taken_for_a_new_one() {
        let (folder, _) = closed(5);
        fs::remove_file(folder.path().join("CURRENT")).expect("there is one");
        let said = refused(&folder);
        assert!(said.contains("CURRENT is lost") && said.contains("submitted again"), "{said}");
    }

    #[test]
    fn each_outbox_has_a_secret_of_its_own_for_as_long_as_it_is_there() {
        let folders = [0, 1].map(|_| tempfile::tempdir().expect("a folder"));
        let secret = |folder: &TempDir| {
            let outbox = Outbox::open(folder.path()).expect("opened");
            outbox.content_secret().expect("there, or drawn")
        };
        let first = secret(&folders[0]);
        assert_eq!(secret(&folders[0]), first, "after it was closed");
        assert_ne!(secret(&folders[1]), first);
        assert_ne!(*first, [0; 32]);
        let outbox = Outbox::open(folders[0].path()).expect("opened");
        outbox.db.put_cf(outbox.family(SECRETS), CONTENT, [7; 31]).expect("written");
        let error = outbox.content_secret().expect_err("of another length");
        assert!(matches!(error, OutboxError::Damaged { family: SECRETS, .. }), "{error}");
    }

    #[test]
    fn the_memory_of_buffers_that_are_written_out_goes_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let outbox = Outbox::open(folder.path()).expect("opened");
        let buffers = outbox.buffers();
        let empty = buffers.bytes();
        let encoded = vec![7; 1 << 20];
        for number in 0..5_u8 {
            let mut changes = Changes::default();
            changes.0.put_cf(outbox.family(TRANSACTIONS), [number], &encoded);
            outbox.commit_unsynced(changes).expect("written");
        }
        assert!(buffers.bytes() > empty + (5 << 20));
        assert_eq!(buffers.write_out().expect("it takes writes"), WriteOut::Begun);
        let deadline = Instant::now() + Duration::from_secs(30);
        while buffers.bytes() > empty + (1 << 20) {
            assert!(Instant::now() < deadline, "{} bytes", buffers.bytes());
            std::thread::yield_now();
        }
        assert_eq!(outbox.pending().count(), 5);
        drop(outbox);
        assert_eq!((buffers.bytes(), buffers.write_out().expect("closed")), (0, WriteOut::Begun));
    }
}
