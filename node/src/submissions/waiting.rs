//! Who waits for the end of what, and is told.

use std::collections::HashMap;

use customhouse_ledger::hash::Hash;
use tokio::sync::oneshot;

use super::{
    End, SubmissionRefusal,
    ends::Told,
    outbox::RecordState,
    worker::{Worker, WorkerError},
};

/// Questions that may wait for an end at once.
const WAITING_MAX: usize = 200_000;

/// Who waits for what of a transaction.
struct Waiter {
    /// `None`: for the transaction as a whole.
    record_id: Option<Hash>,
    reply: oneshot::Sender<Result<Told, SubmissionRefusal>>,
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
        reply: oneshot::Sender<Result<Told, SubmissionRefusal>>,
    ) -> Result<(), WorkerError> {
        if let Some(end) = self.end_of_record(&record_id)? {
            let _gone = reply.send(Ok(Told::Ended(end)));
            return Ok(());
        }
        match self.outbox.record(&record_id)? {
            Some(record) => match record.state {
                RecordState::Pending => {
                    let record_id = Some(record_id);
                    self.waiting.add(record.transaction_id, Waiter { record_id, reply });
                }
                RecordState::Unfit(unfit) => drop(reply.send(Ok(Told::Ended(unfit.end())))),
                RecordState::Expired => drop(reply.send(Ok(Told::Ended(End::Expired)))),
                RecordState::NoOp => drop(reply.send(Ok(Told::NoOp(record.into())))),
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
        reply: oneshot::Sender<Result<Told, SubmissionRefusal>>,
    ) -> Result<(), WorkerError> {
        if let Some(end) = self.end_of_transaction(&id)? {
            let _gone = reply.send(Ok(Told::Ended(end)));
        } else if self.outbox.transaction(&id)?.is_some() {
            self.waiting.add(id, Waiter { record_id: None, reply });
        } else {
            let what = format!("transaction {id} is not on the ledger and not pending here");
            let _gone = reply.send(Err(SubmissionRefusal::NotFound(what)));
        }
        Ok(())
    }

    /// Tells those who wait for a transaction or its records. Nothing that it carries is read: its place, the
    /// records' places and its outcomes are enough, however many there are.
    pub(super) fn notify(&mut self, transaction_id: &Hash) -> Result<(), WorkerError> {
        let waiters = self.waiting.take(transaction_id);
        if waiters.is_empty() {
            return Ok(());
        }
        let whole = self.end_of_transaction(transaction_id)?;
        for Waiter { record_id, reply } in waiters {
            let told = match (&whole, record_id) {
                (None, _) => Told::Ended(End::Expired),
                (Some(whole), None) => Told::Ended(whole.clone()),
                (Some(_), Some(record_id)) => self.told_of(&record_id)?,
            };
            let _gone = reply.send(Ok(told));
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

    /// Tells all who wait for a transaction or its records of one end.
    pub(super) fn tell(&mut self, transaction_id: &Hash, end: &End) {
        for Waiter { reply, .. } in self.take(transaction_id) {
            let _gone = reply.send(Ok(Told::Ended(end.clone())));
        }
    }

    pub(super) fn is_for(&self, transaction_id: &Hash) -> bool {
        self.by_transaction.contains_key(transaction_id)
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
