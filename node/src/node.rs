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
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use customhouse_consensus::Timing;
use customhouse_files::pem::PemError;
use customhouse_ledger::{
    agency::AgencyCode,
    chain::{Chain, ChainReader},
    keys::{PublicKey, SigningKey},
    registry::genesis::Genesis,
    store::{FolderLock, StoreError, StoreOptions},
};
use futures::FutureExt as _;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
};
use tokio_util::sync::CancellationToken;

use self::threads::ServerThreads;
use crate::{
    admission::Admission,
    agreements::{HeldAgreements, HeldParts},
    attachments::{self, Attachments, AttachmentsError},
    buffers,
    checkpoint::CheckpointSigner,
    clock::{self, ClockState},
    config::{AttachmentsSection, BackupSection, ConfigError, NodeConfig},
    descriptors::{Descriptors, TooFew},
    driver::{
        self, DriverError, DriverParts, EVIDENCE_MAX, JournalledSigner, SignerError, VotingKey,
        listed_peers,
    },
    health::{GRPC_SERVER, LOG_SERVER, METRICS_SERVER},
    inbound::Inbound,
    journal::JournalError,
    journal::ValidatorKey,
    mempool::{Mempool, MempoolLimits},
    metrics::{self, Metrics},
    network::{self, Addresses, Limits, NetworkConfig, NetworkError, NetworkHandle},
    readiness,
    reporter::Reporter,
    sealed::{
        self, Holdings,
        error::SealedStoreError,
        keys::{SealingKeys, SealingKeysError},
    },
    serve::{
        grpc::{self, ApiConfig, ServeError},
        monitoring,
        rejections::Rejections,
        tlog,
    },
    services::Services,
    store::Known,
    submissions::{OutboxError, SubmissionParts, Submissions, WorkerError},
    tasks::{TaskError, Tasks},
    tls::ServerTls,
};

mod loops;
mod registered;
mod threads;

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
    /// The attachments' directory.
    #[error("{0}")]
    Attachments(#[from] AttachmentsError),
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
        source: io::Error,
    },
    /// The gRPC server.
    #[error("{0}")]
    Api(#[from] ServeError),
    /// A certificate or its key.
    #[error("{0}")]
    Tls(#[from] PemError),
    /// The vault of sealed records.
    #[error("{0}")]
    Sealing(#[from] SealingKeysError),
    /// The store of sealed records.
    #[error("{0}")]
    Sealed(#[from] SealedStoreError),
    /// The process may open too few files.
    #[error("{0}")]
    Descriptors(#[from] TooFew),
    /// One of its tasks ended before it.
    #[error("{0}")]
    Task(#[from] TaskError),
    /// After a shutdown, this part of it did not end in time.
    #[error("the {0} did not end within {SHUTDOWN_GRACE:?} of the shutdown")]
    Unfinished(&'static str),
}

impl NodeError {
    fn driver(source: io::Error) -> Self {
        Self::Serve { what: "driver thread".to_owned(), source }
    }
}

/// A node that runs.
pub struct Node {
    /// What its services share.
    pub shared: Arc<Services>,
    driver_ended: oneshot::Receiver<Result<(), DriverError>>,
    worker_ended: oneshot::Receiver<Result<(), WorkerError>>,
    tasks: Tasks,
}

/// What a node is started with: the configuration with its files read.
pub struct NodeParts {
    /// Whose node it is.
    pub agency: AgencyCode,
    /// The chain's beginning.
    pub genesis: Genesis,
    /// Votes, or is to.
    pub validator: ValidatorKey,
    /// The key that is to take its place.
    pub next_validator: Option<ValidatorKey>,
    /// Signs transactions and acceptances.
    pub signing: SigningKey,
    /// Signs checkpoints of the log.
    pub checkpoint: Option<SigningKey>,
    /// Where the store is.
    pub store: PathBuf,
    /// Where the outbox is.
    pub outbox: PathBuf,
    /// Bytes of transactions that it may hold before they are final.
    pub outbox_bytes_max: u64,
    /// Where attachments are.
    pub attachments: PathBuf,
    /// Where terms of agreements are.
    pub terms: PathBuf,
    /// How much they may take, and which are fetched.
    pub attachments_section: AttachmentsSection,
    /// Peer-to-peer, except for the peers: the registry says who they are.
    pub network: NetworkConfig,
    /// Where they listen.
    pub addresses: Addresses,
    /// Peers that may connect whether the registry has them or not.
    pub more_peers: Vec<(AgencyCode, PublicKey)>,
    /// How much may wait for a block.
    pub mempool: MempoolLimits,
    /// The store's caches.
    pub store_options: StoreOptions,
    /// Where backups of it go.
    pub backup: Option<BackupSection>,
    /// The keys of sealed records, where it has them.
    pub sealing: Option<SealingKeys>,
    /// Where their bytes are.
    pub sealed: PathBuf,
    /// Local consensus times.
    pub timing: Timing,
}

impl NodeParts {
    /// Reads what a configuration names, and has it tried ([`readiness`]).
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(config: &NodeConfig) -> Result<Self, ConfigError> {
        let (genesis, keys) = readiness::require(config)?;
        let sealing = SealingKeys::of(config)?;
        let sections = || config.network.peers.iter();
        let addresses = sections().map(|section| (section.agency, section.addresses.clone()));
        let more = sections().flat_map(|s| s.keys.iter().map(|key| (s.agency, *key)));
        let size = |value| usize::try_from(value).unwrap_or(usize::MAX);
        Ok(Self {
            agency: config.agency,
            network: NetworkConfig {
                identity: keys.peer,
                chain_id: genesis.chain_id(),
                listen: config.network.listen.clone(),
                peers: Vec::new(),
                limits: Limits::default(),
            },
            addresses: Addresses::new(addresses),
            more_peers: more.collect(),
            validator: keys.validator,
            next_validator: keys.next_validator,
            signing: keys.signing,
            checkpoint: keys.checkpoint,
            store: config.store_path(),
            outbox: config.data_dir.join("outbox"),
            outbox_bytes_max: config.limits.outbox_bytes,
            attachments: config.attachments_path(),
            terms: config.terms_path(),
            attachments_section: config.attachments,
            mempool: MempoolLimits {
                transactions_max: size(config.limits.mempool_transactions),
                bytes_max: size(config.limits.mempool_bytes),
            },
            store_options: StoreOptions {
                block_cache_bytes: size(config.limits.store_cache_bytes),
                ..StoreOptions::default()
            },
            backup: config.backup.clone(),
            sealing,
            sealed: config.data_dir.join("sealed"),
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
        let (started, tasks) = (Instant::now(), Tasks::new(shutdown.clone()));
        let fetch = parts.attachments_section.fetch;
        let (signer, next_signer) = open_signers(&parts)?;
        let chain = open_chain(&parts).await?;
        let reader = chain.reader().at(parts.agency);
        let agreements = held_agreements(&parts, &reader);
        let holdings = open_holdings(&parts, &reader, &agreements)?;
        let mempool = Arc::new(Mutex::new(Mempool::new(parts.mempool)));
        let attachments = open_attachments(&parts)?;
        let (own_peer, of_peers) = (parts.network.identity.public(), listed_peers(&reader));
        let config = NetworkConfig { peers: parts.addresses.of_all(&of_peers), ..parts.network };
        let (network, events) = network::spawn(config, shutdown.child_token()).await?;
        let metrics = metrics_of(&network, &reader, &attachments, parts.sealing.as_ref());
        let ((evidence, evidence_out), (clock_state, clock)) =
            (mpsc::channel(EVIDENCE_MAX), watch::channel(ClockState::default()));
        let (driver, driver_ended) = driver::spawn(
            DriverParts {
                chain,
                signer,
                next_signer,
                mempool: Arc::clone(&mempool),
                own_peer,
                more_peers: parts.more_peers,
                timing: parts.timing,
                metrics: metrics.clone(),
            },
            (network.clone(), parts.addresses),
            (evidence, clock.clone()),
            shutdown.child_token(),
        )
        .map_err(NodeError::driver)?;
        let admission = Admission::new(reader.clone(), Arc::clone(&mempool), driver.clone());
        let of_chain = (reader.clone(), admission.clone(), Arc::clone(&mempool));
        let outside = (network.clone(), metrics.clone());
        let kept = (attachments.clone(), holdings.clone());
        let inbound = Inbound::new(of_chain, driver.clone(), outside, kept);
        let inbound = loops::take_inbound(&tasks, &network, inbound, events);
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
                attachments: attachments.clone(),
                holdings: holdings.clone(),
                metrics: metrics.clone(),
                clock: clock.clone(),
                tasks: tasks.clone(),
            },
        )?;
        let shared = Arc::new(Services {
            health: loops::watch(&tasks, &driver, &network, inbound, &submissions),
            chain_id: reader.chain_id(),
            checkpoints: parts.checkpoint.map(|k| CheckpointSigner::new(&parts.genesis, k).into()),
            genesis: Arc::new(parts.genesis),
            agency: parts.agency,
            reader,
            submissions,
            attachments,
            network,
            status: driver.status(),
            committed: driver.height(),
            mempool,
            started,
            metrics,
            clock,
            backup: parts.backup,
            holdings,
            agreements,
            backing_up: Arc::default(),
        });
        loops::report(&tasks, Reporter::of(&shared, parts.signing), evidence_out);
        loops::go_on_beside(&tasks, &shared, clock_state, (fetch, driver.committed()));
        Ok(Self { shared, driver_ended, worker_ended, tasks })
    }

    /// Runs a node with its servers as its configuration says, until `shutdown` or a fault.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn run(config: NodeConfig, shutdown: CancellationToken) -> Result<(), NodeError> {
        clock::warn_of_shift();
        let descriptors = Descriptors::claim()?;
        let api = &config.api;
        // Tried before anything is taken: files, certificates, secrets, the directories of data.
        let mut parts = NodeParts::read(&config)?;
        let _is_in_use = FolderLock::exclusive(&config.data_dir)?;
        let tls = ServerTls::read(&api.tls.ca, &api.tls.cert, &api.tls.key)?;
        // Bound first: an address in use is said before the store is opened.
        let api_listener = bind("gRPC", api.listen).await?;
        let metrics_listener = match &config.metrics {
            Some(section) => Some(bind("metrics", section.listen).await?),
            None => None,
        };
        let tlog_listener = match &config.tlog {
            Some(section) => Some(bind("the log's tiles", section.listen).await?),
            None => None,
        };
        parts.store_options.open_files_max = descriptors.store_files_max;
        let threads = ServerThreads::start().map_err(|source| {
            let what = "threads of the servers".to_owned();
            NodeError::Serve { what, source }
        })?;
        let node = Self::start(parts, &shutdown).await?;
        let (shared, tasks) = (Arc::clone(&node.shared), &node.tasks);
        buffers::start(tasks, &shared);
        if let Some(listener) = metrics_listener {
            let listening = (listener, shared.health.listener(METRICS_SERVER));
            let (node, stop) = (Arc::clone(&shared), shutdown.clone());
            let served = monitoring::serve(listening, descriptors.metrics_max, node, stop);
            let served = served.map(io::Result::Ok);
            tasks.spawn_fallible_on(threads.handle(), METRICS_SERVER, served);
        }
        // The configuration has no section without a key.
        if let Some((listener, signer)) = tlog_listener.zip(shared.checkpoints.clone()) {
            let listening = (listener, shared.health.listener(LOG_SERVER));
            let (node, stop) = (Arc::clone(&shared), shutdown.clone());
            let served = tlog::serve(listening, descriptors.log_max, node, signer, stop);
            tasks.spawn_fallible_on(threads.handle(), LOG_SERVER, served);
        }
        let metrics = shared.metrics.clone();
        let rejections = Rejections::new(move |surface, reason| metrics.rejected(surface, reason));
        let api_config = ApiConfig {
            tls,
            calls_max: usize::try_from(config.limits.api_requests).unwrap_or(usize::MAX),
            drain: SHUTDOWN_GRACE / 2,
            patience: grpc::Patience::default(),
            connections_max: descriptors.clients_max,
            strangers_max: descriptors.strangers_max,
        };
        let listening = (api_listener, shared.health.listener(GRPC_SERVER));
        let served = grpc::serve(listening, shared, api_config, rejections, shutdown.clone());
        tasks.spawn_fallible_on(threads.handle(), GRPC_SERVER, served);
        tracing::info!(agency = %config.agency, grpc = %config.api.listen, "node running");
        let ended = node.ended(shutdown).await;
        threads.end().await;
        ended
    }

    /// Waits for the end: of `shutdown`, or of a part that failed, which then shuts down the rest.
    ///
    /// # Errors
    /// Why a part failed.
    pub async fn ended(self, shutdown: CancellationToken) -> Result<(), NodeError> {
        let Self { shared, mut driver_ended, mut worker_ended, tasks } = self;
        let mut outcomes: [Result<(), NodeError>; 2] = [Ok(()), Ok(())];
        tokio::select! {
            () = shutdown.cancelled() => {}
            ended = &mut driver_ended => outcomes[0] = outcome("driver", ended),
            ended = &mut worker_ended => outcomes[1] = outcome("submissions' worker", ended),
            _told_below = tasks.failed() => {}
        };
        shutdown.cancel();
        // The worker ends with the last handle to it, the driver and the network with the token.
        drop(shared);
        let rest = async {
            tasks.finished().await;
            if !driver_ended.is_terminated() {
                outcomes[0] = outcome("driver", (&mut driver_ended).await);
            }
            if !worker_ended.is_terminated() {
                outcomes[1] = outcome("submissions' worker", (&mut worker_ended).await);
            }
        };
        let finished = tokio::time::timeout(SHUTDOWN_GRACE, rest).await;
        // Others end where the driver or the worker does: what these say is the cause.
        let [driver, worker] = outcomes;
        driver.and(worker)?;
        if let Some(error) = tasks.first_failure() {
            return Err(error.into());
        }
        finished.map_err(|_| NodeError::Unfinished("work under way"))
    }
}

/// The node's counters, with those of its parts.
fn metrics_of(
    network: &NetworkHandle,
    reader: &ChainReader,
    attachments: &Attachments,
    sealing: Option<&SealingKeys>,
) -> Metrics {
    Metrics::new(|registry| {
        network.metrics().register(registry);
        metrics::store::register(registry, reader.clone());
        attachments::register(registry, attachments.clone());
        if let Some(sealing) = sealing {
            sealed::metrics::register(registry, sealing.clone());
        }
    })
}

async fn bind(what: &str, address: SocketAddr) -> Result<TcpListener, NodeError> {
    let what = format!("cannot listen on {address} for {what}");
    TcpListener::bind(address).await.map_err(|source| NodeError::Serve { what, source })
}

/// How a thread ended, by what it told; one that panicked tells nothing.
fn outcome<E: Into<NodeError>>(
    name: &'static str,
    ended: Result<Result<(), E>, oneshot::error::RecvError>,
) -> Result<(), NodeError> {
    match ended {
        Ok(ended) => ended.map_err(Into::into),
        Err(_) => Err(TaskError::Ended(name).into()),
    }
}

type Voting = VotingKey<JournalledSigner>;

/// The journal of the key that votes, and that of the key which is to vote next.
fn open_signers(parts: &NodeParts) -> Result<(Voting, Option<Voting>), NodeError> {
    let next = parts.next_validator.clone().map(open_signer).transpose()?;
    Ok((open_signer(parts.validator.clone())?, next))
}

fn open_attachments(parts: &NodeParts) -> Result<Attachments, NodeError> {
    Ok(Attachments::open(&parts.attachments, parts.attachments_section.limits())?)
}

/// What the agency holds of its agreements.
fn held_agreements(parts: &NodeParts, reader: &ChainReader) -> HeldAgreements {
    HeldAgreements::new(HeldParts {
        agency: parts.agency,
        reader: reader.clone(),
        signing: parts.signing.clone(),
        vault: parts.sealing.as_ref().map(|keys| (keys.vault.clone(), keys.mirror.clone())),
        terms: parts.terms.clone(),
    })
}

/// The store of sealed records, where there is a vault that the registry knows.
fn open_holdings(
    parts: &NodeParts,
    reader: &ChainReader,
    agreements: &HeldAgreements,
) -> Result<Option<Holdings>, NodeError> {
    let Some(sealing) = &parts.sealing else {
        tracing::warn!("there is no [vault]: this node takes and reads no sealed records");
        return Ok(None);
    };
    let tip = reader.tip();
    for reason in sealing.unregistered(&parts.agency, &tip.registry, tip.header.height + 1)? {
        tracing::error!(%reason, "the vault is not as it should be");
    }
    let held = (sealing.clone(), agreements.clone());
    Ok(Some(Holdings::open(&parts.sealed, held, reader.clone(), parts.signing.clone())?))
}

/// A journal that cannot be trusted stops the key, not the node: it goes on as an observer. A
/// second process with the key, or a failing disk, stops the node.
fn open_signer(validator: ValidatorKey) -> Result<VotingKey<JournalledSigner>, NodeError> {
    let public = validator.key.public();
    let (key, journal, entries) = match JournalledSigner::open(&validator.journal, &public) {
        Ok((journal, entries)) => (Ok(validator.key), journal, entries),
        Err(SignerError::Journal(error @ (JournalError::Locked(_) | JournalError::Io { .. }))) => {
            return Err(error.into());
        }
        Err(error) => {
            tracing::error!(key = %public, %error, "a validator key does not sign: the node follows");
            (Err(error.to_string()), JournalledSigner::observer(), Vec::new())
        }
    };
    Ok(VotingKey { public, key, journal, entries })
}

/// A store that ends below what a journal knows of has lost blocks, or is an older one that was put
/// back. The node fetches them, and the journal keeps its key from signing anew what it signed before.
fn warn_of_lost_blocks(parts: &NodeParts, height: u64) {
    for key in std::iter::once(&parts.validator).chain(&parts.next_validator) {
        // A journal that cannot be read was told of when it was opened.
        let Ok(known) = Known::journal(&key.journal, &key.key.public()) else { continue };
        if known.height > height {
            let known = known.height;
            tracing::warn!(
                height,
                known,
                "the store ends below what the signer's journal knows of: blocks were lost, or an older \
                 store was put back; they are fetched from the peers"
            );
        }
    }
}

async fn open_chain(parts: &NodeParts) -> Result<Chain, NodeError> {
    let (path, genesis, options) =
        (parts.store.clone(), parts.genesis.clone(), parts.store_options);
    let open = move || Chain::open(&path, &genesis, &options);
    let chain = tokio::task::spawn_blocking(open).await;
    let chain = chain.map_err(|_| TaskError::Ended("opening of the store"))??;
    let tip = chain.tip();
    tracing::info!(height = tip.header.height, block = %tip.hash.short(), "ledger opened");
    warn_of_lost_blocks(parts, tip.header.height);
    registered::warn(&chain.reader(), parts);
    Ok(chain)
}

#[cfg(test)]
pub(crate) mod tests;
