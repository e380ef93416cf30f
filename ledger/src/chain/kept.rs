//! What the decisions of recent heights rested on ([`crate::finality::decision`]). It is written in the
//! block's own batch, which also removes the oldest where there is too much.

use std::collections::BTreeMap;

use crate::{
    chain::{Chain, ChainReader},
    finality::decision::{Decision, Grounds},
    hash::Hash,
    limits::{KEPT_BYTES_MAX, KEPT_HEIGHTS_MAX},
    store::{
        Batch, Store, StoreError, Table,
        table::{self, META_DECISIONS},
        value::{self, GroundsRow, RowsRow},
    },
};

/// Which heights have a row, and how large it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    rows: BTreeMap<u64, KeptRow>,
    bytes: usize,
    /// What the rows should be. It is carried on and not computed anew from the rows there are: so a
    /// lost row never goes unnoticed.
    all: RowsRow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KeptRow {
    bytes: usize,
    hash: Hash,
}

impl Kept {
    pub(super) fn read(store: &Store) -> Result<Self, StoreError> {
        let mut kept = Self::found(store)?;
        if let Some(all) = store.value(Table::Meta, META_DECISIONS)? {
            kept.all = all;
        }
        Ok(kept)
    }

    /// Which rows there are, whatever there should be.
    pub(super) fn written(store: &Store) -> Result<RowsRow, StoreError> {
        Ok(Self::found(store)?.all)
    }

    fn found(store: &Store) -> Result<Self, StoreError> {
        let mut kept = Self::default();
        for row in store.scan_while(Table::Decisions, &[], |_| true) {
            let (key, value) = row?;
            let height = key.first_chunk().filter(|_| key.len() == 8);
            let corrupt = || StoreError::corrupt(Table::Decisions, &key, "not a height");
            kept.note(u64::from_be_bytes(*height.ok_or_else(corrupt)?), &value);
        }
        Ok(kept)
    }

    fn note(&mut self, height: u64, value: &[u8]) {
        // A row may be replaced: a node that halted at this height kept what it held then.
        self.forget(height);
        let row =
            KeptRow { bytes: value.len(), hash: RowsRow::hash(&table::number(height), value) };
        self.rows.insert(height, row);
        self.bytes += row.bytes;
        self.all.add(&row.hash);
    }

    fn forget(&mut self, height: u64) {
        if let Some(row) = self.rows.remove(&height) {
            self.bytes -= row.bytes;
            self.all.remove(&row.hash);
        }
    }

    /// Puts what a height rested on, and removes what is too old. The batch must be written, or be
    /// the last.
    pub(super) fn put(&mut self, batch: &mut Batch<'_>, height: u64, grounds: Grounds) {
        self.put_within(KEPT_HEIGHTS_MAX, KEPT_BYTES_MAX, batch, height, grounds);
    }

    pub(super) fn put_within(
        &mut self,
        heights_max: usize,
        bytes_max: usize,
        batch: &mut Batch<'_>,
        height: u64,
        grounds: Grounds,
    ) {
        if grounds.is_empty() {
            return;
        }
        let row = value::encode(&GroundsRow::new(&grounds.limited()));
        batch.put(Table::Decisions, table::number(height), &row);
        self.note(height, &row);
        while self.rows.len() > heights_max || self.bytes > bytes_max {
            let Some((&oldest, _)) = self.rows.first_key_value() else { break };
            self.forget(oldest);
            batch.delete(Table::Decisions, table::number(oldest));
        }
        batch.put(Table::Meta, META_DECISIONS, value::encode(&self.all));
    }
}

#[cfg(test)]
impl Kept {
    pub(super) fn heights(&self) -> Vec<u64> {
        self.rows.keys().copied().collect()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Chain {
    /// Keeps what a node that halts held, at the newest height or at the one in progress, beside
    /// what is kept of the height already. In a write of its own, synced.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`] for another height; else the store failed.
    pub fn keep(&mut self, height: u64, mut grounds: Grounds) -> Result<(), StoreError> {
        let tip = self.tip().header.height;
        if height != tip && height != tip + 1 {
            return Err(StoreError::OutOfRange);
        }
        grounds.join(read(&self.shared.store, height)?.unwrap_or_default());
        let mut batch = self.shared.store.batch();
        self.kept.put(&mut batch, height, grounds);
        batch.write()
    }
}

impl ChainReader {
    /// How a height was decided. What that rested on is there for recent heights only. The height
    /// in progress has a decision only where the node halted at it, without block and finalization.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn decision(&self, height: u64) -> Result<Option<Decision>, StoreError> {
        let grounds = read(self.store(), height)?;
        match self.header(height)? {
            Some(found) => {
                let decided = found.certificate.map(|certificate| (found.header, certificate));
                Ok(decided.map(|decided| Decision {
                    height,
                    decided: Some(decided),
                    grounds: grounds.unwrap_or_default(),
                }))
            }
            None => Ok(grounds.map(|grounds| Decision { height, decided: None, grounds })),
        }
    }
}

fn read(store: &Store, height: u64) -> Result<Option<Grounds>, StoreError> {
    let key = table::number(height);
    let Some(row) = store.value::<GroundsRow>(Table::Decisions, key)? else { return Ok(None) };
    let corrupt = || StoreError::corrupt(Table::Decisions, &key, "not what a decision rested on");
    row.grounds().map(Some).ok_or_else(corrupt)
}
