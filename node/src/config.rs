//! A node's configuration: one TOML file, see [`TEMPLATE`].
//!
//! Relative paths are relative to the file's own directory, so that a directory that holds a node
//! can be moved. Unknown fields are refused: a misspelt limit must not be a missing one.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use customhouse_files::{
    folder::resolved, keyfile::KeyFileError, passphrase::PassphraseSource, readfile,
};
use customhouse_ledger::{
    agency::AgencyCode,
    keys::PublicKey,
    limits::GENESIS_JSON_BYTES_MAX,
    registry::genesis::{Genesis, GenesisError},
};
use libp2p::Multiaddr;
use serde::{Deserialize, Deserializer};

use crate::attachments::{AttachmentLimits, fetching::FetchPolicy};

pub(crate) mod address;
mod filter;
mod keys;
#[cfg(test)]
mod tests;
mod vault;

pub use address::Listener;
pub use keys::{KeyPaths, NodeKeys, journal_path};
pub use vault::{RootKeyProtection, RootKeyProtectionError, VaultSection};

/// A configuration with every field explained. `customhouse network new` fills it in.
pub const TEMPLATE: &str = include_str!("config/template.toml");
/// A client's attachments that no committed record refers to.
const FILES_OF_CLIENT_MAX: u64 = 4096;
/// The largest configuration file, in bytes.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Why a node cannot be configured like this. Each names the file and the field.
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
    /// The genesis file is not a genesis.
    #[error("{path}: {source}")]
    Genesis {
        /// The file.
        path: PathBuf,
        /// Why.
        source: GenesisError,
    },
    /// A key could not be read.
    #[error("{path}: {field}: {source}")]
    Key {
        /// The configuration.
        path: PathBuf,
        /// For example `keys.validator`.
        field: &'static str,
        /// Names the key's file.
        source: KeyFileError,
    },
    /// It can be read, but a node cannot run with it.
    #[error("{path}: {}", reasons.join("\n  "))]
    NotReady {
        /// The configuration.
        path: PathBuf,
        /// Each names a field, what is wrong, and what to do.
        reasons: Vec<String>,
    },
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
    /// The log as tiles over HTTP, for auditors. Not served where absent.
    #[serde(default)]
    pub tlog: Option<TlogSection>,
    /// Backups of the store while the node runs. None are made where absent.
    #[serde(default)]
    pub backup: Option<BackupSection>,
    /// The keys of sealed records. A node without the section takes and reads none.
    #[serde(default)]
    pub vault: Option<VaultSection>,
    /// What bounds the node's use of memory and disk.
    #[serde(default)]
    pub limits: LimitsSection,
    /// Files that belong to records.
    #[serde(default)]
    pub attachments: AttachmentsSection,
    /// Logs.
    #[serde(default)]
    pub log: LogSection,
}

/// Peer-to-peer addresses.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSection {
    /// Where to listen.
    #[serde(deserialize_with = "address::listeners")]
    pub listen: Vec<Multiaddr>,
    /// Where the other agencies' nodes listen. Who they are is the registry's to say.
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
    #[serde(deserialize_with = "address::peers")]
    pub addresses: Vec<Multiaddr>,
    /// Peer keys of it that may connect whether the registry has them or not.
    #[serde(default, deserialize_with = "public_keys")]
    pub keys: Vec<PublicKey>,
}

/// The gRPC server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiSection {
    /// Where to listen.
    #[serde(deserialize_with = "address::listener")]
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
    #[serde(deserialize_with = "address::listener")]
    pub listen: SocketAddr,
}

/// The server of the log's tiles.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlogSection {
    /// Where to listen. Plain HTTP, for anyone who may see the log.
    #[serde(deserialize_with = "address::listener")]
    pub listen: SocketAddr,
}

/// Backups of the store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupSection {
    /// Where they are kept. Another disk than the store's is best.
    pub directory: PathBuf,
    /// How many of the newest are kept.
    #[serde(default = "backups_kept")]
    pub keep: usize,
}

/// How many backups are kept by default: as many as days in a week.
pub const fn backups_kept() -> usize {
    7
}

/// What bounds a node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSection {
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

impl Default for LimitsSection {
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

/// Files that belong to records: kept beside the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttachmentsSection {
    /// Bytes of all.
    pub bytes_max: u64,
    /// Bytes of one client's that no committed record refers to.
    pub client_bytes_max: u64,
    /// Bytes of the disk that are left free, for the ledger.
    pub disk_reserve_bytes: u64,
    /// Which of those that other nodes took are fetched.
    pub fetch: FetchPolicy,
}

impl Default for AttachmentsSection {
    fn default() -> Self {
        const GIB: u64 = 1024 * 1024 * 1024;
        Self {
            bytes_max: 64 * GIB,
            client_bytes_max: 4 * GIB,
            disk_reserve_bytes: 2 * GIB,
            fetch: FetchPolicy::All,
        }
    }
}

impl AttachmentsSection {
    /// How much they may take.
    pub fn limits(&self) -> AttachmentLimits {
        AttachmentLimits {
            bytes_max: self.bytes_max,
            bytes_of_client_max: self.client_bytes_max,
            files_of_client_max: FILES_OF_CLIENT_MAX,
            disk_reserve_bytes: self.disk_reserve_bytes,
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

    /// Reads the genesis.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read_genesis(&self) -> Result<Genesis, ConfigError> {
        let path = self.genesis.clone();
        let text = readfile::text(&path, GENESIS_JSON_BYTES_MAX).map_err(|error| {
            let what = match error.kind() {
                io::ErrorKind::NotFound => ": put the network's genesis there",
                _ => "",
            };
            self.field("genesis".to_owned(), format!("{}: {error}{what}", path.display()))
        })?;
        Genesis::from_json(&text).map_err(|source| ConfigError::Genesis { path, source })
    }

    /// The directory of attachments.
    pub fn attachments_path(&self) -> PathBuf {
        self.data_dir.join("attachments")
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
        if let Some(backup) = &mut self.backup {
            backup.directory = resolved(base, &backup.directory);
        }
        if let Some(vault) = &mut self.vault {
            vault.resolve_paths(base);
        }
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
            *path = resolved(base, path);
        }
        if let Some(PassphraseSource::File(path)) = &mut self.keys.passphrase {
            *path = resolved(base, path);
        }
        for path in [&mut self.keys.next_validator, &mut self.keys.checkpoint].into_iter().flatten()
        {
            *path = resolved(base, path);
        }
    }

    /// What the types do not say. The error is the field and the reason.
    fn check(&self) -> Result<(), (String, String)> {
        let wrong = |field: &str, reason: &str| Err((field.to_owned(), reason.to_owned()));
        if self.network.listen.is_empty() {
            return wrong("network.listen", "needs an address, such as /ip4/0.0.0.0/tcp/7400");
        }
        address::check("network.listen", &self.network.listen)?;
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
            address::check_peer(&format!("{field}.addresses"), &peer.addresses)?;
        }
        if self.tlog.is_some() && self.keys.checkpoint.is_none() {
            let reason =
                "is needed to serve [tlog]: `customhouse keys new --purpose checkpoint` makes one";
            return wrong("keys.checkpoint", reason);
        }
        if self.backup.as_ref().is_some_and(|backup| backup.keep == 0) {
            return wrong("backup.keep", "0, at least 1 is needed: the newest is always kept");
        }
        self.vault.as_ref().map_or(Ok(()), VaultSection::check)?;
        self.limits.check()?;
        filter::check(&self.log.filter).map_err(|reason| ("log.filter".to_owned(), reason))?;
        self.check_listeners()
    }

    /// No two listeners on one port.
    fn check_listeners(&self) -> Result<(), (String, String)> {
        let listeners = self.listeners();
        for (index, listener) in listeners.iter().enumerate() {
            let mut earlier = listeners[..index].iter();
            if let Some(other) = earlier.find(|other| other.collides_with(listener)) {
                let Listener { field, socket, .. } = listener;
                let reason =
                    format!("{socket}: {} listens on {} already", other.field, other.socket);
                return Err((field.clone(), reason));
            }
        }
        Ok(())
    }

    /// Where the node listens.
    pub fn listeners(&self) -> Vec<Listener> {
        let peers = self.network.listen.iter().enumerate().filter_map(|(index, address)| {
            let (field, socket) =
                (format!("network.listen[{index}]"), address::socket_of(address)?);
            Some(Listener { field, socket, both_families: false })
        });
        let named = |field: &str, socket| {
            let field = field.to_owned();
            Listener { field, socket, both_families: true }
        };
        let api = [named("api.listen", self.api.listen)];
        let metrics = self.metrics.as_ref().map(|section| named("metrics.listen", section.listen));
        let tlog = self.tlog.as_ref().map(|section| named("tlog.listen", section.listen));
        peers.chain(api).chain(metrics).chain(tlog).collect()
    }
}

impl LimitsSection {
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

fn public_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PublicKey>, D::Error> {
    let list = Vec::<String>::deserialize(deserializer)?;
    let parse = |text: String| {
        let key =
            hex::decode(text.trim()).ok().and_then(|bytes| PublicKey::from_slice(&bytes).ok());
        key.ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not a public key")))
    };
    list.into_iter().map(parse).collect()
}
