//! Which attachments committed records refer to: found by reading the blocks, from a height on that is kept
//! beside the files. All attachments of records below that height are held, or are not to be fetched, or cannot be.

use std::{fs, io};

use customhouse_files::newfile;
use customhouse_ledger::{
    agency::AgencyCode, attachment::attachments_in, chain::ChainReader, hash::Hash,
    store::StoreError, transaction::TransactionHeader,
};
use customhouse_proto::v1;
use prost::Message as _;

use super::{Attachments, Claim, wanted::Missing};

/// Blocks that are read in one go, and bytes of transactions after which no more are.
const BLOCKS_MAX: u64 = 64;
const READ_BYTES: usize = 16 << 20;
/// What the file of the position begins with.
const MAGIC: &[u8; 8] = b"CHATTCH1";
const POSITION: &str = "position";

/// Why blocks could not be looked at.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScanError {
    /// The ledger's store.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The disk with the attachments.
    #[error("the attachments' directory: {0}")]
    Io(#[from] io::Error),
}

/// What some blocks refer to.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// What is not held.
    pub(super) missing: Vec<Missing>,
    /// The next height.
    pub(super) next: u64,
    /// Whether there is no block there yet.
    pub(super) is_at_tip: bool,
}

/// Reads the next blocks, and has what is held of their attachments kept.
pub(super) fn scan(
    reader: &ChainReader,
    attachments: &Attachments,
    from: u64,
) -> Result<Scanned, ScanError> {
    let tip = reader.tip().header.height;
    let mut scanned = Scanned { next: from, ..Scanned::default() };
    let mut bytes = 0;
    while scanned.next <= tip && scanned.next < from + BLOCKS_MAX && bytes < READ_BYTES {
        let Some(block) = reader.block(scanned.next)? else { break };
        for transaction in &block.transactions {
            bytes += transaction.len();
            for (agency, attachment) in attachments_of(transaction) {
                let Ok(root) = Hash::from_slice(&attachment.root) else { continue };
                let size = attachment.size;
                if attachments.claim(&root, size)? == Claim::Missing {
                    let height = scanned.next;
                    scanned.missing.push(Missing { root, size, agency, height });
                }
            }
        }
        scanned.next += 1;
    }
    scanned.is_at_tip = scanned.next > tip;
    Ok(scanned)
}

/// The attachments of a transaction's records, with the agency whose they are.
fn attachments_of(transaction: &[u8]) -> Vec<(AgencyCode, v1::Attachment)> {
    // What is committed was verified.
    let Ok(transaction) = v1::Transaction::decode(transaction) else { return Vec::new() };
    let found: Vec<_> = transaction.records.iter().flat_map(|r| attachments_in(r)).collect();
    if found.is_empty() {
        return Vec::new();
    }
    let Ok(header) = TransactionHeader::decode(&transaction.header) else { return Vec::new() };
    found.into_iter().map(|attachment| (header.agency, attachment)).collect()
}

/// The height from which the records of a chain are to be looked at; 1 where nothing else is known.
pub(super) fn read_position(attachments: &Attachments, chain_id: &Hash) -> u64 {
    let bytes = fs::read(attachments.inner.paths.directory().join(POSITION)).unwrap_or_default();
    let height = bytes.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(&chain_id.0));
    height.and_then(|height| height.try_into().ok()).map_or(1, u64::from_be_bytes).max(1)
}

/// Keeps that height, durably.
pub(super) fn write_position(
    attachments: &Attachments,
    chain_id: &Hash,
    height: u64,
) -> io::Result<()> {
    let bytes = [&MAGIC[..], &chain_id.0, &height.to_be_bytes()].concat();
    newfile::replace(&attachments.inner.paths.directory().join(POSITION), &bytes, 0o600)
}
