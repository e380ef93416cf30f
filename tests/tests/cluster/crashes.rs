//! kill -9 under load.

use std::env;

use customhouse_tests::{
    cluster::Cluster,
    faults::{blackout, kill_and_restart},
    load::{Acknowledged, Load, nothing_is_lost},
    readers::Readers,
};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use crate::agreement::submit_final;

/// Nodes killed one at a time.
const KILLS: usize = 25;
/// Times that all nodes are killed at once.
const BLACKOUTS: usize = 3;
const CLIENTS_A_NODE: usize = 2;

/// `SEED=…` repeats a run's schedule.
pub(crate) fn seed() -> u64 {
    let seed = env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("SEED={seed}");
    seed
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_under_load_loses_nothing() {
    let mut random = ChaCha8Rng::seed_from_u64(seed());
    let mut cluster = Cluster::start(4).await;
    let readers = Readers::start(&cluster);
    let mut load = Load::start(&cluster, CLIENTS_A_NODE, "crashes");
    for _ in 0..KILLS {
        kill_and_restart(&mut cluster, &mut load, &mut random).await;
    }
    for _ in 0..BLACKOUTS {
        blackout(&mut cluster, &mut load, &mut random).await;
    }
    let acknowledged = load.stop().await;
    assert!(readers.stop().await > 0, "nodes were read while they were killed");
    let head = cluster.same_head(&[0, 1, 2, 3], 1).await;
    eprintln!("{} acknowledged, {} transactions, {head:?}", acknowledged.len(), head.log_size);
    nothing_is_lost(&cluster, "crashes", &acknowledged).await;
    for node in 0..4 {
        let status = cluster.status(node).await.expect("it runs");
        assert!(status.signing, "node {node}: {}", status.signing_reason);
    }
    cluster.nobody_lied();
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
    check_a_wrong_promise(|promise| promise.event_id = "elsewhere".into()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "left == right")]
async fn the_check_itself_finds_a_record_at_another_place() {
    check_a_wrong_promise(|promise| {
        promise.place.as_mut().expect("it is final").log_index += 1;
    })
    .await;
}
