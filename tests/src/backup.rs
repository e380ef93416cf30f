//! Copies of what a stopped node has on its disk, to be put back later.

use std::{fs, path::Path};

use tempfile::TempDir;

use crate::cluster::Cluster;

/// What a node has in its data directory, and its signer's journal, as they once were.
pub struct Backup {
    node: usize,
    data: TempDir,
    journal: Vec<u8>,
}

impl Backup {
    /// Copies both of a stopped node.
    pub fn take(cluster: &Cluster, node: usize) -> Self {
        assert!(!cluster.is_started(node), "a running node is not copied");
        let config = &cluster.agency(node).config;
        let data = tempfile::tempdir().expect("a directory");
        copy(&config.data_dir, data.path());
        let journal = fs::read(config.journal_path()).expect("the node has a journal");
        Self { node, data, journal }
    }

    /// Puts the store back. The stopped node keeps its journal, and in its outbox what it accepted since.
    pub fn restore_store(&self, cluster: &Cluster) {
        assert!(!cluster.is_started(self.node), "a running node's store is not touched");
        let store = cluster.agency(self.node).config.store_path();
        fs::remove_dir_all(&store).expect("the node had a store");
        copy(&self.data.path().join(store.file_name().expect("a name")), &store);
    }

    /// Puts everything back: what the node accepted since, and no other has, is lost.
    pub fn restore_all(&self, cluster: &Cluster) {
        cluster.wipe(self.node);
        copy(self.data.path(), &cluster.agency(self.node).config.data_dir);
        let journal = cluster.agency(self.node).config.journal_path();
        fs::write(journal, &self.journal).expect("the cluster's own directory");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the cluster's own directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("readable");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("readable").is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("room for a copy");
        }
    }
}
