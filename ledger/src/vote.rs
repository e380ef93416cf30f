//! Votes and proposals: what validators sign.

use crate::{
    hash::{Hash, Tag},
    header::Block,
    keys::{KeyError, PublicKey, Signature, SigningKey},
};

/// What a vote says (DESIGN §4). Its value is the byte in layouts.
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
    /// Of which height.
    pub height: u64,
    /// Of which view; from 1.
    pub view: u64,
    /// Of which block.
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
    /// Over tag, chain id, height, view, parent view, block hash.
    pub signature: Signature,
}

impl Proposal {
    /// What the signature covers.
    pub fn message(
        chain_id: &Hash,
        height: u64,
        view: u64,
        parent_view: u64,
        block_hash: &Hash,
    ) -> Vec<u8> {
        Tag::PROPOSAL.message(&[
            chain_id.as_bytes(),
            &height.to_be_bytes(),
            &view.to_be_bytes(),
            &parent_view.to_be_bytes(),
            block_hash.as_bytes(),
        ])
    }

    /// Signs a proposal.
    pub fn sign(
        block: Block,
        view: u64,
        parent_view: u64,
        chain_id: &Hash,
        key: &SigningKey,
    ) -> Self {
        let message =
            Self::message(chain_id, block.header.height, view, parent_view, &block.hash());
        Self { view, parent_view, block, leader: key.public(), signature: key.sign(&message) }
    }

    /// Checks the signature; not whether the signer leads the view.
    ///
    /// # Errors
    /// [`KeyError::Signature`].
    pub fn verify(&self, chain_id: &Hash) -> Result<(), KeyError> {
        let height = self.block.header.height;
        let message =
            Self::message(chain_id, height, self.view, self.parent_view, &self.block.hash());
        self.leader.verify(&message, &self.signature)
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
}
