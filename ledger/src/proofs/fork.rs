//! Who divided a chain: two finalizations of different blocks of one height, and the certificates
//! that they rested on, show at least 2q − n culprits, which are more than f.
//!
//! # What an honest validator may sign
//!
//! In one view of one height: at most one proposal; at most one notarize vote, for what it proposed
//! where it leads; at most one finalize vote; and never nullify and finalize. So these pairs, by
//! one key, for one height and view, are what no honest key ever signs, across crashes and restored
//! backups too, because the signer's journal is synced before a signature leaves:
//!
//! | pair | rule |
//! |---|---|
//! | two proposals, or a proposal and a notarize vote of its leader, for different blocks | 1 |
//! | two proposals of one block with different leaves | 1 |
//! | two notarize votes for different blocks | 2 |
//! | nullify and finalize | 3 and 5 |
//! | two finalize votes for different blocks | 5 |
//!
//! An honest validator may well have signed anything else, and it accuses nobody here: notarize and
//! then nullify of one view; notarize of one block and finalize of another in one view (a validator
//! finalizes a notarized block whatever it voted for itself); finalize of a block in view 1 and
//! notarize or finalize of *another* in view 2 (where liars have made a nullification of view 1,
//! that is what the rules ask for). A culprit is named with such a pair and with nothing less, and
//! the pair is verified with [`Evidence::proves`]. Hence **nobody honest is named**, whatever is in
//! the files: to name a validator that signed no such pair, one would have to forge its signature.
//!
//! # Why the culprits can be named
//!
//! Let b₁ be finalized in view v₁ and b₂ ≠ b₁ in v₂, v₁ ≤ v₂. Any two certificates share at least
//! 2q − n signers, and 2q − n = n − 2f ≥ f + 1.
//!
//! 1. v₁ = v₂: those who signed both finalizations finalized two blocks in one view.
//! 2. v₁ < v₂. Suppose that fewer than q validators lie (else there may be nobody honest in a
//!    certificate, and nothing need have been justified). Then each certificate has an honest signer.
//!    The one in the finalization of b₂ held a notarization of b₂ in v₂ (rule 5). Let w > v₁ be the
//!    lowest view *above* v₁ with a notarization of b₂. Its honest signer held, by rule 2, for some
//!    u < w: a notarization of b₂ in u, or u = 0; and nullifications of all views between u and w.
//!    As w is the lowest above v₁, u ≤ v₁.
//!    - u < v₁: it held a nullification of v₁. Whoever signed that and the finalization of b₁ signed
//!      nullify and finalize in v₁.
//!    - u = v₁: it held a notarization of b₂ in v₁. An honest signer of the finalization of b₁ held
//!      a notarization of b₁ in v₁. Whoever signed both notarized two blocks in v₁.
//!
//! So what is needed beside the two finalizations is a nullification of v₁, or the notarizations of
//! both blocks in v₁, and honest validators hold them: a certificate that a vote rests on is in the
//! signer's journal before the vote leaves, and in the store ([`crate::finality::decision`]) when the height
//! commits or the node halts. The one that signed the notarization in w need not be the one whose
//! file was given first. Where something is missing, [`Missing`] says which certificate and who must
//! have it: each such answer either proves the culprits or lowers w, so after at most v₂ − v₁ + 1
//! questions to honest validators they are known.
//!
//! That holds for validators of one set. Where the headers have different parents, the chains have
//! parted below: the lowest height at which they differ is the one to look at, and there the common
//! parent names the validators.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    finality::{
        certificate::Certificate,
        decision::{Decision, Grounds},
        evidence::{Claim, Evidence, conflict},
        validators::{Validator, ValidatorSet},
        vote::{Ballot, Vote, VoteKind},
    },
    hash::Hash,
    keys::PublicKey,
    proofs::verifier::{FinalityError, verify_finalization},
};

#[cfg(test)]
mod tests;

/// What decisions of one height show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examination {
    /// The height.
    pub height: u64,
    /// The finalizations that verify, one a view and block, by view.
    pub finalized: Vec<Finalized>,
    /// Validators that provably broke a rule, in the order of the set.
    pub culprits: Vec<Culprit>,
    /// Whether the blocks have different parents: then the chains have parted below.
    pub parted_below: bool,
    /// Certificates and proposals that did not verify. They were left out.
    pub left_out: usize,
    /// What follows.
    pub conclusion: Conclusion,
}

/// A block that a quorum finalized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finalized {
    /// The view.
    pub view: u64,
    /// The block.
    pub block_hash: Hash,
    /// Its signers, from all certificates seen.
    pub signers: Vec<Validator>,
}

/// A validator that broke a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// Which.
    pub validator: Validator,
    /// The conflicting signatures, one pair a view, by view. Never empty.
    pub evidence: Vec<Evidence>,
}

/// What follows from the decisions of a height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// No two blocks were finalized. A validator that broke a rule without dividing the chain is
    /// named all the same.
    NoFork,
    /// At least 2q − n validators are named: as many as two contradicting quorums share at least.
    Proven,
    /// Two blocks were finalized, but what they rested on is not all here.
    NotEnough(Missing),
}

/// What is not in the files, and who has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What would be enough, or would lead further.
    pub what: MissingWhat,
    /// The signers of what rests on it. While fewer than a quorum lie, one of these is honest and has it.
    pub holders: Vec<Validator>,
}

/// A certificate that is not in the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingWhat {
    /// The notarization of a block that was finalized in this view.
    Notarization {
        /// The view.
        view: u64,
        /// The block.
        block_hash: Hash,
    },
    /// What the notarization of a block in `view` rested on: a nullification of `finalized_view`, or
    /// a notarization of the block in that view or in one between.
    Justification {
        /// The view in which the block was notarized.
        view: u64,
        /// The block.
        block_hash: Hash,
        /// The lower view, in which another block was finalized.
        finalized_view: u64,
    },
}

/// The finalization of a decision does not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct NotFinal {
    /// Position of the decision among those given.
    pub index: usize,
    /// What is wrong.
    pub error: FinalityError,
}

/// The height to examine: the lowest at which different blocks were finalized; without such a one,
/// the lowest at which a node halted. `None` where all agree on all they have.
///
/// A decision's own finalization is taken at its word: [`examine`] refuses one that does not verify.
/// Those among its grounds count where they do: a node that halts at its newest block has there what
/// contradicts its own.
pub fn height_to_examine<'a, 'v>(
    decisions: impl IntoIterator<Item = &'a Decision>,
    chain_id: &Hash,
    validators_at: impl Fn(u64) -> &'v ValidatorSet,
) -> Option<u64> {
    let (mut blocks, mut halted) = (BTreeMap::<u64, BTreeSet<Hash>>::new(), BTreeSet::new());
    for decision in decisions {
        let height = decision.height;
        let blocks = blocks.entry(height).or_default();
        match &decision.decided {
            None => drop(halted.insert(height)),
            Some((header, _)) => drop(blocks.insert(header.hash())),
        }
        for certificate in &decision.grounds.certificates {
            let Ballot { kind, block_hash, .. } = certificate.ballot;
            if kind == VoteKind::Finalize
                && !blocks.contains(&block_hash)
                && is_certified(certificate, height, chain_id, validators_at(height))
            {
                blocks.insert(block_hash);
            }
        }
    }
    let differing = blocks.iter().find(|(_, blocks)| blocks.len() > 1).map(|(height, _)| *height);
    differing.or(halted.first().copied())
}

/// What of a height's grounds verifies, each thing once, within the limits of [`Grounds::limited`]. So
/// nobody who tells them can make them unreadable, or so many that the rest is lost.
pub fn verified_grounds(
    grounds: Grounds,
    height: u64,
    chain_id: &Hash,
    validators: &ValidatorSet,
) -> Grounds {
    let mut verified = Grounds::default();
    verified.join(grounds);
    verified.certificates.retain(|found| is_certified(found, height, chain_id, validators));
    verified.claims.retain(|claim| claimed_by(claim, height, chain_id, validators).is_some());
    verified.limited()
}

/// Whether a quorum signed it, for this height.
fn is_certified(
    certificate: &Certificate,
    height: u64,
    chain_id: &Hash,
    validators: &ValidatorSet,
) -> bool {
    certificate.ballot.height == height && certificate.verify(chain_id, validators).is_ok()
}

/// The index of the validator that signed it, for this height.
fn claimed_by(
    claim: &Claim,
    height: u64,
    chain_id: &Hash,
    validators: &ValidatorSet,
) -> Option<usize> {
    let index = validators.index_of(&claim.leader)?;
    (claim.proposed.height == height && claim.is_signed(chain_id)).then_some(index)
}

/// Finds out what decisions of one height show. Those of `decisions` that are of another height are
/// passed over. `validators` are those that decide the height.
///
/// # Errors
/// [`NotFinal`]: a decision's own finalization does not verify. Other certificates that do not are
/// left out and counted.
pub fn examine(
    height: u64,
    decisions: &[&Decision],
    chain_id: &Hash,
    validators: &ValidatorSet,
) -> Result<Examination, NotFinal> {
    let mut case = Case::new(chain_id, validators);
    let mut parents = BTreeSet::new();
    for (index, decision) in decisions.iter().enumerate().filter(|(_, d)| d.height == height) {
        if let Some((header, certificate)) = &decision.decided {
            verify_finalization(header, certificate, chain_id, validators)
                .map_err(|error| NotFinal { index, error })?;
            parents.insert(header.parent_hash);
            case.admit(certificate);
        }
    }
    for decision in decisions.iter().filter(|decision| decision.height == height) {
        for certificate in &decision.grounds.certificates {
            case.take_certificate(height, certificate);
        }
        for claim in &decision.grounds.claims {
            case.take_claim(height, claim);
        }
    }
    Ok(case.conclude(height, parents.len() > 1))
}

/// Everything that verifies about a height.
struct Case<'a> {
    chain_id: &'a Hash,
    validators: &'a ValidatorSet,
    /// Who signed a ballot, in certificates.
    signers: BTreeMap<Ballot, BTreeMap<usize, Vote>>,
    /// The bytes of certificates that were looked at: each is verified once.
    looked_at: BTreeSet<Vec<u8>>,
    claims: Vec<(usize, Claim)>,
    left_out: usize,
}

impl<'a> Case<'a> {
    fn new(chain_id: &'a Hash, validators: &'a ValidatorSet) -> Self {
        Self {
            chain_id,
            validators,
            signers: BTreeMap::new(),
            looked_at: BTreeSet::new(),
            claims: Vec::new(),
            left_out: 0,
        }
    }

    fn take_certificate(&mut self, height: u64, certificate: &Certificate) {
        if !self.looked_at.insert(certificate.encode()) {
            return;
        }
        if is_certified(certificate, height, self.chain_id, self.validators) {
            self.admit(certificate);
        } else {
            self.left_out += 1;
        }
    }

    /// Takes the votes of a verified certificate.
    fn admit(&mut self, certificate: &Certificate) {
        let of_ballot = self.signers.entry(certificate.ballot).or_default();
        let votes = certificate.votes(self.validators);
        for (index, vote) in certificate.signers().zip(votes) {
            of_ballot.entry(index).or_insert(vote);
        }
    }

    fn take_claim(&mut self, height: u64, claim: &Claim) {
        if self.claims.iter().any(|(_, known)| known == claim) {
            return;
        }
        match claimed_by(claim, height, self.chain_id, self.validators) {
            Some(index) => self.claims.push((index, claim.clone())),
            None => self.left_out += 1,
        }
    }

    fn conclude(self, height: u64, parted_below: bool) -> Examination {
        let finalized = self.finalized();
        let culprits = self.culprits();
        // As many as two quorums share at least.
        let shared = 2 * self.validators.quorum() - self.validators.count();
        let fork = finalized.iter().find(|other| other.block_hash != finalized[0].block_hash);
        let conclusion = match fork {
            _ if culprits.len() >= shared => Conclusion::Proven,
            Some(second) => Conclusion::NotEnough(self.missing(&finalized[0], second)),
            None => Conclusion::NoFork,
        };
        let left_out = self.left_out;
        Examination { height, finalized, culprits, parted_below, left_out, conclusion }
    }

    fn certificate(&self, kind: VoteKind, view: u64, block_hash: &Hash) -> Option<Vec<Validator>> {
        let is_it = |ballot: &Ballot| {
            (ballot.kind, ballot.view, &ballot.block_hash) == (kind, view, block_hash)
        };
        let (_, votes) = self.signers.iter().find(|(ballot, _)| is_it(ballot))?;
        Some(self.named(votes.keys()))
    }

    fn named<'i>(&self, indexes: impl Iterator<Item = &'i usize>) -> Vec<Validator> {
        indexes.filter_map(|&index| self.validators.at(index)).copied().collect()
    }

    fn finalized(&self) -> Vec<Finalized> {
        let finalizations = self.signers.iter().filter(|(b, _)| b.kind == VoteKind::Finalize);
        let mut finalized: Vec<_> = finalizations
            .map(|(ballot, votes)| Finalized {
                view: ballot.view,
                block_hash: ballot.block_hash,
                signers: self.named(votes.keys()),
            })
            .collect();
        finalized.sort_by_key(|finalized| (finalized.view, finalized.block_hash));
        finalized
    }

    /// Every validator with two signatures that do not go together.
    fn culprits(&self) -> Vec<Culprit> {
        let mut votes = BTreeMap::<(usize, u64), Vec<&Vote>>::new();
        for (ballot, of_ballot) in &self.signers {
            for (&index, vote) in of_ballot {
                votes.entry((index, ballot.view)).or_default().push(vote);
            }
        }
        let mut claims = BTreeMap::<(usize, u64), Vec<&Claim>>::new();
        for (index, claim) in &self.claims {
            claims.entry((*index, claim.proposed.view)).or_default().push(claim);
        }
        let mut evidence: Vec<((usize, u64), Evidence)> = Vec::new();
        for (place, votes) in &votes {
            evidence.extend(contradiction(votes).map(|evidence| (*place, evidence)));
        }
        for (place, claims) in &claims {
            let votes = votes.get(place).map(Vec::as_slice).unwrap_or_default();
            evidence.extend(double_proposal(claims, votes).map(|evidence| (*place, evidence)));
        }
        // Each signature was verified; here it is made sure that each pair is a breach.
        evidence.retain(|(_, evidence)| evidence.proves(self.chain_id));
        evidence.sort_by_key(|(place, _)| *place);
        // One pair a validator and view is enough.
        evidence.dedup_by_key(|(place, _)| *place);
        let mut culprits = BTreeMap::<usize, Vec<Evidence>>::new();
        for ((index, _), evidence) in evidence {
            culprits.entry(index).or_default().push(evidence);
        }
        let culprit =
            |(index, evidence)| Some(Culprit { validator: *self.validators.at(index)?, evidence });
        culprits.into_iter().filter_map(culprit).collect()
    }

    /// What would show who finalized `first` and `second`, of which `first` is of the lower view.
    fn missing(&self, first: &Finalized, second: &Finalized) -> Missing {
        let (view, block_hash) = (first.view, second.block_hash);
        if self.certificate(VoteKind::Notarize, view, &block_hash).is_some() {
            let what = MissingWhat::Notarization { view, block_hash: first.block_hash };
            return Missing { what, holders: first.signers.clone() };
        }
        let notarized_above = self.signers.iter().filter(|(ballot, _)| {
            ballot.kind == VoteKind::Notarize
                && ballot.block_hash == block_hash
                && ballot.view > view
        });
        match notarized_above.min_by_key(|(ballot, _)| ballot.view) {
            Some((lowest, votes)) => {
                let (view, finalized_view) = (lowest.view, view);
                Missing {
                    what: MissingWhat::Justification { view, block_hash, finalized_view },
                    holders: self.named(votes.keys()),
                }
            }
            None => {
                let what = MissingWhat::Notarization { view: second.view, block_hash };
                Missing { what, holders: second.signers.clone() }
            }
        }
    }
}

/// Two of one validator's votes in one view that do not go together.
fn contradiction(votes: &[&Vote]) -> Option<Evidence> {
    let mut pairs = votes
        .iter()
        .enumerate()
        .flat_map(|(i, first)| votes[i + 1..].iter().map(move |second| (*first, *second)));
    let (first, second) = pairs.find(|(first, second)| conflict(first, second))?;
    Some(Evidence::Votes(*first, *second))
}

/// Two blocks, or lists of leaves, that one leader proposed in one view; or a block that it proposed and
/// another that it notarized.
fn double_proposal(claims: &[&Claim], votes: &[&Vote]) -> Option<Evidence> {
    let first = *claims.first()?;
    if let Some(second) = claims.iter().find(|claim| !claim.is_of_the_same_as(first)) {
        return Some(Evidence::Proposals(first.clone(), (*second).clone()));
    }
    let other = votes.iter().find(|vote| {
        vote.ballot.kind == VoteKind::Notarize
            && vote.ballot.block_hash != first.proposed.block_hash
    })?;
    Some(Evidence::ProposalAndVote(first.clone(), **other))
}

impl Examination {
    /// The keys named.
    pub fn keys(&self) -> BTreeSet<PublicKey> {
        self.culprits.iter().map(|culprit| culprit.validator.key).collect()
    }
}
