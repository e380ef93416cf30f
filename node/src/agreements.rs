//! What an agency holds of its agreements: the secrets of epochs, in the vault, and terms, sealed beside the store.
//!
//! The chain has of an epoch its key, its parties and a hash of its terms. A party that has not the secret cannot
//! lodge under it or find what was, and one that has not the terms does not know what may be shared: what is held
//! is told apart from what is agreed everywhere here.
//!
//! A secret is kept under the name of the epoch *as it was proposed*, its hash: of one epoch that is to come there
//! may be several offers at a time, each with a secret of its own, and the one that is lodged first is it. So a
//! secret is found by the public key that the chain has, and never is one taken for another's.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use customhouse_files::{hardening::lock_epoch_in_memory, secret::Secret};
use customhouse_ledger::{
    agency::AgencyCode,
    agreement::{
        AgreementApproval, Epoch, EpochProposal, own_id,
        terms::{AgreementTerms, TermsError},
    },
    chain::ChainReader,
    hash::Hash,
    keys::{PublicKey, SigningKey},
    transaction::EpochId,
    vrf::{VrfPublicKey, VrfSecretKey},
};
use customhouse_vault::{
    error::{MirrorError, VaultError},
    mirror::Mirror,
    vault::Vault,
};

pub(crate) use self::keeping::Keeping;
pub use self::{
    offers::{Offer, OfferError, RegisteredMembers},
    proposing::{Draft, Opened},
    views::sentences,
};

mod keeping;
pub mod offer_file;
mod offers;
mod proposing;
mod views;
/// Terms that are kept open in memory: they are asked for with each record.
const OPENED_MAX: usize = 1024;

/// Why something of an agreement could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// There is nowhere to keep secrets.
    #[error("this node has no vault: name one in [vault] of its configuration and restart it")]
    NoVault,
    /// No secret could be drawn.
    #[error("the system gives no random bytes: {0}")]
    Randomness(io::Error),
    /// The vault.
    #[error("{0}")]
    Vault(#[from] VaultError),
    /// The vault's second place.
    #[error("{0}")]
    Mirror(#[from] MirrorError),
    /// A file of terms.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was kept are other terms than their name says.
    #[error("{path}: not the terms that it is named by: remove it, and open the offer again")]
    OtherTerms {
        /// Which.
        path: PathBuf,
    },
    /// What was kept are no terms of this version.
    #[error("{path}: {source}")]
    Terms {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: TermsError,
    },
}

/// Whose agreements, and where they are kept.
pub struct HeldParts {
    /// Whose.
    pub agency: AgencyCode,
    /// The ledger.
    pub reader: ChainReader,
    /// Signs approvals.
    pub signing: SigningKey,
    /// Where secrets are, and its second place; none where the node has no vault.
    pub vault: Option<(Arc<Vault>, Option<Arc<Mirror>>)>,
    /// The directory of the terms. It is made when the first are kept.
    pub terms: PathBuf,
}

/// What an agency holds of its agreements. Cheap to clone; without a vault it holds nothing.
#[derive(Clone)]
pub struct HeldAgreements(Arc<Inner>);

struct Inner {
    agency: AgencyCode,
    reader: ChainReader,
    signing: SigningKey,
    /// None where there is no vault.
    keeping: Option<Keeping>,
    /// Keys of epochs that were made of the vault's secrets, with the names that they have there.
    keys: Mutex<HashMap<VrfPublicKey, (SecretName, VrfSecretKey)>>,
    /// Terms that were opened since the node was started.
    opened: Mutex<HashMap<Hash, AgreementTerms>>,
}

/// Of the epoch as it was proposed: its hash and its number.
type SecretName = (Hash, u32);

impl HeldAgreements {
    /// What is held at a place.
    pub fn new(parts: HeldParts) -> Self {
        let HeldParts { agency, reader, signing, vault, terms } = parts;
        let chain_id = reader.chain_id();
        let keeping = vault.map(|(vault, mirror)| Keeping {
            vault,
            mirror,
            chain_id,
            agency,
            terms,
            turn: Mutex::default(),
        });
        let (keys, opened) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { agency, reader, signing, keeping, keys, opened }))
    }

    /// Whose they are.
    pub fn agency(&self) -> AgencyCode {
        self.0.agency
    }

    /// Whether there is a vault to keep secrets in.
    pub fn has_vault(&self) -> bool {
        self.0.keeping.is_some()
    }

    /// The secret key of an epoch that the chain has. None where the vault has it not: then nothing can be lodged
    /// under it here, or found.
    pub fn epoch_secret(&self, id: &EpochId) -> Option<VrfSecretKey> {
        let agreements = self.0.reader.agreements();
        let epoch = agreements.get(&id.agreement)?.epoch(id.number)?;
        self.secret_of(&epoch.key)
    }

    /// The newest epoch of the agency's agreement with itself that is in force at a time, Unix milliseconds, and
    /// whose secret is held.
    pub fn own_epoch_in_force(&self, time_ms: u64) -> Option<EpochId> {
        let id = own_id(&self.0.agency);
        let agreements = self.0.reader.agreements();
        let usable = |(_, epoch): &(u32, &Epoch)| {
            (epoch.from_ms..epoch.until_ms).contains(&time_ms)
                && self.secret_of(&epoch.key).is_some()
        };
        let newest = (1..).zip(&agreements.get(&id)?.epochs).filter(usable).last();
        newest.map(|(number, _)| EpochId { agreement: id, number })
    }

    /// The terms of a hash. None where they are not here, or do not open any more.
    pub fn terms(&self, hash: &Hash) -> Option<AgreementTerms> {
        let keeping = self.keeping()?;
        let opened = || self.0.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(terms) = opened().get(hash) {
            return Some(terms.clone());
        }
        let found = keeping.read_terms(hash);
        let read = |error: &KeepError| tracing::warn!(%hash, %error, "terms cannot be read");
        let terms = found.inspect_err(read).ok()??;
        let mut opened = opened();
        if opened.len() >= OPENED_MAX {
            opened.clear();
        }
        opened.insert(*hash, terms.clone());
        Some(terms)
    }

    /// Keeps the secret of a proposed epoch and its terms, durably when this returns: what is approved after it is
    /// never lost by a crash. The same again changes nothing.
    ///
    /// # Errors
    /// [`KeepError`]: nothing may be approved then.
    pub fn keep(
        &self,
        proposal: &EpochProposal,
        secret: &VrfSecretKey,
        terms: &AgreementTerms,
    ) -> Result<(), KeepError> {
        self.keeping().ok_or(KeepError::NoVault)?.keep(proposal, secret, terms)
    }

    fn keeping(&self) -> Option<&Keeping> {
        self.0.keeping.as_ref()
    }

    /// The key that approvals are signed with.
    pub(crate) fn approver(&self) -> PublicKey {
        self.0.signing.public()
    }

    /// Approves an epoch for the agency. What [`HeldAgreements::keep`] keeps is durable before.
    pub(crate) fn approve(&self, proposal: &EpochProposal) -> AgreementApproval {
        proposal.approve(&self.0.reader.chain_id(), &self.0.signing)
    }

    /// The secret key of a public one.
    pub(crate) fn secret_of(&self, public: &VrfPublicKey) -> Option<VrfSecretKey> {
        let vault = &self.keeping()?.vault;
        let mut keys = self.keys();
        if let Some((name, key)) = keys.get(public) {
            // What was destroyed there is not used any longer.
            match vault.epoch(&name.0, name.1).is_some() {
                true => return Some(key.clone()),
                false => _ = keys.remove(public),
            }
        }
        let known: HashSet<SecretName> = keys.values().map(|(name, _)| *name).collect();
        for kept in vault.epochs() {
            let name = (kept.agreement, kept.epoch);
            if !known.contains(&name) {
                let key = kept.secret.with(VrfSecretKey::from_seed);
                lock_epoch_in_memory(&key);
                keys.insert(*key.public(), (name, key));
            }
        }
        keys.get(public).map(|(_, key)| key.clone())
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<VrfPublicKey, (SecretName, VrfSecretKey)>> {
        self.0.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new secret for an epoch.
///
/// # Errors
/// [`KeepError::Randomness`].
pub(crate) fn new_secret() -> Result<VrfSecretKey, KeepError> {
    let seed = Secret::random().map_err(KeepError::Randomness)?;
    let key = seed.with(VrfSecretKey::from_seed);
    lock_epoch_in_memory(&key);
    Ok(key)
}

/// What keeps terms from being guessed.
///
/// # Errors
/// [`KeepError::Randomness`].
pub(crate) fn new_salt() -> Result<Vec<u8>, KeepError> {
    let mut salt = vec![0; 32];
    let drawn = getrandom::fill(&mut salt).map_err(io::Error::other);
    drawn.map(|()| salt).map_err(KeepError::Randomness)
}
