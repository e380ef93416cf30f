//! kill -9 under load.

use std::env;

use customhouse_tests::{
    cluster::Cluster,
    load::{Acknowledged, Load, nothing_is_lost},
};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::agreement::submit_final;

/// Nodes killed one at a time.
const KILLS: usize = 25;
/// Times that all nodes are killed at once.
const BLACKOUTS: usize = 3;
const CLIENTS_A_NODE: usize = 2;

/// `SEED=…` repeats a run's schedule.
fn seed() -> u64 {
    let seed = env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("SEED={seed}");
    seed
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_under_load_loses_nothing() {
    let mut random = ChaCha8Rng::seed_from_u64(seed());
    let mut cluster = Cluster::start(4).await;
    let mut load = Load::start(&cluster, CLIENTS_A_NODE, "crashes");
    for _ in 0..KILLS {
        let node = random.random_range(0..4);
        at_any_moment(&cluster, &mut load, &mut random).await;
        cluster.kill(node);
        // The other three go on.
        load.more(random.random_range(1..30)).await;
        cluster.restart(node).await;
    }
    for _ in 0..BLACKOUTS {
        at_any_moment(&cluster, &mut load, &mut random).await;
        for node in 0..4 {
            cluster.kill(node);
        }
        for node in 0..4 {
            cluster.start_node(node);
        }
        for node in 0..4 {
            cluster.answers(node).await;
        }
        // All by itself.
        load.more(30).await;
    }
    let acknowledged = load.stop().await;
    let head = cluster.same_head(&[0, 1, 2, 3], 1).await;
    eprintln!("{} acknowledged, {} transactions, {head:?}", acknowledged.len(), head.log_size);
    nothing_is_lost(&cluster, "crashes", &acknowledged).await;
    for node in 0..4 {
        let status = cluster.status(node).await.expect("it runs");
        assert!(status.signing, "node {node}: {}", status.signing_reason);
        assert_eq!(cluster.metric(node, "customhouse_evidence_total"), 0, "nobody lied");
    }
}

/// A moment that has nothing to do with what the nodes are doing: so many answers to others from
/// now, and some to us.
async fn at_any_moment(cluster: &Cluster, load: &mut Load, random: &mut ChaCha8Rng) {
    load.more(random.random_range(1..20)).await;
    for _ in 0..random.random_range(0..8) {
        cluster.status(random.random_range(0..4)).await.expect("all nodes run");
    }
}

/// One node with one record, which is damaged in what its client remembers of it.
async fn check_a_wrong_promise(change: impl FnOnce(&mut Acknowledged)) {
    let cluster = Cluster::start(1).await;
    let mut promise = submit_final(&cluster, 0, "there", "wrong").await;
    nothing_is_lost(&cluster, "wrong", std::slice::from_ref(&promise)).await;
    change(&mut promise);
    nothing_is_lost(&cluster, "wrong", &[promise]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "LOST, although acknowledged")]
async fn the_check_itself_finds_a_lost_record() {
    check_a_wrong_promise(|promise| promise.alert_id = "elsewhere".into()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "left == right")]
async fn the_check_itself_finds_a_record_at_another_place() {
    check_a_wrong_promise(|promise| {
        promise.place.as_mut().expect("it is final").log_index += 1;
    })
    .await;
}
