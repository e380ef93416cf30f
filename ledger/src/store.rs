//! The node's store: one RocksDB, one synced write a block.
//!
//! Corruption is found, never served: a value that fails its checksum or does not decode is
//! [`StoreError::Corrupt`], which names the table and the key. A write that fails is fatal: nothing
//! is written after it, so that nothing is acknowledged on top of a hole.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use rocksdb::{Cache, DB, DBPinnableSlice, Direction, IteratorMode, ReadOptions, WriteOptions};

mod backup;
mod buffers;
mod error;
pub(crate) mod files;
mod lock;
mod log_file;
#[cfg(feature = "simulation")]
mod memory;
mod options;
mod pointer;
mod raw;
pub(crate) mod table;
pub(crate) mod tile;
pub(crate) mod value;
mod whole;

pub use backup::{BackupInfo, BackupOwner, backup_owner, backups, restore};
pub use buffers::{WriteOut, buffered_bytes, write_out};
pub use error::StoreError;
pub use files::{FileCheck, FileState};
pub use lock::FolderLock;
#[cfg(feature = "simulation")]
pub use memory::{MemoryDisk, WriteFault};
pub use options::StoreOptions;
pub(crate) use table::Table;
pub(crate) use whole::Opened;

/// Refuses a RocksDB in which a lost `CURRENT` or a damaged byte of a log would have it open with less than
/// it holds, and say nothing. A folder without a RocksDB is not refused.
///
/// # Errors
/// [`StoreError::PointerLost`] or [`StoreError::Corrupt`], with words about a store.
pub fn refuse_hidden_loss(path: &Path) -> Result<(), StoreError> {
    pointer::has_database(path)?;
    log_file::refuse_damaged(path)
}

/// Sizes in bytes, as RocksDB reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreMetrics {
    /// Memory of the write buffers.
    pub memtable_bytes: u64,
    /// Memory of the block cache, with index and filter blocks.
    pub block_cache_bytes: u64,
    /// Memory of table readers outside the block cache.
    pub table_reader_bytes: u64,
    /// Disk space of the sorted tables.
    pub table_file_bytes: u64,
    /// Disk space of the transactions' blob files.
    pub blob_file_bytes: u64,
    /// Estimate of what compaction still has to rewrite.
    pub compaction_pending_bytes: u64,
}

/// Tables of bytes, with typed errors. The rows' meaning is the chain's.
pub(crate) struct Store {
    backend: Backend,
    failed: AtomicBool,
}

enum Backend {
    Rocks(Rocks),
    /// A simulated disk.
    #[cfg(feature = "simulation")]
    Memory(MemoryDisk),
}

struct Rocks {
    db: DB,
    cache: Cache,
    /// Given up after the database is closed.
    _lock: Option<FolderLock>,
}

/// The value of a row.
pub(crate) enum Value<'a> {
    Pinned(DBPinnableSlice<'a>),
    #[cfg(feature = "simulation")]
    Owned(std::sync::Arc<[u8]>),
}

/// Rows to write together.
pub(crate) struct Batch<'a> {
    store: &'a Store,
    rows: Rows<'a>,
}

enum Rows<'a> {
    Rocks(rocksdb::WriteBatch, Handles<'a>),
    #[cfg(feature = "simulation")]
    Memory(Vec<memory::Change>),
}

impl Store {
    /// Opens or creates the database in a folder.
    pub(crate) fn open(path: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        pointer::has_database(path)?;
        let lock = FolderLock::exclusive(path)?;
        log_file::refuse_damaged(path)?;
        let cache = options.cache();
        let tables = Table::ALL.map(|table| options.table(table, &cache));
        let db = DB::open_cf_descriptors(&options.database(), path, tables)
            .map_err(|error| StoreError::of_open(path, error))?;
        Ok(Self::of(Rocks { db, cache, _lock: Some(lock) }))
    }

    fn of(rocks: Rocks) -> Self {
        Self { backend: Backend::Rocks(rocks), failed: AtomicBool::new(false) }
    }

    /// Opens what a simulated disk holds.
    #[cfg(feature = "simulation")]
    pub(crate) fn on(disk: MemoryDisk) -> Self {
        Self { backend: Backend::Memory(disk), failed: AtomicBool::new(false) }
    }

    /// One row.
    pub(crate) fn read(
        &self,
        table: Table,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<Value<'_>>, StoreError> {
        let key = key.as_ref();
        match &self.backend {
            Backend::Rocks(rocks) => rocks
                .db
                .get_pinned_cf(rocks.handle(table), key)
                .map(|value| value.map(Value::Pinned))
                .map_err(|error| StoreError::of_read(table, key, error)),
            #[cfg(feature = "simulation")]
            Backend::Memory(disk) => Ok(disk.read(table, key).map(Value::Owned)),
        }
    }

    /// Many rows of one table, in the order of the keys given.
    pub(crate) fn read_many<K: AsRef<[u8]>>(
        &self,
        table: Table,
        keys: &[K],
    ) -> Result<Vec<Option<Value<'_>>>, StoreError> {
        match &self.backend {
            Backend::Rocks(rocks) => {
                let rows = rocks.db.batched_multi_get_cf(rocks.handle(table), keys, false);
                let named = rows.into_iter().zip(keys);
                named
                    .map(|(row, key)| match row {
                        Ok(value) => Ok(value.map(Value::Pinned)),
                        Err(error) => Err(StoreError::of_read(table, key.as_ref(), error)),
                    })
                    .collect()
            }
            #[cfg(feature = "simulation")]
            Backend::Memory(_) => keys.iter().map(|key| self.read(table, key)).collect(),
        }
    }

    /// The rows of a table from a key on, ascending, that begin with `prefix`.
    pub(crate) fn scan<'a>(
        &'a self,
        table: Table,
        from: &[u8],
        prefix: &'a [u8],
    ) -> impl Iterator<Item = Result<Row, StoreError>> + 'a {
        self.scan_while(table, from, |key| key.starts_with(prefix))
    }

    /// The rows of a table from a key on, ascending, while their keys satisfy a condition.
    pub(crate) fn scan_while<'a>(
        &'a self,
        table: Table,
        from: &[u8],
        wanted: impl Fn(&[u8]) -> bool + 'a,
    ) -> impl Iterator<Item = Result<Row, StoreError>> + 'a {
        let rows: Box<dyn Iterator<Item = Result<Row, StoreError>>> =
            match &self.backend {
                Backend::Rocks(rocks) => {
                    let mode = IteratorMode::From(from, Direction::Forward);
                    let options = ReadOptions::default();
                    let rows = rocks.db.iterator_cf_opt(rocks.handle(table), options, mode);
                    Box::new(rows.map(move |row| {
                        row.map_err(|error| StoreError::of_read(table, &[], error))
                    }))
                }
                #[cfg(feature = "simulation")]
                Backend::Memory(disk) => Box::new(disk.rows_from(table, from).into_iter().map(Ok)),
            };
        rows.take_while(move |row| row.as_ref().map_or(true, |(key, _)| wanted(key)))
    }

    /// The rows of a table from a key on, descending, while their keys satisfy a condition. A row of exactly
    /// that key is not among them: another would be before it.
    pub(crate) fn scan_back_while<'a>(
        &'a self,
        table: Table,
        before: &[u8],
        wanted: impl Fn(&[u8]) -> bool + 'a,
    ) -> impl Iterator<Item = Result<Row, StoreError>> + 'a {
        let end = before.to_vec();
        let rows: Box<dyn Iterator<Item = Result<Row, StoreError>>> =
            match &self.backend {
                Backend::Rocks(rocks) => {
                    let mode = IteratorMode::From(before, Direction::Reverse);
                    let options = ReadOptions::default();
                    let rows = rocks.db.iterator_cf_opt(rocks.handle(table), options, mode);
                    Box::new(rows.map(move |row| {
                        row.map_err(|error| StoreError::of_read(table, &[], error))
                    }))
                }
                #[cfg(feature = "simulation")]
                Backend::Memory(disk) => {
                    Box::new(disk.rows_back_from(table, before).into_iter().map(Ok))
                }
            };
        let rows = rows.skip_while(move |row| row.as_ref().is_ok_and(|(key, _)| key[..] == end));
        rows.take_while(move |row| row.as_ref().map_or(true, |(key, _)| wanted(key)))
    }

    /// An empty batch.
    pub(crate) fn batch(&self) -> Batch<'_> {
        self.batch_of(0)
    }

    /// An empty batch with room for about `bytes` bytes of rows.
    pub(crate) fn batch_of(&self, bytes: usize) -> Batch<'_> {
        let rows = match &self.backend {
            Backend::Rocks(rocks) => {
                Rows::Rocks(rocksdb::WriteBatch::with_capacity_bytes(bytes), rocks.handles())
            }
            #[cfg(feature = "simulation")]
            Backend::Memory(_) => Rows::Memory(Vec::new()),
        };
        Batch { store: self, rows }
    }

    /// Writes the write buffers out to files, and syncs these.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Rocks(rocks) => Table::ALL.into_iter().try_for_each(|table| {
                rocks.db.flush_cf(rocks.handle(table)).map_err(StoreError::of_write)
            }),
            #[cfg(feature = "simulation")]
            Backend::Memory(_) => Ok(()),
        }
    }

    /// Memory of the write buffers.
    pub(crate) fn buffered_bytes(&self) -> u64 {
        match &self.backend {
            Backend::Rocks(rocks) => buffered_bytes(&rocks.db, rocks.handles()),
            #[cfg(feature = "simulation")]
            Backend::Memory(_) => 0,
        }
    }

    /// Has the write buffers written out to files, without waiting for it.
    pub(crate) fn write_out(&self) -> Result<WriteOut, StoreError> {
        match &self.backend {
            Backend::Rocks(rocks) => {
                write_out(&rocks.db, rocks.handles()).map_err(StoreError::of_write)
            }
            #[cfg(feature = "simulation")]
            Backend::Memory(_) => Ok(WriteOut::Begun),
        }
    }

    /// Sizes for the metrics.
    pub(crate) fn metrics(&self) -> StoreMetrics {
        match &self.backend {
            Backend::Rocks(rocks) => rocks.metrics(),
            #[cfg(feature = "simulation")]
            Backend::Memory(_) => StoreMetrics::default(),
        }
    }
}

/// The tables' handles, by their place in [`Table::ALL`]: finding one by name for each row of a block
/// takes about as long as putting the row into the batch.
type Handles<'a> = [&'a rocksdb::ColumnFamily; Table::ALL.len()];

impl Rocks {
    fn handles(&self) -> Handles<'_> {
        Table::ALL.map(|table| self.handle(table))
    }

    fn handle(&self, table: Table) -> &rocksdb::ColumnFamily {
        self.db.cf_handle(table.name()).expect("every table was opened")
    }

    fn metrics(&self) -> StoreMetrics {
        // A size that RocksDB does not tell is shown as 0.
        let sum = |name: &str| {
            let size = |table: Table| {
                self.db.property_int_value_cf(self.handle(table), name).ok().flatten().unwrap_or(0)
            };
            Table::ALL.into_iter().map(size).sum()
        };
        StoreMetrics {
            memtable_bytes: buffered_bytes(&self.db, self.handles()),
            block_cache_bytes: self.cache.get_usage() as u64,
            table_reader_bytes: sum("rocksdb.estimate-table-readers-mem"),
            table_file_bytes: sum("rocksdb.live-sst-files-size"),
            blob_file_bytes: sum("rocksdb.live-blob-file-size"),
            compaction_pending_bytes: sum("rocksdb.estimate-pending-compaction-bytes"),
        }
    }
}

impl std::ops::Deref for Value<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Pinned(bytes) => bytes,
            #[cfg(feature = "simulation")]
            Self::Owned(bytes) => bytes,
        }
    }
}

#[cfg(test)]
impl Store {
    /// Behaves as after a failed write.
    pub(crate) fn fail_writes(&self) {
        self.failed.store(true, Ordering::Release);
    }
}

/// A key and its value.
pub(crate) type Row = (Box<[u8]>, Box<[u8]>);

impl Batch<'_> {
    /// Adds or replaces a row.
    pub(crate) fn put(&mut self, table: Table, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        match &mut self.rows {
            Rows::Rocks(rows, handles) => rows.put_cf(handles[table as usize], key, value),
            #[cfg(feature = "simulation")]
            Rows::Memory(rows) => {
                rows.push(memory::Change::put(table, key.as_ref(), value.as_ref()));
            }
        }
    }

    /// Removes a row.
    pub(crate) fn delete(&mut self, table: Table, key: impl AsRef<[u8]>) {
        match &mut self.rows {
            Rows::Rocks(rows, handles) => rows.delete_cf(handles[table as usize], key),
            #[cfg(feature = "simulation")]
            Rows::Memory(rows) => rows.push(memory::Change::delete(table, key.as_ref())),
        }
    }

    /// Writes all rows or none; they are on the disk when this returns.
    pub(crate) fn write(self) -> Result<(), StoreError> {
        if self.store.failed.load(Ordering::Acquire) {
            return Err(StoreError::Failed);
        }
        let Self { store, rows } = self;
        let written = match (&store.backend, rows) {
            (Backend::Rocks(rocks), Rows::Rocks(rows, _)) => {
                let mut options = WriteOptions::default();
                options.set_sync(true);
                rocks.db.write_opt(rows, &options).map_err(StoreError::of_write)
            }
            #[cfg(feature = "simulation")]
            (Backend::Memory(disk), Rows::Memory(rows)) => disk.write(rows),
            #[cfg(feature = "simulation")]
            _ => unreachable!("a store makes its own batches"),
        };
        written.inspect_err(|_| store.failed.store(true, Ordering::Release))
    }
}
