//! The same submission again, before and after crashes.

use customhouse_client::ClientError;
use customhouse_tests::{
    cluster::Cluster,
    load::{Acknowledged, events_about, nothing_is_lost_though_wiped},
    records::{event, submission},
    wait::{PATIENCE, until},
};
use tonic::Code;

use crate::agreement::submit_final;

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_gives_the_same_record_whatever_happened_in_between() {
    let mut cluster = Cluster::start(4).await;
    let first = submit_final(&cluster, 2, "one", "again").await;
    same_again(&cluster, &first).await;
    other_body_is_refused(&cluster).await;

    cluster.kill(2);
    cluster.restart(2).await;
    same_again(&cluster, &first).await;
    other_body_is_refused(&cluster).await;

    for node in 0..4 {
        cluster.kill(node);
    }
    for node in 0..4 {
        cluster.start_node(node);
    }
    for node in 0..4 {
        cluster.answers(node).await;
    }
    same_again(&cluster, &first).await;
    other_body_is_refused(&cluster).await;

    // The outbox and the node's secret go with the store; the chain remembers.
    cluster.kill(2);
    cluster.wipe(2);
    cluster.restart(2).await;
    cluster.same_head(&[0, 1, 2, 3], 1).await;
    same_again(&cluster, &first).await;
    other_body_is_refused(&cluster).await;
    nothing_is_lost_though_wiped(&cluster, "again", std::slice::from_ref(&first)).await;
    assert_eq!(events_about(&cluster.client(2, "broker"), "again").await.len(), 1);
}

async fn same_again(cluster: &Cluster, first: &Acknowledged) {
    assert_eq!(submit_final(cluster, 2, &first.event_id, "again").await, *first);
}

async fn other_body_is_refused(cluster: &Cluster) {
    let mut other = submission("one", "again");
    other.record = Some(event("another", "again"));
    let error = cluster.client(2, "broker").submit_records(vec![other], true).await;
    let error = error.expect_err("the key is taken");
    assert_eq!(code(&error), Code::AlreadyExists, "{error}");
}

fn code(error: &ClientError) -> Code {
    error.refused().unwrap_or_else(|| panic!("{error}")).code
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_record_stays_accepted_when_its_node_is_killed_before_it_is_final() {
    let mut cluster = Cluster::start(4).await;
    cluster.kill(0);
    cluster.kill(1);
    let client = cluster.client(2, "broker");
    let accept = || client.submit_records(vec![submission("one", "again")], false);
    let accepted = Acknowledged::read(&accept().await.expect("accepted")[0]).expect("accepted");
    assert_eq!(accepted.place, None);
    cluster.kill(2);
    cluster.restart(2).await;
    let again = until("the node takes it again", PATIENCE, async || {
        accept().await.map_err(|error| error.to_string())
    })
    .await;
    assert_eq!(Acknowledged::read(&again[0]), Some(accepted.clone()), "the same record");
    other_body_is_refused(&cluster).await;
    cluster.restart(0).await;
    cluster.restart(1).await;
    let done = submit_final(&cluster, 2, "one", "again").await;
    assert_eq!(done.record_id, accepted.record_id);
    cluster.same_head(&[0, 1, 2, 3], 1).await;
    nothing_is_lost_though_wiped(&cluster, "again", &[accepted, done]).await;
}
