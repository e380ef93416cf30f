//! Whether a node's loops go round. Each is asked again and again for a sign of life, which it gives
//! among its other work: a loop that hangs, waits for ever or is gone does not answer, and the node
//! does not call itself healthy, whatever it still counts.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{sleep, timeout},
};

use crate::tasks::Tasks;

/// Time between two questions to a loop. Each wakes two threads, on a machine that may have nothing else to
/// do.
const INTERVAL: Duration = Duration::from_secs(3);
/// A loop that has not answered by then is stalled. Long enough for a slow disk's sync.
const PATIENCE: Duration = Duration::from_secs(10);

/// Names of the loops that are asked.
pub const LOOPS: [&str; 8] = [
    "driver",
    "network",
    "inbound",
    "submissions",
    OWN_AGREEMENT,
    GRPC_SERVER,
    METRICS_SERVER,
    LOG_SERVER,
];
pub(crate) const OWN_AGREEMENT: &str = "own agreement";
pub(crate) const GRPC_SERVER: &str = "gRPC server";
pub(crate) const METRICS_SERVER: &str = "metrics server";
pub(crate) const LOG_SERVER: &str = "log server";

/// Names of the loops that do not answer.
pub type Stalled = BTreeSet<&'static str>;

/// Asks the loops. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Health {
    stalled: Arc<watch::Sender<Stalled>>,
    patience: Duration,
    tasks: Tasks,
}

impl Health {
    /// For a node with these tasks; the asking is one of them.
    pub fn new(tasks: Tasks) -> Self {
        Self::with_patience(tasks, PATIENCE)
    }

    fn with_patience(tasks: Tasks, patience: Duration) -> Self {
        Self { stalled: Arc::new(watch::Sender::default()), patience, tasks }
    }

    /// Asks a loop from now on until the node stops. `ask` is done when the loop has answered: with
    /// false where it is gone.
    pub fn watch<F>(&self, name: &'static str, ask: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = bool> + Send,
    {
        let (stalled, patience) = (Arc::clone(&self.stalled), self.patience);
        let shutdown = self.tasks.shutdown().clone();
        let asking = async move {
            loop {
                let mut answer = std::pin::pin!(ask());
                let mut answered = timeout(patience, answer.as_mut()).await;
                if answered.is_err() {
                    tracing::error!(name, "a loop of the node does not answer");
                    stalled.send_modify(|stalled| _ = stalled.insert(name));
                    answered = Ok(answer.await);
                    tracing::info!(name, "it answers again");
                    stalled.send_modify(|stalled| _ = stalled.remove(name));
                }
                if answered == Ok(false) {
                    // Gone: its end is told by whoever watches that.
                    stalled.send_modify(|stalled| _ = stalled.insert(name));
                    return std::future::pending().await;
                }
                sleep(INTERVAL).await;
            }
        };
        self.tasks.spawn("health", async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = asking => {}
            }
        });
    }

    /// Asks a loop that answers through this.
    pub fn listener(&self, name: &'static str) -> Responder {
        let (probe, responder) = probe();
        self.watch(name, move || probe.clone().answered());
        responder
    }

    /// The loops that do not answer; the receiver learns of every change.
    pub fn stalled(&self) -> watch::Receiver<Stalled> {
        self.stalled.subscribe()
    }
}

/// A question and the way to answer it.
pub fn probe() -> (Probe, Responder) {
    let (questions, asked) = mpsc::channel(1);
    (Probe(questions), Responder(asked))
}

/// Asks a loop whether it goes round.
#[derive(Clone, Debug)]
pub struct Probe(mpsc::Sender<oneshot::Sender<()>>);

impl Probe {
    /// Done when the loop has answered; false where it is gone.
    pub async fn answered(self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.0.send(reply).await.is_ok() && answer.await.is_ok()
    }
}

/// A loop's end of a [`Probe`].
#[derive(Debug)]
pub struct Responder(mpsc::Receiver<oneshot::Sender<()>>);

impl Responder {
    /// Waits for a question and answers it: one more branch of a loop's `select!`. Where nobody asks any
    /// more it waits for ever.
    pub async fn answer(&mut self) {
        match self.0.recv().await {
            Some(reply) => _ = reply.send(()),
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    async fn until(stalled: &mut watch::Receiver<Stalled>, names: &[&'static str]) {
        let names = names.iter().copied().collect();
        let changed = timeout(DEADLINE, stalled.wait_for(|stalled| *stalled == names)).await;
        changed.expect("in time").expect("the node runs");
    }

    #[tokio::test]
    async fn a_loop_that_does_not_answer_is_named_until_it_does() {
        let shutdown = CancellationToken::new();
        let tasks = Tasks::new(shutdown.clone());
        let health = Health::with_patience(tasks.clone(), Duration::from_millis(10));
        let mut stalled = health.stalled();
        let (probe, mut responder) = probe();
        health.watch("driver", move || probe.clone().answered());
        until(&mut stalled, &["driver"]).await;
        let (free, taken) = oneshot::channel::<()>();
        let answering = tokio::spawn(async move {
            tokio::select! {
                () = async { loop { responder.answer().await } } => {}
                _ = taken => {}
            }
        });
        until(&mut stalled, &[]).await;
        // The loop ends, and its end of the probe with it.
        free.send(()).expect("it runs");
        answering.await.expect("no panic");
        until(&mut stalled, &["driver"]).await;
        assert_eq!(tasks.first_failure(), None);
        shutdown.cancel();
        timeout(DEADLINE, tasks.finished()).await.expect("in time");
    }

    #[tokio::test]
    async fn a_loop_that_answers_is_not_named() {
        let shutdown = CancellationToken::new();
        let tasks = Tasks::new(shutdown.clone());
        let health = Health::with_patience(tasks, Duration::from_secs(20));
        let (probe, mut responder) = probe();
        health.watch("inbound", move || probe.clone().answered());
        for _ in 0..2 {
            timeout(DEADLINE, responder.answer()).await.expect("it is asked");
        }
        assert_eq!(*health.stalled().borrow(), Stalled::new());
        shutdown.cancel();
    }
}
