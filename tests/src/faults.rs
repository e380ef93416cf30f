//! Faults that are struck again and again, at moments that have nothing to do with what the nodes
//! are doing.

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use crate::{cluster::Cluster, load::Load, readers::Readers};

/// A moment at random: some answers to others from now, and some to us.
pub async fn at_any_moment(cluster: &Cluster, load: &mut Load, random: &mut ChaCha8Rng) {
    load.more(random.random_range(1..20)).await;
    for _ in 0..random.random_range(0..8) {
        cluster.status(random.random_range(0..cluster.size())).await.expect("all nodes run");
    }
}

/// kill -9 of a node; the others go on, and it comes back.
pub async fn kill_and_restart(cluster: &mut Cluster, load: &mut Load, random: &mut ChaCha8Rng) {
    let node = random.random_range(0..cluster.size());
    at_any_moment(cluster, load, random).await;
    cluster.kill(node);
    load.more(random.random_range(1..30)).await;
    cluster.restart(node).await;
}

/// kill -9 of all nodes at once; they come back and go on by themselves.
pub async fn blackout(cluster: &mut Cluster, load: &mut Load, random: &mut ChaCha8Rng) {
    at_any_moment(cluster, load, random).await;
    for node in 0..cluster.size() {
        cluster.kill(node);
    }
    for node in 0..cluster.size() {
        cluster.start_node(node);
    }
    for node in 0..cluster.size() {
        cluster.answers(node).await;
    }
    load.more(30).await;
}

/// Stops a node while the others go on, takes its store from it or not, and waits until it has
/// reached the head unaided and signs again.
pub async fn leave_and_return(
    cluster: &mut Cluster,
    load: &mut Load,
    readers: &Readers,
    (node, wipe): (usize, bool),
) {
    load.more(10).await;
    cluster.kill(node);
    if wipe {
        cluster.wipe(node);
        readers.lost_its_store(node);
    }
    load.more(50).await;
    cluster.restart(node).await;
    let others = (0..cluster.size()).filter(|other| *other != node);
    let mut head = 0;
    for other in others {
        head = head.max(cluster.head(other).await.height);
    }
    cluster.reaches(node, head).await;
    load.more(10).await;
}
