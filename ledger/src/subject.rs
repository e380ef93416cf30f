//! Subjects: what a record is about, and the keys they are indexed under (DESIGN §3).

use std::collections::BTreeSet;

use customhouse_proto::v1::{self, record::Body, subject::Scheme};

use crate::{
    evidence::Evidence,
    hash::{Hash, Tag},
    registry::RegistryChange,
};

pub mod form;

/// Bytes of a subject's id at the most.
pub const SUBJECT_ID_BYTES_MAX: usize = 256;

/// The key of a subject: tagged hash of the scheme (u32) and the id's bytes.
pub fn subject_key(subject: &v1::Subject) -> Hash {
    Tag::SUBJECT.hash(&[&subject.scheme.to_be_bytes(), subject.id.as_bytes()])
}

/// The subjects of a record: those that follow from its body, and those it states. Sorted by
/// (scheme, id), without repeats; empty ids are left out. In a valid record each is in its normal form,
/// see [`form`].
pub fn subjects(record: &v1::Record) -> Vec<v1::Subject> {
    let mut found = Subjects { agency: &record.agency, set: BTreeSet::new() };
    for subject in &record.subjects {
        found.add_raw(subject.scheme, &subject.id);
    }
    if let Some(body) = &record.body {
        found.add_body(body);
    }
    found.set.into_iter().map(|(scheme, id)| v1::Subject { scheme, id }).collect()
}

/// The keys of [`subjects`], strictly ascending: what a slot of this record must carry.
pub fn subject_keys(record: &v1::Record) -> Vec<Hash> {
    keys_of(&subjects(record))
}

/// The keys of subjects, strictly ascending.
pub fn keys_of(subjects: &[v1::Subject]) -> Vec<Hash> {
    let keys: BTreeSet<Hash> = subjects.iter().map(subject_key).collect();
    keys.into_iter().collect()
}

struct Subjects<'a> {
    agency: &'a str,
    set: BTreeSet<(i32, String)>,
}

impl Subjects<'_> {
    fn add_raw(&mut self, scheme: i32, id: &str) {
        if !id.is_empty() {
            self.set.insert((scheme, id.to_owned()));
        }
    }

    fn add(&mut self, scheme: Scheme, id: &str) {
        self.add_raw(scheme as i32, id);
    }

    /// A declaration's own reference is unique within its agency only.
    fn add_reference(&mut self, reference: &str) {
        if !reference.is_empty() {
            let id = format!("{}/{reference}", self.agency);
            self.add(Scheme::DeclarationReference, &id);
        }
    }

    fn add_each(&mut self, scheme: Scheme, ids: &[String]) {
        for id in ids {
            self.add(scheme, id);
        }
    }

    fn add_parties<'p>(&mut self, parties: impl IntoIterator<Item = &'p v1::Party>) {
        for party in parties {
            self.add(Scheme::Trader, &party.id);
        }
    }

    fn add_body(&mut self, body: &Body) {
        match body {
            Body::Declaration(declaration) => self.add_declaration(declaration),
            Body::DeclarationStatus(status) => {
                self.add_reference(&status.declaration_reference);
                self.add(Scheme::Mrn, &status.mrn);
            }
            Body::TransportDocument(document) => {
                self.add(Scheme::TransportDocument, &document.id);
                self.add(Scheme::Ucr, &document.ucr);
                self.add_each(Scheme::Container, &document.container_ids);
                self.add_parties(&document.parties);
            }
            Body::Event(event) => self.add_each(Scheme::Epc, &event.epcs),
            Body::Certificate(certificate) => {
                self.add(Scheme::Certificate, &certificate.id);
                self.add_parties(&certificate.holder);
            }
            Body::Inspection(inspection) => {
                self.add(Scheme::Mrn, &inspection.mrn);
                self.add_each(Scheme::Container, &inspection.container_ids);
            }
            Body::EnforcementAction(action) => {
                self.add(Scheme::Case, &action.case_id);
                self.add(Scheme::Mrn, &action.mrn);
                self.add_parties(&action.party);
            }
            Body::RiskAlert(alert) => {
                self.add(Scheme::Case, &alert.alert_id);
                for subject in &alert.about {
                    self.add_raw(subject.scheme, &subject.id);
                }
            }
            Body::AssistanceRequest(request) => self.add(Scheme::Case, &request.case_id),
            Body::AssistanceResponse(response) => self.add(Scheme::Case, &response.case_id),
            Body::TraderStatus(status) => self.add_parties(&status.trader),
            Body::RegistryChange(change) => {
                if let Ok(change) = RegistryChange::from_proto(change) {
                    for agency in change.agencies() {
                        self.add(Scheme::Agency, agency.as_str());
                    }
                    for key in change.validator_keys() {
                        self.add(Scheme::ValidatorKey, &key.to_string());
                    }
                }
            }
            Body::Misbehaviour(misbehaviour) => {
                if let Ok(evidence) = Evidence::from_proto(misbehaviour) {
                    self.add(Scheme::ValidatorKey, &evidence.culprit().to_string());
                }
            }
        }
    }

    fn add_declaration(&mut self, declaration: &v1::Declaration) {
        self.add_reference(&declaration.reference);
        self.add(Scheme::Mrn, &declaration.mrn);
        self.add(Scheme::Ucr, &declaration.ucr);
        self.add_each(Scheme::Container, &declaration.container_ids);
        self.add_parties(&declaration.parties);
        for item in &declaration.items {
            self.add(Scheme::Ucr, &item.ucr);
            self.add_each(Scheme::Container, &item.container_ids);
            self.add_parties(&item.parties);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declaration() -> v1::Record {
        let declaration = v1::Declaration {
            reference: "LRN1".into(),
            ucr: "U1".into(),
            container_ids: vec!["CSQU3054383".into(), "CSQU3054383".into()],
            items: vec![v1::GoodsItem { ucr: "U2".into(), ..Default::default() }],
            ..Default::default()
        };
        v1::Record {
            agency: "NL-DOUANE".into(),
            body: Some(Body::Declaration(declaration)),
            ..Default::default()
        }
    }

    #[test]
    fn subjects_follow_from_the_body_once_each() {
        let found: Vec<_> = subjects(&declaration()).into_iter().map(|s| s.id).collect();
        assert_eq!(found, ["U1", "U2", "NL-DOUANE/LRN1", "CSQU3054383"]);
    }

    #[test]
    fn a_reference_is_another_subject_at_another_agency() {
        let mut other = declaration();
        other.agency = "KR-KCS".into();
        let common: Vec<_> = {
            let theirs = subject_keys(&other);
            subject_keys(&declaration()).into_iter().filter(|k| theirs.contains(k)).collect()
        };
        assert_eq!(common.len(), 3, "two UCRs and a container, not the reference");
    }

    #[test]
    fn keys_are_strictly_ascending() {
        let keys = subject_keys(&declaration());
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
