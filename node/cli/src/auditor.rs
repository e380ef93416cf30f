//! The program `customhouse-audit`: the audits alone.

use std::process::ExitCode;

use clap::Parser;

use crate::{
    arguments::{self, say},
    audit,
    command::{GlobalArgs, block_on, ended, hide_memory},
    output::Output,
};

/// Checks what can be checked of a Customhouse ledger without trusting a node. These are the commands of
/// `customhouse audit`, for a machine on which no node runs.
#[derive(Parser)]
#[command(name = "customhouse-audit", version, about, propagate_version = true, after_help = EXAMPLES)]
struct AuditCli {
    #[command(flatten)]
    shared: GlobalArgs,
    #[command(subcommand)]
    command: audit::AuditCommand,
}

const EXAMPLES: &str = "\
Examples:
  customhouse-audit verify receipts/ --genesis genesis.json
  customhouse-audit --profile auditor history mrn:18GBJ4XG51QGC33AR9 --genesis genesis.json

The commands' own help has more. What it writes `customhouse audit …`, or `customhouse --profile DIR audit …`,
is `customhouse-audit …` and `customhouse-audit --profile DIR …` here.";

/// Parses the arguments and runs the audit.
pub fn audit_main() -> ExitCode {
    let AuditCli { shared, command } = match AuditCli::try_parse_from(arguments::given()) {
        Ok(cli) => cli,
        Err(error) => return say(&error, audit::WRONG_USAGE),
    };
    hide_memory();
    let output = Output::new(shared.output);
    ended(block_on(audit::run(command, output, shared.connect)), output, audit::WRONG_USAGE)
}
