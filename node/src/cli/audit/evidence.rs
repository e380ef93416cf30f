//! The proof of a fork as one file: what each side certified, and what nodes held about it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use customhouse_ledger::{
    certificate::Certificate,
    decision::{self, DECISIONS_BYTES_MAX, Decision, Grounds},
    hash::Hash,
};
use customhouse_node::newfile;
use serde::{Deserialize, Serialize};

use super::head::{Certified, hexadecimal};

/// Bytes of an evidence file at the most: a few files of decisions, in hexadecimal.
pub(super) const EVIDENCE_BYTES_MAX: usize = 4 * DECISIONS_BYTES_MAX;

/// What a file of this kind begins with, in its first field.
const FORMAT: &str = "customhouse fork evidence 1";

/// The file's JSON. Nothing in it is trusted: `audit fork` checks every signature.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EvidenceFile {
    format: String,
    chain_id: Hash,
    pub(super) sides: Vec<Side>,
}

/// What one node, or one saved head, says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Side {
    /// Which; as whoever wrote the file named it.
    pub(super) from: String,
    height: u64,
    block_hash: Hash,
    /// As `audit decisions` writes them; the fields above only repeat them.
    #[serde(with = "hexadecimal")]
    decisions: Vec<u8>,
}

impl Side {
    /// A certified header; `told` is what a node held beside it, if one was asked.
    pub(super) fn new(
        from: impl Into<String>,
        head: &Certified,
        told: Option<Decision>,
    ) -> anyhow::Result<Self> {
        let (height, block_hash) = (head.header.height, head.header.hash());
        let certificate = Certificate::decode(&head.certificate)?;
        let same = |told: &Decision| {
            told.decided.as_ref().is_some_and(|(header, _)| header.hash() == block_hash)
        };
        let decision = told.filter(same).unwrap_or_else(|| Decision {
            height,
            decided: Some((head.header.clone(), certificate)),
            grounds: Grounds::default(),
        });
        let decisions = decision::encode(&[decision]);
        Ok(Self { from: from.into(), height, block_hash, decisions })
    }

    /// Reads what the side says.
    pub(super) fn decisions(&self) -> Result<Vec<Decision>, String> {
        decision::decode(&self.decisions).map_err(|error| format!("{}: {error}", self.from))
    }
}

impl EvidenceFile {
    pub(super) fn new(chain_id: Hash, sides: Vec<Side>) -> Self {
        Self { format: FORMAT.to_owned(), chain_id, sides }
    }

    /// Whether a file's bytes are meant to be one: files of decisions are protobuf and begin otherwise.
    pub(super) fn is_meant(bytes: &[u8]) -> bool {
        bytes.first() == Some(&b'{')
    }

    /// Reads a file's bytes; what is wrong is said for people.
    pub(super) fn read(bytes: &[u8], chain_id: &Hash) -> Result<Self, String> {
        let file: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if file.format != FORMAT {
            return Err(format!("not of the format `{FORMAT}`"));
        }
        if file.chain_id != *chain_id {
            return Err(format!("of chain {}, the genesis is that of {chain_id}", file.chain_id));
        }
        Ok(file)
    }

    /// Writes it into a directory, under a name that follows from the blocks, and gives its path.
    pub(super) fn write(&self, directory: &Path) -> anyhow::Result<PathBuf> {
        let mut blocks: Vec<_> =
            self.sides.iter().map(|side| (side.height, side.block_hash.short())).collect();
        blocks.sort();
        blocks.dedup();
        let height = blocks.first().map_or(0, |(height, _)| *height);
        let hashes: Vec<_> = blocks.into_iter().map(|(_, hash)| hash.to_string()).collect();
        let path = directory.join(format!("fork-{height}-{}.evidence", hashes.join("-")));
        let text = serde_json::to_string_pretty(self)? + "\n";
        newfile::replace(&path, text.as_bytes(), 0o644)
            .with_context(|| path.display().to_string())?;
        Ok(path)
    }
}
