//! Which heights are asked of whom, and which answers wait for those before them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use customhouse_ledger::keys::PublicKey;

use super::{Answer, Applied, Blocks, Doubt, heights_of};
use crate::driver::{CertifiedBlock, answers::BLOCKS_MAX};

/// Pieces that are asked for or wait for those before them. An answer is at most a full block or so
/// of bytes; this limits how many are in memory. More of them would be checked long before their turn,
/// and leave a core idle while the driver applies them at the end.
const PIECES_MAX: usize = 4;
/// Pieces that a peer is asked for at a time: while one is checked here, the other is on its way.
const ASKED_OF_ONE_MAX: usize = 2;
/// Heights of the first pieces. Blocks may be full: the first to come is applied while the others are
/// being checked.
const PIECE_FIRST: u64 = 1;
/// Bytes of transactions that a piece should have, unless one block has more: the driver waits for the
/// whole of it to be checked.
const PIECE_BYTES: u64 = 2 << 20;

/// The state of a catch-up.
pub(super) struct Plan {
    /// Heights that nobody is being asked for, first to last: disjoint, except for what was asked for anew.
    missing: BTreeMap<u64, u64>,
    /// What is being asked for, and of whom.
    asked: Vec<(PublicKey, RangeInclusive<u64>)>,
    /// The same, where the answer is late and others are asked too. It is taken when it comes.
    late: Vec<(PublicKey, RangeInclusive<u64>)>,
    /// Answers by their first height.
    waiting: BTreeMap<u64, (PublicKey, Blocks)>,
    /// Peers whose answer was wrong.
    liars: BTreeSet<PublicKey>,
    /// Peers that had no answer, or a late one, or blocks that led nowhere.
    unhelpful: BTreeSet<PublicKey>,
    /// Peers that gave fewer blocks than they were asked for, the last time.
    short: BTreeSet<PublicKey>,
    /// Peers that were wrong or late lately: asked last, and not waited for while there are others.
    doubted: BTreeSet<PublicKey>,
    /// Peers that have come to be doubted, and why; taken out by [`Plan::doubts`].
    new_doubts: Vec<(PublicKey, Doubt)>,
    /// Answers had of each peer: the one with the fewest is asked first.
    answers: BTreeMap<PublicKey, u64>,
    /// Heights to ask for at once: as many as fit an answer.
    piece: u64,
}

impl Plan {
    pub(super) fn new(heights: RangeInclusive<u64>, doubted: BTreeSet<PublicKey>) -> Self {
        let mut plan = Self {
            missing: BTreeMap::new(),
            asked: Vec::new(),
            late: Vec::new(),
            waiting: BTreeMap::new(),
            liars: BTreeSet::new(),
            unhelpful: BTreeSet::new(),
            short: BTreeSet::new(),
            doubted,
            new_doubts: Vec::new(),
            answers: BTreeMap::new(),
            piece: PIECE_FIRST,
        };
        plan.miss(heights);
        plan
    }

    /// Some of these heights may be missing already, for example those of a late answer: none is forgotten.
    pub(super) fn miss(&mut self, heights: RangeInclusive<u64>) {
        if !heights.is_empty() {
            let last = self.missing.entry(*heights.start()).or_default();
            *last = (*last).max(*heights.end());
        }
    }

    /// The next piece and whom to ask for it, if there is both and room for the answer.
    pub(super) fn ask(
        &mut self,
        connected: &[PublicKey],
        tip: u64,
    ) -> Option<(PublicKey, RangeInclusive<u64>)> {
        self.pass_over(tip);
        let (&first, &last) = self.missing.first_key_value()?;
        // What all others wait for is asked for in any case.
        let is_next = self.waiting.keys().next().is_some_and(|&waiting| first < waiting);
        if self.asked.len() + self.waiting.len() >= PIECES_MAX && !is_next {
            return None;
        }
        let peer = self.free(connected)?;
        let end = last.min(first.saturating_add(self.piece - 1));
        if !self.is_waited_for(&peer, connected) {
            // Others are asked for it as soon as they can be.
            self.late.push((peer, first..=end));
            return Some((peer, first..=end));
        }
        self.missing.remove(&first);
        self.miss(end.saturating_add(1)..=last);
        self.asked.push((peer, first..=end));
        Some((peer, first..=end))
    }

    /// What was asked for anew may have come from the peer that was asked first.
    fn pass_over(&mut self, tip: u64) {
        while let Some((&first, &last)) = self.missing.first_key_value()
            && first <= tip
        {
            self.missing.remove(&first);
            self.miss(tip.saturating_add(1)..=last);
        }
    }

    /// The peer to ask next, of those that can be asked: first those that are not doubted, then those
    /// that give all that they are asked for, then the one that is asked for the least, and has answered
    /// least.
    fn free(&self, connected: &[PublicKey]) -> Option<PublicKey> {
        let load = |peer: &PublicKey| {
            self.asked.iter().chain(&self.late).filter(|(asked, _)| asked == peer).count()
        };
        let can_be_asked = |peer: &&PublicKey| {
            let max = if self.is_waited_for(peer, connected) { ASKED_OF_ONE_MAX } else { 1 };
            !self.liars.contains(peer) && !self.unhelpful.contains(peer) && load(peer) < max
        };
        let free = connected.iter().filter(can_be_asked);
        let answers = |peer: &PublicKey| self.answers.get(peer).copied().unwrap_or(0);
        free.min_by_key(|peer| {
            (self.doubted.contains(peer), self.short.contains(peer), load(peer), answers(peer))
        })
        .copied()
    }

    /// Whether a peer's answer is worth waiting for: it is not doubted, or all are.
    fn is_waited_for(&self, peer: &PublicKey, connected: &[PublicKey]) -> bool {
        let is_doubted = |peer: &PublicKey| self.doubted.contains(peer);
        !is_doubted(peer) || connected.iter().all(is_doubted)
    }

    /// Whether an answer is waited for that is not late.
    pub(super) fn awaits(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Whether an answer may come that is late.
    pub(super) fn is_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// The peers that have come to be doubted since this was called last.
    pub(super) fn doubts(&mut self) -> impl Iterator<Item = (PublicKey, Doubt)> + use<> {
        std::mem::take(&mut self.new_doubts).into_iter()
    }

    fn doubt(&mut self, peer: PublicKey, doubt: Doubt) {
        self.doubted.insert(peer);
        self.new_doubts.push((peer, doubt));
    }

    /// No answer has come for a while. Where there is somebody else, what these peers were asked for is
    /// asked of others, also of those that were of no help, and they themselves only when there is nobody
    /// else. Gives whether there is.
    pub(super) fn give_up_waiting(&mut self, connected: &[PublicKey]) -> bool {
        let slow: BTreeSet<_> = self.asked.iter().map(|(peer, _)| *peer).collect();
        let another = |peer: &PublicKey| !slow.contains(peer) && !self.liars.contains(peer);
        if slow.is_empty() || !connected.iter().any(another) {
            return false;
        }
        self.forgive();
        for (peer, heights) in std::mem::take(&mut self.asked) {
            tracing::info!(%peer, "a peer is slow to send blocks: others are asked for them too");
            self.unhelpful.insert(peer);
            self.miss(heights.clone());
            self.late.push((peer, heights));
        }
        slow.into_iter().for_each(|peer| self.doubt(peer, Doubt::Late));
        true
    }

    /// Whether the answer was awaited still, not given up.
    fn ends(&mut self, peer: PublicKey, heights: &RangeInclusive<u64>) -> bool {
        let found = |list: &[(PublicKey, RangeInclusive<u64>)]| {
            list.iter().position(|(asked, of)| *asked == peer && of == heights)
        };
        if let Some(index) = found(&self.asked) {
            self.asked.swap_remove(index);
            return true;
        }
        if let Some(index) = found(&self.late) {
            self.late.swap_remove(index);
        }
        false
    }

    /// Takes a peer's answer to what it was asked for.
    pub(super) fn answered(
        &mut self,
        peer: PublicKey,
        heights: RangeInclusive<u64>,
        answer: Answer,
    ) {
        let awaited = self.ends(peer, &heights);
        let (first, last) = (*heights.start(), *heights.end());
        let blocks = match answer {
            Answer::Blocks(blocks) if are_consecutive(&blocks, &heights) => Some(blocks),
            Answer::Nothing => {
                self.unhelpful.insert(peer);
                None
            }
            Answer::Blocks(_) | Answer::Wrong => {
                tracing::warn!(%peer, "a peer sent wrong blocks: they are taken from others");
                self.liars.insert(peer);
                self.doubt(peer, Doubt::Lied);
                None
            }
        };
        let Some(blocks) = blocks else {
            if awaited {
                self.miss(heights);
            }
            return;
        };
        *self.answers.entry(peer).or_default() += 1;
        let given = blocks.len() as u64;
        // Blocks are equally large, whichever peer gives them. That one peer gives few of them does not
        // make smaller pieces of what the others are asked for.
        if given == last - first + 1 {
            self.piece = self.piece.saturating_mul(2);
            self.short.remove(&peer);
        } else {
            self.short.insert(peer);
        }
        let bytes: u64 = blocks.iter().map(CertifiedBlock::bytes).sum();
        let fitting = given.saturating_mul(PIECE_BYTES) / bytes.max(1);
        self.piece = self.piece.min(fitting).clamp(1, u64::from(BLOCKS_MAX));
        if awaited {
            self.miss(first + given..=last);
        }
        self.waiting.insert(first, (peer, blocks));
    }

    /// The blocks that follow on the tip, if they have come.
    pub(super) fn ready(&mut self, tip: u64) -> Option<(PublicKey, Blocks)> {
        loop {
            let piece = self.waiting.first_entry().filter(|piece| *piece.key() <= tip + 1)?;
            let (peer, blocks) = piece.remove();
            // What consensus has decided meanwhile is not needed any more.
            if *heights_of(&blocks).end() > tip {
                return Some((peer, blocks));
            }
        }
    }

    /// Takes how far the driver came with blocks of a peer. Gives whether it advanced.
    pub(super) fn applied(
        &mut self,
        peer: PublicKey,
        heights: RangeInclusive<u64>,
        Applied { tip, lied }: Applied,
    ) -> bool {
        if lied {
            tracing::warn!(%peer, "a peer sent forged blocks: they are taken from others");
            self.liars.insert(peer);
            self.doubt(peer, Doubt::Lied);
        }
        if tip < *heights.end() {
            // Unless it lied, the finalizations are genuine, so the leaves may be wrong; or this very
            // height is being committed. Either way others are asked first.
            self.unhelpful.insert(peer);
            self.miss((tip + 1).max(*heights.start())..=*heights.end());
        }
        tip >= *heights.start()
    }

    /// Goes on with one more height, asked only of the peers that have given something. Gives whether
    /// there are any.
    pub(super) fn follow(&mut self, height: u64, connected: &[PublicKey]) -> bool {
        let unknown = connected.iter().filter(|peer| !self.answers.contains_key(peer));
        self.unhelpful.extend(unknown);
        self.miss(height..=height);
        let gave = |peer: &PublicKey| !self.unhelpful.contains(peer) && !self.liars.contains(peer);
        connected.iter().any(gave)
    }

    /// Peers that were of no help may be by now.
    pub(super) fn forgive(&mut self) {
        self.unhelpful.clear();
    }
}

/// Whether they are the first of these heights, in order, and at least one.
fn are_consecutive(blocks: &Blocks, heights: &RangeInclusive<u64>) -> bool {
    let found = blocks.iter().map(CertifiedBlock::height);
    !blocks.is_empty() && found.clone().eq(heights.clone().take(found.count()))
}
