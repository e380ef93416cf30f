//! Subjects: what a record is about, and the keys they are indexed under.

use std::collections::BTreeSet;

use customhouse_proto::v1::{self, subject::Scheme};

use crate::{
    hash::{Hash, Tag},
    limits::SUBJECTS_MAX,
};

pub mod form;

/// The key of a subject: tagged hash of the scheme (u32) and the id's bytes.
pub fn subject_key(subject: &v1::Subject) -> Hash {
    Tag::SUBJECT.hash(&[&subject.scheme.to_be_bytes(), subject.id.as_bytes()])
}

/// The keys of subjects, strictly ascending.
pub fn keys_of(subjects: &[v1::Subject]) -> Vec<Hash> {
    let keys: BTreeSet<Hash> = subjects.iter().map(subject_key).collect();
    keys.into_iter().collect()
}

/// What a record is about, as it is put together.
#[derive(Debug)]
pub struct Subjects<'a> {
    agency: &'a str,
    set: BTreeSet<(i32, String)>,
}

impl<'a> Subjects<'a> {
    /// No subjects yet, for a record of this agency.
    pub fn of(agency: &'a str) -> Self {
        Self { agency, set: BTreeSet::new() }
    }

    /// All, sorted by scheme and id.
    pub fn into_sorted(self) -> Vec<v1::Subject> {
        self.set.into_iter().map(|(scheme, id)| v1::Subject { scheme, id }).collect()
    }

    /// One, with its scheme as a record states it. Of more than a record may have, one is kept: enough to refuse
    /// it, in a record that may have hundreds of thousands.
    pub fn add_raw(&mut self, scheme: i32, id: &str) {
        if !id.is_empty() && self.set.len() <= SUBJECTS_MAX {
            self.set.insert((scheme, id.to_owned()));
        }
    }

    /// One.
    pub fn add(&mut self, scheme: Scheme, id: &str) {
        self.add_raw(scheme as i32, id);
    }

    /// A declaration's own reference is unique within its agency only.
    pub fn add_reference(&mut self, reference: &str) {
        if !reference.is_empty() {
            let id = format!("{}/{reference}", self.agency);
            self.add(Scheme::DeclarationReference, &id);
        }
    }

    /// Several of one scheme.
    pub fn add_each(&mut self, scheme: Scheme, ids: &[String]) {
        for id in ids {
            self.add(scheme, id);
        }
    }

    /// Traders.
    pub fn add_parties<'p>(&mut self, parties: impl IntoIterator<Item = &'p v1::Party>) {
        for party in parties {
            self.add(Scheme::Trader, &party.id);
        }
    }
}
