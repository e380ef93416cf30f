//! Transactions: one signature over 1 to 4,096 slots.

use bytes::Bytes;
use customhouse_proto::v1::{self, record::Body};
use prost::Message as _;

use crate::{
    agreement::{AgreementChange, AgreementError},
    authority::Stated,
    canonical::CanonicalError,
    finality::evidence::Evidence,
    hash::Hash,
    keys::{KeyError, Signature},
    layout::LayoutError,
    limits::{SLOTS_MAX, TRANSACTION_BYTES_MAX},
    merkle,
    record::{
        RecordError, ValidRecord,
        load::{Load, LoadError},
    },
    registry::{ChangeError, RegistryChange},
};

mod header;
pub mod outcome;
mod signing;
mod slot;

pub use header::TransactionHeader;
pub use outcome::SlotOutcome;
pub use signing::NewSlot;
pub use slot::{DedupeScope, EpochId, Slot, SlotError, SlotForm};

/// Why a transaction was refused, by what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// More than [`TRANSACTION_BYTES_MAX`].
    #[error("transaction: {0} bytes, at most {TRANSACTION_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// Not canonical protobuf.
    #[error("transaction: {0}")]
    Canonical(#[from] CanonicalError),
    /// The header is not its layout.
    #[error("transaction.header: {0}")]
    Header(#[from] LayoutError),
    /// For another chain.
    #[error("transaction.header.chain_id: {found} is another chain than {expected}")]
    WrongChain {
        /// This chain.
        expected: Hash,
        /// The transaction's.
        found: Hash,
    },
    /// Not 64 bytes, or it does not verify.
    #[error("transaction.signature: {0}")]
    Signature(#[from] KeyError),
    /// Not 1 to [`SLOTS_MAX`], or not the header's count.
    #[error("transaction.slots: {found} slots where the header says {stated}, 1 to {SLOTS_MAX}")]
    SlotCount {
        /// In the header.
        stated: u32,
        /// In the transaction.
        found: usize,
    },
    /// The slots are not those that were signed.
    #[error("transaction.header.records_root: not the root of these slots")]
    RecordsRoot,
    /// A slot is wrong.
    #[error("transaction.slots[{0}].{1}")]
    Slot(usize, SlotError),
    /// Not one record for every open slot.
    #[error("transaction.records: {found} records for {expected} open slots")]
    RecordCount {
        /// Open slots.
        expected: usize,
        /// Records.
        found: usize,
    },
    /// Its records are more work together than a transaction may be.
    #[error("transaction.records: {0}")]
    Load(LoadError),
    /// A record is wrong.
    #[error("transaction.records[{0}]: {1}")]
    Record(usize, RecordError),
    /// The slot names another record.
    #[error("transaction.slots[{0}].record_id: not the id of the record that came with it")]
    RecordId(usize),
    /// The slot has other subject keys than follow from the record.
    #[error("transaction.slots[{0}].subject_keys: not those that follow from the record")]
    SubjectKeys(usize),
    /// A report of misbehaviour that proves nothing, has another dedupe key, or is not alone.
    #[error(
        "transaction.records[0].misbehaviour: must be alone in its transaction, under its own dedupe \
         key, with two signatures that verify"
    )]
    Misbehaviour,
    /// A change of the registry that is not alone, or under a dedupe key that is not its own.
    #[error(
        "transaction.records[0].registry_change: must be alone in its transaction, under the hash of \
         its proposal"
    )]
    RegistryChangeAlone,
    /// A change of the registry whose signatures do not verify.
    #[error("transaction.records[0].registry_change.{0}")]
    RegistryChange(ChangeError),
    /// The record answers to another agency.
    #[error("transaction.records[{0}].agency: not the transaction's")]
    Agency(usize),
    /// A change of an agreement that is not alone, or under a dedupe key that is not its own.
    #[error(
        "transaction.records[0].agreement_change: must be alone in its transaction, under the dedupe key that \
         follows from it"
    )]
    AgreementChangeAlone,
    /// A change of an agreement whose signatures do not verify.
    #[error("transaction.records[0].agreement_change.{0}")]
    AgreementChange(AgreementError),
}

impl TransactionError {
    /// A stable code for clients and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "TRANSACTION_TOO_LARGE",
            Self::Canonical(CanonicalError::Decode(_)) => "TRANSACTION_MALFORMED",
            Self::Canonical(CanonicalError::NotCanonical) => "TRANSACTION_NOT_CANONICAL",
            Self::Header(_) => "TRANSACTION_HEADER",
            Self::WrongChain { .. } => "WRONG_CHAIN",
            Self::Signature(_) => "BAD_SIGNATURE",
            Self::SlotCount { .. } => "SLOT_COUNT",
            Self::RecordsRoot => "RECORDS_ROOT",
            Self::Slot(_, error) => error.code(),
            Self::RecordCount { .. } => "RECORD_COUNT",
            Self::Load(LoadError::References(_)) => "TRANSACTION_REFERENCES",
            Self::Load(_) => "TRANSACTION_LEAVES",
            Self::Record(_, error) => error.code(),
            Self::RecordId(_) => "RECORD_ID",
            Self::SubjectKeys(_) => "SUBJECT_KEYS",
            Self::Agency(_) => "RECORD_AGENCY",
            Self::RegistryChangeAlone | Self::RegistryChange(_) => "RECORD_REGISTRY_CHANGE",
            Self::Misbehaviour => "RECORD_MISBEHAVIOUR",
            Self::AgreementChangeAlone | Self::AgreementChange(_) => "RECORD_AGREEMENT_CHANGE",
        }
    }
}

/// A transaction that keeps every rule that can be checked without the chain's state.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifiedTransaction {
    header: TransactionHeader,
    signature: Signature,
    id: Hash,
    leaf_hash: Hash,
    slots: Vec<Slot>,
    stated: Vec<Option<Stated>>,
    load: Load,
    alone: Option<Alone>,
    parts: v1::Transaction,
    encoded: Bytes,
}

impl VerifiedTransaction {
    /// Checks the encoding of a [`v1::Transaction`], its signature, slots and records.
    ///
    /// # Errors
    /// The first rule that is broken. The signature is over the header alone, and is checked before anything
    /// whose cost grows with the bytes.
    pub fn from_bytes(encoded: Bytes, chain_id: &Hash) -> Result<Self, TransactionError> {
        if encoded.len() > TRANSACTION_BYTES_MAX {
            return Err(TransactionError::TooLarge(encoded.len()));
        }
        // Decoding from `Bytes` shares the buffer: slots and records are views of it.
        let parts = v1::Transaction::decode(encoded.clone()).map_err(CanonicalError::from)?;
        if parts.encoded_len() != encoded.len() || parts.encode_to_vec() != encoded {
            return Err(CanonicalError::NotCanonical.into());
        }
        Self::check(parts, encoded, chain_id)
    }

    /// The leaf hash of an encoding, without any check: to tell whether it is known already. `None`
    /// where the encoding is not a transaction.
    pub fn leaf_hash_unchecked(encoded: &Bytes) -> Option<Hash> {
        let parts = v1::Transaction::decode(encoded.clone()).ok()?;
        Some(merkle::leaf_hash(&[&parts.header[..], &parts.signature[..]].concat()))
    }

    /// The header of an encoding and its leaf hash, without any check: for questions that cost less
    /// than a signature check. `None` where the encoding is not a transaction.
    pub fn header_unchecked(encoded: &Bytes) -> Option<(TransactionHeader, Hash)> {
        let parts = v1::Transaction::decode(encoded.clone()).ok()?;
        let leaf_hash = merkle::leaf_hash(&[&parts.header[..], &parts.signature[..]].concat());
        Some((TransactionHeader::decode(&parts.header).ok()?, leaf_hash))
    }

    fn check(
        parts: v1::Transaction,
        encoded: Bytes,
        chain_id: &Hash,
    ) -> Result<Self, TransactionError> {
        let header = TransactionHeader::decode(&parts.header)?;
        if header.chain_id != *chain_id {
            let (expected, found) = (*chain_id, header.chain_id);
            return Err(TransactionError::WrongChain { expected, found });
        }
        let signature = Signature::from_slice(&parts.signature).map_err(KeyError::from)?;
        header.verify(&signature)?;
        let stated = header.slot_count;
        if !(1..=SLOTS_MAX).contains(&parts.slots.len()) || parts.slots.len() != stated as usize {
            return Err(TransactionError::SlotCount { stated, found: parts.slots.len() });
        }
        if merkle::root(&parts.slots) != header.records_root {
            return Err(TransactionError::RecordsRoot);
        }
        let load = check_load(&parts)?;
        let CheckedSlots { slots, stated, alone } = check_slots(&parts, &header)?;
        match &alone {
            Some(Alone::Change(change)) => {
                change.verify(chain_id).map_err(TransactionError::RegistryChange)?;
            }
            Some(Alone::Agreement(change)) => {
                change.verify(chain_id).map_err(TransactionError::AgreementChange)?;
            }
            _ => {}
        }
        let (id, leaf_hash) = (header.id(), merkle::leaf_hash(&header.leaf(&signature)));
        Ok(Self { id, header, signature, leaf_hash, slots, stated, load, alone, parts, encoded })
    }

    /// What was signed.
    pub fn header(&self) -> &TransactionHeader {
        &self.header
    }

    /// Over the header.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Tagged hash of the header.
    pub fn id(&self) -> Hash {
        self.id
    }

    /// RFC 6962 leaf hash of header and signature: how peers and proposals name it.
    pub fn leaf_hash(&self) -> Hash {
        self.leaf_hash
    }

    /// The slots, in order: at least one.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Who states the record of each slot, and what it refers to, in the slots' order; `None` where the slot is not
    /// open, and only those who have the bytes know.
    pub fn stated(&self) -> &[Option<Stated>] {
        &self.stated
    }

    /// How much work its records are.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// The record that it is called by where it is one of several: that of its first slot.
    pub fn first_record_id(&self) -> Hash {
        self.slots.first().expect("a transaction without slots is not verified").record_id
    }

    /// The change of the registry that it carries, alone. All its signatures verify.
    pub fn registry_change(&self) -> Option<&RegistryChange> {
        match &self.alone {
            Some(Alone::Change(change)) => Some(change),
            _ => None,
        }
    }

    /// The change of an agreement that it carries, alone. All its signatures verify.
    pub fn agreement_change(&self) -> Option<&AgreementChange> {
        match &self.alone {
            Some(Alone::Agreement(change)) => Some(change),
            _ => None,
        }
    }

    /// Whether it carries a change of registry or agreements, or evidence: the network's own business.
    pub fn is_of_the_network(&self) -> bool {
        self.alone.is_some()
    }

    /// The evidence that it carries, alone. It proves what it says, whosever the key is.
    pub fn evidence(&self) -> Option<&Evidence> {
        match &self.alone {
            Some(Alone::Evidence(evidence)) => Some(evidence),
            _ => None,
        }
    }

    /// The transaction's parts as protobuf: header, signature, slots and records.
    pub fn parts(&self) -> &v1::Transaction {
        &self.parts
    }

    /// The bytes it came in.
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }
}

/// Whether a record must be alone in its transaction.
fn is_alone(record: &v1::Record) -> bool {
    use Body::{AgreementChange, Misbehaviour, RegistryChange};
    matches!(record.body, Some(Misbehaviour(_) | RegistryChange(_) | AgreementChange(_)))
}

/// What is alone in its transaction.
#[derive(Clone, Debug, PartialEq)]
enum Alone {
    Evidence(Box<Evidence>),
    Change(Box<RegistryChange>),
    Agreement(Box<AgreementChange>),
}

/// What a transaction carries, checked.
struct CheckedSlots {
    slots: Vec<Slot>,
    stated: Vec<Option<Stated>>,
    alone: Option<Alone>,
}

/// The place of a slot's record among the records of a transaction; `None` where the slot is not open, and none is
/// carried, or where there is no such slot.
pub fn record_place(parts: &v1::Transaction, position: u32) -> Option<usize> {
    let position = usize::try_from(position).ok()?;
    if parts.slots.len() == parts.records.len() {
        // All are open: nothing needs to be decoded.
        return (position < parts.slots.len()).then_some(position);
    }
    let is_open = |bytes: &Bytes| Slot::decode(bytes).is_ok_and(|slot| slot.form == SlotForm::Open);
    if !is_open(parts.slots.get(position)?) {
        return None;
    }
    Some(parts.slots[..position].iter().filter(|bytes| is_open(bytes)).count())
}

/// The records together are no more work than a transaction may be.
fn check_load(parts: &v1::Transaction) -> Result<Load, TransactionError> {
    let (expected, found) = (parts.slots.len(), parts.records.len());
    if found > expected {
        return Err(TransactionError::RecordCount { expected, found });
    }
    let mut load = Load::default();
    for (index, record) in parts.records.iter().enumerate() {
        load += Load::of(record)
            .map_err(|error| TransactionError::Record(index, RecordError::Load(error)))?;
    }
    load.check_transaction().map_err(TransactionError::Load)?;
    Ok(load)
}

fn check_slots(
    parts: &v1::Transaction,
    header: &TransactionHeader,
) -> Result<CheckedSlots, TransactionError> {
    let decode = |(index, bytes): (usize, &Bytes)| {
        Slot::decode(bytes).map_err(|error| TransactionError::Slot(index, error))
    };
    let mut slots = parts.slots.iter().enumerate().map(decode).collect::<Result<Vec<_>, _>>()?;
    let count = slots.len();
    let expected = slots.iter().filter(|slot| slot.form == SlotForm::Open).count();
    let found = parts.records.len();
    if found != expected {
        return Err(TransactionError::RecordCount { expected, found });
    }
    let (mut stated, mut alone) = (Vec::with_capacity(count), None);
    let mut records = parts.records.iter().enumerate();
    for (index, slot) in slots.iter_mut().enumerate() {
        if slot.form != SlotForm::Open {
            stated.push(None);
            continue;
        }
        let Some((place, bytes)) = records.next() else { break };
        let record = ValidRecord::from_bytes(bytes.clone())
            .map_err(|error| TransactionError::Record(place, error))?;
        if record.id != slot.record_id {
            return Err(TransactionError::RecordId(index));
        }
        if record.subject_keys != slot.subject_keys {
            return Err(TransactionError::SubjectKeys(index));
        }
        if record.agency != header.agency {
            return Err(TransactionError::Agency(place));
        }
        stated.push(Stated::of(&record.record));
        slot.scope = DedupeScope::of(&record.record);
        if let Some(body) = &record.record.body {
            alone = check_alone(body, slot, count, header)?.or(alone);
        }
    }
    Ok(CheckedSlots { slots, stated, alone })
}

/// What is the network's own business is alone in its transaction, under the dedupe key that follows from it.
fn check_alone(
    body: &Body,
    slot: &Slot,
    slots: usize,
    header: &TransactionHeader,
) -> Result<Option<Alone>, TransactionError> {
    Ok(match body {
        Body::Misbehaviour(misbehaviour) => {
            let evidence = check_misbehaviour(misbehaviour, slot, slots, &header.chain_id)?;
            Some(Alone::Evidence(Box::new(evidence)))
        }
        Body::RegistryChange(change) => {
            Some(Alone::Change(Box::new(check_change(change, slot, slots)?)))
        }
        Body::AgreementChange(change) => {
            let change = AgreementChange::from_proto(change);
            let change = change.map_err(TransactionError::AgreementChange)?;
            if slots != 1 || slot.dedupe_key != change.dedupe_key(&header.agency) {
                return Err(TransactionError::AgreementChangeAlone);
            }
            Some(Alone::Agreement(Box::new(change)))
        }
        _ => None,
    })
}

/// A change of the registry has the key that makes it the only one of its proposal, and is alone.
fn check_change(
    change: &v1::RegistryChange,
    slot: &Slot,
    slots: usize,
) -> Result<RegistryChange, TransactionError> {
    let change = RegistryChange::from_proto(change).map_err(TransactionError::RegistryChange)?;
    if slots == 1 && slot.dedupe_key == change.proposal().hash() {
        Ok(change)
    } else {
        Err(TransactionError::RegistryChangeAlone)
    }
}

/// A report of misbehaviour proves what it says, has the key that makes it the only one of its
/// breach, and is alone: its two signatures are all that it costs to check.
fn check_misbehaviour(
    misbehaviour: &v1::Misbehaviour,
    slot: &Slot,
    slots: usize,
    chain_id: &Hash,
) -> Result<Evidence, TransactionError> {
    let evidence = Evidence::from_proto(misbehaviour).ok();
    let holds = |evidence: &Evidence| {
        slots == 1 && slot.dedupe_key == evidence.dedupe_key() && evidence.proves(chain_id)
    };
    evidence.filter(holds).ok_or(TransactionError::Misbehaviour)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        agency::AgencyCode,
        keys::SigningKey,
        record::{dedupe_key, tests::record},
    };

    pub(crate) const CHAIN: Hash = Hash([1; 32]);

    /// A transaction of `count` records numbered from `first`.
    pub(crate) fn transaction(first: u64, count: u64) -> VerifiedTransaction {
        let agency: AgencyCode = "NL-DOUANE".parse().expect("a code");
        let records: Vec<_> = (first..first + count)
            .map(|n| {
                let record = ValidRecord::from_record(record("NL-DOUANE", n)).expect("valid");
                (record, dedupe_key(&agency, "broker", &n.to_string()))
            })
            .collect();
        let key = SigningKey::from_seed(&[3; 32]);
        VerifiedTransaction::sign(&records, agency, 2_000_000_000_000, &CHAIN, &key).expect("valid")
    }

    #[test]
    fn a_signed_transaction_round_trips() {
        let transaction = transaction(1, 3);
        let read = VerifiedTransaction::from_bytes(transaction.encoded().clone(), &CHAIN);
        assert_eq!(read, Ok(transaction));
    }

    #[test]
    fn another_chain_refuses_it() {
        let bytes = transaction(1, 1).encoded().clone();
        let refused = VerifiedTransaction::from_bytes(bytes, &Hash([2; 32])).expect_err("refused");
        assert_eq!(refused.code(), "WRONG_CHAIN");
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let bytes = transaction(1, 2).encoded().to_vec();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let outcome = VerifiedTransaction::from_bytes(flipped.into(), &CHAIN);
            assert!(outcome.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn an_empty_transaction_is_refused() {
        let agency = "NL-DOUANE".parse().expect("a code");
        let key = SigningKey::from_seed(&[3; 32]);
        let refused = VerifiedTransaction::sign(&[], agency, 1, &CHAIN, &key).expect_err("refused");
        assert_eq!(refused.code(), "SLOT_COUNT");
    }
}
