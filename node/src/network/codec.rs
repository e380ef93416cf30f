//! Frames of the protocols of requests: a 4-byte big-endian length, then one protobuf message.
//!
//! The length is checked before anything is read, and memory grows only with the bytes that come. A request
//! that is large, which only the push of a proposal is, needs one of a few places: a peer may have many
//! streams open, and leave each of them a byte short of its end.
//! libp2p does not report a request that fails while it is read, so a bad frame is a value here: the
//! request that a peer is called to account for.

use std::{io, marker::PhantomData, sync::Arc};

use customhouse_proto::v1;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response};
use prost::Message;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{metrics::NetworkMetrics, wire};

/// Levels of messages in a frame down to the lists that a peer could make long: response, blocks,
/// block with its body.
const LEVELS: u32 = 2;

/// A request of this many bytes or more is large.
const LARGE_BYTES: usize = 64 << 10;
/// Large requests that are being read, of all peers.
const LARGE_MAX: usize = 32;
/// Large requests that are being read, of one connection.
const LARGE_OF_ONE_MAX: usize = 2;

/// Why a frame was refused; inside the [`io::Error`] that libp2p hands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameFault {
    /// The frame is longer than its limit.
    #[error("a frame of {length} bytes, at most {max} are allowed")]
    Oversize {
        /// Bytes announced, or about to be sent.
        length: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The bytes are not such a message.
    #[error("not a message of the protocol")]
    Undecodable,
}

impl FrameFault {
    /// The fault inside an error, where it is one.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<Self>().copied()
    }

    fn into_io(self) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, self)
    }
}

/// Places for large requests, so that no peer holds all of them.
#[derive(Debug)]
struct Places {
    of_all: Arc<Semaphore>,
    /// The places of one connection, where these are one connection's.
    of_one: Option<Arc<Semaphore>>,
}

impl Places {
    fn new() -> Self {
        Self { of_all: Arc::new(Semaphore::new(LARGE_MAX)), of_one: None }
    }

    /// A place for a request of this length, where it needs one.
    fn take(&self, length: usize) -> io::Result<[Option<SemaphorePermit<'_>>; 2]> {
        if length < LARGE_BYTES {
            return Ok([None, None]);
        }
        let none = |_| io::Error::new(io::ErrorKind::ResourceBusy, "too many large requests");
        let of_one = self.of_one.as_ref().map(|places| places.try_acquire()).transpose();
        Ok([of_one.map_err(none)?, Some(self.of_all.try_acquire().map_err(none)?)])
    }
}

/// libp2p clones the codec for each connection, and that clone for each of its streams: a clone of the first
/// has places of its own, and what is cloned of that shares them.
impl Clone for Places {
    fn clone(&self) -> Self {
        let of_one = self.of_one.clone();
        let of_one = of_one.unwrap_or_else(|| Arc::new(Semaphore::new(LARGE_OF_ONE_MAX)));
        Self { of_all: Arc::clone(&self.of_all), of_one: Some(of_one) }
    }
}

/// A request of a protocol: its name among the counters.
pub(super) trait Counted {
    /// The channel that it is counted in.
    fn channel(&self) -> &'static str;
    /// The channel that answers are counted in.
    const ANSWERS: &'static str;
}

impl Counted for v1::SyncRequest {
    fn channel(&self) -> &'static str {
        match self.request {
            Some(v1::sync_request::Request::Push(_)) => "push",
            _ => "request",
        }
    }

    const ANSWERS: &'static str = "response";
}

impl Counted for v1::SealedRequest {
    fn channel(&self) -> &'static str {
        match self.request {
            Some(v1::sealed_request::Request::Push(_)) => "sealed_push",
            _ => "sealed_request",
        }
    }

    const ANSWERS: &'static str = "sealed_response";
}

/// Reads and writes the requests and answers of a protocol.
#[derive(Debug)]
pub(super) struct FrameCodec<Q, A> {
    pub(super) request_bytes_max: usize,
    pub(super) response_bytes_max: usize,
    pub(super) metrics: NetworkMetrics,
    large: Places,
    messages: PhantomData<fn() -> (Q, A)>,
}

/// Of [`v1::SyncRequest`] and [`v1::SyncResponse`].
pub(super) type SyncCodec = FrameCodec<v1::SyncRequest, v1::SyncResponse>;
/// Of [`v1::SealedRequest`] and [`v1::SealedResponse`].
pub(super) type SealedCodec = FrameCodec<v1::SealedRequest, v1::SealedResponse>;

impl<Q, A> FrameCodec<Q, A> {
    pub(super) fn new(
        (request_bytes_max, response_bytes_max): (usize, usize),
        metrics: NetworkMetrics,
    ) -> Self {
        let (large, messages) = (Places::new(), PhantomData);
        Self { request_bytes_max, response_bytes_max, metrics, large, messages }
    }
}

impl<Q, A> Clone for FrameCodec<Q, A> {
    fn clone(&self) -> Self {
        let (metrics, large, messages) = (self.metrics.clone(), self.large.clone(), PhantomData);
        let (request_bytes_max, response_bytes_max) =
            (self.request_bytes_max, self.response_bytes_max);
        Self { request_bytes_max, response_bytes_max, metrics, large, messages }
    }
}

async fn read_length<T>(io: &mut T, max: usize) -> io::Result<usize>
where
    T: AsyncRead + Unpin + Send,
{
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > max {
        return Err(FrameFault::Oversize { length, max }.into_io());
    }
    Ok(length)
}

async fn read_frame<M, T>(io: &mut T, length: usize) -> io::Result<M>
where
    M: Message + Default,
    T: AsyncRead + Unpin + Send,
{
    let mut bytes = Vec::new();
    io.take(length as u64).read_to_end(&mut bytes).await?;
    if bytes.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if !wire::is_proportionate(&bytes, LEVELS) {
        return Err(FrameFault::Undecodable.into_io());
    }
    // Decoded from a slice, so that a transaction kept for long does not pin the whole frame.
    M::decode(&bytes[..]).map_err(|_| FrameFault::Undecodable.into_io())
}

async fn write_frame<M, T>(io: &mut T, message: &M, max: usize) -> io::Result<usize>
where
    M: Message,
    T: AsyncWrite + Unpin + Send,
{
    let length = message.encoded_len();
    let prefix = u32::try_from(length).ok().filter(|_| length <= max);
    let prefix = prefix.ok_or_else(|| FrameFault::Oversize { length, max }.into_io())?;
    let mut frame = Vec::with_capacity(4 + length);
    frame.extend_from_slice(&prefix.to_be_bytes());
    message.encode(&mut frame).map_err(io::Error::other)?;
    io.write_all(&frame).await?;
    Ok(length)
}

impl<Q, A> request_response::Codec for FrameCodec<Q, A>
where
    Q: Message + Counted + Default + 'static,
    A: Message + Default + 'static,
{
    type Protocol = StreamProtocol;
    type Request = Result<Q, FrameFault>;
    type Response = A;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Self::Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        let read = async {
            let length = read_length(io, self.request_bytes_max).await?;
            let _places = self.large.take(length)?;
            let request: Q = read_frame(io, length).await?;
            self.metrics.received(request.channel(), length);
            Ok(request)
        };
        match read.await {
            Ok(request) => Ok(Ok(request)),
            Err(error) => FrameFault::of(&error).map(Err).ok_or(error),
        }
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<A>
    where
        T: AsyncRead + Unpin + Send,
    {
        let length = read_length(io, self.response_bytes_max).await?;
        let response = read_frame(io, length).await?;
        self.metrics.received(Q::ANSWERS, length);
        Ok(response)
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Self::Request,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        // Only good requests are ever made here.
        let request = request.map_err(FrameFault::into_io)?;
        let length = write_frame(io, &request, self.request_bytes_max).await?;
        self.metrics.sent(request.channel(), length);
        Ok(())
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: A,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let length = write_frame(io, &response, self.response_bytes_max).await?;
        self.metrics.sent(Q::ANSWERS, length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use request_response::Codec as _;

    use super::{super::config::Limits, *};

    /// The beginning of a frame, whose end never comes.
    struct Unfinished(Vec<u8>);

    impl AsyncRead for Unfinished {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let count = buffer.len().min(self.0.len());
            if count == 0 {
                return Poll::Pending;
            }
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Poll::Ready(Ok(count))
        }
    }

    fn codec() -> SyncCodec {
        let limits = Limits::default();
        let bytes_max = (limits.request_bytes_max, limits.response_bytes_max);
        SyncCodec::new(bytes_max, NetworkMetrics::default())
    }

    fn unfinished(length: usize) -> Unfinished {
        let prefix = u32::try_from(length).expect("small").to_be_bytes();
        Unfinished([&prefix[..], &vec![7; length - 1]].concat())
    }

    type Reading = Pin<Box<dyn Future<Output = io::Result<Result<v1::SyncRequest, FrameFault>>>>>;

    /// One stream of a connection, on which the end of a frame of this length does not come.
    fn reading(connection: &SyncCodec, length: usize) -> Reading {
        let mut codec = connection.clone();
        Box::pin(async move {
            codec.read_request(&StreamProtocol::new("/test"), &mut unfinished(length)).await
        })
    }

    async fn is_refused(connection: &SyncCodec) {
        let refused = reading(connection, 1 << 20).await.expect_err("no place");
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        // It is not the asking peer's fault: another may have the places.
        assert_eq!(FrameFault::of(&refused), None);
    }

    #[tokio::test]
    async fn large_requests_that_never_end_take_a_few_places_of_a_connection_and_small_ones_none() {
        let codec = codec();
        let (greedy, other) = (codec.clone(), codec.clone());
        let mut held = Vec::new();
        for _ in 0..LARGE_OF_ONE_MAX {
            held.push(reading(&greedy, 1 << 20));
            assert!(futures::poll!(held.last_mut().expect("one")).is_pending());
        }
        is_refused(&greedy).await;
        assert!(futures::poll!(reading(&greedy, LARGE_BYTES - 1)).is_pending());
        assert!(futures::poll!(reading(&other, 1 << 20)).is_pending(), "another's are its own");
        held.pop();
        assert!(futures::poll!(reading(&greedy, 1 << 20)).is_pending(), "a place came back");
    }

    #[tokio::test]
    async fn large_requests_of_all_connections_take_a_limited_number_of_places() {
        let codec = codec();
        let mut held = Vec::new();
        for _ in 0..LARGE_MAX {
            held.push(reading(&codec.clone(), 1 << 20));
            assert!(futures::poll!(held.last_mut().expect("one")).is_pending());
        }
        is_refused(&codec.clone()).await;
        held.pop();
        assert!(futures::poll!(reading(&codec.clone(), 1 << 20)).is_pending(), "a place came back");
    }
}
