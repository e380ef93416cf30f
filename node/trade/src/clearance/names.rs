//! Which declaration a record is about.
//!
//! A record names a declaration in three ways: by the declarant's own reference, which is unique within an
//! agency only; by the MRN that customs gave; and by the id of an earlier record. What contradicts a
//! name that is known is about another declaration, whatever else it names.

use customhouse_ledger::hash::Hash;
use customhouse_proto::v1;

use super::anomaly::ClearanceAnomaly;

/// How the declaration is named. Empty where it is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// Whose reference it is.
    pub(super) agency: String,
    pub(super) reference: String,
    pub(super) mrn: String,
}

/// How a record names the declaration, or itself.
pub(super) struct Named<'r> {
    agency: &'r str,
    pub(super) reference: &'r str,
    mrn: &'r str,
}

/// What the declarant asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) id: Hash,
    /// Its own reference, which may be the declaration's.
    pub(super) reference: String,
    /// Whether customs has yet to decide it.
    pub(super) is_open: bool,
}

/// What a status is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Declaration,
    /// Index of the request.
    Request(usize),
    /// A message about this declaration, by its MRN, with a reference that no record has.
    Unseen,
}

impl<'r> Named<'r> {
    pub(super) fn new(record: &'r v1::Record, reference: &'r str, mrn: &'r str) -> Self {
        Self { agency: &record.agency, reference, mrn }
    }
}

impl Names {
    /// Whether nothing is known.
    pub(super) fn is_empty(&self) -> bool {
        self.reference.is_empty() && self.mrn.is_empty()
    }

    /// Takes the names of the declaration itself.
    pub(super) fn own(&mut self, named: &Named<'_>) {
        named.agency.clone_into(&mut self.agency);
        named.reference.clone_into(&mut self.reference);
        if self.mrn.is_empty() {
            named.mrn.clone_into(&mut self.mrn);
        }
    }

    /// Takes what a status of customs adds.
    pub(super) fn learn(&mut self, named: &Named<'_>, whose: Whose) {
        if self.mrn.is_empty() {
            named.mrn.clone_into(&mut self.mrn);
        }
        if self.reference.is_empty() && whose == Whose::Declaration {
            named.agency.clone_into(&mut self.agency);
            named.reference.clone_into(&mut self.reference);
        }
    }

    /// Takes what a request says of a declaration that is not on record: its MRN, because the reference may
    /// be the request's own, or else the reference.
    pub(super) fn guess(&mut self, named: &Named<'_>) {
        let whose = if named.mrn.is_empty() { Whose::Declaration } else { Whose::Unseen };
        self.learn(named, whose);
    }

    /// Whether a declaration is the one that is known so far. If only what others say of that is known, it
    /// is enough that nothing speaks against it.
    pub(super) fn lodgement(
        &self,
        named: &Named<'_>,
        is_on_record: bool,
        is_again: bool,
    ) -> Result<(), ClearanceAnomaly> {
        if !is_again && self.has_other_mrn(named) {
            return Err(ClearanceAnomaly::OtherMrn);
        }
        let may_be = !is_on_record && self.reference.is_empty();
        let is_tied = may_be || self.has_mrn(named) || self.has_reference(named);
        if is_tied { Ok(()) } else { Err(ClearanceAnomaly::OtherReference) }
    }

    /// Whether a request is about this declaration. Its reference may be one of its own.
    pub(super) fn request(
        &self,
        named: &Named<'_>,
        is_linked: bool,
    ) -> Result<(), ClearanceAnomaly> {
        if self.has_other_mrn(named) {
            return Err(ClearanceAnomaly::OtherMrn);
        }
        let is_tied = is_linked || self.has_mrn(named) || self.has_reference(named);
        if is_tied || self.is_empty() { Ok(()) } else { Err(ClearanceAnomaly::OtherReference) }
    }

    /// What a status is about.
    pub(super) fn status(
        &self,
        named: &Named<'_>,
        is_linked: bool,
        requests: &[Request],
    ) -> Result<Whose, ClearanceAnomaly> {
        if self.has_other_mrn(named) {
            return Err(ClearanceAnomaly::OtherMrn);
        }
        if self.has_reference(named) {
            return Ok(Whose::Declaration);
        }
        let is_comparable = named.agency == self.agency && !named.reference.is_empty();
        if is_comparable && !self.reference.is_empty() {
            let request = requests.iter().position(|r| r.reference == named.reference);
            return match request {
                Some(at) => Ok(Whose::Request(at)),
                None if self.has_mrn(named) => Ok(Whose::Unseen),
                None => Err(ClearanceAnomaly::OtherReference),
            };
        }
        let names_one = !named.reference.is_empty() || !named.mrn.is_empty();
        // Another agency's references are its own: what ties its status to this declaration is something else.
        let is_tied = is_linked || self.has_mrn(named) || (self.is_empty() && names_one);
        if is_tied { Ok(Whose::Declaration) } else { Err(ClearanceAnomaly::DeclarationUnnamed) }
    }

    fn has_mrn(&self, named: &Named<'_>) -> bool {
        !self.mrn.is_empty() && self.mrn == named.mrn
    }

    fn has_other_mrn(&self, named: &Named<'_>) -> bool {
        !self.mrn.is_empty() && !named.mrn.is_empty() && self.mrn != named.mrn
    }

    fn has_reference(&self, named: &Named<'_>) -> bool {
        !self.reference.is_empty()
            && self.reference == named.reference
            && self.agency == named.agency
    }
}
