//! Where a declaration can stand.

/// Where a declaration stands, as far as the records say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClearanceState {
    /// The declarant has lodged it.
    Lodged,
    /// Customs has it, and has not accepted it yet.
    Received,
    /// It is in force.
    Accepted,
    /// The goods are held for a control.
    UnderControl,
    /// The declarant is to show documents.
    DocumentsRequired,
    /// What is due was calculated.
    TaxAssessed,
    /// The goods may go.
    Released,
    /// Nothing is left to do.
    Cleared,
    /// The goods have left.
    Exited,
    /// It never came into force.
    Rejected,
    /// It is no longer in force.
    Invalidated,
}

impl ClearanceState {
    /// All of them, as a declaration comes by them; the two that end it otherwise come last.
    pub const ALL: &[Self] = &[
        Self::Lodged,
        Self::Received,
        Self::Accepted,
        Self::UnderControl,
        Self::DocumentsRequired,
        Self::TaxAssessed,
        Self::Released,
        Self::Cleared,
        Self::Exited,
        Self::Rejected,
        Self::Invalidated,
    ];

    /// Its name, which stays the same from version to version.
    pub fn code(self) -> &'static str {
        match self {
            Self::Lodged => "LODGED",
            Self::Received => "RECEIVED",
            Self::Accepted => "ACCEPTED",
            Self::UnderControl => "UNDER_CONTROL",
            Self::DocumentsRequired => "DOCUMENTS_REQUIRED",
            Self::TaxAssessed => "TAX_ASSESSED",
            Self::Released => "RELEASED",
            Self::Cleared => "CLEARED",
            Self::Exited => "EXITED",
            Self::Rejected => "REJECTED",
            Self::Invalidated => "INVALIDATED",
        }
    }
}
