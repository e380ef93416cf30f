//! Votes and proposals: what validators sign.

use crate::{
    finality::header::Block,
    hash::{Hash, Tag},
    keys::{KeyError, PublicKey, Signature, SigningKey},
};

/// What a vote says. Its value is the byte in layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum VoteKind {
    /// The block is valid and justified in this view.
    Notarize = 1,
    /// Nothing more is signed in this view.
    Nullify = 2,
    /// The block is notarized, and this view was not nullified by the signer.
    Finalize = 3,
}

impl VoteKind {
    /// Reads the byte of a layout.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Notarize),
            2 => Some(Self::Nullify),
            3 => Some(Self::Finalize),
            _ => None,
        }
    }
}

/// What is voted on. The block hash is [`Hash::ZERO`] for a nullify vote, and only then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// What is said.
    pub kind: VoteKind,
    /// The height.
    pub height: u64,
    /// The view; from 1.
    pub view: u64,
    /// The block.
    pub block_hash: Hash,
}

impl Ballot {
    /// What a vote's signature covers: tag, chain id, kind (1 byte), height, view, block hash.
    pub fn message(&self, chain_id: &Hash) -> Vec<u8> {
        Tag::VOTE.message(&[
            chain_id.as_bytes(),
            &[self.kind as u8],
            &self.height.to_be_bytes(),
            &self.view.to_be_bytes(),
            self.block_hash.as_bytes(),
        ])
    }
}

/// A signed ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// What is said.
    pub ballot: Ballot,
    /// Who says it.
    pub validator: PublicKey,
    /// Over [`Ballot::message`].
    pub signature: Signature,
}

impl Vote {
    /// Signs a ballot.
    pub fn sign(ballot: Ballot, chain_id: &Hash, key: &SigningKey) -> Self {
        let signature = key.sign(&ballot.message(chain_id));
        Self { ballot, validator: key.public(), signature }
    }

    /// Checks the signature; not whether the signer is a validator.
    ///
    /// # Errors
    /// [`KeyError::Signature`].
    pub fn verify(&self, chain_id: &Hash) -> Result<(), KeyError> {
        self.validator.verify(&self.ballot.message(chain_id), &self.signature)
    }
}

/// A leader's proposal of one block in one view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The view it is proposed in; the height is the block's.
    pub view: u64,
    /// The view whose notarization it rests on; 0 for a new block.
    pub parent_view: u64,
    /// The block. Its header's view is the one it was first proposed in.
    pub block: Block,
    /// The leader of (height, view).
    pub leader: PublicKey,
    /// Over tag, chain id, height, view, parent view, block hash, leaves hash.
    pub signature: Signature,
}

/// What a proposal's signature covers, beside the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// The height.
    pub height: u64,
    /// The view.
    pub view: u64,
    /// The view whose notarization it rests on; 0 for a new block.
    pub parent_view: u64,
    /// Hash of the proposed block.
    pub block_hash: Hash,
    /// Hash of its leaves ([`Block::leaves_hash`]): whoever passes the proposal on cannot put others in
    /// their place.
    pub leaves_hash: Hash,
}

impl Proposed {
    /// The signed message.
    pub fn message(&self, chain_id: &Hash) -> Vec<u8> {
        Tag::PROPOSAL.message(&[
            chain_id.as_bytes(),
            &self.height.to_be_bytes(),
            &self.view.to_be_bytes(),
            &self.parent_view.to_be_bytes(),
            self.block_hash.as_bytes(),
            self.leaves_hash.as_bytes(),
        ])
    }
}

impl Proposal {
    /// Signs a proposal.
    pub fn sign(
        block: Block,
        view: u64,
        parent_view: u64,
        chain_id: &Hash,
        key: &SigningKey,
    ) -> Self {
        let unsigned =
            Self { view, parent_view, block, leader: key.public(), signature: Signature([0; 64]) };
        let signature = key.sign(&unsigned.proposed().message(chain_id));
        Self { signature, ..unsigned }
    }

    /// What is proposed, as it is signed.
    pub fn proposed(&self) -> Proposed {
        Proposed {
            height: self.block.header.height,
            view: self.view,
            parent_view: self.parent_view,
            block_hash: self.block.hash(),
            leaves_hash: self.block.leaves_hash(),
        }
    }

    /// Checks the signature; not whether the signer leads the view.
    ///
    /// # Errors
    /// [`KeyError::Signature`].
    pub fn verify(&self, chain_id: &Hash) -> Result<(), KeyError> {
        self.leader.verify(&self.proposed().message(chain_id), &self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vote_means_nothing_on_another_chain() {
        let key = SigningKey::from_seed(&[1; 32]);
        let ballot =
            Ballot { kind: VoteKind::Notarize, height: 3, view: 1, block_hash: Hash([9; 32]) };
        let vote = Vote::sign(ballot, &Hash([1; 32]), &key);
        assert_eq!(vote.verify(&Hash([1; 32])), Ok(()));
        assert_eq!(vote.verify(&Hash([2; 32])), Err(KeyError::Signature));
        for other in [
            Ballot { kind: VoteKind::Finalize, ..ballot },
            Ballot { height: 4, ..ballot },
            Ballot { view: 2, ..ballot },
            Ballot { block_hash: Hash([8; 32]), ..ballot },
        ] {
            let moved = Vote { ballot: other, ..vote };
            assert_eq!(moved.verify(&Hash([1; 32])), Err(KeyError::Signature), "{other:?}");
        }
    }

    #[test]
    fn a_proposal_is_signed_with_its_leaves() {
        let (key, chain_id) = (SigningKey::from_seed(&[1; 32]), Hash([1; 32]));
        let leaves = vec![Hash([1; 32]), Hash([2; 32])];
        let block = Block { header: crate::finality::header::tests::header(), leaves };
        let proposal = Proposal::sign(block, 3, 1, &chain_id, &key);
        assert_eq!(proposal.verify(&chain_id), Ok(()));
        let changes: [fn(&mut Proposal); 7] = [
            |p| p.view = 4,
            |p| p.parent_view = 0,
            |p| p.block.header.view = 9,
            |p| p.block.leaves.clear(),
            |p| p.block.leaves.swap(0, 1),
            |p| p.block.leaves[1].0[31] ^= 1,
            |p| p.block.leaves.push(Hash([3; 32])),
        ];
        for (row, change) in changes.iter().enumerate() {
            let mut changed = proposal.clone();
            change(&mut changed);
            assert_eq!(changed.verify(&chain_id), Err(KeyError::Signature), "row {row}");
        }
    }
}
