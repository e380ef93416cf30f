//! The signer's journal as the core sees it: entries instead of bytes.

use customhouse_consensus::{Entry, Journal, WireError};
use customhouse_ledger::keys::PublicKey;

use super::SignerMemory;
use crate::journal::{JournalError, SignerJournal};

/// Why a signer cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The file cannot be used.
    #[error("{0}")]
    Journal(#[from] JournalError),
    /// Its checksums hold, but an entry is not one.
    #[error("signer's journal: an entry cannot be read ({0}): this key does not sign again")]
    Entry(#[from] WireError),
}

/// The journal, with the entries that are still needed kept at hand for compaction. An observer has
/// no file, and its core never has anything to persist.
#[derive(Debug)]
pub struct JournalledSigner {
    journal: Option<SignerJournal>,
    kept: Vec<Entry>,
}

impl JournalledSigner {
    /// Opens the journal of a key and reads its entries.
    ///
    /// # Errors
    /// [`SignerError`].
    pub fn open(
        path: &std::path::Path,
        key: &PublicKey,
    ) -> Result<(Self, Vec<Entry>), SignerError> {
        let (journal, recovered) = SignerJournal::open(path, key)?;
        if recovered.torn_bytes > 0 {
            let bytes = recovered.torn_bytes;
            tracing::warn!(bytes, "cut a torn tail off the signer's journal: it was never sent");
        }
        let read = |payload: &Vec<u8>| Entry::decode(payload);
        let mut entries = recovered.payloads.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if let Some(below) = recovered.floor.checked_sub(1) {
            entries.insert(0, Entry::Watermark(below));
        }
        Ok((Self { journal: Some(journal), kept: entries.clone() }, entries))
    }

    /// The journal of a node that does not sign.
    pub fn observer() -> Self {
        Self { journal: None, kept: Vec::new() }
    }
}

impl Journal for JournalledSigner {
    type Error = JournalError;

    fn append(&mut self, entries: &[Entry]) -> Result<(), JournalError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let payloads: Vec<_> = entries.iter().map(Entry::encode).collect();
        journal.append(&payloads)?;
        self.kept.extend_from_slice(entries);
        Ok(())
    }
}

impl SignerMemory for JournalledSigner {
    /// Drops what a committed height no longer needs, and shortens the file when it is long. The last
    /// height's stays: if the store is lost, it may be that no peer has its finalization, and that
    /// this node's vote is needed once more.
    fn height_committed(&mut self, height: u64) -> Result<(), JournalError> {
        self.kept.retain(|entry| entry.height() >= height);
        let Some(journal) = self.journal.as_mut().filter(|journal| journal.is_long()) else {
            return Ok(());
        };
        let payloads: Vec<_> = self.kept.iter().map(Entry::encode).collect();
        journal.compact(height, &payloads)
    }
}
