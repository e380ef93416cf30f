//! A request's body on its way to the service: what has begun to come must come to its end within a
//! time, and its bytes are of the client's share until they are accepted.
//!
//! A message says its length before it comes (gRPC's five bytes). One that is longer than any of its
//! kind, or for which there is no room, is refused for that alone, and nothing of it is kept.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures::future::BoxFuture;
use hyper::body::{Body as HttpBody, Frame};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Code, Status};

use crate::serve::{quotas::Place, refused::Refused};

/// A message of a stream up to this length needs no more than the stream's own place.
const SMALL_BYTES: usize = 64 * 1024;
/// Bytes of the flag and the length before a message.
const PREFIX_BYTES: usize = 5;

/// A body that is kept to its time and its share.
pub(super) struct Receiving {
    body: Body,
    place: Option<Place>,
    message_bytes_max: usize,
    /// Whether more messages may follow, without an end.
    streams: bool,
    framing: Framing,
    /// How long a message may take.
    time: Duration,
    /// Runs while a message is on its way.
    due: Option<Pin<Box<Sleep>>>,
    /// Room for a message, and what came of the body meanwhile.
    room: Option<(BoxFuture<'static, Result<(), Refused>>, Bytes)>,
}

impl Receiving {
    /// `message_bytes_max` is the most that the service decodes, also when it is compressed.
    pub(super) fn new(
        body: Body,
        place: Option<Place>,
        message_bytes_max: usize,
        streams: bool,
        time: Duration,
    ) -> Self {
        let due = (!streams).then(|| due(time));
        let framing = Framing::default();
        Self { body, place, message_bytes_max, streams, framing, time, due, room: None }
    }

    /// Follows the messages in some bytes; gives what must be held for the longest that begins here.
    fn follow(&mut self, bytes: &[u8]) -> usize {
        let mut longest = 0;
        for (compressed, length) in self.framing.follow(bytes) {
            // Its inflated length is not known, only the limit of that.
            let bytes = if compressed { self.message_bytes_max } else { length };
            longest = longest.max(bytes.min(self.message_bytes_max));
        }
        if self.streams {
            match (self.framing.is_between(), &self.due) {
                (true, _) => self.due = None,
                (false, None) => self.due = Some(due(self.time)),
                (false, Some(_)) => {}
            }
        }
        longest
    }

    /// Waits for the room that was asked for.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        let Some((room, _)) = &mut self.room else { return Poll::Ready(None) };
        let made = ready!(room.as_mut().poll(context));
        let (_, bytes) = self.room.take().expect("looked at above");
        Poll::Ready(Some(made.map(|()| bytes).map_err(Status::from)))
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(bytes) = ready!(self.poll_room(context)) {
            return Poll::Ready(Some(bytes.map(Frame::data)));
        }
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(Status::from_error(error.into())))),
            None => {
                // A call's only message is here, and what the service does takes its own time.
                self.due = None;
                return Poll::Ready(None);
            }
        };
        let bytes = match frame.into_data() {
            Ok(bytes) => bytes,
            Err(frame) => return Poll::Ready(Some(Ok(frame))),
        };
        let longest = self.follow(&bytes);
        let small = if self.streams { SMALL_BYTES } else { 0 };
        match self.place.clone().filter(|_| longest > small) {
            Some(place) => {
                self.room = Some((Box::pin(place.hold_request(longest)), bytes));
                self.poll_next(context)
            }
            None => Poll::Ready(Some(Ok(Frame::data(bytes)))),
        }
    }
}

fn due(time: Duration) -> Pin<Box<Sleep>> {
    Box::pin(sleep_until(Instant::now() + time))
}

impl HttpBody for Receiving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(next) = self.poll_next(context) {
            return Poll::Ready(next);
        }
        let Some(due) = &mut self.due else { return Poll::Pending };
        ready!(due.as_mut().poll(context));
        let message = format!("the message did not come within {:?}", self.time);
        let late = Refused::new(Code::DeadlineExceeded, "MESSAGE_TIMEOUT", message);
        Poll::Ready(Some(Err(late.into())))
    }
}

/// Where in a sequence of messages a body is.
#[derive(Default)]
struct Framing {
    prefix: [u8; PREFIX_BYTES],
    /// Bytes of the prefix that are here.
    prefix_here: usize,
    /// Bytes of the message that are to come.
    to_come: usize,
}

impl Framing {
    /// Follows some bytes, and gives the messages whose length is known with them: whether each is
    /// compressed, and its bytes.
    fn follow(&mut self, mut bytes: &[u8]) -> Vec<(bool, usize)> {
        let mut begun = Vec::new();
        while !bytes.is_empty() {
            if self.to_come > 0 {
                let here = self.to_come.min(bytes.len());
                (self.to_come, bytes) = (self.to_come - here, &bytes[here..]);
                continue;
            }
            let here = (PREFIX_BYTES - self.prefix_here).min(bytes.len());
            let (prefix, rest) = bytes.split_at(here);
            self.prefix[self.prefix_here..][..here].copy_from_slice(prefix);
            (self.prefix_here, bytes) = (self.prefix_here + here, rest);
            if self.prefix_here == PREFIX_BYTES {
                let [flag, length @ ..] = self.prefix;
                self.to_come = u32::from_be_bytes(length) as usize;
                self.prefix_here = 0;
                begun.push((flag != 0, self.to_come));
            }
        }
        begun
    }

    /// Whether no message is on its way.
    fn is_between(&self) -> bool {
        self.to_come == 0 && self.prefix_here == 0
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, future::poll_fn, stream};

    use super::*;

    fn message(length: usize) -> Vec<u8> {
        let prefix = u32::try_from(length).expect("short").to_be_bytes();
        [&[0][..], &prefix, &vec![7; length]].concat()
    }

    #[test]
    fn messages_are_followed_however_they_are_cut() {
        let bytes = [message(0), message(300), message(1), message(70_000)].concat();
        for size in [1, 2, 5, 7, 299, 100_000] {
            let mut framing = Framing::default();
            let begun: Vec<_> =
                bytes.chunks(size).flat_map(|piece| framing.follow(piece)).collect();
            assert_eq!(begun, [(false, 0), (false, 300), (false, 1), (false, 70_000)], "{size}");
            assert!(framing.is_between());
            framing.follow(&bytes[..3]);
            assert!(!framing.is_between());
        }
    }

    const TIME: Duration = Duration::from_millis(50);

    async fn next(receiving: &mut Receiving) -> Result<Frame<Bytes>, Status> {
        let next = poll_fn(|context| Pin::new(&mut *receiving).poll_frame(context)).await;
        next.expect("it has not ended")
    }

    /// The error that ends a body of which these bytes come, and then nothing.
    async fn ended(bytes: Vec<u8>, streams: bool) -> Status {
        let pieces = stream::iter([Ok::<_, Status>(bytes)]).chain(stream::pending());
        let body = Body::from_stream(pieces);
        let mut receiving = Receiving::new(body, None, 1000, streams, TIME);
        next(&mut receiving).await.expect("the bytes");
        next(&mut receiving).await.expect_err("too late")
    }

    #[tokio::test]
    async fn what_has_begun_to_come_must_come_in_time() {
        for (bytes, streams) in [(vec![], false), (message(9)[..13].to_vec(), true)] {
            assert_eq!(ended(bytes, streams).await.code(), Code::DeadlineExceeded);
        }
    }

    #[tokio::test]
    async fn a_stream_may_be_silent_between_its_messages() {
        let late = tokio::time::timeout(10 * TIME, ended(message(9), true)).await;
        late.expect_err("it is not ended");
    }
}
