//! The table and blob files of a store, each against the checksum over all of it that the MANIFEST has.
//! RocksDB's own checksums are of blocks, and are looked at where a block is read: filters, properties and
//! footers are read by no scan. Nothing wrong is served meanwhile: RocksDB treats a part of a filter that
//! fails its checksum as one that may have every key.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::store::{Backend, Rocks, Store, StoreError, Table, raw};

/// Bytes that are read at once: what a processor's cache holds.
const CHUNK_BYTES: usize = 256 << 10;

/// A file to be read.
#[derive(Clone, Debug)]
pub struct FileCheck {
    path: PathBuf,
    name: String,
    /// The table whose rows are in it.
    table: &'static str,
    bytes: u64,
    checksum: Option<u32>,
}

/// What reading a file has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileState {
    /// It is as it was written.
    Sound,
    /// It has its length, and no checksum tells more: an earlier version wrote it.
    Unchecked,
    /// It is not as it was written: [`StoreError::Corrupt`] names it.
    Damaged(StoreError),
}

impl FileCheck {
    /// Its name in the store's folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its length, as the MANIFEST has it.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads the file. `progress` is told now and then how many more bytes were read.
    pub fn read(&self, progress: impl FnMut(u64)) -> FileState {
        let damaged = |what: String| {
            let what = format!("{}: {what}", self.name);
            let (table, key) = (self.table, String::new());
            FileState::Damaged(StoreError::Corrupt { table, key, what })
        };
        match checksum(&self.path, progress) {
            Err(error) => damaged(error.to_string()),
            Ok((bytes, _)) if bytes != self.bytes => {
                damaged(format!("{bytes} bytes, of {} that were written", self.bytes))
            }
            Ok((_, found)) => match self.checksum {
                None => FileState::Unchecked,
                Some(written) if written == found => FileState::Sound,
                Some(written) => damaged(format!(
                    "its CRC-32C is {found:08x}, and was {written:08x} when it was written"
                )),
            },
        }
    }
}

impl Store {
    /// The table and blob files, in the order of their names.
    pub(crate) fn files(&self) -> Result<Vec<FileCheck>, StoreError> {
        let rocks = match &self.backend {
            Backend::Rocks(rocks) => rocks,
            #[cfg(feature = "simulation")]
            Backend::Memory(_) => return Ok(Vec::new()),
        };
        let path = rocks.db.path();
        let tables = rocks.tables_of_files()?;
        let files = raw::live_files(&rocks.db)?.into_iter();
        let mut files: Vec<_> = files
            .map(|raw::LiveFile { name, bytes, checksum }| {
                // Blob files, which are not among them, have the values of one table.
                let table = *tables.get(&name).unwrap_or(&Table::Transactions);
                FileCheck { path: path.join(&name), name, table: table.name(), bytes, checksum }
            })
            .collect();
        files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }
}

impl Rocks {
    /// The tables that the table files belong to, by the files' names.
    fn tables_of_files(&self) -> Result<BTreeMap<String, Table>, StoreError> {
        let files = self.db.live_files().map_err(StoreError::of_list)?.into_iter();
        let named = files.filter_map(|file| {
            let table =
                Table::ALL.into_iter().find(|table| table.name() == file.column_family_name)?;
            Some((file.name.trim_start_matches('/').to_owned(), table))
        });
        Ok(named.collect())
    }
}

/// A file of the store that is not as it was written.
pub(super) fn damaged(name: &str, what: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt { table: "(file)", key: String::new(), what: format!("{name}: {what}") }
}

/// Length and CRC-32C of a file.
pub(super) fn checksum(path: &Path, mut progress: impl FnMut(u64)) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    let mut chunk = vec![0; CHUNK_BYTES.min(file.metadata()?.len() as usize + 1)];
    let (mut bytes, mut sum) = (0, 0);
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok((bytes, sum)),
            Ok(more) => {
                sum = crc32c::crc32c_append(sum, &chunk[..more]);
                bytes += more as u64;
                progress(more as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rocksdb::{DB, Options};

    use super::*;
    use crate::store::StoreOptions;

    /// A store as it was before checksums over whole files were kept, with these rows.
    pub(crate) fn write_as_before<'a>(
        path: &Path,
        rows: impl IntoIterator<Item = (Table, &'a [u8], &'a [u8])>,
    ) {
        let mut database = Options::default();
        database.create_if_missing(true);
        database.create_missing_column_families(true);
        let options = StoreOptions::default();
        let cache = options.cache();
        let tables = Table::ALL.map(|table| options.table(table, &cache));
        let db = DB::open_cf_descriptors(&database, path, tables).expect("opened");
        let handle = |table: Table| db.cf_handle(table.name()).expect("there is one");
        for (table, key, value) in rows {
            db.put_cf(handle(table), key, value).expect("written");
        }
        Table::ALL.into_iter().for_each(|table| db.flush_cf(handle(table)).expect("flushed"));
    }

    #[test]
    fn the_checksum_is_that_of_the_whole_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let bytes: Vec<u8> = (0..CHUNK_BYTES + 9).map(|i| (i % 251) as u8).collect();
        for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, bytes.len()] {
            std::fs::write(&path, &bytes[..length]).expect("written");
            let mut told = 0;
            let found = checksum(&path, |more| told += more).expect("readable");
            assert_eq!(found, (length as u64, crc32c::crc32c(&bytes[..length])));
            assert_eq!(told, length as u64);
        }
    }
}
