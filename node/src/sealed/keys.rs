//! The agency's vault as a node has it open, and whether it is the one that the registry knows.

use std::{path::PathBuf, sync::Arc};

use customhouse_ledger::{
    agency::AgencyCode,
    hash::Hash,
    registry::{EncryptionPublicKey, Registry},
};
use customhouse_vault::{
    dedupe::dedupe_check,
    error::{MirrorError, VaultError},
    group::RetentionMonth,
    mirror::Mirror,
    named::DedupeSecret,
    vault::Vault,
};

use crate::{clock, config::VaultSection};

/// A vault that is open, with its second place. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SealingKeys {
    /// The keys.
    pub vault: Arc<Vault>,
    /// The second place; `None` where a single copy is configured.
    pub mirror: Option<Arc<Mirror>>,
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

impl SealingKeys {
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
        Ok(Self { vault: Arc::new(vault), mirror, retention_months })
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

    /// Whether the registry knows this vault's secrets, as of a height. What is not registered yet is told in the
    /// log.
    ///
    /// # Errors
    /// [`SealingKeysError::DedupeSecret`].
    pub fn check_registered(
        &self,
        agency: &AgencyCode,
        registry: &Registry,
        height: u64,
    ) -> Result<(), SealingKeysError> {
        let check = registry.dedupe_check_at(agency, height);
        if let Some(registered) = check.filter(|check| self.dedupe_secret(agency, check).is_none())
        {
            let path = self.vault.directory().to_owned();
            return Err(SealingKeysError::DedupeSecret { path, agency: *agency, registered });
        }
        if check.is_none() {
            tracing::warn!(
                "the registry has no dedupe check of this agency: sealed records are refused until it has"
            );
        }
        let registered = registry.encryption_keys_at(agency, height);
        let own = self.vault.encryption_keys();
        let has = |key: &EncryptionPublicKey| {
            own.iter().any(|own| own.public.as_bytes() == key.as_bytes())
        };
        if !registered.iter().any(has) {
            tracing::warn!(
                "the registry has none of this vault's encryption keys: no agency can share with this one"
            );
        }
        Ok(())
    }
}
