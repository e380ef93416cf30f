//! Ending what waits: what the ledger answers for is forgotten here, and what became of the rest is remembered.

use std::collections::BTreeMap;

use customhouse_ledger::{chain::SlotOutcome, hash::Hash, transaction::VerifiedTransaction};

use super::{
    outbox::{AcceptedRecord, Changes, RecordState},
    worker::{Pending, Worker, WorkerError},
};

/// Slots whose end becomes durable with one sync, where many expire at once; a transaction's more.
const EXPIRED_AT_ONCE: usize = 4096;

impl Worker {
    pub(super) fn look_again(&mut self) -> Result<(), WorkerError> {
        let pending: Vec<(u64, Hash)> = self.pending.keys().copied().collect();
        for key in pending {
            if let Some(committed) = self.reader.transaction(&key.1)? {
                let chain_id = self.reader.chain_id();
                let verified = VerifiedTransaction::from_bytes(committed.encoded, &chain_id);
                verified.iter().try_for_each(|transaction| self.found_committed(transaction))?;
            }
        }
        self.expire(self.reader.tip().header.time_ms)?;
        self.place_the_unplaced();
        Ok(())
    }

    /// Ends a pending transaction that was found on the ledger.
    pub(super) fn found_committed(
        &mut self,
        transaction: &VerifiedTransaction,
    ) -> Result<(), WorkerError> {
        self.remove_pending(&(transaction.header().not_after_ms, transaction.id()));
        self.end_committed(transaction)?;
        self.notify(&transaction.id())
    }

    /// As [`Worker::committed`], for a transaction found on the ledger.
    pub(super) fn end_committed(
        &mut self,
        transaction: &VerifiedTransaction,
    ) -> Result<(), WorkerError> {
        let log_index = self.reader.log_index(&transaction.id())?;
        let outcomes = log_index.map_or(Ok(Vec::new()), |at| self.reader.outcomes_at(at))?;
        let mut changes = Changes::default();
        self.forget(&mut changes, transaction, &outcomes)?;
        Ok(self.outbox.commit_unsynced(changes)?)
    }

    /// The ledger answers for applied records from now on; what became a no-op is remembered here.
    pub(super) fn forget(
        &self,
        changes: &mut Changes,
        transaction: &VerifiedTransaction,
        outcomes: &[SlotOutcome],
    ) -> Result<(), WorkerError> {
        let (id, agency) = (transaction.id(), transaction.header().agency);
        self.outbox.forget_transaction(changes, &id);
        for ((slot_index, slot), outcome) in (0..).zip(transaction.slots()).zip(outcomes) {
            let is_on_ledger =
                outcome.is_applied() || self.reader.place_of(&slot.record_id, &agency)?.is_some();
            if is_on_ledger {
                self.outbox.forget_record(changes, slot);
            } else if self.outbox.is_told_by(slot, &id)? {
                self.outbox.forget_record(changes, slot);
                // Why is on the ledger, and what it says is of no use any more: its key is free.
                let state = RecordState::NoOp;
                let record = AcceptedRecord::of(transaction, slot_index, state, Hash::ZERO);
                self.outbox.put_record(changes, &slot.record_id, &record);
            }
        }
        Ok(())
    }

    pub(super) fn expire(&mut self, time_ms: u64) -> Result<(), WorkerError> {
        let is_over = |pending: &BTreeMap<(u64, Hash), Pending>| {
            pending.first_key_value().map(|(key, _)| *key).filter(|key| key.0 < time_ms)
        };
        while is_over(&self.pending).is_some() {
            let (mut changes, mut expired) = (Changes::default(), Vec::new());
            let mut slots = 0;
            while slots < EXPIRED_AT_ONCE
                && let Some(key) = is_over(&self.pending)
            {
                if let Some(count) = self.expire_one(&key, &mut changes)? {
                    expired.push(key.1);
                    slots += count;
                }
            }
            self.outbox.commit(changes)?;
            expired.iter().try_for_each(|id| self.notify(id))?;
        }
        Ok(())
    }

    /// How many slots have expired with a transaction whose time is over; nothing where it was committed in its
    /// last moment.
    fn expire_one(
        &mut self,
        key: &(u64, Hash),
        changes: &mut Changes,
    ) -> Result<Option<usize>, WorkerError> {
        let encoded = self.outbox.transaction(&key.1)?;
        let verified = encoded.and_then(|encoded| {
            VerifiedTransaction::from_bytes(encoded.into(), &self.reader.chain_id()).ok()
        });
        let Some(transaction) = verified else {
            self.remove_pending(key);
            self.outbox.forget_transaction(changes, &key.1);
            return Ok(Some(1));
        };
        if self.reader.log_index(&key.1)?.is_some() {
            self.found_committed(&transaction)?;
            return Ok(None);
        }
        self.remove_pending(key);
        for (slot_index, slot) in (0..).zip(transaction.slots()) {
            if !self.outbox.is_told_by(slot, &key.1)? {
                continue;
            }
            let accepted = self.outbox.record(&slot.record_id)?;
            let content = accepted.map(|accepted| accepted.content).unwrap_or_default();
            let record =
                AcceptedRecord::of(&transaction, slot_index, RecordState::Expired, content);
            self.outbox.put_record(changes, &slot.record_id, &record);
        }
        self.outbox.forget_transaction(changes, &key.1);
        Ok(Some(transaction.slots().len()))
    }
}
