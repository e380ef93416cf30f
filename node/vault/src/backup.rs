//! Backups of a vault, of its own: never in a backup of the store, so that what is purged is gone when the last
//! backup of a vault from before is, and not when the last backup of a store is.
//!
//! A backup says of itself that it is a copy: however it is put back, by [`restore`] or by hand, the vault that is
//! opened from it begins a new incarnation, and gives out no group number that was given out after it.
//!
//! A backup is a directory with `root.key` and `keys` as they were: `vault-000001`, `vault-000002` and so on. It
//! opens what was sealed before it was made and not purged by then, for whoever has the passphrase *of then*; it
//! does not have what came after: a restored vault tells of that by name, and goes on with new groups.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use crate::{
    contents::KeysName,
    directory::{discard, make_private, new_directory, refuse_taken},
    error::{VaultError, VaultId},
    keys_file::KeysFile,
    lock::DirectoryLock,
    pair::{Found, Pair},
};

const PREFIX: &str = "vault-";

/// One backup in a directory of backups. Shown as what it can open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultBackup {
    /// Its number in the directory, ascending.
    pub number: u32,
    /// Where it is.
    pub path: PathBuf,
    /// Whose.
    pub vault: VaultId,
    /// How often the vault's keys had been written.
    pub generation: u64,
    /// Whether a passphrase is needed.
    pub is_wrapped: bool,
    /// Which writing of the keys it has.
    pub(crate) name: KeysName,
}

impl VaultBackup {
    fn read(number: u32, path: PathBuf) -> Result<Self, VaultError> {
        let found = Pair::new(&path).read()?;
        let (vault, name, is_wrapped) =
            (found.keys.vault, found.keys.name, found.root.is_encrypted());
        Ok(Self { number, path, vault, generation: name.generation, is_wrapped, name })
    }
}

impl fmt::Display for VaultBackup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, vault, generation, .. } = self;
        let with = match self.is_wrapped {
            true => "with the passphrase that the vault had then",
            false => "without a passphrase: keep it where nobody else is",
        };
        write!(
            f,
            "backup {number} of vault {vault}, generation {generation}: opens all that was sealed before it \
             and not purged by then, {with}"
        )
    }
}

/// Adds a backup, reads it back, has `check` open it, and keeps the newest `keep`.
pub(crate) fn add(
    directory: &Path,
    keep: usize,
    root: &str,
    keys: &KeysFile,
    check: impl FnOnce(&Found, &Path) -> Result<(), VaultError>,
) -> Result<VaultBackup, VaultError> {
    make_private(directory).map_err(VaultError::io(directory))?;
    let lock = DirectoryLock::take(directory).map_err(VaultError::io(directory))?;
    let _lock = lock.ok_or_else(|| VaultError::Locked(directory.to_owned()))?;
    unfinished(directory)?.iter().try_for_each(|left| discard(left))?;
    let there = numbered(directory)?;
    for (number, path) in &there {
        match VaultBackup::read(*number, path.clone()) {
            Ok(other) if other.vault != keys.vault => {
                let (path, found) = (directory.to_owned(), other.vault);
                return Err(VaultError::Foreign { path, expected: keys.vault, found });
            }
            _ => {}
        }
    }
    let number = there.last().map_or(1, |(number, _)| number + 1);
    let path = directory.join(format!("{PREFIX}{number:06}"));
    new_directory(&path, |path| Pair::new(path).write(root, keys))?;
    let found = Pair::new(&path).read()?;
    if found.keys.bytes != keys.bytes {
        return Err(VaultError::NotReadBack(path));
    }
    check(&found, &path)?;
    remove_older(&there, keep.max(1) - 1)?;
    VaultBackup::read(number, path)
}

/// Removes all but the newest `keep` that can be read, and what is older than these.
fn remove_older(there: &[(u32, PathBuf)], keep: usize) -> Result<(), VaultError> {
    let mut kept = 0;
    for (number, path) in there.iter().rev() {
        if kept >= keep {
            discard(path)?;
        } else if VaultBackup::read(*number, path.clone()).is_ok() {
            kept += 1;
        }
    }
    Ok(())
}

/// The backups in a directory, ascending, of those that can be read; and what is wrong with each other one, those
/// among them that were broken off ([`VaultError::LeftBehind`]).
///
/// # Errors
/// A directory that cannot be listed.
pub fn backups(directory: &Path) -> Result<Vec<Result<VaultBackup, VaultError>>, VaultError> {
    let there = numbered(directory)?.into_iter();
    let left = unfinished(directory)?.into_iter().map(|path| Err(VaultError::LeftBehind(path)));
    Ok(there.map(|(number, path)| VaultBackup::read(number, path)).chain(left).collect())
}

/// What backups that were broken off have left.
fn unfinished(directory: &Path) -> Result<Vec<PathBuf>, VaultError> {
    let is_left = |name: &str| name.starts_with(&format!(".{PREFIX}")) && name.ends_with(".new");
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(VaultError::io(directory))? {
        let path = entry.map_err(VaultError::io(directory))?.path();
        if path.file_name().and_then(|name| name.to_str()).is_some_and(is_left) {
            found.push(path);
        }
    }
    Ok(found)
}

fn numbered(directory: &Path) -> Result<Vec<(u32, PathBuf)>, VaultError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(VaultError::io(directory))? {
        let path = entry.map_err(VaultError::io(directory))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
        if let Some(number) = number {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Puts a vault back from a backup into a directory that is not there yet or empty. When it is opened, it goes on
/// behind all groups that may have been made since the backup.
///
/// # Errors
/// [`VaultError::Exists`]; [`VaultError::NoCopy`] for a vault that is no backup; a backup that is damaged, or that
/// others may read; a failing disk.
pub fn restore(from: &Path, into: &Path) -> Result<VaultId, VaultError> {
    let Found { root, keys, .. } = Pair::new(from).read()?;
    if !keys.is_copy {
        return Err(VaultError::NoCopy(from.to_owned()));
    }
    refuse_taken(into)?;
    new_directory(into, |into| Pair::new(into).write(&root.text, &keys))?;
    Ok(keys.vault)
}

#[cfg(test)]
mod tests;
