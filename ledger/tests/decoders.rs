//! No bytes from outside make a decoder panic, and what it accepts it gives back unchanged.

use std::{fs, path::PathBuf, sync::LazyLock};

use bytes::Bytes;
use customhouse_ledger::{
    canonical,
    certificate::Certificate,
    decision,
    evidence::Claim,
    genesis::Genesis,
    hash::Hash,
    header::Header,
    history::HistoryEntry,
    merkle::Frontier,
    record::ValidRecord,
    registry::{self, RegistryChange, RegistryProposal},
    tlog::{
        bundle,
        checkpoint::Checkpoint,
        note::{Note, VerifierKey},
        path::TilePath,
        proof::TlogProof,
    },
    transaction::{Slot, TransactionHeader, VerifiedTransaction},
    verifier::Verifier,
};
use proptest::prelude::*;
use prost::Message as _;
use serde_json::Value;

/// The published vectors: every text of more than a hash, as bytes where it is hexadecimal.
static CORPUS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/vectors");
    let mut corpus = Vec::new();
    for entry in fs::read_dir(folder).expect("docs/vectors") {
        let text = fs::read_to_string(entry.expect("an entry").path()).expect("readable");
        collect(&serde_json::from_str(&text).expect("JSON"), &mut corpus);
    }
    corpus.sort();
    corpus.dedup();
    corpus
});

static GENESIS: LazyLock<Genesis> = LazyLock::new(|| {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/vectors/genesis.json");
    let text = fs::read_to_string(path).expect("readable");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    Genesis::from_json(&value["json"].to_string()).expect("a genesis")
});

fn collect(value: &Value, corpus: &mut Vec<Vec<u8>>) {
    match value {
        Value::String(text) if text.len() > 64 => {
            corpus.push(hex::decode(text).unwrap_or_else(|_| text.clone().into_bytes()));
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, corpus)),
        Value::Object(map) => map.values().for_each(|value| collect(value, corpus)),
        _ => {}
    }
}

/// Gives the bytes to every decoder; returns how many accepted them.
fn decode_as_everything(bytes: &[u8], verifier: &Verifier, chain_id: &Hash) -> usize {
    let shared = Bytes::copy_from_slice(bytes);
    let round_trips = [
        Header::decode(bytes).ok().map(|value| value.encode()),
        Certificate::decode(bytes).ok().map(|value| value.encode()),
        TransactionHeader::decode(bytes).ok().map(|value| value.encode()),
        HistoryEntry::decode(bytes).ok().map(|value| value.encode()),
        Frontier::decode(bytes).ok().map(|value| value.encode()),
        Slot::decode(bytes).ok().map(|value| value.encode()),
        Claim::decode(bytes).ok().map(|value| value.encode()),
        Genesis::from_bytes(bytes).ok().map(|value| value.encode()),
        canonical::decode(bytes)
            .ok()
            .and_then(|value| RegistryProposal::from_proto(value).ok())
            .map(|value| value.to_proto().encode_to_vec()),
        canonical::decode(bytes)
            .ok()
            .and_then(|value| RegistryChange::from_proto(&value).ok())
            .map(|value| value.to_proto().encode_to_vec()),
        registry::decode_entry(bytes).ok().map(|value| value.encode_to_vec()),
        ValidRecord::from_bytes(shared.clone()).ok().map(|value| value.bytes.to_vec()),
        VerifiedTransaction::from_bytes(shared, chain_id)
            .ok()
            .map(|value| value.encoded().to_vec()),
    ];
    let text = str::from_utf8(bytes).unwrap_or_default();
    let texts = [
        Checkpoint::parse(text).ok().map(|value| value.text()),
        TlogProof::parse(text).ok().map(|value| value.text()),
        text.parse().ok().map(|value: TilePath| value.to_string()),
        text.parse().ok().map(|value: VerifierKey| value.to_string()),
        Note::parse(text).ok().map(|value| value.text().to_owned() + &text[value.text().len()..]),
    ];
    let bundle = bundle::decode(bytes).ok().map(|value| bundle::encode(&value).expect("decoded"));
    // Protobuf that need not be canonical: nothing hashes it.
    if let Ok(decisions) = decision::decode(bytes) {
        assert_eq!(decision::decode(&decision::encode(&decisions)), Ok(decisions));
    }
    let mut accepted = 0;
    let texts = texts.into_iter().flatten().map(String::into_bytes);
    for given_back in round_trips.into_iter().flatten().chain(texts).chain(bundle) {
        assert_eq!(given_back, bytes);
        accepted += 1;
    }
    accepted
        + usize::from(verifier.verify_receipt(bytes).is_ok())
        + usize::from(verifier.verify_history(bytes).is_ok())
        + usize::from(verifier.verify_consistency(bytes).is_ok())
        + usize::from(verifier.clone().follow_encoded(bytes).is_ok())
}

#[test]
fn the_corpus_holds_something_for_every_decoder() {
    let (verifier, chain_id) = (Verifier::new(&GENESIS), GENESIS.chain_id());
    let accepted =
        CORPUS.iter().filter(|bytes| decode_as_everything(bytes, &verifier, &chain_id) > 0).count();
    assert!(accepted >= 40, "{accepted} of {} accepted by some decoder", CORPUS.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bytes_are_refused_or_given_back(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        decode_as_everything(&bytes, &Verifier::new(&GENESIS), &GENESIS.chain_id());
    }

    #[test]
    fn damaged_vectors_are_refused_or_given_back(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..6),
    ) {
        let mut bytes = which.get(&CORPUS).clone();
        for (place, byte, kind) in changes {
            let place = place.index(bytes.len() + 1);
            match kind {
                0 => bytes.insert(place, byte),
                1 => bytes.truncate(place),
                2 if place < bytes.len() => drop(bytes.drain(place..(place + 3).min(bytes.len()))),
                _ => bytes.iter_mut().skip(place).take(1).for_each(|b| *b = byte),
            }
        }
        decode_as_everything(&bytes, &Verifier::new(&GENESIS), &GENESIS.chain_id());
    }
}
