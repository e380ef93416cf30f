//! The two files that belong together, `root.key` and `keys`, and how they are written so that there is a
//! whole pair after a crash at any moment.
//!
//! `keys` alone is replaced whole. To renew the root key takes three steps, each durable before the next:
//! the new root key is written as `root.key.new`; `keys` is replaced by what is under it, and *from here on*
//! the new root key is the one; it is moved over `root.key`. Whoever reads takes the root key that `keys` names.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use customhouse_files::newfile;

use crate::{
    error::VaultError,
    keys_file::KeysFile,
    root_key::{RootId, RootKeyFile},
};

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

    fn new_root_path(&self) -> PathBuf {
        self.directory.join(ROOT_KEY_NEW)
    }

    /// # Errors
    /// A file that is missing, others' to read, damaged, or of another vault or root key.
    pub(crate) fn read(&self) -> Result<Found, VaultError> {
        let keys_path = self.keys_path();
        let keys = KeysFile::read(&keys_path)?;
        let root_path = self.root_path();
        let root = RootKeyFile::read(&root_path)?;
        if keys.belongs(&keys_path, root.vault, root.id).is_ok() {
            return Ok(Found { root, root_path, keys });
        }
        let new_path = self.new_root_path();
        if new_path.exists() {
            let new = RootKeyFile::read(&new_path)?;
            if keys.belongs(&keys_path, new.vault, new.id).is_ok() {
                return Ok(Found { root: new, root_path: new_path, keys });
            }
        }
        keys.belongs(&keys_path, root.vault, root.id)?;
        Ok(Found { root, root_path, keys })
    }

    /// The file of keys, without the root key.
    pub(crate) fn read_keys(&self) -> Result<KeysFile, VaultError> {
        KeysFile::read(&self.keys_path())
    }

    /// Completes or undoes what a crash has left, once the pair was opened by the root key of this id.
    pub(crate) fn settle(&self, root: RootId) -> Result<(), VaultError> {
        let new = self.new_root_path();
        if new.exists() {
            match RootKeyFile::read(&new) {
                Ok(file) if file.id == root => self.move_root_key()?,
                // Of a renewal that did not come to its second step, whole or not.
                _ => newfile::remove_secret(&new).map_err(VaultError::io(&new))?,
            }
        }
        self.sweep().map_err(VaultError::io(&self.directory))
    }

    /// Removes files that were being written: `.name.pid.new`.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') && name.ends_with(".new") {
                newfile::remove_secret(&path)?;
            }
        }
        Ok(())
    }

    /// Replaces the keys; they are under the root key that is there.
    pub(crate) fn write_keys(&self, keys: &KeysFile) -> Result<(), VaultError> {
        let path = self.keys_path();
        step(0).map_err(VaultError::io(&path))?;
        newfile::replace_secret(&path, &keys.bytes).map_err(VaultError::io(&path))
    }

    /// Replaces both.
    pub(crate) fn write(&self, root: &str, keys: &KeysFile) -> Result<(), VaultError> {
        let new = self.new_root_path();
        step(0)
            .and_then(|()| newfile::replace_secret(&new, root.as_bytes()))
            .and_then(|()| step(1))
            .map_err(VaultError::io(&new))?;
        let path = self.keys_path();
        newfile::replace_secret(&path, &keys.bytes)
            .and_then(|()| step(2))
            .map_err(VaultError::io(&path))?;
        self.move_root_key()
    }

    fn move_root_key(&self) -> Result<(), VaultError> {
        let (new, path) = (self.new_root_path(), self.root_path());
        newfile::move_over_secret(&new, &path).map_err(VaultError::io(&path))
    }

    /// Removes the root key, where a pair is not to have one.
    pub(crate) fn remove_root_key(&self) -> Result<(), VaultError> {
        for path in [self.root_path(), self.new_root_path()] {
            match newfile::remove_secret(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(VaultError::io(&path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Between two steps, where tests break off.
fn step(_number: u8) -> io::Result<()> {
    #[cfg(test)]
    crash::reach(_number)?;
    Ok(())
}
