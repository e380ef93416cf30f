//! That the nodes agree, and go on while enough of them live.

use std::time::Duration;

use customhouse_proto::v1::Phase;
use customhouse_tests::{
    cluster::Cluster,
    load::{Acknowledged, Place, events_about, nothing_is_lost},
    records::submission,
    wait::PATIENCE,
};

/// Submits an event at a node and waits until it is final.
pub(crate) async fn submit_final(
    cluster: &Cluster,
    node: usize,
    event_id: &str,
    case: &str,
) -> Acknowledged {
    let client = cluster.client(node, "broker");
    let call = client.submit_records(vec![submission(event_id, case)], true);
    let results = tokio::time::timeout(PATIENCE, call).await.expect("an answer");
    let acknowledged = Acknowledged::read(&results.expect("taken")[0]).expect("taken");
    assert!(acknowledged.place.is_some(), "{acknowledged:?} is final");
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn four_nodes_order_records_into_the_same_roots() {
    let mut cluster = Cluster::start(4).await;
    let before = cluster.same_head(&[0, 1, 2, 3], 0).await;
    let mut promises = Vec::new();
    for round in 0..3 {
        for node in 0..4 {
            let event_id = format!("event-{round}-{node}");
            promises.push(submit_final(&cluster, node, &event_id, "agreement").await);
        }
    }
    let after = cluster.same_head(&[0, 1, 2, 3], before.height + 1).await;
    assert_eq!(after.log_size, before.log_size + 12, "one transaction a record");
    assert_ne!(after.log_root, before.log_root);
    assert_ne!(after.history_root, before.history_root);
    assert_eq!(after.registry_root, before.registry_root, "nobody joined or left");
    nothing_is_lost(&cluster, "agreement", &promises).await;
    let places: Vec<Option<Place>> = promises.iter().map(|promise| promise.place).collect();
    assert!(places.is_sorted(), "each was final before the next was submitted");
    for node in 0..4 {
        assert_eq!(cluster.metric(node, "customhouse_evidence_total"), 0);
        assert!(cluster.terminate(node).await.success(), "{}", cluster.log(node));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_dead_node_stops_nothing_and_two_stop_everything_until_one_returns() {
    let mut cluster = Cluster::start(4).await;
    let mut promises = vec![submit_final(&cluster, 0, "all-live", "dead").await];
    cluster.kill(3);
    for node in 0..3 {
        promises.push(submit_final(&cluster, node, &format!("three-live-{node}"), "dead").await);
    }
    cluster.kill(2);
    // A commit that was under way is over when both heads are the same.
    let head = cluster.same_head(&[0, 1], 1).await;
    let pending = submit_without_quorum(&cluster).await;
    assert_eq!(cluster.head(0).await, head, "two of four commit nothing");
    assert_eq!(cluster.head(1).await, head);

    cluster.restart(2).await;
    for (node, promise) in pending.iter().enumerate() {
        let client = cluster.client(node, "broker");
        let answer =
            client.wait_receipt(promise.record_id, Some(PATIENCE)).await.expect("an answer");
        assert_eq!(answer.phase(), Phase::Final, "what was accepted becomes final by itself");
    }
    promises.extend(pending);
    cluster.restart(3).await;
    let all = cluster.same_head(&[0, 1, 2, 3], head.height + 1).await;
    assert!(all.log_size > head.log_size);
    nothing_is_lost(&cluster, "dead", &promises).await;
}

/// Submits at both living nodes: each accepts, neither says more, and both still answer questions.
async fn submit_without_quorum(cluster: &Cluster) -> Vec<Acknowledged> {
    let mut promises = Vec::new();
    for node in 0..2 {
        let client = cluster.client(node, "broker");
        let records = vec![submission(&format!("two-live-{node}"), "dead")];
        let results = client.submit_records(records, false).await.expect("accepted");
        let promise = Acknowledged::read(&results[0]).expect("accepted");
        assert_eq!(promise.place, None, "accepted, and no more is said");
        promises.push(promise);
    }
    for (node, promise) in promises.iter().enumerate() {
        let client = cluster.client(node, "broker");
        let limit = Some(Duration::from_secs(2));
        let answer = client.wait_receipt(promise.record_id, limit).await.expect("an answer");
        assert_eq!(answer.phase(), Phase::Accepted, "still accepted");
        assert_eq!(answer.receipt, None, "no receipt before it is final");
        let refused = client.record(promise.record_id).await.expect_err("not on the ledger");
        let code = refused.refused().expect("the node answers").code;
        assert_eq!(code, tonic::Code::NotFound);
        // What was committed before is still served.
        assert_eq!(events_about(&client, "dead").await.len(), 4);
    }
    promises
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_network_goes_on_from_where_it_was() {
    let mut cluster = Cluster::start(4).await;
    let first = submit_final(&cluster, 1, "before", "restart").await;
    let head = cluster.same_head(&[0, 1, 2, 3], 1).await;
    for node in 0..4 {
        assert!(cluster.terminate(node).await.success(), "{}", cluster.log(node));
    }
    for node in 0..4 {
        cluster.start_node(node);
    }
    for node in 0..4 {
        cluster.answers(node).await;
    }
    assert_eq!(cluster.same_head(&[0, 1, 2, 3], head.height).await, head, "nothing was made up");
    let second = submit_final(&cluster, 2, "after", "restart").await;
    assert!(second.place > first.place);
    nothing_is_lost(&cluster, "restart", &[first, second]).await;
}
