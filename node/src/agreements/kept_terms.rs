//! Terms at rest: a file for each, named by their hash and sealed by the vault, in a directory beside the store.
//!
//! ```text
//! terms/
//!   <hash>        sealed bytes
//!   <hash>.key    the wrapped key, from before they were sealed until they are there
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use customhouse_files::{folder::create_durably, newfile, readfile};
use customhouse_ledger::{
    agency::AgencyCode, agreement::terms::AgreementTerms, hash::Hash, limits::TERMS_BYTES_MAX,
};
use customhouse_vault::{
    group::RetentionMonth,
    lease::Leased,
    mirror::{Mirror, MirrorEntry, MirrorPart},
    sealed::{SealedBytes, SealedKind, SealedPlace, WrappedKey},
    vault::Vault,
};

use super::KeepError;

/// Room for what sealing adds.
const FILE_BYTES_MAX: usize = TERMS_BYTES_MAX + 1024;

pub(super) struct KeptTerms {
    pub(super) vault: Arc<Vault>,
    pub(super) mirror: Option<Arc<Mirror>>,
    pub(super) chain_id: Hash,
    pub(super) agency: AgencyCode,
    pub(super) directory: PathBuf,
}

impl KeptTerms {
    /// The terms of a hash, where they are there.
    pub(super) fn read(&self, hash: &Hash) -> Result<Option<AgreementTerms>, KeepError> {
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
    pub(super) fn keep(
        &self,
        terms: &AgreementTerms,
        month: RetentionMonth,
    ) -> Result<(), KeepError> {
        let hash = terms.hash();
        if matches!(self.read(&hash), Ok(Some(_))) {
            return Ok(());
        }
        let (path, place) = (self.path(&hash), self.place(&hash));
        create_durably(&self.directory, 0o700).map_err(failed(&self.directory))?;
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
        self.directory.join(hash.to_string())
    }

    fn key_path(&self, hash: &Hash) -> PathBuf {
        self.directory.join(format!("{hash}.key"))
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
