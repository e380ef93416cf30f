//! Faults planted in the node on purpose. A simulator that does not find them finds nothing.

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Messages leave before the journal is synced.
    SendBeforeSync,
    /// The journal's votes are not read at a restart.
    ForgottenVote,
    /// The certificates that were acted on are not read at a restart.
    ForgottenCertificate,
    /// A client is answered before the outbox is synced.
    AcknowledgeBeforeSync,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::SendBeforeSync,
        Self::ForgottenVote,
        Self::ForgottenCertificate,
        Self::AcknowledgeBeforeSync,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::SendBeforeSync => "send-before-sync",
            Self::ForgottenVote => "forgotten-vote",
            Self::ForgottenCertificate => "forgotten-certificate",
            Self::AcknowledgeBeforeSync => "acknowledge-before-sync",
        }
    }
}
