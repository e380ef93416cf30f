//! `customhouse audit verify`.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use customhouse_audit::{
    seen::{Basis, Fork, Seen},
    time, validators,
    verdict::Verdict,
};
use customhouse_files::readfile;
use customhouse_ledger::{
    authority::role,
    hash::Hash,
    proofs::{
        json::{JsonForm as _, binary_of},
        receipt::{ReceiptError, VerifiedReceipt},
    },
};
use customhouse_proto::v1;
use serde::Serialize;

use crate::{
    audit::{
        VerifyArgs,
        mapping::{MappingView, SOURCE_DIFFERS, SOURCE_NOT_CHECKED},
        node,
        source::PROOF_FILE,
        source_files::{SourceFiles, SourceFilesView},
        verifier,
    },
    connect::ConnectArgs,
    output::{Output, lossy, one_line},
    progress,
};

pub(super) async fn verify(
    args: &VerifyArgs,
    output: Output,
    connect: &ConnectArgs,
) -> anyhow::Result<Verdict> {
    let mut verifier = verifier(&args.genesis)?;
    for file in chain_files(args) {
        validators::follow_file(&mut verifier, &file)?;
    }
    let connection = match args.against_node {
        true => Some(connect.connect().await?),
        false => None,
    };
    if let Some(connection) = &connection {
        validators::follow_node(&mut verifier, connection.node()).await?;
    }
    let mut seen = Seen::new(verifier);
    let (files, not_looked_at) = receipt_files(&args.receipts)?;
    let bar = progress::bar(files.len(), "verifying");
    let sources = SourceFiles::read(&args.source_files);
    let with_sources = (args.source || !args.source_files.is_empty()).then_some(&sources);
    let mut receipts = Vec::new();
    for file in &files {
        receipts.push(verify_file(file, &mut seen, with_sources));
        bar.inc(1);
    }
    bar.finish_and_clear();
    let against_node = match &connection {
        Some(connection) => Some(node::compare(&mut seen, connection).await?),
        None => None,
    };
    let verdicts = receipts.iter().map(|receipt| receipt.verdict);
    let not_read = sources.is_partly_unread().then_some(Verdict::NotEnoughEvidence);
    let against = against_node.as_ref().map(|node| node.verdict);
    let verdict = verdicts.chain(against).chain(not_read).max();
    let verdict = verdict.unwrap_or(Verdict::NotEnoughEvidence);
    let rests_on = seen.basis();
    let source_files = sources.view();
    output.print(&ReceiptsAudit {
        verdict,
        rests_on,
        receipts,
        not_looked_at,
        source_files,
        against_node,
    })?;
    Ok(verdict)
}

/// The validator chain named, and those beside the receipts.
fn chain_files(args: &VerifyArgs) -> BTreeSet<PathBuf> {
    let beside = args.receipts.iter().map(|path| match path.parent() {
        Some(folder) if !path.is_dir() => folder.join(validators::FILE_NAME),
        _ => path.join(validators::FILE_NAME),
    });
    args.validator_chain.iter().cloned().chain(beside.filter(|file| file.is_file())).collect()
}

/// The files named, and the `*.receipt` of the directories, sorted; and how much else there is in these.
pub(super) fn receipt_files(paths: &[PathBuf]) -> anyhow::Result<(Vec<PathBuf>, usize)> {
    let (mut files, mut others) = (Vec::new(), 0);
    for path in paths {
        let name = || path.display().to_string();
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let (inside, beside) = receipts_in(path)?;
        anyhow::ensure!(!inside.is_empty(), "{}: no *.receipt in it", name());
        files.extend(inside);
        others += beside;
    }
    files.sort();
    files.dedup();
    Ok((files, others))
}

/// The receipts in a directory, in order, which may be none; and how many other files are there.
pub(super) fn receipts_in(directory: &Path) -> anyhow::Result<(Vec<PathBuf>, usize)> {
    let (mut files, mut others) = (Vec::new(), 0);
    let name = || directory.display().to_string();
    for entry in fs::read_dir(directory).with_context(name)? {
        let file = entry.with_context(name)?.path();
        if file.extension().is_some_and(|extension| extension == "receipt") {
            files.push(file);
        } else if !KNOWN_BESIDE.iter().any(|name| file.ends_with(name)) {
            others += 1;
        }
    }
    files.sort();
    Ok((files, others))
}

/// Files that stand beside receipts and are not receipts.
const KNOWN_BESIDE: [&str; 2] = [validators::FILE_NAME, PROOF_FILE];

fn verify_file(file: &Path, seen: &mut Seen, sources: Option<&SourceFiles>) -> ReceiptView {
    let mut view = ReceiptView::unread(file);
    let bytes = match read(file) {
        Ok(bytes) => bytes,
        Err(error) => {
            view.unreadable(&error);
            return view;
        }
    };
    let verified =
        binary_of::<v1::Receipt>(&bytes).map(|bytes| seen.verifier.verify_receipt(&bytes));
    match verified {
        Ok(Ok(receipt)) => match seen.note_receipt(&receipt) {
            Ok(()) => {
                view.accept(&receipt);
                if let Some(sources) = sources {
                    view.check_source(&receipt, sources);
                }
            }
            Err(fork) => view.fork(fork),
        },
        Ok(Err(error)) => view.refuse(&error),
        Err(error) => {
            (view.verdict, view.code) = (Verdict::Invalid, error.code());
            view.reason = error.to_string();
        }
    }
    view
}

/// Code of a file that is larger than any receipt.
pub(super) const TOO_LARGE: &str = "RECEIPT_TOO_LARGE";

/// A receipt's file, binary or JSON.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    readfile::bytes(file, v1::Receipt::JSON_BYTES_MAX)
}

/// A receipt, verified or not.
#[derive(Serialize)]
struct ReceiptView {
    #[serde(serialize_with = "lossy")]
    file: PathBuf,
    verdict: Verdict,
    /// Stable code of the refusal.
    #[serde(skip_serializing_if = "str::is_empty")]
    code: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    proves: Option<Proven>,
    /// The record held against its source, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<MappingView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fork: Option<Fork>,
}

/// What a receipt proves.
#[derive(Serialize)]
struct Proven {
    record_id: Hash,
    agency: String,
    signer: String,
    /// What the registry lets the key sign.
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    submitter: Option<String>,
    /// In which role the submitter speaks, where the record is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    spoke_as: Option<&'static str>,
    height: u64,
    lodged_ms: u64,
    log_index: u64,
    slot_index: u32,
    finalized_by: usize,
    with_record: bool,
}

impl ReceiptView {
    fn unread(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            verdict: Verdict::NotEnoughEvidence,
            code: "",
            reason: String::new(),
            proves: None,
            source: None,
            fork: None,
        }
    }

    fn accept(&mut self, receipt: &VerifiedReceipt) {
        self.verdict = Verdict::Verified;
        let record = receipt.record.as_ref().map(|record| &record.record);
        let submitter = record.map(|record| record.submitter.clone());
        let spoke_as = record.map(|record| role::name(record.submitter_role()));
        self.proves = Some(Proven {
            record_id: receipt.slot.record_id,
            agency: receipt.signer.agency.to_string(),
            signer: receipt.transaction.signer.to_string(),
            role: role::name(receipt.signer.role),
            submitter,
            spoke_as,
            height: receipt.header.height,
            lodged_ms: receipt.header.time_ms,
            log_index: receipt.log_index,
            slot_index: receipt.slot_index,
            finalized_by: receipt.finalized_by.len(),
            with_record: receipt.record.is_some(),
        });
    }

    /// A true receipt of a record that contradicts its own source is not one to rely on, and of one that was not
    /// held against its source no answer is known to what was asked.
    fn check_source(&mut self, receipt: &VerifiedReceipt, sources: &SourceFiles) {
        let view = MappingView::of(receipt.record.as_ref().map(|record| &record.record), sources);
        if let Some(fields) = view.differing() {
            (self.verdict, self.code) = (Verdict::Invalid, SOURCE_DIFFERS);
            self.reason = format!("the record contradicts its source in {fields}");
        } else if let Some(reason) = view.unchecked() {
            (self.verdict, self.code) = (Verdict::NotEnoughEvidence, SOURCE_NOT_CHECKED);
            self.reason = reason;
        }
        self.source = Some(view);
    }

    /// A file that is longer than a receipt can be is not a receipt; one that cannot be read says nothing.
    fn unreadable(&mut self, error: &io::Error) {
        if error.kind() == io::ErrorKind::FileTooLarge {
            (self.verdict, self.code) = (Verdict::Invalid, TOO_LARGE);
        }
        self.reason = error.to_string();
    }

    fn refuse(&mut self, error: &ReceiptError) {
        self.verdict = Verdict::of_receipt(error);
        (self.code, self.reason) = (error.code(), error.to_string());
    }

    fn fork(&mut self, fork: Fork) {
        self.verdict = Verdict::Fork;
        self.code = "FORK";
        self.reason = fork.to_string();
        self.fork = Some(fork);
    }
}

impl fmt::Display for ReceiptView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", one_line(&self.file.to_string_lossy()), self.verdict)?;
        if !self.code.is_empty() {
            write!(f, ": {}", self.code)?;
        }
        if !self.reason.is_empty() {
            write!(f, ": {}", one_line(&self.reason))?;
        }
        if let Some(proven) = &self.proves {
            let lodged = time::shown(proven.lodged_ms);
            write!(f, ": record {} of {}", proven.record_id, proven.agency)?;
            if let (Some(name), Some(role)) = (&proven.submitter, proven.spoke_as) {
                write!(f, ", by {} as {role}", one_line(name))?;
            }
            write!(f, ", lodged {lodged} at height {}", proven.height)?;
            if !proven.with_record {
                write!(f, " (its id only; the content is not in the receipt)")?;
            }
        }
        // Otherwise it is the reason above.
        if let (Some(source), Verdict::Verified) = (&self.source, self.verdict) {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct ReceiptsAudit {
    verdict: Verdict,
    rests_on: Basis,
    receipts: Vec<ReceiptView>,
    /// Files and directories in the directories named that are not `*.receipt`.
    not_looked_at: usize,
    /// Where sources that are not in their records were looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    source_files: Option<SourceFilesView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    against_node: Option<node::Comparison>,
}

/// Up to this many verified receipts are listed one by one; the rest are counted.
const LISTED_MAX: usize = 10;

impl fmt::Display for ReceiptsAudit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (good, bad): (Vec<_>, Vec<_>) =
            self.receipts.iter().partition(|receipt| receipt.verdict == Verdict::Verified);
        for receipt in good.iter().take(LISTED_MAX).chain(&bad) {
            writeln!(f, "{receipt}")?;
        }
        if good.len() > LISTED_MAX {
            writeln!(f, "… and {} more verified", good.len() - LISTED_MAX)?;
        }
        if let Some(comparison) = &self.against_node {
            writeln!(f, "{comparison}")?;
        }
        if self.not_looked_at > 0 {
            writeln!(f, "not looked at: {}, which are not named *.receipt", self.not_looked_at)?;
        }
        if let Some(files) = &self.source_files {
            writeln!(f, "{files}")?;
        }
        writeln!(
            f,
            "{}: {} of {} receipts verified",
            self.verdict,
            good.len(),
            self.receipts.len()
        )?;
        write!(f, "rests on {}", self.rests_on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_directory_has_beside_receipts_is_counted() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        for name in ["a.receipt", "b.receipt", "validator.chain", "history.proof", "c.json"] {
            fs::write(at(name), "").expect("writable");
        }
        fs::create_dir(at("more")).expect("made");
        let (files, others) = receipt_files(&[directory.path().to_owned()]).expect("receipts");
        assert_eq!((files, others), (vec![at("a.receipt"), at("b.receipt")], 2));
    }
}
