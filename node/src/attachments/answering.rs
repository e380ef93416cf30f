//! Pieces for peers.

use customhouse_ledger::{hash::Hash, limits::ATTACHMENT_BYTES_MAX, merkle};
use customhouse_proto::v1;

use super::{Attachments, WholeFileError};

/// Pieces of an answer: 512 KiB.
pub const PIECES_MAX: u32 = 8;

/// What it costs to look for what is asked, in the bytes that cost as much: all leaf hashes are read and hashed.
pub fn cost_of(request: &v1::PiecesRequest) -> u64 {
    let size = request.size.min(ATTACHMENT_BYTES_MAX);
    64 * customhouse_ledger::attachment::pieces_of(size)
}

impl Attachments {
    /// Answers a peer. What is not held, and what has another size, is answered like what was never heard of.
    /// Reads the disk.
    pub fn pieces(&self, request: &v1::PiecesRequest) -> v1::PiecesResponse {
        let root = Hash::from_slice(&request.root).ok();
        let pieces = root.and_then(|root| {
            let read = self.read_pieces(&root, request);
            // A file that cannot be opened was told of.
            read.inspect_err(|error| self.note(&root, error)).ok()
        });
        v1::PiecesResponse { pieces: pieces.unwrap_or_default() }
    }

    fn read_pieces(
        &self,
        root: &Hash,
        request: &v1::PiecesRequest,
    ) -> Result<Vec<v1::Piece>, WholeFileError> {
        // What is asked with another size counts for that: no more is done for it.
        let read = self.read_of_size(root, Some(request.size));
        let Ok(Some(file)) = read else { return Ok(Vec::new()) };
        let (tree, first) = (file.tree(), u64::from(request.first));
        let end = first + u64::from(request.count_max.min(PIECES_MAX));
        let mut pieces = Vec::new();
        for index in first..end.min(tree.size()) {
            let Ok(path) = tree.inclusion_path(index) else { break };
            pieces.push(v1::Piece { data: file.piece(index)?, path: merkle::path_bytes(&path) });
        }
        Ok(pieces)
    }
}
