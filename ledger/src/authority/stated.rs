//! What the rules of authority ask of a record, without its text.

use customhouse_proto::v1::{self, Role, reference::Relation};

use super::RecordKind;
use crate::{agency::AgencyCode, hash::Hash};

/// Who states a record of which kind, and what it refers to. In the record's words: whether its signer may say
/// so is the registry's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stated {
    /// The record's kind.
    pub kind: RecordKind,
    /// The submitter's name.
    pub submitter: String,
    /// In which role it speaks.
    pub role: Role,
    /// Whether a node speaks for a client, who has a certificate.
    pub by_certificate: bool,
    /// What it refers to.
    pub references: Vec<StatedReference>,
    /// Whether it says that its source was mapped anew by the node that signs it.
    pub is_checked: bool,
}

/// A reference to an earlier record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatedReference {
    /// How it refers.
    pub relation: Relation,
    /// The id of that record.
    pub record_id: Hash,
    /// The agency that answers for it.
    pub agency: AgencyCode,
}

impl Stated {
    /// Of a record that was checked; `None` where it has no body, or no agency.
    pub fn of(record: &v1::Record) -> Option<Self> {
        let own: AgencyCode = record.agency.parse().ok()?;
        let reference = |reference: &v1::Reference| {
            let agency =
                if reference.agency.is_empty() { own } else { reference.agency.parse().ok()? };
            let record_id = Hash::from_slice(&reference.record_id).ok()?;
            Some(StatedReference { relation: reference.relation(), record_id, agency })
        };
        let source = record.source.as_ref();
        Some(Self {
            kind: RecordKind::of(record.body.as_ref()?),
            submitter: record.submitter.clone(),
            role: record.submitter_role(),
            by_certificate: !record.submitter_certificate.is_empty(),
            references: record.references.iter().filter_map(reference).collect(),
            is_checked: source.is_some_and(|s| s.mapping() == v1::source::Mapping::Checked),
        })
    }
}
