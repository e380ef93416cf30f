//! Proof that a key broke a rule (DESIGN §4, "Evidence"). An honest node is never accused.

use customhouse_ledger::{
    hash::Hash,
    keys::{PublicKey, Signature},
    vote::{Proposal, Vote, VoteKind},
};

/// Two signatures by one key that the rules do not allow together, in one view of one height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Two blocks proposed in one view.
    Proposals(Claim, Claim),
    /// One block proposed, another notarized, in one view.
    ProposalAndVote(Claim, Vote),
    /// Two blocks notarized in one view, two finalized in one view, or nullify with finalize.
    Votes(Vote, Vote),
}

/// A proposal without the block: what its signature covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Of which height.
    pub height: u64,
    /// In which view.
    pub view: u64,
    /// The view whose notarization it rests on; 0 for a new block.
    pub parent_view: u64,
    /// Hash of the proposed block.
    pub block_hash: Hash,
    /// Who signed.
    pub leader: PublicKey,
    /// As [`Proposal::signature`].
    pub signature: Signature,
}

impl Claim {
    /// What a proposal claims.
    pub fn of(proposal: &Proposal) -> Self {
        Self {
            height: proposal.block.header.height,
            view: proposal.view,
            parent_view: proposal.parent_view,
            block_hash: proposal.block.hash(),
            leader: proposal.leader,
            signature: proposal.signature,
        }
    }

    fn is_signed(&self, chain_id: &Hash) -> bool {
        let message =
            Proposal::message(chain_id, self.height, self.view, self.parent_view, &self.block_hash);
        self.leader.verify(&message, &self.signature).is_ok()
    }
}

impl Evidence {
    /// Whether it proves what it says: both signatures verify, by one key, for one height and
    /// view, and the rules do not allow both.
    pub fn proves(&self, chain_id: &Hash) -> bool {
        match self {
            Self::Proposals(a, b) => {
                (a.leader, a.height, a.view) == (b.leader, b.height, b.view)
                    && a.block_hash != b.block_hash
                    && a.is_signed(chain_id)
                    && b.is_signed(chain_id)
            }
            Self::ProposalAndVote(claim, vote) => {
                let ballot = vote.ballot;
                (claim.leader, claim.height, claim.view)
                    == (vote.validator, ballot.height, ballot.view)
                    && ballot.kind == VoteKind::Notarize
                    && claim.block_hash != ballot.block_hash
                    && claim.is_signed(chain_id)
                    && vote.verify(chain_id).is_ok()
            }
            Self::Votes(a, b) => {
                a.validator == b.validator
                    && conflict(a, b)
                    && a.verify(chain_id).is_ok()
                    && b.verify(chain_id).is_ok()
            }
        }
    }

    /// The key that broke the rule.
    pub fn culprit(&self) -> PublicKey {
        match self {
            Self::Proposals(claim, _) | Self::ProposalAndVote(claim, _) => claim.leader,
            Self::Votes(vote, _) => vote.validator,
        }
    }

    /// Height and view in which it was broken.
    pub fn place(&self) -> (u64, u64) {
        match self {
            Self::Proposals(claim, _) | Self::ProposalAndVote(claim, _) => {
                (claim.height, claim.view)
            }
            Self::Votes(vote, _) => (vote.ballot.height, vote.ballot.view),
        }
    }
}

/// Whether no honest validator signs both.
pub(crate) fn conflict(a: &Vote, b: &Vote) -> bool {
    use VoteKind::{Finalize, Notarize, Nullify};
    let (a, b) = (&a.ballot, &b.ballot);
    (a.height, a.view) == (b.height, b.view)
        && match (a.kind, b.kind) {
            (Notarize, Notarize) | (Finalize, Finalize) => a.block_hash != b.block_hash,
            (Nullify, Finalize) | (Finalize, Nullify) => true,
            _ => false,
        }
}
