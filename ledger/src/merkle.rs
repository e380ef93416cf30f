//! Merkle trees, exactly those of RFC 6962 section 2.1: leaf prefix `0x00`, node prefix `0x01`, no
//! duplicated odd leaf.

use sha2::{Digest, Sha256};

use crate::hash::Hash;

/// Hash of a leaf: SHA-256(0x00 ‖ data).
pub fn leaf_hash(data: &[u8]) -> Hash {
    Hash(Sha256::new_with_prefix([0x00]).chain_update(data).finalize().into())
}

/// Hash of a node: SHA-256(0x01 ‖ left ‖ right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let hasher = Sha256::new_with_prefix([0x01]);
    Hash(hasher.chain_update(left.0).chain_update(right.0).finalize().into())
}

/// Root of no leaves: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Hash(Sha256::digest([]).into())
}

/// Root over leaf data.
pub fn root<T: AsRef<[u8]>>(leaves: &[T]) -> Hash {
    let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf.as_ref())).collect();
    root_of_hashes(&hashes)
}

/// Root over leaf hashes.
pub fn root_of_hashes(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = hashes.split_at(split(hashes.len()));
            node_hash(&root_of_hashes(left), &root_of_hashes(right))
        }
    }
}

/// The RFC 6962 audit path of the leaf at `index`, from the leaf up. Empty where there is no such
/// leaf.
pub fn inclusion_path<T: AsRef<[u8]>>(leaves: &[T], index: usize) -> Vec<Hash> {
    let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf.as_ref())).collect();
    let mut path = Vec::new();
    let (mut rest, mut index) = (&hashes[..], index);
    while index < rest.len() && rest.len() > 1 {
        let (left, right) = rest.split_at(split(rest.len()));
        if index < left.len() {
            path.push(root_of_hashes(right));
            rest = left;
        } else {
            path.push(root_of_hashes(left));
            index -= left.len();
            rest = right;
        }
    }
    path.reverse();
    path
}

/// The largest power of two below `n`, for n > 1.
fn split(n: usize) -> usize {
    n.next_power_of_two() / 2
}
