//! What refers to a record that is not final yet.

use super::*;

/// A submission of a declaration, which corrects another record where one is named.
fn lodged(number: u64, amends: Option<Hash>) -> v1::RecordSubmission {
    let reference = |id: Hash| v1::Reference {
        record_id: id.0.to_vec(),
        relation: v1::reference::Relation::Amends as i32,
        ..Default::default()
    };
    let record = v1::Record {
        body: Some(inspection(&format!("MRN{number}"))),
        references: amends.map(reference).into_iter().collect(),
        ..Default::default()
    };
    v1::RecordSubmission {
        record: Some(record),
        idempotency_key: format!("key-{number}"),
        open: true,
        agreement: Vec::new(),
    }
}

impl Network {
    async fn lodge(&self, submissions: Vec<v1::RecordSubmission>) -> Vec<Hash> {
        let (agency, role) = (code(0), ClientRole::Broker);
        let client = ClientIdentity { agency, name: "broker".into(), role, certificate: [0; 32] };
        let results = self.shared(0).submissions.submit_records(&client, submissions).await;
        results.into_iter().map(|result| result.expect("accepted").record_id).collect()
    }

    /// A client's own transaction with the record of this number, until some time; once it is accepted.
    async fn sign_and_lodge(&self, number: u64, not_after_ms: u64) -> Hash {
        let shared = self.shared(0);
        let client = ClientIdentity {
            agency: code(0),
            name: "broker".into(),
            role: ClientRole::Broker,
            certificate: [0; 32],
        };
        let signed = signed_until(shared.chain_id, (0, &key(3, 0)), number, not_after_ms);
        let record_id = signed.slots()[0].record_id;
        shared.submissions.submit_transaction(&client, signed).await.expect("accepted");
        record_id
    }

    /// The records that node 0 has handed on, and that are not committed.
    fn handed_on(&self) -> Vec<Hash> {
        let mempool = lock(&self.shared(0).mempool);
        let slots = mempool.oldest_first().flat_map(|transaction| transaction.slots());
        slots.map(|slot| slot.record_id).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_handed_on_after_the_pending_one_that_it_refers_to() {
    let mut network = Network::start(4).await;
    // Two of four decide nothing.
    network.stop_node(2).await;
    network.stop_node(3).await;
    let first = network.lodge(vec![lodged(1, None)]).await.remove(0);
    let second = network.lodge(vec![lodged(2, Some(first)), lodged(3, None)]).await;
    let [second, beside] = second[..] else { panic!("two records") };
    let third = network.lodge(vec![lodged(4, Some(second))]).await.remove(0);
    assert_eq!(network.handed_on(), [first, beside], "what waits keeps nothing else waiting");
    // What waits is told from what does not after a restart too.
    network.stop_node(0).await;
    network.start_node(0).await;
    // The worker has taken up all that was pending before it answers.
    assert!(network.shared(0).submissions.clone().answered().await);
    let (mut handed_on, mut expected) = (network.handed_on(), vec![first, beside]);
    handed_on.sort_unstable();
    expected.sort_unstable();
    assert_eq!(handed_on, expected);
    network.start_node(2).await;
    for id in [first, second, third, beside] {
        let end = network.finality(0, id).await;
        assert!(matches!(end, End::Final { .. }), "{end:?}");
    }
    network.stop().await;
}

/// A record that is on the ledger may be repeated by a transaction that waits. Nothing waits for that one.
#[tokio::test(flavor = "multi_thread")]
async fn what_refers_to_a_final_record_waits_for_nothing() {
    let mut network = Network::start(4).await;
    let until = crate::clock::unix_ms() + 60_000;
    let first = network.sign_and_lodge(1, until).await;
    assert!(matches!(network.finality(0, first).await, End::Final { .. }));
    network.stop_node(2).await;
    network.stop_node(3).await;
    assert_eq!(network.sign_and_lodge(1, until + 1).await, first, "the same record again");
    let lodged = network.lodge(vec![lodged(2, Some(first)), lodged(3, None)]).await;
    let handed_on = network.handed_on();
    assert!(lodged.iter().all(|id| handed_on.contains(id)), "{lodged:?} in {handed_on:?}");
    network.stop().await;
}
