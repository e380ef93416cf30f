//! Connections from clients: a limited number, and closed for good at the end of a shutdown.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpListener,
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::rejections::Rejections;

/// How long to wait after a failed `accept`: it means that the process is out of descriptors or
/// memory, and trying at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Those that are turned away and not gone yet; more are closed without a word.
const LEAVING_MAX: usize = 32;
/// How long one that is turned away has to hear of it.
const LEAVING_TIME: Duration = Duration::from_secs(2);
/// A TLS record: a fatal alert, `access_denied`. A client that has just begun its handshake understands
/// it, and it costs nothing to make.
const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// Accepts connections, at most `count_max` at a time, which counts those in the handshake; the
/// others wait in the listener's queue. More than `address_max` from one IP address are turned away.
/// When `cut` is cancelled, all of them end.
pub(crate) fn accept(
    listener: TcpListener,
    count_max: usize,
    address_max: usize,
    turn_away: impl Fn(TcpStream, IpAddr) + Send + Sync + 'static,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(count_max));
    let addresses = Arc::new(Addresses { open: Mutex::default(), address_max });
    let state = (listener, places, addresses, turn_away, cut);
    stream::unfold(state, |(listener, places, addresses, turn_away, cut)| async move {
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        let (stream, address_place) = loop {
            let (stream, address) = accept_one(&listener).await;
            match addresses.enter(address) {
                Some(address_place) => break (stream, address_place),
                None => turn_away(stream, address),
            }
        };
        let cut_off = Box::pin(cut.clone().cancelled_owned());
        let connection =
            Connection { stream, cut_off, _place: place, _address_place: address_place };
        Some((Ok(connection), (listener, places, addresses, turn_away, cut)))
    })
}

/// Turns a connection of TLS away: it is told so in the handshake's own words, counted and logged.
pub(super) fn turn_away(rejections: Rejections) -> impl Fn(TcpStream, IpAddr) + Send + Sync {
    let leaving = Arc::new(Semaphore::new(LEAVING_MAX));
    move |mut stream, address| {
        let why = "the address has as many connections as one may";
        rejections.note_connection(address, "ADDRESS_CONNECTIONS", why);
        let Ok(place) = Arc::clone(&leaving).try_acquire_owned() else { return };
        tokio::spawn(async move {
            let told = async {
                stream.write_all(&ACCESS_DENIED).await?;
                stream.shutdown().await?;
                // What came unread would have the system drop what was said.
                while stream.read(&mut [0; 1024]).await? > 0 {}
                io::Result::Ok(())
            };
            // That the client did not listen is its own affair.
            let _told = timeout(LEAVING_TIME, told).await;
            drop(place);
        });
    }
}

async fn accept_one(listener: &TcpListener) -> (TcpStream, IpAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY was not set");
                }
                return (stream, from.ip().to_canonical());
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Open connections by address.
struct Addresses {
    open: Mutex<HashMap<IpAddr, usize>>,
    address_max: usize,
}

impl Addresses {
    /// A place among the connections of an address, if there is one.
    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<AddressPlace> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count >= self.address_max {
            return None;
        }
        *count += 1;
        Some(AddressPlace { addresses: Arc::clone(self), address })
    }
}

/// Given back when dropped.
struct AddressPlace {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut open = self.addresses.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = open.entry(self.address) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// A client's connection, which gives its places back when it is dropped.
pub(crate) struct Connection {
    stream: TcpStream,
    cut_off: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: OwnedSemaphorePermit,
    _address_place: AddressPlace,
}

impl Connection {
    /// Fails once the connection is cut off; otherwise sees to it that this task is woken then.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut_off.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
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
    use futures::StreamExt as _;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    async fn listener() -> (TcpListener, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        (listener, address)
    }

    #[tokio::test]
    async fn one_address_has_its_share_of_the_connections() {
        let (listener, address) = listener().await;
        let mut incoming = Box::pin(accept(listener, 8, 2, |_, _| (), CancellationToken::new()));
        let mut clients = Vec::new();
        let mut accepted = Vec::new();
        for _ in 0..2 {
            clients.push(TcpStream::connect(address).await.expect("connected"));
            accepted.push(incoming.next().await.expect("accepted").expect("no error"));
        }
        let mut third = TcpStream::connect(address).await.expect("connected");
        // Polled so that the third is met; a fourth waits for the place of the first.
        let polled = tokio::spawn(async move { incoming.next().await });
        let read = timeout(DEADLINE, third.read(&mut [0; 1])).await.expect("closed in time");
        assert!(matches!(read, Ok(0) | Err(_)), "the third is closed");
        accepted.remove(0);
        clients.push(TcpStream::connect(address).await.expect("connected"));
        let fourth = timeout(DEADLINE, polled).await.expect("in time").expect("no panic");
        fourth.expect("accepted").expect("no error");
    }

    #[tokio::test]
    async fn a_cut_ends_a_connection_that_is_waiting() {
        let (listener, address) = listener().await;
        let cut = CancellationToken::new();
        let mut incoming = Box::pin(accept(listener, 8, 8, |_, _| (), cut.clone()));
        let _client = TcpStream::connect(address).await.expect("connected");
        let mut connection = incoming.next().await.expect("accepted").expect("no error");
        let reading = tokio::spawn(async move { connection.read(&mut [0; 1]).await });
        cut.cancel();
        let read = timeout(DEADLINE, reading).await.expect("in time").expect("no panic");
        assert_eq!(read.expect_err("cut off").kind(), io::ErrorKind::ConnectionAborted);
    }
}
