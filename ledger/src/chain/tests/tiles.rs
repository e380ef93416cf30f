//! The log as tiles: what is served is the committed log and leads to its certified root.

use super::*;
use crate::{
    merkle::{self, leaf_hash},
    store::{Table, table},
    tlog::{
        bundle,
        path::{TilePath, width_in},
    },
};

/// A chain of blocks with these numbers of transactions, each of one record, and all leaf hashes in order.
fn grown(fixture: &Fixture, blocks: &[u64]) -> (Chain, Vec<Hash>) {
    let mut chain = fixture.open();
    let (mut leaves, mut next) = (Vec::new(), 0);
    for block in blocks {
        let transactions: Vec<_> =
            (next..next + block).map(|number| fixture.transaction(1, number..number + 1)).collect();
        next += block;
        commit(&mut chain, &transactions);
        leaves.extend(transactions.iter().map(|transaction| transaction.leaf_hash()));
    }
    (chain, leaves)
}

fn resource(chain: &Chain, path: &str) -> Option<Vec<u8>> {
    let path: TilePath = path.parse().expect("a path");
    chain.reader().log_resource(path).expect("a sound store")
}

#[test]
fn every_width_of_every_tile_is_that_of_the_leaves() {
    let fixture = Fixture::new();
    let (chain, leaves) = grown(&fixture, &[100, 200, 250]);
    assert_eq!(chain.tip().header.log_size, 550);
    let reader = chain.reader();
    let tile = |level, index, width| reader.log_tile(level, index, width).expect("sound");
    for (index, leaves) in (0..).zip(leaves.chunks(256)) {
        for width in 1..=leaves.len() {
            let expected = Some(leaves[..width].to_vec());
            assert_eq!(tile(0, index, width as u64), expected, "{index} {width}");
        }
    }
    let full = leaves.chunks_exact(256);
    let above: Vec<_> = full.map(|leaves| merkle::root_of_hashes(leaves.iter().copied())).collect();
    assert_eq!(tile(1, 0, 1), Some(above[..1].to_vec()));
    assert_eq!(tile(1, 0, 2), Some(above));
    for (level, index, width) in
        [(0, 2, 39), (0, 2, 256), (0, 3, 1), (0, 0, 0), (1, 0, 3), (1, 1, 1), (2, 0, 1), (63, 0, 1)]
    {
        assert_eq!(tile(level, index, width), None, "{level} {index} {width}");
    }
}

#[test]
fn bundles_have_the_leaves_and_paths_name_them() {
    let fixture = Fixture::new();
    let (chain, leaves) = grown(&fixture, &[5]);
    let bundle = resource(&chain, "tile/entries/000.p/5").expect("five entries");
    let entries = bundle::decode(&bundle).expect("a bundle");
    assert!(entries.iter().all(|entry| entry.len() == 188));
    assert_eq!(entries.iter().map(|entry| leaf_hash(entry)).collect::<Vec<_>>(), leaves);
    let hashes = resource(&chain, "tile/0/000.p/3").expect("three hashes");
    assert_eq!(hashes, leaves[..3].iter().flat_map(|hash| hash.0).collect::<Vec<_>>());
    for none in ["tile/entries/000", "tile/entries/000.p/6", "tile/0/000", "tile/1/000.p/1"] {
        assert_eq!(resource(&chain, none), None, "{none}");
    }
}

#[test]
fn an_empty_log_has_no_tiles() {
    let fixture = Fixture::new();
    let chain = fixture.open();
    assert_eq!(resource(&chain, "tile/0/000.p/1"), None);
    assert_eq!(resource(&chain, "tile/entries/000.p/1"), None);
    assert_eq!(chain.reader().log_inclusion(&chain.tip().header, 0), Ok(None));
}

#[test]
fn a_leaf_is_proven_in_the_newest_log() {
    let fixture = Fixture::new();
    let (chain, leaves) = grown(&fixture, &[3, 300, 7]);
    let (tip, reader) = (chain.tip(), chain.reader());
    let header = &tip.header;
    for (index, leaf) in (0..).zip(&leaves) {
        let path = reader.log_inclusion(header, index).expect("sound").expect("a leaf");
        let proven =
            merkle::verify_inclusion(leaf, index, header.log_size, &path, &header.log_root);
        assert_eq!(proven, Ok(()), "{index}");
    }
    assert_eq!(reader.log_inclusion(header, 310), Ok(None));
    // In an earlier log, and in one that is not there yet.
    let earlier = reader.header(1).expect("sound").expect("committed").header;
    assert!(reader.log_inclusion(&earlier, 2).expect("sound").is_some());
    assert_eq!(reader.log_inclusion(&earlier, 3), Ok(None));
    let later = Header { log_size: 311, ..header.clone() };
    assert_eq!(reader.log_inclusion(&later, 0), Err(StoreError::OutOfRange));
}

/// Rows that the writer has put on the disk are nobody's business before their block is committed.
#[test]
fn rows_beyond_the_committed_log_are_not_served() {
    let fixture = Fixture::new();
    let (chain, _) = grown(&fixture, &[3]);
    let row = chain.shared.store.read(Table::Tiles, table::tile(0, 0));
    let row = row.expect("readable").expect("a tile").to_vec();
    let mut batch = chain.shared.store.batch();
    batch.put(Table::Tiles, table::tile(0, 0), [&row[..], &[7; 32]].concat());
    batch.write().expect("written");
    assert!(resource(&chain, "tile/0/000.p/3").is_some());
    assert_eq!(resource(&chain, "tile/0/000.p/4"), None);
}

#[test]
fn a_flipped_bit_in_any_tile_is_found_and_not_served() {
    let fixture = Fixture::new();
    let (chain, _) = grown(&fixture, &[300, 280]);
    let reader = chain.reader();
    let size = chain.tip().header.log_size;
    let tiles = [(0, 0), (0, 1), (0, 2), (1, 0)];
    for (level, index) in tiles {
        let key = table::tile(level, index);
        let row = chain.shared.store.read(Table::Tiles, key).expect("readable").expect("a tile");
        let genuine = row.to_vec();
        drop(row);
        for hash in 0..genuine.len() / 32 {
            let mut damaged = genuine.clone();
            damaged[hash * 32 + hash % 32] ^= 1 << (hash % 8);
            put(&chain, &key, &damaged);
            let width = width_in(level, index, size);
            let refused = reader.log_tile(level, index, width).expect_err("damaged");
            assert!(refused.is_corruption(), "{level} {index} {hash}: {refused}");
            // A narrower one with the damaged hash in it, too.
            let narrow = reader.log_tile(level, index, hash as u64 + 1);
            assert!(narrow.is_err(), "{level} {index} {hash}");
        }
        put(&chain, &key, &genuine);
        assert!(reader.log_tile(level, index, 1).is_ok());
    }
}

fn put(chain: &Chain, key: &[u8], value: &[u8]) {
    let mut batch = chain.shared.store.batch();
    batch.put(Table::Tiles, key, value);
    batch.write().expect("written");
}
