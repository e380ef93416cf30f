//! The files that a mirror's entries are in.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use customhouse_files::{
    frames::{self, Nonce},
    newfile, readfile,
};

use super::MirrorEntry;
use crate::{
    error::{MirrorError, VaultId},
    lock,
    sealed::CONTENT_BYTES_MAX,
};

const MAGIC: &[u8; 8] = b"CHMSEG01";
const NO_ENTRY: &str = "an entry that is none";
const HEADER_BYTES: usize = 8 + 16 + 8 + 8 + 4;
/// Bytes after which another segment is begun.
const LONG_BYTES: u64 = if cfg!(test) { 64 * 1024 } else { 64 * 1024 * 1024 };
/// Most bytes of one: an entry and a mark are written where it is not long yet, and each append has a mark.
const FILE_BYTES_MAX: usize = 2 * LONG_BYTES as usize + 2 * CONTENT_BYTES_MAX;

/// The segment that is written.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    length: u64,
    nonce: Nonce,
}

impl Segment {
    /// Begins the next one.
    pub(super) fn begin(records: &Path, vault: VaultId) -> Result<Self, MirrorError> {
        let number = all(records)?.last().map_or(1, |(number, _)| number + 1);
        let path = records.join(format!("{number:08}"));
        let io = MirrorError::io(&path);
        let mut nonce = Nonce::default();
        getrandom::fill(&mut nonce).map_err(io::Error::other).map_err(&io)?;
        let mut options = File::options();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        let (file, length) = (file.map_err(&io)?, HEADER_BYTES as u64);
        (&file)
            .write_all(&header(vault, number, nonce))
            .and_then(|()| file.sync_all())
            .and_then(|()| newfile::sync_directory(&path))
            .map_err(&io)?;
        drop(io);
        Ok(Self { path, file, length, nonce })
    }

    pub(super) fn is_long(&self) -> bool {
        self.length > LONG_BYTES
    }

    /// How many of these payloads are written to it: at least one.
    pub(super) fn has_room_for(&self, payloads: &[Vec<u8>]) -> usize {
        let mut length = self.length;
        let fits = |payload: &&Vec<u8>| {
            let is_short = length <= LONG_BYTES;
            length += (frames::FRAME_HEADER_BYTES + payload.len()) as u64;
            is_short
        };
        payloads.iter().take_while(fits).count().max(1)
    }

    /// Appends and syncs. After an error nothing more is to be written to this segment.
    pub(super) fn append(&mut self, payloads: &[Vec<u8>]) -> Result<(), MirrorError> {
        let mut bytes = Vec::new();
        payloads.iter().for_each(|payload| frames::push(&mut bytes, payload));
        let length = self.length + bytes.len() as u64;
        self.file
            .write_all(&bytes)
            .and_then(|()| self.file.sync_data())
            // Not synced: it only has to be there when the disk does not lose the last moment.
            .and_then(|()| self.file.write_all(&frames::mark(length, self.nonce)))
            .map_err(MirrorError::io(&self.path))?;
        self.length = length + frames::MARK_BYTES as u64;
        // What is durable in a file without this name is found by nobody.
        match lock::is_at(&self.file, &self.path) {
            Ok(true) => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(MirrorError::io(&self.path)(error))
            }
            _ => Err(MirrorError::Replaced(self.path.clone())),
        }
    }

    /// Writes to another file from here on, such as one that is always full.
    #[cfg(test)]
    pub(super) fn write_to(&mut self, file: File) {
        self.file = file;
    }
}

fn header(vault: VaultId, number: u64, nonce: Nonce) -> Vec<u8> {
    let mut bytes = [&MAGIC[..], &vault.0, &number.to_be_bytes(), &nonce].concat();
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
    bytes
}

/// The segments of a mirror, ascending.
pub(super) fn all(records: &Path) -> Result<Vec<(u64, PathBuf)>, MirrorError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(records).map_err(MirrorError::io(records))? {
        let path = entry.map_err(MirrorError::io(records))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // Anything else in the directory is not ours.
        if name.len() >= 8 && name.bytes().all(|byte| byte.is_ascii_digit()) {
            let Ok(number) = name.parse() else { continue };
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Hands out the entries of a segment.
pub(super) fn each<E: From<MirrorError>>(
    path: &Path,
    vault: VaultId,
    mut take: impl FnMut(MirrorEntry) -> Result<(), E>,
) -> Result<(), E> {
    let bytes = readfile::bytes(path, FILE_BYTES_MAX).map_err(MirrorError::io(path))?;
    for payload in read(path, vault, &bytes)?.payloads {
        let offset = payload.as_ptr().addr() - bytes.as_ptr().addr();
        let entry = MirrorEntry::decode(payload).map_err(|_| MirrorError::Damaged {
            path: path.to_owned(),
            offset: offset as u64,
            what: NO_ENTRY,
        })?;
        take(entry)?;
    }
    Ok(())
}

/// Cuts off what a crash has left at the end of a segment. Returns the payloads that may be in the system's memory
/// only, because no mark is behind them.
pub(super) fn cut(path: &Path, vault: VaultId) -> Result<Vec<Vec<u8>>, MirrorError> {
    let io = MirrorError::io(path);
    let bytes = readfile::bytes(path, FILE_BYTES_MAX).map_err(&io)?;
    let frames = read(path, vault, &bytes)?;
    if frames.length < bytes.len() {
        let file = File::options().write(true).open(path).map_err(&io)?;
        let length = frames.length as u64;
        file.set_len(length).and_then(|()| file.sync_all()).map_err(&io)?;
    }
    Ok(frames.payloads[frames.marked..].iter().map(|payload| payload.to_vec()).collect())
}

/// The entries of a segment that can be read; what cannot is reported.
pub(super) fn salvage(
    path: &Path,
    vault: VaultId,
    report: &mut impl FnMut(MirrorError),
) -> Vec<MirrorEntry> {
    let damaged = |offset, what| MirrorError::Damaged { path: path.to_owned(), offset, what };
    let bytes = match readfile::bytes(path, FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) => {
            report(MirrorError::io(path)(error));
            return Vec::new();
        }
    };
    let nonce = match nonce(path, vault, &bytes) {
        Ok(Some(nonce)) => nonce,
        Err(error @ MirrorError::Damaged { .. }) => {
            // Its marks are taken for damage too; its entries are found without them.
            report(error);
            Nonce::default()
        }
        Ok(None) => return Vec::new(),
        Err(error) => {
            report(error);
            return Vec::new();
        }
    };
    let (payloads, damage) = frames::salvage(&bytes, HEADER_BYTES, nonce);
    damage.into_iter().for_each(|found| report(damaged(found.offset, found.what)));
    let entry = |payload: &[u8]| {
        let offset = payload.as_ptr().addr() - bytes.as_ptr().addr();
        let entry = MirrorEntry::decode(payload);
        entry.inspect_err(|_| report(damaged(offset as u64, NO_ENTRY))).ok()
    };
    payloads.into_iter().filter_map(entry).collect()
}

fn read<'a>(
    path: &Path,
    vault: VaultId,
    bytes: &'a [u8],
) -> Result<frames::Frames<'a>, MirrorError> {
    let damaged = |offset, what| MirrorError::Damaged { path: path.to_owned(), offset, what };
    let Some(nonce) = nonce(path, vault, bytes)? else {
        return Ok(frames::Frames { payloads: Vec::new(), marked: 0, length: bytes.len() });
    };
    frames::read(bytes, HEADER_BYTES, nonce).map_err(|found| damaged(found.offset, found.what))
}

/// The nonce in the header of a segment; none where it was cut short while it was begun, so that nothing was
/// appended to it.
fn nonce(path: &Path, vault: VaultId, bytes: &[u8]) -> Result<Option<Nonce>, MirrorError> {
    let Some(found) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let [.., n0, n1, n2, n3, n4, n5, n6, n7, _, _, _, _] = *found;
    let nonce = [n0, n1, n2, n3, n4, n5, n6, n7];
    let (id, number) = found[8..32].split_first_chunk::<16>().expect("24 bytes");
    let number = u64::from_be_bytes(number.try_into().expect("eight bytes"));
    let names = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
    if header(VaultId(*id), number, nonce) != found || names != Some(number) {
        // The same, where the system wrote the file's length first.
        return match bytes.len() {
            HEADER_BYTES => Ok(None),
            _ => {
                let (path, what) = (path.to_owned(), "its header");
                Err(MirrorError::Damaged { path, offset: 0, what })
            }
        };
    }
    if VaultId(*id) != vault {
        let (path, found) = (path.to_owned(), VaultId(*id));
        return Err(MirrorError::Foreign { path, expected: vault, found });
    }
    Ok(Some(nonce))
}
