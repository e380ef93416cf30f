//! The tasks of a node. Each has a name, and none ends before the node does: one that returns, fails or
//! panics earlier ends the node, which says its name.
//!
//! What serves one request (an answer to a peer, a connection of a client) ends when it is done and is
//! spawned where it is needed. Should it panic, that ends the process like any other panic does
//! ([`end_with_panics`]): what it left half done, nobody would take up.

use std::{
    any::Any,
    fmt::Display,
    io,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    process,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use futures::FutureExt as _;
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a process has to end by itself after a panic.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// How a task ended that should not have ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// It returned.
    #[error("the {0} ended unexpectedly")]
    Ended(&'static str),
    /// It gave up.
    #[error("the {name} failed: {reason}")]
    Failed {
        /// Which.
        name: &'static str,
        /// Why.
        reason: String,
    },
    /// It panicked, which is a programming error.
    #[error("the {name} panicked: {reason}")]
    Panicked {
        /// Which.
        name: &'static str,
        /// What it said.
        reason: String,
    },
}

/// The tasks of one node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tasks {
    running: TaskTracker,
    shutdown: CancellationToken,
    failed: CancellationToken,
    first: Arc<OnceLock<TaskError>>,
}

impl Tasks {
    /// Tasks that are to run until `shutdown`.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self {
            running: TaskTracker::new(),
            shutdown,
            failed: CancellationToken::new(),
            first: Arc::default(),
        }
    }

    /// Starts one.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_fallible(name, task.map(|()| Ok::<_, io::Error>(())));
    }

    /// Starts one that says why, where it fails.
    pub fn spawn_fallible<E: Display>(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.spawn_fallible_on(&Handle::current(), name, task);
    }

    /// The same on threads of another runtime.
    pub fn spawn_fallible_on<E: Display>(
        &self,
        threads: &Handle,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let tasks = self.clone();
        let watched = async move {
            let ended = AssertUnwindSafe(task).catch_unwind().await;
            let error = match ended {
                Ok(Ok(())) => TaskError::Ended(name),
                Ok(Err(error)) => TaskError::Failed { name, reason: error.to_string() },
                Err(panic) => TaskError::Panicked { name, reason: reason(&*panic).to_owned() },
            };
            tasks.ended(error);
        };
        self.running.spawn_on(watched, threads);
    }

    /// When they are to end.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    fn ended(&self, error: TaskError) {
        if matches!(error, TaskError::Ended(_)) && self.shutdown.is_cancelled() {
            return;
        }
        tracing::error!(%error, "the node stops");
        let _not_the_first = self.first.set(error);
        self.failed.cancel();
    }

    /// Waits until one has ended that should not have.
    pub async fn failed(&self) -> TaskError {
        self.failed.cancelled().await;
        self.first.get().cloned().expect("set before the token is cancelled")
    }

    /// What has failed so far.
    pub fn first_failure(&self) -> Option<TaskError> {
        self.first.get().cloned()
    }

    /// Waits, after the shutdown, until all have ended.
    pub async fn finished(&self) {
        self.running.close();
        self.running.wait().await;
    }
}

/// A panic somewhere in this process, which ends with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("panic in thread `{thread}` at {place}: {reason}")]
pub struct Panicked {
    thread: String,
    place: String,
    reason: String,
}

/// Tells of the first panic of a process.
#[derive(Clone, Debug, Default)]
pub struct Panics {
    first: Arc<OnceLock<Panicked>>,
    came: CancellationToken,
}

impl Panics {
    /// Waits for it.
    pub async fn first(&self) -> Panicked {
        self.came.cancelled().await;
        self.first.get().cloned().expect("set before the token is cancelled")
    }

    fn take(&self, panicked: Panicked) {
        tracing::error!(%panicked, "the process ends");
        let first = self.first.set(panicked).is_ok();
        self.came.cancel();
        if first {
            // Whatever the panic has left locked: the process does not stay half alive.
            let end = || {
                thread::sleep(END_TIMEOUT);
                process::exit(1);
            };
            let _no_thread = thread::Builder::new().name("end".into()).spawn(end);
        }
    }
}

/// From now on a panic in any thread of this process is logged, without waiting for standard error, and
/// told to [`Panics::first`]. A process that has not ended some time later is ended, with exit code 1.
pub fn end_with_panics() -> Panics {
    let panics = Panics::default();
    let told = panics.clone();
    panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        told.take(Panicked {
            thread: thread::current().name().unwrap_or("without a name").to_owned(),
            place: info.location().map(ToString::to_string).unwrap_or_default(),
            reason: reason(info.payload()).to_owned(),
        });
    }));
    panics
}

/// What a panic said.
fn reason(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    async fn first_of(tasks: &Tasks) -> TaskError {
        tokio::time::timeout(DEADLINE, tasks.failed()).await.expect("in time")
    }

    #[tokio::test]
    async fn a_task_that_ends_in_any_way_before_the_shutdown_is_named() {
        let tasks = || Tasks::new(CancellationToken::new());
        let ended = tasks();
        ended.spawn("network", async {});
        assert_eq!(first_of(&ended).await, TaskError::Ended("network"));
        let failed = tasks();
        failed.spawn_fallible("metrics", async { Err("no more descriptors") });
        let error = first_of(&failed).await;
        assert_eq!(error.to_string(), "the metrics failed: no more descriptors");
        for say in [|| panic!("at {}", 7), || panic!("at 7")] {
            let panicked = tasks();
            panicked.spawn("inbound", async move { say() });
            let error = first_of(&panicked).await;
            assert_eq!(error.to_string(), "the inbound panicked: at 7");
        }
    }

    #[tokio::test]
    async fn a_task_that_ends_with_the_shutdown_is_no_failure_but_one_that_panics_then_is() {
        let shutdown = CancellationToken::new();
        let tasks = Tasks::new(shutdown.clone());
        let stop = shutdown.clone();
        tasks.spawn("inbound", async move { stop.cancelled().await });
        shutdown.cancel();
        tokio::time::timeout(DEADLINE, tasks.finished()).await.expect("in time");
        assert_eq!(tasks.first_failure(), None);
        let tasks = Tasks::new(shutdown);
        tasks.spawn("inbound", async { panic!("too late") });
        tokio::time::timeout(DEADLINE, tasks.finished()).await.expect("in time");
        assert!(matches!(tasks.first_failure(), Some(TaskError::Panicked { .. })));
    }

    #[tokio::test]
    async fn the_first_that_fails_is_the_one_that_is_named() {
        let tasks = Tasks::new(CancellationToken::new());
        tasks.ended(TaskError::Ended("driver"));
        tasks.ended(TaskError::Ended("inbound"));
        assert_eq!(first_of(&tasks).await, TaskError::Ended("driver"));
    }
}
