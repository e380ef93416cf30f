//! The server: a task a connection, from the handshake to the last answer.
//!
//! It is made of hyper's and rustls's parts rather than tonic's server, which has no limit on what HTTP/2
//! holds of an answer, says nothing of a handshake that fails, and lets a client that does not read its
//! answers keep them for ever.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{Router, body::Body, http::Request};
use customhouse_ledger::agency::AgencyCode;
use futures::{Stream, StreamExt as _};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, Join, ReadBuf, ReadHalf, WriteHalf, join, split},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, rustls, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{codegen::Service as _, transport::server::Connected as _};

use super::{
    Patience,
    gate::Caller,
    sending::{PIECE_BYTES, Unsent},
};
use crate::serve::{
    connections::{Connection, TooMany},
    quotas::{ConnectionPlace, Quotas, Share},
    rejections::Rejections,
};
use crate::{
    identity::{ClientIdentity, Role},
    tls::{IdentityError, identity_of},
};

/// Calls of one connection at a time; a client that has more waits by itself.
const STREAMS_MAX: u32 = 64;
/// Streams that a client opened and reset at once before the connection is closed (the "rapid
/// reset" attack).
const PENDING_RESETS_MAX: usize = 32;
const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// What a client may send ahead of being read: in one stream, and in all of a connection. HTTP/2 closes a
/// connection on which so many small pieces wait that they cost half a window beside their bytes: a stream
/// of small records that is held back stays below that.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// What HTTP/2 holds of an answer beside the piece that it was handed last.
const SEND_BUFFER_BYTES: usize = 2 * PIECE_BYTES;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// After this a connection takes no new calls, so that clients spread again; those under way go on
/// for a while.
const AGE_MAX: Duration = Duration::from_secs(60 * 60);
const AGE_GRACE: Duration = Duration::from_secs(10 * 60);
/// How long a connection on which nothing is served has to hear why: it must not take the place of another.
const REFUSED_TIME: Duration = Duration::from_secs(3);
/// The client's first words: `PRI * HTTP/2.0…`.
const HTTP2_PREFACE_BYTES: usize = 24;
/// How often to look whether a client reads what it asked for.
const LOOK: Duration = Duration::from_secs(2);

/// What all connections of the server share.
pub(super) struct Server {
    /// Whose clients it serves.
    pub(super) agency: AgencyCode,
    pub(super) tls: Arc<rustls::ServerConfig>,
    pub(super) router: Router,
    pub(super) quotas: Quotas,
    pub(super) rejections: Rejections,
    pub(super) patience: Patience,
    /// No more calls are taken, and those under way come to their end.
    pub(super) shutdown: CancellationToken,
    /// Nothing goes on.
    pub(super) cut: CancellationToken,
}

/// Serves connections until the shutdown, and then until all of them have ended.
pub(super) async fn serve<E>(server: Server, incoming: impl Stream<Item = Result<Connection, E>>) {
    let server = Arc::new(server);
    let connections = TaskTracker::new();
    {
        // Dropped before the connections are waited for, so that nobody is let in any more.
        let mut incoming = pin!(incoming);
        loop {
            let connection = tokio::select! {
                () = server.shutdown.cancelled() => break,
                connection = incoming.next() => connection,
            };
            // The listener's errors are waited out by `accept`.
            let Some(Ok(connection)) = connection else { break };
            connections.spawn(Arc::clone(&server).converse(connection));
        }
    }
    connections.close();
    connections.wait().await;
}

impl Server {
    /// Answers one connection's calls.
    async fn converse(self: Arc<Self>, connection: Connection) {
        let address = connection.connect_info().remote_addr().map(|address| address.ip());
        let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)).to_canonical();
        let began = Instant::now();
        let handshake_time = self.patience.handshake;
        let handshake = TlsAcceptor::from(Arc::clone(&self.tls)).accept(connection);
        let stream = match timeout(handshake_time, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let reason_code = reason_code_of(&error);
                return self.rejections.note_connection(address, reason_code, &error.to_string());
            }
            Err(_) => return self.note_silence("no handshake", address),
        };
        let (caller, _place) = self.caller(&stream, address);
        let greeted = CancellationToken::new();
        let (stream, write) = split(stream);
        let read = Greeting { stream, to_come: HTTP2_PREFACE_BYTES, greeted: greeted.clone() };
        let stream = join(read, write);
        let silence = async {
            let left = handshake_time.saturating_sub(began.elapsed());
            if timeout(left, greeted.cancelled()).await.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = self.answer(stream, Arc::new(caller), address) => {}
            () = silence => self.note_silence("no word of HTTP/2", address),
        }
    }

    fn note_silence(&self, what: &str, address: IpAddr) {
        let why = format!("{what} within {} s", self.patience.handshake.as_secs_f32());
        self.rejections.note_connection(address, "HANDSHAKE_TIMEOUT", &why);
    }

    /// Who called, and its place among the client's connections.
    fn caller(
        &self,
        stream: &TlsStream<Connection>,
        address: IpAddr,
    ) -> (Caller, Option<ConnectionPlace>) {
        let certificates = stream.get_ref().1.peer_certificates();
        let certificate = certificates.and_then(|chain| chain.first());
        let client = match certificate {
            Some(certificate) => identity_of(certificate, self.agency),
            None => Err(IdentityError::Missing),
        };
        let client = match client {
            Ok(client) => {
                let share = self.quotas.share(&client);
                Ok((client, share))
            }
            // Each call is told.
            Err(error) => Err(error.into()),
        };
        let (place, too_many) = match &client {
            Ok((client, share)) => self.place(client, share, stream.get_ref().0, address),
            Err(_) => (None, None),
        };
        (Caller { client, too_many, unsent: Unsent::default() }, place)
    }

    /// A client's place for a connection, or the share that it is above. One without a place stays a
    /// stranger's: however many there are, they take none from those who have theirs.
    fn place(
        &self,
        client: &ClientIdentity,
        share: &Share,
        connection: &Connection,
        address: IpAddr,
    ) -> (Option<ConnectionPlace>, Option<TooMany>) {
        let placed = share.connection().ok_or(TooMany::Client).and_then(|place| {
            connection.become_known(client.role == Role::Operator)?;
            Ok(place)
        });
        match placed {
            Ok(place) => (Some(place), None),
            Err(too_many) => {
                let why = format!("`{}`: too many {}", client.name, too_many.of_what());
                self.rejections.note_connection(address, too_many.reason_code(), &why);
                (None, Some(too_many))
            }
        }
    }

    async fn answer(
        &self,
        stream: Join<Greeting, WriteHalf<TlsStream<Connection>>>,
        caller: Arc<Caller>,
        address: IpAddr,
    ) {
        let (router, of_calls) = (self.router.clone(), Arc::clone(&caller));
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Arc::clone(&of_calls));
            router.clone().call(request.map(Body::new))
        });
        let connection = http2_server().serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let is_served = caller.client.is_ok() && caller.too_many.is_none();
        let age_max = if is_served { AGE_MAX } else { REFUSED_TIME };
        let grace = age_max.min(AGE_GRACE);
        let mut ending = pin!(self.ending(age_max));
        let mut is_ending = false;
        let mut end: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(std::future::pending());
        loop {
            tokio::select! {
                // What a client does to its connection is of no interest to whoever runs the node.
                _ended = connection.as_mut() => return,
                () = self.cut.cancelled() => return,
                () = end.as_mut() => return,
                () = ending.as_mut(), if !is_ending => {
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                    end = Box::pin(sleep(grace));
                }
                _ = look.tick() => {
                    if caller.unsent.is_overdue(Instant::now(), self.patience.piece) {
                        let name = caller.client.as_ref().map_or("", |(client, _)| &client.name);
                        let why = format!("`{name}` does not read its answers");
                        return self.rejections.note_connection(address, "UNREAD", &why);
                    }
                }
            }
        }
    }

    /// When a connection is to take no more calls.
    async fn ending(&self, age_max: Duration) {
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = sleep(age_max) => {}
        }
    }
}

/// Tells when the client's first words of HTTP/2 are here, whatever they are: until they are, HTTP/2 waits
/// for them without an end.
struct Greeting {
    stream: ReadHalf<TlsStream<Connection>>,
    to_come: usize,
    greeted: CancellationToken,
}

impl AsyncRead for Greeting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.to_come > 0 {
            self.to_come = self.to_come.saturating_sub(buffer.filled().len() - before);
            if self.to_come == 0 {
                self.greeted.cancel();
            }
        }
        read
    }
}

fn http2_server() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
}

/// Why a handshake failed: for the client's certificate, or otherwise.
fn reason_code_of(error: &io::Error) -> &'static str {
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            "CERTIFICATE"
        }
        _ => "HANDSHAKE",
    }
}
