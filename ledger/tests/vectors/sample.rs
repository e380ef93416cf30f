//! A small chain from fixed seeds: a genesis of four agencies, and one block of five transactions.

use customhouse_ledger::{
    certificate::Certificate,
    genesis::Genesis,
    hash::Hash,
    header::{Block, Header},
    history::{HistoryEntry, HistoryTree},
    keys::SigningKey,
    merkle::Tree,
    record::{ValidRecord, dedupe_key},
    transaction::VerifiedTransaction,
    vote::{Ballot, Vote, VoteKind},
};
use customhouse_proto::v1::{self, record::Body};
use serde_json::json;

/// Client's key of a record.
pub(crate) const CLIENT_KEY: &str = "order 7";
/// Who lodges it.
pub(crate) const SUBMITTER: &str = "Broker & Sons";

pub(crate) struct Sample {
    pub(crate) genesis: Genesis,
    pub(crate) transactions: Vec<VerifiedTransaction>,
    pub(crate) log: Tree,
    pub(crate) history: HistoryTree,
    pub(crate) entries: Vec<HistoryEntry>,
    pub(crate) block: Block,
    pub(crate) certificate: Certificate,
}

/// A key whose 32 seed bytes are all `seed`. Validators have 1 to 4, peers 65 to 68, signing keys
/// 129 to 132.
pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

pub(crate) fn record(number: u64) -> ValidRecord {
    let declaration = v1::Declaration {
        regime: v1::declaration::Regime::Import as i32,
        reference: format!("LRN{number}"),
        mrn: format!("24NL{number:014}"),
        ..Default::default()
    };
    let record = v1::Record {
        salt: vec![number as u8; 16],
        agency: "NL-DOUANE".into(),
        submitter: SUBMITTER.into(),
        subjects: vec![v1::Subject {
            scheme: v1::subject::Scheme::Container as i32,
            id: "MSKU1234565".into(),
        }],
        body: Some(Body::Declaration(declaration)),
        ..Default::default()
    };
    ValidRecord::from_record(record).expect("valid")
}

fn genesis() -> Genesis {
    let names = ["BE-DOUANE", "DE-ZOLL", "NL-DOUANE", "XI-HMRC"];
    let agency = |(seed, name): (u8, &str)| {
        json!({
            "agency": name,
            "name": format!("Customs of {}", &name[..2]),
            "country": &name[..2],
            "validators": [key(seed).public()],
            "peers": [key(64 + seed).public()],
            "signing_keys": [{ "public_key": key(128 + seed).public(), "role": "node" }],
        })
    };
    let agencies: Vec<_> = (1..).zip(names).map(agency).collect();
    let genesis = json!({
        "network": "vectors",
        "time_ms": 1_700_000_000_000_u64,
        "history_bits": 8,
        "agencies": agencies,
        "parameters": { "heartbeat_ms": 60_000 },
    });
    Genesis::from_json(&genesis.to_string()).expect("valid")
}

/// Transaction `number` of `number + 1` records.
fn transaction(genesis: &Genesis, number: u64) -> VerifiedTransaction {
    let agency = "NL-DOUANE".parse().expect("a code");
    let records: Vec<_> = (number * 10..=number * 11)
        .map(|n| (record(n), dedupe_key(&agency, SUBMITTER, &format!("order {n}"))))
        .collect();
    let not_after_ms = 1_700_000_600_000;
    VerifiedTransaction::sign(&records, agency, not_after_ms, &genesis.chain_id(), &key(131))
        .expect("valid")
}

impl Sample {
    pub(crate) fn new() -> Self {
        let genesis = genesis();
        let transactions: Vec<_> = (0..5).map(|number| transaction(&genesis, number)).collect();
        let leaves: Vec<_> = transactions.iter().map(VerifiedTransaction::leaf_hash).collect();
        let log = Tree::new(leaves.clone());
        let mut entries = Vec::new();
        for (log_index, transaction) in (0..).zip(&transactions) {
            for (position, slot) in (0..).zip(transaction.slots()) {
                let entry = |key: &Hash| HistoryEntry { key: *key, log_index, position };
                entries.extend(slot.subject_keys.iter().map(entry));
            }
        }
        let mut history = HistoryTree::empty(genesis.history_bits);
        history.commit(&history.stage(&entries));
        let header = Header {
            height: 1,
            time_ms: 1_700_000_001_000,
            parent_hash: genesis.header().hash(),
            log_size: 5,
            log_root: log.root(),
            history_size: 5,
            history_root: history.root(),
            proposer: *key(2).public().as_bytes(),
            view: 1,
            ..genesis.header()
        };
        let certificate = certificate(&genesis, &header, VoteKind::Finalize);
        let block = Block { header, leaves };
        Self { genesis, transactions, log, history, entries, block, certificate }
    }
}

/// Of validators 1, 2 and 4.
pub(crate) fn certificate(genesis: &Genesis, header: &Header, kind: VoteKind) -> Certificate {
    let ballot = ballot(header, kind);
    let votes: Vec<_> =
        [1, 2, 4].iter().map(|seed| Vote::sign(ballot, &genesis.chain_id(), &key(*seed))).collect();
    Certificate::from_votes(ballot, &votes, &genesis.validators()).expect("a quorum")
}

pub(crate) fn ballot(header: &Header, kind: VoteKind) -> Ballot {
    let block_hash = if kind == VoteKind::Nullify { Hash::ZERO } else { header.hash() };
    Ballot { kind, height: header.height, view: 1, block_hash }
}
