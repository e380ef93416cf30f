//! The driver's thread: inputs, a timer, and the end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use customhouse_consensus::Evidence;
use customhouse_ledger::chain::BlockOutcome;
use tokio::{
    sync::{Notify, Semaphore, broadcast, mpsc, oneshot, watch},
    task::{JoinError, JoinHandle},
};
use tokio_util::sync::CancellationToken;

use super::{
    ConsensusStatus, Driver, DriverError, DriverInput, DriverParts, JournalledSigner, SignerMemory,
    fetch::Fetcher, shell::Shell,
};
use crate::{
    clock::ClockStatus,
    driver::breaches::Breaches,
    health::{Probe, Responder, probe},
    network::{Addresses, NetworkHandle},
};

/// Inputs that may wait; those who hand more in wait themselves.
const INPUTS_MAX: usize = 4096;
/// Answers of peers that are checked at once while catching up: while one is read, another keeps the
/// cores busy. Few, so that the driver has its share of them.
const CHECKED_AT_ONCE: usize = 2;
/// Committed blocks that a slow listener may lag behind.
const COMMITTED_MAX: usize = 1024;

/// The way to a running driver.
#[derive(Clone)]
pub struct DriverHandle {
    inputs: mpsc::Sender<DriverInput>,
    work: Arc<Notify>,
    committed: broadcast::Sender<Arc<BlockOutcome>>,
    status: watch::Receiver<ConsensusStatus>,
    height: watch::Receiver<u64>,
    probe: Probe,
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
    pub fn committed(&self) -> broadcast::Receiver<Arc<BlockOutcome>> {
        self.committed.subscribe()
    }

    /// Done when the driver has answered, among its other work; false where it is gone.
    pub async fn answered(self) -> bool {
        self.probe.answered().await
    }

    /// Height of the newest committed block.
    pub fn height(&self) -> watch::Receiver<u64> {
        self.height.clone()
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
    parts: DriverParts<JournalledSigner>,
    (network, addresses): (NetworkHandle, Addresses),
    (evidence, clock): (mpsc::Sender<Evidence>, ClockStatus),
    shutdown: CancellationToken,
) -> std::io::Result<(DriverHandle, oneshot::Receiver<Result<(), DriverError>>)> {
    let (inputs, inputs_out) = mpsc::channel(INPUTS_MAX);
    let (committed, _) = broadcast::channel(COMMITTED_MAX);
    let (status_in, status) = watch::channel(ConsensusStatus::default());
    let (height_in, height) = watch::channel(parts.chain.reader().tip().header.height);
    let work = Arc::new(Notify::new());
    let (probe, responder) = probe();
    let handle = DriverHandle {
        inputs: inputs.clone(),
        work: Arc::clone(&work),
        committed: committed.clone(),
        status,
        height,
        probe,
    };
    let fetcher = Fetcher {
        chain_id: parts.chain.chain_id(),
        runtime: tokio::runtime::Handle::current(),
        network: network.clone(),
        inputs,
        reader: parts.chain.reader(),
        gathering: Arc::default(),
        wanted: Arc::default(),
        questions: Arc::default(),
        asking: Arc::default(),
        checking: Arc::new(Semaphore::new(CHECKED_AT_ONCE)),
        decided: Arc::default(),
        doubted: Arc::default(),
    };
    let started = Instant::now();
    let gathering = tokio::spawn(fetcher.clone().gather(started));
    let metrics = parts.metrics.clone();
    let status = status_in;
    let breaches = Breaches::default();
    let shell = Shell {
        network,
        fetcher,
        addresses,
        started,
        committed,
        height: height_in,
        status,
        metrics,
        clock,
        breaches,
        evidence,
    };
    let driver = Driver::new(parts, shell);
    let (ended_in, ended) = oneshot::channel();
    let timer = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let inputs = Inputs { inputs: inputs_out, work, responder, gathering };
    std::thread::Builder::new().name("driver".into()).spawn(move || {
        let outcome = timer.block_on(run(driver, started, inputs, shutdown));
        let _nobody = ended_in.send(outcome);
    })?;
    Ok((handle, ended))
}

/// What wakes the driver.
struct Inputs {
    inputs: mpsc::Receiver<DriverInput>,
    work: Arc<Notify>,
    responder: Responder,
    gathering: JoinHandle<()>,
}

async fn run<J: SignerMemory>(
    mut driver: Driver<Shell, J>,
    started: Instant,
    inputs: Inputs,
    shutdown: CancellationToken,
) -> Result<(), DriverError> {
    let Inputs { mut inputs, work, mut responder, mut gathering } = inputs;
    driver.begin()?;
    loop {
        let wake = driver.wake_at().map(|at| started + Duration::from_millis(at));
        let timer = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            input = inputs.recv() => match input {
                Some(input) => driver.take(input)?,
                None => return Ok(()),
            },
            () = work.notified() => driver.work()?,
            () = responder.answer() => {}
            ended = &mut gathering => return gathering_ended(ended),
            () = timer => driver.tick()?,
        }
    }
}

/// The task that gathers blocks ends with the network, when the node stops. A driver without it would
/// wait for ever for what it lacks.
fn gathering_ended(ended: Result<(), JoinError>) -> Result<(), DriverError> {
    match ended {
        Ok(()) => Ok(()),
        Err(error) if error.is_panic() => Err(DriverError::Gathering),
        Err(_runtime_is_going_down) => Ok(()),
    }
}
