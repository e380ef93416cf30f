//! A step of a node, and what it asks for, carried out.

use customhouse_consensus::{
    Action, BlockVerdict, Core, Input, Message, Now, PeerTag, Ready, Reception, Recipient, Validate,
};
use rand::RngExt;

use super::{CrashPoint, GENESIS_TIME_MS, Network};

impl Network {
    pub fn step(&mut self, index: usize, input: Input) {
        let now = Now { monotonic_ms: self.now, unix_ms: GENESIS_TIME_MS + self.now };
        let node = &mut self.nodes[index];
        let Some(core) = node.core.as_mut() else { return };
        let heard = match &input {
            Input::Message { from, message } => Some((from.0 as usize, message.clone())),
            _ => None,
        };
        let ready = core.step(now, input);
        let crash = node.crash_at.take();
        if crash == Some(CrashPoint::BeforePersist) {
            drop(ready);
            return self.kill(index);
        }
        let reception = self.carry_out(index, ready, crash);
        self.judged(index, heard, reception);
    }

    fn carry_out(
        &mut self,
        index: usize,
        ready: Ready,
        crash: Option<CrashPoint>,
    ) -> Option<Reception> {
        let node = &mut self.nodes[index];
        let Ok(effects) = ready.persist(&mut node.journal);
        if crash == Some(CrashPoint::AfterPersist) {
            self.kill(index);
            return None;
        }
        node.wake_at = effects.wake_at;
        for outgoing in effects.messages {
            self.witness.sends(&self.nodes[index], &outgoing.message);
            match outgoing.to {
                Recipient::Peer(peer) => self.send(index, peer.0 as usize, &outgoing.message),
                Recipient::All => {
                    for to in (0..self.nodes.len()).filter(|&to| to != index) {
                        self.send(index, to, &outgoing.message);
                    }
                }
            }
        }
        if crash == Some(CrashPoint::AfterSend) {
            self.kill(index);
            return None;
        }
        for action in effects.actions {
            self.act(index, action);
        }
        effects.reception
    }

    fn act(&mut self, index: usize, action: Action) {
        let delay = self.rng.random_range(0..=self.weather.delay_ms_max / 2);
        self.nodes[index].actions.push(action.clone());
        match action {
            Action::Build(build) => {
                let ledger = &mut self.nodes[index].ledger;
                let leaves = ledger.pending.iter().take(4).copied().collect();
                let block = ledger.build(&build, leaves);
                self.later(delay, index, Input::Built { view: build.view, block });
            }
            Action::Validate(validate) => self.validate(index, delay, validate),
            Action::Commit { block, finalization } => {
                self.witness.commits(index, &block);
                let node = &mut self.nodes[index];
                let grounds = node.core.as_ref().map(Core::grounds).unwrap_or_default();
                node.grounds.insert(block.header.height, grounds);
                let ledger = &mut node.ledger;
                ledger.commit(block, finalization);
                let pending = !ledger.pending.is_empty();
                let committed = ledger.committed();
                if self.nodes[index].change_key() {
                    let node = &mut self.nodes[index];
                    let (key, entries) = (Some(node.key.clone()), node.journal.read());
                    node.core = node.core.take().map(|core| core.under(key, committed, entries));
                    self.later(0, index, Input::Work { pending });
                } else {
                    self.later(0, index, Input::Committed { committed, pending });
                }
                self.sync(index, delay);
            }
            Action::FetchBlock { block_hash, from, .. } => {
                let holders = self.nodes.iter().enumerate().filter(|(i, node)| {
                    from.contains(&node.key.public()) && !self.cut.contains(&(index, *i))
                });
                let block = holders.filter_map(|(_, node)| node.find(&block_hash)).next().cloned();
                if let Some(block) = block {
                    self.nodes[index].ledger.blocks.insert(block_hash, block.clone());
                    self.later(delay, index, Input::Fetched { block });
                }
            }
            Action::FetchCertificates { height, view } => {
                for peer in (0..self.nodes.len()).filter(|&peer| peer != index) {
                    let core = self.nodes[peer].core.as_ref();
                    let held = core.map(|core| core.certificates(height, view)).unwrap_or_default();
                    for certificate in held {
                        self.send(peer, index, &Message::Certificate(certificate));
                    }
                }
            }
            Action::SyncFrom { peer, height } => {
                self.nodes[index].sync = Some((peer.0 as usize, height));
                self.sync(index, delay);
            }
            Action::Evidence(evidence) => {
                let liar = self.liar.as_ref().map(|liar| liar.key.public());
                self.witness.accuses(liar, &evidence);
                self.nodes[index].evidence.push(evidence);
            }
            Action::Halt { reason } => self.witness.halts(index, &reason),
            Action::Refused { peer, reason } => self.charged(index, peer.0 as usize, reason),
            Action::StoppedSigning { .. } | Action::ResendTransactions => {}
        }
    }

    fn validate(&mut self, index: usize, delay: u64, validate: Validate) {
        let Validate { block, view, .. } = validate;
        let (height, block_hash) = (block.header.height, block.hash());
        let verdict = match self.nodes[index].ledger.validate(&block) {
            _ if self.chance(self.weather.loss / 2) => BlockVerdict::Unavailable,
            true => BlockVerdict::Valid,
            false => BlockVerdict::Invalid,
        };
        self.later(delay, index, Input::Validated { height, view, block_hash, verdict });
    }

    fn sync(&mut self, index: usize, delay: u64) {
        let Some((peer, _)) = self.nodes[index].sync else { return };
        let next = self.height_of(index) as usize;
        if self.cut.contains(&(index, peer)) || self.nodes[peer].core.is_none() {
            return;
        }
        if let Some((block, finalization)) = self.nodes[peer].ledger.chain.get(next).cloned() {
            let from = PeerTag(peer as u64);
            self.later(delay, index, Input::Certified { from, block, finalization });
        }
    }
}
