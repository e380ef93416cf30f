//! A receipt from its parts, and everything that must make it refused.

use customhouse_proto::v1;
use prost::Message as _;

use super::*;
use crate::{
    agreement::Agreements,
    finality::{
        certificate::Certificate,
        vote::{Ballot, Vote, VoteKind},
    },
    keys::SigningKey,
    limits::RECEIPT_BYTES_MAX,
    merkle::Tree,
    record::{dedupe_key, tests::record},
    registry::genesis::{Genesis, tests::genesis},
    transaction::{VerifiedTransaction, outcome},
};

/// Transaction `number` of `count` records of agency 2, signed by its key in the test genesis.
fn transaction(genesis: &Genesis, number: u64, count: u64) -> VerifiedTransaction {
    signed_by(130, genesis, number, count)
}

fn signed_by(seed: u8, genesis: &Genesis, number: u64, count: u64) -> VerifiedTransaction {
    let agency = "A002".parse().expect("a code");
    let records: Vec<_> = (0..count)
        .map(|n| {
            let record = record("A002", number * 100 + n);
            let key = dedupe_key(&agency, "broker", &format!("{number}/{n}"));
            (ValidRecord::from_record(record).expect("valid"), key)
        })
        .collect();
    let key = SigningKey::from_seed(&[seed; 32]);
    let chain_id = genesis.chain_id();
    VerifiedTransaction::sign(&records, agency, 2_000_000_000_000, &chain_id, &key).expect("valid")
}

/// A certificate of validators 1 to 3 of the test genesis.
pub(crate) fn finalize(header: &Header, genesis: &Genesis, kind: VoteKind) -> Certificate {
    let block_hash = if kind == VoteKind::Nullify { Hash::ZERO } else { header.hash() };
    let ballot = Ballot { kind, height: header.height, view: 1, block_hash };
    let votes: Vec<_> = (1..=3)
        .map(|seed| Vote::sign(ballot, &genesis.chain_id(), &SigningKey::from_seed(&[seed; 32])))
        .collect();
    Certificate::from_votes(ballot, &votes, &genesis.validators()).expect("a quorum")
}

/// The receipt of record 1 of 3 of transaction 4 of 6, which are a block.
fn sample() -> (Genesis, v1::Receipt) {
    let genesis = genesis(4);
    let receipt = receipt_of(&genesis, |number| transaction(&genesis, number, 3));
    (genesis, receipt)
}

/// The same with the leaf hashes of its block.
pub(crate) fn log_sample() -> (Genesis, v1::Receipt, Vec<Hash>) {
    let (genesis, receipt) = sample();
    let leaves = (0..6).map(|number| transaction(&genesis, number, 3).leaf_hash()).collect();
    (genesis, receipt, leaves)
}

fn receipt_of(genesis: &Genesis, transaction: impl Fn(u64) -> VerifiedTransaction) -> v1::Receipt {
    let transactions: Vec<_> = (0..6).map(transaction).collect();
    let log = Tree::new(transactions.iter().map(VerifiedTransaction::leaf_hash).collect());
    let header = Header {
        height: 1,
        time_ms: genesis.time_ms + 1000,
        parent_hash: genesis.header().hash(),
        log_size: 6,
        log_root: log.root(),
        history_size: 6,
        proposer: *SigningKey::from_seed(&[1; 32]).public().as_bytes(),
        view: 1,
        ..genesis.header()
    };
    let outcomes: Vec<_> =
        transactions.iter().map(|t| vec![SlotOutcome::Applied; t.slots().len()]).collect();
    let slot_roots: Vec<_> = outcomes.iter().map(|slots| outcome::slot_root(slots)).collect();
    let outcomes_tree = outcome::block_tree(&slot_roots);
    let header = Header { outcomes_root: outcomes_tree.root(), ..header };
    let slots_tree = outcome::slot_tree(&outcomes[4]);
    let parts = transactions[4].parts();
    let registry = genesis.registry.prove_signer(&transactions[4].header().signer);
    let registry = registry.expect("registered");
    v1::Receipt {
        record: parts.records[1].to_vec(),
        slot: parts.slots[1].to_vec(),
        slot_index: 1,
        slot_path: merkle::path_bytes(&Tree::of(&parts.slots).inclusion_path(1).expect("a slot")),
        transaction_header: parts.header.to_vec(),
        transaction_signature: parts.signature.to_vec(),
        log_index: 4,
        log_path: merkle::path_bytes(&log.inclusion_path(4).expect("a leaf")),
        header: header.encode(),
        certificate: finalize(&header, genesis, VoteKind::Finalize).encode(),
        registry_entry: registry.entry,
        registry_index: registry.index,
        registry_count: registry.count,
        registry_path: merkle::path_bytes(&registry.path),
        agreements_root: Agreements::default().root().0.to_vec(),
        outcome_path: merkle::path_bytes(&slots_tree.inclusion_path(1).expect("a slot")),
        outcomes_path: merkle::path_bytes(&outcomes_tree.inclusion_path(4).expect("one of six")),
        steps: Vec::new(),
    }
}

#[test]
fn a_key_signs_for_its_own_agency_only() {
    let genesis = genesis(4);
    let receipt = receipt_of(&genesis, |number| signed_by(131, &genesis, number, 3));
    let refused = Verifier::new(&genesis).verify_receipt(&receipt.encode_to_vec());
    assert_eq!(refused, Err(ReceiptError::RegistryAgency));
}

/// On the log are repeats and refused slots too: a receipt of one cannot be made.
#[test]
fn a_slot_that_does_not_count_has_no_receipt() {
    let (genesis, genuine) = sample();
    let header = Header::decode(&genuine.header).expect("a header");
    for other in [
        SlotOutcome::Duplicate { log_index: 0, position: 0 },
        SlotOutcome::Refused(crate::authority::SlotRefused::Agency),
    ] {
        let mut outcomes = vec![vec![SlotOutcome::Applied; 3]; 6];
        outcomes[4][1] = other;
        let roots: Vec<_> = outcomes.iter().map(|slots| outcome::slot_root(slots)).collect();
        let (slots, block) = (outcome::slot_tree(&outcomes[4]), outcome::block_tree(&roots));
        let header = Header { outcomes_root: block.root(), ..header.clone() };
        let receipt = v1::Receipt {
            certificate: finalize(&header, &genesis, VoteKind::Finalize).encode(),
            header: header.encode(),
            outcome_path: merkle::path_bytes(&slots.inclusion_path(1).expect("a slot")),
            outcomes_path: merkle::path_bytes(&block.inclusion_path(4).expect("one of six")),
            ..genuine.clone()
        };
        let refused = Verifier::new(&genesis).verify_receipt(&receipt.encode_to_vec());
        assert_eq!(refused, Err(ReceiptError::Outcome(ProofError::Root)), "{other:?}");
    }
}

#[test]
fn a_receipt_is_checked_with_the_genesis_alone() {
    let (genesis, receipt) = sample();
    let verified =
        Verifier::new(&genesis).verify_receipt(&receipt.encode_to_vec()).expect("genuine");
    assert_eq!((verified.log_index, verified.slot_index), (4, 1));
    assert_eq!(verified.signer.agency.as_str(), "A002");
    assert_eq!(verified.finalized_by, [0, 1, 2]);
    assert_eq!(verified.record.map(|record| record.id), Some(verified.slot.record_id));
}

#[test]
fn a_receipt_may_speak_of_the_record_id_alone() {
    let (genesis, mut receipt) = sample();
    receipt.record.clear();
    let verified =
        Verifier::new(&genesis).verify_receipt(&receipt.encode_to_vec()).expect("genuine");
    assert_eq!(verified.record, None);
}

#[test]
fn every_flipped_bit_is_refused() {
    let (genesis, receipt) = sample();
    let verifier = Verifier::new(&genesis);
    let bytes = receipt.encode_to_vec();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(verifier.verify_receipt(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn every_other_length_is_refused() {
    let (genesis, receipt) = sample();
    let verifier = Verifier::new(&genesis);
    let bytes = receipt.encode_to_vec();
    for length in 0..bytes.len() {
        assert!(verifier.verify_receipt(&bytes[..length]).is_err(), "{length} bytes");
    }
    for extension in [&[0][..], &[0x78, 1], &bytes] {
        assert!(verifier.verify_receipt(&[&bytes, extension].concat()).is_err());
    }
    let large = vec![0; RECEIPT_BYTES_MAX + 1];
    assert_eq!(verifier.verify_receipt(&large), Err(ReceiptError::TooLarge(large.len())));
}

#[test]
fn another_genesis_refuses_it() {
    let (_, receipt) = sample();
    let refused = Verifier::new(&genesis(5)).verify_receipt(&receipt.encode_to_vec());
    assert_eq!(refused.expect_err("another chain").code(), "WRONG_CHAIN");
}

#[test]
fn each_false_part_has_its_name() {
    let (genesis, genuine) = sample();
    let verifier = Verifier::new(&genesis);
    let code = |change: &dyn Fn(&mut v1::Receipt)| {
        let mut receipt = genuine.clone();
        change(&mut receipt);
        verifier.verify_receipt(&receipt.encode_to_vec()).expect_err("refused").code()
    };
    let header = Header::decode(&genuine.header).expect("a header");
    let other = transaction(&genesis, 4, 3);
    let other_record = other.parts().records[0].to_vec();
    let agency_entry = genesis.registry.entries().next().expect("an entry").encode_to_vec();
    let other_key = SigningKey::from_seed(&[131; 32]).public();
    let other_entry = genesis.registry.prove_signer(&other_key).expect("registered").entry;
    type Change<'a> = &'a dyn Fn(&mut v1::Receipt);
    let cases: [(&str, Change<'_>); 22] = [
        ("HEADER_MALFORMED", &|r| r.header.truncate(3)),
        ("HEADER_VERSION", &|r| r.header = Header { version: 2, ..header.clone() }.encode()),
        ("HEADER_NOT_GENESIS", &|r| r.header = Header { height: 0, ..header.clone() }.encode()),
        ("VALIDATOR_STEP_MISSING", &|r| {
            let of_others = Header { validators_hash: Hash::ZERO, ..header.clone() };
            r.certificate = finalize(&of_others, &genesis, VoteKind::Finalize).encode();
            r.header = of_others.encode();
        }),
        ("CERTIFICATE_MALFORMED", &|r| r.certificate.clear()),
        ("CERTIFICATE_INVALID", &|r| {
            let last = r.certificate.len() - 1;
            r.certificate[last] ^= 1;
        }),
        ("CERTIFICATE_KIND", &|r| {
            r.certificate = finalize(&header, &genesis, VoteKind::Notarize).encode();
        }),
        ("CERTIFICATE_HEIGHT", &|r| {
            let above = Header { height: 2, ..header.clone() };
            r.certificate = finalize(&above, &genesis, VoteKind::Finalize).encode();
        }),
        ("CERTIFICATE_BLOCK_HASH", &|r| {
            r.header = Header { log_root: Hash::ZERO, ..header.clone() }.encode();
        }),
        ("BAD_SIGNATURE", &|r| r.transaction_signature = vec![0; 64]),
        ("RECEIPT_LOG_INDEX", &|r| r.log_index = 6),
        ("RECEIPT_LOG_PATH", &|r| r.log_index = 5),
        ("RECEIPT_SLOT_PATH", &|r| r.slot_index = 0),
        ("RECORD_ID", &|r| r.record.clone_from(&other_record)),
        ("REGISTRY_SIGNER", &|r| r.registry_entry.clone_from(&agency_entry)),
        ("REGISTRY_SIGNER", &|r| r.registry_entry.clone_from(&other_entry)),
        ("REGISTRY_PATH", &|r| r.registry_count += 1),
        ("REGISTRY_PATH", &|r| r.agreements_root = vec![0; 32]),
        ("REGISTRY_PATH", &|r| r.agreements_root.clear()),
        ("RECEIPT_OUTCOME", &|r| r.outcome_path.truncate(32)),
        ("RECEIPT_OUTCOME", &|r| r.outcomes_path.clear()),
        ("RECEIPT_PATH_MALFORMED", &|r| r.outcomes_path.truncate(33)),
    ];
    for (expected, change) in cases {
        assert_eq!(code(change), expected);
    }
}
