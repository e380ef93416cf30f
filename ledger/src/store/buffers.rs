//! The write buffers of a database: rows that are in its log on the disk, and not yet in its tables.

use rocksdb::{ColumnFamily, DB, Error, ErrorKind, FlushOptions};

/// A family whose buffer is smaller is not written out: small tables are merged more often than large ones.
const FAMILY_BYTES_MIN: u64 = 1 << 20;

/// What came of having buffers written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOut {
    /// It has begun, where there was something to write.
    Begun,
    /// Not now: writers wait, for buffers that are being written out already, or for tables to be merged.
    NotNow,
}

/// Memory of the write buffers of column families. A size that RocksDB does not tell counts as 0.
pub fn buffered_bytes<'a>(db: &DB, families: impl IntoIterator<Item = &'a ColumnFamily>) -> u64 {
    families.into_iter().map(|family| family_bytes(db, family)).sum()
}

fn family_bytes(db: &DB, family: &ColumnFamily) -> u64 {
    let size = db.property_int_value_cf(family, "rocksdb.cur-size-all-mem-tables");
    size.ok().flatten().unwrap_or(0)
}

/// Has the larger write buffers of column families written out to tables, which gives their memory back. What
/// has begun goes on after this has returned. It may wait for merges under way, as a write that comes too
/// soon would.
///
/// # Errors
/// The database has failed, and takes no more writes.
pub fn write_out<'a>(
    db: &DB,
    families: impl IntoIterator<Item = &'a ColumnFamily>,
) -> Result<WriteOut, Error> {
    let mut options = FlushOptions::default();
    options.set_wait(false);
    for family in families {
        if family_bytes(db, family) < FAMILY_BYTES_MIN {
            continue;
        }
        match db.flush_cf_opt(family, &options) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::TryAgain => return Ok(WriteOut::NotNow),
            Err(error) => return Err(error),
        }
    }
    Ok(WriteOut::Begun)
}
