//! A network of agencies whose nodes are processes of this machine.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use customhouse_client::{Client, ClientError, tls::ClientTls};
use customhouse_files::profile::Profile;
use customhouse_ledger::{hash::Hash, proofs::verifier::Verifier, registry::genesis::Genesis};
use customhouse_node::local_network::{LocalAgency, LocalNetwork, NewNetwork};
use customhouse_proto::v1;
use tempfile::TempDir;

use crate::{
    http,
    links::Links,
    node_process::{NodeProcess, Surroundings},
    ports,
    wait::{PATIENCE, until},
};

/// Codes of the agencies, as many as a cluster needs; sorted, as the layout sorts them.
const AGENCIES: [&str; 7] =
    ["BE-AADA", "DE-ZOLL", "FR-DGDDI", "KR-KCS", "NL-DOUANE", "SE-TULL", "SG-CUSTOMS"];
/// Small history trees, for several nodes on one machine.
const HISTORY_BITS: u32 = 12;
/// Layouts with other ports that are tried where somebody else took a port first.
const LAYOUTS_MAX: usize = 5;
/// What a node logs where a port is taken.
const PORT_TAKEN: &str = "in use";

/// A committed block with all roots after it: what honest nodes have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its height.
    pub height: u64,
    /// Its hash.
    pub block_hash: Hash,
    /// Transactions so far.
    pub log_size: u64,
    /// Root of the log.
    pub log_root: Hash,
    /// Root of the history index.
    pub history_root: Hash,
    /// Root of the registry.
    pub registry_root: Hash,
}

impl Head {
    pub(crate) fn of(status: &v1::GetStatusResponse) -> Self {
        let hash = |bytes: &[u8]| Hash::from_slice(bytes).expect("a node answers with hashes");
        Self {
            height: status.height,
            block_hash: hash(&status.block_hash),
            log_size: status.log_size,
            log_root: hash(&status.log_root),
            history_root: hash(&status.history_root),
            registry_root: hash(&status.registry_root),
        }
    }
}

/// The network: its files, and its nodes' processes. Ends with them.
pub struct Cluster {
    network: LocalNetwork,
    nodes: Vec<NodeProcess>,
    links: Option<Links>,
    dir: TempDir,
}

impl Cluster {
    /// Lays out a network and starts all its nodes. When this returns, each node knows all others.
    pub async fn start(size: usize) -> Self {
        Self::start_on(size, false).await
    }

    /// The same with [`Links`] between the nodes.
    pub async fn start_with_links(size: usize) -> Self {
        Self::start_on(size, true).await
    }

    /// Lays out a network with an agreement among its first agencies, and starts all its nodes. The agreement is not
    /// lodged yet: gives its file.
    pub async fn start_agreed(size: usize, parties: usize) -> (Self, PathBuf) {
        let cluster = Self::start_laid_out(|| Self::lay_out_agreed(size, parties), false).await;
        let files = cluster.network.agreement_files();
        let file = files.into_iter().next().expect("laid out with the network");
        (cluster, file)
    }

    async fn start_on(size: usize, with_links: bool) -> Self {
        Self::start_laid_out(|| Self::lay_out(size), with_links).await
    }

    async fn start_laid_out(lay_out: impl Fn() -> Self, with_links: bool) -> Self {
        for _ in 0..LAYOUTS_MAX {
            let mut cluster = lay_out();
            let size = cluster.size();
            if with_links {
                cluster.lay_links().await;
            }
            for index in 0..size {
                cluster.nodes[index].start();
            }
            if cluster.is_connected().await {
                return cluster;
            }
        }
        panic!("no free ports in {LAYOUTS_MAX} tries")
    }

    /// Lays out a network and starts nothing.
    pub fn lay_out(size: usize) -> Self {
        Self::lay_out_agreed(size, 0)
    }

    /// The same with an agreement among its first agencies, where they are any.
    fn lay_out_agreed(size: usize, parties: usize) -> Self {
        let dir = tempfile::Builder::new().prefix("customhouse-").tempdir().expect("a directory");
        let codes = AGENCIES[..size].iter().map(|code| code.parse().expect("a code"));
        let new = NewNetwork {
            dir: dir.path().join("net"),
            name: "test".into(),
            agencies: codes.zip(ports::free(size)).collect(),
            history_bits: HISTORY_BITS,
            parameters: BTreeMap::new(),
            agreements: match parties {
                0 => Vec::new(),
                _ => vec![
                    AGENCIES[..parties].iter().map(|code| code.parse().expect("a code")).collect(),
                ],
            },
        };
        let network = LocalNetwork::create(&new).expect("a network is laid out");
        let node = |agency: &LocalAgency| {
            let log = dir.path().join(format!("{}.log", agency.code()));
            NodeProcess::new(&agency.config.file, log)
        };
        let nodes = network.agencies.iter().map(node).collect();
        Self { network, nodes, links: None, dir }
    }

    /// Lays out one more agency's node, which the genesis does not have, and starts nothing. Gives its
    /// number.
    pub fn add_node(&mut self) -> usize {
        let node = self.size();
        let code = AGENCIES[node].parse().expect("a code");
        let ports = ports::free(1);
        self.network.add(code, ports[0]).expect("an agency is laid out");
        let log = self.dir.path().join(format!("{code}.log"));
        self.nodes.push(NodeProcess::new(&self.agency(node).config.file, log));
        node
    }

    /// Has each node dial the others through links.
    async fn lay_links(&mut self) {
        let listening: Vec<_> = (0..self.size()).map(|node| self.peer_address(node)).collect();
        let links = Links::lay(&listening).await;
        let multiaddress = |at: SocketAddr| format!("\"/ip4/{}/tcp/{}\"", at.ip(), at.port());
        for from in 0..self.size() {
            let file = &self.agency(from).config.file;
            let mut text = fs::read_to_string(file).expect("the layout made it");
            for to in (0..self.size()).filter(|to| *to != from) {
                let (own, link) = (listening[to], links.address(from, to));
                text = text.replace(&multiaddress(own), &multiaddress(link));
            }
            fs::write(file, text).expect("the cluster's own directory");
        }
        self.links = Some(links);
    }

    /// Where a node listens for others.
    pub fn peer_address(&self, node: usize) -> SocketAddr {
        let text = self.agency(node).config.network.listen[0].to_string();
        let port = text.rsplit('/').next().and_then(|port| port.parse().ok());
        SocketAddr::from(([127, 0, 0, 1], port.expect("a multiaddress ends in its port")))
    }

    /// The links between the nodes.
    ///
    /// # Panics
    /// Where the cluster was started without.
    pub fn links(&self) -> &Links {
        self.links.as_ref().expect("started with links")
    }

    /// Waits until all know all; false where a node found its port taken.
    async fn is_connected(&mut self) -> bool {
        let peers = u32::try_from(self.nodes.len() - 1).expect("few nodes");
        until("all nodes are connected", PATIENCE, async || {
            for index in 0..self.nodes.len() {
                if let Some(status) = self.nodes[index].ended() {
                    let log = self.nodes[index].tail();
                    assert!(log.contains(PORT_TAKEN), "{status}: {log}");
                    return Ok(false);
                }
                let status = self.status(index).await.map_err(|error| error.to_string())?;
                let connected = status.peers_connected;
                if connected < peers {
                    return Err(format!("node {index}: {connected} of {peers} peers"));
                }
                // Each node lodges an epoch of its agency's own agreement: what a test counts begins after that.
                let lodged = status.log_size;
                if lodged < self.nodes.len() as u64 {
                    return Err(format!(
                        "node {index}: {lodged} transactions, not one of each agency"
                    ));
                }
            }
            Ok(true)
        })
        .await
    }

    /// How many nodes there are.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// The genesis.
    pub fn genesis(&self) -> &Genesis {
        &self.network.genesis
    }

    /// Its file.
    pub fn genesis_file(&self) -> PathBuf {
        self.network.dir.join("genesis.json")
    }

    /// A verifier that holds the genesis and has followed the changes of the validators that a node
    /// tells.
    pub async fn verifier_by(&self, node: usize) -> Verifier {
        let chain = self.client(node, "auditor").validator_chain().await.expect("the node runs");
        let mut verifier = self.verifier();
        verifier.follow_chain(&chain).expect("each set announced by the one before");
        verifier
    }

    /// A verifier that holds the genesis and nothing else.
    pub fn verifier(&self) -> Verifier {
        Verifier::new(self.genesis())
    }

    /// A node's agency.
    pub fn agency(&self, node: usize) -> &LocalAgency {
        &self.network.agencies[node]
    }

    /// The directory of a client's profile: `broker`, `officer`, `auditor` or `operator`.
    pub fn profile(&self, node: usize, client: &str) -> PathBuf {
        self.agency(node).client(client)
    }

    /// A client of a node. It connects when it is first used, and again where it must.
    pub fn client(&self, node: usize, client: &str) -> Client {
        let profile = Profile::read(&self.profile(node, client)).expect("the layout made it");
        let tls = ClientTls::read(&profile.ca, &profile.cert, &profile.key);
        Client::connect_lazily(&profile.node, &tls.expect("the layout made them"))
            .expect("an endpoint")
    }

    /// Starts a node.
    pub fn start_node(&mut self, node: usize) {
        self.nodes[node].start();
    }

    /// Starts a node and waits until it answers.
    pub async fn restart(&mut self, node: usize) {
        self.start_node(node);
        self.answers(node).await;
    }

    /// Waits until a node that was started answers.
    pub async fn answers(&mut self, node: usize) {
        until("the node answers", PATIENCE, async || {
            let ended = self.nodes[node].ended();
            assert!(ended.is_none(), "{ended:?}: {}", self.nodes[node].tail());
            self.status(node).await.map(|_| ()).map_err(|error| error.to_string())
        })
        .await;
    }

    /// Kills a node's process with SIGKILL.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    /// Whether a node was started and not stopped since.
    pub fn is_started(&self, node: usize) -> bool {
        self.nodes[node].is_started()
    }

    /// SIGSTOP: a node stands still, and its connections stay open.
    pub fn pause(&self, node: usize) {
        self.nodes[node].signal("STOP");
    }

    /// SIGCONT: it goes on as if nothing had been.
    pub fn resume(&self, node: usize) {
        self.nodes[node].signal("CONT");
    }

    /// What a node finds at its next start.
    pub fn surroundings(&mut self, node: usize) -> &mut Surroundings {
        &mut self.nodes[node].surroundings
    }

    /// Has a node's next start prepared for [`Cluster::fill_disk`].
    pub fn survive_full_disk(&mut self, node: usize) {
        self.surroundings(node).survives_full_disk = true;
    }

    /// Closes the reader's end of a node's standard error.
    pub fn hang_up(&mut self, node: usize) {
        self.nodes[node].hang_up();
    }

    /// Has a node log what this filter lets through, from its next start on.
    pub fn log_filter(&self, node: usize, filter: &str) {
        let file = &self.agency(node).config.file;
        let text = fs::read_to_string(file).expect("the layout made it");
        let changed = text.replace("filter = \"info\"", &format!("filter = \"{filter}\""));
        assert_ne!(text, changed, "the layout logs what is of interest to people");
        fs::write(file, changed).expect("the cluster's own directory");
    }

    /// What a node answers to `GET /health`.
    pub fn health(&self, node: usize) -> std::io::Result<http::Response> {
        let metrics = self.agency(node).config.metrics.as_ref().expect("the layout has it");
        http::get(metrics.listen, "/health")
    }

    /// From now on a running node writes no file beyond `file_bytes_max` bytes, as if its disk were full.
    pub fn fill_disk(&self, node: usize, file_bytes_max: u64) {
        let (id, limit) = (self.nodes[node].id(), format!("--fsize={file_bytes_max}"));
        let set = Command::new("prlimit").args(["--pid", &id.to_string(), &limit]).status();
        assert!(set.expect("`prlimit` runs").success(), "{limit}");
    }

    /// Stops a node with SIGTERM and waits for its end.
    pub async fn terminate(&mut self, node: usize) -> ExitStatus {
        self.nodes[node].terminate().await
    }

    /// Waits for the end of a node that is to end by itself.
    pub async fn exit(&mut self, node: usize) -> ExitStatus {
        self.nodes[node].exit().await
    }

    /// The directory of all: every node's data, vault, keys and log.
    pub fn directory(&self) -> &Path {
        self.dir.path()
    }

    /// Deletes what a stopped node has stored. Its keys and the signer's journal stay.
    pub fn wipe(&self, node: usize) {
        assert!(!self.is_started(node), "a running node is not wiped");
        let config = &self.agency(node).config;
        assert!(!config.journal_path().starts_with(&config.data_dir), "the journal is elsewhere");
        fs::remove_dir_all(&config.data_dir).expect("the node had a store");
    }

    /// All that a node has logged.
    pub fn log(&self, node: usize) -> String {
        self.nodes[node].log()
    }

    /// How a node stands.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn status(&self, node: usize) -> Result<v1::GetStatusResponse, ClientError> {
        self.client(node, "operator").status().await
    }

    /// A node's newest committed block.
    pub async fn head(&self, node: usize) -> Head {
        Head::of(&self.status(node).await.expect("the node runs"))
    }

    /// Waits until a node has a height, knows that it has caught up, and signs.
    pub async fn reaches(&self, node: usize, height: u64) {
        until("the node reaches the head and signs", PATIENCE, async || {
            let status = self.status(node).await.map_err(|error| error.to_string())?;
            let there = status.height >= height && status.signing && !status.catching_up;
            if there { Ok(()) } else { Err(format!("{height} is to be reached: {status:?}")) }
        })
        .await;
    }

    /// Waits until a node, which runs, has given up its connection to a node that is silent.
    pub async fn hangs_up(&self, node: usize) {
        let peers = u32::try_from(self.size() - 1).expect("few nodes");
        until("the node hangs up", PATIENCE, async || {
            let status = self.status(node).await.map_err(|error| error.to_string())?;
            if status.peers_connected < peers { Ok(()) } else { Err("all are connected".into()) }
        })
        .await;
    }

    /// Checks that no node holds evidence: nobody has signed a conflict.
    pub fn nobody_lied(&self) {
        for node in 0..self.size() {
            assert_eq!(self.metric(node, "customhouse_evidence_total"), 0, "node {node}");
        }
    }

    /// Waits until these nodes have the same head with all roots, of at least a height, and none
    /// has anything left to commit.
    pub async fn same_head(&self, nodes: &[usize], height_min: u64) -> Head {
        until("the nodes have the same roots", PATIENCE, async || {
            let mut heads = Vec::new();
            for node in nodes {
                let status = self.status(*node).await.map_err(|error| error.to_string())?;
                let waiting = status.mempool_transactions;
                heads.push((Head::of(&status), waiting));
            }
            let (first, _) = &heads[0];
            let same = heads.iter().all(|(head, waiting)| head == first && *waiting == 0);
            if same && first.height >= height_min {
                Ok(first.clone())
            } else {
                Err(format!("{heads:#?}"))
            }
        })
        .await
    }

    /// The value of a node's metric, named with its labels where it has any.
    pub fn metric(&self, node: usize, name: &str) -> u64 {
        self.metric_or_none(node, name)
            .unwrap_or_else(|| panic!("node {node} has no metric {name}"))
    }

    /// The same where nothing may have been counted yet.
    pub fn metric_or_none(&self, node: usize, name: &str) -> Option<u64> {
        let address = self.agency(node).config.metrics.as_ref().expect("the layout has it").listen;
        let text = http::get(address, "/metrics").expect("the node serves metrics").text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map(|value| value.trim().parse().expect("a counter is a number"))
    }

    /// The niceness of each of a node's threads, and its name.
    pub fn niceness(&self, node: usize) -> Vec<(String, i64)> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.nodes[node].id()));
        let tasks = tasks.expect("the process runs").map(|task| task.expect("an entry").path());
        // A thread may have ended meanwhile.
        let lines = tasks.filter_map(|task| fs::read_to_string(task.join("stat")).ok());
        let read = lines.map(|line| {
            let (name, fields) = line.rsplit_once(") ").expect("proc_pid_stat(5)");
            let name = name.split_once('(').expect("proc_pid_stat(5)").1.to_owned();
            let nice = fields.split(' ').nth(16).and_then(|nice| nice.parse().ok());
            (name, nice.expect("the nineteenth field"))
        });
        read.collect()
    }

    /// Memory of a node's process that is in RAM, in KiB.
    pub fn resident_kib(&self, node: usize) -> u64 {
        let path = format!("/proc/{}/status", self.nodes[node].id());
        let text = fs::read_to_string(Path::new(&path)).expect("the process runs");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).expect("the kernel says it in kB")
    }
}

impl Drop for Cluster {
    /// Says what the nodes said, where a test fails.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                eprintln!("---- {}\n", node.tail());
            }
        }
    }
}
