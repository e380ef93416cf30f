//! Records to submit.

use customhouse_ledger::record::subject::form;
use customhouse_proto::v1::{self, record::Body, subject::Scheme};

/// An alert with this id about a case: a small record whose subject a test can look up. Both are brought
/// to their normal form.
pub fn alert(alert_id: &str, case: &str) -> v1::Record {
    let about = vec![case_subject(case)];
    let alert = v1::RiskAlert { alert_id: normal(alert_id), about, ..Default::default() };
    v1::Record { body: Some(Body::RiskAlert(alert)), ..Default::default() }
}

/// An alert, submitted under its own id.
pub fn submission(alert_id: &str, case: &str) -> v1::RecordSubmission {
    let record = Some(alert(alert_id, case));
    v1::RecordSubmission { record, idempotency_key: normal(alert_id) }
}

/// A case as a subject, in its normal form.
pub fn case_subject(case: &str) -> v1::Subject {
    v1::Subject { scheme: Scheme::Case as i32, id: normal(case) }
}

/// The normal form of an alert's or a case's id.
pub fn normal(id: &str) -> String {
    form::normal(Scheme::Case, id).expect("an id of a case")
}
