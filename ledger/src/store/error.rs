//! What can be wrong with the store.

use std::path::{Path, PathBuf};

use rocksdb::ErrorKind;

use crate::{hash::Hash, merkle::OutOfRange, store::Table};

/// Why the store cannot be used, or how it was used wrongly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another handle of this one, has the store or its node's directory of data open.
    #[error("{0} is open in another process: a node that runs, or a command on its store")]
    Locked(PathBuf),
    /// There is no store.
    #[error("there is no store at {0}")]
    Missing(PathBuf),
    /// A folder that is to take a store has something in it.
    #[error("{0} is not empty: with its node stopped, move it away, or remove it, first")]
    NotEmpty(PathBuf),
    /// The store belongs to another chain.
    #[error("the store holds chain {found}; the genesis is that of {expected}")]
    OtherGenesis {
        /// Of the genesis.
        expected: Hash,
        /// In the store.
        found: Hash,
    },
    /// Written by another version of the software.
    #[error(
        "the store has format {found}; this version reads format {expected}: go on with the version that \
         wrote it, or remove its folder and let the node fetch the ledger from peers of this version"
    )]
    Format {
        /// What this code reads and writes.
        expected: u32,
        /// In the store.
        found: u32,
    },
    /// The folder has a database's files without the one that names the current ones.
    #[error("the store at {0} has lost its CURRENT file; restore a backup or remove the folder")]
    PointerLost(PathBuf),
    /// Its indexes were being made anew, and are not all there.
    #[error(
        "the store is half rebuilt: `customhouse store rebuild` did not come to its end; run it again"
    )]
    HalfRebuilt,
    /// A damaged or missing value. It is never served.
    #[error(
        "damaged data{}: {what}. It is not served: restore a backup of the store, or remove its folder \
         and let the node fetch the ledger from its peers",
        place(table, key)
    )]
    Corrupt {
        /// The table or, in parentheses, another part of the store.
        table: &'static str,
        /// The key, in hexadecimal; empty where RocksDB does not say which.
        key: String,
        /// What is wrong.
        what: String,
    },
    /// A backup is not as it was written, or a directory of backups is not to be relied on.
    #[error("{0}")]
    BackupDamaged(String),
    /// A directory has the backups of another store.
    #[error(
        "{directory} has backups of another store: {owner}. Give this one a directory of its own. If \
         this node's store was made anew since, move the old backups away, or remove {marker} to go on \
         in their directory"
    )]
    OtherBackups {
        /// The directory of backups.
        directory: PathBuf,
        /// Whose they are.
        owner: String,
        /// The file that says it.
        marker: PathBuf,
    },
    /// The directory for backups is inside the store itself.
    #[error(
        "{directory} is inside the store itself, {store}: give the backups a directory of their own, best \
         on another disk"
    )]
    BackupInStore {
        /// The directory for backups.
        directory: PathBuf,
        /// The store's folder.
        store: PathBuf,
    },
    /// The disk is full.
    #[error("the disk is full: {0}")]
    DiskFull(String),
    /// The file system failed, for example a sync.
    #[error("the file system failed: {0}")]
    Io(String),
    /// Another failure of the database.
    #[error("the database failed: {0}")]
    Database(String),
    /// An earlier write failed; nothing is written after it.
    #[error("an earlier write failed, the store is closed for writing")]
    Failed,
    /// A block to store for voting is not on the tip, or came with other transactions.
    #[error("the block is not on the tip, or the transactions are not its own")]
    NotOnTip,
    /// A height, log index or size beyond the tip, or sizes in the wrong order.
    #[error("beyond the tip, or not a range")]
    OutOfRange,
}

impl StoreError {
    /// A stable code for clients, logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Locked(_) => "STORE_LOCKED",
            Self::OtherGenesis { .. } => "STORE_OTHER_GENESIS",
            Self::Format { .. } => "STORE_FORMAT",
            Self::PointerLost(_) => "STORE_POINTER_LOST",
            Self::Missing(_) => "STORE_MISSING",
            Self::NotEmpty(_) => "STORE_NOT_EMPTY",
            Self::HalfRebuilt => "STORE_HALF_REBUILT",
            Self::Corrupt { .. } => "STORE_CORRUPT",
            Self::BackupDamaged(_) => "BACKUP_DAMAGED",
            Self::OtherBackups { .. } => "BACKUP_OTHER_STORE",
            Self::BackupInStore { .. } => "BACKUP_IN_STORE",
            Self::DiskFull(_) => "STORE_DISK_FULL",
            Self::Io(_) => "STORE_IO",
            Self::Database(_) => "STORE_DATABASE",
            Self::Failed => "STORE_FAILED",
            Self::NotOnTip => "NOT_ON_TIP",
            Self::OutOfRange => "OUT_OF_RANGE",
        }
    }

    /// Whether a node must stop before it acknowledges anything more. Other errors are a caller's
    /// fault.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::NotOnTip | Self::OutOfRange)
    }

    /// Whether data is damaged, as opposed to a failing disk.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::PointerLost(_) | Self::BackupDamaged(_))
    }

    pub(crate) fn corrupt(table: Table, key: &[u8], what: impl ToString) -> Self {
        Self::Corrupt { table: table.name(), key: hex::encode(key), what: what.to_string() }
    }

    pub(super) fn of_open(path: &Path, error: rocksdb::Error) -> Self {
        let message = error.to_string();
        // By this process, or by another.
        let locked = message.contains("lock hold by current process")
            || message.contains("While lock file") && message.contains("temporarily unavailable");
        if error.kind() == ErrorKind::IOError && locked {
            return Self::Locked(path.to_owned());
        }
        if error.kind() == ErrorKind::IOError && message.contains("No such file or directory") {
            return Self::Corrupt { table: "(open)", key: String::new(), what: message };
        }
        Self::of_kind("(open)", &[], error)
    }

    pub(super) fn of_read(table: Table, key: &[u8], error: rocksdb::Error) -> Self {
        Self::of_kind(table.name(), key, error)
    }

    pub(super) fn of_backup(directory: &Path, error: rocksdb::Error) -> Self {
        let what = format!("backup in {}: {error}", directory.display());
        match error.kind() {
            ErrorKind::Corruption | ErrorKind::NotFound => Self::BackupDamaged(what).or_another(),
            _ => Self::of_disk(what),
        }
    }

    /// Says what to do about a backup that is damaged.
    pub(super) fn or_another(self) -> Self {
        match self {
            Self::BackupDamaged(what) => {
                Self::BackupDamaged(format!("{what}. Another backup may be sound"))
            }
            other => other,
        }
    }

    /// An error of copying a backup's files to a store's folder.
    pub(super) fn of_restore(directory: &Path, to: &Path, error: rocksdb::Error) -> Self {
        match error.kind() {
            ErrorKind::Corruption | ErrorKind::NotFound => Self::of_backup(directory, error),
            _ => Self::of_disk(format!(
                "restoring from {} to {}: {error}",
                directory.display(),
                to.display()
            )),
        }
    }

    fn of_disk(what: String) -> Self {
        match what.contains("No space left on device") {
            true => Self::DiskFull(what),
            false => Self::Io(what),
        }
    }

    /// An error of copying the store's files, which are compared with their checksums meanwhile.
    pub(super) fn of_copy(directory: &Path, error: rocksdb::Error) -> Self {
        match error.kind() {
            ErrorKind::Corruption => Self::of_kind("(file)", &[], error),
            _ => Self::of_backup(directory, error),
        }
    }

    pub(super) fn of_list(error: rocksdb::Error) -> Self {
        Self::of_kind("(files)", &[], error)
    }

    pub(super) fn of_write(error: rocksdb::Error) -> Self {
        Self::of_kind("(write)", &[], error)
    }

    fn of_kind(table: &'static str, key: &[u8], error: rocksdb::Error) -> Self {
        let what = error.to_string();
        match error.kind() {
            ErrorKind::Corruption => Self::Corrupt { table, key: hex::encode(key), what },
            ErrorKind::IOError => Self::of_disk(what),
            _ => Self::Database(what),
        }
    }
}

/// The table and key, where it is in a table.
fn place(table: &str, key: &str) -> String {
    match (table.starts_with('('), key.is_empty()) {
        (true, _) => String::new(),
        (false, true) => format!(" in table `{table}`"),
        (false, false) => format!(" in table `{table}` at key `{key}`"),
    }
}

impl From<OutOfRange> for StoreError {
    fn from(_: OutOfRange) -> Self {
        Self::OutOfRange
    }
}
