//! Whether the bytes of a sealed record are those of its id, and what its slot says of them.

use bytes::Bytes;
use customhouse_ledger::{
    agreement::terms::AgreementTerms,
    authority::RecordKind,
    hash::Hash,
    record::{RecordError, ValidRecord},
    transaction::EpochId,
    vrf::VrfSecretKey,
};
use customhouse_proto::v1;
use prost::Message as _;

use super::{Check, SealedId, holdings::Holdings, subject_keys};

/// Why bytes are not taken for a record's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContentError {
    /// They are no record, or of a schema that this version does not know.
    #[error("not a valid record: {0}")]
    Record(#[from] RecordError),
    /// They are another record.
    #[error("the bytes of another record, or of another agency's")]
    Other,
}

impl ContentError {
    /// Whether no honest peer sends it: what another version makes of a record may be one that this does not know.
    pub(crate) fn is_fault(&self) -> bool {
        matches!(self, Self::Other)
    }

    /// A stable code for the agency that sent it.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Record(_) => "SEALED_RECORD",
            Self::Other => "SEALED_OTHER_RECORD",
        }
    }
}

/// Takes bytes for those of a record: they keep all its rules, and its id is the root of their fields.
///
/// # Errors
/// [`ContentError`].
pub(crate) fn check_content(
    id: &SealedId,
    content: &v1::SealedContent,
) -> Result<ValidRecord, ContentError> {
    let record = ValidRecord::from_bytes(Bytes::copy_from_slice(&content.record))?;
    let is_it = record.id == id.record_id && record.agency == id.agency;
    if is_it { Ok(record) } else { Err(ContentError::Other) }
}

impl Holdings {
    /// The secret and the terms of an epoch, where both are here.
    pub(crate) fn epoch(&self, epoch: &EpochId) -> Option<(VrfSecretKey, AgreementTerms)> {
        let agreements = self.0.reader.agreements();
        let hash = agreements.get(&epoch.agreement)?.epoch(epoch.number)?.terms_hash;
        self.agreements().epoch_secret(epoch).zip(self.agreements().terms(&hash))
    }

    /// What a slot under an epoch, which the history has under these keys, says of a record's bytes. It takes about
    /// 60 µs a subject.
    pub(super) fn check_slot(
        &self,
        (id, epoch): (&SealedId, &EpochId),
        index_keys: &[Hash],
        record: &[u8],
    ) -> Check {
        let Some((secret, terms)) = self.epoch(epoch) else { return Check::NotYet };
        let Ok(record) = v1::Record::decode(record) else { return Check::NotYet };
        if !record.body.as_ref().is_some_and(|body| terms.covers(RecordKind::of(body))) {
            return Check::Kind;
        }
        // Of a valid record there are always keys.
        let Ok(keys) = subject_keys((&secret, &terms), &id.agency, &record) else {
            return Check::SubjectKeys;
        };
        let mut expected: Vec<_> =
            keys.iter().map(|key| epoch.index_key(&id.agency, key)).collect();
        expected.sort_unstable();
        if expected == index_keys { Check::Right } else { Check::SubjectKeys }
    }
}
