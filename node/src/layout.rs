//! Where an agency's files are, and how a network of several agencies is laid out on one machine.
//!
//! ```text
//! net/
//!   genesis.json
//!   NL-DOUANE/
//!     node.toml                 the node's configuration
//!     agency.json               the agency's public keys: its object in the genesis
//!     keys/                     validator.key, validator.journal, peer.key, signing.key, checkpoint.key
//!     tls/                      ca.crt, ca.key, server.crt, server.key
//!     data/                     made by the node
//!     clients/broker/           client.toml, client.crt, client.key; for an integrator submitter.key
//!   BE-AADA/
//!     …
//! ```

use std::{fs, io, path::Path, path::PathBuf};

use customhouse_ledger::genesis::GenesisError;

use crate::{
    config::ConfigError,
    journal::JournalError,
    keyfile::KeyFileError,
    newfile,
    tls::{AuthorityError, FileError},
};

mod agency;
mod local;
mod profile;

pub use agency::{
    AgencyFile, RegisteredKey, RegisteredRole, create_agency_keys, genesis_of, read_agency_file,
};
pub use local::{LocalAgency, LocalNetwork, NewNetwork, Ports};
pub use profile::Profile;

/// Why files could not be laid out or read. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The system's answer.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing is laid out over something else.
    #[error("{0} exists: choose another name, or remove it first")]
    Exists(PathBuf),
    /// The content is not what it should be.
    #[error("{path}: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// What was asked for makes no network.
    #[error("{0}")]
    Plan(String),
    /// Keys.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The signer's journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The genesis.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// A node's configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Certificates.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Certificate files.
    #[error(transparent)]
    Certificate(#[from] FileError),
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> LayoutError + '_ {
    move |source| LayoutError::Io { path: path.to_owned(), source }
}

fn create_dir(path: &Path) -> Result<(), LayoutError> {
    fs::create_dir_all(path).map_err(io_error(path))
}

/// Writes a new file that everyone may read.
///
/// # Errors
/// [`LayoutError::Exists`], or the system's answer.
pub fn write_public(path: &Path, text: &str) -> Result<(), LayoutError> {
    newfile::write(path, text.as_bytes(), 0o644).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => LayoutError::Exists(path.to_owned()),
        _ => LayoutError::Io { path: path.to_owned(), source },
    })
}
