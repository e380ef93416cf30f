//! The log's tree in tiles of 256 hashes.
//!
//! Tile (L, t) has the hashes of the complete subtrees of 256^L leaves with the indexes
//! `256 t .. 256 (t + 1)`, as many as there are. Any complete subtree follows from one tile, so a
//! proof for any size the log ever had reads O(log n) tiles.

use std::collections::{BTreeMap, btree_map::Entry};

use crate::{
    hash::Hash,
    merkle::{self, Frontier, NodeId},
    store::{Store, StoreError, Table, table},
};

/// Hashes of a full tile.
pub(crate) const TILE_HASHES: usize = 256;
/// Tree levels from one tile level to the next.
const TILE_LEVELS: u8 = 8;

/// The right edge of the log: what is needed to append to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogEdge {
    frontier: Frontier,
    /// The unfinished tile of each tile level.
    tiles: Vec<Vec<Hash>>,
}

/// Tiles that appending leaves changed, whole, by level and index.
pub(crate) type ChangedTiles = BTreeMap<(u8, u64), Vec<Hash>>;

impl LogEdge {
    /// The edge of a log of this size, from its tiles.
    pub(crate) fn read(store: &Store, size: u64) -> Result<Self, StoreError> {
        let frontier = Frontier::read(size, |node| store.log_node(node))?;
        let mut tiles = Vec::new();
        let mut hashes = size;
        while hashes > 0 {
            let level = u8::try_from(tiles.len()).expect("at most 8 tile levels");
            let (index, count) = (hashes >> TILE_LEVELS, (hashes % TILE_HASHES as u64) as usize);
            let tile = if count == 0 { vec![] } else { store.tile(level, index)? };
            let tile = tile.get(..count).ok_or_else(|| {
                StoreError::corrupt(Table::Tiles, &table::tile(level, index), "hashes are missing")
            })?;
            tiles.push(tile.to_vec());
            hashes >>= TILE_LEVELS;
        }
        Ok(Self { frontier, tiles })
    }

    /// Leaves.
    pub(crate) fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The root over all leaves.
    pub(crate) fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// The tiles that are not full yet, by level and index.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = ((u8, u64), &[Hash])> {
        let size = self.size();
        let tiles = (0u8..).zip(&self.tiles).filter(|(_, hashes)| !hashes.is_empty());
        tiles.map(move |(level, hashes)| {
            let shift = u32::from(TILE_LEVELS) * (u32::from(level) + 1);
            ((level, size.checked_shr(shift).unwrap_or(0)), &hashes[..])
        })
    }

    /// Appends a leaf and notes the tiles that it changes.
    pub(crate) fn append(&mut self, leaf: Hash, changed: &mut ChangedTiles) {
        let tiles = &mut self.tiles;
        self.frontier.push_with(leaf, |node, hash| {
            if !node.level.is_multiple_of(TILE_LEVELS) {
                return;
            }
            let level = node.level / TILE_LEVELS;
            if tiles.len() <= usize::from(level) {
                tiles.push(Vec::new());
            }
            let tile = &mut tiles[usize::from(level)];
            let row = changed.entry((level, node.index >> TILE_LEVELS));
            row.or_insert_with(|| tile.clone()).push(hash);
            tile.push(hash);
            if tile.len() == TILE_HASHES {
                tile.clear();
            }
        });
    }
}

impl Store {
    /// The hash of a complete subtree of the log.
    pub(crate) fn log_node(&self, node: NodeId) -> Result<Hash, StoreError> {
        let (level, index) = tile_of(node);
        hash_in(&self.tile(level, index)?, node)
    }

    /// The leaf hashes of a range of the log.
    pub(crate) fn log_leaves(&self, start: u64, end: u64) -> Result<Vec<Hash>, StoreError> {
        let mut leaves = Vec::new();
        let mut next = start;
        while next < end {
            let index = next >> TILE_LEVELS;
            let tile_start = index << TILE_LEVELS;
            let tile = self.tile(0, index)?;
            let last = (end - tile_start).min(TILE_HASHES as u64) as usize;
            let wanted = tile.get((next - tile_start) as usize..last).ok_or_else(|| {
                StoreError::corrupt(Table::Tiles, &table::tile(0, index), "hashes are missing")
            })?;
            leaves.extend_from_slice(wanted);
            next = tile_start + last as u64;
        }
        Ok(leaves)
    }

    /// A tile, with as many hashes as were written: those of committed leaves and, while a block is
    /// being committed, of its leaves too.
    fn tile(&self, level: u8, index: u64) -> Result<Vec<Hash>, StoreError> {
        let key = table::tile(level, index);
        let corrupt = |what: &str| StoreError::corrupt(Table::Tiles, &key, what);
        let bytes = self.read(Table::Tiles, key)?.ok_or_else(|| corrupt("missing"))?;
        let (hashes, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() || hashes.len() > TILE_HASHES {
            return Err(corrupt("not a tile's length"));
        }
        Ok(hashes.iter().map(|hash| Hash(*hash)).collect())
    }
}

/// The tile that a node's hash follows from, by level and index.
fn tile_of(node: NodeId) -> (u8, u64) {
    let (level, above) = (node.level / TILE_LEVELS, node.level % TILE_LEVELS);
    (level, (node.index << above) >> TILE_LEVELS)
}

/// The hash of a node, from its tile.
fn hash_in(tile: &[Hash], node: NodeId) -> Result<Hash, StoreError> {
    let above = node.level % TILE_LEVELS;
    let start = ((node.index << above) % TILE_HASHES as u64) as usize;
    let hashes = tile.get(start..start + (1 << above)).ok_or_else(|| {
        let (level, index) = tile_of(node);
        StoreError::corrupt(Table::Tiles, &table::tile(level, index), "hashes are missing")
    })?;
    Ok(merkle::root_of_hashes(hashes.iter().copied()))
}

/// Reads nodes of the log and remembers the tiles that they are in: what is read twice is the same.
pub(crate) struct TileReader<'a> {
    store: &'a Store,
    tiles: BTreeMap<(u8, u64), Vec<Hash>>,
}

impl<'a> TileReader<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store, tiles: BTreeMap::new() }
    }

    /// A tile, as [`Store::tile`] has it.
    pub(crate) fn tile(&mut self, level: u8, index: u64) -> Result<&[Hash], StoreError> {
        match self.tiles.entry((level, index)) {
            Entry::Occupied(tile) => Ok(tile.into_mut()),
            Entry::Vacant(place) => Ok(place.insert(self.store.tile(level, index)?)),
        }
    }

    /// The hash of a complete subtree of the log.
    pub(crate) fn node(&mut self, node: NodeId) -> Result<Hash, StoreError> {
        let (level, index) = tile_of(node);
        hash_in(self.tile(level, index)?, node)
    }
}
