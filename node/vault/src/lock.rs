//! One process has a vault open, or a mirror of one.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

const FILE: &str = "LOCK";

/// A directory that is held. It is given up by being dropped, and not by the file being closed: a process that
/// this one has forked has the file too, until it executes another program.
#[derive(Debug)]
pub(crate) struct DirectoryLock(File);

impl DirectoryLock {
    /// Takes it; nothing where another process has it.
    ///
    /// # Errors
    /// The system's answer.
    pub(crate) fn take(directory: &Path) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let file = options.open(directory.join(FILE))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl DirectoryLock {
    /// Whether the directory of this name is still the one that is held.
    ///
    /// # Errors
    /// The system's answer; [`io::ErrorKind::NotFound`] where there is none.
    pub(crate) fn is_of(&self, directory: &Path) -> io::Result<bool> {
        is_at(&self.0, &directory.join(FILE))
    }
}

/// Whether an open file is the one that has this name.
///
/// # Errors
/// The system's answer; [`io::ErrorKind::NotFound`] where none has it.
pub(crate) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let (open, named) = (file.metadata()?, path.symlink_metadata()?);
    Ok((open.dev(), open.ino()) == (named.dev(), named.ino()))
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Where the system refuses, closing it is what is left.
        let _refused = self.0.unlock();
    }
}
