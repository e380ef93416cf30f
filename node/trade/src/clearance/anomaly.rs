//! What an officer should look at.

/// A record that does not fit what came before it, by the name of the rule that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClearanceAnomaly {
    /// Something about a declaration that is not on record. Said once; what customs says of it counts.
    DeclarationMissing,
    /// A status that names no declaration, or names it only by an MRN that nothing ties to this one.
    DeclarationUnnamed,
    /// Another declaration with this one's reference, although this one was not rejected.
    ReferenceUsedAgain,
    /// It names another declaration's reference.
    OtherReference,
    /// Another agency says it: that agency's view, which is not the declaration's status.
    OtherAgency,
    /// It names another MRN.
    OtherMrn,
    /// It is about a version that another has replaced.
    VersionPassed,
    /// It is about a version that customs has not opened, or the version is no number.
    VersionUnknown,
    /// A status whose function code nobody knows.
    CodeUnknown,
    /// An answer to a message of the declarant's about the declaration, and no such message is on record.
    RequestMissing,
    /// A request about a declaration that was rejected or invalidated.
    RequestAfterEnd,
    /// A request to cancel what has left the country.
    CancellationAfterExit,
    /// Goods were presented that had been released.
    PresentationAfterRelease,
    /// A status about a declaration that was rejected or invalidated before.
    StatusAfterEnd,
    /// A declaration was rejected that customs had gone on with (accepted, controlled, released), and no
    /// request is open that could be meant.
    RejectedLate,
    /// A control was ordered before the declaration was accepted.
    ControlBeforeAcceptance,
    /// A control was ordered of goods that had been released.
    ControlAfterRelease,
    /// Documents were required before the declaration was accepted.
    DocumentsBeforeAcceptance,
    /// Documents were required for goods that had been released.
    DocumentsAfterRelease,
    /// A result, and no acceptance before it.
    ResultBeforeAcceptance,
    /// Goods were released whose declaration was not accepted.
    ReleasedBeforeAcceptance,
    /// Goods were released while a control had no result.
    ReleasedUnderControl,
    /// Goods were released that had been cleared.
    ReleasedAfterClearance,
    /// Goods were cleared whose declaration was not accepted.
    ClearedBeforeAcceptance,
    /// Goods were cleared while a control had no result.
    ClearedUnderControl,
    /// Goods were cleared that had left.
    ClearedAfterExit,
    /// Goods left that were neither released nor cleared.
    ExitedBeforeRelease,
    /// A declaration was invalidated whose goods had left.
    InvalidatedAfterExit,
}

impl ClearanceAnomaly {
    /// The rule's name, which stays the same from version to version.
    pub fn code(self) -> &'static str {
        match self {
            Self::DeclarationMissing => "DECLARATION_MISSING",
            Self::DeclarationUnnamed => "DECLARATION_UNNAMED",
            Self::ReferenceUsedAgain => "REFERENCE_USED_AGAIN",
            Self::OtherReference => "OTHER_REFERENCE",
            Self::OtherAgency => "OTHER_AGENCY",
            Self::OtherMrn => "OTHER_MRN",
            Self::VersionPassed => "VERSION_PASSED",
            Self::VersionUnknown => "VERSION_UNKNOWN",
            Self::CodeUnknown => "CODE_UNKNOWN",
            Self::RequestMissing => "REQUEST_MISSING",
            Self::RequestAfterEnd => "REQUEST_AFTER_END",
            Self::CancellationAfterExit => "CANCELLATION_AFTER_EXIT",
            Self::PresentationAfterRelease => "PRESENTATION_AFTER_RELEASE",
            Self::StatusAfterEnd => "STATUS_AFTER_END",
            Self::RejectedLate => "REJECTED_LATE",
            Self::ControlBeforeAcceptance => "CONTROL_BEFORE_ACCEPTANCE",
            Self::ControlAfterRelease => "CONTROL_AFTER_RELEASE",
            Self::DocumentsBeforeAcceptance => "DOCUMENTS_BEFORE_ACCEPTANCE",
            Self::DocumentsAfterRelease => "DOCUMENTS_AFTER_RELEASE",
            Self::ResultBeforeAcceptance => "RESULT_BEFORE_ACCEPTANCE",
            Self::ReleasedBeforeAcceptance => "RELEASED_BEFORE_ACCEPTANCE",
            Self::ReleasedUnderControl => "RELEASED_UNDER_CONTROL",
            Self::ReleasedAfterClearance => "RELEASED_AFTER_CLEARANCE",
            Self::ClearedBeforeAcceptance => "CLEARED_BEFORE_ACCEPTANCE",
            Self::ClearedUnderControl => "CLEARED_UNDER_CONTROL",
            Self::ClearedAfterExit => "CLEARED_AFTER_EXIT",
            Self::ExitedBeforeRelease => "EXITED_BEFORE_RELEASE",
            Self::InvalidatedAfterExit => "INVALIDATED_AFTER_EXIT",
        }
    }
}
