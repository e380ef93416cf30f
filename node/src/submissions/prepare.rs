//! From what a client sends to a record that can be signed.

use customhouse_ledger::{
    agency::AgencyCode,
    hash::Hash,
    keys::SigningKey,
    record::{SALT_BYTES, ValidRecord, dedupe_key},
};
use customhouse_proto::v1;
use hmac::{Hmac, KeyInit as _, Mac as _};
use prost::Message as _;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    SubmissionRefusal, about,
    sources::{self, MappedBy},
};
use crate::identity::ClientIdentity;

/// Most bytes of an idempotency key.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;

/// A record with its salt, ready to be signed.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub(super) record: ValidRecord,
    pub(super) dedupe_key: Hash,
    pub(super) idempotency_key: String,
}

impl Prepared {
    /// Whether the canonical bytes of another record differ at most in the salt.
    pub(super) fn is_but_for_salt(&self, other: &[u8]) -> bool {
        same_but_for_salt(&self.record.record, other)
    }
}

/// Whether the canonical bytes of a record differ from another at most in the salt.
pub(super) fn same_but_for_salt(record: &v1::Record, other: &[u8]) -> bool {
    v1::Record::decode(other)
        .is_ok_and(|other| v1::Record { salt: record.salt.clone(), ..other } == *record)
}

/// The secret that salts are derived from. It follows from the key that signs the records, so that a
/// node that has lost all but its keys gives a retry the salt of the first time.
pub(super) fn salt_secret(signing_key: &SigningKey) -> Zeroizing<[u8; 32]> {
    signing_key.with_seed(|seed| {
        let mut mac = Hmac::<Sha256>::new_from_slice(seed).expect("any length is a key");
        mac.update(b"customhouse/v1/salt");
        Zeroizing::new(mac.finalize().into_bytes().into())
    })
}

/// Fills what the node fills and checks the record.
pub(super) fn prepare(
    submission: v1::RecordSubmission,
    client: &ClientIdentity,
    agency: &AgencyCode,
    salt_secret: &[u8; 32],
    mapped: MappedBy,
) -> Result<Prepared, SubmissionRefusal> {
    let v1::RecordSubmission { record, idempotency_key } = submission;
    let field = |field, reason: &str| SubmissionRefusal::Field { field, reason: reason.to_owned() };
    let mut record = record.ok_or_else(|| field("record", "missing"))?;
    if !(1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&idempotency_key.len()) {
        return Err(field("idempotency_key", "1 to 128 bytes expected"));
    }
    if !record.salt.is_empty() {
        return Err(field("record.salt", "must be empty: the node derives it"));
    }
    if !record.agency.is_empty() && record.agency != agency.as_str() {
        return Err(field("record.agency", &format!("this node answers for {agency} only")));
    }
    if !record.submitter.is_empty() && record.submitter != client.name {
        return Err(field("record.submitter", "must be empty or the name in your certificate"));
    }
    if matches!(record.body, Some(v1::record::Body::Misbehaviour(_))) {
        let reason = "a validator's misbehaviour is reported in a transaction of its own";
        return Err(field("record.body", reason));
    }
    if matches!(record.body, Some(v1::record::Body::RegistryChange(_))) {
        let reason = "a change of the registry is submitted in a transaction of its own";
        return Err(field("record.body", reason));
    }
    sources::check(&mut record, mapped)?;
    record.agency = agency.to_string();
    record.submitter.clone_from(&client.name);
    let dedupe_key = dedupe_key(agency, &client.name, &idempotency_key);
    record.salt = salt(salt_secret, &dedupe_key);
    let record = ValidRecord::from_record(record)?;
    if record.subject_keys.is_empty() {
        about::check_without_subject(&record.record)?;
    }
    Ok(Prepared { record, dedupe_key, idempotency_key })
}

/// The salt of a record: from the node's secret and the dedupe key, so that an honest retry gives
/// the same record id, and nobody else can tell a record from its id by guessing.
fn salt(secret: &[u8; 32], dedupe_key: &Hash) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(dedupe_key.as_bytes());
    mac.finalize().into_bytes()[..SALT_BYTES].to_vec()
}

#[cfg(test)]
mod tests {
    use customhouse_proto::v1::record::Body;

    use super::*;
    use crate::identity::Role;

    fn client(name: &str) -> ClientIdentity {
        let agency = "NL-DOUANE".parse().expect("a code");
        ClientIdentity { agency, name: name.into(), role: Role::Broker }
    }

    fn submission(key: &str, mrn: &str) -> v1::RecordSubmission {
        let inspection = v1::Inspection { mrn: mrn.into(), ..Default::default() };
        let body = Some(Body::Inspection(inspection));
        let record = Some(v1::Record { body, ..Default::default() });
        v1::RecordSubmission { record, idempotency_key: key.into() }
    }

    fn prepared(
        submission: v1::RecordSubmission,
        name: &str,
    ) -> Result<Prepared, SubmissionRefusal> {
        let client = client(name);
        prepare(submission, &client, &client.agency, &[9; 32], MappedBy::Submitter)
    }

    #[test]
    fn an_honest_retry_gives_the_same_record() {
        let first = prepared(submission("k", "M"), "broker").expect("valid");
        let again = prepared(submission("k", "M"), "broker").expect("valid");
        assert_eq!(first.record.id, again.record.id);
        let other_key = prepared(submission("l", "M"), "broker").expect("valid");
        assert_ne!(first.record.id, other_key.record.id);
        let other_client = prepared(submission("k", "M"), "carrier").expect("valid");
        assert_ne!(first.dedupe_key, other_client.dedupe_key);
    }

    #[test]
    fn a_node_that_lost_all_but_its_keys_gives_a_retry_the_same_salt() {
        let key = |seed| SigningKey::from_seed(&[seed; 32]);
        assert_eq!(salt_secret(&key(1)), salt_secret(&key(1)));
        assert_ne!(salt_secret(&key(1)), salt_secret(&key(2)));
        assert_ne!(*salt_secret(&key(1)), [1; 32], "it is not the seed itself");
    }

    #[test]
    fn a_record_with_another_salt_has_the_same_body_and_one_with_another_body_has_not() {
        let client = client("broker");
        let with_secret = |secret: u8, mrn: &str| {
            let agency = &client.agency;
            let submission = submission("k", mrn);
            prepare(submission, &client, agency, &[secret; 32], MappedBy::Submitter).expect("valid")
        };
        let first = with_secret(1, "M");
        let (resalted, changed) = (with_secret(2, "M"), with_secret(1, "N"));
        assert_ne!(first.record.id, resalted.record.id);
        assert!(first.is_but_for_salt(&resalted.record.bytes));
        assert!(!first.is_but_for_salt(&changed.record.bytes));
        assert!(!first.is_but_for_salt(b"no record"));
    }

    #[test]
    fn a_record_about_nothing_is_refused_by_the_field_that_is_missing() {
        let with = |change: &dyn Fn(&mut v1::Record)| {
            let mut submission = submission("k", "");
            change(submission.record.as_mut().expect("a record"));
            prepared(submission, "broker")
        };
        for (body, field) in empty_bodies() {
            let refused = with(&|r| r.body = Some(body.clone())).expect_err("refused");
            assert_eq!(refused, SubmissionRefusal::AboutNothing(field));
            let reference = v1::Reference { relation: 3, record_id: vec![7; 32], ground: 0 };
            let about = with(&|r| {
                (r.body, r.references) = (Some(body.clone()), vec![reference.clone()]);
            });
            assert!(about.is_ok(), "{field}");
            let subject = v1::Subject { scheme: 4, id: "CSQU3054383".into() };
            let about = with(&|r| {
                (r.body, r.subjects) = (Some(body.clone()), vec![subject.clone()]);
            });
            assert!(about.is_ok(), "{field}");
        }
        let status = v1::DeclarationStatus { reference: "R1".into(), ..Default::default() };
        assert!(with(&|r| r.body = Some(Body::DeclarationStatus(status.clone()))).is_ok());
        let event = v1::Event { event_id: "ni:///sha-256;1".into(), ..Default::default() };
        assert!(with(&|r| r.body = Some(Body::Event(event.clone()))).is_ok());
    }

    /// A body of every kind that says no more than it must, and the field that is missed.
    fn empty_bodies() -> [(Body, &'static str); 11] {
        let import = v1::declaration::Regime::Import as i32;
        let granted = v1::trader_status::Status::Granted as i32;
        let declaration = v1::Declaration { regime: import, ..Default::default() };
        let trader = v1::TraderStatus { status: granted, ..Default::default() };
        [
            (Body::Declaration(declaration), "declaration.reference"),
            (
                Body::DeclarationStatus(v1::DeclarationStatus::default()),
                "declaration_status.declaration_reference",
            ),
            (Body::TransportDocument(v1::TransportDocument::default()), "transport_document.id"),
            (Body::Event(v1::Event::default()), "event.epcs"),
            (Body::Certificate(v1::Certificate::default()), "certificate.id"),
            (Body::Inspection(v1::Inspection::default()), "inspection.mrn"),
            (
                Body::EnforcementAction(v1::EnforcementAction::default()),
                "enforcement_action.case_id",
            ),
            (Body::RiskAlert(v1::RiskAlert::default()), "risk_alert.alert_id"),
            (
                Body::AssistanceRequest(v1::AssistanceRequest::default()),
                "assistance_request.case_id",
            ),
            (
                Body::AssistanceResponse(v1::AssistanceResponse::default()),
                "assistance_response.case_id",
            ),
            (Body::TraderStatus(trader), "trader_status.trader.id"),
        ]
    }

    #[test]
    fn what_the_node_fills_cannot_be_claimed() {
        let with = |change: &dyn Fn(&mut v1::Record)| {
            let mut submission = submission("k", "M");
            change(submission.record.as_mut().expect("a record"));
            prepared(submission, "broker").expect_err("refused").to_string()
        };
        assert!(with(&|r| r.salt = vec![0; 16]).starts_with("record.salt"));
        assert!(with(&|r| r.agency = "KR-KCS".into()).starts_with("record.agency"));
        assert!(with(&|r| r.submitter = "carrier".into()).starts_with("record.submitter"));
        let long = "k".repeat(129);
        for key in ["", long.as_str()] {
            let refused = prepared(submission(key, "M"), "broker").expect_err("refused");
            assert!(matches!(refused, SubmissionRefusal::Field { field: "idempotency_key", .. }));
        }
    }
}
