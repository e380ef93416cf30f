//! Who may have a store open: one that writes, or any number that only read.
//!
//! RocksDB refuses a second writer, and lets readers in beside one, whose files it then removes under
//! them. This lock is on the same file, `LOCK`, and keeps both apart.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::ErrorKind,
    path::Path,
};

use crate::store::StoreError;

const FILE: &str = "LOCK";

/// For one that writes. Makes the folder where there is none.
pub(super) fn exclusive(path: &Path) -> Result<File, StoreError> {
    let io = |error: std::io::Error| StoreError::Io(format!("{}: {error}", path.display()));
    std::fs::create_dir_all(path).map_err(io)?;
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(FILE));
    let file = open.map_err(io)?;
    taken(path, file.try_lock())?;
    Ok(file)
}

/// For one that reads. Nothing is made: where there is no file, nobody has opened the store yet.
pub(super) fn shared(path: &Path) -> Result<Option<File>, StoreError> {
    let file = match File::open(path.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::Io(format!("{}: {error}", path.display()))),
    };
    taken(path, file.try_lock_shared())?;
    Ok(Some(file))
}

fn taken(path: &Path, lock: Result<(), TryLockError>) -> Result<(), StoreError> {
    match lock {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked(path.to_owned())),
        Err(TryLockError::Error(error)) => {
            Err(StoreError::Io(format!("{}: {error}", path.display())))
        }
    }
}
