//! A simulated disk: the same tables in memory, which survive the process that is simulated. It can
//! fail, and can be put back to what it was.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::store::{Row, StoreError, Table};

type Rows = BTreeMap<(&'static str, Vec<u8>), Arc<[u8]>>;

/// A disk with one store. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    rows: Rows,
    writes: u64,
    fault: Option<(u64, WriteFault)>,
}

/// How a write fails. The process must end: it cannot know which it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFault {
    /// Nothing of it is there after a restart.
    Lost,
    /// All of it is there after a restart; only the answer was lost.
    Kept,
}

/// One row to be put or removed.
pub(super) struct Change {
    key: (&'static str, Vec<u8>),
    value: Option<Arc<[u8]>>,
}

impl Change {
    pub(super) fn put(table: Table, key: &[u8], value: &[u8]) -> Self {
        Self { key: (table.name(), key.to_vec()), value: Some(value.into()) }
    }

    pub(super) fn delete(table: Table, key: &[u8]) -> Self {
        Self { key: (table.name(), key.to_vec()), value: None }
    }
}

impl MemoryDisk {
    /// A copy of everything, as a backup is.
    pub fn backup(&self) -> Self {
        let disk = self.disk();
        let copy = Disk { rows: disk.rows.clone(), writes: disk.writes, fault: None };
        Self(Arc::new(Mutex::new(copy)))
    }

    /// How many batches were written.
    pub fn writes(&self) -> u64 {
        self.disk().writes
    }

    /// Makes the batch after `more` others fail.
    pub fn fail(&self, more: u64, fault: WriteFault) {
        let mut disk = self.disk();
        disk.fault = Some((disk.writes + more, fault));
    }

    /// Takes a fault back that has not struck yet.
    pub fn mend(&self) {
        self.disk().fault = None;
    }

    pub(super) fn read(&self, table: Table, key: &[u8]) -> Option<Arc<[u8]>> {
        self.disk().rows.get(&(table.name(), key.to_vec())).cloned()
    }

    pub(super) fn rows_from(&self, table: Table, from: &[u8]) -> Vec<Row> {
        let disk = self.disk();
        let rows = disk.rows.range((table.name(), from.to_vec())..);
        rows.take_while(|((name, _), _)| *name == table.name())
            .map(|((_, key), value)| (key.clone().into(), Box::from(&value[..])))
            .collect()
    }

    pub(super) fn rows_back_from(&self, table: Table, from: &[u8]) -> Vec<Row> {
        let disk = self.disk();
        let rows = disk.rows.range(..=(table.name(), from.to_vec())).rev();
        rows.take_while(|((name, _), _)| *name == table.name())
            .map(|((_, key), value)| (key.clone().into(), Box::from(&value[..])))
            .collect()
    }

    pub(super) fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut disk = self.disk();
        let writes = disk.writes;
        let fault = disk.fault.take_if(|(at, _)| writes >= *at).map(|(_, fault)| fault);
        if fault != Some(WriteFault::Lost) {
            disk.writes += 1;
            for Change { key, value } in changes {
                match value {
                    Some(value) => _ = disk.rows.insert(key, value),
                    None => _ = disk.rows.remove(&key),
                }
            }
        }
        match fault {
            None => Ok(()),
            Some(fault) => Err(StoreError::Io(format!("a simulated fault: {fault:?}"))),
        }
    }

    pub(super) fn clear(&self, table: Table) {
        self.disk().rows.retain(|(name, _), _| *name != table.name());
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
