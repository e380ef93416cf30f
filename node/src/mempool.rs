//! The mempool: verified transactions that wait to be put into a block, in the order of arrival.
//!
//! Bounded in number and bytes, and so that no agency can fill it alone.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use customhouse_ledger::{agency::AgencyCode, hash::Hash, transaction::VerifiedTransaction};

/// How much a mempool holds.
#[derive(Clone, Copy, Debug)]
pub struct MempoolLimits {
    /// Transactions.
    pub transactions_max: usize,
    /// Bytes of their encodings.
    pub bytes_max: usize,
    /// Bytes of one agency's transactions.
    pub agency_bytes_max: usize,
}

impl Default for MempoolLimits {
    fn default() -> Self {
        Self {
            transactions_max: 50_000,
            bytes_max: 64 * 1024 * 1024,
            agency_bytes_max: 32 * 1024 * 1024,
        }
    }
}

/// Why a transaction was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MempoolError {
    /// It is there already. Not a fault.
    #[error("the transaction is in the mempool already")]
    Present,
    /// No room.
    #[error("the mempool is full")]
    Full,
    /// No room for this agency.
    #[error("the mempool holds as much of agency {0} as it may")]
    AgencyFull(AgencyCode),
}

/// The mempool.
#[derive(Debug)]
pub struct Mempool {
    limits: MempoolLimits,
    by_leaf: HashMap<Hash, Waiting>,
    by_arrival: BTreeMap<u64, Hash>,
    by_expiry: BTreeSet<(u64, Hash)>,
    arrivals: u64,
    bytes: usize,
    bytes_by_agency: BTreeMap<AgencyCode, usize>,
}

#[derive(Debug)]
struct Waiting {
    arrival: u64,
    transaction: Arc<VerifiedTransaction>,
}

impl Mempool {
    /// An empty mempool.
    pub fn new(limits: MempoolLimits) -> Self {
        Self {
            limits,
            by_leaf: HashMap::new(),
            by_arrival: BTreeMap::new(),
            by_expiry: BTreeSet::new(),
            arrivals: 0,
            bytes: 0,
            bytes_by_agency: BTreeMap::new(),
        }
    }

    /// Takes a transaction.
    ///
    /// # Errors
    /// [`MempoolError`].
    pub fn insert(&mut self, transaction: Arc<VerifiedTransaction>) -> Result<(), MempoolError> {
        let leaf_hash = transaction.leaf_hash();
        if self.by_leaf.contains_key(&leaf_hash) {
            return Err(MempoolError::Present);
        }
        let bytes = transaction.encoded().len();
        if self.by_leaf.len() >= self.limits.transactions_max
            || self.bytes + bytes > self.limits.bytes_max
        {
            return Err(MempoolError::Full);
        }
        let agency = transaction.header().agency;
        let of_agency = self.bytes_by_agency.entry(agency).or_default();
        if *of_agency + bytes > self.limits.agency_bytes_max {
            return Err(MempoolError::AgencyFull(agency));
        }
        *of_agency += bytes;
        self.bytes += bytes;
        self.arrivals += 1;
        self.by_arrival.insert(self.arrivals, leaf_hash);
        self.by_expiry.insert((transaction.header().not_after_ms, leaf_hash));
        self.by_leaf.insert(leaf_hash, Waiting { arrival: self.arrivals, transaction });
        Ok(())
    }

    /// The transaction of a log leaf hash.
    pub fn by_leaf(&self, leaf_hash: &Hash) -> Option<&Arc<VerifiedTransaction>> {
        self.by_leaf.get(leaf_hash).map(|waiting| &waiting.transaction)
    }

    /// The transactions, oldest first.
    pub fn oldest_first(&self) -> impl Iterator<Item = &Arc<VerifiedTransaction>> {
        self.by_arrival.values().filter_map(|leaf_hash| self.by_leaf(leaf_hash))
    }

    /// Drops a transaction: it was committed, or can no longer be.
    pub fn remove(&mut self, leaf_hash: &Hash) -> Option<Arc<VerifiedTransaction>> {
        let waiting = self.by_leaf.remove(leaf_hash)?;
        self.by_arrival.remove(&waiting.arrival);
        self.by_expiry.remove(&(waiting.transaction.header().not_after_ms, *leaf_hash));
        let bytes = waiting.transaction.encoded().len();
        self.bytes -= bytes;
        let agency = waiting.transaction.header().agency;
        if let Some(of_agency) = self.bytes_by_agency.get_mut(&agency) {
            *of_agency -= bytes;
            if *of_agency == 0 {
                self.bytes_by_agency.remove(&agency);
            }
        }
        Some(waiting.transaction)
    }

    /// Drops what no block of this time or later may include.
    pub fn remove_expired(&mut self, time_ms: u64) {
        while let Some(&(not_after_ms, leaf_hash)) = self.by_expiry.first()
            && not_after_ms < time_ms
        {
            self.remove(&leaf_hash);
        }
    }

    /// How many transactions wait.
    pub fn count(&self) -> usize {
        self.by_leaf.len()
    }

    /// Bytes of their encodings.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether less than a tenth of the room is left.
    pub fn is_nearly_full(&self) -> bool {
        let limits = &self.limits;
        self.bytes > limits.bytes_max / 10 * 9 || self.count() > limits.transactions_max / 10 * 9
    }
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::{
        keys::SigningKey,
        record::{ValidRecord, dedupe_key},
    };
    use customhouse_proto::v1;

    use super::*;

    fn transaction(agency: &str, number: u64, not_after_ms: u64) -> Arc<VerifiedTransaction> {
        let inspection = v1::Inspection { mrn: format!("M{number}"), ..Default::default() };
        let record = v1::Record {
            salt: vec![0; 16],
            agency: agency.into(),
            submitter: "broker".into(),
            body: Some(v1::record::Body::Inspection(inspection)),
            ..Default::default()
        };
        let record = ValidRecord::from_record(record).expect("valid");
        let agency: AgencyCode = agency.parse().expect("a code");
        let slot = (record, dedupe_key(&agency, "broker", &number.to_string()));
        let key = SigningKey::from_seed(&[1; 32]);
        let signed = VerifiedTransaction::sign(&[slot], agency, not_after_ms, &Hash::ZERO, &key);
        Arc::new(signed.expect("valid"))
    }

    fn limits(transactions_max: usize, bytes_max: usize, agency_bytes_max: usize) -> MempoolLimits {
        MempoolLimits { transactions_max, bytes_max, agency_bytes_max }
    }

    #[test]
    fn transactions_come_out_in_the_order_of_arrival() {
        let mut mempool = Mempool::new(MempoolLimits::default());
        let list: Vec<_> = (0..10).map(|n| transaction("NL", n, 100)).collect();
        for transaction in &list {
            assert_eq!(mempool.insert(transaction.clone()), Ok(()));
        }
        assert_eq!(mempool.insert(list[3].clone()), Err(MempoolError::Present));
        mempool.remove(&list[0].leaf_hash());
        let out: Vec<_> = mempool.oldest_first().map(|t| t.id()).collect();
        assert_eq!(out, list[1..].iter().map(|t| t.id()).collect::<Vec<_>>());
    }

    #[test]
    fn it_is_bounded_and_no_agency_fills_it_alone() {
        let one = transaction("NL", 0, 100).encoded().len();
        let mut mempool = Mempool::new(limits(100, 4 * one, 2 * one));
        assert_eq!(mempool.insert(transaction("NL", 1, 100)), Ok(()));
        assert_eq!(mempool.insert(transaction("NL", 2, 100)), Ok(()));
        let nl = "NL".parse().expect("a code");
        assert_eq!(mempool.insert(transaction("NL", 3, 100)), Err(MempoolError::AgencyFull(nl)));
        assert_eq!(mempool.insert(transaction("KR", 1, 100)), Ok(()));
        assert_eq!(mempool.insert(transaction("BE", 1, 100)), Ok(()));
        assert_eq!(mempool.insert(transaction("DE", 1, 100)), Err(MempoolError::Full));
        let mut few = Mempool::new(limits(1, usize::MAX, usize::MAX));
        assert_eq!(few.insert(transaction("NL", 1, 100)), Ok(()));
        assert_eq!(few.insert(transaction("NL", 2, 100)), Err(MempoolError::Full));
    }

    #[test]
    fn removal_gives_the_room_back() {
        let mut mempool = Mempool::new(MempoolLimits::default());
        let list: Vec<_> = (0..5).map(|n| transaction("NL", n, 100 + n)).collect();
        for transaction in &list {
            mempool.insert(transaction.clone()).expect("room");
        }
        mempool.remove_expired(103);
        assert_eq!(mempool.count(), 2);
        for transaction in &list {
            mempool.remove(&transaction.leaf_hash());
        }
        assert_eq!((mempool.count(), mempool.bytes()), (0, 0));
        assert!(mempool.bytes_by_agency.is_empty() && mempool.by_expiry.is_empty());
    }
}
