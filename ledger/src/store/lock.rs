//! Who may have a store open: one that writes, or any number that only read.
//!
//! RocksDB refuses a second writer, but lets readers in beside the writer, which then removes the files under
//! them. This lock is on the same file, `LOCK`, and keeps both apart. A node holds another on its directory
//! of data: a store that was moved away from under it takes its own lock along, and the next store that is
//! put there would be written into by both.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::ErrorKind,
    path::Path,
};

use crate::store::StoreError;

const FILE: &str = "LOCK";

/// A lock on a folder that is held. It is given up by being dropped, and not by the file being closed: a
/// process that this one has forked has the file too, until it executes another program.
#[derive(Debug)]
pub struct FolderLock(File);

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Where the system refuses, closing it is what is left.
        let _refused = self.0.unlock();
    }
}

impl FolderLock {
    /// For one that writes. Makes the folder where there is none.
    ///
    /// # Errors
    /// [`StoreError::Locked`], or a failing disk.
    pub fn exclusive(path: &Path) -> Result<Self, StoreError> {
        let io = |error: std::io::Error| StoreError::Io(format!("{}: {error}", path.display()));
        std::fs::create_dir_all(path).map_err(io)?;
        let mut options = OpenOptions::new();
        let open = options.create(true).truncate(false).write(true).open(path.join(FILE));
        let file = open.map_err(io)?;
        taken(path, file.try_lock())?;
        Ok(Self(file))
    }

    /// For one that reads. Nothing is made: where there is no file, nobody has opened the folder yet.
    ///
    /// # Errors
    /// [`StoreError::Locked`], or a failing disk.
    pub fn shared(path: &Path) -> Result<Option<Self>, StoreError> {
        let file = match File::open(path.join(FILE)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::Io(format!("{}: {error}", path.display()))),
        };
        taken(path, file.try_lock_shared())?;
        Ok(Some(Self(file)))
    }
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
        let lock = FolderLock::exclusive(dir.path()).expect("free");
        assert!(matches!(FolderLock::exclusive(dir.path()), Err(StoreError::Locked(_))));
        // As a fork has it.
        let _copy = lock.0.try_clone().expect("open");
        drop(lock);
        let readers = [0, 1].map(|_| FolderLock::shared(dir.path()).expect("free"));
        assert!(matches!(FolderLock::exclusive(dir.path()), Err(StoreError::Locked(_))));
        drop(readers);
        FolderLock::exclusive(dir.path()).expect("free");
    }
}
