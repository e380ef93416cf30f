//! Records to submit.

use customhouse_ledger::record::subject::form;
use customhouse_proto::v1::{self, record::Body, subject::Scheme};

/// An event with this id about a case: a small record that a broker may lodge, and whose subject a test can
/// look up. Both are brought to their normal form.
pub fn event(event_id: &str, case: &str) -> v1::Record {
    let event = v1::Event { event_id: normal(event_id), ..Default::default() };
    let subjects = vec![case_subject(case)];
    v1::Record { subjects, body: Some(Body::Event(event)), ..Default::default() }
}

/// An event, submitted under its own id.
pub fn submission(event_id: &str, case: &str) -> v1::RecordSubmission {
    let record = Some(event(event_id, case));
    v1::RecordSubmission {
        record,
        idempotency_key: normal(event_id),
        open: true,
        agreement: Vec::new(),
    }
}

/// A case as a subject, in its normal form.
pub fn case_subject(case: &str) -> v1::Subject {
    v1::Subject { scheme: Scheme::Case as i32, id: normal(case) }
}

/// The normal form of an event's or a case's id.
pub fn normal(id: &str) -> String {
    form::normal(Scheme::Case, id).expect("an id of a case")
}
