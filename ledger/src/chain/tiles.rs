//! The log as tiles and entry bundles, for those who compute the proofs themselves (`tlog`).

use crate::{
    chain::ChainReader,
    finality::header::Header,
    hash::Hash,
    merkle::{self, Frontier, NodeId},
    store::{StoreError, Table, table, tile::TileReader},
    tlog::{
        bundle,
        path::{TILE_WIDTH, TileContent, TilePath, width_in},
    },
};

/// Tree levels from one tile level to the next.
const TILE_LEVELS: u8 = 8;

impl ChainReader {
    /// What a path of `tlog-tiles` names: the hashes one after the other, or the entry bundle. `None`
    /// where the committed log does not have it, or not whole.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn log_resource(&self, path: TilePath) -> Result<Option<Vec<u8>>, StoreError> {
        let TilePath { content, index, width } = path;
        match content {
            TileContent::Hashes { level } => {
                let hashes = self.log_tile(level, index, width)?;
                Ok(hashes.map(|hashes| hashes.iter().flat_map(|hash| hash.0).collect()))
            }
            TileContent::Entries => {
                let entries = self.log_entries(index, width)?;
                let encode = |entries: Vec<Vec<u8>>| bundle::encode(&entries);
                let bundle = entries.map(encode).transpose();
                bundle.map_err(|error| StoreError::corrupt(Table::Transactions, &[], error))
            }
        }
    }

    /// The first `width` hashes of a tile. `None` where the committed log has fewer there. A tile
    /// that does not lead to the certified log root is damaged, and not served.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn log_tile(
        &self,
        level: u8,
        index: u64,
        width: u64,
    ) -> Result<Option<Vec<Hash>>, StoreError> {
        let header = &self.tip().header;
        if width == 0 || width > width_in(level, index, header.log_size) {
            return Ok(None);
        }
        let mut reader = TileReader::new(self.store());
        let place = Place { level, index, width };
        place.check(&mut reader, header).map(Some)
    }

    /// The first `width` leaves of the bundle with this index, each its transaction's header and
    /// signature, checked as [`ChainReader::log_tile`] is. `None` where the committed log has fewer
    /// there. Reads their transactions, one at a time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn log_entries(&self, index: u64, width: u64) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        let Some(hashes) = self.log_tile(0, index, width)? else { return Ok(None) };
        let first = index * TILE_WIDTH;
        let leaf = |(log_index, leaf): (u64, &Hash)| {
            let (parts, _) = self.committed_body(log_index, leaf)?;
            Ok([parts.header, parts.signature].concat())
        };
        (first..).zip(&hashes).map(leaf).collect::<Result<_, _>>().map(Some)
    }

    /// The path of a leaf to a committed header's log root, checked against it. `None` where its log
    /// has no such leaf.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`] for a header beyond the tip; else the store's.
    pub fn log_inclusion(
        &self,
        header: &Header,
        log_index: u64,
    ) -> Result<Option<Vec<Hash>>, StoreError> {
        let (size, root) = (header.log_size, header.log_root);
        if size > self.tip().header.log_size {
            return Err(StoreError::OutOfRange);
        }
        if log_index >= size {
            return Ok(None);
        }
        let mut reader = TileReader::new(self.store());
        let path = merkle::inclusion_path(log_index, size, |node| reader.node(node))?;
        let leaf = reader.node(NodeId { level: 0, index: log_index })?;
        merkle::verify_inclusion(&leaf, log_index, size, &path, &root)
            .map_err(|error| damaged(0, log_index / TILE_WIDTH, error))?;
        Ok(Some(path))
    }
}

/// The first hashes of a tile.
struct Place {
    level: u8,
    index: u64,
    width: u64,
}

impl Place {
    /// Reads the hashes and checks them against a header's log root: those of a full tile by its own
    /// hash, which is in the tile above, and those of a partial one by the log that ends with them, which
    /// is a prefix of the header's.
    fn check(&self, reader: &mut TileReader<'_>, header: &Header) -> Result<Vec<Hash>, StoreError> {
        let &Self { level, index, width } = self;
        let count = usize::try_from(width).map_err(|_| StoreError::OutOfRange)?;
        let hashes = reader.tile(level, index)?.get(..count).map(<[Hash]>::to_vec);
        let hashes = hashes.ok_or_else(|| damaged(level, index, "hashes are missing"))?;
        if width < TILE_WIDTH {
            self.check_edge(reader, header)?;
            return Ok(hashes);
        }
        let (above, position) = (index / TILE_WIDTH, index % TILE_WIDTH);
        let above = Self { level: level + 1, index: above, width: position + 1 };
        let own = merkle::root_of_hashes(hashes.iter().copied());
        match above.check(reader, header)?.last() == Some(&own) {
            true => Ok(hashes),
            false => Err(damaged(level, index, "another hash than in the tile above")),
        }
    }

    /// Checks that the log that ends with the last of a partial tile's hashes, in whose root all of them
    /// have a part, is a prefix of the header's.
    fn check_edge(&self, reader: &mut TileReader<'_>, header: &Header) -> Result<(), StoreError> {
        let &Self { level, index, width } = self;
        let end = (index * TILE_WIDTH + width) << (TILE_LEVELS * level);
        let edge = Frontier::read(end, |node| reader.node(node))?.root();
        let (size, root) = (header.log_size, header.log_root);
        let path = merkle::consistency_path(end, size, |node| reader.node(node))?;
        merkle::verify_consistency(end, size, &edge, &root, &path)
            .map_err(|error| damaged(level, index, error))
    }
}

fn damaged(level: u8, index: u64, what: impl ToString) -> StoreError {
    let what = format!("does not lead to the log's root: {}", what.to_string());
    StoreError::corrupt(Table::Tiles, &table::tile(level, index), what)
}
