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

/// A disk with one journal. Clones are the same disk.
#[derive(Clone, Default)]
pub(super) struct JournalDisk(Arc<Mutex<Durable>>);

#[derive(Clone, Default)]
struct Durable {
    entries: Vec<Entry>,
    floor: u64,
    /// Everything that was ever durable here, encoded: what may have been sent.
    ever: BTreeSet<Vec<u8>>,
    appends: u64,
    /// The append that fails, and how many of its entries stay: a torn tail is cut at an entry.
    fault: Option<(u64, usize)>,
}

impl JournalDisk {
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

    /// What a start reads.
    pub(super) fn read(&self) -> Vec<Entry> {
        let durable = self.durable();
        let floor = durable.floor.checked_sub(1).map(Entry::Watermark);
        floor.into_iter().chain(durable.entries.iter().cloned()).collect()
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

impl Journal for JournalDisk {
    type Error = JournalError;

    fn append(&mut self, entries: &[Entry]) -> Result<(), JournalError> {
        let mut durable = self.durable();
        let appends = durable.appends;
        let fault = durable.fault.take_if(|(at, _)| appends >= *at);
        let kept = fault.map_or(entries.len(), |(_, kept)| kept.min(entries.len()));
        durable.appends += 1;
        for entry in &entries[..kept] {
            durable.ever.insert(entry.encode());
            durable.entries.push(entry.clone());
        }
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
        durable.entries.retain(|entry| entry.height() > height);
        durable.floor = durable.floor.max(height + 1);
        Ok(())
    }
}
