//! Backups of a store, by RocksDB's backup engine: a file that a backup has already is not copied
//! again, and every file is kept with its checksum.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use rocksdb::{
    Env,
    backup::{BackupEngine, BackupEngineInfo, BackupEngineOptions, RestoreOptions},
};

use crate::store::{Backend, Store, StoreError};

/// Files that are copied at once.
const COPIES: i32 = 2;

/// One backup in a directory of backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupInfo {
    /// Its number in the directory, ascending.
    pub id: u32,
    /// When it was made, Unix seconds.
    pub time_s: i64,
    /// Bytes of its files, also of those that it shares with others.
    pub bytes: u64,
    /// Its files.
    pub files: u32,
}

impl From<BackupEngineInfo> for BackupInfo {
    fn from(info: BackupEngineInfo) -> Self {
        let BackupEngineInfo { timestamp, backup_id, size, num_files } = info;
        Self { id: backup_id, time_s: timestamp, bytes: size, files: num_files }
    }
}

impl Store {
    /// Adds a backup to a directory, and keeps so many of the newest. Writing goes on meanwhile; the
    /// backup is of one moment.
    pub(crate) fn back_up(&self, directory: &Path, keep: usize) -> Result<BackupInfo, StoreError> {
        let rocks = match &self.backend {
            Backend::Rocks(rocks) => rocks,
            #[cfg(feature = "simulation")]
            Backend::Memory(_) => {
                return Err(StoreError::Database("a simulated disk has no backups".to_owned()));
            }
        };
        // Records are in it.
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(directory).map_err(|error| failed(directory, error))?;
        let mut engine = open(directory)?;
        engine
            .create_new_backup_flush(&rocks.db, true)
            .and_then(|()| engine.purge_old_backups(keep.max(1)))
            .map_err(|error| failed(directory, error))?;
        let newest = engine.get_backup_info().into_iter().max_by_key(|info| info.backup_id);
        newest.map(BackupInfo::from).ok_or_else(|| failed(directory, "the new backup is not there"))
    }
}

/// The backups in a directory, ascending. None where it has none.
///
/// # Errors
/// [`StoreError`]: among others, a directory that is not one of backups.
pub fn backups(directory: &Path) -> Result<Vec<BackupInfo>, StoreError> {
    // The engine would make one.
    if !directory.join("meta").is_dir() {
        return Ok(Vec::new());
    }
    let found = open(directory)?.get_backup_info();
    let mut found: Vec<_> = found.into_iter().map(BackupInfo::from).collect();
    found.sort_unstable_by_key(|backup| backup.id);
    Ok(found)
}

/// Copies a backup's files into a folder that has none yet, and checks the checksum of each.
///
/// # Errors
/// [`StoreError::Corrupt`] where a file is missing or damaged; what was copied is to be thrown away
/// then.
pub fn restore(directory: &Path, id: u32, to: &Path) -> Result<(), StoreError> {
    let mut engine = open(directory)?;
    let (files, wal): (PathBuf, PathBuf) = (to.to_owned(), to.to_owned());
    engine
        .verify_backup(id)
        .and_then(|()| engine.restore_from_backup(files, wal, &RestoreOptions::default(), id))
        .map_err(|error| StoreError::of_backup(directory, error))
}

fn open(directory: &Path) -> Result<BackupEngine, StoreError> {
    let opened = Env::new().and_then(|env| {
        let mut options = BackupEngineOptions::new(directory)?;
        options.set_sync(true);
        options.set_max_background_operations(COPIES);
        BackupEngine::open(&options, &env)
    });
    opened.map_err(|error| StoreError::of_backup(directory, error))
}

fn failed(directory: &Path, error: impl std::fmt::Display) -> StoreError {
    StoreError::Io(format!("backup in {}: {error}", directory.display()))
}
