//! What this node has signed in one view, and what it may still sign.
//!
//! Every signature of the core passes one of the `may_` questions here; they are the whole of what
//! keeps an honest key honest.

use customhouse_ledger::vote::{Proposal, Vote, VoteKind};

/// This node's own signatures in one view of the height in progress.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signed {
    pub(crate) proposal: Option<Proposal>,
    pub(crate) notarize: Option<Vote>,
    pub(crate) nullify: Option<Vote>,
    pub(crate) finalize: Option<Vote>,
}

impl Signed {
    pub(crate) const NOTHING: &Self =
        &Self { proposal: None, notarize: None, nullify: None, finalize: None };

    /// Rule 1, and rule 3's "nothing more is signed in it".
    pub(crate) fn may_propose(&self) -> bool {
        self.proposal.is_none() && self.notarize.is_none() && self.nullify.is_none()
    }

    /// Rules 2, 3 and 5: at most one of a kind a view; nothing after nullify; no nullify after
    /// finalize.
    pub(crate) fn may_vote(&self, kind: VoteKind) -> bool {
        let closed = self.nullify.is_some();
        match kind {
            VoteKind::Notarize => !closed && self.notarize.is_none(),
            VoteKind::Nullify => !closed && self.finalize.is_none(),
            VoteKind::Finalize => !closed && self.finalize.is_none(),
        }
    }

    pub(crate) fn record(&mut self, vote: Vote) {
        match vote.ballot.kind {
            VoteKind::Notarize => self.notarize = Some(vote),
            VoteKind::Nullify => self.nullify = Some(vote),
            VoteKind::Finalize => self.finalize = Some(vote),
        }
    }

    pub(crate) fn votes(&self) -> impl Iterator<Item = &Vote> {
        self.notarize.iter().chain(&self.nullify).chain(&self.finalize)
    }
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::{hash::Hash, keys::SigningKey, vote::Ballot};

    use super::*;

    #[test]
    fn what_may_be_signed_follows_from_what_was() {
        use VoteKind::{Finalize, Notarize, Nullify};
        // Already signed → may notarize, nullify, finalize, propose.
        let table: [(&[VoteKind], [bool; 4]); 6] = [
            (&[], [true, true, true, true]),
            (&[Notarize], [false, true, true, false]),
            (&[Nullify], [false, false, false, false]),
            (&[Finalize], [true, false, false, true]),
            (&[Notarize, Finalize], [false, false, false, false]),
            (&[Notarize, Nullify], [false, false, false, false]),
        ];
        for (before, expected) in table {
            let mut signed = Signed::default();
            for &kind in before {
                let ballot = Ballot { kind, height: 1, view: 1, block_hash: Hash([1; 32]) };
                signed.record(Vote::sign(ballot, &Hash::ZERO, &SigningKey::from_seed(&[1; 32])));
            }
            let may = [
                signed.may_vote(Notarize),
                signed.may_vote(Nullify),
                signed.may_vote(Finalize),
                signed.may_propose(),
            ];
            assert_eq!(may, expected, "after {before:?}");
        }
    }
}
