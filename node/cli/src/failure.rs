//! What a command says that came to no answer.

use customhouse_audit::invalid_file::InvalidFile;
use customhouse_client::ClientError;
#[cfg(feature = "node")]
use customhouse_ledger::{chain::rebuild::RebuildError, store::StoreError};
use customhouse_ledger::{
    proofs::{
        json::ProofJsonError,
        verifier::{FinalityError, StepError},
    },
    registry::genesis::GenesisError,
};
#[cfg(feature = "node")]
use customhouse_node::sealed::keys::SealingKeysError;
use serde::Serialize;

/// Arguments that are each right, and together are not, or lack one: like any wrong arguments.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct WrongUsage(pub(crate) String);

/// The document that scripts get.
#[derive(Serialize)]
pub(super) struct Failure {
    error: String,
    /// Stable code, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
}

impl Failure {
    pub(super) fn of(error: &anyhow::Error) -> Self {
        Self { error: super::failure::sentence(error), code: code(error) }
    }
}

pub(super) fn is_wrong_usage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<WrongUsage>())
}

/// The stable code of what went wrong, where it has one.
pub(super) fn code(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(code_of).map(str::to_owned)
}

fn code_of<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a str> {
    let known = [
        cause.downcast_ref().map(StepError::code),
        cause.downcast_ref().map(FinalityError::code),
        cause.downcast_ref().map(ProofJsonError::code),
        cause.downcast_ref().map(GenesisError::code),
        cause.downcast_ref().map(|error: &InvalidFile| error.code),
        of_node(cause),
    ];
    let told = || match cause.downcast_ref()? {
        ClientError::Refused(refused) => Some(&*refused.reason_code),
        _ => None,
    };
    known.into_iter().flatten().next().or_else(told).filter(|code| !code.is_empty())
}

#[cfg(feature = "node")]
fn of_node<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a str> {
    let sealing = cause.downcast_ref().map(SealingKeysError::code);
    let rebuilding = cause.downcast_ref().map(|error| match error {
        RebuildError::Damaged(_) => "STORE_CORRUPT",
        RebuildError::Store(error) => error.code(),
    });
    sealing.or(rebuilding).or_else(|| cause.downcast_ref().map(StoreError::code))
}

/// There is no store and no vault without a node.
#[cfg(not(feature = "node"))]
fn of_node<'a>(_: &'a (dyn std::error::Error + 'static)) -> Option<&'a str> {
    None
}

/// What happened and why, in one sentence. Many errors say their cause themselves: it is not said
/// twice.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_code_is_found_however_deep_it_is() {
        let missing = StoreError::Missing("store".into());
        let error = Err::<(), _>(missing).context("the node stopped").expect_err("an error");
        let document = serde_json::to_value(Failure::of(&error)).expect("serializable");
        assert_eq!(document["code"], "STORE_MISSING");
        assert_eq!(document["error"], "the node stopped: there is no store at store");
        let plain = Failure::of(&anyhow::anyhow!("no"));
        assert_eq!(serde_json::to_string(&plain).expect("serializable"), r#"{"error":"no"}"#);
        let usage = anyhow::Error::new(WrongUsage("which node?".into())).context("asking");
        assert!(is_wrong_usage(&usage) && !is_wrong_usage(&error));
    }

    #[test]
    fn a_cause_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open store: {source}")]
        struct Outer {
            source: std::io::Error,
        }
        let outer = Outer { source: std::io::Error::other("disk is full") };
        let error = Err::<(), _>(outer).context("the node stopped").expect_err("an error");
        assert_eq!(sentence(&error), "the node stopped: cannot open store: disk is full");
    }
}
