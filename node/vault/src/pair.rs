//! The two files that belong together, `root.key` and `keys`, and how they are written so that there is a
//! whole pair after a crash at any moment.
//!
//! `keys` alone is replaced whole. To renew the root key takes three steps, each durable before the next:
//! the new root key is written as `root.key.new`; `keys` is replaced by what is under it, and *from here on*
//! the new root key is the one; the old one in `root.key` is overwritten where it lies, and the new one moved over
//! it. Whoever reads takes the root key that `keys` names, in whichever of the two files it is.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use customhouse_files::newfile;

use crate::{error::VaultError, keys_file::KeysFile, root_key::RootKeyFile};

#[cfg(test)]
pub(crate) mod crash;

const ROOT_KEY: &str = "root.key";
const ROOT_KEY_NEW: &str = "root.key.new";
const KEYS: &str = "keys";

/// A directory with the two files.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    directory: PathBuf,
}

/// What is in it, whole and belonging together, but not opened.
pub(crate) struct Found {
    pub(crate) root: RootKeyFile,
    /// The file that it was in.
    pub(crate) root_path: PathBuf,
    pub(crate) keys: KeysFile,
}

impl Pair {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    pub(crate) fn keys_path(&self) -> PathBuf {
        self.directory.join(KEYS)
    }

    fn root_path(&self) -> PathBuf {
        self.directory.join(ROOT_KEY)
    }

    pub(crate) fn new_root_path(&self) -> PathBuf {
        self.directory.join(ROOT_KEY_NEW)
    }

    /// # Errors
    /// A file that is missing, others' to read, damaged, or of another vault or root key.
    pub(crate) fn read(&self) -> Result<Found, VaultError> {
        let keys = self.read_keys()?;
        let named = |root_path: PathBuf| {
            let root = RootKeyFile::read(&root_path)?;
            keys.belongs(&self.keys_path(), root.vault, root.id)?;
            Ok((root, root_path))
        };
        let (root, root_path) = named(self.root_path()).or_else(|error| match &error {
            // Nothing is known of what is there.
            VaultError::Io { .. } | VaultError::Permissions { .. } | VaultError::Owner { .. } => {
                Err(error)
            }
            // Of before a renewal, or overwritten by it already.
            _ => match named(self.new_root_path()) {
                Err(
                    found @ (VaultError::Io { .. }
                    | VaultError::Permissions { .. }
                    | VaultError::Owner { .. }),
                ) => Err(found),
                found => found.map_err(|_| error),
            },
        })?;
        Ok(Found { root, root_path, keys })
    }

    /// The file of keys, without the root key.
    pub(crate) fn read_keys(&self) -> Result<KeysFile, VaultError> {
        KeysFile::read(&self.keys_path())
    }

    /// Whether there is a file of keys.
    pub(crate) fn has_keys(&self) -> Result<bool, VaultError> {
        let path = self.keys_path();
        path.try_exists().map_err(VaultError::io(&path))
    }

    /// Completes or undoes what a crash has left, where the root key that `keys` names is in this file. What is in
    /// the other is not asked: it may fail to be read, and is not to be taken for a leftover then.
    pub(crate) fn settle(&self, root_path: &Path) -> Result<(), VaultError> {
        let new = self.new_root_path();
        if root_path == new {
            // Where the system was asked in vain to sync them, the keys may be those of before on the disk.
            newfile::sync_directory(&new).map_err(VaultError::io(&self.directory))?;
            self.move_root_key()?;
        } else {
            // Of a renewal that did not come to its second step, whole or not.
            self.discard_new_root()?;
        }
        self.sweep().map_err(VaultError::io(&self.directory))
    }

    /// Removes a new root key that nothing is under.
    pub(crate) fn discard_new_root(&self) -> Result<(), VaultError> {
        remove_if_there(&self.new_root_path())
    }

    /// [`Pair::settle`] for a copy that nobody opens, at a mirror: it may have no root key, or one of before.
    pub(crate) fn settle_copy(&self) -> Result<(), VaultError> {
        match self.read() {
            Ok(found) => self.settle(&found.root_path),
            Err(VaultError::Missing(_) | VaultError::OtherRoot(_)) => {
                self.sweep().map_err(VaultError::io(&self.directory))
            }
            Err(error) => Err(error),
        }
    }

    /// Removes files that were being written: `.name.pid.new`.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // Nothing but a regular file is ours.
            let is_ours = name.starts_with('.') && name.ends_with(".new");
            if is_ours && entry.file_type()?.is_file() {
                newfile::remove_secret(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Replaces the keys; they are under the root key that is there.
    pub(crate) fn write_keys(&self, keys: &KeysFile) -> Result<(), VaultError> {
        let path = self.keys_path();
        self.step(0).map_err(VaultError::io(&path))?;
        newfile::replace_secret(&path, &keys.bytes).map_err(VaultError::io(&path))
    }

    /// Replaces both.
    pub(crate) fn write(&self, root: &str, keys: &KeysFile) -> Result<(), VaultError> {
        let new = self.new_root_path();
        self.step(0)
            .and_then(|()| newfile::replace_secret(&new, root.as_bytes()))
            .and_then(|()| self.step(1))
            .map_err(VaultError::io(&new))?;
        let path = self.keys_path();
        newfile::replace_secret(&path, &keys.bytes)
            .and_then(|()| self.step(2))
            .map_err(VaultError::io(&path))?;
        self.move_root_key()
    }

    fn move_root_key(&self) -> Result<(), VaultError> {
        let (new, path) = (self.new_root_path(), self.root_path());
        self.step(3)
            .and_then(|()| newfile::move_over_secret(&new, &path))
            .map_err(VaultError::io(&path))
    }

    /// Removes the root key, where a pair is not to have one.
    pub(crate) fn remove_root_key(&self) -> Result<(), VaultError> {
        remove_if_there(&self.root_path()).and_then(|()| remove_if_there(&self.new_root_path()))
    }

    /// Between two steps, where tests break off.
    fn step(&self, _number: u8) -> io::Result<()> {
        #[cfg(test)]
        crash::reach(&self.directory, _number)?;
        Ok(())
    }
}

fn remove_if_there(path: &Path) -> Result<(), VaultError> {
    match newfile::remove_secret(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(VaultError::io(path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
