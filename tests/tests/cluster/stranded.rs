//! Connections whose packets vanish while new ones work: an old one seems open at one end, or both, and
//! nobody is told.

use customhouse_tests::{
    cluster::Cluster,
    listed_liar::ListedLiar,
    load::nothing_is_lost,
    wait::{PATIENCE, until},
};

use crate::agreement::submit_final;

/// Waits until each node knows all others and signs.
async fn whole(cluster: &Cluster) {
    let peers = u32::try_from(cluster.size() - 1).expect("few nodes");
    for node in 0..cluster.size() {
        until("all peers, and a key that signs", PATIENCE, async || {
            let status = cluster.status(node).await.map_err(|error| error.to_string())?;
            let whole = status.peers_connected == peers && status.signing;
            if whole { Ok(()) } else { Err(format!("node {node}: {status:?}")) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_come_back_while_their_old_connections_seem_open_are_connected_again() {
    let mut cluster = Cluster::start_with_links(4).await;
    let mut promises = vec![submit_final(&cluster, 0, "before", "stranded").await];
    // Two of four: where these are not connected, the network stands still.
    for round in 0..3 {
        for node in [0, 1] {
            cluster.links().strand_node(node);
            cluster.kill(node);
        }
        for node in [0, 1] {
            cluster.restart(node).await;
        }
        whole(&cluster).await;
        promises.push(submit_final(&cluster, round, &format!("after-{round}"), "stranded").await);
    }
    cluster.same_head(&[0, 1, 2, 3], 1).await;
    nothing_is_lost(&cluster, "stranded", &promises).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_on_which_nothing_passes_one_way_or_both_are_made_anew() {
    let cluster = Cluster::start_with_links(4).await;
    let mut promises = vec![submit_final(&cluster, 0, "before", "vanish").await];
    let all = || (0..4).flat_map(|from| (0..4).map(move |to| (from, to)));
    let pairs = || all().filter(|(from, to)| from != to);
    // Of one node both ways, of another what it sends, and what it is sent; at last of all.
    let lost: [&dyn Fn(usize, usize) -> bool; 4] =
        [&|from, to| from == 0 || to == 0, &|from, _| from == 1, &|_, to| to == 2, &|_, _| true];
    for (round, is_lost) in lost.iter().enumerate() {
        for (from, to) in pairs().filter(|(from, to)| is_lost(*from, *to)) {
            cluster.links().strand(from, to);
        }
        // Only what passes shows that nothing does.
        promises.push(submit_final(&cluster, round, &format!("after-{round}"), "vanish").await);
        whole(&cluster).await;
    }
    cluster.same_head(&[0, 1, 2, 3], 1).await;
    nothing_is_lost(&cluster, "vanish", &promises).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_outlives_a_second_process_with_its_peer_key() {
    let cluster = Cluster::start_with_links(4).await;
    let first = submit_final(&cluster, 0, "before", "twice").await;
    // Each closes the other's connections. The node stands still until the second has one, so that it is
    // not luck which of them has.
    cluster.pause(3);
    let second = ListedLiar::beside(&cluster, 3).await;
    until("a connection", PATIENCE, async || {
        let connected = (0..3).any(|node| second.is_connected_to(node));
        if connected { Ok(()) } else { Err("none".into()) }
    })
    .await;
    cluster.resume(3);
    // Killed, and its packets with it.
    cluster.links().strand_node(3);
    drop(second);
    whole(&cluster).await;
    let last = submit_final(&cluster, 3, "after", "twice").await;
    cluster.same_head(&[0, 1, 2, 3], 1).await;
    nothing_is_lost(&cluster, "twice", &[first, last]).await;
}
