//! Messages and their protobuf bytes, with limits.
//!
//! Decoding checks form only (lengths, ranges, that a nullify names no block); signatures are
//! [`crate::Core`]'s to check.

use customhouse_ledger::{
    finality::{
        certificate::{Certificate, CertificateError},
        header::{Block, Header},
        vote::{Ballot, Proposal, Vote, VoteKind},
    },
    hash::{Hash, LengthError},
    keys::{KeyError, PublicKey, Signature},
    layout::LayoutError,
    limits::{BLOCK_TRANSACTIONS_MAX, CERTIFICATE_BYTES_MAX},
};
use customhouse_proto::v1::{self, consensus_message, vote::Kind};
use prost::Message as _;

use crate::input::{CertifiedTip, Message};

/// Most bytes of an encoded message: a proposal of [`BLOCK_TRANSACTIONS_MAX`] transactions, each with
/// its field's 2 bytes of tag and length, and the rest of it.
pub const MESSAGE_BYTES_MAX: usize = BLOCK_TRANSACTIONS_MAX * (32 + 2) + 1024;

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not protobuf of this message.
    #[error("not a protobuf message of this type: {0}")]
    Decode(#[from] prost::DecodeError),
    /// A field that must be there is not.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A field has a value that it may not have.
    #[error("`{0}` is not a valid value")]
    Value(&'static str),
    /// Larger than it may be; found before it is decoded, where it can be.
    #[error("`{name}` is {found}, more than {max}")]
    TooLarge {
        /// What.
        name: &'static str,
        /// Its bytes, or elements.
        found: usize,
        /// The most it may have.
        max: usize,
    },
    /// A hash or signature of another length.
    #[error("{0}")]
    Length(#[from] LengthError),
    /// Not a key.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// Not a header.
    #[error("header: {0}")]
    Header(#[from] LayoutError),
    /// Not a certificate.
    #[error("{0}")]
    Certificate(#[from] CertificateError),
}

impl Message {
    /// Protobuf `ConsensusMessage`.
    pub fn encode(&self) -> Vec<u8> {
        self.to_proto().encode_to_vec()
    }

    /// Reads protobuf `ConsensusMessage`.
    ///
    /// # Errors
    /// [`WireError`]; more than [`MESSAGE_BYTES_MAX`] is refused before it is decoded.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        limit("message", bytes.len(), MESSAGE_BYTES_MAX)?;
        Self::from_proto(&v1::ConsensusMessage::decode(bytes)?)
    }

    /// The protobuf message.
    pub fn to_proto(&self) -> v1::ConsensusMessage {
        use consensus_message::Message as Proto;
        let message = match self {
            Self::Proposal(proposal) => Proto::Proposal(proposal_to_proto(proposal)),
            Self::Vote(vote) => Proto::Vote(vote_to_proto(vote)),
            Self::Certificate(certificate) => Proto::Certificate(certificate.encode()),
            Self::Tip(tip) => Proto::Tip(tip_to_proto(tip)),
        };
        v1::ConsensusMessage { message: Some(message) }
    }

    /// Checks the form of a protobuf message.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn from_proto(message: &v1::ConsensusMessage) -> Result<Self, WireError> {
        use consensus_message::Message as Proto;
        Ok(match message.message.as_ref().ok_or(WireError::Missing("message"))? {
            Proto::Proposal(proposal) => Self::Proposal(proposal_from_proto(proposal)?),
            Proto::Vote(vote) => Self::Vote(vote_from_proto(vote)?),
            Proto::Certificate(bytes) => Self::Certificate(certificate_from_bytes(bytes)?),
            Proto::Tip(tip) => Self::Tip(tip_from_proto(tip)?),
        })
    }
}

pub(crate) fn limit(name: &'static str, found: usize, max: usize) -> Result<(), WireError> {
    if found > max { Err(WireError::TooLarge { name, found, max }) } else { Ok(()) }
}

/// The protobuf block.
pub fn block_to_proto(block: &Block) -> v1::Block {
    v1::Block {
        header: block.header.encode(),
        leaves: block.leaves.iter().map(|leaf| leaf.0.to_vec()).collect(),
    }
}

/// Checks the form of a protobuf block; not that the leaves belong to the header.
///
/// # Errors
/// [`WireError`].
pub fn block_from_proto(block: &v1::Block) -> Result<Block, WireError> {
    limit("leaves", block.leaves.len(), BLOCK_TRANSACTIONS_MAX)?;
    Ok(Block {
        header: Header::decode(&block.header)?,
        leaves: block.leaves.iter().map(|l| Hash::from_slice(l)).collect::<Result<_, _>>()?,
    })
}

/// The protobuf proposal.
pub fn proposal_to_proto(proposal: &Proposal) -> v1::Proposal {
    v1::Proposal {
        view: proposal.view,
        parent_view: proposal.parent_view,
        block: Some(block_to_proto(&proposal.block)),
        leader: proposal.leader.as_bytes().to_vec(),
        signature: proposal.signature.0.to_vec(),
    }
}

/// Checks the form of a protobuf proposal.
///
/// # Errors
/// [`WireError`].
pub fn proposal_from_proto(proposal: &v1::Proposal) -> Result<Proposal, WireError> {
    if proposal.view == 0 {
        return Err(WireError::Value("view"));
    }
    if proposal.parent_view >= proposal.view {
        return Err(WireError::Value("parent_view"));
    }
    Ok(Proposal {
        view: proposal.view,
        parent_view: proposal.parent_view,
        block: block_from_proto(proposal.block.as_ref().ok_or(WireError::Missing("block"))?)?,
        leader: PublicKey::from_slice(&proposal.leader)?,
        signature: Signature::from_slice(&proposal.signature)?,
    })
}

/// The protobuf vote.
pub fn vote_to_proto(vote: &Vote) -> v1::Vote {
    let (kind, block_hash) = match vote.ballot.kind {
        VoteKind::Notarize => (Kind::Notarize, vote.ballot.block_hash.0.to_vec()),
        VoteKind::Nullify => (Kind::Nullify, Vec::new()),
        VoteKind::Finalize => (Kind::Finalize, vote.ballot.block_hash.0.to_vec()),
    };
    v1::Vote {
        kind: kind as i32,
        height: vote.ballot.height,
        view: vote.ballot.view,
        block_hash,
        validator: vote.validator.as_bytes().to_vec(),
        signature: vote.signature.0.to_vec(),
    }
}

/// Checks the form of a protobuf vote.
///
/// # Errors
/// [`WireError`].
pub fn vote_from_proto(vote: &v1::Vote) -> Result<Vote, WireError> {
    let (kind, block_hash) = match vote.kind() {
        Kind::Unspecified => return Err(WireError::Value("kind")),
        Kind::Nullify if vote.block_hash.is_empty() => (VoteKind::Nullify, Hash::ZERO),
        Kind::Nullify => return Err(WireError::Value("block_hash")),
        Kind::Notarize => (VoteKind::Notarize, Hash::from_slice(&vote.block_hash)?),
        Kind::Finalize => (VoteKind::Finalize, Hash::from_slice(&vote.block_hash)?),
    };
    if vote.view == 0 {
        return Err(WireError::Value("view"));
    }
    Ok(Vote {
        ballot: Ballot { kind, height: vote.height, view: vote.view, block_hash },
        validator: PublicKey::from_slice(&vote.validator)?,
        signature: Signature::from_slice(&vote.signature)?,
    })
}

/// Reads a certificate's fixed layout, with a limit; its signatures are not checked.
///
/// # Errors
/// [`WireError`].
pub fn certificate_from_bytes(bytes: &[u8]) -> Result<Certificate, WireError> {
    limit("certificate", bytes.len(), CERTIFICATE_BYTES_MAX)?;
    let certificate = Certificate::decode(bytes)?;
    if certificate.ballot.view == 0 {
        return Err(WireError::Value("view"));
    }
    Ok(certificate)
}

/// The protobuf tip.
pub fn tip_to_proto(tip: &CertifiedTip) -> v1::Tip {
    v1::Tip { header: tip.header.encode(), certificate: tip.finalization.encode() }
}

/// Checks the form of a protobuf tip, and that certificate and header are of one block.
///
/// # Errors
/// [`WireError`].
pub fn tip_from_proto(tip: &v1::Tip) -> Result<CertifiedTip, WireError> {
    let header = Header::decode(&tip.header)?;
    let finalization = certificate_from_bytes(&tip.certificate)?;
    let ballot = finalization.ballot;
    let named = (ballot.kind, ballot.height, ballot.block_hash);
    if named != (VoteKind::Finalize, header.height, header.hash()) {
        return Err(WireError::Value("certificate"));
    }
    Ok(CertifiedTip { header, finalization })
}
