//! Registry entries that are no keys of Ed25519: the values that a network or an agency has.

use customhouse_proto::v1::{self, registry_entry::Entry};
use prost::Message as _;

use super::cases::Cases;

/// Declarations, and what is always open.
pub(crate) const OPEN_KINDS: u64 = 1 << 16 | 1 << 27 | 1 << 28 | 1 << 29;

fn entry(entry: Entry) -> v1::RegistryEntry {
    v1::RegistryEntry { entry: Some(entry), ..Default::default() }
}

pub(crate) fn parameter(name: &str, value: u64) -> v1::RegistryEntry {
    entry(Entry::Parameter(v1::ParameterEntry { name: name.into(), value }))
}

pub(crate) fn values(cases: &mut Cases) {
    let ended = v1::RegistryEntry {
        from_height: 3,
        end_height: 9,
        ..parameter("transaction_slots_max", 4096)
    };
    cases.valid("a parameter that ended", ended.encode_to_vec());
    cases.valid("open kinds", parameter("open_kinds", OPEN_KINDS).encode_to_vec());
    for (change, name, value) in [
        ("an unknown parameter", "heartbeat", 60_000),
        ("a parameter below its range", "heartbeat_ms", 999),
        ("a parameter above its range", "heartbeat_ms", 86_400_001),
        ("no open kinds", "open_kinds", 0),
        ("open kinds without registry_change", "open_kinds", OPEN_KINDS & !(1 << 27)),
        ("open kinds without misbehaviour", "open_kinds", OPEN_KINDS & !(1 << 28)),
        ("open kinds without agreement_change", "open_kinds", OPEN_KINDS & !(1 << 29)),
        ("open kinds with one that there is not", "open_kinds", OPEN_KINDS | 1 << 15),
    ] {
        let entry = parameter(name, value);
        cases.refused("REGISTRY_PARAMETER", change, entry.encode_to_vec());
    }
    let unnamed = parameter("heart\nbeat", 1);
    cases.refused("REGISTRY_ENTRY_NAME", "a parameter with a line end", unnamed.encode_to_vec());
}
