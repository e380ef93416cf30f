//! Under which key the chain indexes a sealed record (docs/FORMATS.md, *Sealed subject key*).
//!
//! K is the first half of the VRF's output of who lodges and what the record is about, under the secret of
//! an agreement's epoch: whoever lacks that secret cannot test a guess, and an export and an import of one
//! subject do not share a key. The chain indexes a hash of K with the agreement, the epoch and the agency, so
//! that a K that was copied into another agency's slot, or another epoch's, is found by nobody who looks for
//! the subject. Whoever has the secret can prove to an auditor that K is the key of a subject.

use customhouse_proto::v1;

use crate::{
    agency::AgencyCode,
    hash::{Hash, Tag},
    record::subject::form::{self, FormError},
    vrf::{VrfError, VrfProof, VrfPublicKey, VrfSecretKey},
};

#[cfg(test)]
mod tests;

/// Why there is no K of a subject, or a proof of it was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealedSubjectError {
    /// No subject in its normal form, so that a proof about it would say nothing.
    #[error("subject: {0}")]
    Spelling(#[from] FormError),
    /// There is no output, or the proof is not of it.
    #[error("{0}")]
    Vrf(#[from] VrfError),
}

impl SealedSubjectError {
    /// A stable code for clients and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Spelling(_) => "VRF_SUBJECT",
            Self::Vrf(error) => error.code(),
        }
    }
}

/// K of a subject, of records that this agency lodges in the epoch of the secret.
///
/// # Errors
/// [`SealedSubjectError::Spelling`] where the id is not in the normal form of its scheme; [`VrfError::NoPoint`].
pub fn key_of(
    secret: &VrfSecretKey,
    agency: &AgencyCode,
    subject: &v1::Subject,
) -> Result<Hash, SealedSubjectError> {
    Ok(secret.output(&alpha(agency, subject)?)?.first_half())
}

/// The proof that [`key_of`] is what it is.
///
/// # Errors
/// As [`key_of`].
pub fn prove(
    secret: &VrfSecretKey,
    agency: &AgencyCode,
    subject: &v1::Subject,
) -> Result<VrfProof, SealedSubjectError> {
    Ok(secret.prove(&alpha(agency, subject)?)?)
}

/// K of a subject as the proof has it, for whoever has the epoch's public key from the chain.
///
/// # Errors
/// [`SealedSubjectError::Spelling`] where the id is not in the normal form of its scheme: a genuine proof about another
/// spelling would show a key that no record has, and so that there are none. Then as [`VrfPublicKey::verify`].
pub fn verify(
    public: &VrfPublicKey,
    agency: &AgencyCode,
    subject: &v1::Subject,
    proof: &VrfProof,
) -> Result<Hash, SealedSubjectError> {
    Ok(public.verify(&alpha(agency, subject)?, proof)?.first_half())
}

/// What the chain indexes: tagged hash of agreement (32) ‖ epoch (u32) ‖ lodging agency (16) ‖ K (32).
pub fn index_key(agreement: &Hash, epoch: u32, agency: &AgencyCode, key: &Hash) -> Hash {
    let (agreement, epoch) = (agreement.as_bytes(), epoch.to_be_bytes());
    Tag::SEALED_SUBJECT.hash(&[agreement, &epoch, agency.as_bytes(), key.as_bytes()])
}

/// What the VRF is of: tag ‖ lodging agency (16) ‖ scheme (u32) ‖ id.
fn alpha(agency: &AgencyCode, subject: &v1::Subject) -> Result<Vec<u8>, SealedSubjectError> {
    form::check_spelling(subject.scheme(), &subject.id)?;
    let scheme = subject.scheme.to_be_bytes();
    Ok(Tag::SEALED_SUBJECT_ALPHA.message(&[agency.as_bytes(), &scheme, subject.id.as_bytes()]))
}
