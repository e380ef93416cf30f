//! How a transaction carries a record.

use customhouse_proto::v1::{self, slot::Form};
use prost::Message as _;

#[cfg(feature = "rocksdb")]
use crate::{agency::AgencyCode, hash::Tag, transaction::TransactionHeader};
use crate::{
    authority::{Role, role},
    canonical::{self, CanonicalError},
    hash::Hash,
    limits::SUBJECTS_MAX,
};

/// How a transaction carries a record, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The root of the record's fields.
    pub record_id: Hash,
    /// Strictly ascending.
    pub subject_keys: Vec<Hash>,
    /// Unique by consensus.
    pub dedupe_key: Hash,
    /// Where it is unique: in its agency, or on the whole chain.
    pub scope: DedupeScope,
}

/// Where a dedupe key is unique. It follows from the record, and is not part of the slot's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DedupeScope {
    /// The keys of the agency's nodes: what one of them signed for a client, another knows.
    #[default]
    Agency,
    /// The key that signed the transaction, a submitter's own: so that no submitter can use up another's.
    Signer,
    /// The chain: a validator's misbehaviour is recorded once, whoever reports it, and so is a
    /// change of the registry.
    Chain,
}

impl DedupeScope {
    /// The scope of what a client's own key signed, of what a node signed for a client, and of what is about
    /// the network. It follows from the record, which must agree with the registry about its signer.
    pub(super) fn of(record: &v1::Record) -> Self {
        match (role::numbered(record.submitter_role), record.submitter_certificate.is_empty()) {
            (Some(Role::Node), _) => Self::Chain,
            (_, true) => Self::Signer,
            (_, false) => Self::Agency,
        }
    }

    /// Where a dedupe key is looked up: the agency within which it is unique, none where that is the chain, and
    /// the key by which it is unique there.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn place(
        self,
        header: &TransactionHeader,
        dedupe_key: &Hash,
    ) -> (Option<AgencyCode>, Hash) {
        match self {
            Self::Agency => (Some(header.agency), *dedupe_key),
            Self::Signer => {
                let parts: [&[u8]; 2] = [header.signer.as_bytes(), dedupe_key.as_bytes()];
                (Some(header.agency), Tag::DEDUPE_SIGNER.hash(&parts))
            }
            Self::Chain => (None, *dedupe_key),
        }
    }
}

impl Slot {
    /// Reads a slot's canonical bytes.
    ///
    /// # Errors
    /// What is wrong with the slot; [`SlotError::Sealed`] for the sealed form.
    pub fn decode(bytes: &[u8]) -> Result<Self, SlotError> {
        let slot: v1::Slot = canonical::decode(bytes)?;
        match Form::try_from(slot.form) {
            Ok(Form::Open) => {}
            Ok(Form::Sealed) => return Err(SlotError::Sealed),
            _ => return Err(SlotError::Form),
        }
        if !slot.agreement.is_empty() {
            return Err(SlotError::Agreement);
        }
        if slot.subject_keys.len() > SUBJECTS_MAX {
            return Err(SlotError::SubjectKeys);
        }
        let read = |bytes: &[u8], error| Hash::from_slice(bytes).map_err(|_| error);
        let subject_keys = slot
            .subject_keys
            .iter()
            .map(|key| read(key, SlotError::SubjectKeys))
            .collect::<Result<Vec<_>, _>>()?;
        if subject_keys.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(SlotError::SubjectKeys);
        }
        Ok(Self {
            record_id: read(&slot.record_id, SlotError::RecordId)?,
            subject_keys,
            dedupe_key: read(&slot.dedupe_key, SlotError::DedupeKey)?,
            scope: DedupeScope::Agency,
        })
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        v1::Slot {
            record_id: self.record_id.0.to_vec(),
            form: Form::Open as i32,
            agreement: Vec::new(),
            subject_keys: self.subject_keys.iter().map(|key| key.0.to_vec()).collect(),
            dedupe_key: self.dedupe_key.0.to_vec(),
        }
        .encode_to_vec()
    }
}

/// Why a slot was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// Not canonical protobuf.
    #[error("{0}")]
    Canonical(#[from] CanonicalError),
    /// The sealed form, which is in the format for a later version of the rules.
    #[error("sealed records are not admitted by version 1 of the rules; submit the record open")]
    Sealed,
    /// Neither open nor sealed.
    #[error("form: unset or unknown")]
    Form,
    /// An open slot names no agreement.
    #[error("agreement: an open slot has none")]
    Agreement,
    /// Not 32 bytes.
    #[error("record_id: 32 bytes expected")]
    RecordId,
    /// Not 32 bytes each, not strictly ascending, or too many.
    #[error("subject_keys: at most {SUBJECTS_MAX} keys of 32 bytes, strictly ascending")]
    SubjectKeys,
    /// Not 32 bytes.
    #[error("dedupe_key: 32 bytes expected")]
    DedupeKey,
}

impl SlotError {
    /// A stable code for clients and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Sealed => "SEALED_NOT_ADMITTED",
            _ => "SLOT_MALFORMED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sealed_form_is_refused_with_a_reason() {
        let slot = v1::Slot {
            record_id: vec![1; 32],
            form: Form::Sealed as i32,
            agreement: vec![2; 32],
            subject_keys: vec![],
            dedupe_key: vec![3; 32],
        };
        assert_eq!(Slot::decode(&slot.encode_to_vec()), Err(SlotError::Sealed));
    }
}
