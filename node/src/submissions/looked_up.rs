//! What was looked up of the ledger last. Who asks about many records of a block asks about one after the other,
//! and neither the block's outcomes nor a large transaction is read again for each of them.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use customhouse_ledger::{
    agency::AgencyCode,
    chain::{BlockOutcome, ChainReader, SlotOutcome},
    hash::{Hash, Tag},
    store::StoreError,
    transaction::{Slot, TransactionHeader, record_place},
};
use customhouse_proto::v1;
use prost::Message as _;

/// Transactions that are kept, of up to 6 MiB each: a repeat is compared with its first, and a client or two
/// ask at a time.
const TRANSACTIONS_MAX: usize = 4;
/// Records of which is kept what they say: who repeats some in turn has each read once.
const LODGED_MAX: usize = 16_384;

pub(crate) struct LookedUp {
    reader: ChainReader,
    /// What was asked for last comes last.
    transactions: Vec<Arc<Transaction>>,
    block: Option<Block>,
    lodged: HashMap<(u64, u32), Lodged>,
    /// How often a transaction or a block's outcomes were read.
    #[cfg(test)]
    pub(crate) reads: usize,
}

/// A committed transaction with what it carries.
pub(super) struct Transaction {
    pub(super) id: Hash,
    pub(super) log_index: u64,
    pub(super) height: u64,
    parts: v1::Transaction,
}

/// A committed record, as a repeat of it is held against it.
#[derive(Clone, Copy)]
pub(super) struct Lodged {
    /// What it says, as a hash.
    pub(super) content: Hash,
    pub(super) transaction_id: Hash,
    pub(super) height: u64,
}

/// What became of the slots of a block's transactions.
struct Block {
    height: u64,
    log_start: u64,
    outcomes: Vec<Vec<SlotOutcome>>,
}

impl LookedUp {
    pub(super) fn new(reader: ChainReader) -> Self {
        Self {
            reader,
            transactions: Vec::new(),
            block: None,
            lodged: HashMap::new(),
            #[cfg(test)]
            reads: 0,
        }
    }

    pub(super) fn reader(&self) -> &ChainReader {
        &self.reader
    }

    /// A transaction by its place in the log.
    pub(super) fn transaction(
        &mut self,
        log_index: u64,
    ) -> Result<Option<Arc<Transaction>>, StoreError> {
        let known = self.transactions.iter().position(|known| known.log_index == log_index);
        let found = match known {
            Some(place) => self.transactions.remove(place),
            None => match self.read(log_index)? {
                Some(read) => Arc::new(read),
                None => return Ok(None),
            },
        };
        if self.transactions.len() >= TRANSACTIONS_MAX {
            self.transactions.remove(0);
        }
        self.transactions.push(Arc::clone(&found));
        Ok(Some(found))
    }

    /// The record at a place of the log; `content` says what one says.
    pub(super) fn lodged(
        &mut self,
        place: (u64, u32),
        content: impl FnOnce(&v1::Record) -> Hash,
    ) -> Result<Option<Lodged>, StoreError> {
        if let Some(known) = self.lodged.get(&place) {
            return Ok(Some(*known));
        }
        let Some(transaction) = self.transaction(place.0)? else { return Ok(None) };
        let bytes = transaction.record(place.1).cloned();
        let Some(record) = bytes.and_then(|bytes| v1::Record::decode(bytes).ok()) else {
            return Ok(None);
        };
        let (transaction_id, height) = (transaction.id, transaction.height);
        let lodged = Lodged { content: content(&record), transaction_id, height };
        if self.lodged.len() >= LODGED_MAX {
            self.lodged.clear();
        }
        self.lodged.insert(place, lodged);
        Ok(Some(lodged))
    }

    fn read(&mut self, log_index: u64) -> Result<Option<Transaction>, StoreError> {
        #[cfg(test)]
        {
            self.reads += 1;
        }
        let read = self.reader.transaction_at(log_index)?;
        Ok(read.map(|read| Transaction {
            id: Tag::TRANSACTION.hash(&[&read.parts.header]),
            log_index,
            height: read.header.height,
            parts: read.parts,
        }))
    }

    /// What became of the slots of a committed transaction.
    pub(super) fn outcomes(&mut self, log_index: u64) -> Result<&[SlotOutcome], StoreError> {
        if !self.block.as_ref().is_some_and(|block| block.has(log_index)) {
            #[cfg(test)]
            {
                self.reads += 1;
            }
            let height = self.reader.height_of(log_index)?;
            let header = self.reader.header(height)?.ok_or(StoreError::OutOfRange)?.header;
            let (log_start, outcomes) = (header.log_start, self.reader.outcomes(&header)?);
            self.block = Some(Block { height, log_start, outcomes });
        }
        Ok(self.block.as_ref().map_or(&[], |block| block.of(log_index)))
    }

    /// The height that committed a transaction.
    pub(super) fn height_of(&self, log_index: u64) -> Result<u64, StoreError> {
        match self.block.as_ref().filter(|block| block.has(log_index)) {
            Some(block) => Ok(block.height),
            None => self.reader.height_of(log_index),
        }
    }

    /// Takes over what became of the transactions of a block that was committed just now.
    pub(super) fn keep(&mut self, committed: &BlockOutcome) {
        let (height, log_start) = (committed.header.height, committed.header.log_start);
        self.block = Some(Block { height, log_start, outcomes: committed.outcomes.clone() });
    }
}

impl Block {
    fn has(&self, log_index: u64) -> bool {
        self.place(log_index).is_some_and(|place| place < self.outcomes.len())
    }

    fn of(&self, log_index: u64) -> &[SlotOutcome] {
        self.place(log_index).and_then(|place| self.outcomes.get(place)).map_or(&[], Vec::as_slice)
    }

    fn place(&self, log_index: u64) -> Option<usize> {
        usize::try_from(log_index.checked_sub(self.log_start)?).ok()
    }
}

impl Transaction {
    /// The canonical bytes of a slot's record.
    pub(super) fn record(&self, position: u32) -> Option<&Bytes> {
        self.parts.records.get(record_place(&self.parts, position)?)
    }

    /// Whose it is.
    pub(super) fn agency(&self) -> Option<AgencyCode> {
        TransactionHeader::decode(&self.parts.header).ok().map(|header| header.agency)
    }

    /// The id of a slot's record.
    pub(super) fn record_id(&self, position: u32) -> Result<Hash, StoreError> {
        let slot = self.parts.slots.get(position as usize);
        let slot = slot.and_then(|slot| Slot::decode(slot).ok());
        let damaged = || StoreError::Corrupt {
            table: "transactions",
            key: format!("{:016x}", self.log_index),
            what: format!("slot {position} is missing, or not a slot"),
        };
        Ok(slot.ok_or_else(damaged)?.record_id)
    }
}
