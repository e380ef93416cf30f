//! `customhouse submit wco`: the node imports the files; declarations first, then what is about them.

use std::collections::{HashMap, HashSet};

use customhouse_formats::{Found, message_file, wco_paths};
use customhouse_ledger::hash::Hash;
use customhouse_proto::v1::{
    self, import_link::Rule, import_options::Lodge, import_result::Outcome, imported_message::Kind,
};

use super::{
    Report, WcoArgs,
    batch::End,
    finish,
    import::{Imported, Importer, is_for_others, kind_name},
};
use crate::{
    connect::{self, Connection},
    progress,
};

/// Bytes of messages that one run holds: all of them at once, because any may be about any other.
const HELD_BYTES_MAX: usize = 1 << 30;
/// Bytes of messages, and messages, of one batch: what is about each other is looked for in it, and then on
/// the ledger. A node takes twice as much.
const BATCH_BYTES: usize = 8 << 20;
const BATCH_MESSAGES: usize = 8192;
/// Bytes that a message takes beside its content.
const MESSAGE_BYTES: usize = 512;

pub(super) async fn submit(args: &WcoArgs, connection: &Connection) -> anyhow::Result<Report> {
    let office = match &args.office_profile {
        Some(path) => Some(connect::connect(connect::profile_at(path)?).await?),
        None => None,
    };
    let mut report = Report::begin(connection).await?;
    let mut batches = read(args, &mut report)?;
    // What answers a declaration is lodged when all declarations are: by whom that is for, where two are
    // named, and after all batches, where there are several.
    let passes = match (&office, batches.len()) {
        (None, 0 | 1) => vec![(connection, Lodge::All)],
        (office, _) => {
            let office = office.as_ref().unwrap_or(connection);
            vec![(connection, Lodge::Declarations), (office, Lodge::Answers)]
        }
    };
    let messages = batches.iter().map(Vec::len).sum();
    let mut noted = vec![HashSet::new(); batches.len()];
    let mut cut_off = None;
    'passes: for (connection, part) in passes {
        let lodge = if args.dry_run { Lodge::Nothing } else { part };
        let how = (&args.submit, report.height_before);
        let importer = Importer::new(connection, "wco", lodge, how);
        let bar = progress::bar(messages, "messages");
        for (batch, noted) in batches.iter_mut().zip(&mut noted) {
            let imported = importer.import(batch, &bar).await?;
            bar.suspend(|| note_all(&mut report, &imported.all, part, args, noted));
            // The others would wait for as long, for nothing.
            if imported.cut_off.is_some() {
                cut_off = imported.cut_off;
                break 'passes;
            }
        }
        bar.finish_and_clear();
    }
    let of_batches = batches.iter().zip(&noted);
    let left = of_batches.flat_map(|(batch, noted)| {
        (0..).zip(batch).filter(|(number, _)| !noted.contains(number)).map(|(_, message)| message)
    });
    for message in left {
        let reason = cut_off.clone().unwrap_or_else(|| "the node gave no result".to_owned());
        report.add_end(&message.label, "message", End::Unfinished { reason });
    }
    finish(report, &args.submit, connection).await
}

/// The messages of a run, in batches, up to a limit.
struct Held {
    batches: Vec<Vec<v1::ImportMessage>>,
    /// Messages in all.
    messages: usize,
    /// Bytes that may still be added, to all and to the last batch.
    room: usize,
    batch_room: usize,
}

impl Held {
    fn new(room: usize) -> Self {
        Self { batches: Vec::new(), messages: 0, room, batch_room: 0 }
    }

    fn add(&mut self, label: String, content: Vec<u8>) -> anyhow::Result<()> {
        let bytes = content.len() + label.len() + MESSAGE_BYTES;
        let Some(room) = self.room.checked_sub(bytes) else {
            anyhow::bail!(
                "{label}: with this message a run would hold more than it may, after {} others. Nothing was \
                 submitted: name fewer directories at a time. What messages are about is found on the \
                 ledger, too",
                self.messages
            );
        };
        (self.room, self.messages) = (room, self.messages + 1);
        let message = v1::ImportMessage { label, content, ..Default::default() };
        let last = self.batches.last_mut().filter(|batch| batch.len() < BATCH_MESSAGES);
        match (last, self.batch_room.checked_sub(bytes)) {
            (Some(batch), Some(room)) => {
                self.batch_room = room;
                batch.push(message);
            }
            _ => {
                self.batch_room = BATCH_BYTES.saturating_sub(bytes);
                self.batches.push(vec![message]);
            }
        }
        Ok(())
    }
}

/// Reads every file; what cannot be read is noted and left out.
///
/// # Errors
/// There are more messages than one run holds.
fn read(args: &WcoArgs, report: &mut Report) -> anyhow::Result<Vec<Vec<v1::ImportMessage>>> {
    let Found { files, unreadable, skipped, other_files } = wco_paths(&args.paths);
    unreadable.iter().for_each(|error| report.add_unreadable(error));
    for link in skipped {
        report.add_skipped(&link.label, &link.root, link.reason);
    }
    report.other_files = other_files;
    if files.is_empty() {
        note!("error: no file named *.xml was found");
        report.found_nothing = true;
    }
    let bar = progress::bar(files.len(), "reading");
    let mut held = Held::new(HELD_BYTES_MAX);
    for file in &files {
        match message_file(file) {
            Ok((label, content)) => held.add(label, content)?,
            Err(error) => bar.suspend(|| report.add_unreadable(&error)),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(held.batches)
}

/// Notes what came of a batch in a pass, and of which of its messages something was noted.
fn note_all(
    report: &mut Report,
    all: &[Imported],
    part: Lodge,
    args: &WcoArgs,
    noted: &mut HashSet<u32>,
) {
    let labels: HashMap<u32, &str> =
        all.iter().map(|imported| (imported.result.number, &*imported.result.label)).collect();
    let label_of = |number: &u32| labels.get(number).copied().unwrap_or_default();
    for Imported { result, end } in all {
        let v1::ImportResult { label, outcome, message, .. } = result;
        match outcome {
            Some(Outcome::Imported(imported)) if is_of(part, imported.kind()) => {
                let about = imported.link.as_ref().and_then(|link| link.to.as_ref());
                let about = about.map(label_of);
                note_imported(report, (label, about), imported, end.clone(), args);
            }
            // Another pass notes it.
            Some(Outcome::Imported(_)) | None => continue,
            // Said once, by the first pass.
            _ if noted.contains(message) => {}
            Some(Outcome::Skipped(skipped)) => {
                report.add_skipped(label, &skipped.root, &skipped.reason);
            }
            Some(Outcome::Malformed(malformed)) => report.add_malformed(label, malformed),
            Some(Outcome::DuplicateOf(first)) => report.add_duplicate(label, label_of(first)),
        }
        noted.insert(*message);
    }
}

/// Whether a pass is about messages of a kind.
fn is_of(part: Lodge, kind: Kind) -> bool {
    match part {
        Lodge::All | Lodge::Nothing => true,
        Lodge::Declarations => kind != Kind::Status,
        Lodge::Answers => kind == Kind::Status,
    }
}

/// Notes a message that became a record, and which message of the run it is about.
fn note_imported(
    report: &mut Report,
    (label, about): (&str, Option<&str>),
    imported: &v1::ImportedMessage,
    end: Option<End>,
    args: &WcoArgs,
) {
    report.add_warnings(label, &imported.warnings, args.warnings);
    if let Some(unlinked) = &imported.unlinked {
        report.add_unlinked(label, unlinked);
    }
    let rule = imported.link.as_ref().map(|link| rule_text(link.rule()));
    if let Some(rule) = rule {
        *report.links.entry(rule).or_default() += 1;
    }
    let kind = kind_name(imported.kind());
    match end {
        Some(end) if is_for_others(&end) => report.add_left_out(label, end),
        Some(end) => {
            let on_ledger = report.records.len();
            report.add_end(label, kind, end);
            if let (Some(record), Some(link)) = (report.records.get_mut(on_ledger), &imported.link)
            {
                record.about = Hash::from_slice(&link.record_id).ok();
                record.linked_by = rule;
            }
        }
        None if args.dry_run => report.add_planned(label, kind, imported, about),
        // It was lodged by an earlier attempt, which said so.
        None => {}
    }
}

fn rule_text(rule: Rule) -> &'static str {
    match rule {
        Rule::Reference => "linked by the declaration's reference",
        Rule::Mrn => "linked by the MRN",
        Rule::Ledger | Rule::Unspecified => "linked to a declaration that was on the ledger",
        Rule::Folder => "linked by folder only (to be checked)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_would_hold_too_much_is_refused_before_anything_is_submitted() {
        let one = 10 + "a.xml".len() + MESSAGE_BYTES;
        let mut held = Held::new(2 * one);
        for _ in 0..2 {
            held.add("a.xml".into(), vec![7; 10]).expect("room for two");
        }
        let refused = held.add("a.xml".into(), vec![7; 10]).expect_err("no room for a third");
        let refused = refused.to_string();
        assert!(refused.contains("a.xml: ") && refused.contains("after 2 others"), "{refused}");
    }

    #[test]
    fn files_go_in_batches_that_a_node_takes() {
        let mut held = Held::new(HELD_BYTES_MAX);
        for number in 0..5 {
            held.add(format!("{number}.xml"), vec![7; BATCH_BYTES / 2 - 1024]).expect("room");
        }
        let lengths: Vec<_> = held.batches.iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 2, 1]);
        held.add("large.xml".into(), vec![7; BATCH_BYTES + 1]).expect("room");
        assert_eq!(held.batches.len(), 4);
    }
}
