//! How a submission stands and how it ends.

use customhouse_ledger::{
    authority::{RecordKind, SlotRefused},
    hash::Hash,
    keys::KeyError,
    record::RecordError,
    registry::parameters::KindNotOpen,
    transaction::{EpochId, TransactionError},
};

use crate::admission::AdmissionError;

/// A submission that is durable in this node's outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The record, where one was submitted.
    pub record_id: Hash,
    /// The transaction that carries it.
    pub transaction_id: Hash,
    /// Where it has ended already: an honest retry.
    pub end: Option<End>,
}

/// How a submission ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Committed by a quorum, and durable on this node.
    Final {
        /// The block that committed it.
        height: u64,
        /// Index of its transaction in the log.
        log_index: u64,
        /// Position of its slot in the transaction; 0 for a transaction as a whole.
        slot_index: u32,
    },
    /// Of a transaction as a whole: committed by a quorum, and some of its slots do not count.
    Partly {
        /// The block that committed it.
        height: u64,
        /// Its index in the log.
        log_index: u64,
        /// Ascending by slot.
        not_counted: Vec<NotCounted>,
    },
    /// It became a no-op, because the same submission was committed before under another record id:
    /// by the agency's second node, say. Its end is the first's.
    Repeat(First),
    /// A committed header's time is past the transaction's `not_after`.
    Expired,
    /// It can never be committed.
    Rejected {
        /// A stable code.
        code: String,
        /// A sentence.
        reason: String,
    },
}

/// A slot of a committed transaction that does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCounted {
    /// Its position in the transaction.
    pub slot_index: u32,
    /// A stable code.
    pub code: &'static str,
    /// A sentence.
    pub reason: String,
}

/// A final record that stands for a later one of the same submission: they differ in the salt only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First {
    /// The record.
    pub record_id: Hash,
    /// The transaction that carries it.
    pub transaction_id: Hash,
    /// The block that committed it.
    pub height: u64,
    /// Index of its transaction in the log.
    pub log_index: u64,
    /// Position of its slot in the transaction.
    pub slot_index: u32,
}

/// Why a submission was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmissionRefusal {
    /// A record breaks a rule.
    #[error("{0}")]
    Record(#[from] RecordError),
    /// A record of a kind that may not be lodged open.
    #[error("record: {0}")]
    KindNotOpen(#[from] KindNotOpen),
    /// It is to be sealed, and this node has no vault.
    #[error(
        "this node has no vault and takes no sealed records: submit it at another node of your agency, or have the \
         operator add [vault] to its configuration"
    )]
    NoVault,
    /// It is to be sealed, and the registry does not know this node's secret for dedupe keys.
    #[error(
        "the registry has no dedupe check of this agency, or another than this node's vault has: no sealed record is \
         taken before the operator has registered it"
    )]
    DedupeSecret,
    /// Nothing can be lodged under the agreement now.
    #[error("agreement {agreement}: {}", reason.sentence())]
    Agreement {
        /// Which.
        agreement: Hash,
        /// Why not.
        reason: SlotRefused,
    },
    /// The agreement does not share records of this kind.
    #[error("agreement {agreement}: its terms do not cover records of the kind {}", kind.as_str())]
    NotCovered {
        /// Which.
        agreement: Hash,
        /// Of the record.
        kind: RecordKind,
    },
    /// The secret or the terms of the agreement's epoch are not at this node.
    #[error(
        "agreement {}, epoch {}: its secret or its terms are not at this node; have the operator approve it here, or \
         restore the vault that has it",
        .0.agreement, .0.number
    )]
    EpochSecret(EpochId),
    /// Attachments do not travel sealed yet.
    #[error(
        "record.attachments: a sealed record cannot have attachments yet; put what they say into the record, or lodge \
         it open where the network allows that"
    )]
    SealedAttachment,
    /// It could not be sealed, or not be kept at both places.
    #[error(
        "the record could not be kept sealed: {0}. Submit it again when the operator has put that right"
    )]
    Sealing(String),
    /// The same key was used before, for a record that is not here.
    #[error(
        "idempotency key `{key}` was used before for record {first}, whose bytes are not at this node yet, so that it \
         is not known whether it is the same; try again when they are"
    )]
    FirstMissing {
        /// The client's key.
        key: String,
        /// The first record.
        first: Hash,
    },
    /// A record is one of the format, and larger than this network lets one be.
    #[error(
        "record: {bytes} bytes, at most {max} are allowed in this network (record_bytes_max in its \
         registry). Put its source or other files beside it as attachments"
    )]
    RecordTooLarge {
        /// Of the record.
        bytes: u64,
        /// The network's parameter.
        max: u64,
    },
    /// A transaction breaks a rule.
    #[error("{0}")]
    Transaction(#[from] TransactionError),
    /// A field of a submission that the node fills, or a key that is missing or too long.
    #[error("{field}: {reason}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// An attachment of a record is not here, or not whole.
    #[error(
        "attachment {0} is not complete at this node: upload it here before the record that refers to it"
    )]
    AttachmentMissing(Hash),
    /// Its fields are not what its source says.
    #[error(
        "record.source: {}; the record contradicts the message it was made from. Submit what the \
         importer makes of it, or name no importer", said(.0)
    )]
    SourceDiffers(Vec<String>),
    /// A record refers to what it may not refer to.
    #[error("records[{place}]: {}", reason.sentence())]
    Reference {
        /// Of the record in its transaction; 0 where it came by itself.
        place: usize,
        /// Why not.
        reason: SlotRefused,
    },
    /// A record that a client has signed waits in another transaction of it.
    #[error(
        "record {0} waits to become final in another transaction: wait for the end of that one before the \
         record is signed again"
    )]
    RecordWaits(Hash),
    /// The signing key is not registered for this agency, or may not sign this.
    #[error("{reason}")]
    NotPermitted {
        /// A stable code.
        code: &'static str,
        /// A sentence.
        reason: String,
    },
    /// Its `not_after` has passed, or is too far in the future.
    #[error("{0}")]
    Lifetime(String),
    /// The same idempotency key was used for another body.
    #[error(
        "idempotency key `{key}` was used before for record {first}, which has another body. Use \
         a new key for a new record"
    )]
    AlreadyExists {
        /// The client's key.
        key: String,
        /// The first record.
        first: Hash,
    },
    /// No room.
    #[error("{what}; try again in {retry_after_ms} ms")]
    Exhausted {
        /// What is full.
        what: String,
        /// Milliseconds.
        retry_after_ms: u64,
    },
    /// No such record or transaction was submitted here or is on the ledger.
    #[error("{0}")]
    NotFound(String),
    /// The store failed or is damaged.
    #[error("{0}")]
    Store(String),
    /// The node fetches blocks that others have committed.
    #[error(
        "the node is catching up with the others and is at height {height}; submit again later, or at \
         another node of your agency"
    )]
    CatchingUp {
        /// Height of its newest block.
        height: u64,
    },
    /// The node's clock differs too much from the other validators'.
    #[error(
        "the node's clock is {ahead_ms} ms ahead of the other agencies' (behind, where negative), and what \
         it took could not become final; submit again when its operator has set the clock, or at another \
         node of your agency"
    )]
    Clock {
        /// Milliseconds.
        ahead_ms: i64,
    },
    /// The node is shutting down.
    #[error("the node is shutting down")]
    ShuttingDown,
}

impl SubmissionRefusal {
    /// What the door to the mempool does not let in.
    pub(super) fn not_permitted(error: &AdmissionError) -> Self {
        Self::NotPermitted { code: error.code(), reason: error.to_string() }
    }

    /// A vault, a second place or a store of sealed records that does not do what it is asked.
    pub(super) fn sealed(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a sealed record was not taken");
        Self::Sealing(error.to_string())
    }

    /// A stable code for clients and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Record(error) => error.code(),
            Self::KindNotOpen(refused) => refused.code(),
            Self::NoVault => "NO_VAULT",
            Self::DedupeSecret => "DEDUPE_SECRET",
            Self::Agreement { reason, .. } => reason.code(),
            Self::NotCovered { .. } => "SEALED_KIND",
            Self::EpochSecret(_) => "EPOCH_SECRET",
            Self::SealedAttachment => "SEALED_ATTACHMENT",
            Self::Sealing(_) => "SEALING",
            Self::FirstMissing { .. } => "FIRST_MISSING",
            Self::RecordTooLarge { .. } => "RECORD_TOO_LARGE",
            Self::Transaction(error) => error.code(),
            Self::Field { .. } => "FIELD",
            Self::AttachmentMissing(_) => "ATTACHMENT_MISSING",
            Self::SourceDiffers(_) => "SOURCE_DIFFERS",
            Self::Reference { reason, .. } => reason.code(),
            Self::RecordWaits(_) => "RECORD_WAITS",
            Self::NotPermitted { code, .. } => code,
            Self::Lifetime(_) => "LIFETIME",
            Self::AlreadyExists { .. } => "ALREADY_EXISTS",
            Self::Exhausted { .. } => "EXHAUSTED",
            Self::NotFound(_) => "NOT_FOUND",
            Self::Store(_) => "STORE",
            Self::CatchingUp { .. } => "CATCHING_UP",
            Self::Clock { .. } => "CLOCK",
            Self::ShuttingDown => "SHUTTING_DOWN",
        }
    }
}

fn said(fields: &[String]) -> String {
    format!("it says something else of {}", fields.join(", "))
}

impl From<KeyError> for SubmissionRefusal {
    fn from(error: KeyError) -> Self {
        Self::Transaction(error.into())
    }
}
