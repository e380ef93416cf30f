//! The server: a task a connection, from the handshake to the last answer.
//!
//! It is made of hyper's and rustls's parts rather than tonic's server, which has no limit on what HTTP/2
//! holds of an answer, says nothing of a handshake that fails, and lets a client that does not read its
//! answers keep them for ever.

use std::{
    net::{IpAddr, Ipv4Addr},
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, body::Body, http::Request};
use customhouse_ledger::agency::AgencyCode;
use futures::{Stream, StreamExt as _};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::{TlsAcceptor, rustls, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{codegen::Service as _, transport::server::Connected as _};

use super::{
    connections::Connection,
    gate::Caller,
    quotas::{ConnectionPlace, Quotas},
    rejections::Rejections,
    sending::{PIECE_BYTES, Unsent},
};
use crate::tls::{IdentityError, identity_of};

/// A handshake that takes longer is given up, so that a silent client holds nothing.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
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
/// What a connection too many has to hear that it is one: it is not to take the place of another's.
const TOO_MANY_TIME: Duration = Duration::from_secs(3);
/// How often it is looked whether a client reads what it asked for.
const LOOK: Duration = Duration::from_secs(2);

/// What all connections of the server share.
pub(super) struct Server {
    /// Whose clients it serves.
    pub(super) agency: AgencyCode,
    pub(super) tls: Arc<rustls::ServerConfig>,
    pub(super) router: Router,
    pub(super) quotas: Quotas,
    pub(super) rejections: Rejections,
    /// How long a client may take with a piece of an answer.
    pub(super) piece_time: Duration,
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
        let handshake = TlsAcceptor::from(Arc::clone(&self.tls)).accept(connection);
        let stream = match timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let reason_code = reason_code_of(&error);
                return self.rejections.note_connection(address, reason_code, &error.to_string());
            }
            Err(_) => {
                let why = format!("no handshake within {} s", HANDSHAKE_TIMEOUT.as_secs());
                return self.rejections.note_connection(address, "HANDSHAKE_TIMEOUT", &why);
            }
        };
        stream.get_ref().0.become_known();
        let (caller, _place) = self.caller(&stream, address);
        self.answer(stream, Arc::new(caller), address).await;
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
        let place = client.as_ref().ok().and_then(|(_, share)| share.connection());
        let is_one_too_many = client.is_ok() && place.is_none();
        if let (Ok((client, _)), true) = (&client, is_one_too_many) {
            let why = format!("`{}` has as many connections as a client may", client.name);
            self.rejections.note_connection(address, "CLIENT_CONNECTIONS", &why);
        }
        (Caller { client, is_one_too_many, unsent: Unsent::default() }, place)
    }

    async fn answer(&self, stream: TlsStream<Connection>, caller: Arc<Caller>, address: IpAddr) {
        let (router, of_calls) = (self.router.clone(), Arc::clone(&caller));
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Arc::clone(&of_calls));
            router.clone().call(request.map(Body::new))
        });
        let connection = http2_server().serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let age_max = if caller.is_one_too_many { TOO_MANY_TIME } else { AGE_MAX };
        let grace = age_max.min(AGE_GRACE);
        let mut ending = pin!(self.ending(age_max));
        let mut is_ending = false;
        let mut end: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(std::future::pending());
        loop {
            tokio::select! {
                // What a client does to its connection is of no interest to who runs the node.
                _ended = connection.as_mut() => return,
                () = self.cut.cancelled() => return,
                () = end.as_mut() => return,
                () = ending.as_mut(), if !is_ending => {
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                    end = Box::pin(sleep(grace));
                }
                _ = look.tick() => {
                    if caller.unsent.is_overdue(Instant::now(), self.piece_time) {
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
fn reason_code_of(error: &std::io::Error) -> &'static str {
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            "CERTIFICATE"
        }
        _ => "HANDSHAKE",
    }
}
