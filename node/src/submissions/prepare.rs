//! From what a client sends to a record that can be signed.

use customhouse_ledger::{
    agency::AgencyCode,
    authority::RecordKind,
    hash::Hash,
    record::{SALT_BYTES, ValidRecord, dedupe_key},
    registry::parameters::Parameters,
};
use customhouse_proto::v1;
use hmac::{Hmac, KeyInit as _, Mac as _};
use prost::Message as _;
use sha2::Sha256;

use super::{
    SubmissionRefusal,
    sealing::{PreparedSealed, Sealing},
};
use crate::identity::ClientIdentity;

/// Most bytes of an idempotency key.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;

/// A record with its salt, ready to be signed.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) record: ValidRecord,
    pub(super) dedupe_key: Hash,
    /// Where it is not to be open: what is lodged of it instead.
    pub(super) sealed: Option<PreparedSealed>,
    pub(super) idempotency_key: String,
    /// By which a retry is told from another record: see [`content`].
    pub(super) content: Hash,
}

/// Whether two records are the same submission: the salt is drawn anew each time, and the certificate is that
/// of the connection by which it came.
pub(super) fn says_the_same(one: &v1::Record, other: v1::Record) -> bool {
    // A record may have megabytes: it is compared where it lies.
    let (salt, submitter_certificate) = (one.salt.clone(), one.submitter_certificate.clone());
    *one == v1::Record { salt, submitter_certificate, ..other }
}

fn without_chance(record: &v1::Record) -> v1::Record {
    v1::Record { salt: Vec::new(), submitter_certificate: Vec::new(), ..record.clone() }
}

/// What a record says, as a hash under the outbox's secret: two that are the same submission have the same, and
/// without the secret nobody can guess at what it is of.
pub(super) fn content(secret: &[u8; 32], record: &v1::Record) -> Hash {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(&without_chance(record).encode_to_vec());
    Hash(mac.finalize().into_bytes().into())
}

/// What a node prepares records with.
pub(super) struct Preparing<'a> {
    pub(super) agency: &'a AgencyCode,
    pub(super) parameters: &'a Parameters,
    /// Under which open records are told from each other.
    pub(super) content_secret: &'a [u8; 32],
    /// Where the node has a vault.
    pub(super) sealing: Option<Sealing<'a>>,
}

/// Fills what the node fills, checks the record, and seals it where it is not to be open.
pub(super) fn prepare(
    submission: v1::RecordSubmission,
    client: &ClientIdentity,
    preparing: &Preparing<'_>,
) -> Result<Prepared, SubmissionRefusal> {
    let v1::RecordSubmission { record, idempotency_key, open, agreement } = submission;
    let Preparing { agency, parameters, content_secret, sealing } = preparing;
    let field = |field, reason: &str| SubmissionRefusal::Field { field, reason: reason.to_owned() };
    let mut record = record.ok_or_else(|| field("record", "missing"))?;
    if !(1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&idempotency_key.len()) {
        return Err(field("idempotency_key", "1 to 128 bytes expected"));
    }
    if !record.salt.is_empty() {
        return Err(field("record.salt", "must be empty: the node draws it"));
    }
    if !record.submitter_certificate.is_empty() {
        let reason = "must be empty: the node takes it from the connection";
        return Err(field("record.submitter_certificate", reason));
    }
    if !record.agency.is_empty() && record.agency != agency.as_str() {
        return Err(field("record.agency", &format!("this node answers for {agency} only")));
    }
    if !record.submitter.is_empty() && record.submitter != client.name {
        return Err(field("record.submitter", "must be empty or the name in your certificate"));
    }
    let Some(role) = client.role.speaks_as() else {
        let reason = "your certificate is of a role that lodges nothing";
        return Err(field("record.submitter_role", reason));
    };
    if record.submitter_role != 0 && record.submitter_role != role as i32 {
        let reason = "must be empty or the role in your certificate";
        return Err(field("record.submitter_role", reason));
    }
    record.agency = agency.to_string();
    record.submitter.clone_from(&client.name);
    record.submitter_role = role as i32;
    record.submitter_certificate = client.certificate.to_vec();
    if !open {
        let sealing = sealing.as_ref().ok_or(SubmissionRefusal::NoVault)?;
        return sealing.prepare(record, idempotency_key, &agreement, parameters);
    }
    if !agreement.is_empty() {
        return Err(field("agreement", "must be empty: an open record is shared with all members"));
    }
    let dedupe_key = dedupe_key(agency, &client.name, &idempotency_key);
    let content = content(content_secret, &record);
    record.salt = salt()?;
    let record = ValidRecord::from_record(record)?;
    check_parameters(&record, parameters)?;
    Ok(Prepared { record, dedupe_key, sealed: None, idempotency_key, content })
}

/// A network may have smaller records than the format, and not all kinds in the open. No block may carry another one,
/// nor what is signed together with it.
pub(super) fn check_parameters(
    record: &ValidRecord,
    parameters: &Parameters,
) -> Result<(), SubmissionRefusal> {
    check_size(record, parameters)?;
    let kind = record.record.body.as_ref().map(RecordKind::of);
    kind.map_or(Ok(()), |kind| Ok(parameters.check_open(kind)?))
}

/// The same limit holds for open and sealed records.
pub(super) fn check_size(
    record: &ValidRecord,
    parameters: &Parameters,
) -> Result<(), SubmissionRefusal> {
    let (bytes, max) = (record.bytes.len() as u64, parameters.record_bytes_max);
    if bytes > max {
        return Err(SubmissionRefusal::RecordTooLarge { bytes, max });
    }
    Ok(())
}

/// A record's salt: whoever erases it leaves nothing that anybody could guess the record by.
pub(super) fn salt() -> Result<Vec<u8>, SubmissionRefusal> {
    let mut salt = vec![0; SALT_BYTES];
    let failed =
        |error| SubmissionRefusal::Store(format!("the system gives no random bytes: {error}"));
    getrandom::fill(&mut salt).map_err(failed)?;
    Ok(salt)
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::record::RecordError;
    use customhouse_proto::v1::{record::Body, reference::Relation};

    use super::*;
    use crate::identity::Role;

    fn client(name: &str) -> ClientIdentity {
        client_as(name, Role::Officer)
    }

    fn client_as(name: &str, role: Role) -> ClientIdentity {
        let agency = "NL-DOUANE".parse().expect("a code");
        ClientIdentity { agency, name: name.into(), role, certificate: [6; 32] }
    }

    fn submission(key: &str, mrn: &str) -> v1::RecordSubmission {
        let inspection = v1::Inspection { mrn: mrn.into(), ..Default::default() };
        let body = Some(Body::Inspection(inspection));
        let record = Some(v1::Record { body, ..Default::default() });
        v1::RecordSubmission {
            record,
            idempotency_key: key.into(),
            open: true,
            agreement: Vec::new(),
        }
    }

    fn prepared(
        submission: v1::RecordSubmission,
        name: &str,
    ) -> Result<Prepared, SubmissionRefusal> {
        prepared_by(submission, &client(name))
    }

    fn prepared_by(
        submission: v1::RecordSubmission,
        client: &ClientIdentity,
    ) -> Result<Prepared, SubmissionRefusal> {
        prepare_by(submission, client, &Parameters::default())
    }

    fn prepare_by(
        submission: v1::RecordSubmission,
        client: &ClientIdentity,
        parameters: &Parameters,
    ) -> Result<Prepared, SubmissionRefusal> {
        let (agency, content_secret) = (&client.agency, &[9; 32]);
        let preparing = Preparing { agency, parameters, content_secret, sealing: None };
        prepare(submission, client, &preparing)
    }

    #[test]
    fn a_retry_is_known_by_its_key_and_says_the_same_under_another_salt() {
        let first = prepared(submission("k", "M"), "broker").expect("valid");
        let again = prepared(submission("k", "M"), "broker").expect("valid");
        assert_ne!(first.record.id, again.record.id, "a salt is drawn anew");
        assert_eq!((first.dedupe_key, first.content), (again.dedupe_key, again.content));
        let other_body = prepared(submission("k", "N"), "broker").expect("valid");
        assert_ne!(first.content, other_body.content);
        let other_key = prepared(submission("l", "M"), "broker").expect("valid");
        assert_ne!(first.dedupe_key, other_key.dedupe_key);
        let other_client = prepared(submission("k", "M"), "carrier").expect("valid");
        assert_ne!(first.dedupe_key, other_client.dedupe_key);
        // With a new certificate it is the same submission of the same client.
        let renewed = ClientIdentity { certificate: [9; 32], ..client("broker") };
        let renewed = prepared_by(submission("k", "M"), &renewed);
        assert_eq!(renewed.expect("valid").content, first.content);
    }

    #[test]
    fn what_the_outbox_keeps_of_a_record_is_under_its_secret() {
        let record = v1::Record::default();
        assert_ne!(content(&[1; 32], &record), content(&[2; 32], &record));
    }

    #[test]
    fn a_record_is_not_larger_than_the_network_lets_it_be() {
        let client = client("broker");
        let with_max = |record_bytes_max| {
            let parameters = Parameters { record_bytes_max, ..Parameters::default() };
            prepare_by(submission("k", "M"), &client, &parameters)
        };
        let bytes = with_max(1024).expect("a small one").record.bytes.len() as u64;
        assert!(with_max(bytes).is_ok());
        let refused = with_max(bytes - 1).expect_err("one byte too many");
        assert_eq!(refused, SubmissionRefusal::RecordTooLarge { bytes, max: bytes - 1 });
        assert_eq!(refused.code(), "RECORD_TOO_LARGE");
    }

    #[test]
    fn a_client_speaks_in_its_role_and_states_what_that_may() {
        for role in Role::ALL {
            let client = client_as("a", role);
            let found = prepared_by(submission("k", "M"), &client);
            match role {
                Role::Officer => {
                    let record = found.expect("an act of customs").record.record;
                    assert_eq!(record.submitter_role(), v1::Role::Office);
                    assert_eq!(record.submitter_certificate, [6; 32]);
                    assert_eq!(record.submitter, "a");
                }
                Role::Auditor | Role::Operator => {
                    let refused = found.expect_err("lodges nothing").to_string();
                    assert!(refused.contains("lodges nothing"), "{refused}");
                }
                _ => assert_eq!(found.expect_err("not its act").code(), "RECORD_AUTHORITY"),
            }
        }
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
            assert_eq!(refused, SubmissionRefusal::Record(RecordError::AboutNothing(field)));
            let reference = v1::Reference {
                relation: Relation::Amends as i32,
                record_id: vec![7; 32],
                ..Default::default()
            };
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
        assert!(with(&|r| r.salt = vec![0; 32]).starts_with("record.salt"));
        let certificate = with(&|r| r.submitter_certificate = vec![6; 32]);
        assert!(certificate.starts_with("record.submitter_certificate"));
        assert!(with(&|r| r.submitter_role = 3).starts_with("record.submitter_role"));
        assert!(with(&|r| r.agency = "KR-KCS".into()).starts_with("record.agency"));
        assert!(with(&|r| r.submitter = "carrier".into()).starts_with("record.submitter"));
        let long = "k".repeat(129);
        for key in ["", long.as_str()] {
            let refused = prepared(submission(key, "M"), "broker").expect_err("refused");
            assert!(matches!(refused, SubmissionRefusal::Field { field: "idempotency_key", .. }));
        }
    }
}
