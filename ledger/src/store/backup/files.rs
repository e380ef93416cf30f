//! The files of a backup, against what RocksDB's backup engine wrote down about them when it copied them.
//!
//! ```text
//! meta/ID = seconds LF sequence number LF [ "metadata " … LF ] count LF count × file
//! file    = path " crc32 " CRC-32C of the file, decimal LF
//! ```
//!
//! The engine itself compares lengths only, and copies no file again that another backup has.

use std::{
    fs,
    path::{Component, Path},
};

use crate::store::{StoreError, files::checksum};

/// Most damaged files that are named.
const NAMED_MAX: usize = 10;

/// A file, below the directory of backups.
#[derive(Debug, PartialEq, Eq)]
struct Listed {
    path: String,
    checksum: u32,
}

/// Reads all files of a backup.
///
/// # Errors
/// [`StoreError::BackupDamaged`] names those that are not as they were written.
pub(super) fn verify(directory: &Path, id: u32) -> Result<(), StoreError> {
    let damaged = |what: &str| {
        let what = format!("backup {id} in {} is damaged: {what}", directory.display());
        StoreError::BackupDamaged(what)
    };
    let name = format!("meta/{id}");
    let text = fs::read_to_string(directory.join(&name))
        .map_err(|error| damaged(&format!("{name}: {error}")))?;
    let files = listed(&text).ok_or_else(|| damaged(&format!("{name} is not a list of files")))?;
    let faults: Vec<_> = files.iter().filter_map(|file| file.fault(directory)).collect();
    if faults.is_empty() {
        return Ok(());
    }
    let more = faults.len().saturating_sub(NAMED_MAX);
    let mut what = faults[..faults.len() - more].join("; ");
    if more > 0 {
        what.push_str(&format!("; and {more} more files"));
    }
    Err(damaged(&what))
}

/// The files that a backup's list names.
fn listed(text: &str) -> Option<Vec<Listed>> {
    let mut lines = text.lines();
    for _ in 0..2 {
        lines.next()?.parse::<u64>().ok()?;
    }
    let mut lines = lines.skip_while(|line| line.starts_with("metadata "));
    let count: usize = lines.next()?.parse().ok()?;
    let files: Vec<_> = lines.map(Listed::read).collect::<Option<_>>()?;
    (files.len() == count).then_some(files)
}

impl Listed {
    fn read(line: &str) -> Option<Self> {
        let (path, checksum) = line.split_once(" crc32 ")?;
        let is_below =
            Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        let checksum = checksum.parse().ok()?;
        (is_below && !path.is_empty()).then(|| Self { path: path.to_owned(), checksum })
    }

    fn fault(&self, directory: &Path) -> Option<String> {
        let Self { path, checksum: written } = self;
        match checksum(&directory.join(path), |_| ()) {
            Ok((_, found)) if found == *written => None,
            Ok((_, found)) => {
                let was = "when it was copied";
                Some(format!("{path}: its CRC-32C is {found:08x}, and was {written:08x} {was}"))
            }
            Err(error) => Some(format!("{path}: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{
        hash::Hash,
        store::{Store, StoreOptions, Table, table},
    };

    /// The files under a directory, and what is in them.
    fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(directory).expect("a directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let found = paths.flat_map(|path| match path.is_dir() {
            true => contents(&path),
            false => vec![(path.clone(), fs::read(&path).expect("readable"))],
        });
        found.collect()
    }

    #[test]
    fn each_file_of_a_backup_is_read_and_named_where_it_is_damaged() {
        let (folder, backups) = (tempfile::tempdir(), tempfile::tempdir());
        let (folder, backups) = (folder.expect("a folder"), backups.expect("a folder"));
        let store = Store::open(folder.path(), &StoreOptions::default()).expect("opened");
        for id in 1..=2 {
            let mut batch = store.batch();
            batch.put(Table::Headers, table::number(id), [7; 100]);
            batch.put(Table::Transactions, table::number(id), [7; 1000]);
            batch.write().expect("written");
            let made = store.back_up(backups.path(), 9, Hash([1; 32]), None).expect("made");
            assert_eq!(u64::from(made.id), id);
        }
        assert_eq!(verify(backups.path(), 2), Ok(()));
        let mut seen = 0;
        for (path, bytes) in contents(backups.path()) {
            let below = path.strip_prefix(backups.path()).expect("below").display().to_string();
            let others = ["OWNER", "meta/1", "private/1/"];
            if bytes.is_empty() || others.iter().any(|other| below.starts_with(other)) {
                continue;
            }
            seen += 1;
            // Not the list's time and number, with which nothing is compared.
            let is_list = below == "meta/2";
            let first = bytes.iter().position(|b| *b == b'p' || *b == b's').unwrap_or(0);
            let bits = if is_list { first * 8..bytes.len() * 8 - 8 } else { 0..bytes.len() * 8 };
            for bit in bits.step_by(if is_list { 3 } else { 211 }) {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                fs::write(&path, damaged).expect("written");
                let error = verify(backups.path(), 2).expect_err("damaged").to_string();
                assert!(is_list || error.contains(&below), "{below} bit {bit}: {error}");
            }
            fs::write(&path, bytes).expect("put back");
        }
        assert!(seen > 6, "{seen} files");
        assert_eq!(verify(backups.path(), 2), Ok(()));
    }

    #[test]
    fn a_list_is_read_as_the_engine_writes_it_and_nothing_else_is() {
        let file = |path: &str, checksum| Listed { path: path.to_owned(), checksum };
        let text = "1764284400\n73\n2\nprivate/1/CURRENT crc32 5\nshared_checksum/a.sst crc32 4294967295\n";
        let files = vec![file("private/1/CURRENT", 5), file("shared_checksum/a.sst", u32::MAX)];
        assert_eq!(listed(text), Some(files));
        assert_eq!(listed("1\n2\nmetadata 00\n0\n"), Some(Vec::new()));
        for bad in [
            "",
            "1\n2\n",
            "x\n2\n0\n",
            "1\n2\n1\n",
            "1\n2\n0\na crc32 1\n",
            "1\n2\n1\na crc32 x\n",
            "1\n2\n1\na md5 1\n",
            "1\n2\n1\n crc32 1\n",
            "1\n2\n1\n../a crc32 1\n",
            "1\n2\n1\n/a crc32 1\n",
        ] {
            assert_eq!(listed(bad), None, "{bad:?}");
        }
    }
}
