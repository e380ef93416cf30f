//! The tree over all bucket heads, in memory: 64 bytes a bucket, 64 MB at 20 bits.

use crate::{
    hash::Hash,
    history::{HistoryEntry, bucket_of, empty_nodes},
    limits::{HISTORY_BITS_MAX, HISTORY_BITS_MIN},
    merkle::{leaf_hash, node_hash},
};

/// The heads of all buckets and the inner nodes above them. The leaves' hashes are not kept: they
/// follow from the heads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryTree {
    bits: u32,
    heads: Vec<Hash>,
    /// `levels[0]` are the parents of the leaves, the last is the root alone.
    levels: Vec<Vec<Hash>>,
}

/// What a block changes in the tree, computed without changing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryDelta {
    base_root: Hash,
    root: Hash,
    /// Changed heads, ascending by bucket.
    heads: Vec<(u32, Hash)>,
    /// Changed nodes of each of the tree's levels, ascending by index.
    levels: Vec<Vec<(u32, Hash)>>,
}

impl HistoryDelta {
    /// The history root after the block.
    pub fn root(&self) -> Hash {
        self.root
    }

    /// The buckets that the block changes, ascending, with their new heads.
    pub fn heads(&self) -> &[(u32, Hash)] {
        &self.heads
    }
}

impl HistoryTree {
    /// The tree of a chain without records. `bits` is [`HISTORY_BITS_MIN`] to [`HISTORY_BITS_MAX`], which the
    /// genesis has checked.
    pub fn empty(bits: u32) -> Self {
        assert!((HISTORY_BITS_MIN..=HISTORY_BITS_MAX).contains(&bits), "{bits} history bits");
        let nodes = empty_nodes(bits);
        let level = |level: u32| vec![nodes[level as usize]; 1 << (bits - level)];
        Self { bits, heads: vec![Hash::ZERO; 1 << bits], levels: (1..=bits).map(level).collect() }
    }

    /// The tree with these heads as they are read; the other buckets are empty. Heads of buckets
    /// that do not exist are an error of the caller.
    ///
    /// # Errors
    /// The first error that reading gives.
    pub fn read<E>(
        bits: u32,
        heads: impl IntoIterator<Item = Result<(u32, Hash), E>>,
    ) -> Result<Self, E> {
        let mut tree = Self::empty(bits);
        for head in heads {
            let (bucket, head) = head?;
            tree.heads[bucket as usize] = head;
        }
        let empty = empty_nodes(bits);
        for (pair, node) in tree.heads.chunks_exact(2).zip(&mut tree.levels[0]) {
            if pair.iter().any(|head| *head != Hash::ZERO) {
                *node = node_of_heads(&pair[0], &pair[1]);
            }
        }
        for level in 1..tree.levels.len() {
            let (below, above) = tree.levels.split_at_mut(level);
            for (pair, node) in below[level - 1].chunks_exact(2).zip(&mut above[0]) {
                if pair.iter().any(|child| *child != empty[level]) {
                    *node = node_hash(&pair[0], &pair[1]);
                }
            }
        }
        Ok(tree)
    }

    /// k: the bits of a key that choose its bucket.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// The history root.
    pub fn root(&self) -> Hash {
        self.levels[self.levels.len() - 1][0]
    }

    /// The head of a bucket.
    pub fn head(&self, bucket: u32) -> Hash {
        self.heads[bucket as usize]
    }

    /// The buckets that are not empty, ascending, with their heads.
    pub fn heads(&self) -> impl Iterator<Item = (u32, Hash)> + '_ {
        let heads = (0..).zip(&self.heads).map(|(bucket, head)| (bucket, *head));
        heads.filter(|(_, head)| *head != Hash::ZERO)
    }

    /// The sibling hashes from a bucket's leaf up to the root; as many as there are bits. They are
    /// an inclusion path of RFC 6962.
    pub fn path(&self, bucket: u32) -> Vec<Hash> {
        let leaf = leaf_hash(self.head(bucket ^ 1).as_bytes());
        let inner = self.levels[..self.levels.len() - 1].iter().zip(1..);
        let siblings = inner.map(|(nodes, level)| nodes[(bucket >> level ^ 1) as usize]);
        std::iter::once(leaf).chain(siblings).collect()
    }

    /// Computes what a block's entries, in block order, change. Nodes that several entries share
    /// are hashed once.
    pub fn stage(&self, entries: &[HistoryEntry]) -> HistoryDelta {
        let heads = self.stage_heads(entries);
        let leaf = |(bucket, head): &(u32, Hash)| (*bucket, leaf_hash(head.as_bytes()));
        let mut changed: Vec<_> = heads.iter().map(leaf).collect();
        let mut levels: Vec<Vec<(u32, Hash)>> = Vec::with_capacity(self.levels.len());
        for level in 0..self.levels.len() {
            let above = match level.checked_sub(1) {
                Some(below) => parents(&changed, &self.levels[below], |node| node),
                None => parents(&changed, &self.heads, |head| leaf_hash(head.as_bytes())),
            };
            levels.push(above.clone());
            changed = above;
        }
        let root = changed.first().map_or(self.root(), |(_, root)| *root);
        HistoryDelta { base_root: self.root(), root, heads, levels }
    }

    /// The heads after these entries, ascending by bucket.
    fn stage_heads(&self, entries: &[HistoryEntry]) -> Vec<(u32, Hash)> {
        let mut by_bucket: Vec<_> =
            entries.iter().map(|entry| (bucket_of(&entry.key, self.bits), entry)).collect();
        // Stable, so that the entries of one bucket stay in block order.
        by_bucket.sort_by_key(|(bucket, _)| *bucket);
        let buckets = || by_bucket.chunk_by(|a, b| a.0 == b.0);
        let before = gather(&self.heads, buckets().map(|entries| entries[0].0));
        let after = buckets().zip(before).map(|(entries, head)| {
            (entries[0].0, entries.iter().fold(head, |head, (_, entry)| entry.chain(&head)))
        });
        after.collect()
    }

    /// Makes a staged block's changes.
    ///
    /// # Panics
    /// The delta was staged on another tree: an error of the caller.
    pub fn commit(&mut self, delta: &HistoryDelta) {
        assert_eq!(delta.base_root, self.root(), "a delta of another tree");
        for (bucket, head) in &delta.heads {
            self.heads[*bucket as usize] = *head;
        }
        for (level, changed) in self.levels.iter_mut().zip(&delta.levels) {
            for (index, hash) in changed {
                level[*index as usize] = *hash;
            }
        }
    }
}

fn node_of_heads(left: &Hash, right: &Hash) -> Hash {
    node_hash(&leaf_hash(left.as_bytes()), &leaf_hash(right.as_bytes()))
}

/// Values from all over a table that no cache holds. Nothing but the reading is done here, so that the
/// processor waits for many of them at once; with the hashing in between it would wait for each.
fn gather(table: &[Hash], indexes: impl Iterator<Item = u32>) -> Vec<Hash> {
    indexes.map(|index| table[index as usize]).collect()
}

/// The parents of a level's changed nodes (ascending by index). `level` has that level as it was, and
/// `node` makes a node of a value there.
fn parents(
    changed: &[(u32, Hash)],
    level: &[Hash],
    node: impl Fn(Hash) -> Hash,
) -> Vec<(u32, Hash)> {
    let siblings = || changed.chunk_by(|a, b| a.0 >> 1 == b.0 >> 1);
    let alone = siblings().filter(|children| children.len() == 1);
    let mut unchanged =
        gather(level, alone.map(|children| children[0].0 ^ 1)).into_iter().map(node);
    let parent = |children: &[(u32, Hash)]| {
        let (index, hash) = children[0];
        let mut unchanged = || unchanged.next().expect("one for each that is alone");
        let hash = match children.get(1) {
            Some((_, right)) => node_hash(&hash, right),
            None if index & 1 == 0 => node_hash(&hash, &unchanged()),
            None => node_hash(&unchanged(), &hash),
        };
        (index >> 1, hash)
    };
    siblings().map(parent).collect()
}
