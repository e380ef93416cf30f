//! What a refused call answers: one table of reasons and codes.
//!
//! Every error carries its stable reason code in the metadata `reason-code` and, for clients that
//! know Google's error model, in `grpc-status-details-bin` as `google.rpc.ErrorInfo`; with the
//! field as `BadRequest`, and the time to wait as `RetryInfo` and in `retry-after-ms`.

use std::time::Duration;

use customhouse_client::contract::{REASON_CODE, REFUSED_ID, RETRY_AFTER_MS};
use customhouse_ledger::{
    hash::Hash, record::RecordError, store::StoreError, transaction::TransactionError,
};
use tonic::{Code, Status, metadata::MetadataMap};

use super::details;
use crate::{identity::Role, submissions::SubmissionRefusal, tls::IdentityError};

/// Most bytes of a sentence. Some repeat what a client has sent, which may be long: a refusal is a header
/// of HTTP/2, and one of thousands in an answer.
const MESSAGE_BYTES_MAX: usize = 600;

/// A call, or one submission of a stream, that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The gRPC code.
    pub code: Code,
    /// A stable reason code, for programs and metrics.
    pub reason_code: &'static str,
    /// A sentence for people, which names the field first where one is at fault.
    pub message: String,
    /// After how long it may work.
    pub retry_after: Option<Duration>,
    /// The record's or transaction's id, where it is known.
    pub id: Option<Hash>,
}

impl Refused {
    /// A refusal without more.
    pub fn new(code: Code, reason_code: &'static str, message: impl Into<String>) -> Self {
        let message = cut(message.into());
        Self { code, reason_code, message, retry_after: None, id: None }
    }

    /// A field of the request is missing or wrong.
    pub fn field(field: &str, reason_code: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::new(Code::InvalidArgument, reason_code, format!("{field}: {reason}"))
    }

    /// Nothing of this kind is known.
    pub fn not_found(what: &str, id: &Hash) -> Self {
        let message = format!("no {what} {id} is on the ledger as far as this node knows");
        Self::new(Code::NotFound, "NOT_FOUND", message).with_id(*id)
    }

    /// The role may not call the method.
    pub fn role(role: Role, method: &str) -> Self {
        let message = format!("the role `{role}` may not call {method}");
        Self::new(Code::PermissionDenied, "ROLE", message)
    }

    /// The node is going down.
    pub fn shutting_down() -> Self {
        SubmissionRefusal::ShuttingDown.into()
    }

    /// The time that the caller gave is over.
    pub fn deadline() -> Self {
        let message = "the call's own deadline (grpc-timeout) came before its answer";
        Self::new(Code::DeadlineExceeded, "DEADLINE", message)
    }

    /// The node has its hands full.
    pub fn overloaded(what: &str, retry_after: Duration) -> Self {
        let refused = Self::new(Code::ResourceExhausted, "OVERLOADED", format!("too many {what}"));
        Self { retry_after: Some(retry_after), ..refused }
    }

    /// The same, of this record or transaction.
    #[must_use]
    pub fn with_id(self, id: Hash) -> Self {
        Self { id: Some(id), ..self }
    }

    /// Whether the same submission may be taken later.
    pub fn passes(&self) -> bool {
        matches!(self.code, Code::ResourceExhausted | Code::Unavailable)
    }

    /// The field at fault: what stands before the colon of the message.
    fn at_fault(&self) -> Option<(&str, &str)> {
        let argument = matches!(self.code, Code::InvalidArgument | Code::OutOfRange);
        let (field, reason) = self.message.split_once(": ")?;
        (argument && !field.contains(' ')).then_some((field, reason))
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let mut metadata = MetadataMap::new();
        let value = refused.reason_code.parse().expect("reason codes are ASCII");
        metadata.insert(REASON_CODE, value);
        if let Some(after) = refused.retry_after {
            metadata.insert(RETRY_AFTER_MS, u64_of(after).into());
        }
        if let Some(id) = refused.id {
            metadata.insert(REFUSED_ID, id.to_string().parse().expect("hexadecimal is ASCII"));
        }
        let details = details::encode(
            refused.code as i32,
            &refused.message,
            refused.reason_code,
            refused.at_fault(),
            refused.retry_after,
        );
        Self::with_details_and_metadata(refused.code, refused.message, details.into(), metadata)
    }
}

/// As much of a sentence as is sent.
pub(super) fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        let room = MESSAGE_BYTES_MAX - '…'.len_utf8();
        let end = (0..=room).rev().find(|end| message.is_char_boundary(*end));
        message.truncate(end.expect("the beginning is a boundary"));
        message.push('…');
    }
    message
}

fn u64_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<SubmissionRefusal> for Refused {
    fn from(refusal: SubmissionRefusal) -> Self {
        let (code, reason_code) = (code_of(&refusal), refusal.code());
        let retry_after = match &refusal {
            SubmissionRefusal::Exhausted { retry_after_ms, .. } => {
                Some(Duration::from_millis(*retry_after_ms))
            }
            _ => None,
        };
        let id = match &refusal {
            SubmissionRefusal::AlreadyExists { first, .. } => Some(*first),
            _ => None,
        };
        Self { retry_after, id, ..Self::new(code, reason_code, refusal.to_string()) }
    }
}

fn code_of(refusal: &SubmissionRefusal) -> Code {
    match refusal {
        SubmissionRefusal::Record(RecordError::TooLarge(_))
        | SubmissionRefusal::RecordTooLarge { .. }
        | SubmissionRefusal::Transaction(
            TransactionError::TooLarge(_) | TransactionError::Record(_, RecordError::TooLarge(_)),
        ) => Code::OutOfRange,
        SubmissionRefusal::Transaction(TransactionError::WrongChain { .. })
        | SubmissionRefusal::Reference { .. }
        | SubmissionRefusal::Lifetime(_)
        | SubmissionRefusal::KindNotOpen(_)
        | SubmissionRefusal::NoVault
        | SubmissionRefusal::DedupeSecret
        | SubmissionRefusal::Agreement { .. }
        | SubmissionRefusal::EpochSecret(_)
        | SubmissionRefusal::NotCovered { .. }
        | SubmissionRefusal::SealedAttachment
        | SubmissionRefusal::AttachmentMissing(_) => Code::FailedPrecondition,
        SubmissionRefusal::Record(RecordError::Authority(_))
        | SubmissionRefusal::Transaction(TransactionError::Record(_, RecordError::Authority(_)))
        | SubmissionRefusal::NotPermitted { .. } => Code::PermissionDenied,
        SubmissionRefusal::Record(_)
        | SubmissionRefusal::Transaction(_)
        | SubmissionRefusal::Field { .. }
        | SubmissionRefusal::SourceDiffers(_) => Code::InvalidArgument,
        SubmissionRefusal::AlreadyExists { .. } => Code::AlreadyExists,
        SubmissionRefusal::Exhausted { .. } => Code::ResourceExhausted,
        SubmissionRefusal::NotFound(_) => Code::NotFound,
        SubmissionRefusal::RecordWaits(_) => Code::Aborted,
        SubmissionRefusal::Store(_) => Code::DataLoss,
        SubmissionRefusal::CatchingUp { .. }
        | SubmissionRefusal::Sealing(_)
        | SubmissionRefusal::FirstMissing { .. }
        | SubmissionRefusal::Clock { .. }
        | SubmissionRefusal::ShuttingDown => Code::Unavailable,
    }
}

impl From<TransactionError> for Refused {
    fn from(error: TransactionError) -> Self {
        SubmissionRefusal::Transaction(error).into()
    }
}

impl From<IdentityError> for Refused {
    fn from(error: IdentityError) -> Self {
        Self::new(Code::PermissionDenied, error.code(), error.to_string())
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::OutOfRange => Code::OutOfRange,
            StoreError::OtherBackups { .. } | StoreError::BackupInStore { .. } => {
                Code::FailedPrecondition
            }
            // A damaged value is found, never served.
            error if error.is_corruption() => Code::DataLoss,
            _ => Code::Unavailable,
        };
        Self::new(code, error.code(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::{
        authority::{RecordKind, SlotRefused},
        canonical::CanonicalError,
        keys::KeyError,
        registry::parameters::KindNotOpen,
    };

    use super::*;

    fn field(reason: &str) -> SubmissionRefusal {
        SubmissionRefusal::Field { field: "record.salt", reason: reason.into() }
    }

    fn exhausted() -> SubmissionRefusal {
        SubmissionRefusal::Exhausted { what: "the mempool is full".into(), retry_after_ms: 250 }
    }

    /// The table of reasons.
    #[test]
    fn every_refusal_has_its_code() {
        let wrong_chain =
            TransactionError::WrongChain { expected: Hash([1; 32]), found: Hash([2; 32]) };
        let exists = SubmissionRefusal::AlreadyExists { key: "k".into(), first: Hash([3; 32]) };
        let table: Vec<(SubmissionRefusal, Code, &str)> = vec![
            (
                TransactionError::from(CanonicalError::NotCanonical).into(),
                Code::InvalidArgument,
                "TRANSACTION_NOT_CANONICAL",
            ),
            (KeyError::Signature.into(), Code::InvalidArgument, "BAD_SIGNATURE"),
            (RecordError::Body.into(), Code::InvalidArgument, "RECORD_BODY"),
            (field("must be empty"), Code::InvalidArgument, "FIELD"),
            (
                RecordError::AboutNothing("risk_alert.alert_id").into(),
                Code::InvalidArgument,
                "RECORD_ABOUT_NOTHING",
            ),
            (
                SubmissionRefusal::SourceDiffers(vec!["declaration.mrn".into()]),
                Code::InvalidArgument,
                "SOURCE_DIFFERS",
            ),
            (wrong_chain.into(), Code::FailedPrecondition, "WRONG_CHAIN"),
            (SubmissionRefusal::Lifetime("late".into()), Code::FailedPrecondition, "LIFETIME"),
            (
                KindNotOpen(RecordKind::Declaration).into(),
                Code::FailedPrecondition,
                "KIND_NOT_OPEN",
            ),
            (
                SubmissionRefusal::AttachmentMissing(Hash([7; 32])),
                Code::FailedPrecondition,
                "ATTACHMENT_MISSING",
            ),
            (
                SubmissionRefusal::NotPermitted { code: "SIGNER_ROLE", reason: "no".into() },
                Code::PermissionDenied,
                "SIGNER_ROLE",
            ),
            (
                SubmissionRefusal::Reference { place: 0, reason: SlotRefused::Agency },
                Code::FailedPrecondition,
                "REFERENCE_AGENCY",
            ),
            (exists, Code::AlreadyExists, "ALREADY_EXISTS"),
            (exhausted(), Code::ResourceExhausted, "EXHAUSTED"),
            (RecordError::TooLarge(70_000).into(), Code::OutOfRange, "RECORD_TOO_LARGE"),
            (
                SubmissionRefusal::RecordTooLarge { bytes: 2000, max: 1024 },
                Code::OutOfRange,
                "RECORD_TOO_LARGE",
            ),
            (
                TransactionError::TooLarge(2_000_000).into(),
                Code::OutOfRange,
                "TRANSACTION_TOO_LARGE",
            ),
            (SubmissionRefusal::NotFound("no".into()), Code::NotFound, "NOT_FOUND"),
            (SubmissionRefusal::Store("damaged".into()), Code::DataLoss, "STORE"),
            (SubmissionRefusal::Clock { ahead_ms: 3_600_000 }, Code::Unavailable, "CLOCK"),
            (SubmissionRefusal::ShuttingDown, Code::Unavailable, "SHUTTING_DOWN"),
        ];
        for (refusal, code, reason_code) in table {
            let status = Status::from(Refused::from(refusal.clone()));
            assert_eq!(status.code(), code, "{refusal}");
            assert_eq!(status.message(), refusal.to_string());
            assert_eq!(status.metadata().get(REASON_CODE).expect("there"), reason_code);
            assert!(!status.details().is_empty());
        }
    }

    #[test]
    fn what_a_client_has_sent_is_not_sent_back_to_it_however_long_it_is() {
        let id = "\u{202e}".repeat(20_000);
        let why = customhouse_ledger::record::subject::form::FormError::TooLong(id.len());
        let refused = Refused::from(SubmissionRefusal::from(RecordError::SubjectForm {
            scheme: "EPC",
            id,
            why,
        }));
        let field = Refused::field("page_token", "FIELD", "é".repeat(10_000));
        for Refused { message, .. } in [refused, field] {
            assert!(message.len() <= MESSAGE_BYTES_MAX && message.ends_with('…'), "{message}");
        }
    }

    #[test]
    fn the_store_s_faults_are_told_apart() {
        let corrupt = StoreError::Corrupt { table: "t", key: "00".into(), what: "crc".into() };
        let table = [
            (corrupt, Code::DataLoss),
            (StoreError::OutOfRange, Code::OutOfRange),
            (StoreError::Io("gone".into()), Code::Unavailable),
        ];
        for (error, code) in table {
            assert_eq!(Refused::from(error.clone()).code, code, "{error}");
        }
    }

    #[test]
    fn a_full_mempool_says_when_to_try_again() {
        let refused = Refused::from(exhausted());
        assert!(refused.passes());
        let status = Status::from(refused);
        assert_eq!(status.metadata().get(RETRY_AFTER_MS).expect("there"), "250");
    }

    #[test]
    fn the_field_at_fault_is_named() {
        let at = |refusal: SubmissionRefusal| {
            let refused = Refused::from(refusal);
            refused.at_fault().map(|(field, _)| field.to_owned())
        };
        assert_eq!(at(field("must be empty")).as_deref(), Some("record.salt"));
        assert_eq!(at(RecordError::Body.into()).as_deref(), Some("record.body"));
        let nothing = RecordError::AboutNothing("inspection.mrn");
        assert_eq!(at(nothing.into()).as_deref(), Some("record.inspection.mrn"));
        assert_eq!(at(KeyError::Signature.into()).as_deref(), Some("transaction.signature"));
        assert_eq!(at(exhausted()), None);
    }
}
