//! Receipts of many records: made together, sent together.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use customhouse_client::contract::REQUEST_RECORDS_MAX;
use customhouse_ledger::{
    chain::ChainReader,
    hash::Hash,
    limits::RECEIPT_STEPS_BYTES_MAX,
    proofs::{receipt::embed_steps, verifier::ValidatorStep},
    store::StoreError,
};
use customhouse_proto::v1;
use futures::{Stream, StreamExt as _};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::{
    serve::{
        quotas::{AnswerBytes, AnswerRoom, Place},
        reads::{hash_field, holding, read},
        refused::Refused,
    },
    services::Services,
    submissions::{End, SubmissionRefusal, Submissions},
};

/// Records whose receipts are made in one go.
const RECORDS_AT_ONCE: usize = 256;
/// Where the records are in the receipts: how many are made in one go, and up to which bytes of a record. Each
/// together is as much.
const GRAINS: [(usize, usize); 3] = [(8, BATCH_RECORD_BYTES_MAX), (32, 16 * 1024), (128, 4 * 1024)];
/// Bytes of what surrounds the records then.
const SURROUNDING_BYTES: usize = BATCH_BYTES / 3;
/// Records of one call whose end is waited for at a time.
const WAITING_MAX: usize = 1024;
/// Bytes at which an answer is closed.
const BATCH_BYTES: usize = 768 * 1024;
/// Bytes of a record that is given with many others. Larger ones are asked for one by one.
const BATCH_RECORD_BYTES_MAX: usize = 64 * 1024;
/// How long receipts wait for others that become final at about the same time.
const GATHER: Duration = Duration::from_millis(5);
/// Steps that are read at most: more than fit.
const STEPS_MAX: usize = 4096;

/// What the receipts are to have in them.
#[derive(Clone, Copy)]
pub(super) struct Contents {
    pub(super) with_record: bool,
    pub(super) with_steps: bool,
}

/// The ids of a request: 1 to 4,096, each once, where it is first.
///
/// # Errors
/// Another number, or something that is no id.
pub(super) fn ids_of(record_ids: &[Vec<u8>]) -> Result<Vec<Hash>, Refused> {
    if !(1..=REQUEST_RECORDS_MAX).contains(&record_ids.len()) {
        let found = record_ids.len();
        let reason = format!("1 to {REQUEST_RECORDS_MAX} expected, {found} found");
        return Err(Refused::field("record_ids", "RECORD_COUNT", reason));
    }
    let ids: Result<Vec<_>, _> = record_ids.iter().map(|id| hash_field("record_ids", id)).collect();
    let (mut ids, mut known) = (ids?, HashSet::new());
    ids.retain(|id| known.insert(*id));
    Ok(ids)
}

/// One receipt, with what it is to have in it.
///
/// # Errors
/// [`StoreError`].
pub(super) fn one(
    reader: &ChainReader,
    id: &Hash,
    contents: Contents,
) -> Result<Option<v1::Receipt>, StoreError> {
    let Some(mut receipt) = reader.receipt(id)? else { return Ok(None) };
    if !contents.with_record {
        receipt.record.clear();
    }
    if contents.with_steps {
        embed_steps(&mut receipt, &steps_of(reader)?);
    }
    Ok(Some(receipt))
}

/// All changes of the validators, or so many that no receipt has room for them.
fn steps_of(reader: &ChainReader) -> Result<Vec<v1::ValidatorStep>, StoreError> {
    let (mut steps, mut bytes, mut from) = (Vec::new(), 0, 0);
    while steps.len() < STEPS_MAX && bytes <= RECEIPT_STEPS_BYTES_MAX {
        let next = reader.validator_changes(from, 16)?;
        let Some(last) = next.last() else { break };
        from = last.header.height + 1;
        let next: Vec<_> = next.iter().map(ValidatorStep::to_proto).collect();
        bytes += next.iter().map(v1::ValidatorStep::encoded_len).sum::<usize>();
        steps.extend(next);
    }
    Ok(steps)
}

/// Makes receipts, for one call.
struct Maker {
    node: Arc<Services>,
    place: Place,
    room: AnswerRoom,
    contents: Contents,
    answers: mpsc::Sender<(Result<v1::ReceiptBatch, Status>, Option<AnswerBytes>)>,
}

/// The client does not listen any more.
struct Gone;

impl Maker {
    /// Sends the receipts of records, each under the id that it was asked for by; those that are not on the
    /// ledger are told as not found. There is room for them before they are made.
    async fn send(&self, records: Vec<(Hash, Hash)>) -> Result<(), Gone> {
        let (mut rest, mut grain) = (&records[..], Grain::default());
        let steps_bytes = if self.contents.with_steps { RECEIPT_STEPS_BYTES_MAX } else { 0 };
        while !rest.is_empty() {
            let mut held = self.room(BATCH_BYTES + steps_bytes).await?;
            let made = match self.make(rest, grain).await {
                Ok(made) => made,
                Err(refused) => {
                    let _gone = self.answers.send((Err(refused.into()), None)).await;
                    return Err(Gone);
                }
            };
            (rest, grain) = (&rest[made.results.len()..], made.next);
            if !made.results.is_empty() {
                held.shrink(made.bytes);
                let batch = v1::ReceiptBatch { results: made.results };
                self.answers.send((Ok(batch), Some(held))).await.map_err(|_| Gone)?;
            }
        }
        Ok(())
    }

    async fn make(&self, records: &[(Hash, Hash)], grain: Grain) -> Result<Made, Refused> {
        let contents = self.contents;
        let records = records[..records.len().min(RECORDS_AT_ONCE)].to_vec();
        let work = read(&self.node, move |reader| made_of(reader, &records, contents, grain));
        holding(self.place.clone(), work).await
    }

    async fn room(&self, bytes: usize) -> Result<AnswerBytes, Gone> {
        tokio::select! {
            held = self.room.made(bytes) => Ok(held),
            () = self.answers.closed() => Err(Gone),
        }
    }

    async fn send_without(&self, ends: Vec<v1::ReceiptResult>) -> Result<(), Gone> {
        if ends.is_empty() {
            return Ok(());
        }
        let batch = v1::ReceiptBatch { results: ends };
        let held = self.room(batch.encoded_len()).await?;
        self.answers.send((Ok(batch), Some(held))).await.map_err(|_| Gone)
    }
}

/// How many receipts are made in one go. How long they are is known when they are made, so it is made out from
/// those before.
#[derive(Clone, Copy)]
struct Grain {
    /// Which of [`GRAINS`].
    level: usize,
    /// Bytes that a receipt has beside its record.
    surrounding: usize,
}

/// Receipts, and how many are to be made next.
struct Made {
    /// Of the first ones that were asked for.
    results: Vec<v1::ReceiptResult>,
    bytes: usize,
    next: Grain,
}

impl Default for Grain {
    fn default() -> Self {
        Self { level: 1, surrounding: 8 * 1024 }
    }
}

impl Grain {
    /// How many receipts, and up to which bytes of a record.
    fn limits(self, contents: Contents, steps_bytes: usize) -> (usize, usize) {
        let surrounding = self.surrounding.max(steps_bytes).max(1);
        let (count, record_bytes_max) = match contents.with_record {
            true => GRAINS[self.level],
            false => (RECORDS_AT_ONCE, 0),
        };
        (count.min(SURROUNDING_BYTES / surrounding).max(1), record_bytes_max)
    }

    /// Takes as many of the receipts as one answer has, in their order, and not beyond one whose record was
    /// left out for this time only.
    fn take(self, made: Vec<v1::ReceiptResult>, contents: Contents) -> Made {
        let is_left_out = |result: &v1::ReceiptResult| {
            let without = result.receipt.as_ref().is_some_and(|receipt| receipt.record.is_empty());
            contents.with_record && self.level > 0 && without
        };
        let (count, mut results, mut bytes, mut surrounding) = (made.len(), Vec::new(), 0, 0);
        for result in made {
            let length = result.encoded_len() + 8;
            let is_full = bytes + length > BATCH_BYTES && !results.is_empty();
            if is_full || is_left_out(&result) {
                break;
            }
            let record_bytes = result.receipt.as_ref().map_or(0, |receipt| receipt.record.len());
            surrounding = surrounding.max(length - record_bytes);
            bytes += length;
            results.push(result);
        }
        let level = match results.len() {
            taken if taken < count => self.level.saturating_sub(1),
            _ if bytes < BATCH_BYTES / 4 => (self.level + 1).min(GRAINS.len() - 1),
            _ => self.level,
        };
        let surrounding = if results.is_empty() { self.surrounding } else { surrounding };
        Made { results, bytes, next: Self { level, surrounding } }
    }
}

fn made_of(
    reader: &ChainReader,
    records: &[(Hash, Hash)],
    contents: Contents,
    grain: Grain,
) -> Result<Made, StoreError> {
    let steps = if contents.with_steps { steps_of(reader)? } else { Vec::new() };
    let steps_bytes = steps.iter().map(v1::ValidatorStep::encoded_len).sum();
    let (count, record_bytes_max) = grain.limits(contents, steps_bytes);
    let records = &records[..records.len().min(count)];
    let mut found = Vec::new();
    for (asked, id) in records {
        found.push((asked, reader.place(id)?));
    }
    // Those of one transaction follow each other, and are answered in the order asked for.
    let mut places: Vec<_> = found.iter().filter_map(|(_, place)| *place).collect();
    places.sort_unstable_by_key(|place| (place.log_index, place.position));
    places.dedup();
    let receipts = reader.receipts(&places, record_bytes_max)?;
    let by_place: HashMap<_, _> = places
        .iter()
        .zip(receipts)
        .map(|(place, mut receipt)| {
            if contents.with_steps {
                embed_steps(&mut receipt, &steps);
            }
            ((place.log_index, place.position), receipt)
        })
        .collect();
    let result = |(asked, place): (&Hash, Option<customhouse_ledger::chain::RecordPlace>)| {
        let receipt = place.and_then(|p| by_place.get(&(p.log_index, p.position)).cloned());
        match receipt {
            Some(receipt) => v1::ReceiptResult {
                record_id: asked.0.to_vec(),
                receipt: Some(receipt),
                ..Default::default()
            },
            None => without(asked, "NOT_FOUND", "no such record is on the ledger"),
        }
    };
    Ok(grain.take(found.into_iter().map(result).collect(), contents))
}

fn without(asked: &Hash, code: &str, reason: &str) -> v1::ReceiptResult {
    v1::ReceiptResult {
        record_id: asked.0.to_vec(),
        receipt: None,
        reason_code: code.to_owned(),
        reason: reason.to_owned(),
    }
}

/// A stream of answers: those that wait, and the one that is being sent, hold their bytes.
pub(super) type Answers = futures::stream::BoxStream<'static, Result<v1::ReceiptBatch, Status>>;

fn answering(
    node: Arc<Services>,
    (place, room): (Place, AnswerRoom),
    contents: Contents,
) -> (Maker, Answers) {
    let (answers, receiver) = mpsc::channel(1);
    let maker = Maker { node, place, room, contents, answers };
    (maker, Box::pin(held_while_sent(ReceiverStream::new(receiver))))
}

pub(super) fn held_while_sent<T: Send + 'static>(
    answers: ReceiverStream<(T, Option<AnswerBytes>)>,
) -> impl Stream<Item = T> + Send {
    futures::stream::unfold((answers, None), |(mut answers, held)| async move {
        // Being asked means that the answer before is with the client, or nearly.
        drop::<Option<AnswerBytes>>(held);
        let (answer, held) = answers.next().await?;
        Some((answer, (answers, held)))
    })
}

/// The receipts of records that are on the ledger, in the order asked for.
pub(super) fn of_records(
    node: Arc<Services>,
    held: (Place, AnswerRoom),
    ids: Vec<Hash>,
    contents: Contents,
) -> Answers {
    let (maker, answers) = answering(node, held, contents);
    tokio::spawn(async move { maker.send(ids.into_iter().map(|id| (id, id)).collect()).await });
    answers
}

/// The receipts of records as they become final.
pub(super) fn as_they_end(
    node: Arc<Services>,
    held: (Place, AnswerRoom),
    ids: Vec<Hash>,
    contents: Contents,
    shutdown: tokio_util::sync::CancellationToken,
) -> Answers {
    let (maker, answers) = answering(node, held, contents);
    tokio::spawn(async move {
        let failing = maker.answers.clone();
        tokio::select! {
            () = failing.closed() => {}
            () = shutdown.cancelled() => {
                let status = Refused::shutting_down().into();
                let _gone = failing.send((Err(status), None)).await;
            }
            _sent = send_as_they_end(maker, ids) => {}
        }
    });
    answers
}

async fn send_as_they_end(maker: Maker, ids: Vec<Hash>) -> Result<(), Gone> {
    let node = Arc::clone(&maker.node);
    let (there, others) = match split(&maker, ids).await {
        Ok(split) => split,
        Err(refused) => {
            let _gone = maker.answers.send((Err(refused.into()), None)).await;
            return Err(Gone);
        }
    };
    maker.send(there.into_iter().map(|id| (id, id)).collect()).await?;
    let waits = others.into_iter().map(|id| {
        let (submissions, place) = (node.submissions.clone(), maker.place.clone());
        async move { (id, end_of(submissions, &place, id).await) }
    });
    let mut waiting = std::pin::pin!(futures::stream::iter(waits).buffer_unordered(WAITING_MAX));
    while let Some(first) = waiting.next().await {
        // Those of one block end together: their receipts are made together.
        let mut ended = vec![first];
        let time = tokio::time::sleep(GATHER);
        tokio::pin!(time);
        while ended.len() < REQUEST_RECORDS_MAX {
            tokio::select! {
                biased;
                next = waiting.next() => match next {
                    Some(next) => ended.push(next),
                    None => break,
                },
                () = &mut time => break,
            }
        }
        let (mut there, mut ends) = (Vec::new(), Vec::new());
        for (id, end) in ended {
            match on_ledger(id, end) {
                Ok(record) => there.push((id, record)),
                Err(end) => ends.push(*end),
            }
        }
        maker.send_without(ends).await?;
        maker.send(there).await?;
    }
    Ok(())
}

/// Waits until a record has ended. All submissions wait for the one that knows of it, so that a client has few
/// questions before it at a time: one is answered, or waits for nothing but the record's end, when what was
/// asked after it is answered.
async fn end_of(
    submissions: Submissions,
    place: &Place,
    id: Hash,
) -> Result<End, SubmissionRefusal> {
    let question = place.question().await;
    let mut end = std::pin::pin!(submissions.wait_record(id));
    tokio::select! {
        biased;
        end = &mut end => return end,
        _is_there = submissions.clone().answered() => {}
    }
    drop(question);
    end.await
}

/// Those that are on the ledger, and the others: they may have come from elsewhere, so the ledger is asked
/// before the outbox.
async fn split(maker: &Maker, ids: Vec<Hash>) -> Result<(Vec<Hash>, Vec<Hash>), Refused> {
    let work = read(&maker.node, move |reader| {
        let (mut there, mut others) = (Vec::new(), Vec::new());
        for id in ids {
            let list = if reader.place(&id)?.is_some() { &mut there } else { &mut others };
            list.push(id);
        }
        Ok((there, others))
    });
    holding(maker.place.clone(), work).await
}

/// The record that is on the ledger for a submission, or how it ended otherwise.
fn on_ledger(
    id: Hash,
    end: Result<End, SubmissionRefusal>,
) -> Result<Hash, Box<v1::ReceiptResult>> {
    match end {
        Ok(End::Final { .. } | End::Partly { .. }) => Ok(id),
        Ok(End::Repeat(first)) => Ok(first.record_id),
        Ok(End::Expired) => {
            let reason = "a committed header's time is past the transaction's not_after";
            Err(Box::new(without(&id, "EXPIRED", reason)))
        }
        Ok(End::Rejected { code, reason }) => Err(Box::new(without(&id, &code, &reason))),
        Err(refusal) => {
            let refused = Refused::from(refusal);
            Err(Box::new(without(&id, refused.reason_code, &refused.message)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Contents = Contents { with_record: true, with_steps: false };

    fn result(record_bytes: usize) -> v1::ReceiptResult {
        let receipt = v1::Receipt { record: vec![7; record_bytes], ..Default::default() };
        v1::ReceiptResult { receipt: Some(receipt), ..Default::default() }
    }

    /// What is made of records with these bytes, until all are: the most bytes at once, and how many were
    /// sent in each batch.
    fn made(record_bytes: &[usize]) -> (usize, Vec<usize>) {
        let (mut grain, mut rest, mut most, mut sent) = (Grain::default(), record_bytes, 0, vec![]);
        while !rest.is_empty() {
            let (count, record_bytes_max) = grain.limits(ALL, 0);
            let at_once = &rest[..count.min(rest.len())];
            let shown = |bytes: &usize| if *bytes <= record_bytes_max { *bytes } else { 0 };
            let results: Vec<_> = at_once.iter().map(|bytes| result(shown(bytes))).collect();
            most = most.max(results.iter().map(v1::ReceiptResult::encoded_len).sum());
            let made = grain.take(results, ALL);
            for (result, bytes) in made.results.iter().zip(rest) {
                let found = result.receipt.as_ref().expect("there").record.len();
                assert_eq!(found, if *bytes > BATCH_RECORD_BYTES_MAX { 0 } else { *bytes });
            }
            assert!(made.bytes <= BATCH_BYTES);
            sent.extend(Some(made.results.len()).filter(|count| *count > 0));
            (rest, grain) = (&rest[made.results.len()..], made.next);
        }
        (most, sent)
    }

    #[test]
    fn receipts_are_made_in_the_bytes_of_an_answer_whatever_their_records_have() {
        let large = BATCH_RECORD_BYTES_MAX;
        let mixed: Vec<_> =
            (0..500).map(|n| [300, large, 9000, large + 1, 20_000][n % 5]).collect();
        for records in [vec![300; 1000], vec![large; 100], vec![large + 1; 50], mixed] {
            let (most, sent) = made(&records);
            assert!(most <= BATCH_BYTES, "{most}");
            assert_eq!(sent.iter().sum::<usize>(), records.len());
        }
        let (_, sent) = made(&[300; 1000]);
        assert!(sent.len() <= 10, "small ones are many in an answer: {sent:?}");
    }
}
