//! Reading a whole store that nobody writes, and making its indexes anew.

use std::path::{Path, PathBuf};

use rocksdb::{DB, Direction, IteratorMode, ReadOptions, WriteOptions};

use crate::store::{
    Backend, Batch, FolderLock, Rocks, Row, Rows, Store, StoreError, StoreOptions, Table, log_file,
    pointer, table::META_REBUILD,
};

/// Bytes that are read from a file at once.
const READ_AHEAD_BYTES: usize = 2 << 20;

/// A store that was opened to be read, and what is wrong with its files.
pub(crate) struct Opened {
    pub(crate) store: Store,
    /// Damage that did not keep it from being opened.
    pub(crate) damage: Vec<StoreError>,
    /// Writes that were cut off at the end of a log, as a crash leaves them.
    pub(crate) torn: Vec<StoreError>,
}

impl Store {
    /// Opens a store, also one that is damaged, and changes no file of it.
    pub(crate) fn open_to_read(path: &Path, options: &StoreOptions) -> Result<Opened, StoreError> {
        refuse_nothing(path)?;
        let lock = FolderLock::shared(path)?;
        let (torn, damage): (Vec<_>, Vec<_>) = log_file::faults(path)?
            .into_iter()
            .partition(|(_, fault)| matches!(fault, log_file::Fault::Torn { .. }));
        let named = |faults: Vec<(PathBuf, log_file::Fault)>| -> Vec<_> {
            faults.into_iter().map(|(file, fault)| log_file::corrupt(&file, fault)).collect()
        };
        let (torn, mut damage) = (named(torn), named(damage));
        let open = |paranoid| {
            let cache = options.cache();
            let tables = Table::ALL.map(|table| options.table(table, &cache));
            let mut database = options.database();
            database.set_paranoid_checks(paranoid);
            DB::open_cf_descriptors_read_only(&database, path, tables, false)
                .map(|db| (db, cache))
                .map_err(|error| StoreError::of_open(path, error))
        };
        let (db, cache) = match open(true) {
            Ok(opened) => opened,
            Err(error) if error.is_corruption() => {
                // Then a damaged file is passed over, so that the rest can be seen. Where nothing
                // can, the error says where the damage is, rather than what comes of it.
                let first = || damage.first().unwrap_or(&error).clone();
                let opened = open(false).map_err(|_| first())?;
                damage.push(error);
                opened
            }
            // Killed after a table was removed and before it was made anew.
            Err(StoreError::Database(_)) if is_half_rebuilt(path, options) => {
                return Err(StoreError::HalfRebuilt);
            }
            Err(error) => return Err(damage.into_iter().next().unwrap_or(error)),
        };
        let store = Self::of(Rocks { db, cache, _lock: lock });
        Ok(Opened { store, damage, torn })
    }

    /// Opens a store to make indexes of it anew. Nothing is compacted: that would read what may be
    /// damaged, and fail for good.
    pub(crate) fn open_to_rebuild(path: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        refuse_nothing(path)?;
        let lock = FolderLock::exclusive(path)?;
        log_file::refuse_damaged(path)?;
        let cache = options.cache();
        let tables = Table::ALL.map(|table| {
            let mut descriptor = options.table_options(table, &cache);
            descriptor.set_disable_auto_compactions(true);
            rocksdb::ColumnFamilyDescriptor::new(table.name(), descriptor)
        });
        let db = DB::open_cf_descriptors(&options.database(), path, tables)
            .map_err(|error| StoreError::of_open(path, error))?;
        Ok(Self::of(Rocks { db, cache, _lock: Some(lock) }))
    }

    /// Makes tables anew, empty, whatever their files hold.
    pub(crate) fn renew(
        &mut self,
        tables: &[Table],
        options: &StoreOptions,
    ) -> Result<(), StoreError> {
        for &table in tables {
            match &mut self.backend {
                Backend::Rocks(Rocks { db, cache, .. }) => {
                    let made = options.table_options(table, cache);
                    db.drop_cf(table.name())
                        .and_then(|()| db.create_cf(table.name(), &made))
                        .map_err(StoreError::of_write)?;
                }
                #[cfg(feature = "simulation")]
                Backend::Memory(disk) => disk.clear(table),
            }
        }
        Ok(())
    }

    /// All rows of a table, ascending, read past the cache. After an error there are no more.
    ///
    /// Every block of rows and of index is read and checked. Filters, properties and footers are
    /// not read; they are checked with the whole file ([`Store::files`]).
    pub(crate) fn whole(
        &self,
        table: Table,
    ) -> Box<dyn Iterator<Item = Result<Row, StoreError>> + '_> {
        match &self.backend {
            Backend::Rocks(rocks) => {
                let mut options = ReadOptions::default();
                options.fill_cache(false);
                options.set_readahead_size(READ_AHEAD_BYTES);
                let mode = IteratorMode::From(&[], Direction::Forward);
                let rows = rocks.db.iterator_cf_opt(rocks.handle(table), options, mode);
                Box::new(
                    rows.map(move |row| {
                        row.map_err(|error| StoreError::of_read(table, &[], error))
                    }),
                )
            }
            #[cfg(feature = "simulation")]
            Backend::Memory(disk) => Box::new(disk.rows_from(table, &[]).into_iter().map(Ok)),
        }
    }
}

impl Batch<'_> {
    /// Writes all rows or none, but not yet to the disk: after a crash they are there only if
    /// [`Store::flush`] has returned.
    pub(crate) fn write_behind(self) -> Result<(), StoreError> {
        let Self { store, rows } = self;
        match (&store.backend, rows) {
            (Backend::Rocks(rocks), Rows::Rocks(rows, _)) => {
                let mut options = WriteOptions::default();
                options.disable_wal(true);
                rocks.db.write_opt(rows, &options).map_err(StoreError::of_write)
            }
            #[cfg(feature = "simulation")]
            (Backend::Memory(disk), Rows::Memory(rows)) => disk.write(rows),
            #[cfg(feature = "simulation")]
            _ => unreachable!("a store makes its own batches"),
        }
    }
}

/// Whether the store says so itself; tables of it may be missing.
fn is_half_rebuilt(path: &Path, options: &StoreOptions) -> bool {
    let meta = options.table(Table::Meta, &options.cache());
    let opened = DB::open_cf_descriptors_read_only(&options.database(), path, [meta], false).ok();
    opened.is_some_and(|db| {
        let meta = db.cf_handle(Table::Meta.name());
        meta.is_some_and(|meta| matches!(db.get_cf(meta, META_REBUILD), Ok(Some(_))))
    })
}

/// RocksDB would make a database where there is none.
fn refuse_nothing(path: &Path) -> Result<(), StoreError> {
    match pointer::has_database(path)? {
        true => Ok(()),
        false => Err(StoreError::Missing(path.to_owned())),
    }
}
