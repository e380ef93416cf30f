//! Making a store's indexes anew from its headers and transactions.
//!
//! First the blocks are gone through without any index: hash chain, finalizations, changes of the
//! registry, the log's roots and every transaction. Only where all of that is right is anything
//! changed. Then a mark is written and synced, the index tables are dropped and made anew, and the
//! blocks are executed from the genesis on, as a node executes them. Their rows do not go through the
//! write-ahead log: a crash loses them, and leaves the mark, with which no node starts. At the end all
//! is flushed to files, and then the mark is taken away in a synced write.

use std::{path::Path, sync::Arc};

use crate::{
    agreement::{Agreements, LodgedAt},
    chain::{
        Chain, FORMAT, RegistryState, Tip,
        check::{BlockReader, Damage, VerifiedBlock},
        check_genesis,
        kept::Kept,
        rows::{INDEXES, put_indexes},
    },
    finality::header::{Block, Header},
    hash::Hash,
    merkle::Frontier,
    proofs::verifier::verify_finalization,
    registry::genesis::Genesis,
    store::{
        Store, StoreError, StoreOptions, Table,
        table::{self, META_DECISIONS, META_FORMAT, META_GENESIS, META_REBUILD, META_TIP},
        value::{self, TipRow},
    },
};

/// Why indexes cannot be made anew.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// What they follow from is damaged itself.
    #[error(
        "{0}. Indexes follow from headers and transactions, and these are damaged themselves: restore \
         a backup of the store, or remove its folder and let the node fetch the ledger from its peers"
    )]
    Damaged(Damage),
    /// The store failed, is open elsewhere, or is not this network's.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// A rebuild in progress. The caller feeds it all blocks twice, in order ([`StoreRebuild::reader`]):
/// [`StoreRebuild::survey`] them, [`StoreRebuild::begin`], [`StoreRebuild::apply`] them,
/// [`StoreRebuild::finish`].
pub struct StoreRebuild {
    chain: Chain,
    options: StoreOptions,
    surveyed: Surveyed,
    records: u64,
}

/// What the blocks so far have led to, without any index.
struct Surveyed {
    header: Header,
    log: Frontier,
    members: Arc<RegistryState>,
    next: u64,
}

impl StoreRebuild {
    /// Opens a store that no process has open. Nothing is changed before [`StoreRebuild::begin`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(
        path: &Path,
        genesis: &Genesis,
        options: &StoreOptions,
    ) -> Result<Self, RebuildError> {
        let store = Store::open_to_rebuild(path, options)?;
        let found = store.value::<u32>(Table::Meta, META_FORMAT)?;
        let missing = || StoreError::corrupt(Table::Meta, META_FORMAT, "missing");
        let found = found.ok_or_else(missing)?;
        if found != FORMAT {
            return Err(StoreError::Format { expected: FORMAT, found }.into());
        }
        check_genesis(&store, &genesis.chain_id())?;
        let surveyed = Surveyed {
            header: genesis.header(),
            log: Frontier::default(),
            members: Arc::new(RegistryState::of_genesis(genesis)),
            next: 0,
        };
        let chain = Chain::at_genesis(store, genesis);
        Ok(Self { chain, options: *options, surveyed, records: 0 })
    }

    /// Reads the store's blocks. It must be dropped before [`StoreRebuild::begin`].
    pub fn reader(&self) -> BlockReader {
        BlockReader::new(Arc::clone(&self.chain.shared))
    }

    /// Records executed so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Checks what can be checked of the next block without an index.
    ///
    /// # Errors
    /// What is damaged.
    pub fn survey(&mut self, block: Result<VerifiedBlock, Damage>) -> Result<(), RebuildError> {
        let height = self.surveyed.next;
        let at_height = |damage: Damage| {
            RebuildError::Damaged(Damage { height: damage.height.or(Some(height)), ..damage })
        };
        let chain_id = self.chain.chain_id();
        let VerifiedBlock { header, certificate, transactions, .. } = block.map_err(at_height)?;
        let wrong = |what: &dyn ToString| {
            let key = table::number(height);
            at_height(Damage::new(Some(height), Table::Headers, &key, what.to_string()))
        };
        let surveyed = &mut self.surveyed;
        surveyed.next += 1;
        let Some(certificate) = certificate else {
            let is_genesis = height == 0 && header == surveyed.header;
            return if is_genesis { Ok(()) } else { Err(wrong(&"not the genesis's header")) };
        };
        if header.parent_hash != surveyed.header.hash() {
            return Err(wrong(&"its parent is not the block before"));
        }
        verify_finalization(&header, &certificate, &chain_id, surveyed.members.validators())
            .map_err(|error| wrong(&error))?;
        let mut agreements: Option<Agreements> = None;
        let members = Arc::clone(&surveyed.members);
        for transaction in &transactions {
            surveyed.log.push(transaction.leaf_hash());
            if let Some(change) = transaction.agreement_change() {
                let agency = transaction.header().agency;
                let at = LodgedAt { agency, height, time_ms: header.time_ms };
                let before = || Agreements::clone(members.agreements());
                let present = agreements.get_or_insert_with(before);
                let applied = present.apply(change, &at, &members.at(height));
                applied.map_err(|error| wrong(&error))?;
            }
            if let Some(change) = transaction.registry_change() {
                let changed = surveyed.members.after(change.proposal(), height);
                surveyed.members = Arc::new(changed.map_err(|error| wrong(&error))?);
            }
        }
        if let Some(agreements) = agreements {
            surveyed.members = Arc::new(surveyed.members.with_agreements(Arc::new(agreements)));
        }
        if (surveyed.log.size(), surveyed.log.root()) != (header.log_size, header.log_root) {
            return Err(wrong(&"its transactions do not give its log root"));
        }
        if surveyed.members.root() != header.registry_root {
            return Err(wrong(&"its transactions do not give its registry root"));
        }
        surveyed.header = header;
        Ok(())
    }

    /// Drops the indexes. From here on no node starts on the store until [`StoreRebuild::finish`].
    ///
    /// # Errors
    /// The store's tip is beyond the last block that was surveyed; the store failed.
    ///
    /// # Panics
    /// A reader still exists.
    pub fn begin(&mut self) -> Result<(), RebuildError> {
        let newest = self.surveyed.header.height;
        let store = &self.chain.shared.store;
        let tip = store.value::<TipRow>(Table::Meta, META_TIP)?;
        if self.surveyed.next == 0 || tip.is_some_and(|tip| tip.height > newest) {
            let key = table::number(self.surveyed.next);
            let damage = Damage::new(Some(self.surveyed.next), Table::Headers, &key, "missing");
            return Err(RebuildError::Damaged(damage));
        }
        let mut batch = store.batch();
        batch.put(Table::Meta, META_REBUILD, []);
        batch.write()?;
        let shared = Arc::get_mut(&mut self.chain.shared).expect("no reader is left");
        Ok(shared.store.renew(&INDEXES, &self.options)?)
    }

    /// Executes the next block and writes its rows.
    ///
    /// # Errors
    /// What is damaged; the store failed.
    pub fn apply(&mut self, block: Result<VerifiedBlock, Damage>) -> Result<(), RebuildError> {
        let block = block.map_err(RebuildError::Damaged)?;
        let VerifiedBlock { header, certificate, transactions, .. } = block;
        // The genesis's, which has none.
        let Some(certificate) = certificate else { return Ok(()) };
        let height = header.height;
        let leaves = transactions.iter().map(|transaction| transaction.leaf_hash()).collect();
        let block = Block { header, leaves };
        let staged = self.chain.validate(&block, &transactions)?.map_err(|invalid| {
            let key = table::number(height);
            RebuildError::Damaged(Damage::new(Some(height), Table::Headers, &key, invalid))
        })?;
        let mut batch = self.chain.shared.store.batch();
        put_indexes(&mut batch, &staged);
        batch.write_behind()?;
        let slots = transactions.iter().map(|transaction| transaction.slots().len() as u64);
        self.records += slots.sum::<u64>();
        self.chain.advance(staged, certificate);
        Ok(())
    }

    /// Makes the new indexes durable, and lets nodes start on the store again.
    ///
    /// # Errors
    /// The store failed, or ended before the last block that was surveyed.
    pub fn finish(self) -> Result<Arc<Tip>, RebuildError> {
        let (tip, store) = (self.chain.tip(), &self.chain.shared.store);
        let expected: Hash = self.surveyed.header.hash();
        if tip.hash != expected {
            return Err(StoreError::NotOnTip.into());
        }
        store.flush()?;
        let newest = TipRow { height: tip.header.height, block_hash: tip.hash.0 };
        let mut batch = store.batch();
        batch.put(Table::Meta, META_GENESIS, self.chain.shared.genesis.encode());
        batch.put(Table::Meta, META_TIP, value::encode(&newest));
        // Decisions follow from no block: what is left of them is all there is from now on.
        match Kept::written(store)? {
            some if some.count > 0 => batch.put(Table::Meta, META_DECISIONS, value::encode(&some)),
            _ => batch.delete(Table::Meta, META_DECISIONS),
        }
        batch.delete(Table::Meta, META_REBUILD);
        batch.write()?;
        Ok(tip)
    }
}
