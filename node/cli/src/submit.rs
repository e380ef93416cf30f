//! `customhouse submit`: from messages to records on the ledger, and their receipts.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::Subcommand;
use customhouse_files::{newfile, readfile};
use customhouse_ledger::hash::Hash;
use customhouse_proto::v1;

use super::{command::Done, connect::Connection, output::Output, record_json};

mod batch;
mod import;
mod receipts;
mod report;
mod rows;
mod wco;

use batch::{Batch, End};
use report::Report;

/// Most bytes of a record's JSON: ample for 4 MiB of record, however it is laid out.
const RECORD_JSON_BYTES_MAX: usize = 64 * 1024 * 1024;

#[derive(Subcommand)]
pub(crate) enum SubmitCommand {
    /// Submit WCO Data Model declarations (DEC) and the notifications about them (RES).
    #[command(after_help = WCO_HELP)]
    Wco(WcoArgs),
    /// Submit the rows of a CSV file with the 22 columns of the Korean import declarations.
    #[command(after_help = ROWS_HELP)]
    DeclarationsCsv(RowsArgs),
    /// Submit one record from JSON.
    #[command(after_help = RECORD_HELP)]
    Record(RecordArgs),
}

/// What all submissions take.
#[derive(clap::Args, Clone)]
pub(crate) struct SubmitArgs {
    /// Write each record's receipt to DIR/RECORD_ID.receipt.
    #[arg(long, value_name = "DIR")]
    receipts: Option<PathBuf>,
    /// Give up when nothing has become final for this long. A later run goes on from there.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience: u64,
    /// Share the records with the parties of this agreement (`agreement show` lists them): 64 hexadecimal digits.
    /// Without it nobody but the own agency has them, until they are granted to others.
    #[arg(long, value_name = "ID", conflicts_with = "open")]
    agreement: Option<Hash>,
    /// Lodge the records open: every member of the network can read them, for ever.
    #[arg(long)]
    open: bool,
}

impl SubmitArgs {
    /// The agreement as it is sent: nothing where it is the own.
    fn agreement(&self) -> Vec<u8> {
        self.agreement.map(|id| id.0.to_vec()).unwrap_or_default()
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.patience)
    }

    /// Makes the directory of the receipts, and tries it: what cannot be written is better known before anything
    /// is lodged.
    fn prepare(&self) -> anyhow::Result<()> {
        let Some(dir) = &self.receipts else { return Ok(()) };
        let refused = || format!("--receipts {}: nothing was submitted", shown(dir));
        std::fs::create_dir_all(dir).with_context(refused)?;
        let tried = dir.join(format!(".customhouse-{}", std::process::id()));
        newfile::write(&tried, b"", 0o600).with_context(refused)?;
        std::fs::remove_file(&tried).with_context(refused)
    }
}

#[derive(clap::Args)]
pub(crate) struct WcoArgs {
    /// Files, and directories to search for *.xml.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Lodge notifications, which only customs may state, under this profile, of an officer; the rest goes
    /// under --profile.
    #[arg(long, value_name = "DIR")]
    office_profile: Option<PathBuf>,
    /// Say what would be lodged, and lodge nothing.
    #[arg(long)]
    dry_run: bool,
    /// Exit with 0 although files were malformed. Those that cannot be read still give 1.
    #[arg(long)]
    allow_malformed: bool,
    /// List every warning, and not only those about what will not be found by its id.
    #[arg(long)]
    warnings: bool,
    #[command(flatten)]
    submit: SubmitArgs,
}

#[derive(clap::Args)]
pub(crate) struct RowsArgs {
    /// The CSV file, with its header.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Submit at most this many rows.
    #[arg(long, value_name = "ROWS")]
    limit: Option<usize>,
    /// Say what would be lodged, and lodge nothing.
    #[arg(long)]
    dry_run: bool,
    /// Exit with 0 although rows were malformed.
    #[arg(long)]
    allow_malformed: bool,
    /// List every warning, and not only those about what will not be found by its id.
    #[arg(long)]
    warnings: bool,
    #[command(flatten)]
    submit: SubmitArgs,
}

#[derive(clap::Args)]
pub(crate) struct RecordArgs {
    /// The record, in protobuf's JSON form, without salt, agency and submitter.
    #[arg(value_name = "FILE.json")]
    file: PathBuf,
    /// The idempotency key. Where absent, the hash of the record: the same record is submitted once.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Upload this file, and add it to the record's attachments. May be repeated.
    #[arg(long, value_name = "FILE")]
    attach: Vec<PathBuf>,
    #[command(flatten)]
    submit: SubmitArgs,
}

const WCO_HELP: &str = "\
Declarations are submitted first, then amendments, then notifications, each of which refers to the
declaration that it answers. The XML is kept byte for byte: `query record --source` gives it back.
A file that is not well-formed is named with line and column, one that cannot be read with the reason, and
the rest goes on. To run it again submits nothing twice; messages that say the same, with other line ends
or in another encoding, are one. The ids of movements, containers, consignments, documents and traders
are found wherever the message has them, and brought to their normal form; what looks like one and is not
understood is a warning with its place. What has no record is named: other kinds of messages, links to
directories, AppleDouble files. So is a message whose declaration was not found: its record is on the
ledger all the same, and names the declaration.

The node makes the records. What answers a declaration only customs may state: a broker's profile lodges
declarations and amendments, --office-profile the notifications about them. Without it, what the role of the
one profile may not state is named and left out.

Exit codes: 0 all is on the ledger; 1 a file was malformed (unless --allow-malformed) or could not be read,
a record was refused or left out, not everything became final, or there was no file at all. Skipped files, duplicates and messages without a
declaration leave it at 0.

Examples:
  customhouse --profile net/NL-DOUANE/clients/broker submit wco declarations/ \\
    --office-profile net/NL-DOUANE/clients/officer
  customhouse --profile acme submit wco a.xml b.xml --receipts receipts/
  customhouse --profile acme --output json submit wco . | jq .problems";

const ROWS_HELP: &str = "\
A line ends with a line feed, a carriage return, or both. Rows that are the same are one submission, and
are named; so are ids and numbers that a spreadsheet may have changed.

Exit codes: 0 all is on the ledger; 1 a row was malformed (unless --allow-malformed), the file could not be
read to its end, a record was refused, or not everything became final. Repeated rows, and rows beyond
--limit, leave it at 0.

Examples:
  customhouse --profile net/KR-KCS/clients/broker submit declarations-csv df_syn_train_eng.csv
  customhouse --profile acme submit declarations-csv rows.csv --limit 1000 --receipts receipts/";

const RECORD_HELP: &str = "\
The record is sealed: on the ledger is a commitment to it, and its bytes are at this agency and, with --agreement,
at its parties, who are told of by `query delivery`. With --open all members read it.

Examples:
  echo '{\"riskAlert\": {\"alertId\": \"A-17\", \"riskCode\": \"DRUGS\", \"about\":
    [{\"scheme\": \"CONTAINER\", \"id\": \"CSQU3054383\"}]}}' > alert.json
  customhouse --profile net/NL-DOUANE/clients/officer submit record alert.json
  customhouse --profile acme submit record declaration.json --agreement 4f07…
  customhouse --profile acme submit record declaration.json --open --attach invoice.pdf --attach scan.tiff";

pub(crate) async fn run(command: SubmitCommand, output: Output, connection: Connection) -> Done {
    let of_all = match &command {
        SubmitCommand::Wco(args) => &args.submit,
        SubmitCommand::DeclarationsCsv(args) => &args.submit,
        SubmitCommand::Record(args) => &args.submit,
    };
    of_all.prepare()?;
    let (report, allow_malformed) = match command {
        SubmitCommand::Wco(args) => (wco::submit(&args, &connection).await?, args.allow_malformed),
        SubmitCommand::DeclarationsCsv(args) => {
            (rows::submit(&args, &connection).await?, args.allow_malformed)
        }
        SubmitCommand::Record(args) => (submit_record(&args, &connection).await?, false),
    };
    output.print(&report)?;
    Ok(if report.succeeded(allow_malformed) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn submit_record(args: &RecordArgs, connection: &Connection) -> anyhow::Result<Report> {
    let name = args.file.display().to_string();
    let text = readfile::text(&args.file, RECORD_JSON_BYTES_MAX).with_context(|| name.clone())?;
    let mut record = record_json::parse(&text).with_context(|| name.clone())?;
    for file in &args.attach {
        record.attachments.push(connection.client.upload_file(file, None).await?);
    }
    let key = args.key.clone().unwrap_or_else(|| key_of(&record));
    let mut report = Report::begin(connection).await?;
    let submission = v1::RecordSubmission {
        record: Some(record),
        idempotency_key: key,
        open: args.submit.open,
        agreement: args.submit.agreement(),
    };
    let batch = Batch::new(connection, args.submit.patience(), report.height_before);
    let ends = batch.submit(vec![submission], &indicatif::ProgressBar::hidden()).await?;
    for end in ends {
        // The key is the caller's: that another record has it is a refusal, not a repetition.
        let end = match end {
            End::Otherwise { record_id } => End::Rejected {
                code: "ALREADY_EXISTS".to_owned(),
                reason: format!("the key was used before, for another record: {record_id} stands"),
            },
            end => end,
        };
        report.add_end(&name, "record", end);
    }
    finish(report, &args.submit, connection).await
}

/// One key for one content.
fn key_of(record: &v1::Record) -> String {
    let bytes = prost::Message::encode_to_vec(record);
    format!("record:{}", customhouse_ledger::hash::Tag::RECORD.hash(&[&bytes]))
}

/// Fetches the receipts that were asked for.
async fn finish(
    mut report: Report,
    args: &SubmitArgs,
    connection: &Connection,
) -> anyhow::Result<Report> {
    if let Some(dir) = &args.receipts {
        // What was lodged is told whether or not there are receipts of it.
        if let Err(error) = receipts::write_all(&mut report, dir, connection).await {
            report.add_receipts_missing(&shown(dir), &crate::failure::sentence(&error));
        }
    }
    report.end();
    Ok(report)
}

/// A path as it is shown.
fn shown(path: &Path) -> String {
    path.display().to_string()
}
