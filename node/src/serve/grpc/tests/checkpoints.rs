//! Checkpoints of the log, over gRPC and over HTTP.

use customhouse_ledger::tlog::{
    checkpoint::Checkpoint,
    export::{self, CertifiedCheckpoint},
    note::Note,
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{
    fixture::{refusal, submission},
    *,
};
use crate::{health::probe, serve::tlog};

/// Submits a record and gives its receipt.
async fn receipt(fixture: &Fixture, number: u64) -> v1::Receipt {
    let client = fixture.client(Role::Broker).await;
    let submitted =
        client.submit_records(vec![submission(&format!("{number}"), number)], true).await;
    let id = Hash::from_slice(&submitted.expect("taken")[0].record_id).expect("an id");
    client.receipt(id, false).await.expect("a receipt")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_signed_certified_and_proves_a_leaf() {
    let fixture = Fixture::start().await;
    let first = receipt(&fixture, 1).await;
    receipt(&fixture, 2).await;
    let client = fixture.client(Role::Auditor).await;
    let (checkpoint, key) = client.checkpoint(first.log_index).await.expect("served");
    let genesis = &fixture.genesis;
    let (verifier, origin) = (Verifier::new(genesis), key.name().to_owned());
    assert_eq!(origin, format!("customhouse/test/{}", genesis.chain_id()));
    let text = export::tlog_proof(&first, checkpoint.clone()).text();
    let verified = export::verify(&text, &verifier, &origin, Some(&key)).expect("proven");
    assert_eq!((verified.header.log_size, verified.receipt.log_index), (2, 0));
    // The key that the node has, and not only one that it names.
    let own = fixture.shared.upgrade().expect("it runs").checkpoints.clone();
    assert_eq!(own.map(|signer| signer.verifier().clone()), Some(key));
    let CertifiedCheckpoint { note, .. } = checkpoint;
    let note = Note::parse(&note).expect("a note");
    assert_eq!(Checkpoint::parse(note.text()).map(|checkpoint| checkpoint.size), Ok(2));
    let refused = refusal(client.checkpoint(2).await);
    assert_eq!((refused.code, &*refused.reason_code), (Code::OutOfRange, "LOG_INDEX"));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_checkpoint_key_signs_none() {
    let fixture = Fixture::start_with(|parts| parts.checkpoint = None).await;
    let refused = refusal(fixture.client(Role::Auditor).await.checkpoint(0).await);
    let expected = (Code::FailedPrecondition, "NO_CHECKPOINT_KEY");
    assert_eq!((refused.code, &*refused.reason_code), expected);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_served_without_an_account_and_ends_with_the_node() {
    let fixture = Fixture::start().await;
    receipt(&fixture, 1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let shared = fixture.shared.upgrade().expect("it runs");
    let signer = shared.checkpoints.clone().expect("the layout made a key");
    let (listening, stop) = ((listener, probe().1), fixture.shutdown.clone());
    let serving = tokio::spawn(tlog::serve(listening, 8, shared, Arc::clone(&signer), stop));
    let get = async |path: &str| {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("in time").expect("read");
        answer
    };
    let found =
        |answer: &[u8], body: &[u8]| answer.starts_with(b"HTTP/1.0 200") && answer.ends_with(body);
    let shared = fixture.shared.upgrade().expect("it runs");
    let header = shared.reader.tip().header.clone();
    assert!(found(&get("/checkpoint").await, signer.note(&header).as_bytes()));
    // One leaf is its own root.
    assert!(found(&get("/tile/0/000.p/1").await, header.log_root.as_bytes()));
    assert!(get("/tile/0/000.p/2").await.starts_with(b"HTTP/1.0 404"));
    assert!(get("/tile/0/000").await.starts_with(b"HTTP/1.0 404"));
    assert!(get("/health").await.starts_with(b"HTTP/1.0 404"));
    drop(shared);
    fixture.stop().await;
    timeout(DEADLINE, serving).await.expect("in time").expect("no panic").expect("served");
}
