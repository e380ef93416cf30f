//! `customhouse submit wco`: declarations first, then what is about them.

use std::collections::HashMap;

use customhouse_formats::{
    DeclarationKey, Found, Imported, LinkTarget, Links, MessageRole, Outcome, Rule, link_batch,
    waves, wco_file, wco_paths,
};
use customhouse_ledger::hash::Hash;
use customhouse_proto::v1::{
    self, get_history_request::SubjectOrKey, record::Body, subject::Scheme,
};
use futures::{StreamExt as _, stream};
use prost::Message as _;

use super::{Batch, Report, WcoArgs, batch::End, finish, rows::submission};
use crate::{connect::Connection, progress};

/// Declarations looked up on the ledger at a time.
const LOOKUPS_AT_A_TIME: usize = 16;
/// Bytes of messages that one run holds: all of them at once, because any may be about any other. Each is
/// twice there while it is submitted.
const HELD_BYTES_MAX: usize = 1 << 30;
/// Bytes that a message takes beside its record.
const MESSAGE_BYTES: usize = 2048;

pub(super) async fn submit(args: &WcoArgs, connection: &Connection) -> anyhow::Result<Report> {
    let mut report = Report::begin(connection).await?;
    let mut messages = read(args, &mut report)?;
    let links = link(&messages, connection).await?;
    note_links(&mut report, &links, &messages);
    let batch = Batch::new(connection, args.submit.patience(), report.height_before);
    let bar = progress::bar(messages.len() - links.duplicates.len(), "messages");
    let mut ids: Vec<Option<Hash>> = vec![None; messages.len()];
    for wave in waves(&messages) {
        let wave: Vec<usize> =
            wave.into_iter().filter(|index| !is_duplicate(&links, *index)).collect();
        let (ready, early): (Vec<usize>, Vec<usize>) =
            wave.into_iter().partition(|index| refer(&mut messages[*index], &links, *index, &ids));
        let submissions = ready.iter().map(|index| submission(&messages[*index])).collect();
        let ends = batch.submit(submissions, &bar).await?;
        let early = early.iter().map(|index| (index, too_early()));
        for (&index, end) in ready.iter().zip(ends).chain(early) {
            if let End::Final { record_id, .. } | End::Otherwise { record_id } = end {
                ids[index] = Some(record_id);
            }
            bar.suspend(|| note_end(&mut report, &messages[index], &links, (index, end), &ids));
        }
    }
    bar.finish_and_clear();
    finish(report, &args.submit, connection).await
}

/// The messages of a run, up to a limit.
struct Held {
    messages: Vec<Imported>,
    /// Bytes that may still be added.
    room: usize,
}

impl Held {
    fn add(&mut self, message: Imported) -> anyhow::Result<()> {
        let bytes = message.record.encoded_len() + MESSAGE_BYTES;
        let Some(room) = self.room.checked_sub(bytes) else {
            anyhow::bail!(
                "{}: with this message a run would hold more than it may, after {} others. Nothing was \
                 submitted: name fewer directories at a time. What messages are about is found on the \
                 ledger, too",
                message.label,
                self.messages.len()
            );
        };
        self.room = room;
        self.messages.push(message);
        Ok(())
    }
}

/// Reads every file; what gives no message is noted and left out.
///
/// # Errors
/// There are more messages than one run holds.
fn read(args: &WcoArgs, report: &mut Report) -> anyhow::Result<Vec<Imported>> {
    let Found { files, unreadable, skipped, other_files } = wco_paths(&args.paths);
    unreadable.iter().for_each(|error| report.add_unread(error));
    skipped.into_iter().for_each(|link| report.add_skipped(link));
    report.other_files = other_files;
    if files.is_empty() {
        note!("no file named *.xml was found");
    }
    let bar = progress::bar(files.len(), "reading");
    let mut held = Held { messages: Vec::new(), room: HELD_BYTES_MAX };
    for file in &files {
        match wco_file(file) {
            Ok(Outcome::Imported(imported)) => {
                bar.suspend(|| {
                    report.add_warnings(&imported.label, &imported.warnings, args.warnings);
                });
                held.add(*imported)?;
            }
            Ok(Outcome::Skipped(skipped)) => bar.suspend(|| report.add_skipped(skipped)),
            Err(error) => bar.suspend(|| report.add_unread(&error)),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(held.messages)
}

/// Finds what each message is about: in the batch, and where it is not there, on the ledger.
async fn link(messages: &[Imported], connection: &Connection) -> anyhow::Result<Links> {
    let links = link_batch(messages, |_| None);
    let by_folder = links.links.iter().filter(|link| link.rule == Rule::Folder);
    let open = links.unlinked.iter().map(|u| u.from).chain(by_folder.map(|link| link.from));
    let mut keys: Vec<&DeclarationKey> = open.map(|index| &messages[index].key).collect();
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() {
        return Ok(links);
    }
    let agency = connection.agency()?.to_string();
    let lookups = keys.into_iter().map(|key| {
        let agency = &agency;
        async move { (key.clone(), find_declaration(key, agency, connection).await) }
    });
    let found: Vec<_> = stream::iter(lookups).buffer_unordered(LOOKUPS_AT_A_TIME).collect().await;
    let mut on_ledger = HashMap::new();
    for (key, id) in found {
        on_ledger.extend(id?.map(|id| (key, id.0)));
    }
    Ok(link_batch(messages, |key| on_ledger.get(key).copied()))
}

/// The declaration on the ledger that has this reference at this agency, or this MRN.
async fn find_declaration(
    key: &DeclarationKey,
    agency: &str,
    connection: &Connection,
) -> anyhow::Result<Option<Hash>> {
    let reference = (Scheme::DeclarationReference, format!("{agency}/{}", key.reference));
    let subjects = [
        Some(reference).filter(|_| !key.reference.is_empty()),
        Some((Scheme::Mrn, key.mrn.clone())).filter(|_| !key.mrn.is_empty()),
    ];
    for (scheme, id) in subjects.into_iter().flatten() {
        let subject = v1::Subject { scheme: scheme as i32, id };
        let history = connection.client.history(SubjectOrKey::Subject(subject));
        let mut history = std::pin::pin!(history);
        while let Some(item) = history.next().await {
            let item = item?;
            if is_declaration(&item.record) {
                return Ok(Hash::from_slice(&item.record_id).ok());
            }
        }
    }
    Ok(None)
}

/// Whether a record is a declaration, and not a message about one.
fn is_declaration(bytes: &[u8]) -> bool {
    let body = v1::Record::decode(bytes).ok().and_then(|record| record.body);
    match body {
        Some(Body::Declaration(declaration)) => {
            declaration.regime() != v1::declaration::Regime::AsReferenced
        }
        _ => false,
    }
}

fn is_duplicate(links: &Links, index: usize) -> bool {
    links.duplicates.binary_search_by_key(&index, |duplicate| duplicate.index).is_ok()
}

/// Puts the reference into a message that is about another. False where that is not on the ledger
/// though it was in the batch: submitted now, the message would never be linked.
fn refer(message: &mut Imported, links: &Links, index: usize, ids: &[Option<Hash>]) -> bool {
    let Some(link) = links.of(index) else { return true };
    let Some(id) = target(link.to, ids) else { return false };
    message.refer(link.relation, id.0, link.rule.ground());
    true
}

fn too_early() -> End {
    End::Unfinished { reason: "the declaration that it is about is not on the ledger".into() }
}

fn target(to: LinkTarget, ids: &[Option<Hash>]) -> Option<Hash> {
    match to {
        LinkTarget::Batch(index) => ids.get(index).copied().flatten(),
        LinkTarget::Ledger(id) => Some(Hash(id)),
    }
}

fn note_links(report: &mut Report, links: &Links, messages: &[Imported]) {
    for duplicate in &links.duplicates {
        report.add_duplicate(&messages[duplicate.index].label, &messages[duplicate.first].label);
    }
    for link in &links.links {
        *report.links.entry(rule_text(link.rule)).or_default() += 1;
    }
    for unlinked in &links.unlinked {
        report.add_unlinked(&messages[unlinked.from].label, &unlinked.key);
    }
}

fn note_end(
    report: &mut Report,
    message: &Imported,
    links: &Links,
    (index, end): (usize, End),
    ids: &[Option<Hash>],
) {
    let kind = match message.role {
        MessageRole::Declaration => "declaration",
        MessageRole::Additional(_) => "amendment",
        MessageRole::Status => "status",
    };
    let on_ledger = report.records.len();
    report.add_end(&message.label, kind, end);
    if let (Some(record), Some(link)) = (report.records.get_mut(on_ledger), links.of(index)) {
        record.about = target(link.to, ids);
        record.linked_by = Some(rule_text(link.rule));
    }
}

fn rule_text(rule: Rule) -> &'static str {
    match rule {
        Rule::Reference => "linked by the declaration's reference",
        Rule::Mrn => "linked by the MRN",
        Rule::Ledger => "linked to a declaration that was on the ledger",
        Rule::Folder => "linked by folder only (to be checked)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_would_hold_too_much_is_refused_before_anything_is_submitted() {
        let declaration = b"<Declaration><TypeCode>IMA</TypeCode></Declaration>";
        let message = || match customhouse_formats::wco_message(declaration, "a.xml") {
            Ok(Outcome::Imported(imported)) => *imported,
            other => panic!("{other:?}"),
        };
        let one = message().record.encoded_len() + MESSAGE_BYTES;
        let mut held = Held { messages: Vec::new(), room: 2 * one };
        held.add(message()).expect("room for two");
        held.add(message()).expect("room for two");
        let refused = held.add(message()).expect_err("no room for a third").to_string();
        assert!(refused.contains("a.xml: ") && refused.contains("after 2 others"), "{refused}");
    }
}
