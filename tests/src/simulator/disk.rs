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
    /// Written by a process that ended before they were synced: they are read at a start, and gone
    /// with the power unless that start has written them anew.
    cached: Vec<Entry>,
    floor: u64,
    /// Everything that was ever durable here, encoded: what may have been sent.
    ever: BTreeSet<Vec<u8>>,
    appends: u64,
    /// The append that fails, and how many of its entries stay, unsynced: a torn tail is cut at an
    /// entry.
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

    /// The process is gone, and with it what it had not written.
    pub(super) fn lose_unwritten(&self) {
        self.durable().unsynced.clear();
    }

    /// The power is gone, and with it what was written and not synced.
    pub(super) fn lose_unsynced(&self) {
        self.durable().cached.clear();
    }

    /// What a start reads. As the journal of a node does, it makes all of it durable first.
    pub(super) fn open(&self) -> Vec<Entry> {
        let mut durable = self.durable();
        if durable.mutant == Some(Mutant::UnsyncedJournalTrusted) {
            let read = [durable.entries.clone(), durable.cached.clone()].concat();
            return durable.remembered(read);
        }
        let cached = std::mem::take(&mut durable.cached);
        durable.keep(&cached);
        durable.remembered(durable.entries.clone())
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
    /// The entries that a start goes by, and the watermark in place of those that were dropped.
    fn remembered(&self, entries: Vec<Entry>) -> Vec<Entry> {
        let floor = self.floor.checked_sub(1).map(Entry::Watermark);
        let remembers = |entry: &Entry| match self.mutant {
            Some(Mutant::ForgottenVote) => !matches!(entry, Entry::Vote(_)),
            Some(Mutant::ForgottenCertificate) => !matches!(entry, Entry::Certificate(_)),
            _ => true,
        };
        floor.into_iter().chain(entries.into_iter().filter(remembers)).collect()
    }

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
        durable.appends += 1;
        let Some((_, kept)) = fault else {
            durable.keep(entries);
            return Ok(());
        };
        durable.cached.extend_from_slice(&entries[..kept.min(entries.len())]);
        Err(JournalError::Io {
            path: PathBuf::from("simulated.journal"),
            source: io::Error::other("a simulated fault"),
        })
    }
}

impl SignerMemory for JournalDisk {
    fn height_committed(&mut self, height: u64) -> Result<(), JournalError> {
        let mut durable = self.durable();
        durable.entries.retain(|entry| entry.height() >= height);
        durable.cached.retain(|entry| entry.height() >= height);
        durable.floor = durable.floor.max(height);
        Ok(())
    }
}
