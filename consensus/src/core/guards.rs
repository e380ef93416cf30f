//! What the rules ask before they act, and what they take for signed, certified and remembered: a function
//! a question. Bugs that tests plant (feature `mutants`) take hold of these answers and of nothing else, so
//! that the rules themselves are read, and compiled, as they are.

#[cfg(not(feature = "mutants"))]
use customhouse_ledger::{finality::validators::ValidatorSet, keys::SigningKey};
use customhouse_ledger::{
    finality::{
        certificate::Certificate,
        header::Block,
        vote::{Ballot, Proposal, Vote, VoteKind},
    },
    hash::Hash,
    keys::PublicKey,
};

#[cfg(feature = "mutants")]
pub(crate) use crate::core::mutants::Planted;
#[cfg(not(feature = "mutants"))]
use crate::core::told::Told;
use crate::{core::Core, journal::Entry, signed::Signed};
use customhouse_ledger::finality::evidence::Claim;

impl Core {
    /// Whether a vote may be signed now.
    pub(crate) fn may_vote(&self, kind: VoteKind, view: u64) -> bool {
        let signed = self.height.signed(view);
        let free = signed.may_vote(kind) || self.planted.frees(kind, signed);
        free && self.signing_key().is_some()
    }

    /// Signs a vote, if it may be signed beside what was signed in its view.
    pub(crate) fn sign_beside(&self, signed: &mut Signed, ballot: Ballot) -> Option<Vote> {
        let (key, chain_id) = (self.signing_key()?, &self.config.chain_id);
        let vote = signed.sign_vote(ballot, chain_id, key);
        vote.or_else(|| self.planted.sign(signed, ballot, chain_id, key))
    }

    /// Signs a proposal of the current view, if it may be signed beside what was signed in it.
    pub(crate) fn propose_beside(
        &self,
        signed: &mut Signed,
        block: Block,
        parent_view: u64,
    ) -> Option<Proposal> {
        let (key, chain_id) = (self.signing_key()?, &self.config.chain_id);
        let proposal = signed.sign_proposal(block, self.height.view, parent_view, chain_id, key);
        proposal.map(|proposal| self.planted.proposal(proposal, chain_id, key))
    }

    /// What a proposal claims, as its leader should have signed it.
    pub(crate) fn claim_of(&self, proposal: &Proposal) -> Claim {
        self.planted.claim(Claim::of(proposal))
    }

    /// Whether a proposal is justified.
    ///
    /// # Errors
    /// The first views whose certificates are missing.
    pub(crate) fn justify(
        &self,
        view: u64,
        parent_view: u64,
        block_hash: &Hash,
    ) -> Result<(), Vec<u64>> {
        match self.planted.justifies(self, view) {
            None => self.height.justify(view, parent_view, block_hash),
            Some(true) => Ok(()),
            Some(false) => Err(Vec::new()),
        }
    }

    /// The certificate of a ballot, once a quorum has cast it.
    pub(crate) fn certificate_of(&self, ballot: &Ballot) -> Option<Certificate> {
        let (votes, validators) = (&self.height.votes, &self.height.validators);
        let certificate = votes.certificate(ballot, validators);
        certificate.or_else(|| self.planted.certify(*ballot, votes.matching(ballot), validators))
    }

    /// The certificate that these votes make, if they are a quorum.
    pub(crate) fn certificate_from(&self, ballot: Ballot, votes: &[Vote]) -> Option<Certificate> {
        let validators = &self.height.validators;
        let certificate = Certificate::from_votes(ballot, votes, validators);
        certificate.or_else(|| self.planted.certify(ballot, votes, validators))
    }

    /// Whether a vote in a certificate is genuine: it is held already, or its signature is right.
    pub(crate) fn is_genuine(&self, vote: &Vote) -> bool {
        let index = self.height.validators.index_of(&vote.validator);
        self.planted.believes_certificates()
            || index.is_some_and(|index| self.height.votes.holds(index, vote))
            || vote.verify(&self.config.chain_id).is_ok()
    }

    /// Whether a vote for the next height is signed by whom it names.
    pub(crate) fn is_signed_early_vote(&self, vote: &Vote) -> bool {
        self.planted.believes_early() || vote.verify(&self.config.chain_id).is_ok()
    }

    /// Whether a proposal for the next height is signed by whom it names.
    pub(crate) fn is_signed_early_proposal(&self, proposal: &Proposal) -> bool {
        self.planted.believes_early() || self.claim_of(proposal).is_signed(&self.config.chain_id)
    }

    /// Takes out of the memory what the journal has of the height in progress.
    pub(crate) fn remembered(&mut self) -> Vec<Entry> {
        self.planted.forget(self.memory.take(self.height.number))
    }

    /// Whether enough have told what they hold of a key for it to sign at the height in progress.
    pub(crate) fn have_told_enough(&self, key: &PublicKey) -> bool {
        let (validators, height) = (&self.height.validators, self.height.number);
        self.told.is_enough(key, validators, height)
            || self.planted.have_told_enough(&self.told, key, validators, height)
    }
}

/// No planted bugs. Every answer is known when it is compiled, and nothing is left of the question.
#[cfg(not(feature = "mutants"))]
#[derive(Clone, Debug, Default)]
pub(crate) struct Planted {}

#[cfg(not(feature = "mutants"))]
impl Planted {
    fn frees(&self, _: VoteKind, _: &Signed) -> bool {
        false
    }

    fn sign(&self, _: &mut Signed, _: Ballot, _: &Hash, _: &SigningKey) -> Option<Vote> {
        None
    }

    fn proposal(&self, proposal: Proposal, _: &Hash, _: &SigningKey) -> Proposal {
        proposal
    }

    fn claim(&self, claim: Claim) -> Claim {
        claim
    }

    fn justifies(&self, _: &Core, _view: u64) -> Option<bool> {
        None
    }

    fn certify<'a>(
        &self,
        _: Ballot,
        _: impl IntoIterator<Item = &'a Vote>,
        _: &ValidatorSet,
    ) -> Option<Certificate> {
        None
    }

    fn believes_certificates(&self) -> bool {
        false
    }

    fn believes_early(&self) -> bool {
        false
    }

    fn forget(&self, entries: Vec<Entry>) -> Vec<Entry> {
        entries
    }

    fn have_told_enough(&self, _: &Told, _: &PublicKey, _: &ValidatorSet, _: u64) -> bool {
        false
    }
}
