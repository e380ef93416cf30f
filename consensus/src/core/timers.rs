//! Work and timers: how long a view may take, when things are sent again.
//!
//! Timers run only while there is work. None of them is in the path of a transaction that finds
//! the network idle and well.

use customhouse_ledger::finality::{
    certificate::Certificate,
    vote::{Vote, VoteKind},
};

use crate::{
    action::Action,
    core::Core,
    height::{Check, Height},
    input::{Message, Timing},
    votes::is_near,
};

/// Most certificates that are sent again at once; the rest follow in the next rounds.
const RESEND_CERTIFICATES_MAX: usize = 32;

/// However many views have passed, a block may have as many bytes.
const BLOCK_BYTES_FLOOR: u64 = 1 << 20;

/// Moments on the monotonic clock, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timers {
    pub(crate) height_started: u64,
    /// When a block is due even without a transaction.
    heartbeat_at: u64,
    /// When the current view is nullified. None while there is no work.
    view_ends_at: Option<u64>,
    /// Until when finalize votes are waited for before the block is proposed again.
    repropose_at: u64,
    /// When to send again. None while there is no work.
    resend_at: Option<u64>,
    /// Where the next round of certificates begins.
    resend_from: usize,
    tip_at: u64,
}

/// How long a view may take: 1.5 times longer each, up to the cap.
pub(crate) fn view_ms(timing: &Timing, view: u64) -> u64 {
    let mut length = timing.view_ms.min(timing.view_ms_max);
    for _ in 1..view {
        if length >= timing.view_ms_max {
            break;
        }
        // At least one more, so that the loop ends for the smallest times too.
        length = length.saturating_add((length / 2).max(1)).min(timing.view_ms_max);
    }
    length
}

impl Core {
    pub(crate) fn start_timers(&mut self) {
        self.timers.tip_at = self.after(self.config.timing.tip_ms);
        self.start_height_timers();
    }

    pub(crate) fn start_height_timers(&mut self) {
        self.timers.height_started = self.now.monotonic_ms;
        self.timers.heartbeat_at = self.after(self.tip.parameters.heartbeat_ms);
        self.timers.resend_from = 0;
        self.start_view_timers(false);
    }

    /// Timers of a view just entered, by a notarization or otherwise.
    pub(crate) fn start_view_timers(&mut self, by_notarization: bool) {
        self.stop_timers();
        let wait_ms = if by_notarization { self.config.timing.repropose_ms } else { 0 };
        self.timers.repropose_at = self.after(wait_ms);
    }

    fn stop_timers(&mut self) {
        self.timers.view_ends_at = None;
        self.timers.resend_at = None;
    }

    pub(crate) fn awaits_finalization(&self) -> bool {
        self.now.monotonic_ms < self.timers.repropose_at
    }

    fn after(&self, ms: u64) -> u64 {
        self.now.monotonic_ms.saturating_add(ms)
    }

    /// At the end of a step: timers run from when work appears, and stop when it vanishes.
    pub(crate) fn set_timers(&mut self) {
        if !self.has_work() {
            return self.stop_timers();
        }
        let view_ends_at = self.after(view_ms(&self.config.timing, self.height.view));
        let resend_at = self.after(self.config.timing.resend_ms);
        self.timers.view_ends_at.get_or_insert(view_ends_at);
        self.timers.resend_at.get_or_insert(resend_at);
    }

    /// Whether there is anything to agree on: a transaction to include, a due heartbeat, a
    /// justified proposal, or votes of f+1 validators. A view after the first is work already: a
    /// quorum left the one before it.
    fn has_work(&self) -> bool {
        let height = &self.height;
        self.pending
            || height.view > 1
            || self.heartbeat_is_due()
            || height.votes.heard() >= height.one_honest()
            || height.finalization.is_some()
            || height.has_justified_proposal()
    }

    pub(crate) fn heartbeat_is_due(&self) -> bool {
        self.now.monotonic_ms >= self.timers.heartbeat_at
    }

    pub(crate) fn view_has_timed_out(&self) -> bool {
        self.timers.view_ends_at.is_some_and(|end| self.now.monotonic_ms >= end)
    }

    /// The next moment at which a tick changes something.
    pub(crate) fn wake_at(&self) -> Option<u64> {
        let open = self.height.signed(self.height.view).vote(VoteKind::Nullify).is_none();
        let may_nullify = open && self.is_signing() && self.height.committing.is_none();
        let heartbeat = Some(self.timers.heartbeat_at).filter(|_| !self.heartbeat_is_due());
        let moments = [
            Some(self.timers.tip_at),
            self.timers.view_ends_at.filter(|_| may_nullify),
            self.timers.resend_at,
            heartbeat,
            Some(self.timers.repropose_at).filter(|_| self.awaits_finalization()),
            self.ripe_at(),
        ];
        moments.into_iter().flatten().min()
    }

    /// What is due. That a view has timed out is seen by rule 3.
    pub(crate) fn tick(&mut self) {
        let now = self.now.monotonic_ms;
        if now >= self.timers.tip_at {
            self.timers.tip_at = self.after(self.config.timing.tip_ms);
            if let Some(tip) = self.tip() {
                self.out.send_all(Message::Tip(tip));
            }
        }
        if self.timers.resend_at.is_some_and(|at| now >= at) {
            self.timers.resend_at = None;
            self.resend();
            self.ask_again();
        }
    }

    /// Sends again what peers may have missed: this node's proposal of the view, its votes of near
    /// views, certificates of all views.
    pub(crate) fn resend(&mut self) {
        if let Some(proposal) = self.height.signed(self.height.view).proposal().cloned() {
            self.out.send_all(Message::Proposal(proposal));
        }
        for certificate in self.height.acted_on(self.timers.resend_from, RESEND_CERTIFICATES_MAX) {
            self.out.send_all(Message::Certificate(certificate));
        }
        self.timers.resend_from = match self.timers.resend_from + RESEND_CERTIFICATES_MAX {
            next if next < self.height.acted.len() => next,
            _ => 0,
        };
        for vote in self.height.own_near_votes() {
            self.out.send_all(Message::Vote(vote));
        }
    }

    /// What was asked for and has not come is asked for again by the rules that need it.
    fn ask_again(&mut self) {
        self.height.fetching_blocks.clear();
        self.height.fetching_views.clear();
        for held in self.height.proposals.values_mut() {
            if held.check == Check::Unavailable {
                held.check = Check::Open;
            }
        }
        if self.pending {
            self.out.act(Action::ResendTransactions);
        }
    }

    /// New blocks halve in size each view after the second, down to [`BLOCK_BYTES_FLOOR`].
    pub(crate) fn block_bytes_max(&self, view: u64) -> u64 {
        let halvings = view.saturating_sub(2).min(63);
        (self.tip.parameters.block_bytes_max >> halvings).max(BLOCK_BYTES_FLOOR)
    }
}

impl Height {
    pub(crate) fn is_near(&self, view: u64) -> bool {
        is_near(view, self.view)
    }

    fn has_justified_proposal(&self) -> bool {
        let held = self.proposals.get(&self.view);
        held.is_some_and(|held| {
            self.justify(self.view, held.proposal.parent_view, &held.block_hash).is_ok()
        })
    }

    /// Up to `count` of the certificates acted on, newest view first, after the first `skip`.
    fn acted_on(&self, skip: usize, count: usize) -> Vec<Certificate> {
        let mut acted: Vec<_> = self.acted.iter().map(|&(kind, view)| (view, kind)).collect();
        acted.sort_unstable_by(|a, b| b.cmp(a));
        let page = acted.into_iter().skip(skip).take(count);
        page.filter_map(|(view, kind)| self.certificate(kind, view).cloned()).collect()
    }

    fn own_near_votes(&self) -> Vec<Vote> {
        let near = self.signed.iter().filter(|(view, _)| self.is_near(**view));
        near.flat_map(|(_, signed)| signed.votes()).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_grow_by_half_up_to_the_cap() {
        let timing = Timing { view_ms: 1_000, view_ms_max: 5_000, ..Timing::default() };
        let lengths: Vec<_> = [1, 2, 3, 4, 5, 6, u64::MAX].map(|v| view_ms(&timing, v)).into();
        assert_eq!(lengths, [1_000, 1_500, 2_250, 3_375, 5_000, 5_000, 5_000]);
        assert_eq!(view_ms(&Timing { view_ms: 0, ..timing }, u64::MAX), 5_000);
    }
}
