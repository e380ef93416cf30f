//! How much memory and disk the ledger's store takes, asked of it at each scrape.

use std::fmt;

use customhouse_ledger::chain::ChainReader;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
    registry::{Registry, Unit},
};

/// Registers the store's sizes.
pub fn register(registry: &mut Registry, reader: ChainReader) {
    registry.register_collector(Box::new(Sizes(reader)));
}

struct Sizes(ChainReader);

impl fmt::Debug for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sizes")
    }
}

impl Collector for Sizes {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let sizes = self.0.metrics();
        for (name, help, bytes) in [
            ("store_memtables", "Memory of the store's write buffers", sizes.memtable_bytes),
            ("store_block_cache", "Memory of the store's block cache", sizes.block_cache_bytes),
            ("store_tables", "Disk space of the store's sorted tables", sizes.table_file_bytes),
            ("store_blobs", "Disk space of the transactions' files", sizes.blob_file_bytes),
        ] {
            let gauge = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
            let unit = Some(&Unit::Bytes);
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
