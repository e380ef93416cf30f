//! Executing a block's transactions on the committed state, for a leader and for a voter.

use std::{collections::HashSet, sync::Arc};

use customhouse_proto::v1;

use crate::{
    agreement::{Agreements, LodgedAt},
    chain::{
        BlockInvalid, Chain, RegistryState, Tip, TransactionInvalid, changes,
        known::{Firsts, Known, Lookup, SlotAt},
    },
    finality::header::{Block, Header},
    hash::Hash,
    history::{HistoryDelta, HistoryEntry},
    keys::PublicKey,
    limits::{BLOCK_AGREEMENT_CHANGES_MAX, BLOCK_REFERENCES_MAX},
    store::{
        StoreError,
        tile::{ChangedTiles, LogEdge},
    },
    transaction::{EpochId, SlotOutcome, VerifiedTransaction, outcome},
};

/// After this many transactions that do not fit into what is left of a block, a leader looks no
/// further.
const NOT_FITTING_MAX: usize = 32;

/// What a leader decides about its block.
#[derive(Clone, Copy, Debug)]
pub struct BlockContext {
    /// The view it is proposed in.
    pub view: u64,
    /// The leader's key.
    pub proposer: PublicKey,
    /// Unix milliseconds by the leader's clock; raised to just above the parent's where it is not.
    pub time_ms: u64,
    /// Most bytes of transactions; the network's parameter limits them too.
    pub bytes_max: u64,
}

/// A leader's block.
#[derive(Debug)]
pub struct Candidate {
    /// What is proposed and, once final, committed.
    pub staged: Staged,
    /// Leaf hashes of transactions that cannot be in this block, with the reasons. Those that only
    /// did not fit are not among them.
    pub refused: Vec<(Hash, TransactionInvalid)>,
}

/// A block that was executed on the tip, ready to be committed.
#[derive(Clone, Debug)]
pub struct Staged {
    pub(super) block: Block,
    pub(super) transactions: Vec<Arc<VerifiedTransaction>>,
    pub(super) outcomes: Vec<Vec<SlotOutcome>>,
    pub(super) entries: Vec<HistoryEntry>,
    pub(super) history: HistoryDelta,
    pub(super) edge: LogEdge,
    pub(super) tiles: ChangedTiles,
    /// The members and agreements after the block, where it changes either.
    pub(super) members: Option<Arc<RegistryState>>,
    /// Changes of agreements, by their numbers.
    pub(super) agreed: Vec<(u64, v1::AgreementEvent)>,
}

impl Staged {
    /// The block.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Its transactions, in log order.
    pub fn transactions(&self) -> &[Arc<VerifiedTransaction>] {
        &self.transactions
    }
}

impl Chain {
    /// Makes a block on the tip of the transactions that are valid and fit, in their order.
    ///
    /// # Errors
    /// [`StoreError`] where the state cannot be read.
    pub fn prepare(
        &self,
        context: &BlockContext,
        transactions: impl IntoIterator<Item = Arc<VerifiedTransaction>>,
    ) -> Result<Candidate, StoreError> {
        let tip = self.tip();
        let time_ms = context.time_ms.max(tip.header.time_ms.saturating_add(1));
        let bytes_max = context.bytes_max.min(tip.parameters.block_bytes_max);
        let mut execution = Execution::new(self, &tip, time_ms);
        let mut refused = Vec::new();
        let (mut bytes, mut not_fitting) = (0, 0);
        let transactions = referring_little(transactions);
        let mut known = Known::of(&self.shared.store, &transactions, Lookup::ALL);
        for transaction in &transactions {
            known.advance()?;
            let count = execution.transactions.len() as u64;
            if count >= tip.parameters.block_transactions_max || not_fitting >= NOT_FITTING_MAX {
                break;
            }
            let length = transaction.encoded().len() as u64;
            if bytes + length > bytes_max {
                not_fitting += 1;
                continue;
            }
            match execution.apply(transaction, &known)? {
                Ok(()) => bytes += length,
                // So many a block; the next may carry it, if it still applies then.
                Err(
                    TransactionInvalid::SecondChange | TransactionInvalid::ManyAgreementChanges,
                ) => {}
                Err(reason) => refused.push((transaction.leaf_hash(), reason)),
            }
        }
        let proposer = *context.proposer.as_bytes();
        Ok(Candidate { staged: execution.finish(context.view, proposer), refused })
    }

    /// Recomputes everything about a block on the tip: its place, limits, transactions and roots.
    /// The transactions are the block's, in order. Not checked: the time against a clock, which is
    /// the consensus core's.
    ///
    /// # Errors
    /// The outer error is the store's and fatal; the inner is the proposer's fault.
    pub fn validate(
        &self,
        block: &Block,
        transactions: &[Arc<VerifiedTransaction>],
    ) -> Result<Result<Staged, BlockInvalid>, StoreError> {
        self.validate_knowing(block, transactions, Lookup::ALL)
    }

    /// The same, where only a part of what is already on the chain needs to be looked up.
    pub(super) fn validate_knowing(
        &self,
        block: &Block,
        transactions: &[Arc<VerifiedTransaction>],
        lookup: Lookup,
    ) -> Result<Result<Staged, BlockInvalid>, StoreError> {
        let tip = self.tip();
        if let Err(invalid) = self.check_place(&tip, &block.header) {
            return Ok(Err(invalid));
        }
        if let Err(invalid) = check_limits(&tip, block, transactions) {
            return Ok(Err(invalid));
        }
        let mut execution = Execution::new(self, &tip, block.header.time_ms);
        let mut known = Known::of(&self.shared.store, transactions, lookup);
        for (index, transaction) in transactions.iter().enumerate() {
            known.advance()?;
            if let Err(invalid) = execution.apply(transaction, &known)? {
                return Ok(Err(BlockInvalid::Transaction(index, invalid)));
            }
        }
        let staged = execution.finish(block.header.view, block.header.proposer);
        Ok(compare(&block.header, &staged.block.header).map(|()| staged))
    }

    fn check_place(&self, tip: &Tip, header: &Header) -> Result<(), BlockInvalid> {
        if header.version != Header::VERSION {
            return Err(BlockInvalid::Version(header.version));
        }
        if header.chain_id != self.shared.chain_id {
            return Err(BlockInvalid::WrongChain);
        }
        let expected = tip.header.height + 1;
        if header.height != expected {
            return Err(BlockInvalid::Height { expected, found: header.height });
        }
        if header.parent_hash != tip.hash {
            return Err(BlockInvalid::Parent);
        }
        let parent = tip.header.time_ms;
        if header.time_ms <= parent {
            return Err(BlockInvalid::Time { parent, found: header.time_ms });
        }
        if header.view == 0 {
            return Err(BlockInvalid::View);
        }
        let leader = tip.leaders.leader(&tip.validators, header.height, header.view);
        if *leader.as_bytes() != header.proposer {
            return Err(BlockInvalid::Proposer);
        }
        Ok(())
    }
}

/// Those whose references fit into a block together: before any is looked up.
fn referring_little(
    transactions: impl IntoIterator<Item = Arc<VerifiedTransaction>>,
) -> Vec<Arc<VerifiedTransaction>> {
    let mut left = BLOCK_REFERENCES_MAX;
    let fits = |transaction: &Arc<VerifiedTransaction>| {
        let rest = left.checked_sub(transaction.load().references);
        left = rest.unwrap_or(left);
        rest.is_some()
    };
    transactions.into_iter().filter(fits).collect()
}

fn check_limits(
    tip: &Tip,
    block: &Block,
    transactions: &[Arc<VerifiedTransaction>],
) -> Result<(), BlockInvalid> {
    let named = block.leaves.iter().copied();
    if !named.eq(transactions.iter().map(|transaction| transaction.leaf_hash())) {
        return Err(BlockInvalid::Leaves);
    }
    let (count, max) = (transactions.len() as u64, tip.parameters.block_transactions_max);
    if count > max {
        return Err(BlockInvalid::TooManyTransactions { count, max });
    }
    let bytes = transactions.iter().map(|transaction| transaction.encoded().len() as u64).sum();
    let max = tip.parameters.block_bytes_max;
    if bytes > max {
        return Err(BlockInvalid::TooLarge { bytes, max });
    }
    let references = transactions.iter().map(|transaction| transaction.load().references).sum();
    if references > BLOCK_REFERENCES_MAX {
        return Err(BlockInvalid::TooManyReferences(references));
    }
    Ok(())
}

/// Compares the header's fields that follow from executing the block; the others were checked
/// before or are the proposer's to choose.
fn compare(found: &Header, executed: &Header) -> Result<(), BlockInvalid> {
    let fields = [
        ("log_start", found.log_start == executed.log_start),
        ("log_size", found.log_size == executed.log_size),
        ("log_root", found.log_root == executed.log_root),
        ("history_size", found.history_size == executed.history_size),
        ("history_root", found.history_root == executed.history_root),
        ("outcomes_root", found.outcomes_root == executed.outcomes_root),
        ("registry_root", found.registry_root == executed.registry_root),
        ("validators_hash", found.validators_hash == executed.validators_hash),
        ("next_validators_hash", found.next_validators_hash == executed.next_validators_hash),
    ];
    match fields.into_iter().find(|(_, equal)| !equal) {
        Some((field, _)) => Err(BlockInvalid::Header(field)),
        None => Ok(()),
    }
}

/// A block being executed.
struct Execution<'a> {
    chain: &'a Chain,
    tip: &'a Tip,
    time_ms: u64,
    edge: LogEdge,
    tiles: ChangedTiles,
    /// The members as the block finds them, and as it leaves them where it changes the registry.
    members: Arc<RegistryState>,
    changed: Option<Arc<RegistryState>>,
    /// The agreements as the block leaves them, where it changes them, and the changes by their numbers.
    agreements: Option<Agreements>,
    agreed: Vec<(u64, v1::AgreementEvent)>,
    transactions: Vec<Arc<VerifiedTransaction>>,
    outcomes: Vec<Vec<SlotOutcome>>,
    entries: Vec<HistoryEntry>,
    ids: HashSet<Hash>,
    /// What the slots before have taken.
    firsts: Firsts,
}

impl<'a> Execution<'a> {
    fn new(chain: &'a Chain, tip: &'a Tip, time_ms: u64) -> Self {
        Self {
            chain,
            tip,
            time_ms,
            edge: chain.edge.clone(),
            tiles: ChangedTiles::new(),
            members: chain.shared.members(),
            changed: None,
            agreements: None,
            agreed: Vec::new(),
            transactions: Vec::new(),
            outcomes: Vec::new(),
            entries: Vec::new(),
            ids: HashSet::new(),
            firsts: Firsts::default(),
        }
    }

    /// Appends a transaction to the block, unless it is invalid there.
    fn apply(
        &mut self,
        transaction: &Arc<VerifiedTransaction>,
        known: &Known,
    ) -> Result<Result<(), TransactionInvalid>, StoreError> {
        if let Err(invalid) = self.check_transaction(transaction) {
            return Ok(Err(invalid));
        }
        let id = transaction.id();
        if let Some(log_index) = known.log_index(&id) {
            return Ok(Err(TransactionInvalid::AlreadyCommitted(log_index)));
        }
        let changed = match self.change_members(transaction)? {
            Ok(changed) => changed.map(Arc::new),
            Err(invalid) => return Ok(Err(invalid)),
        };
        if let Err(invalid) = self.change_agreements(transaction) {
            return Ok(Err(invalid));
        }
        let outcomes = self.apply_slots(transaction, known);
        self.changed = changed.or_else(|| self.changed.take());
        self.ids.insert(id);
        self.edge.append(transaction.leaf_hash(), &mut self.tiles);
        self.transactions.push(Arc::clone(transaction));
        self.outcomes.push(outcomes);
        Ok(Ok(()))
    }

    /// The members after the block, where this transaction changes the registry.
    fn change_members(
        &self,
        transaction: &VerifiedTransaction,
    ) -> Result<Result<Option<RegistryState>, TransactionInvalid>, StoreError> {
        if let Some(evidence) = transaction.evidence()
            && let Err(invalid) = changes::check_culprit(&self.members, evidence)
        {
            return Ok(Err(invalid));
        }
        let Some(change) = transaction.registry_change() else { return Ok(Ok(None)) };
        if self.changed.is_some() {
            return Ok(Err(TransactionInvalid::SecondChange));
        }
        let shared = &self.chain.shared;
        let changed = shared.change_members(self.tip, &self.members, change, self.time_ms)?;
        Ok(changed.map(Some))
    }

    /// Takes in the change of an agreement, where the transaction carries one. Those of one block follow each other, and
    /// count from the next block on.
    fn change_agreements(
        &mut self,
        transaction: &VerifiedTransaction,
    ) -> Result<(), TransactionInvalid> {
        let Some(change) = transaction.agreement_change() else { return Ok(()) };
        if self.agreed.len() >= BLOCK_AGREEMENT_CHANGES_MAX {
            return Err(TransactionInvalid::ManyAgreementChanges);
        }
        let height = self.tip.header.height + 1;
        let at = LodgedAt { agency: transaction.header().agency, height, time_ms: self.time_ms };
        let before = || Agreements::clone(self.members.agreements());
        let agreements = self.agreements.get_or_insert_with(before);
        let number = agreements.events();
        let event = agreements.apply(change, &at, &self.members.at(height))?;
        self.agreed.push((number, event));
        Ok(())
    }

    fn check_transaction(
        &self,
        transaction: &VerifiedTransaction,
    ) -> Result<(), TransactionInvalid> {
        let (header, parameters) = (transaction.header(), &self.tip.parameters);
        if header.chain_id != self.chain.shared.chain_id {
            return Err(TransactionInvalid::WrongChain(header.chain_id));
        }
        let (not_after_ms, time_ms) = (header.not_after_ms, self.time_ms);
        if not_after_ms < time_ms {
            return Err(TransactionInvalid::Expired { not_after_ms, time_ms });
        }
        // The submitter's clock may be ahead of the proposer's.
        let lifetime_ms = parameters.transaction_lifetime_ms_max + parameters.time_skew_ms_max;
        let latest_ms = time_ms.saturating_add(lifetime_ms);
        if not_after_ms > latest_ms {
            return Err(TransactionInvalid::LivesTooLong { not_after_ms, latest_ms });
        }
        changes::check_signer(&self.members, transaction, self.tip.header.height + 1)?;
        changes::check_parameters(parameters, transaction)?;
        if self.ids.contains(&transaction.id()) {
            return Err(TransactionInvalid::TwiceInBlock);
        }
        Ok(())
    }

    fn apply_slots(
        &mut self,
        transaction: &Arc<VerifiedTransaction>,
        known: &Known,
    ) -> Vec<SlotOutcome> {
        let log_index = self.edge.size();
        let agency = &transaction.header().agency;
        let (agreements, members) =
            (self.members.agreements(), self.members.at(self.tip.header.height + 1));
        let admits = |epoch: &EpochId| {
            let epoch = (&epoch.agreement, epoch.number);
            agreements.check_slot(epoch, agency, self.time_ms, &members)
        };
        let mut outcomes = Vec::with_capacity(transaction.slots().len());
        for (position, slot) in (0..).zip(transaction.slots()) {
            let at = SlotAt { transaction, log_index, position };
            let outcome = known.outcome(&self.firsts, &at, admits);
            if outcome.is_applied() {
                self.firsts.take(&at);
                let entry = |key| HistoryEntry { key, log_index, position };
                self.entries.extend(slot.index_keys(agency).into_iter().map(entry));
            }
            outcomes.push(outcome);
        }
        outcomes
    }

    /// The block, with the roots after it.
    fn finish(self, view: u64, proposer: [u8; 32]) -> Staged {
        let shared = &self.chain.shared;
        let history = shared.state().history.stage(&self.entries);
        let members = match self.agreements.filter(|_| !self.agreed.is_empty()) {
            None => self.changed,
            Some(agreements) => {
                let agreements = Arc::new(agreements);
                let members = self.changed.unwrap_or_else(|| Arc::clone(&self.members));
                Some(Arc::new(members.with_agreements(agreements)))
            }
        };
        let after = members.as_ref().unwrap_or(&self.members);
        let header = Header {
            version: Header::VERSION,
            chain_id: shared.chain_id,
            height: self.tip.header.height + 1,
            time_ms: self.time_ms,
            parent_hash: self.tip.hash,
            log_start: self.tip.header.log_size,
            log_size: self.edge.size(),
            log_root: self.edge.root(),
            history_size: self.edge.size(),
            history_root: history.root(),
            registry_root: after.root(),
            outcomes_root: outcome::block_root(self.outcomes.iter().map(Vec::as_slice)),
            validators_hash: self.members.validators_hash(),
            next_validators_hash: after.validators_hash(),
            proposer,
            view,
        };
        let leaves = self.transactions.iter().map(|transaction| transaction.leaf_hash()).collect();
        Staged {
            block: Block { header, leaves },
            transactions: self.transactions,
            outcomes: self.outcomes,
            entries: self.entries,
            history,
            edge: self.edge,
            tiles: self.tiles,
            members,
            agreed: self.agreed,
        }
    }
}
