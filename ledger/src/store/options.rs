//! How RocksDB is set up: durable, small in memory, and quick for keys that are hashes.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType,
    DBRecoveryMode, LogLevel, Options,
};

use crate::store::{Table, raw};

/// Memory and file sizes of the store. The defaults keep it under 150 MB beside the history tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Bytes of one table's write buffer.
    pub memtable_bytes: usize,
    /// Bytes of all write buffers together.
    pub memtables_bytes_max: usize,
    /// Bytes of the block cache, which also holds index and filter blocks.
    pub block_cache_bytes: usize,
    /// Files kept open.
    pub open_files_max: i32,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            memtable_bytes: 16 << 20,
            memtables_bytes_max: 64 << 20,
            block_cache_bytes: 32 << 20,
            open_files_max: 512,
        }
    }
}

impl StoreOptions {
    pub(super) fn database(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        // A torn last write is what a crash leaves; anything else in the log is damage.
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_paranoid_checks(true);
        raw::keep_file_checksums(&mut options);
        options.set_db_write_buffer_size(self.memtables_bytes_max);
        options.set_max_total_wal_size(128 << 20);
        options.set_max_background_jobs(2);
        options.set_max_open_files(self.open_files_max);
        options.set_bytes_per_sync(1 << 20);
        options.set_log_level(LogLevel::Warn);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(1 << 20);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options
    }

    pub(super) fn cache(&self) -> Cache {
        Cache::new_lru_cache(self.block_cache_bytes)
    }

    pub(super) fn table(&self, table: Table, cache: &Cache) -> ColumnFamilyDescriptor {
        ColumnFamilyDescriptor::new(table.name(), self.table_options(table, cache))
    }

    pub(super) fn table_options(&self, table: Table, cache: &Cache) -> Options {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(cache);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        // In parts: those of a large ledger do not fit into the cache, and a whole one is a megabyte
        // that would be read again for one row.
        blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        blocks.set_partition_filters(true);
        blocks.set_metadata_block_size(4096);
        blocks.set_pin_top_level_index_and_filter(true);
        blocks.set_format_version(5);
        let mut options = Options::default();
        options.set_write_buffer_size(self.memtable_bytes);
        options.set_max_write_buffer_number(3);
        options.set_target_file_size_base(32 << 20);
        options.set_max_bytes_for_level_base(128 << 20);
        // Hashes do not compress.
        options.set_compression_type(DBCompressionType::None);
        if table.is_looked_up_by_hash() {
            blocks.set_bloom_filter(10.0, false);
            // Most look-ups ask for what is not there: a new record's id and key.
            options.set_memtable_prefix_bloom_ratio(0.05);
            options.set_memtable_whole_key_filtering(true);
        }
        if table == Table::Transactions {
            options.set_enable_blob_files(true);
            options.set_min_blob_size(256);
            options.set_blob_file_size(64 << 20);
            options.set_blob_compression_type(DBCompressionType::Lz4);
            options.set_enable_blob_gc(true);
        }
        options.set_block_based_table_factory(&blocks);
        options
    }
}
