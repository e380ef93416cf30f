//! The signer's journal on a simulated disk: it survives the process, and can fail in the middle of
//! an append or be put back to an older state.

use std::{
    collections::BTreeSet,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use customhouse_consensus::{Entry, Journal};
use customhouse_node::{driver::SignerMemory, journal::JournalError};

use super::mutant::Mutant;

/// A disk with one journal. Clones are the same disk.
#[derive(Clone, Default)]
pub(super) struct JournalDisk(Arc<Mutex<Durable>>);

#[derive(Clone, Default)]
struct Durable {
    mutant: Option<Mutant>,
    /// What a mutant has not synced yet.
    unsynced: Vec<Entry>,
    entries: Vec<Entry>,
    floor: u64,
    /// Everything that was ever durable here, encoded: what may have been sent.
    ever: BTreeSet<Vec<u8>>,
    appends: u64,
    /// The append that fails, and how many of its entries stay: a torn tail is cut at an entry.
    fault: Option<(u64, usize)>,
}

impl JournalDisk {
    pub(super) fn new(mutant: Option<Mutant>) -> Self {
        Self(Arc::new(Mutex::new(Durable { mutant, ..Durable::default() })))
    }

    pub(super) fn backup(&self) -> Self {
        let copy = Durable { fault: None, ..self.durable().clone() };
        Self(Arc::new(Mutex::new(copy)))
    }

    /// Makes the append after `more` others fail, with `kept` of its entries on the disk.
    pub(super) fn fail(&self, more: u64, kept: usize) {
        let mut durable = self.durable();
        durable.fault = Some((durable.appends + more, kept));
    }

    pub(super) fn mend(&self) {
        self.durable().fault = None;
    }

    /// The process is gone, and with it what was not synced.
    pub(super) fn lose_unsynced(&self) {
        self.durable().unsynced.clear();
    }

    /// What a start reads.
    pub(super) fn read(&self) -> Vec<Entry> {
        let durable = self.durable();
        let floor = durable.floor.checked_sub(1).map(Entry::Watermark);
        let remembers = |entry: &&Entry| match durable.mutant {
            Some(Mutant::ForgottenVote) => !matches!(entry, Entry::Vote(_)),
            Some(Mutant::ForgottenCertificate) => !matches!(entry, Entry::Certificate(_)),
            _ => true,
        };
        floor.into_iter().chain(durable.entries.iter().filter(remembers).cloned()).collect()
    }

    /// Whether this was durable here before now.
    pub(super) fn has_held(&self, entry: &Entry) -> bool {
        self.durable().ever.contains(&entry.encode())
    }

    /// Whether the key was stopped for good.
    pub(super) fn is_stopped(&self) -> bool {
        self.durable().entries.contains(&Entry::Watermark(u64::MAX))
    }

    fn durable(&self) -> MutexGuard<'_, Durable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Durable {
    fn keep(&mut self, entries: &[Entry]) {
        self.ever.extend(entries.iter().map(Entry::encode));
        self.entries.extend_from_slice(entries);
    }
}

impl Journal for JournalDisk {
    type Error = JournalError;

    fn append(&mut self, entries: &[Entry]) -> Result<(), JournalError> {
        let mut durable = self.durable();
        if durable.mutant == Some(Mutant::SendBeforeSync) {
            let synced = std::mem::replace(&mut durable.unsynced, entries.to_vec());
            durable.keep(&synced);
            return Ok(());
        }
        let appends = durable.appends;
        let fault = durable.fault.take_if(|(at, _)| appends >= *at);
        let kept = fault.map_or(entries.len(), |(_, kept)| kept.min(entries.len()));
        durable.appends += 1;
        durable.keep(&entries[..kept]);
        match fault {
            None => Ok(()),
            Some(_) => Err(JournalError::Io {
                path: PathBuf::from("simulated.journal"),
                source: io::Error::other("a simulated fault"),
            }),
        }
    }
}

impl SignerMemory for JournalDisk {
    fn height_committed(&mut self, height: u64) -> Result<(), JournalError> {
        let mut durable = self.durable();
        durable.entries.retain(|entry| entry.height() >= height);
        durable.floor = durable.floor.max(height);
        Ok(())
    }
}
