//! Why the bytes of sealed records cannot be kept or read.

use std::path::PathBuf;

use customhouse_ledger::store::StoreError;
use customhouse_vault::error::{MirrorError, VaultError};

/// Why this node's store of sealed records cannot go on. The node stops: acceptance means durable.
#[derive(Debug, thiserror::Error)]
pub enum SealedStoreError {
    /// RocksDB failed.
    #[error(
        "store of sealed records: {0}. Check the disk; the node stops before it accepts anything more"
    )]
    Store(#[from] rocksdb::Error),
    /// A value is not what was written.
    #[error(
        "store of sealed records: damaged value in `{family}` for {key}. Move the folder away: what the other \
         parties hold is fetched from them again, and what no other holds is in the mirror"
    )]
    Damaged {
        /// Column family.
        family: &'static str,
        /// In hexadecimal.
        key: String,
    },
    /// It is of another network.
    #[error(
        "store of sealed records {0}: it is of another chain. Move it away, and the node begins a new one; or configure \
         the network that it is of"
    )]
    OtherChain(PathBuf),
    /// Its files are not all there, or not as they were written: it would be opened without a part of it.
    #[error(
        "store of sealed records {path}: {what}. A part of what is held would be left out; put the folder right, or \
         move it away, and what the other parties hold is fetched from them again"
    )]
    HiddenLoss {
        /// Its folder.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl SealedError {
    /// The store's own error, and nothing of any other: for those that go on without what they tried.
    pub(super) fn unless_of_store(self) -> Result<(), SealedStoreError> {
        match self {
            Self::Store(error) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Why a sealed record is not kept or not read.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// The store of sealed records.
    #[error("{0}")]
    Store(#[from] SealedStoreError),
    /// The ledger's.
    #[error("{0}")]
    Ledger(#[from] StoreError),
    /// The vault.
    #[error("{0}")]
    Vault(#[from] VaultError),
    /// The second place.
    #[error("{0}")]
    Mirror(#[from] MirrorError),
    /// What was opened is not what was sealed.
    #[error(
        "record {record_id} of {agency}: its bytes here are not those of its id; they are fetched again"
    )]
    Content {
        /// Who lodged it.
        agency: String,
        /// Its id.
        record_id: String,
    },
}
