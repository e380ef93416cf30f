//! What mutants do wrong that is not the node's own code: each is a fault that a version had once.

use customhouse_consensus::Message;
use customhouse_ledger::keys::PublicKey;
use customhouse_node::{driver::gather::Ask, network::PendingJudgement};

use super::{mutant::Mutant, run::Simulation};

impl Simulation {
    /// Planted: leaves that are not those of the signature pass for them.
    pub(super) fn without_signed_leaves(&self, message: Message) -> Message {
        let Message::Proposal(proposal) = &message else { return message };
        if self.mutant != Some(Mutant::UnsignedLeaves) || proposal.verify(&self.chain_id).is_ok() {
            return message;
        }
        self.oracle.signed_again(proposal, &self.identities).map_or(message, Message::Proposal)
    }

    /// Planted: what is too early to be verified is passed on.
    pub(super) fn unless_early(
        &self,
        to: usize,
        message: &Message,
        judgement: Option<PendingJudgement>,
    ) -> Option<PendingJudgement> {
        let core = self.endpoints[to].process.as_ref().map(|process| process.driver.core());
        let early = core.is_some_and(|core| message.height() > core.height());
        if early && self.mutant == Some(Mutant::EarlyPassedOn) {
            judgement.into_iter().for_each(|judgement| judgement.accept());
            return None;
        }
        judgement
    }

    /// Planted: notes what is held for a later height, and will be refused then.
    pub(super) fn note_early(&mut self, to: usize, message: &Message) {
        let Some(process) = &mut self.endpoints[to].process else { return };
        if self.mutant != Some(Mutant::VerdictOfAnother)
            || message.height() != process.driver.core().height() + 1
        {
            return;
        }
        let wrong = match message {
            Message::Vote(vote) => vote.verify(&self.chain_id).is_err(),
            Message::Proposal(proposal) => proposal.verify(&self.chain_id).is_err(),
            Message::Certificate(_) | Message::Tip(_) => false,
        };
        if wrong {
            process.gossip.held_wrong.push(message.height());
        }
    }

    /// Planted: whoever spoke when a height began is blamed for what was held for it.
    pub(super) fn blame_speaker(&mut self, at: usize, from: usize) -> Result<(), String> {
        let Some(process) = &mut self.endpoints[at].process else { return Ok(()) };
        let height = process.driver.core().height();
        let held = std::mem::take(&mut process.gossip.held_wrong);
        let (due, held): (Vec<_>, Vec<_>) = held.into_iter().partition(|of| *of <= height);
        process.gossip.held_wrong = held;
        due.into_iter().try_for_each(|_| self.fault(at, from, "held"))
    }

    /// Planted: only the peer that was asked first is asked for a block's bodies.
    pub(super) fn only_first(&mut self, at: usize, asks: &mut Vec<Ask>) {
        let Some(process) = &mut self.endpoints[at].process else { return };
        if self.mutant == Some(Mutant::OneSource) {
            let first: &mut std::collections::BTreeMap<_, PublicKey> = &mut process.fetching.first;
            asks.retain(|ask| *first.entry(ask.block_hash).or_insert(ask.peer) == ask.peer);
        }
    }
}
