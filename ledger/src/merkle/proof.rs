//! Making and checking inclusion and consistency proofs (RFC 6962 §2.1; the checks are those of
//! RFC 9162 §2.1.3.2 and §2.1.4.2).

use crate::{
    hash::Hash,
    merkle::{NodeId, node_hash},
};

/// A proof was asked for that cannot exist: of a leaf outside the tree, or between sizes that are
/// zero or in the wrong order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such leaf or tree size")]
pub struct OutOfRange;

/// Why a proof was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The leaf's index is not below the tree's size.
    #[error("leaf {index} is not in a tree of {size}")]
    Index {
        /// Of the leaf.
        index: u64,
        /// Of the tree.
        size: u64,
    },
    /// Consistency with the empty tree says nothing, so it is never asked for.
    #[error("the older tree is empty")]
    EmptyTree,
    /// The older tree is larger than the newer.
    #[error("the older size {from} is above the newer {to}")]
    Sizes {
        /// The older size.
        from: u64,
        /// The newer size.
        to: u64,
    },
    /// The path has fewer hashes than the sizes ask for.
    #[error("the path is too short")]
    PathTooShort,
    /// The path has more hashes than the sizes ask for.
    #[error("the path is too long")]
    PathTooLong,
    /// The path leads to another root, or to another newer root.
    #[error("the path leads to another root")]
    Root,
    /// The path leads to another older root.
    #[error("the path leads to another older root")]
    OldRoot,
}

/// The hash of the leaves `start .. start + count`, which are a subtree of the recursion of
/// RFC 6962: `start` is a multiple of the power of two at or above `count`.
fn subtree_hash<E>(
    start: u64,
    count: u64,
    read: &mut impl FnMut(NodeId) -> Result<Hash, E>,
) -> Result<Hash, E> {
    if count.is_power_of_two() {
        let level = count.trailing_zeros();
        let level_u8 = u8::try_from(level).expect("below 64");
        return read(NodeId { level: level_u8, index: start >> level });
    }
    let left = split(count);
    let left_hash = subtree_hash(start, left, read)?;
    Ok(node_hash(&left_hash, &subtree_hash(start + left, count - left, read)?))
}

/// The largest power of two below `count`, which is above 1.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// The path that proves leaf `index` of the first `size` leaves, from the leaf up.
///
/// # Errors
/// [`OutOfRange`], or what `read` gives.
pub fn inclusion_path<E: From<OutOfRange>>(
    index: u64,
    size: u64,
    mut read: impl FnMut(NodeId) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    if index >= size {
        return Err(OutOfRange.into());
    }
    let (mut start, mut count) = (0, size);
    let mut path = Vec::new();
    while count > 1 {
        let left = split(count);
        if index - start < left {
            path.push(subtree_hash(start + left, count - left, &mut read)?);
            count = left;
        } else {
            path.push(subtree_hash(start, left, &mut read)?);
            start += left;
            count -= left;
        }
    }
    path.reverse();
    Ok(path)
}

/// The path that proves that the tree of the first `from` leaves is a prefix of that of the first
/// `to`.
///
/// # Errors
/// [`OutOfRange`] unless `0 < from ≤ to`, or what `read` gives.
pub fn consistency_path<E: From<OutOfRange>>(
    from: u64,
    to: u64,
    mut read: impl FnMut(NodeId) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    if from == 0 || from > to {
        return Err(OutOfRange.into());
    }
    let (mut start, mut count, mut old) = (0, to, from);
    // Whether the old tree's part is still the whole old tree, whose root the verifier knows.
    let mut whole = true;
    let mut path = Vec::new();
    while old < count {
        let left = split(count);
        if old <= left {
            path.push(subtree_hash(start + left, count - left, &mut read)?);
            count = left;
        } else {
            path.push(subtree_hash(start, left, &mut read)?);
            start += left;
            old -= left;
            count -= left;
            whole = false;
        }
    }
    if !whole {
        path.push(subtree_hash(start, count, &mut read)?);
    }
    path.reverse();
    Ok(path)
}

/// Checks that the leaf with this hash is at `index` of the tree of `size` leaves with this root.
///
/// # Errors
/// [`ProofError`]; the path must have exactly the length that index and size ask for.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    path: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if root_from_inclusion(leaf, index, size, path)? == *root {
        Ok(())
    } else {
        Err(ProofError::Root)
    }
}

/// The root that a path of exactly the right length leads to, for a caller that knows the root only
/// as a part of another hash.
///
/// # Errors
/// Every [`ProofError`] but those of roots.
pub fn root_from_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    path: &[Hash],
) -> Result<Hash, ProofError> {
    if index >= size {
        return Err(ProofError::Index { index, size });
    }
    let mut walk = Walk { node: index, last: size - 1 };
    let mut hash = *leaf;
    for sibling in path {
        hash = match walk.up()? {
            Side::Left => node_hash(sibling, &hash),
            Side::Right => node_hash(&hash, sibling),
        };
    }
    walk.finish()?;
    Ok(hash)
}

/// Checks that the tree of `from` leaves with root `from_root` is a prefix of the tree of `to`
/// leaves with root `to_root`.
///
/// # Errors
/// [`ProofError`]; the path must have exactly the length that the sizes ask for.
pub fn verify_consistency(
    from: u64,
    to: u64,
    from_root: &Hash,
    to_root: &Hash,
    path: &[Hash],
) -> Result<(), ProofError> {
    if from == 0 {
        return Err(ProofError::EmptyTree);
    }
    if from > to {
        return Err(ProofError::Sizes { from, to });
    }
    if from == to {
        return match (path, from_root == to_root) {
            ([], true) => Ok(()),
            ([], false) => Err(ProofError::Root),
            _ => Err(ProofError::PathTooLong),
        };
    }
    // The walk starts at the old tree's last complete subtree; where that is the whole old tree,
    // its hash is the old root and is not in the path.
    let shift = from.trailing_zeros();
    let mut walk = Walk { node: (from - 1) >> shift, last: (to - 1) >> shift };
    let (seed, rest) = if from.is_power_of_two() {
        (from_root, path)
    } else {
        path.split_first().ok_or(ProofError::PathTooShort)?
    };
    let (mut old, mut new) = (*seed, *seed);
    for sibling in rest {
        match walk.up()? {
            Side::Left => {
                old = node_hash(sibling, &old);
                new = node_hash(sibling, &new);
            }
            Side::Right => new = node_hash(&new, sibling),
        }
    }
    walk.finish()?;
    if old != *from_root {
        return Err(ProofError::OldRoot);
    }
    if new == *to_root { Ok(()) } else { Err(ProofError::Root) }
}

/// On which side of the node its sibling is.
enum Side {
    Left,
    Right,
}

/// A walk from a node to the root: the indexes, in the current level, of the node and of the
/// level's last node.
struct Walk {
    node: u64,
    last: u64,
}

impl Walk {
    /// Goes up to the next level in which the node has a sibling and tells where that is.
    fn up(&mut self) -> Result<Side, ProofError> {
        if self.last == 0 {
            return Err(ProofError::PathTooLong);
        }
        let side = if self.node & 1 == 1 || self.node == self.last {
            // The last node of a level without a right sibling goes up unhashed.
            while self.node & 1 == 0 && self.node != 0 {
                self.shift();
            }
            Side::Left
        } else {
            Side::Right
        };
        self.shift();
        Ok(side)
    }

    fn shift(&mut self) {
        self.node >>= 1;
        self.last >>= 1;
    }

    fn finish(self) -> Result<(), ProofError> {
        if self.last == 0 { Ok(()) } else { Err(ProofError::PathTooShort) }
    }
}
