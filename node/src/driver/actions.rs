//! What the core asks for, carried out on the ledger or handed to a fetch.

use std::{ops::RangeInclusive, sync::Arc};

use customhouse_consensus::{
    Action, BlockVerdict, Build, Committed as CommittedState, Input, Refusal, Validate,
};
use customhouse_ledger::{
    chain::{BlockContext, BlockInvalid, BlockOutcome, Staged, Tip, TransactionInvalid},
    finality::{certificate::Certificate, header::Block},
    hash::Hash,
    keys::PublicKey,
    registry::parameters::Parameters,
    transaction::VerifiedTransaction,
};

use super::{Driver, DriverError, Fetch, Outside, Purpose, SignerMemory, lock};
use crate::mempool::not_after_ms;

/// Transactions for which a block has no room that are passed over before it is taken for full.
const PASSED_OVER_MAX: usize = 16;

impl<O: Outside, J: SignerMemory> Driver<O, J> {
    /// Carries out one action; where it is done at once, its answer is the next input.
    pub(super) fn act(&mut self, action: Action) -> Result<Option<Input>, DriverError> {
        match action {
            // The view passes without a proposal, and the next ones go to other leaders.
            Action::Build(_) if !self.outside.clock_is_right() => Ok(None),
            Action::Build(build) => self.build(&build).map(Some),
            Action::Validate(validate) => self.validate(validate),
            Action::Commit { block, finalization } => self.commit(block, finalization),
            Action::FetchBlock { height, block_hash, from } => {
                self.fetch_block(height, block_hash, &from);
                Ok(None)
            }
            Action::FetchCertificates { height, view } => {
                self.outside.fetch(Fetch::Certificates { height, view });
                Ok(None)
            }
            Action::SyncFrom { height, .. } => {
                self.outside.fetch(Fetch::CatchUp { height });
                Ok(None)
            }
            Action::ResendTransactions => {
                self.resend_transactions();
                Ok(None)
            }
            Action::Refused { peer, reason } => {
                if let Some(peer) = self.peers.at(peer) {
                    self.refused(&peer, reason, None);
                }
                Ok(None)
            }
            Action::Evidence(evidence) => {
                self.outside.evidence(&evidence);
                Ok(None)
            }
            Action::StoppedSigning { reason } => {
                self.stop_signing(&reason);
                Ok(None)
            }
            Action::Halt { reason } => Err(self.halted(&reason)),
        }
    }

    fn build(&mut self, build: &Build) -> Result<Input, DriverError> {
        let staged = loop {
            let candidates = self.candidates(build);
            let bytes = candidates.iter().map(|t| t.encoded().len() as u64).sum();
            let context = BlockContext {
                view: build.view,
                proposer: build.proposer,
                time_ms: build.time_ms,
                bytes_max: build.block_bytes_max.max(bytes),
            };
            let candidate = self.chain.prepare(&context, candidates)?;
            self.drop_refused(&candidate.refused);
            let is_empty = candidate.staged.transactions().is_empty();
            if !is_empty || build.may_be_empty {
                break candidate.staged;
            }
            if candidate.refused.is_empty() {
                return Ok(Input::Work { pending: false });
            }
        };
        self.chain.store_pending(staged.block(), staged.transactions())?;
        let block = staged.block().clone();
        self.staged.insert(block.hash(), staged);
        Ok(Input::Built { view: build.view, block })
    }

    /// Waiting transactions that a block may include at its time, as many as fit, in turns. Where the first
    /// is larger than a block may be in this view, it is alone in it, if nothing smaller waits.
    fn candidates(&self, build: &Build) -> Vec<Arc<VerifiedTransaction>> {
        let parameters = self.chain.tip().parameters;
        let count_max = usize::try_from(parameters.block_transactions_max).unwrap_or(usize::MAX);
        let valid = valid_at(build.time_ms, &parameters);
        let mempool = lock(&self.mempool);
        let mut in_time = mempool.in_turns().filter(|t| valid.contains(&not_after_ms(t)));
        let (mut chosen, mut passed_over) = (Vec::new(), Vec::new());
        let mut left = build.block_bytes_max;
        while chosen.len() < count_max
            && passed_over.len() < PASSED_OVER_MAX
            && let Some(transaction) = in_time.next()
        {
            match left.checked_sub(transaction.encoded().len() as u64) {
                Some(rest) => {
                    left = rest;
                    chosen.push(Arc::clone(transaction));
                }
                None => passed_over.push(transaction),
            }
        }
        if chosen.is_empty() {
            chosen.extend(passed_over.first().map(|first| Arc::clone(first)));
        }
        chosen
    }

    /// Whether the next block can include something. Clocks differ: where this node does not lead, it
    /// counts only what the leader can include for sure. A leader that has nothing, by its clock, must
    /// not be passed over for that.
    pub(super) fn has_work(&self) -> bool {
        let (tip, unix_ms) = (self.chain.tip(), self.outside.now().unix_ms);
        let height = tip.header.height + 1;
        let view = if self.core.height() == height { self.core.view() } else { 1 };
        let leads = tip.leaders.leader(&tip.validators, height, view) == self.signer.public;
        let valid = valid_at(unix_ms.max(tip.header.time_ms + 1), &tip.parameters);
        let apart_ms = if leads { 0 } else { tip.parameters.time_skew_ms_max / 2 };
        let (first, last) = (valid.start() + apart_ms, valid.end() - apart_ms);
        lock(&self.mempool).ends_within(first..=last)
    }

    fn drop_refused(&self, refused: &[(Hash, TransactionInvalid)]) {
        let mut mempool = lock(&self.mempool);
        for (leaf_hash, why) in refused {
            mempool.remove(leaf_hash);
            self.metrics.rejected("mempool", why.code());
            tracing::debug!(leaf = %leaf_hash.short(), %why, "dropped from the mempool");
        }
    }

    /// After a change of the registry: drops what no block may carry any more. A node that does not
    /// lead would otherwise keep it, and send it again and again to those that do. What a later
    /// block may make valid stays: a node that is behind, on an old store for example, does not know
    /// yet who has joined.
    fn drop_unregistered(&self, time_ms: u64) -> Result<(), DriverError> {
        if self.core.is_catching_up() {
            return Ok(());
        }
        let reader = self.chain.reader();
        let registry = &self.chain.tip().registry;
        let mut refused = Vec::new();
        for transaction in lock(&self.mempool).oldest_first() {
            match reader.check_registered(transaction, time_ms)? {
                Err(TransactionInvalid::UnknownSigner(_))
                    if !registry.has_signer(&transaction.header().signer) => {}
                Err(why) => refused.push((transaction.leaf_hash(), why)),
                Ok(()) => {}
            }
        }
        self.drop_refused(&refused);
        Ok(())
    }

    /// After a change of agreements: drops the changes that do not apply any more, for the same reason.
    fn drop_disagreed(&self, time_ms: u64) -> Result<(), DriverError> {
        if self.core.is_catching_up() {
            return Ok(());
        }
        let waiting: Vec<_> = {
            let mempool = lock(&self.mempool);
            let changes = mempool.oldest_first().filter(|t| t.agreement_change().is_some());
            changes.cloned().collect()
        };
        let (reader, mut refused) = (self.chain.reader(), Vec::new());
        for transaction in &waiting {
            if let Err(why @ TransactionInvalid::Agreement(_)) =
                reader.check_registered(transaction, time_ms)?
            {
                refused.push((transaction.leaf_hash(), why));
            }
        }
        self.drop_refused(&refused);
        Ok(())
    }

    /// The core asks for a block that a quorum voted for; with each resend again. Where it is decided
    /// and still not here by then, others may have committed it and gone on.
    fn fetch_block(&mut self, height: u64, block_hash: Hash, from: &[PublicKey]) {
        let from = self.peers_of(from);
        self.outside.fetch(Fetch::Block { height, block_hash, from });
        if self.core.decided() == Some(block_hash)
            && self.lacked.replace(block_hash) == Some(block_hash)
        {
            self.outside.fetch(Fetch::CatchUp { height });
        }
    }

    fn validate(&mut self, validate: Validate) -> Result<Option<Input>, DriverError> {
        let verdict = match self.transactions_of(&validate.block) {
            Ok(transactions) => self.check(&validate.block, &transactions)?,
            // No bodies are asked for where the leaves are not the header's.
            Err(_) if !self.chain.reader().has_leaves(&validate.block)? => {
                self.metrics.rejected("block", "LEAVES");
                BlockVerdict::Invalid
            }
            Err(missing) => {
                let from = self.peers_of(&validate.from);
                let purpose = Purpose::Validate(validate);
                self.outside.fetch(Fetch::Bodies { purpose, missing, from });
                return Ok(None);
            }
        };
        Ok(Some(validated(&validate, verdict)))
    }

    /// Executes a block on the committed state and, where it is valid, stores it with its bodies.
    ///
    /// A block that a quorum has notarized already is executed too: it rests on the same committed
    /// state for everybody, and its execution is needed to commit it.
    pub(super) fn check(
        &mut self,
        block: &Block,
        transactions: &[Arc<VerifiedTransaction>],
    ) -> Result<BlockVerdict, DriverError> {
        let verdict = self.execute(block, transactions)?;
        if verdict == BlockVerdict::Valid {
            self.chain.store_pending(block, transactions)?;
        }
        Ok(verdict)
    }

    /// Executes a block on the committed state and, where it is valid, keeps what came of it.
    pub(super) fn execute(
        &mut self,
        block: &Block,
        transactions: &[Arc<VerifiedTransaction>],
    ) -> Result<BlockVerdict, DriverError> {
        let block_hash = block.hash();
        if let Some(staged) = self.staged.get(&block_hash) {
            // One list of leaves has executed to the header's roots, so no other one does.
            let same = staged.block() == block;
            return Ok(if same { BlockVerdict::Valid } else { BlockVerdict::Invalid });
        }
        match self.chain.validate(block, transactions)? {
            Ok(staged) => {
                self.staged.insert(block_hash, staged);
                Ok(BlockVerdict::Valid)
            }
            Err(invalid) => {
                self.invalid(block, &invalid);
                Ok(BlockVerdict::Invalid)
            }
        }
    }

    pub(super) fn invalid(&self, block: &Block, invalid: &BlockInvalid) {
        let (height, block) = (block.header.height, block.hash());
        tracing::warn!(height, block = %block.short(), reason = %invalid, "a proposed block is invalid");
        self.metrics.rejected("block", invalid.code());
    }

    /// The transactions of a block from what is at hand, or the leaves that are missing.
    pub(super) fn transactions_of(
        &self,
        block: &Block,
    ) -> Result<Vec<Arc<VerifiedTransaction>>, Vec<Hash>> {
        let mempool = lock(&self.mempool);
        let at_hand = |leaf_hash: &Hash| {
            mempool.by_leaf(leaf_hash).or_else(|| self.bodies.by_leaf(leaf_hash)).cloned()
        };
        let found: Vec<_> = block.leaves.iter().map(at_hand).collect();
        let absent = |(leaf, body): (&Hash, &Option<_>)| body.is_none().then_some(*leaf);
        let missing: Vec<Hash> = block.leaves.iter().zip(&found).filter_map(absent).collect();
        if missing.is_empty() { Ok(found.into_iter().flatten().collect()) } else { Err(missing) }
    }

    pub(super) fn commit(
        &mut self,
        block: Block,
        finalization: Certificate,
    ) -> Result<Option<Input>, DriverError> {
        let transactions = match self.transactions_to_commit(&block)? {
            Ok(transactions) => transactions,
            Err(missing) => {
                let from = self.peers_of(&self.signers(&finalization));
                let purpose = Purpose::Commit { block, finalization };
                self.outside.fetch(Fetch::Bodies { purpose, missing, from });
                return Ok(None);
            }
        };
        let staged = self.staged_or_executed(&block, &transactions)?;
        let before = self.chain.tip();
        // The core is at this height until it is told.
        let grounds = self.core.grounds();
        let committed = self.chain.commit_with(staged, finalization, grounds)?;
        let after = self.chain.tip();
        let registry_changed = !Arc::ptr_eq(&before.registry, &after.registry);
        if !registry_changed && !Arc::ptr_eq(&before.agreements, &after.agreements) {
            self.drop_disagreed(after.header.time_ms)?;
        }
        self.height_committed(committed, registry_changed).map(Some)
    }

    /// The peers of these validators.
    fn peers_of(&self, validators: &[PublicKey]) -> Vec<PublicKey> {
        let set = &self.chain.tip().validators;
        let named = set.as_slice().iter().filter(|v| validators.contains(&v.key));
        let agencies: Vec<_> = named.map(|validator| validator.agency).collect();
        let listed = self.peers.listed().iter();
        listed.filter(|(agency, _)| agencies.contains(agency)).map(|(_, key)| *key).collect()
    }

    /// Bodies may have left the mempool since the vote: the store has those it voted for.
    pub(super) fn transactions_to_commit(
        &mut self,
        block: &Block,
    ) -> Result<Result<Vec<Arc<VerifiedTransaction>>, Vec<Hash>>, DriverError> {
        if let Err(missing) = self.transactions_of(block) {
            for leaf_hash in missing {
                if let Some(encoded) = self.chain.reader().body(&leaf_hash)? {
                    let verified = VerifiedTransaction::from_bytes(encoded, &self.chain_id);
                    verified.into_iter().for_each(|t| self.bodies.insert(Arc::new(t)));
                }
            }
        }
        Ok(self.transactions_of(block))
    }

    fn staged_or_executed(
        &mut self,
        block: &Block,
        transactions: &[Arc<VerifiedTransaction>],
    ) -> Result<Staged, DriverError> {
        if let Some(staged) = self.staged.remove(&block.hash()) {
            return Ok(staged);
        }
        let executed = self.chain.validate(block, transactions)?;
        executed.map_err(|invalid| finalized_and_invalid(block, &invalid))
    }

    fn height_committed(
        &mut self,
        committed: BlockOutcome,
        registry_changed: bool,
    ) -> Result<Input, DriverError> {
        let header = &committed.header;
        self.staged.clear();
        self.bodies.clear();
        self.signer.journal.height_committed(header.height)?;
        {
            let mut mempool = lock(&self.mempool);
            for transaction in &committed.transactions {
                mempool.remove_id(&transaction.id());
            }
            mempool.remove_expired(header.time_ms);
        }
        if registry_changed {
            self.drop_unregistered(header.time_ms)?;
        }
        {
            let mempool = lock(&self.mempool);
            self.metrics.mempool(mempool.count(), mempool.bytes());
        }
        let pending = self.has_work();
        let (height, view) = (header.height, header.view);
        let transactions = committed.transactions.len() as u64;
        let records = committed.transactions.iter().map(|t| t.slots().len() as u64).sum();
        self.metrics.committed(height, view, transactions, records);
        let block = committed.hash.short();
        tracing::debug!(height, view, transactions, records, block, "committed");
        if registry_changed {
            let validators = &self.chain.tip().validators;
            let votes = validators.index_of(&self.signer.public).is_some();
            let validators = validators.count();
            tracing::info!(height, validators, votes, "the registry has changed");
        }
        self.outside.committed(Arc::new(committed));
        if self.peers.committed(&self.chain.reader(), registry_changed) {
            self.outside.listed(self.peers.listed());
        }
        if self.change_key() {
            return Ok(Input::Work { pending });
        }
        Ok(Input::Committed { committed: committed_state(&self.chain.tip()), pending })
    }

    fn signers(&self, certificate: &Certificate) -> Vec<PublicKey> {
        let validators = &self.chain.tip().validators;
        certificate.signers().filter_map(|index| Some(validators.at(index)?.key)).collect()
    }

    /// Gossips waiting transactions again, those that are next: some peer may have missed them.
    fn resend_transactions(&mut self) {
        const RESENT_MAX: usize = 64;
        for transaction in lock(&self.mempool).in_turns().take(RESENT_MAX) {
            self.outside.publish_transaction(transaction.encoded().clone());
        }
    }
}

/// The `not_after` times of transactions that a block of this time may include.
fn valid_at(time_ms: u64, parameters: &Parameters) -> RangeInclusive<u64> {
    let lifetime_ms = parameters.transaction_lifetime_ms_max + parameters.time_skew_ms_max;
    time_ms..=time_ms.saturating_add(lifetime_ms)
}

pub(super) fn finalized_and_invalid(block: &Block, invalid: &BlockInvalid) -> DriverError {
    let height = block.header.height;
    DriverError::Halted(format!(
        "the finalized block of height {height} is not valid on this node's state \
         ({invalid}): this node's store, or more than a third of the network, is wrong"
    ))
}

pub(super) fn refusal_code(reason: Refusal) -> &'static str {
    match reason {
        Refusal::Signature => "SIGNATURE",
        Refusal::Certificate => "CERTIFICATE",
        Refusal::NotAValidator => "NOT_A_VALIDATOR",
        Refusal::NotTheLeader => "NOT_THE_LEADER",
        Refusal::FarView => "FAR_VIEW",
        Refusal::Block => "BLOCK",
        Refusal::ForeignTip => "FOREIGN_TIP",
        Refusal::TooEarly => "TOO_EARLY",
        Refusal::Unverifiable => "UNVERIFIABLE",
        Refusal::OwnKey => "OWN_KEY",
        Refusal::Past => "PAST",
        Refusal::Known => "KNOWN",
    }
}

pub(super) fn validated(validate: &Validate, verdict: BlockVerdict) -> Input {
    Input::Validated {
        height: validate.block.header.height,
        view: validate.view,
        block_hash: validate.block.hash(),
        verdict,
    }
}

/// The ledger's tip as the core takes it.
pub(super) fn committed_state(tip: &Tip) -> CommittedState {
    CommittedState {
        header: tip.header.clone(),
        finalization: tip.certificate.clone(),
        validators: tip.validators.clone(),
        leaders: tip.leaders.clone(),
        parameters: tip.parameters,
    }
}
