//! Whether what is submitted may refer to what it refers to.

use std::collections::HashMap;

use customhouse_ledger::{
    agency::AgencyCode,
    authority::{Stated, StatedReference, Target},
    hash::Hash,
    transaction::Slot,
};

use super::{
    SubmissionRefusal,
    outbox::RecordState,
    worker::{Worker, WorkerError},
};

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
}
