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

    /// The other agency to whose record this one of the agency `own` answers. Where there is one, what is
    /// said is the view of `own`, and never counts as that agency's word about its record.
    pub fn answers_another(&self, own: AgencyCode) -> Option<AgencyCode> {
        let mut answered = self.references.iter().filter(|r| r.relation == Relation::RespondsTo);
        answered.find(|reference| reference.agency != own).map(|reference| reference.agency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_another_agency_s_record_is_told_from_all_else() {
        let own: AgencyCode = "BE-AADA".parse().expect("a code");
        let answered = |references: &[(Relation, &str)]| {
            let reference = |(relation, agency): &(Relation, &str)| v1::Reference {
                relation: *relation as i32,
                record_id: vec![1; 32],
                agency: (*agency).to_owned(),
                ..Default::default()
            };
            let record = v1::Record {
                agency: own.to_string(),
                references: references.iter().map(reference).collect(),
                body: Some(v1::record::Body::DeclarationStatus(v1::DeclarationStatus::default())),
                ..Default::default()
            };
            let answered = Stated::of(&record).expect("a body").answers_another(own);
            answered.map(|agency| agency.to_string())
        };
        let other = Some("NL-DOUANE".to_owned());
        assert_eq!(answered(&[]), None);
        assert_eq!(answered(&[(Relation::RespondsTo, "")]), None);
        assert_eq!(answered(&[(Relation::RespondsTo, "BE-AADA")]), None);
        assert_eq!(answered(&[(Relation::Evidences, "NL-DOUANE")]), None);
        assert_eq!(answered(&[(Relation::RespondsTo, "NL-DOUANE")]), other);
        let both = [(Relation::RespondsTo, ""), (Relation::RespondsTo, "NL-DOUANE")];
        assert_eq!(answered(&both), other);
    }
}
