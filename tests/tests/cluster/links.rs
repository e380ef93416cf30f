//! Links between nodes that are cut, for both sides or for one.

use std::time::Duration;

use customhouse_proto::v1::Phase;
use customhouse_tests::{
    cluster::Cluster,
    links::Flow,
    load::{Acknowledged, Load, nothing_is_lost},
    readers::Readers,
    records::submission,
    wait::{PATIENCE, until},
};

use crate::listed_liar::dropped;

#[tokio::test(flavor = "multi_thread")]
async fn a_network_in_two_halves_decides_nothing_and_goes_on_by_itself_when_it_heals() {
    let cluster = Cluster::start_with_links(4).await;
    let readers = Readers::start(&cluster);
    let mut load = Load::start(&cluster, 1, "halves");
    load.more(20).await;
    let mut promises = load.stop().await;
    let head = cluster.same_head(&[0, 1, 2, 3], 1).await;
    cluster.links().part(&[0, 1]);
    let mut pending = Vec::new();
    for node in 0..4 {
        let records = vec![submission(&format!("in-half-{node}"), "halves")];
        let results = cluster.client(node, "broker").submit_records(records, false).await;
        let promise = Acknowledged::read(&results.expect("taken")[0]).expect("taken");
        assert_eq!(promise.place, None, "node {node} accepts and says no more");
        pending.push(promise);
    }
    for (node, promise) in pending.iter().enumerate() {
        let client = cluster.client(node, "broker");
        let limit = Some(Duration::from_secs(1));
        let answer = client.wait_receipt(promise.record_id, limit).await.expect("an answer");
        assert_eq!((answer.phase(), answer.receipt), (Phase::Accepted, None), "node {node}");
        assert_eq!(cluster.head(node).await, head, "node {node} commits nothing");
    }
    cluster.links().heal();
    for (node, promise) in pending.iter().enumerate() {
        let client = cluster.client(node, "broker");
        let answer = client.wait_receipt(promise.record_id, Some(PATIENCE)).await;
        assert_eq!(answer.expect("an answer").phase(), Phase::Final, "node {node}");
    }
    promises.extend(pending);
    cluster.same_head(&[0, 1, 2, 3], head.height + 1).await;
    readers.stop().await;
    nothing_is_lost(&cluster, "halves", &promises).await;
    cluster.nobody_lied();
}

/// Its votes and its answers to pings are held, and it goes on hearing the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hears_all_and_is_heard_by_none_is_given_up_and_comes_back_when_it_is_heard() {
    let cluster = Cluster::start_with_links(4).await;
    let readers = Readers::start(&cluster);
    let mut load = Load::start(&cluster, 1, "mute");
    load.more(10).await;
    cluster.links().set_from(3, Flow::Cut);
    cluster.hangs_up(0).await;
    load.more(20).await;
    let head = cluster.head(0).await;
    cluster.links().heal();
    cluster.reaches(3, head.height).await;
    // Its votes count again.
    cluster.links().set_node(1, Flow::Cut);
    let cut = cluster.head(3).await;
    load.more(10).await;
    assert!(cluster.head(3).await.height > cut.height, "with one of the others gone");
    cluster.links().heal();
    let acknowledged = load.stop().await;
    readers.stop().await;
    cluster.same_head(&[0, 1, 2, 3], head.height).await;
    nothing_is_lost(&cluster, "mute", &acknowledged).await;
    cluster.nobody_lied();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_connections_break_again_and_again_stops_nobody_and_stays_once_they_hold() {
    let cluster = Cluster::start_with_links(4).await;
    let mut load = Load::start(&cluster, 1, "flaps");
    for _ in 0..40 {
        for other in 0..3 {
            cluster.links().break_connections(3, other);
        }
        // The others go on.
        load.more(5).await;
    }
    let head = cluster.head(0).await;
    cluster.reaches(3, head.height).await;
    let acknowledged = load.stop().await;
    cluster.same_head(&[0, 1, 2, 3], head.height).await;
    nothing_is_lost(&cluster, "flaps", &acknowledged).await;
    for node in 0..4 {
        until("all its peers", PATIENCE, async || {
            let status = cluster.status(node).await.map_err(|error| error.to_string())?;
            if status.peers_connected == 3 { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await;
        assert_eq!(dropped(&cluster, node, "cut_off"), 0, "node {node}: it is nobody's fault");
    }
    cluster.nobody_lied();
}
