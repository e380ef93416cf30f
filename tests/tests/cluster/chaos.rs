//! One fault after another under load, each of one node, of a kind and length that a seed draws.

use std::time::Duration;

use customhouse_tests::{
    cluster::Cluster,
    links::Flow,
    load::{Load, nothing_is_lost_though_wiped},
    readers::Readers,
};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::crashes::seed;

const FAULTS: usize = 18;
const DELAY_MS_MAX: u64 = 40;

/// What happens to a node.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It does not hear another, which hears it.
    Deaf,
    /// It is heard by none, and hears all.
    Mute,
    /// It and another hear nothing of each other.
    Apart,
    Isolated,
    Slow,
    BrokenConnection,
    Paused,
    Killed,
    Terminated,
}

impl Fault {
    const ALL: [Self; 9] = [
        Self::Deaf,
        Self::Mute,
        Self::Apart,
        Self::Isolated,
        Self::Slow,
        Self::BrokenConnection,
        Self::Paused,
        Self::Killed,
        Self::Terminated,
    ];
}

#[tokio::test(flavor = "multi_thread")]
async fn one_fault_after_another_of_any_node_stops_nobody_and_loses_nothing() {
    let mut random = ChaCha8Rng::seed_from_u64(seed());
    let mut cluster = Cluster::start_with_links(4).await;
    let readers = Readers::start(&cluster);
    let mut load = Load::start(&cluster, 1, "chaos");
    for number in 0..FAULTS {
        let fault = Fault::ALL[number % Fault::ALL.len()];
        let node = random.random_range(0..4);
        eprintln!("{number}: node {node} is {fault:?}");
        strike(&mut cluster, &mut random, node, fault).await;
        // The other three go on.
        load.more(random.random_range(1..30)).await;
        undo(&mut cluster, node, fault).await;
        load.more(random.random_range(1..10)).await;
    }
    let head = cluster.head(0).await;
    for node in 0..4 {
        cluster.reaches(node, head.height).await;
    }
    let acknowledged = load.stop().await;
    eprintln!("{} acknowledged, {} reads", acknowledged.len(), readers.stop().await);
    cluster.same_head(&[0, 1, 2, 3], head.height).await;
    nothing_is_lost_though_wiped(&cluster, "chaos", &acknowledged).await;
    cluster.nobody_lied();
}

async fn strike(cluster: &mut Cluster, random: &mut ChaCha8Rng, node: usize, fault: Fault) {
    let other = (node + random.random_range(1..4)) % 4;
    let links = cluster.links();
    match fault {
        Fault::Deaf => links.set(other, node, Flow::Cut),
        Fault::Mute => links.set_from(node, Flow::Cut),
        Fault::Apart => links.set_both(node, other, Flow::Cut),
        Fault::Isolated => links.set_node(node, Flow::Cut),
        Fault::Slow => {
            let delay = Duration::from_millis(random.random_range(1..DELAY_MS_MAX));
            links.set_node(node, Flow::Delayed(delay));
        }
        Fault::BrokenConnection => links.break_connections(node, other),
        Fault::Paused => cluster.pause(node),
        Fault::Killed => cluster.kill(node),
        Fault::Terminated => assert!(cluster.terminate(node).await.success()),
    }
}

async fn undo(cluster: &mut Cluster, node: usize, fault: Fault) {
    match fault {
        Fault::Paused => cluster.resume(node),
        Fault::Killed | Fault::Terminated => cluster.restart(node).await,
        _ => cluster.links().heal(),
    }
}
