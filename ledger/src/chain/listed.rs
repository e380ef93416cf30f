//! Walking along the log: what each transaction has that counted, for lists and feeds.

use bytes::Bytes;

use crate::{
    chain::{
        ChainReader, CommittedRecord, CommittedTransaction, RecordPlace, reader::history_entry,
    },
    finality::header::Header,
    hash::Hash,
    history::HistoryEntry,
    store::{StoreError, Table, table},
    transaction::{Slot, SlotForm, SlotOutcome, TransactionHeader, record_place},
};

/// Leaves of the log that are read at a time: a tile has as many.
const LEAVES_AT_ONCE: u64 = 256;

/// What a transaction has that counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTransaction {
    /// Its place in the log.
    pub log_index: u64,
    /// The block that committed it.
    pub block: Header,
    /// What was signed.
    pub header: TransactionHeader,
    /// Its id.
    pub id: Hash,
    /// The slots that counted, ascending by position.
    pub slots: Vec<ListedSlot>,
}

/// A slot that counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedSlot {
    /// Position in its transaction.
    pub position: u32,
    /// The record's id.
    pub record_id: Hash,
    /// The keys that the history has it under, ascending.
    pub subject_keys: Vec<Hash>,
    /// In which form the record is on the chain.
    pub form: SlotForm,
    /// Canonical bytes of an open one.
    pub record: Option<Bytes>,
}

/// A walk along the log, in either direction. It remembers the block and the transaction that it was at last.
pub struct LogWalk {
    reader: ChainReader,
    leaves: (u64, Vec<Hash>),
    block: Option<BlockAt>,
    at: Option<ListedTransaction>,
}

/// A block, and what became of its slots.
struct BlockAt {
    header: Header,
    outcomes: Vec<Vec<SlotOutcome>>,
}

impl LogWalk {
    /// A walk along the log of a chain.
    pub fn new(reader: ChainReader) -> Self {
        Self { reader, leaves: (0, Vec::new()), block: None, at: None }
    }

    /// The transaction at a place of the log; `None` at or beyond the tip's log size.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn at(&mut self, log_index: u64) -> Result<Option<&ListedTransaction>, StoreError> {
        if self.at.as_ref().is_some_and(|at| at.log_index == log_index) {
            return Ok(self.at.as_ref());
        }
        let log_size = self.reader.tip().header.log_size;
        if log_index >= log_size {
            return Ok(None);
        }
        let leaf = self.leaf(log_index, log_size)?;
        self.enter_block_of(log_index)?;
        let block = self.block.as_ref().ok_or(StoreError::OutOfRange)?;
        let listed = self.reader.listed(log_index, &leaf, block)?;
        Ok(Some(self.at.insert(listed)))
    }

    /// Forgets the transaction that it was at, and gives its memory back.
    pub fn forget(&mut self) {
        self.at = None;
    }

    fn leaf(&mut self, log_index: u64, log_size: u64) -> Result<Hash, StoreError> {
        let first = log_index - log_index % LEAVES_AT_ONCE;
        let held = |leaves: &(u64, Vec<Hash>)| {
            let place = usize::try_from(log_index - first).ok()?;
            leaves.1.get(place).filter(|_| leaves.0 == first).copied()
        };
        if let Some(leaf) = held(&self.leaves) {
            return Ok(leaf);
        }
        let end = log_size.min(first + LEAVES_AT_ONCE);
        self.leaves = (first, self.reader.store().log_leaves(first, end)?);
        held(&self.leaves).ok_or(StoreError::OutOfRange)
    }

    fn enter_block_of(&mut self, log_index: u64) -> Result<(), StoreError> {
        let has =
            |block: &BlockAt| (block.header.log_start..block.header.log_size).contains(&log_index);
        if !self.block.as_ref().is_some_and(has) {
            let (header, _) = self.reader.committed_header(self.reader.height_of(log_index)?)?;
            let outcomes = self.reader.outcomes(&header)?;
            self.block = Some(BlockAt { header, outcomes });
        }
        Ok(())
    }
}

impl BlockAt {
    fn outcomes_of(&self, log_index: u64) -> &[SlotOutcome] {
        let place = log_index.checked_sub(self.header.log_start);
        let place = place.and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| self.outcomes.get(place)).map_or(&[], Vec::as_slice)
    }
}

impl ChainReader {
    fn listed(
        &self,
        log_index: u64,
        leaf: &Hash,
        block: &BlockAt,
    ) -> Result<ListedTransaction, StoreError> {
        let corrupt = |what: String| {
            StoreError::corrupt(Table::Transactions, &table::number(log_index), what)
        };
        let (parts, _) = self.committed_body(log_index, leaf)?;
        let header =
            TransactionHeader::decode(&parts.header).map_err(|error| corrupt(error.to_string()))?;
        let slots = parts.slots.iter().map(|slot| Slot::decode(slot));
        let slots: Vec<_> = slots.collect::<Result<_, _>>().map_err(|e| corrupt(e.to_string()))?;
        let open = slots.iter().filter(|slot| slot.form == SlotForm::Open).count();
        if parts.records.len() != open {
            return Err(corrupt("a record is missing".to_owned()));
        }
        let mut records = parts.records.into_iter();
        let with_record = |slot: Slot| {
            let record = if slot.form == SlotForm::Open { records.next() } else { None };
            (slot, record)
        };
        let slots: Vec<_> = slots.into_iter().map(with_record).collect();
        let all = (0..).zip(slots);
        // A repeat and a refused slot are on the log, and are nothing new.
        let counted = block.outcomes_of(log_index).iter().map(SlotOutcome::is_applied);
        let listed = all.zip(counted).filter(|(_, counted)| *counted);
        let slots = listed.map(|((position, (slot, record)), _)| ListedSlot {
            position,
            record_id: slot.record_id,
            form: slot.form,
            subject_keys: slot.index_keys(&header.agency),
            record,
        });
        let (id, slots) = (header.id(), slots.collect());
        Ok(ListedTransaction { log_index, block: block.header.clone(), header, id, slots })
    }

    /// The places of a subject's history entries, at most `count_max`: from a place on, ascending, or those
    /// before it, descending.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn subject_places(
        &self,
        subject_key: &Hash,
        (log_index, position): (u64, u32),
        newest_first: bool,
        count_max: usize,
    ) -> Result<Vec<(u64, u32)>, StoreError> {
        let log_size = self.tip().header.log_size;
        let from = HistoryEntry { key: *subject_key, log_index, position }.encode();
        let of_subject = |key: &[u8]| key.starts_with(subject_key.as_bytes());
        let rows: Box<dyn Iterator<Item = _>> = match newest_first {
            false => Box::new(self.store().scan_while(Table::History, &from, of_subject)),
            true => Box::new(self.store().scan_back_while(Table::History, &from, of_subject)),
        };
        let places = rows.map(|row| history_entry(&row?.0).map(|e| (e.log_index, e.position)));
        let wanted = |place: &Result<(u64, u32), StoreError>| {
            let before = |place: &(u64, u32)| !newest_first || *place < (log_index, position);
            place.as_ref().map_or(true, |place| place.0 < log_size && before(place))
        };
        places.filter(wanted).take(count_max).collect()
    }

    /// The first height whose time is at or after this, and where its part of the log begins; beyond the tip
    /// where there is none yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn first_at(&self, time_ms: u64) -> Result<(u64, u64), StoreError> {
        let tip = self.tip();
        let (mut low, mut high) = (0, tip.header.height + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let (header, _) = self.committed_header(middle)?;
            if header.time_ms < time_ms {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if low > tip.header.height {
            return Ok((low, tip.header.log_size));
        }
        Ok((low, self.committed_header(low)?.0.log_start))
    }
}

impl CommittedTransaction {
    /// The record of a slot; `None` where there is no such slot. What is on the chain was checked before it was
    /// committed.
    pub fn record(&self, position: u32) -> Option<CommittedRecord> {
        let Self { parts, log_index, header, .. } = self;
        let signed = TransactionHeader::decode(&parts.header).ok()?;
        let slot = Slot::decode(parts.slots.get(position as usize)?).ok()?;
        let bytes = record_place(parts, position).and_then(|place| parts.records.get(place));
        Some(CommittedRecord {
            id: slot.record_id,
            bytes: bytes.cloned(),
            form: slot.form,
            place: RecordPlace { log_index: *log_index, position, agency: signed.agency },
            transaction_id: signed.id(),
            header: header.clone(),
        })
    }
}
