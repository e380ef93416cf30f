//! A vault that is open: what it seals and opens, and the secrets that it keeps.
//!
//! Everything that changes the vault is durable when the call returns, in the mirror too where there is one.
//! [`VaultError::MirrorBehind`] says that it happened and that the mirror does not have it: each later change
//! brings the mirror up first, and changes nothing where that fails ([`VaultError::Mirror`]). After any other
//! error it may have happened or not; the same call may be made again. A call that changes nothing writes nothing.
//!
//! # What a caller keeps to
//!
//! - **One key at a place, until it is wrapped anew.** What is sealed leaves the process: to the mirror, to the
//!   store's log. Were a record sealed under one group, mirrored, and after a crash sealed again under
//!   another, then to purge it would end the second group, and the mirror's first copy would open for ever. So
//!   whoever has a key wrapped gives a function that makes the wrapped key durable at its place, *the
//!   intent*, before anything is sealed with it; a retry finds it there and goes on with it
//!   ([`Vault::seal_again`]).
//! - **A round**: [`Vault::close_groups`] waits for what is being stored, and makes durable which groups are to be
//!   ended. What is to remain is wrapped anew, intents too, in the store first and then in the mirror; the
//!   round goes on after a crash with [`Vault::closed_groups`], and appends to the mirror again what it wrapped
//!   anew, because it may be missing there. [`Vault::renew_root`] ends the groups.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use customhouse_files::{
    passphrase::{Passphrase, PassphraseError, PassphraseSource},
    readfile,
};

use crate::{
    backup::{self, VaultBackup},
    contents::{Contents, KeysName},
    directory::{discard_unfinished, new_directory, refuse_taken},
    error::{VaultError, VaultId},
    group::GroupNumber,
    keys_file::KeysFile,
    lease::Leases,
    lock::DirectoryLock,
    mirror::Mirror,
    pair::Pair,
    random,
    root_key::RootKey,
};

mod groups;
mod secrets;
mod writer;

use writer::Writer;

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
    id: VaultId,
    /// What is read without waiting for a disk.
    contents: RwLock<Arc<Contents>>,
    writer: Mutex<Writer>,
    /// Held while the root key is renewed or a backup is made, and taken before `writer`: a backup that has what a
    /// renewal has ended is older than it.
    renewal: Mutex<()>,
    leases: Leases,
    _lock: DirectoryLock,
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
        let text = root.to_text(wrapping.passphrase())?;
        let mut contents = Contents::new(u32::from_be_bytes(random()?));
        let incarnation = contents.incarnation();
        let name = KeysName { incarnation, generation: 1, file: random()? };
        contents.note(&name);
        let keys = KeysFile::seal(&root, name, false, &contents)?;
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
        let found = fs::metadata(directory).map_err(VaultError::io(directory))?;
        readfile::is_own(&found).map_err(VaultError::private(directory))?;
        let mode = found.permissions().mode();
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
        pair.settle(&found.root_path)?;
        discard_unfinished(directory)?;
        let is_copy = found.keys.is_copy;
        let wrapped = wrapping.passphrase().map(|_| String::clone(&found.root.text));
        let writer = Writer::new(pair, root, wrapping, wrapped, found.keys.name);
        let vault = Self {
            directory: directory.to_owned(),
            id: found.keys.vault,
            contents: RwLock::new(Arc::new(contents)),
            writer: Mutex::new(writer),
            renewal: Mutex::new(()),
            leases: Leases::default(),
            _lock: lock,
        };
        if is_copy {
            vault.begin_incarnation(found.keys.name.generation)?;
        }
        Ok(vault)
    }

    /// Goes on in what was put back from a backup or a mirror, as the first thing that is done with it.
    fn begin_incarnation(&self, generation: u64) -> Result<(), VaultError> {
        self.change(|contents| {
            let mut incarnation = u32::from_be_bytes(random()?);
            while contents.has_incarnation(incarnation) {
                incarnation = incarnation.wrapping_add(1);
            }
            contents.begin_incarnation(incarnation, generation)
        })
    }

    /// Which vault it is.
    pub fn id(&self) -> VaultId {
        self.id
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// How often its keys have been written, counted from 1. Answered also while a disk is waited for.
    pub fn generation(&self) -> u64 {
        self.contents().generation()
    }

    /// Keeps a mirror up to date from here on: it has the keys, and the root key too unless that is
    /// unprotected, before anything is done with them here.
    ///
    /// # Errors
    /// [`MirrorError`](crate::error::MirrorError): among others, a mirror of another vault, or one whose keys these
    /// do not come from: the vault was put back to an earlier state then. It is not followed after an error.
    pub fn mirror_to(&self, mirror: Arc<Mirror>) -> Result<(), VaultError> {
        self.writer().follow(mirror, &self.contents())
    }

    /// Writes everything anew under a fresh root key, without the keys of the groups that are ended with this,
    /// and destroys the old root key: no copy of the keys from before opens any more. Backups are copies
    /// of both; what is purged is gone when the last backup of before is.
    ///
    /// # Errors
    /// [`VaultError::NotClosed`] and [`VaultError::InUse`] of a group; a failing disk or mirror: also where the new
    /// root key is in use and the old one could not be destroyed, so that it is to be renewed again. After
    /// [`VaultError::BrokenOff`] nothing is changed any more until the vault was opened again.
    pub fn renew_root(&self, ending: &[GroupNumber]) -> Result<(), VaultError> {
        let _renewal = self.renewal();
        let mut writer = self.writer();
        let wrapping = writer.wrapping.clone();
        self.renew(&mut writer, wrapping, ending)
    }

    /// Protects the vault in another way, or by another passphrase, which is chosen. The root key is renewed
    /// with it, so that a copy of the old file and the old passphrase open nothing that is written from now on.
    ///
    /// # Errors
    /// No passphrase; and as [`Vault::renew_root`]: after [`VaultError::MirrorBehind`] the vault is protected in
    /// the new way.
    pub fn change_protection(&self, protection: &Protection) -> Result<(), VaultError> {
        let wrapping = Arc::new(protection.choose()?);
        let _renewal = self.renewal();
        self.renew(&mut self.writer(), wrapping, &[])
    }

    fn renew(
        &self,
        writer: &mut Writer,
        wrapping: Arc<Wrapping>,
        ending: &[GroupNumber],
    ) -> Result<(), VaultError> {
        writer.bring_up(&self.contents())?;
        let mut contents = Contents::clone(&self.contents());
        self.end(&mut contents, ending)?;
        contents.renewal_due = false;
        let root = RootKey::random(writer.root.vault)?;
        let id = root.id;
        let written = writer.write_both(root, wrapping, &mut contents);
        if writer.root.id == id {
            self.publish(contents);
        }
        written?;
        writer.bring_up(&self.contents()).map_err(VaultError::after_the_change)
    }

    /// Whether something was removed, a group or a secret by name, that older copies of the keys still have under
    /// the present root key: until [`Vault::renew_root`] they open it. The next round renews it then, also where
    /// it ends no group.
    pub fn renewal_due(&self) -> bool {
        self.contents().renewal_due
    }

    /// Adds a backup to a directory of backups of this vault, reads it back, and keeps the newest `keep`. No
    /// renewal goes on meanwhile.
    ///
    /// # Errors
    /// A directory of another vault's backups, or one that another backup is written to; a failing disk, or a
    /// backup that does not read back: no older one was removed then. [`VaultError::BrokenOff`].
    pub fn back_up(&self, directory: &Path, keep: usize) -> Result<VaultBackup, VaultError> {
        let _renewal = self.renewal();
        let (root, wrapping, name, contents) = {
            let writer = self.writer();
            writer.refuse_broken_off()?;
            let (root, wrapping) = (writer.root.clone(), writer.wrapping.clone());
            (root, wrapping, writer.name, self.contents())
        };
        let text = root.to_text(wrapping.passphrase())?;
        let keys = KeysFile::seal(&root, name, true, &contents)?;
        backup::add(directory, keep, &text, &keys, |found, path| {
            let root = found.root.unwrap(&found.root_path, wrapping.passphrase())?;
            found.keys.open(path, &root).map(drop)
        })
    }

    /// Whether a backup has what the vault has now: nothing was changed since it was made.
    pub fn is_as_in(&self, backup: &VaultBackup) -> bool {
        backup.vault == self.id && self.contents().are(&backup.name)
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
        writer.bring_up(&self.contents())?;
        let answer = self.change_here(writer, change)?;
        writer.bring_up(&self.contents()).map_err(VaultError::after_the_change)?;
        Ok(answer)
    }

    /// Changes the contents durably here, and not in the mirror.
    fn change_here<T>(
        &self,
        writer: &mut Writer,
        change: impl FnOnce(&mut Contents) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        let before = self.contents();
        let mut contents = Contents::clone(&before);
        let answer = change(&mut contents)?;
        if contents.encode() != before.encode() {
            writer.write_keys(&mut contents)?;
            self.publish(contents);
        }
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

    fn renewal(&self) -> MutexGuard<'_, ()> {
        self.renewal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault({})", self.directory.display())
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
