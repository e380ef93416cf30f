//! The history index: proof that these are *all* the records about a subject.
//!
//! A subject's key falls, by its first k bits, into one of 2^k buckets. A bucket's head is a hash
//! chain over its entries in block order, and the history root is the RFC 6962 root of the tree
//! whose 2^k leaves are the heads. Whoever holds all entries of a bucket recomputes its head,
//! checks it against the root with k sibling hashes, and keeps the entries of the subject; a
//! missing, added or moved entry gives another head. Absence is proven the same way.
//!
//! Block order is: the log index of the transaction, then the position of the slot in it, then the
//! subject key.

use crate::{
    hash::{Hash, Tag},
    layout::{LayoutError, Reader},
    merkle,
};

#[cfg(test)]
mod tests;
mod tree;

pub use tree::{HistoryDelta, HistoryTree};

/// One slot is about one subject.
///
/// Layout of [`HistoryEntry::LENGTH`] bytes: key (32), log index (8), position (4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The subject's key.
    pub key: Hash,
    /// Index in the log of the transaction with the slot.
    pub log_index: u64,
    /// Position of the slot in its transaction.
    pub position: u32,
}

impl HistoryEntry {
    /// Bytes of the layout.
    pub const LENGTH: usize = 32 + 8 + 4;

    /// The fixed layout.
    pub fn encode(&self) -> Vec<u8> {
        self.to_bytes().to_vec()
    }

    /// The fixed layout, without an allocation.
    pub(crate) fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..32].copy_from_slice(self.key.as_bytes());
        bytes[32..40].copy_from_slice(&self.log_index.to_be_bytes());
        bytes[40..].copy_from_slice(&self.position.to_be_bytes());
        bytes
    }

    /// Reads the fixed layout.
    ///
    /// # Errors
    /// Bytes of another length.
    pub fn decode(bytes: &[u8]) -> Result<Self, LayoutError> {
        let mut reader = Reader::new(bytes);
        let entry = Self {
            key: reader.hash("key")?,
            log_index: reader.u64("log_index")?,
            position: reader.u32("position")?,
        };
        reader.finish()?;
        Ok(entry)
    }

    /// Sorts entries into block order.
    pub fn block_order(&self) -> (u64, u32, Hash) {
        (self.log_index, self.position, self.key)
    }

    /// The head of a bucket after this entry, from the head before it: tagged hash of the head and
    /// the entry's layout.
    pub fn chain(&self, head: &Hash) -> Hash {
        Tag::HISTORY.hash(&[
            head.as_bytes(),
            self.key.as_bytes(),
            &self.log_index.to_be_bytes(),
            &self.position.to_be_bytes(),
        ])
    }
}

/// The head of a bucket with these entries, in block order. [`Hash::ZERO`] where there are none.
pub fn head_of<'a>(entries: impl IntoIterator<Item = &'a HistoryEntry>) -> Hash {
    entries.into_iter().fold(Hash::ZERO, |head, entry| entry.chain(&head))
}

/// The bucket of a subject key: its first `bits` bits, of [`HISTORY_BITS_MIN`](crate::limits::HISTORY_BITS_MIN) to
/// [`HISTORY_BITS_MAX`](crate::limits::HISTORY_BITS_MAX).
pub fn bucket_of(key: &Hash, bits: u32) -> u32 {
    let [a, b, c, d, ..] = key.0;
    u32::from_be_bytes([a, b, c, d]) >> (32 - bits)
}

/// The history root of a chain without records.
pub fn empty_root(bits: u32) -> Hash {
    empty_nodes(bits)[bits as usize]
}

/// The nodes of the tree over empty buckets, by level; leaves first, `bits + 1` of them.
fn empty_nodes(bits: u32) -> Vec<Hash> {
    let mut nodes = vec![merkle::leaf_hash(Hash::ZERO.as_bytes())];
    for level in 0..bits as usize {
        nodes.push(merkle::node_hash(&nodes[level], &nodes[level]));
    }
    nodes
}
