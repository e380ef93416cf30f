//! A request's body on its way to the service: what has begun to come must come to its end within a
//! time, and its bytes are of the client's share until they are accepted.
//!
//! A message says its length before it comes (gRPC's five bytes). One that is longer than any of its
//! kind, or for which there is no room, is refused for that alone, and nothing of it is kept. In a stream
//! each message that is not small holds its bytes until it is accepted; the next one waits for them.
//!
//! Whether a caller has sent all, or has given the call up, is decided here, for every kind of call: HTTP/2
//! below and the decoder above both take a call that was reset with CANCEL or NO_ERROR for one that has ended.

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
/// How much longer a message may be than its compressed bytes: no bytes of gzip say more.
const INFLATED_MAX: usize = 1032;
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
    /// Messages that have begun.
    messages: u64,
    waiting: Option<Waiting>,
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
        Self {
            body,
            place,
            message_bytes_max,
            streams,
            framing,
            time,
            due,
            messages: 0,
            waiting: None,
        }
    }

    /// Follows the messages in some bytes, behind those that were followed before. Gives what may be passed
    /// on now, and what must be held before the rest is: of the first message that is not small.
    fn follow(&mut self, bytes: Bytes, followed: usize) -> (Bytes, Option<Held>) {
        let small = if self.streams { SMALL_BYTES } else { 0 };
        let mut rest = &bytes[followed..];
        let mut held = None;
        while let Some((compressed, length)) = self.framing.next(&mut rest) {
            let number = self.messages;
            self.messages += 1;
            // Its inflated length is not known, only the limits of that.
            let inflated = if compressed { length.saturating_mul(INFLATED_MAX) } else { length };
            let message_bytes = inflated.min(self.message_bytes_max);
            if message_bytes > small && self.place.is_some() {
                let followed = bytes.len() - rest.len();
                held = Some((number, message_bytes, followed));
                break;
            }
        }
        if self.streams {
            match (held.is_some() || self.framing.is_between(), &self.due) {
                // Nothing of it is asked for while there is no room.
                (true, _) => self.due = None,
                (false, None) => self.due = Some(due(self.time)),
                (false, Some(_)) => {}
            }
        }
        match held {
            None => (bytes, None),
            Some((number, message_bytes, followed)) => {
                // Before the last byte of its prefix nothing is made ready for the message. What comes
                // before it must be passed on in a stream: room is given back when that is accepted.
                let passed = if self.streams { followed - 1 } else { 0 };
                let (passed, rest) = (bytes.slice(..passed), bytes.slice(passed..));
                let followed = followed - passed.len();
                (passed, Some(Held { number, message_bytes, rest, followed }))
            }
        }
    }

    /// Passes on what may be, and asks for the room that the rest needs.
    fn pass_on(&mut self, bytes: Bytes, followed: usize) -> Option<Frame<Bytes>> {
        let (passed, held) = self.follow(bytes, followed);
        if let (Some(held), Some(place)) = (held, self.place.clone()) {
            let Held { number, message_bytes, rest, followed } = held;
            let room = Box::pin(place.hold_request(number, message_bytes, self.streams));
            self.waiting = Some(Waiting { room, rest, followed });
        }
        (!passed.is_empty()).then(|| Frame::data(passed))
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(Waiting { room, .. }) = &mut self.waiting {
                let made = ready!(room.as_mut().poll(context));
                let Waiting { rest, followed, .. } = self.waiting.take().expect("looked at above");
                if let Err(refused) = made {
                    return Poll::Ready(Some(Err(refused.into())));
                }
                if let Some(frame) = self.pass_on(rest, followed) {
                    return Poll::Ready(Some(Ok(frame)));
                }
                continue;
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(_)) => return Poll::Ready(Some(Err(cut_off().into()))),
                // A reset that says no more than that the caller has lost interest looks like an end.
                None if !self.body.is_end_stream() => {
                    return Poll::Ready(Some(Err(cut_off().into())));
                }
                None => {
                    // A call's only message is here, and what the service does takes its own time.
                    self.due = None;
                    return Poll::Ready(None);
                }
            };
            match frame.into_data() {
                Ok(bytes) if bytes.is_empty() => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Ok(bytes) => {
                    if let Some(frame) = self.pass_on(bytes, 0) {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                // Trailers, which mean nothing in a request. The decoder takes them for the end, also within a
                // message.
                Err(_) => {}
            }
        }
    }
}

/// The caller has reset the call, or the connection is gone, before the request's end. Not with the code
/// "cancelled": the decoder takes that for the end.
fn cut_off() -> Refused {
    Refused::new(Code::Aborted, "CANCELLED", "the request was cut off before its end")
}

/// Room for a message, which has been asked for.
struct Waiting {
    room: BoxFuture<'static, Result<(), Refused>>,
    /// What waits for it, and how much of that was followed.
    rest: Bytes,
    followed: usize,
}

/// What needs room for a message.
struct Held {
    /// The message's number in the request.
    number: u64,
    message_bytes: usize,
    /// What comes after what was passed on, and how much of that was followed.
    rest: Bytes,
    followed: usize,
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
    /// Follows bytes until the length of a message is known: whether it is compressed, and its bytes. `None`
    /// where they are followed to their end.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<(bool, usize)> {
        while !bytes.is_empty() {
            if self.to_come > 0 {
                let here = self.to_come.min(bytes.len());
                (self.to_come, *bytes) = (self.to_come - here, &bytes[here..]);
                continue;
            }
            let here = (PREFIX_BYTES - self.prefix_here).min(bytes.len());
            let (prefix, rest) = bytes.split_at(here);
            self.prefix[self.prefix_here..][..here].copy_from_slice(prefix);
            (self.prefix_here, *bytes) = (self.prefix_here + here, rest);
            if self.prefix_here == PREFIX_BYTES {
                let [flag, length @ ..] = self.prefix;
                self.to_come = u32::from_be_bytes(length) as usize;
                self.prefix_here = 0;
                return Some((flag != 0, self.to_come));
            }
        }
        None
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
    use crate::{
        identity::{ClientIdentity, Role},
        serve::quotas::{Class, Quotas},
    };

    fn message(length: usize) -> Vec<u8> {
        let prefix = u32::try_from(length).expect("short").to_be_bytes();
        [&[0][..], &prefix, &vec![7; length]].concat()
    }

    #[test]
    fn messages_are_followed_however_they_are_cut() {
        let bytes = [message(0), message(300), message(1), message(70_000)].concat();
        for size in [1, 2, 5, 7, 299, 100_000] {
            let mut framing = Framing::default();
            let mut begun = Vec::new();
            for mut piece in bytes.chunks(size) {
                begun.extend(std::iter::from_fn(|| framing.next(&mut piece)));
            }
            assert_eq!(begun, [(false, 0), (false, 300), (false, 1), (false, 70_000)], "{size}");
            assert!(framing.is_between());
            assert_eq!(framing.next(&mut &bytes[..3]), None);
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
    async fn a_message_of_a_stream_waits_for_the_bytes_of_those_before_it() {
        let agency = "NL-DOUANE".parse().expect("a code");
        let client =
            ClientIdentity { agency, name: "a".into(), role: Role::Broker, certificate: [0; 32] };
        let place = Quotas::new(16, 16).share(&client).place(Class::Stream).await.expect("free");
        let large = 6 << 20;
        // As they may be cut: the end of one and the beginning of the next come together.
        let bytes =
            [message(9), message(large), message(large), message(large), message(9)].concat();
        let pieces: Vec<_> = bytes.chunks(1 << 20).map(<[u8]>::to_vec).collect();
        let pieces = stream::iter(pieces.into_iter().map(Ok::<_, Status>));
        let body = Body::from_stream(pieces);
        let time = Duration::from_secs(10);
        let mut receiving = Receiving::new(body, Some(place.clone()), 8 << 20, true, time);
        let mut passed = 0;
        let mut pass = async |receiving: &mut Receiving, until: usize| {
            while passed < until {
                let frame = next(receiving).await.expect("room").into_data().expect("data");
                passed += frame.len();
            }
            passed
        };
        // All but the last byte of the third one's prefix.
        let held_back = 14 + 2 * (5 + large) + 4;
        assert_eq!(pass(&mut receiving, held_back).await, held_back);
        let third = poll_fn(|context| Poll::Ready(Pin::new(&mut receiving).poll_frame(context)));
        assert!(third.await.is_pending(), "two of them are as much as a client may have");
        assert!(place.take_request(0).is_none(), "small");
        assert!(place.take_request(1).is_some(), "accepted");
        assert_eq!(pass(&mut receiving, bytes.len()).await, bytes.len());
        assert!(place.take_request(2).is_some() && place.take_request(3).is_some());
    }

    #[tokio::test]
    async fn a_stream_may_be_silent_between_its_messages() {
        let late = tokio::time::timeout(10 * TIME, ended(message(9), true)).await;
        late.expect_err("it is not ended");
    }
}
