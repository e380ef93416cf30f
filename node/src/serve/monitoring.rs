//! Metrics and health over plain HTTP, for the operator's own network.

use std::sync::Arc;

use axum::{Router, extract::State, http::StatusCode, http::header, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    health::Responder,
    serve::http::{self, HttpLimits},
    services::Services,
};

/// Serves `/metrics` (Prometheus text) and `/health` until shutdown, to a limited number of connections at a
/// time.
pub async fn serve(
    listening: (TcpListener, Responder),
    connections_max: usize,
    shared: Arc<Services>,
    shutdown: CancellationToken,
) {
    let metrics = shared.metrics.clone();
    let router = Router::new()
        .route("/metrics", get(encoded))
        .route("/health", get(health))
        .with_state(shared);
    let limits = HttpLimits::of_connections(connections_max);
    http::serve(listening, router, limits, metrics, shutdown).await;
}

async fn encoded(State(shared): State<Arc<Services>>) -> impl axum::response::IntoResponse {
    const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, TEXT)], shared.metrics.encode())
}

/// 200 while the node follows the network and its loops answer; 503 while it catches up, stands alone,
/// has a loop that does not answer (which is named), or has a wrong clock.
async fn health(State(shared): State<Arc<Services>>) -> (StatusCode, String) {
    let status = shared.status.borrow().clone();
    let tip = shared.reader.tip();
    let peers = shared.network.connected().borrow().len();
    let alone = peers == 0 && tip.validators.count() > 1;
    let stalled = shared.health.stalled().borrow().clone();
    let clock = *shared.clock.borrow();
    let healthy = !status.catching_up && !alone && stalled.is_empty() && !clock.wrong;
    let code = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let height = tip.header.height;
    let catching_up = status.catching_up;
    let signing = status.signing;
    let mut text =
        format!("height {height}\npeers {peers}\ncatching_up {catching_up}\nsigning {signing}\n");
    if let Some(ahead_ms) = clock.ahead_ms {
        let verdict = if clock.wrong { " WRONG" } else { "" };
        text.push_str(&format!("clock_ahead_ms {ahead_ms}{verdict}\n"));
    }
    for name in stalled {
        text.push_str(&format!("stalled {name}\n"));
    }
    (code, text)
}
