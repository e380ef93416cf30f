//! Whether a node could run as its configuration says: what a run needs is tried, and nothing is started.
//!
//! `node check` and `node run` ask for the same list. What they make of a finding differs where a node
//! that votes is worth more than one that is right in everything: see [`Severity`].

use std::{
    fmt,
    net::TcpListener,
    path::{Path, PathBuf},
    time::SystemTime,
};

use customhouse_files::keyfile::KeyPurpose;
use customhouse_ledger::{
    chain::ChainReader,
    keys::PublicKey,
    registry::genesis::Genesis,
    store::{FolderLock, StoreError, StoreOptions},
};
use customhouse_proto::v1::{Role, registry_entry::Entry};

use crate::{
    config::{ConfigError, Listener, NodeConfig, NodeKeys, address},
    descriptors::Descriptors,
    journal::{SignerJournal, ValidatorKey},
};

mod certificates;
mod data;
mod secrets;
mod vault;

/// What a finding means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It may be intended: it is only reported.
    Worth,
    /// A node that runs like this does not do all that it is there for, such as signing, or is not
    /// safe from everybody else. It is not ready; a run says so in its log and goes on.
    Hinders,
    /// A node cannot run like this, or must not.
    Stops,
}

/// Something that a node's operator should know before it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it means.
    pub severity: Severity,
    /// The field of the configuration, for example `api.tls.cert`.
    pub field: String,
    /// The file or directory that the field names, where it names one.
    pub path: Option<PathBuf>,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, path, reason, .. } = self;
        match path {
            Some(path) => write!(f, "{field}: {}: {reason}", path.display()),
            None => write!(f, "{field}: {reason}"),
        }
    }
}

/// All that was found, in the order in which it was looked for.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    pub(crate) fn add(
        &mut self,
        severity: Severity,
        field: &str,
        path: Option<&Path>,
        reason: impl Into<String>,
    ) {
        let (field, path) = (field.to_owned(), path.map(Path::to_owned));
        let finding = Finding { severity, field, path, reason: reason.into() };
        // Files that share a directory say the same of it.
        if !self.0.iter().any(|other| other.path == finding.path && other.reason == finding.reason)
        {
            self.0.push(finding);
        }
    }

    /// Findings of at least this weight.
    pub fn from(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        self.0.iter().filter(move |finding| finding.severity >= severity)
    }

    /// Findings of no more than this weight.
    pub fn up_to(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        self.0.iter().filter(move |finding| finding.severity <= severity)
    }
}

/// Tries what a run needs of its files: certificates, secrets, data and keys.
///
/// # Errors
/// Where genesis or keys cannot be read at all: there is nothing more to look at.
pub fn of_files(config: &NodeConfig, genesis: &Genesis, keys: &NodeKeys) -> Findings {
    let mut findings = Findings::default();
    secrets::check(config, &mut findings);
    certificates::check(&config.api.tls, SystemTime::now(), &mut findings);
    data::check(config, &mut findings);
    vault::check(config, &mut findings);
    check_registration(config, genesis, keys, &mut findings);
    check_peers(config, genesis, &mut findings);
    findings
}

/// Tries what a run takes for itself: its listeners, its keys' journals, its store, its vault, and the files that it
/// may open. Where the node runs, it has them.
pub fn of_resources(
    config: &NodeConfig,
    genesis: &Genesis,
    keys: &NodeKeys,
    findings: &mut Findings,
) {
    for Listener { field, socket, .. } in config.listeners() {
        if let Err(error) = TcpListener::bind(socket) {
            let hint = match error.kind() {
                std::io::ErrorKind::AddrInUse => " (the node that runs? `--running` leaves it out)",
                _ => "",
            };
            let reason = format!("cannot listen on {socket}: {error}{hint}");
            findings.add(Severity::Stops, &field, None, reason);
        }
    }
    let present = [("keys.validator", Some(&keys.validator))];
    let next = [("keys.next_validator", keys.next_validator.as_ref())];
    for (field, key) in present.into_iter().chain(next) {
        let Some(ValidatorKey { key, journal }) = key else { continue };
        if let Err(error) = SignerJournal::try_out(journal, &key.public()) {
            findings.add(Severity::Hinders, field, None, error.to_string());
        }
    }
    let store = config.store_path();
    let in_use = FolderLock::shared(&config.data_dir);
    let open = |_in_use| ChainReader::open(&store, genesis, &StoreOptions::default());
    match in_use.and_then(open).map(|reader| reader.tip()) {
        Ok(tip) => vault::try_out(config, &tip.registry, tip.header.height + 1, findings),
        // What the registry says of the vault, the genesis says until there is a store.
        Err(error) => {
            if !matches!(error, StoreError::Missing(_)) {
                findings.add(Severity::Stops, "data_dir", Some(&store), error.to_string());
            }
            vault::try_out(config, &genesis.registry, 1, findings);
        }
    }
    if let Err(error) = Descriptors::claim() {
        findings.add(Severity::Stops, "open files", None, error.to_string());
    }
}

/// Keys that the genesis registers otherwise are wrong ones; those that it does not know may be new.
fn check_registration(
    config: &NodeConfig,
    genesis: &Genesis,
    keys: &NodeKeys,
    findings: &mut Findings,
) {
    let next = keys.next_validator.as_ref().map(|next| next.key.public());
    let used = [
        ("keys.validator", Some(keys.validator.key.public()), KeyPurpose::Validator),
        ("keys.next_validator", next, KeyPurpose::Validator),
        ("keys.peer", Some(keys.peer.public()), KeyPurpose::Peer),
        ("keys.signing", Some(keys.signing.public()), KeyPurpose::Signing),
    ];
    for (field, key, expected) in used {
        let Some((agency, found)) = key.and_then(|key| registered(genesis, &key)) else { continue };
        if agency != config.agency.as_str() || found != expected {
            let reason = format!(
                "the genesis registers this key for {agency} as a {found} key: it is not {}'s {expected} \
                 key",
                config.agency
            );
            findings.add(Severity::Stops, field, None, reason);
        }
    }
    let missing = config.unregistered(keys, genesis);
    let own = config.agency.as_str();
    let listed = genesis
        .registry
        .entries()
        .any(|entry| matches!(&entry.entry, Some(Entry::Agency(agency)) if agency.agency == own));
    if listed && missing.len() == 3 && !config.store_path().exists() {
        let reason = format!(
            "registers other keys for {} than this node's, all of them: it is another network's, or the \
             keys are",
            config.agency
        );
        findings.add(Severity::Hinders, "genesis", Some(&config.genesis), reason);
    }
    for field in missing {
        let reason = format!(
            "the genesis does not register this key for {}: it must be, or have been, registered since \
             (`customhouse registry show`)",
            config.agency
        );
        findings.add(Severity::Worth, field, None, reason);
    }
}

/// Whose key the genesis says it is, and what for.
fn registered<'a>(genesis: &'a Genesis, key: &PublicKey) -> Option<(&'a str, KeyPurpose)> {
    genesis.registry.entries().find_map(|entry| {
        let (agency, public_key, purpose) = match entry.entry.as_ref()? {
            Entry::Validator(e) => (&e.agency, &e.public_key, KeyPurpose::Validator),
            Entry::Peer(e) => (&e.agency, &e.public_key, KeyPurpose::Peer),
            Entry::SigningKey(e) if e.role() != Role::Node => {
                (&e.agency, &e.public_key, KeyPurpose::Submitter)
            }
            Entry::SigningKey(e) => (&e.agency, &e.public_key, KeyPurpose::Signing),
            Entry::Agency(_)
            | Entry::Parameter(_)
            | Entry::EncryptionKey(_)
            | Entry::DedupeCheck(_) => return None,
        };
        (public_key == key.as_bytes()).then_some((agency.as_str(), purpose))
    })
}

fn check_peers(config: &NodeConfig, genesis: &Genesis, findings: &mut Findings) {
    let known = genesis.registry.peers_at(1);
    for (index, peer) in config.network.peers.iter().enumerate() {
        let field = format!("network.peers[{index}]");
        if !known.iter().any(|(agency, _)| *agency == peer.agency) {
            let reason = format!(
                "the genesis has no peer key of {}: it must have been registered since, or will be",
                peer.agency
            );
            findings.add(Severity::Worth, &format!("{field}.agency"), None, reason);
        }
        for (at, address) in peer.addresses.iter().enumerate() {
            if address::is_of_documentation(address) {
                let reason = format!(
                    "{address} is an address of the template: ask {} where its node listens",
                    peer.agency
                );
                findings.add(Severity::Hinders, &format!("{field}.addresses[{at}]"), None, reason);
            }
        }
    }
}

/// Reads a configuration's genesis and keys, and has all of it looked at as a run would.
///
/// # Errors
/// What cannot be read, or [`ConfigError::NotReady`] with all that stops a run.
pub fn require(config: &NodeConfig) -> Result<(Genesis, NodeKeys), ConfigError> {
    let genesis = config.read_genesis()?;
    let keys = config.read_keys()?;
    let findings = of_files(config, &genesis, &keys);
    for finding in findings.up_to(Severity::Hinders) {
        match finding.severity {
            Severity::Worth => tracing::warn!(%finding, "worth a look"),
            _ => tracing::error!(%finding, "the node is not as it should be"),
        }
    }
    refuse(config, &findings, Severity::Stops)?;
    Ok((genesis, keys))
}

/// # Errors
/// [`ConfigError::NotReady`] with all findings of this weight and more, if there are any.
pub fn refuse(config: &NodeConfig, findings: &Findings, from: Severity) -> Result<(), ConfigError> {
    let reasons: Vec<_> = findings.from(from).map(ToString::to_string).collect();
    if reasons.is_empty() {
        return Ok(());
    }
    Err(ConfigError::NotReady { path: config.file.clone(), reasons })
}
