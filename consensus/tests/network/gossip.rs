//! What becomes of a message beyond the node that heard it: it is passed on, or held against whoever
//! handed it over.

use customhouse_consensus::{Message, Reception, Refusal};

use super::Network;

impl Network {
    /// From now on nodes pass on what they accept, each message once, as gossip does.
    pub fn gossiping(mut self) -> Self {
        self.gossips = true;
        self
    }

    /// What a node has found out about what another one has handed to it.
    pub(super) fn judged(
        &mut self,
        by: usize,
        heard: Option<(usize, Message)>,
        reception: Option<Reception>,
    ) {
        let Some((from, message)) = heard else { return };
        match reception {
            Some(Reception::Refused(reason)) => self.charged(by, from, reason),
            Some(Reception::Accepted) if self.gossips => self.pass_on(by, from, &message),
            _ => {}
        }
    }

    fn pass_on(&mut self, by: usize, from: usize, message: &Message) {
        if !self.nodes[by].passed_on.insert(message.encode()) {
            return;
        }
        for to in (0..self.nodes.len()).filter(|&to| to != by && to != from) {
            self.send(by, to, message);
        }
    }

    pub(super) fn charged(&mut self, by: usize, peer: usize, reason: Refusal) {
        let liar = self.liar.as_ref().map(|liar| liar.index);
        self.witness.charges(by, peer, liar, reason);
        self.nodes[by].charges += 1;
    }
}
