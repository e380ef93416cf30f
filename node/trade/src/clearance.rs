//! Where one declaration stands with customs.
//!
//! What is fed are the records of one declaration in the order of the ledger: the declaration, what the
//! declarant asks for later (amendments, cancellations, presentations of goods), and what customs says of
//! it ([`DeclarationStatus`](v1::DeclarationStatus)). The records of a subject's history will do: other
//! kinds are passed over, and what is about another declaration is shown and changes nothing.
//!
//! ```text
//! LODGED ─► RECEIVED ─► ACCEPTED ─► UNDER_CONTROL, DOCUMENTS_REQUIRED, TAX_ASSESSED ─► RELEASED ─► CLEARED ─► EXITED
//!    └──────────┴─► REJECTED             (from any but REJECTED) ─► INVALIDATED
//! ```
//!
//! | module | subject |
//! |---|---|
//! | `table` | the life cycle: what each record does in each state |
//! | `names` | which declaration a record is about |
//! | `state`, `anomaly` | where it can stand; what is shown |

mod anomaly;
mod names;
mod state;
mod table;

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod real_tests;
#[cfg(test)]
mod sequence_tests;

use customhouse_ledger::hash::Hash;
use customhouse_proto::v1::{
    self, declaration::Regime, record::Body, reference::Relation, reference::Relation::*,
};

pub use self::{anomaly::ClearanceAnomaly, state::ClearanceState};
use self::{
    names::{Named, Names, Request, Whose},
    table::{On, To},
};
use crate::recorded::Recorded;

/// Where a declaration stands, and since which record. It begins as [`Clearance::default`]: nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clearance {
    stands: Option<(ClearanceState, Hash)>,
    declaration: Option<Hash>,
    /// The agency whose word counts: that of the declaration, or before that is there, of the first answer.
    agency: String,
    names: Names,
    /// 0 where nobody has said it.
    version: u32,
    accepted: Option<Hash>,
    taxed: Option<Hash>,
    requests: Vec<Request>,
}

/// An anomaly, and the record that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnomalousRecord {
    /// The record's id.
    pub record: Hash,
    /// What does not fit.
    pub anomaly: ClearanceAnomaly,
}

/// Folds a whole sequence: what it comes to, and all that did not fit, in its order.
pub fn fold<'r>(
    records: impl IntoIterator<Item = Recorded<'r>>,
) -> (Clearance, Vec<AnomalousRecord>) {
    let (mut clearance, mut shown) = (Clearance::default(), Vec::new());
    for next in records {
        let anomalies;
        (clearance, anomalies) = clearance.then(next);
        let record = next.id;
        shown.extend(anomalies.into_iter().map(|anomaly| AnomalousRecord { record, anomaly }));
    }
    (clearance, shown)
}

impl Clearance {
    /// Takes the next record.
    pub fn then(mut self, next: Recorded<'_>) -> (Self, Vec<ClearanceAnomaly>) {
        let taken = match &next.record.body {
            Some(Body::Declaration(declaration)) => self.declared(next, declaration),
            Some(Body::DeclarationStatus(status)) => self.answered(next, status),
            _ => Ok(Vec::new()),
        };
        let anomalies = taken.unwrap_or_else(|anomaly| vec![anomaly]);
        (self, anomalies)
    }

    /// Where it stands; nothing before there is anything about it.
    pub fn state(&self) -> Option<ClearanceState> {
        self.stands.map(|(state, _)| state)
    }

    /// The record since which it stands there.
    pub fn since(&self) -> Option<Hash> {
        self.stands.map(|(_, since)| since)
    }

    /// The declaration's record, where it is among those seen.
    pub fn declaration(&self) -> Option<Hash> {
        self.declaration
    }

    /// The declarant's own reference; empty where it is not known.
    pub fn reference(&self) -> &str {
        &self.names.reference
    }

    /// The movement reference number; empty where none was given yet.
    pub fn mrn(&self) -> &str {
        &self.names.mrn
    }

    /// The version in force: 1 as lodged, and one more with each change that customs made or allowed.
    pub fn version(&self) -> Option<u32> {
        (self.version > 0).then_some(self.version)
    }

    /// The record that first accepted it.
    pub fn accepted(&self) -> Option<Hash> {
        self.accepted
    }

    /// The record that last said what is due.
    pub fn taxed(&self) -> Option<Hash> {
        self.taxed
    }

    /// Amendments and cancellations that customs has not decided, oldest first.
    pub fn open_requests(&self) -> impl Iterator<Item = Hash> {
        self.requests.iter().filter(|request| request.is_open).map(|request| request.id)
    }

    /// The declarant says something. An error changes nothing.
    fn declared(
        &mut self,
        next: Recorded<'_>,
        declaration: &v1::Declaration,
    ) -> Result<Vec<ClearanceAnomaly>, ClearanceAnomaly> {
        let named = Named::new(next.record, &declaration.reference, &declaration.mrn);
        let on = self.role(next, declaration);
        if on != On::Lodgement {
            self.is_its_own(next)?;
            return self.requested(next, on, &named);
        }
        if self.declaration.is_none() && self.is_its_own(next).is_err() {
            // What came before the declaration was another agency's view of it, and does not count.
            *self = Self::default();
        }
        let state = self.stands.map_or(ClearanceState::Lodged, |(state, _)| state);
        // What was rejected is lodged again under another MRN.
        let is_again = state == ClearanceState::Rejected;
        self.names.lodgement(&named, self.declaration.is_some(), is_again)?;
        if self.declaration.is_some() {
            let row = expected(on, state)?;
            self.go(row.to, state, next.id);
            self.names.mrn.clear();
            (self.version, self.accepted, self.taxed) = (0, None, None);
            self.requests.clear();
        }
        self.declaration = Some(next.id);
        next.record.agency.clone_into(&mut self.agency);
        self.stands = self.stands.or(Some((ClearanceState::Lodged, next.id)));
        self.names.own(&named);
        // As lodged it is the first; a status that came before it may have told of a later one.
        self.version = self.version.max(1);
        Ok(Vec::new())
    }

    /// The declarant asks for something.
    fn requested(
        &mut self,
        next: Recorded<'_>,
        on: On,
        named: &Named<'_>,
    ) -> Result<Vec<ClearanceAnomaly>, ClearanceAnomaly> {
        let relations = [Amends, Cancels, Evidences];
        let is_linked = relations.into_iter().any(|relation| self.is_known(next, relation));
        self.names.request(named, is_linked)?;
        let state = self.stands.map_or(ClearanceState::Lodged, |(state, _)| state);
        let row = expected(on, state)?;
        let anomalies = self.missing().into_iter().chain(row.anomaly).collect();
        self.go(row.to, state, next.id);
        if self.names.is_empty() {
            self.names.guess(named);
        }
        // Customs answers a presentation by what it does next, and decides nothing about it.
        let is_open = on != On::Presentation;
        self.requests.push(Request { id: next.id, reference: named.reference.to_owned(), is_open });
        Ok(anomalies)
    }

    /// Customs says something.
    fn answered(
        &mut self,
        next: Recorded<'_>,
        status: &v1::DeclarationStatus,
    ) -> Result<Vec<ClearanceAnomaly>, ClearanceAnomaly> {
        let named = Named::new(next.record, &status.declaration_reference, &status.mrn);
        let is_linked = self.is_known(next, RespondsTo);
        let whose = self.names.status(&named, is_linked, &self.requests)?;
        self.is_its_own(next)?;
        let on = On::function(&status.function_code).ok_or(ClearanceAnomaly::CodeUnknown)?;
        let state = self.stands.map_or(ClearanceState::Lodged, |(state, _)| state);
        if let Some(on) = self.about_request(on, whose, state) {
            return self.request_answered(next, on, whose, &named);
        }
        if whose == Whose::Unseen {
            return Err(ClearanceAnomaly::OtherReference);
        }
        let version = self.version_said(on, &status.version)?;
        let row = expected(on, state)?;
        let anomalies = self.missing().into_iter().chain(row.anomaly).collect();
        self.names.learn(&named, whose);
        self.version = version;
        match on {
            On::Acceptance => self.accepted = self.accepted.or(Some(next.id)),
            On::Tax => self.taxed = Some(next.id),
            _ => {}
        }
        self.go(row.to, state, next.id);
        if self.agency.is_empty() {
            next.record.agency.clone_into(&mut self.agency);
        }
        Ok(anomalies)
    }

    /// Whether a record is of the declaring agency. What another says of the declaration is that agency's
    /// view: it is shown, and never the status of the declaration.
    fn is_its_own(&self, next: Recorded<'_>) -> Result<(), ClearanceAnomaly> {
        match self.agency.is_empty() || self.agency == next.record.agency {
            true => Ok(()),
            false => Err(ClearanceAnomaly::OtherAgency),
        }
    }

    /// What a status says of a request, if it is about one. Receipts and rejections of a request may carry
    /// the declaration's own reference: after acceptance, and while a request is open, they mean that.
    fn about_request(&self, on: On, whose: Whose, state: ClearanceState) -> Option<On> {
        let of_request = on.of_request()?;
        let is_accepted = !matches!(state, ClearanceState::Lodged | ClearanceState::Received);
        let is_open = self.requests.iter().any(|request| request.is_open);
        let is_meant = whose != Whose::Declaration || of_request == on || (is_accepted && is_open);
        is_meant.then_some(of_request)
    }

    fn request_answered(
        &mut self,
        next: Recorded<'_>,
        on: On,
        whose: Whose,
        named: &Named<'_>,
    ) -> Result<Vec<ClearanceAnomaly>, ClearanceAnomaly> {
        let linked = self.requests.iter().position(|request| next.refers(RespondsTo, request.id));
        let oldest = || self.requests.iter().position(|request| request.is_open);
        let meant = match whose {
            Whose::Request(at) => Some(at),
            Whose::Declaration => linked.or_else(oldest),
            Whose::Unseen => None,
        };
        let request = meant.and_then(|at| self.requests.get_mut(at));
        let request = request.ok_or(ClearanceAnomaly::RequestMissing)?;
        request.is_open &= on == On::RequestReceived;
        self.names.learn(named, whose);
        Ok(Vec::new())
    }

    /// What the version of a status makes of that in force.
    fn version_said(&self, on: On, said: &str) -> Result<u32, ClearanceAnomaly> {
        if said.is_empty() {
            return Ok(self.version);
        }
        let said = said.parse::<u32>().ok().filter(|version| *version > 0);
        let said = said.ok_or(ClearanceAnomaly::VersionUnknown)?;
        let is_next = said.checked_sub(1) == Some(self.version) && on.opens_version();
        if self.version == 0 || said == self.version || is_next {
            Ok(said)
        } else if said < self.version {
            Err(ClearanceAnomaly::VersionPassed)
        } else {
            Err(ClearanceAnomaly::VersionUnknown)
        }
    }

    /// What a declaration's record is. The codes of the message decide; where they say nothing, how it
    /// refers to an earlier record.
    fn role(&self, next: Recorded<'_>, declaration: &v1::Declaration) -> On {
        let function = declaration.function_code.trim_start_matches('0');
        match (function, &*declaration.type_code) {
            ("1", _) | ("13", "INV") => On::Cancellation,
            ("13", "GPR") => On::Presentation,
            ("4" | "5" | "13", _) => On::Amendment,
            _ if self.is_known(next, Cancels) => On::Cancellation,
            _ if self.is_known(next, Evidences) => On::Presentation,
            _ if self.is_known(next, Amends) => On::Amendment,
            _ if declaration.regime == Regime::AsReferenced as i32 => On::Amendment,
            _ => On::Lodgement,
        }
    }

    /// Whether a record refers to the declaration or to a request.
    fn is_known(&self, next: Recorded<'_>, relation: Relation) -> bool {
        let requests = self.requests.iter().map(|request| request.id);
        self.declaration.into_iter().chain(requests).any(|id| next.refers(relation, id))
    }

    /// Shown with the first record that counts, if that is not the declaration.
    fn missing(&self) -> Option<ClearanceAnomaly> {
        self.stands.is_none().then_some(ClearanceAnomaly::DeclarationMissing)
    }

    fn go(&mut self, to: To, from: ClearanceState, id: Hash) {
        let to = match to {
            To::Stay => from,
            To::Be(state) => state,
            To::Resume if self.accepted.is_none() => ClearanceState::Received,
            To::Resume if self.taxed.is_some() => ClearanceState::TaxAssessed,
            To::Resume => ClearanceState::Accepted,
        };
        // Nothing was known, or it stood elsewhere.
        if self.state() != Some(to) {
            self.stands = Some((to, id));
        }
    }
}

/// The row of the table, unless that says that the record changes nothing.
fn expected(on: On, state: ClearanceState) -> Result<table::Row, ClearanceAnomaly> {
    let stay = table::Row { on, from: &[], to: To::Stay, anomaly: None };
    let row = table::row(on, state).copied().unwrap_or(stay);
    match (row.to, row.anomaly) {
        (To::Stay, Some(anomaly)) => Err(anomaly),
        _ => Ok(row),
    }
}
