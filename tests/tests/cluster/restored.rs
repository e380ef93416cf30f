//! Backups that are put back.

use std::fs;

use customhouse_tests::{
    backup::Backup,
    cluster::Cluster,
    load::{Load, nothing_is_lost_though_wiped},
    readers::Readers,
    records::submission,
    wait::{PATIENCE, until},
};

use crate::agreement::submit_final;

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_store_follows_its_journal_and_the_node_signs_again() {
    let mut cluster = Cluster::start(4).await;
    let readers = Readers::start(&cluster);
    let mut load = Load::start(&cluster, 1, "restored");
    load.more(20).await;
    assert!(cluster.terminate(3).await.success());
    let backup = Backup::take(&cluster, 3);
    cluster.restart(3).await;
    load.more(50).await;
    cluster.kill(3);
    backup.restore_store(&cluster);
    readers.lost_its_store(3);
    cluster.restart(3).await;
    let head = cluster.head(0).await;
    cluster.reaches(3, head.height).await;
    // Three of four are needed: its votes count.
    cluster.kill(1);
    load.more(10).await;
    cluster.restart(1).await;
    let acknowledged = load.stop().await;
    readers.stop().await;
    cluster.same_head(&[0, 1, 2, 3], head.height + 1).await;
    nothing_is_lost_though_wiped(&cluster, "restored", &acknowledged).await;
    cluster.nobody_lied();
}

/// Consensus messages that a node has received.
const HEARD: &str = "customhouse_network_messages_in_total{channel=\"consensus\"}";

#[tokio::test(flavor = "multi_thread")]
async fn with_store_and_journal_of_a_backup_a_node_stops_signing_when_its_peers_remember_more() {
    let mut cluster = Cluster::start(4).await;
    let mut promises = vec![submit_final(&cluster, 0, "first", "backup").await];
    cluster.same_head(&[0, 1, 2, 3], 1).await;
    assert!(cluster.terminate(3).await.success());
    let backup = Backup::take(&cluster, 3);
    cluster.restart(3).await;
    promises.push(submit_final(&cluster, 3, "after the backup", "backup").await);
    // Two of four: the height stays open, and what 3 signs there stays with 0.
    cluster.kill(1);
    cluster.kill(2);
    let journal = cluster.agency(3).config.journal_path();
    let bytes = || fs::metadata(&journal).expect("there is one").len();
    let before = bytes();
    let client = cluster.client(0, "broker");
    client.submit_records(vec![submission("open", "backup")], false).await.expect("accepted");
    until("the node signs", PATIENCE, async || {
        if bytes() > before { Ok(()) } else { Err(format!("{before} bytes in its journal")) }
    })
    .await;
    // It may sign once only, and says so again and again; nobody else is there to say anything. What
    // was on its way before the signature comes before it.
    let heard = || cluster.metric(0, HEARD);
    let before = heard();
    until("the signature has come", PATIENCE, async || {
        if heard() > before + 2 { Ok(()) } else { Err(format!("{before} messages heard")) }
    })
    .await;
    cluster.kill(3);
    backup.restore_all(&cluster);
    cluster.restart(3).await;
    until("the node stops signing", PATIENCE, async || {
        let status = cluster.status(3).await.map_err(|error| error.to_string())?;
        if status.signing { Err("it signs".into()) } else { Ok(()) }
    })
    .await;
    for node in [1, 2] {
        cluster.restart(node).await;
    }
    promises.push(submit_final(&cluster, 0, "after", "backup").await);
    cluster.same_head(&[0, 1, 2, 3], 3).await;
    nothing_is_lost_though_wiped(&cluster, "backup", &promises).await;
    cluster.nobody_lied();
}
