//! A request's body on its way to the service: what has begun to come must come to its end within a
//! time, and its bytes are of the client's share until they are accepted.
//!
//! A message says its length before it comes (gRPC's five bytes). One that is longer than any of its
//! kind, or for which there is no room, is refused for that alone, and nothing of it is kept. What is
//! announced is held of the client's own share; of what all clients have together only what has come, and a
//! little ahead. In a stream each message that is not small holds its bytes until it is accepted; the next one
//! waits for them.
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
/// Bytes for which there is room before they are here. The decoder sets the whole of an announced message
/// aside when it has read its length, but writes no more of that than has come: what was never written takes
/// no memory.
const LEAD_BYTES: usize = 64 * 1024;
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
    /// Runs while a message is on its way, and stands still while there is no room for it.
    due: Option<Pin<Box<Sleep>>>,
    /// Messages that have begun.
    messages: u64,
    /// The message that is on its way, where it needs room.
    held: Option<Held>,
    /// What has come and was not passed on.
    rest: Bytes,
    waiting: Option<Waiting>,
    /// Since when nothing was asked for.
    resting: Option<Instant>,
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
        Self {
            body,
            place,
            message_bytes_max,
            streams,
            framing: Framing::default(),
            time,
            due: (!streams).then(|| due(time)),
            messages: 0,
            held: None,
            rest: Bytes::new(),
            waiting: None,
            resting: None,
        }
    }

    /// Passes on what there is room for, and asks for the room that the rest needs. What comes before that is
    /// passed on first: in a stream, room is given back when it is accepted.
    fn pass_on(&mut self) -> Option<Frame<Bytes>> {
        let mut passed = 0;
        while passed < self.rest.len() && self.waiting.is_none() {
            if self.streams && self.framing.is_between() {
                self.due = Some(due(self.time));
            }
            passed += match self.framing.to_come {
                0 => self.begin(passed),
                to_come => self.go_on(to_come.min(self.rest.len() - passed)),
            };
            if self.streams && self.framing.is_between() {
                self.due = None;
            }
        }
        let passed = self.rest.split_to(passed);
        (!passed.is_empty()).then(|| Frame::data(passed))
    }

    /// Follows a message's prefix. Before the last byte of it nothing is made ready for the message: it is
    /// kept back until there is room.
    fn begin(&mut self, from: usize) -> usize {
        let bytes = &self.rest[from..];
        let Some((compressed, length)) = self.framing.length(bytes) else {
            return self.framing.follow(bytes);
        };
        let small = if self.streams { SMALL_BYTES } else { 0 };
        // Its inflated length is not known, only the limits of that.
        let inflated = if compressed { length.saturating_mul(INFLATED_MAX) } else { length };
        let message_bytes = inflated.min(self.message_bytes_max);
        // One that is longer than any may be is refused by its length.
        let is_taken = length <= self.message_bytes_max;
        if let Some(place) = self.place.clone()
            && self.held.is_none()
            && message_bytes > small
            && is_taken
        {
            let number = self.messages;
            let room = message_bytes.min(LEAD_BYTES);
            self.held = Some(Held { number, message_bytes, compressed, room, passed: 0 });
            let asked = place.hold_request(number, (message_bytes, room), self.streams);
            self.waiting = Some(Waiting::new(asked));
            return self.framing.follow(&bytes[..self.framing.prefix_to_come() - 1]);
        }
        self.messages += 1;
        let followed = self.framing.follow(bytes);
        if self.framing.to_come == 0 {
            self.held = None;
        }
        followed
    }

    /// Follows this many bytes of a message, or as many of them as there is room for.
    fn go_on(&mut self, bytes: usize) -> usize {
        let mut followed = bytes;
        if let (Some(held), Some(place)) = (&mut self.held, &self.place) {
            // When the last of it is passed on, it is inflated.
            let is_last = held.compressed && bytes == self.framing.to_come;
            let needed = if is_last { held.message_bytes } else { held.passed + bytes };
            if needed.min(held.message_bytes) > held.room {
                let lead = if is_last { needed } else { held.room + LEAD_BYTES.max(bytes) };
                let room = lead.min(held.message_bytes);
                let more = room - held.room;
                let asked = place.clone().hold_more(held.number, more, self.streams);
                self.waiting = Some(Waiting::new(asked));
                followed = if is_last { 0 } else { held.room - held.passed };
                held.room = room;
            }
            held.passed += followed;
        }
        self.framing.to_come -= followed;
        if self.framing.to_come == 0 {
            self.held = None;
        }
        followed
    }

    /// The time since then is not the client's: the node had no room, or was not ready for more.
    fn postpone(&mut self, since: Instant) {
        if let Some(due) = &mut self.due {
            let later = due.deadline() + since.elapsed();
            due.as_mut().reset(later);
        }
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                let made = ready!(waiting.room.as_mut().poll(context));
                let since = waiting.since;
                self.waiting = None;
                if let Err(refused) = made {
                    return Poll::Ready(Some(Err(refused.into())));
                }
                self.postpone(since);
            }
            if let Some(frame) = self.pass_on() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.waiting.is_some() {
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
                Ok(bytes) => self.rest = bytes,
                // Trailers, which mean nothing in a request. The decoder takes them for the end, also within a
                // message.
                Err(_) => {}
            }
        }
    }
}

/// A message that holds room.
struct Held {
    /// The message's number in the request.
    number: u64,
    /// Bytes that it has at most when it is decoded.
    message_bytes: usize,
    compressed: bool,
    /// Bytes for which there is room, or will be when what is asked for is there.
    room: usize,
    /// Bytes that were passed on.
    passed: usize,
}

/// Room for a message, which has been asked for.
struct Waiting {
    room: BoxFuture<'static, Result<(), Refused>>,
    since: Instant,
}

impl Waiting {
    fn new(room: impl Future<Output = Result<(), Refused>> + Send + 'static) -> Self {
        Self { room: Box::pin(room), since: Instant::now() }
    }
}

/// The caller has reset the call, or the connection is gone, before the request's end. Not with the code
/// "cancelled": the decoder takes that for the end.
fn cut_off() -> Refused {
    Refused::new(Code::Aborted, "CANCELLED", "the request was cut off before its end")
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
        if let Some(since) = self.resting.take() {
            self.postpone(since);
        }
        if let Poll::Ready(next) = self.poll_next(context) {
            self.resting = Some(Instant::now());
            return Poll::Ready(next);
        }
        // It is the node that does not go on.
        if self.waiting.is_some() {
            return Poll::Pending;
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
    /// Where these bytes have the last of a prefix: whether its message is compressed, and its bytes.
    fn length(&self, bytes: &[u8]) -> Option<(bool, usize)> {
        let mut prefix = self.prefix;
        let to_come = bytes.get(..self.prefix_to_come())?;
        prefix[self.prefix_here..].copy_from_slice(to_come);
        let [flag, length @ ..] = prefix;
        Some((flag != 0, u32::from_be_bytes(length) as usize))
    }

    /// Follows bytes of a prefix, not beyond its last, and says how many they are.
    fn follow(&mut self, bytes: &[u8]) -> usize {
        let here = self.prefix_to_come().min(bytes.len());
        self.prefix[self.prefix_here..][..here].copy_from_slice(&bytes[..here]);
        self.prefix_here += here;
        if self.prefix_here == PREFIX_BYTES {
            let [_, length @ ..] = self.prefix;
            self.to_come = u32::from_be_bytes(length) as usize;
            self.prefix_here = 0;
        }
        here
    }

    fn prefix_to_come(&self) -> usize {
        PREFIX_BYTES - self.prefix_here
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

    #[tokio::test]
    async fn messages_are_followed_however_they_are_cut() {
        let bytes = [message(0), message(300), message(1), message(70_000)].concat();
        for size in [1, 2, 5, 7, 299, 100_000] {
            let pieces: Vec<_> = bytes.chunks(size).map(<[u8]>::to_vec).collect();
            let pieces = stream::iter(pieces.into_iter().map(Ok::<_, Status>));
            let body = Body::from_stream(pieces.chain(stream::pending()));
            let mut receiving = Receiving::new(body, None, 100_000, true, TIME);
            let mut passed = Vec::new();
            while passed.len() < bytes.len() {
                let frame = next(&mut receiving).await.expect("in time");
                passed.extend_from_slice(&frame.into_data().expect("data"));
            }
            assert!(passed == bytes, "{size}");
            assert_eq!(receiving.messages, 4, "{size}");
            assert!(receiving.framing.is_between() && receiving.due.is_none(), "{size}");
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

    fn client() -> ClientIdentity {
        let agency = "NL-DOUANE".parse().expect("a code");
        ClientIdentity { agency, name: "a".into(), role: Role::Broker, certificate: [0; 32] }
    }

    #[tokio::test]
    async fn a_message_of_a_stream_waits_for_the_bytes_of_those_before_it() {
        let share = Quotas::new(16, 16).share(&client());
        let place = share.place(Class::Stream).await.expect("free");
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
    async fn the_time_for_a_message_stands_still_while_there_is_no_room_for_it() {
        let share = Quotas::new(16, 16).share(&client());
        let (one, other) = (share.place(Class::Submit).await, share.place(Class::Submit).await);
        let (one, other) = (one.expect("free"), other.expect("free"));
        let large = 16 << 20;
        one.clone().hold_request(0, (large, 1), false).await.expect("all of its share");
        let bytes = message(100_000);
        let pieces = stream::iter([Ok::<_, Status>(bytes.clone())]).chain(stream::pending());
        let body = Body::from_stream(pieces);
        let mut receiving = Receiving::new(body, Some(other), 1 << 20, false, TIME);
        let frame = next(&mut receiving).await.expect("the beginning").into_data();
        let mut passed = frame.expect("data").len();
        assert_eq!(passed, PREFIX_BYTES - 1);
        let late = tokio::time::timeout(10 * TIME, next(&mut receiving)).await;
        late.expect_err("it waits, and is not refused as late");
        drop(one.take_request(0));
        while passed < bytes.len() {
            let frame = next(&mut receiving).await.expect("room").into_data();
            passed += frame.expect("data").len();
        }
        let status = next(&mut receiving).await.expect_err("its end does not come");
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn a_body_that_stops_short_of_its_end_is_cut_off() {
        for streams in [false, true] {
            // Unlike one of HTTP/2 that has ended, this one does not know that it has.
            let body = Body::from_stream(stream::iter([Ok::<_, Status>(message(9))]));
            let mut receiving = Receiving::new(body, None, 1000, streams, TIME);
            next(&mut receiving).await.expect("the bytes");
            let status = next(&mut receiving).await.expect_err("no end");
            assert_eq!(status.code(), Code::Aborted);
        }
    }

    #[tokio::test]
    async fn a_stream_may_be_silent_between_its_messages() {
        let late = tokio::time::timeout(10 * TIME, ended(message(9), true)).await;
        late.expect_err("it is not ended");
    }
}
