//! How it stands with the vault, asked of it at each scrape.

use std::{fmt, time::SystemTime};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

use super::keys::SealingKeys;

/// Registers the vault's metrics.
pub fn register(registry: &mut Registry, keys: SealingKeys) {
    registry.register_collector(Box::new(OfVault(keys)));
}

#[derive(Debug)]
struct OfVault(SealingKeys);

impl Collector for OfVault {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let (single_copy, generation) = (self.0.is_single_copy(), self.0.vault.generation());
        let help = "1 where sealed records that this node accepts are at one place only";
        let mut gauge = |name, help, unit: Option<&Unit>, value: i64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
        };
        gauge("vault_single_copy", help, None, single_copy.into())?;
        let help = "How often the vault's keys have been written";
        gauge("vault_generation", help, None, i64::try_from(generation).unwrap_or(i64::MAX))?;
        let Some(backups) = &self.0.backups else { return Ok(()) };
        if let Some(newest) = backups.newest() {
            let since = newest.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let help = "When the newest backup of the vault was made, Unix seconds";
            let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
            gauge("vault_backup_newest", help, Some(&Unit::Seconds), seconds)?;
        }
        let failures = ConstCounter::new(backups.failures());
        let help = "Backups of the vault that were tried in vain";
        let (name, kind) = ("vault_backup_failures", failures.metric_type());
        failures.encode(encoder.encode_descriptor(name, help, None, kind)?)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::config::{NodeConfig, TEMPLATE};

    /// What is scraped of a new vault whose section ends like this.
    fn scraped(directory: &Path, lines: &str) -> String {
        let text = TEMPLATE.replace("single_copy = true", &format!("single_copy = true\n{lines}"));
        let config = NodeConfig::parse(&text, &directory.join("node.toml")).expect("valid");
        let section = config.vault.expect("in the template");
        super::super::upkeep::create(&section.directory, &section.root_key.0, config.agency)
            .expect("made");
        let keys = SealingKeys::open(&section).expect("opened");
        let mut registry = Registry::with_prefix("customhouse");
        register(&mut registry, keys);
        let mut text = String::new();
        encode(&mut text, &registry).expect("a text");
        text
    }

    #[test]
    fn a_single_copy_the_generation_and_what_failed_are_scraped_by_their_names() {
        let place = tempfile::tempdir().expect("a directory");
        let text = scraped(&place.path().join("a"), "");
        for line in ["customhouse_vault_single_copy 1\n", "customhouse_vault_generation 3\n"] {
            assert!(text.contains(line), "`{line}` is not in: {text}");
        }
        assert!(!text.contains("backup"), "{text}");
        let text = scraped(&place.path().join("b"), "backup = { directory = \"backups\" }");
        assert!(text.contains("customhouse_vault_backup_failures_total 0\n"), "{text}");
        assert!(!text.contains("backup_newest"), "{text}");
    }
}
