//! What the slot of a sealed record carries of what the record is about: under the secret of its epoch.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use customhouse_ledger::{
    agency::AgencyCode,
    hash::Hash,
    record::subjects,
    sealed_subject::{self, SealedSubjectError},
    transaction::EpochId,
    vrf::VrfSecretKey,
};
use customhouse_proto::v1;
use customhouse_vault::vault::Vault;

/// Epochs whose keys are kept ready.
const READY_MAX: usize = 256;

/// The secrets of the epochs that are in the vault. Cheap to clone.
#[derive(Clone)]
pub struct EpochSecrets {
    vault: Arc<Vault>,
    ready: Arc<Mutex<HashMap<EpochId, Arc<VrfSecretKey>>>>,
}

impl EpochSecrets {
    pub(crate) fn new(vault: Arc<Vault>) -> Self {
        Self { vault, ready: Arc::default() }
    }

    /// The secret of an epoch; `None` where the vault does not have it.
    pub fn of(&self, epoch: &EpochId) -> Option<Arc<VrfSecretKey>> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = ready.get(epoch) {
            return Some(Arc::clone(key));
        }
        let kept = self.vault.epoch(&epoch.agreement, epoch.number)?;
        let key = Arc::new(kept.secret.with(VrfSecretKey::from_seed));
        if ready.len() >= READY_MAX {
            ready.clear();
        }
        ready.insert(*epoch, Arc::clone(&key));
        Some(key)
    }

    /// Forgets a secret that the vault has removed.
    pub fn forget(&self, epoch: &EpochId) {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).remove(epoch);
    }
}

/// The subject keys of a record that an agency lodges in the epoch of a secret, strictly ascending. Each subject takes
/// about 60 µs.
///
/// # Errors
/// [`SealedSubjectError`]: of no valid record but by a chance of one in 2^256.
pub fn subject_keys(
    secret: &VrfSecretKey,
    agency: &AgencyCode,
    record: &v1::Record,
) -> Result<Vec<Hash>, SealedSubjectError> {
    let key = |subject: &v1::Subject| sealed_subject::key_of(secret, agency, subject);
    let mut keys: Vec<_> = subjects(record).iter().map(key).collect::<Result<_, _>>()?;
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}
