//! Whose transaction a block takes next.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, btree_map},
    iter::Peekable,
    sync::Arc,
};

use customhouse_ledger::transaction::VerifiedTransaction;

use super::Mempool;

/// What a transaction costs a block beside its bytes: its signature is checked, and its place kept.
const COST_OF_ONE: usize = 512;

type Queue<'a> = Peekable<btree_map::Iter<'a, u64, Arc<VerifiedTransaction>>>;

/// The transactions of a mempool in turns. The same mempool gives the same order.
pub struct InTurns<'a> {
    agencies: Turns<Turns<Queue<'a>>>,
}

/// Those who take turns: next is the one that has taken the least, and of several such the one
/// whose next transaction came first.
struct Turns<T> {
    members: Vec<T>,
    /// What each has taken, when its next came, and its place among the members.
    order: BinaryHeap<Reverse<(usize, u64, usize)>>,
}

/// Something that gives one transaction after another.
trait Source<'a> {
    /// When the next came.
    fn arrival(&mut self) -> Option<u64>;
    fn next(&mut self) -> Option<&'a Arc<VerifiedTransaction>>;
}

impl<'a> Source<'a> for Queue<'a> {
    fn arrival(&mut self) -> Option<u64> {
        self.peek().map(|(arrival, _)| **arrival)
    }

    fn next(&mut self) -> Option<&'a Arc<VerifiedTransaction>> {
        Iterator::next(self).map(|(_, transaction)| transaction)
    }
}

impl<'a, T: Source<'a>> Source<'a> for Turns<T> {
    fn arrival(&mut self) -> Option<u64> {
        self.order.peek().map(|Reverse((_, arrival, _))| *arrival)
    }

    fn next(&mut self) -> Option<&'a Arc<VerifiedTransaction>> {
        let Reverse((taken, _, place)) = self.order.pop()?;
        let member = &mut self.members[place];
        let transaction = member.next()?;
        if let Some(arrival) = member.arrival() {
            let taken = taken + transaction.encoded().len() + COST_OF_ONE;
            self.order.push(Reverse((taken, arrival, place)));
        }
        Some(transaction)
    }
}

impl<'a, T: Source<'a>> Turns<T> {
    fn new(members: impl Iterator<Item = T>) -> Self {
        let mut members: Vec<T> = members.collect();
        let arrivals = members.iter_mut().map(Source::arrival).enumerate();
        let order =
            arrivals.filter_map(|(place, arrival)| Some(Reverse((0, arrival?, place)))).collect();
        Self { members, order }
    }
}

impl<'a> InTurns<'a> {
    pub(super) fn new(mempool: &'a Mempool) -> Self {
        let of_agency = |agency: &'a super::OfAgency| {
            Turns::new(agency.by_signer.values().map(|signer| signer.by_arrival.iter().peekable()))
        };
        Self { agencies: Turns::new(mempool.by_agency.values().map(of_agency)) }
    }
}

impl<'a> Iterator for InTurns<'a> {
    type Item = &'a Arc<VerifiedTransaction>;

    fn next(&mut self) -> Option<Self::Item> {
        self.agencies.next()
    }
}
