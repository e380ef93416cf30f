//! What an audit comes to.

use std::{fmt, process::ExitCode};

use customhouse_ledger::{
    finality::certificate::CertificateError,
    proofs::{
        json::ProofJsonError,
        receipt::ReceiptError,
        verifier::{FinalityError, StepError},
    },
    registry::genesis::GenesisError,
};
use serde::Serialize;

use crate::invalid_file::InvalidFile;

/// An audit's result, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// What was asked holds.
    Verified,
    /// Nothing was shown, or too little.
    NotEnoughEvidence,
    /// What was shown is wrong.
    Invalid,
    /// A quorum certified two histories.
    Fork,
}

impl Verdict {
    /// What an audit without an answer comes to: there was nothing to look at, unless what was looked at
    /// is invalid, or a fork by itself.
    pub fn of_error(error: &anyhow::Error) -> Self {
        error.chain().find_map(Self::of_cause).unwrap_or(Self::NotEnoughEvidence)
    }

    /// The verdict of one error in the chain of causes; `None` where it says nothing about evidence.
    pub fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Self> {
        match cause.downcast_ref() {
            Some(StepError::Fork(_)) => return Some(Self::Fork),
            Some(StepError::Finality(_, error)) => return Some(Self::of_finality(error)),
            Some(_) => return Some(Self::Invalid),
            None => {}
        }
        if let Some(error) = cause.downcast_ref() {
            return Some(Self::of_finality(error));
        }
        let is_invalid =
            cause.is::<ProofJsonError>() || cause.is::<GenesisError>() || cause.is::<InvalidFile>();
        is_invalid.then_some(Self::Invalid)
    }

    /// Too few signatures prove nothing, and neither do those of validators that are not known;
    /// anything else is wrong.
    pub fn of_finality(error: &FinalityError) -> Self {
        match error {
            FinalityError::Certificate(CertificateError::NoQuorum { .. })
            | FinalityError::StepMissing { .. } => Self::NotEnoughEvidence,
            _ => Self::Invalid,
        }
    }

    /// What a receipt that was refused comes to.
    pub fn of_receipt(error: &ReceiptError) -> Self {
        match error {
            ReceiptError::Finality(error) => Self::of_finality(error),
            ReceiptError::Step(_, error) => Self::of_cause(&**error).unwrap_or(Self::Invalid),
            _ => Self::Invalid,
        }
    }

    /// 0 verified, 1 invalid, 2 not enough evidence, 3 a fork.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Verified => 0,
            Self::Invalid => 1,
            Self::NotEnoughEvidence => 2,
            Self::Fork => 3,
        }
        .into()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verified => "verified",
            Self::NotEnoughEvidence => "not enough evidence",
            Self::Invalid => "INVALID",
            Self::Fork => "PROOF OF A FORK",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_is_one_however_deep_in_an_error() {
        use anyhow::Context as _;
        let failed =
            |error| Err::<(), _>(error).context("the chain of a node").expect_err("an error");
        assert_eq!(Verdict::of_error(&failed(StepError::Fork(7))), Verdict::Fork);
        assert_eq!(Verdict::of_error(&failed(StepError::Validators(7))), Verdict::Invalid);
        let few = CertificateError::NoQuorum { signers: 1, quorum: 3 };
        let few = StepError::Finality(7, FinalityError::Certificate(few));
        assert_eq!(Verdict::of_error(&failed(few)), Verdict::NotEnoughEvidence);
        let absent = std::io::Error::from(std::io::ErrorKind::NotFound);
        let absent = Err::<(), _>(absent).context("a.chain").expect_err("an error");
        assert_eq!(Verdict::of_error(&absent), Verdict::NotEnoughEvidence);
    }

    #[test]
    fn the_worst_finding_decides() {
        use Verdict::{Fork, Invalid, NotEnoughEvidence, Verified};
        let order = [Verified, NotEnoughEvidence, Invalid, Fork];
        assert!(order.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
