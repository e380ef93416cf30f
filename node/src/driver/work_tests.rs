//! A driver by itself: what it does about what waits, by a clock that the test sets.

use customhouse_consensus::{Entry, Journal, Now, Signatures, Timing};
use customhouse_ledger::{
    chain::BlockOutcome, finality::vote::VoteKind, keys::SigningKey, store::StoreOptions,
};
use tempfile::TempDir;

use super::*;
use crate::{
    mempool::MempoolLimits,
    node::tests::{genesis, key, signed_until},
};

/// The world, standing still; it writes down what it is told.
#[derive(Default)]
struct Still {
    unix_ms: u64,
    monotonic_ms: u64,
    said: Vec<Message>,
    committed: Vec<Arc<BlockOutcome>>,
}

impl Outside for Still {
    fn now(&self) -> Now {
        Now { monotonic_ms: self.monotonic_ms, unix_ms: self.unix_ms }
    }

    fn publish(&mut self, messages: Vec<Message>) {
        self.said.extend(messages);
    }

    fn push(&mut self, _: PublicKey, message: Message) {
        self.said.push(message);
    }

    fn charge(&mut self, _: PublicKey, _: &'static str) {}

    fn publish_transaction(&mut self, _: bytes::Bytes) {}

    fn fetch(&mut self, _: Fetch) {}

    fn is_catching_up(&self) -> bool {
        false
    }

    fn committed(&mut self, block: Arc<BlockOutcome>) {
        self.committed.push(block);
    }

    fn listed(&mut self, _: &[(AgencyCode, PublicKey)]) {}

    fn evidence(&mut self, _: &customhouse_consensus::Evidence) {}

    fn status(&mut self, _: ConsensusStatus) {}
}

/// Remembers nothing: no test here starts twice.
struct NoMemory;

impl Journal for NoMemory {
    type Error = JournalError;

    fn append(&mut self, _: &[Entry]) -> Result<(), JournalError> {
        Ok(())
    }
}

impl SignerMemory for NoMemory {
    fn height_committed(&mut self, _: u64) -> Result<(), JournalError> {
        Ok(())
    }
}

const NOW_MS: u64 = 1_700_000_000_000;

struct Bench {
    driver: Driver<Still, NoMemory>,
    mempool: SharedMempool,
    chain_id: Hash,
    _folder: TempDir,
}

impl Bench {
    /// The driver of agency `of`, one of `agencies`. The others have said that they hold nothing of its key.
    fn new(agencies: usize, of: usize) -> Self {
        let (folder, genesis) = (tempfile::tempdir().expect("a folder"), genesis(agencies));
        let chain = Chain::open(folder.path(), &genesis, &StoreOptions::default()).expect("new");
        let mempool = Arc::new(Mutex::new(Mempool::new(MempoolLimits::default())));
        let key_of = |agency| key(1, agency);
        let signer = VotingKey {
            public: key_of(of).public(),
            key: Ok(key_of(of)),
            journal: NoMemory,
            entries: Vec::new(),
        };
        let parts = DriverParts {
            chain,
            signer,
            next_signer: None,
            mempool: Arc::clone(&mempool),
            own_peer: key(2, of).public(),
            more_peers: Vec::new(),
            timing: Timing::default(),
            metrics: Metrics::new(|_| {}),
        };
        let outside = Still { unix_ms: NOW_MS, ..Still::default() };
        let mut driver = Driver::new(parts, outside);
        driver.begin().expect("no fault");
        for other in (0..agencies).filter(|other| *other != of) {
            let (peer, validator) = (key(2, other).public(), key_of(of).public());
            let (tip_height, signed) = (0, Signatures::default());
            let told = DriverInput::OwnSignatures { peer, validator, tip_height, signed };
            driver.take(told).expect("no fault");
        }
        assert!(driver.core().is_signing());
        let chain_id = genesis.chain_id();
        Self { driver, mempool, chain_id, _folder: folder }
    }

    /// A follower of the first height of two agencies.
    fn follower() -> Self {
        let first = Self::new(2, 0);
        if first.driver.core().leader() == key(1, 0).public() { Self::new(2, 1) } else { first }
    }

    fn has(&self, number: u64, signer: &SigningKey, not_after_ms: u64) {
        let transaction = signed_until(self.chain_id, (0, signer), number, not_after_ms);
        lock(&self.mempool).insert(Arc::new(transaction)).expect("room");
    }

    /// Goes on for `ms` milliseconds, as its timers say.
    fn wait(&mut self, ms: u64) {
        let end = self.driver.outside.monotonic_ms + ms;
        while let Some(at) = self.driver.wake_at().filter(|at| *at <= end) {
            let passed = at.saturating_sub(self.driver.outside.monotonic_ms);
            self.driver.outside.monotonic_ms += passed;
            self.driver.outside.unix_ms += passed;
            self.driver.tick().expect("no fault");
        }
        let rest = end - self.driver.outside.monotonic_ms;
        self.driver.outside.monotonic_ms += rest;
        self.driver.outside.unix_ms += rest;
    }

    fn work(&mut self) {
        self.driver.work().expect("no fault");
    }

    /// Transactions in each committed block.
    fn blocks(&self) -> Vec<usize> {
        self.driver.outside.committed.iter().map(|block| block.transactions.len()).collect()
    }
}

#[test]
fn what_has_expired_makes_no_block_and_what_has_not_makes_one() {
    let mut bench = Bench::new(1, 0);
    bench.has(1, &key(3, 0), NOW_MS - 1);
    bench.work();
    bench.wait(60_000);
    assert_eq!(bench.blocks(), [0; 0]);
    bench.has(2, &key(3, 0), NOW_MS + 60_001);
    bench.work();
    assert_eq!(bench.blocks(), [1], "a leader takes it as long as it may");
    assert_eq!(lock(&bench.mempool).count(), 0);
}

#[test]
fn a_leader_of_whose_candidates_none_can_be_taken_proposes_nothing() {
    let mut bench = Bench::new(1, 0);
    for number in 0..3 {
        // A key that the registry does not have: as of an outbox that is older than the store.
        bench.has(number, &key(9, 0), NOW_MS + 60_000);
    }
    bench.work();
    bench.wait(5_000);
    assert_eq!((bench.blocks(), lock(&bench.mempool).count()), (vec![], 0));
    bench.has(4, &key(3, 0), NOW_MS + 60_000);
    bench.work();
    assert_eq!(bench.blocks(), [1]);
    bench.wait(600_000);
    assert_eq!(bench.blocks(), [1, 0], "the heartbeat");
}

#[test]
fn a_leader_is_not_passed_over_for_what_it_may_have_seen_expire() {
    let skew_ms = 30_000;
    for (not_after_ms, nullifies) in [
        (NOW_MS - 1, false),
        (NOW_MS + skew_ms / 2 - 1, false),
        (NOW_MS + skew_ms, true),
        // Beyond what a leader takes whose clock is a little behind.
        (NOW_MS + 86_400_000 + skew_ms, false),
        (NOW_MS + 86_400_000 + 100, true),
    ] {
        let mut bench = Bench::follower();
        bench.has(1, &key(3, 0), not_after_ms);
        bench.work();
        bench.wait(3_000);
        let nullified = bench.driver.outside.said.iter().any(|message| match message {
            Message::Vote(vote) => vote.ballot.kind == VoteKind::Nullify,
            _ => false,
        });
        let left = i128::from(not_after_ms) - i128::from(NOW_MS);
        assert_eq!(nullified, nullifies, "{left} ms before it ends");
    }
}

#[test]
fn what_expires_while_it_waits_is_no_work_any_more() {
    let mut bench = Bench::follower();
    bench.has(1, &key(3, 0), NOW_MS + 15_500);
    bench.work();
    assert!(bench.driver.pending);
    bench.driver.outside.unix_ms += 1_000;
    bench.driver.tick().expect("no fault");
    assert!(!bench.driver.pending);
}
