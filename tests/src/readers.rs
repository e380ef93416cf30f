//! Clients that read without pause how each node stands, and check that what nodes say agrees.
//!
//! Whatever happens to the nodes: two of them never name different blocks or roots of one height,
//! and a node never goes back, unless its store was taken from it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use customhouse_client::Client;
use tokio::{sync::watch, task::JoinSet};

use crate::cluster::{Cluster, Head};

/// Time between two reads of one node.
const INTERVAL: Duration = Duration::from_millis(50);
/// A read without an answer by then has none: its node is paused or down.
const READ_LIMIT: Duration = Duration::from_secs(2);

/// Running readers, one a node.
pub struct Readers {
    seen: Arc<Mutex<Seen>>,
    stop: watch::Sender<bool>,
    readers: JoinSet<()>,
}

/// What nodes have said.
#[derive(Debug, Default)]
struct Seen {
    /// By height: what every node must say of it.
    heads: BTreeMap<u64, Head>,
    nodes: Vec<Newest>,
    reads: u64,
}

/// The newest that a node said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Newest {
    height: u64,
    /// How often its store was taken from it.
    stores_lost: u64,
}

impl Readers {
    /// Starts a reader at each node.
    pub fn start(cluster: &Cluster) -> Self {
        let nodes = vec![Newest::default(); cluster.size()];
        let seen = Arc::new(Mutex::new(Seen { nodes, ..Seen::default() }));
        let (stop, mut readers) = (watch::Sender::new(false), JoinSet::new());
        for node in 0..cluster.size() {
            let client = cluster.client(node, "operator");
            readers.spawn(until_stopped(stop.subscribe(), node, client, Arc::clone(&seen)));
        }
        Self { seen, stop, readers }
    }

    /// A node, which is down, has lost its store or has an older one: it may say less from now on.
    pub fn lost_its_store(&self, node: usize) {
        let mut seen = locked(&self.seen);
        let stores_lost = seen.nodes[node].stores_lost + 1;
        seen.nodes[node] = Newest { height: 0, stores_lost };
    }

    /// Stops them, and tells how many answers they have checked.
    ///
    /// # Panics
    /// Where an answer was wrong.
    pub async fn stop(self) -> u64 {
        self.stop.send_replace(true);
        self.readers.join_all().await;
        locked(&self.seen).reads
    }
}

async fn until_stopped(
    stop: watch::Receiver<bool>,
    node: usize,
    client: Client,
    seen: Arc<Mutex<Seen>>,
) {
    while !*stop.borrow() {
        let stores_lost = locked(&seen).nodes[node].stores_lost;
        // No answer says nothing.
        if let Ok(Ok(status)) = tokio::time::timeout(READ_LIMIT, client.status()).await {
            locked(&seen).add(node, stores_lost, Head::of(&status));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

impl Seen {
    fn add(&mut self, node: usize, stores_lost: u64, head: Head) {
        self.reads += 1;
        let said = self.heads.entry(head.height).or_insert_with(|| head.clone());
        assert_eq!(*said, head, "node {node} and another name two blocks of one height");
        let newest = &mut self.nodes[node];
        // An answer from before may arrive after.
        if newest.stores_lost == stores_lost {
            let height = head.height;
            assert!(height >= newest.height, "node {node}: {height} after {}", newest.height);
            newest.height = height;
        }
    }
}

fn locked(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::hash::Hash;

    use super::*;

    fn head(height: u64, root: u8) -> Head {
        let root = Hash([root; 32]);
        Head {
            height,
            block_hash: root,
            log_size: height,
            log_root: root,
            history_root: root,
            registry_root: root,
        }
    }

    fn two_nodes() -> Seen {
        Seen { nodes: vec![Newest::default(); 2], ..Seen::default() }
    }

    #[test]
    #[should_panic(expected = "two blocks of one height")]
    fn two_blocks_of_one_height_are_found() {
        let mut seen = two_nodes();
        seen.add(0, 0, head(7, 1));
        seen.add(1, 0, head(7, 2));
    }

    #[test]
    #[should_panic(expected = "node 1: 6 after 7")]
    fn a_node_that_goes_back_is_found() {
        let mut seen = two_nodes();
        seen.add(1, 0, head(7, 1));
        seen.add(1, 0, head(6, 1));
    }

    #[test]
    fn a_node_without_its_store_may_say_less_and_an_older_answer_of_it_is_left_out() {
        let mut seen = two_nodes();
        seen.add(1, 0, head(7, 1));
        seen.nodes[1] = Newest { height: 0, stores_lost: 1 };
        seen.add(1, 0, head(7, 1));
        seen.add(1, 1, head(6, 1));
        assert_eq!(seen.nodes[1].height, 6);
    }
}
