//! What is found from a place of the log on, and where it goes on.

use std::time::{Duration, Instant};

use bytes::Bytes;
use customhouse_ledger::{
    authority::RecordKind,
    chain::{ChainReader, ListedSlot, ListedTransaction, LogWalk},
    hash::Hash,
    limits::SLOTS_MAX,
    store::StoreError,
    transaction::SlotForm,
};
use customhouse_proto::v1::{self, sealed::Bytes as BytesState};
use prost::Message as _;

use super::Listed;
use crate::{
    sealed::SealedId,
    view::{SeenRecord, View},
};

/// Records beyond this are listed without their bytes.
const SHOWN_BYTES_MAX: usize = 512 * 1024;
/// History entries of a subject that are read at a time.
const ENTRIES_AT_ONCE: usize = 256;
/// What a listed record takes beside its bytes.
const ENTRY_BYTES: usize = 320;

/// A place between two slots of the log: before it are all slots of transactions below the log index, and so
/// many of that transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPlace {
    /// The transaction that it is in, or before.
    pub log_index: u64,
    /// Slots of it that are before the place.
    pub position: u32,
}

/// How much a call may look at and give.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Records found.
    pub records: usize,
    /// Bytes of what is found; the first record may have more.
    pub bytes: usize,
    /// Slots looked at; a transaction is looked at to its end.
    pub slots: usize,
    /// How long it may take; a transaction is looked at to its end.
    pub time: Duration,
}

/// What was found.
#[derive(Debug, Default)]
pub struct ListedRecords {
    /// The records.
    pub records: Vec<v1::ListedRecord>,
    /// Where it goes on: everything on the near side of it was looked at.
    pub next: LogPlace,
    /// Whether there is nothing beyond, as of the log size that was looked at.
    pub at_end: bool,
    /// Whether it stopped before a sealed record that was committed just now.
    pub waits: bool,
}

/// The log has no such place, and never will.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cursor: the transaction at log index {log_index} has {slots} slots, position {position} is beyond them"
)]
pub struct NoSuchPlace {
    log_index: u64,
    position: u32,
    slots: u32,
}

impl LogPlace {
    /// The place in a message.
    ///
    /// # Errors
    /// [`NoSuchPlace`]: beyond the slots that any transaction may have.
    pub fn of(cursor: v1::Cursor) -> Result<Self, NoSuchPlace> {
        let place = Self { log_index: cursor.log_index, position: cursor.position };
        place.check(u32::try_from(SLOTS_MAX).unwrap_or(u32::MAX))?;
        Ok(place)
    }

    /// The message.
    pub fn cursor(self) -> v1::Cursor {
        v1::Cursor { log_index: self.log_index, position: self.position }
    }

    fn check(self, slots: u32) -> Result<(), NoSuchPlace> {
        let Self { log_index, position } = self;
        if position > slots {
            return Err(NoSuchPlace { log_index, position, slots });
        }
        Ok(())
    }
}

/// Where a list of the oldest begins: the first place that a filter may take anything of.
///
/// # Errors
/// [`StoreError`].
pub fn oldest(reader: &ChainReader, filter: &Listed) -> Result<LogPlace, StoreError> {
    let log_index = match filter.times().0 {
        0 => 0,
        from => reader.first_at(from)?.1,
    };
    Ok(LogPlace { log_index, position: 0 })
}

/// Where a list of the newest begins: behind the last place that a filter may take anything of.
///
/// # Errors
/// [`StoreError`].
pub fn newest(reader: &ChainReader, filter: &Listed) -> Result<LogPlace, StoreError> {
    let log_index = match filter.times().1 {
        None => reader.tip().header.log_size,
        Some(until) => reader.first_at(until)?.1,
    };
    Ok(LogPlace { log_index, position: 0 })
}

/// Lists what a filter takes: from a place to the end of the log, or from a place back to its beginning. Only
/// what is below `log_size` is looked at, which is at most the tip's.
///
/// # Errors
/// The outer error is the store's, the inner the caller's.
pub fn list(
    (view, walk): (&View, &mut LogWalk),
    filter: &Listed,
    (from, log_size, newest_first): (LogPlace, u64, bool),
    (budget, without_records): (Budget, bool),
) -> Result<Result<ListedRecords, NoSuchPlace>, StoreError> {
    if from.position > 0
        && let Some(transaction) = walk.at(from.log_index)?
        && let Err(error) = from.check(transaction.header.slot_count)
    {
        return Ok(Err(error));
    }
    let page = Page {
        view,
        filter,
        found: ListedRecords { next: from, ..ListedRecords::default() },
        budget,
        without_records,
        bytes: 0,
        looked_at: 0,
        opened: 0,
        began: Instant::now(),
    };
    let found = match (filter.subject(), newest_first) {
        (Some(keys), _) => page.of_subject(walk, keys, (log_size, newest_first)),
        (None, false) => page.ascending(walk, log_size),
        (None, true) => page.descending(walk),
    };
    found.map(Ok)
}

/// A page as it is filled.
struct Page<'a> {
    view: &'a View,
    filter: &'a Listed,
    found: ListedRecords,
    budget: Budget,
    without_records: bool,
    bytes: usize,
    looked_at: usize,
    /// Sealed records.
    opened: usize,
    began: Instant,
}

impl Page<'_> {
    fn ascending(mut self, walk: &mut LogWalk, log_size: u64) -> Result<ListedRecords, StoreError> {
        while self.found.next.log_index < log_size {
            if self.is_spent() {
                return Ok(self.found);
            }
            let LogPlace { log_index, position } = self.found.next;
            let Some(transaction) = walk.at(log_index)? else { break };
            self.looked_at += 1;
            if self.filter.takes_any_of(transaction) {
                for slot in transaction.slots.iter().filter(|slot| slot.position >= position) {
                    if !self.take(transaction, slot)? {
                        self.found.next.position = slot.position;
                        return Ok(self.found);
                    }
                }
            }
            self.found.next = LogPlace { log_index: log_index + 1, position: 0 };
        }
        walk.forget();
        self.found.at_end = true;
        Ok(self.found)
    }

    fn descending(mut self, walk: &mut LogWalk) -> Result<ListedRecords, StoreError> {
        loop {
            let (log_index, below) = match self.found.next {
                LogPlace { log_index: 0, position: 0 } => break,
                LogPlace { log_index, position: 0 } => (log_index - 1, u32::MAX),
                LogPlace { log_index, position } => (log_index, position),
            };
            if self.is_spent() {
                return Ok(self.found);
            }
            let Some(transaction) = walk.at(log_index)? else { break };
            self.looked_at += 1;
            // Nothing earlier can be in time.
            if transaction.block.time_ms < self.filter.times().0 {
                break;
            }
            if self.filter.takes_any_of(transaction) {
                let slots = transaction.slots.iter().rev();
                for slot in slots.filter(|slot| slot.position < below) {
                    if !self.take(transaction, slot)? {
                        self.found.next = LogPlace { log_index, position: slot.position + 1 };
                        return Ok(self.found);
                    }
                }
            }
            self.found.next = LogPlace { log_index, position: 0 };
        }
        self.found.at_end = true;
        Ok(self.found)
    }

    /// By the subject's history: what is not about it is not looked at.
    fn of_subject(
        mut self,
        walk: &mut LogWalk,
        keys: &[Hash],
        (log_size, newest_first): (u64, bool),
    ) -> Result<ListedRecords, StoreError> {
        loop {
            let LogPlace { log_index, position } = self.found.next;
            let from = (log_index, position);
            let places = self.view.places(keys, from, newest_first, ENTRIES_AT_ONCE)?;
            for &(log_index, position) in places.iter().filter(|place| place.0 < log_size) {
                if self.is_spent() {
                    return Ok(self.found);
                }
                let place = LogPlace { log_index, position };
                let behind = LogPlace { log_index, position: position + 1 };
                self.looked_at += 1;
                if let Some(transaction) = walk.at(log_index)?
                    && self.filter.takes_any_of(transaction)
                    && let Some(slot) = transaction.slots.iter().find(|s| s.position == position)
                    && !self.take(transaction, slot)?
                {
                    self.found.next = if newest_first { behind } else { place };
                    return Ok(self.found);
                }
                self.found.next = if newest_first { place } else { behind };
            }
            if places.len() < ENTRIES_AT_ONCE || places.iter().any(|place| place.0 >= log_size) {
                break;
            }
        }
        walk.forget();
        let end = LogPlace { log_index: log_size, position: 0 };
        self.found.next = if newest_first { LogPlace::default() } else { end.max(self.found.next) };
        self.found.at_end = true;
        Ok(self.found)
    }

    fn is_spent(&self) -> bool {
        let Budget { slots, time, .. } = self.budget;
        self.looked_at >= slots || (self.looked_at > 0 && self.began.elapsed() > time)
    }

    /// Takes a record in, where the filter takes it; false where there is no room for it any more.
    fn take(
        &mut self,
        transaction: &ListedTransaction,
        slot: &ListedSlot,
    ) -> Result<bool, StoreError> {
        self.looked_at += 1;
        if !self.filter.takes_subjects(slot) {
            return Ok(true);
        }
        let is_sealed = slot.form != SlotForm::Open;
        // To open one takes as long as to look at many that are open.
        if is_sealed && self.opened > 0 && self.began.elapsed() > self.budget.time {
            return Ok(false);
        }
        self.opened += usize::from(is_sealed);
        let id = SealedId { agency: transaction.header.agency, record_id: slot.record_id };
        let SeenRecord { bytes, sealed } = self.view.see((&slot.form, &id), slot.record.clone())?;
        if self.filter.has_subjects() && !View::tells_of_found(sealed.as_ref()) {
            return Ok(true);
        }
        if self.view.is_to_be_looked_at(transaction.log_index)
            && sealed.as_ref().is_some_and(|s| s.bytes() == BytesState::Missing)
        {
            self.found.waits = true;
            return Ok(false);
        }
        let is_missing = sealed.as_ref().is_some_and(|s| s.bytes() == BytesState::Missing);
        // What is on the chain was checked before it was committed, and what is held before it was kept. Of a record
        // whose bytes are not seen nothing is known but its slot, and only a filter that asks for no more takes it.
        let Ok(record) = v1::Record::decode(bytes.clone().unwrap_or_default()) else {
            return Ok(true);
        };
        // Of one that is to come it is not known whether it is asked for: it is told of.
        if !is_missing && !self.filter.takes(&record) {
            return Ok(true);
        }
        let length = bytes.as_ref().map_or(0, Bytes::len);
        let shown = !self.without_records && length <= SHOWN_BYTES_MAX;
        let taken = ENTRY_BYTES + if shown { length } else { 0 };
        let found = &mut self.found.records;
        let is_first = found.is_empty();
        if found.len() >= self.budget.records
            || (!is_first && self.bytes + taken > self.budget.bytes)
        {
            return Ok(false);
        }
        self.bytes += taken;
        found.push(listed((transaction, slot), record, (bytes, shown), sealed));
        Ok(true)
    }
}

fn listed(
    (transaction, slot): (&ListedTransaction, &ListedSlot),
    record: v1::Record,
    (bytes, shown): (Option<Bytes>, bool),
    sealed: Option<v1::Sealed>,
) -> v1::ListedRecord {
    let (log_index, position) = (transaction.log_index, slot.position);
    let kind = record.body.as_ref().map(|body| RecordKind::of(body).as_str());
    let bytes = bytes.unwrap_or_default();
    v1::ListedRecord {
        record_id: slot.record_id.0.to_vec(),
        agency: transaction.header.agency.to_string(),
        kind: kind.unwrap_or_default().to_owned(),
        submitter: record.submitter,
        place: Some(v1::RecordPlace {
            height: transaction.block.height,
            time_ms: transaction.block.time_ms,
            log_index,
            slot_index: position,
            transaction_id: transaction.id.0.to_vec(),
            sealed,
        }),
        record: if shown { bytes.to_vec() } else { Vec::new() },
        record_bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        cursor: Some(LogPlace { log_index, position: position + 1 }.cursor()),
    }
}
