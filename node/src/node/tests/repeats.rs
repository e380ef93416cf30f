//! Many submissions that were committed before, under other record ids: as by the agency's other node.

use super::*;

const COUNT: u64 = 300;

/// A record of 1 KiB, as a client submits it.
fn lodged(number: u64) -> v1::Record {
    let source = v1::Source { content: vec![1; 1024], ..Default::default() };
    let body = Some(inspection(&format!("MRN{number}")));
    v1::Record { source: Some(source), body, ..Default::default() }
}

fn idempotency_key(number: u64) -> String {
    format!("key-{number}")
}

/// The same submissions in one transaction of the agency's other node.
fn of_the_other_node(chain_id: Hash) -> VerifiedTransaction {
    let first = |number| {
        let record = v1::Record {
            salt: vec![9; 32],
            submitter_role: v1::Role::Broker as i32,
            submitter_certificate: vec![6; 32],
            agency: code(0).to_string(),
            submitter: "broker".into(),
            ..lodged(number)
        };
        let record = ValidRecord::from_record(record).expect("valid");
        (record, dedupe_key(&code(0), "broker", &idempotency_key(number)))
    };
    let records: Vec<_> = (0..COUNT).map(first).collect();
    let not_after_ms = crate::clock::unix_ms() + 60_000;
    VerifiedTransaction::sign(&records, code(0), not_after_ms, &chain_id, &key(3, 0))
        .expect("valid")
}

#[tokio::test(flavor = "multi_thread")]
async fn how_many_repeats_ended_is_told_without_stopping_what_comes_after() {
    let network = Network::start(1).await;
    let shared = network.shared(0);
    // Nothing moves until the driver is told.
    let first = of_the_other_node(shared.chain_id);
    lock(&shared.mempool).insert(Arc::new(first)).expect("room");
    let client = ClientIdentity {
        agency: code(0),
        name: "broker".into(),
        role: ClientRole::Broker,
        certificate: [0; 32],
    };
    let submission = |number| v1::RecordSubmission {
        record: Some(lodged(number)),
        idempotency_key: idempotency_key(number),
        open: true,
        agreement: Vec::new(),
    };
    let submissions = (0..COUNT).map(submission).collect();
    let held = shared.submissions.hold_no_ops().await;
    let accepted = shared.submissions.submit_records(&client, submissions).await;
    let ids: Vec<_> =
        accepted.into_iter().map(|accepted| accepted.expect("accepted").record_id).collect();
    let ends = ids.iter().map(|id| network.finality(0, *id));
    let mut ends = Box::pin(futures::future::join_all(ends));
    let other = async {
        let other = network.submit(0, COUNT).await;
        network.finality(0, other).await
    };
    tokio::select! {
        biased;
        ends = &mut ends => panic!("told without the ledger: {ends:?}"),
        other = other => assert!(matches!(other, End::Final { .. }), "{other:?}"),
    }
    let read_before = held.reads;
    drop(held);
    let ends = ends.await;
    assert!(ends.iter().all(|end| matches!(end, End::Repeat(_))), "{:?}", ends.first());
    // Two transactions, and a block's outcomes, or two.
    let read = shared.submissions.hold_no_ops().await.reads - read_before;
    assert!(read <= 4, "the ledger was read {read} times for {COUNT} ends");
    network.stop().await;
}
