//! What terms come to in plain words, for whoever is to approve them.

use customhouse_proto::v1::subject::Scheme;

use super::AgreementTerms;
use crate::{
    agency::AgencyCode,
    authority::{ALWAYS_OPEN, RecordKind},
};

impl AgreementTerms {
    /// What they let whom read, a sentence each: first who reads what of whom, then on which conditions. The period
    /// is given as it is to be shown.
    pub fn sentences(&self, parties: &[AgencyCode], from: &str, until: &str) -> Vec<String> {
        let terms = &self.proto;
        let whole = match &*terms.field_set {
            "" => "whole".to_owned(),
            name => format!("no more of it than the fields of the set `{name}`"),
        };
        let (what, where_) = (self.kinds(), self.filters());
        let mut said = Vec::new();
        for reader in parties {
            let others: Vec<_> = parties.iter().filter(|party| *party != reader).collect();
            said.push(match others.is_empty() {
                true => format!(
                    "Nobody but {reader} will be able to read what {reader} lodges under it from {from} until \
                     {until}."
                ),
                false => format!(
                    "{reader} will be able to read every {what} that {} lodges under it from {from} until \
                     {until}{where_}, {whole}.",
                    listed(&others, "or")
                ),
            });
        }
        if parties.len() > 1 {
            said.push(self.passing_on().to_owned());
        }
        said.push(format!("It is for: {}. What allows it: {}.", terms.purpose, terms.legal_basis));
        said.push(format!(
            "What is shared may be kept for {}, and is erased within {} where one is told to erase it.",
            count(u64::from(terms.retention_months), "month"),
            count(u64::from(terms.erase_days), "day"),
        ));
        said.extend(self.waiting());
        said.push(self.indexing());
        said
    }

    fn kinds(&self) -> String {
        let sealed = RecordKind::ALL.into_iter().filter(|kind| !ALWAYS_OPEN.contains(kind));
        let covered: Vec<_> = sealed.filter(|kind| self.covers(*kind)).map(words).collect();
        match self.proto.kinds {
            0 => "record, of whatever kind,".to_owned(),
            _ => listed(&covered, "and"),
        }
    }

    fn filters(&self) -> String {
        let terms = &self.proto;
        let mut said = Vec::new();
        if !terms.chapters.is_empty() {
            let chapters: Vec<_> =
                terms.chapters.iter().map(|number| format!("{number:02}")).collect();
            said.push(format!("of goods of the HS chapters {}", listed(&chapters, "or")));
        }
        if !terms.routes.is_empty() {
            let route = |route: &super::Route| format!("from {} to {}", route.from, route.to);
            let routes: Vec<_> = terms.routes.iter().map(route).collect();
            said.push(format!("of goods that go {}", listed(&routes, "or")));
        }
        if !terms.offices.is_empty() {
            said.push(format!("at the customs offices {}", listed(&terms.offices, "or")));
        }
        match said.is_empty() {
            true => String::new(),
            false => format!(", where it is {}", said.join(", and ")),
        }
    }

    fn passing_on(&self) -> &'static str {
        match self.proto.onward_sharing {
            true => "Each may pass on to others what it is given.",
            false => "Nobody may pass on to others what it is given.",
        }
    }

    fn waiting(&self) -> Option<String> {
        let (holders, patience_ms) = (self.holders(), self.patience_ms());
        (holders > 0).then(|| {
            let others = match holders {
                1 => "1 other agency has".to_owned(),
                more => format!("{more} other agencies have"),
            };
            format!(
                "A record is told to the chain when {others} its bytes, or {patience_ms} ms after it was lodged."
            )
        })
    }

    fn indexing(&self) -> String {
        let named = |number: &i32| {
            Scheme::try_from(*number).unwrap_or_default().as_str_name().to_lowercase()
        };
        let schemes: Vec<_> = self.proto.schemes.iter().map(named).collect();
        match schemes.is_empty() {
            true => "A record is found by everything that it is about.".to_owned(),
            false => {
                format!("A record is found by {} alone.", listed(&schemes, "and")).replace('_', " ")
            }
        }
    }
}

fn words(kind: RecordKind) -> String {
    kind.as_str().replace('_', " ")
}

fn count(number: u64, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// `a`, `a and b`, `a, b and c`.
fn listed<T: ToString>(items: &[T], last: &str) -> String {
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    match items.split_last() {
        Some((end, before)) if !before.is_empty() => format!("{} {last} {end}", before.join(", ")),
        _ => items.concat(),
    }
}
