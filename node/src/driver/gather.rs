//! Getting the blocks and bodies that consensus waits for from peers: who is asked for what, and when
//! somebody else is.
//!
//! One job a block, whatever it is wanted for and how often it is asked for. Bodies are asked for in
//! pieces, of several peers at once; first of those that should have them. No peer is relied on:
//!
//! - What has not been answered for a second is asked of others too. It is taken when it comes. A
//!   peer that was this late is asked last for a minute, and nobody waits for it then.
//! - A peer that gives less than a piece (a body at a time, or nothing) is asked again only when all
//!   others have been asked.
//! - There is always room for a block that a quorum voted for: proposals that are only to be voted on
//!   give up theirs, the oldest first.
//! - The leaves of a block are compared with its header before anybody is asked for bodies, so that
//!   there is one list of them, whoever sends it.
//! - Leaves do not say how large their bodies are, and a proposer names as many as it likes. Once the
//!   bodies found of a block have more bytes than any block may, they are proof enough that no honest node
//!   votes for it, and nothing more is asked for. So a block that a quorum voted for never comes there.
//!
//! No socket, no clock: the node drives it ([`super::fetch`]) and the simulator does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use customhouse_ledger::{
    finality::header::Block, hash::Hash, keys::PublicKey, limits::BLOCK_BYTES_MAX,
    transaction::VerifiedTransaction,
};
use customhouse_proto::v1::{self, sync_request::Request};

use super::{DriverInput, Purpose};

/// Blocks gathered at once. Each is one that a quorum voted for, or the proposal of a view.
const JOBS_MAX: usize = 16;
/// Bytes of bodies that all jobs hold, from which on proposals that are only to be voted on give up theirs,
/// the oldest first: a few full blocks.
const FOUND_BYTES_MAX: usize = 4 * BLOCK_BYTES_MAX;
/// Leaf hashes in one request: a share of those that are missing, within these limits.
const PIECE_LEAVES_MIN: usize = 16;
const PIECE_LEAVES_MAX: usize = 1024;
/// Bytes of transactions that a peer is asked to give at once, beyond the first.
const PIECE_BYTES: u32 = 1 << 20;
/// Requests of a job that are waited for.
const AWAITED_MAX: usize = 4;
/// Requests of a job to one peer.
const ASKED_OF_ONE_MAX: usize = 2;
/// Without an answer for this long, somebody else is asked.
const PATIENCE_MS: u64 = 1_000;
/// The same where everybody was slow lately: the way to this node may be.
const PATIENCE_OF_ALL_MS: u64 = 4_000;
/// It doubles when answers are late, up to this.
const PATIENCE_MAX_MS: u64 = 8_000;
/// How long a peer that was late is asked last.
const SLOW_MS: u64 = 60_000;
/// Pause before peers that were of no help are asked again. It doubles while nobody helps.
const PAUSE_MS: u64 = 50;
/// The longest such pause.
const PAUSE_MAX_MS: u64 = 500;

/// Blocks being gathered.
#[derive(Default)]
pub struct Gathering {
    jobs: BTreeMap<Hash, Job>,
    asked: u64,
    /// Peers that were late, until when they are asked last.
    slow: BTreeMap<PublicKey, u64>,
    /// Inputs for the driver.
    told: Vec<DriverInput>,
}

/// Something to ask of a peer.
#[derive(Debug)]
pub struct Ask {
    /// Names it when the answer comes.
    pub number: u64,
    /// The peer to ask.
    pub peer: PublicKey,
    /// The block that it is for.
    pub block_hash: Hash,
    /// What to ask.
    pub request: Request,
}

/// What a peer gave, checked.
#[derive(Debug)]
pub enum Gave {
    /// Nothing.
    Nothing,
    /// What no honest peer gives: another block or one with leaves that are not its own, transactions that
    /// were not asked for or that break a rule, something of another kind.
    Wrong,
    /// The block; its leaves belong to its header.
    Block(Box<Block>),
    /// Transactions, whatever was asked for.
    Transactions(Vec<Arc<VerifiedTransaction>>),
}

/// How things stand around the node.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Monotonic milliseconds.
    pub ms: u64,
    /// The newest committed height.
    pub tip: u64,
    /// Connected peers.
    pub connected: &'a [PublicKey],
}

struct Job {
    height: u64,
    /// Once it is known.
    block: Option<Block>,
    /// Whether it is the block that is waited for, not its bodies.
    for_itself: bool,
    /// What the bodies are for: a vote in each of a few views, and a commit.
    purposes: Vec<Purpose>,
    /// The peers that are asked first.
    first: Vec<PublicKey>,
    /// Leaves that are not awaited from anybody.
    missing: BTreeSet<Hash>,
    /// All leaves that are wanted and not found.
    wanted: BTreeSet<Hash>,
    /// All leaves that were ever wanted.
    named: BTreeSet<Hash>,
    found: Vec<Arc<VerifiedTransaction>>,
    /// Bytes of those.
    found_bytes: usize,
    open: BTreeMap<u64, Open>,
    /// Peers that have been of no help since the last pause.
    unhelpful: BTreeSet<PublicKey>,
    /// Once somebody has been asked.
    patience_ms: Option<u64>,
    pause_ms: u64,
    again_at: Option<u64>,
}

/// A request without an answer yet.
struct Open {
    peer: PublicKey,
    late_at: u64,
    /// Others are asked, too.
    late: bool,
    /// Empty where the block is asked for.
    leaves: Vec<Hash>,
}

impl Gathering {
    /// Wants a block of a height for its own sake; these peers should have it.
    pub fn want_block(&mut self, height: u64, block_hash: Hash, first: Vec<PublicKey>) {
        if self.has_room_for(&block_hash) || self.make_room() {
            self.job(height, block_hash, first).for_itself = true;
        }
    }

    /// Wants bodies of a block; these peers should have them.
    pub fn want_bodies(&mut self, purpose: Purpose, missing: Vec<Hash>, first: Vec<PublicKey>) {
        let block = purpose.block().clone();
        // Only one block of a height is committed.
        let has_room = self.has_room_for(&block.hash())
            || purpose.is_needed() && self.make_room()
            || matches!(purpose, Purpose::Commit { .. });
        if !has_room {
            return self.told.push(DriverInput::Bodies { purpose, transactions: Vec::new() });
        }
        let job = self.job(block.header.height, block.hash(), first);
        for leaf in missing {
            if job.named.insert(leaf) {
                job.wanted.insert(leaf);
                job.missing.insert(leaf);
            }
        }
        job.block.get_or_insert(block);
        if !job.purposes.iter().any(|held| held.is_same(&purpose)) {
            job.purposes.push(purpose);
        }
    }

    fn has_room_for(&self, block_hash: &Hash) -> bool {
        self.jobs.len() < JOBS_MAX || self.jobs.contains_key(block_hash)
    }

    /// Gives up the oldest job that nothing but a vote waits for, if there is one.
    fn make_room(&mut self) -> bool {
        self.give_up_oldest(|_| true)
    }

    /// The same while the bodies found of all jobs have more bytes than is kept of them.
    fn make_room_for_bytes(&mut self) {
        while self.found_bytes() > FOUND_BYTES_MAX && self.give_up_oldest(|job| job.found_bytes > 0)
        {
        }
    }

    /// Bytes of the bodies found of blocks that are not complete.
    pub fn found_bytes(&self) -> usize {
        self.jobs.values().map(|job| job.found_bytes).sum()
    }

    /// Gives up the oldest of these jobs that nothing but a vote waits for, if there is one.
    fn give_up_oldest(&mut self, of: impl Fn(&Job) -> bool) -> bool {
        let jobs = self.jobs.iter().filter(|(_, job)| of(job));
        let votes = jobs.filter_map(|(hash, job)| Some((job.votes_in()?, *hash)));
        let Some((_, oldest)) = votes.min() else { return false };
        if let Some(mut job) = self.jobs.remove(&oldest) {
            job.give_up(&mut self.told);
        }
        true
    }

    /// The job of a block.
    fn job(&mut self, height: u64, block_hash: Hash, first: Vec<PublicKey>) -> &mut Job {
        let job = self.jobs.entry(block_hash).or_insert_with(|| Job::new(height));
        // Those who voted for it later have it for sure.
        let known = std::mem::replace(&mut job.first, first);
        let known = known.into_iter().filter(|peer| !job.first.contains(peer)).collect::<Vec<_>>();
        job.first.extend(known);
        job
    }

    /// What to ask, and what to tell the driver.
    pub fn next(&mut self, now: Surroundings<'_>) -> (Vec<Ask>, Vec<DriverInput>) {
        self.slow.retain(|_, until| *until > now.ms);
        // What is committed is no longer wanted.
        self.jobs.retain(|_, job| job.height > now.tip);
        let mut asks = Vec::new();
        let hashes: Vec<Hash> = self.jobs.keys().copied().collect();
        for block_hash in hashes {
            let Some(job) = self.jobs.get_mut(&block_hash) else { continue };
            job.look_at_the_clock(now, &mut self.slow);
            job.tell(&mut self.told);
            while let Some((peer, leaves)) = job.next_ask(now, &self.slow) {
                self.asked += 1;
                asks.push(job.ask(self.asked, (peer, leaves), (block_hash, now), &self.slow));
            }
            job.rest(now, &mut self.told);
        }
        self.jobs.retain(|_, job| !job.is_over());
        self.make_room_for_bytes();
        (asks, std::mem::take(&mut self.told))
    }

    /// Takes what came of a request, also where it is late. `None`: there was no answer.
    pub fn answered(&mut self, ask: (u64, Hash), gave: Option<Gave>) {
        let (number, block_hash) = ask;
        if let Some(job) = self.jobs.get_mut(&block_hash) {
            let gave = gave.unwrap_or(Gave::Nothing);
            if let (Gave::Wrong, Some(open)) = (&gave, job.open.get(&number)) {
                self.told.push(DriverInput::WrongBlock(open.peer));
            }
            job.answered(number, gave);
        }
    }

    /// When [`Gathering::next`] has something to do, answers apart, in monotonic milliseconds.
    pub fn wake_at(&self) -> Option<u64> {
        self.jobs.values().flat_map(Job::moments).min()
    }

    /// Requests without an answer.
    pub fn open(&self) -> usize {
        self.jobs.values().map(|job| job.open.len()).sum()
    }

    /// Blocks being gathered.
    pub fn count(&self) -> usize {
        self.jobs.len()
    }
}

impl Job {
    fn new(height: u64) -> Self {
        Self {
            height,
            block: None,
            for_itself: false,
            purposes: Vec::new(),
            first: Vec::new(),
            missing: BTreeSet::new(),
            wanted: BTreeSet::new(),
            named: BTreeSet::new(),
            found: Vec::new(),
            found_bytes: 0,
            open: BTreeMap::new(),
            unhelpful: BTreeSet::new(),
            patience_ms: None,
            pause_ms: PAUSE_MS,
            again_at: None,
        }
    }

    /// Whether nothing is waited for any more. A late answer would be of no use.
    fn is_over(&self) -> bool {
        !self.for_itself && self.purposes.is_empty()
    }

    /// The newest view in which the block is voted on; `None` where it is wanted for more than that.
    fn votes_in(&self) -> Option<u64> {
        let view = |purpose: &Purpose| match purpose {
            // What is not new has a quorum's votes.
            Purpose::Validate(validate) => validate.new.then_some(validate.view),
            Purpose::Store(_) | Purpose::Commit { .. } => None,
        };
        let views: Option<Vec<u64>> = self.purposes.iter().map(view).collect();
        views?.into_iter().max().filter(|_| !self.for_itself)
    }

    fn moments(&self) -> impl Iterator<Item = u64> {
        let late = self.open.values().filter(|open| !open.late).map(|open| open.late_at);
        late.chain(self.again_at)
    }

    fn look_at_the_clock(&mut self, now: Surroundings<'_>, slow: &mut BTreeMap<PublicKey, u64>) {
        let late = self.open.values_mut().filter(|open| !open.late && now.ms >= open.late_at);
        let mut any_late = false;
        for open in late {
            (open.late, any_late) = (true, true);
            slow.insert(open.peer, now.ms + SLOW_MS);
            let wanted = open.leaves.iter().filter(|leaf| self.wanted.contains(leaf));
            self.missing.extend(wanted);
        }
        if any_late {
            self.patience_ms = self.patience_ms.map(|ms| (2 * ms).min(PATIENCE_MAX_MS));
        }
        if self.again_at.is_some_and(|at| now.ms >= at) {
            self.again_at = None;
            self.pause_ms = (2 * self.pause_ms).min(PAUSE_MAX_MS);
            self.unhelpful.clear();
        }
    }

    /// Tells the driver of what is complete, or has more than any block may.
    fn tell(&mut self, told: &mut Vec<DriverInput>) {
        if let Some(block) = self.block.as_ref().filter(|_| self.for_itself) {
            told.push(DriverInput::Block(block.clone()));
            self.for_itself = false;
        }
        if self.wanted.is_empty() || self.found_bytes > BLOCK_BYTES_MAX {
            self.give_up(told);
        }
    }

    /// Hands over what was found, whatever it was wanted for.
    fn give_up(&mut self, told: &mut Vec<DriverInput>) {
        for purpose in std::mem::take(&mut self.purposes) {
            let transactions = self.found.clone();
            told.push(DriverInput::Bodies { purpose, transactions });
        }
    }

    /// Whom to ask next for what.
    fn next_ask(
        &self,
        now: Surroundings<'_>,
        slow: &BTreeMap<PublicKey, u64>,
    ) -> Option<(PublicKey, Vec<Hash>)> {
        let awaited = || self.open.values().filter(|open| !open.late);
        if self.is_over() || awaited().count() >= AWAITED_MAX {
            return None;
        }
        let share = self.wanted.len().div_ceil(AWAITED_MAX);
        let piece = share.clamp(PIECE_LEAVES_MIN, PIECE_LEAVES_MAX);
        let leaves: Vec<Hash> = self.missing.iter().take(piece).copied().collect();
        let wanted = match &self.block {
            None => awaited().next().is_none(),
            Some(_) => !leaves.is_empty(),
        };
        if !wanted {
            return None;
        }
        let load = |peer: &PublicKey| {
            let of_peer = self.open.values().filter(|open| open.peer == *peer);
            // A peer that is late is asked for nothing more.
            of_peer.map(|open| if open.late { ASKED_OF_ONE_MAX } else { 1 }).sum::<usize>()
        };
        let place = |peer: &PublicKey| {
            self.first.iter().position(|first| first == peer).unwrap_or(usize::MAX)
        };
        let can_be_asked =
            |peer: &&PublicKey| !self.unhelpful.contains(peer) && load(peer) < ASKED_OF_ONE_MAX;
        let free = now.connected.iter().filter(can_be_asked);
        let peer = free.min_by_key(|peer| (slow.contains_key(peer), load(peer), place(peer)))?;
        Some((*peer, leaves))
    }

    fn ask(
        &mut self,
        number: u64,
        (peer, leaves): (PublicKey, Vec<Hash>),
        (block_hash, now): (Hash, Surroundings<'_>),
        slow: &BTreeMap<PublicKey, u64>,
    ) -> Ask {
        let all_slow = now.connected.iter().all(|peer| slow.contains_key(peer));
        let patience_ms = if all_slow { PATIENCE_OF_ALL_MS } else { PATIENCE_MS };
        let late_at = now.ms + *self.patience_ms.get_or_insert(patience_ms);
        // Nobody waits for one that was late a moment ago, while there are others.
        let late = slow.contains_key(&peer) && !all_slow;
        let request = match &self.block {
            None => {
                let (height, block_hash) = (self.height, block_hash.0.to_vec());
                Request::Block(v1::BlockRequest { height, block_hash })
            }
            Some(_) => Request::Transactions(v1::TransactionsRequest {
                leaves: leaves.iter().map(|leaf| leaf.0.to_vec()).collect(),
                bytes_max: PIECE_BYTES,
            }),
        };
        if !late {
            leaves.iter().for_each(|leaf| {
                self.missing.remove(leaf);
            });
        }
        let leaves = if self.block.is_some() { leaves } else { Vec::new() };
        self.open.insert(number, Open { peer, late_at, late, leaves });
        Ask { number, peer, block_hash, request }
    }

    /// Where nobody is left to be asked, waits a moment before all are asked again, or gives up what
    /// can be given up when nobody may answer any more.
    fn rest(&mut self, now: Surroundings<'_>, told: &mut Vec<DriverInput>) {
        let awaits = self.open.values().any(|open| !open.late);
        if self.is_over() || awaits || self.again_at.is_some() {
            return;
        }
        self.again_at = Some(now.ms + self.pause_ms);
        let all_said_no = self.open.is_empty() && !self.unhelpful.is_empty();
        if all_said_no && !self.for_itself && !self.purposes.iter().any(Purpose::is_needed) {
            self.give_up(told);
        }
    }

    fn answered(&mut self, number: u64, gave: Gave) {
        let Some(Open { peer, leaves, late, .. }) = self.open.remove(&number) else { return };
        let helped = match gave {
            Gave::Block(block) => {
                self.block.get_or_insert(*block);
                true
            }
            Gave::Transactions(transactions) => self.keep(transactions, &leaves),
            Gave::Nothing | Gave::Wrong => false,
        };
        if helped {
            self.pause_ms = PAUSE_MS;
        } else {
            self.unhelpful.insert(peer);
        }
        if !late {
            let wanted = leaves.into_iter().filter(|leaf| self.wanted.contains(leaf));
            self.missing.extend(wanted);
        }
    }

    /// Keeps what is wanted. Whether a peer gave all it was asked for, or as much as a piece.
    fn keep(&mut self, transactions: Vec<Arc<VerifiedTransaction>>, leaves: &[Hash]) -> bool {
        let mut bytes = 0;
        for transaction in transactions {
            let leaf_hash = transaction.leaf_hash();
            if self.wanted.remove(&leaf_hash) {
                self.missing.remove(&leaf_hash);
                bytes += transaction.encoded().len();
                self.found.push(transaction);
            }
        }
        self.found_bytes += bytes;
        bytes >= PIECE_BYTES as usize / 2 || !leaves.iter().any(|leaf| self.wanted.contains(leaf))
    }
}

#[cfg(test)]
mod tests;
