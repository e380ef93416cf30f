//! What the slot of a sealed record carries of what the record is about: under the secret of its epoch.

use customhouse_ledger::{
    agency::AgencyCode,
    agreement::terms::AgreementTerms,
    hash::Hash,
    record::subjects,
    sealed_subject::{self, SealedSubjectError},
    vrf::VrfSecretKey,
};
use customhouse_proto::v1;

/// The subject keys of a record that an agency lodges in the epoch of a secret, strictly ascending: of the subjects
/// whose schemes the terms say are indexed. Each takes about 60 µs.
///
/// # Errors
/// [`SealedSubjectError`]: of no valid record but by a chance of one in 2^256.
pub fn subject_keys(
    (secret, terms): (&VrfSecretKey, &AgreementTerms),
    agency: &AgencyCode,
    record: &v1::Record,
) -> Result<Vec<Hash>, SealedSubjectError> {
    let key = |subject: &v1::Subject| sealed_subject::key_of(secret, agency, subject);
    let all = subjects(record);
    let indexed = all.iter().filter(|subject| terms.indexes(subject.scheme()));
    let mut keys: Vec<_> = indexed.map(key).collect::<Result<_, _>>()?;
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}
