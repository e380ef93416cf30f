//! The driver's thread: inputs, a timer, and the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use customhouse_consensus::{Config, Core, Entry, Input};
use customhouse_ledger::chain::Committed;
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{
    ConsensusStatus, Driver, DriverError, DriverInput, DriverParts, JournalledSigner,
    actions::committed_state, bodies::Bodies, fetch::Fetcher, lock,
};

/// Inputs that may wait; those who hand more in wait themselves.
const INPUTS_MAX: usize = 4096;
/// Committed blocks that a slow listener may lag behind.
const COMMITTED_MAX: usize = 1024;

/// The way to a running driver.
#[derive(Clone)]
pub struct DriverHandle {
    inputs: mpsc::Sender<DriverInput>,
    work: Arc<Notify>,
    committed: broadcast::Sender<Arc<Committed>>,
    status: watch::Receiver<ConsensusStatus>,
}

impl DriverHandle {
    /// Hands an input in; waits while too many are waiting. Does nothing once the driver stopped.
    pub async fn input(&self, input: DriverInput) {
        let _stopped = self.inputs.send(input).await;
    }

    /// Tells the driver that the mempool has something.
    pub fn work(&self) {
        self.work.notify_one();
    }

    /// Committed blocks from now on.
    pub fn committed(&self) -> broadcast::Receiver<Arc<Committed>> {
        self.committed.subscribe()
    }

    /// How consensus stands.
    pub fn status(&self) -> watch::Receiver<ConsensusStatus> {
        self.status.clone()
    }
}

/// Starts the driver's thread. The receiver gets how it ended: `Ok` after `shutdown`.
///
/// # Errors
/// Where the system starts no thread.
pub fn spawn(
    parts: DriverParts,
    entries: Vec<Entry>,
    shutdown: CancellationToken,
) -> std::io::Result<(DriverHandle, oneshot::Receiver<Result<(), DriverError>>)> {
    let (inputs, inputs_out) = mpsc::channel(INPUTS_MAX);
    let (committed, _) = broadcast::channel(COMMITTED_MAX);
    let (status_in, status) = watch::channel(ConsensusStatus::default());
    let work = Arc::new(Notify::new());
    let handle = DriverHandle {
        inputs: inputs.clone(),
        work: Arc::clone(&work),
        committed: committed.clone(),
        status,
    };
    let tasks = tokio::runtime::Handle::current();
    let driver = Driver::new(parts, entries, inputs, committed, status_in, tasks);
    let (ended_in, ended) = oneshot::channel();
    let timer = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new().name("driver".into()).spawn(move || {
        let outcome = timer.block_on(driver.run(inputs_out, work, shutdown));
        let _nobody = ended_in.send(outcome);
    })?;
    Ok((handle, ended))
}

impl Driver {
    fn new(
        parts: DriverParts,
        entries: Vec<Entry>,
        inputs: mpsc::Sender<DriverInput>,
        committed: broadcast::Sender<Arc<Committed>>,
        status: watch::Sender<ConsensusStatus>,
        tasks: tokio::runtime::Handle,
    ) -> Self {
        let chain_id = parts.chain.chain_id();
        let (signer, journal, signing_reason) = match parts.signer {
            Ok((key, journal)) => (Some(key), journal, stopped_before(&entries)),
            Err(reason) => (None, JournalledSigner::observer(), reason),
        };
        let voting_key = signer.as_ref().map(|key| key.public());
        let config = Config { chain_id, signer, timing: parts.timing };
        let core = Core::new(config, committed_state(&parts.chain.tip()), entries).unasked();
        let fetcher = Fetcher::new(
            chain_id,
            parts.network.clone(),
            inputs,
            parts.chain.reader(),
            parts.peers_of_validator,
            tasks,
        );
        Self {
            core,
            chain: parts.chain,
            chain_id,
            journal,
            voting_key,
            asked: BTreeSet::new(),
            signing_reason,
            mempool: parts.mempool,
            network: parts.network,
            peers: parts.peers,
            fetcher,
            bodies: Bodies::default(),
            staged: BTreeMap::new(),
            wake_at: None,
            refused: None,
            started: Instant::now(),
            committed,
            status,
            metrics: parts.metrics,
        }
    }

    async fn run(
        mut self,
        mut inputs: mpsc::Receiver<DriverInput>,
        work: Arc<Notify>,
        shutdown: CancellationToken,
    ) -> Result<(), DriverError> {
        self.step(Input::Tick)?;
        self.sign_once_asked()?;
        loop {
            let wake = self.wake_at.map(|at| self.started + Duration::from_millis(at));
            let timer = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                input = inputs.recv() => match input {
                    Some(input) => self.take(input)?,
                    None => return Ok(()),
                },
                () = work.notified() => {
                    let pending = lock(&self.mempool).count() > 0;
                    self.step(Input::Work { pending })?;
                }
                () = timer => self.step(Input::Tick)?,
            }
        }
    }
}

/// The journal of a key that was stopped says so for good.
fn stopped_before(entries: &[Entry]) -> String {
    if entries.contains(&Entry::Watermark(u64::MAX)) {
        "this key was stopped before: a peer held a signature by it that its journal did not \
         have. Register a new validator key"
            .to_owned()
    } else {
        String::new()
    }
}
