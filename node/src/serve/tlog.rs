//! The log over plain HTTP for the tools of the transparency-log world (C2SP `tlog-tiles`): anyone may
//! fetch it, cache it and check it, and needs no account. It shows commitments and no trade data.
//!
//! | path | what |
//! |---|---|
//! | `/checkpoint` | size and root as a note that this node signed |
//! | `/tile/<L>/<N>[.p/<W>]` | hashes of the tree |
//! | `/tile/entries/<N>[.p/<W>]` | the log's leaves |
//! | `/certified-checkpoint` | the block header with this size and root, and its finalization, as JSON: what anyone who holds the genesis checks the note against |
//!
//! What is served was committed, and leads to the certified log root: damage is an error and a line in
//! the node's log. A listener of its own, because metrics are for the operator's network and this is
//! not. No client makes anything grow: [`super::http`] limits connections, their heads and their age, and
//! here the reads of the store at a time are limited.

use std::{io, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use customhouse_ledger::{
    chain::{ChainReader, Tip},
    tlog::path::{TileContent, TilePath},
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tower_http::{CompressionLevel, compression::CompressionLayer};

use crate::{
    checkpoint::CheckpointSigner,
    health::Responder,
    serve::{
        http::{self, HttpLimits},
        reads::read,
        refused::Refused,
    },
    services::Services,
};

/// Tiles that are read at a time: each is some tens of kilobytes and thousands of hashes. Strangers ask for
/// them, so there are fewer threads for it than for the agency's own clients.
const TILE_READS_MAX: usize = 2;
/// Entry bundles that are read at a time: the transactions of one may have 256 MiB, though only one is in
/// memory.
const BUNDLE_READS_MAX: usize = 1;

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";
const JSON: &str = "application/json";
/// What never changes.
const FOR_GOOD: &str = "public, max-age=31536000, immutable";
/// What is newer a moment later.
const NOT_KEPT: &str = "no-store";

struct Log {
    node: Arc<Services>,
    signer: Arc<CheckpointSigner>,
    tile_reads: Arc<Semaphore>,
    bundle_reads: Arc<Semaphore>,
}

/// Serves the log until shutdown, to a limited number of connections at a time.
///
/// # Errors
/// What the system says of the listener.
pub async fn serve(
    (listener, responder): (TcpListener, Responder),
    connections_max: usize,
    node: Arc<Services>,
    signer: Arc<CheckpointSigner>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!(%address, verifier_key = %signer.verifier(), "serving the log as tiles");
    let metrics = node.metrics.clone();
    let limits = HttpLimits::of_connections(connections_max);
    http::serve((listener, responder), router(node, signer), limits, metrics, shutdown).await;
    Ok(())
}

fn router(node: Arc<Services>, signer: Arc<CheckpointSigner>) -> Router {
    let tile_reads = Arc::new(Semaphore::new(TILE_READS_MAX));
    let bundle_reads = Arc::new(Semaphore::new(BUNDLE_READS_MAX));
    Router::new()
        .route("/checkpoint", get(checkpoint))
        .route("/certified-checkpoint", get(certified_checkpoint))
        .route("/tile/{*path}", get(tile))
        .route("/tile/entries/{*path}", get(tile).layer(compression()))
        .with_state(Arc::new(Log { node, signer, tile_reads, bundle_reads }))
}

/// For entries, whose chain id, signer and agency are often those of the one before. A tile is hashes.
fn compression() -> CompressionLayer {
    CompressionLayer::new().quality(CompressionLevel::Fastest)
}

async fn checkpoint(State(log): State<Arc<Log>>) -> Response {
    answer(TEXT, NOT_KEPT, log.signer.note(&log.node.reader.tip().header))
}

/// The form in which `customhouse audit consistency` saves a head.
async fn certified_checkpoint(State(log): State<Arc<Log>>) -> Response {
    let tip = log.node.reader.tip();
    let Tip { header, certificate, .. } = &*tip;
    let certificate = certificate.as_ref().map(|certificate| certificate.encode());
    let json = serde_json::json!({
        "height": header.height,
        "time_ms": header.time_ms,
        "log_size": header.log_size,
        "log_root": header.log_root,
        "header": hex::encode(header.encode()),
        "certificate": hex::encode(certificate.unwrap_or_default()),
    });
    answer(JSON, NOT_KEPT, format!("{json:#}\n"))
}

/// Takes the path as it came: a tile has one, and every other way to write it is another path.
async fn tile(State(log): State<Arc<Log>>, uri: Uri) -> Response {
    let path = uri.path().strip_prefix('/').map(str::parse::<TilePath>);
    let Some(Ok(path)) = path else {
        return failed(StatusCode::NOT_FOUND, "not the path of a tile or an entry bundle\n");
    };
    let reads = match path.content {
        TileContent::Hashes { .. } => Arc::clone(&log.tile_reads),
        TileContent::Entries => Arc::clone(&log.bundle_reads),
    };
    let read_it = in_turn(reads, move |reader: &ChainReader| reader.log_resource(path)).await;
    match read(&log.node, read_it).await {
        Ok(Some(bytes)) => answer(BYTES, FOR_GOOD, bytes),
        Ok(None) => failed(StatusCode::NOT_FOUND, "the log is not so long\n"),
        Err(refused) => unread(&refused),
    }
}

/// Waits for a place among the reads, which the thread that reads gives back: a client that hangs up does
/// not stop it, and has no other started beside it.
async fn in_turn<A: ?Sized, T>(
    reads: Arc<Semaphore>,
    read: impl FnOnce(&A) -> T,
) -> impl FnOnce(&A) -> T {
    // Never closed: an error cannot come.
    let place = reads.acquire_owned().await;
    move |argument: &A| {
        let _until_it_is_done = place;
        read(argument)
    }
}

/// Damage was logged where it was found.
fn unread(refused: &Refused) -> Response {
    match refused.code {
        Code::DataLoss => {
            let text = "this node's store is damaged there: ask another node\n";
            failed(StatusCode::INTERNAL_SERVER_ERROR, text)
        }
        _ => {
            let Refused { reason_code, message, .. } = refused;
            tracing::warn!(reason_code, reason = message, "a tile was not read");
            failed(StatusCode::SERVICE_UNAVAILABLE, "this node cannot read its store now\n")
        }
    }
}

fn answer(content: &'static str, kept: &'static str, body: impl IntoResponse) -> Response {
    ([(header::CONTENT_TYPE, content), (header::CACHE_CONTROL, kept)], body).into_response()
}

/// A log grows and a store is mended: no failure is kept.
fn failed(status: StatusCode, text: &'static str) -> Response {
    (status, answer(TEXT, NOT_KEPT, text)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_read_whose_client_hangs_up_keeps_its_place_until_it_is_done() {
        let reads = Arc::new(Semaphore::new(1));
        let (finish, finished) = std::sync::mpsc::channel::<()>();
        let reading = in_turn(Arc::clone(&reads), move |(): &()| finished.recv()).await;
        let thread = tokio::task::spawn_blocking(move || reading(&()));
        // Whoever asked is gone.
        let mut next = Box::pin(in_turn(Arc::clone(&reads), |(): &()| ()));
        assert!(futures::poll!(&mut next).is_pending());
        finish.send(()).expect("it waits for it");
        thread.await.expect("no panic").expect("told");
        next.await(&());
    }

    #[test]
    fn damage_is_an_error_and_what_passes_is_another() {
        for (code, status) in [
            (Code::DataLoss, StatusCode::INTERNAL_SERVER_ERROR),
            (Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
        ] {
            let response = unread(&Refused::new(code, "CODE", "what is wrong"));
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()[header::CACHE_CONTROL], NOT_KEPT);
        }
    }
}
