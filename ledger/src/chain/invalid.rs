//! Why a transaction cannot be in a block, why a block is not valid, why it was not committed.

use crate::{
    agency::AgencyCode,
    agreement::AgreementInvalid,
    hash::Hash,
    limits::{BLOCK_AGREEMENT_CHANGES_MAX, BLOCK_REFERENCES_MAX, IN_SYNC_HEIGHTS_MAX},
    proofs::verifier::FinalityError,
    registry::{ApplyError, SignerRefused, parameters::KindNotOpen},
    store::StoreError,
};

/// Why a well-formed, well-signed transaction cannot be in the next block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionInvalid {
    /// For another chain.
    #[error("for chain {0}, which is another")]
    WrongChain(Hash),
    /// The block's time is past the transaction's last.
    #[error("expired: not after {not_after_ms} ms, the block has {time_ms} ms")]
    Expired {
        /// The transaction's last time, Unix milliseconds.
        not_after_ms: u64,
        /// The block's time, Unix milliseconds.
        time_ms: u64,
    },
    /// It could stay valid for too long.
    #[error("not after {not_after_ms} ms is beyond the latest allowed, {latest_ms} ms")]
    LivesTooLong {
        /// The transaction's last time, Unix milliseconds.
        not_after_ms: u64,
        /// The latest that the block's time and the parameters allow, Unix milliseconds.
        latest_ms: u64,
    },
    /// The key is not registered for signing at this height.
    #[error("key {0} is not registered for signing at this height")]
    UnknownSigner(Hash),
    /// The key is registered for another agency.
    #[error("the key signs for {registered}, not for {stated}")]
    SignerAgency {
        /// In the registry.
        registered: AgencyCode,
        /// In the transaction.
        stated: AgencyCode,
    },
    /// The key may not sign one of the slots, or its record.
    #[error("slots[{position}]: {refused}")]
    SignerRecord {
        /// Of the slot in the transaction.
        position: usize,
        /// Why.
        refused: SignerRefused,
    },
    /// More bytes than the parameters allow.
    #[error("{bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// Of the transaction.
        bytes: u64,
        /// The parameter.
        max: u64,
    },
    /// More slots than the parameters allow.
    #[error("{slots} slots, at most {max} are allowed")]
    TooManySlots {
        /// In the transaction.
        slots: u64,
        /// The parameter.
        max: u64,
    },
    /// A record has more bytes than the parameters allow.
    #[error("records[{position}]: {bytes} bytes, at most {max} are allowed")]
    RecordTooLarge {
        /// Of the record in the transaction.
        position: usize,
        /// Of the record.
        bytes: u64,
        /// The parameter.
        max: u64,
    },
    /// A record of a kind that may not be lodged open.
    #[error("slots[{position}]: {refused}")]
    KindNotOpen {
        /// Of the slot in the transaction.
        position: usize,
        /// Why.
        refused: KindNotOpen,
    },
    /// Its id is on the chain.
    #[error("committed before, at log index {0}")]
    AlreadyCommitted(u64),
    /// Its id is earlier in the block.
    #[error("twice in the block")]
    TwiceInBlock,
    /// It reports a breach by a key that was not a validator's then.
    #[error("misbehaviour: key {key} was no validator's at height {height}")]
    Culprit {
        /// The accused key.
        key: Hash,
        /// Of the breach.
        height: u64,
    },
    /// Another change of the registry is earlier in the block.
    #[error("registry_change: the block has another before it, and may have one only")]
    SecondChange,
    /// The block's time is past the proposal's last.
    #[error(
        "registry_change.proposal: not after {not_after_ms} ms, the block has {time_ms} ms; propose \
         it again"
    )]
    ChangeExpired {
        /// The proposal's last time, Unix milliseconds.
        not_after_ms: u64,
        /// The block's time, Unix milliseconds.
        time_ms: u64,
    },
    /// Approved by a key that does not decide this block.
    #[error("registry_change.approvals: {0} is no validator's key at this height")]
    Approver(Hash),
    /// No quorum approves.
    #[error("registry_change.approvals: {approvals}, a quorum of {quorum} is needed")]
    TooFewApprovals {
        /// How many there are.
        approvals: usize,
        /// How many are needed.
        quorum: usize,
    },
    /// The new validator's key was in sync too long ago, or says so of a block that is not committed.
    #[error(
        "registry_change.in_sync: of height {height}, where one of {oldest} to {newest} (the newest \
         {IN_SYNC_HEIGHTS_MAX}) is needed; sign the newest block"
    )]
    InSyncHeight {
        /// What it was signed for.
        height: u64,
        /// The lowest that would do.
        oldest: u64,
        /// The tip's.
        newest: u64,
    },
    /// The new validator's key signed another block.
    #[error("registry_change.in_sync: this chain has another block at height {height}")]
    InSyncBlock {
        /// What it was signed for.
        height: u64,
    },
    /// The change does not apply to the registry.
    #[error("registry_change.proposal: {0}")]
    Change(#[from] ApplyError),
    /// As many changes of agreements are earlier in the block as one may have.
    #[error(
        "agreement_change: {BLOCK_AGREEMENT_CHANGES_MAX} are earlier in the block, and a later block may have it"
    )]
    ManyAgreementChanges,
    /// The change does not apply to the agreements.
    #[error("agreement_change.{0}")]
    Agreement(#[from] AgreementInvalid),
}

impl TransactionInvalid {
    /// A stable code for clients and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::WrongChain(_) => "WRONG_CHAIN",
            Self::Expired { .. } => "EXPIRED",
            Self::LivesTooLong { .. } => "LIVES_TOO_LONG",
            Self::UnknownSigner(_) => "UNKNOWN_SIGNER",
            Self::SignerAgency { .. } => "SIGNER_AGENCY",
            Self::SignerRecord { refused, .. } => refused.code(),
            Self::TooLarge { .. } => "TRANSACTION_TOO_LARGE",
            Self::TooManySlots { .. } => "SLOT_COUNT",
            Self::RecordTooLarge { .. } => "RECORD_TOO_LARGE",
            Self::KindNotOpen { refused, .. } => refused.code(),
            Self::AlreadyCommitted(_) => "ALREADY_COMMITTED",
            Self::TwiceInBlock => "TWICE_IN_BLOCK",
            Self::Culprit { .. } => "MISBEHAVIOUR_KEY",
            Self::SecondChange => "REGISTRY_SECOND_CHANGE",
            Self::ChangeExpired { .. } => "REGISTRY_CHANGE_EXPIRED",
            Self::Approver(_) => "REGISTRY_APPROVER",
            Self::TooFewApprovals { .. } => "REGISTRY_APPROVALS",
            Self::InSyncHeight { .. } | Self::InSyncBlock { .. } => "REGISTRY_IN_SYNC",
            Self::Change(error) => error.code(),
            Self::ManyAgreementChanges => "AGREEMENT_MANY_CHANGES",
            Self::Agreement(invalid) => invalid.code(),
        }
    }
}

/// Why a block is not valid on the committed state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockInvalid {
    /// A version of the rules that is not in force.
    #[error("version {0} of the rules is not in force")]
    Version(u16),
    /// Another chain.
    #[error("of another chain")]
    WrongChain,
    /// Not the next height.
    #[error("height {found} where {expected} is next")]
    Height {
        /// The next.
        expected: u64,
        /// The block's.
        found: u64,
    },
    /// A parent other than the tip.
    #[error("its parent is not the tip")]
    Parent,
    /// Not strictly above the parent's time.
    #[error("time {found} ms is not above the parent's {parent} ms")]
    Time {
        /// The parent's, Unix milliseconds.
        parent: u64,
        /// The block's, Unix milliseconds.
        found: u64,
    },
    /// View 0, which only the genesis header has.
    #[error("view 0")]
    View,
    /// The proposer does not lead the view.
    #[error("the proposer does not lead the view")]
    Proposer,
    /// The transactions are not those that the block names.
    #[error("the transactions are not those that the block names")]
    Leaves,
    /// More transactions than the parameters allow.
    #[error("{count} transactions, at most {max} are allowed")]
    TooManyTransactions {
        /// In the block.
        count: u64,
        /// The parameter.
        max: u64,
    },
    /// More bytes than the parameters allow.
    #[error("{bytes} bytes of transactions, at most {max} are allowed")]
    TooLarge {
        /// Of the block's transactions.
        bytes: u64,
        /// The parameter.
        max: u64,
    },
    /// More references than a block may have.
    #[error("{0} references, at most {BLOCK_REFERENCES_MAX} are allowed")]
    TooManyReferences(usize),
    /// A transaction cannot be in it.
    #[error("transactions[{0}]: {1}")]
    Transaction(usize, TransactionInvalid),
    /// A field of the header is not what executing the block gives.
    #[error("header.{0} is not what executing the block gives")]
    Header(&'static str),
}

impl BlockInvalid {
    /// A stable code for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Version(_) => "BLOCK_VERSION",
            Self::WrongChain => "WRONG_CHAIN",
            Self::Height { .. } => "BLOCK_HEIGHT",
            Self::Parent => "BLOCK_PARENT",
            Self::Time { .. } => "BLOCK_TIME",
            Self::View => "BLOCK_VIEW",
            Self::Proposer => "BLOCK_PROPOSER",
            Self::Leaves => "BLOCK_LEAVES",
            Self::TooManyTransactions { .. } => "BLOCK_TRANSACTION_COUNT",
            Self::TooLarge { .. } => "BLOCK_TOO_LARGE",
            Self::TooManyReferences(_) => "BLOCK_REFERENCES",
            Self::Transaction(..) => "BLOCK_TRANSACTION",
            Self::Header(_) => "BLOCK_HEADER",
        }
    }
}

/// Why a staged block was not committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// It was staged on a block other than the tip.
    #[error("staged on {parent}, the tip is {tip}")]
    NotOnTip {
        /// The block's parent.
        parent: Hash,
        /// The tip.
        tip: Hash,
    },
    /// The finalization does not verify.
    #[error("{0}")]
    Finality(#[from] FinalityError),
    /// The store failed: fatal.
    #[error("{0}")]
    Store(#[from] StoreError),
}
