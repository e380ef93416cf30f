//! Whether a record says what it is about.
//!
//! A rule of the door only: a record that says nothing keeps all rules of the chain, and may come
//! in a block. But nobody would find it again, and its client has most likely left a field out.

use customhouse_ledger::transaction::VerifiedTransaction;
use customhouse_proto::v1::{self, record::Body};
use prost::Message as _;

use super::Refusal;

/// Checks a record that has no subject.
///
/// # Errors
/// [`Refusal::AboutNothing`] where it has no reference to an earlier record and no id of its own
/// either.
pub(super) fn check_without_subject(record: &v1::Record) -> Result<(), Refusal> {
    let Some(body) = &record.body else { return Ok(()) };
    // It is about the registry, and found by the hash of its proposal.
    if matches!(body, Body::RegistryChange(_)) {
        return Ok(());
    }
    let (field, own_id) = own_id(body);
    if own_id.is_empty() && record.references.is_empty() {
        return Err(Refusal::AboutNothing(field));
    }
    Ok(())
}

/// The same for every record of a transaction that has no subject.
pub(super) fn check_transaction(transaction: &VerifiedTransaction) -> Result<(), Refusal> {
    for (slot, record) in transaction.slots().iter().zip(&transaction.parts().records) {
        if slot.subject_keys.is_empty() {
            // Verified, so that it decodes.
            check_without_subject(&v1::Record::decode(&record[..]).unwrap_or_default())?;
        }
    }
    Ok(())
}

/// The field that a record of this kind is looked for by, and what tells it from others though it
/// is no subject: empty where the kind has nothing else.
fn own_id(body: &Body) -> (&'static str, &str) {
    match body {
        Body::Declaration(_) => ("declaration.reference", ""),
        Body::DeclarationStatus(status) => {
            ("declaration_status.declaration_reference", &status.reference)
        }
        Body::TransportDocument(_) => ("transport_document.id", ""),
        Body::Event(event) => ("event.epcs", &event.event_id),
        Body::Certificate(_) => ("certificate.id", ""),
        Body::Inspection(_) => ("inspection.mrn", ""),
        Body::EnforcementAction(_) => ("enforcement_action.case_id", ""),
        Body::RiskAlert(_) => ("risk_alert.alert_id", ""),
        Body::AssistanceRequest(_) => ("assistance_request.case_id", ""),
        Body::AssistanceResponse(_) => ("assistance_response.case_id", ""),
        Body::TraderStatus(_) => ("trader_status.trader.id", ""),
        Body::Misbehaviour(_) => ("misbehaviour.first", ""),
        Body::RegistryChange(_) => ("registry_change.proposal", ""),
    }
}
