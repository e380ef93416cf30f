//! Who waits for the end of what, and is told.

use std::collections::HashMap;

use customhouse_ledger::hash::Hash;
use tokio::sync::oneshot;

use super::{
    End, SubmissionRefusal,
    outbox::RecordState,
    worker::{Worker, WorkerError},
};

/// Questions that may wait for an end at once.
const WAITING_MAX: usize = 200_000;

/// Who waits for what of a transaction.
struct Waiter {
    /// `None`: for the transaction as a whole.
    record_id: Option<Hash>,
    reply: oneshot::Sender<Result<End, SubmissionRefusal>>,
}

/// Those who wait, by transaction.
#[derive(Default)]
pub(super) struct Waiting {
    by_transaction: HashMap<Hash, Vec<Waiter>>,
    count: usize,
}

impl Worker {
    pub(super) fn wait_record(
        &mut self,
        record_id: Hash,
        reply: oneshot::Sender<Result<End, SubmissionRefusal>>,
    ) -> Result<(), WorkerError> {
        if let Some(end) = self.end_of_record(&record_id)? {
            let _gone = reply.send(Ok(end));
            return Ok(());
        }
        match self.outbox.record(&record_id)? {
            Some(record) => match record.state {
                RecordState::Pending => {
                    let record_id = Some(record_id);
                    self.waiting.add(record.transaction_id, Waiter { record_id, reply });
                }
                RecordState::Expired => drop(reply.send(Ok(End::Expired))),
                RecordState::NoOp => drop(reply.send(Ok(self.end_of_no_op(&record)?))),
            },
            None => {
                let what =
                    format!("record {record_id} is not on the ledger and was not submitted here");
                let _gone = reply.send(Err(SubmissionRefusal::NotFound(what)));
            }
        }
        Ok(())
    }

    pub(super) fn wait_transaction(
        &mut self,
        id: Hash,
        reply: oneshot::Sender<Result<End, SubmissionRefusal>>,
    ) -> Result<(), WorkerError> {
        if let Some(end) = self.end_of_transaction(&id)? {
            let _gone = reply.send(Ok(end));
        } else if self.outbox.transaction(&id)?.is_some() {
            self.waiting.add(id, Waiter { record_id: None, reply });
        } else {
            let what = format!("transaction {id} is not on the ledger and not pending here");
            let _gone = reply.send(Err(SubmissionRefusal::NotFound(what)));
        }
        Ok(())
    }

    /// Tells those who wait for a transaction or its records. Nothing of it is read: its place and
    /// the records' places are enough, however many there are.
    pub(super) fn notify(&mut self, transaction_id: &Hash) -> Result<(), WorkerError> {
        let waiters = self.waiting.take(transaction_id);
        if waiters.is_empty() {
            return Ok(());
        }
        let log_index = self.reader.log_index(transaction_id)?;
        let whole = log_index.map(|log_index| self.end_at(log_index, 0)).transpose()?;
        for Waiter { record_id, reply } in waiters {
            let end = match (&whole, record_id) {
                (None, _) => End::Expired,
                (Some(_), None) => self.end_of_transaction(transaction_id)?.unwrap_or(End::Expired),
                (Some(whole), Some(record_id)) => self.end_within(whole, &record_id)?,
            };
            let _gone = reply.send(Ok(end));
        }
        Ok(())
    }
}

impl Waiting {
    fn add(&mut self, transaction_id: Hash, waiter: Waiter) {
        if self.count >= WAITING_MAX {
            self.forget_those_who_left();
        }
        if self.count >= WAITING_MAX {
            let what = "too many callers wait for receipts".to_owned();
            let refusal = SubmissionRefusal::Exhausted { what, retry_after_ms: 1000 };
            let _gone = waiter.reply.send(Err(refusal));
            return;
        }
        self.count += 1;
        self.by_transaction.entry(transaction_id).or_default().push(waiter);
    }

    /// Those who wait for a transaction or its records: no longer.
    fn take(&mut self, transaction_id: &Hash) -> Vec<Waiter> {
        let waiters = self.by_transaction.remove(transaction_id).unwrap_or_default();
        self.count -= waiters.len();
        waiters
    }

    fn forget_those_who_left(&mut self) {
        for waiters in self.by_transaction.values_mut() {
            waiters.retain(|waiter| !waiter.reply.is_closed());
        }
        self.by_transaction.retain(|_, waiters| !waiters.is_empty());
        self.count = self.by_transaction.values().map(Vec::len).sum();
    }
}
