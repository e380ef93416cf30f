//! The `Import` service: raw messages in, records out, lodged if asked.
//!
//! A batch is taken in and mapped, message by message, away from the async workers. When all of it is there,
//! it is linked. Then it is lodged in waves, each as by the `Submission` service: what others of the batch
//! refer to is on the ledger before them. See [`crate::imports`].

use customhouse_formats::{Format, format_named};
use customhouse_ledger::hash::Hash;
use customhouse_proto::v1::{self, import_options::Lodge, import_server::Import};
use futures::StreamExt as _;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{
    gate,
    lodging::{Lodging, finish, link},
    pace::{Pace, Paced},
    submission::{SubmissionService, caller, to_its_end},
};
use crate::{
    identity::ClientIdentity,
    imports::{Batch, BatchLimits, BatchRefused},
    serve::{
        quotas::{AnswerRoom, Place},
        reads::{apart, hash_field, holding},
        refused::Refused,
    },
};

/// A call with all messages in it.
const SMALL: BatchLimits =
    BatchLimits { content_bytes: 1 << 20, results: 1024, record_bytes: 8 << 20 };
/// A stream of messages.
const LARGE: BatchLimits =
    BatchLimits { content_bytes: 16 << 20, results: 16_384, record_bytes: 64 << 20 };
/// Bytes of an answer with all results.
const ANSWER_BYTES: usize = 3584 * 1024;
/// Results ready for a client that does not read them: each may have a record.
const ANSWERS_MAX: usize = 8;

/// Where results go as they are known.
pub(super) type Answers = mpsc::Sender<v1::ImportResult>;
/// Where a stream's go from there.
type Results = mpsc::Sender<Result<v1::ImportResult, Status>>;

#[derive(Clone)]
pub(super) struct ImportService {
    submission: SubmissionService,
    pace: Pace,
}

/// What a call asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    format: Option<&'static dyn Format>,
    pub(super) lodge: Lodge,
    pub(super) wait: bool,
    pub(super) with_records: bool,
    /// Whether the records are lodged open.
    pub(super) open: bool,
    /// Else under which agreement.
    pub(super) agreement: Option<Hash>,
}

impl Asked {
    fn of(options: Option<v1::ImportOptions>) -> Result<Self, Refused> {
        let options = options.unwrap_or_default();
        let format = match &*options.format {
            "" => None,
            name => Some(format_named(name).ok_or_else(|| {
                Refused::field("options.format", "FORMAT", "no such format: wco, rows, or none")
            })?),
        };
        let lodge = Lodge::try_from(options.lodge)
            .map_err(|_| Refused::field("options.lodge", "FIELD", "not one of its values"))?;
        let v1::ImportOptions { wait, with_records, open, agreement, .. } = options;
        let named = Some(agreement).filter(|agreement| !agreement.is_empty());
        let agreement = named.map(|id| hash_field("options.agreement", &id)).transpose()?;
        Ok(Self { format, lodge, wait, with_records, open, agreement })
    }

    /// Whether messages that are answers, or those that are not, are to be lodged.
    pub(super) fn lodges(&self, is_answer: bool) -> bool {
        match self.lodge {
            Lodge::Nothing => false,
            Lodge::All => true,
            Lodge::Declarations => !is_answer,
            Lodge::Answers => is_answer,
        }
    }
}

impl ImportService {
    pub(super) fn of(submission: &SubmissionService, pace: Pace) -> Self {
        Self { submission: submission.clone(), pace }
    }

    /// Maps messages, away from the async workers.
    async fn map(
        &self,
        mut batch: Batch,
        asked: Asked,
        messages: Vec<v1::ImportMessage>,
    ) -> Result<Batch, Refused> {
        let work = move || {
            for message in &messages {
                batch.add(asked.format, message)?;
            }
            Ok(batch)
        };
        let mapped: Option<Result<Batch, BatchRefused>> = apart(work).await;
        Ok(mapped.ok_or_else(Refused::shutting_down)??)
    }

    fn lodging(&self, client: ClientIdentity, asked: Asked) -> Lodging {
        Lodging { service: self.submission.clone(), client, asked }
    }

    /// Takes a stream's messages in and maps each, until the client has sent all.
    async fn take(
        &self,
        requests: &mut Streaming<v1::StreamImportRequest>,
        place: &Place,
        results: &Results,
    ) -> Result<(Batch, Asked), Refused> {
        let paced = Paced::new(self.pace, Some(place));
        let mut batch = Batch::new(LARGE);
        let mut asked = None;
        let mut begun: Option<v1::ImportMessage> = None;
        for number in 0.. {
            let next = tokio::select! {
                next = paced.next(requests.next(), late) => next?,
                // Its time is over, or the caller is gone.
                () = results.closed() => return Err(Refused::deadline()),
                () = self.submission.shutdown.cancelled() => return Err(Refused::shutting_down()),
            };
            let Some(next) = next else { break };
            let request = next.map_err(|status| {
                let (code, reason_code) = gate::reason_of(&status);
                Refused::new(code, reason_code, status.message())
            })?;
            let v1::StreamImportRequest { options, message, more } = request;
            let asked = match (&asked, options) {
                (None, options) => *asked.insert(Asked::of(options)?),
                (Some(asked), None) => *asked,
                (Some(_), Some(_)) => {
                    let reason = "in the first request of a stream only";
                    return Err(Refused::field("options", "FIELD", reason));
                }
            };
            // What is taken into the batch is within the batch's own limit, of which there are few at a time.
            drop(place.take_request(number));
            let message = message.unwrap_or_default();
            paced.came(message.encoded_len());
            let message = join(begun.take(), message)?;
            batch.has_room(message.content.len())?;
            if more {
                begun = Some(message);
            } else {
                batch = self.map(batch, asked, vec![message]).await?;
            }
        }
        if begun.is_some() {
            let reason = "the stream ended within a message";
            return Err(Refused::field("message", "FIELD", reason));
        }
        let asked = asked.map_or_else(|| Asked::of(None), Ok)?;
        Ok((batch, asked))
    }
}

/// The next result, until the client is gone: then what is under way is lodged, and nothing more.
async fn received(
    results: &mut mpsc::Receiver<v1::ImportResult>,
    gone: impl Future<Output = ()>,
) -> Option<v1::ImportResult> {
    tokio::select! {
        result = results.recv() => result,
        () = gone => {
            results.close();
            None
        }
    }
}

fn late() -> Refused {
    let reason = "the messages come too slowly, and nothing is lodged before all are here";
    Refused::new(Code::DeadlineExceeded, "IMPORT_TIMEOUT", reason)
}

/// What has come of a message, with what comes next.
fn join(
    begun: Option<v1::ImportMessage>,
    next: v1::ImportMessage,
) -> Result<v1::ImportMessage, Refused> {
    let Some(mut begun) = begun else { return Ok(next) };
    let v1::ImportMessage { label, content, record_id, lines_before } = next;
    if !(label.is_empty() && record_id.is_empty() && lines_before == 0) {
        let reason = "a message that goes on has content only";
        return Err(Refused::field("message", "FIELD", reason));
    }
    begun.content.extend_from_slice(&content);
    Ok(begun)
}

impl From<BatchRefused> for Refused {
    fn from(refused: BatchRefused) -> Self {
        match &refused {
            BatchRefused::Message(number, reason) => {
                Self::field(&format!("messages[{number}]"), "FIELD", reason)
            }
            BatchRefused::TooMuch { .. } => {
                Self::new(Code::OutOfRange, "BATCH_TOO_LARGE", refused.to_string())
            }
        }
    }
}

#[tonic::async_trait]
impl Import for ImportService {
    async fn import_messages(
        &self,
        mut request: Request<v1::ImportMessagesRequest>,
    ) -> Result<Response<v1::ImportMessagesResponse>, Status> {
        let client = caller(&request)?;
        let place = request.extensions_mut().remove::<Place>();
        let room = request.extensions_mut().remove::<AnswerRoom>();
        let v1::ImportMessagesRequest { options, messages } = request.into_inner();
        let asked = Asked::of(options)?;
        // What is lodged must be answered, whether the client reads or not.
        if let Some(room) = room {
            room.grow(ANSWER_BYTES).await?;
        }
        let lodging = self.lodging(client, asked);
        // As long as nothing is lodged, a call that is given up ends where it is.
        let prepare = async {
            let batch = self.map(Batch::new(SMALL), asked, messages).await?;
            link(&lodging, batch).await
        };
        let held = place.clone().ok_or_else(Refused::shutting_down)?;
        let linked = holding(held, prepare).await?;
        let given_up = CancellationToken::new();
        let _call = given_up.clone().drop_guard();
        let work = async move {
            let (answers, mut results) = mpsc::channel(ANSWERS_MAX);
            let work = finish(lodging, linked, answers);
            let collect = async {
                let mut answer = Answer::default();
                while let Some(result) = received(&mut results, given_up.cancelled()).await {
                    answer.add(result);
                }
                answer.results
            };
            let (done, mut results) = futures::join!(work, collect);
            done?;
            results.sort_by_key(|result| result.number);
            Ok::<_, Refused>(results)
        };
        let results = to_its_end(place, work).await??;
        Ok(Response::new(v1::ImportMessagesResponse { results }))
    }

    type StreamImportStream = ReceiverStream<Result<v1::ImportResult, Status>>;

    async fn stream_import(
        &self,
        mut request: Request<Streaming<v1::StreamImportRequest>>,
    ) -> Result<Response<Self::StreamImportStream>, Status> {
        let client = caller(&request)?;
        let place = request.extensions_mut().remove::<Place>();
        let place = place.ok_or_else(Refused::shutting_down)?;
        let mut requests = request.into_inner();
        let (results, receiver) = mpsc::channel(ANSWERS_MAX);
        let (service, held) = (self.clone(), place.clone());
        let work = async move {
            let (answers, mut made) = mpsc::channel(1);
            let work = async {
                let (batch, asked) = service.take(&mut requests, &held, &results).await?;
                let lodging = service.lodging(client, asked);
                let linked = tokio::select! {
                    linked = link(&lodging, batch) => linked?,
                    // The client is gone, and nothing is lodged yet.
                    () = results.closed() => return Ok(()),
                };
                finish(lodging, linked, answers).await
            };
            let hand_on = async {
                while let Some(result) = received(&mut made, results.closed()).await {
                    let _gone = results.send(Ok(result)).await;
                }
            };
            let (done, ()) = futures::join!(work, hand_on);
            if let Err(refused) = done {
                let _gone = results.send(Err(refused.into())).await;
            }
        };
        tokio::spawn(holding(place, work));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// The results of a call, as many bytes of them as an answer may have.
#[derive(Default)]
struct Answer {
    results: Vec<v1::ImportResult>,
    bytes: usize,
}

/// Bytes that are kept for the results that come after, without their records and warnings.
const PLAIN_BYTES: usize = 2048 + 512;

impl Answer {
    fn add(&mut self, mut result: v1::ImportResult) {
        let kept_for_others = PLAIN_BYTES * SMALL.results.saturating_sub(self.results.len() + 1);
        let room = ANSWER_BYTES.saturating_sub(self.bytes + kept_for_others);
        if result.encoded_len() > room
            && let Some(v1::import_result::Outcome::Imported(imported)) = &mut result.outcome
        {
            imported.record_left_out |= imported.record.take().is_some();
        }
        if result.encoded_len() > room
            && let Some(v1::import_result::Outcome::Imported(imported)) = &mut result.outcome
        {
            let count = imported.warnings.len();
            let text = format!("{count} warnings left out: import by stream for all of them");
            imported.warnings = vec![v1::ImportWarning { text, ..Default::default() }];
        }
        self.bytes += result.encoded_len();
        self.results.push(result);
    }
}
