//! The test vectors of docs/FORMATS.md: computed from fixed seeds and compared with the published
//! files. After an intended change of a format, `CUSTOMHOUSE_WRITE_VECTORS=1 cargo test -p
//! customhouse-ledger --test vectors` writes the files anew.
//!
//! Files with the lists `valid` and `refused` have cases that any implementation must take or refuse,
//! and the code of each refusal. They are read back as published and given to the public decoders
//! and verifiers.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
};

use customhouse_ledger::{hash::Hash, proofs::verifier::Verifier, registry::genesis::Genesis};
use serde_json::{Value, json};

#[path = "vectors/agreements.rs"]
mod agreements;
#[path = "vectors/attachments.rs"]
mod attachments;
#[path = "vectors/authority.rs"]
mod authority;
#[path = "vectors/cases.rs"]
mod cases;
#[path = "vectors/characters.rs"]
mod characters;
#[path = "vectors/damage.rs"]
mod damage;
#[path = "vectors/decisions.rs"]
mod decisions;
#[path = "vectors/entries.rs"]
mod entries;
#[path = "vectors/forgery.rs"]
mod forgery;
#[path = "vectors/loads.rs"]
mod loads;
#[path = "vectors/members.rs"]
mod members;
#[path = "vectors/outcome.rs"]
mod outcome;
#[path = "vectors/outcomes.rs"]
mod outcomes;
#[path = "vectors/proof_json.rs"]
mod proof_json;
#[path = "vectors/proofs.rs"]
mod proofs;
#[path = "vectors/receipts.rs"]
mod receipts;
#[path = "vectors/records.rs"]
mod records;
#[path = "vectors/sample.rs"]
mod sample;
#[path = "vectors/sealed_faults.rs"]
mod sealed_faults;
#[path = "vectors/sealed_histories.rs"]
mod sealed_histories;
#[path = "vectors/signed.rs"]
mod signed;
#[path = "vectors/tlog.rs"]
mod tlog;
#[path = "vectors/transactions.rs"]
mod transactions;
#[path = "vectors/trees.rs"]
mod trees;
#[path = "vectors/vrf.rs"]
mod vrf;

use outcome::outcome;
use sample::Sample;

/// Fewest refused cases of a structure.
const REFUSED_MIN: usize = 4;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/vectors")
}

fn hex_of(bytes: impl AsRef<[u8]>) -> Value {
    hex::encode(bytes).into()
}

fn hashes(list: &[Hash]) -> Value {
    list.iter().map(Hash::to_string).collect::<Vec<_>>().into()
}

/// Every file's name and content.
fn computed() -> BTreeMap<&'static str, Value> {
    let sample = Sample::new();
    BTreeMap::from([
        ("tags.json", trees::tags()),
        ("merkle.json", trees::merkle()),
        ("history.json", trees::history()),
        ("keys.json", signed::keys()),
        ("vrf.json", vrf::vrf()),
        ("genesis.json", members::genesis(&sample)),
        ("record.json", records::record()),
        ("attachment.json", attachments::attachment()),
        ("unicode.json", characters::unicode()),
        ("authority.json", authority::tables()),
        ("outcomes.json", outcomes::outcomes()),
        ("transaction.json", transactions::transaction(&sample)),
        ("header.json", signed::header(&sample)),
        ("votes.json", signed::votes(&sample)),
        ("misbehaviour.json", signed::misbehaviour(&sample)),
        ("registry_change.json", members::registry_change(&sample)),
        ("agreement.json", agreements::agreement(&sample)),
        ("receipt.json", receipts::receipt(&sample)),
        ("history_proof.json", proofs::history_proof(&sample)),
        ("sealed_history_proof.json", sealed_histories::sealed_history_proof(&sample)),
        ("consistency_proof.json", proofs::consistency_proof(&sample)),
        ("validator_chain.json", proofs::validator_chain(&sample)),
        ("proof_json.json", proof_json::forms(&sample)),
        ("decisions.json", decisions::fork(&sample)),
        ("tlog.json", tlog::tlog(&sample)),
    ])
}

fn published(path: &Path) -> Option<Value> {
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

fn published_named(name: &str) -> Value {
    published(&folder().join(name)).unwrap_or_else(|| panic!("docs/vectors/{name}"))
}

fn published_genesis() -> Genesis {
    let bytes = published_named("genesis.json")["protobuf"].as_str().map(hex::decode);
    Genesis::from_bytes(&bytes.expect("text").expect("hexadecimal")).expect("a genesis")
}

/// The cases of one list of all files, with the file's name.
fn published_cases(list: &str) -> Vec<(String, Value)> {
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder()).expect("docs/vectors") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let file = published(&path).unwrap_or_else(|| panic!("docs/vectors/{name}"));
        let of_file = file.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
        cases.extend(of_file.into_iter().map(|case| (name.clone(), case)));
    }
    cases
}

#[test]
fn the_published_vectors_are_what_the_code_computes() {
    let write = env::var_os("CUSTOMHOUSE_WRITE_VECTORS").is_some();
    let mut names: Vec<_> = fs::read_dir(folder())
        .expect("docs/vectors")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let computed = computed();
    for (name, value) in &computed {
        let path = folder().join(name);
        if write {
            let text = serde_json::to_string_pretty(value).expect("JSON") + "\n";
            fs::write(&path, text).expect("written");
        }
        let equal = published(&path).as_ref() == Some(value);
        assert!(equal, "docs/vectors/{name} is not what the code computes");
    }
    if !write {
        assert_eq!(names, computed.keys().copied().collect::<Vec<_>>());
    }
}

#[test]
fn every_valid_case_is_taken_and_every_other_refused_with_its_code() {
    let genesis = published_genesis();
    let mut wrong = Vec::new();
    for (list, name) in [("valid", "name"), ("refused", "change")] {
        for (file, case) in published_cases(list) {
            let (structure, bytes, chain) = cases::read(&case);
            let found = outcome(&genesis, structure, &bytes, &chain).err();
            if json!(found) != case["code"] {
                let (what, code) = (&case[name], &case["code"]);
                wrong
                    .push(format!("{file}: {structure}, {what}: {found:?} where {code} is stated"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_structure_has_valid_cases_and_refused_ones() {
    let mut counts = BTreeMap::<String, (usize, usize)>::new();
    let structure = |case: &Value| case["structure"].as_str().expect("text").to_owned();
    for (_, case) in published_cases("valid") {
        counts.entry(structure(&case)).or_default().0 += 1;
    }
    for (_, case) in published_cases("refused") {
        counts.entry(structure(&case)).or_default().1 += 1;
    }
    for structure in documented_codes().keys() {
        let (valid, refused) = counts.get(structure).copied().unwrap_or_default();
        assert!(valid >= 1, "{structure}: no valid case");
        assert!(refused >= REFUSED_MIN, "{structure}: {refused} refused cases");
    }
    let documented: Vec<_> = documented_codes().into_keys().collect();
    assert_eq!(counts.into_keys().collect::<Vec<_>>(), documented);
}

/// The table of refusal codes in docs/FORMATS.md, by structure.
fn documented_codes() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(folder().join("../FORMATS.md")).expect("docs/FORMATS.md");
    let (_, section) = text.split_once("\n## Refusal codes\n").expect("the section");
    let section = section.split("\n## ").next().expect("what begins it");
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let structure = cells.next()?.trim_end_matches('`').to_owned();
        let codes = cells.next()?.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        Some((structure, codes))
    };
    section.lines().filter_map(row).collect()
}

#[test]
fn every_documented_code_has_a_case_and_every_case_a_documented_code() {
    let mut found = BTreeMap::<String, BTreeSet<String>>::new();
    for (_, case) in published_cases("refused") {
        let text = |field: &str| case[field].as_str().expect("text").to_owned();
        found.entry(text("structure")).or_default().insert(text("code"));
    }
    let documented = documented_codes();
    assert!(documented.len() > 10, "{documented:?}");
    for (structure, codes) in &documented {
        assert_eq!(found.get(structure), Some(codes), "{structure}");
    }
}

#[test]
fn the_documented_tables_of_who_may_say_what_are_those_of_the_code() {
    let text = fs::read_to_string(folder().join("../FORMATS.md")).expect("docs/FORMATS.md");
    let (_, section) = text.split_once("\n## Who may say what\n").expect("the section");
    authority::check_documented(section.split("\n## ").next().expect("what begins it"));
}

#[test]
fn the_published_proofs_of_outputs_prove_what_is_said_beside_them() {
    vrf::check(&published_named("vrf.json"));
}

#[test]
fn the_published_sealed_histories_cover_what_is_said_beside_them() {
    sealed_histories::check(&published_named("sealed_history_proof.json"), &published_genesis());
}

#[test]
fn the_published_decisions_name_whoever_signed_on_both_sides() {
    decisions::check(&published_named("decisions.json"), &Sample::new().genesis);
}

#[test]
fn the_published_proofs_say_what_is_said_beside_them() {
    let verifier = Verifier::new(&published_genesis());
    let bytes = |value: &Value| hex::decode(value.as_str().expect("text")).expect("hexadecimal");
    let receipt = published_named("receipt.json");
    let verified = verifier.verify_receipt(&bytes(&receipt["receipt"])).expect("genuine");
    assert_eq!(json!(verified.slot.record_id), receipt["record_id"]);
    let proof = published_named("history_proof.json");
    let verified = verifier.verify_history(&bytes(&proof["proof"])).expect("genuine");
    assert_eq!(json!(verified.subject_key), proof["subject_key"]);
    let proof = published_named("consistency_proof.json");
    let verified = verifier.verify_consistency(&bytes(&proof["proof"])).expect("genuine");
    assert_eq!(json!(verified.from.log_root), proof["from"]["log_root"]);
    assert_eq!(json!(verified.to.log_root), proof["to"]["log_root"]);
    let chain = published_named("validator_chain.json");
    let mut verifier = Verifier::new(&published_genesis());
    verifier.follow_encoded(&bytes(&chain["chain"])).expect("genuine");
    for (from, hash) in chain["validators_hashes"].as_object().expect("an object") {
        let height = from.trim_start_matches("from_").parse().expect("a height");
        assert_eq!(json!(verifier.validators_at(height).hash()), *hash, "{from}");
    }
}

#[test]
fn the_published_tlog_proof_verifies_and_its_false_variants_do_not() {
    let text = fs::read_to_string(folder().join("tlog.json")).expect("a published vector");
    let vector: Value = serde_json::from_str(&text).expect("JSON");
    tlog::check(&vector, &Sample::new());
}
