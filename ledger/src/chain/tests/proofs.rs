//! Every proof that the chain makes is accepted by a verifier that has the genesis alone.

use prost::Message as _;

use super::*;
use crate::{
    merkle::{self, verify_consistency},
    proofs::verifier::Verifier,
};

/// 60 blocks of 0 to 10 transactions, in all more than a tile.
fn grown(fixture: &Fixture) -> (Chain, Vec<Arc<VerifiedTransaction>>) {
    let mut chain = fixture.open();
    let mut all = Vec::new();
    for block in 0..60u64 {
        let transactions: Vec<_> = (0..block % 11)
            .map(|i| {
                let first = block * 100 + i * 3;
                fixture.transaction((i % 4 + 1) as u8, first..first + 1 + i % 3)
            })
            .collect();
        commit(&mut chain, &transactions);
        all.extend(transactions);
    }
    assert!(all.len() > 256, "{} transactions", all.len());
    (chain, all)
}

#[test]
fn every_receipt_verifies_offline() {
    let fixture = Fixture::new();
    let (chain, transactions) = grown(&fixture);
    let (reader, verifier) = (chain.reader(), Verifier::new(&fixture.genesis));
    for (log_index, transaction) in (0..).zip(&transactions) {
        for (position, slot) in (0..).zip(transaction.slots()) {
            let receipt = reader.receipt(&slot.record_id).expect("readable").expect("committed");
            let verified = verifier.verify_receipt(&receipt.encode_to_vec()).expect("genuine");
            assert_eq!((verified.log_index, verified.slot_index), (log_index, position));
            assert_eq!(verified.slot, *slot);
            assert_eq!(verified.transaction, *transaction.header());
        }
    }
    assert_eq!(reader.receipt(&Hash([9; 32])), Ok(None));
}

#[test]
fn every_history_proof_verifies_offline_and_is_complete() {
    let fixture = Fixture::new();
    let (mut chain, transactions) = grown(&fixture);
    let mut model = Model::new(&fixture.genesis);
    model.follow(&chain.reader());
    let verifier = Verifier::new(&fixture.genesis);
    let reader = chain.reader();
    let keys = transactions.iter().flat_map(|t| t.slots()[0].subject_keys.clone());
    for key in keys.chain([Hash([9; 32]), Hash::ZERO, Hash([0xff; 32])]) {
        let proof = reader.history_proof(&key).expect("readable");
        let verified = verifier.verify_history(&proof.encode_to_vec()).expect("genuine");
        let expected: Vec<_> =
            model.entries.iter().filter(|entry| entry.key == key).copied().collect();
        assert_eq!(verified.entries, expected);
        assert_eq!(reader.history(&key, None, 1000), Ok(expected));
        assert_eq!(verified.header, chain.tip().header);
    }
    // A proof that was made before a commit stays a proof of what it says.
    let before = reader.history_proof(&Hash::ZERO).expect("readable").encode_to_vec();
    commit(&mut chain, &[fixture.transaction(1, 9000..9001)]);
    assert!(verifier.verify_history(&before).is_ok());
}

#[test]
fn a_chain_without_blocks_proves_absence() {
    let fixture = Fixture::new();
    let chain = fixture.open();
    let proof = chain.reader().history_proof(&Hash([1; 32])).expect("readable");
    let verified = Verifier::new(&fixture.genesis).verify_history(&proof.encode_to_vec());
    assert_eq!(verified.expect("genuine").entries, []);
}

#[test]
fn any_two_sizes_of_the_log_are_consistent() {
    let fixture = Fixture::new();
    let (chain, transactions) = grown(&fixture);
    let reader = chain.reader();
    let root =
        |size: usize| merkle::root_of_hashes(transactions[..size].iter().map(|t| t.leaf_hash()));
    let last = transactions.len();
    for (from, to) in [(1, last), (255, 256), (256, 257), (3, 200), (200, last), (last, last)] {
        let path = reader.consistency(from as u64, to as u64).expect("in range");
        let outcome = verify_consistency(from as u64, to as u64, &root(from), &root(to), &path);
        assert_eq!(outcome, Ok(()), "{from} to {to}");
    }
    for (from, to) in [(0, 1), (2, 1), (1, last as u64 + 1)] {
        assert_eq!(reader.consistency(from, to), Err(StoreError::OutOfRange));
    }
}

#[test]
fn any_two_heads_are_consistent() {
    let fixture = Fixture::new();
    let (chain, _) = grown(&fixture);
    let (reader, verifier) = (chain.reader(), Verifier::new(&fixture.genesis));
    let tip = chain.tip().header.height;
    for (from, to) in (0..=tip).flat_map(|to| (0..=to).map(move |from| (from, to))) {
        let proof = reader.consistency_proof(from, to).expect("in range");
        let verified = verifier.verify_consistency(&proof.encode_to_vec()).expect("genuine");
        assert_eq!((verified.from.height, verified.to.height), (from, to));
    }
    for (from, to) in [(1, 0), (0, tip + 1), (tip + 1, tip + 1)] {
        assert_eq!(reader.consistency_proof(from, to), Err(StoreError::OutOfRange));
    }
}
