//! A stock gRPC client in another language.

use std::path::Path;

use customhouse_tests::{cluster::Cluster, python};

use crate::agreement::submit_final;

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_submits_a_transaction_it_signed_and_verifies_the_receipt_by_itself() {
    let cluster = Cluster::start(4).await;
    // Others' transactions before it, so that the paths are not empty.
    for number in 0..3 {
        submit_final(&cluster, number, &format!("{number}"), "python").await;
    }
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
    let stdout = python::succeeded(
        python::program("client_test.py")
            .arg("--protos")
            .arg(protos)
            .arg("--profile")
            .arg(cluster.profile(1, "broker"))
            .arg("--genesis")
            .arg(cluster.genesis_file()),
    );
    eprintln!("{stdout}");
    let said = |what: &str| assert!(stdout.contains(what), "{what}: {stdout}");
    said("receipt verified");
    said("flipped bytes refused");
    said("another chain's genesis refused");
    // What it says it submitted is on the ledger of another node.
    let id = stdout.lines().find_map(|line| line.strip_prefix("record ")).expect("an id");
    let record = cluster.client(3, "officer");
    cluster.same_head(&[0, 1, 2, 3], 1).await;
    let id = customhouse_ledger::hash::Hash::from_slice(&hex::decode(id).expect("hexadecimal"));
    let found = record.record(id.expect("32 bytes")).await.expect("it is there");
    assert!(found.place.is_some());
}
