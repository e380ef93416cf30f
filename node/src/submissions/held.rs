//! What waits here until the record that it refers to is committed.
//!
//! A block refuses a record whose target is neither on the ledger nor before it in the block. Nothing keeps
//! two transactions in one order on their way into blocks: a large one is fetched where a small one is
//! gossiped, and a block that has no room for the first may have some for the second. So a transaction that
//! refers to what is pending here is not handed on before that has ended, however it ends.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use customhouse_ledger::{hash::Hash, transaction::VerifiedTransaction};

use super::{
    outbox::RecordState,
    worker::{Worker, WorkerError},
};

/// Transactions that wait for others.
#[derive(Debug, Default)]
pub(super) struct Held {
    by_id: HashMap<Hash, Holding>,
    /// Those that wait for each.
    by_target: HashMap<Hash, Vec<Hash>>,
}

#[derive(Debug)]
struct Holding {
    transaction: Arc<VerifiedTransaction>,
    /// How many others it waits for.
    targets: usize,
}

impl Held {
    /// Keeps a transaction until each of its targets has ended. It waits for at least one.
    fn hold(&mut self, transaction: Arc<VerifiedTransaction>, targets: &BTreeSet<Hash>) {
        let id = transaction.id();
        for target in targets {
            self.by_target.entry(*target).or_default().push(id);
        }
        self.by_id.insert(id, Holding { transaction, targets: targets.len() });
    }

    /// A transaction has ended: those that waited for nothing else any more. One that waited itself (a client
    /// may have brought it elsewhere too) does so no longer.
    pub(super) fn ended(&mut self, id: &Hash) -> Vec<Arc<VerifiedTransaction>> {
        self.by_id.remove(id);
        let mut free = Vec::new();
        for waiting in self.by_target.remove(id).unwrap_or_default() {
            let Some(holding) = self.by_id.get_mut(&waiting) else { continue };
            holding.targets -= 1;
            if holding.targets == 0 {
                free.extend(self.by_id.remove(&waiting).map(|holding| holding.transaction));
            }
        }
        free
    }
}

impl Worker {
    /// Hands an accepted transaction on, or holds it back while records that it refers to are pending in
    /// others.
    pub(super) fn place_in_order(
        &mut self,
        transaction: Arc<VerifiedTransaction>,
    ) -> Result<(), WorkerError> {
        let targets = self.targets_of(&transaction)?;
        if targets.is_empty() {
            self.place(transaction);
        } else {
            self.held.hold(transaction, &targets);
        }
        Ok(())
    }

    /// The other pending transactions here whose records one refers to.
    fn targets_of(&self, transaction: &VerifiedTransaction) -> Result<BTreeSet<Hash>, WorkerError> {
        let (id, agency) = (transaction.id(), transaction.header().agency);
        let references = transaction.stated().iter().flat_map(|stated| &stated.references);
        let mut targets = BTreeSet::new();
        for reference in references.filter(|reference| reference.agency == agency) {
            let Some(record) = self.outbox.record(&reference.record_id)? else { continue };
            let waits = record.state == RecordState::Pending && record.transaction_id != id;
            if waits && self.outbox.is_pending(&record.transaction_id)? {
                targets.insert(record.transaction_id);
            }
        }
        Ok(targets)
    }
}
