//! Records to submit.

use customhouse_proto::v1::{self, record::Body, subject::Scheme};

/// An alert with this id about a case: a small record whose subject a test can look up.
pub fn alert(alert_id: &str, case: &str) -> v1::Record {
    let about = vec![case_subject(case)];
    let alert = v1::RiskAlert { alert_id: alert_id.into(), about, ..Default::default() };
    v1::Record { body: Some(Body::RiskAlert(alert)), ..Default::default() }
}

/// An alert, submitted under its own id.
pub fn submission(alert_id: &str, case: &str) -> v1::RecordSubmission {
    let record = Some(alert(alert_id, case));
    v1::RecordSubmission { record, idempotency_key: alert_id.into() }
}

/// A case as a subject.
pub fn case_subject(case: &str) -> v1::Subject {
    v1::Subject { scheme: Scheme::Case as i32, id: case.into() }
}
