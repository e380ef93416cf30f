//! The genesis, registry entries, and changes of the registry.

use customhouse_ledger::{
    agreement::Agreements,
    finality::validators::Validator,
    hash::Hash,
    limits::GENESIS_BYTES_MAX,
    merkle::Tree,
    registry::{self, InSync, RegistryChange, genesis::Genesis},
};
use customhouse_proto::v1::{self, registry_entry::Entry};
use prost::Message as _;
use serde_json::{Value, json};

use super::{
    cases::{Cases, Given, with_cases},
    damage, entries, hex_of,
    sample::{Sample, exchange, key},
};

pub(crate) fn genesis(sample: &Sample) -> Value {
    let genesis = &sample.genesis;
    let entries: Vec<_> = genesis.registry.entries().map(|entry| entry.encode_to_vec()).collect();
    let tree = Tree::of(&entries);
    let validators = genesis.validators();
    let validator = |v: &Validator| json!({ "agency": v.agency, "public_key": v.key });
    let file = json!({
        "json": serde_json::from_str::<Value>(&genesis.to_json()).expect("JSON"),
        "protobuf": hex_of(genesis.encode()),
        "chain_id": genesis.chain_id(),
        "registry_entries": entries.iter().map(hex_of).collect::<Vec<_>>(),
        "registry_tree_root": tree.root(),
        "members_root": registry::members_root(tree.size(), &tree.root()),
        "agreements_root": Agreements::default().root(),
        "registry_root": registry::root(
            &registry::members_root(tree.size(), &tree.root()),
            &Agreements::default().root(),
        ),
        "validators": validators.as_slice().iter().map(validator).collect::<Vec<_>>(),
        "validators_hash": validators.hash(),
        "header": hex_of(genesis.header().encode()),
        "block_hash": genesis.header().hash(),
    });
    with_cases(file, [binaries(genesis), jsons(genesis), entry_cases(sample)])
}

/// A small one: two agencies.
fn small(genesis: &Genesis) -> v1::Genesis {
    let message = genesis.to_proto();
    let of_two = |entry: &v1::RegistryEntry| match &entry.entry {
        Some(Entry::Agency(e)) => e.agency.as_str() < "NL",
        Some(Entry::Validator(e)) => e.agency.as_str() < "NL",
        Some(Entry::SigningKey(e)) => e.agency.as_str() < "NL",
        Some(Entry::Peer(_) | Entry::EncryptionKey(_) | Entry::DedupeCheck(_)) | None => false,
        Some(Entry::Parameter(_)) => true,
    };
    let entries = message.entries.into_iter().filter(of_two).collect();
    v1::Genesis { entries, ..message }
}

fn binaries(genesis: &Genesis) -> Cases {
    let small = small(genesis);
    let bytes = small.encode_to_vec();
    let mut cases = Cases::new("genesis");
    cases.valid("of four agencies", genesis.encode());
    cases.valid("of two agencies", bytes.clone());
    cases.refused("GENESIS_TOO_LARGE", "too many bytes", Given::Zeros(GENESIS_BYTES_MAX + 1));
    damage::encoding(&mut cases, &bytes, "GENESIS");
    let mut refused = |code: &str, change: &str, make: &dyn Fn(&mut v1::Genesis)| {
        let mut message = small.clone();
        make(&mut message);
        cases.refused(code, change, message.encode_to_vec());
    };
    refused("GENESIS_NETWORK", "no network", &|g| g.network.clear());
    refused("GENESIS_NETWORK", "a network in upper case", &|g| g.network.make_ascii_uppercase());
    refused("GENESIS_NETWORK", "a network of 65 letters", &|g| g.network = "x".repeat(65));
    refused("GENESIS_HISTORY_BITS", "7 bits of history", &|g| g.history_bits = 7);
    refused("GENESIS_HISTORY_BITS", "25 bits of history", &|g| g.history_bits = 25);
    refused("GENESIS_PERIOD", "an entry that begins later", &|g| g.entries[0].from_height = 1);
    refused("GENESIS_PERIOD", "an entry that ends", &|g| g.entries[0].end_height = 1);
    refused("GENESIS_ORDER", "entries that are not sorted", &|g| g.entries.swap(0, 1));
    refused("REGISTRY_DUPLICATE", "an entry twice", &|g| g.entries.insert(0, g.entries[0].clone()));
    refused("REGISTRY_UNKNOWN_AGENCY", "keys of no agency", &|g| drop(g.entries.remove(0)));
    refused("REGISTRY_VALIDATORS", "no validator", &|g| {
        g.entries.retain(|e| !matches!(e.entry, Some(Entry::Validator(_))));
    });
    refused("REGISTRY_ENTRY_KIND", "an entry of no kind", &|g| g.entries[0].entry = None);
    let validator = |entry: &mut v1::RegistryEntry, change: &dyn Fn(&mut v1::ValidatorEntry)| {
        let Some(Entry::Validator(entry)) = &mut entry.entry else { panic!("a validator") };
        change(entry);
    };
    // Two agencies, then two validators.
    refused("REGISTRY_VALIDATORS", "two validators of an agency", &|g| {
        validator(&mut g.entries[3], &|v| v.agency = "BE-DOUANE".into());
    });
    refused("REGISTRY_SHARED_KEY", "a key of two agencies", &|g| {
        validator(&mut g.entries[3], &|v| v.public_key = key(1).public().as_bytes().to_vec());
    });
    refused("REGISTRY_ENTRY_KEY", "a validator of low order", &|g| {
        validator(&mut g.entries[2], &|v| v.public_key.fill(0));
    });
    let parameter = |g: &mut v1::Genesis, name: &str, value| {
        let parameter = v1::ParameterEntry { name: name.into(), value };
        g.entries.last_mut().expect("one").entry = Some(Entry::Parameter(parameter));
    };
    refused("REGISTRY_PARAMETER", "an unknown parameter", &|g| parameter(g, "heartbeat", 60_000));
    refused("REGISTRY_PARAMETER", "a parameter out of range", &|g| {
        parameter(g, "heartbeat_ms", 999)
    });
    refused("REGISTRY_DUPLICATE", "two values of a parameter", &|g| {
        g.entries.push(g.entries[g.entries.len() - 1].clone());
        parameter(g, "heartbeat_ms", 1000);
    });
    refused("REGISTRY_TWO_OPEN", "two dedupe checks of an agency", &|g| {
        g.entries.extend([1, 2].map(|check| entries::dedupe_check("BE-DOUANE", check)));
    });
    let mut other = small.clone();
    parameter(&mut other, "open_kinds", entries::OPEN_KINDS);
    cases.valid("open kinds", other.encode_to_vec());
    cases
}

fn jsons(genesis: &Genesis) -> Cases {
    let small = Genesis::from_bytes(&small(genesis).encode_to_vec()).expect("valid");
    let text = small.to_json();
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let mut cases = Cases::new("genesis_json");
    cases.valid("of two agencies", text.clone());
    let mut reversed = json.clone();
    reversed["agencies"].as_array_mut().expect("a list").reverse();
    cases.valid("agencies in another order", reversed.to_string());
    let mut refused = |code: &str, change: &str, make: &dyn Fn(&mut Value)| {
        let mut value = json.clone();
        make(&mut value);
        cases.refused(code, change, value.to_string());
    };
    refused("GENESIS_JSON", "an unknown field", &|g| g["comment"] = "x".into());
    refused("GENESIS_JSON", "a field missing", &|g| {
        g.as_object_mut().expect("an object").remove("time_ms");
    });
    refused("GENESIS_JSON", "an agency code in lower case", &|g| {
        g["agencies"][0]["agency"] = "be-douane".into();
    });
    refused("GENESIS_JSON", "a key cut short", &|g| {
        g["agencies"][0]["validators"][0] = "00".repeat(31).into();
    });
    refused("GENESIS_JSON", "a key of low order", &|g| {
        g["agencies"][0]["validators"][0] = "00".repeat(32).into();
    });
    refused("GENESIS_JSON", "an unknown role", &|g| {
        g["agencies"][0]["signing_keys"][0]["role"] = "admin".into();
    });
    refused("GENESIS_JSON", "a role of before there were roles", &|g| {
        g["agencies"][0]["signing_keys"][0]["role"] = "submitter".into();
    });
    refused("REGISTRY_ENTRY_SUBMITTER", "an office's key that is bound to a label only", &|g| {
        g["agencies"][0]["signing_keys"][0]["role"] = "office".into();
        g["agencies"][0]["signing_keys"][0]["label"] = "Customs HQ".into();
    });
    refused("GENESIS_JSON", "a number with a fraction", &|g| g["history_bits"] = json!(8.5));
    refused("GENESIS_JSON", "a negative number", &|g| g["time_ms"] = (-1).into());
    refused("GENESIS_HISTORY_BITS", "7 bits of history", &|g| g["history_bits"] = 7.into());
    refused("REGISTRY_ENTRY_NAME", "a name of 129 bytes", &|g| {
        g["agencies"][0]["name"] = "x".repeat(129).into();
    });
    refused("REGISTRY_DUPLICATE", "an agency twice", &|g| {
        let again = json!({ "agency": "DE-ZOLL", "name": "Zoll", "country": "DE" });
        g["agencies"].as_array_mut().expect("a list").push(again);
    });
    refused("REGISTRY_PARAMETER", "an unknown parameter", &|g| {
        g["parameters"]["blocks"] = 1.into()
    });
    refused("GENESIS_JSON", "an encryption key of low order", &|g| {
        g["agencies"][0]["encryption_keys"] = json!(["00".repeat(32)]);
    });
    refused("GENESIS_JSON", "a dedupe check cut short", &|g| {
        g["agencies"][0]["dedupe_check"] = "07".repeat(31).into();
    });
    refused("GENESIS_JSON", "a dedupe check that is null", &|g| {
        g["agencies"][0]["dedupe_check"] = Value::Null;
    });
    refused("REGISTRY_SHARED_KEY", "an encryption key of two agencies", &|g| {
        for agency in 0..2 {
            g["agencies"][agency]["encryption_keys"] = json!(["09".repeat(32)]);
        }
    });
    refused("REGISTRY_DUPLICATE", "an encryption key twice", &|g| {
        g["agencies"][0]["encryption_keys"] = json!(["09".repeat(32), "09".repeat(32)]);
    });
    let mut sealing = json.clone();
    sealing["agencies"][0]["encryption_keys"] = json!(["09".repeat(32), "08".repeat(32)]);
    sealing["agencies"][0]["dedupe_check"] = "07".repeat(32).into();
    cases.valid("encryption keys and a dedupe check", sealing.to_string());
    cases.refused("GENESIS_JSON", "a field twice", text.replacen('{', "{\"history_bits\": 8,", 1));
    let (once, twice) = ("\"parameters\": {", "\"parameters\": {\"heartbeat_ms\": 60000,");
    assert!(text.contains(once), "{text}");
    cases.refused("GENESIS_JSON", "a parameter twice", text.replacen(once, twice, 1));
    cases.refused("GENESIS_JSON", "cut short", text[..text.len() - 1].to_owned());
    cases
}

fn entry_cases(sample: &Sample) -> Cases {
    let mut cases = Cases::new("registry_entry");
    let entries: Vec<_> = sample.head(4).registry.entries().cloned().collect();
    for kind in ["agency", "validator", "peer", "signing key", "parameter"] {
        let of_kind = entries.iter().find(|entry| kind_of(entry) == kind).expect("one");
        cases.valid(kind, of_kind.encode_to_vec());
    }
    let ended = entries.iter().find(|entry| entry.end_height > 0).expect("an old key");
    cases.valid("a validator that ended", ended.encode_to_vec());
    let of_kind = |kind: &str| entries.iter().find(|e| kind_of(e) == kind).expect("one").clone();
    let with = |entry| v1::RegistryEntry { entry: Some(entry), ..Default::default() };
    let agency = |name: &str, country: &str, code: &str| {
        let (name, country, agency) = (name.into(), country.into(), code.into());
        with(Entry::Agency(v1::AgencyEntry { agency, name, country })).encode_to_vec()
    };
    let Some(Entry::SigningKey(signing)) = of_kind("signing key").entry else { panic!("one") };
    let key_of = |change: &dyn Fn(&mut v1::SigningKeyEntry)| {
        let mut signing = signing.clone();
        change(&mut signing);
        with(Entry::SigningKey(signing)).encode_to_vec()
    };
    let genuine = ended.encode_to_vec();
    let long = "x".repeat(129);
    let mut refused = |code: &str, change: &str, bytes: Vec<u8>| {
        cases.refused(code, change, bytes);
    };
    let cut = genuine[..genuine.len() - 1].to_vec();
    refused("REGISTRY_ENTRY_MALFORMED", "the last byte missing", cut);
    let more = [&genuine[..], &[0x98, 0x06, 1]].concat();
    refused("REGISTRY_ENTRY_NOT_CANONICAL", "an unknown field", more);
    let zero = [&[0x10, 0][..], &of_kind("agency").encode_to_vec()].concat();
    refused("REGISTRY_ENTRY_NOT_CANONICAL", "a default spelled out", zero);
    refused("REGISTRY_ENTRY_KIND", "of no kind", vec![]);
    refused("REGISTRY_ENTRY_AGENCY", "an agency code of one letter", agency("N", "NL", "N"));
    refused("REGISTRY_ENTRY_AGENCY", "a key of no agency", key_of(&|k| k.agency.clear()));
    refused("REGISTRY_ENTRY_NAME", "a name of 129 bytes", agency(&long, "NL", "NL-DOUANE"));
    refused("REGISTRY_ENTRY_NAME", "a country of 129 bytes", agency("Douane", &long, "NL-DOUANE"));
    refused("REGISTRY_ENTRY_NAME", "a label of 129 bytes", key_of(&|k| k.label = "x".repeat(129)));
    for (change, name) in [
        ("a name with a line end", "Dou\nane"),
        ("a name that turns what follows", "Dou\u{2066}ane"),
        ("a name that is not in NFC", "Ko\u{308}ln"),
        ("a name with two spaces", "De  Douane"),
    ] {
        refused("REGISTRY_ENTRY_NAME", change, agency(name, "NL", "NL-DOUANE"));
    }
    refused("REGISTRY_ENTRY_NAME", "a label with what is not seen", {
        key_of(&|k| k.label = "bro\u{feff}ker".into())
    });
    refused("REGISTRY_ENTRY_KEY", "a key of 31 bytes", key_of(&|k| k.public_key.truncate(31)));
    refused("REGISTRY_ENTRY_KEY", "a key of low order", key_of(&|k| k.public_key.fill(0)));
    refused(
        "REGISTRY_ENTRY_KEY",
        "no point of the curve",
        key_of(&|k| {
            k.public_key.fill(0);
            k.public_key[0] = 2;
        }),
    );
    refused("REGISTRY_ENTRY_ROLE", "no role", key_of(&|k| k.role = 0));
    refused("REGISTRY_ENTRY_ROLE", "an unknown role", key_of(&|k| k.role = 7));
    let own = |change: &dyn Fn(&mut v1::SigningKeyEntry)| {
        key_of(&|k| {
            (k.role, k.submitter) = (v1::Role::Broker as i32, "Broker & Sons".into());
            change(k);
        })
    };
    refused("REGISTRY_ENTRY_SUBMITTER", "a node's key with a name", {
        key_of(&|k| k.submitter = "x".into())
    });
    refused("REGISTRY_ENTRY_SUBMITTER", "a node's key with kinds", key_of(&|k| k.kinds = 1 << 16));
    refused("REGISTRY_ENTRY_SUBMITTER", "a broker's key without a name", {
        own(&|k| k.submitter.clear())
    });
    refused("REGISTRY_ENTRY_SUBMITTER", "a submitter of 65 bytes", {
        own(&|k| k.submitter = "x".repeat(65))
    });
    refused("REGISTRY_ENTRY_NAME", "a submitter with a line end", {
        own(&|k| k.submitter = "bro\nker".into())
    });
    refused("REGISTRY_ENTRY_KINDS", "a broker's key for statuses", own(&|k| k.kinds = 1 << 17));
    refused("REGISTRY_ENTRY_KINDS", "a key for no kind that there is", own(&|k| k.kinds = 1));
    cases.valid("a broker's key", own(&|_| {}));
    cases.valid("a broker's key for two kinds", own(&|k| k.kinds = 1 << 16 | 1 << 19));
    let mut refused = |code: &str, change: &str, bytes: Vec<u8>| {
        cases.refused(code, change, bytes);
    };
    let period = v1::RegistryEntry { from_height: 5, end_height: 5, ..of_kind("peer") };
    refused("REGISTRY_ENTRY_PERIOD", "an end that is no later", period.encode_to_vec());
    entries::values(&mut cases);
    entries::sealed(&mut cases);
    cases
}

fn kind_of(entry: &v1::RegistryEntry) -> &'static str {
    match &entry.entry {
        Some(Entry::Agency(_)) => "agency",
        Some(Entry::Validator(_)) => "validator",
        Some(Entry::Peer(_)) => "peer",
        Some(Entry::SigningKey(_)) => "signing key",
        Some(Entry::Parameter(_)) => "parameter",
        Some(Entry::EncryptionKey(_)) => "encryption key",
        Some(Entry::DedupeCheck(_)) => "dedupe check",
        None => "none",
    }
}

/// BE-DOUANE exchanges its validator's key, and three approve.
pub(crate) fn registry_change(sample: &Sample) -> Value {
    let (genesis, chain_id) = (&sample.genesis, sample.genesis.chain_id());
    let proposal = exchange(&genesis.registry, genesis.time_ms + 86_400_000, 1, 5);
    let agency = proposal.validator_added().expect("one").agency;
    let approvals = [1, 2, 3].map(|seed| proposal.approve(&chain_id, &key(seed))).to_vec();
    let genesis_hash = genesis.header().hash();
    let in_sync = InSync::sign(&chain_id, &agency, 0, genesis_hash, &key(5));
    let change = RegistryChange::new(proposal.clone(), approvals, Some(in_sync)).expect("valid");
    change.verify(&chain_id).expect("signed");
    let after = genesis.registry.apply(&proposal, 1).expect("applies");
    let file = json!({
        "chain_id": chain_id,
        "proposal": hex_of(proposal.to_proto().encode_to_vec()),
        "proposal_hash": proposal.hash(),
        "change": hex_of(change.to_proto().encode_to_vec()),
        "in_sync_agency": agency,
        "in_sync_block": genesis_hash,
        "committed_at_height": 1,
        "registry_root_after": after.root_without_agreements(),
        "validators_hash_after": after.validators_at(2).expect("a set").hash(),
        "applied": entries::applied(&genesis.registry),
    });
    with_cases(file, [change_cases(&change.to_proto(), &chain_id)])
}

fn change_cases(genuine: &v1::RegistryChange, chain_id: &Hash) -> Cases {
    let mut cases = Cases::new("registry_change");
    let bytes = genuine.encode_to_vec();
    cases.valid("an exchange of a validator's key", bytes.clone());
    let agency = "SE-TULL";
    let own = v1::AgencyEntry { agency: agency.into(), name: "Tull".into(), country: "SE".into() };
    let peer =
        v1::PeerEntry { agency: agency.into(), public_key: key(70).public().as_bytes().to_vec() };
    let open = |entry| v1::RegistryEntry { entry: Some(entry), ..Default::default() };
    let added = vec![open(Entry::Agency(own)), open(Entry::Peer(peer))];
    let proposal = v1::RegistryProposal { added, ended: vec![], ..proposal_of(genuine) };
    cases.valid("a new agency", approved(proposal.clone(), chain_id).encode_to_vec());
    let no_signature = v1::RegistryChange { proposal: Some(proposal.clone()), ..genuine.clone() };
    cases.refused(
        "CHANGE_IN_SYNC_PRESENCE",
        "in_sync without a validator",
        no_signature.encode_to_vec(),
    );
    cases.refused("MALFORMED", "the last byte missing", &bytes[..bytes.len() - 1]);
    cases.refused("NOT_CANONICAL", "an unknown field", [&bytes[..], &[0x98, 0x06, 1]].concat());
    of_proposal(&mut cases, genuine);
    let mut refused = |code: &str, change: &str, make: &dyn Fn(&mut v1::RegistryChange)| {
        let mut changed = genuine.clone();
        make(&mut changed);
        cases.refused(code, change, changed.encode_to_vec());
    };
    refused("CHANGE_FIELD", "no proposal", &|c| c.proposal = None);
    refused("CHANGE_APPROVAL_COUNT", "no approval", &|c| c.approvals.clear());
    refused("CHANGE_ORDER", "approvals that are not sorted", &|c| c.approvals.reverse());
    refused("CHANGE_ORDER", "an approval twice", &|c| c.approvals[1] = c.approvals[0].clone());
    refused("CHANGE_APPROVAL_KEY", "an approval of low order", &|c| {
        c.approvals[0].validator_key.fill(0);
    });
    refused("CHANGE_APPROVAL_KEY", "an approval cut short", &|c| {
        c.approvals[0].signature.truncate(63);
    });
    refused("CHANGE_APPROVAL", "a damaged approval", &|c| c.approvals[2].signature[9] ^= 1);
    refused("CHANGE_APPROVAL", "approvals of another proposal", &|c| {
        c.proposal.as_mut().expect("one").not_after_ms += 1;
    });
    refused("CHANGE_IN_SYNC_PRESENCE", "a validator without in_sync", &|c| c.in_sync = None);
    let in_sync = |c: &mut v1::RegistryChange, change: &dyn Fn(&mut v1::InSync)| {
        change(c.in_sync.as_mut().expect("one"));
    };
    refused("CHANGE_FIELD", "a block hash of 31 bytes", &|c| {
        in_sync(c, &|s| s.block_hash.truncate(31));
    });
    refused("CHANGE_FIELD", "an in_sync without a signature", &|c| {
        in_sync(c, &|s| s.signature.clear());
    });
    refused("CHANGE_IN_SYNC", "in sync at another height", &|c| in_sync(c, &|s| s.height = 1));
    cases
}

fn proposal_of(change: &v1::RegistryChange) -> v1::RegistryProposal {
    change.proposal.clone().expect("one")
}

/// The change, approved by three validators.
fn approved(proposal: v1::RegistryProposal, chain_id: &Hash) -> v1::RegistryChange {
    let proposal = registry::RegistryProposal::from_proto(proposal).expect("valid");
    let approvals = [1, 2, 3].map(|seed| proposal.approve(chain_id, &key(seed))).to_vec();
    RegistryChange::new(proposal, approvals, None).expect("valid").to_proto()
}

fn of_proposal(cases: &mut Cases, genuine: &v1::RegistryChange) {
    let mut refused = |code: &str, change: &str, make: &dyn Fn(&mut v1::RegistryProposal)| {
        let mut changed = genuine.clone();
        make(changed.proposal.as_mut().expect("one"));
        cases.refused(code, change, changed.encode_to_vec());
    };
    let peer = |agency: &str, seed| {
        let public_key = key(seed).public().as_bytes().to_vec();
        let entry = Entry::Peer(v1::PeerEntry { agency: agency.into(), public_key });
        v1::RegistryEntry { entry: Some(entry), ..Default::default() }
    };
    let heartbeat = |value| entries::parameter("heartbeat_ms", value);
    refused("CHANGE_FIELD", "a members root of 31 bytes", &|p| p.members_root.truncate(31));
    refused("CHANGE_EMPTY", "nothing added or ended", &|p| {
        p.added.clear();
        p.ended.clear();
    });
    refused("CHANGE_TOO_MANY", "65 entries", &|p| {
        p.added = (0..64).map(|_| peer("NL-DOUANE", 71)).collect();
    });
    refused("CHANGE_REASON", "a reason of 257 bytes", &|p| p.reason = "x".repeat(257));
    refused("REGISTRY_ENTRY_AGENCY", "an entry that is not well-formed", &|p| {
        p.added.push(peer("nl", 71));
    });
    refused("REGISTRY_PARAMETER", "a parameter out of range", &|p| p.added.push(heartbeat(999)));
    refused("CHANGE_ORDER", "two values of a parameter", &|p| {
        p.added.extend([heartbeat(1000), heartbeat(2000)]);
    });
    refused("CHANGE_ORDER", "an entry twice", &|p| p.added.push(p.added[0].clone()));
    refused("CHANGE_HEIGHTS", "an added entry with a height", &|p| p.added[0].from_height = 2);
    refused("CHANGE_ENDED", "an ended entry that ended", &|p| p.ended[0].end_height = 2);
    refused("CHANGE_VOTES", "a vote moved to another agency", &|p| {
        let Some(Entry::Validator(validator)) = &mut p.added[0].entry else { panic!("one") };
        validator.agency = "DE-ZOLL".into();
    });
}
