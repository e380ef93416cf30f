//! Secrets of epochs and terms at rest. Secrets are in the vault; of terms there is a file for each, named by their
//! hash and sealed by the vault, in a directory beside the store.
//!
//! ```text
//! terms/
//!   <hash>        sealed bytes
//!   <hash>.key    the wrapped key, from before they were sealed until they are there
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use customhouse_files::{folder::create_durably, newfile, readfile, secret::Secret};
use customhouse_ledger::{
    agency::AgencyCode,
    agreement::{EpochProposal, terms::AgreementTerms},
    hash::Hash,
    limits::TERMS_BYTES_MAX,
    vrf::VrfSecretKey,
};
use customhouse_vault::{
    group::RetentionMonth,
    lease::Leased,
    mirror::{Mirror, MirrorEntry, MirrorPart},
    named::EpochSecret,
    sealed::{SealedBytes, SealedKind, SealedPlace, WrappedKey},
    vault::Vault,
};

use super::KeepError;

/// The longest month: nothing is destroyed too early.
const MONTH_S: u64 = 31 * 24 * 60 * 60;
/// Room for what sealing adds.
const FILE_BYTES_MAX: usize = TERMS_BYTES_MAX + 1024;

/// Where an agency keeps them.
pub(crate) struct Keeping {
    pub(crate) vault: Arc<Vault>,
    pub(crate) mirror: Option<Arc<Mirror>>,
    pub(crate) chain_id: Hash,
    pub(crate) agency: AgencyCode,
    pub(crate) terms: PathBuf,
    /// One at a time: a place has one key.
    pub(crate) turn: Mutex<()>,
}

impl Keeping {
    /// Keeps the secret of a proposed epoch and its terms, durably when this returns. The same again changes
    /// nothing.
    pub(crate) fn keep(
        &self,
        proposal: &EpochProposal,
        secret: &VrfSecretKey,
        terms: &AgreementTerms,
    ) -> Result<(), KeepError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (ends_s, months) = (proposal.period_ms().1 / 1000, terms.retention_months());
        self.keep_terms(terms, RetentionMonth::after(ends_s, months))?;
        self.vault.put_epoch(EpochSecret {
            agreement: proposal.hash(),
            epoch: proposal.number(),
            secret: secret.with_seed(Secret::new),
            until_s: ends_s.saturating_add(u64::from(months) * MONTH_S),
        })?;
        Ok(())
    }

    /// The terms of a hash, where they are there.
    pub(super) fn read_terms(&self, hash: &Hash) -> Result<Option<AgreementTerms>, KeepError> {
        let path = self.path(hash);
        let Some(bytes) = found(&path)? else { return Ok(None) };
        let opened = self.vault.open_sealed(self.place(hash), &SealedBytes::decode(&bytes)?)?;
        let terms = AgreementTerms::from_bytes(&opened);
        let terms = terms.map_err(|source| KeepError::Terms { path: path.clone(), source })?;
        match terms.hash() == *hash {
            true => Ok(Some(terms)),
            false => Err(KeepError::OtherTerms { path }),
        }
    }

    /// Keeps terms, durably when this returns, in the mirror too where there is one. What is there and opens stays as
    /// it is.
    fn keep_terms(&self, terms: &AgreementTerms, month: RetentionMonth) -> Result<(), KeepError> {
        let hash = terms.hash();
        if matches!(self.read_terms(&hash), Ok(Some(_))) {
            return Ok(());
        }
        let (path, place) = (self.path(&hash), self.place(&hash));
        create_durably(&self.terms, 0o700).map_err(failed(&self.terms))?;
        let sealed = self.seal(&hash, month, &terms.to_bytes())?;
        if let Some(mirror) = &self.mirror {
            mirror.append(&[MirrorEntry {
                place,
                part: MirrorPart::Whole(SealedBytes::clone(&sealed)),
            }])?;
        }
        newfile::replace(&path, &sealed.encode(), 0o600).map_err(failed(&path))?;
        sealed.stored();
        let key = self.key_path(&hash);
        fs::remove_file(&key).map_err(failed(&key))
    }

    /// Seals them, under the key that a crash has left at the place where there is one.
    fn seal(
        &self,
        hash: &Hash,
        month: RetentionMonth,
        bytes: &[u8],
    ) -> Result<Leased<SealedBytes>, KeepError> {
        let (place, path) = (self.place(hash), self.key_path(hash));
        if let Some(key) = found(&path)?
            && let Ok(wrapped) = WrappedKey::decode(&key)
            && let Ok(sealed) = self.vault.seal_again(place, &wrapped, bytes)
        {
            return Ok(sealed);
        }
        self.vault.seal(place, month, bytes, |wrapped| {
            newfile::replace(&path, wrapped.as_bytes(), 0o600).map_err(failed(&path))
        })
    }

    fn place(&self, hash: &Hash) -> SealedPlace {
        let (chain_id, agency) = (self.chain_id, self.agency);
        SealedPlace { chain_id, agency, record_id: *hash, kind: SealedKind::Derived }
    }

    fn path(&self, hash: &Hash) -> PathBuf {
        self.terms.join(hash.to_string())
    }

    fn key_path(&self, hash: &Hash) -> PathBuf {
        self.terms.join(format!("{hash}.key"))
    }
}

/// A file's bytes, where it is there.
fn found(path: &Path) -> Result<Option<Vec<u8>>, KeepError> {
    match readfile::bytes(path, FILE_BYTES_MAX) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeepError::File { path: path.to_owned(), source }),
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> KeepError + '_ {
    |source| KeepError::File { path: path.to_owned(), source }
}
