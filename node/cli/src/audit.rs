//! `customhouse audit`: what can be checked without trusting a node.
//!
//! Exit codes: 0 verified, 1 invalid, 2 not enough evidence, 3 proof of a fork, 64 wrong arguments.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use customhouse_audit::{validators, verdict::Verdict};
use customhouse_ledger::proofs::verifier::Verifier;
use serde::Serialize;

use super::{command::Done, connect::ConnectArgs, failure, genesis, output::Output};

mod attachment;
mod consistency;
mod decisions;
mod export;
mod fork;
mod freshness;
mod history;
mod mapping;
mod node;
mod receipts;
mod sealed_history;
mod show;
mod source;
mod source_files;
mod subject;
mod tlog;
pub(crate) mod validator_chain;
mod watch;

#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Verify receipts with the genesis alone.
    #[command(after_help = VERIFY_HELP)]
    Verify(VerifyArgs),
    /// Show the record of a receipt, who lodged it, in which role and when, without a network.
    #[command(after_help = show::HELP)]
    Show(show::ShowArgs),
    /// Prove all records about a subject: that each is on the ledger and that none is missing.
    #[command(after_help = format!("{}\n\n{}", subject::FORMS, history::HELP))]
    History(history::HistoryArgs),
    /// Prove that no record is about a subject.
    #[command(after_help = format!("{}\n\n{}", subject::FORMS, history::ABSENT_HELP))]
    Absent(history::HistoryArgs),
    /// Verify a proof of all sealed records about a subject under an agreement, without a network.
    #[command(after_help = format!("{}\n\n{}", subject::FORMS, sealed_history::HELP))]
    SealedHistory(Box<sealed_history::SealedHistoryArgs>),
    /// Check that a file is the one that a record refers to, by its root.
    #[command(after_help = attachment::HELP)]
    Attachment(attachment::AttachmentArgs),
    /// Check that a node's log continues the head that was saved, and save its head.
    #[command(after_help = consistency::HELP)]
    Consistency(consistency::ConsistencyArgs),
    /// Follow several nodes, and find the one that tells another history.
    #[command(after_help = watch::HELP)]
    Watch(watch::WatchArgs),
    /// Write receipts and proofs to files, to be checked without a network.
    #[command(subcommand)]
    Export(export::ExportCommand),
    /// Write the changes of validators since the genesis, verified, to a file for all receipts.
    #[command(after_help = CHAIN_HELP)]
    ValidatorChain(ValidatorChainArgs),
    /// Export how a node came to decide heights: blocks, finalizations, and what these rested on.
    #[command(after_help = decisions::HELP)]
    Decisions(decisions::DecisionsArgs),
    /// Name the validators that divided a chain, from what nodes on both sides export.
    #[command(after_help = fork::HELP)]
    Fork(fork::ForkArgs),
    /// Export a receipt as a C2SP tlog-proof, for tools of transparency logs.
    #[command(after_help = tlog::EXPORT_HELP)]
    TlogProof(Box<tlog::ExportArgs>),
    /// Verify a tlog-proof that `tlog-proof` wrote, with the genesis alone.
    #[command(after_help = tlog::VERIFY_HELP)]
    VerifyTlogProof(Box<tlog::VerifyArgs>),
}

#[derive(clap::Args)]
pub(crate) struct VerifyArgs {
    /// Receipt files, and directories with *.receipt.
    #[arg(required = true, value_name = "RECEIPT")]
    receipts: Vec<PathBuf>,
    /// The genesis of the network, as you had it from a source that you trust.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// The changes of validators since the genesis, as `audit validator-chain` wrote them. A
    /// validator.chain beside the receipts is used without being named.
    #[arg(long, value_name = "FILE")]
    validator_chain: Option<PathBuf>,
    /// Also ask the profile's node for its head, and check that its log continues the receipts'.
    #[arg(long)]
    against_node: bool,
    /// Also map each record's source again, and compare: what the record says, and what its message said.
    #[arg(long)]
    source: bool,
    /// The same, with files and directories (*.xml, at any depth) in which to find the sources that are
    /// attachments of their records. May be repeated.
    #[arg(long, value_name = "PATH")]
    source_files: Vec<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct ValidatorChainArgs {
    /// The genesis of the network, as you had it from a source that you trust.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// Where to write it; must not exist.
    #[arg(long, value_name = "FILE", default_value = validators::FILE_NAME)]
    out: PathBuf,
}

const CHAIN_HELP: &str = "\
Each change is a block's header that announced it, final by the validators before, so the file needs
no more trust than the genesis does: `audit verify` checks it again.

Exit codes: 0 written; 1 the node's chain is invalid; 2 not enough evidence, such as a change that no
quorum certified; 3 proof of a fork; 64 wrong arguments.

Examples:
  customhouse --profile net/NL-DOUANE/clients/auditor audit validator-chain \\
    --genesis genesis.json --out receipts/validator.chain";

const VERIFY_HELP: &str = "\
No network is needed, unless --against-node asks for it. Where receipts contradict each other, two
certified blocks of one height are the proof of a fork. Receipts from after a change of the validators
need the validator chain: --validator-chain FILE, or validator.chain beside them, or --against-node.
With --source, each record is held against the message that it was made from: the source is mapped again, by the
importer that the record names, where this program has it. A large source is not in its record: --source-files
finds it by its root. A record whose source cannot be held against it is not verified.

Exit codes: 0 all verified; 1 a receipt, the validator chain or the genesis is invalid, or a record contradicts
its source (--source); 2 not enough evidence, such as a certificate
without a quorum, a missing validator chain, a file that cannot be read, or a source that is not there or that
this program cannot map (--source); 3 proof of a fork;
64 wrong arguments.

Examples:
  customhouse audit verify receipts/ --genesis genesis.json
  customhouse audit verify receipts/ --genesis genesis.json --source
  customhouse audit verify receipts/ --genesis genesis.json --source-files messages/
  customhouse --profile net/NL-DOUANE/clients/auditor audit verify receipts/ \\
    --genesis genesis.json --against-node
  customhouse --output json audit verify a.receipt --genesis genesis.json | jq .rests_on";

/// Exit code of wrong arguments: EX_USAGE of BSD's sysexits, because the usual 2 is a verdict here.
pub(crate) const WRONG_USAGE: u8 = 64;

/// Runs the command; every failure to look is "not enough evidence".
pub(crate) async fn run(command: AuditCommand, output: Output, connect: ConnectArgs) -> Done {
    let done = match command {
        AuditCommand::Verify(args) => receipts::verify(&args, output, &connect).await,
        AuditCommand::Show(args) => show::show(&args, output),
        AuditCommand::ValidatorChain(args) => {
            validator_chain::export(&args, output, &connect).await
        }
        AuditCommand::Attachment(args) => attachment::check(&args, output),
        AuditCommand::Consistency(args) => consistency::check(&args, output, &connect).await,
        AuditCommand::Watch(args) => watch::watch(&args, output, &connect).await,
        AuditCommand::Export(command) => export::export(command, output, &connect).await,
        AuditCommand::History(args) => history::prove(&args, output, &connect).await,
        AuditCommand::SealedHistory(args) => sealed_history::verify(&args, output),
        AuditCommand::Absent(args) => history::absent(&args, output, &connect).await,
        AuditCommand::Decisions(args) => decisions::export(&args, output, &connect).await,
        AuditCommand::Fork(args) => fork::examine(&args, output),
        AuditCommand::TlogProof(args) => tlog::export(&args, output, &connect).await,
        AuditCommand::VerifyTlogProof(args) => tlog::verify(&args, output),
    };
    let verdict = match done {
        Ok(verdict) => verdict,
        Err(error) if failure::is_wrong_usage(&error) => return Err(error),
        Err(error) => {
            let (verdict, reason) = (Verdict::of_error(&error), crate::failure::sentence(&error));
            let code = failure::code(&error);
            let before = code.as_ref().map(|code| format!("{code}: ")).unwrap_or_default();
            note!("customhouse: {before}{reason}");
            output.json(&NoAnswer { verdict, code, reason })?;
            verdict
        }
    };
    Ok(verdict.exit_code())
}

/// What scripts are told where there was nothing to look at.
#[derive(Serialize)]
struct NoAnswer {
    verdict: Verdict,
    /// Stable code, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    reason: String,
}

fn verifier(genesis: &Path) -> anyhow::Result<Verifier> {
    Ok(Verifier::new(&genesis::read(genesis)?))
}
