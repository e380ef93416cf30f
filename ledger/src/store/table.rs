//! The tables (RocksDB column families) and their keys. Numbers in keys are big-endian, so that
//! rows sort by them.

use crate::{agency::AgencyCode, hash::Hash};

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// Name → format, genesis, tip; which decisions there are; and a mark while the indexes are rebuilt.
    Meta,
    /// Height → header and certificate.
    Headers,
    /// Last log index of a block that has transactions → height.
    Heights,
    /// Height and block hash → a block stored for voting.
    Pending,
    /// Log index and leaf hash → transaction. Written once, when a block is stored for voting.
    Transactions,
    /// Leaf hash → log index.
    Leaves,
    /// Transaction id → log index.
    TransactionIds,
    /// Height → how many slots each of its transactions has, and what became of those that do not count.
    Outcomes,
    /// Record id and agency → place, kind and submitter.
    Records,
    /// Agency and dedupe key → place and record id.
    Dedupe,
    /// Tile level and tile index → up to 256 hashes of the log tree.
    Tiles,
    /// Subject key, log index, position → nothing. A bucket's entries are one range of keys,
    /// because the bucket is the key's first bits.
    History,
    /// Bucket → head.
    Heads,
    /// Kind and id → registry entry, where it was added or ended after the genesis.
    Registry,
    /// Number → event, of each change of an agreement, in their order.
    Agreements,
    /// Height → agreements root, of blocks that have changed it.
    AgreementRoots,
    /// Record id and agency, then log index and position of a slot → the epoch that it names: where the bytes of a
    /// record are shared, by its sealed slot and its grants.
    Shared,
    /// Height → what its decision rested on, for recent heights only.
    Decisions,
}

impl Table {
    /// In the order of their declaration, so that a table's number is its place here.
    pub(crate) const ALL: [Self; 18] = [
        Self::Meta,
        Self::Headers,
        Self::Heights,
        Self::Pending,
        Self::Transactions,
        Self::Leaves,
        Self::TransactionIds,
        Self::Outcomes,
        Self::Records,
        Self::Dedupe,
        Self::Tiles,
        Self::History,
        Self::Heads,
        Self::Registry,
        Self::Agreements,
        Self::AgreementRoots,
        Self::Shared,
        Self::Decisions,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Headers => "headers",
            Self::Heights => "heights",
            Self::Pending => "pending",
            Self::Transactions => "transactions",
            Self::Leaves => "leaves",
            Self::TransactionIds => "transaction_ids",
            Self::Outcomes => "outcomes",
            Self::Records => "records",
            Self::Dedupe => "dedupe",
            Self::Tiles => "tiles",
            Self::History => "history",
            Self::Heads => "heads",
            Self::Registry => "registry",
            Self::Agreements => "agreements",
            Self::AgreementRoots => "agreement_roots",
            Self::Shared => "shared",
            Self::Decisions => "decisions",
        }
    }

    pub(super) fn is_looked_up_by_hash(self) -> bool {
        matches!(self, Self::Leaves | Self::TransactionIds | Self::Records | Self::Dedupe)
    }
}

/// Keys of [`Table::Meta`].
pub(crate) const META_FORMAT: &[u8] = b"format";
pub(crate) const META_GENESIS: &[u8] = b"genesis";
pub(crate) const META_TIP: &[u8] = b"tip";
/// Which rows [`Table::Decisions`] has, once it has had any: nothing else tells that one is missing.
pub(crate) const META_DECISIONS: &[u8] = b"decisions";
/// There while the indexes are being made anew.
pub(crate) const META_REBUILD: &[u8] = b"rebuild";

/// Key of [`Table::Headers`], [`Table::Outcomes`], [`Table::AgreementRoots`] and [`Table::Decisions`], for a last log
/// index of [`Table::Heights`], and for a change's number of [`Table::Agreements`].
pub(crate) fn number(value: u64) -> [u8; 8] {
    value.to_be_bytes()
}

/// Key of [`Table::Pending`] (height, block hash) and of [`Table::Transactions`] (log index, leaf
/// hash).
pub(crate) fn numbered(value: u64, hash: &Hash) -> [u8; 40] {
    let mut key = [0; 40];
    key[..8].copy_from_slice(&value.to_be_bytes());
    key[8..].copy_from_slice(hash.as_bytes());
    key
}

/// Reads a [`numbered`] key.
pub(crate) fn read_numbered(key: &[u8]) -> Option<(u64, Hash)> {
    let (number, hash) = key.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), Hash::from_slice(hash).ok()?))
}

/// Key of [`Table::Dedupe`]: 16 zeros in the agency's place where the key is unique on the chain.
pub(crate) fn dedupe(agency: Option<&AgencyCode>, dedupe_key: &Hash) -> [u8; 48] {
    let mut key = [0; 48];
    if let Some(agency) = agency {
        key[..16].copy_from_slice(agency.as_bytes());
    }
    key[16..].copy_from_slice(dedupe_key.as_bytes());
    key
}

/// Key of [`Table::Records`].
pub(crate) fn record(id: &Hash, agency: &AgencyCode) -> [u8; 48] {
    let mut key = [0; 48];
    key[..32].copy_from_slice(id.as_bytes());
    key[32..].copy_from_slice(agency.as_bytes());
    key
}

/// The agency in a key of [`Table::Records`].
pub(crate) fn agency_of_record(key: &[u8]) -> Option<AgencyCode> {
    AgencyCode::from_slice(key.get(32..)?).ok()
}

/// Key of [`Table::Shared`].
pub(crate) fn shared(id: &Hash, agency: &AgencyCode, log_index: u64, position: u32) -> [u8; 60] {
    let mut key = [0; 60];
    key[..48].copy_from_slice(&record(id, agency));
    key[48..56].copy_from_slice(&log_index.to_be_bytes());
    key[56..].copy_from_slice(&position.to_be_bytes());
    key
}

/// Log index and position in a key of [`Table::Shared`].
pub(crate) fn place_of_shared(key: &[u8]) -> Option<(u64, u32)> {
    let (log_index, position) = key.get(48..)?.split_first_chunk()?;
    Some((u64::from_be_bytes(*log_index), u32::from_be_bytes(position.try_into().ok()?)))
}

/// Key of [`Table::Tiles`].
pub(crate) fn tile(level: u8, index: u64) -> [u8; 9] {
    let mut key = [level; 9];
    key[1..].copy_from_slice(&index.to_be_bytes());
    key
}

/// Key of [`Table::Heads`].
pub(crate) fn bucket(bucket: u32) -> [u8; 4] {
    bucket.to_be_bytes()
}
