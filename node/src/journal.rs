//! The signer's journal: the only home of a validator's own votes and proposals, and of the
//! certificates it acted on, until their height commits ([`customhouse_consensus`]).
//!
//! One append-only file beside the key, synced on its own. It is made together with the key: a key
//! without its journal does not sign, because nobody can say what it has signed. A lock refuses a
//! second process with the same key.
//!
//! ```text
//! file   = header  (frame | mark)*
//! header = magic "CHJRNL2\n" (8)  public key (32)  floor (8)  nonce (8)  crc32c of these (4)
//! ```
//!
//! Integers are big-endian. `floor` is the height at and above which entries may be found; nothing
//! is signed below it. Frames and marks are those of [`customhouse_files::frames`].
//!
//! What is read is not yet durable: a process that was killed between a write and its sync, or whose
//! sync failed, has left entries that may be in the system's memory only, and the system may believe
//! them to be on the disk. So [`SignerJournal::open`] writes the whole journal anew, into a file of its
//! own, and syncs that before anybody may act on it.
//!
//! What is before a mark was durable, and may have been sent: damage with a mark behind it means that the
//! key does not sign again. Damage with none behind it is in an append that was cut short: what was never synced
//! was never sent, and it is cut off.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use customhouse_files::frames::{self, DamagedFrame, Nonce};
use customhouse_ledger::{keys::PublicKey, keys::SigningKey};

/// A key that votes, and where its journal is.
#[derive(Clone, Debug)]
pub struct ValidatorKey {
    /// The key.
    pub key: SigningKey,
    /// The journal.
    pub journal: PathBuf,
}

const MAGIC: &[u8; 8] = b"CHJRNL2\n";
/// What the journals of all versions begin with; the version and a line feed follow.
const MAGIC_OF_ANY: &[u8; 6] = b"CHJRNL";
const HEADER_BYTES: usize = 8 + 32 + 8 + 8 + 4;
/// Most bytes of one entry: a proposal names at most 65,536 transactions.
const ENTRY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes after which a journal is rewritten without the heights that have committed.
const COMPACT_AT_BYTES: u64 = 4 * 1024 * 1024;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Reading, writing or syncing failed. Nothing may be signed after it.
    #[error("signer's journal {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process holds the key.
    #[error("signer's journal {0} is locked: another process is running with this key")]
    Locked(PathBuf),
    /// There is no journal.
    #[error(
        "signer's journal {0} is missing: what this key has signed is unknown, so it does not \
         sign again. Register a new validator key (`customhouse help registry`). If this very file was \
         only moved, move it back; never an older copy, by which the key would sign twice"
    )]
    Missing(PathBuf),
    /// It exists already.
    #[error("signer's journal {0} exists already")]
    Exists(PathBuf),
    /// It cannot be trusted.
    #[error(
        "signer's journal {path} is damaged at byte {offset} ({what}): this key does not sign \
         again. Register a new validator key"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// How.
        what: &'static str,
    },
    /// Written by another version of this program.
    #[error(
        "signer's journal {0} is of another version of this program: this key does not sign with this \
         one. Run the version that wrote it, or register a new validator key"
    )]
    OtherVersion(PathBuf),
    /// The journal of another key.
    #[error("signer's journal {path} belongs to key {found}, not to {expected}")]
    OtherKey {
        /// Which file.
        path: PathBuf,
        /// The configured key.
        expected: PublicKey,
        /// The journal's, in hexadecimal.
        found: String,
    },
    /// An entry too large to be one of ours.
    #[error("signer's journal {path}: an entry of {length} bytes")]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// Its bytes.
        length: usize,
    },
}

/// An open journal, locked for this process.
#[derive(Debug)]
pub struct SignerJournal {
    path: PathBuf,
    key: PublicKey,
    file: File,
    length: u64,
    floor: u64,
    nonce: Nonce,
    /// Something could not be written: what the disk holds is unknown.
    failed: bool,
    _lock: File,
}

/// What was in a journal when it was opened.
#[derive(Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Nothing is signed below this height.
    pub floor: u64,
    /// Payloads, in the order in which they were appended.
    pub payloads: Vec<Vec<u8>>,
    /// Bytes of a torn tail that were cut off.
    pub torn_bytes: u64,
}

impl SignerJournal {
    /// Makes the empty journal of a new key.
    ///
    /// # Errors
    /// [`JournalError::Exists`], or a failing disk.
    pub fn create(path: &Path, key: &PublicKey) -> Result<(), JournalError> {
        if path.exists() {
            return Err(JournalError::Exists(path.to_owned()));
        }
        write_new(path, key, 0, &[]).map(drop).map_err(io_error(path))
    }

    /// Opens and locks the journal of a key. What was recovered is durable when this returns.
    ///
    /// # Errors
    /// Missing, locked, damaged or another key's; a failing disk.
    pub fn open(path: &Path, key: &PublicKey) -> Result<(Self, Recovered), JournalError> {
        // Where it is a link, the file that it leads to is what is replaced.
        let path = &path.canonicalize().map_err(missing_or_io(path))?;
        let lock = lock(path)?;
        let recovered = Self::read(path, key)?;
        let floor = recovered.floor;
        let new = write_new(path, key, floor, &recovered.payloads).map_err(io_error(path))?;
        let New { file, length, nonce } = new;
        let (path, key, failed) = (path.clone(), *key, false);
        let journal = Self { path, key, file, length, floor, nonce, failed, _lock: lock };
        Ok((journal, recovered))
    }

    /// Reads the journal of a key, without locking it and without cutting anything off.
    ///
    /// # Errors
    /// Missing, damaged, or another key's; a failing disk.
    pub fn read(path: &Path, key: &PublicKey) -> Result<Recovered, JournalError> {
        let bytes = std::fs::read(path).map_err(missing_or_io(path))?;
        let (floor, nonce) = read_header(path, key, &bytes)?;
        let read = frames::read(&bytes, HEADER_BYTES, nonce).map_err(|found| {
            let DamagedFrame { offset, what } = found;
            JournalError::Damaged { path: path.to_owned(), offset, what }
        })?;
        let payloads = read.payloads.iter().map(|payload| payload.to_vec()).collect();
        Ok(Recovered { floor, payloads, torn_bytes: (bytes.len() - read.length) as u64 })
    }

    /// Whether the journal of a key could be opened: as [`SignerJournal::read`], and nobody holds its lock.
    ///
    /// # Errors
    /// As [`SignerJournal::open`].
    pub fn try_out(path: &Path, key: &PublicKey) -> Result<(), JournalError> {
        let _lock = path.exists().then(|| lock(path)).transpose()?;
        OpenOptions::new().write(true).open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => JournalError::Missing(path.to_owned()),
            _ => io_error(path)(error),
        })?;
        Self::read(path, key).map(drop)
    }

    /// Appends payloads and syncs: they are durable when this returns.
    ///
    /// # Errors
    /// A failing disk, or an entry too large. Nothing may be signed after an error: what the disk
    /// holds is unknown.
    pub fn append(&mut self, payloads: &[Vec<u8>]) -> Result<(), JournalError> {
        let mut bytes = Vec::new();
        for payload in payloads {
            if payload.len() > ENTRY_BYTES_MAX {
                let (path, length) = (self.path.clone(), payload.len());
                return Err(JournalError::TooLarge { path, length });
            }
            frames::push(&mut bytes, payload);
        }
        if std::mem::replace(&mut self.failed, true) {
            return Err(io_error(&self.path)(io::Error::other("an earlier write failed")));
        }
        let written = self.file.write_all(&bytes).and_then(|()| sync(&self.file, File::sync_data));
        self.length += bytes.len() as u64;
        // Not synced: it only has to be there when the disk does not lose the last moment.
        let marked =
            written.and_then(|()| self.file.write_all(&frames::mark(self.length, self.nonce)));
        marked.map_err(io_error(&self.path))?;
        self.length += frames::MARK_BYTES as u64;
        self.failed = false;
        Ok(())
    }

    /// Whether it is worth calling [`SignerJournal::compact`].
    pub fn is_long(&self) -> bool {
        self.length > COMPACT_AT_BYTES
    }

    /// Replaces the journal by one with these payloads, all of height `floor` or above. The old
    /// file stays until the new one is durable.
    ///
    /// # Errors
    /// A failing disk.
    pub fn compact(&mut self, floor: u64, payloads: &[Vec<u8>]) -> Result<(), JournalError> {
        debug_assert!(floor >= self.floor, "a floor never sinks");
        let written = write_new(&self.path, &self.key, floor, payloads);
        self.failed |= written.is_err();
        let New { file, length, nonce } = written.map_err(io_error(&self.path))?;
        (self.file, self.length, self.nonce, self.floor) = (file, length, nonce, floor);
        Ok(())
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> JournalError + '_ {
    |source| JournalError::Io { path: path.to_owned(), source }
}

fn missing_or_io(path: &Path) -> impl FnOnce(io::Error) -> JournalError + '_ {
    |error| match error.kind() {
        io::ErrorKind::NotFound => JournalError::Missing(path.to_owned()),
        _ => io_error(path)(error),
    }
}

fn lock(path: &Path) -> Result<File, JournalError> {
    let lock_path = path.with_extension("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
    let file = file.map_err(io_error(&lock_path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(io_error(&lock_path)(error)),
    }
}

fn header(key: &PublicKey, floor: u64, nonce: Nonce) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(key.as_bytes());
    bytes.extend_from_slice(&floor.to_be_bytes());
    bytes.extend_from_slice(&nonce);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

/// A journal's file, just written.
struct New {
    file: File,
    length: u64,
    nonce: Nonce,
}

/// Writes a whole journal beside `path`, makes it durable, and moves it there.
fn write_new(path: &Path, key: &PublicKey, floor: u64, payloads: &[Vec<u8>]) -> io::Result<New> {
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce).map_err(io::Error::other)?;
    let mut bytes = header(key, floor, nonce);
    for payload in payloads {
        frames::push(&mut bytes, payload);
    }
    bytes.extend_from_slice(&frames::mark(bytes.len() as u64, nonce));
    let new_path = path.with_extension("journal-new");
    // What an earlier attempt has left may be anything.
    match std::fs::remove_file(&new_path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut new = OpenOptions::new();
    let mut file = new.read(true).write(true).create_new(true).mode(0o600).open(&new_path)?;
    file.write_all(&bytes)?;
    sync(&file, File::sync_all)?;
    std::fs::rename(&new_path, path)?;
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync(&File::open(directory)?, File::sync_all)?;
    Ok(New { file, length: bytes.len() as u64, nonce })
}

fn read_header(path: &Path, key: &PublicKey, bytes: &[u8]) -> Result<(u64, Nonce), JournalError> {
    let damaged = |what| JournalError::Damaged { path: path.to_owned(), offset: 0, what };
    if is_of_another_version(bytes) {
        return Err(JournalError::OtherVersion(path.to_owned()));
    }
    let Some((head, crc)) = bytes.get(..HEADER_BYTES).and_then(|b| b.split_last_chunk::<4>())
    else {
        return Err(damaged("shorter than its header"));
    };
    if &head[..8] != MAGIC {
        return Err(damaged("not a signer's journal"));
    }
    if crc32c::crc32c(head) != u32::from_be_bytes(*crc) {
        return Err(damaged("header checksum"));
    }
    let (found, rest) = head[8..].split_at(32);
    if found != key.as_bytes() {
        let found = hex::encode(found);
        return Err(JournalError::OtherKey { path: path.to_owned(), expected: *key, found });
    }
    let (floor, nonce) = rest.split_first_chunk().ok_or_else(|| damaged("header"))?;
    let nonce = nonce.try_into().map_err(|_| damaged("header"))?;
    Ok((u64::from_be_bytes(*floor), nonce))
}

/// Whether it begins as the journal of another version does. A damaged byte would have to turn the version
/// into another digit; and the key does not sign in either case.
fn is_of_another_version(bytes: &[u8]) -> bool {
    match bytes.strip_prefix(MAGIC_OF_ANY) {
        Some([version, b'\n', ..]) => version.is_ascii_digit() && !bytes.starts_with(MAGIC),
        _ => false,
    }
}

/// Makes what was written to a file, or to the names in a directory, durable.
fn sync(file: &File, how: fn(&File) -> io::Result<()>) -> io::Result<()> {
    #[cfg(test)]
    tests::disk::before_sync()?;
    how(file)?;
    #[cfg(test)]
    tests::disk::after_sync(file);
    Ok(())
}

#[cfg(test)]
mod tests;
