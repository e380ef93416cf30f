//! The program `customhouse`: all commands.

use std::{
    ffi::{OsStr, OsString},
    process::ExitCode,
    time::Duration,
};

use clap::{CommandFactory as _, Parser, Subcommand};
use customhouse_files::hardening;
use customhouse_node::logs;

use crate::{
    agreement,
    arguments::{self, say},
    attach, audit,
    command::{GlobalArgs, WRONG_USAGE, block_on, ended, hide_memory},
    genesis, keys, network, node,
    output::Output,
    query, registry, store, submit, vault,
};

/// A permissioned ledger for cross-border trade records: the node and its command line.
#[derive(Parser)]
#[command(name = "customhouse", version, about, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    shared: GlobalArgs,
    #[command(subcommand)]
    command: Command,
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
    /// Agree with other agencies on who shares sealed records with whom.
    #[command(subcommand)]
    Agreement(agreement::AgreementCommand),
    /// Submit declarations and notifications to a node, and get their receipts.
    #[command(subcommand)]
    Submit(submit::SubmitCommand),
    /// Show what a record says of a file that belongs to it.
    #[command(after_help = attach::HELP)]
    Attach(attach::AttachArgs),
    /// Ask a node what is on the ledger.
    #[command(subcommand)]
    Query(query::QueryCommand),
    /// Check a node's store in full, make its indexes anew, back it up, put it back.
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Look after the keys of sealed records: make and show a vault, back it up, put it back, mirror it.
    #[command(subcommand)]
    Vault(vault::VaultCommand),
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

/// How long the last words wait for whoever reads standard error.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    let code = run();
    logs::flush(LAST_WORDS_TIMEOUT);
    code
}

fn run() -> ExitCode {
    let Cli { shared, command } = match Cli::try_parse_from(arguments::given()) {
        Ok(cli) => cli,
        Err(error) => {
            let has_verdicts = has_verdicts(std::env::args_os().skip(1));
            return say(&error, if has_verdicts { audit::WRONG_USAGE } else { WRONG_USAGE });
        }
    };
    hide_memory();
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
        Command::Attach(args) => attach::run(&args, output),
        Command::Submit(command) => {
            block_on(async { submit::run(command, output, shared.connect.connect().await?).await })
        }
        Command::Registry(command) => block_on(async {
            registry::run(command, output, shared.connect.connect().await?).await
        }),
        Command::Agreement(command) => block_on(async {
            agreement::run(command, output, shared.connect.connect().await?).await
        }),
        Command::Query(command) => {
            block_on(async { query::run(command, output, shared.connect.connect().await?).await })
        }
        Command::Store(command) => store::run(command, output, &shared.connect),
        Command::Vault(command) => vault::run(command, output),
        Command::Audit(command) => block_on(audit::run(command, output, shared.connect)),
    };
    ended(done, output, wrong_usage)
}

/// Whether what a command writes is its owner's only, except for what is meant to be sent to others.
fn keeps_secrets(command: &Command) -> bool {
    matches!(
        command,
        Command::Keys(_)
            | Command::Node(_)
            | Command::Network(_)
            | Command::Store(_)
            | Command::Vault(_)
    )
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

#[cfg(test)]
mod tests {
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
}
