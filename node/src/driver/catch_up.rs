//! Catching up: committed blocks from all peers at once, checked off the driver's thread, and handed
//! to it in order.
//!
//! The heights that are missing are cut into pieces, and the connected peers are asked for a few of them at
//! a time, the quick ones more often. Transactions are checked on all cores while the driver executes and
//! commits the pieces before. A peer whose answer is wrong is not asked again in this catch-up, one that
//! was slow or of no help only after all others, and both are asked last for a minute; what they were asked
//! for is asked of somebody else, and nobody waits for what is late. How far others are is anybody's claim:
//! where nobody has more, and nothing more is known to be decided, it ends. Nothing is believed for having
//! come: the finalization of each block is verified here and by the core, and the ledger executes it to its
//! own roots.
//!
//! Which validators decided a block beyond a change of validators is known when that change is
//! committed. Such blocks are fetched beside the others all the same, and verified when their turn
//! comes.

mod plan;

use std::{collections::BTreeSet, future::Future, ops::RangeInclusive};

use customhouse_ledger::keys::PublicKey;
use tokio::task::JoinSet;

use self::plan::Plan;
use super::CertifiedBlock;

/// How often peers that were of no help are asked again with nothing committed in between, while more is
/// known to be decided. The core begins anew when a peer tells of a newer block.
const RETRIES_MAX: u32 = 8;
/// Heights that are asked for one by one at the end. A node that is behind still begins anew.
const FOLLOWED_MAX: u32 = 8;

/// Consecutive committed blocks.
pub(super) type Blocks = Vec<CertifiedBlock>;

/// What a peer said when it was asked for blocks.
#[derive(Debug)]
pub(super) enum Answer {
    /// Blocks whose bodies are theirs, and whose finalizations verify as far as it is known who
    /// decided them.
    Blocks(Blocks),
    /// Nothing: it does not have them, or it cannot be reached.
    Nothing,
    /// Something that is wrong.
    Wrong,
}

/// What came of blocks that were handed to the driver.
#[derive(Clone, Copy, Debug)]
pub(super) struct Applied {
    /// The newest committed height.
    pub(super) tip: u64,
    /// A finalization does not verify, now that it is known who decides.
    pub(super) lied: bool,
}

/// Why a peer is asked last for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Its answer was late. It may be its connection.
    Late,
    /// Its answer was wrong: that is held against it.
    Lied,
}

/// Where blocks come from and go to.
pub(super) trait Source: Clone + Send + 'static {
    /// The newest committed height.
    fn tip(&self) -> u64;
    /// Peers that can be asked.
    fn connected(&self) -> Vec<PublicKey>;
    /// Whether the driver has stopped.
    fn is_closed(&self) -> bool;
    /// The newest height that is known to be decided.
    fn decided(&self) -> u64;
    /// Peers that are asked last.
    fn doubted(&self) -> BTreeSet<PublicKey>;
    /// From now on a peer is asked last.
    fn doubt(&self, peer: PublicKey, doubt: Doubt);
    /// Asks a peer for blocks; its answer is checked.
    fn ask(
        &self,
        peer: PublicKey,
        heights: RangeInclusive<u64>,
    ) -> impl Future<Output = Answer> + Send;
    /// Verifies what could not be when it came, and hands blocks to the driver.
    fn apply(&self, from: PublicKey, blocks: Blocks) -> impl Future<Output = Applied> + Send;
    /// Waits for as long as an answer may take before somebody else is asked.
    fn patience(&self) -> impl Future<Output = ()> + Send;
    /// Waits before peers that were of no help are asked again.
    fn pause(&self) -> impl Future<Output = ()> + Send;
}

enum Event {
    Answered(PublicKey, RangeInclusive<u64>, Answer),
    Applied(PublicKey, RangeInclusive<u64>, Applied),
}

/// Fetches and applies the blocks up to a height, and what was decided since. Ends there, or when nobody
/// has them.
///
/// The others go on meanwhile. What they said of a height too far ahead was not kept, they do not say it
/// again for a second, and they wait for this node where it leads next: so the peers that have given
/// something are asked for the next height too, until none of them has it.
pub(super) async fn catch_up(source: impl Source, mut height: u64) {
    let started = source.tip();
    // A peer claims the height, and may claim it again and again.
    tracing::debug!(from = started, to = height, "catching up");
    let mut plan = Plan::new(started + 1..=height, source.doubted());
    let mut events = JoinSet::new();
    let (mut applying, mut retries, mut followed) = (false, 0, 0);
    while !source.is_closed() {
        tell_doubts(&source, &mut plan);
        if source.tip() >= height {
            height = source.tip().saturating_add(1);
            followed += 1;
            if followed > FOLLOWED_MAX || !plan.follow(height, &source.connected()) {
                break;
            }
        }
        ask(&source, &mut plan, &mut events);
        applying = applying || apply(&source, &mut plan, &mut events);
        let (idle, is_following) = (!applying && !plan.awaits(), followed > 0);
        if idle && is_following {
            break;
        }
        if idle && !plan.is_late() {
            if retries == RETRIES_MAX || source.decided() <= source.tip() {
                break;
            }
            retries += 1;
            source.pause().await;
            plan.forgive();
            continue;
        }
        let event = tokio::select! {
            event = events.join_next() => event,
            // Nobody waits for what is late: those that had nothing may have it now.
            () = source.pause(), if idle => {
                plan.forgive();
                continue;
            }
            () = source.patience(), if !applying && !idle => {
                if is_following {
                    break;
                }
                plan.give_up_waiting(&source.connected());
                continue;
            }
        };
        match event {
            Some(Ok(Event::Answered(peer, heights, answer))) => {
                plan.answered(peer, heights, answer);
            }
            Some(Ok(Event::Applied(peer, heights, applied))) => {
                applying = false;
                if plan.applied(peer, heights, applied) {
                    retries = 0;
                }
            }
            // A task that panicked would leave its heights unasked for: begin anew, later.
            Some(Err(_)) | None => break,
        }
    }
    tell_doubts(&source, &mut plan);
    if source.tip() > started {
        tracing::info!(from = started, to = source.tip(), "caught up");
    }
}

fn tell_doubts(source: &impl Source, plan: &mut Plan) {
    plan.doubts().for_each(|(peer, doubt)| source.doubt(peer, doubt));
}

/// Asks for as much as the plan has room for.
fn ask(source: &impl Source, plan: &mut Plan, events: &mut JoinSet<Event>) {
    while let Some((peer, heights)) = plan.ask(&source.connected(), source.tip()) {
        let source = source.clone();
        events.spawn(async move {
            let answer = source.ask(peer, heights.clone()).await;
            Event::Answered(peer, heights, answer)
        });
    }
}

/// Applies what follows on the tip, where it is there.
fn apply(source: &impl Source, plan: &mut Plan, events: &mut JoinSet<Event>) -> bool {
    let Some((peer, blocks)) = plan.ready(source.tip()) else { return false };
    let (source, heights) = (source.clone(), heights_of(&blocks));
    events.spawn(async move {
        let applied = source.apply(peer, blocks).await;
        Event::Applied(peer, heights, applied)
    });
    true
}

fn heights_of(blocks: &Blocks) -> RangeInclusive<u64> {
    let height = CertifiedBlock::height;
    blocks.first().map_or(1, height)..=blocks.last().map_or(0, height)
}

#[cfg(test)]
mod tests;
