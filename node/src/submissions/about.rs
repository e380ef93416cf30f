//! Whether a record says what it is about.
//!
//! A rule of the door only: a record that says nothing keeps all rules of the chain, and may come
//! in a block. But nobody would find it again, and its client has most likely left a field out.

use customhouse_ledger::{record::kind_of, transaction::VerifiedTransaction};
use customhouse_proto::v1::{self, record::Body};
use prost::Message as _;

use super::SubmissionRefusal;

/// Checks a record that has no subject.
///
/// # Errors
/// [`SubmissionRefusal::AboutNothing`] where it has no reference to an earlier record and no id of its own
/// either.
pub(super) fn check_without_subject(record: &v1::Record) -> Result<(), SubmissionRefusal> {
    let Some(body) = &record.body else { return Ok(()) };
    // It is about the registry, and found by the hash of its proposal.
    if matches!(body, Body::RegistryChange(_)) {
        return Ok(());
    }
    let kind = kind_of(body);
    if kind.own_id().is_empty() && record.references.is_empty() {
        return Err(SubmissionRefusal::AboutNothing(kind.field()));
    }
    Ok(())
}

/// The same for every record of a transaction that has no subject.
pub(super) fn check_transaction(
    transaction: &VerifiedTransaction,
) -> Result<(), SubmissionRefusal> {
    for (slot, record) in transaction.slots().iter().zip(&transaction.parts().records) {
        if slot.subject_keys.is_empty() {
            let record = v1::Record::decode(&record[..]).expect("a verified record decodes");
            check_without_subject(&record)?;
        }
    }
    Ok(())
}
