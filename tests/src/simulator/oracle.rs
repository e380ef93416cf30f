//! What must hold, whatever happens. The first thing that does not ends the run.

use std::collections::{BTreeMap, BTreeSet};

use customhouse_consensus::{Evidence, Message};
use customhouse_ledger::{
    chain::{BlockOutcome, ChainReader, SlotOutcome},
    finality::vote::{Proposal, VoteKind},
    hash::Hash,
    keys::PublicKey,
    proofs::verifier::Verifier,
    registry::genesis::Genesis,
    transaction::VerifiedTransaction,
};
use prost::Message as _;

use super::identity::Identity;

/// What a signature of one key in one view of one height was for.
type Signed = BTreeMap<(PublicKey, u64, u64, u8), Hash>;

/// Everything that has been seen.
pub(super) struct Oracle {
    chain_id: Hash,
    verifier: Verifier,
    /// Keys that may break rules: liars', and those of nodes whose journal was put back.
    pub(super) excused: BTreeSet<PublicKey>,
    signed: Signed,
    /// Block hash and roots by height, as the first node committed it.
    blocks: BTreeMap<u64, (Hash, Hash, Hash)>,
    /// Transactions that a client was told are accepted, with a record that must have a receipt.
    pub(super) acknowledged: BTreeMap<Hash, Option<Hash>>,
    /// Height of each committed transaction.
    committed: BTreeMap<Hash, u64>,
    pub(super) evidence: BTreeSet<(PublicKey, u64, u64)>,
    /// Height and log index at which each breach was recorded, by its dedupe key.
    breaches: BTreeMap<Hash, u64>,
}

impl Oracle {
    pub(super) fn new(genesis: &Genesis) -> Self {
        Self {
            chain_id: genesis.chain_id(),
            verifier: Verifier::new(genesis),
            excused: BTreeSet::new(),
            signed: Signed::new(),
            blocks: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            committed: BTreeMap::new(),
            evidence: BTreeSet::new(),
            breaches: BTreeMap::new(),
        }
    }

    pub(super) fn height(&self) -> u64 {
        self.blocks.last_key_value().map_or(0, |(height, _)| *height)
    }

    /// A message leaves a node: its key must not have signed anything against it.
    pub(super) fn sent(&mut self, message: &Message, own: &PublicKey) -> Result<(), String> {
        let (height, view, kind, hash) = match message {
            Message::Vote(vote) if vote.validator == *own => {
                let ballot = vote.ballot;
                (ballot.height, ballot.view, kind(ballot.kind), ballot.block_hash)
            }
            Message::Proposal(proposal) if proposal.leader == *own => {
                let block = &proposal.block;
                (block.header.height, proposal.view, 0, block.hash())
            }
            _ => return Ok(()),
        };
        if self.excused.contains(own) {
            return Ok(());
        }
        let first = *self.signed.entry((*own, height, view, kind)).or_insert(hash);
        let forbidden = match kind {
            NULLIFY => Some(FINALIZE),
            FINALIZE => Some(NULLIFY),
            _ => None,
        };
        let against = forbidden.and_then(|kind| self.signed.get(&(*own, height, view, kind)));
        if first != hash || against.is_some() {
            return Err(format!("{own} signed a conflict at height {height}, view {view}"));
        }
        Ok(())
    }

    /// For a planted fault: a proposal whose block its honest leader has proposed, with a signature
    /// of that leader over all that it says.
    pub(super) fn signed_again(
        &self,
        proposal: &Proposal,
        identities: &[Identity],
    ) -> Option<Proposal> {
        let Proposal { view, parent_view, block, leader, .. } = proposal;
        let signed = self.signed.get(&(*leader, block.header.height, *view, 0));
        let keys = || identities.iter().flat_map(|identity| &identity.validators);
        let key = keys().find(|key| key.public() == *leader);
        let key = key.filter(|_| signed == Some(&block.hash()))?;
        Some(Proposal::sign(block.clone(), *view, *parent_view, &self.chain_id, key))
    }

    /// True where no other node has committed it before.
    pub(super) fn committed(&mut self, block: &BlockOutcome) -> Result<bool, String> {
        let header = &block.header;
        let (height, roots) = (header.height, (block.hash, header.log_root, header.history_root));
        let new = !self.blocks.contains_key(&height);
        let first = *self.blocks.entry(height).or_insert(roots);
        if first != roots {
            return Err(format!("two blocks at height {height}: {} and {}", first.0, roots.0));
        }
        let log = header.log_start..;
        for (log_index, (transaction, outcomes)) in
            log.zip(block.transactions.iter().zip(&block.outcomes))
        {
            self.recorded_once(log_index, transaction, outcomes)?;
            let at = *self.committed.entry(transaction.id()).or_insert(height);
            if at != height {
                let id = transaction.id();
                return Err(format!("transaction {id} was committed at {at} and at {height}"));
            }
        }
        Ok(new)
    }

    /// A breach is recorded by the first report of it, and by no other.
    fn recorded_once(
        &mut self,
        log_index: u64,
        transaction: &VerifiedTransaction,
        outcomes: &[SlotOutcome],
    ) -> Result<(), String> {
        for (slot, outcome) in transaction.slots().iter().zip(outcomes) {
            let breach = transaction.evidence().is_some();
            if breach && *outcome == SlotOutcome::Applied {
                let first = *self.breaches.entry(slot.dedupe_key).or_insert(log_index);
                if first != log_index {
                    return Err(format!("a breach is recorded at {first} and at {log_index}"));
                }
            }
        }
        Ok(())
    }

    /// How many breaches are on the chain.
    pub(super) fn recorded(&self) -> u64 {
        self.breaches.len() as u64
    }

    pub(super) fn accused(&mut self, evidence: &Evidence) -> Result<(), String> {
        let culprit = evidence.culprit();
        let (height, view) = evidence.place();
        if !evidence.proves(&self.chain_id) {
            return Err(format!("evidence against {culprit} proves nothing"));
        }
        if !self.excused.contains(&culprit) {
            return Err(format!("the honest {culprit} is accused at height {height}, view {view}"));
        }
        self.evidence.insert((culprit, height, view));
        Ok(())
    }

    /// Acknowledged transactions that a node has not committed.
    pub(super) fn missing(&self, reader: &ChainReader) -> Result<Vec<Hash>, String> {
        let mut missing = Vec::new();
        for id in self.acknowledged.keys() {
            let found = reader.log_index(id).map_err(|error| error.to_string())?;
            if found.is_none() {
                missing.push(*id);
            }
        }
        Ok(missing)
    }

    /// At the end: what a node says it has, it can prove, to a verifier with the genesis alone, which
    /// follows the changes of the validators.
    pub(super) fn proves(&self, reader: &ChainReader) -> Result<u64, String> {
        let mut receipts = 0;
        let mut verifier = self.verifier.clone();
        let steps = reader.validator_changes(0, usize::MAX).map_err(|error| error.to_string())?;
        for step in &steps {
            verifier.follow(step).map_err(|error| error.to_string())?;
        }
        if verifier.validators() != &reader.tip().validators {
            return Err("the steps lead to other validators than the tip's".to_owned());
        }
        for record_id in self.acknowledged.values().flatten().rev().take(5) {
            let receipt = reader.receipt(record_id).map_err(|error| error.to_string())?;
            let receipt = receipt.ok_or_else(|| format!("no receipt for record {record_id}"))?;
            let verified = verifier.verify_receipt(&receipt.encode_to_vec());
            verified.map_err(|error| format!("the receipt of {record_id}: {error}"))?;
            receipts += 1;
        }
        Ok(receipts)
    }
}

const NULLIFY: u8 = 2;
const FINALIZE: u8 = 3;

fn kind(kind: VoteKind) -> u8 {
    match kind {
        VoteKind::Notarize => 1,
        VoteKind::Nullify => NULLIFY,
        VoteKind::Finalize => FINALIZE,
    }
}
