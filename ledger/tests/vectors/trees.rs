//! Hashes, trees and the history index.

use customhouse_ledger::{
    hash::Tag,
    history::{HistoryEntry, HistoryTree, bucket_of, empty_root, head_of},
    merkle::{self, Frontier, Tree},
};
use serde_json::{Value, json};

use super::{hashes, hex_of};

pub(crate) fn tags() -> Value {
    let tags = [
        Tag::GENESIS,
        Tag::RECORD,
        Tag::SUBJECT,
        Tag::SEALED_SUBJECT_ALPHA,
        Tag::SEALED_SUBJECT,
        Tag::DEDUPE,
        Tag::DEDUPE_SIGNER,
        Tag::MEMBERS,
        Tag::AGREEMENTS,
        Tag::AGREEMENT_OWN,
        Tag::AGREEMENT,
        Tag::AGREEMENT_TERMS,
        Tag::AGREEMENT_APPROVAL,
        Tag::AGREEMENT_EVENT,
        Tag::AGREEMENT_LEAVE,
        Tag::GRANT,
        Tag::TRANSACTION,
        Tag::TRANSACTION_SIGNATURE,
        Tag::HEADER,
        Tag::VOTE,
        Tag::LEAVES,
        Tag::PROPOSAL,
        Tag::VALIDATORS,
        Tag::REGISTRY,
        Tag::REGISTRY_PROPOSAL,
        Tag::REGISTRY_APPROVAL,
        Tag::IN_SYNC,
        Tag::HISTORY,
        Tag::MISBEHAVIOUR,
        Tag::ATTACHMENT,
        Tag::ACCEPTANCE,
    ];
    let vector = |tag: Tag| {
        let text = String::from_utf8_lossy(tag.as_bytes());
        json!({ "tag": text, "input": "616263", "hash": tag.hash(&[b"abc"]) })
    };
    tags.map(vector).to_vec().into()
}

pub(crate) fn merkle() -> Value {
    let leaves: Vec<Vec<u8>> = (0..7u8).map(|i| vec![i; usize::from(i)]).collect();
    let leaf_hashes: Vec<_> = leaves.iter().map(|leaf| merkle::leaf_hash(leaf)).collect();
    let trees = (0..=leaves.len()).map(|size| {
        let tree = Tree::of(&leaves[..size]);
        let paths = (0..size as u64).map(|i| hashes(&tree.inclusion_path(i).expect("a leaf")));
        json!({ "size": size, "root": tree.root(), "inclusion_paths": paths.collect::<Vec<_>>() })
    });
    let mut frontier = Frontier::default();
    leaf_hashes.iter().for_each(|leaf| frontier.push(*leaf));
    let whole = Tree::of(&leaves);
    let consistency = (1..=7u64).map(|from| {
        let path = whole.consistency_path(from).expect("in range");
        json!({ "from": from, "to": 7, "path": hashes(&path) })
    });
    json!({
        "leaves": leaves.iter().map(hex_of).collect::<Vec<_>>(),
        "leaf_hashes": hashes(&leaf_hashes),
        "trees": trees.collect::<Vec<_>>(),
        "consistency": consistency.collect::<Vec<_>>(),
        "frontier_of_7": hex_of(frontier.encode()),
    })
}

pub(crate) fn history() -> Value {
    let key = |byte: u8| Tag::SUBJECT.hash(&[&[byte]]);
    let entries: Vec<_> = (0..6u8)
        .map(|i| HistoryEntry { key: key(i % 3), log_index: (i / 2).into(), position: i.into() })
        .collect();
    let mut tree = HistoryTree::empty(8);
    tree.commit(&tree.stage(&entries));
    let described = entries.iter().map(|entry| {
        let bucket = bucket_of(&entry.key, 8);
        json!({ "layout": hex_of(entry.encode()), "bucket": bucket })
    });
    let buckets = (0..3u8).map(|i| {
        let bucket = bucket_of(&key(i), 8);
        let of_bucket = entries.iter().filter(|entry| bucket_of(&entry.key, 8) == bucket);
        let path = hashes(&tree.path(bucket));
        json!({ "bucket": bucket, "head": head_of(of_bucket), "path": path })
    });
    let empty_roots = [8, 16, 20, 24].map(|bits| json!({ "bits": bits, "root": empty_root(bits) }));
    json!({
        "empty_roots": empty_roots,
        "bits": 8,
        "entries": described.collect::<Vec<_>>(),
        "buckets": buckets.collect::<Vec<_>>(),
        "root": tree.root(),
    })
}
