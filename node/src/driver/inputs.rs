//! What comes to the driver from outside the core.

use std::sync::Arc;

use customhouse_consensus::{
    BlockVerdict, Claim, Input, Message, Reception, Refusal, Signatures, wire,
};
use customhouse_ledger::{
    chain::BlockInvalid, finality::header::Block, keys::PublicKey, transaction::VerifiedTransaction,
};
use customhouse_proto::v1;

use super::{
    CertifiedBlock, Driver, DriverError, DriverInput, Fetch, Outside, Purpose, SignerMemory,
    actions::{finalized_and_invalid, refusal_code, validated},
};
use crate::network::PendingJudgement;

impl<O: Outside, J: SignerMemory> Driver<O, J> {
    /// Takes one input.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn take(&mut self, input: DriverInput) -> Result<(), DriverError> {
        match input {
            DriverInput::Message { from, message, judgement } => {
                self.message(&from, message, judgement)
            }
            DriverInput::Connected(peer) => self.connected(peer),
            DriverInput::OwnSignatures { peer, validator, tip_height, signed } => {
                self.own_signatures(peer, &validator, tip_height, signed)
            }
            DriverInput::Bodies { purpose, transactions } => self.bodies(purpose, transactions),
            DriverInput::Block(found) => self.fetched(found),
            DriverInput::WrongBlock(peer) => {
                self.refused(&peer, Refusal::Block, None);
                Ok(())
            }
            DriverInput::Committed { from, blocks, reply } => {
                for certified in blocks {
                    self.certified(&from, certified)?;
                }
                let _gone = reply.send(self.chain.tip().header.height);
                Ok(())
            }
            DriverInput::CertificatesOf { height, view, reply } => {
                let _gone = reply.send(self.core.certificates(height, view));
                Ok(())
            }
            DriverInput::SignedBy { validator, from_height, reply } => {
                let _gone = reply.send(self.signed_by(&validator, from_height));
                Ok(())
            }
        }
    }

    fn message(
        &mut self,
        from: &PublicKey,
        message: Message,
        judgement: Option<PendingJudgement>,
    ) -> Result<(), DriverError> {
        let Some(tag) = self.peers.tag(from) else { return Ok(()) };
        let (actions, reception) = self.step_core(Input::Message { from: tag, message })?;
        self.settle(from, reception, judgement);
        self.carry_out(actions)
    }

    /// Passes a judgement on to where its message came from. It is of this message alone: nothing that
    /// follows from it in the same turn can change it.
    fn settle(
        &mut self,
        from: &PublicKey,
        reception: Option<Reception>,
        judgement: Option<PendingJudgement>,
    ) {
        match (reception, judgement) {
            (Some(Reception::Accepted), Some(judgement)) => judgement.accept(),
            (Some(Reception::Contained), Some(judgement)) => judgement.verified(),
            (Some(Reception::Refused(reason)), judgement) => self.refused(from, reason, judgement),
            // Nobody can know yet what it is worth, or it is of no use here.
            (_, Some(judgement)) => judgement.ignore(),
            (_, None) => {}
        }
    }

    /// A peer has handed over what no honest peer would have. It is charged for that once: by the
    /// judgement, where the message came with one.
    pub(super) fn refused(
        &mut self,
        peer: &PublicKey,
        reason: Refusal,
        judgement: Option<PendingJudgement>,
    ) {
        let code = refusal_code(reason);
        self.metrics.rejected("consensus", code);
        match judgement {
            Some(judgement) => judgement.reject(code),
            None => self.outside.charge(*peer, code),
        }
    }

    fn connected(&mut self, peer: PublicKey) -> Result<(), DriverError> {
        self.ask_about_own_key(peer);
        match self.peers.tag(&peer) {
            Some(tag) => self.step(Input::Connected(tag)),
            None => Ok(()),
        }
    }

    fn own_signatures(
        &mut self,
        peer: PublicKey,
        validator: &PublicKey,
        tip_height: u64,
        signed: Signatures,
    ) -> Result<(), DriverError> {
        let Some(from) = self.peers.tag(&peer).filter(|_| *validator == self.signer.public) else {
            return Ok(());
        };
        let Some(agency) = self.peers.agency(from) else { return Ok(()) };
        let told = Input::Signatures { from, agency, tip_height, held: signed };
        let (actions, reception) = self.step_core(told)?;
        self.settle(&peer, reception, None);
        self.carry_out(actions)
    }

    fn signed_by(&self, validator: &PublicKey, from_height: u64) -> v1::JournalResponse {
        let held = self.core.signed_by(validator, from_height);
        v1::JournalResponse {
            votes: held.votes.iter().map(wire::vote_to_proto).collect(),
            proposals: held.claims.iter().map(Claim::encode).collect(),
            tip_height: self.chain.tip().header.height,
        }
    }

    fn bodies(
        &mut self,
        purpose: Purpose,
        transactions: Vec<Arc<VerifiedTransaction>>,
    ) -> Result<(), DriverError> {
        // It may have been committed meanwhile, by catching up.
        if purpose.block().header.height != self.core.height() {
            return Ok(());
        }
        let bytes = transactions.iter().map(|transaction| transaction.encoded().len() as u64).sum();
        let max = self.chain.tip().parameters.block_bytes_max;
        // Some of its bodies are enough to know what all of them would say.
        if bytes > max {
            return self.too_large(purpose, &BlockInvalid::TooLarge { bytes, max });
        }
        transactions.into_iter().for_each(|transaction| self.bodies.insert(transaction));
        let answer = match purpose {
            Purpose::Validate(validate) => {
                let verdict = match self.transactions_of(&validate.block) {
                    Ok(transactions) => self.check(&validate.block, &transactions)?,
                    Err(_missing) => BlockVerdict::Unavailable,
                };
                Some(validated(&validate, verdict))
            }
            Purpose::Store(block) => self.store(block)?,
            Purpose::Commit { block, finalization } => self.commit(block, finalization)?,
        };
        answer.map_or(Ok(()), |input| self.step(input))
    }

    /// A block has more bodies than any block may: nothing more of it is fetched.
    fn too_large(&mut self, purpose: Purpose, invalid: &BlockInvalid) -> Result<(), DriverError> {
        self.invalid(purpose.block(), invalid);
        match purpose {
            Purpose::Validate(validate) => self.step(validated(&validate, BlockVerdict::Invalid)),
            // As with any other that is not valid: committing it will say so.
            Purpose::Store(_) => Ok(()),
            Purpose::Commit { block, .. } => Err(finalized_and_invalid(&block, invalid)),
        }
    }

    fn fetched(&mut self, block: Block) -> Result<(), DriverError> {
        if block.header.height != self.core.height() {
            return Ok(());
        }
        let answer = self.store(block)?;
        answer.map_or(Ok(()), |input| self.step(input))
    }

    /// Stores a block that a quorum voted for, once its bodies are here.
    fn store(&mut self, block: Block) -> Result<Option<Input>, DriverError> {
        let transactions = match self.transactions_to_commit(&block)? {
            Ok(transactions) => transactions,
            Err(missing) => {
                let (purpose, from) = (Purpose::Store(block), Vec::new());
                self.outside.fetch(Fetch::Bodies { purpose, missing, from });
                return Ok(None);
            }
        };
        // Where it is not valid, this node's state is not the quorum's: committing it will say so.
        let stored = self.check(&block, &transactions)? == BlockVerdict::Valid;
        Ok(stored.then_some(Input::Fetched { block }))
    }

    fn certified(
        &mut self,
        from: &PublicKey,
        certified: CertifiedBlock,
    ) -> Result<(), DriverError> {
        let CertifiedBlock { block, transactions, finalization, .. } = certified;
        let Some(tag) = self.peers.tag(from) else { return Ok(()) };
        if block.header.height != self.core.height() {
            return Ok(());
        }
        // Not stored for a vote: with its finalization it is committed in this very step.
        if self.execute(&block, &transactions)? != BlockVerdict::Valid {
            self.refused(from, Refusal::Block, None);
            return Ok(());
        }
        transactions.into_iter().for_each(|transaction| self.bodies.insert(transaction));
        self.step(Input::Certified { from: tag, block, finalization })
    }
}
