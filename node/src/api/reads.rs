//! Reading the committed chain for a call.

use std::sync::Arc;

use customhouse_ledger::{
    chain::{ChainReader, Tip},
    hash::Hash,
    store::StoreError,
};
use customhouse_proto::v1;

use super::refused::Refused;
use crate::node::Shared;

/// Reads away from the async workers, because a read may wait for the disk.
pub(super) async fn read<T: Send + 'static>(
    node: &Shared,
    read: impl FnOnce(&ChainReader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Refused> {
    let reader = node.reader.clone();
    let answer = tokio::task::spawn_blocking(move || read(&reader)).await;
    // The task fails only where the runtime is going down.
    Ok(answer.map_err(|_| Refused::shutting_down())??)
}

/// A hash in a request.
pub(super) fn hash_field(field: &str, bytes: &[u8]) -> Result<Hash, Refused> {
    Hash::from_slice(bytes).map_err(|error| Refused::field(field, "FIELD", error))
}

/// How fresh an answer is that was read at this tip.
pub(super) fn freshness(node: &Arc<Shared>, tip: &Tip) -> v1::Freshness {
    v1::Freshness {
        height: tip.header.height,
        block_hash: tip.hash.0.to_vec(),
        time_ms: tip.header.time_ms,
        catching_up: node.status.borrow().catching_up,
    }
}
