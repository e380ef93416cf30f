//! Merkle trees, exactly those of RFC 6962: leaf prefix `0x00`, node prefix `0x01`, the empty
//! tree's root is the hash of nothing, and no odd leaf is ever duplicated.
//!
//! The same code serves a transaction's slots, the registry, the log and the history index. Proofs
//! read the hashes of complete subtrees through a closure, so that a log of any size, kept in
//! tiles on disk, is proven with O(log n) reads.

use sha2::{Digest, Sha256};

use crate::{
    hash::Hash,
    layout::{LayoutError, Reader, Writer},
};

mod proof;
#[cfg(test)]
mod tests;

pub use proof::{
    OutOfRange, ProofError, consistency_path, inclusion_path, root_from_inclusion,
    verify_consistency, verify_inclusion,
};

/// Hash of a leaf: SHA-256 of `0x00` and the leaf's bytes.
pub fn leaf_hash(bytes: &[u8]) -> Hash {
    leaf_hash_of_parts(&[bytes])
}

/// Hash of the leaf that is the concatenation of these parts.
pub fn leaf_hash_of_parts(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([0x00]);
    for part in parts {
        hasher.update(part);
    }
    Hash(hasher.finalize().into())
}

/// The bytes of a path are not those of whole hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a path of {0} bytes, 32 for each hash expected")]
pub struct PathBytesError(pub usize);

/// Reads the hashes of a path as messages carry it: one after the other, 32 bytes each.
///
/// # Errors
/// [`PathBytesError`].
pub fn read_path(bytes: &[u8]) -> Result<Vec<Hash>, PathBytesError> {
    let (hashes, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return Err(PathBytesError(bytes.len()));
    }
    Ok(hashes.iter().copied().map(Hash).collect())
}

/// A path as messages carry it: its hashes one after the other.
pub fn path_bytes(path: &[Hash]) -> Vec<u8> {
    path.iter().flat_map(|hash| hash.0).collect()
}

/// Hash of an inner node: SHA-256 of `0x01`, the left and the right child.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [0x01; 65];
    bytes[1..33].copy_from_slice(left.as_bytes());
    bytes[33..].copy_from_slice(right.as_bytes());
    Hash(Sha256::digest(bytes).into())
}

/// Root of the tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Hash(Sha256::digest([]).into())
}

/// Root of the tree over these leaves' bytes.
pub fn root<T: AsRef<[u8]>>(leaves: &[T]) -> Hash {
    root_of_hashes(leaves.iter().map(|leaf| leaf_hash(leaf.as_ref())))
}

/// Root of the tree over these leaf hashes.
pub fn root_of_hashes(leaves: impl IntoIterator<Item = Hash>) -> Hash {
    let mut frontier = Frontier::default();
    for leaf in leaves {
        frontier.push(leaf);
    }
    frontier.root()
}

/// A complete subtree: the leaves `index << level .. (index + 1) << level`. Leaves have level 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId {
    /// Height above the leaves.
    pub level: u8,
    /// Position among the nodes of the level, from the left.
    pub index: u64,
}

/// A growing tree's right edge: the roots of the complete subtrees that its leaves fall into, the
/// largest first. Enough to append leaves and to know the root, in O(log n) memory.
///
/// Layout: size (8), then as many hashes (32 each) as the size has one-bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over all leaves so far.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            None => empty_root(),
            Some(last) => peaks.fold(*last, |right, left| node_hash(left, &right)),
        }
    }

    /// Appends a leaf's hash.
    pub fn push(&mut self, leaf: Hash) {
        self.push_with(leaf, |_, _| ());
    }

    /// Appends a leaf's hash and shows every subtree that it completes, the leaf itself first.
    pub fn push_with(&mut self, leaf: Hash, mut completed: impl FnMut(NodeId, Hash)) {
        let mut node = NodeId { level: 0, index: self.size };
        let mut hash = leaf;
        completed(node, hash);
        while node.index & 1 == 1 {
            let left = self.peaks.pop().expect("a left sibling for every one-bit of the size");
            hash = node_hash(&left, &hash);
            node = NodeId { level: node.level + 1, index: node.index >> 1 };
            completed(node, hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The right edge of the first `size` leaves of a tree whose nodes `read` knows.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn read<E>(size: u64, mut read: impl FnMut(NodeId) -> Result<Hash, E>) -> Result<Self, E> {
        let mut peaks = Vec::with_capacity(size.count_ones() as usize);
        let mut start = 0;
        for level in (0..64u8).rev().filter(|level| size >> level & 1 == 1) {
            peaks.push(read(NodeId { level, index: start >> level })?);
            start += 1 << level;
        }
        Ok(Self { size, peaks })
    }

    /// The layout.
    pub fn encode(&self) -> Vec<u8> {
        let writer = Writer::with_capacity(8 + 32 * self.peaks.len()).u64(self.size);
        self.peaks.iter().fold(writer, |writer, peak| writer.hash(peak)).finish()
    }

    /// Reads the layout.
    ///
    /// # Errors
    /// Another length than the size asks for.
    pub fn decode(bytes: &[u8]) -> Result<Self, LayoutError> {
        let mut reader = Reader::new(bytes);
        let size = reader.u64("size")?;
        let peaks =
            (0..size.count_ones()).map(|_| reader.hash("peaks")).collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(Self { size, peaks })
    }
}

/// A whole tree in memory, for lists that are short or read often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The complete subtrees' roots, by level and index.
    levels: Vec<Vec<Hash>>,
    root: Hash,
}

impl Tree {
    /// Builds the tree over these leaves' bytes.
    pub fn of<T: AsRef<[u8]>>(leaves: &[T]) -> Self {
        Self::new(leaves.iter().map(|leaf| leaf_hash(leaf.as_ref())).collect())
    }

    /// Builds the tree over these leaf hashes.
    pub fn new(leaves: Vec<Hash>) -> Self {
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|below| below.len() > 1) {
            let above = below.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
            levels.push(above);
        }
        let root = root_of_hashes(levels[0].iter().copied());
        Self { levels, root }
    }

    /// Leaves.
    pub fn size(&self) -> u64 {
        self.levels[0].len() as u64
    }

    /// The root.
    pub fn root(&self) -> Hash {
        self.root
    }

    /// The path that proves the leaf at an index, for [`verify_inclusion`].
    ///
    /// # Errors
    /// There is no such leaf.
    pub fn inclusion_path(&self, index: u64) -> Result<Vec<Hash>, OutOfRange> {
        inclusion_path(index, self.size(), |node| self.node(node))
    }

    /// The path that proves that the tree of the first `from` leaves is a prefix of this, for
    /// [`verify_consistency`].
    ///
    /// # Errors
    /// `from` is 0 or above the size.
    pub fn consistency_path(&self, from: u64) -> Result<Vec<Hash>, OutOfRange> {
        consistency_path(from, self.size(), |node| self.node(node))
    }

    fn node(&self, node: NodeId) -> Result<Hash, OutOfRange> {
        let index = usize::try_from(node.index).map_err(|_| OutOfRange)?;
        let level = self.levels.get(usize::from(node.level)).ok_or(OutOfRange)?;
        level.get(index).copied().ok_or(OutOfRange)
    }
}
