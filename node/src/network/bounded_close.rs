//! Connections that close within a time.
//!
//! Yamux closes with a last frame, behind all that waits to be sent. Where the packets of a connection
//! vanish, its socket takes nothing more, that frame is never sent, and the system gives up after a
//! quarter of an hour at the earliest. libp2p counts the connection as open meanwhile, and nothing could
//! take its place.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::core::{StreamMuxer, muxing::StreamMuxerEvent};
use tokio::time::{Sleep, sleep};

/// How long the last words may take. A connection that works takes them at once.
const LAST_WORDS_MAX: Duration = Duration::from_millis(500);

/// A muxer that hangs up where it cannot close in time.
pub(super) struct BoundedClose<M> {
    muxer: M,
    /// Runs from the first try to close on.
    limit: Option<Pin<Box<Sleep>>>,
}

impl<M> BoundedClose<M> {
    pub(super) fn new(muxer: M) -> Self {
        Self { muxer, limit: None }
    }
}

impl<M: StreamMuxer + Unpin> StreamMuxer for BoundedClose<M> {
    type Substream = M::Substream;
    type Error = M::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.muxer).poll_inbound(cx)
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.muxer).poll_outbound(cx)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        Pin::new(&mut self.muxer).poll(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if let Poll::Ready(closed) = Pin::new(&mut self.muxer).poll_close(cx) {
            return Poll::Ready(closed);
        }
        let limit = self.limit.get_or_insert_with(|| Box::pin(sleep(LAST_WORDS_MAX)));
        // The caller drops it now, and the socket with it.
        limit.as_mut().poll(cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, io};

    use futures::io::Cursor;

    use super::*;

    /// Closes at once, or never.
    struct Muxer {
        closes: bool,
    }

    impl StreamMuxer for Muxer {
        type Substream = Cursor<Vec<u8>>;
        type Error = io::Error;

        fn poll_inbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<io::Result<Self::Substream>> {
            Poll::Pending
        }

        fn poll_outbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<io::Result<Self::Substream>> {
            Poll::Pending
        }

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.closes { Poll::Ready(Ok(())) } else { Poll::Pending }
        }
    }

    #[tokio::test]
    async fn a_connection_that_does_not_close_is_given_up() {
        for closes in [true, false] {
            let mut muxer = BoundedClose::new(Muxer { closes });
            let closed = poll_fn(|cx| Pin::new(&mut muxer).poll_close(cx));
            let limit = 20 * LAST_WORDS_MAX;
            tokio::time::timeout(limit, closed).await.expect("in time").expect("closed");
            assert_eq!(muxer.limit.is_none(), closes);
        }
    }
}
