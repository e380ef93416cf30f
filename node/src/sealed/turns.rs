//! What deliveries and fetches share: pauses that grow, work away from the async threads, and who is connected.

use std::{sync::Arc, time::Duration};

use customhouse_ledger::{agency::AgencyCode, keys::PublicKey};
use tokio::task::spawn_blocking;

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

    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
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
