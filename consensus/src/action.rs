//! What the core asks of the shell.

use customhouse_ledger::{
    finality::{
        certificate::Certificate,
        header::{Block, Header},
    },
    hash::Hash,
    keys::PublicKey,
};

use crate::input::PeerTag;
use customhouse_ledger::finality::evidence::Evidence;

/// Something to do. Actions may be carried out in any order and at leisure; what comes of them is
/// an [`crate::Input`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "actions are few and live in short vectors: boxing evidence would only allocate"
)]
pub enum Action {
    /// Build a new block on the tip, store it durably with its bodies, answer
    /// [`crate::Input::Built`]. Where there is nothing to include, an empty one, or, if it may not be
    /// empty, [`crate::Input::Work`] that says so.
    Build(Build),
    /// Check a block, store it durably with its bodies, answer [`crate::Input::Validated`].
    Validate(Validate),
    /// Commit the block with its finalization, durably, answer [`crate::Input::Committed`]. Bodies
    /// that are missing are fetched from the signers first. A block that does not execute to its
    /// own roots here means that this node is damaged: stop.
    Commit {
        /// The block that was decided.
        block: Block,
        /// The finalization that decided it.
        finalization: Certificate,
    },
    /// Get a block by its hash with its bodies, store them durably, answer
    /// [`crate::Input::Fetched`]. The peers may have committed it already.
    FetchBlock {
        /// Height of the block.
        height: u64,
        /// Its hash.
        block_hash: Hash,
        /// Validators that have it.
        from: Vec<PublicKey>,
    },
    /// Ask peers for the notarization and the nullification of a view. What comes is fed as
    /// [`crate::Message::Certificate`].
    FetchCertificates {
        /// The height.
        height: u64,
        /// The view.
        view: u64,
    },
    /// Blocks up to at least this height have been committed by others: fetch those above the tip
    /// with their certificates, and feed them in order as [`crate::Input::Certified`].
    SyncFrom {
        /// A peer that has them.
        peer: PeerTag,
        /// The height it has.
        height: u64,
    },
    /// The height stands still: gossip the oldest pending transactions again.
    ResendTransactions,
    /// A validator has provably broken a rule. Store it.
    Evidence(Evidence),
    /// Something that was handed over earlier, or that is not a message, was dropped: a message that
    /// was held for this height, or a certified block. What became of the message of this very step
    /// is [`crate::Effects::reception`], and never here: whoever is speaking has nothing to do with
    /// it.
    Refused {
        /// Who handed it over.
        peer: PeerTag,
        /// Why it was dropped.
        reason: Refusal,
    },
    /// This node's key signs no more from here on: tell the operator why. The node goes on as an
    /// observer.
    StoppedSigning {
        /// Why.
        reason: StopReason,
    },
    /// The core will do nothing more: more than f validators are faulty, or the store is not what
    /// was agreed. Tell the operator and stop.
    Halt {
        /// Why.
        reason: HaltReason,
    },
}

/// What a new block must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// The header's height.
    pub height: u64,
    /// The header's view.
    pub view: u64,
    /// The header's proposer.
    pub proposer: PublicKey,
    /// The header's time, Unix milliseconds.
    pub time_ms: u64,
    /// Hash of the tip, the header's parent.
    pub parent_hash: Hash,
    /// The most bytes of transactions to include, unless the only one has more.
    pub block_bytes_max: u64,
    /// Whether a block is due in any case.
    pub may_be_empty: bool,
}

/// What to check of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validate {
    /// The block.
    pub block: Block,
    /// The view it is proposed in.
    pub view: u64,
    /// True: a new block, to be executed on the committed state and compared in full. False: a
    /// block that a quorum has notarized; its bodies are fetched and stored, that they belong to
    /// the header is checked, and nothing else.
    pub new: bool,
    /// Validators that have the bodies.
    pub from: Vec<PublicKey>,
}

/// What became of the message that a step was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reception {
    /// All of it was verified, or is held in these very bytes: it may be passed on.
    Accepted,
    /// All of it was verified, and it is for a ballot whose certificate this node has sent to all: whoever
    /// needs it has that, and it need not be passed on by itself.
    Contained,
    /// Kept for the next height, whose validators will judge it. Not passed on: nobody knows yet
    /// whether it is worth anything.
    Held,
    /// Of no use here, and not verified: not passed on, and not held against anybody.
    Ignored(Refusal),
    /// An honest peer would not have passed it on: whoever did is charged with it.
    Refused(Refusal),
}

impl From<Result<Reception, Refusal>> for Reception {
    fn from(outcome: Result<Reception, Refusal>) -> Self {
        match outcome {
            Ok(reception) => reception,
            Err(reason) if reason.is_fault() => Self::Refused(reason),
            Err(reason) => Self::Ignored(reason),
        }
    }
}

/// Why a message was dropped. Where [`Refusal::is_fault`] says so, an honest peer would not have
/// passed it on; otherwise it was only of no use here, was not verified, and should not be passed
/// on either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refusal {
    /// A signature of a vote or proposal does not verify.
    #[error("the signature does not verify")]
    Signature,
    /// A certificate is not one of a quorum of these validators.
    #[error("the certificate does not verify")]
    Certificate,
    /// The signer is not a validator of this height.
    #[error("the signer is not a validator")]
    NotAValidator,
    /// The proposal's signer does not lead its view.
    #[error("the proposal is not by the view's leader")]
    NotTheLeader,
    /// The view is too far from the current one. Honest while this node lags.
    #[error("the view is too far from the current one")]
    FarView,
    /// The block breaks a rule that its header or its size shows.
    #[error("the proposed block breaks a rule")]
    Block,
    /// A tip of another chain.
    #[error("the tip is of another chain")]
    ForeignTip,
    /// Of a height beyond the next, or of the next where there is no room left for its author.
    #[error("too early")]
    TooEarly,
    /// A tip that other validators than those of this height have certified, if anybody has.
    #[error("it cannot be verified at this height")]
    Unverifiable,
    /// Of this node's own key, though its journal does not have it: the key has stopped signing.
    #[error("by this node's own key")]
    OwnKey,
    /// Of a height that is committed here.
    #[error("of a height that is committed")]
    Past,
    /// What it says is known already, though not in these very bytes.
    #[error("known already")]
    Known,
}

impl Refusal {
    /// Whether an honest peer would not have passed it on.
    pub fn is_fault(self) -> bool {
        match self {
            Self::FarView
            | Self::TooEarly
            | Self::Unverifiable
            | Self::OwnKey
            | Self::Past
            | Self::Known => false,
            Self::Signature
            | Self::Certificate
            | Self::NotAValidator
            | Self::NotTheLeader
            | Self::Block
            | Self::ForeignTip => true,
        }
    }
}

/// Why a key stopped signing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    /// A peer holds a valid signature of this key that the journal does not have.
    #[error(
        "a peer holds a signature by this node's key at height {height}, view {view} that the \
         signer's journal does not have: the journal was lost or rolled back, or the key is used \
         elsewhere; register a new key"
    )]
    UnknownOwnSignature {
        /// Height of the signature.
        height: u64,
        /// View of the signature.
        view: u64,
    },
}

/// Why the core halted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HaltReason {
    /// Two certificates that cannot both exist while at most f validators are faulty.
    #[error("two certificates that contradict each other at height {}", .0.ballot.height)]
    ContradictingCertificates(Box<Certificate>, Box<Certificate>),
    /// A finalized block does not follow the committed one.
    #[error("the finalized block of height {} does not follow the committed one", .0.height)]
    ForeignBlock(Box<Header>),
    /// The ledger committed a block that was not decided here.
    #[error("the ledger committed {committed} at height {height} where {decided:?} was decided")]
    WrongCommit {
        /// The height.
        height: u64,
        /// What was decided, if anything was.
        decided: Option<Hash>,
        /// What the ledger has.
        committed: Hash,
    },
}
