//! The trees against a transcription of RFC 6962 and against the published vectors.

use std::{
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// MTH of RFC 6962 §2.1.
fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(naive_split(leaves.len()));
            node_hash(&naive_root(left), &naive_root(right))
        }
    }
}

/// PATH of RFC 6962 §2.1.1.
fn naive_inclusion(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return vec![];
    }
    let k = naive_split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut path, sibling) = if index < k {
        (naive_inclusion(index, left), naive_root(right))
    } else {
        (naive_inclusion(index - k, right), naive_root(left))
    };
    path.push(sibling);
    path
}

/// SUBPROOF of RFC 6962 §2.1.2.
fn naive_consistency(from: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if from == leaves.len() {
        return if whole { vec![] } else { vec![naive_root(leaves)] };
    }
    let k = naive_split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut path, sibling) = if from <= k {
        (naive_consistency(from, left, whole), naive_root(right))
    } else {
        (naive_consistency(from - k, right, false), naive_root(left))
    };
    path.push(sibling);
    path
}

fn naive_split(n: usize) -> usize {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}

fn leaves(n: usize) -> Vec<Hash> {
    (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
}

#[test]
fn every_small_tree_is_that_of_the_rfc() {
    let all = leaves(70);
    for n in 0..=all.len() {
        let tree = Tree::new(all[..n].to_vec());
        let expected = naive_root(&all[..n]);
        assert_eq!(tree.root(), expected, "{n} leaves");
        assert_eq!(root_of_hashes(all[..n].iter().copied()), expected, "{n} leaves");
        for index in 0..n {
            let path = tree.inclusion_path(index as u64).expect("a leaf");
            assert_eq!(path, naive_inclusion(index, &all[..n]), "leaf {index} of {n}");
            let leaf = &all[index];
            assert_eq!(verify_inclusion(leaf, index as u64, n as u64, &path, &expected), Ok(()));
        }
        assert_eq!(tree.inclusion_path(n as u64), Err(OutOfRange));
        for from in 1..=n {
            let (from_size, to_size) = (from as u64, n as u64);
            let path = consistency_path(from_size, to_size, |node| tree.node(node))
                .expect("sizes in range");
            assert_eq!(path, naive_consistency(from, &all[..n], true), "{from} to {n}");
            let from_root = naive_root(&all[..from]);
            let outcome = verify_consistency(from_size, to_size, &from_root, &expected, &path);
            assert_eq!(outcome, Ok(()), "{from} to {n}");
        }
    }
}

#[test]
fn a_frontier_survives_its_layout_and_can_be_read_back_from_the_nodes() {
    let all = leaves(300);
    let tree = Tree::new(all.clone());
    let mut frontier = Frontier::default();
    for (n, leaf) in all.iter().enumerate() {
        assert_eq!(Frontier::decode(&frontier.encode()), Ok(frontier.clone()));
        assert_eq!(Frontier::read(n as u64, |node| tree.node(node)), Ok(frontier.clone()));
        frontier.push(*leaf);
    }
    let bytes = frontier.encode();
    assert!(Frontier::decode(&bytes[..bytes.len() - 1]).is_err());
    assert!(Frontier::decode(&[&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn a_push_shows_each_complete_subtree_once() {
    let all = leaves(40);
    let tree = Tree::new(all.clone());
    let mut frontier = Frontier::default();
    let mut shown = 0;
    for leaf in all {
        frontier.push_with(leaf, |node, hash| {
            assert_eq!(tree.node(node), Ok(hash), "{node:?}");
            shown += 1;
        });
    }
    assert_eq!(shown, tree.levels.iter().map(Vec::len).sum::<usize>());
}

#[test]
fn proofs_that_cannot_exist_are_refused_by_name() {
    let all = leaves(5);
    let tree = Tree::new(all.clone());
    let path = tree.inclusion_path(2).expect("a leaf");
    let check = |index, path: &[Hash]| verify_inclusion(&all[2], index, 5, path, &tree.root());
    assert_eq!(check(5, &path), Err(ProofError::Index { index: 5, size: 5 }));
    assert_eq!(check(2, &path[1..]), Err(ProofError::PathTooShort));
    assert_eq!(check(2, &[&path[..], &path[..1]].concat()), Err(ProofError::PathTooLong));
    assert_eq!(check(3, &path), Err(ProofError::Root));

    let roots: Vec<_> = (0..=5).map(|n| naive_root(&all[..n])).collect();
    let path = consistency_path(3, 5, |node| tree.node(node)).expect("in range");
    let check = |from, to, old: usize, new: usize, path: &[Hash]| {
        verify_consistency(from, to, &roots[old], &roots[new], path)
    };
    assert_eq!(check(0, 5, 0, 5, &path), Err(ProofError::EmptyTree));
    assert_eq!(check(5, 3, 5, 3, &path), Err(ProofError::Sizes { from: 5, to: 3 }));
    assert_eq!(check(3, 5, 3, 5, &[]), Err(ProofError::PathTooShort));
    assert_eq!(check(3, 5, 3, 5, &path[1..]), Err(ProofError::PathTooShort));
    assert_eq!(check(3, 5, 3, 5, &[&path[..], &path[..1]].concat()), Err(ProofError::PathTooLong));
    assert_eq!(check(3, 5, 2, 5, &path), Err(ProofError::OldRoot));
    assert_eq!(check(3, 5, 3, 4, &path), Err(ProofError::Root));
    assert_eq!(check(5, 5, 5, 5, &path), Err(ProofError::PathTooLong));
    let read = |node| tree.node(node);
    assert_eq!(consistency_path(0, 5, read), Err(OutOfRange));
    assert_eq!(consistency_path(5, 4, read), Err(OutOfRange));
}

proptest! {
    #[test]
    fn large_trees_are_those_of_the_rfc(n in 1usize..3000, a in 0usize..3000, b in 0usize..64) {
        let all = leaves(n);
        let (index, from) = (a % n, a % n + 1);
        let tree = Tree::new(all.clone());
        let mut reads = 0;
        let path = inclusion_path(index as u64, n as u64, |node| {
            reads += 1;
            tree.node(node)
        });
        let path = path.expect("a leaf");
        prop_assert!(reads <= 64, "{} reads", reads);
        prop_assert_eq!(&path, &naive_inclusion(index, &all));
        let whole = naive_root(&all);
        let verify = |path: &[Hash]| {
            verify_inclusion(&all[index], index as u64, n as u64, path, &whole)
        };
        prop_assert_eq!(verify(&path), Ok(()));
        if !path.is_empty() {
            let mut damaged = path.clone();
            damaged[b % path.len()].0[b % 32] ^= 1;
            prop_assert_eq!(verify(&damaged), Err(ProofError::Root));
        }
        let path = consistency_path(from as u64, n as u64, |node| tree.node(node));
        let path = path.expect("in range");
        prop_assert_eq!(&path, &naive_consistency(from, &all, true));
        let old = naive_root(&all[..from]);
        let verify =
            |path: &[Hash]| verify_consistency(from as u64, n as u64, &old, &whole, path);
        prop_assert_eq!(verify(&path), Ok(()));
        if !path.is_empty() {
            let mut damaged = path.clone();
            damaged[b % path.len()].0[b % 32] ^= 1;
            prop_assert!(verify(&damaged).is_err());
        }
    }

    #[test]
    fn no_other_index_or_size_fits_a_path(n in 1u64..200, i in 0u64..200, m in 1u64..200, j in 0u64..200) {
        let (i, j) = (i % n, j % m);
        let all = leaves(200);
        let path = Tree::new(all[..n as usize].to_vec()).inclusion_path(i).expect("a leaf");
        let root = naive_root(&all[..n as usize]);
        let outcome = verify_inclusion(&all[i as usize], j, m, &path, &root);
        // A path says nothing about the size beyond its own shape, so a size may differ; the
        // place among the leaves that the path passes may not.
        prop_assert!(outcome.is_err() || i == j || n != m, "{}/{} as {}/{}", i, n, j, m);
    }
}

/// The published vectors (transparency-dev/merkle), read in place. A root of another length than 32
/// bytes stands for any root; a leaf or path element of another length is refused where it is decoded.
#[test]
fn the_published_vectors_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/merkle");
    let mut files = Vec::new();
    collect_json(&folder, &mut files);
    if files.is_empty() {
        eprintln!("skipped: no vectors at {}", folder.display());
        return;
    }
    files.sort();
    let (mut inclusions, mut consistencies, mut accepted) = (0, 0, 0);
    for file in &files {
        let text = fs::read_to_string(file).expect("a readable vector");
        let vector: Value = serde_json::from_str(&text).expect("JSON");
        let holds = if vector.get("leafIdx").is_some() {
            inclusions += 1;
            inclusion_holds(&vector)
        } else {
            consistencies += 1;
            consistency_holds(&vector)
        };
        accepted += usize::from(holds);
        assert_eq!(holds, vector["wantErr"] == false, "{}: {}", file.display(), vector["desc"]);
    }
    assert_eq!((inclusions, consistencies, accepted), (98, 98, 12), "all of the folder");
}

fn inclusion_holds(vector: &Value) -> bool {
    let Some(path) = path_of(vector) else { return false };
    let Ok(leaf) = Hash::from_slice(&base64(&vector["leafHash"])) else { return false };
    let root = any_hash(&vector["root"]);
    let index = vector["leafIdx"].as_u64().expect("an index");
    let size = vector["treeSize"].as_u64().expect("a size");
    verify_inclusion(&leaf, index, size, &path, &root).is_ok()
}

fn consistency_holds(vector: &Value) -> bool {
    let Some(path) = path_of(vector) else { return false };
    let (old, new) = (any_hash(&vector["root1"]), any_hash(&vector["root2"]));
    let size = |name: &str| vector[name].as_u64().expect("a size");
    verify_consistency(size("size1"), size("size2"), &old, &new, &path).is_ok()
}

fn path_of(vector: &Value) -> Option<Vec<Hash>> {
    let Some(elements) = vector["proof"].as_array() else { return Some(vec![]) };
    elements.iter().map(|element| Hash::from_slice(&base64(element)).ok()).collect()
}

fn any_hash(value: &Value) -> Hash {
    let bytes = base64(value);
    Hash::from_slice(&bytes).unwrap_or_else(|_| {
        let mut padded = [0; 32];
        let length = bytes.len().min(32);
        padded[..length].copy_from_slice(&bytes[..length]);
        Hash(padded)
    })
}

fn base64(value: &Value) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let Some(text) = value.as_str() else { return vec![] };
    let mut bytes = Vec::new();
    let (mut buffer, mut bits) = (0u32, 0);
    for symbol in text.bytes().filter(|b| *b != b'=') {
        let digit = ALPHABET.iter().position(|b| *b == symbol).expect("base64");
        buffer = (buffer << 6 | u32::try_from(digit).expect("below 64")) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits & 0xff) as u8);
        }
    }
    bytes
}

fn collect_json(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            collect_json(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
}
