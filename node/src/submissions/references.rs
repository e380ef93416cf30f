//! Whether what is submitted may refer to what it refers to.

use std::collections::HashMap;

use customhouse_ledger::{
    agency::AgencyCode,
    authority::{Stated, StatedReference, Target, check_target},
    hash::Hash,
    transaction::Slot,
};

use customhouse_proto::v1;
use prost::Message as _;

use super::{
    SubmissionRefusal,
    outbox::RecordState,
    worker::{Worker, WorkerError},
};

use crate::sealed::{SealedId, error::SealedError};

/// Where the records are that others may refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Targets {
    /// On the ledger, or with those that refer to them.
    There,
    /// One at least is accepted and not on the ledger yet.
    Pending,
}

impl Worker {
    /// Whether records may refer to what they refer to: what is on the ledger, what was accepted here before,
    /// and what is in an earlier slot of the same transaction. A block may still refuse what another agency's
    /// node has not committed in time.
    pub(super) fn check_references(
        &self,
        agency: AgencyCode,
        stated: &[Option<Stated>],
        slots: &[Slot],
    ) -> Result<Result<Targets, SubmissionRefusal>, WorkerError> {
        let mut earlier_of: HashMap<Hash, usize> = HashMap::new();
        for (place, slot) in slots.iter().enumerate() {
            // A second slot of a record is a repeat of the first.
            earlier_of.entry(slot.record_id).or_insert(place);
        }
        let (mut failed, mut targets) = (None, Targets::There);
        for (place, own) in stated.iter().enumerate() {
            // What a sealed record refers to is for those to check who have its bytes.
            let Some(own) = own else { continue };
            let pending = |reference: &StatedReference| {
                if reference.agency != agency {
                    return None;
                }
                if let Some(earlier) = earlier_of.get(&reference.record_id) {
                    let target = Target::of(stated.get(*earlier)?.as_ref());
                    return (*earlier < place).then_some(target);
                }
                match self.outbox.record(&reference.record_id) {
                    Ok(record) => {
                        let record = record.filter(|r| r.state == RecordState::Pending)?;
                        targets = Targets::Pending;
                        Some(record.target)
                    }
                    Err(error) => {
                        failed = Some(error);
                        None
                    }
                }
            };
            let checked = self.reader.check_references(&agency, own, pending)?;
            if let Err(reason) = checked {
                return match failed {
                    Some(error) => Err(error.into()),
                    None => Ok(Err(SubmissionRefusal::Reference { place, reason })),
                };
            }
        }
        Ok(Ok(targets))
    }

    /// The same of a record that is sealed: it may refer to what this node holds sealed, too. No block asks, so that who
    /// gets it does.
    pub(super) fn check_sealed_references(
        &self,
        mut stated: Stated,
    ) -> Result<Result<Targets, SubmissionRefusal>, WorkerError> {
        let mut rest = Vec::new();
        for reference in std::mem::take(&mut stated.references) {
            let Some(target) = self.sealed_target(&reference)? else {
                rest.push(reference);
                continue;
            };
            let checked = check_target(&self.agency, &stated, &reference, Some(&target));
            if let Err(reason) = checked {
                return Ok(Err(SubmissionRefusal::Reference { place: 0, reason }));
            }
        }
        stated.references = rest;
        self.check_references(self.agency, &[Some(stated)], &[])
    }

    /// What is asked of a sealed record that another refers to, where it is here.
    fn sealed_target(&self, reference: &StatedReference) -> Result<Option<Target>, WorkerError> {
        let Some(holdings) = &self.holdings else { return Ok(None) };
        let (agency, record_id) = (reference.agency, reference.record_id);
        match holdings.record(&SealedId { agency, record_id }) {
            Ok(bytes) => {
                let record = bytes.and_then(|bytes| v1::Record::decode(bytes).ok());
                Ok(record.map(|record| Target::of(Stated::of(&record).as_ref())))
            }
            Err(SealedError::Store(error)) => Err(error.into()),
            // What does not open is not known.
            Err(_) => Ok(None),
        }
    }
}
