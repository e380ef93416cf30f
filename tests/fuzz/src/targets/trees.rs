//! Paths in RFC 6962 trees, against trees whose leaves are known.

use std::sync::LazyLock;

use customhouse_ledger::{
    hash::Hash,
    merkle::{self, Tree},
};

/// Leaves of the largest tree.
const SIZE_MAX: usize = 70;

/// The leaf hashes: of no bytes, and those of docs/vectors where they go on.
static LEAVES: LazyLock<Vec<Hash>> = LazyLock::new(|| {
    let published = super::seeds::value("merkle.json", "/leaf_hashes").as_array().expect("a list");
    let read = |value: &serde_json::Value| {
        let bytes = hex::decode(value.as_str().expect("text")).expect("hexadecimal");
        Hash::from_slice(&bytes).expect("32 bytes")
    };
    let others = (0..SIZE_MAX).map(|index| merkle::leaf_hash(&index.to_be_bytes()));
    published.iter().map(read).chain(others).take(SIZE_MAX).collect()
});

/// Two numbers of one byte, and a path.
fn parse(bytes: &[u8]) -> Option<(usize, usize, Vec<Hash>)> {
    let (&[first, second], path) = bytes.split_first_chunk()?;
    let elements = path.chunks(32).map(Hash::from_slice).collect::<Result<_, _>>().ok()?;
    let (first, second) = (first.into(), second.into());
    (first <= SIZE_MAX && second <= SIZE_MAX).then_some((first, second, elements))
}

/// An index, a size, and an inclusion path: only the leaf's own is taken.
pub fn merkle_inclusion(bytes: &[u8]) -> bool {
    let Some((index, size, path)) = parse(bytes) else { return false };
    let Some(leaf) = LEAVES.get(index) else { return false };
    let tree = Tree::new(LEAVES[..size].to_vec());
    let (place, leaves) = (index as u64, size as u64);
    let taken = merkle::verify_inclusion(leaf, place, leaves, &path, &tree.root()).is_ok();
    assert_eq!(taken, tree.inclusion_path(place) == Ok(path));
    taken
}

/// Two sizes and a consistency path: only that between the two trees is taken.
pub fn merkle_consistency(bytes: &[u8]) -> bool {
    let Some((from, to, path)) = parse(bytes) else { return false };
    let tree = Tree::new(LEAVES[..to].to_vec());
    let old = merkle::root_of_hashes(LEAVES[..from].iter().copied());
    let sizes = (from as u64, to as u64);
    let taken = merkle::verify_consistency(sizes.0, sizes.1, &old, &tree.root(), &path).is_ok();
    assert_eq!(taken, tree.consistency_path(sizes.0) == Ok(path));
    taken
}
