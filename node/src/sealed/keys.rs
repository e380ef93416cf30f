//! The agency's vault as a node has it open, and whether it is the one that the registry knows.

use std::{path::PathBuf, sync::Arc};

use customhouse_ledger::{
    agency::AgencyCode,
    hash::Hash,
    registry::{EncryptionKeyError, EncryptionPublicKey, Registry},
};
use customhouse_vault::{
    dedupe::dedupe_check,
    error::{MirrorError, VaultError},
    group::RetentionMonth,
    mirror::Mirror,
    named::DedupeSecret,
    vault::Vault,
};

use super::{backing_up::VaultBackups, upkeep::DedupeFileError};
use crate::{
    clock,
    config::{ConfigError, NodeConfig, VaultSection},
};

/// A vault that is open, with its second place. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SealingKeys {
    /// The keys.
    pub vault: Arc<Vault>,
    /// The second place; `None` where a single copy is configured.
    pub mirror: Option<Arc<Mirror>>,
    /// The backups that are made of the vault while the node runs, where the configuration says where to.
    pub backups: Option<Arc<VaultBackups>>,
    /// How long a sealed record is kept where no agreement says otherwise.
    retention_months: u32,
}

/// Why a node does not run with a vault.
#[derive(Debug, thiserror::Error)]
pub enum SealingKeysError {
    /// The vault does not open.
    #[error("{0}")]
    Vault(#[from] VaultError),
    /// Its mirror does not.
    #[error("{0}")]
    Mirror(#[from] MirrorError),
    /// A key that the registry would not take.
    #[error("the vault's encryption key: {0}")]
    EncryptionKey(#[from] EncryptionKeyError),
    /// There is nothing to export.
    #[error("the vault has no dedupe secret: `customhouse vault dedupe-secret new` makes one")]
    NoDedupeSecret,
    /// The file by which nodes of an agency share it.
    #[error("{0}")]
    DedupeFile(#[from] DedupeFileError),
    /// The agency's nodes share one secret for dedupe keys, and this vault has another.
    #[error(
        "vault {path}: none of its dedupe secrets is the one that the registry knows for {agency} (check \
         {registered}), so that a retry would not be recognised: use a vault that comes from the agency's \
         own, or register this one's check"
    )]
    DedupeSecret {
        /// The vault.
        path: PathBuf,
        /// Whose.
        agency: AgencyCode,
        /// The check value in the registry.
        registered: Hash,
    },
}

impl SealingKeysError {
    /// A stable code for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Vault(VaultError::RootKey { source, .. }) => source.code(),
            Self::Vault(VaultError::Passphrase(source)) => source.code(),
            Self::Vault(error) => error.code(),
            Self::Mirror(error) => error.code(),
            Self::EncryptionKey(_) => "ENCRYPTION_KEY",
            Self::NoDedupeSecret => "DEDUPE_SECRET_MISSING",
            Self::DedupeFile(error) => error.code(),
            Self::DedupeSecret { .. } => "DEDUPE_SECRET",
        }
    }

    /// Whether another process has the vault, or its mirror.
    pub fn is_open_elsewhere(&self) -> bool {
        matches!(self, Self::Vault(VaultError::Locked(_)) | Self::Mirror(MirrorError::Locked(_)))
    }

    /// Whether the change was made all the same, and only the mirror does not have it yet.
    pub fn was_done(&self) -> bool {
        matches!(self, Self::Vault(VaultError::MirrorBehind(_)))
    }
}

impl SealingKeys {
    /// Opens the vault that a configuration names, if it names one. A passphrase is asked for as its section says.
    ///
    /// # Errors
    /// [`ConfigError::NotReady`], with why it does not open.
    pub fn of(config: &NodeConfig) -> Result<Option<Self>, ConfigError> {
        let opened = config.vault.as_ref().map(Self::open).transpose();
        opened.map_err(|error| ConfigError::NotReady {
            path: config.file.clone(),
            reasons: vec![format!("vault: {error}")],
        })
    }

    /// Opens the vault and its mirror.
    ///
    /// # Errors
    /// The vault's or the mirror's: among others, open in another process, or a wrong passphrase.
    pub fn open(section: &VaultSection) -> Result<Self, SealingKeysError> {
        let vault = Vault::open(&section.directory, &section.root_key.0)?;
        let mirror = section.mirror.as_deref().map(Mirror::open).transpose()?.map(Arc::new);
        if let Some(mirror) = &mirror {
            vault.mirror_to(Arc::clone(mirror))?;
        }
        let retention_months = section.retention_months;
        let backups = section.backup.clone().map(VaultBackups::new).map(Arc::new);
        Ok(Self { vault: Arc::new(vault), mirror, backups, retention_months })
    }

    /// Whether what is accepted is at one place only.
    pub fn is_single_copy(&self) -> bool {
        self.mirror.is_none()
    }

    /// Months that a sealed record is kept where no agreement says otherwise.
    pub fn retention_months(&self) -> u32 {
        self.retention_months
    }

    /// The month in which the retention of what is sealed now ends.
    pub fn retention_month(&self) -> RetentionMonth {
        RetentionMonth::after(clock::unix_ms() / 1000, self.retention_months)
    }

    /// The secret that dedupe keys are made with: the one whose check is registered. None where none is: the
    /// agency's nodes would not know each other's keys.
    pub fn dedupe_secret(&self, agency: &AgencyCode, registered: &Hash) -> Option<DedupeSecret> {
        let is_it = |kept: &DedupeSecret| dedupe_check(&kept.secret, *agency) == *registered;
        self.vault.dedupe_secrets().into_iter().find(is_it)
    }

    /// Whether the registry knows this vault's secrets, as of a height: what it does not know yet, and what to do.
    ///
    /// # Errors
    /// [`SealingKeysError::DedupeSecret`]: the node must not run.
    pub fn unregistered(
        &self,
        agency: &AgencyCode,
        registry: &Registry,
        height: u64,
    ) -> Result<Vec<String>, SealingKeysError> {
        let mut missing = Vec::new();
        match registry.dedupe_check_at(agency, height) {
            Some(registered) if self.dedupe_secret(agency, &registered).is_none() => {
                let path = self.vault.directory().to_owned();
                return Err(SealingKeysError::DedupeSecret { path, agency: *agency, registered });
            }
            Some(_) => {}
            None => {
                let own = self.vault.dedupe_secrets();
                let check = own.first().map(|own| dedupe_check(&own.secret, *agency).to_string());
                missing.push(format!(
                    "the registry has no dedupe check of {agency}: sealed records are refused until it has \
                     (`customhouse registry propose --dedupe-check {agency}={}`)",
                    check.as_deref().unwrap_or("CHECK")
                ));
            }
        }
        let registered = registry.encryption_keys_at(agency, height);
        let own = self.vault.encryption_keys();
        let has = |key: &EncryptionPublicKey| {
            own.iter().any(|own| own.public.as_bytes() == key.as_bytes())
        };
        if !registered.iter().any(has) {
            let key = own.first().map(|own| own.public.to_string());
            missing.push(format!(
                "the registry has none of this vault's encryption keys: no agency can share with {agency} until it \
                 has (`customhouse registry propose --add {agency}:encryption={}`)",
                key.as_deref().unwrap_or("KEY")
            ));
        }
        Ok(missing)
    }
}
