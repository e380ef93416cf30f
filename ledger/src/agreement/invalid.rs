//! Why a block may not carry a change of an agreement.

use crate::{
    agency::AgencyCode,
    hash::Hash,
    limits::{
        AGREEMENT_CHANGES_A_DAY_MAX, AGREEMENTS_OPEN_MAX, EPOCH_AHEAD_MS_MAX, OWN_EPOCHS_A_DAY_MAX,
        PROPOSAL_MS_MAX,
    },
};

/// Why a block may not carry a change of an agreement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgreementInvalid {
    /// The block's time is past the proposal's last.
    #[error("epoch: not after {not_after_ms} ms, the block has {time_ms} ms; propose it again")]
    Expired {
        /// The proposal's last time, Unix milliseconds.
        not_after_ms: u64,
        /// The block's time, Unix milliseconds.
        time_ms: u64,
    },
    /// The epoch is over before it is agreed, or the agreement is when somebody leaves.
    #[error(
        "the epoch is over, or would be at once: there is nothing to leave, or propose one that lasts"
    )]
    Over,
    /// It lives too long, or begins too far ahead.
    #[error(
        "epoch: at most {PROPOSAL_MS_MAX} ms may be left until not_after_ms, and {EPOCH_AHEAD_MS_MAX} ms until \
         from_ms"
    )]
    Ahead,
    /// There is no such agreement.
    #[error(
        "agreement {0} is not on the chain; an epoch after the first, and leaving, need one that is"
    )]
    Unknown(Hash),
    /// Another change came first.
    #[error(
        "epoch: number {stated}, the next one of agreement {agreement} is {next}; propose it again"
    )]
    Number {
        /// Which.
        agreement: Hash,
        /// The number that would do.
        next: u32,
        /// The proposal's.
        stated: u32,
    },
    /// Somebody has left since it was proposed, or it was changed otherwise.
    #[error(
        "epoch.changes: agreement {agreement} has had {present} changes and not {stated}: somebody has left, or \
         another epoch came first; propose it again"
    )]
    Changed {
        /// Which.
        agreement: Hash,
        /// How many it has had.
        present: u32,
        /// The proposal's.
        stated: u32,
    },
    /// Who lodges it has no part in it.
    #[error("the transaction is of {0}, which is no party")]
    NotParty(AgencyCode),
    /// A party that is not a member.
    #[error("epoch.parties: {0} is not a member of the network at this height")]
    NotMember(AgencyCode),
    /// A party of the last epoch is not among those of the next, and has not left.
    #[error(
        "epoch.parties: without {0}, which is a party and has not left; to go on without it, make another \
         agreement"
    )]
    LeftOut(AgencyCode),
    /// An approver's key is not a node's signing key of the party.
    #[error("approvals: {key} is no node's signing key of {party} at this height")]
    Approver {
        /// Whose approval is needed.
        party: AgencyCode,
        /// The key.
        key: Hash,
    },
    /// The agreement that an agency has with itself stays its own.
    #[error(
        "the agreement that an agency has with itself has no other party, and nobody leaves it"
    )]
    Own,
    /// It has left already.
    #[error("leave: {0} has left already")]
    HasLeft(AgencyCode),
    /// Too many changes by one agency.
    #[error(
        "{0} has lodged {AGREEMENT_CHANGES_A_DAY_MAX} changes of agreements in the 24 hours before this block, or \
         {OWN_EPOCHS_A_DAY_MAX} epochs of its own, and may lodge no more until one of them is older"
    )]
    TooMany(AgencyCode),
    /// Too many agreements of one agency.
    #[error(
        "epoch.parties: {0} is a party of {AGREEMENTS_OPEN_MAX} agreements that are not over, which is as \
         many as it may be"
    )]
    TooManyOpen(AgencyCode),
}

impl AgreementInvalid {
    /// A stable code for clients and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "AGREEMENT_EXPIRED",
            Self::Over => "AGREEMENT_OVER",
            Self::Unknown(_) => "AGREEMENT_UNKNOWN",
            Self::Number { .. } | Self::Changed { .. } => "AGREEMENT_STALE",
            Self::Ahead => "AGREEMENT_AHEAD",
            Self::NotParty(_) => "AGREEMENT_PARTY",
            Self::NotMember(_) => "AGREEMENT_MEMBER",
            Self::LeftOut(_) => "AGREEMENT_LEFT_OUT",
            Self::Approver { .. } => "AGREEMENT_APPROVER",
            Self::Own => "AGREEMENT_OWN",
            Self::HasLeft(_) => "AGREEMENT_LEFT",
            Self::TooMany(_) => "AGREEMENT_RATE",
            Self::TooManyOpen(_) => "AGREEMENT_TOO_MANY",
        }
    }
}
