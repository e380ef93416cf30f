//! The command line. Answers go to standard output, as text or JSON; everything else (progress,
//! warnings, errors, logs) goes to standard error. With JSON, what went wrong is an answer too.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration. `audit` and `store` have their own, see
//! [`audit`] and [`store`].

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{CommandFactory as _, Parser, Subcommand};
use customhouse_node::{hardening, logs};

/// Says something on standard error. That nobody reads it stops nothing: a batch goes on, and the
/// exit code stays what it is.
macro_rules! note {
    ($($words:tt)*) => { $crate::cli::output::note(&format!($($words)*)) };
}

mod audit;
mod connect;
mod failure;
mod genesis;
mod keys;
mod network;
mod node;
mod output;
mod progress;
mod query;
mod record_json;
mod registry;
mod store;
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
    /// Change who is in the network: agencies, their keys, and who votes.
    #[command(subcommand)]
    Registry(registry::RegistryCommand),
    /// Submit declarations and notifications to a node, and get their receipts.
    #[command(subcommand)]
    Submit(submit::SubmitCommand),
    /// Ask a node what is on the ledger.
    #[command(subcommand)]
    Query(query::QueryCommand),
    /// Check a node's store in full, make its indexes anew, back it up, put it back.
    #[command(subcommand)]
    Store(store::StoreCommand),
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

/// Exit code of wrong arguments.
const WRONG_USAGE: u8 = 2;

/// A command's end: its exit code, or what went wrong.
type Done = anyhow::Result<ExitCode>;

/// How long the last words wait for whoever reads standard error.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);

/// Parses the arguments and runs the command.
pub(crate) fn main() -> ExitCode {
    let code = run();
    logs::flush(LAST_WORDS_TIMEOUT);
    code
}

fn run() -> ExitCode {
    let arguments = std::env::args_os().map(|argument| at_home(argument, std::env::home_dir()));
    let Cli { shared, command } = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return say(&error),
    };
    if let Err(error) = hardening::hide_memory() {
        note!("customhouse: a crash may write secrets to disk: {error}");
    }
    if keeps_secrets(&command) {
        hardening::own_files_only();
    }
    let output = Output::new(shared.output);
    let wrong_usage = match command {
        Command::Audit(_) | Command::Store(_) => audit::WRONG_USAGE,
        _ => WRONG_USAGE,
    };
    let done = match command {
        Command::Keys(command) => keys::run(command, output),
        Command::Genesis(command) => genesis::run(command, output),
        Command::Node(command) => node::run(command, output),
        Command::Network(command) => network::run(command, output),
        Command::Submit(command) => {
            block_on(async { submit::run(command, output, shared.connect.connect().await?).await })
        }
        Command::Registry(command) => block_on(async {
            registry::run(command, output, shared.connect.connect().await?).await
        }),
        Command::Query(command) => {
            block_on(async { query::run(command, output, shared.connect.connect().await?).await })
        }
        Command::Store(command) => store::run(command, output, &shared.connect),
        Command::Audit(command) => block_on(audit::run(command, output, shared.connect)),
    };
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

/// Whether what a command writes is its owner's, but for what is meant to be sent to others.
fn keeps_secrets(command: &Command) -> bool {
    matches!(command, Command::Keys(_) | Command::Node(_) | Command::Network(_) | Command::Store(_))
}

/// An argument with the user's home in the place of a tilde that no shell has replaced: in
/// `--dir=~/net`, or between quotes.
fn at_home(argument: OsString, home: Option<PathBuf>) -> OsString {
    let (Some(text), Some(home)) = (argument.to_str(), home.as_deref().and_then(Path::to_str))
    else {
        return argument;
    };
    let option = text.split_once("=~/").filter(|(name, _)| name.starts_with("--"));
    match (text.strip_prefix("~/"), option) {
        (Some(rest), _) => format!("{home}/{rest}").into(),
        (None, Some((name, rest))) => format!("{name}={home}/{rest}").into(),
        (None, None) => argument,
    }
}

/// Says what is wrong with the arguments, or the help that was asked for.
fn say(answer: &clap::Error) -> ExitCode {
    // As elsewhere: that nobody reads it changes nothing.
    let _nobody = answer.print();
    if answer.use_stderr() && wants_json(std::env::args_os().skip(1)) {
        let text = answer.to_string();
        // All but how the command is used.
        let lines = text.lines().take_while(|line| !line.starts_with("Usage:")).map(str::trim);
        let error = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        let error = error.trim_start_matches("error: ").to_owned();
        let failure = failure::Failure::of(&anyhow::anyhow!(error));
        let _nobody = Output::new(OutputFormat::Json).json(&failure);
    }
    match answer.use_stderr() {
        false => ExitCode::SUCCESS,
        true if has_verdicts(std::env::args_os().skip(1)) => audit::WRONG_USAGE.into(),
        true => WRONG_USAGE.into(),
    }
}

/// Whether arguments that were refused ask for JSON.
fn wants_json(arguments: impl IntoIterator<Item = OsString>) -> bool {
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--output=json") => return true,
            Some("--output") if arguments.next().is_some_and(|form| form == "json") => return true,
            Some("--") => return false,
            _ => {}
        }
    }
    false
}

/// Whether arguments that were refused were meant for a command whose exit codes are verdicts, which
/// is the first command in them: `audit` or `store`.
fn has_verdicts(arguments: impl IntoIterator<Item = OsString>) -> bool {
    let cli = Cli::command();
    let takes_value = |argument: &OsStr| {
        let name = argument.to_str().and_then(|argument| argument.strip_prefix("--"));
        let option = cli.get_arguments().find(|o| name.is_some() && o.get_long() == name);
        option.is_some_and(|option| option.get_action().takes_values())
    };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if let Some(command) = cli.find_subcommand(&argument) {
            return matches!(command.get_name(), "audit" | "store");
        }
        if takes_value(&argument) {
            arguments.next();
        }
    }
    false
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
    fn refused_arguments_are_those_of_the_first_command_in_them() {
        for (line, audit) in [
            ("audit", true),
            ("audit verify --genesis", true),
            ("--output yaml audit verify a.receipt", true),
            ("--outptu json audit verify a.receipt", true),
            ("--profile=query audit history", true),
            ("--profile query audit history", true),
            ("--profile audit query history", false),
            ("query history audit", false),
            ("store check", true),
            ("audti verify", false),
            ("", false),
        ] {
            let arguments = line.split_whitespace().map(OsString::from);
            assert_eq!(has_verdicts(arguments), audit, "{line}");
        }
    }

    #[test]
    fn a_tilde_that_no_shell_replaced_is_home() {
        for (argument, expected) in [
            ("~/net", "/h/jan/net"),
            ("--dir=~/net", "/h/jan/net"),
            ("a~/net", "a~/net"),
            ("./~/net", "./~/net"),
            ("x=~/net", "x=~/net"),
            ("~", "~"),
        ] {
            let found = at_home(argument.into(), Some("/h/jan".into()));
            let expected = match argument.starts_with("--") {
                true => format!("--dir={expected}"),
                false => expected.to_owned(),
            };
            assert_eq!(found.to_str(), Some(expected.as_str()));
        }
    }

    #[test]
    fn refused_arguments_may_ask_for_json() {
        for (line, json) in [
            ("--output json query", true),
            ("query --output=json", true),
            ("--output text query json", false),
            ("--output yaml query", false),
            ("query -- --output=json", false),
            ("", false),
        ] {
            assert_eq!(wants_json(line.split_whitespace().map(OsString::from)), json, "{line}");
        }
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
