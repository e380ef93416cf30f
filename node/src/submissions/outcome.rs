//! How a submission stands and how it ends.

use customhouse_ledger::{
    hash::Hash, keys::KeyError, limits::SUBJECT_ID_BYTES_MAX, record::RecordError,
    transaction::TransactionError,
};

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
    /// A record without a subject, a reference or another id: its first field that could have one.
    #[error(
        "record.{0}: 1 to {SUBJECT_ID_BYTES_MAX} bytes expected, because nothing else says what the \
         record is about. Give it, or a subject, or a reference to an earlier record"
    )]
    AboutNothing(&'static str),
    /// Its fields are not what its source says.
    #[error(
        "record.source: {}; the record contradicts the message it was made from. Submit what the \
         importer makes of it, or name no importer", said(.0)
    )]
    SourceDiffers(Vec<String>),
    /// The signing key is not registered for this agency, or not in this role.
    #[error("{0}")]
    NotPermitted(String),
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
    /// The store failed or is damaged. The node stops.
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
    /// A stable code for clients and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Record(error) => error.code(),
            Self::Transaction(error) => error.code(),
            Self::Field { .. } => "FIELD",
            Self::AboutNothing(_) => "RECORD_ABOUT_NOTHING",
            Self::SourceDiffers(_) => "SOURCE_DIFFERS",
            Self::NotPermitted(_) => "NOT_PERMITTED",
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
