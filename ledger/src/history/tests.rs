//! The tree and its overlay against a naive index.

use std::collections::BTreeMap;

use customhouse_proto::v1;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::{
    finality::{header::Header, vote::VoteKind},
    limits::HISTORY_PROOF_BYTES_MAX,
    proofs::{history::*, receipt::tests::finalize, verifier::Verifier},
    registry::genesis::{Genesis, tests::genesis},
};

/// Bucket entries in a plain map, and the root by RFC 6962 over all heads.
struct Naive {
    bits: u32,
    buckets: BTreeMap<u32, Vec<HistoryEntry>>,
}

impl Naive {
    fn root(&self) -> Hash {
        let head = |bucket| head_of(self.buckets.get(&bucket).into_iter().flatten());
        merkle::root_of_hashes((0..1 << self.bits).map(|b| merkle::leaf_hash(head(b).as_bytes())))
    }
}

fn entry(seed: u16, log_index: u64) -> HistoryEntry {
    let mut key = Tag::SUBJECT.hash(&[&seed.to_be_bytes()]);
    // Few different buckets, so that they are shared and next to each other.
    key.0[0] &= 0x0f;
    HistoryEntry { key, log_index, position: seed.into() }
}

#[test]
fn the_empty_tree_is_the_tree_over_zero_heads() {
    for bits in [8, 9, 12] {
        let naive = Naive { bits, buckets: BTreeMap::new() };
        assert_eq!(HistoryTree::empty(bits).root(), naive.root(), "{bits} bits");
        assert_eq!(empty_root(bits), naive.root(), "{bits} bits");
    }
}

#[test]
fn an_empty_block_changes_nothing() {
    let tree = HistoryTree::empty(8);
    let delta = tree.stage(&[]);
    assert_eq!((delta.root(), delta.heads()), (tree.root(), &[][..]));
}

/// Of entries in all buckets, and in some subtrees only.
#[test]
fn a_large_block_gives_the_tree_that_reading_its_heads_gives() {
    for (bits, first_bytes) in [(8, 256), (12, 256), (12, 64), (12, 1)] {
        let entries: Vec<_> = (0..5000_u64)
            .map(|log_index| {
                let mut key = Tag::SUBJECT.hash(&[&log_index.to_be_bytes()]);
                key.0[0] = (u32::from(key.0[0]) % first_bytes) as u8;
                HistoryEntry { key, log_index, position: 0 }
            })
            .collect();
        let mut tree = HistoryTree::empty(bits);
        let (first, second) = entries.split_at(2500);
        let mut heads = BTreeMap::<u32, Hash>::new();
        for part in [first, second] {
            for entry in part {
                let head = heads.entry(bucket_of(&entry.key, bits)).or_default();
                *head = entry.chain(head);
            }
            let read = heads.iter().map(|(bucket, head)| Ok::<_, ()>((*bucket, *head)));
            let delta = tree.stage(part);
            tree.commit(&delta);
            let expected = HistoryTree::read(bits, read).expect("no errors");
            assert!(tree == expected, "{bits} bits, {first_bytes} first bytes");
            assert_eq!(delta.root(), expected.root());
        }
    }
}

#[test]
#[should_panic(expected = "a delta of another tree")]
fn a_delta_is_committed_on_the_tree_it_was_staged_on() {
    let mut tree = HistoryTree::empty(8);
    let delta = tree.stage(&[entry(1, 0)]);
    tree.commit(&delta);
    tree.commit(&delta);
}

#[test]
fn the_bucket_is_the_first_bits_of_the_key() {
    let mut key = Hash::ZERO;
    key.0[..4].copy_from_slice(&[0xab, 0xcd, 0xef, 0x01]);
    assert_eq!(bucket_of(&key, 8), 0xab);
    assert_eq!(bucket_of(&key, 20), 0xabcde);
    assert_eq!(bucket_of(&key, 24), 0xabcdef);
}

#[test]
fn an_entry_survives_its_layout() {
    let entry = entry(7, 9);
    assert_eq!(HistoryEntry::decode(&entry.encode()), Ok(entry));
    assert!(HistoryEntry::decode(&entry.encode()[1..]).is_err());
}

/// A proof for the subject of `seed` in a history of 40 entries of 20 subjects in one bucket.
fn sample(seed: u16) -> (Genesis, v1::HistoryProof) {
    let genesis = genesis(4);
    let in_bucket = |seed: u16, log_index| {
        let mut entry = entry(seed, log_index);
        entry.key.0[0] = 9;
        entry
    };
    let entries: Vec<_> = (0..40).map(|i| in_bucket(i % 20, i.into())).collect();
    let mut tree = HistoryTree::empty(genesis.history_bits);
    tree.commit(&tree.stage(&entries));
    let header = Header {
        height: 1,
        log_size: 40,
        history_size: 40,
        history_root: tree.root(),
        view: 1,
        ..genesis.header()
    };
    let proof = v1::HistoryProof {
        subject_key: in_bucket(seed, 0).key.0.to_vec(),
        bucket_entries: entries.iter().flat_map(HistoryEntry::encode).collect(),
        path: merkle::path_bytes(&tree.path(9)),
        header: header.encode(),
        certificate: finalize(&header, &genesis, VoteKind::Finalize).encode(),
    };
    (genesis, proof)
}

#[test]
fn a_history_proof_gives_all_entries_of_the_subject() {
    let (genesis, proof) = sample(3);
    let history = Verifier::new(&genesis).verify_history(&proof.encode_to_vec()).expect("genuine");
    let places: Vec<_> = history.entries.iter().map(|entry| entry.log_index).collect();
    assert_eq!(places, [3, 23]);
}

#[test]
fn absence_is_proven_the_same_way() {
    let (genesis, proof) = sample(77);
    let history = Verifier::new(&genesis).verify_history(&proof.encode_to_vec()).expect("genuine");
    assert_eq!(history.entries, []);
}

/// The subject's key is the question, not a part of the proof: another key of the bucket is another
/// question with its own true answer.
#[test]
fn a_history_proof_with_a_flipped_bit_says_nothing_about_the_subject() {
    let (genesis, proof) = sample(3);
    let verifier = Verifier::new(&genesis);
    let bytes = proof.encode_to_vec();
    let subject_key = verifier.verify_history(&bytes).expect("genuine").subject_key;
    assert!(verifier.verify_history_of(&subject_key, &bytes).is_ok());
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(verifier.verify_history_of(&subject_key, &flipped).is_err(), "bit {bit}");
        if let Ok(other) = verifier.verify_history(&flipped) {
            assert!((2..34).contains(&(bit / 8)), "bit {bit} is not of the question");
            assert_eq!(other.entries, []);
        }
    }
}

#[test]
fn every_other_length_of_a_history_proof_is_refused() {
    let (genesis, proof) = sample(3);
    let verifier = Verifier::new(&genesis);
    let bytes = proof.encode_to_vec();
    for length in 0..bytes.len() {
        assert!(verifier.verify_history(&bytes[..length]).is_err(), "{length} bytes");
    }
    for extension in [&[0][..], &[0x78, 1], &bytes] {
        assert!(verifier.verify_history(&[&bytes, extension].concat()).is_err());
    }
    let large = vec![0; HISTORY_PROOF_BYTES_MAX + 1];
    assert_eq!(verifier.verify_history(&large), Err(HistoryProofError::TooLarge(large.len())));
}

#[test]
fn each_false_part_of_a_history_proof_has_its_name() {
    const LENGTH: usize = HistoryEntry::LENGTH;
    let (genesis, genuine) = sample(3);
    let verifier = Verifier::new(&genesis);
    let code = |change: &dyn Fn(&mut v1::HistoryProof)| {
        let mut proof = genuine.clone();
        change(&mut proof);
        verifier.verify_history(&proof.encode_to_vec()).expect_err("refused").code()
    };
    type Change<'a> = &'a dyn Fn(&mut v1::HistoryProof);
    let cases: [(&str, Change<'_>); 9] = [
        ("HISTORY_SUBJECT_KEY", &|p| p.subject_key.truncate(31)),
        ("HISTORY_PATH_MALFORMED", &|p| p.path.truncate(31)),
        ("HISTORY_ENTRIES_MALFORMED", &|p| p.bucket_entries.truncate(LENGTH - 1)),
        ("HISTORY_OTHER_BUCKET", &|p| p.bucket_entries[0] ^= 1),
        ("HISTORY_ORDER", &|p| p.bucket_entries.rotate_left(LENGTH)),
        ("HISTORY_BEYOND_HEADER", &|p| p.bucket_entries[39 * LENGTH + 39] = 40),
        // The last entry of the subject is withheld.
        ("HISTORY_ROOT", &|p| drop(p.bucket_entries.drain(23 * LENGTH..24 * LENGTH))),
        ("HISTORY_ROOT", &|p| p.path.truncate(p.path.len() - 32)),
        ("CERTIFICATE_MALFORMED", &|p| p.certificate.clear()),
    ];
    for (expected, change) in cases {
        assert_eq!(code(change), expected);
    }
}

proptest! {
    #[test]
    fn a_staged_block_gives_what_the_naive_index_gives(
        blocks in prop::collection::vec(prop::collection::vec(any::<u16>(), 0..40), 1..6),
        bits in 8u32..=10,
    ) {
        let mut tree = HistoryTree::empty(bits);
        let mut naive = Naive { bits, buckets: BTreeMap::new() };
        for (log_index, seeds) in (0..).zip(&blocks) {
            let entries: Vec<_> = seeds.iter().map(|seed| entry(*seed, log_index)).collect();
            let before = tree.clone();
            let delta = tree.stage(&entries);
            prop_assert_eq!(&tree, &before, "staging changes nothing");
            tree.commit(&delta);
            for entry in entries {
                naive.buckets.entry(bucket_of(&entry.key, bits)).or_default().push(entry);
            }
            prop_assert_eq!(delta.root(), naive.root());
            prop_assert_eq!(tree.root(), naive.root());
        }
        let heads = naive.buckets.iter().map(|(bucket, entries)| (*bucket, head_of(entries)));
        let rebuilt = HistoryTree::read(bits, heads.map(Ok::<_, ()>)).expect("no errors");
        prop_assert_eq!(&rebuilt, &tree, "rebuilt from the heads");
        for bucket in [0, 1, 7, 15, (1 << bits) - 1] {
            let path = tree.path(bucket);
            prop_assert_eq!(path.len(), bits as usize);
            let leaf = merkle::leaf_hash(tree.head(bucket).as_bytes());
            let outcome =
                merkle::verify_inclusion(&leaf, bucket.into(), 1 << bits, &path, &tree.root());
            prop_assert_eq!(outcome, Ok(()));
        }
    }
}
