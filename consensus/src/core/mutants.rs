//! Planted bugs, to show that the checks of this crate find them: answers that `guards` does not give.
//! Compiled only with the feature `mutants`, which nothing but those tests enables.

use customhouse_ledger::{
    finality::{
        certificate::Certificate,
        validators::ValidatorSet,
        vote::{Ballot, Proposal, Vote, VoteKind},
    },
    hash::Hash,
    keys::{PublicKey, SigningKey},
};

use crate::{
    core::{Core, told::Told},
    input::{Committed, Config},
    journal::Entry,
    signed::Signed,
};
use customhouse_ledger::finality::evidence::Claim;

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
    /// A key signs when one validator less than is needed has told what it holds of it.
    TellerLess,
    /// A validator that has committed the height counts among those that have told of it, unless f others
    /// have too.
    TellerBeyond,
}

/// The bugs of a core.
#[derive(Clone, Debug, Default)]
pub(crate) struct Planted(Vec<Mutant>);

impl Core {
    /// As [`Core::new`], with these bugs.
    pub fn with_mutants(
        config: Config,
        committed: Committed,
        recovered: Vec<Entry>,
        mutants: &[Mutant],
    ) -> Self {
        let mut core = Self::blank(config, committed, recovered);
        core.planted = Planted(mutants.to_vec());
        core.recall();
        core
    }
}

impl Planted {
    fn has(&self, mutant: Mutant) -> bool {
        self.0.contains(&mutant)
    }

    /// Whether a vote is signed though an earlier one forbids it.
    pub(crate) fn frees(&self, kind: VoteKind, signed: &Signed) -> bool {
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

    /// A vote that is signed though an earlier one forbids it.
    pub(crate) fn sign(
        &self,
        signed: &mut Signed,
        ballot: Ballot,
        chain_id: &Hash,
        key: &SigningKey,
    ) -> Option<Vote> {
        let freed = self.frees(ballot.kind, signed);
        let vote = freed.then(|| Vote::sign(ballot, chain_id, key))?;
        signed.recall_vote(vote);
        Some(vote)
    }

    /// A proposal, signed as if it had no leaves.
    pub(crate) fn proposal(
        &self,
        proposal: Proposal,
        chain_id: &Hash,
        key: &SigningKey,
    ) -> Proposal {
        let claim = self.claim(Claim::of(&proposal));
        Proposal { signature: key.sign(&claim.proposed.message(chain_id)), ..proposal }
    }

    /// What a proposal claims, its leaves left out.
    pub(crate) fn claim(&self, mut claim: Claim) -> Claim {
        if self.has(Mutant::UnsignedLeaves) {
            claim.proposed.leaves_hash = Hash::ZERO;
        }
        claim
    }

    /// What is said of a view's proposal, whatever it rests on.
    pub(crate) fn justifies(&self, core: &Core, view: u64) -> Option<bool> {
        let held = core.height.proposals.get(&view);
        let off_ms = held.map(|held| held.proposal.block.header.time_ms.abs_diff(core.now.unix_ms));
        let is_off = off_ms.is_some_and(|off_ms| off_ms > core.tip.parameters.time_skew_ms_max);
        if self.has(Mutant::TimeOfReproposal) && is_off {
            return Some(false);
        }
        self.has(Mutant::UncheckedJustification).then_some(true)
    }

    /// A certificate of one vote less than a quorum.
    pub(crate) fn certify<'a>(
        &self,
        ballot: Ballot,
        votes: impl IntoIterator<Item = &'a Vote>,
        validators: &ValidatorSet,
    ) -> Option<Certificate> {
        let small = self.has(Mutant::SmallQuorum);
        small.then(|| lay_out(ballot, votes, validators)).flatten()
    }

    pub(crate) fn believes_certificates(&self) -> bool {
        self.has(Mutant::UnverifiedCertificate)
    }

    pub(crate) fn believes_early(&self) -> bool {
        self.has(Mutant::BelievedEarly)
    }

    /// What a restart remembers of the journal.
    pub(crate) fn forget(&self, entries: Vec<Entry>) -> Vec<Entry> {
        let remembered = entries.into_iter().filter(|entry| match entry {
            Entry::Vote(_) => !self.has(Mutant::ForgottenVote),
            Entry::Certificate(_) => !self.has(Mutant::ForgottenCertificate),
            _ => true,
        });
        remembered.collect()
    }

    /// Whether those that have told of this key pass for enough.
    pub(crate) fn have_told_enough(
        &self,
        told: &Told,
        key: &PublicKey,
        validators: &ValidatorSet,
        height: u64,
    ) -> bool {
        let here = told.count(key, validators, |tip| tip < height);
        let beyond = told.count(key, validators, |tip| tip >= height);
        let all_pass =
            beyond <= validators.faulty_max() && here + beyond + 1 >= validators.quorum();
        (self.has(Mutant::TellerBeyond) && all_pass)
            || (self.has(Mutant::TellerLess) && here + 2 >= validators.quorum())
    }
}

/// A certificate laid out by hand: the ledger makes none of so few votes.
fn lay_out<'a>(
    ballot: Ballot,
    votes: impl IntoIterator<Item = &'a Vote>,
    validators: &ValidatorSet,
) -> Option<Certificate> {
    let mut by_index: Vec<_> = votes
        .into_iter()
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
