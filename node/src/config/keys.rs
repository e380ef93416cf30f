//! The section `[keys]`: where a node's key files are, and what is in them.

use std::{
    cell::OnceCell,
    path::{Path, PathBuf},
};

use customhouse_files::{
    keyfile::{KeyFile, KeyFileError, KeyPurpose},
    passphrase::{Passphrase, PassphraseSource},
};
use customhouse_ledger::{keys::SigningKey, registry::genesis::Genesis};
use serde::Deserialize;

use super::{ConfigError, NodeConfig};
use crate::journal::ValidatorKey;

/// Key files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPaths {
    /// Signs votes, or is to: a node whose key has no vote follows.
    pub validator: PathBuf,
    /// The key that is to take its place. It signs from the height on at which the registry gives it
    /// the vote.
    #[serde(default)]
    pub next_validator: Option<PathBuf>,
    /// The libp2p identity.
    pub peer: PathBuf,
    /// Signs transactions for the agency's clients.
    pub signing: PathBuf,
    /// Signs checkpoints of the log.
    #[serde(default)]
    pub checkpoint: Option<PathBuf>,
    /// Where the passphrase is that key files are under, of those that are (`customhouse keys protect`).
    #[serde(default)]
    pub passphrase: Option<PassphraseSource>,
}

/// A node's secret keys.
#[derive(Clone, Debug)]
pub struct NodeKeys {
    /// Signs votes.
    pub validator: ValidatorKey,
    /// The key that is to take its place.
    pub next_validator: Option<ValidatorKey>,
    /// The libp2p identity.
    pub peer: SigningKey,
    /// Signs transactions.
    pub signing: SigningKey,
    /// Signs checkpoints of the log.
    pub checkpoint: Option<SigningKey>,
}

impl NodeConfig {
    /// Reads the keys. Each file names its agency and purpose, which must be this node's; whether the
    /// registry has them is another question ([`NodeConfig::unregistered`]).
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read_keys(&self) -> Result<NodeKeys, ConfigError> {
        let passphrase = OnceCell::new();
        let read = |field, path: &Path, purpose| {
            let read = self.read_key(path, purpose, &passphrase);
            read.map_err(|source| ConfigError::Key { path: self.file.clone(), field, source })
        };
        let validator = |field, path: &PathBuf| {
            let key = read(field, path, KeyPurpose::Validator)?;
            Ok::<_, ConfigError>(ValidatorKey { key, journal: journal_path(path) })
        };
        let next = |path| validator("keys.next_validator", path);
        let checkpoint = |path: &PathBuf| read("keys.checkpoint", path, KeyPurpose::Checkpoint);
        let keys = NodeKeys {
            validator: validator("keys.validator", &self.keys.validator)?,
            next_validator: self.keys.next_validator.as_ref().map(next).transpose()?,
            peer: read("keys.peer", &self.keys.peer, KeyPurpose::Peer)?,
            signing: read("keys.signing", &self.keys.signing, KeyPurpose::Signing)?,
            checkpoint: self.keys.checkpoint.as_ref().map(checkpoint).transpose()?,
        };
        let next = keys.next_validator.as_ref();
        if next.is_some_and(|next| next.key.public() == keys.validator.key.public()) {
            let reason = "is the present key: a key is replaced by another one".to_owned();
            return Err(self.field("keys.next_validator".to_owned(), reason));
        }
        Ok(keys)
    }

    /// Reads one. The passphrase is asked for once for all, when the first file needs it.
    fn read_key(
        &self,
        path: &Path,
        purpose: KeyPurpose,
        asked: &OnceCell<Passphrase>,
    ) -> Result<SigningKey, KeyFileError> {
        let found = KeyFile::read_public(path)?;
        let passphrase = match self.keys.passphrase.as_ref().filter(|_| found.is_protected) {
            Some(source) if asked.get().is_none() => {
                let failed = |source| KeyFileError::Passphrase { path: path.to_owned(), source };
                let passphrase = source.ask("the node's keys").map_err(failed)?;
                Some(asked.get_or_init(|| passphrase))
            }
            Some(_) => asked.get(),
            None => None,
        };
        let read = KeyFile::read_with(path, passphrase)?;
        Ok(read.of(path, purpose, self.agency)?.key)
    }

    /// Which of the keys the genesis does not register for this agency: field names. A node may run
    /// with such keys, where the registry has them by now or will have them.
    pub fn unregistered(&self, keys: &NodeKeys, genesis: &Genesis) -> Vec<&'static str> {
        let registry = &genesis.registry;
        let validators = genesis.validators();
        let validator = (self.agency, keys.validator.key.public());
        let votes = validators.as_slice().iter().any(|v| (v.agency, v.key) == validator);
        let connects = registry.peers_at(1).contains(&(self.agency, keys.peer.public()));
        let signer = registry.signer_at(&keys.signing.public(), 1);
        let signs = signer.is_some_and(|signer| signer.agency == self.agency);
        let all = [("keys.validator", votes), ("keys.peer", connects), ("keys.signing", signs)];
        all.into_iter().filter(|(_, registered)| !registered).map(|(field, _)| field).collect()
    }

    /// The signer's journal: beside the validator key, made together with it.
    pub fn journal_path(&self) -> PathBuf {
        journal_path(&self.keys.validator)
    }
}

/// Where the journal of a validator key is: `validator.key` has `validator.journal` beside it.
pub fn journal_path(validator_key: &Path) -> PathBuf {
    validator_key.with_extension("journal")
}
