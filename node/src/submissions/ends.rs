//! How what was submitted has ended, by the ledger and the outbox.

use bytes::Bytes;
use customhouse_ledger::{authority::ReferenceRefused, chain::SlotOutcome, hash::Hash};
use customhouse_proto::v1;
use prost::Message as _;

use super::{
    End,
    outbox::AcceptedRecord,
    outcome::{First, NotCounted},
    prepare::says_the_same,
    worker::{Worker, WorkerError},
};

impl Worker {
    /// How a record of a committed transaction ended.
    pub(super) fn end_within(&self, whole: &End, record_id: &Hash) -> Result<End, WorkerError> {
        let Some(place) = self.reader.place(record_id)? else {
            let accepted = self.outbox.record(record_id)?;
            return accepted.map_or(Ok(duplicate()), |accepted| self.end_of_no_op(&accepted));
        };
        match whole {
            End::Final { height, log_index, .. } if *log_index == place.log_index => {
                let (height, log_index) = (*height, *log_index);
                Ok(End::Final { height, log_index, slot_index: place.position })
            }
            _ => self.end_at(place.log_index, place.position),
        }
    }

    /// How a record ended whose slot became a no-op: refused, or as the first with its dedupe key, where that
    /// is the same submission.
    pub(super) fn end_of_no_op(&self, accepted: &AcceptedRecord) -> Result<End, WorkerError> {
        let slot_index = accepted.slot_index;
        let Some(log_index) = self.reader.log_index(&accepted.transaction_id)? else {
            return Ok(duplicate());
        };
        let (log_index, slot_index, first) = match self.reader.outcome_at(log_index, slot_index)? {
            Some(SlotOutcome::Refused(reason)) => return Ok(refused(reason)),
            Some(SlotOutcome::Duplicate { log_index: first, position }) => {
                (log_index, slot_index, (first, position))
            }
            Some(SlotOutcome::Applied) => return self.end_at(log_index, slot_index),
            None => return Ok(duplicate()),
        };
        let own = self.reader.record_at(log_index, slot_index)?;
        let first_record = self.reader.record_at(first.0, first.1)?;
        let (Some(own), Some(first_record)) = (own, first_record) else { return Ok(duplicate()) };
        let read = |bytes: Bytes| v1::Record::decode(bytes).ok();
        let same = match (read(own.bytes), read(first_record.bytes)) {
            (Some(own), Some(first)) => says_the_same(&own, &first),
            _ => false,
        };
        if !same {
            return Ok(duplicate());
        }
        Ok(End::Repeat(First {
            record_id: first_record.id,
            transaction_id: first_record.transaction_id,
            height: first_record.header.height,
            log_index: first.0,
            slot_index: first.1,
        }))
    }

    /// How a transaction ended as a whole: rejected where each of its slots was refused.
    pub(super) fn end_of_transaction(&self, id: &Hash) -> Result<Option<End>, WorkerError> {
        let Some(log_index) = self.reader.log_index(id)? else { return Ok(None) };
        let height = self.reader.height_of(log_index)?;
        let outcomes = self.reader.outcomes_at(log_index)?;
        let not_counted: Vec<_> = (0..)
            .zip(&outcomes)
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
        let place = self.reader.place(record_id)?;
        place.map(|place| self.end_at(place.log_index, place.position)).transpose()
    }

    pub(super) fn end_at(&self, log_index: u64, slot_index: u32) -> Result<End, WorkerError> {
        Ok(End::Final { height: self.reader.height_of(log_index)?, log_index, slot_index })
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

fn refused(reason: ReferenceRefused) -> End {
    End::Rejected { code: reason.code().to_owned(), reason: reason.sentence().to_owned() }
}

const DUPLICATE_KEY: &str = "DUPLICATE_KEY";

fn duplicate() -> End {
    End::Rejected {
        code: DUPLICATE_KEY.to_owned(),
        reason: "another record with the same idempotency key was committed first".to_owned(),
    }
}
