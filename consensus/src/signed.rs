//! What this node has signed in one view, and what it may still sign.
//!
//! Every signature of the core over a proposal or a vote is made here, and nowhere else: it is made if the view
//! allows it, and remembered in the same step. The fields are this file's own. It is the whole of what keeps an
//! honest key honest within a run; the journal is what keeps it so beyond one.

use customhouse_ledger::{
    finality::{
        header::Block,
        vote::{Ballot, Proposal, Vote, VoteKind},
    },
    hash::Hash,
    keys::SigningKey,
};

/// This node's own signatures in one view of the height in progress.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signed {
    proposal: Option<Proposal>,
    notarize: Option<Vote>,
    nullify: Option<Vote>,
    finalize: Option<Vote>,
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

    /// Signs the proposal of a view, if it may be signed.
    pub(crate) fn sign_proposal(
        &mut self,
        block: Block,
        view: u64,
        parent_view: u64,
        chain_id: &Hash,
        key: &SigningKey,
    ) -> Option<Proposal> {
        if !self.may_propose() {
            return None;
        }
        let proposal = Proposal::sign(block, view, parent_view, chain_id, key);
        self.proposal = Some(proposal.clone());
        Some(proposal)
    }

    /// Signs a vote, if it may be signed.
    pub(crate) fn sign_vote(
        &mut self,
        ballot: Ballot,
        chain_id: &Hash,
        key: &SigningKey,
    ) -> Option<Vote> {
        if !self.may_vote(ballot.kind) {
            return None;
        }
        let vote = Vote::sign(ballot, chain_id, key);
        self.recall_vote(vote);
        Some(vote)
    }

    /// Takes up a vote that was signed before, as the journal has it.
    pub(crate) fn recall_vote(&mut self, vote: Vote) {
        match vote.ballot.kind {
            VoteKind::Notarize => self.notarize = Some(vote),
            VoteKind::Nullify => self.nullify = Some(vote),
            VoteKind::Finalize => self.finalize = Some(vote),
        }
    }

    /// Takes up a proposal that was signed before, as the journal has it.
    pub(crate) fn recall_proposal(&mut self, proposal: Proposal) {
        self.proposal = Some(proposal);
    }

    pub(crate) fn proposal(&self) -> Option<&Proposal> {
        self.proposal.as_ref()
    }

    pub(crate) fn vote(&self, kind: VoteKind) -> Option<&Vote> {
        match kind {
            VoteKind::Notarize => self.notarize.as_ref(),
            VoteKind::Nullify => self.nullify.as_ref(),
            VoteKind::Finalize => self.finalize.as_ref(),
        }
    }

    pub(crate) fn votes(&self) -> impl Iterator<Item = &Vote> {
        self.notarize.iter().chain(&self.nullify).chain(&self.finalize)
    }
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::finality::header::Header;

    use super::*;

    fn block() -> Block {
        let mut bytes = [0; Header::LENGTH];
        bytes[..2].copy_from_slice(&Header::VERSION.to_be_bytes());
        Block { header: Header::decode(&bytes).expect("a layout"), leaves: vec![] }
    }

    #[test]
    fn a_view_has_one_proposal() {
        let key = SigningKey::from_seed(&[1; 32]);
        let mut signed = Signed::default();
        assert!(signed.sign_proposal(block(), 1, 0, &Hash::ZERO, &key).is_some());
        assert!(signed.sign_proposal(block(), 1, 0, &Hash::ZERO, &key).is_none());
    }

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
        let key = SigningKey::from_seed(&[1; 32]);
        for (before, expected) in table {
            let mut signed = Signed::default();
            for &kind in before {
                let ballot = Ballot { kind, height: 1, view: 1, block_hash: Hash([1; 32]) };
                signed.recall_vote(Vote::sign(ballot, &Hash::ZERO, &key));
            }
            let may = [
                signed.may_vote(Notarize),
                signed.may_vote(Nullify),
                signed.may_vote(Finalize),
                signed.may_propose(),
            ];
            assert_eq!(may, expected, "after {before:?}");
            // What may not be signed is not, however it is asked for.
            let proposal = signed.clone().sign_proposal(block(), 1, 0, &Hash::ZERO, &key);
            assert_eq!(proposal.is_some(), expected[3], "a proposal after {before:?}");
            for (kind, may) in [Notarize, Nullify, Finalize].into_iter().zip(expected) {
                let ballot = Ballot { kind, height: 1, view: 1, block_hash: Hash([2; 32]) };
                let vote = signed.clone().sign_vote(ballot, &Hash::ZERO, &key);
                assert_eq!(vote.is_some(), may, "{kind:?} after {before:?}");
            }
        }
    }
}
