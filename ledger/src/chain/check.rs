//! Checking a whole store from the genesis on: hash chain, finalizations, signatures, every rule of
//! every record, roots, and every row of every table.
//!
//! A [`StoreCheck`] is fed with the store's blocks in order. Each is executed as a node executes it
//! ([`Chain::validate`]), on a state that begins with the genesis and knows nothing of the stored
//! indexes. So the roots, the members and the order of leaders are recomputed, and so is each row that
//! the indexes must have.
//!
//! # Why no index row is looked up
//!
//! Looking up each expected row would take longer than all the rest. Instead, the expected rows of a
//! table and those that a scan finds are both counted and summed: each row's SHA-256 under a key that
//! was drawn for this check, added up modulo 2^256, in any order. The rows were there before the key
//! was, so different tables have the same sum with a probability of about 2^-256 only. Where the sums
//! differ, a second pass looks the expected rows of that table up, and says which are wrong.
//!
//! # Why the first of equal records is the first
//!
//! A slot is *applied* unless an earlier applied slot has its dedupe key or its record id; then it is a
//! no-op. What is earlier cannot be kept in memory. It is proven like this:
//!
//! 1. A block's slots are first taken to be applied, unless an earlier slot of the block says otherwise.
//!    Where the root over the outcomes is the header's, they were applied by those who finalized it as well.
//!    Where it is not, the block is executed once more with its slots looked up in `dedupe` and `records`,
//!    of which rows from this block on are passed over.
//! 2. As a multiset, the rows of all applied slots are those of `dedupe` and `records`. A table has
//!    no key twice, so no two applied slots have one key or one record id: none was wrongly applied.
//! 3. Those that were not applied were found in the block or by the look-up, hence have a row that is
//!    an earlier applied slot's, because by 2 the tables have no other rows: none was wrongly passed
//!    over.
//!
//! The same holds for transaction ids, of which none may be committed twice. The records that others refer to
//! are always looked up in `records`; by 2, what is found there are earlier applied slots.

use std::{fmt, path::Path, sync::Arc};

use serde::Serialize;

use crate::{
    chain::{BlockInvalid, Chain, FORMAT, Staged, Tip, check_genesis, known::Lookup, rows},
    finality::header::Block,
    hash::Hash,
    proofs::verifier::verify_finalization,
    registry::genesis::Genesis,
    store::{
        Opened, Store, StoreError, StoreOptions, Table,
        table::{self, META_FORMAT, META_REBUILD},
    },
    transaction::VerifiedTransaction,
};

mod files;
mod locate;
mod rest;
mod stored;
mod sums;

pub use stored::{BlockReader, StoredBlock, StoredBlocks, VerifiedBlock};
pub use sums::{TableCheck, TableSum};

use files::Files;
use locate::Located;
use sums::{RowHasher, RowSum, SUMMED};

/// The most places of damage that are listed; the rest are only counted.
pub const DAMAGE_MAX: usize = 100;

/// One place of damage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The block's height, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// The table (RocksDB column family) or, in parentheses, another part of the store.
    pub table: &'static str,
    /// The row's key in hexadecimal; empty where the damage is not a row's.
    pub key: String,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(height) = self.height {
            write!(f, "height {height}, ")?;
        }
        match self.table.starts_with('(') {
            true => write!(f, "{}", self.table)?,
            false => write!(f, "table `{}`", self.table)?,
        }
        if !self.key.is_empty() {
            write!(f, ", key `{}`", self.key)?;
        }
        write!(f, ": {}", self.what)
    }
}

impl Damage {
    pub(in crate::chain) fn new(
        height: Option<u64>,
        table: Table,
        key: &[u8],
        what: impl ToString,
    ) -> Self {
        Self { height, table: table.name(), key: hex::encode(key), what: what.to_string() }
    }

    /// Damage of a row that could not be read; a scan does not say which row, only where it was.
    fn unread(height: Option<u64>, table: Table, key: &[u8], error: StoreError) -> Self {
        let damage = Self::from(error);
        let key = if damage.key.is_empty() { hex::encode(key) } else { damage.key };
        let table = if damage.table.starts_with('(') { table.name() } else { damage.table };
        Self { height, table, key, what: damage.what }
    }
}

impl From<&Damage> for StoreError {
    fn from(damage: &Damage) -> Self {
        let Damage { table, key, what, .. } = damage.clone();
        Self::Corrupt { table, key, what }
    }
}

impl From<StoreError> for Damage {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt { table, key, what } => Self { height: None, table, key, what },
            other => {
                let what = other.to_string();
                Self { height: None, table: "(store)", key: String::new(), what }
            }
        }
    }
}

/// Where a store is damaged.
#[derive(Debug, Default)]
struct DamageList {
    named: Vec<Damage>,
    count: u64,
}

impl DamageList {
    fn push(&mut self, damage: Damage) {
        self.count += 1;
        if self.named.len() < DAMAGE_MAX {
            self.named.push(damage);
        }
    }
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Height of the last block that is right, and what it certifies.
    pub height: u64,
    /// Its hash.
    pub block_hash: Hash,
    /// Transactions up to it.
    pub transactions: u64,
    /// Records in them, repeats included.
    pub records: u64,
    /// Index rows that were compared.
    pub index_rows: u64,
    /// Table and blob files that were read whole and compared with their checksums.
    pub files: u64,
    /// Names of files without a checksum, because an earlier version wrote them: all their rows
    /// were checked, and nothing else of them.
    pub files_unchecked: Vec<String>,
    /// Whether nothing tells which rows the table `decisions` should have, because an earlier version
    /// wrote the last of them: those that are there were checked.
    pub decisions_unchecked: bool,
    /// Writes that were cut off at the end of a log. A crash leaves such writes, and none of them
    /// was acknowledged: what others remember of the newest blocks tells whether more was lost.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub torn: Vec<Damage>,
    /// Where the chain could not be followed any further: nothing from there on was checked, nor
    /// any index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<u64>,
    /// Places of damage, at most [`DAMAGE_MAX`].
    pub damage: Vec<Damage>,
    /// How many there are.
    pub damage_count: u64,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.damage_count == 0
    }
}

/// A check in progress. The caller feeds it: the files that RocksDB wrote ([`StoreCheck::files`],
/// [`StoreCheck::add_file`]); blocks ([`StoreCheck::reader`], verified by
/// [`StoredBlock::verify`] on as many threads as there are, then [`StoreCheck::apply`] in order); then
/// the tables ([`StoreCheck::tables`], [`StoreCheck::compare`]); where they differ, the blocks once
/// more ([`StoreCheck::begin_to_locate`]); at last [`StoreCheck::finish`].
pub struct StoreCheck {
    chain: Chain,
    hasher: RowHasher,
    pass: Pass,
    damage: DamageList,
    files: Files,
    decisions_unchecked: bool,
    torn: Vec<Damage>,
    /// Height of the next block.
    next: u64,
    records: u64,
    index_rows: u64,
    stopped_at: Option<u64>,
    differing: Vec<Table>,
    /// Rows that a scan found, of tables that could be read to their end.
    scanned: Vec<(Table, u64)>,
}

/// What is done with the rows that the blocks give.
enum Pass {
    Sum(Box<[RowSum; SUMMED.len()]>),
    Locate(Located),
}

impl StoreCheck {
    /// Opens a store that no process has open, and changes nothing of it. `key` must be random, and
    /// nobody may have known it before.
    ///
    /// # Errors
    /// What keeps the store from being looked at: it is open elsewhere, of another chain or format,
    /// or so damaged that RocksDB does not open it.
    pub fn open(
        path: &Path,
        genesis: &Genesis,
        options: &StoreOptions,
        key: &[u8; 32],
    ) -> Result<Self, StoreError> {
        let Opened { store, damage: unreadable, torn } = Store::open_to_read(path, options)?;
        let mut damage = DamageList::default();
        unreadable.into_iter().map(Damage::from).for_each(|found| damage.push(found));
        check_kind(&store, &genesis.chain_id(), &mut damage)?;
        Ok(Self {
            chain: Chain::at_genesis(store, genesis),
            hasher: RowHasher::new(key),
            pass: Pass::Sum(Box::default()),
            damage,
            files: Files::default(),
            decisions_unchecked: false,
            torn: torn.into_iter().map(Damage::from).collect(),
            next: 0,
            records: 0,
            index_rows: 0,
            stopped_at: None,
            differing: Vec::new(),
            scanned: Vec::new(),
        })
    }

    /// Reads the store's blocks.
    pub fn reader(&self) -> BlockReader {
        BlockReader::new(Arc::clone(&self.chain.shared))
    }

    /// The newest block that was applied.
    pub fn tip(&self) -> Arc<Tip> {
        self.chain.tip()
    }

    /// Records so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Adds what the caller knows to be wrong: that others have seen a later block, for example.
    pub fn add(&mut self, damage: Damage) {
        self.damage.push(damage);
    }

    /// The first damage that was found so far; opening finds some.
    pub fn first_damage(&self) -> Option<&Damage> {
        self.damage.named.first()
    }

    /// Whether the chain could not be followed to its end.
    pub fn is_stopped(&self) -> bool {
        self.stopped_at.is_some()
    }

    /// Takes the next block. Says whether the chain can be followed further.
    pub fn apply(&mut self, block: Result<VerifiedBlock, Damage>) -> bool {
        let height = self.next;
        match block.and_then(|block| self.try_apply(block)) {
            Ok(()) => {
                self.next += 1;
                true
            }
            Err(damage) => {
                self.damage.push(Damage { height: damage.height.or(Some(height)), ..damage });
                self.stopped_at = Some(height);
                false
            }
        }
    }

    fn try_apply(&mut self, verified: VerifiedBlock) -> Result<(), Damage> {
        let VerifiedBlock { header, certificate, transactions, damage } = verified;
        let is_first_pass = matches!(self.pass, Pass::Sum(_));
        damage.into_iter().filter(|_| is_first_pass).for_each(|found| self.damage.push(found));
        let (height, key) = (header.height, table::number(header.height));
        let wrong =
            |what: &dyn ToString| Damage::new(Some(height), Table::Headers, &key, what.to_string());
        let Some(certificate) = certificate else {
            let is_genesis = height == 0 && header == self.chain.shared.genesis.header();
            return if is_genesis { Ok(()) } else { Err(wrong(&"not the genesis's header")) };
        };
        let leaves = transactions.iter().map(|transaction| transaction.leaf_hash()).collect();
        let block = Block { header, leaves };
        let staged = execute(&self.chain, &block, &transactions)?;
        let (chain_id, tip) = (self.chain.shared.chain_id, self.tip());
        verify_finalization(&block.header, &certificate, &chain_id, &tip.validators)
            .map_err(|error| wrong(&error))?;
        self.rows_of(&staged);
        let slots = transactions.iter().map(|transaction| transaction.slots().len() as u64);
        self.records += slots.sum::<u64>();
        self.chain.advance(staged, certificate);
        Ok(())
    }

    fn rows_of(&mut self, staged: &Staged) {
        match &mut self.pass {
            Pass::Sum(sums) => rows::put_indexes(&mut self.hasher.summing(sums), staged),
            Pass::Locate(located) => {
                rows::put_indexes(located, staged);
                let height = staged.block.header.height;
                let store = &self.chain.shared.store;
                located.look_up(store, Some(height), |found| self.damage.push(found));
            }
        }
    }

    /// The tables to scan, each by itself and on any thread, after the last block.
    pub fn tables(&self) -> Vec<TableCheck> {
        let check = |table| TableCheck::new(&self.chain.shared, table, self.hasher.clone());
        SUMMED.into_iter().map(check).collect()
    }

    /// Compares what the scans gave with what the blocks give. Says whether any table differs, so
    /// that it is worth finding out where.
    pub fn compare(&mut self, scanned: Vec<TableSum>) -> bool {
        let Pass::Sum(sums) = &mut self.pass else { return false };
        let mut rows = self.hasher.summing(sums);
        rows::put_unfinished_tiles(&mut rows, &self.chain.edge);
        for TableSum { table, sum, damage, complete } in scanned {
            let expected = SUMMED.into_iter().zip(&**sums).find(|(summed, _)| *summed == table);
            self.index_rows += sum.count();
            damage.into_iter().for_each(|found| self.damage.push(found));
            if complete {
                self.scanned.push((table, sum.count()));
            }
            if expected.is_some_and(|(_, expected)| *expected != sum) {
                self.differing.push(table);
            }
        }
        !self.differing.is_empty()
    }

    /// Goes back to the genesis, to look up the rows of the tables that differ.
    pub fn begin_to_locate(&mut self) {
        self.chain.begin_again();
        (self.next, self.records) = (0, 0);
        self.pass = Pass::Locate(Located::new(&self.differing));
    }

    /// Ends the check: only the small tables are left, and rows that should not be there.
    pub fn finish(mut self) -> CheckReport {
        if self.stopped_at.is_none() {
            self.find_surplus();
            self.check_rest();
        }
        let tip = self.tip();
        CheckReport {
            height: tip.header.height,
            block_hash: tip.hash,
            transactions: tip.header.log_size,
            records: self.records,
            index_rows: self.index_rows,
            files: self.files.checked,
            files_unchecked: self.files.unchecked,
            decisions_unchecked: self.decisions_unchecked,
            torn: self.torn,
            stopped_at: self.stopped_at,
            damage: self.damage.named,
            damage_count: self.damage.count,
        }
    }
}

/// The store must be of this format and genesis.
fn check_kind(store: &Store, chain_id: &Hash, damage: &mut DamageList) -> Result<(), StoreError> {
    match store.value::<u32>(Table::Meta, META_FORMAT) {
        Ok(Some(FORMAT)) => {}
        Ok(Some(found)) => return Err(StoreError::Format { expected: FORMAT, found }),
        Ok(None) => damage.push(Damage::new(None, Table::Meta, META_FORMAT, "missing")),
        Err(error) => damage.push(error.into()),
    }
    match store.read(Table::Meta, META_REBUILD) {
        Ok(None) => {}
        Ok(Some(_)) => {
            let what = StoreError::HalfRebuilt;
            damage.push(Damage::new(None, Table::Meta, META_REBUILD, what));
        }
        Err(error) => damage.push(error.into()),
    }
    match check_genesis(store, chain_id) {
        Err(error) if error.is_corruption() => damage.push(error.into()),
        other => return other,
    }
    Ok(())
}

/// Executes a block on the tip, see the module's documentation.
fn execute(
    chain: &Chain,
    block: &Block,
    transactions: &[Arc<VerifiedTransaction>],
) -> Result<Staged, Damage> {
    let (height, before) = (Some(block.header.height), block.header.log_start);
    let key = table::number(block.header.height);
    let executed = |repeats| {
        let lookup = Lookup { repeats, before };
        chain.validate_knowing(block, transactions, lookup).map_err(|error| {
            let damage = Damage::from(error);
            let what = format!("{}; the block cannot be executed without it", damage.what);
            Damage { height, what, ..damage }
        })
    };
    let invalid = match executed(false)? {
        Ok(staged) => return Ok(staged),
        Err(BlockInvalid::Header(_)) => match executed(true)? {
            Ok(staged) => return Ok(staged),
            Err(invalid @ BlockInvalid::Header(_)) => {
                let what = format!(
                    "{invalid}; whether its records had come before was read from the tables \
                     `dedupe` and `records`, which may be what is damaged: `customhouse store rebuild`"
                );
                return Err(Damage::new(height, Table::Headers, &key, what));
            }
            Err(invalid) => invalid,
        },
        Err(invalid) => invalid,
    };
    Err(Damage::new(height, Table::Headers, &key, invalid))
}

impl StoreCheck {
    /// The hash of a block up to the tip; `None` above it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn block_hash(&self, height: u64) -> Result<Option<Hash>, StoreError> {
        let tip = self.tip();
        match height.cmp(&tip.header.height) {
            std::cmp::Ordering::Greater => Ok(None),
            std::cmp::Ordering::Equal => Ok(Some(tip.hash)),
            std::cmp::Ordering::Less => self.chain.shared.block_hash(height).map(Some),
        }
    }
}
