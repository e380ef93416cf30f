//! A node's configuration: one TOML file, see [`TEMPLATE`].
//!
//! Relative paths are relative to the file's own directory, so that a directory that holds a node
//! can be moved. Unknown fields are refused: a misspelt limit must not be a missing one.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use customhouse_ledger::{
    agency::AgencyCode,
    genesis::{GENESIS_BYTES_MAX, Genesis, GenesisError},
    keys::SigningKey,
};
use libp2p::{Multiaddr, multiaddr::Protocol};
use serde::{Deserialize, Deserializer};

use crate::{
    keyfile::{KeyFile, KeyFileError, KeyPurpose},
    readfile,
};

#[cfg(test)]
mod tests;

/// A configuration with every field explained. `customhouse network new` fills it in.
pub const TEMPLATE: &str = include_str!("config/template.toml");
/// Bytes of a configuration at the most.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Why a node cannot be configured so. Each names the file and the field.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Not TOML, an unknown field, or a value of another type; the reason has line and field.
    #[error("{path}: {reason}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// What and where.
        reason: String,
    },
    /// A value that makes no sense.
    #[error("{path}: {field}: {reason}")]
    Field {
        /// The file.
        path: PathBuf,
        /// For example `network.peers[1].agency`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The genesis is none.
    #[error("{path}: {source}")]
    Genesis {
        /// The file.
        path: PathBuf,
        /// Why.
        source: GenesisError,
    },
    /// A key could not be read.
    #[error(transparent)]
    Key(#[from] KeyFileError),
}

/// The configuration of a node.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// The file it was read from.
    #[serde(skip)]
    pub file: PathBuf,
    /// Where the node keeps its store and the signer's journal.
    pub data_dir: PathBuf,
    /// The genesis, as JSON.
    pub genesis: PathBuf,
    /// Which agency's node this is.
    pub agency: AgencyCode,
    /// Where its keys are.
    pub keys: KeyPaths,
    /// Peer-to-peer.
    pub network: NetworkSection,
    /// gRPC.
    pub api: ApiSection,
    /// Prometheus metrics and health over HTTP. Neither is served where absent.
    #[serde(default)]
    pub metrics: Option<MetricsSection>,
    /// What bounds the node's use of memory and disk.
    #[serde(default)]
    pub limits: Limits,
    /// Logs.
    #[serde(default)]
    pub log: LogSection,
}

/// Key files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPaths {
    /// Signs votes.
    pub validator: PathBuf,
    /// The libp2p identity.
    pub peer: PathBuf,
    /// Signs transactions for the agency's clients.
    pub signing: PathBuf,
}

/// Peer-to-peer addresses.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSection {
    /// Where to listen.
    #[serde(deserialize_with = "multiaddrs")]
    pub listen: Vec<Multiaddr>,
    /// Where the other agencies' nodes listen. Who they are is the genesis registry's to say.
    #[serde(default)]
    pub peers: Vec<PeerSection>,
}

/// Where another agency's node listens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerSection {
    /// Whose.
    pub agency: AgencyCode,
    /// Tried in order.
    #[serde(deserialize_with = "multiaddrs")]
    pub addresses: Vec<Multiaddr>,
}

/// The gRPC server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiSection {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Mutual TLS; there is no other way in.
    pub tls: TlsPaths,
}

/// PEM files of a TLS endpoint.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsPaths {
    /// Certificates of the authorities whose client certificates are accepted.
    pub ca: PathBuf,
    /// The server's certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The metrics and health server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsSection {
    /// Where to listen. Plain HTTP: keep it inside.
    pub listen: SocketAddr,
}

/// What bounds a node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of transactions waiting for a block.
    pub mempool_bytes: u64,
    /// Transactions waiting for a block.
    pub mempool_transactions: u64,
    /// Bytes of records accepted from clients and not yet final, kept on disk.
    pub outbox_bytes: u64,
    /// gRPC requests worked on at one time.
    pub api_requests: u64,
    /// Bytes of the store's block cache.
    pub store_cache_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            mempool_bytes: 64 * 1024 * 1024,
            mempool_transactions: 65_536,
            outbox_bytes: 256 * 1024 * 1024,
            api_requests: 1024,
            store_cache_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Logs, written to standard error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSection {
    /// For people or for machines.
    pub format: LogFormat,
    /// A filter as in `info,customhouse_node::network=debug`.
    pub filter: String,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".into() }
    }
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One line an event, for people.
    Text,
    /// One JSON object an event.
    Json,
}

/// A node's secret keys.
#[derive(Clone, Debug)]
pub struct NodeKeys {
    /// Signs votes.
    pub validator: SigningKey,
    /// The libp2p identity.
    pub peer: SigningKey,
    /// Signs transactions.
    pub signing: SigningKey,
}

impl NodeConfig {
    /// Reads and checks a file. Keys and genesis are read apart, by [`NodeConfig::read_keys`] and
    /// [`NodeConfig::read_genesis`].
    ///
    /// # Errors
    /// [`ConfigError`], naming the field.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = readfile::text(file, FILE_BYTES_MAX)
            .map_err(|source| ConfigError::Io { path: file.to_owned(), source })?;
        Self::parse(&text, file)
    }

    /// Reads the text of the file at `file`.
    ///
    /// # Errors
    /// [`ConfigError`], naming the field.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text).map_err(|error| {
            let reason = error.to_string().trim_end().to_owned();
            ConfigError::Toml { path: file.to_owned(), reason }
        })?;
        config.file = file.to_owned();
        config.resolve_paths(file.parent().unwrap_or(Path::new("")));
        config.check().map_err(|(field, reason)| ConfigError::Field {
            path: file.to_owned(),
            field,
            reason,
        })?;
        Ok(config)
    }

    /// Reads the genesis and checks that this agency is in it.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read_genesis(&self) -> Result<Genesis, ConfigError> {
        let path = self.genesis.clone();
        let text = readfile::text(&path, GENESIS_BYTES_MAX)
            .map_err(|source| ConfigError::Io { path: path.clone(), source })?;
        let genesis =
            Genesis::from_json(&text).map_err(|source| ConfigError::Genesis { path, source })?;
        let peers = genesis.registry.peers_at(1);
        for (index, peer) in self.network.peers.iter().enumerate() {
            if !peers.iter().any(|(agency, _)| *agency == peer.agency) {
                let reason = format!("the genesis has no peer key of {}", peer.agency);
                return Err(self.field(format!("network.peers[{index}].agency"), reason));
            }
        }
        Ok(genesis)
    }

    /// Reads the keys and checks that the genesis registers each for this agency.
    ///
    /// # Errors
    /// [`ConfigError`]; an unregistered key names its field.
    pub fn read_keys(&self, genesis: &Genesis) -> Result<NodeKeys, ConfigError> {
        let read = |path, purpose| KeyFile::read_for(path, purpose, self.agency).map(|f| f.key);
        let keys = NodeKeys {
            validator: read(&self.keys.validator, KeyPurpose::Validator)?,
            peer: read(&self.keys.peer, KeyPurpose::Peer)?,
            signing: read(&self.keys.signing, KeyPurpose::Signing)?,
        };
        let validator = keys.validator.public();
        let votes = genesis
            .validators()
            .as_slice()
            .iter()
            .any(|v| (v.agency, v.key) == (self.agency, validator));
        let connects = genesis.registry.peers_at(1).contains(&(self.agency, keys.peer.public()));
        let signs = genesis
            .registry
            .signer_at(&keys.signing.public(), 1)
            .is_some_and(|signer| signer.agency == self.agency);
        for (field, registered) in
            [("keys.validator", votes), ("keys.peer", connects), ("keys.signing", signs)]
        {
            if !registered {
                let reason = format!(
                    "the genesis {} does not register this key for {}",
                    self.genesis.display(),
                    self.agency
                );
                return Err(self.field(field.to_owned(), reason));
            }
        }
        Ok(keys)
    }

    /// The signer's journal: beside the validator key, made together with it.
    pub fn journal_path(&self) -> PathBuf {
        journal_path(&self.keys.validator)
    }

    /// The store's directory.
    pub fn store_path(&self) -> PathBuf {
        self.data_dir.join("store")
    }

    fn field(&self, field: String, reason: String) -> ConfigError {
        ConfigError::Field { path: self.file.clone(), field, reason }
    }

    fn resolve_paths(&mut self, base: &Path) {
        let tls = &mut self.api.tls;
        for path in [
            &mut self.data_dir,
            &mut self.genesis,
            &mut self.keys.validator,
            &mut self.keys.peer,
            &mut self.keys.signing,
            &mut tls.ca,
            &mut tls.cert,
            &mut tls.key,
        ] {
            // An absolute path stays what it is.
            *path = base.join(&*path);
        }
    }

    /// What the types do not say. The error is the field and the reason.
    fn check(&self) -> Result<(), (String, String)> {
        let wrong = |field: &str, reason: &str| Err((field.to_owned(), reason.to_owned()));
        if self.network.listen.is_empty() {
            return wrong("network.listen", "needs an address, such as /ip4/0.0.0.0/tcp/7400");
        }
        check_addresses("network.listen", &self.network.listen)?;
        for (index, peer) in self.network.peers.iter().enumerate() {
            let field = format!("network.peers[{index}]");
            if peer.agency == self.agency {
                return wrong(&format!("{field}.agency"), "is this node's own agency");
            }
            if self.network.peers[..index].iter().any(|other| other.agency == peer.agency) {
                return wrong(
                    &format!("{field}.agency"),
                    "is listed twice: put both addresses in one",
                );
            }
            if peer.addresses.is_empty() {
                return wrong(&format!("{field}.addresses"), "needs an address");
            }
            check_addresses(&format!("{field}.addresses"), &peer.addresses)?;
        }
        self.limits.check()?;
        if let Err(error) = self.log.filter.parse::<tracing_subscriber::EnvFilter>() {
            return Err(("log.filter".to_owned(), error.to_string()));
        }
        Ok(())
    }
}

impl Limits {
    fn check(&self) -> Result<(), (String, String)> {
        const MIB: u64 = 1024 * 1024;
        for (field, value, min) in [
            ("limits.mempool_bytes", self.mempool_bytes, MIB),
            ("limits.mempool_transactions", self.mempool_transactions, 1),
            ("limits.outbox_bytes", self.outbox_bytes, MIB),
            ("limits.api_requests", self.api_requests, 1),
            ("limits.store_cache_bytes", self.store_cache_bytes, MIB),
        ] {
            if value < min {
                return Err((field.to_owned(), format!("{value}, at least {min} is needed")));
            }
        }
        Ok(())
    }
}

/// Where the journal of a validator key is: `validator.key` has `validator.journal` beside it.
pub fn journal_path(validator_key: &Path) -> PathBuf {
    validator_key.with_extension("journal")
}

/// Only TCP is spoken, and no name server is asked.
fn check_addresses(field: &str, addresses: &[Multiaddr]) -> Result<(), (String, String)> {
    for (index, address) in addresses.iter().enumerate() {
        let parts: Vec<_> = address.iter().collect();
        let tcp = matches!(parts[..], [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Tcp(_)]);
        if !tcp {
            let reason = format!("{address}: an address such as /ip4/192.0.2.1/tcp/7400 expected");
            return Err((format!("{field}[{index}]"), reason));
        }
    }
    Ok(())
}

fn multiaddrs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Multiaddr>, D::Error> {
    let list = Vec::<String>::deserialize(deserializer)?;
    let parse = |text: String| {
        text.parse().map_err(|error| {
            serde::de::Error::custom(format!("`{text}` is not a multiaddress: {error}"))
        })
    };
    list.into_iter().map(parse).collect()
}
