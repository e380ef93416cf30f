//! Answers to peers' requests, from the ledger, the mempool and the core. Every answer is bounded.

use std::sync::Arc;

use customhouse_consensus::wire;
use customhouse_ledger::{
    chain::{ChainReader, CommittedBlock},
    finality::certificate::Certificate,
    hash::Hash,
    keys::PublicKey,
    limits::BLOCK_BYTES_MAX,
    store::StoreError,
};
use customhouse_proto::v1::{self, sync_request::Request, sync_response::Response};
use prost::Message as _;
use tokio::sync::oneshot;

use super::Inbound;
use crate::{
    attachments::answering,
    clock,
    driver::answers::BLOCKS_MAX,
    driver::{DriverInput, SharedMempool, lock},
};

/// Bytes of transactions in one answer, beyond the first.
const ANSWER_BYTES_MAX: usize = BLOCK_BYTES_MAX;
/// Leaf hashes looked up for one request.
const LEAVES_MAX: usize = 4096;

/// What an answer costs beside its bytes, in the bytes that cost as much: each request, leaf hash that is
/// looked up, transaction that is read, and block that is put together.
const COST_OF_REQUEST: u64 = 16 << 10;
const COST_OF_LEAF: u64 = 1 << 10;
const COST_OF_TRANSACTION: u64 = 2 << 10;
const COST_OF_BLOCK: u64 = 8 << 10;

/// What it costs to look for what is asked.
pub(super) fn cost_of_request(request: &v1::SyncRequest) -> u64 {
    let leaves = match &request.request {
        Some(Request::Transactions(request)) => request.leaves.len().min(LEAVES_MAX),
        _ => 0,
    };
    let pieces = match &request.request {
        Some(Request::Pieces(request)) => answering::cost_of(request),
        _ => 0,
    };
    COST_OF_REQUEST + COST_OF_LEAF * leaves as u64 + pieces
}

/// What it costs to give what was found.
pub(super) fn cost_of_answer(answer: &v1::SyncResponse) -> u64 {
    let (blocks, transactions) = match &answer.response {
        Some(Response::Transactions(answer)) => (0, answer.transactions.len()),
        Some(Response::Blocks(answer)) => {
            let of_blocks = answer.blocks.iter().map(|block| block.transactions.len());
            (answer.blocks.len(), of_blocks.sum())
        }
        _ => (0, 0),
    };
    let items = COST_OF_BLOCK * blocks as u64 + COST_OF_TRANSACTION * transactions as u64;
    answer.encoded_len() as u64 + items
}

impl Inbound {
    pub(super) async fn answer(&self, request: v1::SyncRequest) -> v1::SyncResponse {
        let response = match request.request {
            Some(Request::Certificate(request)) => {
                let (height, view) = (request.height, request.view);
                let ask = |reply| DriverInput::CertificatesOf { height, view, reply };
                self.ask_driver(ask).await.map(|found| certificates(&found))
            }
            Some(Request::Journal(request)) => match PublicKey::from_slice(&request.validator) {
                Ok(validator) => {
                    let from_height = request.from_height;
                    let ask = |reply| DriverInput::SignedBy { validator, from_height, reply };
                    self.ask_driver(ask).await.map(Response::Journal)
                }
                Err(_) => None,
            },
            Some(Request::Clock(_)) => {
                Some(Response::Clock(v1::ClockResponse { unix_ms: clock::unix_ms() }))
            }
            Some(Request::Pieces(request)) => {
                let attachments = self.attachments.clone();
                let read = move || Ok(attachments.pieces(&request));
                blocking(read).await.map(Response::Pieces)
            }
            Some(request) => {
                let (reader, mempool) = (self.reader.clone(), Arc::clone(&self.mempool));
                blocking(move || stored(&reader, &mempool, &request)).await.flatten()
            }
            None => None,
        };
        v1::SyncResponse { response }
    }

    async fn ask_driver<T>(
        &self,
        input: impl FnOnce(oneshot::Sender<T>) -> DriverInput,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.driver.input(input(reply)).await;
        answer.await.ok()
    }
}

/// Certificates as an answer.
pub fn certificates(found: &[Certificate]) -> Response {
    let certificates = found.iter().map(|certificate| certificate.encode()).collect();
    Response::Certificate(v1::CertificateResponse { certificates })
}

/// Answers what the store and the mempool can answer; `None` where it is not theirs to answer.
///
/// # Errors
/// The store's.
pub fn stored(
    reader: &ChainReader,
    mempool: &SharedMempool,
    request: &Request,
) -> Result<Option<Response>, StoreError> {
    Ok(Some(match request {
        Request::Transactions(request) => {
            Response::Transactions(transactions(reader, mempool, request)?)
        }
        Request::Blocks(request) => Response::Blocks(blocks(reader, request)?),
        Request::Block(request) => Response::Block(block(reader, request)?),
        // The network hands pushes over as events of their own.
        // Attachments are not in the store.
        Request::Certificate(_)
        | Request::Journal(_)
        | Request::Push(_)
        | Request::Clock(_)
        | Request::Pieces(_) => return Ok(None),
    }))
}

fn transactions(
    reader: &ChainReader,
    mempool: &SharedMempool,
    request: &v1::TransactionsRequest,
) -> Result<v1::TransactionsResponse, StoreError> {
    let mut transactions = Vec::new();
    let mut bytes = 0;
    let bytes_max = match request.bytes_max {
        0 => ANSWER_BYTES_MAX,
        asked => ANSWER_BYTES_MAX.min(usize::try_from(asked).unwrap_or(usize::MAX)),
    };
    let leaves = request.leaves.iter().take(LEAVES_MAX);
    for leaf_hash in leaves.filter_map(|leaf| Hash::from_slice(leaf).ok()) {
        let waiting = lock(mempool).by_leaf(&leaf_hash).map(|t| t.encoded().clone());
        let found = match waiting {
            Some(encoded) => Some(encoded),
            None => reader.body(&leaf_hash)?,
        };
        let Some(encoded) = found else { continue };
        bytes += encoded.len();
        if bytes > bytes_max && !transactions.is_empty() {
            break;
        }
        transactions.push(encoded);
    }
    Ok(v1::TransactionsResponse { transactions })
}

/// Reads the store off the async workers. A failing store is the driver's to report.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Option<T> {
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(value)) => Some(value),
        Ok(Err(error)) => {
            tracing::error!(%error, "a peer's request could not be answered");
            None
        }
        Err(_) => None,
    }
}

fn blocks(
    reader: &ChainReader,
    request: &v1::BlocksRequest,
) -> Result<v1::BlocksResponse, StoreError> {
    let mut blocks = Vec::new();
    let mut bytes = 0;
    let tip = reader.tip();
    let from = request.from_height.max(1);
    let end = from.saturating_add(u64::from(request.count_max.min(BLOCKS_MAX)));
    for height in from..end.min(tip.header.height + 1) {
        let Some(block) = reader.block(height)? else { break };
        bytes += block.transactions.iter().map(bytes::Bytes::len).sum::<usize>();
        if bytes > ANSWER_BYTES_MAX && !blocks.is_empty() {
            break;
        }
        blocks.push(with_body(block));
    }
    let tip = tip.certificate.as_ref().map(|certificate| v1::Tip {
        header: tip.header.encode(),
        certificate: certificate.encode(),
    });
    Ok(v1::BlocksResponse { blocks, tip })
}

fn with_body(committed: CommittedBlock) -> v1::BlockWithBody {
    let certified = v1::CertifiedBlock {
        block: Some(wire::block_to_proto(&committed.block)),
        certificate: committed.certificate.map(|c| c.encode()).unwrap_or_default(),
    };
    v1::BlockWithBody { block: Some(certified), transactions: committed.transactions }
}

/// A block of the height in progress, or a committed one that the asker still waits for.
fn block(
    reader: &ChainReader,
    request: &v1::BlockRequest,
) -> Result<v1::BlockResponse, StoreError> {
    let Ok(block_hash) = Hash::from_slice(&request.block_hash) else {
        return Ok(v1::BlockResponse { block: None });
    };
    let found = match reader.pending_block(request.height, &block_hash) {
        Some(block) => Some(block),
        None => reader
            .block(request.height)?
            .map(|committed| committed.block)
            .filter(|block| block.hash() == block_hash),
    };
    Ok(v1::BlockResponse { block: found.as_ref().map(wire::block_to_proto) })
}
