//! SIGSTOP under load: a node stands still with its connections open, and goes on.

use customhouse_tests::{
    cluster::Cluster,
    load::{Load, nothing_is_lost},
    readers::Readers,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_node_stops_nobody_and_goes_on_whoever_leads_and_however_long() {
    let cluster = Cluster::start(4).await;
    let readers = Readers::start(&cluster);
    let mut load = Load::start(&cluster, 2, "pauses");
    // Each in turn, so that each leader is among them; no peer has noticed yet.
    for node in 0..4 {
        cluster.pause(node);
        load.more(20).await;
        cluster.resume(node);
        load.more(20).await;
    }
    // Until its peers have given the connection up.
    cluster.pause(3);
    cluster.hangs_up(0).await;
    load.more(20).await;
    let head = cluster.head(0).await;
    cluster.resume(3);
    cluster.reaches(3, head.height).await;
    let acknowledged = load.stop().await;
    readers.stop().await;
    cluster.same_head(&[0, 1, 2, 3], head.height).await;
    nothing_is_lost(&cluster, "pauses", &acknowledged).await;
    cluster.nobody_lied();
}
