//! The threads that clients and strangers are served by, apart from those of consensus and its network.
//!
//! Whoever floods a server with handshakes, frames or messages has its tasks run again and again. On the
//! threads of the network they would come before each message of consensus; on threads of their own it is
//! the system that shares out the processors, and it lets those go first that mostly wait.

use std::{io, time::Duration};

use tokio::runtime::{Builder, Handle, Runtime};

use crate::priority::let_consensus_go_first;

/// How long the threads have to end.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Ends with its threads.
pub(super) struct ServerThreads {
    runtime: Option<Runtime>,
}

impl ServerThreads {
    /// Starts them: one a processor, and more that read the store.
    ///
    /// # Errors
    /// The system starts no thread, or has no descriptor for them to wait with.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .thread_name("servers")
            .on_thread_start(let_consensus_go_first)
            .enable_all()
            .build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// The way to start a task on them.
    pub(super) fn handle(&self) -> &Handle {
        self.runtime.as_ref().expect("taken at the end only").handle()
    }

    /// Waits for the threads, but not for long: one may read the store still, or wait for a disk that hangs.
    pub(super) async fn end(mut self) {
        if let Some(runtime) = self.runtime.take() {
            let end = move || runtime.shutdown_timeout(END_TIMEOUT);
            // Only where this runtime is going down itself.
            let _ended = tokio::task::spawn_blocking(end).await;
        }
    }
}

impl Drop for ServerThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime may not be waited for by a task of another.
            runtime.shutdown_background();
        }
    }
}
