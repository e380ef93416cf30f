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
    /// What a start reads of the journal is not made durable before it is gone by.
    UnsyncedJournalTrusted,
    /// A message that was held for this height and is refused now counts against whoever is speaking.
    VerdictOfAnother,
    /// A message that nobody can verify yet is passed on.
    EarlyPassedOn,
    /// A proposal's signature does not cover its leaves.
    UnsignedLeaves,
    /// One peer is asked for what is missing, and no other.
    OneSource,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::SendBeforeSync,
        Self::ForgottenVote,
        Self::ForgottenCertificate,
        Self::AcknowledgeBeforeSync,
        Self::UnsyncedJournalTrusted,
        Self::VerdictOfAnother,
        Self::EarlyPassedOn,
        Self::UnsignedLeaves,
        Self::OneSource,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::SendBeforeSync => "send-before-sync",
            Self::ForgottenVote => "forgotten-vote",
            Self::ForgottenCertificate => "forgotten-certificate",
            Self::AcknowledgeBeforeSync => "acknowledge-before-sync",
            Self::UnsyncedJournalTrusted => "unsynced-journal-trusted",
            Self::VerdictOfAnother => "verdict-of-another",
            Self::EarlyPassedOn => "early-passed-on",
            Self::UnsignedLeaves => "unsigned-leaves",
            Self::OneSource => "one-source",
        }
    }
}
