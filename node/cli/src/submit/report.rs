//! What came of a submission.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Instant};

use customhouse_formats::ImportError;
use customhouse_ledger::hash::Hash;
use customhouse_proto::v1;
use prost::Message as _;
use serde::Serialize;

use super::batch::End;
use crate::{
    connect::Connection,
    output::{lossy_option, one_line},
    record_json,
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
    /// Messages that say what the profile's role may not state.
    left_out: usize,
    unfinished: usize,
    /// Files and directories that could not be read.
    unreadable: usize,
    /// Whether there was no file to submit.
    pub(super) found_nothing: bool,
    /// Whether receipts that were asked for could not be had.
    lacks_receipts: bool,
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
    /// What would be lodged, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    planned: Vec<PlannedView>,
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

/// A message that would be lodged.
#[derive(Serialize)]
struct PlannedView {
    source: String,
    kind: &'static str,
    idempotency_key: String,
    /// Record id, or else the message, of what it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<String>,
    /// The record, without the bytes of its source.
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<serde_json::Value>,
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
            left_out: 0,
            planned: Vec::new(),
            unfinished: 0,
            unreadable: 0,
            found_nothing: false,
            lacks_receipts: false,
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
        let left = self.unreadable + self.refused + self.left_out + self.unfinished;
        malformed + left == 0 && !self.found_nothing && !self.lacks_receipts
    }

    /// Notes a file or directory that cannot be read.
    pub(super) fn add_unreadable(&mut self, error: &ImportError) {
        note!("error: {}", one_line(&error.to_string()));
        self.unreadable += 1;
        let source = match error {
            ImportError::Read { file, .. } => file.clone(),
            other => other.to_string(),
        };
        let (code, reason) = ("UNREADABLE".to_owned(), error.to_string());
        self.problems.push(Problem { source, code, line: None, column: None, reason });
    }

    /// Notes what gave no record.
    pub(super) fn add_malformed(&mut self, source: &str, malformed: &v1::MalformedMessage) {
        let v1::MalformedMessage { line, column, reason } = malformed;
        note!("error: {}", one_line(reason));
        self.messages += 1;
        self.malformed += 1;
        let place = |number: &u32| usize::try_from(*number).ok().filter(|number| *number > 0);
        let (line, column) = (place(line), place(column));
        let (source, code) = (source.to_owned(), "MALFORMED".to_owned());
        self.problems.push(Problem { source, code, line, column, reason: reason.clone() });
    }

    pub(super) fn add_skipped(&mut self, source: &str, root: &str, reason: &str) {
        self.messages += 1;
        let reason = format!("{root}: {reason}");
        note!("skipped: {}", one_line(&format!("{source}: {reason}")));
        self.skipped.push(SkippedView { source: source.to_owned(), reason });
    }

    /// Notes what the profile's role may not state.
    pub(super) fn add_left_out(&mut self, source: &str, end: End) {
        self.messages += 1;
        self.left_out += 1;
        if let End::Rejected { code, reason } = end {
            self.add_problem(source, code, reason);
        }
    }

    /// Notes what would be lodged; `about` is the message that it is about, where that is in the run.
    pub(super) fn add_planned(
        &mut self,
        source: &str,
        kind: &'static str,
        imported: &v1::ImportedMessage,
        about: Option<&str>,
    ) {
        self.messages += 1;
        let record = imported.record.as_ref();
        let record = record.and_then(|r| record_json::of_record(&r.encode_to_vec()).ok());
        let id = imported.link.as_ref().map(|link| &link.record_id).filter(|id| !id.is_empty());
        let about = about.map(str::to_owned).or_else(|| {
            let id = Hash::from_slice(id?).ok()?;
            Some(id.to_string())
        });
        let idempotency_key = imported.idempotency_key.clone();
        let source = source.to_owned();
        self.planned.push(PlannedView { source, kind, idempotency_key, about, record });
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
    pub(super) fn add_unlinked(&mut self, source: &str, key: &v1::Unlinked) {
        let v1::Unlinked { reference, mrn, reason } = key;
        let said = match &reason[..] {
            "" => format!("no declaration has the reference {reference:?} or MRN {mrn:?}"),
            reason => reason.trim_start_matches("not linked: ").to_owned(),
        };
        note!("not linked: {}", one_line(&format!("{source}: {said}")));
        self.unlinked.push(source.to_owned());
    }

    pub(super) fn add_warnings(
        &mut self,
        source: &str,
        warnings: &[v1::ImportWarning],
        list: bool,
    ) {
        self.warnings += warnings.len();
        for v1::ImportWarning { text, about_a_subject, .. } in warnings {
            // What will not be found by its id is told whether or not anybody asks.
            if list || *about_a_subject {
                note!("warning: {}", one_line(&format!("{source}: {text}")));
            }
            self.warned.push(Warned { source: source.to_owned(), warning: text.clone() });
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

    /// Notes rows of a file of which the node said nothing within the patience.
    pub(super) fn add_unanswered(&mut self, source: &str, rows: usize, reason: &str) {
        if rows > 0 {
            self.messages += rows;
            self.unfinished += rows;
            let reason = format!("{rows} rows: {reason}");
            self.add_problem(source, "UNFINISHED".into(), reason);
        }
    }

    /// Notes that receipts could not be had, or written: what is on the ledger is there all the same.
    pub(super) fn add_receipts_missing(&mut self, dir: &str, error: &str) {
        self.lacks_receipts = true;
        let reason = format!("{error}. Run it again: nothing is submitted twice");
        self.add_problem(dir, "RECEIPTS_MISSING".into(), reason);
    }

    fn add_problem(&mut self, source: &str, code: String, reason: String) {
        note!("error: {}", one_line(&format!("{source}: {code}: {reason}")));
        let source = source.to_owned();
        self.problems.push(Problem { source, code, line: None, column: None, reason });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.messages == 1 { "" } else { "s" };
        write!(f, "{} message{plural} in {:.1} s", self.messages, self.seconds)?;
        let mut line = |count: usize, what: &str| match count {
            0 => Ok(()),
            count => write!(f, "\n{count:>8}  {what}"),
        };
        line(self.committed, "committed")?;
        line(self.already_there, "already there")?;
        line(self.duplicates, "say the same as another of this run, named above")?;
        line(self.malformed, "malformed, named above")?;
        line(self.unreadable, "files or directories that cannot be read, named above")?;
        line(self.planned.len(), "would be lodged (--output json shows the records)")?;
        line(self.refused, "refused, named above")?;
        line(
            self.left_out,
            "left out, named above: this profile's role may not state them (--office-profile)",
        )?;
        line(self.unfinished, "not final yet: run it again, nothing is submitted twice")?;
        line(self.skipped.len(), "skipped, named above")?;
        line(self.other_files, "other files, not named *.xml")?;
        line(self.warnings, "warnings (--warnings lists them)")?;
        for (rule, count) in &self.links {
            line(*count, rule)?;
        }
        line(self.unlinked.len(), "about a declaration that was not found, named above")?;
        line(self.receipts, "receipts")?;
        // Of one message people want to go on with its record; of many, JSON has the ids.
        if let ([RecordView { record_id, .. }], 1) = (&self.records[..], self.messages) {
            write!(f, "\nrecord    {record_id}")?;
        }
        match self.limited {
            true => write!(f, "\nthe file has more rows than --limit"),
            false => Ok(()),
        }
    }
}
