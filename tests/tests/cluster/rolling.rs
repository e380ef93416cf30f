//! All nodes restarted one after the other, as in an upgrade.

use customhouse_tests::{
    cluster::Cluster,
    load::{Load, nothing_is_lost},
    readers::Readers,
};

/// Clients try again where a node is unavailable; any other refusal fails the load.
#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_under_load_shows_clients_no_more_than_unavailable() {
    let mut cluster = Cluster::start(4).await;
    let readers = Readers::start(&cluster);
    let mut load = Load::start(&cluster, 2, "rolling");
    for node in 0..4 {
        load.more(20).await;
        let ended = cluster.terminate(node).await;
        assert!(ended.success(), "{ended}: {}", cluster.log(node));
        load.more(20).await;
        cluster.restart(node).await;
        let head = cluster.head((node + 1) % 4).await;
        cluster.reaches(node, head.height).await;
    }
    let acknowledged = load.stop().await;
    readers.stop().await;
    cluster.same_head(&[0, 1, 2, 3], 1).await;
    nothing_is_lost(&cluster, "rolling", &acknowledged).await;
    cluster.nobody_lied();
}
