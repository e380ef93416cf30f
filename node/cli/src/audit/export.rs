//! `customhouse audit export`: receipts and proofs as files, verified before they are written, to be
//! checked by others without a network.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use customhouse_audit::{
    seen::{Basis, Seen},
    validators,
    verdict::Verdict,
};
use customhouse_files::newfile;
use customhouse_ledger::{
    hash::Hash,
    proofs::json::{JsonForm, to_json},
};
use customhouse_proto::v1;
use prost::Message as _;
use serde::Serialize;

use crate::{
    audit::{
        history::{HistoryArgs, HistoryAudit},
        source::{PROOF_FILE, Source, receipts_of},
        verifier,
    },
    connect::{ConnectArgs, Connection},
    output::{Output, lossy, one_line},
};

#[derive(Subcommand)]
pub(crate) enum ExportCommand {
    /// All records about a subject: the proof that these are all, and their receipts.
    #[command(after_help = HISTORY_HELP)]
    History(ExportHistoryArgs),
    /// Receipts of records, by their ids.
    #[command(after_help = RECEIPTS_HELP)]
    Receipts(ExportReceiptsArgs),
}

#[derive(clap::Args)]
pub(crate) struct ExportHistoryArgs {
    #[command(flatten)]
    history: HistoryArgs,
    /// Where to write the files; made where it does not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The files' form: what is verified, or the same as JSON for other tools.
    #[arg(long, value_enum, default_value_t)]
    form: FileForm,
}

#[derive(clap::Args)]
pub(crate) struct ExportReceiptsArgs {
    /// Record ids, 64 hexadecimal digits each.
    #[arg(required = true, value_name = "RECORD")]
    records: Vec<Hash>,
    /// The genesis of the network, as you had it from a source that you trust.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// Where to write the files; made where it does not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The files' form: what is verified, or the same as JSON for other tools.
    #[arg(long, value_enum, default_value_t)]
    form: FileForm,
}

/// The form of exported files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum FileForm {
    #[default]
    Binary,
    Json,
}

const HISTORY_HELP: &str = "\
Writes history.proof, a receipt for each record, and, where the validators have changed, validator.chain.
Whoever has the genesis checks them without a network: `audit history SUBJECT --files DIR`, or
`audit absent` where there are no records.

Exit codes: 0 proven and written; else as `audit history`, and what was proven is written without the
proof that it is all.

Examples:
  customhouse --profile net/NL-DOUANE/clients/auditor audit export history mrn:18GBJ4XG51QGC33AR9 \\
    --genesis genesis.json --out exported/";

const RECEIPTS_HELP: &str = "\
Writes ID.receipt for each record, and, where the validators have changed, validator.chain. Whoever has
the genesis checks them without a network: `audit verify DIR`.

Exit codes: 0 verified and written; 1 a receipt is invalid; 2 not to be had; 64 wrong arguments.

Examples:
  customhouse --profile net/NL-DOUANE/clients/auditor audit export receipts 2a97… \\
    --genesis genesis.json --out receipts/";

#[derive(Serialize)]
struct Exported<A> {
    #[serde(flatten)]
    answer: A,
    #[serde(serialize_with = "lossy")]
    written: PathBuf,
    files: usize,
}

impl<A: fmt::Display> fmt::Display for Exported<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directory = self.written.to_string_lossy();
        writeln!(f, "{} files written to {}", self.files, one_line(&directory))?;
        self.answer.fmt(f)
    }
}

pub(super) async fn export(
    command: ExportCommand,
    output: Output,
    connect: &ConnectArgs,
) -> anyhow::Result<Verdict> {
    match command {
        ExportCommand::History(args) => history(&args, output, connect).await,
        ExportCommand::Receipts(args) => of_records(&args, output, connect).await,
    }
}

async fn history(
    args: &ExportHistoryArgs,
    output: Output,
    connect: &ConnectArgs,
) -> anyhow::Result<Verdict> {
    let source = Source::open(args.history.files.as_deref(), connect).await?;
    let mut audit = HistoryAudit::begin(&args.history, &source).await?;
    let mut folder = Folder::create(&args.out, args.form)?;
    audit.prove_records(&source, |id, receipt| folder.receipt(id, receipt)).await?;
    audit.check_age(args.history.max_age);
    let verdict = audit.answer.verdict;
    if verdict == Verdict::Verified {
        folder.chain(&audit.chain)?;
        // Last: a folder with a proof is whole.
        folder.write::<v1::HistoryProof>(PROOF_FILE, &audit.proof)?;
    }
    output.print(&folder.exported(audit.answer))?;
    Ok(verdict)
}

async fn of_records(
    args: &ExportReceiptsArgs,
    output: Output,
    connect: &ConnectArgs,
) -> anyhow::Result<Verdict> {
    let connection: Connection = connect.connect().await?;
    let mut seen = Seen::new(verifier(&args.genesis)?);
    let mut fetched = Vec::new();
    receipts_of(&connection, &args.records, |id, receipt| {
        fetched.push((id, receipt));
        Ok(())
    })
    .await?;
    // After the receipts, so that no change comes between the two.
    let chain = validators::follow_node(&mut seen.verifier, connection.node()).await?;
    let mut folder = Folder::create(&args.out, args.form)?;
    let mut answer = Receipts { verdict: Verdict::Verified, reason: None, rests_on: seen.basis() };
    for (id, bytes) in fetched {
        match seen.verifier.verify_receipt(&bytes) {
            Ok(receipt) if receipt.slot.record_id == id => {
                if let Err(fork) = seen.note_receipt(&receipt) {
                    answer.refuse(Verdict::Fork, fork.to_string());
                }
                folder.receipt(&id, &bytes)?;
            }
            Ok(_) => answer.refuse(Verdict::Invalid, format!("{id}: another record's receipt")),
            Err(error) => {
                let reason = format!("{id}: {}: {error}", error.code());
                answer.refuse(Verdict::of_receipt(&error), reason);
            }
        }
    }
    folder.chain(&chain.encode_to_vec())?;
    answer.rests_on = seen.basis();
    let verdict = answer.verdict;
    output.print(&folder.exported(answer))?;
    Ok(verdict)
}

#[derive(Serialize)]
struct Receipts {
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    rests_on: Basis,
}

impl Receipts {
    fn refuse(&mut self, verdict: Verdict, reason: String) {
        if verdict > self.verdict {
            (self.verdict, self.reason) = (verdict, Some(reason));
        }
    }
}

impl fmt::Display for Receipts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.verdict)?;
        if let Some(reason) = &self.reason {
            write!(f, ": {}", one_line(reason))?;
        }
        write!(f, "\nrests on {}", self.rests_on)
    }
}

/// The directory that is written to.
struct Folder<'a> {
    path: &'a Path,
    form: FileForm,
    files: usize,
}

impl<'a> Folder<'a> {
    fn create(path: &'a Path, form: FileForm) -> anyhow::Result<Self> {
        fs::create_dir_all(path).with_context(|| path.display().to_string())?;
        Ok(Self { path, form, files: 0 })
    }

    fn write<M: JsonForm>(&mut self, name: &str, binary: &[u8]) -> anyhow::Result<()> {
        let file = self.path.join(name);
        let written = match self.form {
            FileForm::Binary => newfile::replace(&file, binary, 0o644),
            FileForm::Json => newfile::replace(&file, to_json::<M>(binary)?.as_bytes(), 0o644),
        };
        written.with_context(|| file.display().to_string())?;
        self.files += 1;
        Ok(())
    }

    fn receipt(&mut self, id: &Hash, receipt: &[u8]) -> anyhow::Result<()> {
        self.write::<v1::Receipt>(&format!("{id}.receipt"), receipt)
    }

    /// The changes of the validators, if there are any.
    fn chain(&mut self, chain: &[u8]) -> anyhow::Result<()> {
        if chain.is_empty() {
            Ok(())
        } else {
            self.write::<v1::ValidatorChain>(validators::FILE_NAME, chain)
        }
    }

    fn exported<A>(self, answer: A) -> Exported<A> {
        Exported { answer, written: self.path.to_owned(), files: self.files }
    }
}
