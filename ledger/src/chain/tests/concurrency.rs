//! Readers beside the writer.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use prost::Message as _;

use super::*;
use crate::proofs::verifier::Verifier;

/// Reads what belongs to one tip and checks that it does.
fn read_one_tip(reader: &ChainReader, verifier: &Verifier) {
    let tip = reader.tip();
    let log_size = tip.header.log_size;
    let Some(last) = log_size.checked_sub(1) else { return };
    let transaction = reader.transaction_at(last).expect("readable").expect("committed");
    let bytes = transaction.encoded.clone();
    let transaction =
        VerifiedTransaction::from_bytes(bytes, &tip.header.chain_id).expect("as committed");
    let slot = &transaction.slots()[0];
    let receipt = reader.receipt(&slot.record_id).expect("readable").expect("committed");
    verifier.verify_receipt(&receipt.encode_to_vec()).expect("genuine");
    let key = slot.subject_keys[0];
    let proof = reader.history_proof(&key).expect("readable");
    let history = verifier.verify_history(&proof.encode_to_vec()).expect("genuine");
    assert!(history.header.height >= tip.header.height);
    assert!(!history.entries.is_empty(), "what was committed is in the history");
    let path = reader.consistency(1, log_size).expect("in range");
    let first = reader.header(1).expect("readable").expect("committed").header;
    let (from, to) = (&first.log_root, &tip.header.log_root);
    crate::merkle::verify_consistency(1, log_size, from, to, &path).expect("consistent");
    let block = reader.block(tip.header.height).expect("readable").expect("committed");
    assert_eq!(block.block.header, tip.header);
}

#[test]
fn readers_beside_the_writer_see_whole_blocks_only() {
    fn is_shared<T: Clone + Send + Sync>(_: &T) {}
    fn is_sent<T: Send>(_: &T) {}
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    is_sent(&chain);
    commit(&mut chain, &[fixture.transaction(1, 0..1)]);
    let verifier = Verifier::new(&fixture.genesis);
    let (done, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            let reader = chain.reader();
            is_shared(&reader);
            scope.spawn(|| {
                let reader = reader;
                while !done.load(Ordering::Acquire) {
                    read_one_tip(&reader, &verifier);
                    reads.fetch_add(1, Ordering::AcqRel);
                }
            });
        }
        let mut block = 1;
        // Until the readers have looked often enough, and the log has more than a tile.
        while reads.load(Ordering::Acquire) < 200 || chain.tip().header.log_size < 300 {
            let first = block * 100;
            let transactions: Vec<_> =
                (first..first + 5).map(|n| fixture.transaction(1, n..n + 1)).collect();
            commit(&mut chain, &transactions);
            block += 1;
        }
        done.store(true, Ordering::Release);
    });
    Model::new(&fixture.genesis).follow(&chain.reader());
}
