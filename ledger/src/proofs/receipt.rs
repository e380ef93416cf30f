//! Receipts: the proof that one record was committed, checked with the genesis alone.
//!
//! record → slot → path to `records_root` → signed transaction header → path to `log_root` → block
//! header → finalization → validators of the genesis; beside it the registry's proof of whose key
//! signed, and the proof that the slot counted: a repeat of an earlier one, and one that was refused, are on the
//! log too. Every step is checked against the *certified* header, and a receipt has one encoding, so that a
//! receipt with any flipped byte is refused.

use bytes::Bytes;
use customhouse_proto::v1;

use crate::{
    authority::Stated,
    canonical::{self, CanonicalError},
    finality::header::Header,
    hash::Hash,
    keys::{KeyError, Signature},
    layout::LayoutError,
    limits::{RECEIPT_BYTES_MAX, RECEIPT_STEPS_BYTES_MAX},
    merkle::{self, PathBytesError, ProofError},
    proofs::verifier::{FinalityError, Rests, StepError, ValidatorStep, Verifier},
    record::{RecordError, ValidRecord},
    registry::{self, RegistryError, Signer, SignerRefused},
    transaction::{Slot, SlotError, SlotForm, SlotOutcome, TransactionHeader},
};

#[cfg(test)]
pub(crate) mod tests;

/// What a receipt proves.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifiedReceipt {
    /// The record, where its bytes are in the receipt.
    pub record: Option<ValidRecord>,
    /// How the transaction carries it; `slot.record_id` is the record's id.
    pub slot: Slot,
    /// Position of the slot in its transaction.
    pub slot_index: u32,
    /// What was signed.
    pub transaction: TransactionHeader,
    /// Position of the transaction in the log.
    pub log_index: u64,
    /// The block that committed it; its time is when the record was lodged.
    pub header: Header,
    /// Whose key signed, and in which role.
    pub signer: Signer,
    /// Indexes of the validators that finalized the block, ascending.
    pub finalized_by: Vec<usize>,
    /// What that rests on, the receipt's own changes of the validators included.
    pub rests_on: Rests,
}

/// Why a receipt was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// More than [`RECEIPT_BYTES_MAX`].
    #[error("receipt: {0} bytes, at most {RECEIPT_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// Not a receipt in its one encoding.
    #[error("receipt: {0}")]
    Canonical(#[from] CanonicalError),
    /// One of its changes of the validators, by its place, cannot be followed.
    #[error("steps[{0}]: {1}")]
    Step(usize, Box<StepError>),
    /// The header is not known to be final.
    #[error("{0}")]
    Finality(#[from] FinalityError),
    /// The transaction's header is not its layout.
    #[error("transaction_header: {0}")]
    TransactionHeader(LayoutError),
    /// The transaction is for another chain.
    #[error("transaction_header: for another chain")]
    TransactionChain,
    /// The signature is not the signer's over the transaction's header.
    #[error("transaction_signature: {0}")]
    TransactionSignature(KeyError),
    /// A path that is not whole hashes.
    #[error("{0}: {1}")]
    PathBytes(&'static str, PathBytesError),
    /// The log index is not one of the header's block.
    #[error("log_index: {index} is not in the block's range {start}..{size}")]
    LogIndex {
        /// The receipt's.
        index: u64,
        /// The header's log start.
        start: u64,
        /// The header's log size.
        size: u64,
    },
    /// The transaction is not at that place of the log.
    #[error("log_path: {0}")]
    LogPath(ProofError),
    /// The slot did not count in its block, or the paths are not those of its outcome.
    #[error("outcome: the header does not show that the slot counted: {0}")]
    Outcome(ProofError),
    /// The slot is not well-formed.
    #[error("slot.{0}")]
    Slot(SlotError),
    /// The slot is not at that place of the transaction.
    #[error("slot_path: {0}")]
    SlotPath(ProofError),
    /// The record breaks a rule.
    #[error("{0}")]
    Record(RecordError),
    /// The record is not the one that the slot names.
    #[error("record: its id is {found}, the slot names {expected}")]
    RecordId {
        /// The slot's.
        expected: Hash,
        /// Of the record's bytes.
        found: Hash,
    },
    /// The record has other subjects than the slot says.
    #[error("record: its subjects are not the slot's")]
    RecordSubjects,
    /// The record answers to another agency than the transaction.
    #[error("record: of another agency than the transaction")]
    RecordAgency,
    /// The registry entry is not well-formed.
    #[error("registry_entry: {0}")]
    RegistryEntry(#[from] RegistryError),
    /// The entry is not that of the key that signed.
    #[error("registry_entry: does not register the key that signed")]
    RegistrySigner,
    /// The key was registered for another agency.
    #[error("registry_entry: registers the key for another agency")]
    RegistryAgency,
    /// The entry did not count at the block's height.
    #[error("registry_entry: does not count at height {0}")]
    RegistryPeriod(u64),
    /// The key may not sign such a record.
    #[error("record.{0}")]
    SignerRecord(SignerRefused),
    /// The key may not sign a slot of this form.
    #[error("slot.{0}")]
    SignerSlot(SignerRefused),
    /// The entry is not at that place of the registry.
    #[error("registry_path: {0}")]
    RegistryPath(ProofError),
}

/// Puts the changes of the validators that a receipt needs into it, of those given, ascending: those that
/// were announced below its header's height. Where they are too large it is left as it is, and false comes.
pub fn embed_steps(receipt: &mut v1::Receipt, steps: &[v1::ValidatorStep]) -> bool {
    let height_of = |header: &[u8]| Header::decode(header).map(|header| header.height).ok();
    let Some(height) = height_of(&receipt.header) else { return false };
    let below = |step: &&v1::ValidatorStep| height_of(&step.header).is_some_and(|h| h < height);
    let needed: Vec<_> = steps.iter().take_while(below).cloned().collect();
    let bytes: usize = needed.iter().map(prost::Message::encoded_len).sum();
    // Each has a tag and a length too.
    let fits = bytes + 8 * needed.len() <= RECEIPT_STEPS_BYTES_MAX;
    if fits {
        receipt.steps = needed;
    }
    fits
}

impl ReceiptError {
    /// A stable code for clients and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "RECEIPT_TOO_LARGE",
            Self::Canonical(CanonicalError::Decode(_)) => "RECEIPT_MALFORMED",
            Self::Canonical(CanonicalError::NotCanonical) => "RECEIPT_NOT_CANONICAL",
            Self::Step(_, error) => error.code(),
            Self::Finality(error) => error.code(),
            Self::TransactionHeader(_) => "TRANSACTION_HEADER",
            Self::TransactionChain => "WRONG_CHAIN",
            Self::TransactionSignature(_) => "BAD_SIGNATURE",
            Self::PathBytes(..) => "RECEIPT_PATH_MALFORMED",
            Self::LogIndex { .. } => "RECEIPT_LOG_INDEX",
            Self::LogPath(_) => "RECEIPT_LOG_PATH",
            Self::Outcome(_) => "RECEIPT_OUTCOME",
            Self::Slot(error) => error.code(),
            Self::SlotPath(_) => "RECEIPT_SLOT_PATH",
            Self::Record(error) => error.code(),
            Self::RecordId { .. } => "RECORD_ID",
            Self::RecordSubjects => "SUBJECT_KEYS",
            Self::RecordAgency => "RECORD_AGENCY",
            Self::RegistryEntry(_) => "REGISTRY_ENTRY_MALFORMED",
            Self::RegistrySigner => "REGISTRY_SIGNER",
            Self::RegistryAgency => "REGISTRY_AGENCY",
            Self::RegistryPeriod(_) => "REGISTRY_PERIOD",
            Self::RegistryPath(_) => "REGISTRY_PATH",
            Self::SignerRecord(refused) | Self::SignerSlot(refused) => refused.code(),
        }
    }
}

impl Verifier {
    /// Checks the canonical bytes of a [`v1::Receipt`].
    ///
    /// # Errors
    /// [`ReceiptError`]: the first thing that is wrong, from the certified header down to the
    /// record.
    pub fn verify_receipt(&self, bytes: &[u8]) -> Result<VerifiedReceipt, ReceiptError> {
        if bytes.len() > RECEIPT_BYTES_MAX {
            return Err(ReceiptError::TooLarge(bytes.len()));
        }
        let receipt: v1::Receipt = canonical::decode(bytes)?;
        let followed;
        let by = match &receipt.steps[..] {
            [] => self,
            steps => {
                followed = self.following(steps)?;
                &followed
            }
        };
        let (header, finalized_by) = by.verify_final(&receipt.header, &receipt.certificate)?;
        let transaction = self.receipt_transaction(&receipt, &header)?;
        let slot = receipt_slot(&receipt, &transaction)?;
        receipt_outcome(&receipt, &transaction, &header)?;
        let record = receipt_record(&receipt, &slot, &transaction)?;
        let signer = receipt_signer(&receipt, &transaction, &header)?;
        check_speaker(&signer, &slot, record.as_ref())?;
        let (slot_index, log_index) = (receipt.slot_index, receipt.log_index);
        let rests_on = by.rests(finalized_by.len(), header.height);
        Ok(VerifiedReceipt {
            record,
            slot,
            slot_index,
            transaction,
            log_index,
            header,
            signer,
            finalized_by,
            rests_on,
        })
    }

    /// This verifier, having followed a receipt's own changes of the validators. It knows them for this
    /// receipt only: what it is asked next rests on what its caller gave it.
    fn following(&self, steps: &[v1::ValidatorStep]) -> Result<Self, ReceiptError> {
        let mut verifier = self.clone();
        let mut from = 0;
        for (place, step) in steps.iter().enumerate() {
            let wrong = |error| ReceiptError::Step(place, Box::new(error));
            let step = ValidatorStep::from_proto(step).map_err(wrong)?;
            let found = step.header.height;
            if found < from {
                return Err(wrong(StepError::Order { found, from }));
            }
            verifier.follow(&step).map_err(wrong)?;
            from = found + 1;
        }
        Ok(verifier)
    }

    fn receipt_transaction(
        &self,
        receipt: &v1::Receipt,
        header: &Header,
    ) -> Result<TransactionHeader, ReceiptError> {
        let transaction = TransactionHeader::decode(&receipt.transaction_header)
            .map_err(ReceiptError::TransactionHeader)?;
        if transaction.chain_id != self.chain_id() {
            return Err(ReceiptError::TransactionChain);
        }
        let signature = Signature::from_slice(&receipt.transaction_signature)
            .map_err(|error| ReceiptError::TransactionSignature(error.into()))?;
        transaction.verify(&signature).map_err(ReceiptError::TransactionSignature)?;
        let (index, start, size) = (receipt.log_index, header.log_start, header.log_size);
        if !(start..size).contains(&index) {
            return Err(ReceiptError::LogIndex { index, start, size });
        }
        let path = path("log_path", &receipt.log_path)?;
        let leaf = merkle::leaf_hash(&transaction.leaf(&signature));
        merkle::verify_inclusion(&leaf, index, size, &path, &header.log_root)
            .map_err(ReceiptError::LogPath)?;
        Ok(transaction)
    }
}

fn receipt_slot(
    receipt: &v1::Receipt,
    transaction: &TransactionHeader,
) -> Result<Slot, ReceiptError> {
    let slot = Slot::decode(&receipt.slot).map_err(ReceiptError::Slot)?;
    let path = path("slot_path", &receipt.slot_path)?;
    let leaf = merkle::leaf_hash(&receipt.slot);
    let (index, count) = (receipt.slot_index.into(), transaction.slot_count.into());
    merkle::verify_inclusion(&leaf, index, count, &path, &transaction.records_root)
        .map_err(ReceiptError::SlotPath)?;
    Ok(slot)
}

/// The slot counted in its block: a leaf that says so is at its place, under the header's outcomes root.
fn receipt_outcome(
    receipt: &v1::Receipt,
    transaction: &TransactionHeader,
    header: &Header,
) -> Result<(), ReceiptError> {
    let leaf = merkle::leaf_hash(&SlotOutcome::Applied.encode());
    let slots = path("outcome_path", &receipt.outcome_path)?;
    let (index, count) = (receipt.slot_index.into(), transaction.slot_count.into());
    let of_transaction =
        merkle::root_from_inclusion(&leaf, index, count, &slots).map_err(ReceiptError::Outcome)?;
    let transactions = path("outcomes_path", &receipt.outcomes_path)?;
    let leaf = merkle::leaf_hash(of_transaction.as_bytes());
    // That the log index is one of the block's was checked with the transaction.
    let (index, count) = (receipt.log_index - header.log_start, header.log_size - header.log_start);
    merkle::verify_inclusion(&leaf, index, count, &transactions, &header.outcomes_root)
        .map_err(ReceiptError::Outcome)
}

fn receipt_record(
    receipt: &v1::Receipt,
    slot: &Slot,
    transaction: &TransactionHeader,
) -> Result<Option<ValidRecord>, ReceiptError> {
    if receipt.record.is_empty() {
        return Ok(None);
    }
    let bytes = Bytes::copy_from_slice(&receipt.record);
    let record = ValidRecord::from_bytes(bytes).map_err(ReceiptError::Record)?;
    if record.id != slot.record_id {
        return Err(ReceiptError::RecordId { expected: slot.record_id, found: record.id });
    }
    // What the keys of a sealed slot stand for is proven apart, by the epoch's key.
    if slot.form == SlotForm::Open && record.subject_keys != slot.subject_keys {
        return Err(ReceiptError::RecordSubjects);
    }
    if record.agency != transaction.agency {
        return Err(ReceiptError::RecordAgency);
    }
    Ok(Some(record))
}

fn receipt_signer(
    receipt: &v1::Receipt,
    transaction: &TransactionHeader,
    header: &Header,
) -> Result<Signer, ReceiptError> {
    let entry = registry::decode_entry(&receipt.registry_entry)?;
    let signer =
        registry::signer_of(&entry, &transaction.signer).ok_or(ReceiptError::RegistrySigner)?;
    if signer.agency != transaction.agency {
        return Err(ReceiptError::RegistryAgency);
    }
    if !registry::is_open_at(&entry, header.height) {
        return Err(ReceiptError::RegistryPeriod(header.height));
    }
    let path = path("registry_path", &receipt.registry_path)?;
    let (index, count) = (receipt.registry_index, receipt.registry_count);
    let leaf = merkle::leaf_hash(&receipt.registry_entry);
    let tree_root = merkle::root_from_inclusion(&leaf, index, count, &path)
        .map_err(ReceiptError::RegistryPath)?;
    let agreements = Hash::from_slice(&receipt.agreements_root)
        .map_err(|_| ReceiptError::RegistryPath(ProofError::Root))?;
    let members = registry::members_root(count, &tree_root);
    if registry::root(&members, &agreements) != header.registry_root {
        return Err(ReceiptError::RegistryPath(ProofError::Root));
    }
    Ok(signer)
}

/// The key that signed may state the record. Of a slot that is not open the chain has a node's word alone: who stated
/// the record, and under what, goes with its bytes, and is the same whether these are shown or not.
fn check_speaker(
    signer: &Signer,
    slot: &Slot,
    record: Option<&ValidRecord>,
) -> Result<(), ReceiptError> {
    if slot.form != SlotForm::Open {
        return signer.check_slot(None).map_err(ReceiptError::SignerSlot);
    }
    match record.and_then(|record| Stated::of(&record.record)) {
        Some(stated) => signer.check(&stated).map_err(ReceiptError::SignerRecord),
        None => Ok(()),
    }
}

fn path(field: &'static str, bytes: &[u8]) -> Result<Vec<Hash>, ReceiptError> {
    merkle::read_path(bytes).map_err(|error| ReceiptError::PathBytes(field, error))
}
