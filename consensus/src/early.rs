//! Messages for the next height that come before this one is committed, and other per-peer limits.
//!
//! Who decides the next height follows from the block before it, so whether such a message counts is
//! not known yet. Who signed it is. So a vote or a proposal is kept by its author and after its
//! signature was verified: nobody can fill the share of another or put something in its place, and
//! whatever is handed on when the height begins is genuine. A certificate has no one author, and cannot
//! be verified yet: it is kept in the share of the peer that handed it over, which answers for it.

use std::collections::BTreeMap;

use customhouse_ledger::{
    finality::{
        certificate::Certificate,
        vote::{Proposal, Vote, VoteKind},
    },
    keys::PublicKey,
};

use crate::{
    input::{Message, PeerTag},
    votes::is_near,
};

/// Proposals kept of one author. Each may be two megabytes.
const PROPOSALS_MAX: usize = 2;
/// Proposals kept of all authors together that are not validators now.
const STRANGERS_PROPOSALS_MAX: usize = 8;
/// Most peers; there are as many as there are agencies.
const PEERS_MAX: usize = 512;

/// A bounded buffer of messages for one height: of its first views, as far as votes are kept from view 1
/// on; of each author one vote of a kind a view, and few proposals. An author that is not a validator now
/// may be one then: a block changes at most one validator, and that one hands over its messages itself.
/// So each peer may hand over messages of one such author and no more, and no liar can take another's
/// place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Early {
    by_author: BTreeMap<PublicKey, Share>,
    /// The author, not a validator now, of whom a peer has handed something over.
    strangers: BTreeMap<PeerTag, PublicKey>,
    certificates: BTreeMap<(PeerTag, u64, VoteKind), Certificate>,
}

/// What one author has signed, each with the peer that handed it over first.
#[derive(Clone, Debug, Default)]
struct Share {
    proposals: BTreeMap<u64, (PeerTag, Proposal)>,
    votes: BTreeMap<(u64, VoteKind), (PeerTag, Vote)>,
}

/// A message that was kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) from: PeerTag,
    pub(crate) message: Message,
    /// Whether its author has signed it. A certificate has yet to be verified.
    pub(crate) verified: bool,
}

/// Whose message it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) from: PeerTag,
    pub(crate) author: PublicKey,
    /// Whether the author is a validator of the height in progress.
    pub(crate) votes_now: bool,
}

impl Early {
    /// Whether these very bytes are kept.
    pub(crate) fn holds(&self, message: &Message) -> bool {
        match message {
            Message::Vote(vote) => {
                let share = self.by_author.get(&vote.validator);
                let held = share.and_then(|s| s.votes.get(&(vote.ballot.view, vote.ballot.kind)));
                held.is_some_and(|(_, held)| held == vote)
            }
            Message::Proposal(proposal) => {
                let share = self.by_author.get(&proposal.leader);
                let held = share.and_then(|s| s.proposals.get(&proposal.view));
                held.is_some_and(|(_, held)| held == proposal)
            }
            Message::Certificate(_) | Message::Tip(_) => false,
        }
    }

    /// Whether a vote would be kept. Asked before its signature is looked at.
    pub(crate) fn has_room_for_vote(&self, of: &Origin, vote: &Vote) -> bool {
        let place = (vote.ballot.view, vote.ballot.kind);
        let share = self.by_author.get(&of.author);
        self.admits(of, vote.ballot.view)
            && share.is_none_or(|share| !share.votes.contains_key(&place))
    }

    /// Whether a proposal would be kept. Asked before its signature is looked at.
    pub(crate) fn has_room_for_proposal(&self, of: &Origin, view: u64) -> bool {
        let of_author = self.by_author.get(&of.author).map(|share| &share.proposals);
        let has_room = of_author.is_none_or(|held| {
            let max = if of.votes_now { PROPOSALS_MAX } else { 1 };
            held.len() < max && !held.contains_key(&view)
        });
        self.admits(of, view)
            && has_room
            && (of.votes_now || self.strangers_proposals() < STRANGERS_PROPOSALS_MAX)
    }

    fn admits(&self, of: &Origin, view: u64) -> bool {
        let known = match self.strangers.get(&of.from) {
            Some(stranger) => *stranger == of.author,
            None => self.strangers.len() < PEERS_MAX,
        };
        is_near(view, 1) && (of.votes_now || known)
    }

    fn strangers_proposals(&self) -> usize {
        let shares = self.strangers.values().filter_map(|author| self.by_author.get(author));
        shares.map(|share| share.proposals.len()).sum()
    }

    /// Keeps a vote for which there is room, and which its author has signed.
    pub(crate) fn keep_vote(&mut self, of: &Origin, vote: Vote) {
        let place = (vote.ballot.view, vote.ballot.kind);
        self.share(of).votes.entry(place).or_insert((of.from, vote));
    }

    /// Keeps a proposal for which there is room, and which its author has signed.
    pub(crate) fn keep_proposal(&mut self, of: &Origin, proposal: Proposal) {
        self.share(of).proposals.entry(proposal.view).or_insert((of.from, proposal));
    }

    fn share(&mut self, of: &Origin) -> &mut Share {
        if !of.votes_now {
            self.strangers.entry(of.from).or_insert(of.author);
        }
        self.by_author.entry(of.author).or_default()
    }

    /// Keeps a certificate, unverified, in its sender's share. False: there is no room.
    pub(crate) fn keep_certificate(&mut self, from: PeerTag, certificate: Certificate) -> bool {
        let (view, kind) = (certificate.ballot.view, certificate.ballot.kind);
        if !is_near(view, 1) {
            return false;
        }
        let held =
            self.certificates.entry((from, view, kind)).or_insert_with(|| certificate.clone());
        *held == certificate
    }

    /// What is kept of one author.
    pub(crate) fn signed_by(
        &self,
        author: &PublicKey,
    ) -> (impl Iterator<Item = &Vote>, impl Iterator<Item = &Proposal>) {
        let share = self.by_author.get(author);
        let votes = share.into_iter().flat_map(|share| share.votes.values());
        let proposals = share.into_iter().flat_map(|share| share.proposals.values());
        (votes.map(|(_, vote)| vote), proposals.map(|(_, proposal)| proposal))
    }

    /// Hands everything out, author by author, certificates last: then their votes are known. It is
    /// empty after it.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Kept> + use<> {
        let Self { by_author, certificates, .. } = std::mem::take(self);
        let signed = by_author.into_values().flat_map(|share| {
            let proposals = share.proposals.into_values();
            let proposals = proposals.map(|(from, held)| (from, Message::Proposal(held)));
            let votes = share.votes.into_values().map(|(from, held)| (from, Message::Vote(held)));
            proposals.chain(votes)
        });
        let signed = signed.map(|(from, message)| Kept { from, message, verified: true });
        let certificates = certificates.into_iter().map(|((from, ..), held)| Kept {
            from,
            message: Message::Certificate(held),
            verified: false,
        });
        signed.chain(certificates)
    }
}

/// What is done for a peer at most once in a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Favour {
    /// Telling it the tip.
    Tip,
    /// Asking it for blocks.
    Sync,
}

/// When something was last done for a peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    last: BTreeMap<(PeerTag, Favour), u64>,
}

impl Pace {
    /// Whether to do it now; remembers that it was done.
    pub(crate) fn allows(&mut self, peer: PeerTag, favour: Favour, now: u64, pause: u64) -> bool {
        let key = (peer, favour);
        if self.last.get(&key).is_some_and(|last| now < last.saturating_add(pause)) {
            return false;
        }
        if self.last.len() >= 2 * PEERS_MAX {
            self.last.clear();
        }
        self.last.insert(key, now);
        true
    }
}
