use std::collections::{BTreeMap, BTreeSet};

use customhouse_consensus::Validate;
use customhouse_ledger::{
    finality::{
        certificate::Certificate,
        header::Header,
        validators::{Validator, ValidatorSet},
        vote::{Ballot, Vote, VoteKind},
    },
    keys::SigningKey,
};

use super::*;
use crate::driver::answers;

/// How a peer answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// With what was asked for, after this many milliseconds.
    Honest(u64),
    /// The same, but it has bodies from a moment on only.
    HonestFrom(u64),
    /// With one body, after this many milliseconds.
    Drips(u64),
    /// With the same body, at once.
    Repeats,
    /// With bodies of something else, at once.
    Junk,
    /// Not at all, until the request has had its time.
    Silent,
}

/// When a request without an answer fails.
const REQUEST_MS: u64 = 15_000;

/// The request and the block that it is for, and what was given.
type Answer = ((u64, Hash), Option<Gave>);

/// Peers in virtual time.
struct World {
    gathering: Gathering,
    peers: Vec<(PublicKey, Peer)>,
    block: Block,
    bodies: BTreeMap<Hash, Arc<VerifiedTransaction>>,
    ms: u64,
    tip: u64,
    /// Answers by the times when they come and their numbers.
    answers: BTreeMap<(u64, u64), Answer>,
    asked: BTreeMap<PublicKey, u64>,
    open_max: usize,
    told: Vec<DriverInput>,
}

fn peer(number: usize) -> PublicKey {
    SigningKey::from_seed(&[u8::try_from(number + 1).expect("few"); 32]).public()
}

fn body(number: u64, padding: usize) -> Arc<VerifiedTransaction> {
    let encoded = answers::tests::transaction(number, padding);
    Arc::new(VerifiedTransaction::from_bytes(encoded, &Hash([9; 32])).expect("valid"))
}

fn block(leaves: Vec<Hash>) -> Block {
    let header = Header {
        version: Header::VERSION,
        chain_id: Hash::ZERO,
        height: 1,
        time_ms: 1,
        parent_hash: Hash::ZERO,
        log_start: 0,
        log_size: leaves.len() as u64,
        log_root: Hash::ZERO,
        history_size: 0,
        history_root: Hash::ZERO,
        registry_root: Hash::ZERO,
        outcomes_root: Hash::ZERO,
        validators_hash: Hash::ZERO,
        next_validators_hash: Hash::ZERO,
        proposer: [0; 32],
        view: 1,
    };
    Block { header, leaves }
}

impl World {
    fn new(peers: &[Peer], bodies: u64, padding: usize) -> Self {
        let bodies: BTreeMap<_, _> =
            (0..bodies).map(|n| body(n, padding)).map(|body| (body.leaf_hash(), body)).collect();
        Self {
            gathering: Gathering::default(),
            peers: peers.iter().enumerate().map(|(n, kind)| (peer(n), *kind)).collect(),
            block: block(bodies.keys().copied().collect()),
            bodies,
            ms: 0,
            tip: 0,
            answers: BTreeMap::new(),
            asked: BTreeMap::new(),
            open_max: 0,
            told: Vec::new(),
        }
    }

    /// The proposal of the first peer, of which nothing is here.
    fn validates(&mut self, view: u64) {
        let validate = Validate { block: self.block.clone(), view, new: true, from: Vec::new() };
        let leaves = self.block.leaves.clone();
        self.gathering.want_bodies(Purpose::Validate(validate), leaves, vec![peer(0)]);
    }

    fn stores(&mut self) {
        let (purpose, leaves) = (Purpose::Store(self.block.clone()), self.block.leaves.clone());
        self.gathering.want_bodies(purpose, leaves, Vec::new());
    }

    fn step(&mut self) {
        let connected: Vec<_> = self.peers.iter().map(|(key, _)| *key).collect();
        let now = Surroundings { ms: self.ms, tip: self.tip, connected: &connected };
        let (asks, told) = self.gathering.next(now);
        self.told.extend(told);
        for ask in asks {
            *self.asked.entry(ask.peer).or_default() += 1;
            let kind = self.peers.iter().find(|(key, _)| *key == ask.peer).expect("one").1;
            let (delay, gave) = self.answer(kind, &ask.request);
            let name = (ask.number, ask.block_hash);
            self.answers.insert((self.ms + delay, ask.number), (name, gave));
        }
        self.open_max = self.open_max.max(self.gathering.open());
    }

    fn answer(&self, kind: Peer, request: &Request) -> (u64, Option<Gave>) {
        let leaves = match request {
            Request::Transactions(request) => &request.leaves,
            Request::Block(_) if kind == Peer::Silent => return (REQUEST_MS, None),
            _ => return (10, Some(Gave::Block(Box::new(self.block.clone())))),
        };
        let read = |leaf: &Vec<u8>| Hash::from_slice(leaf).expect("a hash");
        let mut bytes = 0;
        let fits = |found: &Arc<VerifiedTransaction>| {
            bytes += found.encoded().len();
            bytes <= PIECE_BYTES as usize
        };
        let found = leaves.iter().filter_map(|leaf| self.bodies.get(&read(leaf)).cloned());
        let found: Vec<_> = found.take_while(fits).collect();
        let few = |count: usize| Gave::Transactions(found.iter().take(count).cloned().collect());
        match kind {
            Peer::Honest(ms) => (ms, Some(few(usize::MAX))),
            Peer::HonestFrom(ms) if self.ms >= ms => (10, Some(few(usize::MAX))),
            Peer::HonestFrom(_) => (10, Some(few(0))),
            Peer::Drips(ms) => (ms, Some(few(1))),
            Peer::Repeats => {
                (1, Some(Gave::Transactions(self.bodies.values().take(1).cloned().collect())))
            }
            Peer::Junk => (1, Some(Gave::Transactions(vec![body(9_999, 10)]))),
            Peer::Silent => (REQUEST_MS, None),
        }
    }

    /// Goes on until the driver has been told `told` things, or there is nothing left to happen.
    fn run(&mut self, told: usize) {
        self.step();
        while self.told.len() < told {
            let answer = self.answers.keys().next().map(|(at, _)| *at);
            let Some(at) = answer.into_iter().chain(self.gathering.wake_at()).min() else { return };
            self.ms = self.ms.max(at);
            assert!(self.ms < 600_000, "it takes for ever");
            while let Some(entry) = self.answers.first_entry().filter(|e| e.key().0 <= self.ms) {
                let (name, gave) = entry.remove();
                self.gathering.answered(name, gave);
            }
            self.step();
        }
    }

    /// Whether the driver was given all bodies.
    fn is_complete(&self) -> bool {
        self.told.iter().all(|told| match told {
            DriverInput::Bodies { transactions, .. } => {
                let found: BTreeSet<_> = transactions.iter().map(|t| t.leaf_hash()).collect();
                found.into_iter().eq(self.bodies.keys().copied())
            }
            _ => true,
        })
    }
}

#[test]
fn a_proposer_of_any_kind_holds_nobody_up_for_longer_than_a_moment() {
    let kinds = [Peer::Drips(5), Peer::Drips(14_000), Peer::Repeats, Peer::Junk, Peer::Silent];
    for kind in kinds {
        let mut world = World::new(&[kind, Peer::Honest(20), Peer::Honest(20)], 50, 100);
        world.validates(1);
        world.run(1);
        assert!(world.is_complete(), "{kind:?}");
        assert!(world.ms <= PATIENCE_MS + 200, "{kind:?}: {} ms", world.ms);
    }
}

#[test]
fn a_silent_proposer_costs_one_wait_and_not_one_a_height() {
    for kind in [Peer::Silent, Peer::Drips(14_000)] {
        let mut world = World::new(&[kind, Peer::Honest(20), Peer::Honest(20)], 50, 100);
        for height in 1..=20 {
            world.block.header.height = height;
            world.validates(1);
            world.run(usize::try_from(height).expect("few"));
            world.tip = height;
        }
        assert!(world.ms < PATIENCE_MS + 20 * 100, "{kind:?}: {} ms", world.ms);
        assert!(world.is_complete());
    }
}

#[test]
fn bodies_that_the_others_have_only_later_are_had_as_soon_as_they_have_them() {
    let late = Peer::HonestFrom(700);
    let mut world = World::new(&[Peer::Silent, late, late], 50, 100);
    world.stores();
    world.run(1);
    assert!(world.is_complete() && world.ms <= 700 + PAUSE_MAX_MS + PATIENCE_MS, "{}", world.ms);
}

#[test]
fn one_honest_peer_of_ten_is_enough() {
    let liars = [Peer::Silent, Peer::Drips(900), Peer::Junk];
    for place in 0..10 {
        let mut peers: Vec<_> = (0..10).map(|n| liars[n % liars.len()]).collect();
        peers[place] = Peer::Honest(50);
        let mut world = World::new(&peers, 40, 100);
        world.stores();
        world.run(1);
        assert!(world.is_complete(), "honest at {place}");
        assert!(world.ms < 8_000, "honest at {place}: {} ms", world.ms);
    }
}

#[test]
fn a_large_block_is_had_of_several_peers_at_once() {
    let mut world = World::new(&[Peer::Honest(100); 4], 60, 50_000);
    world.validates(1);
    world.run(1);
    assert!(world.is_complete());
    assert_eq!(world.asked.len(), 4, "{:?}", world.asked);
}

#[test]
fn where_the_way_to_this_node_is_slow_little_is_asked_for_twice() {
    let mut world = World::new(&[Peer::Honest(3_000); 4], 50, 100);
    for height in 1..=5 {
        world.block.header.height = height;
        world.validates(1);
        world.run(usize::try_from(height).expect("few"));
        world.tip = height;
    }
    assert!(world.is_complete());
    let asked: u64 = world.asked.values().sum();
    let pieces = 50_u64.div_ceil(PIECE_LEAVES_MIN as u64);
    assert!(asked <= 5 * pieces, "nothing is asked for twice: {asked}");
}

#[test]
fn a_vote_is_given_up_where_nobody_has_the_bodies_and_a_commit_is_not() {
    let nobody = [Peer::HonestFrom(20_000); 3];
    let mut world = World::new(&nobody, 5, 100);
    world.validates(1);
    world.run(1);
    assert!(!world.is_complete() && world.ms < 1_000, "the core asks again, in time");
    assert_eq!(world.gathering.count(), 0);
    let mut world = World::new(&nobody, 5, 100);
    world.stores();
    world.run(1);
    assert!(world.is_complete() && world.ms < 21_000, "{}", world.ms);
}

#[test]
fn what_is_asked_for_again_and_again_is_one_job() {
    let mut world = World::new(&[Peer::Silent; 3], 5, 100);
    let block_hash = world.block.hash();
    for _ in 0..360 {
        world.gathering.want_block(1, block_hash, vec![peer(1)]);
        world.stores();
        world.validates(1);
        world.step();
        world.told.clear();
        world.ms += 1_000;
    }
    assert_eq!(world.gathering.count(), 1);
    assert!(world.open_max <= 3 * ASKED_OF_ONE_MAX, "{} requests", world.open_max);
}

#[test]
fn no_number_of_blocks_makes_more_than_a_bounded_number_of_requests() {
    let mut world = World::new(&[Peer::Silent; 3], 5, 100);
    for view in 1..1_000 {
        world.block.header.view = view;
        world.validates(view);
        world.step();
    }
    let given_up = 999 - JOBS_MAX;
    assert_eq!((world.gathering.count(), world.told.len()), (JOBS_MAX, given_up));
    assert!(world.open_max <= JOBS_MAX * 3 * ASKED_OF_ONE_MAX);
    world.tip = 1;
    world.step();
    assert_eq!(world.gathering.count(), 0, "what is committed is wanted no more");
}

/// As many proposals as there is room for, which nobody gives the bodies of.
fn full_of_votes() -> World {
    let mut world = World::new(&[Peer::Silent; 3], 5, 100);
    for view in 1..=JOBS_MAX as u64 {
        world.block.header.view = view;
        world.validates(view);
    }
    world.step();
    assert_eq!((world.gathering.count(), world.told.len()), (JOBS_MAX, 0));
    world.peers[2].1 = Peer::Honest(20);
    world
}

#[test]
fn a_block_that_a_quorum_voted_for_has_room_before_those_that_are_only_to_be_voted_on() {
    let mut world = full_of_votes();
    world.block.header.view = 1_000;
    world.gathering.want_block(1, world.block.hash(), vec![peer(2)]);
    world.run(2);
    let [DriverInput::Bodies { purpose: Purpose::Validate(given_up), .. }, found] = &world.told[..]
    else {
        panic!("told {} things", world.told.len());
    };
    assert_eq!(given_up.view, 1, "the oldest");
    assert!(matches!(found, DriverInput::Block(block) if *block == world.block));
    assert!(world.ms < PATIENCE_MS, "{} ms", world.ms);
}

#[test]
fn bodies_of_a_decided_block_have_room_whatever_else_is_gathered() {
    let mut world = full_of_votes();
    world.told.clear();
    for view in 1_000..1_000 + JOBS_MAX as u64 {
        world.block.header.view = view;
        world.gathering.want_block(1, world.block.hash(), Vec::new());
    }
    world.step();
    assert_eq!(world.gathering.count(), JOBS_MAX, "no more than there is room for");
    world.told.clear();
    world.block.header.view = 2_000;
    let (block, leaves) = (world.block.clone(), world.block.leaves.clone());
    let finalization = finalization(&block);
    let purpose = Purpose::Commit { block, finalization };
    world.gathering.want_bodies(purpose, leaves, vec![peer(2)]);
    world.step();
    // Given up at once, it would be asked for again at once, for ever.
    assert_eq!(world.told.len(), 0);
    assert_eq!(world.gathering.count(), JOBS_MAX + 1);
}

#[test]
fn a_vote_that_waits_for_bodies_gives_a_decided_block_at_once() {
    let mut world = World::new(&[Peer::Silent, Peer::Honest(20)], 5, 100);
    world.validates(1);
    world.step();
    world.gathering.want_block(1, world.block.hash(), vec![peer(1)]);
    world.step();
    assert!(matches!(&world.told[..], [DriverInput::Block(block)] if *block == world.block));
    world.stores();
    world.run(3);
    assert!(world.is_complete(), "for the vote and for the store");
}

#[test]
fn a_block_is_asked_of_another_where_one_is_silent() {
    let mut world = World::new(&[Peer::Silent, Peer::Honest(20)], 5, 100);
    world.gathering.want_block(1, world.block.hash(), vec![peer(0)]);
    world.run(1);
    assert!(matches!(&world.told[..], [DriverInput::Block(_)]) && world.ms <= PATIENCE_MS + 20);
}

/// A finalization by the only validator.
fn finalization(block: &Block) -> Certificate {
    let key = SigningKey::from_seed(&[1; 32]);
    let agency = "A000".parse().expect("a code");
    let set = ValidatorSet::new(vec![Validator { agency, key: key.public() }]).expect("a set");
    let ballot = Ballot { kind: VoteKind::Finalize, height: 1, view: 1, block_hash: block.hash() };
    let vote = Vote::sign(ballot, &Hash::ZERO, &key);
    Certificate::from_votes(ballot, &[vote], &set).expect("a quorum")
}

#[test]
fn bodies_for_a_commit_are_waited_for_like_those_of_a_store() {
    let mut world = World::new(&[Peer::HonestFrom(5_000)], 5, 100);
    let (block, leaves) = (world.block.clone(), world.block.leaves.clone());
    let finalization = finalization(&block);
    world.gathering.want_bodies(Purpose::Commit { block, finalization }, leaves, Vec::new());
    world.run(1);
    assert!(world.is_complete() && world.ms >= 5_000);
}

#[test]
fn of_a_proposal_no_more_bodies_are_gathered_than_a_block_may_have() {
    // Five times what a block may have.
    let mut world = World::new(&[Peer::Honest(20); 4], 48, 900_000);
    world.validates(1);
    world.run(1);
    let [DriverInput::Bodies { transactions, .. }] = &world.told[..] else {
        panic!("told {} things", world.told.len());
    };
    let bytes: usize = transactions.iter().map(|body| body.encoded().len()).sum();
    assert!(bytes > BLOCK_BYTES_MAX, "enough to know: {bytes} bytes");
    let on_their_way = AWAITED_MAX * PIECE_BYTES as usize;
    assert!(bytes <= BLOCK_BYTES_MAX + on_their_way, "and no more: {bytes} bytes");
    assert_eq!(world.gathering.count(), 0, "nothing more is asked for");
}

#[test]
fn bodies_of_all_proposals_together_are_bounded_and_the_oldest_is_given_up() {
    let mut world = World::new(&[Peer::Honest(20), Peer::Silent], 8, 900_000);
    // One that only the peer that does not answer might have.
    world.block.leaves.push(Hash([7; 32]));
    let of_one: usize = world.bodies.values().map(|body| body.encoded().len()).sum();
    let fit = FOUND_BYTES_MAX / of_one;
    for view in 1..=fit as u64 + 1 {
        world.block.header.view = view;
        world.validates(view);
    }
    world.run(1);
    let [DriverInput::Bodies { purpose: Purpose::Validate(given_up), .. }] = &world.told[..] else {
        panic!("told {} things", world.told.len());
    };
    assert_eq!((given_up.view, world.gathering.count()), (1, fit));
    let held = world.gathering.found_bytes();
    assert!(held <= FOUND_BYTES_MAX, "{held} bytes");
}
