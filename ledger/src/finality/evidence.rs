//! Proof that a key broke a rule. An honest node is never accused.

use customhouse_proto::v1;

use crate::{
    finality::vote::{Ballot, Proposal, Proposed, Vote, VoteKind},
    hash::{Hash, Tag},
    keys::{PublicKey, Signature},
    layout::{LayoutError, Reader, Writer},
};

/// Bytes of a statement: kind (1), height (8), view (8), parent view (8, 0 for a vote), block hash
/// (32), leaves hash (32, zeros for a vote), key (32), signature (64).
pub const STATEMENT_BYTES: usize = 1 + 3 * 8 + 3 * 32 + 64;

/// Kind of a statement that is a proposal; a vote's is the byte of its [`VoteKind`].
const PROPOSAL: u8 = 0;

/// Two signatures by one key that the rules do not allow together, in one view of one height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Two blocks proposed in one view, or one with two lists of leaves: a validator that gets the
    /// wrong one cannot vote for it, and an honest leader signs one proposal a view.
    Proposals(Claim, Claim),
    /// One block proposed, another notarized, in one view.
    ProposalAndVote(Claim, Vote),
    /// Two blocks notarized in one view, two finalized in one view, or nullify with finalize.
    Votes(Vote, Vote),
}

/// A proposal without the block: what its signature covers, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What is proposed.
    pub proposed: Proposed,
    /// Who signed.
    pub leader: PublicKey,
    /// As [`Proposal::signature`].
    pub signature: Signature,
}

impl Claim {
    /// What a proposal claims.
    pub fn of(proposal: &Proposal) -> Self {
        let proposed = proposal.proposed();
        Self { proposed, leader: proposal.leader, signature: proposal.signature }
    }

    /// Checks the signature; not whether the signer leads the view.
    pub fn is_signed(&self, chain_id: &Hash) -> bool {
        self.leader.verify(&self.proposed.message(chain_id), &self.signature).is_ok()
    }

    /// Whether both are of one block with one list of leaves. A leader proposes one in a view.
    pub fn is_of_the_same_as(&self, other: &Self) -> bool {
        let of = |claim: &Self| (claim.proposed.block_hash, claim.proposed.leaves_hash);
        of(self) == of(other)
    }

    /// Height and view.
    fn place(&self) -> (u64, u64) {
        (self.proposed.height, self.proposed.view)
    }

    /// The layout of a statement: [`STATEMENT_BYTES`].
    pub fn encode(&self) -> Vec<u8> {
        Statement::Claim(self).encode()
    }

    /// Reads the layout.
    ///
    /// # Errors
    /// Another layout, or a statement that is a vote.
    pub fn decode(bytes: &[u8]) -> Result<Self, LayoutError> {
        match Said::decode(bytes)? {
            Said::Claim(claim) => Ok(claim),
            Said::Vote(_) => Err(LayoutError::Invalid("kind")),
        }
    }
}

impl Evidence {
    /// Whether it proves what it says: both signatures verify, by one key, for one height and
    /// view, and the rules do not allow both.
    pub fn proves(&self, chain_id: &Hash) -> bool {
        self.is_breach()
            && match self {
                Self::Proposals(a, b) => a.is_signed(chain_id) && b.is_signed(chain_id),
                Self::ProposalAndVote(claim, vote) => {
                    claim.is_signed(chain_id) && vote.verify(chain_id).is_ok()
                }
                Self::Votes(a, b) => a.verify(chain_id).is_ok() && b.verify(chain_id).is_ok(),
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
            Self::Proposals(claim, _) | Self::ProposalAndVote(claim, _) => claim.place(),
            Self::Votes(vote, _) => (vote.ballot.height, vote.ballot.view),
        }
    }
}

impl Evidence {
    /// The key under which a breach is on the chain once, whoever reports it: tagged hash of
    /// culprit, height and view.
    pub fn dedupe_key(&self) -> Hash {
        let (height, view) = self.place();
        let (height, view) = (height.to_be_bytes(), view.to_be_bytes());
        Tag::MISBEHAVIOUR.hash(&[self.culprit().as_bytes(), &height, &view])
    }

    /// As it is recorded: the two statements in the order of their bytes.
    pub fn to_proto(&self) -> v1::Misbehaviour {
        let (first, second) = match self {
            Self::Proposals(a, b) => (Statement::Claim(a), Statement::Claim(b)),
            Self::ProposalAndVote(claim, vote) => (Statement::Claim(claim), Statement::Vote(vote)),
            Self::Votes(a, b) => (Statement::Vote(a), Statement::Vote(b)),
        };
        let (first, second) = (first.encode(), second.encode());
        let (first, second) = if first < second { (first, second) } else { (second, first) };
        v1::Misbehaviour { first, second }
    }

    /// Reads what [`Evidence::to_proto`] wrote. It need not prove anything, see
    /// [`Evidence::proves`].
    ///
    /// # Errors
    /// Another layout, the wrong order, or statements that do not go together.
    pub fn from_proto(proto: &v1::Misbehaviour) -> Result<Self, LayoutError> {
        if proto.first >= proto.second {
            return Err(LayoutError::Invalid("order"));
        }
        let read = |bytes| Said::decode(bytes);
        let evidence = match (read(&proto.first)?, read(&proto.second)?) {
            (Said::Claim(a), Said::Claim(b)) => Self::Proposals(a, b),
            (Said::Claim(claim), Said::Vote(vote)) => Self::ProposalAndVote(claim, vote),
            (Said::Vote(a), Said::Vote(b)) => Self::Votes(a, b),
            // A claim's kind is the smallest.
            (Said::Vote(_), Said::Claim(_)) => return Err(LayoutError::Invalid("order")),
        };
        if evidence.is_breach() { Ok(evidence) } else { Err(LayoutError::Invalid("statements")) }
    }

    /// Whether the rules forbid one key to make both statements. Who signed them is not looked at.
    fn is_breach(&self) -> bool {
        match self {
            Self::Proposals(a, b) => {
                (a.leader, a.place()) == (b.leader, b.place()) && !a.is_of_the_same_as(b)
            }
            Self::ProposalAndVote(claim, vote) => {
                let ballot = vote.ballot;
                (claim.leader, claim.place()) == (vote.validator, (ballot.height, ballot.view))
                    && ballot.kind == VoteKind::Notarize
                    && claim.proposed.block_hash != ballot.block_hash
            }
            Self::Votes(a, b) => a.validator == b.validator && conflict(a, b),
        }
    }
}

enum Statement<'a> {
    Claim(&'a Claim),
    Vote(&'a Vote),
}

impl Statement<'_> {
    fn encode(&self) -> Vec<u8> {
        let (kind, proposed, key, signature) = match self {
            Self::Claim(claim) => (PROPOSAL, claim.proposed, claim.leader, claim.signature),
            Self::Vote(vote) => {
                let Ballot { kind, height, view, block_hash } = vote.ballot;
                let (parent_view, leaves_hash) = (0, Hash::ZERO);
                let said = Proposed { height, view, parent_view, block_hash, leaves_hash };
                (kind as u8, said, vote.validator, vote.signature)
            }
        };
        Writer::with_capacity(STATEMENT_BYTES)
            .u8(kind)
            .u64(proposed.height)
            .u64(proposed.view)
            .u64(proposed.parent_view)
            .hash(&proposed.block_hash)
            .hash(&proposed.leaves_hash)
            .bytes(key.as_bytes())
            .bytes(&signature.0)
            .finish()
    }
}

enum Said {
    Claim(Claim),
    Vote(Vote),
}

impl Said {
    fn decode(bytes: &[u8]) -> Result<Self, LayoutError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u8("kind")?;
        let proposed = Proposed {
            height: reader.u64("height")?,
            view: reader.u64("view")?,
            parent_view: reader.u64("parent_view")?,
            block_hash: reader.hash("block_hash")?,
            leaves_hash: reader.hash("leaves_hash")?,
        };
        let key = reader.public_key("key")?;
        let signature = Signature::from_slice(reader.take(64, "signature")?);
        let signature = signature.map_err(|_| LayoutError::Invalid("signature"))?;
        reader.finish()?;
        if kind == PROPOSAL {
            return Ok(Self::Claim(Claim { proposed, leader: key, signature }));
        }
        let kind = VoteKind::from_byte(kind).ok_or(LayoutError::Invalid("kind"))?;
        let Proposed { height, view, parent_view, block_hash, leaves_hash } = proposed;
        let of_proposals = parent_view != 0 || leaves_hash != Hash::ZERO;
        if of_proposals || (kind == VoteKind::Nullify) != (block_hash == Hash::ZERO) {
            return Err(LayoutError::Invalid("ballot"));
        }
        let ballot = Ballot { kind, height, view, block_hash };
        Ok(Self::Vote(Vote { ballot, validator: key, signature }))
    }
}

/// Whether no honest validator signs both.
pub fn conflict(a: &Vote, b: &Vote) -> bool {
    use VoteKind::{Finalize, Notarize, Nullify};
    let (a, b) = (&a.ballot, &b.ballot);
    (a.height, a.view) == (b.height, b.view)
        && match (a.kind, b.kind) {
            (Notarize, Notarize) | (Finalize, Finalize) => a.block_hash != b.block_hash,
            (Nullify, Finalize) | (Finalize, Nullify) => true,
            _ => false,
        }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::keys::SigningKey;

    pub(crate) const CHAIN: Hash = Hash([1; 32]);

    pub(crate) fn vote(key: &SigningKey, chain_id: &Hash, kind: VoteKind, block: u8) -> Vote {
        vote_at(7, key, chain_id, kind, block)
    }

    pub(crate) fn vote_at(
        height: u64,
        key: &SigningKey,
        chain_id: &Hash,
        kind: VoteKind,
        block: u8,
    ) -> Vote {
        let block_hash = if kind == VoteKind::Nullify { Hash::ZERO } else { Hash([block; 32]) };
        Vote::sign(Ballot { kind, height, view: 2, block_hash }, chain_id, key)
    }

    fn claim(key: &SigningKey, block: u8, leaves: u8) -> Claim {
        let (block_hash, leaves_hash) = (Hash([block; 32]), Hash([leaves; 32]));
        let proposed = Proposed { height: 7, view: 2, parent_view: 0, block_hash, leaves_hash };
        let (leader, signature) = (key.public(), key.sign(&proposed.message(&CHAIN)));
        Claim { proposed, leader, signature }
    }

    /// One of each kind.
    fn samples() -> Vec<Evidence> {
        use VoteKind::{Finalize, Notarize, Nullify};
        let key = SigningKey::from_seed(&[5; 32]);
        let vote = |kind, block| vote(&key, &CHAIN, kind, block);
        vec![
            Evidence::Proposals(claim(&key, 1, 1), claim(&key, 2, 1)),
            Evidence::Proposals(claim(&key, 1, 1), claim(&key, 1, 2)),
            Evidence::ProposalAndVote(claim(&key, 1, 1), vote(Notarize, 2)),
            Evidence::Votes(vote(Notarize, 1), vote(Notarize, 2)),
            Evidence::Votes(vote(Finalize, 1), vote(Finalize, 2)),
            Evidence::Votes(vote(Nullify, 0), vote(Finalize, 1)),
        ]
    }

    #[test]
    fn every_kind_proves_itself_and_round_trips() {
        for evidence in samples() {
            assert!(evidence.proves(&CHAIN));
            assert!(!evidence.proves(&Hash([2; 32])), "another chain's signatures");
            let proto = evidence.to_proto();
            assert_eq!((proto.first.len(), proto.second.len()), (STATEMENT_BYTES, STATEMENT_BYTES));
            let read = Evidence::from_proto(&proto).expect("its own bytes");
            assert_eq!((read.culprit(), read.place()), (evidence.culprit(), evidence.place()));
            assert_eq!((read.to_proto(), read.dedupe_key()), (proto, evidence.dedupe_key()));
            assert!(read.proves(&CHAIN));
        }
    }

    #[test]
    fn whoever_sees_another_pair_of_statements_reports_the_same_breach() {
        let keys: std::collections::BTreeSet<_> =
            samples().iter().map(Evidence::dedupe_key).collect();
        assert_eq!(keys.len(), 1, "one key, height and view");
    }

    #[test]
    fn every_flipped_bit_proves_nothing() {
        for evidence in samples() {
            let proto = evidence.to_proto();
            for bit in 0..8 * STATEMENT_BYTES {
                let mut flipped = proto.clone();
                flipped.second[bit / 8] ^= 1 << (bit % 8);
                let read = Evidence::from_proto(&flipped);
                assert!(read.is_err() || read.is_ok_and(|e| !e.proves(&CHAIN)), "bit {bit}");
            }
        }
    }

    #[test]
    fn statements_that_the_rules_allow_together_are_no_evidence() {
        use VoteKind::{Finalize, Notarize, Nullify};
        let (key, other) = (SigningKey::from_seed(&[5; 32]), SigningKey::from_seed(&[6; 32]));
        let of = |key: &SigningKey, kind, block| vote(key, &CHAIN, kind, block);
        for (a, b) in [
            (of(&key, Notarize, 1), of(&key, Finalize, 1)),
            (of(&key, Notarize, 1), of(&key, Nullify, 0)),
            (of(&key, Notarize, 1), of(&other, Notarize, 2)),
            (of(&key, Notarize, 1), of(&key, Notarize, 1)),
        ] {
            let evidence = Evidence::Votes(a, b);
            assert!(!evidence.proves(&CHAIN), "{evidence:?}");
            assert!(Evidence::from_proto(&evidence.to_proto()).is_err(), "{evidence:?}");
        }
    }
}
