//! Has the node import messages, and brings each to its end: again after a broken connection, and each once.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use customhouse_client::{
    Client, ClientError,
    contract::{NOT_FOR_ROLE, TARGET_NOT_LODGED},
};
use customhouse_proto::v1::{
    self, Phase, import_options::Lodge, import_result::Outcome, imported_message::Kind,
};
use futures::{StreamExt as _, stream};
use indicatif::ProgressBar;

use super::{
    SubmitArgs,
    batch::{EXPIRIES_MAX, End, PAUSE_MAX, PAUSE_MIN, end_of, passes},
};
use crate::{connect::Connection, output::one_line};

/// Most bytes of content in one message of the stream.
const PIECE_BYTES: usize = 1 << 20;

/// Imports batches by one client.
pub(super) struct Importer<'c> {
    client: &'c Client,
    format: &'static str,
    lodge: Lodge,
    /// Whether records are lodged open, and else under which agreement.
    form: (bool, Vec<u8>),
    patience: Duration,
    height_before: u64,
}

/// What came of a message or row.
pub(super) struct Imported {
    pub(super) result: v1::ImportResult,
    /// Where it was lodged, or should have been.
    pub(super) end: Option<End>,
}

/// What came of a batch.
pub(super) struct ImportedBatch {
    /// One for each message or row of which the node gave a result, in order.
    pub(super) all: Vec<Imported>,
    /// Why there may be messages or rows of which it gave none, within the patience. They may be lodged all the
    /// same.
    pub(super) cut_off: Option<String>,
}

/// A batch under way.
#[derive(Default)]
struct Progress {
    /// By their numbers: the same in every attempt.
    settled: BTreeMap<u32, Imported>,
    /// What has not ended, with how often it has expired.
    open: BTreeMap<u32, (v1::ImportResult, u32)>,
    /// Whether the results of all messages came, in one attempt.
    is_whole: bool,
    trouble: String,
}

impl<'c> Importer<'c> {
    pub(super) fn new(
        connection: &'c Connection,
        format: &'static str,
        lodge: Lodge,
        (args, height_before): (&SubmitArgs, u64),
    ) -> Self {
        let (form, patience) = ((args.open, args.agreement()), args.patience());
        Self { client: &connection.client, format, lodge, form, patience, height_before }
    }

    /// Imports a batch, and waits until all of it has ended, or nothing has for as long as the patience lasts.
    /// Messages that are on the ledger then say so, for a batch that is imported again.
    ///
    /// # Errors
    /// The node refuses the client or the batch, so that trying again is of no use.
    pub(super) async fn import(
        &self,
        messages: &mut [v1::ImportMessage],
        bar: &ProgressBar,
    ) -> Result<ImportedBatch, ClientError> {
        let mut progress = Progress::default();
        let (mut pause, mut last) = (PAUSE_MIN, Instant::now());
        loop {
            let before = progress.settled.len();
            let complete = self.attempt(messages, &mut progress, bar).await?;
            progress.is_whole |= complete;
            progress.mark(messages);
            let waits = |result: &v1::ImportResult| reason_code(result) != TARGET_NOT_LODGED;
            if complete && !progress.open.values().any(|(result, _)| waits(result)) {
                break;
            }
            if progress.settled.len() > before {
                (pause, last) = (PAUSE_MIN, Instant::now());
            } else if last.elapsed() > self.patience {
                break;
            }
            bar.set_message(one_line(&progress.trouble).into_owned());
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        Ok(progress.into_batch())
    }

    /// One stream of the whole batch. Whether all results came.
    async fn attempt(
        &self,
        messages: &[v1::ImportMessage],
        progress: &mut Progress,
        bar: &ProgressBar,
    ) -> Result<bool, ClientError> {
        let options = v1::ImportOptions {
            format: self.format.to_owned(),
            lodge: self.lodge as i32,
            wait: true,
            with_records: self.lodge == Lodge::Nothing,
            open: self.form.0,
            agreement: self.form.1.clone(),
        };
        let mut answers = match self.client.stream_import(requests(options, messages)).await {
            Ok(answers) => answers,
            Err(error) => return progress.interrupted(error),
        };
        loop {
            match tokio::time::timeout(self.patience, answers.next()).await {
                Ok(Some(Ok(result))) => {
                    if progress.take(result, self.height_before) {
                        bar.inc(1);
                    }
                }
                Ok(Some(Err(status))) => return progress.interrupted(status.into()),
                Ok(None) => return Ok(true),
                Err(_) => {
                    let seconds = self.patience.as_secs();
                    progress.trouble = format!("nothing became final for {seconds} s");
                    return Ok(false);
                }
            }
        }
    }
}

/// A batch as the stream has it: large messages in pieces.
fn requests(
    options: v1::ImportOptions,
    messages: &[v1::ImportMessage],
) -> impl futures::Stream<Item = v1::StreamImportRequest> + Send + 'static {
    let mut options = Some(options);
    let mut requests = Vec::new();
    for message in messages {
        let v1::ImportMessage { label, content, record_id, lines_before } = message;
        let mut head = Some((label.clone(), record_id.clone(), *lines_before));
        let (pieces, count) = (content.chunks(PIECE_BYTES), content.len().div_ceil(PIECE_BYTES));
        let empty: &[u8] = &[];
        let pieces = pieces.chain(std::iter::once(empty).filter(|_| count == 0));
        for (number, piece) in (1..).zip(pieces) {
            let (label, record_id, lines_before) = head.take().unwrap_or_default();
            let message =
                v1::ImportMessage { label, content: piece.to_vec(), record_id, lines_before };
            let more = number < count;
            let options = options.take();
            requests.push(v1::StreamImportRequest { options, message: Some(message), more });
        }
    }
    stream::iter(requests)
}

impl Progress {
    /// Notes a result; whether it was the message's end.
    fn take(&mut self, result: v1::ImportResult, height_before: u64) -> bool {
        let number = result.number;
        if self.settled.contains_key(&number) {
            return false;
        }
        let lodged = match &result.outcome {
            Some(Outcome::Imported(imported)) => imported.lodged.as_ref(),
            _ => None,
        };
        let Some(lodged) = lodged else {
            self.open.remove(&number);
            return self.settled.insert(number, Imported { result, end: None }).is_none();
        };
        let mut expiries = self.open.get(&number).map_or(0, |(_, expiries)| *expiries);
        let mut end = end_of(lodged, height_before);
        match lodged.phase() {
            Phase::Expired => {
                self.trouble = "expired before it became final".into();
                expiries += 1;
                end = (expiries > EXPIRIES_MAX).then(|| End::Rejected {
                    code: "EXPIRED".into(),
                    reason: self.trouble.clone(),
                });
            }
            Phase::Accepted => self.trouble = "accepted, and not final yet".into(),
            Phase::Unspecified => self.trouble = format!("not taken yet: {}", lodged.reason),
            Phase::Final | Phase::Rejected => {}
        }
        match end {
            Some(end) => {
                self.open.remove(&number);
                self.settled.insert(number, Imported { result, end: Some(end) });
                true
            }
            None => {
                self.open.insert(number, (result, expiries));
                false
            }
        }
    }

    /// Writes into the messages which of them are on the ledger, as far as each is one record.
    fn mark(&self, messages: &mut [v1::ImportMessage]) {
        for Imported { result, end } in self.settled.values().filter(|i| i.result.line == 0) {
            let place = usize::try_from(result.message).unwrap_or(usize::MAX);
            if let (
                Some(message),
                Some(End::Final { record_id, .. } | End::Otherwise { record_id }),
            ) = (messages.get_mut(place), end)
            {
                message.record_id = record_id.0.to_vec();
            }
        }
    }

    /// A broken connection, a node that restarts or is full: what has not ended is tried again.
    fn interrupted(&mut self, error: ClientError) -> Result<bool, ClientError> {
        if !passes(&error) {
            return Err(error);
        }
        self.trouble = error.to_string();
        Ok(false)
    }

    fn into_batch(self) -> ImportedBatch {
        let Self { settled, open, is_whole, trouble } = self;
        let cut_off = (!is_whole).then(|| trouble.clone());
        let unfinished = |result: v1::ImportResult| {
            let reason = match reason_code(&result) {
                TARGET_NOT_LODGED => "the declaration that it is about is not on the ledger".into(),
                _ => trouble.clone(),
            };
            Imported { result, end: Some(End::Unfinished { reason }) }
        };
        let mut all = settled;
        all.extend(open.into_iter().map(|(number, (result, _))| (number, unfinished(result))));
        ImportedBatch { all: all.into_values().collect(), cut_off }
    }
}

fn reason_code(result: &v1::ImportResult) -> &str {
    match &result.outcome {
        Some(Outcome::Imported(imported)) => {
            imported.lodged.as_ref().map_or("", |lodged| &lodged.reason_code)
        }
        _ => "",
    }
}

/// Whether the profile's role may not state what a message says.
pub(super) fn is_for_others(end: &End) -> bool {
    matches!(end, End::Rejected { code, .. } if code == NOT_FOR_ROLE)
}

/// What a message is called in answers.
pub(super) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Declaration | Kind::Unspecified => "declaration",
        Kind::Amendment | Kind::Cancellation | Kind::Evidence => "amendment",
        Kind::Status => "status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(number: u32, phase: Phase, reason_code: &str) -> v1::ImportResult {
        let lodged = v1::RecordResult {
            record_id: vec![7; 32],
            phase: phase as i32,
            height: 5,
            reason_code: reason_code.into(),
            ..Default::default()
        };
        let imported = v1::ImportedMessage { lodged: Some(lodged), ..Default::default() };
        let outcome = Some(Outcome::Imported(imported));
        v1::ImportResult { number, message: number, outcome, ..Default::default() }
    }

    #[test]
    fn only_final_and_rejected_end_a_message_and_an_end_stays() {
        let mut progress = Progress::default();
        for phase in [Phase::Accepted, Phase::Unspecified, Phase::Expired] {
            assert!(!progress.take(result(0, phase, ""), 0), "{phase:?}");
        }
        assert!(progress.take(result(0, Phase::Final, ""), 0));
        assert!(!progress.take(result(0, Phase::Rejected, "FIELD"), 0));
        assert!(progress.take(result(1, Phase::Rejected, NOT_FOR_ROLE), 0));
        let mut messages = vec![v1::ImportMessage::default(); 2];
        progress.mark(&mut messages);
        assert_eq!((messages[0].record_id.len(), messages[1].record_id.len()), (32, 0));
        let ImportedBatch { all: ends, cut_off } = progress.into_batch();
        assert!(cut_off.is_some(), "no attempt came to its end");
        assert!(matches!(ends[0].end, Some(End::Final { height: 5, before: false, .. })));
        assert!(ends[1].end.as_ref().is_some_and(is_for_others));
    }

    #[test]
    fn what_expires_again_and_again_is_given_up_and_what_waits_for_another_is_unfinished() {
        let mut progress = Progress::default();
        let ended = (0..=EXPIRIES_MAX).map(|_| progress.take(result(0, Phase::Expired, ""), 0));
        assert_eq!(ended.collect::<Vec<_>>(), [false, false, false, true]);
        progress.take(result(1, Phase::Unspecified, TARGET_NOT_LODGED), 0);
        let ends = progress.into_batch().all;
        let Some(End::Unfinished { reason }) = &ends[1].end else { panic!("unfinished") };
        assert!(reason.contains("not on the ledger"), "{reason}");
    }

    #[test]
    fn large_messages_go_in_pieces_and_empty_ones_go_too() {
        let sizes = [2 * PIECE_BYTES + 1, 0, PIECE_BYTES];
        let messages = sizes.map(|size| v1::ImportMessage {
            label: "a".into(),
            content: vec![1; size],
            ..Default::default()
        });
        let sent = requests(v1::ImportOptions::default(), &messages);
        let sent: Vec<_> = futures::executor::block_on(sent.collect());
        let more: Vec<_> = sent.iter().map(|request| request.more).collect();
        assert_eq!(more, [true, true, false, false, false]);
        assert_eq!(sent.iter().filter(|request| request.options.is_some()).count(), 1);
        let labels = sent.iter().filter_map(|request| request.message.as_ref());
        assert_eq!(labels.filter(|message| message.label == "a").count(), 3);
    }
}
