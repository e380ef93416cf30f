//! A vault that is open: what it seals and opens, and the secrets that it keeps.
//!
//! Everything that changes the vault is durable when the call returns, in the mirror too where there is one.
//! After an error it may have happened or not; the same call may be made again.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use customhouse_files::{
    newfile,
    passphrase::{Passphrase, PassphraseError, PassphraseSource},
    readfile,
    secret::Secret,
};
use zeroize::Zeroizing;

use crate::{
    attachment_key::AttachmentKey,
    backup::{self, VaultBackup},
    contents::Contents,
    directory::{RESTORED, new_directory, refuse_taken},
    error::{VaultError, VaultId},
    group::{GroupNumber, RetentionMonth},
    keys_file::KeysFile,
    lock::DirectoryLock,
    mirror::Mirror,
    pair::Pair,
    root_key::{RootId, RootKey},
    sealed::{SealedBytes, SealedPlace, WrappedKey},
};

mod secrets;

/// Most keys that are wrapped under one group's.
pub const GROUP_KEYS_MAX: u32 = 65_536;

/// How the root key is protected in its file. An HSM that wraps it has its place here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protection {
    /// By the file's mode alone: whoever has the directory has everything. For trying out.
    Plain,
    /// Wrapped by a passphrase.
    Passphrase(PassphraseSource),
}

/// What unwraps the root key, and wraps the next.
struct Wrapping(Option<Passphrase>);

impl Wrapping {
    fn passphrase(&self) -> Option<&Passphrase> {
        self.0.as_ref()
    }
}

/// An open vault, locked for this process.
pub struct Vault {
    directory: PathBuf,
    /// What is read without waiting for a disk.
    contents: RwLock<Arc<Contents>>,
    writer: Mutex<Writer>,
    _lock: DirectoryLock,
}

/// What one at a time changes.
struct Writer {
    pair: Pair,
    root: RootKey,
    wrapping: Arc<Wrapping>,
    generation: u64,
    /// The group that each month's keys are wrapped under at present, and how many have been. Nothing of it is
    /// kept: after a restart each month begins a new group, so that none ever has more than its most.
    current: BTreeMap<RetentionMonth, (GroupNumber, u32)>,
    mirror: Option<Arc<Mirror>>,
    /// Under which root key the mirror's keys are.
    mirrored: Option<RootId>,
    /// The text of `root.key`, where it is wrapped: that alone may be at a mirror.
    wrapped: Option<String>,
    broken_off: bool,
}

impl Vault {
    /// Makes a new vault and opens it. A passphrase is chosen: at a terminal it is asked for twice.
    ///
    /// # Errors
    /// [`VaultError::Exists`] where the directory is there and not empty; no passphrase; a failing disk.
    pub fn create(directory: &Path, protection: &Protection) -> Result<Self, VaultError> {
        refuse_taken(directory)?;
        let wrapping = protection.choose()?;
        let root = RootKey::random(VaultId::random()?)?;
        let (text, contents) = (root.to_text(wrapping.passphrase())?, Contents::default());
        let keys = KeysFile::seal(&root, 1, &contents)?;
        new_directory(directory, |directory| Pair::new(directory).write(&text, &keys))?;
        Self::open_by(directory, || Ok(wrapping))
    }

    /// Opens a vault.
    ///
    /// # Errors
    /// [`VaultError`]: among others, open in another process, others' to read, damaged, or a wrong
    /// passphrase. It is asked for when everything else is right.
    pub fn open(directory: &Path, protection: &Protection) -> Result<Self, VaultError> {
        Self::open_by(directory, || protection.ask())
    }

    fn open_by(
        directory: &Path,
        wrapping: impl FnOnce() -> Result<Wrapping, VaultError>,
    ) -> Result<Self, VaultError> {
        let pair = Pair::new(directory);
        // Before a lock is left in a directory that is no vault.
        fs::metadata(pair.keys_path()).map_err(VaultError::io(&pair.keys_path()))?;
        let mode = fs::metadata(directory).map_err(VaultError::io(directory))?.permissions().mode();
        if mode & readfile::OTHERS != 0 {
            let (path, mode) = (directory.to_owned(), mode & 0o7777);
            return Err(VaultError::Permissions { path, mode });
        }
        let lock = DirectoryLock::take(directory).map_err(VaultError::io(directory))?;
        let lock = lock.ok_or_else(|| VaultError::Locked(directory.to_owned()))?;
        let found = pair.read()?;
        let wrapping = Arc::new(wrapping()?);
        let root = found.root.unwrap(&found.root_path, wrapping.passphrase())?;
        let contents = found.keys.open(&pair.keys_path(), &root)?;
        pair.settle(root.id)?;
        let writer = Writer {
            pair,
            root,
            generation: found.keys.generation,
            current: BTreeMap::new(),
            mirror: None,
            mirrored: None,
            wrapped: wrapping.passphrase().map(|_| String::clone(&found.root.text)),
            broken_off: false,
            wrapping,
        };
        let vault = Self {
            directory: directory.to_owned(),
            contents: RwLock::new(Arc::new(contents)),
            writer: Mutex::new(writer),
            _lock: lock,
        };
        vault.after_a_restoration()?;
        Ok(vault)
    }

    /// Goes on behind the groups that may have been made since the backup that it was restored from.
    fn after_a_restoration(&self) -> Result<(), VaultError> {
        let mark = self.directory.join(RESTORED);
        if !mark.exists() {
            return Ok(());
        }
        self.change(Contents::leave_a_gap)?;
        fs::remove_file(&mark)
            .and_then(|()| newfile::sync_directory(&mark))
            .map_err(VaultError::io(&mark))
    }

    /// Which vault it is.
    pub fn id(&self) -> VaultId {
        self.writer().root.vault
    }

    /// How often its keys have been written, counted from 1.
    pub fn generation(&self) -> u64 {
        self.writer().generation
    }

    /// Keeps a mirror up to date from here on: it has the keys, and the root key too unless that is
    /// unprotected, before anything is done with them here.
    ///
    /// # Errors
    /// A mirror of another vault, or one that is ahead: the vault was put back to an earlier state then.
    pub fn mirror_to(&self, mirror: Arc<Mirror>) -> Result<(), VaultError> {
        let mut writer = self.writer();
        mirror.follows(writer.root.vault, writer.generation)?;
        writer.mirror = Some(mirror);
        writer.mirrored = None;
        writer.write_keys(&self.contents())
    }

    /// Seals bytes for a place, under a key of their own, wrapped by the current group of the month in which
    /// their retention ends. Where a group begins, its key is durable before anything is sealed.
    ///
    /// # Errors
    /// Longer than [`crate::sealed::CONTENT_BYTES_MAX`]; a failing disk or mirror; no randomness.
    pub fn seal(
        &self,
        place: SealedPlace,
        month: RetentionMonth,
        bytes: &[u8],
    ) -> Result<SealedBytes, VaultError> {
        let key = Secret::random().map_err(VaultError::Randomness)?;
        SealedBytes::seal(place, self.wrap(place, month, &key)?, &key, bytes)
    }

    /// Opens what was sealed for this place.
    ///
    /// # Errors
    /// [`VaultError::Ended`] for what was purged; [`VaultError::GroupUnknown`]; [`VaultError::NotAuthentic`]
    /// for what is damaged, or was sealed for another place.
    pub fn open_sealed(
        &self,
        place: SealedPlace,
        sealed: &SealedBytes,
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        sealed.open(place, &self.unwrap(place, sealed.key())?)
    }

    /// A new key for an attachment, wrapped as [`Vault::seal`] does.
    ///
    /// # Errors
    /// As [`Vault::seal`].
    pub fn new_attachment(
        &self,
        place: SealedPlace,
        month: RetentionMonth,
    ) -> Result<AttachmentKey, VaultError> {
        let key = Secret::random().map_err(VaultError::Randomness)?;
        Ok(AttachmentKey::new(place, self.wrap(place, month, &key)?, key))
    }

    /// The key of an attachment from what is kept beside its pieces.
    ///
    /// # Errors
    /// As [`Vault::open_sealed`].
    pub fn open_attachment(
        &self,
        place: SealedPlace,
        wrapped: &WrappedKey,
    ) -> Result<AttachmentKey, VaultError> {
        Ok(AttachmentKey::new(place, *wrapped, self.unwrap(place, wrapped)?))
    }

    /// The same key, wrapped by the current group of a month. What it opens stays as it is.
    ///
    /// # Errors
    /// As [`Vault::open_sealed`] and [`Vault::seal`].
    pub fn rewrap(
        &self,
        place: SealedPlace,
        month: RetentionMonth,
        wrapped: &WrappedKey,
    ) -> Result<WrappedKey, VaultError> {
        self.wrap(place, month, &self.unwrap(place, wrapped)?)
    }

    fn wrap(
        &self,
        place: SealedPlace,
        month: RetentionMonth,
        key: &Secret,
    ) -> Result<WrappedKey, VaultError> {
        let number = self.next_in_group(month)?;
        let group = self.contents().group(number)?.key.clone();
        WrappedKey::wrap(place, number, &group, key)
    }

    fn unwrap(&self, place: SealedPlace, wrapped: &WrappedKey) -> Result<Secret, VaultError> {
        let group = self.contents().group(wrapped.group())?.key.clone();
        wrapped.unwrap(place, &group)
    }

    /// A place in the month's current group, or the first in a new one.
    fn next_in_group(&self, month: RetentionMonth) -> Result<GroupNumber, VaultError> {
        let mut writer = self.writer();
        if let Some((number, count)) = writer.current.get_mut(&month)
            && *count < GROUP_KEYS_MAX
        {
            *count += 1;
            return Ok(*number);
        }
        let number = self.change_with(&mut writer, |contents| contents.add_group(month))?;
        writer.current.insert(month, (number, 1));
        Ok(number)
    }

    /// The groups whose keys there are, each with its month, ascending.
    pub fn groups(&self) -> Vec<(GroupNumber, RetentionMonth)> {
        let contents = self.contents();
        contents.groups.iter().map(|(number, group)| (*number, group.month)).collect()
    }

    /// Has nothing more wrapped under these groups: before what remains in them is wrapped anew.
    pub fn close_groups(&self, numbers: &[GroupNumber]) {
        self.writer().current.retain(|_, (number, _)| !numbers.contains(number));
    }

    /// Ends the keys of groups, durably: from here on [`VaultError::Ended`] is told of what was sealed under
    /// them. A copy of the keys from before still opens it, until [`Vault::renew_root`].
    ///
    /// # Errors
    /// A failing disk or mirror.
    pub fn end_groups(&self, numbers: &[GroupNumber]) -> Result<(), VaultError> {
        self.close_groups(numbers);
        self.change(|contents| {
            numbers.iter().for_each(|number| drop(contents.groups.remove(number)));
            Ok(())
        })
    }

    /// Writes everything anew under a fresh root key, without the keys of the groups that are ended with this,
    /// and destroys the old root key: no copy of the keys from before opens any more. Backups are copies
    /// of both; what is purged is gone when the last backup of before is.
    ///
    /// # Errors
    /// A failing disk or mirror. After [`VaultError::BrokenOff`] nothing is changed any more until the vault
    /// was opened again.
    pub fn renew_root(&self, ending: &[GroupNumber]) -> Result<(), VaultError> {
        self.close_groups(ending);
        self.renew(&mut self.writer(), ending)
    }

    /// Protects the vault in another way, or by another passphrase, which is chosen. The root key is renewed
    /// with it, so that a copy of the old file and the old passphrase open nothing that is written from now on.
    ///
    /// # Errors
    /// No passphrase; and as [`Vault::renew_root`].
    pub fn change_protection(&self, protection: &Protection) -> Result<(), VaultError> {
        let wrapping = Arc::new(protection.choose()?);
        let mut writer = self.writer();
        let before = std::mem::replace(&mut writer.wrapping, wrapping);
        let renewed = self.renew(&mut writer, &[]);
        if renewed.is_err() {
            writer.wrapping = before;
        }
        renewed
    }

    fn renew(&self, writer: &mut Writer, ending: &[GroupNumber]) -> Result<(), VaultError> {
        let mut contents = Contents::clone(&self.contents());
        ending.iter().for_each(|number| drop(contents.groups.remove(number)));
        let root = RootKey::random(writer.root.vault)?;
        writer.write_both(root, &contents)?;
        self.publish(contents);
        Ok(())
    }

    /// Adds a backup to a directory of backups of this vault, reads it back, and keeps the newest `keep`.
    ///
    /// # Errors
    /// A directory of another vault's backups, a failing disk, or a backup that does not read back: no older
    /// one was removed then.
    pub fn back_up(&self, directory: &Path, keep: usize) -> Result<VaultBackup, VaultError> {
        let (root, wrapping, generation, contents) = {
            let writer = self.writer();
            let (root, wrapping) = (writer.root.clone(), writer.wrapping.clone());
            (root, wrapping, writer.generation, self.contents())
        };
        let text = root.to_text(wrapping.passphrase())?;
        let keys = KeysFile::seal(&root, generation, &contents)?;
        backup::add(directory, keep, &text, &keys, |found, path| {
            let root = found.root.unwrap(&found.root_path, wrapping.passphrase())?;
            found.keys.open(path, &root).map(drop)
        })
    }

    /// Changes the contents, durably.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Contents) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        self.change_with(&mut self.writer(), change)
    }

    fn change_with<T>(
        &self,
        writer: &mut Writer,
        change: impl FnOnce(&mut Contents) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        let mut contents = Contents::clone(&self.contents());
        let answer = change(&mut contents)?;
        writer.write_keys(&contents)?;
        self.publish(contents);
        Ok(answer)
    }

    fn publish(&self, contents: Contents) {
        let mut place = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        *place = Arc::new(contents);
    }

    fn contents(&self) -> Arc<Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault({})", self.directory.display())
    }
}

impl Writer {
    /// Writes the keys under the root key that is there.
    fn write_keys(&mut self, contents: &Contents) -> Result<(), VaultError> {
        self.refuse_broken_off()?;
        // A generation is used once, also where its writing fails: it may be on the disk all the same.
        self.generation += 1;
        let keys = KeysFile::seal(&self.root, self.generation, contents)?;
        self.pair.write_keys(&keys)?;
        self.write_to_mirror(&keys)
    }

    /// Writes both under a root key, which is the vault's from then on.
    fn write_both(&mut self, root: RootKey, contents: &Contents) -> Result<(), VaultError> {
        self.refuse_broken_off()?;
        let text = root.to_text(self.wrapping.passphrase())?;
        self.generation += 1;
        let keys = KeysFile::seal(&root, self.generation, contents)?;
        // Which of the two root keys is the one after an error is known when the files are read again.
        self.broken_off = true;
        self.pair.write(&text, &keys)?;
        self.root = root;
        self.wrapped = self.wrapping.passphrase().map(|_| String::clone(&text));
        self.broken_off = false;
        self.write_to_mirror(&keys)
    }

    /// The keys alone where the mirror has the root key that they are under, else both.
    fn write_to_mirror(&mut self, keys: &KeysFile) -> Result<(), VaultError> {
        let Some(mirror) = &self.mirror else { return Ok(()) };
        if self.mirrored == Some(keys.root) {
            mirror.keep_keys(keys)?;
        } else {
            mirror.keep_pair(self.wrapped.as_deref(), keys)?;
            self.mirrored = Some(keys.root);
        }
        Ok(())
    }

    fn refuse_broken_off(&self) -> Result<(), VaultError> {
        match self.broken_off {
            true => Err(VaultError::BrokenOff(self.pair.keys_path())),
            false => Ok(()),
        }
    }
}

impl Protection {
    /// What opens a vault.
    fn ask(&self) -> Result<Wrapping, VaultError> {
        self.wrapping(PassphraseSource::ask)
    }

    /// What a vault is to be opened with.
    fn choose(&self) -> Result<Wrapping, VaultError> {
        self.wrapping(PassphraseSource::choose)
    }

    fn wrapping(
        &self,
        how: impl FnOnce(&PassphraseSource, &str) -> Result<Passphrase, PassphraseError>,
    ) -> Result<Wrapping, VaultError> {
        Ok(Wrapping(match self {
            Self::Plain => None,
            Self::Passphrase(source) => Some(how(source, "the vault")?),
        }))
    }
}

#[cfg(test)]
pub(crate) mod tests;
