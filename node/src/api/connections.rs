//! Connections from clients: how many there may be, whose they are, and their end at a shutdown.
//!
//! A connection begins as a stranger's: anyone can open one, and say nothing on it. There is room for a
//! few of these, and the next takes the place of one that has been there: of the network (an IPv4 /24, an
//! IPv6 /48) that has most, of its address that has most, of that the oldest. So who opens thousands
//! closes their own, and who comes and shows a certificate within a moment gets through. Over TLS a
//! connection is known from the end of the handshake on. Known ones stay; a new one that is above the
//! share of its address, of its network or of all is closed. Plain HTTP knows nobody: there each
//! connection is a stranger's.
//!
//! All places of a listener are part of the process's budget of descriptors ([`crate::descriptors`]),
//! which counts a connection until it is closed.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpListener,
    net::TcpStream,
    sync::{Notify, Semaphore},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::rejections::Rejections;
use crate::{health::Responder, metrics::Metrics};

/// How long to wait after a failed `accept`: it means that the process is out of descriptors or
/// memory, and trying at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Failed `accept`s are told of this often at the most.
const ACCEPT_TOLD_EVERY: Duration = Duration::from_secs(10);
/// Connections that were told to close and are not closed yet. No more are accepted meanwhile.
pub(crate) const CLOSING_MAX: usize = 32;
/// Those that are turned away and not gone yet; more are closed without a word.
const LEAVING_MAX: usize = 32;
/// How long one that is turned away has to hear of it.
const LEAVING_TIME: Duration = Duration::from_secs(2);
/// A TLS record: a fatal alert, `access_denied`. A client that has just begun its handshake understands
/// it, and it costs nothing to make.
const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];
/// The surface that metrics count closed connections under.
const SURFACE: &str = "connections";

/// What the clients of a listener may have of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Connections of strangers.
    pub(crate) strangers_max: usize,
    /// Known connections, of all clients.
    pub(crate) known_max: usize,
    /// Of one address: for IPv6 a /64, which one machine has.
    pub(crate) address_max: usize,
    /// Of one network: an IPv4 /24, an IPv6 /48.
    pub(crate) network_max: usize,
}

impl Shares {
    /// For so many strangers, and nobody known.
    pub(crate) fn of_strangers(strangers_max: usize) -> Self {
        let all = usize::MAX;
        Self { strangers_max, known_max: 0, address_max: all, network_max: all }
    }

    /// For so many strangers and known connections, of which one network has half and one address a
    /// quarter at the most.
    pub(crate) fn of_known(strangers_max: usize, known_max: usize) -> Self {
        let share = |parts: usize| (known_max / parts).max(1);
        Self { strangers_max, known_max, address_max: share(4), network_max: share(2) }
    }
}

/// Accepts connections as their shares allow. When `cut` is cancelled, all of them end. Whoever polls the
/// stream answers through `responder`. Who comes from an address with its full share of known ones is turned
/// away at once.
pub(crate) fn accept(
    (listener, responder): (TcpListener, Responder),
    shares: Shares,
    metrics: Metrics,
    turn_away: impl Fn(TcpStream, IpAddr) + Send + Sync + 'static,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Places { shares, metrics, open: Mutex::default(), freed: Notify::new() });
    let state = (Door { listener, responder, told: None }, places, turn_away, cut);
    stream::unfold(state, |(mut door, places, turn_away, cut)| async move {
        loop {
            tokio::select! {
                () = door.responder.answer() => {}
                () = places.room() => break,
            }
        }
        let (stream, address) = loop {
            let (stream, address) = door.accept_one().await;
            if !places.share_is_used_up(address) {
                break (stream, address);
            }
            turn_away(stream, address);
        };
        let place = places.enter(address, cut.child_token());
        let cut_off = Box::pin(place.cut.clone().cancelled_owned());
        Some((Ok(Connection { stream, cut_off, place }), (door, places, turn_away, cut)))
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

/// The places of a listener.
struct Places {
    shares: Shares,
    metrics: Metrics,
    open: Mutex<Open>,
    /// A connection was closed.
    freed: Notify,
}

/// Open connections.
#[derive(Default)]
struct Open {
    /// All, those that are closing included.
    count: usize,
    /// By number, the oldest first.
    strangers: BTreeMap<u64, Stranger>,
    next: u64,
    known: usize,
    /// Known ones by address and by network.
    addresses: HashMap<IpAddr, usize>,
    networks: HashMap<IpAddr, usize>,
}

struct Stranger {
    address: IpAddr,
    cut: CancellationToken,
}

impl Places {
    /// Waits while too many connections are closing.
    async fn room(&self) {
        let Shares { strangers_max, known_max, .. } = self.shares;
        loop {
            let freed = self.freed.notified();
            if self.lock().count < strangers_max + known_max + CLOSING_MAX {
                return;
            }
            freed.await;
        }
    }

    /// Whether an address has as many known connections as one may.
    fn share_is_used_up(&self, from: IpAddr) -> bool {
        let known = self.lock().addresses.get(&address_of(from)).copied().unwrap_or_default();
        known >= self.shares.address_max
    }

    /// A stranger's place. Where all are taken, another stranger's connection is closed for it.
    fn enter(self: &Arc<Self>, from: IpAddr, cut: CancellationToken) -> Place {
        let address = address_of(from);
        let mut open = self.lock();
        if open.strangers.len() >= self.shares.strangers_max
            && let Some(stranger) = open.in_the_way()
        {
            stranger.cut.cancel();
            self.metrics.rejected(SURFACE, "STRANGERS");
        }
        let number = open.next;
        open.next += 1;
        open.count += 1;
        open.strangers.insert(number, Stranger { address, cut: cut.clone() });
        Place { places: Arc::clone(self), number, address, cut, known: false.into() }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Takes out the stranger whose place the next one gets.
    fn in_the_way(&mut self) -> Option<Stranger> {
        let mut networks: HashMap<IpAddr, usize> = HashMap::new();
        let mut addresses: HashMap<IpAddr, usize> = HashMap::new();
        for stranger in self.strangers.values() {
            *networks.entry(network_of(stranger.address)).or_default() += 1;
            *addresses.entry(stranger.address).or_default() += 1;
        }
        let held = |address: &IpAddr| (networks.get(&network_of(*address)), addresses.get(address));
        // Of equals the first is the oldest: `max_by_key` gives the last, so they come in reverse.
        let newest_first = self.strangers.iter().rev();
        let (number, _) = newest_first.max_by_key(|(_, stranger)| held(&stranger.address))?;
        let number = *number;
        self.strangers.remove(&number)
    }

    /// Makes a stranger known, or says whose share is used up.
    fn make_known(&mut self, place: &Place, shares: &Shares) -> Result<(), &'static str> {
        let network = network_of(place.address);
        let held = |of: &HashMap<IpAddr, usize>, key| of.get(key).copied().unwrap_or_default();
        for (full, reason) in [
            (held(&self.addresses, &place.address) >= shares.address_max, "ADDRESS_SHARE"),
            (held(&self.networks, &network) >= shares.network_max, "NETWORK_SHARE"),
            (self.known >= shares.known_max, "ALL_TAKEN"),
        ] {
            if full {
                return Err(reason);
            }
        }
        self.strangers.remove(&place.number);
        self.known += 1;
        *self.addresses.entry(place.address).or_default() += 1;
        *self.networks.entry(network).or_default() += 1;
        Ok(())
    }

    fn forget_known(&mut self, address: IpAddr) {
        self.known -= 1;
        let network = network_of(address);
        for (of, key) in [(&mut self.addresses, address), (&mut self.networks, network)] {
            if let Some(count) = of.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    of.remove(&key);
                }
            }
        }
    }
}

/// What one machine has of the address space.
fn address_of(ip: IpAddr) -> IpAddr {
    masked(ip, 32, 64)
}

/// What one network has of it.
fn network_of(ip: IpAddr) -> IpAddr {
    masked(ip, 24, 48)
}

fn masked(ip: IpAddr, v4_bits: u32, v6_bits: u32) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - v4_bits).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - v6_bits).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

/// A connection's place, given back when dropped.
struct Place {
    places: Arc<Places>,
    number: u64,
    address: IpAddr,
    /// Ends this connection.
    cut: CancellationToken,
    known: AtomicBool,
}

impl Place {
    /// See [`Connection::become_known`].
    fn become_known(&self) {
        let mut open = self.places.lock();
        if self.known.load(Ordering::Relaxed) || self.cut.is_cancelled() {
            return;
        }
        match open.make_known(self, &self.places.shares) {
            Ok(()) => self.known.store(true, Ordering::Relaxed),
            Err(reason) => {
                self.places.metrics.rejected(SURFACE, reason);
                let address = self.address;
                tracing::info!(%address, reason, "a client's connection was closed");
                self.cut.cancel();
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.lock();
        match self.known.load(Ordering::Relaxed) {
            true => open.forget_known(self.address),
            false => _ = open.strangers.remove(&self.number),
        }
        open.count -= 1;
        drop(open);
        self.places.freed.notify_one();
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
    /// The client has shown who it is. Closes the connection where its share is used up.
    pub(super) fn become_known(&self) {
        self.place.become_known();
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
    use futures::StreamExt as _;
    use tokio::net::TcpSocket;

    use super::*;
    use crate::health::probe;

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
            let incoming = accept((listener, probe().1), shares, metrics, |_, _| (), cut.clone());
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
        known.become_known();
        let mut strangers = Vec::new();
        for _ in 0..CLOSING_MAX {
            strangers.push(listening.connect([0, 0, 3]).await);
        }
        assert!(!is_cut(&mut known).await);
        let (_client, mut newcomer) = listening.connect([0, 0, 2]).await;
        newcomer.become_known();
        assert!(!is_cut(&mut newcomer).await, "strangers hold no place of those who are known");
    }

    #[tokio::test]
    async fn an_address_and_a_network_have_their_shares_of_those_who_are_known() {
        // One of an address, two of a network.
        let mut listening = Listening::with(Shares::of_known(8, 4)).await;
        let mut held = Vec::new();
        for (from, cut) in [
            ([0, 0, 1], false),
            ([0, 0, 2], false),
            ([0, 0, 3], true),
            ([0, 1, 1], false),
            ([0, 2, 1], false),
            ([0, 3, 1], true),
        ] {
            let (client, mut connection) = listening.connect(from).await;
            connection.become_known();
            assert_eq!(is_cut(&mut connection).await, cut, "{from:?}");
            held.push((client, connection));
        }
        // A place that is given back is there for the next.
        held.remove(0);
        let (_client, mut connection) = listening.connect([0, 0, 1]).await;
        connection.become_known();
        assert!(!is_cut(&mut connection).await);
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
        let incoming = accept((listener, responder), shares, Metrics::new(|_| ()), |_, _| (), cut);
        let accepting = tokio::spawn(async move { Box::pin(incoming).next().await });
        assert!(timeout(DEADLINE, probe.clone().answered()).await.expect("in time"));
        accepting.abort();
        assert!(!timeout(DEADLINE, probe.answered()).await.expect("in time"), "it is gone");
    }

    #[test]
    fn machines_and_networks_are_told_apart_by_their_prefixes() {
        for (ip, address, network) in [
            ("192.0.2.77", "192.0.2.77", "192.0.2.0"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::", "2001:db8:1::"),
        ] {
            let parsed = |text: &str| text.parse::<IpAddr>().expect("an address");
            assert_eq!(address_of(parsed(ip)), parsed(address));
            assert_eq!(network_of(parsed(ip)), parsed(network));
        }
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
