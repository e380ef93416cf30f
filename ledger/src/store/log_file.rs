//! The framing of RocksDB's log files, which are the write-ahead logs and the MANIFEST.
//!
//! A log file is blocks of 32 KiB, filled with records that do not cross blocks:
//!
//! ```text
//! record = checksum (4)  length (2, little-endian)  kind (1)  payload
//! kind   = 1 whole, 2 first part, 3 middle part, 4 last part
//! ```
//!
//! RocksDB checks each record's checksum, but two bytes decide before it does. A length that reaches
//! beyond the file's end is taken for a torn write, and a kind with the bit of a recycled log for the
//! end of the log: either way all that follows is dropped without a word. Logs are not recycled here,
//! so another kind is damage; and what is torn is told, so that the tip can be compared with what
//! others remember of it.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::store::StoreError;

const BLOCK_BYTES: usize = 32 * 1024;
const HEADER_BYTES: usize = 7;

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
}

/// Refuses damage that RocksDB would take for the end of a log.
pub(super) fn refuse_damaged(path: &Path) -> Result<(), StoreError> {
    let is_damage = |(_, fault): &(PathBuf, Fault)| matches!(fault, Fault::Framing { .. });
    match faults(path)?.into_iter().find(is_damage) {
        Some((file, fault)) => Err(corrupt(&file, fault)),
        None => Ok(()),
    }
}

/// The error that a fault is.
pub(super) fn corrupt(file: &Path, fault: Fault) -> StoreError {
    let file = file.display();
    let what = match fault {
        Fault::Framing { offset } => format!("{file}: no record can be at byte {offset}"),
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
        let number = text.strip_prefix("MANIFEST-").or_else(|| text.strip_suffix(".log"));
        if number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())) {
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
        if let Some(fault) = fault_of_block(&block[..length], start, is_last, &mut open) {
            return Ok(Some(fault));
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
        let Some(&[_, _, _, _, low, high, kind]) = rest.first_chunk::<HEADER_BYTES>() else {
            // What is too short for a record is zeros in a block, and a cut at the end.
            return match is_last {
                true => Some(Fault::Torn { offset: open.unwrap_or(offset) }),
                false if rest.iter().any(|byte| *byte != 0) => Some(Fault::Framing { offset }),
                false => None,
            };
        };
        let torn = Some(Fault::Torn { offset: open.unwrap_or(offset) });
        let end = at + HEADER_BYTES + usize::from(u16::from_le_bytes([low, high]));
        if end > block.len() && is_last && !RECYCLED.contains(&kind) {
            return torn;
        }
        match (kind, open.is_some()) {
            (WHOLE, false) => {}
            (FIRST, false) => *open = Some(offset),
            (MIDDLE, true) => {}
            (LAST, true) => *open = None,
            // Where the system had made room and not yet written.
            (0, _) if is_last && rest.iter().all(|byte| *byte == 0) => return torn,
            _ => return Some(Fault::Framing { offset }),
        }
        if end > block.len() {
            return Some(Fault::Framing { offset });
        }
        at = end;
    }
    None
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

    fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).expect("short").to_le_bytes();
        [&[9, 9, 9, 9, length[0], length[1], kind][..], payload].concat()
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
    fn what_rocksdb_takes_for_an_end_is_told() {
        let file = [record(WHOLE, b"one"), record(WHOLE, b"two")].concat();
        for bit in 0..8 {
            let mut damaged = file.clone();
            damaged[6] ^= 1 << bit;
            assert!(found(&damaged).is_some(), "kind, bit {bit}");
            let mut damaged = file.clone();
            damaged[5] ^= 1 << bit;
            assert_eq!(found(&damaged), Some(Fault::Torn { offset: 0 }), "length, bit {bit}");
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
