//! How a transaction carries a record.

use customhouse_proto::v1::{self, slot::Form};
use prost::Message as _;

#[cfg(feature = "rocksdb")]
use crate::transaction::TransactionHeader;
use crate::{
    agency::AgencyCode,
    authority::{Role, role},
    canonical::{self, CanonicalError},
    hash::{Hash, Tag},
    limits::{EPOCHS_MAX, SUBJECTS_MAX},
    sealed_subject,
};

/// How a transaction carries a record, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The root of the record's fields.
    pub record_id: Hash,
    /// Whether the record's bytes are in the transaction, and where they are if not.
    pub form: SlotForm,
    /// Strictly ascending. Of an open record, the keys of its subjects; else what the epoch's secret makes of
    /// them, see [`Slot::index_keys`].
    pub subject_keys: Vec<Hash>,
    /// Unique by consensus.
    pub dedupe_key: Hash,
    /// Where it is unique: in its agency, or on the whole chain.
    pub scope: DedupeScope,
}

/// In which form a record is on the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlotForm {
    /// With its bytes.
    Open,
    /// The slot alone. The bytes are with the parties of an epoch.
    Sealed(EpochId),
    /// A sealed record of the same agency is shared under another epoch too.
    Grant(EpochId),
}

/// An epoch of an agreement, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochId {
    /// The agreement's id.
    pub agreement: Hash,
    /// From 1.
    pub number: u32,
}

impl EpochId {
    /// The key that the history has a subject key of a slot under this epoch under.
    pub fn index_key(&self, agency: &AgencyCode, subject_key: &Hash) -> Hash {
        sealed_subject::index_key(&self.agreement, self.number, agency, subject_key)
    }
}

impl SlotForm {
    /// The epoch under which the record is shared; `None` where it is open.
    pub fn epoch(&self) -> Option<EpochId> {
        match self {
            Self::Open => None,
            Self::Sealed(epoch) | Self::Grant(epoch) => Some(*epoch),
        }
    }

    fn number(self) -> Form {
        match self {
            Self::Open => Form::Open,
            Self::Sealed(_) => Form::Sealed,
            Self::Grant(_) => Form::Grant,
        }
    }
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
    /// The first rule that is broken.
    pub fn decode(bytes: &[u8]) -> Result<Self, SlotError> {
        let slot: v1::Slot = canonical::decode(bytes)?;
        let read = |bytes: &[u8], error| Hash::from_slice(bytes).map_err(|_| error);
        let form = form_of(&slot)?;
        if slot.subject_keys.len() > SUBJECTS_MAX {
            return Err(SlotError::SubjectKeys);
        }
        let subject_keys = slot
            .subject_keys
            .iter()
            .map(|key| read(key, SlotError::SubjectKeys))
            .collect::<Result<Vec<_>, _>>()?;
        if subject_keys.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(SlotError::SubjectKeys);
        }
        let slot = Self {
            record_id: read(&slot.record_id, SlotError::RecordId)?,
            form,
            subject_keys,
            dedupe_key: read(&slot.dedupe_key, SlotError::DedupeKey)?,
            scope: DedupeScope::Agency,
        };
        match slot.form {
            SlotForm::Grant(epoch) if slot.dedupe_key != grant_key(&slot.record_id, &epoch) => {
                Err(SlotError::GrantKey)
            }
            _ => Ok(slot),
        }
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let epoch = self.form.epoch();
        v1::Slot {
            record_id: self.record_id.0.to_vec(),
            form: self.form.number() as i32,
            agreement: epoch.map(|epoch| epoch.agreement.0.to_vec()).unwrap_or_default(),
            subject_keys: self.subject_keys.iter().map(|key| key.0.to_vec()).collect(),
            dedupe_key: self.dedupe_key.0.to_vec(),
            epoch: epoch.map_or(0, |epoch| epoch.number),
        }
        .encode_to_vec()
    }

    /// The slot by which an agency shares a sealed record of its own under another epoch. `subject_keys` are those
    /// of that epoch, ascending.
    pub fn grant(record_id: Hash, epoch: EpochId, subject_keys: Vec<Hash>) -> Self {
        Self {
            record_id,
            form: SlotForm::Grant(epoch),
            subject_keys,
            dedupe_key: grant_key(&record_id, &epoch),
            scope: DedupeScope::Agency,
        }
    }

    /// The keys that the history has it under, in a transaction of this agency. Those of a sealed slot are of this
    /// agency, agreement and epoch alone: who copies another's subject key hits nothing.
    pub fn index_keys(&self, agency: &AgencyCode) -> Vec<Hash> {
        let Some(epoch) = self.form.epoch() else { return self.subject_keys.clone() };
        let mut keys: Vec<_> =
            self.subject_keys.iter().map(|key| epoch.index_key(agency, key)).collect();
        keys.sort_unstable();
        keys
    }
}

/// A record is granted once under an epoch, whoever asks for it.
fn grant_key(record_id: &Hash, epoch: &EpochId) -> Hash {
    let number = epoch.number.to_be_bytes();
    Tag::GRANT.hash(&[record_id.as_bytes(), epoch.agreement.as_bytes(), &number])
}

fn form_of(slot: &v1::Slot) -> Result<SlotForm, SlotError> {
    let form = Form::try_from(slot.form).map_err(|_| SlotError::Form)?;
    if form == Form::Open {
        let is_bare = slot.agreement.is_empty() && slot.epoch == 0;
        return if is_bare { Ok(SlotForm::Open) } else { Err(SlotError::OpenAgreement) };
    }
    if form == Form::Unspecified {
        return Err(SlotError::Form);
    }
    let agreement = Hash::from_slice(&slot.agreement).map_err(|_| SlotError::Agreement)?;
    let number = slot.epoch;
    if !(1..=EPOCHS_MAX).contains(&number) {
        return Err(SlotError::Agreement);
    }
    match form {
        Form::Sealed => Ok(SlotForm::Sealed(EpochId { agreement, number })),
        Form::Grant => Ok(SlotForm::Grant(EpochId { agreement, number })),
        Form::Open | Form::Unspecified => Err(SlotError::Form),
    }
}

/// Why a slot was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// Not canonical protobuf.
    #[error("{0}")]
    Canonical(#[from] CanonicalError),
    /// Neither open nor sealed nor a grant.
    #[error("form: unset or unknown")]
    Form,
    /// An open slot names no agreement.
    #[error("agreement: an open slot has none, and no epoch")]
    OpenAgreement,
    /// A sealed slot names the epoch of an agreement.
    #[error(
        "agreement: 32 bytes, and an epoch of 1 to {EPOCHS_MAX}, are needed where the slot is not open"
    )]
    Agreement,
    /// A grant has the key that follows from what it grants.
    #[error("dedupe_key: a grant's is the hash of record, agreement and epoch")]
    GrantKey,
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
        "SLOT_MALFORMED"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(form: SlotForm) -> Slot {
        let (record_id, scope) = (Hash([1; 32]), DedupeScope::Agency);
        let dedupe_key = match form {
            SlotForm::Grant(epoch) => grant_key(&record_id, &epoch),
            _ => Hash([3; 32]),
        };
        let subject_keys = vec![Hash([5; 32]), Hash([6; 32])];
        Slot { record_id, form, subject_keys, dedupe_key, scope }
    }

    #[test]
    fn each_form_round_trips_and_has_what_belongs_to_it() {
        let epoch = EpochId { agreement: Hash([2; 32]), number: 7 };
        for form in [SlotForm::Open, SlotForm::Sealed(epoch), SlotForm::Grant(epoch)] {
            let bytes = slot(form).encode();
            assert_eq!(Slot::decode(&bytes), Ok(slot(form)));
            let decoded = v1::Slot::decode(&bytes[..]).expect("a slot");
            let refused = |change: &dyn Fn(&mut v1::Slot)| {
                let mut changed = decoded.clone();
                change(&mut changed);
                Slot::decode(&changed.encode_to_vec()).expect_err("refused")
            };
            assert_eq!(refused(&|s| s.form = 0), SlotError::Form);
            assert_eq!(refused(&|s| s.form = 4), SlotError::Form);
            let (agreement, grant_key) = match form {
                SlotForm::Open => (SlotError::OpenAgreement, None),
                SlotForm::Sealed(_) => (SlotError::Agreement, None),
                SlotForm::Grant(_) => (SlotError::Agreement, Some(SlotError::GrantKey)),
            };
            let others: [&dyn Fn(&mut v1::Slot); 2] = match form {
                SlotForm::Open => [&|s| s.epoch = 1, &|s| s.agreement = vec![2; 32]],
                _ => [&|s| s.epoch = 0, &|s| s.agreement.truncate(31)],
            };
            for change in others {
                assert_eq!(refused(change), agreement);
            }
            if let Some(error) = grant_key {
                assert_eq!(refused(&|s| s.dedupe_key[0] ^= 1), error);
                assert_eq!(refused(&|s| s.epoch += 1), error);
            }
        }
    }

    #[test]
    fn a_copied_subject_key_hits_nothing() {
        let [own, other] = ["NL-DOUANE", "BE-AADA"].map(|code| code.parse().expect("a code"));
        let epoch = EpochId { agreement: Hash([2; 32]), number: 7 };
        let sealed = slot(SlotForm::Sealed(epoch));
        let keys = |slot: &Slot, agency| slot.index_keys(agency);
        let theirs = keys(&sealed, &own);
        assert!(theirs.is_sorted_by(|a, b| a < b) && theirs.len() == 2);
        let next = EpochId { number: 8, ..epoch };
        let elsewhere = EpochId { agreement: Hash([3; 32]), ..epoch };
        for copied in [
            keys(&sealed, &other),
            keys(&slot(SlotForm::Sealed(next)), &own),
            keys(&slot(SlotForm::Grant(elsewhere)), &own),
            keys(&slot(SlotForm::Open), &own),
        ] {
            assert!(copied.iter().all(|key| !theirs.contains(key)));
        }
        assert_eq!(keys(&slot(SlotForm::Grant(epoch)), &own), theirs);
    }
}
