//! A simulated node: what survives its process, and the process while it runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use customhouse_consensus::{Now, Timing};
use customhouse_ledger::{
    chain::{Chain, ChainReader},
    hash::Hash,
    keys::PublicKey,
    registry::genesis::Genesis,
    store::{MemoryDisk, StoreError},
    transaction::VerifiedTransaction,
};
use customhouse_node::{
    admission::{self, AdmissionError},
    driver::{Driver, DriverParts, SharedMempool, VotingKey, lock},
    inbound::KnownTransactions,
    mempool::{Mempool, MempoolLimits},
    metrics::Metrics,
};

use super::{
    disk::JournalDisk,
    fetching::Fetching,
    gossip::Gossip,
    identity::{BEGIN_UNIX_MS, Identity, VALIDATOR_KEYS},
    mutant::Mutant,
    swarm::Swarm,
    world::World,
};

/// One place where a key's node runs.
pub(super) struct Endpoint {
    /// Whose node it is.
    pub(super) identity: usize,
    timing: Timing,
    mempool_max: usize,
    /// One of two places with the same key.
    pub(super) twin: bool,
    pub(super) store: MemoryDisk,
    /// One of each validator key.
    pub(super) journals: Vec<JournalDisk>,
    /// The validator key that the configuration names; the one after it is named as the next.
    pub(super) key_place: usize,
    /// Accepted transactions that were not seen committed, durable.
    pub(super) outbox: BTreeMap<Hash, Bytes>,
    /// What a mutant has accepted and not synced.
    pub(super) unsynced_outbox: BTreeMap<Hash, Bytes>,
    /// Copies of the disks, as a backup is.
    pub(super) backup: Option<(MemoryDisk, Vec<JournalDisk>)>,
    pub(super) clock: Clock,
    /// Grows with every start: what was meant for an earlier process is lost.
    pub(super) epoch: u64,
    pub(super) paused_until: u64,
    pub(super) process: Option<Process>,
}

/// A wall clock that is wrong.
#[derive(Clone, Copy, Default)]
pub(super) struct Clock {
    pub(super) offset_ms: i64,
    pub(super) drift_ppm: i64,
}

pub(super) struct Process {
    pub(super) driver: Driver<World, JournalDisk>,
    pub(super) reader: ChainReader,
    pub(super) mempool: SharedMempool,
    pub(super) fetching: Fetching,
    pub(super) gossip: Gossip,
    /// Who may connect.
    pub(super) listed: BTreeSet<PublicKey>,
    /// When its clock began.
    started: u64,
}

impl Clock {
    fn unix_ms(self, virtual_ms: u64) -> u64 {
        let drifted = i128::from(virtual_ms) * i128::from(1_000_000 + self.drift_ppm) / 1_000_000;
        let now = i128::from(BEGIN_UNIX_MS) + drifted + i128::from(self.offset_ms);
        u64::try_from(now.max(0)).unwrap_or(u64::MAX)
    }
}

impl Endpoint {
    pub(super) fn new(identity: usize, twin: bool, swarm: &Swarm, mutant: Option<Mutant>) -> Self {
        Self {
            identity,
            timing: swarm.timing,
            mempool_max: swarm.mempool_max,
            twin,
            store: MemoryDisk::default(),
            journals: (0..VALIDATOR_KEYS).map(|_| JournalDisk::new(mutant)).collect(),
            key_place: 0,
            outbox: BTreeMap::new(),
            unsynced_outbox: BTreeMap::new(),
            backup: None,
            clock: Clock::default(),
            epoch: 0,
            paused_until: 0,
            process: None,
        }
    }

    /// What the clocks of the process show.
    pub(super) fn now(&self, virtual_ms: u64) -> Now {
        let started = self.process.as_ref().map_or(virtual_ms, |process| process.started);
        Now { monotonic_ms: virtual_ms - started, unix_ms: self.clock.unix_ms(virtual_ms) }
    }

    /// Starts the process on what the disks hold. Its first step is the caller's to make.
    pub(super) fn start(
        &mut self,
        identities: &[Identity],
        genesis: &Genesis,
        virtual_ms: u64,
    ) -> Result<(), StoreError> {
        self.epoch += 1;
        let chain = Chain::open_simulated(self.store.clone(), genesis)?;
        let reader = chain.reader();
        let mempool = Arc::new(Mutex::new(Mempool::new(MempoolLimits {
            transactions_max: self.mempool_max,
            bytes_max: 64 << 20,
        })));
        let own = &identities[self.identity];
        let signer = |place: usize| {
            let (key, journal) = (own.validators.get(place)?, &self.journals[place]);
            let (public, entries) = (key.public(), journal.open());
            Some(VotingKey { public, key: Ok(key.clone()), journal: journal.clone(), entries })
        };
        let parts = DriverParts {
            chain,
            signer: signer(self.key_place).expect("a key that it has"),
            next_signer: signer(self.key_place + 1),
            mempool: Arc::clone(&mempool),
            own_peer: own.peer,
            more_peers: Vec::new(),
            timing: self.timing,
            metrics: Metrics::new(|_| {}),
        };
        let now = Now { monotonic_ms: 0, unix_ms: self.clock.unix_ms(virtual_ms) };
        let driver = Driver::new(parts, World::new(now));
        let (fetching, gossip, listed) = (Fetching::default(), Gossip::new(), BTreeSet::new());
        let started = virtual_ms;
        self.process = Some(Process { driver, reader, mempool, fetching, gossip, listed, started });
        Ok(())
    }

    /// SIGKILL: what was written stays to be read, whether it was synced or not.
    pub(super) fn kill(&mut self) {
        self.process = None;
        self.mend();
        self.journals.iter().for_each(JournalDisk::lose_unwritten);
        self.unsynced_outbox.clear();
    }

    /// A power cut: what was written and not synced is gone, too. The store loses nothing by that:
    /// a write is all there or not at all, and RocksDB makes what it recovers durable when it
    /// opens.
    pub(super) fn cut_power(&mut self) {
        self.kill();
        self.journals.iter().for_each(JournalDisk::lose_unsynced);
    }

    /// Writes that were to fail do not.
    pub(super) fn mend(&self) {
        self.store.mend();
        self.journals.iter().for_each(JournalDisk::mend);
    }

    /// The key that its process votes with, or is to.
    pub(super) fn voting_place(&self, identity: &Identity) -> usize {
        let votes = |process: &Process| {
            let validators = &process.driver.core().committed().validators;
            let places = [self.key_place, self.key_place + 1].into_iter();
            places
                .filter(|place| *place < VALIDATOR_KEYS)
                .find(|place| validators.index_of(&identity.validators[*place].public()).is_some())
        };
        self.process.as_ref().and_then(votes).unwrap_or(self.key_place)
    }

    /// Admits a transaction; true where it is new.
    pub(super) fn admit(&mut self, transaction: Arc<VerifiedTransaction>, unix_ms: u64) -> bool {
        self.process.as_ref().is_some_and(|process| process.admit(transaction, unix_ms).is_ok())
    }

    /// Puts what was accepted before a restart back into the mempool; true where it is yet to be
    /// committed. As in a node the registry is not asked: a store that was taken away or put back does
    /// not know every member yet.
    pub(super) fn place(&mut self, transaction: Arc<VerifiedTransaction>, unix_ms: u64) -> bool {
        let Some(process) = &self.process else { return false };
        transaction.header().not_after_ms >= unix_ms
            && matches!(process.reader.log_index(&transaction.id()), Ok(None))
            && lock(&process.mempool).insert(transaction).is_ok()
    }

    pub(super) fn height(&self) -> u64 {
        self.process.as_ref().map_or(0, |process| process.reader.tip().header.height)
    }
}

impl Process {
    fn admit(
        &self,
        transaction: Arc<VerifiedTransaction>,
        unix_ms: u64,
    ) -> Result<(), AdmissionError> {
        admission::check(&self.reader, &transaction, unix_ms)?;
        Ok(lock(&self.mempool).insert(transaction)?)
    }

    /// Admits what is new of a gossiped batch, by a node's own rules: whether something is, and what
    /// becomes of the batch.
    pub(super) fn admit_all(
        &self,
        transactions: Vec<Bytes>,
        unix_ms: u64,
    ) -> (bool, Result<bool, &'static str>) {
        let known = KnownTransactions { reader: &self.reader, mempool: &self.mempool, unix_ms };
        let mut any = false;
        let admit = |transaction| {
            let admitted = self.admit(transaction, unix_ms);
            any |= admitted.is_ok();
            admitted
        };
        let goes_on = known.admit_all(transactions, admit, |_| {});
        (any, goes_on)
    }
}

/// The endpoints that run with a peer's key.
pub(super) fn endpoints_of<'a>(
    endpoints: &'a [Endpoint],
    identities: &'a [Identity],
    peer: PublicKey,
) -> impl Iterator<Item = usize> + 'a {
    let of_key = move |endpoint: &Endpoint| identities[endpoint.identity].peer == peer;
    endpoints.iter().enumerate().filter(move |(_, e)| of_key(e)).map(|(index, _)| index)
}
