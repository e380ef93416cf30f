//! `customhouse audit show`: what a receipt says, offline.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use customhouse_audit::{
    files::read_form, foreign_answer::ForeignAnswer, time, validators, verdict::Verdict,
};
use customhouse_files::newfile;
use customhouse_ledger::{
    agency::AgencyCode,
    authority::role,
    finality::header::Header,
    hash::Hash,
    transaction::{Slot, TransactionHeader},
};
use customhouse_proto::v1;
use prost::Message as _;
use serde::Serialize;

use crate::{
    audit::{receipts, verifier},
    output::{Output, lossy, one_line},
    record_json,
};

#[derive(clap::Args)]
pub(crate) struct ShowArgs {
    /// The receipt's file.
    #[arg(value_name = "RECEIPT")]
    receipt: PathBuf,
    /// The genesis of the network, as you had it from a source that you trust. Without it nothing is verified.
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// The changes of validators since the genesis, where the receipt does not have them in it. A
    /// validator.chain beside the receipt is used without being named.
    #[arg(long, value_name = "FILE", requires = "genesis")]
    validator_chain: Option<PathBuf>,
    /// Write the message that the record was made from to this file, byte for byte; must not exist.
    #[arg(long, value_name = "FILE")]
    source: Option<PathBuf>,
}

pub(super) const HELP: &str = "\
No network is needed. Prints the record that the receipt proves, who lodged it, in which role, when and where.

Exit codes: 0 verified; 1 the receipt or the genesis is invalid; 2 NOT VERIFIED, because no genesis was given,
or for want of evidence; 3 proof of a fork; 64 wrong arguments.

Examples:
  customhouse audit show 5f0c….receipt --genesis genesis.json
  customhouse audit show 5f0c….receipt --genesis genesis.json --source declaration.xml";

/// A receipt, as it is shown.
#[derive(Serialize)]
struct Shown {
    verdict: Verdict,
    /// Stable code, where it was refused.
    #[serde(skip_serializing_if = "str::is_empty")]
    code: &'static str,
    reason: String,
    record_id: Hash,
    agency: String,
    /// What the record says; the registry is asked for the key only.
    submitter: Option<String>,
    submitter_role: Option<&'static str>,
    /// The key that signed, in hexadecimal.
    signer: String,
    signer_role: Option<&'static str>,
    time_ms: u64,
    height: u64,
    log_index: u64,
    slot_index: u32,
    transaction_id: Hash,
    record: Option<serde_json::Value>,
    /// The other agency to whose record it answers: it is the view of its own agency then.
    #[serde(skip_serializing_if = "Option::is_none")]
    answers_agency: Option<AgencyCode>,
    #[serde(skip)]
    foreign_answer: Option<ForeignAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Written>,
}

#[derive(Serialize)]
struct Written {
    #[serde(serialize_with = "lossy")]
    written: PathBuf,
    bytes: usize,
}

/// What a verified receipt adds.
struct Checked {
    verdict: Verdict,
    code: &'static str,
    reason: String,
    signer_role: Option<&'static str>,
}

pub(super) fn show(args: &ShowArgs, output: Output) -> anyhow::Result<Verdict> {
    let bytes = read_form::<v1::Receipt>(&args.receipt, receipts::TOO_LARGE)?;
    let receipt = v1::Receipt::decode(&bytes[..]).context("not a receipt")?;
    let checked = check(args, &bytes)?;
    let transaction = TransactionHeader::decode(&receipt.transaction_header)?;
    let (header, slot) = (Header::decode(&receipt.header)?, Slot::decode(&receipt.slot)?);
    let record = match &receipt.record[..] {
        [] => None,
        bytes => Some(v1::Record::decode(bytes).context("its record")?),
    };
    let source = match &args.source {
        None => None,
        Some(file) => Some(write_source(file, record.as_ref())?),
    };
    let foreign_answer = record.as_ref().and_then(ForeignAnswer::of);
    let shown = Shown {
        verdict: checked.verdict,
        code: checked.code,
        reason: checked.reason,
        record_id: slot.record_id,
        agency: transaction.agency.to_string(),
        submitter: record.as_ref().map(|record| record.submitter.clone()),
        submitter_role: record.as_ref().map(|record| role::name(record.submitter_role())),
        signer: transaction.signer.to_string(),
        signer_role: checked.signer_role,
        time_ms: header.time_ms,
        height: header.height,
        log_index: receipt.log_index,
        slot_index: receipt.slot_index,
        transaction_id: transaction.id(),
        record: record.map(|_| record_json::of_record(&receipt.record)).transpose()?,
        answers_agency: foreign_answer.map(|answer| answer.answered),
        foreign_answer,
        source,
    };
    output.print(&shown)?;
    Ok(shown.verdict)
}

fn check(args: &ShowArgs, bytes: &[u8]) -> anyhow::Result<Checked> {
    let Some(genesis) = &args.genesis else {
        return Ok(Checked {
            verdict: Verdict::NotEnoughEvidence,
            code: "",
            reason: "NOT VERIFIED: --genesis FILE verifies it".to_owned(),
            signer_role: None,
        });
    };
    let mut verifier = verifier(genesis)?;
    let beside = args.receipt.parent().unwrap_or(Path::new("")).join(validators::FILE_NAME);
    let beside = Some(beside).filter(|file| file.is_file());
    for file in args.validator_chain.iter().chain(beside.as_ref()) {
        validators::follow_file(&mut verifier, file)?;
    }
    Ok(match verifier.verify_receipt(bytes) {
        Ok(receipt) => Checked {
            verdict: Verdict::Verified,
            code: "",
            reason: String::new(),
            signer_role: Some(role::name(receipt.signer.role)),
        },
        Err(error) => Checked {
            verdict: Verdict::of_receipt(&error),
            code: error.code(),
            reason: format!("NOT VERIFIED: {error}"),
            signer_role: None,
        },
    })
}

fn write_source(file: &Path, record: Option<&v1::Record>) -> anyhow::Result<Written> {
    let Some(record) = record else { bail!("the record's content is not in the receipt") };
    let Some(source) = &record.source else {
        bail!("the record was not made from a message: it has no source")
    };
    if let Some(attachment) = &source.attachment {
        let root = hex::encode(&attachment.root);
        bail!("the source is an attachment of the record, which is not in the receipt: {root}");
    }
    newfile::output(file, &source.content).with_context(|| file.display().to_string())?;
    Ok(Written { written: file.to_owned(), bytes: source.content.len() })
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "receipt     {}", self.verdict)?;
        if !self.reason.is_empty() {
            writeln!(f, "            {}", one_line(&self.reason))?;
        }
        writeln!(f, "record      {}", self.record_id)?;
        let role = |role: Option<&'static str>| role.unwrap_or("unknown");
        match &self.submitter {
            Some(name) => {
                let role = role(self.submitter_role);
                writeln!(f, "lodged by   {} ({}), as {role}", one_line(name), self.agency)?;
            }
            None => writeln!(f, "lodged for  {}", self.agency)?,
        }
        if let Some(answer) = &self.foreign_answer {
            writeln!(f, "a view      {answer}")?;
        }
        writeln!(f, "signed by   {}", self.signer)?;
        if let Some(role) = self.signer_role {
            writeln!(f, "            which is registered as {role}")?;
        }
        writeln!(f, "lodged      {}", time::shown(self.time_ms))?;
        writeln!(
            f,
            "height      {}, log index {}, slot {}",
            self.height, self.log_index, self.slot_index
        )?;
        write!(f, "transaction {}", self.transaction_id)?;
        if let Some(source) = &self.source {
            let file = source.written.to_string_lossy();
            write!(f, "\nsource      written {} ({} bytes)", one_line(&file), source.bytes)?;
        }
        match &self.record {
            Some(record) => write!(f, "\n{record:#}"),
            None => write!(f, "\nThe record's content is not in the receipt."),
        }
    }
}
