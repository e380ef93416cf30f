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

/// A lock that is held. It is given up by being dropped, and not by the file being closed: a process that
/// this one has forked has the file too, until it executes another program.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Where the system refuses, closing it is what is left.
        let _refused = self.0.unlock();
    }
}

/// For one that writes. Makes the folder where there is none.
pub(super) fn exclusive(path: &Path) -> Result<Lock, StoreError> {
    let io = |error: std::io::Error| StoreError::Io(format!("{}: {error}", path.display()));
    std::fs::create_dir_all(path).map_err(io)?;
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(FILE));
    let file = open.map_err(io)?;
    taken(path, file.try_lock())?;
    Ok(Lock(file))
}

/// For one that reads. Nothing is made: where there is no file, nobody has opened the store yet.
pub(super) fn shared(path: &Path) -> Result<Option<Lock>, StoreError> {
    let file = match File::open(path.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::Io(format!("{}: {error}", path.display()))),
    };
    taken(path, file.try_lock_shared())?;
    Ok(Some(Lock(file)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_given_up_is_free_though_a_forked_process_has_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = exclusive(dir.path()).expect("free");
        assert!(matches!(exclusive(dir.path()), Err(StoreError::Locked(_))));
        // As a fork has it.
        let _copy = lock.0.try_clone().expect("open");
        drop(lock);
        let readers = [0, 1].map(|_| shared(dir.path()).expect("free"));
        assert!(matches!(exclusive(dir.path()), Err(StoreError::Locked(_))));
        drop(readers);
        exclusive(dir.path()).expect("free");
    }
}
