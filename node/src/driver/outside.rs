//! What the driver needs of the world: the node gives it channels and tasks ([`super::shell`]), the
//! simulator a virtual network, disk and clock.

use std::sync::Arc;

use bytes::Bytes;
use customhouse_consensus::{Evidence, Journal, Message, Now, Validate};
use customhouse_ledger::{
    agency::AgencyCode,
    chain::BlockOutcome,
    finality::{certificate::Certificate, header::Block},
    hash::Hash,
    keys::PublicKey,
};

use super::ConsensusStatus;
use crate::journal::JournalError;

/// The world around a driver. Nothing here waits.
pub trait Outside {
    /// What time it is.
    fn now(&self) -> Now;
    /// Whether that is what the other validators' clocks say, as far as it is known. While it is not,
    /// nobody would vote for a block with this time.
    fn clock_is_right(&self) -> bool {
        true
    }
    /// Sends consensus messages to all peers.
    fn publish(&mut self, messages: Vec<Message>);
    /// Sends a consensus message to one peer.
    fn push(&mut self, peer: PublicKey, message: Message);
    /// A peer has handed over what no honest peer would have, otherwise than by gossip with a judgement:
    /// it is held against this peer, and no other.
    fn charge(&mut self, peer: PublicKey, reason: &'static str);
    /// Sends an encoded transaction to all peers.
    fn publish_transaction(&mut self, encoded: Bytes);
    /// Gets something from peers; the answer comes back as a [`super::DriverInput`].
    fn fetch(&mut self, fetch: Fetch);
    /// Whether committed blocks are being fetched that are known to be there.
    fn is_catching_up(&self) -> bool;
    /// A block was committed and is durable.
    fn committed(&mut self, block: Arc<BlockOutcome>);
    /// These peers may connect from now on, and no others.
    fn listed(&mut self, peers: &[(AgencyCode, PublicKey)]);
    /// A validator has provably broken a rule.
    fn evidence(&mut self, evidence: &Evidence);
    /// How consensus stands, whether it has changed or not.
    fn status(&mut self, status: ConsensusStatus);
}

/// What a signing key remembers, durably.
pub trait SignerMemory: Journal<Error = JournalError> {
    /// A height is committed: what was kept for it is no longer needed.
    ///
    /// # Errors
    /// A failing disk.
    fn height_committed(&mut self, height: u64) -> Result<(), JournalError>;
}

/// Something that only peers have. Peers are named by their own keys, whatever they are asked about.
#[derive(Debug)]
pub enum Fetch {
    /// Bodies of transactions of a block, from these peers first.
    Bodies {
        /// What they are for.
        purpose: Purpose,
        /// Log leaf hashes.
        missing: Vec<Hash>,
        /// Who should have them.
        from: Vec<PublicKey>,
    },
    /// A block of the height in progress, from these peers first, without giving up while it is in
    /// progress. Asked for again, it is the same fetch.
    Block {
        /// Its height.
        height: u64,
        /// Its hash.
        block_hash: Hash,
        /// Who should have it.
        from: Vec<PublicKey>,
    },
    /// The certificates of a view.
    Certificates {
        /// The height.
        height: u64,
        /// The view.
        view: u64,
    },
    /// Which signatures of this node's key a peer holds.
    OwnSignatures {
        /// Who is asked.
        peer: PublicKey,
        /// The key.
        validator: PublicKey,
        /// The lowest height that is asked about.
        from_height: u64,
    },
    /// Committed blocks up to a height, unless that is under way.
    CatchUp {
        /// Which height.
        height: u64,
    },
}

/// What bodies are fetched for.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// To check a proposed block. Given up where nobody has them: the core asks again.
    Validate(Validate),
    /// To store a block that a quorum voted for.
    Store(Block),
    /// To commit a block that was decided.
    Commit {
        /// The block.
        block: Block,
        /// Its finalization.
        finalization: Certificate,
    },
}

impl Purpose {
    pub(super) fn block(&self) -> &Block {
        match self {
            Self::Validate(validate) => &validate.block,
            Self::Store(block) | Self::Commit { block, .. } => block,
        }
    }

    /// Whether nothing goes on without them.
    pub(super) fn is_needed(&self) -> bool {
        !matches!(self, Self::Validate(_))
    }

    /// Whether one answer does for both. They are of one block.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Validate(one), Self::Validate(other)) => one.view == other.view,
            (one, other) => std::mem::discriminant(one) == std::mem::discriminant(other),
        }
    }
}
