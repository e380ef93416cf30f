//! Connections from clients: how many there may be, whose they are, and their end at a shutdown.
//!
//! A connection begins as a stranger's: anyone can open one, and say nothing on it. There is room for a few
//! of these, and the next takes the place of another: in the network (an IPv4 /24, an IPv6 /48) that has
//! most, at the address there that has most, the oldest. So whoever opens thousands closes their own, and
//! whoever shows a certificate within a moment gets through. Over TLS a connection is known from the end of
//! the handshake on. Known ones stay. A new one that is above a share, its client's, its address's, its
//! network's or all's, stays a stranger's, for as long as it takes to tell it so. Some places are for
//! operators only. Plain HTTP knows nobody: there each connection is a stranger's.
//!
//! All places of a listener are part of the process's budget of descriptors ([`crate::descriptors`]),
//! which counts a connection until it is closed.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

pub(crate) use self::places::Shares;
pub(super) use self::places::TooMany;
use self::places::{Place, Places};
use crate::{health::Responder, metrics::Metrics};

mod places;

/// How long to wait after a failed `accept`: it means that the process is out of descriptors or
/// memory, and trying at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Failed `accept`s are told of at most this often.
const ACCEPT_TOLD_EVERY: Duration = Duration::from_secs(10);

/// Accepts connections as their shares allow. When `cut` is cancelled, all of them end. Whoever polls the
/// stream answers through `responder`.
pub(crate) fn accept(
    (listener, responder): (TcpListener, Responder),
    shares: Shares,
    metrics: Metrics,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    let places = Places::new(shares, metrics);
    let state = (Door { listener, responder, told: None }, places, cut);
    stream::unfold(state, |(mut door, places, cut)| async move {
        loop {
            tokio::select! {
                () = door.responder.answer() => {}
                () = places.room() => break,
            }
        }
        let (stream, address) = door.accept_one().await;
        let place = places.enter(address, cut.child_token());
        let cut_off = Box::pin(place.cut.clone().cancelled_owned());
        Some((Ok(Connection { stream, cut_off, place }), (door, places, cut)))
    })
}

struct Door {
    listener: TcpListener,
    responder: Responder,
    /// When a failed `accept` was told of.
    told: Option<Instant>,
}

impl Door {
    async fn accept_one(&mut self) -> (TcpStream, IpAddr) {
        loop {
            let accepted = tokio::select! {
                () = self.responder.answer() => continue,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "TCP_NODELAY was not set");
                    }
                    return (stream, from.ip().to_canonical());
                }
                Err(error) => {
                    if self.told.is_none_or(|told| told.elapsed() > ACCEPT_TOLD_EVERY) {
                        tracing::warn!(%error, "a connection was not accepted");
                        self.told = Some(Instant::now());
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// A client's connection.
pub(crate) struct Connection {
    // Closed before its place is given back.
    stream: TcpStream,
    cut_off: Pin<Box<WaitForCancellationFutureOwned>>,
    place: Place,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl Connection {
    /// The client has shown who it is.
    ///
    /// # Errors
    /// A share is used up: the connection stays a stranger's.
    pub(super) fn become_known(&self, is_operator: bool) -> Result<(), TooMany> {
        self.place.become_known(is_operator)
    }

    /// Fails once the connection is cut off; otherwise sees to it that this task is woken then.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut_off.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures::StreamExt as _;
    use tokio::{io::AsyncReadExt as _, net::TcpSocket, time::timeout};

    use super::*;
    use crate::{descriptors::CLOSING_MAX, health::probe};

    const DEADLINE: Duration = Duration::from_secs(10);

    struct Listening {
        at: std::net::SocketAddr,
        incoming: Pin<Box<dyn Stream<Item = io::Result<Connection>> + Send>>,
        cut: CancellationToken,
    }

    impl Listening {
        async fn with(shares: Shares) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
            let at = listener.local_addr().expect("bound");
            let cut = CancellationToken::new();
            let metrics = Metrics::new(|_| ());
            let incoming = accept((listener, probe().1), shares, metrics, cut.clone());
            Self { at, incoming: Box::pin(incoming), cut }
        }

        /// A client's connection from `127.a.b.c`, and the node's end of it.
        async fn connect(&mut self, [a, b, c]: [u8; 3]) -> (TcpStream, Connection) {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.bind((Ipv4Addr::new(127, a, b, c), 0).into()).expect("loopback");
            let client = socket.connect(self.at).await.expect("connected");
            let accepted = timeout(DEADLINE, self.incoming.next()).await.expect("in time");
            (client, accepted.expect("accepted").expect("no error"))
        }
    }

    /// Whether the node's end of a connection was told to close.
    async fn is_cut(connection: &mut Connection) -> bool {
        let read = timeout(Duration::from_millis(50), connection.read(&mut [0; 1])).await;
        read.is_ok_and(|read| read.is_err())
    }

    #[tokio::test]
    async fn whoever_opens_most_loses_the_oldest_of_its_own() {
        let mut listening = Listening::with(Shares::of_strangers(4)).await;
        let (_a, mut quiet) = listening.connect([0, 0, 1]).await;
        let mut crowd = Vec::new();
        for last in [1, 1, 2] {
            crowd.push(listening.connect([9, 9, last]).await);
        }
        assert!(!is_cut(&mut quiet).await, "there was room");
        let (_b, mut newcomer) = listening.connect([0, 1, 1]).await;
        let (_c, mut another) = listening.connect([0, 2, 1]).await;
        // Of the crowd's network, first of the address that has two; then the oldest.
        let mut cut = Vec::new();
        for (_, connection) in &mut crowd {
            cut.push(is_cut(connection).await);
        }
        assert_eq!(cut, [true, true, false]);
        for honest in [&mut quiet, &mut newcomer, &mut another] {
            assert!(!is_cut(honest).await);
        }
    }

    #[tokio::test]
    async fn who_is_known_keeps_its_place_before_any_number_of_strangers() {
        let mut listening = Listening::with(Shares::of_known(2, 4)).await;
        let (_client, mut known) = listening.connect([0, 0, 1]).await;
        known.become_known(false).expect("a place");
        let mut strangers = Vec::new();
        for _ in 0..CLOSING_MAX {
            strangers.push(listening.connect([0, 0, 3]).await);
        }
        assert!(!is_cut(&mut known).await);
        let (_client, newcomer) = listening.connect([0, 0, 2]).await;
        newcomer.become_known(false).expect("strangers hold no place of those who are known");
    }

    #[tokio::test]
    async fn an_address_and_a_network_have_their_shares_of_those_who_are_known() {
        // One of an address, two of a network, four of all; and one of an operator.
        let shares = Shares { operators_max: 1, ..Shares::of_known(8, 4) };
        let mut listening = Listening::with(shares).await;
        let mut held = Vec::new();
        for (from, found) in [
            ([0, 0, 1], Ok(())),
            ([0, 0, 1], Err(TooMany::Address)),
            ([0, 0, 2], Ok(())),
            ([0, 0, 3], Err(TooMany::Network)),
            ([0, 1, 1], Ok(())),
            ([0, 2, 1], Ok(())),
            ([0, 3, 1], Err(TooMany::All)),
        ] {
            let (client, mut connection) = listening.connect(from).await;
            assert_eq!(connection.become_known(false), found, "{from:?}");
            // A connection that is too many is still to be told so.
            assert!(!is_cut(&mut connection).await, "{from:?}");
            held.push((client, connection));
        }
        let (_operators, first) = listening.connect([0, 0, 1]).await;
        first.become_known(true).expect("nobody else can take it");
        let (_client, second) = listening.connect([0, 0, 1]).await;
        assert_eq!(second.become_known(true), Err(TooMany::Address));
        // A place that is given back is there for the next.
        held.remove(0);
        let (_client, connection) = listening.connect([0, 0, 1]).await;
        connection.become_known(false).expect("a place");
        assert_eq!(connection.place.known_and_operators(), (4, 1));
    }

    #[tokio::test]
    async fn no_more_are_accepted_than_there_are_descriptors_for() {
        let mut listening = Listening::with(Shares::of_strangers(2)).await;
        let mut accepted = Vec::new();
        for _ in 0..2 + CLOSING_MAX {
            accepted.push(listening.connect([0, 0, 1]).await);
        }
        // Those that were cut are not closed yet, here because nobody drops them.
        let _waiting = TcpStream::connect(listening.at).await.expect("in the listener's queue");
        let next = listening.incoming.next();
        assert!(timeout(Duration::from_millis(100), next).await.is_err(), "there is no room");
        accepted.clear();
        let next = timeout(DEADLINE, listening.incoming.next()).await.expect("in time");
        next.expect("accepted").expect("no error");
    }

    #[tokio::test]
    async fn a_loop_that_waits_for_clients_answers_whether_it_lives() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let (probe, responder) = probe();
        let shares = Shares::of_strangers(2);
        let cut = CancellationToken::new();
        let incoming = accept((listener, responder), shares, Metrics::new(|_| ()), cut);
        let accepting = tokio::spawn(async move { Box::pin(incoming).next().await });
        assert!(timeout(DEADLINE, probe.clone().answered()).await.expect("in time"));
        accepting.abort();
        assert!(!timeout(DEADLINE, probe.answered()).await.expect("in time"), "it is gone");
    }

    #[tokio::test]
    async fn a_cut_ends_a_connection_that_is_waiting() {
        let mut listening = Listening::with(Shares::of_strangers(8)).await;
        let (_client, mut connection) = listening.connect([0, 0, 1]).await;
        let reading = tokio::spawn(async move { connection.read(&mut [0; 1]).await });
        listening.cut.cancel();
        let read = timeout(DEADLINE, reading).await.expect("in time").expect("no panic");
        assert_eq!(read.expect_err("cut off").kind(), io::ErrorKind::ConnectionAborted);
    }
}
