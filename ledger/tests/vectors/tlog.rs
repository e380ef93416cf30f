//! The log for the tools of transparency logs: a node's checkpoint, the tiles, and a receipt as a
//! `tlog-proof`, as text.

use customhouse_ledger::{
    finality::header::Header,
    hash::Hash,
    merkle,
    proofs::verifier::Verifier,
    tlog::{
        self, bundle,
        checkpoint::Checkpoint,
        export::{self, CertifiedCheckpoint},
        note::{NoteSigner, VerifierKey},
        path::{TileContent, TilePath},
    },
};
use serde_json::{Value, json};

use super::{
    hex_of, receipts,
    sample::{Sample, key},
};

/// Seed of the node's checkpoint key.
const SEED: u8 = 193;

fn signer(sample: &Sample, seed: u8) -> NoteSigner {
    let genesis = &sample.genesis;
    NoteSigner::new(&tlog::origin(&genesis.network, &genesis.chain_id()), key(seed))
        .expect("a name")
}

fn paths() -> Value {
    let hashes = |level| TileContent::Hashes { level };
    let paths = [
        (hashes(0), 0, 5),
        (hashes(0), 0, 256),
        (hashes(2), 999, 256),
        (hashes(1), 1000, 17),
        (TileContent::Entries, 1_234_067, 112),
    ];
    let row = |(content, index, width)| {
        let level = match content {
            TileContent::Hashes { level } => Some(level),
            TileContent::Entries => None,
        };
        let path = TilePath { content, index, width }.to_string();
        json!({ "level": level, "index": index, "width": width, "path": path })
    };
    paths.map(row).to_vec().into()
}

/// The proof of the receipt in `receipt.json` in the checkpoint of its own block.
fn proof(sample: &Sample, note: String) -> export::CertifiedCheckpoint {
    let head = sample.head(1);
    let header = &head.block.header;
    let path = head.log.inclusion_path(2).expect("a leaf");
    let certificate = head.certificate.encode();
    CertifiedCheckpoint { header: header.encode(), certificate, note, path }
}

pub(crate) fn tlog(sample: &Sample) -> Value {
    let (node, stranger) = (signer(sample, SEED), signer(sample, SEED + 1));
    let checkpoint = Checkpoint::of(&sample.genesis.network, &sample.head(1).block.header);
    let note = |signer: &NoteSigner, checkpoint: &Checkpoint| {
        signer.sign(&checkpoint.text()).expect("a checkpoint's text")
    };
    let leaf = |transaction: &customhouse_ledger::transaction::VerifiedTransaction| {
        let parts = transaction.parts();
        [&parts.header[..], &parts.signature].concat()
    };
    let in_first = sample.head(1).block.leaves.len();
    let entries: Vec<_> = sample.transactions[..in_first].iter().map(leaf).collect();
    let receipt = receipts::message(sample, 2, 1);
    let genuine = proof(sample, note(&node, &checkpoint));
    let text = |checkpoint: CertifiedCheckpoint| export::tlog_proof(&receipt, checkpoint).text();
    let refused = |change: &str, code: &str, make: &dyn Fn(&mut CertifiedCheckpoint)| {
        let mut checkpoint = genuine.clone();
        make(&mut checkpoint);
        json!({ "change": change, "code": code, "proof": text(checkpoint) })
    };
    let other_root = Checkpoint { root: Hash([7; 32]), ..checkpoint.clone() };
    let later = Header {
        time_ms: sample.head(1).block.header.time_ms + 1,
        ..sample.head(1).block.header.clone()
    };
    let whole = text(genuine.clone());
    json!({
        "origin": checkpoint.origin,
        "verifier_key": node.verifier().to_string(),
        "checkpoint": note(&node, &checkpoint),
        "paths": paths(),
        "entries": hex_of(bundle::encode(&entries).expect("five entries")),
        "leaf": hex_of(&entries[2]),
        "proof": whole,
        "refused_proofs": [
            refused("signed by another key", "NOTE_SIGNATURE", &|c| {
                c.note = note(&stranger, &checkpoint);
            }),
            refused("a checkpoint of another log", "CHECKPOINT_NOT_CERTIFIED", &|c| {
                c.note = note(&node, &other_root);
            }),
            refused("a header that nobody certified", "CERTIFICATE_BLOCK_HASH", &|c| {
                c.header = later.encode();
            }),
            refused("a shorter path", "TLOG_PROOF_PATH", &|c| c.path.truncate(1)),
            json!({
                "change": "another index", "code": "TLOG_PROOF_INDEX",
                "proof": whole.replace("\nindex 2\n", "\nindex 3\n"),
            }),
            json!({
                "change": "no extra line", "code": "TLOG_PROOF_EXTRA",
                "proof": whole.lines().filter(|line| !line.starts_with("extra "))
                    .map(|line| format!("{line}\n")).collect::<String>(),
            }),
        ],
    })
}

/// The published proof verifies, and its false variants are refused with their codes.
pub(crate) fn check(vector: &Value, sample: &Sample) {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let verifier = Verifier::new(&sample.genesis);
    let origin = text(&vector["origin"]);
    let key: VerifierKey = text(&vector["verifier_key"]).parse().expect("a key");
    let verify = |proof: &Value| export::verify(&text(proof), &verifier, &origin, Some(&key));
    let verified = verify(&vector["proof"]).expect("genuine");
    assert_eq!(json!(hex::encode(verified.leaf)), vector["leaf"]);
    let entries = hex::decode(text(&vector["entries"])).expect("hexadecimal");
    let entries = bundle::decode(&entries).expect("a bundle");
    assert_eq!(merkle::root(&entries), sample.head(1).block.header.log_root);
    for variant in vector["refused_proofs"].as_array().expect("a list") {
        let refused = verify(&variant["proof"]).expect_err("false");
        assert_eq!(json!(refused.code()), variant["code"], "{}", variant["change"]);
    }
}
