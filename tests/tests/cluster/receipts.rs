//! A real receipt, whole and damaged.

use std::{fs, path::Path};

use customhouse_tests::{cluster::Cluster, program};
use prost::Message as _;

use crate::agreement::submit_final;

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_verifies_offline_and_any_flipped_byte_is_refused() {
    let mut cluster = Cluster::start(4).await;
    // More than one transaction in the log, so that the paths are not empty.
    for number in 0..5 {
        submit_final(&cluster, number % 4, &format!("{number}"), "receipt").await;
    }
    let record = submit_final(&cluster, 1, "the-one", "receipt").await;
    let receipt = cluster.client(3, "auditor").receipt(record.record_id, false).await;
    let receipt = receipt.expect("a receipt").encode_to_vec();
    for node in 0..4 {
        assert!(cluster.terminate(node).await.success());
    }

    let verifier = cluster.verifier();
    let verified = verifier.verify_receipt(&receipt).expect("it verifies");
    assert_eq!(verified.slot.record_id, record.record_id);
    assert_eq!(verified.signer.agency, cluster.agency(1).code());
    assert!(verified.finalized_by.len() >= 3);
    for at in 0..receipt.len() {
        // One bit, the other way round, and the whole byte.
        for flip in [1, 0x80, 0xff] {
            let mut damaged = receipt.clone();
            damaged[at] ^= flip;
            let refused = verifier.verify_receipt(&damaged);
            assert!(refused.is_err(), "byte {at} with {flip:#x}: {refused:?}");
        }
        assert!(verifier.verify_receipt(&receipt[..at]).is_err(), "cut at {at}");
    }
    the_command_says_what_is_wrong(&cluster, &receipt);
}

fn the_command_says_what_is_wrong(cluster: &Cluster, receipt: &[u8]) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("a.receipt");
    fs::write(&file, receipt).expect("writable");
    let answer = audit(&file, &cluster.genesis_file()).expect_code(0).json();
    assert_eq!(answer["verdict"], "verified");
    for at in (0..receipt.len()).step_by(receipt.len() / 12) {
        let mut damaged = receipt.to_vec();
        damaged[at] ^= 1;
        fs::write(&file, damaged).expect("writable");
        let answer = audit(&file, &cluster.genesis_file()).expect_code(1).json();
        let refused = &answer["receipts"][0];
        assert_eq!(refused["verdict"], "invalid", "byte {at}: {answer}");
        let named = |field: &str| refused[field].as_str().is_some_and(|text| !text.is_empty());
        assert!(named("code") && named("reason"), "byte {at}: {answer}");
    }
    // A genesis of the same agencies on another network.
    let other = Cluster::lay_out(4);
    fs::write(&file, receipt).expect("writable");
    let answer = audit(&file, &other.genesis_file()).expect_code(1).json();
    assert_eq!(answer["receipts"][0]["code"], "WRONG_CHAIN", "{answer}");
}

fn audit(receipt: &Path, genesis: &Path) -> program::Answer {
    program::run([
        "--output".as_ref(),
        "json".as_ref(),
        "audit".as_ref(),
        "verify".as_ref(),
        receipt.as_os_str(),
        "--genesis".as_ref(),
        genesis.as_os_str(),
    ])
}
