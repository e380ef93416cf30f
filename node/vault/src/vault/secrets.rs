//! The secrets that have a name: put, found and removed, durable when the call returns.
//!
//! What was removed can still be opened in an older copy of the keys by whoever has that and the root key, until
//! the root key is renewed: [`Vault::renewal_due`] says so from the first removal on.

use customhouse_files::secret::Secret;
use customhouse_ledger::hash::Hash;

use super::Vault;
use crate::{
    contents::{DEDUPE_MAX, ENCRYPTION_MAX, EPOCHS_MAX, room},
    envelope::{RecipientKey, RecipientSecret},
    error::VaultError,
    named::{DedupeSecret, EncryptionKey, EpochSecret},
};

impl Vault {
    /// Keeps the secret of an epoch. The same secret again changes until when it is kept.
    ///
    /// # Errors
    /// [`VaultError::EpochDiffers`] where there is another; [`VaultError::Full`]; a failing disk or mirror.
    pub fn put_epoch(&self, secret: EpochSecret) -> Result<(), VaultError> {
        let name = (secret.agreement, secret.epoch);
        self.change(|contents| {
            match contents.epochs.get(&name) {
                Some(kept) if !kept.secret.is(&secret.secret) => {
                    let (agreement, epoch) = name;
                    return Err(VaultError::EpochDiffers { agreement, epoch });
                }
                Some(_) => {}
                None => room("epoch secrets", contents.epochs.len(), EPOCHS_MAX)?,
            }
            contents.epochs.insert(name, secret);
            Ok(())
        })
    }

    /// The secret of an epoch.
    pub fn epoch(&self, agreement: &Hash, epoch: u32) -> Option<EpochSecret> {
        self.contents().epochs.get(&(*agreement, epoch)).cloned()
    }

    /// All of them, by agreement and epoch.
    pub fn epochs(&self) -> Vec<EpochSecret> {
        self.contents().epochs.values().cloned().collect()
    }

    /// Removes the secret of an epoch, if there is one.
    ///
    /// # Errors
    /// A failing disk or mirror.
    pub fn remove_epoch(&self, agreement: &Hash, epoch: u32) -> Result<(), VaultError> {
        self.change(|contents| {
            contents.renewal_due |= contents.epochs.remove(&(*agreement, epoch)).is_some();
            Ok(())
        })
    }

    /// Makes a secret the one that dedupe keys are made with. The one of before counts until `old_until_s`, Unix
    /// seconds, so that a retry is recognised. The secret that is the present one already stays that.
    ///
    /// # Errors
    /// [`VaultError::Full`]; a failing disk or mirror.
    pub fn put_dedupe(&self, secret: Secret, old_until_s: u64) -> Result<(), VaultError> {
        self.change(|contents| {
            if contents.dedupe.first().is_some_and(|present| present.secret.is(&secret)) {
                return Ok(());
            }
            // One of before becomes the present one again.
            contents.dedupe.retain(|kept| !kept.secret.is(&secret));
            room("dedupe secrets", contents.dedupe.len(), DEDUPE_MAX)?;
            if let Some(before) = contents.dedupe.first_mut() {
                // All bits set means none.
                before.until_s = Some(old_until_s.min(u64::MAX - 1));
            }
            contents.dedupe.insert(0, DedupeSecret { secret, until_s: None });
            Ok(())
        })
    }

    /// The secrets that dedupe keys are made with, newest first, also those that do not count any more.
    pub fn dedupe_secrets(&self) -> Vec<DedupeSecret> {
        self.contents().dedupe.clone()
    }

    /// Removes those that stopped counting before `now_s`, Unix seconds.
    ///
    /// # Errors
    /// A failing disk or mirror.
    pub fn remove_dedupe_before(&self, now_s: u64) -> Result<(), VaultError> {
        self.change(|contents| {
            let before = contents.dedupe.len();
            contents.dedupe.retain(|kept| kept.until_s.is_none_or(|until| until >= now_s));
            contents.renewal_due |= contents.dedupe.len() < before;
            Ok(())
        })
    }

    /// Makes a key that others can seal envelopes to, and keeps it.
    ///
    /// # Errors
    /// As [`Vault::put_encryption_key`], or no randomness.
    pub fn new_encryption_key(&self) -> Result<RecipientKey, VaultError> {
        let secret = RecipientSecret::new(Secret::random().map_err(VaultError::Randomness)?);
        self.put_encryption_key(secret)
    }

    /// Keeps a key that others seal envelopes to, as the newest where it is not there yet: nodes of one agency
    /// share it.
    ///
    /// # Errors
    /// [`VaultError::Full`]; a failing disk or mirror.
    pub fn put_encryption_key(&self, secret: RecipientSecret) -> Result<RecipientKey, VaultError> {
        let public = secret.public();
        self.change(|contents| {
            if contents.encryption.iter().any(|kept| kept.public == public) {
                return Ok(());
            }
            room("encryption keys", contents.encryption.len(), ENCRYPTION_MAX)?;
            contents.encryption.insert(0, EncryptionKey { public, secret });
            Ok(())
        })?;
        Ok(public)
    }

    /// The secret half of a key of the agency.
    pub fn encryption_key(&self, public: &RecipientKey) -> Option<RecipientSecret> {
        let contents = self.contents();
        let found = contents.encryption.iter().find(|kept| kept.public == *public);
        found.map(|kept| kept.secret.clone())
    }

    /// The keys that others seal envelopes to, newest first.
    pub fn encryption_keys(&self) -> Vec<EncryptionKey> {
        self.contents().encryption.clone()
    }

    /// Removes a key, if it is there: envelopes to it cannot be opened any more.
    ///
    /// # Errors
    /// A failing disk or mirror.
    pub fn remove_encryption_key(&self, public: &RecipientKey) -> Result<(), VaultError> {
        self.change(|contents| {
            let before = contents.encryption.len();
            contents.encryption.retain(|kept| kept.public != *public);
            contents.renewal_due |= contents.encryption.len() < before;
            Ok(())
        })
    }
}
