//! The framing of RocksDB's log files, which are the write-ahead logs and the MANIFEST.
//!
//! A log file is blocks of 32 KiB, filled with records that do not cross blocks:
//!
//! ```text
//! record   = checksum (4, little-endian)  length (2, little-endian)  kind (1)  payload
//! kind     = 1 whole, 2 first part, 3 middle part, 4 last part
//! checksum = CRC-32C of kind and payload, rotated right by 15 bits, plus 0xa282ead8
//! ```
//!
//! RocksDB checks each record's checksum, but two bytes decide before it does. A length that reaches
//! beyond the file's end is taken for a torn write, and a kind with the bit of a recycled log for the
//! end of the log: either way all that follows is dropped without a word. Logs are not recycled here,
//! so another kind is damage. Where the record's checksum fits another length, the length is damaged,
//! and no write was torn. What is torn is told, so that the tip can be compared with what others
//! remember of it.
//!
//! Checksums are looked at here too: RocksDB does not open logs that it no longer needs, and stops at
//! the first that is damaged.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::store::{StoreError, pointer};

const BLOCK_BYTES: usize = 32 * 1024;
const HEADER_BYTES: usize = 7;
/// What RocksDB adds to a checksum, which may be of bytes that have checksums in them.
const MASK: u32 = 0xa282_ead8;

const WHOLE: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;
/// Kinds that are, or may become, those of recycled logs.
const RECYCLED: std::ops::RangeInclusive<u8> = 5..=13;

/// What is wrong with a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Its last record is not all there: a write that was cut off, or a damaged length.
    Torn {
        /// Where the record begins.
        offset: u64,
    },
    /// No record can be there.
    Framing {
        /// Where.
        offset: u64,
    },
    /// A record is not what was written.
    Checksum {
        /// Where it, or its part, begins.
        offset: u64,
    },
}

/// Refuses damage that RocksDB would take for the end of a log. RocksDB finds the rest by itself.
pub(super) fn refuse_damaged(path: &Path) -> Result<(), StoreError> {
    let is_damage = |(_, fault): &(PathBuf, Fault)| matches!(fault, Fault::Framing { .. });
    match faults(path)?.into_iter().find(is_damage) {
        Some((file, fault)) => Err(corrupt(&file, fault)),
        None => Ok(()),
    }
}

/// The error for a fault.
pub(super) fn corrupt(file: &Path, fault: Fault) -> StoreError {
    let file = file.display();
    let what = match fault {
        Fault::Framing { offset } => format!("{file}: no record can be at byte {offset}"),
        Fault::Checksum { offset } => {
            format!("{file}: the record at byte {offset} does not have its checksum")
        }
        Fault::Torn { offset } => format!(
            "{file}: the last write, at byte {offset}, is not all there. A crash leaves that, and \
             nothing of it was acknowledged then; but a damaged length looks the same, and what comes \
             after it is lost. Either way a node that is started fetches what it lacks from its peers"
        ),
    };
    StoreError::Corrupt { table: "(log)", key: String::new(), what }
}

/// What is wrong with the log files of a folder, in the order of their names.
pub(super) fn faults(path: &Path) -> Result<Vec<(PathBuf, Fault)>, StoreError> {
    let Ok(entries) = std::fs::read_dir(path) else { return Ok(Vec::new()) };
    let failed = |error: io::Error| StoreError::Io(format!("{}: {error}", path.display()));
    let mut files = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let text = name.to_string_lossy();
        let number = text.strip_suffix(".log");
        let is_log = number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        if is_log || pointer::is_manifest(&text) {
            files.push(PathBuf::from(name));
        }
    }
    files.sort();
    let mut found = Vec::new();
    for name in files {
        let file = File::open(path.join(&name)).map_err(failed)?;
        found.extend(fault(file).map_err(failed)?.map(|fault| (name, fault)));
    }
    Ok(found)
}

/// The first fault of a log file.
fn fault(mut file: impl Read) -> io::Result<Option<Fault>> {
    let mut block = vec![0; BLOCK_BYTES];
    let (mut start, mut open) = (0, None);
    loop {
        let length = read_block(&mut file, &mut block)?;
        let is_last = length < BLOCK_BYTES;
        match fault_of_block(&block[..length], start, is_last, &mut open) {
            // Zeros to the end of the block: those of a torn write go on to the end of the file.
            Some(Fault::Torn { offset }) if !is_last && !is_zero(&mut file, &mut block)? => {
                return Ok(Some(Fault::Framing { offset }));
            }
            Some(fault) => return Ok(Some(fault)),
            None => {}
        }
        if is_last {
            return Ok(open.map(|offset| Fault::Torn { offset }));
        }
        start += length as u64;
    }
}

/// `open` is where a record began whose last part has not come yet.
fn fault_of_block(
    block: &[u8],
    start: u64,
    is_last: bool,
    open: &mut Option<u64>,
) -> Option<Fault> {
    let mut at = 0;
    while at < block.len() {
        let (rest, offset) = (&block[at..], start + at as u64);
        let Some(&[a, b, c, d, low, high, kind]) = rest.first_chunk::<HEADER_BYTES>() else {
            // Too short for a record: zeros that fill a block, or at the end a write that was cut off.
            return match is_last {
                true => Some(Fault::Torn { offset: open.unwrap_or(offset) }),
                false if rest.iter().any(|byte| *byte != 0) => Some(Fault::Framing { offset }),
                false => None,
            };
        };
        let torn = Some(Fault::Torn { offset: open.unwrap_or(offset) });
        let framing = Some(Fault::Framing { offset });
        let checksum = u32::from_le_bytes([a, b, c, d]);
        let end = at + HEADER_BYTES + usize::from(u16::from_le_bytes([low, high]));
        if end > block.len() && is_last && !RECYCLED.contains(&kind) {
            return if has_a_length(checksum, &rest[HEADER_BYTES - 1..]) { framing } else { torn };
        }
        match (kind, open.is_some()) {
            (WHOLE, false) => {}
            (FIRST, false) => *open = Some(offset),
            (MIDDLE, true) => {}
            (LAST, true) => *open = None,
            // Where the system had made room and not yet written.
            (0, _) if rest.iter().all(|byte| *byte == 0) => return torn,
            _ => return framing,
        }
        if end > block.len() {
            return framing;
        }
        if masked(crc32c::crc32c(&block[at + HEADER_BYTES - 1..end])) != checksum {
            return Some(Fault::Checksum { offset });
        }
        at = end;
    }
    None
}

/// A checksum as it is stored.
fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(MASK)
}

/// Whether the kind and some number of the bytes after it have this checksum.
fn has_a_length(checksum: u32, kind_and_rest: &[u8]) -> bool {
    let mut sum = 0;
    kind_and_rest.iter().any(|byte| {
        sum = crc32c::crc32c_append(sum, &[*byte]);
        masked(sum) == checksum
    })
}

/// Whether all the rest of a file is zeros.
fn is_zero(file: &mut impl Read, block: &mut [u8]) -> io::Result<bool> {
    loop {
        match read_block(file, block)? {
            0 => return Ok(true),
            length if block[..length].iter().any(|byte| *byte != 0) => return Ok(false),
            _ => {}
        }
    }
}

fn read_block(file: &mut impl Read, block: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < block.len() {
        match file.read(&mut block[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, StoreOptions, Table, table};

    fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).expect("short").to_le_bytes();
        let checked = [&[kind], payload].concat();
        let checksum = masked(crc32c::crc32c(&checked)).to_le_bytes();
        [&checksum[..], &length, &checked].concat()
    }

    fn found(file: &[u8]) -> Option<Fault> {
        fault(file).expect("bytes are readable")
    }

    #[test]
    fn whole_files_have_no_fault_and_every_cut_is_told() {
        let first = record(WHOLE, b"one");
        let file = [first.clone(), record(FIRST, b"tw"), record(LAST, b"o")].concat();
        assert_eq!(found(&[]), None);
        assert_eq!(found(&file), None);
        for length in 1..file.len() {
            let offset = if length < first.len() { 0 } else { first.len() as u64 };
            let expected = (length != first.len()).then_some(Fault::Torn { offset });
            assert_eq!(found(&file[..length]), expected, "{length} bytes");
        }
    }

    #[test]
    fn every_flipped_bit_is_told_and_none_for_a_torn_write() {
        let first = record(WHOLE, b"one");
        let file = [first.clone(), record(FIRST, b"tw"), record(LAST, b"o")].concat();
        for bit in 0..file.len() * 8 {
            let mut damaged = file.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let is_told = match found(&damaged) {
                Some(Fault::Framing { offset } | Fault::Checksum { offset }) => {
                    offset == 0 || bit / 8 >= first.len()
                }
                _ => false,
            };
            assert!(is_told, "byte {}, bit {}: {:?}", bit / 8, bit % 8, found(&damaged));
        }
    }

    #[test]
    fn every_flipped_bit_of_rocksdbs_own_logs_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path(), &StoreOptions::default()).expect("opened");
        for number in 0..20_u64 {
            let mut batch = store.batch();
            batch.put(Table::Headers, table::number(number), [7; 100]);
            batch.put(Table::Heights, table::number(number), []);
            batch.write().expect("written");
        }
        drop(store);
        assert_eq!(faults(folder.path()), Ok(Vec::new()));
        for (kind, least) in [("MANIFEST", 500), (".log", 2000)] {
            let entries = std::fs::read_dir(folder.path()).expect("a folder");
            let paths = entries.map(|entry| entry.expect("an entry").path());
            let paths = paths.filter(|path| path.to_string_lossy().contains(kind));
            let path = paths.max_by_key(|path| path.metadata().expect("a file").len());
            let path = path.expect("there is one");
            let bytes = std::fs::read(&path).expect("readable");
            assert!(bytes.len() > least, "{}: {} bytes", path.display(), bytes.len());
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let found = found(&damaged);
                let is_damage =
                    matches!(found, Some(Fault::Framing { .. } | Fault::Checksum { .. }));
                assert!(is_damage, "{kind} byte {} bit {}: {found:?}", bit / 8, bit % 8);
            }
        }
    }

    /// A power loss leaves a file that was made longer, and not what was to be written there.
    #[test]
    fn zeros_up_to_the_end_of_a_file_are_a_torn_write_however_many() {
        let whole = record(WHOLE, b"one");
        let torn = Some(Fault::Torn { offset: whole.len() as u64 });
        let to_the_block = BLOCK_BYTES - whole.len();
        for zeros in [7, 1000, to_the_block, to_the_block + 1, 3 * BLOCK_BYTES, 70_000] {
            let mut file = [&whole[..], &vec![0; zeros]].concat();
            assert_eq!(found(&file), torn, "{zeros} zeros");
            *file.last_mut().expect("not empty") = 1;
            let is_damage = |fault| matches!(fault, Fault::Framing { .. } | Fault::Checksum { .. });
            assert!(found(&file).is_some_and(is_damage), "{zeros} zeros but the last");
        }
    }

    #[test]
    fn records_lie_within_blocks_that_are_filled_up_with_zeros() {
        let first = record(WHOLE, &vec![7; BLOCK_BYTES - HEADER_BYTES - 3]);
        let file = [first.clone(), vec![0; 3], record(WHOLE, b"two")].concat();
        assert_eq!(found(&file), None);
        let mut damaged = file.clone();
        damaged[first.len() + 1] = 1;
        assert_eq!(found(&damaged), Some(Fault::Framing { offset: first.len() as u64 }));
        let mut damaged = file;
        damaged[4] ^= 8;
        assert_eq!(found(&damaged), Some(Fault::Framing { offset: 0 }), "beyond its block");
    }
}
