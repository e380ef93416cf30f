//! Four nodes, each a process of its own, and the clients that speak to them.

use std::{
    collections::BTreeMap,
    fs::File,
    net::TcpListener,
    ops::Add as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use customhouse_client::{Client, tls::ClientTls};
use customhouse_files::{keyfile::KeyFile, profile::Profile};
use customhouse_ledger::{agency::AgencyCode, keys::SigningKey, registry::genesis::Genesis};
use customhouse_node::local_network::{LocalAgency, LocalNetwork, NewNetwork, Ports};
use customhouse_proto::v1;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{
    Args,
    usage::{Disk, Usage},
    work::SUBMITTER,
};

const AGENCIES: [&str; 4] = ["BE-AADA", "DE-ZOLL", "FR-DGDDI", "NL-DOUANE"];
/// How long the network may take to be up, or a node to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two looks at a node's status.
const POLL: Duration = Duration::from_millis(10);

/// A network that runs.
pub(crate) struct Cluster {
    pub(crate) genesis: Genesis,
    pub(crate) nodes: Vec<Node>,
    /// The number of the next record in every agency.
    pub(crate) next_number: u64,
    customhouse: PathBuf,
    // Removed when dropped, unless it is to be kept.
    _dir: Option<TempDir>,
}

/// One agency's node and its clients.
pub(crate) struct Node {
    pub(crate) agency: AgencyCode,
    /// Submits.
    pub(crate) broker: Client,
    /// Asks how things stand.
    pub(crate) operator: Client,
    /// What the broker signs with.
    pub(crate) submitter_key: SigningKey,
    dir: PathBuf,
    process: Option<Child>,
}

impl Cluster {
    /// Lays a network out, starts its nodes, and waits until all are connected.
    pub(crate) async fn start(args: &Args) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("customhouse-bench-").tempdir_in(&args.dir)?;
        let network = LocalNetwork::create(&NewNetwork {
            dir: dir.path().join("net"),
            name: "bench".into(),
            agencies: agencies()?,
            history_bits: 20,
            parameters: BTreeMap::new(),
            agreements: Vec::new(),
        })?;
        let dir = if args.keep {
            eprintln!("bench: the network is in {}", dir.keep().display());
            None
        } else {
            Some(dir)
        };
        let nodes = network.agencies.iter().map(Node::of).collect::<anyhow::Result<_>>()?;
        let (genesis, customhouse) = (network.genesis, args.customhouse.clone());
        let mut cluster = Self { genesis, nodes, next_number: 0, customhouse, _dir: dir };
        for index in 0..cluster.nodes.len() {
            cluster.start_node(index)?;
        }
        cluster.connected().await?;
        Ok(cluster)
    }

    pub(crate) fn start_node(&mut self, index: usize) -> anyhow::Result<()> {
        self.nodes[index].start(&self.customhouse)
    }

    /// Ends a node at once, as a failing machine would.
    pub(crate) async fn kill_node(&mut self, index: usize) -> anyhow::Result<()> {
        if let Some(mut process) = self.nodes[index].process.take() {
            process.kill().await?;
        }
        Ok(())
    }

    /// The nodes that run.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.process.is_some())
    }

    /// Stops every node gracefully.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            let Some(process) = &mut node.process else { continue };
            drop(process.stdin.take());
            let ended = tokio::time::timeout(PATIENCE, process.wait()).await;
            let status = ended.with_context(|| format!("{} does not stop", node.agency))??;
            anyhow::ensure!(status.success(), "{} ended with {status}", node.agency);
        }
        Ok(())
    }

    /// Waits until every running node has committed a height, and tells their newest status.
    pub(crate) async fn reached(&self, height: u64) -> anyhow::Result<Vec<v1::GetStatusResponse>> {
        let mut all = Vec::new();
        for node in self.running() {
            all.push(node.until(|status| status.height >= height).await?);
        }
        Ok(all)
    }

    async fn connected(&self) -> anyhow::Result<()> {
        let others = u32::try_from(self.nodes.len() - 1)?;
        for node in &self.nodes {
            node.until(|status| status.peers_connected == others).await?;
        }
        Ok(())
    }

    /// What each running node uses.
    pub(crate) fn usage(&self) -> anyhow::Result<Vec<Usage>> {
        let pids = self.running().filter_map(|node| node.process.as_ref()?.id());
        pids.map(Usage::of).collect()
    }

    /// What the running nodes' ledgers have on disk.
    pub(crate) fn disk(&self) -> Disk {
        let stores = self.running().map(|node| Disk::of(&node.dir.join("data/store")));
        stores.fold(Disk::default(), Disk::add)
    }
}

impl Node {
    fn of(agency: &LocalAgency) -> anyhow::Result<Self> {
        let profile = Profile::read(&agency.client(SUBMITTER))?;
        let key_file =
            profile.submitter_key.clone().context("the broker has no key to sign with")?;
        Ok(Self {
            agency: agency.code(),
            broker: connect(&profile)?,
            operator: connect(&Profile::read(&agency.client("operator"))?)?,
            submitter_key: KeyFile::read(&key_file)?.key.clone(),
            dir: agency.dir.clone(),
            process: None,
        })
    }

    fn start(&mut self, customhouse: &Path) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.dir.join("node.log"))?;
        let process = Command::new(customhouse)
            .args(["node", "run", "--stop-with-stdin", "--config"])
            .arg(self.dir.join("node.toml"))
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| customhouse.display().to_string())?;
        self.process = Some(process);
        Ok(())
    }

    /// Looks at the status until it is as wanted.
    pub(crate) async fn until(
        &self,
        wanted: impl Fn(&v1::GetStatusResponse) -> bool,
    ) -> anyhow::Result<v1::GetStatusResponse> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.operator.status().await {
                Ok(status) if wanted(&status) => return Ok(status),
                last if Instant::now() > deadline => {
                    anyhow::bail!("{} is not there in {PATIENCE:?}: {last:?}", self.agency)
                }
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }
}

fn connect(profile: &Profile) -> anyhow::Result<Client> {
    let tls = ClientTls::read(&profile.ca, &profile.cert, &profile.key)?;
    Ok(Client::connect_lazily(&profile.node, &tls)?)
}

/// The agencies with ports that are free.
fn agencies() -> anyhow::Result<Vec<(AgencyCode, Ports)>> {
    // Held until all are known, so that none is given twice.
    let mut held = Vec::new();
    let mut port = || -> anyhow::Result<u16> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        held.push(listener);
        Ok(port)
    };
    let mut agencies = Vec::new();
    for code in AGENCIES {
        let ports = Ports { peer: port()?, api: port()?, metrics: port()?, tlog: port()? };
        agencies.push((code.parse()?, ports));
    }
    Ok(agencies)
}
