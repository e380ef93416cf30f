//! Signing transactions: what a node and a client put into one.

use bytes::Bytes;
use customhouse_proto::v1::{self, Role, record::Body};
use prost::Message as _;

use super::{
    DedupeScope, Slot, SlotForm, TransactionError, TransactionHeader, VerifiedTransaction, is_alone,
};
use crate::{
    agency::AgencyCode,
    agreement::AgreementChange,
    authority::Stated,
    finality::evidence::Evidence,
    hash::{Hash, Tag},
    keys::{Signature, SigningKey},
    limits::{SLOTS_MAX, TRANSACTION_BYTES_MAX},
    merkle,
    record::{ValidRecord, load::Load},
    registry::RegistryChange,
};

/// How records go into a transaction that is signed.
#[derive(Clone, Debug, PartialEq)]
pub enum NewSlot<'a> {
    /// With its bytes, under a dedupe key.
    Open(&'a ValidRecord, Hash),
    /// The slot alone: sealed, or a grant.
    Alone(Slot),
}

impl NewSlot<'_> {
    fn slot(&self) -> Slot {
        match self {
            Self::Open(record, dedupe_key) => Slot {
                record_id: record.id,
                form: SlotForm::Open,
                subject_keys: record.subject_keys.clone(),
                dedupe_key: *dedupe_key,
                scope: DedupeScope::of(&record.record),
            },
            Self::Alone(slot) => slot.clone(),
        }
    }

    fn record(&self) -> Option<&ValidRecord> {
        match self {
            Self::Open(record, _) => Some(record),
            Self::Alone(_) => None,
        }
    }
}

impl VerifiedTransaction {
    /// Signs records into a transaction, open.
    ///
    /// # Errors
    /// No slot, too many, records of another agency, or too large a transaction.
    pub fn sign(
        records: &[(ValidRecord, Hash)],
        agency: AgencyCode,
        not_after_ms: u64,
        chain_id: &Hash,
        key: &SigningKey,
    ) -> Result<Self, TransactionError> {
        let mut slots = Vec::with_capacity(records.len());
        slots.extend(records.iter().map(|(record, key)| NewSlot::Open(record, *key)));
        Self::sign_slots(&slots, agency, not_after_ms, chain_id, key)
    }

    /// Signs slots into a transaction.
    ///
    /// # Errors
    /// As [`VerifiedTransaction::sign`].
    pub fn sign_slots(
        slots: &[NewSlot<'_>],
        agency: AgencyCode,
        not_after_ms: u64,
        chain_id: &Hash,
        key: &SigningKey,
    ) -> Result<Self, TransactionError> {
        let carried: Vec<Slot> = slots.iter().map(NewSlot::slot).collect();
        let encoded: Vec<Bytes> = carried.iter().map(|slot| slot.encode().into()).collect();
        let header = TransactionHeader {
            chain_id: *chain_id,
            signer: key.public(),
            agency,
            not_after_ms,
            slot_count: u32::try_from(slots.len()).unwrap_or(u32::MAX),
            records_root: merkle::root(&encoded),
        };
        let header_bytes = header.encode();
        let signature = key.sign(&Tag::TRANSACTION_SIGNATURE.message(&[&header_bytes]));
        let records = || slots.iter().filter_map(NewSlot::record);
        let parts = v1::Transaction {
            header: header_bytes.into(),
            signature: signature.0.to_vec().into(),
            slots: encoded,
            records: records().map(|record| record.bytes.clone()).collect(),
        };
        let encoded = Bytes::from(parts.encode_to_vec());
        match records().any(|record| is_alone(&record.record)) {
            true => Self::from_bytes(encoded, chain_id),
            false => Self::of_signed((header, signature), slots, carried, (parts, encoded)),
        }
    }

    /// What was just signed, of records that are valid: nothing is decoded or hashed again, which takes as long as
    /// checking a stranger's.
    fn of_signed(
        (header, signature): (TransactionHeader, Signature),
        items: &[NewSlot<'_>],
        slots: Vec<Slot>,
        (parts, encoded): (v1::Transaction, Bytes),
    ) -> Result<Self, TransactionError> {
        if encoded.len() > TRANSACTION_BYTES_MAX {
            return Err(TransactionError::TooLarge(encoded.len()));
        }
        if !(1..=SLOTS_MAX).contains(&slots.len()) {
            let stated = header.slot_count;
            return Err(TransactionError::SlotCount { stated, found: slots.len() });
        }
        let records = || items.iter().filter_map(NewSlot::record);
        let load = records().fold(Load::default(), |load, record| load + record.load);
        load.check_transaction().map_err(TransactionError::Load)?;
        if let Some(other) = records().position(|record| record.agency != header.agency) {
            return Err(TransactionError::Agency(other));
        }
        let stated =
            |item: &NewSlot<'_>| item.record().and_then(|record| Stated::of(&record.record));
        let stated = items.iter().map(stated).collect();
        let (id, leaf_hash) = (header.id(), merkle::leaf_hash(&header.leaf(&signature)));
        let alone = None;
        Ok(Self { id, header, signature, leaf_hash, slots, stated, load, alone, parts, encoded })
    }

    /// Signs a report of misbehaviour.
    ///
    /// # Errors
    /// As [`VerifiedTransaction::sign`]; evidence that proves nothing.
    pub fn report(
        evidence: &Evidence,
        submitter: &str,
        agency: AgencyCode,
        not_after_ms: u64,
        chain_id: &Hash,
        key: &SigningKey,
    ) -> Result<Self, TransactionError> {
        let body = Body::Misbehaviour(evidence.to_proto());
        let record = own_record(body, &evidence.dedupe_key(), submitter, &agency)?;
        Self::sign(&[record], agency, not_after_ms, chain_id, key)
    }

    /// Signs a change of the registry.
    ///
    /// # Errors
    /// As [`VerifiedTransaction::sign`]; an approval or statement whose signature does not verify.
    pub fn change_registry(
        change: &RegistryChange,
        submitter: &str,
        agency: AgencyCode,
        not_after_ms: u64,
        chain_id: &Hash,
        key: &SigningKey,
    ) -> Result<Self, TransactionError> {
        let body = Body::RegistryChange(change.to_proto());
        let record = own_record(body, &change.proposal().hash(), submitter, &agency)?;
        Self::sign(&[record], agency, not_after_ms, chain_id, key)
    }

    /// Signs a change of an agreement.
    ///
    /// # Errors
    /// As [`VerifiedTransaction::sign`]; an approval whose signature does not verify.
    pub fn change_agreement(
        change: &AgreementChange,
        submitter: &str,
        agency: AgencyCode,
        not_after_ms: u64,
        chain_id: &Hash,
        key: &SigningKey,
    ) -> Result<Self, TransactionError> {
        let body = Body::AgreementChange(change.to_proto());
        let record = own_record(body, &change.dedupe_key(&agency), submitter, &agency)?;
        Self::sign(&[record], agency, not_after_ms, chain_id, key)
    }
}

/// A record that is alone in its transaction, under a dedupe key that follows from its body.
fn own_record(
    body: Body,
    dedupe_key: &Hash,
    submitter: &str,
    agency: &AgencyCode,
) -> Result<(ValidRecord, Hash), TransactionError> {
    let record = v1::Record {
        // Nothing in it needs to be hidden from guessing.
        salt: dedupe_key.0.to_vec(),
        agency: agency.to_string(),
        submitter: submitter.to_owned(),
        submitter_role: Role::Node as i32,
        body: Some(body),
        ..Default::default()
    };
    let record = ValidRecord::from_record(record);
    Ok((record.map_err(|error| TransactionError::Record(0, error))?, *dedupe_key))
}
