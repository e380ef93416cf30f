//! What an agency's clients see: gRPC over mutual TLS.
//!
//! | module | subject |
//! |---|---|
//! | `serving` | a connection: its handshake, its calls, and its end |
//! | `gate`, `access` | what every call passes: the role table |
//! | `receiving`, `sending` | bodies of requests and answers, within a time and within a client's share |
//! | `submission`, `attachments`, `import`, `query`, `audit`, `admin`, `agreements` | one file a service |
//! | `large` | records and transactions too large for one answer |
//! | `listing`, `receipts` | lists and feeds of records; receipts of many |
//! | `pace` | requests of many messages, which must not come too slowly |
//! | `streams`, `intake`, `answers` | streams with back-pressure; what a chunk of submissions goes through |
//!
//! A call goes `connections::accept` → `serving` → `gate::admit` → the service. Nothing is
//! decoded before the gate has let the call in, and no message over its limit is decoded at all.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::{Router, middleware};
use customhouse_client::{
    contract::{CHUNK_BYTES_MAX, REQUEST_BYTES_MAX},
    tls::TlsError,
};
use customhouse_proto::v1::{
    admin_server::AdminServer, agreements_server::AgreementsServer,
    attachments_server::AttachmentsServer, audit_server::AuditServer, import_server::ImportServer,
    query_server::QueryServer, submission_server::SubmissionServer,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{codec::CompressionEncoding, service::Routes};
use tonic_health::{ServingStatus, pb::health_server::HealthServer, server::HealthReporter};

use crate::{
    health::{LOOPS, Responder, Stalled},
    serve::{
        connections::{self, Shares},
        quotas,
        rejections::Rejections,
    },
    services::Services,
    tls::ServerTls,
};

mod access;
mod admin;
mod agreements;
mod answers;
mod attachments;
mod audit;
mod gate;
mod import;
mod intake;
mod large;
mod listing;
mod lodging;
mod pace;
mod query;
mod receipts;
mod receiving;
mod sending;
mod serving;
mod sharing;
mod streams;
mod submission;
#[cfg(test)]
mod tests;

/// Bytes of any other request: ids, keys and numbers, at most those of a filter with all that it may have.
const SMALL_REQUEST_BYTES_MAX: usize = 32 * 1024;
/// Bytes of a message of an upload: a chunk, and what surrounds it.
const UPLOAD_MESSAGE_BYTES_MAX: usize = CHUNK_BYTES_MAX + 1024;
/// Bytes of a request that lists ids: 4,096 of them.
const LIST_REQUEST_BYTES_MAX: usize = 160 * 1024;

/// Bytes of a request about an offer: an envelope of terms for each of fifteen parties, and what surrounds them.
const OFFER_REQUEST_BYTES_MAX: usize = 320 * 1024;

/// What the API is told at its start.
pub struct ApiConfig {
    /// The node's certificate, and whose clients it serves.
    pub tls: ServerTls,
    /// Calls that are worked on at a time, of all clients; a stream counts until it has begun.
    pub calls_max: usize,
    /// How long calls under way may take to end after a shutdown has begun.
    pub drain: Duration,
    /// How long clients may take.
    pub patience: Patience,
    /// Connections at a time of clients that have shown their certificates.
    pub connections_max: usize,
    /// Connections at a time that have shown none yet.
    pub strangers_max: usize,
}

/// How long a client may take with what holds a place of the node's.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// With showing who it is, and beginning to speak HTTP/2.
    pub handshake: Duration,
    /// With a message of a request, from its first byte to its last, and with a call's only message
    /// from the call on.
    pub message: Duration,
    /// With reading the next piece of an answer.
    pub piece: Duration,
    /// With the next message of an upload, or of a stream of imports.
    pub upload: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let (handshake, message) = (Duration::from_secs(10), Duration::from_secs(10));
        let (piece, upload) = (Duration::from_secs(30), Duration::from_secs(30));
        Self { handshake, message, piece, upload }
    }
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The certificate, the key or the authority's certificate.
    #[error("TLS of the API: {0}")]
    Tls(#[from] TlsError),
    /// The services' descriptors, which are compiled in.
    #[error("reflection of the API: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves until `shutdown` is cancelled: then health says NOT_SERVING, no more connections or calls
/// are taken, and what is under way has a time to end before it is cut off.
///
/// # Errors
/// [`ServeError`], before the first connection.
pub async fn serve(
    (listener, responder): (TcpListener, Responder),
    node: Arc<Services>,
    config: ApiConfig,
    rejections: Rejections,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let tls = Arc::new(config.tls.server_config()?);
    let health = HealthReporter::new();
    let agency = node.agency;
    let (metrics, mut stalled) = (node.metrics.clone(), node.health.stalled());
    let patience = config.patience;
    let routes = routes(node, &health, rejections.clone(), patience.upload, &shutdown).await?;
    let gate = gate::Gate::new(rejections.clone(), patience.message, shutdown.clone());
    let cut = CancellationToken::new();
    let shares = Shares::of_known(config.strangers_max, config.connections_max);
    let listening = (listener, responder);
    let incoming = connections::accept(listening, shares, metrics, cut.clone());
    let server = serving::Server {
        agency,
        tls,
        router: gated(routes, gate),
        quotas: quotas::Quotas::new(config.calls_max, config.connections_max),
        rejections,
        patience,
        shutdown: shutdown.clone(),
        cut: cut.clone(),
    };
    let mut serving = pin!(serving::serve(server, incoming));
    let overdue = async {
        shutdown.cancelled().await;
        set_health(&health, ServingStatus::NotServing).await;
        tokio::time::sleep(config.drain).await;
    };
    let reporting = async {
        while stalled.changed().await.is_ok() && !shutdown.is_cancelled() {
            let names = stalled.borrow_and_update().clone();
            report_stalled(&health, &names).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = &mut serving => return Ok(()),
        () = overdue => tracing::warn!("calls still under way are cut off"),
        () = reporting => {}
    }
    cut.cancel();
    serving.await;
    Ok(())
}

async fn routes(
    node: Arc<Services>,
    health: &HealthReporter,
    rejections: Rejections,
    upload_time: Duration,
    shutdown: &CancellationToken,
) -> Result<Routes, ServeError> {
    let submission = submission::SubmissionService {
        node: Arc::clone(&node),
        rejections,
        shutdown: shutdown.clone(),
    };
    let pace = pace::Pace::of(upload_time);
    let import = import::ImportService::of(&submission, pace);
    let attachments = attachments::AttachmentsService {
        node: Arc::clone(&node),
        pace,
        shutdown: shutdown.clone(),
    };
    let query = query::QueryService { node: Arc::clone(&node), shutdown: shutdown.clone() };
    let audit = audit::AuditService { node: Arc::clone(&node) };
    let agreements = agreements::AgreementsService { node: Arc::clone(&node) };
    let admin = admin::AdminService { node };
    report_stalled(health, &Stalled::new()).await;
    let health = tonic_health::server::HealthService::from_health_reporter(health.clone());
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(customhouse_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let submission = SubmissionServer::new(submission)
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .accept_compressed(CompressionEncoding::Gzip);
    // What is compressed already gains nothing, and its inflated length would have to be held.
    let attachments =
        AttachmentsServer::new(attachments).max_decoding_message_size(UPLOAD_MESSAGE_BYTES_MAX);
    let import = ImportServer::new(import)
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .accept_compressed(CompressionEncoding::Gzip);
    let query = QueryServer::new(query)
        .max_decoding_message_size(SMALL_REQUEST_BYTES_MAX)
        .accept_compressed(CompressionEncoding::Gzip);
    let audit = AuditServer::new(audit)
        .max_decoding_message_size(LIST_REQUEST_BYTES_MAX)
        .accept_compressed(CompressionEncoding::Gzip);
    let admin = AdminServer::new(admin)
        .max_decoding_message_size(SMALL_REQUEST_BYTES_MAX)
        .accept_compressed(CompressionEncoding::Gzip);
    let agreements = AgreementsServer::new(agreements)
        .max_decoding_message_size(OFFER_REQUEST_BYTES_MAX)
        .accept_compressed(CompressionEncoding::Gzip);
    let health = HealthServer::new(health)
        .max_decoding_message_size(SMALL_REQUEST_BYTES_MAX)
        .accept_compressed(CompressionEncoding::Gzip);
    Ok(Routes::default()
        .add_service(submission)
        .add_service(attachments)
        .add_service(import)
        .add_service(query)
        .add_service(audit)
        .add_service(admin)
        .add_service(agreements)
        .add_service(health)
        .add_service(reflection().build_v1()?.max_decoding_message_size(SMALL_REQUEST_BYTES_MAX))
        .add_service(
            reflection().build_v1alpha()?.max_decoding_message_size(SMALL_REQUEST_BYTES_MAX),
        ))
}

/// Puts the gate before all services.
fn gated(routes: Routes, gate: gate::Gate) -> Router {
    let layer = middleware::from_fn_with_state(Arc::new(gate), gate::admit);
    routes.prepare().into_axum_router().layer(layer)
}

/// While a loop of the node does not answer, no service is called serving, and neither is the loop under its
/// own name.
async fn report_stalled(health: &HealthReporter, stalled: &Stalled) {
    for name in LOOPS {
        let answers = !stalled.contains(name);
        let status = if answers { ServingStatus::Serving } else { ServingStatus::NotServing };
        health.set_service_status(name, status).await;
    }
    let serving = stalled.is_empty();
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    set_health(health, status).await;
}

/// Health is of the whole and of each service: they stand and fall together.
async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in
        ["", "Submission", "Attachments", "Import", "Query", "Audit", "Admin", "Agreements"]
    {
        let name = match service {
            "" => String::new(),
            service => format!("customhouse.v1.{service}"),
        };
        health.set_service_status(name, status).await;
    }
}
