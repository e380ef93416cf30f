//! What deliveries and fetches share: pauses that grow, work away from the async threads, and who is connected.

use std::{sync::Arc, time::Duration};

use customhouse_ledger::{agency::AgencyCode, keys::PublicKey};
use tokio::{sync::watch, task::spawn_blocking};

use super::error::SealedStoreError;
use crate::network::NetworkHandle;

/// First pause after nobody took or gave anything; it doubles up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A pause that grows.
pub(super) struct Pause(Duration);

impl Pause {
    pub(super) fn new() -> Self {
        Self(PAUSE_FIRST)
    }

    /// Waits for the pause, and no longer than until there is new work; but for the first pause in any case.
    pub(super) async fn wait(&mut self, work: &mut watch::Receiver<u64>) {
        work.borrow_and_update();
        tokio::time::sleep(PAUSE_FIRST).await;
        let rest = self.0.saturating_sub(PAUSE_FIRST);
        // Where nobody gives work any more, the pause is what is left.
        let _new = tokio::time::timeout(rest, work.changed()).await;
        self.0 = (self.0 * 2).min(PAUSE_MAX);
    }
}

/// Works where it may wait. A panic ends the process; a runtime that ends takes no more.
pub(super) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SealedStoreError> + Send + 'static,
) -> Result<T, SealedStoreError> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => std::future::pending().await,
    }
}

/// The keys of an agency's nodes that are connected.
pub(super) fn connected(network: &NetworkHandle, agency: &AgencyCode) -> Vec<PublicKey> {
    let connected = network.connected();
    let connected: Arc<[_]> = Arc::clone(&connected.borrow());
    connected.iter().filter(|peer| peer.agency == *agency).map(|peer| peer.key).collect()
}
