//! The forms of transparency logs.

use customhouse_ledger::{
    canonical,
    tlog::{
        self, bundle,
        checkpoint::Checkpoint,
        export,
        note::{Note, VerifierKey},
        path::TilePath,
        proof::TlogProof,
    },
};
use customhouse_proto::v1;

use super::{GENESIS, VERIFIERS, given_back, proofs, proves_nothing_new, seeds};

/// A signed note: its text is what it begins with. Under the published key no other text is signed.
pub fn note(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let Ok(note) = Note::parse(text) else { return false };
    let signatures = text.strip_prefix(note.text()).expect("it begins with its text");
    assert!(signatures.starts_with("\n— ") && signatures.ends_with('\n'));
    proves_nothing_new("note", bytes);
    true
}

pub(super) fn by_note(bytes: &[u8]) -> Option<Vec<String>> {
    let note = Note::parse(str::from_utf8(bytes).ok()?).ok()?;
    note.verify(&published_key()).ok()?;
    Some(vec![note.text().to_owned()])
}

fn published_key() -> VerifierKey {
    let text = seeds::value("tlog.json", "/verifier_key").as_str().expect("text");
    text.parse().expect("a key")
}

/// A checkpoint's text.
pub fn checkpoint(bytes: &[u8]) -> bool {
    let parsed = str::from_utf8(bytes).ok().and_then(|text| Checkpoint::parse(text).ok());
    given_back(bytes, parsed.map(|checkpoint| checkpoint.text().into_bytes()))
}

/// The path of a tile or an entry bundle.
pub fn tile_path(bytes: &[u8]) -> bool {
    let parsed = str::from_utf8(bytes).ok().and_then(|text| text.parse::<TilePath>().ok());
    given_back(bytes, parsed.map(|path| path.to_string().into_bytes()))
}

/// The text of a key that verifies notes.
pub fn verifier_key(bytes: &[u8]) -> bool {
    let parsed = str::from_utf8(bytes).ok().and_then(|text| text.parse::<VerifierKey>().ok());
    given_back(bytes, parsed.map(|key| key.to_string().into_bytes()))
}

/// An entry bundle.
pub fn entry_bundle(bytes: &[u8]) -> bool {
    let entries = bundle::decode(bytes).ok();
    given_back(bytes, entries.map(|entries| bundle::encode(&entries).expect("decoded")))
}

/// A receipt as a `tlog-proof`.
pub fn tlog_proof(bytes: &[u8]) -> bool {
    proves_nothing_new("tlog_proof", bytes);
    let parsed = str::from_utf8(bytes).ok().and_then(|text| TlogProof::parse(text).ok());
    given_back(bytes, parsed.map(|proof| proof.text().into_bytes()))
}

pub(super) fn by_tlog_proof(bytes: &[u8]) -> Option<Vec<String>> {
    let text = str::from_utf8(bytes).ok()?;
    let origin = tlog::origin(&GENESIS.network, &GENESIS.chain_id());
    let key = published_key();
    // Without the key a proof says the same: the note's signature is for those who trust a node.
    let verified = VERIFIERS[0..1].iter().flat_map(|verifier| {
        [Some(&key), None].map(|key| export::verify(text, verifier, &origin, key).ok())
    });
    let says = |verified: export::VerifiedTlogProof| {
        let TlogProof { extra, path, .. } = TlogProof::parse(text).expect("verified");
        let extra: v1::TlogProofExtra =
            canonical::decode(&extra.expect("verified")).expect("verified");
        let receipt = proofs::receipt_says(&verified.receipt, &extra.receipt);
        let head = verified.header.hash();
        format!("{receipt}; {} is at {path:?} of {head}", hex::encode(verified.leaf))
    };
    let proven: Vec<_> = verified.flatten().map(says).collect();
    (!proven.is_empty()).then_some(proven)
}
