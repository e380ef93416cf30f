//! The votes of the height in progress: counted, bounded, and compared for evidence.

use std::collections::{BTreeMap, BTreeSet};

use customhouse_ledger::finality::{
    certificate::Certificate,
    validators::ValidatorSet,
    vote::{Ballot, Vote, VoteKind},
};

use customhouse_ledger::finality::evidence::{Evidence, conflict};

/// Votes are kept for this many views before the current one …
pub(crate) const VIEWS_BEHIND: u64 = 8;
/// … and for this many after it. What lies further is sent again when this node gets there.
pub(crate) const VIEWS_AHEAD: u64 = 8;

/// Whether a view is near enough to the current one for its votes to be kept.
pub(crate) fn is_near(view: u64, current: u64) -> bool {
    view.saturating_add(VIEWS_BEHIND) >= current && view <= current.saturating_add(VIEWS_AHEAD)
}

/// Verified votes: of each validator at most one of a kind a view, in near views only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Votes {
    by_view: BTreeMap<u64, BTreeMap<(usize, VoteKind), Vote>>,
    /// Validators that have said anything at this height.
    heard: BTreeSet<usize>,
    /// Validators and views about which evidence has been given: once is enough.
    accused: BTreeSet<(usize, u64)>,
}

impl Votes {
    /// Whether this very vote is held, signature included.
    pub(crate) fn holds(&self, index: usize, vote: &Vote) -> bool {
        self.held(index, vote).is_some_and(|held| held == vote)
    }

    /// Whether a vote, not yet verified, would change anything. Checked before its signature is.
    pub(crate) fn is_news(&self, index: usize, vote: &Vote) -> bool {
        match self.held(index, vote) {
            None => true,
            // Another block: evidence, unless given already.
            Some(held) => {
                held.ballot != vote.ballot && !self.accused.contains(&(index, vote.ballot.view))
            }
        }
    }

    fn held(&self, index: usize, vote: &Vote) -> Option<&Vote> {
        self.by_view.get(&vote.ballot.view)?.get(&(index, vote.ballot.kind))
    }

    /// Keeps a verified vote in a near view. The first of a kind stands; what contradicts an
    /// earlier one is evidence, given once a validator and view.
    pub(crate) fn keep(&mut self, index: usize, vote: Vote) -> Option<Evidence> {
        let view = vote.ballot.view;
        self.heard.insert(index);
        let votes = self.by_view.entry(view).or_default();
        let of_index = (index, VoteKind::Notarize)..=(index, VoteKind::Finalize);
        let contradicted =
            votes.range(of_index).map(|(_, held)| *held).find(|h| conflict(h, &vote));
        votes.entry((index, vote.ballot.kind)).or_insert(vote);
        let first = contradicted?;
        self.accused.insert((index, view)).then_some(Evidence::Votes(first, vote))
    }

    /// Marks that evidence about this validator and view has been given. False: it had been.
    pub(crate) fn accuse(&mut self, index: usize, view: u64) -> bool {
        self.accused.insert((index, view))
    }

    /// Whether evidence about this validator and view has been given.
    pub(crate) fn has_accused(&self, index: usize, view: u64) -> bool {
        self.accused.contains(&(index, view))
    }

    /// The vote of one validator.
    pub(crate) fn of(&self, index: usize, view: u64, kind: VoteKind) -> Option<&Vote> {
        self.by_view.get(&view)?.get(&(index, kind))
    }

    /// Everything held of one validator.
    pub(crate) fn all_of(&self, index: usize) -> impl Iterator<Item = &Vote> {
        let of_index = (index, VoteKind::Notarize)..=(index, VoteKind::Finalize);
        self.by_view.values().flat_map(move |votes| votes.range(of_index.clone()).map(|(_, v)| v))
    }

    /// How many validators cast this ballot.
    pub(crate) fn count(&self, ballot: &Ballot) -> usize {
        self.matching(ballot).count()
    }

    /// The certificate of a ballot, once a quorum has cast it.
    pub(crate) fn certificate(
        &self,
        ballot: &Ballot,
        validators: &ValidatorSet,
    ) -> Option<Certificate> {
        if self.count(ballot) < validators.quorum() {
            return None;
        }
        Certificate::from_votes(*ballot, self.matching(ballot), validators)
    }

    pub(crate) fn matching(&self, ballot: &Ballot) -> impl Iterator<Item = &Vote> {
        let votes = self.by_view.get(&ballot.view).into_iter().flat_map(BTreeMap::values);
        votes.filter(move |vote| vote.ballot == *ballot)
    }

    /// How many validators have said anything at this height.
    pub(crate) fn heard(&self) -> usize {
        self.heard.len()
    }

    /// Forgets what is far behind the current view.
    pub(crate) fn prune(&mut self, current: u64) {
        self.by_view.retain(|view, _| is_near(*view, current));
        self.accused.retain(|(_, view)| is_near(*view, current));
    }
}
