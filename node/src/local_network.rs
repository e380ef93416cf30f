//! Where an agency's files are, and how a network of several agencies is laid out on one machine.
//!
//! ```text
//! net/
//!   genesis.json
//!   agreements/BE-AADA+NL-DOUANE.json    one that all parties have approved, where it was asked for
//!   NL-DOUANE/
//!     node.toml                 the node's configuration
//!     agency.json               the agency's public keys: its object in the genesis
//!     keys/                     validator.key, validator.journal, peer.key, signing.key, checkpoint.key
//!     vault/                    the keys of sealed records
//!     tls/                      ca.crt, ca.key, server.crt, server.key
//!     data/                     made by the node
//!     clients/broker/           client.toml, client.crt, client.key; for an integrator submitter.key
//!   BE-AADA/
//!     …
//! ```

use customhouse_files::{folder::FolderError, keyfile::KeyFileError, pem::PemError};
use customhouse_ledger::registry::genesis::GenesisError;

use crate::{
    agreements::{KeepError, offer_file::OfferFileError},
    config::ConfigError,
    journal::JournalError,
    sealed::keys::SealingKeysError,
    tls::AuthorityError,
};

mod agency;
mod agreements;
mod network;

pub use agency::create_agency_keys;
pub use network::{LocalAgency, LocalNetwork, NewNetwork, Ports};

/// Why files could not be laid out or read. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum LocalNetworkError {
    /// A file or directory.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// What was asked for makes no network.
    #[error("{0}")]
    Plan(String),
    /// Keys.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The signer's journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The vault.
    #[error(transparent)]
    Vault(#[from] SealingKeysError),
    /// The genesis.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// A node's configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Certificates.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The secret or the terms of an agreement.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// The file of an agreement.
    #[error(transparent)]
    OfferFile(#[from] OfferFileError),
    /// Certificate files.
    #[error(transparent)]
    Certificate(#[from] PemError),
}
