//! An answer's body on its way to the client. Its bytes are of the client's share until they are sent,
//! and a client that does not read them loses the connection.
//!
//! HTTP/2 asks a body for its next piece when the one before has room in the client's window. An answer
//! is handed over in small pieces, copied out of it: what HTTP/2 holds by itself is then a piece or two
//! of each stream, and the rest is held here, and counted. A body that waits for a client is not asked
//! for anything, so it cannot look at a clock: [`Unsent`] is looked at by the connection.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{body::Body, http::HeaderMap};
use bytes::{Buf as _, Bytes};
use futures::future::poll_fn;
use hyper::body::{Body as HttpBody, Frame};
use tokio::time::Sleep;
use tonic::Status;

use crate::serve::{
    quotas::{AnswerBytes, Place},
    refused::Refused,
};

/// Bytes of a piece.
pub(super) const PIECE_BYTES: usize = 16 * 1024;
/// How long an answer that is not a stream may take.
const ANSWER_TIME: Duration = Duration::from_secs(300);

/// The answers of one connection that have something to send.
#[derive(Default)]
pub(super) struct Unsent {
    answers: Mutex<Vec<Arc<Mutex<Waits>>>>,
}

/// Since when an answer waits.
struct Waits {
    /// It was begun.
    begun: Instant,
    /// The piece that waits was handed over; nothing where none does.
    piece: Option<Instant>,
    /// An answer that may last.
    lasts: bool,
}

impl Unsent {
    /// Whether an answer has waited for the client for too long: with a piece, or in all.
    pub(super) fn is_overdue(&self, now: Instant, piece_time: Duration) -> bool {
        let mut answers = self.lock();
        // Those that ended are held by nobody else.
        answers.retain(|waits| Arc::strong_count(waits) > 1);
        answers.iter().any(|waits| {
            let waits = waits.lock().unwrap_or_else(PoisonError::into_inner);
            let over = |since: Instant, time| now.saturating_duration_since(since) > time;
            waits.piece.is_some_and(|since| over(since, piece_time))
                || !waits.lasts && over(waits.begun, ANSWER_TIME)
        })
    }

    fn enter(&self, lasts: bool) -> Arc<Mutex<Waits>> {
        let begun = Instant::now();
        let waits = Arc::new(Mutex::new(Waits { begun, piece: Some(begun), lasts }));
        let mut answers = self.lock();
        answers.retain(|waits| Arc::strong_count(waits) > 1);
        answers.push(Arc::clone(&waits));
        waits
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Mutex<Waits>>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A whole answer, made and encoded.
pub(super) struct Whole {
    data: Bytes,
    trailers: Option<HeaderMap>,
}

impl Whole {
    /// Has a service's answer encoded, which happens when it is asked for.
    ///
    /// # Errors
    /// The service's.
    pub(super) async fn of(mut body: Body) -> Result<Self, Status> {
        let mut whole = Self { data: Bytes::new(), trailers: None };
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            match frame.map_err(|error| Status::from_error(error.into()))?.into_data() {
                Ok(data) if whole.data.is_empty() => whole.data = data,
                Ok(data) => whole.data = [&whole.data[..], &data].concat().into(),
                Err(frame) => whole.trailers = frame.into_trailers().ok(),
            }
        }
        Ok(whole)
    }

    /// Bytes of the message.
    pub(super) fn bytes(&self) -> usize {
        self.data.len()
    }
}

/// What is sent.
enum Content {
    Whole(Whole),
    /// As it comes, up to a time.
    Stream(Body, Option<Pin<Box<Sleep>>>),
    /// The stream's time was up.
    Ended,
}

/// A body that holds the client's share until it is sent.
pub(super) struct Sending {
    content: Content,
    waits: Arc<Mutex<Waits>>,
    _bytes: AnswerBytes,
    _place: Option<Place>,
}

impl Sending {
    /// A whole answer.
    pub(super) fn whole(whole: Whole, bytes: AnswerBytes, unsent: &Unsent) -> Self {
        let waits = unsent.enter(false);
        Self { content: Content::Whole(whole), waits, _bytes: bytes, _place: None }
    }

    /// A stream of answers, which ends at a deadline where it has one. Whether it may last is said with that.
    pub(super) fn stream(
        body: Body,
        (until, lasts): (Option<Pin<Box<Sleep>>>, bool),
        (bytes, place): (AnswerBytes, Option<Place>),
        unsent: &Unsent,
    ) -> Self {
        let waits = unsent.enter(lasts);
        Self { content: Content::Stream(body, until), waits, _bytes: bytes, _place: place }
    }

    fn poll_content(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match &mut self.content {
            Content::Whole(whole) if whole.data.is_empty() => {
                Poll::Ready(whole.trailers.take().map(Frame::trailers).map(Ok))
            }
            Content::Whole(whole) => {
                // A copy: a slice would hold all of the answer until the last of it is sent.
                let length = whole.data.len().min(PIECE_BYTES);
                let piece = Bytes::copy_from_slice(&whole.data[..length]);
                whole.data.advance(length);
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Content::Stream(body, until) => {
                if let Poll::Ready(next) = Pin::new(body).poll_frame(context) {
                    let next =
                        next.map(|frame| frame.map_err(|error| Status::from_error(error.into())));
                    return Poll::Ready(next);
                }
                match until.as_mut().map(|until| until.as_mut().poll(context)) {
                    Some(Poll::Ready(())) => {
                        self.content = Content::Ended;
                        Poll::Ready(Some(Ok(Frame::trailers(trailers_of(Refused::deadline())))))
                    }
                    _ => Poll::Pending,
                }
            }
            Content::Ended => Poll::Ready(None),
        }
    }
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // Being asked means that the piece before has found room.
        let next = self.poll_content(context);
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        waits.piece = next.is_ready().then(Instant::now);
        drop(waits);
        next
    }
}

fn trailers_of(refused: Refused) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Our messages do not end a header.
    let _written = Status::from(refused).add_header(&mut trailers);
    trailers
}
