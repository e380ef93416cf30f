//! The services of a node, assembled: what everything that serves clients, auditors and operators is handed.
//!
//! [`crate::node`] puts them together, and those that use them need not know how.

use std::{sync::Arc, time::Instant};

use customhouse_ledger::{
    agency::AgencyCode, chain::ChainReader, hash::Hash, registry::genesis::Genesis,
};
use tokio::sync::watch;

use crate::{
    agreements::HeldAgreements,
    attachments::Attachments,
    checkpoint::CheckpointSigner,
    clock::ClockStatus,
    config::BackupSection,
    driver::{ConsensusStatus, SharedMempool},
    health::Health,
    metrics::Metrics,
    network::NetworkHandle,
    sealed::Holdings,
    submissions::Submissions,
};

/// What serving a node's clients takes.
pub struct Services {
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
    /// Files that belong to records.
    pub attachments: Attachments,
    /// The peers.
    pub network: NetworkHandle,
    /// How consensus stands.
    pub status: watch::Receiver<ConsensusStatus>,
    /// Height of the newest committed block, which changes when it is.
    pub committed: watch::Receiver<u64>,
    /// Transactions that wait for a block.
    pub mempool: SharedMempool,
    /// When the node started.
    pub started: Instant,
    /// Signs checkpoints of the log, where there is a key for it.
    pub checkpoints: Option<Arc<CheckpointSigner>>,
    /// Counters.
    pub metrics: Metrics,
    /// Whether the loops of the node answer.
    pub health: Health,
    /// Whether its clock is that of the other validators.
    pub clock: ClockStatus,
    /// Where backups go.
    pub backup: Option<BackupSection>,
    /// Sealed records, where it has a vault.
    pub holdings: Option<Holdings>,
    /// What the agency holds of its agreements: nothing where there are no such keys.
    pub agreements: HeldAgreements,
    /// Held while a backup is made.
    pub backing_up: Arc<tokio::sync::Mutex<()>>,
}
