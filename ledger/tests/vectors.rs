//! The test vectors of docs/FORMATS.md: computed from fixed seeds and compared with the published
//! files. After an intended change of a format, `CUSTOMHOUSE_WRITE_VECTORS=1 cargo test -p
//! customhouse-ledger --test vectors` writes the files anew.

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use customhouse_ledger::{hash::Hash, verifier::Verifier};
use serde_json::{Value, json};

#[path = "vectors/decisions.rs"]
mod decisions;
#[path = "vectors/sample.rs"]
mod sample;
#[path = "vectors/signed.rs"]
mod signed;
#[path = "vectors/trees.rs"]
mod trees;

use sample::Sample;

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
        ("genesis.json", signed::genesis(&sample)),
        ("record.json", signed::record(&sample)),
        ("transaction.json", signed::transaction(&sample)),
        ("header.json", signed::header(&sample)),
        ("votes.json", signed::votes(&sample)),
        ("misbehaviour.json", signed::misbehaviour(&sample)),
        ("registry_change.json", signed::registry_change(&sample)),
        ("receipt.json", signed::receipt(&sample)),
        ("history_proof.json", signed::history_proof(&sample)),
        ("decisions.json", decisions::fork(&sample)),
    ])
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
        let published = fs::read_to_string(&path).unwrap_or_default();
        let published: Option<Value> = serde_json::from_str(&published).ok();
        let equal = published.as_ref() == Some(value);
        assert!(equal, "docs/vectors/{name} is not what the code computes");
    }
    if !write {
        assert_eq!(names, computed.keys().copied().collect::<Vec<_>>());
    }
}

#[test]
fn the_published_decisions_name_whoever_signed_on_both_sides() {
    let text = fs::read_to_string(folder().join("decisions.json")).expect("a published vector");
    let vector: Value = serde_json::from_str(&text).expect("JSON");
    decisions::check(&vector, &Sample::new().genesis);
}

#[test]
fn the_published_receipt_and_history_proof_verify_and_their_false_variants_do_not() {
    let read = |name: &str| -> Value {
        let text = fs::read_to_string(folder().join(name)).expect("a published vector");
        serde_json::from_str(&text).expect("JSON")
    };
    let bytes = |value: &Value| hex::decode(value.as_str().expect("text")).expect("hexadecimal");
    let genesis =
        customhouse_ledger::genesis::Genesis::from_bytes(&bytes(&read("genesis.json")["protobuf"]));
    let verifier = Verifier::new(&genesis.expect("a genesis"));
    let receipt = read("receipt.json");
    let verified = verifier.verify_receipt(&bytes(&receipt["receipt"])).expect("genuine");
    assert_eq!(json!(verified.slot.record_id), receipt["record_id"]);
    let proof = read("history_proof.json");
    let verified = verifier.verify_history(&bytes(&proof["proof"])).expect("genuine");
    assert_eq!(json!(verified.subject_key), proof["subject_key"]);
    for variant in receipt["refused"].as_array().expect("a list") {
        let refused = verifier.verify_receipt(&bytes(&variant["receipt"])).expect_err("false");
        assert_eq!(json!(refused.code()), variant["code"], "{}", variant["change"]);
    }
    for variant in proof["refused"].as_array().expect("a list") {
        let refused = verifier.verify_history(&bytes(&variant["proof"])).expect_err("false");
        assert_eq!(json!(refused.code()), variant["code"], "{}", variant["change"]);
    }
}
