//! A node: everything put together, started in the order in which it depends on each other, and
//! stopped in the opposite one.
//!
//! ```text
//! gRPC ──► Submissions (outbox) ──► mempool ──► driver thread ──► network (gossip)
//!                 ▲                    ▲         core + ledger        │
//!                 └───── commits ──────┼───────── + journal ◄─────────┘
//!                                      └── inbound (checks gossip, answers requests)
//! ```

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use customhouse_consensus::{Entry, Timing};
use customhouse_ledger::{
    agency::AgencyCode,
    chain::{Chain, ChainReader},
    genesis::Genesis,
    hash::Hash,
    keys::{PublicKey, SigningKey},
    store::{StoreError, StoreOptions},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admission::Admission,
    api::{self, ApiConfig, Rejections, ServeError},
    config::{ConfigError, NodeConfig},
    driver::{
        self, ConsensusStatus, DriverError, DriverParts, JournalledSigner, SharedMempool,
        SignerError,
    },
    http,
    inbound::Inbound,
    journal::JournalError,
    mempool::{Mempool, MempoolLimits},
    metrics::Metrics,
    network::{self, Limits, NetworkConfig, NetworkError, NetworkHandle, PeerConfig},
    reporter::{EVIDENCE_MAX, Reporter},
    submissions::{OutboxError, SubmissionParts, Submissions, WorkerError},
    tls::{FileError, ServerTls},
};

/// How long calls and tasks may take to end once a shutdown has begun.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// Why a node did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration or a key.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The ledger's store.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The outbox.
    #[error("{0}")]
    Outbox(#[from] OutboxError),
    /// The network.
    #[error("{0}")]
    Network(#[from] NetworkError),
    /// Another process runs with this validator key, or the journal's disk fails.
    #[error("{0}")]
    Journal(#[from] JournalError),
    /// The driver stopped.
    #[error("{0}")]
    Driver(#[from] DriverError),
    /// The submissions' worker stopped.
    #[error("{0}")]
    Worker(#[from] WorkerError),
    /// A server could not be started.
    #[error("{what}: {source}")]
    Serve {
        /// Which, and where.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The gRPC server.
    #[error("{0}")]
    Api(#[from] ServeError),
    /// A certificate or its key.
    #[error("{0}")]
    Tls(#[from] FileError),
    /// A thread ended without saying why.
    #[error("the {0} ended unexpectedly")]
    Vanished(&'static str),
}

/// What the services of a node share.
pub struct Shared {
    /// The chain's beginning.
    pub genesis: Arc<Genesis>,
    /// Its tagged hash.
    pub chain_id: Hash,
    /// Whose node this is.
    pub agency: AgencyCode,
    /// The committed ledger.
    pub reader: ChainReader,
    /// The way for records and transactions.
    pub submissions: Submissions,
    /// The peers.
    pub network: NetworkHandle,
    /// How consensus stands.
    pub status: watch::Receiver<ConsensusStatus>,
    /// Transactions that wait for a block.
    pub mempool: SharedMempool,
    /// When the node started.
    pub started: Instant,
    /// Counters.
    pub metrics: Metrics,
}

/// A node that runs.
pub struct Node {
    /// What its services share.
    pub shared: Arc<Shared>,
    driver_ended: oneshot::Receiver<Result<(), DriverError>>,
    worker_ended: oneshot::Receiver<Result<(), WorkerError>>,
    inbound: tokio::task::JoinHandle<()>,
}

/// What a node is started with: the configuration with its files read.
pub struct NodeParts {
    /// Whose node it is.
    pub agency: AgencyCode,
    /// The chain's beginning.
    pub genesis: Genesis,
    /// Votes.
    pub validator: SigningKey,
    /// Its journal.
    pub journal: PathBuf,
    /// Signs transactions and acceptances.
    pub signing: SigningKey,
    /// Where the store is.
    pub store: PathBuf,
    /// Where the outbox is.
    pub outbox: PathBuf,
    /// Bytes of transactions that it may hold before they are final.
    pub outbox_bytes_max: u64,
    /// Peer-to-peer.
    pub network: NetworkConfig,
    /// How much waits for a block at the most.
    pub mempool: MempoolLimits,
    /// The store's caches.
    pub store_options: StoreOptions,
    /// Local consensus times.
    pub timing: Timing,
}

impl NodeParts {
    /// Reads what a configuration names.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(config: &NodeConfig) -> Result<Self, ConfigError> {
        let genesis = config.read_genesis()?;
        let keys = config.read_keys(&genesis)?;
        let addresses = |agency: AgencyCode| {
            let section = config.network.peers.iter().find(|section| section.agency == agency);
            section.map(|section| section.addresses.clone()).unwrap_or_default()
        };
        let peers = genesis.registry.peers_at(1).into_iter();
        let peers = peers
            .map(|(agency, key)| PeerConfig { agency, key, addresses: addresses(agency) })
            .collect();
        let size = |value| usize::try_from(value).unwrap_or(usize::MAX);
        let bytes_max = size(config.limits.mempool_bytes);
        Ok(Self {
            agency: config.agency,
            network: NetworkConfig {
                identity: keys.peer,
                chain_id: genesis.chain_id(),
                listen: config.network.listen.clone(),
                peers,
                limits: Limits::default(),
            },
            validator: keys.validator,
            journal: config.journal_path(),
            signing: keys.signing,
            store: config.store_path(),
            outbox: config.data_dir.join("outbox"),
            outbox_bytes_max: config.limits.outbox_bytes,
            mempool: MempoolLimits {
                transactions_max: size(config.limits.mempool_transactions),
                bytes_max,
                agency_bytes_max: bytes_max / 2,
            },
            store_options: StoreOptions {
                block_cache_bytes: size(config.limits.store_cache_bytes),
                ..StoreOptions::default()
            },
            timing: Timing::default(),
            genesis,
        })
    }
}

impl Node {
    /// Opens the store and the journal, connects, and takes part in consensus.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn start(parts: NodeParts, shutdown: &CancellationToken) -> Result<Self, NodeError> {
        let started = Instant::now();
        let (signer, journal, entries) = open_signer(&parts)?;
        let chain = open_chain(&parts).await?;
        let reader = chain.reader();
        let genesis = Arc::new(parts.genesis);
        let mempool = Arc::new(Mutex::new(Mempool::new(parts.mempool)));
        let own_peer = parts.network.identity.public();
        let (network, events) = network::spawn(parts.network, shutdown.child_token()).await?;
        let metrics = Metrics::new(|registry| network.metrics().register(registry));
        let (evidence, evidence_out) = mpsc::channel(EVIDENCE_MAX);
        let validator = parts.validator.public();
        let (driver, driver_ended) = driver::spawn(
            DriverParts {
                chain,
                signer,
                journal,
                mempool: Arc::clone(&mempool),
                peers: peers(&genesis, &own_peer),
                peers_of_validator: Arc::new(peers_of_validator(&genesis, &own_peer)),
                timing: parts.timing,
                metrics: metrics.clone(),
            },
            entries,
            network.clone(),
            evidence,
            shutdown.child_token(),
        )
        .map_err(|source| NodeError::Serve { what: "driver thread".to_owned(), source })?;
        let admission = Admission::new(reader.clone(), Arc::clone(&mempool), driver.clone());
        let inbound = Inbound::new(
            reader.clone(),
            admission.clone(),
            Arc::clone(&mempool),
            driver.clone(),
            metrics.clone(),
        );
        let inbound = tokio::spawn(inbound.run(events));
        let (submissions, worker_ended) = Submissions::start(
            &parts.outbox,
            SubmissionParts {
                reader: reader.clone(),
                admission,
                network: network.clone(),
                driver: driver.clone(),
                agency: parts.agency,
                signing_key: parts.signing.clone(),
                outbox_bytes_max: parts.outbox_bytes_max,
                metrics: metrics.clone(),
            },
        )?;
        let reporter = Reporter {
            reader: reader.clone(),
            submissions: submissions.clone(),
            agency: parts.agency,
            signing_key: parts.signing,
            validator,
        };
        tokio::spawn(reporter.run(evidence_out));
        let shared = Arc::new(Shared {
            chain_id: reader.chain_id(),
            genesis,
            agency: parts.agency,
            reader,
            submissions,
            network,
            status: driver.status(),
            mempool,
            started,
            metrics,
        });
        Ok(Self { shared, driver_ended, worker_ended, inbound })
    }

    /// Runs a node with its servers as its configuration says, until `shutdown` or a fault.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn run(config: NodeConfig, shutdown: CancellationToken) -> Result<(), NodeError> {
        let api = &config.api;
        let tls = ServerTls::read(&api.tls.ca, &api.tls.cert, &api.tls.key)?;
        // Bound first: an address in use is said before the store is opened.
        let api_listener = bind("gRPC", api.listen).await?;
        let metrics_listener = match &config.metrics {
            Some(section) => Some(bind("metrics", section.listen).await?),
            None => None,
        };
        let node = Self::start(NodeParts::read(&config)?, &shutdown).await?;
        let shared = Arc::clone(&node.shared);
        let mut servers = tokio::task::JoinSet::new();
        if let Some(listener) = metrics_listener {
            let served = http::serve(listener, Arc::clone(&shared), shutdown.clone());
            servers.spawn(async move {
                served.await.map_err(|source| NodeError::Serve { what: "metrics".into(), source })
            });
        }
        let metrics = shared.metrics.clone();
        let rejections = Rejections::new(move |surface, reason| metrics.rejected(surface, reason));
        let calls_max = usize::try_from(config.limits.api_requests).unwrap_or(usize::MAX);
        let api_config = ApiConfig { tls, calls_max, drain: SHUTDOWN_GRACE / 2 };
        let served = api::serve(api_listener, shared, api_config, rejections, shutdown.clone());
        servers.spawn(async move { served.await.map_err(NodeError::from) });
        tracing::info!(agency = %config.agency, grpc = %config.api.listen, "node running");
        let stop = shutdown.clone();
        // A server that fails takes the node down with it.
        let serving = tokio::spawn(async move {
            let mut outcome = Ok(());
            while let Some(ended) = servers.join_next().await {
                let ended = ended.unwrap_or(Err(NodeError::Vanished("server")));
                stop.cancel();
                outcome = outcome.and(ended);
            }
            outcome
        });
        let ended = node.ended(shutdown).await;
        ended.and(serving.await.unwrap_or(Err(NodeError::Vanished("server"))))
    }

    /// Waits for the end: of `shutdown`, or of a part that failed, which then shuts down the rest.
    ///
    /// # Errors
    /// Why a part failed.
    pub async fn ended(self, shutdown: CancellationToken) -> Result<(), NodeError> {
        let Self { shared, mut driver_ended, mut worker_ended, inbound } = self;
        let first = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            ended = &mut driver_ended => driver_outcome(ended),
            ended = &mut worker_ended => worker_outcome(ended),
        };
        shutdown.cancel();
        // The worker ends with the last handle to it, the driver and the network with the token.
        drop(shared);
        let rest = async {
            let _joined = inbound.await;
            if !driver_ended.is_terminated() {
                driver_outcome((&mut driver_ended).await)?;
            }
            if !worker_ended.is_terminated() {
                worker_outcome((&mut worker_ended).await)?;
            }
            Ok(())
        };
        match tokio::time::timeout(SHUTDOWN_GRACE, rest).await {
            Ok(second) => first.and(second),
            Err(_) => first.and(Err(NodeError::Vanished("shutdown: a part of the node"))),
        }
    }
}

async fn bind(what: &str, address: SocketAddr) -> Result<TcpListener, NodeError> {
    let what = format!("cannot listen on {address} for {what}");
    TcpListener::bind(address).await.map_err(|source| NodeError::Serve { what, source })
}

fn driver_outcome(
    ended: Result<Result<(), DriverError>, oneshot::error::RecvError>,
) -> Result<(), NodeError> {
    ended.map_err(|_| NodeError::Vanished("driver"))?.map_err(NodeError::from)
}

fn worker_outcome(
    ended: Result<Result<(), WorkerError>, oneshot::error::RecvError>,
) -> Result<(), NodeError> {
    ended.map_err(|_| NodeError::Vanished("submissions' worker"))?.map_err(NodeError::from)
}

type OpenedSigner = (Result<SigningKey, String>, JournalledSigner, Vec<Entry>);

/// A journal that cannot be trusted stops the key, not the node: it goes on as an observer. A
/// second process with the key, or a failing disk, stops the node.
fn open_signer(parts: &NodeParts) -> Result<OpenedSigner, NodeError> {
    match JournalledSigner::open(&parts.journal, &parts.validator.public()) {
        Ok((journal, entries)) => Ok((Ok(parts.validator.clone()), journal, entries)),
        Err(SignerError::Journal(error @ (JournalError::Locked(_) | JournalError::Io { .. }))) => {
            Err(error.into())
        }
        Err(error) => {
            tracing::error!(%error, "this node follows without signing");
            Ok((Err(error.to_string()), JournalledSigner::observer(), Vec::new()))
        }
    }
}

async fn open_chain(parts: &NodeParts) -> Result<Chain, NodeError> {
    let (path, genesis, options) =
        (parts.store.clone(), parts.genesis.clone(), parts.store_options);
    let open = move || Chain::open(&path, &genesis, &options);
    let chain = tokio::task::spawn_blocking(open).await;
    let chain = chain.map_err(|_| NodeError::Vanished("opening of the store"))??;
    let tip = chain.tip();
    tracing::info!(height = tip.header.height, block = %tip.hash.short(), "ledger opened");
    Ok(chain)
}

/// Every other node's peer key.
fn peers(genesis: &Genesis, own: &PublicKey) -> Vec<PublicKey> {
    let keys = genesis.registry.peers_at(1).into_iter().map(|(_, key)| key);
    keys.filter(|key| key != own).collect()
}

/// The peer keys of the agency that each validator key votes for.
fn peers_of_validator(genesis: &Genesis, own: &PublicKey) -> BTreeMap<PublicKey, Vec<PublicKey>> {
    let peers = genesis.registry.peers_at(1);
    let of_agency = |agency: AgencyCode| {
        let keys = peers.iter().filter(|(owner, key)| *owner == agency && key != own);
        keys.map(|(_, key)| *key).collect()
    };
    let validators = genesis.validators();
    validators.as_slice().iter().map(|v| (v.key, of_agency(v.agency))).collect()
}

#[cfg(test)]
mod tests;
