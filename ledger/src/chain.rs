//! The chain: prepare or validate a block on the committed state, then commit it.
//!
//! [`Chain`] is the single writer. [`Chain::prepare`] makes a leader's block and
//! [`Chain::validate`] recomputes everything about another's; both give a [`Staged`] block without
//! changing anything. [`Chain::store_pending`] makes a block and its bodies durable before it is
//! voted for. [`Chain::commit`] takes the staged block with its finalization and writes it in one
//! synced batch; when it returns, the block is durable. [`ChainReader`]s serve everybody else from
//! the last committed block.
//!
//! Execution is deterministic: no clock, no floats, no iteration in an order that depends on the
//! machine. A slot whose dedupe key (within its agency) or record id is already on the chain, or
//! earlier in the same block, commits as a no-op that points to the first.

use std::{
    path::Path,
    sync::{Arc, RwLock, RwLockReadGuard},
};

use crate::{
    agreement::Agreements,
    finality::{
        certificate::Certificate, decision::Grounds, header::Header, leaders::Leaders,
        validators::ValidatorSet,
    },
    hash::Hash,
    history::HistoryTree,
    proofs::verifier::verify_finalization,
    registry::{Registry, genesis::Genesis, parameters::Parameters},
    store::{
        Store, StoreError, StoreMetrics, StoreOptions, Table,
        table::{self, META_FORMAT, META_GENESIS, META_REBUILD, META_TIP},
        tile::LogEdge,
        value::{self, HeaderRow, TipRow},
    },
    transaction::VerifiedTransaction,
};

mod changes;
pub mod check;
mod execution;
mod invalid;
mod kept;
mod known;
mod listed;
mod pending;
mod proofs;
mod reader;
pub mod rebuild;
mod registry_reads;
mod registry_state;
mod rows;
mod sealed_history;
#[cfg(test)]
mod tests;
mod tiles;

pub use crate::transaction::SlotOutcome;
pub use execution::{BlockContext, Candidate, Staged};
pub use invalid::{BlockInvalid, CommitError, TransactionInvalid};
pub use listed::{ListedSlot, ListedTransaction, LogWalk};
pub use reader::{
    CertifiedHeader, ChainReader, CommittedBlock, CommittedRecord, CommittedTransaction,
    DedupePlace, RecordPlace,
};
pub use sealed_history::{SealedHistoryPages, SealedHistoryUnmade};

use kept::Kept;
use pending::PendingBlocks;
use registry_state::{EarlierRegistries, RegistryState};

/// The layout of the store, and the rules that its blocks keep. Another number is refused.
const FORMAT: u32 = 5;

/// The newest committed block, and who decides the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Its header.
    pub header: Header,
    /// Its hash.
    pub hash: Hash,
    /// Its finalization; `None` at height 0.
    pub certificate: Option<Certificate>,
    /// The validators that decide the next height.
    pub validators: ValidatorSet,
    /// The order in which they lead its views.
    pub leaders: Leaders,
    /// The parameters at the next height.
    pub parameters: Parameters,
    /// The registry after its block: what the next one is checked against.
    pub registry: Arc<Registry>,
    /// The agreements after its block.
    pub agreements: Arc<Agreements>,
}

/// A committed block and what became of each slot.
#[derive(Clone, Debug)]
pub struct BlockOutcome {
    /// Its header.
    pub header: Header,
    /// Its hash.
    pub hash: Hash,
    /// Its transactions, in log order from `header.log_start` on.
    pub transactions: Vec<Arc<VerifiedTransaction>>,
    /// What became of each transaction's slots, in order.
    pub outcomes: Vec<Vec<SlotOutcome>>,
}

/// The single writer of the ledger.
pub struct Chain {
    shared: Arc<ChainState>,
    edge: LogEdge,
    kept: Kept,
}

/// What the writer and the readers share.
struct ChainState {
    store: Store,
    genesis: Genesis,
    chain_id: Hash,
    state: RwLock<State>,
    earlier: EarlierRegistries,
}

/// What a commit replaces, all at once. Rows beyond `tip.header.log_size` are not yet committed for
/// a reader, even where they are on the disk already.
struct State {
    tip: Arc<Tip>,
    members: Arc<RegistryState>,
    history: HistoryTree,
    pending: PendingBlocks,
}

impl ChainState {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect("no writer panics while it holds the lock")
    }

    fn tip(&self) -> Arc<Tip> {
        Arc::clone(&self.state().tip)
    }
}

impl State {
    fn at_genesis(genesis: &Genesis) -> Self {
        let members = Arc::new(RegistryState::of_genesis(genesis));
        let tip = Tip::new(genesis.header(), None, Leaders::default(), &members);
        Self {
            tip: Arc::new(tip),
            members,
            history: HistoryTree::empty(genesis.history_bits),
            pending: PendingBlocks::default(),
        }
    }
}

impl Tip {
    fn new(
        header: Header,
        certificate: Option<Certificate>,
        leaders: Leaders,
        members: &RegistryState,
    ) -> Self {
        Self {
            hash: header.hash(),
            header,
            certificate,
            validators: members.validators().clone(),
            leaders,
            parameters: *members.parameters(),
            registry: Arc::clone(members.registry()),
            agreements: Arc::clone(members.agreements()),
        }
    }
}

impl Chain {
    /// Opens the chain in a folder, or begins it there with the genesis header.
    ///
    /// # Errors
    /// [`StoreError`]: among others a store that is open elsewhere, of another genesis or format,
    /// or whose tip, log, history or pending blocks are damaged.
    pub fn open(
        path: &Path,
        genesis: &Genesis,
        options: &StoreOptions,
    ) -> Result<Self, StoreError> {
        Self::on(Store::open(path, options)?, genesis)
    }

    /// Opens the chain on a simulated disk, or begins it there.
    ///
    /// # Errors
    /// As [`Chain::open`].
    #[cfg(feature = "simulation")]
    pub fn open_simulated(
        disk: crate::store::MemoryDisk,
        genesis: &Genesis,
    ) -> Result<Self, StoreError> {
        Self::on(Store::on(disk), genesis)
    }

    fn on(store: Store, genesis: &Genesis) -> Result<Self, StoreError> {
        begin_or_check(&store, genesis)?;
        Self::begun(store, genesis)
    }

    /// The chain that a store of this genesis holds. Writes nothing.
    fn begun(store: Store, genesis: &Genesis) -> Result<Self, StoreError> {
        let chain_id = genesis.chain_id();
        let (header, certificate) = read_tip(&store)?;
        let members = Arc::new(RegistryState::read(&store, genesis, header.height)?);
        let edge = LogEdge::read(&store, header.log_size)?;
        let history = read_history(&store, genesis.history_bits)?;
        check_roots(&header, &edge, &history, &members)?;
        let pending = PendingBlocks::read(&store, header.height + 1)?;
        let leaders = read_leaders(&store, header.height, members.validators())?;
        let kept = Kept::read(&store)?;
        let tip = Arc::new(Tip::new(header, certificate, leaders, &members));
        let state = RwLock::new(State { tip, members, history, pending });
        let (genesis, earlier) = (genesis.clone(), EarlierRegistries::default());
        let shared = ChainState { store, genesis, chain_id, state, earlier };
        Ok(Self { shared: Arc::new(shared), edge, kept })
    }

    /// The chain at its genesis, whatever more the store holds: to go through its blocks from there.
    fn at_genesis(store: Store, genesis: &Genesis) -> Self {
        let (chain_id, earlier) = (genesis.chain_id(), EarlierRegistries::default());
        let (genesis, state) = (genesis.clone(), RwLock::new(State::at_genesis(genesis)));
        let shared = ChainState { store, genesis, chain_id, state, earlier };
        Self { shared: Arc::new(shared), edge: LogEdge::default(), kept: Kept::default() }
    }

    /// Goes back to where [`Chain::at_genesis`] begins.
    fn begin_again(&mut self) {
        let begun = State::at_genesis(&self.shared.genesis);
        *self.shared.state.write().expect("no writer panics while it holds the lock") = begun;
        self.edge = LogEdge::default();
    }

    /// A reader; any number of them, on any thread.
    pub fn reader(&self) -> ChainReader {
        ChainReader::new(Arc::clone(&self.shared))
    }

    /// The newest committed block.
    pub fn tip(&self) -> Arc<Tip> {
        self.shared.tip()
    }

    /// Which chain it is.
    pub fn chain_id(&self) -> Hash {
        self.shared.chain_id
    }

    /// Sizes for the metrics.
    pub fn metrics(&self) -> StoreMetrics {
        self.shared.store.metrics()
    }

    /// Commits a staged block with its finalization: one synced batch, then the new tip. The block
    /// is durable when this returns.
    ///
    /// # Errors
    /// [`CommitError`]: the block is not on the tip, the finalization does not verify, or the store
    /// failed; nothing is committed then.
    pub fn commit(
        &mut self,
        staged: Staged,
        certificate: Certificate,
    ) -> Result<BlockOutcome, CommitError> {
        self.commit_with(staged, certificate, Grounds::default())
    }

    /// The same, and keeps for a while what the decision rested on, see [`ChainReader::decision`].
    ///
    /// # Errors
    /// As [`Chain::commit`].
    pub fn commit_with(
        &mut self,
        staged: Staged,
        certificate: Certificate,
        grounds: Grounds,
    ) -> Result<BlockOutcome, CommitError> {
        let tip = self.tip();
        let header = &staged.block.header;
        if header.parent_hash != tip.hash {
            let (parent, tip) = (header.parent_hash, tip.hash);
            return Err(CommitError::NotOnTip { parent, tip });
        }
        verify_finalization(header, &certificate, &self.shared.chain_id, &tip.validators)?;
        self.write_block(&staged, &certificate, grounds)?;
        Ok(self.advance(staged, certificate))
    }

    /// Makes a block the new tip; it follows the tip, is final and is written.
    fn advance(&mut self, staged: Staged, certificate: Certificate) -> BlockOutcome {
        let Staged { block, transactions, outcomes, history, edge, members, .. } = staged;
        let tip = self.tip();
        let members = members.unwrap_or_else(|| self.shared.members());
        let mut leaders = tip.leaders.clone();
        leaders.commit(&block.header, &tip.validators);
        let header = block.header.clone();
        let tip = Tip::new(header, Some(certificate), leaders, &members);
        let hash = tip.hash;
        let mut state =
            self.shared.state.write().expect("no writer panics while it holds the lock");
        state.history.commit(&history);
        state.pending = PendingBlocks::default();
        state.tip = Arc::new(tip);
        state.members = members;
        drop(state);
        self.edge = edge;
        BlockOutcome { header: block.header, hash, transactions, outcomes }
    }
}

/// Writes the genesis into an empty store, or checks that the store is of this genesis.
fn begin_or_check(store: &Store, genesis: &Genesis) -> Result<(), StoreError> {
    if store.read(Table::Meta, META_FORMAT)?.is_none() {
        let header = genesis.header();
        let tip = TipRow { height: 0, block_hash: header.hash().0 };
        let mut batch = store.batch();
        batch.put(Table::Meta, META_FORMAT, value::encode(&FORMAT));
        batch.put(Table::Meta, META_GENESIS, genesis.encode());
        batch.put(Table::Meta, META_TIP, value::encode(&tip));
        let row = HeaderRow::new(&header, None);
        batch.put(Table::Headers, table::number(0), value::encode(&row));
        return batch.write();
    }
    check_begun(store, &genesis.chain_id())
}

/// The store must be of this format and genesis, and whole.
fn check_begun(store: &Store, chain_id: &Hash) -> Result<(), StoreError> {
    let found = store.value::<u32>(Table::Meta, META_FORMAT)?;
    let found = found.ok_or_else(|| StoreError::corrupt(Table::Meta, META_FORMAT, "missing"))?;
    if found != FORMAT {
        return Err(StoreError::Format { expected: FORMAT, found });
    }
    if store.read(Table::Meta, META_REBUILD)?.is_some() {
        return Err(StoreError::HalfRebuilt);
    }
    check_genesis(store, chain_id)
}

/// The store must be of this genesis.
fn check_genesis(store: &Store, chain_id: &Hash) -> Result<(), StoreError> {
    let corrupt = |what: String| StoreError::corrupt(Table::Meta, META_GENESIS, what);
    let bytes =
        store.read(Table::Meta, META_GENESIS)?.ok_or_else(|| corrupt("missing".to_owned()))?;
    let stored = Genesis::from_bytes(&bytes).map_err(|error| corrupt(error.to_string()))?;
    if stored.chain_id() == *chain_id {
        Ok(())
    } else {
        Err(StoreError::OtherGenesis { expected: *chain_id, found: stored.chain_id() })
    }
}

fn read_tip(store: &Store) -> Result<(Header, Option<Certificate>), StoreError> {
    let corrupt = |what| StoreError::corrupt(Table::Meta, META_TIP, what);
    let tip: TipRow =
        store.value(Table::Meta, META_TIP)?.ok_or_else(|| corrupt("the tip is missing"))?;
    let (header, certificate) =
        reader::read_header(store, tip.height)?.ok_or_else(|| corrupt("its header is missing"))?;
    if header.hash().0 != tip.block_hash || header.height != tip.height {
        return Err(corrupt("the header at its height is another block's"));
    }
    Ok((header, certificate))
}

/// The order of leaders after a height, from the headers on which it rests. They are read with the
/// validators of the next height: where others decided earlier heights, the change to these has
/// begun the order anew.
fn read_leaders(
    store: &Store,
    height: u64,
    validators: &ValidatorSet,
) -> Result<Leaders, StoreError> {
    let mut leaders = Leaders::default();
    for height in Leaders::first_needed(height, validators)..=height {
        let missing = || StoreError::corrupt(Table::Headers, &table::number(height), "missing");
        let (header, _) = reader::read_header(store, height)?.ok_or_else(missing)?;
        leaders.commit(&header, validators);
    }
    Ok(leaders)
}

fn read_history(store: &Store, bits: u32) -> Result<HistoryTree, StoreError> {
    let heads = store.scan_while(Table::Heads, &[], |_| true).map(|row| {
        let (key, value) = row?;
        let corrupt = |what| StoreError::corrupt(Table::Heads, &key, what);
        let bucket = key.first_chunk().filter(|_| key.len() == 4);
        let bucket = bucket.map(|bytes| u32::from_be_bytes(*bytes)).filter(|b| b >> bits == 0);
        let head = Hash::from_slice(&value).map_err(|_| corrupt("not a hash"))?;
        Ok((bucket.ok_or_else(|| corrupt("not a bucket"))?, head))
    });
    HistoryTree::read(bits, heads)
}

/// The roots of the stored log and indexes must be those that the tip's header certifies.
fn check_roots(
    header: &Header,
    edge: &LogEdge,
    history: &HistoryTree,
    members: &RegistryState,
) -> Result<(), StoreError> {
    let key = table::number(header.height);
    let checks = [
        (Table::Tiles, edge.root() == header.log_root, "log"),
        (Table::Heads, history.root() == header.history_root, "history"),
        (Table::Registry, members.root() == header.registry_root, "registry"),
    ];
    match checks.into_iter().find(|(_, equal, _)| !equal) {
        None => Ok(()),
        Some((table, _, what)) => {
            let what = format!("the {what} root is not that of the tip's header");
            Err(StoreError::corrupt(table, &key, what))
        }
    }
}
