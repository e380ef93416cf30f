//! The signer's journal: the only home of a validator's own votes and proposals, and of the
//! certificates it acted on, until their height commits (DESIGN §4).
//!
//! One append-only file beside the key, synced on its own. It is made together with the key: a key
//! without its journal does not sign, because nobody can say what it has signed. A lock refuses a
//! second process with the same key.
//!
//! ```text
//! file   = magic "CHJRNL1\n" (8)  public key (32)  floor (8)  crc32c of these (4)  entry*
//! entry  = length (4)  crc32c of the length (4)  crc32c of the payload (4)  payload
//! ```
//!
//! Integers are big-endian. `floor` is the height at and above which entries may be found; nothing
//! is signed below it. A torn tail (an entry that was never synced, hence never sent) is cut off;
//! any other damage means that the key does not sign again.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use customhouse_ledger::keys::PublicKey;

const MAGIC: &[u8; 8] = b"CHJRNL1\n";
const HEADER_BYTES: usize = 8 + 32 + 8 + 4;
const ENTRY_HEADER_BYTES: usize = 12;
/// Bytes of one entry at the most: a proposal names at most 65,536 transactions.
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
    /// There is none.
    #[error(
        "signer's journal {0} is missing: what this key has signed is unknown, so it does not \
         sign again. Register a new validator key, or restore the journal"
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

    /// Opens and locks the journal of a key.
    ///
    /// # Errors
    /// Missing, locked, damaged or another key's; a failing disk.
    pub fn open(path: &Path, key: &PublicKey) -> Result<(Self, Recovered), JournalError> {
        let lock = lock(path)?;
        let mut file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(JournalError::Missing(path.to_owned()));
            }
            Err(error) => return Err(io_error(path)(error)),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io_error(path))?;
        let floor = read_header(path, key, &bytes)?;
        let (payloads, length) = read_entries(path, &bytes)?;
        let torn_bytes = bytes.len() as u64 - length;
        if torn_bytes > 0 {
            file.set_len(length).and_then(|()| file.sync_all()).map_err(io_error(path))?;
        }
        file.seek(SeekFrom::End(0)).map_err(io_error(path))?;
        let journal = Self { path: path.to_owned(), key: *key, file, length, floor, _lock: lock };
        Ok((journal, Recovered { floor, payloads, torn_bytes }))
    }

    /// Reads the journal of a key, without locking it and without cutting anything off.
    ///
    /// # Errors
    /// Missing, damaged, or another key's; a failing disk.
    pub fn read(path: &Path, key: &PublicKey) -> Result<Recovered, JournalError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(JournalError::Missing(path.to_owned()));
            }
            Err(error) => return Err(io_error(path)(error)),
        };
        let floor = read_header(path, key, &bytes)?;
        let (payloads, length) = read_entries(path, &bytes)?;
        Ok(Recovered { floor, payloads, torn_bytes: bytes.len() as u64 - length })
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
            push_entry(&mut bytes, payload);
        }
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        written.map_err(io_error(&self.path))?;
        self.length += bytes.len() as u64;
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
        let (file, length) =
            write_new(&self.path, &self.key, floor, payloads).map_err(io_error(&self.path))?;
        (self.file, self.length, self.floor) = (file, length, floor);
        Ok(())
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> JournalError + '_ {
    |source| JournalError::Io { path: path.to_owned(), source }
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

fn push_entry(bytes: &mut Vec<u8>, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("at most ENTRY_BYTES_MAX");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&length.to_be_bytes()).to_be_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(payload).to_be_bytes());
    bytes.extend_from_slice(payload);
}

fn header(key: &PublicKey, floor: u64) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(key.as_bytes());
    bytes.extend_from_slice(&floor.to_be_bytes());
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

/// Writes a whole journal beside `path`, makes it durable, and moves it there.
fn write_new(
    path: &Path,
    key: &PublicKey,
    floor: u64,
    payloads: &[Vec<u8>],
) -> io::Result<(File, u64)> {
    let mut bytes = header(key, floor);
    for payload in payloads {
        push_entry(&mut bytes, payload);
    }
    let new_path = path.with_extension("journal-new");
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&new_path)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&new_path, path)?;
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()?;
    Ok((file, bytes.len() as u64))
}

fn read_header(path: &Path, key: &PublicKey, bytes: &[u8]) -> Result<u64, JournalError> {
    let (found, floor) = read_any_header(path, bytes)?;
    if found != key.as_bytes() {
        let found = hex::encode(found);
        return Err(JournalError::OtherKey { path: path.to_owned(), expected: *key, found });
    }
    Ok(floor)
}

/// The key and the floor.
fn read_any_header<'a>(path: &Path, bytes: &'a [u8]) -> Result<(&'a [u8], u64), JournalError> {
    let damaged = |what| JournalError::Damaged { path: path.to_owned(), offset: 0, what };
    let Some((head, crc)) = bytes.get(..HEADER_BYTES).and_then(|b| b.split_last_chunk::<4>())
    else {
        return Err(damaged("shorter than its header"));
    };
    if &head[..8] != MAGIC {
        return Err(damaged("not a signer's journal of this version"));
    }
    if crc32c::crc32c(head) != u32::from_be_bytes(*crc) {
        return Err(damaged("header checksum"));
    }
    let floor = head[40..].try_into().map_err(|_| damaged("header"))?;
    Ok((&head[8..40], u64::from_be_bytes(floor)))
}

/// The payloads, and the length of the file without a torn tail.
fn read_entries(path: &Path, bytes: &[u8]) -> Result<(Vec<Vec<u8>>, u64), JournalError> {
    let mut payloads = Vec::new();
    let mut offset = HEADER_BYTES;
    while offset < bytes.len() {
        let rest = &bytes[offset..];
        match read_entry(rest, offset) {
            Ok(payload) => {
                offset += ENTRY_HEADER_BYTES + payload.len();
                payloads.push(payload.to_vec());
            }
            Err(Broken::Torn) => break,
            Err(Broken::Damaged(what)) => {
                let offset = offset as u64;
                return Err(JournalError::Damaged { path: path.to_owned(), offset, what });
            }
        }
    }
    Ok((payloads, offset as u64))
}

enum Broken {
    Torn,
    Damaged(&'static str),
}

/// Reads the entry at the start of `rest`, which reaches from `offset` to the end of the file.
///
/// A write that was cut short leaves fewer bytes than the entry's length says, or zeros from a
/// sector's boundary to the end of the file, where the system had made room but not yet written.
/// Both were never synced. A wrong checksum otherwise is damage to something that may have been
/// sent: an entry within one sector is written whole or not at all.
fn read_entry(rest: &[u8], offset: usize) -> Result<&[u8], Broken> {
    if rest.iter().all(|&byte| byte == 0) {
        return Err(Broken::Torn);
    }
    let broken = |what| {
        if is_zero_from_a_sector(rest, offset) { Broken::Torn } else { Broken::Damaged(what) }
    };
    let Some((length, after)) = rest.split_first_chunk::<4>() else { return Err(Broken::Torn) };
    let Some((length_crc, after)) = after.split_first_chunk::<4>() else {
        return Err(Broken::Torn);
    };
    // A damaged length must not pass for a torn tail: the entry may have been sent.
    if crc32c::crc32c(length) != u32::from_be_bytes(*length_crc) {
        return Err(broken("entry length"));
    }
    let Some((crc, after)) = after.split_first_chunk::<4>() else { return Err(Broken::Torn) };
    let length = u32::from_be_bytes(*length) as usize;
    let Some(payload) = after.get(..length) else { return Err(Broken::Torn) };
    if crc32c::crc32c(payload) == u32::from_be_bytes(*crc) {
        return Ok(payload);
    }
    Err(broken("entry checksum"))
}

/// Whether the file is zero from a sector's boundary after `offset` to its end.
fn is_zero_from_a_sector(rest: &[u8], offset: usize) -> bool {
    const SECTOR_BYTES: usize = 512;
    let end = offset + rest.len();
    let boundary = end.saturating_sub(1) / SECTOR_BYTES * SECTOR_BYTES;
    let tail = boundary.checked_sub(offset).and_then(|start| rest.get(start..));
    tail.is_some_and(|tail| !tail.is_empty() && tail.iter().all(|&byte| byte == 0))
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::keys::SigningKey;
    use tempfile::TempDir;

    use super::*;

    fn key(seed: u8) -> PublicKey {
        SigningKey::from_seed(&[seed; 32]).public()
    }

    fn fresh() -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("validator.journal");
        SignerJournal::create(&path, &key(1)).expect("created");
        (directory, path)
    }

    fn append_and_close(path: &Path, payloads: &[Vec<u8>]) {
        let (mut journal, _) = SignerJournal::open(path, &key(1)).expect("opened");
        journal.append(payloads).expect("appended");
    }

    #[test]
    fn what_was_appended_is_there_after_reopening() {
        let (_directory, path) = fresh();
        append_and_close(&path, &[b"one".to_vec(), b"two".to_vec()]);
        append_and_close(&path, &[b"three".to_vec()]);
        let (_journal, recovered) = SignerJournal::open(&path, &key(1)).expect("opened");
        assert_eq!(recovered.payloads, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
        assert_eq!((recovered.floor, recovered.torn_bytes), (0, 0));
    }

    #[test]
    fn every_torn_tail_is_cut_and_the_rest_kept() {
        let (_directory, path) = fresh();
        append_and_close(&path, &[b"first".to_vec(), b"second".to_vec()]);
        let whole = std::fs::read(&path).expect("read");
        let kept = HEADER_BYTES + ENTRY_HEADER_BYTES + 5;
        for length in kept..whole.len() {
            std::fs::write(&path, &whole[..length]).expect("written");
            let (_journal, recovered) = SignerJournal::open(&path, &key(1)).expect("opened");
            assert_eq!(recovered.payloads, [b"first".to_vec()], "{length} bytes");
            assert_eq!(recovered.torn_bytes, (length - kept) as u64);
        }
    }

    #[test]
    fn a_tail_of_zero_sectors_is_torn_and_a_damaged_entry_that_ends_in_zero_is_not() {
        let (_directory, path) = fresh();
        append_and_close(&path, &[b"first".to_vec(), vec![7; 2000]]);
        let whole = std::fs::read(&path).expect("read");
        let mut torn = whole.clone();
        torn[1024..].fill(0);
        std::fs::write(&path, &torn).expect("written");
        let (journal, recovered) = SignerJournal::open(&path, &key(1)).expect("opened");
        assert_eq!(recovered.payloads, [b"first".to_vec()]);
        drop(journal);
        append_and_close(&path, &[b"ends in zero\0".to_vec()]);
        let mut damaged = std::fs::read(&path).expect("read");
        let place = damaged.len() - 3;
        damaged[place] ^= 1;
        std::fs::write(&path, &damaged).expect("written");
        let refused = SignerJournal::open(&path, &key(1)).expect_err("refused");
        assert!(matches!(refused, JournalError::Damaged { .. }), "{refused}");
    }

    #[test]
    fn a_damaged_entry_or_header_stops_the_key() {
        let (_directory, path) = fresh();
        append_and_close(&path, &[b"first".to_vec(), b"second".to_vec()]);
        let whole = std::fs::read(&path).expect("read");
        let payload_of_first = HEADER_BYTES + ENTRY_HEADER_BYTES;
        let payload_of_second = whole.len() - 6;
        for place in [0, 9, 41, HEADER_BYTES, HEADER_BYTES + 3, payload_of_first, payload_of_second]
        {
            let mut damaged = whole.clone();
            damaged[place] ^= 0x10;
            std::fs::write(&path, &damaged).expect("written");
            let refused = SignerJournal::open(&path, &key(1)).expect_err("refused");
            assert!(matches!(refused, JournalError::Damaged { .. }), "byte {place}: {refused}");
        }
    }

    #[test]
    fn a_second_process_with_the_key_is_refused() {
        let (_directory, path) = fresh();
        let first = SignerJournal::open(&path, &key(1)).expect("opened");
        let refused = SignerJournal::open(&path, &key(1)).expect_err("refused");
        assert!(matches!(refused, JournalError::Locked(_)), "{refused}");
        drop(first);
        SignerJournal::open(&path, &key(1)).expect("free again");
    }

    #[test]
    fn a_missing_journal_and_another_keys_journal_are_refused() {
        let (directory, path) = fresh();
        let absent = directory.path().join("absent.journal");
        let missing = SignerJournal::open(&absent, &key(1)).expect_err("refused");
        assert!(matches!(missing, JournalError::Missing(_)), "{missing}");
        let other = SignerJournal::open(&path, &key(2)).expect_err("refused");
        assert!(matches!(other, JournalError::OtherKey { .. }), "{other}");
        let twice = SignerJournal::create(&path, &key(1)).expect_err("refused");
        assert!(matches!(twice, JournalError::Exists(_)), "{twice}");
    }

    #[test]
    fn compaction_keeps_what_it_is_given_and_raises_the_floor() {
        let (_directory, path) = fresh();
        let (mut journal, _) = SignerJournal::open(&path, &key(1)).expect("opened");
        journal.append(&[b"old".to_vec(), b"new".to_vec()]).expect("appended");
        journal.compact(8, &[b"new".to_vec()]).expect("compacted");
        journal.append(&[b"newer".to_vec()]).expect("appended");
        drop(journal);
        let (_journal, recovered) = SignerJournal::open(&path, &key(1)).expect("opened");
        assert_eq!(recovered.payloads, [b"new".to_vec(), b"newer".to_vec()]);
        assert_eq!(recovered.floor, 8);
    }
}
