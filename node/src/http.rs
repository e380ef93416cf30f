//! Metrics and health over plain HTTP, for the operator's own network.

use std::sync::Arc;

use axum::{Router, extract::State, http::StatusCode, http::header, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::node::Shared;

/// Serves `/metrics` (Prometheus text) and `/health` until shutdown.
///
/// # Errors
/// What the system says of the listener.
pub async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .with_state(shared);
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl axum::response::IntoResponse {
    const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, TEXT)], shared.metrics.encode())
}

/// 200 while the node follows the network, 503 while it catches up or stands alone.
async fn health(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    let status = shared.status.borrow().clone();
    let tip = shared.reader.tip();
    let peers = shared.network.connected().borrow().len();
    let alone = peers == 0 && tip.validators.count() > 1;
    let healthy = !status.catching_up && !alone;
    let code = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let height = tip.header.height;
    let catching_up = status.catching_up;
    let signing = status.signing;
    let text =
        format!("height {height}\npeers {peers}\ncatching_up {catching_up}\nsigning {signing}\n");
    (code, text)
}
