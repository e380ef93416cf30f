//! Records: one trade fact each. The rules here decide validity on the chain; code
//! lists (HS, ISO, UN/LOCODE) only warn at the edge, because lists change.

use bytes::Bytes;
use customhouse_proto::v1::{
    self,
    record::Body,
    reference::{Ground, Relation},
    source::Mapping,
    subject::Scheme,
};
use prost::Message as _;

use crate::{
    agency::AgencyCode,
    agreement::AgreementError,
    attachment::{AttachmentError, check_attachments},
    authority::{self, NoRelation, NotStated, RecordKind, role},
    canonical::{self, CanonicalError},
    hash::{Hash, Tag},
    layout::LayoutError,
    limits::SUBJECT_ID_BYTES_MAX,
    limits::{RECORD_BYTES_MAX, REFERENCES_MAX, SUBJECTS_MAX, SUBMITTER_BYTES_MAX},
    record::{
        field_tree::FieldTreeError,
        load::{Load, LoadError},
        subject::{
            Subjects,
            form::{self, FormError},
        },
    },
    registry::ChangeError,
    text::{self, TextError},
};

mod agreement_change;
mod assistance_request;
mod assistance_response;
mod certificate;
mod declaration;
mod declaration_status;
mod enforcement_action;
mod event;
pub mod field_tree;
mod fields;
mod inspection;
mod kind;
pub mod load;
mod misbehaviour;
mod registry_change;
mod risk_alert;
pub mod subject;
mod trader_status;
mod transport_document;

pub use fields::is_decimal;
pub use kind::{Kind, kind_of};

/// Bytes of the salt: random, so that nobody tells a record from its id by guessing.
pub const SALT_BYTES: usize = 32;
/// Bytes of the hash of a client's certificate.
pub const CERTIFICATE_HASH_BYTES: usize = 32;

/// Why a record was refused. Each names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// More than [`RECORD_BYTES_MAX`].
    #[error("record: {0} bytes, at most {RECORD_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// Not canonical protobuf.
    #[error("record: {0}")]
    Canonical(#[from] CanonicalError),
    /// Not [`SALT_BYTES`].
    #[error("record.salt: {SALT_BYTES} bytes expected, {0} found")]
    Salt(usize),
    /// Not an agency code.
    #[error("record.agency: an agency code is 2 to 16 of A-Z, 0-9 and -")]
    Agency,
    /// Empty, or longer than [`SUBMITTER_BYTES_MAX`].
    #[error("record.submitter: 1 to {SUBMITTER_BYTES_MAX} bytes expected, {0} found")]
    Submitter(usize),
    /// Not a name that the chain takes.
    #[error("record.submitter: {0}")]
    SubmitterName(TextError),
    /// Unset or unknown.
    #[error("record.submitter_role: unset or unknown")]
    Role,
    /// Neither empty nor a hash, or there in what the node states itself.
    #[error(
        "record.submitter_certificate: {CERTIFICATE_HASH_BYTES} bytes expected, or none where no node \
         speaks for a client"
    )]
    Certificate,
    /// Who speaks in this role may not state this kind.
    #[error("record: {0}")]
    Authority(NotStated),
    /// More fields and elements than a record may have, or not its one encoding.
    #[error("record: {0}")]
    Leaves(FieldTreeError),
    /// More of them than a record of so many bytes may have.
    #[error("record: {0}")]
    Load(LoadError),
    /// More than [`REFERENCES_MAX`].
    #[error("record.references: {0}, at most {REFERENCES_MAX} are allowed")]
    TooManyReferences(usize),
    /// Unknown relation or ground, an id that is not 32 bytes, an agency that is no code or the record's own.
    #[error(
        "record.references[{0}]: needs a relation, a ground, a record id of 32 bytes, and an agency \
         where that is another than the record's own"
    )]
    Reference(usize),
    /// A relation that leads from no record of this kind.
    #[error("record.references[{0}]: {1}")]
    Relation(usize, NoRelation),
    /// Found by a program that the record does not name.
    #[error(
        "record.references[{0}]: on a ground that only an importer has, and record.source names none: name the \
         program that found it in source.importer, or assert it"
    )]
    Ground(usize),
    /// Unknown scheme, empty or too long id.
    #[error("record.subjects[{0}]: needs a scheme and an id of 1 to {SUBJECT_ID_BYTES_MAX} bytes")]
    Subject(usize),
    /// Not strictly ascending by (scheme, id).
    #[error("record.subjects: must be sorted by scheme and id, without repeats")]
    SubjectOrder,
    /// A subject, stated or following from the body, whose id is not in its scheme's normal form.
    #[error("record: {scheme} {id:?}: {why}")]
    SubjectForm {
        /// Name of the scheme.
        scheme: &'static str,
        /// The id, or the beginning of one that is too long.
        id: String,
        /// What is wrong with it.
        why: FormError,
    },
    /// Nothing says what it is about: no subject, no reference, no id of its own. Nobody would find it again.
    #[error(
        "record.{0}: 1 to {SUBJECT_ID_BYTES_MAX} bytes expected, because nothing else says what the \
         record is about. Give it, or a subject, or a reference to an earlier record"
    )]
    AboutNothing(&'static str),
    /// More than [`SUBJECTS_MAX`].
    #[error("record: about more than the {SUBJECTS_MAX} subjects that are allowed")]
    TooManySubjects,
    /// What it says of its attachments.
    #[error("record.{0}")]
    Attachment(#[from] AttachmentError),
    /// No body, or one of a kind that this version does not know.
    #[error("record.body: missing")]
    Body,
    /// Text that is not a decimal number.
    #[error("record.{0}: not a decimal number such as -12.50")]
    Decimal(&'static str),
    /// Not two statements by one key that together break a rule.
    #[error("record.misbehaviour: {0}")]
    Misbehaviour(LayoutError),
    /// Not a change of the registry.
    #[error("record.registry_change.{0}")]
    RegistryChange(ChangeError),
    /// Not a change of an agreement.
    #[error("record.agreement_change.{0}")]
    AgreementChange(AgreementError),
    /// An enumeration's value is unset or unknown.
    #[error("record.{0}: unset or unknown value")]
    Enumeration(&'static str),
}

impl RecordError {
    /// A stable code for clients and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "RECORD_TOO_LARGE",
            Self::Canonical(CanonicalError::Decode(_)) => "RECORD_MALFORMED",
            Self::Canonical(CanonicalError::NotCanonical) => "RECORD_NOT_CANONICAL",
            Self::Salt(_) => "RECORD_SALT",
            Self::Agency => "RECORD_AGENCY",
            Self::Submitter(_) | Self::SubmitterName(_) => "RECORD_SUBMITTER",
            Self::Role => "RECORD_ROLE",
            Self::Certificate => "RECORD_CERTIFICATE",
            Self::Authority(_) => "RECORD_AUTHORITY",
            Self::Leaves(FieldTreeError::Encoding) => "RECORD_NOT_CANONICAL",
            Self::Leaves(FieldTreeError::TooManyLeaves) | Self::Load(_) => "RECORD_LEAVES",
            Self::TooManyReferences(_)
            | Self::Reference(_)
            | Self::Relation(..)
            | Self::Ground(_) => "RECORD_REFERENCE",
            Self::Subject(_)
            | Self::SubjectOrder
            | Self::SubjectForm { .. }
            | Self::TooManySubjects => "RECORD_SUBJECT",
            Self::Attachment(_) => "RECORD_ATTACHMENT",
            Self::AboutNothing(_) => "RECORD_ABOUT_NOTHING",
            Self::Body => "RECORD_BODY",
            Self::Decimal(_) => "RECORD_DECIMAL",
            Self::Misbehaviour(_) => "RECORD_MISBEHAVIOUR",
            Self::RegistryChange(_) => "RECORD_REGISTRY_CHANGE",
            Self::AgreementChange(_) => "RECORD_AGREEMENT_CHANGE",
            Self::Enumeration(_) => "RECORD_ENUMERATION",
        }
    }
}

/// A record that keeps all rules, with what follows from it.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidRecord {
    /// Canonical bytes.
    pub bytes: Bytes,
    /// The root of its fields, see [`field_tree`].
    pub id: Hash,
    /// The agency that answers for it.
    pub agency: AgencyCode,
    /// Strictly ascending.
    pub subject_keys: Vec<Hash>,
    /// How much work it is.
    pub load: Load,
    /// The record.
    pub record: v1::Record,
}

impl ValidRecord {
    /// Checks canonical bytes.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, RecordError> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(RecordError::TooLarge(bytes.len()));
        }
        let load = check_load(&bytes)?;
        let record: v1::Record = canonical::decode(&bytes)?;
        Self::check(bytes, load, record)
    }

    /// Encodes and checks a record.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn from_record(record: v1::Record) -> Result<Self, RecordError> {
        let length = record.encoded_len();
        if length > RECORD_BYTES_MAX {
            return Err(RecordError::TooLarge(length));
        }
        let bytes = Bytes::from(record.encode_to_vec());
        let load = check_load(&bytes)?;
        Self::check(bytes, load, record)
    }

    fn check(bytes: Bytes, load: Load, record: v1::Record) -> Result<Self, RecordError> {
        if record.salt.len() != SALT_BYTES {
            return Err(RecordError::Salt(record.salt.len()));
        }
        let agency = record.agency.parse().map_err(|_| RecordError::Agency)?;
        if !(1..=SUBMITTER_BYTES_MAX).contains(&record.submitter.len()) {
            return Err(RecordError::Submitter(record.submitter.len()));
        }
        text::check_name(&record.submitter).map_err(RecordError::SubmitterName)?;
        let body = record.body.as_ref().ok_or(RecordError::Body)?;
        check_speaker(&record, RecordKind::of(body))?;
        check_references(&record, RecordKind::of(body))?;
        check_subjects(&record.subjects)?;
        check_attachments(&record)?;
        check_mapping(record.source.as_ref())?;
        kind_of(body).check()?;
        let subjects = subjects(&record);
        subjects.iter().try_for_each(check_form)?;
        let subject_keys = subject::keys_of(&subjects);
        // A change of the registry is about the registry, and found by its proposal.
        let of_trade = !matches!(body, Body::RegistryChange(_));
        if subject_keys.is_empty() && of_trade {
            check_about(&record, kind_of(body))?;
        }
        if subject_keys.len() > SUBJECTS_MAX {
            return Err(RecordError::TooManySubjects);
        }
        let id = field_tree::record_id(&bytes, &record.salt).map_err(RecordError::Leaves)?;
        Ok(Self { bytes, id, agency, subject_keys, load, record })
    }
}

/// The subjects of a record: those that follow from its body, and those it states. Sorted by
/// (scheme, id), without repeats; empty ids are left out. In a valid record each is in its normal form,
/// see [`form`].
pub fn subjects(record: &v1::Record) -> Vec<v1::Subject> {
    let mut found = Subjects::of(&record.agency);
    for subject in &record.subjects {
        found.add_raw(subject.scheme, &subject.id);
    }
    if let Some(body) = &record.body {
        kind_of(body).add_subjects(&mut found);
    }
    found.into_sorted()
}

/// The keys of [`subjects`], strictly ascending: what a slot of this record must carry.
pub fn subject_keys(record: &v1::Record) -> Vec<Hash> {
    subject::keys_of(&subjects(record))
}

/// The dedupe key of a submission: tagged hash of the agency (16 bytes), the submitter's name with
/// its length (u32) before it, and the client's key.
pub fn dedupe_key(agency: &AgencyCode, submitter: &str, client_key: &str) -> Hash {
    let length = u32::try_from(submitter.len()).unwrap_or(u32::MAX).to_be_bytes();
    Tag::DEDUPE.hash(&[agency.as_bytes(), &length, submitter.as_bytes(), client_key.as_bytes()])
}

/// What a record has to be decoded is told from its bytes, before.
fn check_load(bytes: &[u8]) -> Result<Load, RecordError> {
    let load = Load::of(bytes).map_err(RecordError::Load)?;
    load.check_density().map_err(RecordError::Load)?;
    Ok(load)
}

/// What a record says of the mapping of its source is what this version knows: a later one may give it a meaning.
fn check_mapping(source: Option<&v1::Source>) -> Result<(), RecordError> {
    match source.is_none_or(|source| Mapping::try_from(source.mapping).is_ok()) {
        true => Ok(()),
        false => Err(RecordError::Enumeration("source.mapping")),
    }
}

/// A record without a subject has an id of its own, or refers to an earlier record.
fn check_about(record: &v1::Record, kind: &dyn Kind) -> Result<(), RecordError> {
    match kind.own_id().is_empty() && record.references.is_empty() {
        true => Err(RecordError::AboutNothing(kind.field())),
        false => Ok(()),
    }
}

/// Who speaks has a role that may state the kind, and a certificate only where a node speaks for a client.
fn check_speaker(record: &v1::Record, kind: RecordKind) -> Result<(), RecordError> {
    let role = role::numbered(record.submitter_role).ok_or(RecordError::Role)?;
    let certificate = record.submitter_certificate.len();
    let stated_itself = !role::is_submitter(role) && certificate != 0;
    if !matches!(certificate, 0 | CERTIFICATE_HASH_BYTES) || stated_itself {
        return Err(RecordError::Certificate);
    }
    authority::check_kind(role, kind).map_err(RecordError::Authority)
}

fn check_references(record: &v1::Record, from: RecordKind) -> Result<(), RecordError> {
    let references = &record.references;
    if references.len() > REFERENCES_MAX {
        return Err(RecordError::TooManyReferences(references.len()));
    }
    let names_importer = record.source.as_ref().is_some_and(|source| !source.importer.is_empty());
    for (index, reference) in references.iter().enumerate() {
        let known = Relation::try_from(reference.relation)
            .is_ok_and(|relation| relation != Relation::Unspecified);
        let ground = Ground::try_from(reference.ground).is_ok();
        let agency = &reference.agency;
        let other =
            agency.is_empty() || (*agency != record.agency && agency.parse::<AgencyCode>().is_ok());
        if !known || !ground || !other || reference.record_id.len() != 32 {
            return Err(RecordError::Reference(index));
        }
        authority::check_relation(reference.relation(), from)
            .map_err(|refused| RecordError::Relation(index, refused))?;
        if reference.ground() != Ground::Asserted && !names_importer {
            return Err(RecordError::Ground(index));
        }
    }
    Ok(())
}

fn check_subjects(subjects: &[v1::Subject]) -> Result<(), RecordError> {
    if subjects.len() > SUBJECTS_MAX {
        return Err(RecordError::TooManySubjects);
    }
    for (index, subject) in subjects.iter().enumerate() {
        let known =
            Scheme::try_from(subject.scheme).is_ok_and(|scheme| scheme != Scheme::Unspecified);
        if !known || !(1..=SUBJECT_ID_BYTES_MAX).contains(&subject.id.len()) {
            return Err(RecordError::Subject(index));
        }
    }
    let ascends =
        |pair: &[v1::Subject]| (pair[0].scheme, &pair[0].id) < (pair[1].scheme, &pair[1].id);
    if !subjects.windows(2).all(ascends) {
        return Err(RecordError::SubjectOrder);
    }
    Ok(())
}

fn check_form(subject: &v1::Subject) -> Result<(), RecordError> {
    let scheme = subject.scheme();
    form::check_spelling(scheme, &subject.id).map_err(|why| {
        // A hostile one has as many bytes as a record.
        let shown = subject.id.chars().take(SUBJECT_ID_BYTES_MAX).collect();
        let (scheme, id) = (scheme.as_str_name(), shown);
        RecordError::SubjectForm { scheme, id, why }
    })
}

#[cfg(test)]
mod subject_tests;

#[cfg(test)]
pub(crate) mod tests {
    use customhouse_proto::v1::Role;

    use super::*;

    /// A declaration whose bytes differ with `number`.
    pub(crate) fn record(agency: &str, number: u64) -> v1::Record {
        let declaration = v1::Declaration {
            regime: v1::declaration::Regime::Import as i32,
            reference: format!("LRN{number}"),
            ..Default::default()
        };
        v1::Record {
            salt: vec![7; SALT_BYTES],
            agency: agency.into(),
            submitter: "broker".into(),
            submitter_role: Role::Broker as i32,
            submitter_certificate: vec![6; CERTIFICATE_HASH_BYTES],
            body: Some(Body::Declaration(declaration)),
            ..Default::default()
        }
    }

    #[test]
    fn a_record_is_about_so_many_subjects_and_no_more() {
        let derived = subjects(&record("NL-DOUANE", 1)).len();
        let about = |count: usize| {
            let subject = |n| v1::Subject { scheme: 9, id: format!("{n:04}") };
            let stated = (0..count - derived).map(subject).collect();
            ValidRecord::from_record(v1::Record { subjects: stated, ..record("NL-DOUANE", 1) })
        };
        assert_eq!(about(SUBJECTS_MAX).expect("valid").subject_keys.len(), SUBJECTS_MAX);
        let more = SUBJECTS_MAX + 1;
        assert_eq!(about(more).expect_err("refused"), RecordError::TooManySubjects);
    }

    #[test]
    fn a_valid_record_round_trips() {
        let valid = ValidRecord::from_record(record("NL-DOUANE", 1)).expect("valid");
        assert_eq!(ValidRecord::from_bytes(valid.bytes.clone()), Ok(valid.clone()));
        assert_eq!(valid.subject_keys.len(), 1);
    }

    #[test]
    fn each_broken_rule_has_its_name() {
        let broken = |change: &dyn Fn(&mut v1::Record)| {
            let mut record = record("NL-DOUANE", 1);
            change(&mut record);
            ValidRecord::from_record(record).expect_err("broken")
        };
        assert_eq!(broken(&|r| r.salt = vec![1; 16]), RecordError::Salt(16));
        assert_eq!(broken(&|r| r.submitter_role = 0), RecordError::Role);
        assert_eq!(broken(&|r| r.submitter_role = 99), RecordError::Role);
        assert_eq!(broken(&|r| r.submitter_certificate = vec![1; 31]), RecordError::Certificate);
        assert_eq!(broken(&|r| r.agency = "nl".into()), RecordError::Agency);
        assert_eq!(broken(&|r| r.submitter = String::new()), RecordError::Submitter(0));
        let hidden = broken(&|r| r.submitter = "bro\u{202e}ker".into());
        assert_eq!(hidden, RecordError::SubmitterName(TextError::Character('\u{202e}')));
        assert_eq!(broken(&|r| r.body = None), RecordError::Body);
        let mapped = v1::Source { mapping: 7, ..Default::default() };
        let mapping = broken(&|r| r.source = Some(mapped.clone()));
        assert_eq!(mapping, RecordError::Enumeration("source.mapping"));
        let reference =
            v1::Reference { relation: 1, record_id: vec![0; 31], ground: 0, agency: String::new() };
        assert_eq!(broken(&|r| r.references = vec![reference.clone()]), RecordError::Reference(0));
        let subject = v1::Subject { scheme: 4, id: "X".into() };
        let twice = vec![subject.clone(), subject.clone()];
        assert_eq!(broken(&|r| r.subjects = twice.clone()), RecordError::SubjectOrder);
        let source = v1::Source { content: vec![0; RECORD_BYTES_MAX], ..Default::default() };
        let large = broken(&|r| r.source = Some(source.clone()));
        assert!(matches!(large, RecordError::TooLarge(_)), "{large}");
        let exponent = broken(&|r| {
            if let Some(Body::Declaration(d)) = &mut r.body {
                d.gross_mass_kg = "1e3".into();
            }
        });
        assert_eq!(exponent, RecordError::Decimal("declaration.gross_mass_kg"));
        let money = |amount: &str| v1::Money { amount: amount.into(), currency: "EUR".into() };
        for (amount, base) in [("1,0", "1.0"), ("1.0", "1,0")] {
            let tax = v1::Tax {
                amount: Some(money(amount)),
                base: Some(money(base)),
                ..Default::default()
            };
            let broken_tax = broken(&|r| {
                if let Some(Body::Declaration(d)) = &mut r.body {
                    let taxes = vec![tax.clone()];
                    d.items = vec![v1::GoodsItem { taxes, ..Default::default() }];
                }
            });
            assert_eq!(broken_tax, RecordError::Decimal("declaration.items.taxes"));
        }
    }

    #[test]
    fn an_id_that_is_not_in_its_normal_form_is_refused_whatever_field_it_is_in() {
        let party = || v1::Party { id: "nl1".into(), ..Default::default() };
        let subject = |scheme, id: &str| v1::Subject { scheme, id: id.into() };
        let item =
            v1::GoodsItem { container_ids: vec!["csqu3054383".into()], ..Default::default() };
        for (body, form) in [
            (Body::Declaration(v1::Declaration { mrn: "26nl1".into(), ..declared() }), "26NL1"),
            (Body::Declaration(v1::Declaration { reference: "L 1".into(), ..declared() }), "/L1"),
            (Body::Declaration(v1::Declaration { items: vec![item], ..declared() }), "CSQU3054383"),
            (
                Body::DeclarationStatus(v1::DeclarationStatus {
                    mrn: "26NL\u{a0}1".into(),
                    ..Default::default()
                }),
                "26NL1",
            ),
            (
                Body::TransportDocument(v1::TransportDocument {
                    id: "MAEU\u{200b}7".into(),
                    ..Default::default()
                }),
                "MAEU7",
            ),
            (
                Body::Event(v1::Event { epcs: vec!["URN:epc:x".into()], ..Default::default() }),
                "urn:epc:x",
            ),
            (
                Body::Certificate(v1::Certificate { holder: Some(party()), ..Default::default() }),
                "NL1",
            ),
            (
                Body::RiskAlert(v1::RiskAlert {
                    about: vec![subject(2, "26nl1")],
                    ..Default::default()
                }),
                "26NL1",
            ),
        ] {
            let submitter_role = Role::Office as i32;
            let record = v1::Record { body: Some(body), submitter_role, ..record("NL-DOUANE", 1) };
            let error = ValidRecord::from_record(record).expect_err(form);
            assert_eq!(error.code(), "RECORD_SUBJECT", "{error}");
            assert!(error.to_string().contains("normal form, which is"), "{error}");
            assert!(error.to_string().contains(form), "{error}");
        }
        let long =
            v1::Event { epcs: vec![format!("urn:{}", "x".repeat(256))], ..Default::default() };
        let event = v1::Record { body: Some(Body::Event(long)), ..record("NL-DOUANE", 1) };
        let error = ValidRecord::from_record(event).expect_err("no subject could have it");
        assert!(matches!(error, RecordError::SubjectForm { why: FormError::TooLong(260), .. }));
        let stated = v1::Record { subjects: vec![subject(4, "x1")], ..record("NL-DOUANE", 1) };
        assert_eq!(ValidRecord::from_record(stated).expect_err("x1").code(), "RECORD_SUBJECT");
    }

    fn declared() -> v1::Declaration {
        let regime = v1::declaration::Regime::Import as i32;
        v1::Declaration { regime, ..Default::default() }
    }

    #[test]
    fn decimals_have_one_form() {
        for good in ["0", "108.0", "-12.50", "999999999999999999.999999"] {
            assert!(is_decimal(good), "{good}");
        }
        for bad in ["", "-", ".5", "5.", "1e3", "+1", "1,5", "1.1234567", "1234567890123456789"] {
            assert!(!is_decimal(bad), "{bad}");
        }
    }
}
