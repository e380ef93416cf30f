//! What the journal remembers, and how a core takes it up again.

use std::collections::BTreeMap;

use customhouse_ledger::finality::vote::{Proposal, Vote};

use crate::{core::Core, height::Held, journal::Entry, signed::Signed};
use customhouse_ledger::finality::evidence::Claim;

/// What was read from the journal and is not committed yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// Nothing is signed up to and including this height: it was signed before, and the journal no
    /// longer says what.
    pub(crate) watermark: u64,
    entries: BTreeMap<u64, Vec<Entry>>,
}

impl Memory {
    /// Sorts the entries by height. Those below `height`, which is in progress, are done with. The
    /// journal may be ahead of the store (a restored backup): then the heights that it is ahead
    /// are followed, not signed.
    pub(crate) fn new(recovered: Vec<Entry>, height: u64) -> Self {
        let mut memory = Self::default();
        for entry in recovered {
            match entry {
                Entry::Watermark(mark) => memory.watermark = memory.watermark.max(mark),
                entry if entry.height() >= height => {
                    memory.entries.entry(entry.height()).or_default().push(entry);
                }
                _ => {}
            }
        }
        if let Some((&newest, _)) = memory.entries.last_key_value() {
            memory.watermark = memory.watermark.max(newest.saturating_sub(1));
        }
        memory
    }

    /// Takes out what is of this height, and forgets what is of earlier ones.
    pub(crate) fn take(&mut self, height: u64) -> Vec<Entry> {
        let of_height = self.entries.remove(&height).unwrap_or_default();
        self.entries.retain(|other, _| *other > height);
        of_height
    }
}

impl Memory {
    /// Whether the journal knows that a height is decided. A key that was stopped signs nothing up to the last
    /// height there is, and that says nothing of any.
    pub(crate) fn knows_of_more_than(&self, height: u64) -> bool {
        height <= self.watermark && self.watermark != u64::MAX
    }
}

impl Core {
    /// Takes up what the journal remembers of the height in progress: the state is then what it
    /// was when the entries were written, and the rules go on from there. Nothing is sent here.
    pub(crate) fn recall(&mut self) {
        let entries = self.remembered();
        // Certificates first: they tell the view, and votes are kept near it only.
        for entry in &entries {
            if let Entry::Certificate(certificate) = entry {
                let ballot = certificate.ballot;
                self.height.acted.insert((ballot.kind, ballot.view));
                // The journal holds what was held together before.
                let _ = self.height.hold(certificate.clone());
            }
        }
        for entry in &entries {
            match entry {
                Entry::Vote(vote) if Some(vote.validator) == self.signer => {
                    self.height.signed.entry(vote.ballot.view).or_default().recall_vote(*vote);
                }
                Entry::Proposal(proposal) => self.recall_proposal(proposal),
                _ => {}
            }
        }
        while let Some(certificate) = self.height.way_out() {
            let next = certificate.ballot.view.saturating_add(1);
            self.height.enter(next);
        }
        let own: Vec<Vote> =
            self.height.signed.values().flat_map(|signed| signed.votes()).copied().collect();
        for vote in own {
            if self.height.is_near(vote.ballot.view) {
                self.count(vote);
            }
        }
    }

    /// An entry of a proposal means that its block is stored with its bodies, and was checked or
    /// built here unless a quorum had notarized it.
    fn recall_proposal(&mut self, proposal: &Proposal) {
        let view = proposal.view;
        if Some(proposal.leader) == self.signer {
            self.height.signed.entry(view).or_default().recall_proposal(proposal.clone());
        }
        self.height.store(proposal.block.clone(), proposal.parent_view == 0);
        self.height.claims.insert(view, Claim::of(proposal));
        self.height.proposals.insert(view, Held::new(proposal.clone()));
    }

    /// Whether the journal knows of a vote by this node's key, or need not.
    pub(crate) fn remembers_vote(&self, vote: &Vote) -> bool {
        let is_it = |held: &Vote| held.ballot == vote.ballot;
        self.need_not_remember(vote.ballot.height)
            || if vote.ballot.height == self.height.number {
                let signed = self.height.signed.get(&vote.ballot.view);
                signed.is_some_and(|signed| signed.votes().any(is_it))
            } else {
                self.recovered(vote.ballot.height)
                    .any(|entry| matches!(entry, Entry::Vote(held) if is_it(held)))
            }
    }

    /// Whether the journal knows of a proposal by this node's key, or need not.
    pub(crate) fn remembers_claim(&self, claim: &Claim) -> bool {
        let (height, view) = (claim.proposed.height, claim.proposed.view);
        let is_it =
            |held: &Proposal| held.view == view && self.claim_of(held).is_of_the_same_as(claim);
        self.need_not_remember(height)
            || if height == self.height.number {
                let signed = self.height.signed.get(&view);
                signed.and_then(Signed::proposal).is_some_and(is_it)
            } else {
                self.recovered(height)
                    .any(|entry| matches!(entry, Entry::Proposal(held) if is_it(held)))
            }
    }

    /// The journal may have dropped what is of committed heights.
    fn need_not_remember(&self, height: u64) -> bool {
        height < self.height.number || height <= self.memory.watermark
    }

    fn recovered(&self, height: u64) -> impl Iterator<Item = &Entry> {
        self.memory.entries.get(&height).into_iter().flatten()
    }
}
