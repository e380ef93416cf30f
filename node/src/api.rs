//! What an agency's clients see: gRPC over mutual TLS (DESIGN §7).
//!
//! | module | subject |
//! |---|---|
//! | `gate`, `access`, `quotas` | what every call passes: identity, the role table, what one client may hold |
//! | `submission`, `query`, `audit`, `admin` | one file a service |
//! | `streams`, `intake`, `answers` | streams with back-pressure; what a chunk of submissions goes through |
//! | [`refused`], `details` | the one table from reasons to gRPC codes |
//! | [`rejections`] | counting and logging what was refused |
//! | `connections` | accepting a limited number, and cutting them off after a shutdown |
//!
//! A call goes `connections::accept` → the handshake → `gate::admit` → the service. Nothing is
//! decoded before the gate has let the call in, and no message over its limit is decoded at all.

use std::{sync::Arc, time::Duration};

use axum::middleware;
use customhouse_proto::v1::{
    admin_server::AdminServer, audit_server::AuditServer, query_server::QueryServer,
    submission_server::SubmissionServer,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{node::Shared, tls::ServerTls};

mod access;
mod admin;
mod answers;
mod audit;
pub(crate) mod connections;
mod details;
mod gate;
mod intake;
mod query;
mod quotas;
mod reads;
pub mod refused;
pub mod rejections;
mod streams;
mod submission;
#[cfg(test)]
mod tests;

pub(crate) use reads::read;
pub use rejections::Rejections;

/// Bytes of a request message at the most: a transaction of 1 MiB, or some thousand records.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of any other request: ids, keys and numbers.
const SMALL_REQUEST_BYTES_MAX: usize = 16 * 1024;
/// Bytes of an answer at the most: a history proof of a bucket with a million entries.
pub const RESPONSE_BYTES_MAX: usize = 64 * 1024 * 1024;

const CONNECTIONS_MAX: usize = 1024;
/// Of one IP address, so that one machine cannot keep the others out.
const ADDRESS_CONNECTIONS_MAX: usize = 256;
const STREAMS_PER_CONNECTION_MAX: u32 = 256;
/// Streams that a client opened and reset at once before the connection is closed (the "rapid
/// reset" attack).
const PENDING_RESETS_MAX: usize = 32;
const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// What a client may send ahead of being read: in one stream, and in all of a connection.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// After this a connection takes no new calls, so that clients spread again; those under way go on.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60 * 60);

/// What the API is told at its start.
pub struct ApiConfig {
    /// The node's certificate, and whose clients it serves.
    pub tls: ServerTls,
    /// Calls that are worked on at a time, of all clients; a stream counts until it has begun.
    pub calls_max: usize,
    /// How long calls under way may take to end after a shutdown has begun.
    pub drain: Duration,
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The certificate, the key or the authority's certificate.
    #[error("TLS of the API: {0}")]
    Tls(#[source] tonic::transport::Error),
    /// The services' descriptors, which are compiled in.
    #[error("reflection of the API: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The server.
    #[error("the API: {0}")]
    Server(#[source] tonic::transport::Error),
}

/// Serves until `shutdown` is cancelled: then health says NOT_SERVING, no more connections or calls
/// are taken, and what is under way has a time to end before it is cut off.
///
/// # Errors
/// [`ServeError`], before the first connection.
pub async fn serve(
    listener: TcpListener,
    node: Arc<Shared>,
    config: ApiConfig,
    rejections: Rejections,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let mut server = limited_server().tls_config(config.tls.config()).map_err(ServeError::Tls)?;
    let health = HealthReporter::new();
    let gate = gate::Gate::new(node.agency, config.calls_max, rejections.clone(), shutdown.clone());
    let routes = routes(node, &health, rejections, &shutdown).await?;
    let routes = gated(routes, gate);
    let cut = CancellationToken::new();
    let incoming =
        connections::accept(listener, CONNECTIONS_MAX, ADDRESS_CONNECTIONS_MAX, cut.clone());
    let stop = shutdown.clone();
    let serving = server.add_routes(routes).serve_with_incoming_shutdown(incoming, async move {
        stop.cancelled().await;
        set_health(&health, ServingStatus::NotServing).await;
    });
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(config.drain).await;
    };
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        served = &mut serving => return served.map_err(ServeError::Server),
        () = overdue => tracing::warn!("calls still under way are cut off"),
    }
    cut.cancel();
    serving.await.map_err(ServeError::Server)
}

fn limited_server() -> Server {
    Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_connection_age(CONNECTION_AGE_MAX)
}

async fn routes(
    node: Arc<Shared>,
    health: &HealthReporter,
    rejections: Rejections,
    shutdown: &CancellationToken,
) -> Result<Routes, ServeError> {
    let submission = submission::SubmissionService {
        node: Arc::clone(&node),
        rejections,
        shutdown: shutdown.clone(),
    };
    let query = query::QueryService { node: Arc::clone(&node) };
    let audit = audit::AuditService::new(Arc::clone(&node));
    let admin = admin::AdminService { node };
    set_health(health, ServingStatus::Serving).await;
    let health = tonic_health::server::HealthService::from_health_reporter(health.clone());
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(customhouse_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(Routes::default()
        .add_service(SubmissionServer::new(submission).max_decoding_message_size(REQUEST_BYTES_MAX))
        .add_service(QueryServer::new(query).max_decoding_message_size(SMALL_REQUEST_BYTES_MAX))
        .add_service(AuditServer::new(audit).max_decoding_message_size(SMALL_REQUEST_BYTES_MAX))
        .add_service(AdminServer::new(admin).max_decoding_message_size(SMALL_REQUEST_BYTES_MAX))
        .add_service(tonic_health::pb::health_server::HealthServer::new(health))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?))
}

/// Puts the gate before all services.
fn gated(routes: Routes, gate: gate::Gate) -> Routes {
    let layer = middleware::from_fn_with_state(Arc::new(gate), gate::admit);
    Routes::from(routes.into_axum_router().layer(layer)).prepare()
}

/// Health is of the whole and of each service: they stand and fall together.
async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in ["", "Submission", "Query", "Audit", "Admin"] {
        let name = match service {
            "" => String::new(),
            service => format!("customhouse.v1.{service}"),
        };
        health.set_service_status(name, status).await;
    }
}
