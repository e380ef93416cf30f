//! How what was submitted has ended, by the ledger and the outbox.

use customhouse_ledger::{authority::SlotRefused, chain::SlotOutcome, hash::Hash};

use super::{
    End,
    no_ops::NoOp,
    outcome::NotCounted,
    worker::{Worker, WorkerError},
};

/// What the worker tells whoever waits.
#[derive(Debug)]
pub(super) enum Told {
    Ended(End),
    /// Its slot became a no-op. What that is for the record takes more reading than others should wait for.
    NoOp(NoOp),
}

impl Worker {
    /// How a record of a committed transaction ended.
    pub(super) fn told_of(&self, record_id: &Hash) -> Result<Told, WorkerError> {
        if let Some(end) = self.end_of_record(record_id)? {
            return Ok(Told::Ended(end));
        }
        let accepted = self.outbox.record(record_id)?;
        Ok(accepted.map_or(Told::Ended(duplicate()), |accepted| Told::NoOp(accepted.into())))
    }

    /// How a transaction ended as a whole: rejected where each of its slots was refused.
    pub(super) fn end_of_transaction(&mut self, id: &Hash) -> Result<Option<End>, WorkerError> {
        let Some(log_index) = self.reader.log_index(id)? else { return Ok(None) };
        let height = self.looked_up.height_of(log_index)?;
        let outcomes = self.looked_up.outcomes(log_index)?;
        let not_counted: Vec<_> = (0..)
            .zip(outcomes)
            .filter_map(|(place, outcome)| not_counted(place, outcome))
            .collect();
        let all_refused = !outcomes.is_empty()
            && outcomes.iter().all(|outcome| matches!(outcome, SlotOutcome::Refused(_)));
        Ok(Some(match not_counted.first() {
            None => End::Final { height, log_index, slot_index: 0 },
            Some(first) if all_refused => End::Rejected {
                code: first.code.to_owned(),
                reason: format!("slot {}: {}", first.slot_index, first.reason),
            },
            Some(_) => End::Partly { height, log_index, not_counted },
        }))
    }

    pub(super) fn end_of_record(&self, record_id: &Hash) -> Result<Option<End>, WorkerError> {
        // Another agency may have lodged a sealed slot of this id, which says nothing about this one's.
        let place = self.reader.place_of(record_id, &self.agency)?;
        place.map(|place| self.end_at(place.log_index, place.position)).transpose()
    }

    fn end_at(&self, log_index: u64, slot_index: u32) -> Result<End, WorkerError> {
        Ok(End::Final { height: self.looked_up.height_of(log_index)?, log_index, slot_index })
    }
}

fn not_counted(slot_index: u32, outcome: &SlotOutcome) -> Option<NotCounted> {
    let (code, reason) = match outcome {
        SlotOutcome::Applied => return None,
        SlotOutcome::Duplicate { log_index, position } => {
            let first = format!("log index {log_index}, slot {position}");
            (DUPLICATE_KEY, format!("its key, or the record itself, was committed before: {first}"))
        }
        SlotOutcome::Refused(reason) => (reason.code(), reason.sentence().to_owned()),
    };
    Some(NotCounted { slot_index, code, reason })
}

pub(super) fn refused(reason: SlotRefused) -> End {
    End::Rejected { code: reason.code().to_owned(), reason: reason.sentence().to_owned() }
}

const DUPLICATE_KEY: &str = "DUPLICATE_KEY";

pub(super) fn duplicate() -> End {
    End::Rejected {
        code: DUPLICATE_KEY.to_owned(),
        reason: "another record with the same idempotency key was committed first".to_owned(),
    }
}
