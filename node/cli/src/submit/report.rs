//! What came of a submission.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Instant};

use customhouse_formats::{DeclarationKey, ImportError, Skipped, Warning};
use customhouse_ledger::hash::Hash;
use serde::Serialize;

use super::batch::End;
use crate::{
    connect::Connection,
    output::{lossy_option, one_line},
};

/// The summary, and each record's end.
#[derive(Serialize)]
pub(super) struct Report {
    /// Messages read, well-formed or not.
    pub(super) messages: usize,
    committed: usize,
    already_there: usize,
    /// Messages that say the same as an earlier one of this run: they are one submission.
    duplicates: usize,
    duplicate_of: Vec<DuplicateView>,
    pub(super) malformed: usize,
    refused: usize,
    unfinished: usize,
    /// Files and directories that could not be read.
    unreadable: usize,
    pub(super) skipped: Vec<SkippedView>,
    /// Files in the directories that are not named `*.xml`.
    pub(super) other_files: usize,
    /// Whether there are more rows than `--limit` let in.
    pub(super) limited: bool,
    warnings: usize,
    /// Each of them.
    warned: Vec<Warned>,
    /// Messages about a declaration, by how the declaration was found.
    pub(super) links: BTreeMap<&'static str, usize>,
    /// Messages whose declaration was not found.
    unlinked: Vec<String>,
    receipts: usize,
    /// Height of the chain before.
    pub(super) height_before: u64,
    seconds: f64,
    problems: Vec<Problem>,
    pub(super) records: Vec<RecordView>,
    #[serde(skip)]
    begun: Instant,
}

/// A message that is not on the ledger.
#[derive(Serialize)]
struct Problem {
    source: String,
    /// MALFORMED, UNREADABLE, UNFINISHED, or the node's reason code.
    code: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    reason: String,
}

#[derive(Serialize)]
struct Warned {
    source: String,
    warning: String,
}

#[derive(Serialize)]
struct DuplicateView {
    source: String,
    first: String,
}

#[derive(Serialize)]
pub(super) struct SkippedView {
    source: String,
    reason: String,
}

/// A message that is.
#[derive(Serialize)]
pub(super) struct RecordView {
    source: String,
    kind: &'static str,
    pub(super) record_id: Hash,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u64>,
    already_there: bool,
    /// Record id of the declaration that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) about: Option<Hash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) linked_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "lossy_option")]
    pub(super) receipt: Option<PathBuf>,
}

impl Report {
    /// Begins: what has a height up to the chain's now was there before.
    pub(super) async fn begin(connection: &Connection) -> anyhow::Result<Self> {
        let (header, _) = connection.client.header(None).await?;
        Ok(Self {
            messages: 0,
            committed: 0,
            already_there: 0,
            duplicates: 0,
            duplicate_of: Vec::new(),
            malformed: 0,
            refused: 0,
            unfinished: 0,
            unreadable: 0,
            other_files: 0,
            limited: false,
            skipped: Vec::new(),
            warnings: 0,
            warned: Vec::new(),
            links: BTreeMap::new(),
            unlinked: Vec::new(),
            receipts: 0,
            height_before: header.height,
            seconds: 0.0,
            problems: Vec::new(),
            records: Vec::new(),
            begun: Instant::now(),
        })
    }

    pub(super) fn end(&mut self) {
        self.seconds = self.begun.elapsed().as_secs_f64();
        self.receipts = self.records.iter().filter(|record| record.receipt.is_some()).count();
    }

    /// Whether everything is on the ledger that could be.
    pub(super) fn succeeded(&self, allow_malformed: bool) -> bool {
        let malformed = if allow_malformed { 0 } else { self.malformed };
        malformed + self.unreadable + self.refused + self.unfinished == 0
    }

    /// Notes what gave no message.
    pub(super) fn add_unread(&mut self, error: &ImportError) {
        note!("error: {}", one_line(&error.to_string()));
        let unreadable = matches!(error, ImportError::Read { .. });
        let code = if unreadable { "UNREADABLE" } else { "MALFORMED" };
        if unreadable {
            self.unreadable += 1;
        } else {
            self.messages += 1;
            self.malformed += 1;
        }
        let (source, line, column) = match error {
            ImportError::Malformed { file, line, column, .. }
            | ImportError::Term { file, line, column, .. } => (file, Some(*line), Some(*column)),
            ImportError::Row { file, line, .. } => (file, Some(*line), None),
            ImportError::Read { file, .. }
            | ImportError::TooLarge { file, .. }
            | ImportError::TooManySubjects { file, .. } => (file, None, None),
        };
        let (source, reason) = (source.clone(), error.to_string());
        self.problems.push(Problem { source, code: code.into(), line, column, reason });
    }

    pub(super) fn add_skipped(&mut self, skipped: Skipped) {
        self.messages += 1;
        let reason = format!("{}: {}", skipped.root, skipped.reason);
        note!("skipped: {}", one_line(&format!("{}: {reason}", skipped.label)));
        self.skipped.push(SkippedView { source: skipped.label, reason });
    }

    /// Notes a message that says the same as an earlier one.
    pub(super) fn add_duplicate(&mut self, source: &str, first: &str) {
        note!("duplicate: {}", one_line(&format!("{source}: says the same as {first}")));
        self.messages += 1;
        self.duplicates += 1;
        let (source, first) = (source.to_owned(), first.to_owned());
        self.duplicate_of.push(DuplicateView { source, first });
    }

    /// Notes a message whose declaration was not found.
    pub(super) fn add_unlinked(&mut self, source: &str, key: &DeclarationKey) {
        let DeclarationKey { reference, mrn } = key;
        let said =
            format!("{source}: no declaration has the reference {reference:?} or MRN {mrn:?}");
        note!("not linked: {}", one_line(&said));
        self.unlinked.push(source.to_owned());
    }

    pub(super) fn add_warnings(&mut self, source: &str, warnings: &[Warning], list: bool) {
        self.warnings += warnings.len();
        for warning in warnings {
            let text = warning.to_string();
            // What will not be found by its id is told whether or not anybody asks.
            if list || warning.is_about_a_subject() {
                note!("warning: {}", one_line(&format!("{source}: {text}")));
            }
            self.warned.push(Warned { source: source.to_owned(), warning: text });
        }
    }

    /// Notes how a submission ended.
    pub(super) fn add_end(&mut self, source: &str, kind: &'static str, end: End) {
        self.messages += 1;
        let (record_id, height, already_there) = match end {
            End::Final { record_id, height, before } => (record_id, Some(height), before),
            End::Otherwise { record_id } => (record_id, None, true),
            End::Rejected { code, reason } => {
                self.refused += 1;
                return self.add_problem(source, code, reason);
            }
            End::Unfinished { reason } => {
                self.unfinished += 1;
                return self.add_problem(source, "UNFINISHED".into(), reason);
            }
        };
        *if already_there { &mut self.already_there } else { &mut self.committed } += 1;
        self.records.push(RecordView {
            source: source.to_owned(),
            kind,
            record_id,
            height,
            already_there,
            about: None,
            linked_by: None,
            receipt: None,
        });
    }

    fn add_problem(&mut self, source: &str, code: String, reason: String) {
        note!("error: {}", one_line(&format!("{source}: {code}: {reason}")));
        let source = source.to_owned();
        self.problems.push(Problem { source, code, line: None, column: None, reason });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} messages in {:.1} s", self.messages, self.seconds)?;
        let mut line = |count: usize, what: &str| match count {
            0 => Ok(()),
            count => write!(f, "\n{count:>8}  {what}"),
        };
        line(self.committed, "committed")?;
        line(self.already_there, "already there")?;
        line(self.duplicates, "say the same as another of this run, named above")?;
        line(self.malformed, "malformed, named above")?;
        line(self.unreadable, "files or directories that cannot be read, named above")?;
        line(self.refused, "refused, named above")?;
        line(self.unfinished, "not final yet: run it again, nothing is submitted twice")?;
        line(self.skipped.len(), "skipped, named above")?;
        line(self.other_files, "other files, not named *.xml")?;
        line(self.warnings, "warnings (--warnings lists them)")?;
        for (rule, count) in &self.links {
            line(*count, rule)?;
        }
        line(self.unlinked.len(), "about a declaration that was not found, named above")?;
        line(self.receipts, "receipts")?;
        match self.limited {
            true => write!(f, "\nthe file has more rows than --limit"),
            false => Ok(()),
        }
    }
}
