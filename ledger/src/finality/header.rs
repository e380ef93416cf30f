//! Block headers and blocks.

use crate::{
    hash::{Hash, Tag},
    layout::{LayoutError, Reader, Writer},
};

/// A block header, fixed layout of [`Header::LENGTH`] bytes. All roots are those after executing
/// this block. Docs: docs/FORMATS.md, "Header".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version of the rules: 1.
    pub version: u16,
    /// Which chain: the tagged hash of the genesis.
    pub chain_id: Hash,
    /// 0 for the genesis header, then one more a block.
    pub height: u64,
    /// Unix milliseconds, the proposer's; strictly above the parent's.
    pub time_ms: u64,
    /// Hash of the header before.
    pub parent_hash: Hash,
    /// Size of the log before this block.
    pub log_start: u64,
    /// Size of the log after it: its transactions are `log_start..log_size`.
    pub log_size: u64,
    /// RFC 6962 root of the log.
    pub log_root: Hash,
    /// Transactions that the history index covers.
    pub history_size: u64,
    /// Root over the heads of all history buckets.
    pub history_root: Hash,
    /// Root of the registry: over members and agreements.
    pub registry_root: Hash,
    /// Root over the outcomes of the block's transactions, see [`crate::transaction::outcome`].
    pub outcomes_root: Hash,
    /// The validators that decide this height.
    pub validators_hash: Hash,
    /// The validators that decide the next.
    pub next_validators_hash: Hash,
    /// Public key of the leader that built it; zeros in the genesis header.
    pub proposer: [u8; 32],
    /// View in which it was first proposed; 0 in the genesis header.
    pub view: u64,
}

impl Header {
    /// Bytes of the layout.
    pub const LENGTH: usize = 2 + 6 * 8 + 9 * 32;

    /// The version of the rules that this code follows.
    pub const VERSION: u16 = 1;

    /// The fixed layout.
    pub fn encode(&self) -> Vec<u8> {
        Writer::with_capacity(Self::LENGTH)
            .u16(self.version)
            .hash(&self.chain_id)
            .u64(self.height)
            .u64(self.time_ms)
            .hash(&self.parent_hash)
            .u64(self.log_start)
            .u64(self.log_size)
            .hash(&self.log_root)
            .u64(self.history_size)
            .hash(&self.history_root)
            .hash(&self.registry_root)
            .hash(&self.outcomes_root)
            .hash(&self.validators_hash)
            .hash(&self.next_validators_hash)
            .bytes(&self.proposer)
            .u64(self.view)
            .finish()
    }

    /// Reads the fixed layout. Says nothing about whether the header is right.
    ///
    /// # Errors
    /// Bytes of another length.
    pub fn decode(bytes: &[u8]) -> Result<Self, LayoutError> {
        let mut reader = Reader::new(bytes);
        let header = Self {
            version: reader.u16("version")?,
            chain_id: reader.hash("chain_id")?,
            height: reader.u64("height")?,
            time_ms: reader.u64("time_ms")?,
            parent_hash: reader.hash("parent_hash")?,
            log_start: reader.u64("log_start")?,
            log_size: reader.u64("log_size")?,
            log_root: reader.hash("log_root")?,
            history_size: reader.u64("history_size")?,
            history_root: reader.hash("history_root")?,
            registry_root: reader.hash("registry_root")?,
            outcomes_root: reader.hash("outcomes_root")?,
            validators_hash: reader.hash("validators_hash")?,
            next_validators_hash: reader.hash("next_validators_hash")?,
            proposer: reader.hash("proposer")?.0,
            view: reader.u64("view")?,
        };
        reader.finish()?;
        Ok(header)
    }

    /// The block hash: tagged hash of the layout.
    pub fn hash(&self) -> Hash {
        Tag::HEADER.hash(&[&self.encode()])
    }
}

/// A block: its header and the log leaf hashes of its transactions, in log order.
///
/// The leaf hashes are what peers use to find the bodies; `header.log_root` commits to them, together
/// with the log before, and so does a proposal's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The header.
    pub header: Header,
    /// One log leaf hash a transaction.
    pub leaves: Vec<Hash>,
}

impl Block {
    /// The block hash.
    pub fn hash(&self) -> Hash {
        self.header.hash()
    }

    /// Tagged hash of the leaves. The header commits to them too, but that shows only by executing the
    /// block: this is what binds them to a proposal when it comes.
    pub fn leaves_hash(&self) -> Hash {
        let leaves: Vec<&[u8]> = self.leaves.iter().map(|leaf| &leaf.as_bytes()[..]).collect();
        Tag::LEAVES.hash(&leaves)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn header() -> Header {
        Header {
            version: Header::VERSION,
            chain_id: Hash([1; 32]),
            height: 7,
            time_ms: 1_700_000_000_000,
            parent_hash: Hash([2; 32]),
            log_start: 10,
            log_size: 12,
            log_root: Hash([3; 32]),
            history_size: 12,
            history_root: Hash([4; 32]),
            registry_root: Hash([5; 32]),
            outcomes_root: Hash([7; 32]),
            validators_hash: Hash([6; 32]),
            next_validators_hash: Hash([6; 32]),
            proposer: [8; 32],
            view: 1,
        }
    }

    #[test]
    fn the_layout_round_trips_and_has_the_stated_length() {
        let bytes = header().encode();
        assert_eq!(bytes.len(), Header::LENGTH);
        assert_eq!(Header::decode(&bytes), Ok(header()));
        assert!(Header::decode(&bytes[1..]).is_err());
        assert_eq!(Header::decode(&[&bytes[..], &[0]].concat()), Err(LayoutError::Trailing(1)));
    }

    #[test]
    fn every_byte_counts_in_the_hash() {
        let bytes = header().encode();
        for i in 0..bytes.len() {
            let mut other = bytes.clone();
            other[i] ^= 1;
            let other = Header::decode(&other).expect("the same length");
            assert_ne!(other.hash(), header().hash(), "byte {i}");
        }
    }
}
