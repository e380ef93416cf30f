//! HTTP/1.1 for whoever reaches the port: axum's own server has no limit on connections, on a request's
//! head, on the time it takes or on how long a connection lasts.

use std::{pin::pin, time::Duration};

use axum::Router;
use futures::StreamExt as _;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    health::Responder,
    metrics::Metrics,
    serve::connections::{self, Connection, Shares},
};

/// What a client may have of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HttpLimits {
    /// Connections at a time. The next takes the place of one of whoever has most.
    pub(crate) connections_max: usize,
    /// Bytes of a request's head: a path and what a browser adds.
    pub(crate) head_bytes_max: usize,
    /// How long a head may take, and how long a connection may say nothing between two requests.
    pub(crate) head_timeout: Duration,
    /// After this a connection takes no more requests; nor does a client that does not read its answers
    /// hold one for longer.
    pub(crate) age_max: Duration,
}

impl HttpLimits {
    /// For `connections_max` connections at a time.
    pub(crate) fn of_connections(connections_max: usize) -> Self {
        Self {
            connections_max,
            head_bytes_max: 16 * 1024,
            head_timeout: Duration::from_secs(15),
            age_max: Duration::from_secs(120),
        }
    }
}

/// How long the request under way may take when a connection is to end.
const DRAIN: Duration = Duration::from_secs(3);

/// Serves until shutdown; what is under way then has a time to end.
pub(crate) async fn serve(
    (listener, responder): (TcpListener, Responder),
    router: Router,
    limits: HttpLimits,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    // Each conversation ends by itself: nothing is cut.
    let cut = CancellationToken::new();
    let shares = Shares::of_strangers(limits.connections_max);
    let incoming = connections::accept((listener, responder), shares, metrics, cut);
    let mut incoming = pin!(incoming);
    let conversations = TaskTracker::new();
    loop {
        let connection = tokio::select! {
            () = shutdown.cancelled() => break,
            connection = incoming.next() => connection,
        };
        // The listener's errors are waited out by `accept`.
        let Some(Ok(connection)) = connection else { break };
        conversations.spawn(converse(connection, router.clone(), limits, shutdown.clone()));
    }
    conversations.close();
    conversations.wait().await;
}

/// Answers one connection's requests.
async fn converse(
    connection: Connection,
    router: Router,
    limits: HttpLimits,
    shutdown: CancellationToken,
) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes_max)
        .serve_connection(TokioIo::new(connection), TowerToHyperService::new(router));
    let mut served = pin!(served);
    // Ends early where the node does, or where the connection is old.
    let time = timeout(limits.age_max, shutdown.cancelled());
    let outcome = tokio::select! {
        outcome = served.as_mut() => outcome,
        _ = time => {
            served.as_mut().graceful_shutdown();
            timeout(DRAIN, served).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        // A client's fault, and of no interest to whoever runs the node.
        tracing::debug!(%error, "a connection ended");
    }
}

#[cfg(test)]
mod tests;
