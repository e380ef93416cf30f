//! A file that is whole: read piece by piece, each of which is checked before it is given away.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use customhouse_ledger::{
    attachment::{attachment_root, piece_bytes, pieces_of},
    hash::Hash,
    limits::PIECE_BYTES,
    merkle::{self, Tree},
};

use super::paths::size_of_file;

/// Why a file that is held gives nothing.
#[derive(Debug, thiserror::Error)]
pub enum WholeFileError {
    /// The system's answer.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Its bytes are not those that were written.
    #[error("{path} is damaged: it is set aside, and fetched again", path = .0.display())]
    Damaged(PathBuf),
}

/// A file that is open for reading. It stays readable when it is moved.
#[derive(Debug)]
pub struct WholeFile {
    file: File,
    path: PathBuf,
    root: Hash,
    size: u64,
    leaves: Vec<Hash>,
}

impl WholeFile {
    /// Opens a file of this root, and reads and checks the leaf hashes of its pieces; nothing, and they are not
    /// read, where it is to have another size.
    pub(super) fn open(
        path: &Path,
        root: &Hash,
        expected: Option<u64>,
    ) -> Result<Option<Self>, WholeFileError> {
        let io = |source| WholeFileError::Io { path: path.to_owned(), source };
        let damaged = || WholeFileError::Damaged(path.to_owned());
        let file = File::open(path).map_err(io)?;
        let size = size_of_file(file.metadata().map_err(io)?.len()).ok_or_else(damaged)?;
        if expected.is_some_and(|expected| expected != size) {
            return Ok(None);
        }
        let count = usize::try_from(pieces_of(size)).map_err(|_| damaged())?;
        let mut bytes = vec![0; 32 * count];
        file.read_exact_at(&mut bytes, size).map_err(io)?;
        let leaves = merkle::read_path(&bytes).map_err(|_| damaged())?;
        let pieces_root = merkle::root_of_hashes(leaves.iter().copied());
        if attachment_root(size, &pieces_root) != *root {
            return Err(damaged());
        }
        Ok(Some(Self { file, path: path.to_owned(), root: *root, size, leaves }))
    }

    /// Its root.
    pub fn root(&self) -> Hash {
        self.root
    }

    /// Bytes of the attachment.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// A piece, checked; empty where there is none at this place.
    ///
    /// # Errors
    /// [`WholeFileError`].
    pub fn piece(&self, index: u64) -> Result<Vec<u8>, WholeFileError> {
        let mut piece = vec![0; piece_bytes(self.size, index)];
        if piece.is_empty() {
            return Ok(piece);
        }
        let read = self.file.read_exact_at(&mut piece, index * PIECE_BYTES as u64);
        read.map_err(|source| WholeFileError::Io { path: self.path.clone(), source })?;
        let leaf = usize::try_from(index).ok().and_then(|index| self.leaves.get(index));
        if leaf != Some(&merkle::leaf_hash(&piece)) {
            return Err(WholeFileError::Damaged(self.path.clone()));
        }
        Ok(piece)
    }

    /// The tree over its pieces, for their paths.
    pub fn tree(&self) -> Tree {
        Tree::new(self.leaves.clone())
    }
}
