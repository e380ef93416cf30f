//! The command line. Answers go to standard output, as text or JSON; everything else (progress,
//! warnings, errors, logs) goes to standard error. With JSON, what went wrong is an answer too.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration. `audit` and `store` have their own.
//!
//! Two programs are made of it: `customhouse`, and `customhouse-audit`, which has the audits alone and is
//! built without this crate's feature `node`: without the node, RocksDB and a C++ compiler.

// The audits alone use a part of what all commands share.
#![cfg_attr(not(feature = "node"), allow(dead_code))]

use std::process::ExitCode;

use customhouse_files::hardening;

/// Says something on standard error. That nobody reads it stops nothing: a batch goes on, and the
/// exit code stays what it is.
macro_rules! note {
    ($($words:tt)*) => { $crate::output::note(&format!($($words)*)) };
}

mod arguments;
mod audit;
mod auditor;
mod connect;
mod failure;
mod genesis;
#[cfg(feature = "node")]
mod keys;
#[cfg(feature = "node")]
mod network;
#[cfg(feature = "node")]
mod node;
mod output;
mod progress;
#[cfg(feature = "node")]
mod query;
#[cfg(feature = "node")]
mod record_json;
#[cfg(feature = "node")]
mod registry;
mod signals;
#[cfg(feature = "node")]
mod store;
mod subject;
#[cfg(feature = "node")]
mod submit;
#[cfg(feature = "node")]
mod whole;

pub use auditor::audit_main;
use connect::ConnectArgs;
use output::{Output, OutputFormat};
#[cfg(feature = "node")]
pub use whole::main;

/// What every command takes.
#[derive(clap::Args)]
struct Shared {
    /// Form of the answer on standard output.
    #[arg(long, global = true, value_enum, default_value_t, help_heading = "Global options")]
    output: OutputFormat,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Exit code of wrong arguments.
const WRONG_USAGE: u8 = 2;

/// A command's end: its exit code, or what went wrong.
type Done = anyhow::Result<ExitCode>;

/// Leaves nothing of this process's memory on a disk.
fn hide_memory() {
    if let Err(error) = hardening::hide_memory() {
        note!("customhouse: a crash may write secrets to disk: {error}");
    }
}

/// The exit code of a command's end. Where the end is not an answer, people and scripts are told of it.
fn ended(done: Done, output: Output, wrong_usage: u8) -> ExitCode {
    match done {
        Ok(code) => code,
        Err(error) => {
            output.failed(&error);
            match failure::is_wrong_usage(&error) {
                true => wrong_usage.into(),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// Runs a command that talks to nodes.
fn block_on(command: impl Future<Output = Done>) -> Done {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(command)
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
