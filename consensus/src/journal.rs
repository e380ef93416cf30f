//! What must survive a crash, and its bytes.

use customhouse_ledger::finality::{
    certificate::Certificate,
    vote::{Proposal, Vote},
};
use customhouse_proto::v1;
use prost::Message as _;

use crate::wire::{self, WireError};

/// An entry of the signer's journal, the only home of what it holds.
///
/// Entries are needed until their height has been committed. A journal that drops those of
/// committed heights keeps one [`Entry::Watermark`] in their place.
#[derive(Clone, Debug, PartialEq, Eq)]
// Entries are made one at a time and live in short vectors; a box would only add a pointer.
#[allow(clippy::large_enum_variant)]
pub enum Entry {
    /// A proposal: this node's own, or one that it notarized (its block and bodies are stored).
    Proposal(Proposal),
    /// A vote of this node.
    Vote(Vote),
    /// A certificate acted on: a finalize was signed on it, or a view entered by it.
    Certificate(Certificate),
    /// Nothing is signed any more up to and including this height.
    Watermark(u64),
}

impl Entry {
    /// The height that it is of.
    pub fn height(&self) -> u64 {
        match self {
            Self::Proposal(proposal) => proposal.block.header.height,
            Self::Vote(vote) => vote.ballot.height,
            Self::Certificate(certificate) => certificate.ballot.height,
            Self::Watermark(height) => *height,
        }
    }

    /// One byte of kind, then the peer message's bytes (proposal, vote), the fixed layout
    /// (certificate) or 8 big-endian bytes (watermark).
    pub fn encode(&self) -> Vec<u8> {
        let (kind, body) = match self {
            Self::Proposal(proposal) => (1, wire::proposal_to_proto(proposal).encode_to_vec()),
            Self::Vote(vote) => (2, wire::vote_to_proto(vote).encode_to_vec()),
            Self::Certificate(certificate) => (3, certificate.encode()),
            Self::Watermark(height) => (4, height.to_be_bytes().to_vec()),
        };
        let mut bytes = Vec::with_capacity(1 + body.len());
        bytes.push(kind);
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Reads what [`Entry::encode`] wrote.
    ///
    /// # Errors
    /// [`WireError`]: the journal is damaged, since its checksums held.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (&kind, body) = bytes.split_first().ok_or(WireError::Missing("kind"))?;
        match kind {
            1 => {
                wire::limit("proposal", body.len(), wire::MESSAGE_BYTES_MAX)?;
                Ok(Self::Proposal(wire::proposal_from_proto(&v1::Proposal::decode(body)?)?))
            }
            2 => {
                wire::limit("vote", body.len(), wire::MESSAGE_BYTES_MAX)?;
                Ok(Self::Vote(wire::vote_from_proto(&v1::Vote::decode(body)?)?))
            }
            3 => Ok(Self::Certificate(wire::certificate_from_bytes(body)?)),
            4 => {
                let bytes = body.try_into().map_err(|_| WireError::Value("watermark"))?;
                Ok(Self::Watermark(u64::from_be_bytes(bytes)))
            }
            _ => Err(WireError::Value("kind")),
        }
    }
}
