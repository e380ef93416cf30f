//! The command line. Answers go to standard output, as text or JSON; everything else (progress,
//! warnings, errors, logs) goes to standard error.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod genesis;
mod keys;
mod network;
mod output;

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
}

#[derive(Subcommand)]
enum Command {
    /// Make and show keys, and certificates for clients.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Put a genesis together, show it, compare it.
    #[command(subcommand)]
    Genesis(genesis::GenesisCommand),
    /// Lay out a network of several agencies on this machine.
    #[command(subcommand)]
    Network(network::NetworkCommand),
}

const EXAMPLES: &str = "\
Examples:
  # Four agencies on this machine
  customhouse network new --agencies NL-DOUANE,BE-AADA,DE-ZOLL,FR-DGDDI --dir net

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
        Command::Network(command) => network::run(command, output),
    };
    match done {
        Ok(code) => code,
        // Whoever reads the answer has seen enough, as in `customhouse … | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("customhouse: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
