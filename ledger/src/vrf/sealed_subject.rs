//! Under which key the chain indexes a sealed record (docs/FORMATS.md, *Sealed subject key*).
//!
//! K is the first half of the VRF's output of who lodges and what the record is about, under the secret of
//! an agreement's epoch: whoever lacks that secret cannot test a guess, and an export and an import of one
//! subject do not share a key. The chain indexes a hash of K with the agreement, the epoch and the agency, so
//! that a K that was copied into another agency's slot, or another epoch's, is found by nobody who looks for
//! the subject. Whoever has the secret can prove to an auditor that K is the key of a subject.

use customhouse_proto::v1;

use super::{VrfError, VrfProof, VrfPublicKey, VrfSecretKey};
use crate::{
    agency::AgencyCode,
    hash::{Hash, Tag},
    record::subject::form,
};

/// K of a subject, of records that this agency lodges in the epoch of the secret.
///
/// # Errors
/// [`VrfError::Subject`] where the id is not in the normal form of its scheme; [`VrfError::NoPoint`].
pub fn sealed_subject(
    secret: &VrfSecretKey,
    agency: &AgencyCode,
    subject: &v1::Subject,
) -> Result<Hash, VrfError> {
    Ok(secret.output(&alpha(agency, subject)?)?.first_half())
}

/// The proof that [`sealed_subject`] is what it is.
///
/// # Errors
/// As [`sealed_subject`].
pub fn prove_sealed_subject(
    secret: &VrfSecretKey,
    agency: &AgencyCode,
    subject: &v1::Subject,
) -> Result<VrfProof, VrfError> {
    secret.prove(&alpha(agency, subject)?)
}

/// K of a subject as the proof has it, for whoever has the epoch's public key from the chain.
///
/// # Errors
/// [`VrfError::Subject`] where the id is not in the normal form of its scheme: a genuine proof about another
/// spelling would show a key that no record has, and so that there are none. Then as [`VrfPublicKey::verify`].
pub fn verify_sealed_subject(
    public: &VrfPublicKey,
    agency: &AgencyCode,
    subject: &v1::Subject,
    proof: &VrfProof,
) -> Result<Hash, VrfError> {
    Ok(public.verify(&alpha(agency, subject)?, proof)?.first_half())
}

/// What the chain indexes: tagged hash of agreement (32) ‖ epoch (u32) ‖ lodging agency (16) ‖ K (32).
pub fn sealed_index_key(agreement: &Hash, epoch: u32, agency: &AgencyCode, key: &Hash) -> Hash {
    let (agreement, epoch) = (agreement.as_bytes(), epoch.to_be_bytes());
    Tag::SEALED_SUBJECT.hash(&[agreement, &epoch, agency.as_bytes(), key.as_bytes()])
}

/// What the VRF is of: tag ‖ lodging agency (16) ‖ scheme (u32) ‖ id.
fn alpha(agency: &AgencyCode, subject: &v1::Subject) -> Result<Vec<u8>, VrfError> {
    form::check_spelling(subject.scheme(), &subject.id)?;
    let scheme = subject.scheme.to_be_bytes();
    Ok(Tag::SEALED_SUBJECT_ALPHA.message(&[agency.as_bytes(), &scheme, subject.id.as_bytes()]))
}
