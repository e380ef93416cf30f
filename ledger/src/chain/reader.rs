//! Reading the committed chain, concurrently with the writer.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use customhouse_proto::v1;
use prost::Message as _;

use crate::{
    agency::AgencyCode,
    chain::{Chain, ChainState, Tip, check_begun},
    finality::{
        certificate::Certificate,
        header::{Block, Header},
    },
    hash::Hash,
    history::HistoryEntry,
    merkle,
    record::ValidRecord,
    registry::genesis::Genesis,
    store::{
        BackupInfo, Opened, Store, StoreError, StoreMetrics, StoreOptions, Table, WriteOut, table,
        value::{self, DedupeRow, HeaderRow, OutcomesRow, PlaceRow},
    },
    transaction::{Slot, SlotForm, SlotOutcome, TransactionHeader, outcome, record_place},
};

/// Reads what is committed. Every answer is of a committed block: rows that the writer has put on
/// the disk but not yet committed are not seen.
#[derive(Clone)]
pub struct ChainReader {
    pub(super) shared: Arc<ChainState>,
    /// Whose records are meant first where an id stands for several agencies'.
    pub(super) home: Option<AgencyCode>,
}

/// A header with its finalization, which is `None` at height 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertifiedHeader {
    /// The header.
    pub header: Header,
    /// Its finalization.
    pub certificate: Option<Certificate>,
}

/// A committed block with its bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedBlock {
    /// The block.
    pub block: Block,
    /// Its finalization; `None` at height 0.
    pub certificate: Option<Certificate>,
    /// The transactions' bytes, in log order.
    pub transactions: Vec<Bytes>,
}

/// A committed transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct CommittedTransaction {
    /// Its parts.
    pub parts: v1::Transaction,
    /// Its bytes.
    pub encoded: Bytes,
    /// Its place in the log.
    pub log_index: u64,
    /// The block that committed it.
    pub header: Header,
}

/// Where a record was first committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    /// Log index of the transaction.
    pub log_index: u64,
    /// Position of the slot in the transaction.
    pub position: u32,
    /// The agency that answers for it.
    pub agency: AgencyCode,
}

/// A committed record.
#[derive(Clone, Debug, PartialEq)]
pub struct CommittedRecord {
    /// Its id.
    pub id: Hash,
    /// Canonical bytes; `None` where it is sealed, and they are not on the chain.
    pub bytes: Option<Bytes>,
    /// In which form it is there.
    pub form: SlotForm,
    /// Where it is.
    pub place: RecordPlace,
    /// The transaction that carries it.
    pub transaction_id: Hash,
    /// The block that committed it: its height and time are the record's.
    pub header: Header,
}

/// What a dedupe key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupePlace {
    /// Log index of the transaction with the first slot.
    pub log_index: u64,
    /// Position of the first slot in its transaction.
    pub position: u32,
    /// The record that was committed under the key.
    pub record_id: Hash,
}

impl ChainReader {
    pub(super) fn new(shared: Arc<ChainState>) -> Self {
        Self { shared, home: None }
    }

    /// Reads a store that no process writes, and changes no file of it: one that may be copied, or
    /// read-only.
    ///
    /// # Errors
    /// [`StoreError`]: among others a store that is open elsewhere, of another genesis or format, or
    /// damaged.
    pub fn open(
        path: &Path,
        genesis: &Genesis,
        options: &StoreOptions,
    ) -> Result<Self, StoreError> {
        let Opened { store, damage, .. } = Store::open_to_read(path, options)?;
        if let Some(first) = damage.into_iter().next() {
            return Err(first);
        }
        check_begun(&store, &genesis.chain_id())?;
        Ok(Chain::begun(store, genesis)?.reader())
    }

    pub(super) fn store(&self) -> &Store {
        &self.shared.store
    }

    /// The newest committed block.
    pub fn tip(&self) -> Arc<Tip> {
        self.shared.tip()
    }

    /// What the chain began with.
    pub fn genesis(&self) -> &Genesis {
        &self.shared.genesis
    }

    /// Which chain it is.
    pub fn chain_id(&self) -> Hash {
        self.shared.chain_id
    }

    /// Sizes for the metrics.
    pub fn metrics(&self) -> StoreMetrics {
        self.store().metrics()
    }

    /// Memory of the store's write buffers, bytes.
    pub fn buffered_bytes(&self) -> u64 {
        self.store().buffered_bytes()
    }

    /// Has the store's write buffers written out to its tables, which gives their memory back. The writing
    /// goes on after this has returned.
    ///
    /// # Errors
    /// The store takes no more writes.
    pub fn write_out(&self) -> Result<WriteOut, StoreError> {
        self.store().write_out()
    }

    /// Adds a backup of the store to a directory, reads all of it back, and keeps the newest `keep`.
    /// Blocks may be committed meanwhile: the backup is of one moment, not before this tip. The directory
    /// is this store's from its first backup on; `agency` tells people whose store that is.
    ///
    /// # Errors
    /// [`StoreError`]: [`StoreError::BackupDamaged`] where the backup or an older one is not as it was
    /// written, [`StoreError::OtherBackups`] where the directory is another store's. Nothing was removed
    /// then.
    pub fn back_up(
        &self,
        directory: &Path,
        keep: usize,
        agency: Option<AgencyCode>,
    ) -> Result<BackupInfo, StoreError> {
        self.store().back_up(directory, keep, self.chain_id(), agency)
    }

    /// The header at a height; `None` above the tip.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn header(&self, height: u64) -> Result<Option<CertifiedHeader>, StoreError> {
        if height > self.tip().header.height {
            return Ok(None);
        }
        let (header, certificate) = self.committed_header(height)?;
        Ok(Some(CertifiedHeader { header, certificate }))
    }

    /// The block at a height with its bodies; `None` above the tip.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn block(&self, height: u64) -> Result<Option<CommittedBlock>, StoreError> {
        let Some(CertifiedHeader { header, certificate }) = self.header(height)? else {
            return Ok(None);
        };
        let leaves = self.store().log_leaves(header.log_start, header.log_size)?;
        let transactions = (header.log_start..)
            .zip(&leaves)
            .map(|(log_index, leaf)| Ok(self.committed_body(log_index, leaf)?.1))
            .collect::<Result<_, StoreError>>()?;
        Ok(Some(CommittedBlock { block: Block { header, leaves }, certificate, transactions }))
    }

    /// A transaction by its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn transaction(&self, id: &Hash) -> Result<Option<CommittedTransaction>, StoreError> {
        match self.store().value(Table::TransactionIds, id.as_bytes())? {
            Some(log_index) => self.transaction_at(log_index),
            None => Ok(None),
        }
    }

    /// A transaction by its log leaf hash.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn transaction_by_leaf(
        &self,
        leaf: &Hash,
    ) -> Result<Option<CommittedTransaction>, StoreError> {
        match self.store().value(Table::Leaves, leaf.as_bytes())? {
            Some(log_index) => self.transaction_at(log_index),
            None => Ok(None),
        }
    }

    /// A transaction by its place in the log.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn transaction_at(
        &self,
        log_index: u64,
    ) -> Result<Option<CommittedTransaction>, StoreError> {
        if log_index >= self.tip().header.log_size {
            return Ok(None);
        }
        let leaves = self.store().log_leaves(log_index, log_index + 1)?;
        let leaf = leaves.first().ok_or(StoreError::OutOfRange)?;
        let (parts, encoded) = self.committed_body(log_index, leaf)?;
        let (header, _) = self.committed_header(self.height_of(log_index)?)?;
        Ok(Some(CommittedTransaction { parts, encoded, log_index, header }))
    }

    /// The bytes of a transaction that is committed, or in a block stored for voting, by its log
    /// leaf hash: what peers ask for.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn body(&self, leaf: &Hash) -> Result<Option<Bytes>, StoreError> {
        let pending = self.shared.state().pending.body(leaf);
        if let Some(log_index) = pending {
            let key = table::numbered(log_index, leaf);
            if let Some(bytes) = self.store().read(Table::Transactions, key)? {
                return Ok(Some(Bytes::copy_from_slice(&bytes)));
            }
            // The height was committed meanwhile and the body lost its place.
        }
        Ok(self.transaction_by_leaf(leaf)?.map(|transaction| transaction.encoded))
    }

    /// A block of the next height that was stored for voting.
    pub fn pending_block(&self, height: u64, hash: &Hash) -> Option<Block> {
        let state = self.shared.state();
        state.pending.block(hash).filter(|block| block.header.height == height).cloned()
    }

    /// All blocks of the next height that were stored for voting, by hash.
    pub fn pending_blocks(&self) -> Vec<Block> {
        self.shared.state().pending.blocks().map(|(_, block)| block.clone()).collect()
    }

    /// Whether a block's leaves lead to the log root in its header. That can be checked before any
    /// body is there. `false` too for a block that begins beyond the committed log.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn has_leaves(&self, block: &Block) -> Result<bool, StoreError> {
        let header = &block.header;
        let count = header.log_size.checked_sub(header.log_start);
        if count != Some(block.leaves.len() as u64) || header.log_start > self.tip().header.log_size
        {
            return Ok(false);
        }
        let store = self.store();
        let mut log = merkle::Frontier::read(header.log_start, |node| store.log_node(node))?;
        block.leaves.iter().for_each(|leaf| log.push(*leaf));
        Ok(log.root() == header.log_root)
    }

    /// The same reader at an agency: where an id stands for records of several, its own are meant first. Whoever lodges
    /// another's id takes nothing by that.
    #[must_use]
    pub fn at(self, home: AgencyCode) -> Self {
        Self { home: Some(home), ..self }
    }

    /// Where a record was first committed: the own agency's where there is one, then the open one where there is one, for its id says whose it is, and of sealed
    /// slots the first of any agency's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn place(&self, record_id: &Hash) -> Result<Option<RecordPlace>, StoreError> {
        if let Some(home) = &self.home
            && let Some(own) = self.place_of(record_id, home)?
        {
            return Ok(Some(own));
        }
        let log_size = self.tip().header.log_size;
        let mut first: Option<(bool, RecordPlace)> = None;
        let id = record_id.0;
        let of_record = move |key: &[u8]| key.starts_with(&id);
        for row in self.store().scan_while(Table::Records, &id, of_record) {
            let (key, value) = row?;
            let row: PlaceRow = value::decode(Table::Records, &key, &value)?;
            let (log_index, position) = (row.log_index, row.position);
            let agency = table::agency_of_record(&key)
                .ok_or_else(|| StoreError::corrupt(Table::Records, &key, "not an agency code"))?;
            let place = (row.is_sealed(), RecordPlace { log_index, position, agency });
            let order = |(is_sealed, place): &(bool, RecordPlace)| (*is_sealed, place.log_index);
            let earlier = first.as_ref().is_none_or(|first| order(&place) < order(first));
            if log_index < log_size && earlier {
                first = Some(place);
            }
        }
        Ok(first.map(|(_, place)| place))
    }

    /// Where an agency's record was committed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn place_of(
        &self,
        record_id: &Hash,
        agency: &AgencyCode,
    ) -> Result<Option<RecordPlace>, StoreError> {
        let key = table::record(record_id, agency);
        let row: Option<PlaceRow> = self.store().value(Table::Records, key)?;
        let log_size = self.tip().header.log_size;
        Ok(row.filter(|row| row.log_index < log_size).map(|row| RecordPlace {
            log_index: row.log_index,
            position: row.position,
            agency: *agency,
        }))
    }

    /// What became of a slot of a committed transaction; `None` where there is no such slot.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn outcome_at(
        &self,
        log_index: u64,
        position: u32,
    ) -> Result<Option<SlotOutcome>, StoreError> {
        let outcomes = self.outcomes_at(log_index)?;
        Ok(outcomes.get(position as usize).copied())
    }

    /// What became of the slots of a committed transaction; none where there is no such transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn outcomes_at(&self, log_index: u64) -> Result<Vec<SlotOutcome>, StoreError> {
        if log_index >= self.tip().header.log_size {
            return Ok(Vec::new());
        }
        let (header, _) = self.committed_header(self.height_of(log_index)?)?;
        let place = usize::try_from(log_index - header.log_start).unwrap_or(usize::MAX);
        Ok(self.outcomes(&header)?.into_iter().nth(place).unwrap_or_default())
    }

    /// What became of the slots of a block's transactions, in log order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn outcomes(&self, header: &Header) -> Result<Vec<Vec<SlotOutcome>>, StoreError> {
        if header.log_size == header.log_start {
            return Ok(Vec::new());
        }
        let key = table::number(header.height);
        let corrupt = |what: &str| StoreError::corrupt(Table::Outcomes, &key, what);
        let row: Option<OutcomesRow> = self.store().value(Table::Outcomes, key)?;
        let outcomes = row.ok_or_else(|| corrupt("missing"))?.outcomes();
        let outcomes = outcomes.ok_or_else(|| corrupt("not the outcomes of a block"))?;
        if outcome::block_root(outcomes.iter().map(Vec::as_slice)) != header.outcomes_root {
            return Err(corrupt("not the outcomes that the header has a root over"));
        }
        Ok(outcomes)
    }

    /// A record by its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn record(&self, id: &Hash) -> Result<Option<CommittedRecord>, StoreError> {
        let Some(place) = self.place(id)? else { return Ok(None) };
        let record = self.record_at(place.log_index, place.position)?;
        let other = || StoreError::corrupt(Table::Records, id.as_bytes(), "of another record");
        record
            .filter(|record| record.place == place)
            // What is handed out is what the id stands for, whatever the disk has made of it.
            .filter(|r| {
                let is_of_id = |bytes: &Bytes| {
                    ValidRecord::from_bytes(bytes.clone()).is_ok_and(|record| record.id == *id)
                };
                r.bytes.as_ref().is_none_or(is_of_id)
            })
            .map(Some)
            .ok_or_else(other)
    }

    /// The record of a slot, by its place: of a history entry, for example.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn record_at(
        &self,
        log_index: u64,
        position: u32,
    ) -> Result<Option<CommittedRecord>, StoreError> {
        let Some(transaction) = self.transaction_at(log_index)? else { return Ok(None) };
        let CommittedTransaction { parts, header, .. } = transaction;
        let signed = TransactionHeader::decode(&parts.header).map_err(|error| {
            StoreError::corrupt(Table::Transactions, &table::number(log_index), error)
        })?;
        let Some(slot) = parts.slots.get(position as usize) else { return Ok(None) };
        let place = record_place(&parts, position);
        let bytes = place.and_then(|place| parts.records.get(place)).cloned();
        let slot = Slot::decode(slot).map_err(|error| {
            StoreError::corrupt(Table::Transactions, &table::number(log_index), error)
        })?;
        Ok(Some(CommittedRecord {
            id: slot.record_id,
            bytes,
            form: slot.form,
            place: RecordPlace { log_index, position, agency: signed.agency },
            transaction_id: signed.id(),
            header,
        }))
    }

    /// What an agency's dedupe key stands for.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn dedupe(
        &self,
        agency: &AgencyCode,
        dedupe_key: &Hash,
    ) -> Result<Option<DedupePlace>, StoreError> {
        self.place_of_key(table::dedupe(Some(agency), dedupe_key))
    }

    /// Where a change of the registry is recorded, by its proposal's hash.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn registry_change(&self, proposal: &Hash) -> Result<Option<DedupePlace>, StoreError> {
        self.place_of_key(table::dedupe(None, proposal))
    }

    /// Where a breach of the rules is recorded, by [`crate::finality::evidence::Evidence::dedupe_key`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn misbehaviour(&self, dedupe_key: &Hash) -> Result<Option<DedupePlace>, StoreError> {
        self.place_of_key(table::dedupe(None, dedupe_key))
    }

    fn place_of_key(&self, key: [u8; 48]) -> Result<Option<DedupePlace>, StoreError> {
        let row: Option<DedupeRow> = self.store().value(Table::Dedupe, key)?;
        let log_size = self.tip().header.log_size;
        Ok(row.filter(|row| row.log_index < log_size).map(|row| DedupePlace {
            log_index: row.log_index,
            position: row.position,
            record_id: row.record_id(),
        }))
    }

    /// History entries of a subject in block order, at most `count_max`, after the place of an
    /// earlier page's last entry.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn history(
        &self,
        subject_key: &Hash,
        after: Option<(u64, u32)>,
        count_max: usize,
    ) -> Result<Vec<HistoryEntry>, StoreError> {
        let log_size = self.tip().header.log_size;
        let (log_index, position) = after.unwrap_or_default();
        let from = HistoryEntry { key: *subject_key, log_index, position }.encode();
        self.store()
            .scan(Table::History, &from, subject_key.as_bytes())
            .map(|row| history_entry(&row?.0))
            .filter(|entry| {
                let place = entry.as_ref().map(|entry| (entry.log_index, entry.position));
                place.map_or(true, |place| after != Some(place))
            })
            .take_while(|entry| entry.as_ref().map_or(true, |entry| entry.log_index < log_size))
            .take(count_max)
            .collect()
    }

    /// Where a transaction is in the log, without reading it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn log_index(&self, transaction_id: &Hash) -> Result<Option<u64>, StoreError> {
        let found: Option<u64> =
            self.store().value(Table::TransactionIds, transaction_id.as_bytes())?;
        Ok(found.filter(|&log_index| log_index < self.tip().header.log_size))
    }

    /// The height that committed a log index below the tip's log size.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn height_of(&self, log_index: u64) -> Result<u64, StoreError> {
        let key = table::number(log_index);
        let mut rows = self.store().scan_while(Table::Heights, &key, |_| true);
        let missing = || StoreError::corrupt(Table::Heights, &key, "missing");
        let (found, height) = rows.next().ok_or_else(missing)??;
        value::decode(Table::Heights, &found, &height)
    }

    /// The header at a height that is not above the tip.
    pub(super) fn committed_header(
        &self,
        height: u64,
    ) -> Result<(Header, Option<Certificate>), StoreError> {
        let key = table::number(height);
        read_header(self.store(), height)?
            .ok_or_else(|| StoreError::corrupt(Table::Headers, &key, "missing"))
    }

    /// The transaction at a log index below the tip's log size, checked against its leaf hash.
    pub(super) fn committed_body(
        &self,
        log_index: u64,
        leaf: &Hash,
    ) -> Result<(v1::Transaction, Bytes), StoreError> {
        let key = table::numbered(log_index, leaf);
        let corrupt = |what: &str| StoreError::corrupt(Table::Transactions, &key, what);
        let bytes =
            self.store().read(Table::Transactions, key)?.ok_or_else(|| corrupt("missing"))?;
        let encoded = Bytes::copy_from_slice(&bytes);
        let parts = v1::Transaction::decode(encoded.clone())
            .map_err(|error| corrupt(&error.to_string()))?;
        if merkle::leaf_hash_of_parts(&[&parts.header, &parts.signature]) != *leaf {
            return Err(corrupt("another transaction than the log's"));
        }
        Ok((parts, encoded))
    }
}

/// Reads the header at a height, which must carry its own finalization.
pub(super) fn read_header(
    store: &Store,
    height: u64,
) -> Result<Option<(Header, Option<Certificate>)>, StoreError> {
    let key = table::number(height);
    let Some(row) = store.value::<HeaderRow>(Table::Headers, key)? else { return Ok(None) };
    let parts = row.parts().filter(|(header, _)| header.height == height);
    let corrupt = || StoreError::corrupt(Table::Headers, &key, "not this height's header");
    parts.map(Some).ok_or_else(corrupt)
}

pub(super) fn history_entry(key: &[u8]) -> Result<HistoryEntry, StoreError> {
    HistoryEntry::decode(key).map_err(|error| StoreError::corrupt(Table::History, key, error))
}
