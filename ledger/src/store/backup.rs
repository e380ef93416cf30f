//! Backups of a store, by RocksDB's backup engine: a file that a backup has already is not copied
//! again, and every file is kept with its checksum. So a file that rots spoils all backups that share
//! it; each new backup is read back whole, and nothing older is removed before that.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use rocksdb::{
    Env,
    backup::{BackupEngine, BackupEngineInfo, BackupEngineOptions, RestoreOptions},
};

use crate::{
    agency::AgencyCode,
    hash::Hash,
    store::{Backend, Store, StoreError},
};

mod files;
mod owner;

pub use owner::BackupOwner;

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
    /// Adds a backup to a directory, reads it back, and keeps the newest `keep`. Writing goes on
    /// meanwhile; the backup is of one moment.
    pub(crate) fn back_up(
        &self,
        directory: &Path,
        keep: usize,
        chain_id: Hash,
        agency: Option<AgencyCode>,
    ) -> Result<BackupInfo, StoreError> {
        let rocks = match &self.backend {
            Backend::Rocks(rocks) => rocks,
            #[cfg(feature = "simulation")]
            Backend::Memory(_) => {
                return Err(StoreError::Database("a simulated disk has no backups".to_owned()));
            }
        };
        refuse_inside(rocks.db.path(), directory)?;
        // Records are in it.
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(directory).map_err(|error| failed(directory, error))?;
        let store = rocks.db.get_db_identity().map_err(|error| failed(directory, error))?;
        let store = String::from_utf8_lossy(&store).into_owned();
        BackupOwner { chain_id, store, agency }.claim(directory)?;
        let mut engine = open(directory)?;
        refuse_broken(directory, &engine)?;
        engine
            .create_new_backup_flush(&rocks.db, true)
            .map_err(|error| StoreError::of_copy(directory, error))?;
        let newest = engine.get_backup_info().into_iter().max_by_key(|info| info.backup_id);
        let newest = newest.map(BackupInfo::from);
        let newest = newest.ok_or_else(|| failed(directory, "the new backup is not there"))?;
        files::verify(directory, newest.id).map_err(nothing_removed)?;
        engine.purge_old_backups(keep.max(1)).map_err(|error| failed(directory, error))?;
        Ok(newest)
    }
}

/// Refuses a directory inside the store, whose files are the database's alone.
fn refuse_inside(store: &Path, directory: &Path) -> Result<(), StoreError> {
    let real = |path: &Path| -> std::io::Result<PathBuf> {
        let path = std::path::absolute(path)?;
        // The part of the path that exists, and the part that is to be made below it.
        let there = path.ancestors().find(|part| part.exists()).unwrap_or(&path);
        let below = path.strip_prefix(there).unwrap_or(Path::new(""));
        Ok(there.canonicalize()?.join(below))
    };
    let inside = real(directory).and_then(|inner| Ok(inner.starts_with(real(store)?)));
    match inside.map_err(|error| failed(directory, error))? {
        true => Err(StoreError::BackupInStore {
            directory: directory.to_owned(),
            store: store.to_owned(),
        }),
        false => Ok(()),
    }
}

/// Refuses a directory with a backup that the engine cannot read: it would remove what is left of it.
fn refuse_broken(directory: &Path, engine: &BackupEngine) -> Result<(), StoreError> {
    let known: BTreeSet<_> = engine.get_backup_info().iter().map(|info| info.backup_id).collect();
    let entries = fs::read_dir(directory.join("meta")).map_err(|error| failed(directory, error))?;
    for entry in entries {
        let name = entry.map_err(|error| failed(directory, error))?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        if !known.contains(&id) {
            files::verify(directory, id).map_err(nothing_removed)?;
            let what = format!("backup {id} in {} cannot be read", directory.display());
            return Err(nothing_removed(StoreError::BackupDamaged(what)));
        }
    }
    Ok(())
}

/// What to do about a directory of which a file is damaged.
fn nothing_removed(error: StoreError) -> StoreError {
    let StoreError::BackupDamaged(what) = error else { return error };
    StoreError::BackupDamaged(format!(
        "{what}. No older backup was removed. Look after that disk, move the directory away, and make \
         the next backup into a new one; of the directory, those backups can still be restored that have \
         none of these files"
    ))
}

/// Whose backups are in a directory; `None` where nothing says it.
///
/// # Errors
/// [`StoreError`]: what says it is damaged.
pub fn backup_owner(directory: &Path) -> Result<Option<BackupOwner>, StoreError> {
    BackupOwner::read(directory)
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
/// [`StoreError::BackupDamaged`] where a file is missing or damaged; what was copied is to be thrown away
/// then.
pub fn restore(directory: &Path, id: u32, to: &Path) -> Result<(), StoreError> {
    // The engine compares what it copies, but does not say which file is damaged.
    files::verify(directory, id).map_err(StoreError::or_another)?;
    let mut engine = open(directory)?;
    let (files, wal): (PathBuf, PathBuf) = (to.to_owned(), to.to_owned());
    engine
        .restore_from_backup(files, wal, &RestoreOptions::default(), id)
        .map_err(|error| StoreError::of_restore(directory, to, error))
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
