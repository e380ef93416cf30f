//! Lodging a batch: in waves, so that what others of it refer to is on the ledger before them.

use std::collections::HashMap;

use customhouse_client::contract::{NOT_FOR_ROLE, TARGET_NOT_LODGED};
use customhouse_formats::{
    DeclarationKey, Imported, Link, LinkTarget, Links, MessageRole, Rule, Warning, waves,
};
use customhouse_ledger::{chain::ChainReader, hash::Hash};
use customhouse_proto::v1::{
    self, Phase, import_link,
    import_result::Outcome,
    imported_message::Kind,
    reference::{Ground, Relation},
};
use futures::{StreamExt as _, stream::FuturesUnordered};
use prost::Message as _;

use super::{
    answers,
    import::{Answers, Asked},
    intake,
    submission::SubmissionService,
};
use crate::{
    attachments::FileOwner,
    identity::ClientIdentity,
    imports::{Asker, Batch, Item, ItemOutcome, Lookups, not_for},
    serve::{
        reads::{apart, read_in_turns},
        refused::{Refused, cut},
    },
    submissions::{Accepted, MappedBy, SubmissionRefusal},
    view::View,
};

const METHOD: &str = "/customhouse.v1.Import";
/// Records that are submitted in one go, and bytes at which no more are added.
const PIECE_RECORDS: usize = 256;
const PIECE_BYTES: usize = 1 << 20;
/// Bytes of a record that a result may have.
const RECORD_BYTES: usize = 3 << 20;

/// Who lodges, and what was asked for.
pub(super) struct Lodging {
    pub(super) service: SubmissionService,
    pub(super) client: ClientIdentity,
    pub(super) asked: Asked,
}

/// A batch that is being lodged.
struct Lodged {
    batch: Batch,
    links: Links,
    /// Of each imported message, the number of its result.
    numbers: Vec<u32>,
    answers: Answers,
}

/// Links a batch. Nothing of it is lodged yet: whoever drops this ends it at its next turn.
pub(super) async fn link(lodging: &Lodging, batch: Batch) -> Result<(Batch, Links), Refused> {
    let node = &lodging.service.node;
    let asker = Asker::of(&lodging.client, node.agency);
    let asked = apart(move || (batch.to_link(asker), batch)).await;
    let (lookups, mut batch) = asked.ok_or_else(Refused::shutting_down)?;
    let view = lodging.view();
    let turn = |work: &mut (View, Lookups), _: &ChainReader| work.1.turn(&work.0);
    let (_, lookups) = read_in_turns(node, (view, lookups), turn).await?;
    let linked = apart(move || {
        let links = batch.link(&lookups);
        (batch, links)
    });
    linked.await.ok_or_else(Refused::shutting_down)
}

/// Lodges of a batch what was asked for, and hands each result over when it is known. Ends early where nobody
/// takes the results.
pub(super) async fn finish(
    lodging: Lodging,
    (batch, links): (Batch, Links),
    answers: Answers,
) -> Result<(), Refused> {
    let mut numbers = vec![0; batch.imported.len()];
    for (number, item) in (0..).zip(&batch.items) {
        if let ItemOutcome::Imported(index) = item.outcome {
            numbers[index] = number;
        }
    }
    let mut lodged = Lodged { batch, links, numbers, answers };
    lodged.answer_unread().await;
    if lodging.asked.lodge == v1::import_options::Lodge::Answers {
        lodged = lodging.find_lodged(lodged).await?;
    }
    let waves = waves(&lodged.batch.imported);
    for (place, wave) in waves.iter().enumerate() {
        if lodged.answers.is_closed() {
            return Ok(());
        }
        let follows = |index: &usize| lodging.is_lodged(&lodged, *index);
        let others_follow = waves[place + 1..].iter().flatten().any(follows);
        lodging.wave(&mut lodged, wave, lodging.asked.wait || others_follow).await;
    }
    Ok(())
}

impl Lodging {
    /// The ledger as the caller sees it.
    fn view(&self) -> View {
        let node = &self.service.node;
        let (reader, holdings) = (node.reader.clone(), node.holdings.clone());
        View::of(reader, holdings, node.agency, &self.client)
    }

    /// Whether a message is to be lodged by this call.
    fn is_lodged(&self, lodged: &Lodged, index: usize) -> bool {
        let is_answer = lodged.batch.imported[index].role == MessageRole::Status;
        self.asked.lodges(is_answer)
            && lodged.batch.ids[index].is_none()
            && !lodged.is_duplicate(index)
    }

    /// What answers refer to and this call does not lodge: it was lodged before.
    async fn find_lodged(&self, mut lodged: Lodged) -> Result<Lodged, Refused> {
        let node = &self.service.node;
        let asker = Asker::of(&self.client, node.agency);
        let lookups = lodged.batch.to_find_lodged(&lodged.links, asker);
        let view = self.view();
        let turn = |work: &mut (View, Lookups), _: &ChainReader| work.1.turn(&work.0);
        let (_, lookups) = read_in_turns(node, (view, lookups), turn).await?;
        lodged.batch.find_lodged(&lodged.links, &lookups);
        Ok(lodged)
    }

    /// Lodges one wave, and answers all of it.
    async fn wave(&self, lodged: &mut Lodged, wave: &[usize], wait: bool) {
        let mut ready = Vec::new();
        for &index in wave {
            if lodged.is_duplicate(index) {
                continue;
            }
            let is_lodged = self.is_lodged(lodged, index);
            let refused = match not_for(self.client.role, &lodged.batch.imported[index].record) {
                Some(reason) if lodged.batch.ids[index].is_none() => {
                    Some(refused(Phase::Rejected, NOT_FOR_ROLE, reason))
                }
                _ if !is_lodged => None,
                // Before anything of it is kept: attachments are not sealed yet.
                _ if !self.asked.open && lodged.batch.imported[index].detached.is_some() => {
                    let refusal = SubmissionRefusal::SealedAttachment;
                    Some(refused(Phase::Rejected, refusal.code(), refusal.to_string()))
                }
                _ if lodged.refer(index) => {
                    ready.push(index);
                    continue;
                }
                _ => {
                    let reason = "the declaration that it is about is not on the ledger";
                    Some(refused(Phase::Unspecified, TARGET_NOT_LODGED, reason.to_owned()))
                }
            };
            if let Some(refused) = refused.as_ref().filter(|_| is_lodged) {
                self.note(refused);
            }
            lodged.refer(index);
            let result = lodged.result(index, self.asked, refused);
            lodged.answer(result).await;
        }
        let mut ends = FuturesUnordered::new();
        let mut ready = ready.into_iter().peekable();
        while ready.peek().is_some() && !lodged.answers.is_closed() {
            let mut piece = Vec::new();
            let mut bytes = 0;
            while let Some(index) =
                ready.next_if(|_| piece.len() < PIECE_RECORDS && bytes < PIECE_BYTES)
            {
                bytes += lodged.batch.imported[index].record.encoded_len();
                piece.push((index, lodged.result(index, self.asked, None)));
            }
            let taken = match self.keep_sources(lodged, &piece).await {
                Ok(()) => self.submit(lodged, &piece).await,
                Err(refused) => self.all_refused(&piece, &refused),
            };
            let mut standing = self.standing(&taken).await;
            for ((index, mut result), (accepted, lodged_as)) in piece.into_iter().zip(taken) {
                if let Some(references) = standing.remove(&lodged_as.record_id) {
                    lodged.as_it_stands(index, &mut result, references.first());
                }
                match accepted.filter(|accepted| wait && accepted.end.is_none()) {
                    Some(accepted) => ends.push(self.end(index, result, accepted, lodged_as)),
                    None => lodged.settle(index, result, lodged_as).await,
                }
            }
        }
        loop {
            tokio::select! {
                end = ends.next() => match end {
                    Some((index, result, lodged_as)) => {
                        lodged.settle(index, result, lodged_as).await;
                    }
                    None => return,
                },
                // Nobody takes the results. What was accepted ends without this call.
                () = lodged.answers.closed() => return,
            }
        }
    }

    /// What the records refer to that were lodged before, with other references, and are on the ledger.
    async fn standing(
        &self,
        taken: &[(Option<Accepted>, v1::RecordResult)],
    ) -> HashMap<Vec<u8>, Vec<v1::Reference>> {
        let before = taken.iter().filter(|(_, result)| result.reason_code == "ALREADY_EXISTS");
        let ids: Vec<_> = before.map(|(_, result)| result.record_id.clone()).collect();
        let view = self.view();
        let read = move || {
            let references = |id: Vec<u8>| {
                let (record, _) = view.record_of_own(&Hash::from_slice(&id).ok()?).ok()??;
                let record = v1::Record::decode(record.bytes?).ok()?;
                Some((id, record.references))
            };
            ids.into_iter().filter_map(references).collect()
        };
        apart(read).await.unwrap_or_default()
    }

    /// Keeps the messages that are too large for their records, as attachments of this client: durable before
    /// the records are.
    async fn keep_sources(
        &self,
        lodged: &mut Lodged,
        piece: &[(usize, v1::ImportResult)],
    ) -> Result<(), Refused> {
        for (index, _) in piece {
            let imported = &mut lodged.batch.imported[*index];
            let Some(bytes) = imported.detached.take() else { continue };
            let attachments = self.service.node.attachments.clone();
            let owner = FileOwner::client(&self.client);
            let kept = apart(move || attachments.keep_whole(&owner, &bytes)).await;
            kept.ok_or_else(Refused::shutting_down)??;
        }
        Ok(())
    }

    fn all_refused(
        &self,
        piece: &[(usize, v1::ImportResult)],
        why: &Refused,
    ) -> Vec<(Option<Accepted>, v1::RecordResult)> {
        let phase = if why.passes() { Phase::Unspecified } else { Phase::Rejected };
        let each = |_: &(usize, _)| (None, refused(phase, why.reason_code, why.message.clone()));
        let all: Vec<_> = piece.iter().map(each).collect();
        all.iter().for_each(|(_, refused)| self.note(refused));
        all
    }

    /// Submits a piece; how each stands at acceptance.
    async fn submit(
        &self,
        lodged: &mut Lodged,
        piece: &[(usize, v1::ImportResult)],
    ) -> Vec<(Option<Accepted>, v1::RecordResult)> {
        let submission = |(index, _): &(usize, _)| {
            let imported = &mut lodged.batch.imported[*index];
            // It is not needed any more: what it is about, and what is about it, is known.
            let record = Some(std::mem::take(&mut imported.record));
            v1::RecordSubmission {
                record,
                idempotency_key: imported.idempotency_key.clone(),
                open: self.asked.open,
                agreement: self.asked.agreement.map(|id| id.0.to_vec()).unwrap_or_default(),
            }
        };
        let submissions: Vec<_> = piece.iter().map(submission).collect();
        let keys: Vec<_> = submissions.iter().map(|s| s.idempotency_key.clone()).collect();
        let records = intake::Records::of(&self.service);
        let taken: Vec<Result<Accepted, SubmissionRefusal>> =
            records.submit(&self.client, submissions, MappedBy::ThisNode).await;
        let answers = keys.into_iter().zip(taken).map(|(key, taken)| {
            let answer = answers::of_record(key, taken.clone().map_err(Refused::from));
            if !answer.reason_code.is_empty() {
                self.note(&answer);
            }
            (taken.ok(), answer)
        });
        let (accepted, results): (Vec<_>, Vec<_>) = answers.unzip();
        let submissions = self.service.node.submissions.clone();
        let both = accepted.iter().cloned().zip(results);
        let signed = intake::sign_apart(submissions, both.collect::<Vec<_>>().into_iter()).await;
        accepted.into_iter().zip(signed).collect()
    }

    /// The end of what was accepted. Where it does not come before the shutdown, it stays accepted.
    async fn end(
        &self,
        index: usize,
        result: v1::ImportResult,
        accepted: Accepted,
        mut lodged_as: v1::RecordResult,
    ) -> (usize, v1::ImportResult, v1::RecordResult) {
        let end = tokio::select! {
            end = self.service.node.submissions.wait_record(accepted.record_id) => end.ok(),
            () = self.service.shutdown.cancelled() => None,
        };
        if let Some(end) = end {
            lodged_as.acceptance = Vec::new();
            answers::set_end(&mut lodged_as, &end);
        }
        (index, result, lodged_as)
    }

    /// Counts what was refused.
    fn note(&self, refused: &v1::RecordResult) {
        let id = hex::encode(&refused.record_id);
        self.service.rejections.note(&self.client.name, METHOD, &refused.reason_code, &id);
    }
}

fn refused(phase: Phase, reason_code: &str, reason: String) -> v1::RecordResult {
    let reason_code = reason_code.to_owned();
    v1::RecordResult { phase: phase as i32, reason_code, reason, ..Default::default() }
}

impl Lodged {
    fn is_duplicate(&self, index: usize) -> bool {
        self.first_of(index).is_some()
    }

    /// The earlier message that says the same.
    fn first_of(&self, index: usize) -> Option<usize> {
        let duplicates = &self.links.duplicates;
        let at = duplicates.binary_search_by_key(&index, |duplicate| duplicate.index).ok()?;
        duplicates.get(at).map(|duplicate| duplicate.first)
    }

    /// Puts the reference into a message that is about another. False where that is not on the ledger though
    /// it was in the batch: lodged now, the message would never be linked.
    fn refer(&mut self, index: usize) -> bool {
        let Some(link) = self.links.of(index).cloned() else { return true };
        let Some(id) = self.batch.target(link.to) else { return false };
        let agency = self.batch.agency_of(&id).to_owned();
        let imported = &mut self.batch.imported[index];
        imported.refer(link.relation, (id.0, &agency), link.rule.ground());
        true
    }

    /// Answers what gave no record, and what says the same as another.
    async fn answer_unread(&mut self) {
        let mut results = Vec::new();
        for (number, item) in (0..).zip(&self.batch.items) {
            let outcome = match &item.outcome {
                ItemOutcome::Imported(index) => match self.first_of(*index) {
                    Some(first) => Outcome::DuplicateOf(self.numbers[first]),
                    None => continue,
                },
                ItemOutcome::Skipped(skipped) => {
                    let (root, reason) = (skipped.root.clone(), skipped.reason.to_owned());
                    Outcome::Skipped(v1::SkippedMessage { root, reason })
                }
                ItemOutcome::Malformed(_, error) => {
                    let ((line, column), reason) = (error.position(), cut(error.to_string()));
                    let (line, column) = (count(line), count(column));
                    Outcome::Malformed(v1::MalformedMessage { line, column, reason })
                }
            };
            results.push(self.result_of(number, item, outcome));
        }
        for result in results {
            self.answer(result).await;
        }
    }

    fn result_of(&self, number: u32, item: &Item, outcome: Outcome) -> v1::ImportResult {
        let (label, line) = match &item.outcome {
            ItemOutcome::Imported(index) => {
                let imported = &self.batch.imported[*index];
                (imported.label.clone(), imported.line)
            }
            ItemOutcome::Skipped(skipped) => (skipped.label.clone(), 0),
            ItemOutcome::Malformed(label, _) => (label.clone(), 0),
        };
        let message = count(item.message);
        v1::ImportResult { number, message, label, line: count(line), outcome: Some(outcome) }
    }

    /// The result of a message that became a record.
    fn result(
        &self,
        index: usize,
        asked: Asked,
        lodged: Option<v1::RecordResult>,
    ) -> v1::ImportResult {
        let imported = &self.batch.imported[index];
        let (record, record_left_out) = match asked.with_records {
            true => without_content(imported),
            false => (None, false),
        };
        let link = self.links.of(index);
        let unlinked = self.links.unlinked.iter().find(|unlinked| unlinked.from == index);
        let outcome = v1::ImportedMessage {
            kind: kind_of(imported.role) as i32,
            record,
            record_left_out,
            idempotency_key: imported.idempotency_key.clone(),
            warnings: imported.warnings.iter().map(warning).collect(),
            link: link.map(|link| self.link(link)),
            unlinked: unlinked.map(|unlinked| self.unlinked(index, &unlinked.key)),
            lodged,
        };
        let number = self.numbers[index];
        let item = &self.batch.items[number as usize];
        self.result_of(number, item, Outcome::Imported(outcome))
    }

    fn unlinked(&self, index: usize, key: &DeclarationKey) -> v1::Unlinked {
        let (reference, mrn) = (key.reference.clone(), key.mrn.clone());
        let why = self.batch.imported[index].warnings.iter().find(|w| w.is_about_a_link());
        let reason = why.map(|why| cut(why.to_string())).unwrap_or_default();
        v1::Unlinked { reference, mrn, reason }
    }

    /// Has a result tell what the record that was lodged before refers to.
    fn as_it_stands(
        &self,
        index: usize,
        result: &mut v1::ImportResult,
        stands: Option<&v1::Reference>,
    ) {
        let Some(Outcome::Imported(imported)) = &mut result.outcome else { return };
        let message = &self.batch.imported[index];
        imported.link = stands.map(|reference| v1::ImportLink {
            relation: reference.relation,
            record_id: reference.record_id.clone(),
            to: None,
            ground: reference.ground,
            rule: match reference.ground() {
                Ground::ByFolder => import_link::Rule::Folder as i32,
                Ground::ByReference | Ground::Asserted => import_link::Rule::Ledger as i32,
            },
        });
        let is_about = message.role != MessageRole::Declaration;
        imported.unlinked =
            (is_about && stands.is_none()).then(|| self.unlinked(index, &message.key));
    }

    fn link(&self, link: &Link) -> v1::ImportLink {
        let to = match link.to {
            LinkTarget::Batch(index) => Some(self.numbers[index]),
            LinkTarget::Ledger(_) => None,
        };
        let rule = match link.rule {
            Rule::Reference => import_link::Rule::Reference,
            Rule::Mrn => import_link::Rule::Mrn,
            Rule::Ledger => import_link::Rule::Ledger,
            Rule::Folder => import_link::Rule::Folder,
        };
        v1::ImportLink {
            relation: link.relation as i32,
            record_id: self.batch.target(link.to).map(|id| id.0.to_vec()).unwrap_or_default(),
            to,
            ground: link.rule.ground() as i32,
            rule: rule as i32,
        }
    }

    /// Notes where a message is on the ledger, for those about it, and answers it.
    async fn settle(
        &mut self,
        index: usize,
        mut result: v1::ImportResult,
        lodged: v1::RecordResult,
    ) {
        // The same message was lodged before, with other references: that record stands.
        let stands = lodged.phase() == Phase::Final || lodged.reason_code == "ALREADY_EXISTS";
        if stands {
            self.batch.ids[index] = Hash::from_slice(&lodged.record_id).ok();
        }
        if let Some(Outcome::Imported(imported)) = &mut result.outcome {
            imported.lodged = Some(lodged);
        }
        self.answer(result).await;
    }

    async fn answer(&self, result: v1::ImportResult) {
        // Where nobody takes it, no more is begun.
        let _gone = self.answers.send(result).await;
    }
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// A record without the bytes of its source; whether it is too large for a result.
fn without_content(imported: &Imported) -> (Option<v1::Record>, bool) {
    let source = imported.record.source.as_ref().map_or(0, |source| source.content.len());
    if imported.record.encoded_len().saturating_sub(source) > RECORD_BYTES {
        return (None, true);
    }
    let v1::Record { references, subjects, attachments, body, .. } = &imported.record;
    let source = imported.record.source.as_ref().map(|source| v1::Source {
        media_type: source.media_type.clone(),
        format: source.format.clone(),
        attachment: source.attachment.clone(),
        importer: source.importer.clone(),
        mapping: source.mapping,
        ..Default::default()
    });
    let record = v1::Record {
        references: references.clone(),
        subjects: subjects.clone(),
        source,
        attachments: attachments.clone(),
        body: body.clone(),
        ..Default::default()
    };
    (Some(record), false)
}

fn kind_of(role: MessageRole) -> Kind {
    match role {
        MessageRole::Declaration => Kind::Declaration,
        MessageRole::Additional(Relation::Cancels) => Kind::Cancellation,
        MessageRole::Additional(Relation::Evidences) => Kind::Evidence,
        MessageRole::Additional(_) => Kind::Amendment,
        MessageRole::Status => Kind::Status,
    }
}

fn warning(warning: &Warning) -> v1::ImportWarning {
    let (line, column) = warning.position();
    v1::ImportWarning {
        line: count(line),
        column: count(column),
        text: cut(warning.to_string()),
        about_a_subject: warning.is_about_a_subject(),
    }
}
