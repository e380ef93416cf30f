//! Planted bugs, to show that the checks of this crate find them. Compiled only with the feature
//! `mutants`, which nothing but those tests enables.

use customhouse_ledger::{
    agreement::{
        certificate::Certificate,
        header::Header,
        validators::ValidatorSet,
        vote::{Ballot, Proposal, Vote, VoteKind},
    },
    hash::Hash,
};

use crate::{
    core::Core,
    evidence::Claim,
    input::{Committed, Config},
    journal::Entry,
    signed::Signed,
};

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A certificate needs one vote fewer.
    SmallQuorum,
    /// A restart forgets this node's votes.
    ForgottenVote,
    /// A restart forgets the certificates that were acted on.
    ForgottenCertificate,
    /// Rule 3 does not ask whether finalize was signed.
    NullifyAfterFinalize,
    /// Rule 5 does not ask whether nullify was signed.
    FinalizeAfterNullify,
    /// Every proposal is justified.
    UncheckedJustification,
    /// The clock is looked at for a block proposed again, too.
    TimeOfReproposal,
    /// The signatures in a certificate are not verified.
    UnverifiedCertificate,
    /// A proposal's signature does not cover its leaves.
    UnsignedLeaves,
    /// What is kept for the next height is believed without its signature.
    BelievedEarly,
}

impl Core {
    /// As [`Core::new`], with these bugs.
    pub fn with_mutants(
        config: Config,
        committed: Committed,
        recovered: Vec<Entry>,
        mutants: &[Mutant],
    ) -> Self {
        let mut core = Self::blank(config, committed, recovered);
        core.mutants = mutants.to_vec();
        core.recall();
        core
    }

    pub(crate) fn has(&self, mutant: Mutant) -> bool {
        self.mutants.contains(&mutant)
    }

    /// Whether the block may be voted for by its time, also where it is proposed again.
    pub(crate) fn likes_the_time(&self, header: &Header) -> bool {
        let skew_ms = header.time_ms.abs_diff(self.now.unix_ms);
        !self.has(Mutant::TimeOfReproposal) || skew_ms <= self.tip.parameters.time_skew_ms_max
    }

    /// Whether a vote is signed though an earlier one forbids it.
    pub(crate) fn breaks_a_guard(&self, kind: VoteKind, view: u64) -> bool {
        let signed = self.height.signed(view);
        match kind {
            VoteKind::Nullify => {
                self.has(Mutant::NullifyAfterFinalize) && signed.vote(kind).is_none()
            }
            VoteKind::Finalize => {
                self.has(Mutant::FinalizeAfterNullify) && signed.vote(kind).is_none()
            }
            VoteKind::Notarize => false,
        }
    }

    /// A vote that the guards forbid.
    pub(crate) fn sign_unasked(&self, signed: &mut Signed, ballot: Ballot) -> Option<Vote> {
        let vote = Vote::sign(ballot, &self.config.chain_id, self.signing_key()?);
        signed.recall_vote(vote);
        Some(vote)
    }

    /// A proposal signed as if it had no leaves.
    pub(crate) fn without_leaves(&self, proposal: Proposal) -> Proposal {
        let key = self.signing_key().filter(|_| self.has(Mutant::UnsignedLeaves));
        let Some(key) = key else { return proposal };
        let claim = self.claim_without_leaves(Claim::of(&proposal));
        Proposal { signature: key.sign(&claim.proposed.message(&self.config.chain_id)), ..proposal }
    }

    /// What a proposal claims, its leaves left out.
    pub(crate) fn claim_without_leaves(&self, mut claim: Claim) -> Claim {
        if self.has(Mutant::UnsignedLeaves) {
            claim.proposed.leaves_hash = Hash::ZERO;
        }
        claim
    }

    /// What a restart remembers of the journal.
    pub(crate) fn forgetful(&self, entries: Vec<Entry>) -> Vec<Entry> {
        let remembered = entries.into_iter().filter(|entry| match entry {
            Entry::Vote(_) => !self.has(Mutant::ForgottenVote),
            Entry::Certificate(_) => !self.has(Mutant::ForgottenCertificate),
            _ => true,
        });
        remembered.collect()
    }

    /// A certificate of one vote less than a quorum.
    pub(crate) fn small_certificate(&self, ballot: Ballot, votes: &[Vote]) -> Option<Certificate> {
        let small = self.has(Mutant::SmallQuorum);
        small.then(|| lay_out(ballot, votes, &self.height.validators)).flatten()
    }
}

/// A certificate laid out by hand: the ledger makes none of so few votes.
fn lay_out(ballot: Ballot, votes: &[Vote], validators: &ValidatorSet) -> Option<Certificate> {
    let mut by_index: Vec<_> = votes
        .iter()
        .filter(|vote| vote.ballot == ballot)
        .filter_map(|vote| Some((validators.index_of(&vote.validator)?, vote.signature)))
        .collect();
    by_index.sort_by_key(|(index, _)| *index);
    if by_index.len() + 1 < validators.quorum() {
        return None;
    }
    let mut bitmap = vec![0u8; validators.count().div_ceil(8)];
    for (index, _) in &by_index {
        bitmap[index / 8] |= 0x80 >> (index % 8);
    }
    let mut bytes = vec![ballot.kind as u8];
    bytes.extend_from_slice(&ballot.height.to_be_bytes());
    bytes.extend_from_slice(&ballot.view.to_be_bytes());
    bytes.extend_from_slice(ballot.block_hash.as_bytes());
    bytes.extend_from_slice(&(bitmap.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&bitmap);
    by_index.iter().for_each(|(_, signature)| bytes.extend_from_slice(&signature.0));
    Certificate::decode(&bytes).ok()
}
