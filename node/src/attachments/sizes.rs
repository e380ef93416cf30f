//! How much attachments take, asked of them at each scrape.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
    registry::{Registry, Unit},
};

use super::Attachments;

/// Registers their sizes.
pub fn register(registry: &mut Registry, attachments: Attachments) {
    registry.register_collector(Box::new(Sizes(attachments)));
}

#[derive(Debug)]
struct Sizes(Attachments);

impl Collector for Sizes {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let (all, incoming) = self.0.sizes();
        for (name, help, unit, value) in [
            ("attachments", "Attachments that are held or coming", None, all.files),
            ("attachments_held", "Disk space set aside for those", Some(Unit::Bytes), all.bytes),
            ("attachments_incoming", "Of that, what is coming", Some(Unit::Bytes), incoming.bytes),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let unit = unit.as_ref();
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
