//! What waits here until the record that it refers to is committed.
//!
//! A block refuses a record whose target is neither on the ledger nor before it in the block. Nothing keeps
//! two transactions in one order on their way into blocks: a large one is fetched where a small one is
//! gossiped, and a block that has no room for the first may have some for the second. So a transaction that
//! refers to what is pending here is not handed on before that has ended, however it ends, or is not on its way
//! to a block any more.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use customhouse_ledger::{hash::Hash, keys::PublicKey, transaction::VerifiedTransaction};

use super::{
    outbox::RecordState,
    worker::{Worker, WorkerError},
};

/// Transactions of one key that are held back. They are not in the mempool, whose share of a key they would
/// otherwise go by.
const OF_KEY_MAX: usize = 1024;

/// Transactions that wait for others.
#[derive(Debug, Default)]
pub(super) struct Held {
    by_id: HashMap<Hash, Holding>,
    /// Those that wait for each.
    by_target: HashMap<Hash, Vec<Hash>>,
    by_signer: HashMap<PublicKey, OfKey>,
    bytes: u64,
}

/// What is held of a key.
#[derive(Debug, Default)]
struct OfKey {
    count: usize,
    bytes: u64,
}

/// Whether an accepted transaction is handed on, or already where it was to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// It waits for a block, or to be handed on.
    Waits,
    /// Another node had it committed in the meantime.
    Committed,
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
        let bytes = transaction.encoded().len() as u64;
        let of_key = self.by_signer.entry(transaction.header().signer).or_default();
        of_key.count += 1;
        of_key.bytes += bytes;
        self.bytes += bytes;
        self.by_id.insert(id, Holding { transaction, targets: targets.len() });
    }

    /// Whether as much of a key is held as may be, which is `room` bytes, or of all keys, which is `room_of_all`.
    pub(super) fn is_full_of(&self, signer: &PublicKey, room: u64, room_of_all: u64) -> bool {
        let of_key = self.by_signer.get(signer);
        self.bytes >= room_of_all
            || of_key.is_some_and(|held| held.count >= OF_KEY_MAX || held.bytes >= room)
    }

    fn take(&mut self, id: &Hash) -> Option<Arc<VerifiedTransaction>> {
        let Holding { transaction, .. } = self.by_id.remove(id)?;
        let (signer, bytes) = (transaction.header().signer, transaction.encoded().len() as u64);
        self.bytes -= bytes;
        if let Some(of_key) = self.by_signer.get_mut(&signer) {
            of_key.count -= 1;
            of_key.bytes -= bytes;
            if of_key.count == 0 {
                self.by_signer.remove(&signer);
            }
        }
        Some(transaction)
    }

    /// A transaction has ended: those that waited for nothing else any more. One that waited itself (a client
    /// may have brought it elsewhere too) does so no longer.
    pub(super) fn ended(&mut self, id: &Hash) -> Vec<Arc<VerifiedTransaction>> {
        self.take(id);
        self.free_of(id)
    }

    /// Those that wait for nothing but this any more.
    fn free_of(&mut self, id: &Hash) -> Vec<Arc<VerifiedTransaction>> {
        let mut free = Vec::new();
        for waiting in self.by_target.remove(id).unwrap_or_default() {
            let Some(holding) = self.by_id.get_mut(&waiting) else { continue };
            holding.targets -= 1;
            if holding.targets == 0 {
                free.extend(self.take(&waiting));
            }
        }
        free
    }
}

impl Held {
    /// Those that would wait for ever: for what is not on its way any more, or for each other. `waits` says what
    /// is on its way.
    fn stranded(&mut self, waits: impl Fn(&Hash) -> bool) -> Vec<Arc<VerifiedTransaction>> {
        let gone = |held: &Self| -> Vec<Hash> {
            let targets = held.by_target.keys();
            targets.filter(|id| !held.by_id.contains_key(id) && !waits(id)).copied().collect()
        };
        let mut free: Vec<_> = gone(self).iter().flat_map(|id| self.free_of(id)).collect();
        // What is left waits, through others perhaps, for what is on its way, as those are now; or in a circle.
        let freed: BTreeSet<_> = free.iter().map(|transaction| transaction.id()).collect();
        let is_on_its_way = |id: &&Hash| waits(id) || freed.contains(*id);
        let mut next: Vec<Hash> = self.by_target.keys().filter(is_on_its_way).copied().collect();
        let mut grounded = BTreeSet::new();
        while let Some(id) = next.pop() {
            let waiting = self.by_target.get(&id).into_iter().flatten();
            next.extend(waiting.copied().filter(|waiting| grounded.insert(*waiting)));
        }
        let is_in_circle = |id: &&Hash| !grounded.contains(*id);
        let circles: Vec<Hash> = self.by_id.keys().filter(is_in_circle).copied().collect();
        for id in circles {
            free.extend(self.take(&id));
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
    ) -> Result<Placed, WorkerError> {
        let targets = self.targets_of(&transaction)?;
        if targets.is_empty() {
            return Ok(self.place(transaction));
        }
        if self.reader.log_index(&transaction.id())?.is_some() {
            return Ok(Placed::Committed);
        }
        self.held.hold(transaction, &targets);
        Ok(Placed::Waits)
    }

    /// Hands on what waits for something that is not on its way any more: its key has ended, say.
    pub(super) fn hold_for_what_waits_only(&mut self) {
        if self.held.by_id.is_empty() {
            return;
        }
        let (admission, unplaced) = (&self.admission, &self.unplaced);
        let waits = |id: &Hash| unplaced.contains_key(id) || admission.waits(id);
        for transaction in self.held.stranded(waits) {
            self.place(transaction);
        }
    }

    /// The other pending transactions here whose records one refers to. A record that is on the ledger may be
    /// in a pending one too, which repeats it.
    fn targets_of(&self, transaction: &VerifiedTransaction) -> Result<BTreeSet<Hash>, WorkerError> {
        let (id, agency) = (transaction.id(), transaction.header().agency);
        let references =
            transaction.stated().iter().flatten().flat_map(|stated| &stated.references);
        let mut targets = BTreeSet::new();
        for reference in references.filter(|reference| reference.agency == agency) {
            let Some(record) = self.outbox.record(&reference.record_id)? else { continue };
            let waits = record.state == RecordState::Pending && record.transaction_id != id;
            if waits
                && self.outbox.is_pending(&record.transaction_id)?
                && self.reader.place_of(&reference.record_id, &agency)?.is_none()
            {
                targets.insert(record.transaction_id);
            }
        }
        Ok(targets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::answers::tests::transaction;

    fn signed(number: u64) -> Arc<VerifiedTransaction> {
        let read = VerifiedTransaction::from_bytes(transaction(number, 100), &Hash([9; 32]));
        Arc::new(read.expect("valid"))
    }

    #[test]
    fn one_is_free_when_the_last_of_its_targets_has_ended() {
        let mut held = Held::default();
        let [first, second] = [signed(1), signed(2)];
        held.hold(Arc::clone(&first), &BTreeSet::from([Hash([1; 32]), Hash([2; 32])]));
        held.hold(Arc::clone(&second), &BTreeSet::from([Hash([2; 32]), first.id()]));
        assert!(held.ended(&Hash([1; 32])).is_empty() && held.ended(&Hash([3; 32])).is_empty());
        assert_eq!(held.ended(&Hash([2; 32])), [Arc::clone(&first)]);
        assert_eq!(held.ended(&first.id()), [second]);
        assert!(held.by_id.is_empty() && held.by_target.is_empty() && held.by_signer.is_empty());
    }

    #[test]
    fn one_that_has_ended_itself_is_not_handed_on() {
        let mut held = Held::default();
        let one = signed(1);
        held.hold(Arc::clone(&one), &BTreeSet::from([Hash([1; 32])]));
        assert!(held.ended(&one.id()).is_empty() && held.ended(&Hash([1; 32])).is_empty());
        assert!(held.by_signer.is_empty());
    }

    #[test]
    fn a_key_has_no_more_held_than_its_room_and_gets_it_back() {
        let mut held = Held::default();
        let one = signed(1);
        let (signer, bytes) = (one.header().signer, one.encoded().len() as u64);
        held.hold(Arc::clone(&one), &BTreeSet::from([Hash([1; 32])]));
        assert!(held.is_full_of(&signer, bytes, u64::MAX));
        assert!(held.is_full_of(&signer, u64::MAX, bytes), "of all keys");
        assert!(!held.is_full_of(&signer, bytes + 1, bytes + 1));
        let many = u64::try_from(OF_KEY_MAX).expect("small");
        for number in 2..=many {
            held.hold(signed(number), &BTreeSet::from([Hash([1; 32])]));
        }
        assert!(held.is_full_of(&signer, u64::MAX, u64::MAX), "{many} are enough of any size");
        assert_eq!(held.ended(&Hash([1; 32])).len(), OF_KEY_MAX);
        assert!(!held.is_full_of(&signer, 1, 1));
    }

    #[test]
    fn nothing_waits_for_what_is_not_on_its_way_or_for_itself() {
        let [root, gone] = [Hash([1; 32]), Hash([2; 32])];
        let waits = |id: &Hash| *id == root;
        let [first, second, third, both] = [1, 2, 3, 4].map(signed);
        let mut held = Held::default();
        held.hold(Arc::clone(&first), &BTreeSet::from([root]));
        held.hold(Arc::clone(&second), &BTreeSet::from([first.id()]));
        held.hold(Arc::clone(&third), &BTreeSet::from([gone]));
        held.hold(Arc::clone(&both), &BTreeSet::from([gone, root, third.id()]));
        assert_eq!(held.stranded(waits), [Arc::clone(&third)], "others are on their way");
        assert!(held.stranded(|id| waits(id) || *id == third.id()).is_empty());
        assert!(held.ended(&third.id()).is_empty());
        assert_eq!(held.ended(&root).len(), 2, "the first, and what had waited for three");
        assert_eq!(held.ended(&first.id()), [second]);
        // As after a restart, where one record is in two transactions.
        let [one, other, behind] = [5, 6, 7].map(signed);
        held.hold(Arc::clone(&one), &BTreeSet::from([other.id()]));
        held.hold(Arc::clone(&other), &BTreeSet::from([one.id()]));
        held.hold(Arc::clone(&behind), &BTreeSet::from([one.id()]));
        assert_eq!(held.stranded(waits).len(), 3);
        assert!(held.by_id.is_empty() && held.by_signer.is_empty() && held.bytes == 0);
    }
}
