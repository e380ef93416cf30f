//! Admission to the mempool: what the chain's state says about a verified transaction.

use std::sync::Arc;

use customhouse_ledger::{
    agency::AgencyCode,
    chain::{ChainReader, TransactionInvalid},
    hash::Hash,
    keys::PublicKey,
    store::StoreError,
    transaction::{TransactionHeader, VerifiedTransaction},
};

use crate::{
    driver::{DriverHandle, SharedMempool, lock},
    mempool::MempoolError,
};

/// Why a transaction was not admitted.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// The signer is not registered at the next height.
    #[error("key {0} is not a registered signing key")]
    UnknownSigner(PublicKey),
    /// The signer is another agency's.
    #[error("key {key} is registered for agency {registered}, not for {stated}")]
    OtherAgency {
        /// The signer.
        key: PublicKey,
        /// Whose it is.
        registered: AgencyCode,
        /// In the transaction.
        stated: AgencyCode,
    },
    /// `not_after` is past.
    #[error("the transaction expired at {not_after_ms} ms; it is {now_ms} ms now")]
    Expired {
        /// The transaction's.
        not_after_ms: u64,
        /// This node's clock.
        now_ms: u64,
    },
    /// `not_after` is too far away.
    #[error("the transaction expires more than {lifetime_ms_max} ms from now")]
    TooLongLived {
        /// The network's parameter.
        lifetime_ms_max: u64,
    },
    /// It is on the ledger. Not a fault.
    #[error("transaction {0} is on the ledger already")]
    Committed(Hash),
    /// It changes the registry or accuses a key, and no block may carry that.
    #[error("{0}")]
    Registry(TransactionInvalid),
    /// No room, or there already.
    #[error("{0}")]
    Mempool(#[from] MempoolError),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl AdmissionError {
    /// A stable code for clients and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownSigner(_) => "UNKNOWN_SIGNER",
            Self::OtherAgency { .. } => "OTHER_AGENCY",
            Self::Expired { .. } => "EXPIRED",
            Self::TooLongLived { .. } => "LIFETIME",
            Self::Committed(_) => "COMMITTED",
            Self::Registry(invalid) => invalid.code(),
            Self::Mempool(MempoolError::Present) => "PRESENT",
            Self::Mempool(_) => "MEMPOOL_FULL",
            Self::Store(_) => "STORE",
        }
    }
}

/// The door to the mempool. Cheap to clone.
#[derive(Clone)]
pub struct Admission {
    reader: ChainReader,
    mempool: SharedMempool,
    driver: DriverHandle,
}

impl Admission {
    /// A door to this mempool.
    pub fn new(reader: ChainReader, mempool: SharedMempool, driver: DriverHandle) -> Self {
        Self { reader, mempool, driver }
    }

    /// Checks a transaction against the committed state and the clock.
    ///
    /// # Errors
    /// [`AdmissionError`], except for the mempool's.
    pub fn check(
        &self,
        transaction: &VerifiedTransaction,
        now_ms: u64,
    ) -> Result<(), AdmissionError> {
        check(&self.reader, transaction, now_ms)
    }

    /// Puts a transaction into the mempool. Its header was checked, and it was looked up on the ledger,
    /// before its signature was checked.
    ///
    /// # Errors
    /// [`AdmissionError`].
    pub fn admit(&self, transaction: Arc<VerifiedTransaction>) -> Result<(), AdmissionError> {
        check_registered(&self.reader, &transaction, crate::clock::unix_ms())?;
        self.insert(transaction)
    }

    /// Puts a checked transaction into the mempool and tells the driver.
    ///
    /// # Errors
    /// [`AdmissionError::Mempool`], or [`AdmissionError::Committed`] meanwhile.
    pub fn insert(&self, transaction: Arc<VerifiedTransaction>) -> Result<(), AdmissionError> {
        let (id, leaf_hash) = (transaction.id(), transaction.leaf_hash());
        lock(&self.mempool).insert(transaction)?;
        // It may have been committed since it was checked, and its block have left the mempool before
        // it came in: nothing would take it out again.
        if self.reader.log_index(&id)?.is_some() {
            lock(&self.mempool).remove(&leaf_hash);
            return Err(AdmissionError::Committed(id));
        }
        self.driver.work();
        Ok(())
    }

    /// Bytes that a transaction takes at least of [`Admission::room`].
    pub fn least_bytes(&self) -> usize {
        lock(&self.mempool).least_bytes()
    }

    /// Whether a transaction waits for a block here.
    pub fn waits(&self, id: &Hash) -> bool {
        lock(&self.mempool).has_id(id)
    }

    /// Bytes that a key of an agency may have in the mempool, in all; `None` where it has so much that
    /// nothing new of it should be accepted.
    pub fn room(&self, agency: AgencyCode, signer: &PublicKey) -> Option<usize> {
        lock(&self.mempool).room(agency, signer)
    }
}

/// What the chain's state and the clock say about a transaction.
///
/// # Errors
/// [`AdmissionError`], except for the mempool's.
pub fn check(
    reader: &ChainReader,
    transaction: &VerifiedTransaction,
    now_ms: u64,
) -> Result<(), AdmissionError> {
    check_header(reader, transaction.header(), now_ms)?;
    if reader.log_index(&transaction.id())?.is_some() {
        return Err(AdmissionError::Committed(transaction.id()));
    }
    check_registered(reader, transaction, now_ms)
}

/// What the registry says about a change of the registry. A leader would merely drop a change that no block
/// may carry, and nothing would be left by which to know it when it comes again.
fn check_registered(
    reader: &ChainReader,
    transaction: &VerifiedTransaction,
    now_ms: u64,
) -> Result<(), AdmissionError> {
    reader.check_registered(transaction, now_ms)?.map_err(AdmissionError::Registry)
}

/// What the registry and the clock say about a transaction's header, before its signature is checked.
///
/// # Errors
/// [`AdmissionError`], except for the store's and the mempool's.
pub fn check_header(
    reader: &ChainReader,
    header: &TransactionHeader,
    now_ms: u64,
) -> Result<(), AdmissionError> {
    let tip = reader.tip();
    let signer = tip
        .registry
        .signer_at(&header.signer, tip.header.height + 1)
        .ok_or(AdmissionError::UnknownSigner(header.signer))?;
    if signer.agency != header.agency {
        let (key, registered, stated) = (header.signer, signer.agency, header.agency);
        return Err(AdmissionError::OtherAgency { key, registered, stated });
    }
    let not_after_ms = header.not_after_ms;
    if not_after_ms < now_ms {
        return Err(AdmissionError::Expired { not_after_ms, now_ms });
    }
    let lifetime_ms_max = tip.parameters.transaction_lifetime_ms_max;
    let skew_ms = tip.parameters.time_skew_ms_max;
    if not_after_ms > now_ms.saturating_add(lifetime_ms_max).saturating_add(skew_ms) {
        return Err(AdmissionError::TooLongLived { lifetime_ms_max });
    }
    Ok(())
}
