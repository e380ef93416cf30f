//! How what was submitted has ended, by the ledger and the outbox.

use customhouse_ledger::hash::Hash;
use customhouse_proto::v1;
use prost::Message as _;

use super::{
    End,
    outbox::AcceptedRecord,
    outcome::First,
    prepare::same_but_for_salt,
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

    /// How a record ended whose slot became a no-op: as the first with its dedupe key, where that is
    /// the same submission.
    pub(super) fn end_of_no_op(&self, accepted: &AcceptedRecord) -> Result<End, WorkerError> {
        let Some(place) = self.reader.dedupe(&self.agency, &accepted.dedupe_key)? else {
            return Ok(duplicate());
        };
        let Some(log_index) = self.reader.log_index(&accepted.transaction_id)? else {
            return Ok(duplicate());
        };
        let own = self.reader.record_at(log_index, accepted.slot_index)?;
        let first = self.reader.record_at(place.log_index, place.position)?;
        let (Some(own), Some(first)) = (own, first) else { return Ok(duplicate()) };
        let same =
            v1::Record::decode(own.bytes).is_ok_and(|own| same_but_for_salt(&own, &first.bytes));
        if !same {
            return Ok(duplicate());
        }
        Ok(End::Repeat(First {
            record_id: first.id,
            transaction_id: first.transaction_id,
            height: first.header.height,
            log_index: place.log_index,
            slot_index: place.position,
        }))
    }

    pub(super) fn end_of_transaction(&self, id: &Hash) -> Result<Option<End>, WorkerError> {
        let log_index = self.reader.log_index(id)?;
        log_index.map(|log_index| self.end_at(log_index, 0)).transpose()
    }

    pub(super) fn end_of_record(&self, record_id: &Hash) -> Result<Option<End>, WorkerError> {
        let place = self.reader.place(record_id)?;
        place.map(|place| self.end_at(place.log_index, place.position)).transpose()
    }

    pub(super) fn end_at(&self, log_index: u64, slot_index: u32) -> Result<End, WorkerError> {
        Ok(End::Final { height: self.reader.height_of(log_index)?, log_index, slot_index })
    }
}

fn duplicate() -> End {
    End::Rejected {
        code: "DUPLICATE_KEY".to_owned(),
        reason: "another record with the same idempotency key was committed first".to_owned(),
    }
}
