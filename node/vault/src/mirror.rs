//! The second place of an agency: a directory, on a disk of another machine, that has everything which is
//! sealed at the first, before anybody is told that it was accepted.
//!
//! What is there can be opened by nobody who does not have the vault: records with their wrapped keys, the
//! vault's `keys`, which are under the root key, and the root key where that is wrapped by a passphrase. An
//! unprotected root key ([`crate::vault::Protection::Plain`]) never leaves its directory: without a backup of the vault the
//! mirror is of no use then.
//!
//! ```text
//! mirror      magic "CHMIRR01" (8)  vault id (16)  crc32c of these (4)
//! vault/      root.key, keys
//! records/    00000001 …: segments
//! segment   = magic "CHMSEG01" (8)  vault id (16)  number (8)  nonce (8)  crc32c of these (4)  (frame | mark)*
//! payload   = part (1)  place (81)  piece (4, 0 where it is none)  bytes
//! ```
//!
//! Frames and marks are those of [`customhouse_files::frames`]. Each opening begins a segment of its own, so
//! that nothing is written behind what a crash has left. The file `mirror` is asked for before anything is
//! written: where the other machine's disk is not mounted, an empty directory has its place. And nothing is
//! told to be there before the files that were written are seen to have their names still: somebody may have
//! moved the directory away, or put a copy in its place.
//!
//! **What counts.** What comes later replaces what came before of the same place and part. Sealed bytes as a whole
//! bring their own wrapped key, so that a wrapped key of the place that came before them is void
//! ([`MirrorPart::voids`]).

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use customhouse_files::{newfile, readfile};

use crate::{
    backup,
    contents::{Contents, KeysName},
    directory::{new_directory, refuse_taken},
    error::{MirrorError, VaultError, VaultId},
    keys_file::KeysFile,
    lock::DirectoryLock,
    pair::Pair,
};

mod entry;
mod segment;

pub use entry::{MirrorEntry, MirrorPart};
use segment::Segment;

const MAGIC: &[u8; 8] = b"CHMIRR01";
const NAME: &str = "mirror";
const VAULT: &str = "vault";
const RECORDS: &str = "records";

/// An open mirror, locked for this process.
#[derive(Debug)]
pub struct Mirror {
    directory: PathBuf,
    vault: VaultId,
    /// The segment that is written; none before the first append, and after one that failed.
    segment: Mutex<Option<Segment>>,
    lock: DirectoryLock,
}

/// What a mirror shows to whoever may read it, without its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MirrorSeen {
    /// Which vault it is of.
    pub vault: VaultId,
    /// The generation of its copy of the keys; none before it was first brought up.
    pub generation: Option<u64>,
    /// Whether a vault can be put back from it alone: it has a root key, which a passphrase protects.
    pub has_root_key: bool,
}

impl Mirror {
    /// Looks at a mirror that may be open in another process, and changes nothing.
    ///
    /// # Errors
    /// [`MirrorError`]: not there, no mirror, or a copy of the keys that cannot be read.
    pub fn look(directory: &Path) -> Result<MirrorSeen, MirrorError> {
        let vault = read_name(directory)?;
        let pair = Pair::new(&directory.join(VAULT));
        let failed = |source| MirrorError::of_keys(directory, source);
        let there = pair.has_keys().map_err(failed)?;
        let keys = there.then(|| pair.read_keys()).transpose().map_err(failed)?;
        let has_root_key = keys.is_some() && pair.read().is_ok();
        Ok(MirrorSeen { vault, generation: keys.map(|keys| keys.name.generation), has_root_key })
    }

    /// Makes an empty mirror of a vault.
    ///
    /// # Errors
    /// [`VaultError::Exists`] where the directory is there and not empty; a failing disk.
    pub fn create(directory: &Path, vault: VaultId) -> Result<(), VaultError> {
        refuse_taken(directory)?;
        new_directory(directory, |directory| {
            for inner in [VAULT, RECORDS] {
                new_directory(&directory.join(inner), |_| Ok(()))?;
            }
            let name = directory.join(NAME);
            newfile::write(&name, &name_of(vault), 0o600).map_err(VaultError::io(&name))
        })
    }

    /// Opens a mirror, cuts off what a crash has left at its end, and makes durable what may not have been.
    ///
    /// # Errors
    /// [`MirrorError`].
    pub fn open(directory: &Path) -> Result<Self, MirrorError> {
        let vault = read_name(directory)?;
        let lock = DirectoryLock::take(directory).map_err(MirrorError::io(directory))?;
        let lock = lock.ok_or_else(|| MirrorError::Locked(directory.to_owned()))?;
        let segment = Mutex::new(None);
        let mirror = Self { directory: directory.to_owned(), vault, segment, lock };
        // What a crash has left of the copy of the keys, which would open groups that were ended since.
        mirror.pair().settle_copy().map_err(|source| mirror.keys_error(source))?;
        if let Some((_, path)) = segment::all(&mirror.records())?.pop() {
            let unsure = segment::cut(&path, vault)?;
            mirror.write(&unsure)?;
        }
        Ok(mirror)
    }

    fn records(&self) -> PathBuf {
        self.directory.join(RECORDS)
    }

    fn pair(&self) -> Pair {
        Pair::new(&self.directory.join(VAULT))
    }

    /// Which vault it is of.
    pub fn vault(&self) -> VaultId {
        self.vault
    }

    /// Appends entries: they are durable there when this returns.
    ///
    /// # Errors
    /// [`MirrorError`]: among others, full, or not mounted. The entries may be there or not, some of them too; after
    /// [`MirrorError::Entry`] none is.
    pub fn append(&self, entries: &[MirrorEntry]) -> Result<(), MirrorError> {
        let payloads: Vec<_> = entries.iter().map(MirrorEntry::encode).collect();
        for payload in &payloads {
            // What reading refuses would take with it all that is behind it.
            MirrorEntry::decode(payload).map_err(|error| {
                let (path, what) = (self.directory.clone(), error.to_string());
                MirrorError::Entry { path, what }
            })?;
        }
        self.write(&payloads)
    }

    fn write(&self, payloads: &[Vec<u8>]) -> Result<(), MirrorError> {
        let mut rest = payloads;
        let mut place = self.segment.lock().unwrap_or_else(PoisonError::into_inner);
        while !rest.is_empty() {
            self.is_there()?;
            // Taken out, so that nothing is written behind a write that failed.
            let mut segment = match place.take().filter(|segment| !segment.is_long()) {
                Some(segment) => segment,
                None => Segment::begin(&self.records(), self.vault)?,
            };
            let (now, later) = rest.split_at(segment.has_room_for(rest));
            segment.append(now)?;
            self.is_there()?;
            *place = Some(segment);
            rest = later;
        }
        Ok(())
    }

    /// Whether the directory is still the mirror, and the one that was opened.
    fn is_there(&self) -> Result<(), MirrorError> {
        let (expected, found) = (self.vault, read_name(&self.directory)?);
        if found != expected {
            return Err(MirrorError::Foreign { path: self.directory.clone(), expected, found });
        }
        match self.lock.is_of(&self.directory) {
            Ok(true) => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(MirrorError::io(&self.directory)(error))
            }
            _ => Err(MirrorError::Replaced(self.directory.clone())),
        }
    }

    /// Whether it is of this vault, and its keys are those of the vault or ones that these come from: else they are
    /// the only newer ones that there are, and are not written over.
    pub(crate) fn precedes(
        &self,
        vault: VaultId,
        name: &KeysName,
        contents: &Contents,
    ) -> Result<(), MirrorError> {
        let path = self.directory.clone();
        if self.vault != vault {
            return Err(MirrorError::Foreign { path, expected: vault, found: self.vault });
        }
        let pair = self.pair();
        if !pair.has_keys().map_err(|source| self.keys_error(source))? {
            return Ok(());
        }
        let keys = pair.read_keys();
        let there = keys.map_err(|source| self.keys_error(source))?.name;
        let (mirror, vault) = (there.generation, name.generation);
        match contents.descend_from(&there) {
            true => Ok(()),
            false => Err(MirrorError::Ahead { path, mirror, vault }),
        }
    }

    /// Replaces its copy of the keys, which are under the root key that it has.
    pub(crate) fn keep_keys(&self, keys: &KeysFile) -> Result<(), MirrorError> {
        self.is_there()?;
        self.pair().write_keys(keys).map_err(|source| self.keys_error(source))
    }

    /// Replaces its copy of both; without a root key where that is not to leave its directory.
    pub(crate) fn keep_pair(&self, root: Option<&str>, keys: &KeysFile) -> Result<(), MirrorError> {
        self.is_there()?;
        let pair = self.pair();
        // Else the file that has the root key of the copy may be written over before the copy is.
        let written = pair.settle_copy().and_then(|()| match root {
            Some(root) => pair.write(root, keys),
            None => pair.write_keys(keys).and_then(|()| pair.remove_root_key()),
        });
        written.map_err(|source| self.keys_error(source))
    }

    fn keys_error(&self, source: VaultError) -> MirrorError {
        MirrorError::of_keys(&self.directory, source)
    }

    /// Reads all that a mirror has, in the order in which it came. A node that writes to it may be running. Returns
    /// how many there were.
    ///
    /// # Errors
    /// [`MirrorError`], or what `take` answers.
    pub fn read_all<E: From<MirrorError>>(
        directory: &Path,
        mut take: impl FnMut(MirrorEntry) -> Result<(), E>,
    ) -> Result<u64, E> {
        let vault = read_name(directory)?;
        let mut count = 0;
        for (_, path) in segment::all(&directory.join(RECORDS))? {
            segment::each(&path, vault, |entry| {
                count += 1;
                take(entry)
            })?;
        }
        Ok(count)
    }

    /// Reads what can be read of a mirror that is damaged, as [`Mirror::read_all`] does of a whole one, and tells
    /// `report` of what cannot: an entry that is missing may have replaced one that is there.
    ///
    /// # Errors
    /// A directory that is no mirror or cannot be listed, or what `take` answers.
    pub fn salvage<E: From<MirrorError>>(
        directory: &Path,
        mut take: impl FnMut(MirrorEntry) -> Result<(), E>,
        mut report: impl FnMut(MirrorError),
    ) -> Result<u64, E> {
        let vault = read_name(directory)?;
        let mut count = 0;
        for (_, path) in segment::all(&directory.join(RECORDS))? {
            let entries = segment::salvage(&path, vault, &mut report);
            count += entries.len() as u64;
            entries.into_iter().try_for_each(&mut take)?;
        }
        Ok(count)
    }

    /// Puts a vault back from the mirror's copy, as [`backup::restore`] does from a backup.
    ///
    /// # Errors
    /// As there; [`VaultError::Missing`] where the mirror has no root key.
    pub fn restore_vault(directory: &Path, into: &Path) -> Result<VaultId, VaultError> {
        read_name(directory)?;
        backup::restore(&directory.join(VAULT), into)
    }
}

fn name_of(vault: VaultId) -> Vec<u8> {
    let mut bytes = [&MAGIC[..], &vault.0].concat();
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
    bytes
}

/// Which vault a directory is a mirror of.
fn read_name(directory: &Path) -> Result<VaultId, MirrorError> {
    let path = directory.join(NAME);
    let bytes = readfile::bytes(&path, MAGIC.len() + 16 + 4).map_err(|error| {
        // What is missing is the mirror, and not a file of it.
        MirrorError::io(if error.kind() == io::ErrorKind::NotFound { directory } else { &path })(
            error,
        )
    })?;
    let vault = bytes.get(8..24).and_then(|id| id.try_into().ok()).map(VaultId);
    match vault.filter(|vault| name_of(*vault) == bytes) {
        Some(vault) => Ok(vault),
        None => Err(MirrorError::Damaged { path, offset: 0, what: "it names no vault" }),
    }
}

#[cfg(test)]
mod tests;
