//! The command line. Answers go to standard output, as text or JSON; everything else (progress,
//! warnings, errors, logs) goes to standard error.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration. `audit` has its own, see
//! [`audit`].

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Says something on standard error. That nobody reads it stops nothing: a batch goes on, and the
/// exit code stays what it is.
macro_rules! note {
    ($($words:tt)*) => { $crate::cli::output::note(&format!($($words)*)) };
}

mod audit;
mod connect;
mod genesis;
mod keys;
mod network;
mod node;
mod output;
mod progress;
mod query;
mod record_json;
mod submit;
mod time;

use connect::ConnectArgs;
use output::{Output, OutputFormat};

/// A permissioned ledger for cross-border trade records: the node and its command line.
#[derive(Parser)]
#[command(name = "customhouse", version, about, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(clap::Args)]
struct Shared {
    /// Form of the answer on standard output.
    #[arg(long, global = true, value_enum, default_value_t, help_heading = "Global options")]
    output: OutputFormat,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Make and show keys, and certificates for clients.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Put a genesis together, show it, compare it.
    #[command(subcommand)]
    Genesis(genesis::GenesisCommand),
    /// Run an agency's node.
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Lay out and run a network of several agencies on this machine.
    #[command(subcommand)]
    Network(network::NetworkCommand),
    /// Submit declarations and notifications to a node, and get their receipts.
    #[command(subcommand)]
    Submit(submit::SubmitCommand),
    /// Ask a node what is on the ledger.
    #[command(subcommand)]
    Query(query::QueryCommand),
    /// Check what can be checked without trusting a node.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
}

const EXAMPLES: &str = "\
Examples:
  # Four agencies on this machine
  customhouse network new --agencies NL-DOUANE,BE-AADA,DE-ZOLL,FR-DGDDI --dir net
  customhouse network run --dir net

  # Submit declarations as a broker, and verify the receipts offline
  customhouse --profile net/NL-DOUANE/clients/broker submit wco declarations/ --receipts receipts/
  customhouse audit verify receipts/*.receipt --genesis net/genesis.json

`customhouse help COMMAND` has examples for each command.";

/// A command's end: its exit code, or what went wrong.
type Done = anyhow::Result<ExitCode>;

/// Parses the arguments and runs the command.
pub(crate) fn main() -> ExitCode {
    let Cli { shared, command } = Cli::parse();
    let output = Output::new(shared.output);
    let done = match command {
        Command::Keys(command) => keys::run(command, output),
        Command::Genesis(command) => genesis::run(command, output),
        Command::Node(command) => node::run(command, output),
        Command::Network(command) => network::run(command, output),
        Command::Submit(command) => {
            block_on(async { submit::run(command, output, shared.connect.connect().await?).await })
        }
        Command::Query(command) => {
            block_on(async { query::run(command, output, shared.connect.connect().await?).await })
        }
        Command::Audit(command) => block_on(audit::run(command, output, shared.connect)),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            note!("customhouse: {}", sentence(&error));
            ExitCode::FAILURE
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
