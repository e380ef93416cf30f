//! The mempool: verified transactions that wait to be put into a block, one of each id.
//!
//! Bounded in number and bytes, and shared: nobody can fill it, or a block, alone.
//!
//! - An agency may hold as much as it leaves free: half of all where it is alone, a third each where
//!   there are two. Whoever comes later always finds room.
//! - Within its agency's half, a signing key may hold three times what the agency's keys leave free:
//!   three quarters of it where it is alone.
//! - A block is filled in turns ([`Mempool::in_turns`]): the agency that has the least in it is next, of
//!   its keys the one that has the least, and of that one's transactions the oldest.

mod turns;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::{Add, RangeInclusive, Sub},
    sync::Arc,
};

use customhouse_ledger::{
    agency::AgencyCode,
    agreement::AgreementChange,
    hash::Hash,
    keys::PublicKey,
    transaction::{TransactionHeader, VerifiedTransaction},
};

use self::turns::InTurns;

/// How much a mempool holds.
#[derive(Clone, Copy, Debug)]
pub struct MempoolLimits {
    /// Transactions.
    pub transactions_max: usize,
    /// Bytes of their encodings.
    pub bytes_max: usize,
}

impl Default for MempoolLimits {
    fn default() -> Self {
        Self { transactions_max: 50_000, bytes_max: 64 * 1024 * 1024 }
    }
}

/// Why a transaction was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MempoolError {
    /// It is there already, or another signature of the same. Not a fault.
    #[error("the transaction is in the mempool already")]
    Present,
    /// No room.
    #[error("the mempool is full")]
    Full,
    /// No room for this agency.
    #[error("the mempool holds as much of agency {0} as it may")]
    AgencyFull(AgencyCode),
    /// No room for this key.
    #[error("the mempool holds as much of what key {0} signed as it may")]
    SignerFull(PublicKey),
}

/// The mempool.
#[derive(Debug)]
pub struct Mempool {
    limits: Room,
    used: Room,
    by_leaf: HashMap<Hash, Waiting>,
    leaf_of_id: HashMap<Hash, Hash>,
    by_arrival: BTreeMap<u64, Hash>,
    by_expiry: BTreeSet<(u64, Hash)>,
    arrivals: u64,
    by_agency: BTreeMap<AgencyCode, OfAgency>,
}

/// Transactions and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Room {
    count: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    arrival: u64,
    transaction: Arc<VerifiedTransaction>,
}

#[derive(Debug, Default)]
struct OfAgency {
    used: Room,
    by_signer: BTreeMap<PublicKey, OfSigner>,
}

#[derive(Debug, Default)]
struct OfSigner {
    used: Room,
    by_arrival: BTreeMap<u64, Arc<VerifiedTransaction>>,
}

impl Mempool {
    /// An empty mempool.
    pub fn new(limits: MempoolLimits) -> Self {
        let MempoolLimits { transactions_max: count, bytes_max: bytes } = limits;
        Self {
            limits: Room { count, bytes },
            used: Room::default(),
            by_leaf: HashMap::new(),
            leaf_of_id: HashMap::new(),
            by_arrival: BTreeMap::new(),
            by_expiry: BTreeSet::new(),
            arrivals: 0,
            by_agency: BTreeMap::new(),
        }
    }

    /// Takes a transaction.
    ///
    /// # Errors
    /// [`MempoolError`].
    pub fn insert(&mut self, transaction: Arc<VerifiedTransaction>) -> Result<(), MempoolError> {
        let (id, leaf_hash) = (transaction.id(), transaction.leaf_hash());
        let (agency, signer) = (transaction.header().agency, transaction.header().signer);
        let room = Room::of(&transaction);
        self.has_room_for(transaction.header(), room.bytes)?;
        self.arrivals += 1;
        let arrival = self.arrivals;
        self.used = self.used + room;
        let of_agency = self.by_agency.entry(agency).or_default();
        of_agency.used = of_agency.used + room;
        let of_signer = of_agency.by_signer.entry(signer).or_default();
        of_signer.used = of_signer.used + room;
        of_signer.by_arrival.insert(arrival, Arc::clone(&transaction));
        self.leaf_of_id.insert(id, leaf_hash);
        self.by_arrival.insert(arrival, leaf_hash);
        self.by_expiry.insert((not_after_ms(&transaction), leaf_hash));
        self.by_leaf.insert(leaf_hash, Waiting { arrival, transaction });
        Ok(())
    }

    /// Whether a transaction of this header would be taken, by the bytes of its encoding. It costs no
    /// signature to ask.
    ///
    /// # Errors
    /// [`MempoolError`].
    pub fn has_room_for(
        &self,
        header: &TransactionHeader,
        bytes: usize,
    ) -> Result<(), MempoolError> {
        let TransactionHeader { agency, signer, .. } = *header;
        if self.leaf_of_id.contains_key(&header.id()) {
            return Err(MempoolError::Present);
        }
        let room = Room { count: 1, bytes };
        if !(self.used + room).is_within(self.limits) {
            return Err(MempoolError::Full);
        }
        let (of_agency, of_signer) = self.used_by(agency, &signer);
        if !(of_agency + room).is_within(self.agency_limit(of_agency)) {
            return Err(MempoolError::AgencyFull(agency));
        }
        if !(of_signer + room).is_within(self.signer_limit(of_agency, of_signer)) {
            return Err(MempoolError::SignerFull(signer));
        }
        Ok(())
    }

    /// What an agency and one of its keys hold.
    fn used_by(&self, agency: AgencyCode, signer: &PublicKey) -> (Room, Room) {
        let of_agency = self.by_agency.get(&agency);
        let of_signer = of_agency.and_then(|agency| agency.by_signer.get(signer));
        (
            of_agency.map_or(Room::default(), |agency| agency.used),
            of_signer.map_or(Room::default(), |signer| signer.used),
        )
    }

    /// As much as it leaves free.
    fn agency_limit(&self, of_agency: Room) -> Room {
        (self.limits - (self.used - of_agency)).half()
    }

    /// Three times what its agency's keys leave free of the agency's half.
    fn signer_limit(&self, of_agency: Room, of_signer: Room) -> Room {
        let left = self.limits.half() - (of_agency - of_signer);
        Room { count: left.count - left.count / 4, bytes: left.bytes - left.bytes / 4 }
    }

    /// The transaction of a log leaf hash.
    pub fn by_leaf(&self, leaf_hash: &Hash) -> Option<&Arc<VerifiedTransaction>> {
        self.by_leaf.get(leaf_hash).map(|waiting| &waiting.transaction)
    }

    /// The transactions, oldest first.
    pub fn oldest_first(&self) -> impl Iterator<Item = &Arc<VerifiedTransaction>> {
        self.by_arrival.values().filter_map(|leaf_hash| self.by_leaf(leaf_hash))
    }

    /// The transactions in the order in which a block should take them.
    pub fn in_turns(&self) -> InTurns<'_> {
        InTurns::new(self)
    }

    /// Whether one of them may be included up to a time within this range and no longer.
    pub fn ends_within(&self, not_after_ms: RangeInclusive<u64>) -> bool {
        let (first, last) = not_after_ms.into_inner();
        let mut from = self.by_expiry.range((first, Hash::ZERO)..);
        from.next().is_some_and(|(not_after_ms, _)| *not_after_ms <= last)
    }

    /// Drops a transaction: it can no longer be committed.
    pub fn remove(&mut self, leaf_hash: &Hash) -> Option<Arc<VerifiedTransaction>> {
        let Waiting { arrival, transaction } = self.by_leaf.remove(leaf_hash)?;
        self.by_arrival.remove(&arrival);
        self.by_expiry.remove(&(not_after_ms(&transaction), *leaf_hash));
        self.leaf_of_id.remove(&transaction.id());
        let (agency, signer) = (transaction.header().agency, transaction.header().signer);
        let room = Room::of(&transaction);
        self.used = self.used - room;
        let of_agency = self.by_agency.get_mut(&agency)?;
        of_agency.used = of_agency.used - room;
        let of_signer = of_agency.by_signer.get_mut(&signer)?;
        of_signer.used = of_signer.used - room;
        of_signer.by_arrival.remove(&arrival);
        if of_signer.by_arrival.is_empty() {
            of_agency.by_signer.remove(&signer);
        }
        if of_agency.by_signer.is_empty() {
            self.by_agency.remove(&agency);
        }
        Some(transaction)
    }

    /// Whether a transaction waits here, under whichever signature.
    pub fn has_id(&self, id: &Hash) -> bool {
        self.leaf_of_id.contains_key(id)
    }

    /// Drops a transaction by its id: it was committed, under this signature or another.
    pub fn remove_id(&mut self, id: &Hash) -> Option<Arc<VerifiedTransaction>> {
        let leaf_hash = *self.leaf_of_id.get(id)?;
        self.remove(&leaf_hash)
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
        self.used.count
    }

    /// Bytes of their encodings.
    pub fn bytes(&self) -> usize {
        self.used.bytes
    }

    /// Bytes that a transaction takes at least of a room that is told in bytes: as many of these fit as there
    /// may be transactions.
    pub fn least_bytes(&self) -> usize {
        (self.limits.bytes / self.limits.count.max(1)).max(1)
    }

    /// Bytes that a key of an agency may have here, in all, with at least [`Mempool::least_bytes`] for each
    /// transaction; `None` where less than a tenth of its room is left.
    pub fn room(&self, agency: AgencyCode, signer: &PublicKey) -> Option<usize> {
        let (of_agency, of_signer) = self.used_by(agency, signer);
        let agency_limit = self.agency_limit(of_agency).nine_tenths();
        let signer_limit = self.signer_limit(of_agency, of_signer).nine_tenths();
        if !(of_agency.is_within(agency_limit) && of_signer.is_within(signer_limit)) {
            return None;
        }
        let of_other_keys = of_agency - of_signer;
        let of_agency = agency_limit - of_other_keys;
        let count = signer_limit.count.min(of_agency.count);
        Some(signer_limit.bytes.min(of_agency.bytes).min(count.saturating_mul(self.least_bytes())))
    }
}

/// Until when a block may include a transaction, in Unix milliseconds.
pub fn not_after_ms(transaction: &VerifiedTransaction) -> u64 {
    let proposed = transaction.registry_change().map(|change| change.proposal().not_after_ms());
    let agreed = match transaction.agreement_change() {
        // An epoch that is over is agreed by no block.
        Some(AgreementChange::Epoch(epoch, _)) => {
            Some(epoch.not_after_ms().min(epoch.period_ms().1.saturating_sub(1)))
        }
        Some(AgreementChange::Leave { .. }) | None => None,
    };
    let own = transaction.header().not_after_ms;
    own.min(proposed.unwrap_or(u64::MAX)).min(agreed.unwrap_or(u64::MAX))
}

impl Room {
    fn of(transaction: &VerifiedTransaction) -> Self {
        Self { count: 1, bytes: transaction.encoded().len() }
    }

    fn is_within(self, limit: Self) -> bool {
        self.count <= limit.count && self.bytes <= limit.bytes
    }

    fn half(self) -> Self {
        Self { count: self.count.div_ceil(2), bytes: self.bytes.div_ceil(2) }
    }

    fn nine_tenths(self) -> Self {
        Self { count: self.count - self.count / 10, bytes: self.bytes - self.bytes / 10 }
    }
}

impl Add for Room {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let (count, bytes) =
            (self.count.saturating_add(other.count), self.bytes.saturating_add(other.bytes));
        Self { count, bytes }
    }
}

impl Sub for Room {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let (count, bytes) =
            (self.count.saturating_sub(other.count), self.bytes.saturating_sub(other.bytes));
        Self { count, bytes }
    }
}

#[cfg(test)]
pub(crate) mod tests;
