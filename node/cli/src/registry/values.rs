//! Values in the registry that are no keys: the network's parameters, and an agency's dedupe check.

use anyhow::ensure;
use customhouse_ledger::{
    agency::AgencyCode,
    authority::RecordKind,
    hash::Hash,
    registry::{
        self, Registry,
        parameters::{self, Parameters},
    },
};
use customhouse_proto::v1::{
    DedupeCheckEntry, ParameterEntry, RegistryEntry, registry_entry::Entry,
};
use serde::Serialize;

use super::propose::parse_code;
use crate::genesis::parse_parameter;

#[derive(clap::Args)]
pub(crate) struct ValueArgs {
    /// Give a parameter of the network another value from the next height on, in place of the one that it has.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_parameter)]
    set: Vec<(String, u64)>,
    /// Give a parameter its default again.
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    reset: Vec<String>,
    /// Register the check of the secret that an agency's nodes make dedupe keys of sealed records with, in place of
    /// the one that is registered; 64 hexadecimal digits.
    #[arg(long, value_name = "CODE=CHECK", value_parser = parse_check)]
    dedupe_check: Vec<(AgencyCode, Hash)>,
    /// End an agency's dedupe check; it lodges nothing sealed until it has another.
    #[arg(long, value_name = "CODE", value_parser = parse_code)]
    end_dedupe_check: Vec<AgencyCode>,
}

impl ValueArgs {
    pub(super) fn added(&self) -> impl Iterator<Item = RegistryEntry> {
        let parameter = |(name, value): &(String, u64)| {
            Entry::Parameter(ParameterEntry { name: name.clone(), value: *value })
        };
        let check = |(agency, check): &(AgencyCode, Hash)| {
            let (agency, check) = (agency.to_string(), check.as_bytes().to_vec());
            Entry::DedupeCheck(DedupeCheckEntry { agency, check })
        };
        let entries = self.set.iter().map(parameter).chain(self.dedupe_check.iter().map(check));
        entries.map(|entry| RegistryEntry { entry: Some(entry), ..Default::default() })
    }

    /// Whether an open entry ends: there is one value at a time.
    pub(super) fn ends(&self, entry: &RegistryEntry) -> bool {
        match &entry.entry {
            Some(Entry::Parameter(open)) => {
                self.set.iter().any(|(name, _)| *name == open.name)
                    || self.reset.contains(&open.name)
            }
            Some(Entry::DedupeCheck(open)) => {
                let exchanged = self.dedupe_check.iter().map(|(agency, _)| agency);
                let mut of = exchanged.chain(&self.end_dedupe_check);
                of.any(|agency| agency.as_str() == open.agency)
            }
            _ => false,
        }
    }

    /// Each says one thing of a value, and something new.
    pub(super) fn check(&self, present: &Registry, height: u64) -> anyhow::Result<()> {
        let names: Vec<_> = self.set.iter().map(|(name, _)| name).chain(&self.reset).collect();
        for (place, name) in names.iter().enumerate() {
            ensure!(
                !names[..place].contains(name),
                "{name} is set or reset twice: say which is meant"
            );
        }
        let in_force: Vec<_> = present.parameters_at(height)?.named().collect();
        for (name, value) in &self.set {
            let same = in_force.iter().any(|(known, now)| known == name && now == value);
            let shown = parameters::text_of_value(name, *value);
            ensure!(!same, "{name} is {shown} already: see `customhouse registry show`");
        }
        let open = |wanted: &dyn Fn(&Entry) -> bool| {
            let mut open = present.entries().filter(|entry| registry::is_open_at(entry, height));
            open.any(|entry| entry.entry.as_ref().is_some_and(wanted))
        };
        for name in &self.reset {
            let set = open(&|entry| matches!(entry, Entry::Parameter(own) if own.name == *name));
            ensure!(set, "{name} has its default already: see `customhouse registry show`");
        }
        let agencies: Vec<_> = self.dedupe_check.iter().map(|(agency, _)| agency).collect();
        let agencies = [agencies, self.end_dedupe_check.iter().collect()].concat();
        for (place, agency) in agencies.iter().enumerate() {
            let twice = agencies[..place].contains(agency);
            ensure!(!twice, "the dedupe check of {agency} is named twice: say which is meant");
        }
        for agency in &self.end_dedupe_check {
            let name = agency.as_str();
            let set = open(&|entry| matches!(entry, Entry::DedupeCheck(own) if own.agency == name));
            ensure!(set, "{agency} has no dedupe check now");
        }
        Ok(())
    }
}

/// A parameter in force.
#[derive(Serialize)]
pub(super) struct ParameterView {
    name: &'static str,
    /// As `--set` takes it.
    value: String,
    /// The height since which it counts; none where it is the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    from_height: Option<u64>,
}

impl ParameterView {
    /// All of a height.
    pub(super) fn all(registry: &Registry, height: u64) -> Vec<Self> {
        let since = |wanted: &str| {
            let mut open = registry.entries().filter(|entry| registry::is_open_at(entry, height));
            open.find_map(|entry| match &entry.entry {
                Some(Entry::Parameter(own)) if own.name == wanted => Some(entry.from_height),
                _ => None,
            })
        };
        // A registry has no value that is none.
        let in_force = registry.parameters_at(height).unwrap_or_default();
        let view = |(name, value)| {
            let value = parameters::text_of_value(name, value);
            Self { name, value, from_height: since(name) }
        };
        in_force.named().map(view).collect()
    }
}

impl std::fmt::Display for ParameterView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, value, from_height } = self;
        write!(f, "{name:<28} {value}")?;
        match from_height {
            None => f.write_str("  (default)"),
            Some(0) => Ok(()),
            Some(from) => write!(f, "  from {from}"),
        }
    }
}

/// What parameters that allow less do to what waits.
pub(super) fn warnings(before: &Parameters, after: &Parameters) -> Vec<String> {
    let mut warnings = Vec::new();
    let closed = RecordKind::of_bits(before.open_kinds & !after.open_kinds);
    if !closed.is_empty() {
        let kinds: Vec<_> = closed.iter().map(|kind| kind.as_str()).collect();
        warnings.push(format!(
            "from the next height on these may be lodged sealed only, and what waits open ends as rejected: {}",
            kinds.join(", ")
        ));
    }
    let limits = |parameters: &Parameters| {
        [
            parameters.transaction_bytes_max,
            parameters.transaction_slots_max,
            parameters.record_bytes_max,
        ]
    };
    if limits(before).iter().zip(limits(after)).any(|(before, after)| after < *before) {
        warnings.push("what waits then and is larger than is allowed ends as rejected".to_owned());
    }
    warnings
}

fn parse_name(text: &str) -> Result<String, String> {
    match Parameters::NAMES.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "no parameter is called `{text}`; there are {}",
            Parameters::NAMES.join(", ")
        )),
    }
}

fn parse_check(text: &str) -> Result<(AgencyCode, Hash), String> {
    let (agency, check) = text.split_once('=').ok_or("CODE=CHECK expected")?;
    let check = check.parse().map_err(|error| format!("`{check}`: {error}"))?;
    Ok((parse_code(agency)?, check))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use customhouse_files::agency_file::{AgencyFile, genesis_of};
    use customhouse_ledger::keys::SigningKey;

    use super::*;

    fn registry() -> Registry {
        let agency = AgencyFile {
            agency: "NL-DOUANE".parse().expect("a code"),
            name: "Douane".into(),
            country: "NL".into(),
            validators: vec![SigningKey::from_seed(&[1; 32]).public()],
            peers: vec![],
            signing_keys: vec![],
            encryption_keys: vec![],
            dedupe_check: Some(Hash([7; 32])),
        };
        let parameters = BTreeMap::from([("heartbeat_ms".to_owned(), 5000)]);
        genesis_of("test", 1, 8, &[agency], &parameters).expect("valid").registry
    }

    fn args(set: &[&str], reset: &[&str], checks: &[&str]) -> ValueArgs {
        let parsed = |text: &&str| parse_parameter(text).expect("a parameter");
        ValueArgs {
            set: set.iter().map(parsed).collect(),
            reset: reset.iter().map(|name| parse_name(name).expect("a name")).collect(),
            dedupe_check: checks.iter().map(|text| parse_check(text).expect("a check")).collect(),
            end_dedupe_check: vec![],
        }
    }

    #[test]
    fn a_value_takes_the_place_of_the_one_that_counts() {
        let registry = registry();
        let ended = |args: &ValueArgs| registry.entries().filter(|e| args.ends(e)).count();
        let check = format!("NL-DOUANE={}", Hash([8; 32]));
        for (args, added, ends) in [
            (args(&["heartbeat_ms=7000"], &[], &[]), 1, 1),
            (args(&["record_bytes_max=2048"], &[], &[]), 1, 0),
            (args(&[], &["heartbeat_ms"], &[]), 0, 1),
            (args(&["open_kinds=declaration,event"], &[], &[&check]), 2, 1),
        ] {
            args.check(&registry, 1).expect("something new");
            assert_eq!((args.added().count(), ended(&args)), (added, ends));
        }
        for (args, says) in [
            (args(&["heartbeat_ms=5000"], &[], &[]), "is 5000 already"),
            (args(&["open_kinds=all"], &[], &[]), "is all already"),
            (args(&[], &["record_bytes_max"], &[]), "has its default already"),
            (args(&["heartbeat_ms=6000"], &["heartbeat_ms"], &[]), "twice"),
            (args(&[], &[], &[&check, &check]), "twice"),
        ] {
            let error = args.check(&registry, 1).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn values_are_written_as_they_are_shown_and_mistakes_are_named() {
        for (wrong, says) in [
            ("heartbeat_ms", "NAME=VALUE"),
            ("heartbeat=1", "there are block_bytes_max"),
            ("heartbeat_ms=soon", "not a whole number"),
            ("heartbeat_ms=1", "not in 1000 to"),
            ("open_kinds=toys", "`toys` is no kind"),
        ] {
            let error = parse_parameter(wrong).expect_err(wrong);
            assert!(error.contains(says), "{wrong}: {error}");
        }
        assert!(parse_name("beat").expect_err("none").contains("heartbeat_ms"));
        let shown: Vec<_> =
            ParameterView::all(&registry(), 1).iter().map(ToString::to_string).collect();
        assert!(shown.contains(&"heartbeat_ms                 5000".to_owned()), "{shown:?}");
        let kinds = "open_kinds                   all  (default)".to_owned();
        assert!(shown.contains(&kinds), "{shown:?}");
    }

    #[test]
    fn whoever_approves_is_told_what_ends() {
        let before = Parameters::default();
        let mut after = before;
        assert!(warnings(&before, &after).is_empty());
        let (name, value) = parse_parameter("open_kinds=event").expect("kinds");
        after.set(&name, value).expect("in range");
        after.record_bytes_max = 2048;
        let warnings = warnings(&before, &after);
        assert!(warnings[0].contains("declaration, declaration_status"), "{warnings:?}");
        assert!(warnings.len() == 2 && !warnings[0].contains("event"), "{warnings:?}");
    }
}
