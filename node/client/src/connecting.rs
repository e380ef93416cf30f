//! Making a connection, and saying in words why there is none.
//!
//! With TLS 1.3 a client has finished its handshake before the node has looked at the client's
//! certificate: a refusal comes as an alert with the first read, when a library has long called the
//! connection made. So a connection counts as made when the node's first bytes are here, and an alert
//! before them is put into words.

use std::{
    fmt,
    io::{self, Cursor},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, Chain, Join, ReadHalf, WriteHalf, join, split},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{self, AlertDescription, pki_types::ServerName},
};
use tonic::{
    codegen::{Service, http::Uri},
    transport::Endpoint,
};

use crate::{error::ClientError, no_connection::NoConnection, tls::ClientTls};

/// How long each step of it may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that may come before the connection is handed over: HTTP/2's settings are some fifty.
const FIRST_BYTES_MAX: usize = 4096;
const PORT: u16 = 443;

/// Makes the connections of a client.
#[derive(Clone)]
pub(super) struct Connector {
    tls: TlsConnector,
}

/// The endpoint and how to connect to it. TLS is spoken by the connector: for the channel, the
/// connection is one without.
pub(super) fn endpoint(
    address: &str,
    tls: &ClientTls,
) -> Result<(Endpoint, Connector), ClientError> {
    let wrong = |reason: &dyn fmt::Display| ClientError::Endpoint {
        endpoint: address.to_owned(),
        reason: reason.to_string(),
    };
    let authority = address.strip_prefix("https://").unwrap_or(address);
    let origin: Uri = format!("https://{authority}").parse().map_err(|e| wrong(&e))?;
    let endpoint = Endpoint::from_shared(format!("http://{authority}")).map_err(|e| wrong(&e))?;
    let config = tls.client_config()?;
    let connector = Connector { tls: TlsConnector::from(Arc::new(config)) };
    Ok((endpoint.origin(origin), connector))
}

/// A connection whose first bytes are here.
pub(super) type Made = Join<Chain<Cursor<Vec<u8>>, ReadHalf<Stream>>, WriteHalf<Stream>>;

type Stream = TlsStream<TcpStream>;

impl Service<Uri> for Connector {
    type Response = TokioIo<Made>;
    type Error = NoConnection;
    type Future = BoxFuture<'static, Result<Self::Response, NoConnection>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NoConnection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = self.tls.clone();
        Box::pin(async move { Ok(TokioIo::new(connect(tls, &uri).await?)) })
    }
}

async fn connect(tls: TlsConnector, uri: &Uri) -> Result<Made, NoConnection> {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(PORT);
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| NoConnection(format!("`{host}` is neither a name nor an address")))?;
    let tcp = step("TCP", TcpStream::connect((host, port))).await?;
    // Small messages are not held back for larger packets; where it cannot be set, they are.
    let _set = tcp.set_nodelay(true);
    let mut stream = step("the handshake", tls.connect(name, tcp)).await?;
    let mut first = vec![0; FIRST_BYTES_MAX];
    let here = step("the node's first bytes", stream.read(&mut first)).await?;
    if here == 0 {
        return Err(NoConnection(
            "the node closed the connection without a word: it is perhaps going down, or it is no \
             Customhouse node"
                .to_owned(),
        ));
    }
    first.truncate(here);
    let (read, write) = split(stream);
    Ok(join(Cursor::new(first).chain(read), write))
}

async fn step<T>(what: &str, done: impl Future<Output = io::Result<T>>) -> Result<T, NoConnection> {
    match timeout(STEP_TIMEOUT, done).await {
        Ok(done) => done.map_err(|error| NoConnection(in_words(&error))),
        Err(_) => Err(NoConnection(format!("{what}: nothing within {} s", STEP_TIMEOUT.as_secs()))),
    }
}

/// What went wrong, for people: an alert is what the node says of this client.
fn in_words(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let alert = match tls {
        Some(rustls::Error::AlertReceived(alert)) => alert,
        Some(rustls::Error::InvalidCertificate(why)) => {
            return format!("the node's certificate is not one that this client trusts: {why}");
        }
        _ => return error.to_string(),
    };
    let said = match alert {
        AlertDescription::CertificateRequired => "it asks for a client certificate",
        AlertDescription::UnknownCA => {
            "it refuses this client's certificate: it is not of the authority that the node trusts, \
             which is its own agency's"
        }
        AlertDescription::CertificateExpired => {
            "it refuses this client's certificate: it has expired, or is not valid yet"
        }
        AlertDescription::CertificateRevoked => {
            "it refuses this client's certificate: it was revoked"
        }
        AlertDescription::UnsupportedCertificate => {
            "it refuses this client's certificate: it is not for clients"
        }
        AlertDescription::DecryptError => {
            "it refuses this client's certificate: it is not signed by the authority that the node \
             trusts, which is its own agency's"
        }
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            "it refuses this client's certificate"
        }
        _ => return format!("the node ended the handshake: {error}"),
    };
    format!("the node said why: {said}")
}
