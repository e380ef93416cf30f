//! Streams of submissions: thousands of items a second, with back-pressure and without a task an
//! item.
//!
//! One task drives a stream. What has arrived is gathered into a chunk, without waiting for more;
//! a few chunks are accepted at a time, each as a whole; an item that is to be answered when final
//! then waits by itself, holding no more than its id. Nothing is read while the allowed number of
//! chunks or waiting items is under way, nor while the client does not read its answers: HTTP/2's
//! flow control then holds the client back.

use std::{future::Future, ops::Range, panic::resume_unwind, sync::Arc};

use futures::{
    FutureExt as _, Stream, StreamExt as _,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered},
};
use prost::Message;
use tokio::{sync::mpsc, task::JoinError};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{gate, receipts::held_while_sent};
use crate::identity::ClientIdentity;
use crate::serve::{
    quotas::{AnswerBytes, AnswerRoom, Place, RequestBytes},
    reads::holding,
    refused::Refused,
    rejections::Rejections,
};

/// Most items of a chunk.
const CHUNK_ITEMS_MAX: usize = 256;
/// Bytes at which a chunk is closed.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks that are being accepted at a time.
const CHUNKS_MAX: usize = 6;
/// Items waiting for their end at a time. A chunk more may come on top.
const WAITING_MAX: usize = 4096;
/// Bytes of the messages whose items wait: an answer may say as much as its message.
const WAITING_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Answers ready for a client that does not read them.
const ANSWERS_MAX: usize = 128;
/// Bytes of an answer for which the room that is set aside for the stream is enough.
const SMALL_ANSWER_BYTES: usize = 512;

/// What a stream does with its items.
pub(super) trait Intake: Send + Sync + 'static {
    /// The method's path.
    const METHOD: &'static str;
    /// A request.
    type Item: Message + Send + 'static;
    /// A response.
    type Answer: Message + 'static;

    /// Accepts a chunk: one step an item.
    fn accept(
        &self,
        client: &ClientIdentity,
        items: Vec<Self::Item>,
    ) -> impl Future<Output = Vec<Step<Self::Answer>>> + Send;

    /// Where refusals are counted.
    fn rejections(&self) -> &Rejections;
}

/// The answers of a stream.
pub(super) type Answers<A> = BoxStream<'static, Result<A, Status>>;

/// How an item goes on.
pub(super) enum Step<A> {
    /// It is answered now.
    Answer(A),
    /// It is answered when it has ended.
    Wait(BoxFuture<'static, A>),
}

/// Drives a stream; the answers come in the order in which they are ready. The place is given back when the
/// stream ends, which is only after what was handed to the worker was answered. On shutdown nothing more is
/// read, what was read is answered, and the stream ends with UNAVAILABLE.
pub(super) fn drive<I: Intake>(
    intake: Arc<I>,
    client: ClientIdentity,
    (place, room): (Option<Place>, Option<AnswerRoom>),
    items: impl Stream<Item = Result<I::Item, Status>> + Send + Unpin + 'static,
    shutdown: CancellationToken,
) -> Answers<I::Answer> {
    let (answers, receiver) = mpsc::channel(ANSWERS_MAX);
    let held = place.clone();
    let flow = Flow { intake, client, held, room, answers, shutdown };
    let run = async move { flow.run(items).await };
    match place {
        Some(place) => tokio::spawn(holding(place, run)),
        None => tokio::spawn(run),
    };
    held_while_sent(ReceiverStream::new(receiver)).boxed()
}

/// An answer that waits to be sent, with what it holds until then.
type WaitingAnswer<A> = (Result<A, Status>, Option<AnswerBytes>);

struct Flow<I: Intake> {
    intake: Arc<I>,
    client: ClientIdentity,
    /// What the stream holds, also of messages that are not accepted yet.
    held: Option<Place>,
    /// For answers that are not small.
    room: Option<AnswerRoom>,
    answers: mpsc::Sender<WaitingAnswer<I::Answer>>,
    shutdown: CancellationToken,
}

/// How the input ended.
enum Input {
    Open,
    Ended,
    Failed(Refused),
}

impl<I: Intake> Flow<I> {
    async fn run(&self, items: impl Stream<Item = Result<I::Item, Status>> + Send + Unpin) {
        let mut items = items.fuse();
        let mut input = Input::Open;
        let mut gone = false;
        let (mut taken, mut waiting_bytes) = (0, 0);
        let mut accepting = FuturesUnordered::new();
        let mut waiting = FuturesUnordered::new();
        loop {
            let open = matches!(input, Input::Open);
            let room = accepting.len() < CHUNKS_MAX
                && waiting.len() < WAITING_MAX
                && waiting_bytes < WAITING_BYTES_MAX;
            let busy = open || !accepting.is_empty() || !waiting.is_empty();
            tokio::select! {
                biased;
                Some((answer, bytes)) = waiting.next() => {
                    waiting_bytes -= bytes;
                    self.answer(answer).await;
                }
                Some((steps, bytes)) = accepting.next() => {
                    for step in steps {
                        match step {
                            Step::Answer(answer) => self.answer(answer).await,
                            Step::Wait(end) if !gone => {
                                waiting_bytes += bytes;
                                waiting.push(end.map(move |answer| (answer, bytes)));
                            }
                            Step::Wait(_) => {}
                        }
                    }
                }
                // What was accepted goes on without the client.
                () = self.answers.closed(), if busy && !gone => {
                    (gone, input) = (true, Input::Ended);
                    waiting.clear();
                    waiting_bytes = 0;
                }
                () = self.shutdown.cancelled(), if open => {
                    input = Input::Failed(Refused::shutting_down());
                }
                item = items.next(), if open && room => {
                    let (chunk, bytes, then) = gather(item, &mut items);
                    input = then;
                    self.note(&input);
                    if !chunk.is_empty() {
                        let numbers = taken..taken + chunk.len() as u64;
                        taken = numbers.end;
                        let held = self.held_of(numbers);
                        let each = bytes / chunk.len();
                        let accepted = self.accept(chunk, held);
                        accepting.push(accepted.map(move |steps| (steps, each)));
                    }
                }
                else => break,
            }
        }
        if let Input::Failed(refused) = input {
            // A client that is gone needs no status.
            let _ = self.answers.send((Err(refused.into()), None)).await;
        }
    }

    /// Has a chunk accepted by a task of its own. What it waits for belongs to all, threads among it: it must be
    /// used and given back also while this stream waits for its client to read.
    fn accept(
        &self,
        chunk: Vec<I::Item>,
        held: Vec<RequestBytes>,
    ) -> impl Future<Output = Vec<Step<I::Answer>>> + use<I> {
        let (intake, client) = (Arc::clone(&self.intake), self.client.clone());
        let accept = async move {
            let _until_they_are_accepted = held;
            intake.accept(&client, chunk).await
        };
        let task = match self.held.clone() {
            Some(place) => tokio::spawn(holding(place, accept)),
            None => tokio::spawn(accept),
        };
        // A fault in it is the stream's, whose items would else have no answer and no word of it.
        task.map(|accepted| match accepted.map_err(JoinError::try_into_panic) {
            Ok(steps) => steps,
            Err(Ok(panic)) => resume_unwind(panic),
            Err(Err(_going_down)) => Vec::new(),
        })
    }

    /// The bytes that messages hold, by their numbers in the stream.
    fn held_of(&self, numbers: Range<u64>) -> Vec<RequestBytes> {
        let place = self.held.iter();
        place.flat_map(|place| numbers.clone().filter_map(|n| place.take_request(n))).collect()
    }

    fn note(&self, input: &Input) {
        if let Input::Failed(refused) = input {
            let reason_code = refused.reason_code;
            self.intake.rejections().note(&self.client.name, I::METHOD, reason_code, "");
        }
    }

    /// Hands an answer on, where it is not small when there is room for it in the client's share.
    async fn answer(&self, answer: I::Answer) {
        let bytes = answer.encoded_len();
        let held = match &self.room {
            Some(room) if bytes > SMALL_ANSWER_BYTES => tokio::select! {
                held = room.made(bytes) => Some(held),
                () = self.answers.closed() => return,
            },
            _ => None,
        };
        // Where the client is gone, the flow ends.
        let _ = self.answers.send((Ok(answer), held)).await;
    }
}

/// Takes what has arrived, without waiting, and says how many bytes it has and how the input goes on.
fn gather<M: Message>(
    first: Option<Result<M, Status>>,
    items: &mut (impl Stream<Item = Result<M, Status>> + Unpin),
) -> (Vec<M>, usize, Input) {
    let mut chunk = Vec::new();
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(item) = next {
        match item {
            Some(Ok(item)) => {
                bytes += item.encoded_len();
                chunk.push(item);
            }
            Some(Err(status)) => return (chunk, bytes, Input::Failed(of_input(status))),
            None => return (chunk, bytes, Input::Ended),
        }
        if chunk.len() >= CHUNK_ITEMS_MAX || bytes >= CHUNK_BYTES {
            break;
        }
        next = items.next().now_or_never();
    }
    (chunk, bytes, Input::Open)
}

/// What ended the input: bytes that are not a message, too many bytes, or bytes that did not come.
fn of_input(status: Status) -> Refused {
    let (code, reason_code) = gate::reason_of(&status);
    Refused::new(code, reason_code, status.message())
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use customhouse_proto::v1::Subject;
    use futures::stream;
    use tokio::{sync::Notify, time::timeout};
    use tonic::Code;

    use super::*;
    use crate::identity::Role;
    use crate::serve::quotas::{self, Class, Quotas};

    const DEADLINE: Duration = Duration::from_secs(10);

    /// Answers each item with its scheme; those of an odd scheme when told that they are final.
    struct Echo {
        rejections: Rejections,
        accepted: AtomicUsize,
        chunks: AtomicUsize,
        finality: Arc<Notify>,
    }

    impl Default for Echo {
        fn default() -> Self {
            let (accepted, chunks) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let rejections = Rejections::new(|_, _| ());
            Self { rejections, accepted, chunks, finality: Arc::default() }
        }
    }

    impl Intake for Echo {
        const METHOD: &'static str = "/test.Echo/Stream";
        type Item = Subject;
        type Answer = i32;

        async fn accept(&self, _: &ClientIdentity, items: Vec<Subject>) -> Vec<Step<i32>> {
            self.chunks.fetch_add(1, Ordering::SeqCst);
            self.accepted.fetch_add(items.len(), Ordering::SeqCst);
            let step = |item: Subject| {
                if item.scheme % 2 == 0 {
                    return Step::Answer(item.scheme);
                }
                let finality = Arc::clone(&self.finality);
                Step::Wait(Box::pin(async move {
                    finality.notified().await;
                    finality.notify_one();
                    item.scheme
                }))
            };
            items.into_iter().map(step).collect()
        }

        fn rejections(&self) -> &Rejections {
            &self.rejections
        }
    }

    fn client() -> ClientIdentity {
        let agency = "NL-DOUANE".parse().expect("a code");
        ClientIdentity { agency, name: "broker".into(), role: Role::Broker, certificate: [0; 32] }
    }

    fn item(scheme: i32) -> Result<Subject, Status> {
        Ok(Subject { scheme, id: String::new() })
    }

    #[tokio::test]
    async fn every_item_has_one_answer_and_those_waiting_come_when_they_end() {
        let echo = Arc::new(Echo::default());
        let items = stream::iter((0..1000).map(item));
        let shutdown = CancellationToken::new();
        let mut answers = drive(Arc::clone(&echo), client(), (None, None), items, shutdown);
        let mut found = Vec::new();
        for _ in 0..500 {
            found.push(answers.next().await.expect("an answer").expect("no error"));
        }
        assert!(found.iter().all(|scheme| scheme % 2 == 0), "the others are not final yet");
        echo.finality.notify_one();
        while let Some(answer) = timeout(DEADLINE, answers.next()).await.expect("in time") {
            found.push(answer.expect("no error"));
        }
        found.sort_unstable();
        assert_eq!(found, (0..1000).collect::<Vec<_>>());
        assert_eq!(echo.chunks.load(Ordering::SeqCst), 1000_usize.div_ceil(CHUNK_ITEMS_MAX));
    }

    #[tokio::test]
    async fn a_client_that_reads_no_answers_is_not_read_from() {
        let echo = Arc::new(Echo::default());
        let items = stream::iter((0..).map(|number: i32| item(number.wrapping_mul(2))));
        let shutdown = CancellationToken::new();
        let mut answers = drive(Arc::clone(&echo), client(), (None, None), items, shutdown);
        let bound = ANSWERS_MAX + (CHUNKS_MAX + 1) * CHUNK_ITEMS_MAX;
        // Reading one answer at a time moves what is accepted by as much, not further.
        for read in 0..2000 {
            let accepted = echo.accepted.load(Ordering::SeqCst);
            assert!(accepted <= bound + read, "{accepted} accepted, {read} answers read");
            timeout(DEADLINE, answers.next()).await.expect("in time").expect("more").expect("ok");
        }
    }

    #[tokio::test]
    async fn items_that_wait_hold_the_stream_back_at_the_limit() {
        let echo = Arc::new(Echo::default());
        let items = stream::iter((0..).map(|number: i32| item(number.wrapping_mul(2) | 1)));
        let shutdown = CancellationToken::new();
        let mut answers = drive(Arc::clone(&echo), client(), (None, None), items, shutdown);
        let poll = async {
            while echo.accepted.load(Ordering::SeqCst) < WAITING_MAX {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, poll).await.expect("up to the limit");
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        let accepted = echo.accepted.load(Ordering::SeqCst);
        assert!(accepted <= WAITING_MAX + CHUNKS_MAX * CHUNK_ITEMS_MAX, "{accepted}");
        echo.finality.notify_one();
        timeout(DEADLINE, answers.next()).await.expect("in time").expect("more").expect("ok");
    }

    #[tokio::test]
    async fn on_shutdown_what_was_read_is_answered_and_the_stream_ends() {
        let echo = Arc::new(Echo::default());
        let items = stream::iter((0..10).map(item)).chain(stream::pending());
        let shutdown = CancellationToken::new();
        let mut answers =
            drive(Arc::clone(&echo), client(), (None, None), Box::pin(items), shutdown.clone());
        for _ in 0..5 {
            answers.next().await.expect("an answer").expect("no error");
        }
        shutdown.cancel();
        echo.finality.notify_one();
        let rest: Vec<_> = timeout(DEADLINE, answers.collect()).await.expect("it ends");
        assert_eq!(rest.iter().filter(|answer| answer.is_ok()).count(), 5);
        let status = rest.last().expect("a status").as_ref().expect_err("an error");
        assert_eq!(status.code(), Code::Unavailable);
    }

    #[tokio::test]
    async fn what_came_before_a_damaged_message_is_answered() {
        let (count, counted) = mpsc::channel(8);
        let rejections = Rejections::new(move |surface, reason| {
            count.try_send((surface.to_owned(), reason.to_owned())).expect("room");
        });
        let echo = Arc::new(Echo { rejections, ..Echo::default() });
        let damaged = Err(Status::internal("failed to decode Protobuf message"));
        let items = stream::iter([item(2), item(4), damaged, item(6)]);
        let answers = drive(echo, client(), (None, None), items, CancellationToken::new());
        let all: Vec<_> = timeout(DEADLINE, answers.collect()).await.expect("it ends");
        assert_eq!(all.len(), 3);
        let status = all[2].as_ref().expect_err("an error");
        assert_eq!(status.code(), Code::InvalidArgument);
        let counted: Vec<_> = ReceiverStream::new(counted).collect().await;
        assert_eq!(counted, [("grpc".into(), "MESSAGE_MALFORMED".into())]);
    }

    #[tokio::test]
    async fn the_place_is_given_back_when_the_client_goes() {
        let share = Quotas::new(1024, 1024).share(&client());
        let mut streams = Vec::new();
        while let Some(place) = share.place(Class::Stream).now_or_never() {
            let (echo, shutdown) = (Arc::new(Echo::default()), CancellationToken::new());
            let place = (Some(place.expect("free")), None);
            streams.push(drive(echo, client(), place, stream::pending(), shutdown));
        }
        assert!(!streams.is_empty());
        streams.clear();
        timeout(DEADLINE, share.place(Class::Stream)).await.expect("in time").expect("given back");
    }

    #[tokio::test]
    async fn answers_that_are_not_read_are_of_the_client_s_share() {
        /// Answers with as many bytes as it is asked for.
        struct Large(Rejections);
        impl Intake for Large {
            const METHOD: &'static str = "/test.Large/Stream";
            type Item = Subject;
            type Answer = Subject;

            async fn accept(&self, _: &ClientIdentity, items: Vec<Subject>) -> Vec<Step<Subject>> {
                let answer = |item: Subject| {
                    let bytes = usize::try_from(item.scheme).expect("positive");
                    Step::Answer(Subject { id: "x".repeat(bytes), ..item })
                };
                items.into_iter().map(answer).collect()
            }

            fn rejections(&self) -> &Rejections {
                &self.0
            }
        }
        let share = Quotas::new(1024, 1024).share(&client());
        let room = AnswerRoom::new(share.answer(1).await.expect("room"), &share);
        let large = 400_000;
        let items = stream::iter((0..100).map(move |_| item(large)));
        let intake = Arc::new(Large(Rejections::new(|_, _| ())));
        let mut answers =
            drive(intake, client(), (None, Some(room)), items, CancellationToken::new());
        answers.next().await.expect("an answer").expect("no error");
        // They take all of the share, and no more are handed on.
        let all = async {
            while share.answer(1 << 20).now_or_never().is_some() {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, all).await.expect("up to the share");
        let rest: Vec<_> = timeout(DEADLINE, answers.collect()).await.expect("as they are read");
        assert_eq!(rest.len(), 99);
        share.answer(quotas::HELD_ANSWER_BYTES_MAX - 1024).await.expect("given back");
    }
}
