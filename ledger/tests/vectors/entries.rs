//! Registry entries that are no keys of Ed25519: the values that a network has, and what an agency registers for sealed
//! records; and how changes apply one after the other.

use std::collections::BTreeMap;

use customhouse_ledger::{
    agency::AgencyCode,
    registry::{Registry, RegistryProposal},
};
use customhouse_proto::v1::{self, registry_entry::Entry};
use prost::Message as _;
use serde_json::{Value, json};

use super::{cases::Cases, hex_of};

/// Declarations, and what is always open.
pub(crate) const OPEN_KINDS: u64 = 1 << 16 | 1 << 27 | 1 << 28 | 1 << 29;

fn entry(entry: Entry) -> v1::RegistryEntry {
    v1::RegistryEntry { entry: Some(entry), ..Default::default() }
}

pub(crate) fn parameter(name: &str, value: u64) -> v1::RegistryEntry {
    entry(Entry::Parameter(v1::ParameterEntry { name: name.into(), value }))
}

/// A key is any number below 2^255 − 19 that is not of low order.
fn encryption_key(agency: &str, public_key: [u8; 32]) -> v1::RegistryEntry {
    let (agency, public_key) = (agency.into(), public_key.to_vec());
    entry(Entry::EncryptionKey(v1::EncryptionKeyEntry { agency, public_key }))
}

pub(crate) fn dedupe_check(agency: &str, check: u8) -> v1::RegistryEntry {
    let (agency, check) = (agency.into(), vec![check; 32]);
    entry(Entry::DedupeCheck(v1::DedupeCheckEntry { agency, check }))
}

/// What sealed records rest on.
pub(crate) fn sealed(cases: &mut Cases) {
    let field = {
        let mut field = [0xff; 32];
        (field[0], field[31]) = (0xed, 0x7f);
        field
    };
    let number = |number: u8| {
        let mut bytes = [0; 32];
        bytes[0] = number;
        bytes
    };
    let near_field = |last: u8| {
        let mut bytes = field;
        bytes[0] = last;
        bytes
    };
    let mut minus = number(9);
    minus[31] = 0x80;
    let of_order_8 = [
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ];
    let [first, second] = of_order_8.map(|text| {
        let bytes = hex::decode(text).expect("hexadecimal");
        <[u8; 32]>::try_from(bytes).expect("32 bytes")
    });
    for (name, key) in [("the base point", number(9)), ("the largest number", near_field(0xeb))] {
        let entry = encryption_key("NL-DOUANE", key);
        cases.valid(&format!("an encryption key: {name}"), entry.encode_to_vec());
    }
    for (change, key) in [
        ("0", number(0)),
        ("1", number(1)),
        ("the first of order 8", first),
        ("the second of order 8", second),
        ("2^255 - 20", near_field(0xec)),
        ("0 again", field),
        ("1 again", near_field(0xee)),
        ("9 again", near_field(0xf6)),
        ("9 with the highest bit", minus),
        ("all bits", [0xff; 32]),
    ] {
        let entry = encryption_key("NL-DOUANE", key).encode_to_vec();
        cases.refused("REGISTRY_ENTRY_KEY", &format!("an encryption key: {change}"), entry);
    }
    let nobody = encryption_key("nl", number(9)).encode_to_vec();
    cases.refused("REGISTRY_ENTRY_AGENCY", "an encryption key of no agency", nobody);
    cases.valid("a dedupe check", dedupe_check("NL-DOUANE", 7).encode_to_vec());
    let mut short = dedupe_check("NL-DOUANE", 7);
    if let Some(Entry::DedupeCheck(own)) = &mut short.entry {
        own.check.truncate(31);
    }
    let short = short.encode_to_vec();
    cases.refused("REGISTRY_ENTRY_DEDUPE_CHECK", "a dedupe check of 31 bytes", short);
}

/// An entry as it stands open in a registry.
fn open_in(registry: &Registry, wanted: &v1::RegistryEntry) -> v1::RegistryEntry {
    let is_it = |entry: &&v1::RegistryEntry| entry.end_height == 0 && entry.entry == wanted.entry;
    registry.entries().find(is_it).expect("open").clone()
}

/// Changes that apply one after the other to the genesis's registry, and some that then do not.
pub(crate) fn applied(genesis: &Registry) -> Value {
    let agency: AgencyCode = "NL-DOUANE".parse().expect("a code");
    let name = agency.as_str();
    let heartbeat = |value| parameter("heartbeat_ms", value);
    let (first, second) = (encryption_key(name, [9; 32]), encryption_key(name, [8; 32]));
    let slots = parameter("transaction_slots_max", 100);
    let steps = [
        (
            1,
            vec![heartbeat(5000), slots.clone(), first.clone(), dedupe_check(name, 1)],
            vec![heartbeat(60_000)],
        ),
        (2, vec![second, parameter("open_kinds", OPEN_KINDS)], vec![slots]),
        (
            5,
            vec![heartbeat(60_000), dedupe_check(name, 2)],
            vec![heartbeat(5000), dedupe_check(name, 1), first],
        ),
    ];
    let mut registry = genesis.clone();
    let propose = |registry: &Registry, added: Vec<_>, ended: Vec<_>| {
        let root = registry.members_root();
        RegistryProposal::new(&root, 1_700_086_400_000, added, ended, "").expect("well-formed")
    };
    let mut made = Vec::new();
    for (height, added, ended) in steps {
        let ended = ended.iter().map(|entry| open_in(&registry, entry)).collect();
        let proposal = propose(&registry, added, ended);
        registry = registry.apply(&proposal, height).expect("applies");
        let parameters = registry.parameters_at(height + 1).expect("in range");
        made.push(json!({
            "proposal": hex_of(proposal.to_proto().encode_to_vec()),
            "committed_at_height": height,
            "members_root_after": registry.members_root(),
            "parameters": parameters.named().collect::<BTreeMap<_, _>>(),
            "encryption_keys": registry.encryption_keys_at(&agency, height + 1),
            "dedupe_check": registry.dedupe_check_at(&agency, height + 1),
        }));
    }
    let as_ended = |entry| {
        let ended = registry.entries().find(|e| e.entry == entry && e.end_height > 0);
        v1::RegistryEntry { end_height: 0, ..ended.expect("an ended one").clone() }
    };
    let refused = [
        ("a second value", vec![heartbeat(7000)], vec![]),
        ("a second dedupe check", vec![dedupe_check(name, 3)], vec![]),
        ("a dedupe check of before", vec![dedupe_check(name, 1)], vec![]),
        ("an encryption key that ended", vec![encryption_key(name, [9; 32])], vec![]),
        ("another's encryption key", vec![encryption_key("DE-ZOLL", [8; 32])], vec![]),
        ("an end of what ended", vec![], vec![as_ended(heartbeat(5000).entry)]),
    ];
    let refused = refused.map(|(what, added, ended)| {
        let proposal = propose(&registry, added, ended);
        let error = registry.apply(&proposal, 6).expect_err("does not apply");
        let proposal = hex_of(proposal.to_proto().encode_to_vec());
        json!({ "what": what, "proposal": proposal, "code": error.code() })
    });
    json!({ "agency": agency, "steps": made, "refused_then": refused })
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
