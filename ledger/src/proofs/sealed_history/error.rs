//! Why a sealed history proof was refused.

use crate::{
    agency::AgencyCode,
    canonical::CanonicalError,
    limits::{SEALED_HISTORY_PAGES_MAX, SEALED_HISTORY_PROOF_BYTES_MAX},
    merkle::{PathBytesError, ProofError},
    proofs::{history::HistoryProofError, verifier::FinalityError},
    sealed_subject::SealedSubjectError,
};

/// Why the pages of a sealed history proof were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealedHistoryError {
    /// No page at all.
    #[error("sealed history proof: no page of it was given")]
    NoPage,
    /// A page of more than [`SEALED_HISTORY_PROOF_BYTES_MAX`].
    #[error(
        "sealed history proof: {0} bytes, at most {SEALED_HISTORY_PROOF_BYTES_MAX} are allowed"
    )]
    TooLarge(usize),
    /// Not a page in its one encoding.
    #[error("sealed history proof: {0}")]
    Canonical(#[from] CanonicalError),
    /// No subject that a record can have.
    #[error("{0}")]
    Subject(#[from] SealedSubjectError),
    /// About another subject than the one asked for.
    #[error("subject: another than the one that was asked for; ask for a proof about yours")]
    OtherSubject,
    /// A page that its proof cannot have.
    #[error(
        "page: {0}, where 1 to {SEALED_HISTORY_PAGES_MAX} are allowed; page_count: {1}, where 0 or that number is"
    )]
    PageNumber(u32, u32),
    /// The header is not known to be final.
    #[error("{0}")]
    Finality(#[from] FinalityError),
    /// The agreement's path is not whole hashes.
    #[error("agreement_path: {0}")]
    PathBytes(PathBytesError),
    /// The agreement is not at that place under the header's registry root.
    #[error(
        "agreement_entry: does not lead to the header's registry root, it is of another block or was changed: {0}"
    )]
    Agreement(ProofError),
    /// A quorum certified what is no entry.
    #[error("agreement_entry: certified, and not an agreement's entry")]
    Entry,
    /// One of the histories, by its place.
    #[error("histories[{0}]: {1}")]
    History(usize, AgencyHistoryError),
    /// Pages that are not of one proof.
    #[error(
        "the pages are not of one proof: of another head, agreement or subject, or they contradict each other"
    )]
    OtherPage,
    /// Two pieces that do not follow each other.
    #[error("epoch {0}, {1}: the pieces of its bucket do not lead from one to the next")]
    Join(u32, AgencyCode),
}

/// Why what a page has of one agency's epoch was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgencyHistoryError {
    /// Not an epoch of the agreement, or not one of its parties.
    #[error("the agreement, as of this header, has no such epoch with this agency as a party")]
    Party,
    /// Not ascending, or twice.
    #[error("not ascending by epoch and agency")]
    Order,
    /// It is not proven under which key the agency has the subject.
    #[error("{0}")]
    Key(#[from] SealedSubjectError),
    /// The bucket's entries, or their path.
    #[error("{0}")]
    History(#[from] HistoryProofError),
    /// A piece of a bucket that is not put together as a piece is.
    #[error("a piece of its bucket: {0}")]
    Piece(&'static str),
}

impl SealedHistoryError {
    /// A stable code for clients and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoPage => "SEALED_HISTORY_NO_PAGE",
            Self::TooLarge(_) => "SEALED_HISTORY_TOO_LARGE",
            Self::Canonical(CanonicalError::Decode(_)) => "SEALED_HISTORY_MALFORMED",
            Self::Canonical(CanonicalError::NotCanonical) => "SEALED_HISTORY_NOT_CANONICAL",
            Self::Subject(error) => error.code(),
            Self::OtherSubject => "SEALED_HISTORY_OTHER_SUBJECT",
            Self::PageNumber(..) => "SEALED_HISTORY_PAGE",
            Self::Finality(error) => error.code(),
            Self::PathBytes(_) => "SEALED_HISTORY_PATH_MALFORMED",
            Self::Agreement(_) => "SEALED_HISTORY_AGREEMENT",
            Self::Entry => "SEALED_HISTORY_ENTRY",
            Self::History(_, error) => error.code(),
            Self::OtherPage => "SEALED_HISTORY_OTHER_PAGE",
            Self::Join(..) => "SEALED_HISTORY_JOIN",
        }
    }
}

impl AgencyHistoryError {
    /// A stable code for clients and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Party => "SEALED_HISTORY_PARTY",
            Self::Order => "SEALED_HISTORY_ORDER",
            Self::Key(error) => error.code(),
            Self::History(error) => error.code(),
            Self::Piece(_) => "SEALED_HISTORY_PIECE",
        }
    }
}
