use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use customhouse_ledger::{
    agency::AgencyCode,
    finality::{
        certificate::Certificate,
        header::{Block, Header},
        validators::{Validator, ValidatorSet},
        vote::{Ballot, Vote, VoteKind},
    },
    hash::Hash,
    keys::SigningKey,
    transaction::VerifiedTransaction,
};

use super::*;
use crate::driver::answers;

/// How a peer behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// Has the blocks up to a height, and gives at most `at_once` of them at once.
    Honest { up_to: u64, at_once: u64 },
    /// Has nothing.
    Silent,
    /// Never answers.
    Stuck,
    /// Answers what does not verify.
    Forging,
    /// Gives genuine blocks of other heights.
    Shifting,
    /// Gives blocks that others than the known validators are said to have decided, and had not.
    ForgingLater,
    /// Gives genuine headers with leaves that are not theirs: the ledger finds out.
    WrongLeaves,
}

const HONEST: Peer = Peer::Honest { up_to: u64::MAX, at_once: u64::MAX };

/// Peers, and a driver that commits what follows on its tip.
#[derive(Clone)]
struct World {
    peers: Arc<Vec<(PublicKey, Peer)>>,
    finalization: Arc<Certificate>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    tip: u64,
    /// What the peers have decided.
    others: u64,
    /// How much they go on when they are asked for what they do not have yet.
    more: u64,
    /// What a peer has shown to be decided.
    decided: u64,
    /// What honest peers have at least.
    grown: u64,
    asked: BTreeMap<PublicKey, u64>,
    doubts: BTreeMap<PublicKey, Vec<Doubt>>,
    applied_of: BTreeMap<PublicKey, u64>,
}

fn key(number: usize) -> SigningKey {
    SigningKey::from_seed(&[u8::try_from(number + 1).expect("few"); 32])
}

fn finalization() -> Certificate {
    let agency: AgencyCode = "A000".parse().expect("a code");
    let validator = Validator { agency, key: key(0).public() };
    let set = ValidatorSet::new(vec![validator]).expect("a set");
    let ballot = Ballot { kind: VoteKind::Finalize, height: 1, view: 1, block_hash: Hash([1; 32]) };
    let vote = Vote::sign(ballot, &Hash::ZERO, &key(0));
    Certificate::from_votes(ballot, &[vote], &set).expect("a quorum")
}

fn block(height: u64) -> Block {
    let header = Header {
        version: Header::VERSION,
        chain_id: Hash::ZERO,
        height,
        time_ms: height,
        parent_hash: Hash::ZERO,
        log_start: 0,
        log_size: 0,
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
    Block { header, leaves: Vec::new() }
}

impl World {
    fn new(peers: &[Peer]) -> Self {
        let peers = peers.iter().enumerate().map(|(number, peer)| (key(number).public(), *peer));
        Self {
            peers: Arc::new(peers.collect()),
            finalization: Arc::new(finalization()),
            state: Arc::default(),
        }
    }

    fn peer(&self, key: &PublicKey) -> Peer {
        let found = self.peers.iter().find(|(listed, _)| listed == key);
        found.expect("only these are connected").1
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with it")
    }

    fn asked(&self, number: usize) -> u64 {
        self.state().asked.get(&key(number).public()).copied().unwrap_or(0)
    }

    async fn reaches(&self, height: u64) {
        let reached = async {
            while self.tip() < height {
                tokio::task::yield_now().await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(20), reached).await;
        reached.unwrap_or_else(|_| panic!("height {height} is not reached: {}", self.tip()));
    }

    fn doubts_of(&self, number: usize) -> Vec<Doubt> {
        self.state().doubts.get(&key(number).public()).cloned().unwrap_or_default()
    }

    fn applied_of(&self, number: usize) -> u64 {
        self.state().applied_of.get(&key(number).public()).copied().unwrap_or(0)
    }

    /// Catches up to a height that is the newest when it begins.
    async fn catches_up(&self, height: u64) {
        self.state().others = height;
        catch_up(self.clone(), height).await;
    }

    fn decided_when_asked_for(&self, height: u64) -> u64 {
        let mut state = self.state();
        if height > state.others && state.more > 0 {
            (state.others, state.more) = (height, state.more - 1);
        }
        state.others
    }

    fn blocks(&self, heights: impl Iterator<Item = u64>) -> Answer {
        let certified = |height| CertifiedBlock {
            block: block(height),
            transactions: Vec::new(),
            unread: Vec::new(),
            finalization: Certificate::clone(&self.finalization),
            verified: true,
        };
        let blocks: Blocks = heights.map(certified).collect();
        let newest = blocks.last().map_or(0, CertifiedBlock::height);
        let mut state = self.state();
        state.decided = state.decided.max(newest);
        if blocks.is_empty() { Answer::Nothing } else { Answer::Blocks(blocks) }
    }
}

impl Source for World {
    fn tip(&self) -> u64 {
        self.state().tip
    }

    fn connected(&self) -> Vec<PublicKey> {
        self.peers.iter().map(|(key, _)| *key).collect()
    }

    fn is_closed(&self) -> bool {
        false
    }

    fn decided(&self) -> u64 {
        self.state().decided
    }

    fn doubted(&self) -> BTreeSet<PublicKey> {
        self.state().doubts.keys().copied().collect()
    }

    fn doubt(&self, peer: PublicKey, doubt: Doubt) {
        self.state().doubts.entry(peer).or_default().push(doubt);
    }

    async fn ask(&self, peer: PublicKey, heights: RangeInclusive<u64>) -> Answer {
        *self.state().asked.entry(peer).or_default() += 1;
        tokio::task::yield_now().await;
        match self.peer(&peer) {
            Peer::Honest { up_to, at_once } => {
                let at_once = usize::try_from(at_once).unwrap_or(usize::MAX);
                let decided = self.decided_when_asked_for(*heights.start());
                let up_to = up_to.max(self.state().grown).min(decided);
                self.blocks(heights.filter(|height| *height <= up_to).take(at_once))
            }
            Peer::Silent => Answer::Nothing,
            Peer::Stuck => std::future::pending().await,
            Peer::Forging => Answer::Wrong,
            Peer::Shifting => self.blocks(heights.map(|height| height + 1)),
            Peer::WrongLeaves | Peer::ForgingLater => self.blocks(heights),
        }
    }

    async fn apply(&self, from: PublicKey, blocks: Blocks) -> Applied {
        tokio::task::yield_now().await;
        let mut state = self.state();
        let lied = self.peer(&from) == Peer::ForgingLater;
        for certified in blocks.iter().filter(|_| !lied) {
            if self.peer(&from) != Peer::WrongLeaves && certified.height() == state.tip + 1 {
                state.tip += 1;
                *state.applied_of.entry(from).or_default() += 1;
            }
        }
        Applied { tip: state.tip, lied }
    }

    async fn patience(&self) {
        // Longer than any honest peer takes.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
    }

    async fn pause(&self) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn all_peers_give_their_share() {
    let world = World::new(&[HONEST; 3]);
    world.catches_up(10_000).await;
    assert_eq!(world.tip(), 10_000);
    for number in 0..3 {
        assert!(world.applied_of(number) > 2_000, "peer {number}: {}", world.applied_of(number));
    }
}

#[tokio::test]
async fn a_lying_peer_is_dropped_and_its_blocks_taken_elsewhere() {
    let kinds =
        [Peer::Forging, Peer::ForgingLater, Peer::Shifting, Peer::WrongLeaves, Peer::Silent];
    for liar in kinds {
        for place in 0..3 {
            let mut peers = [HONEST; 3];
            peers[place] = liar;
            let world = World::new(&peers);
            world.catches_up(1_000).await;
            assert_eq!(world.tip(), 1_000, "{liar:?} at {place}");
            assert_eq!(world.applied_of(place), 0);
            // That the ledger refuses leaves is known when others wait already.
            let known_late = matches!(liar, Peer::WrongLeaves | Peer::ForgingLater);
            let asked_max = if known_late { 8 } else { 2 };
            assert!(world.asked(place) <= asked_max, "{liar:?}: {}", world.asked(place));
        }
    }
}

#[tokio::test]
async fn one_honest_peer_among_liars_is_enough() {
    let liars = [Peer::Forging, Peer::Shifting, Peer::WrongLeaves, Peer::Silent];
    for place in 0..=liars.len() {
        let mut peers = liars.to_vec();
        peers.insert(place, Peer::Honest { up_to: u64::MAX, at_once: 3 });
        let world = World::new(&peers);
        world.catches_up(500).await;
        assert_eq!((world.tip(), world.applied_of(place)), (500, 500));
    }
}

#[tokio::test]
async fn peers_that_never_answer_hold_nobody_up() {
    for stuck in [1, 4, 12] {
        let mut peers = vec![Peer::Stuck; stuck];
        peers.push(HONEST);
        let world = World::new(&peers);
        world.catches_up(2_000).await;
        assert_eq!((world.tip(), world.applied_of(stuck)), (2_000, 2_000), "{stuck} are stuck");
        assert!((0..stuck).all(|number| world.asked(number) <= 2), "they are not asked again");
    }
}

#[tokio::test]
async fn a_peer_that_gives_a_block_at_a_time_makes_no_smaller_pieces_of_what_others_give() {
    for at_once in [1, 3] {
        let world = World::new(&[Peer::Honest { up_to: u64::MAX, at_once }, HONEST, HONEST]);
        world.catches_up(10_000).await;
        assert_eq!(world.tip(), 10_000);
        let asked: u64 = (0..3).map(|number| world.asked(number)).sum();
        assert!(asked < 200, "{at_once} at once: {asked} questions");
    }
}

#[test]
fn a_late_answer_is_taken_and_what_it_covers_is_not_asked_for_again() {
    let world = World::new(&[HONEST; 2]);
    let peers = world.connected();
    let mut plan = Plan::new(1..=10, BTreeSet::new());
    let (slow, heights) = plan.ask(&peers, 0).expect("somebody");
    assert_eq!(heights, 1..=1);
    assert!(!plan.give_up_waiting(&[slow]), "there is nobody else");
    assert!(plan.give_up_waiting(&peers));
    let (other, again) = plan.ask(&peers, 0).expect("the other");
    assert!(other != slow && again == heights);
    plan.answered(slow, heights.clone(), world.blocks(heights));
    let (from, blocks) = plan.ready(0).expect("the late answer");
    assert_eq!((from, heights_of(&blocks)), (slow, 1..=1));
    // The other's fails when its turn has passed.
    plan.answered(other, again, Answer::Nothing);
    assert_eq!(plan.ask(&peers, 1), None, "both are of no help");
    plan.forgive();
    let (_, next) = plan.ask(&peers, 1).expect("either");
    assert_eq!(*next.start(), 2);
}

#[test]
fn what_is_missing_twice_is_missing_as_far_as_either() {
    let world = World::new(&[HONEST]);
    let mut plan = Plan::new(1..=10, BTreeSet::new());
    plan.miss(1..=4);
    let mut tip = 0;
    while let Some((peer, heights)) = plan.ask(&world.connected(), tip) {
        tip = *heights.end();
        plan.answered(peer, heights.clone(), world.blocks(heights));
        plan.ready(tip - 1);
    }
    assert_eq!(tip, 10);
}

#[tokio::test]
async fn peers_that_are_behind_give_what_they_have() {
    let behind = |up_to| Peer::Honest { up_to, at_once: 20 };
    let world = World::new(&[behind(100), behind(0), behind(300)]);
    world.catches_up(300).await;
    assert_eq!(world.tip(), 300);
    assert!(world.applied_of(0) > 0);
}

#[tokio::test]
async fn it_ends_where_nobody_has_what_was_claimed() {
    let honest = Peer::Honest { up_to: 50, at_once: 7 };
    let world = World::new(&[honest, honest, Peer::Silent]);
    world.catches_up(u64::MAX).await;
    assert_eq!(world.tip(), 50);
    // Six pieces of seven blocks and one of eight, and once more each.
    assert!((0..3).all(|number| world.asked(number) < 20), "nobody is asked again for a claim");
}

#[tokio::test]
async fn who_lied_is_charged_for_what_it_was_asked_and_who_is_late_is_not() {
    for (kind, expected) in [
        (Peer::Forging, Some(Doubt::Lied)),
        (Peer::Shifting, Some(Doubt::Lied)),
        (Peer::ForgingLater, Some(Doubt::Lied)),
        (Peer::Stuck, Some(Doubt::Late)),
        (Peer::Silent, None),
    ] {
        let world = World::new(&[kind, HONEST, HONEST]);
        world.catches_up(300).await;
        let doubts = world.doubts_of(0);
        assert!(doubts.len() <= 2 && doubts.iter().all(|doubt| Some(*doubt) == expected));
        assert_eq!(doubts.first().copied(), expected, "{kind:?}");
        assert!(world.doubts_of(1).is_empty() && world.doubts_of(2).is_empty());
    }
}

#[tokio::test]
async fn who_lied_or_was_late_is_asked_last_the_next_time_and_not_waited_for() {
    for kind in [Peer::Forging, Peer::Shifting, Peer::Stuck] {
        let world = World::new(&[kind, HONEST, HONEST]);
        world.catches_up(300).await;
        let asked = world.asked(0);
        for target in [600, 900, 1_200] {
            world.catches_up(target).await;
        }
        assert_eq!(world.tip(), 1_200, "{kind:?}");
        assert_eq!(world.asked(0), asked, "{kind:?} is not asked again");
    }
}

/// A height that nobody has is claimed, and whoever claims it never answers. The others commit a block now
/// and then, which this node gets as soon as they have it.
#[tokio::test]
async fn a_claim_that_is_never_made_good_keeps_nobody_from_what_the_others_have() {
    let behind = |up_to| Peer::Honest { up_to, at_once: u64::MAX };
    let world = World::new(&[Peer::Stuck, behind(50), behind(50)]);
    let claimed = world.clone();
    let catching_up = tokio::spawn(async move { claimed.catches_up(u64::MAX - 1).await });
    world.reaches(50).await;
    for up_to in 51..60 {
        world.state().grown = up_to;
        world.reaches(up_to).await;
    }
    catching_up.abort();
}

#[tokio::test]
async fn what_is_decided_meanwhile_is_asked_for_too() {
    let world = World::new(&[HONEST; 3]);
    world.state().more = 3;
    world.catches_up(100).await;
    assert_eq!(world.tip(), 103);
    let asked: u64 = (0..3).map(|number| world.asked(number)).sum();
    assert!(asked < 60, "asked {asked} times");
}

#[tokio::test]
async fn a_node_that_stays_behind_does_not_go_on_one_by_one() {
    let world = World::new(&[HONEST; 3]);
    world.state().more = u64::MAX;
    world.catches_up(100).await;
    assert_eq!(world.tip(), 108);
}

#[test]
fn what_waits_is_limited_and_what_all_wait_for_is_asked_for_in_any_case() {
    let world = World::new(&[HONEST; 20]);
    let peers = world.connected();
    let mut plan = Plan::new(1..=1_000_000, BTreeSet::new());
    let (first, first_heights) = plan.ask(&peers, 0).expect("somebody");
    let mut pieces = 1;
    while let Some((peer, heights)) = plan.ask(&peers, 0) {
        plan.answered(peer, heights.clone(), world.blocks(heights));
        pieces += 1;
    }
    assert_eq!(pieces, 4);
    assert!(plan.ready(0).is_none(), "the first is not there");
    plan.answered(first, first_heights.clone(), Answer::Nothing);
    let (other, heights) = plan.ask(&peers, 0).expect("another is asked");
    assert_eq!((other != first, &heights), (true, &first_heights));
    plan.answered(other, heights.clone(), world.blocks(heights));
    let (from, blocks) = plan.ready(0).expect("the first");
    assert_eq!((from, heights_of(&blocks)), (other, first_heights));
}

/// The piece that is asked for after eight with blocks of this many transactions of 50 kB.
fn piece_after(transactions: u64) -> u64 {
    let world = World::new(&[HONEST]);
    let mut plan = Plan::new(1..=1_000_000, BTreeSet::new());
    let body = |number| {
        let encoded = answers::tests::transaction(number, 50_000);
        Arc::new(VerifiedTransaction::from_bytes(encoded, &Hash([9; 32])).expect("valid"))
    };
    let bodies: Vec<_> = (0..transactions).map(body).collect();
    let mut tip = 0;
    for _ in 0..8 {
        let (peer, heights) = plan.ask(&world.connected(), 0).expect("the only one");
        let Answer::Blocks(mut blocks) = world.blocks(heights.clone()) else {
            panic!("it is honest");
        };
        blocks.iter_mut().for_each(|block| block.transactions.clone_from(&bodies));
        tip = *heights.end();
        plan.answered(peer, heights, Answer::Blocks(blocks));
        plan.ready(tip - 1).expect("what was asked for");
    }
    let (_, heights) = plan.ask(&world.connected(), 0).expect("the only one");
    assert_eq!(*heights.start(), tip + 1);
    heights.count() as u64
}

#[test]
fn small_blocks_are_asked_for_together_and_large_ones_one_by_one() {
    assert_eq!([0, 1, 5, 50].map(piece_after), [128, 41, 8, 1]);
}

#[test]
fn what_consensus_decided_meanwhile_is_passed_over() {
    let world = World::new(&[HONEST; 3]);
    let mut plan = Plan::new(1..=12, BTreeSet::new());
    while let Some((peer, heights)) = plan.ask(&world.connected(), 0) {
        plan.answered(peer, heights.clone(), world.blocks(heights));
    }
    let (_, blocks) = plan.ready(5).expect("that with height 6");
    assert!(heights_of(&blocks).contains(&6));
    assert!(plan.ready(12).is_none());
}
