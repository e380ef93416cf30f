//! The state machine: its state, its one entry point, and what each input changes.

use customhouse_ledger::{
    finality::{
        certificate::Certificate, decision::Grounds, header::Block, validators::ValidatorSet,
        vote::VoteKind,
    },
    hash::Hash,
    keys::{PublicKey, SigningKey},
};

use crate::{
    action::{Action, HaltReason, Reception, Refusal, StopReason},
    core::{guards::Planted, recover::Memory, timers::Timers, told::Told},
    early::{Early, Pace},
    height::{Check, Height},
    input::{BlockVerdict, CertifiedTip, Committed, Config, Input, Message, Now, PeerTag},
    journal::Entry,
    ready::Ready,
};

pub(crate) mod asked;
mod guards;
#[cfg(feature = "mutants")]
pub mod mutants;
mod receive;
mod recover;
mod rules;
mod timers;
mod told;

/// The consensus of one node: inputs in, effects out. See the [crate] for the rules.
#[derive(Clone, Debug)]
pub struct Core {
    pub(crate) config: Config,
    /// Public half of the key, while it may sign.
    pub(crate) signer: Option<PublicKey>,
    pub(crate) tip: Committed,
    pub(crate) tip_hash: Hash,
    /// The validators that decided the tip; unknown right after a start.
    pub(crate) tip_validators: Option<ValidatorSet>,
    pub(crate) height: Height,
    /// The newest verified tip that is ahead of this node.
    pub(crate) ahead: Option<CertifiedTip>,
    pub(crate) memory: Memory,
    pub(crate) early: Early,
    pub(crate) pace: Pace,
    pub(crate) timers: Timers,
    /// Whether the mempool has something for the next block.
    pub(crate) pending: bool,
    started: bool,
    halted: bool,
    /// Who has told which signatures of this node's key it holds.
    pub(crate) told: Told,
    /// None, but in a test of this crate.
    pub(crate) planted: Planted,
    /// Time of the step, and what it leaves to do.
    pub(crate) now: Now,
    pub(crate) out: Ready,
}

impl Core {
    /// A core on this committed state that remembers what the journal does. Its first input should
    /// be [`Input::Tick`].
    pub fn new(config: Config, committed: Committed, recovered: Vec<Entry>) -> Self {
        let mut core = Self::blank(config, committed, recovered);
        core.recall();
        core
    }

    /// Before it has taken up what the journal remembers of the height.
    pub(crate) fn blank(config: Config, committed: Committed, recovered: Vec<Entry>) -> Self {
        let height = Height::after(&committed);
        Self {
            signer: config.signer.as_ref().map(|key| key.public()),
            config,
            tip_hash: committed.header.hash(),
            tip_validators: None,
            memory: Memory::new(recovered, height.number),
            height,
            tip: committed,
            ahead: None,
            early: Early::default(),
            pace: Pace::default(),
            timers: Timers::default(),
            pending: false,
            started: false,
            halted: false,
            told: Told::default(),
            planted: Planted::default(),
            now: Now { monotonic_ms: 0, unix_ms: 0 },
            out: Ready::default(),
        }
    }

    /// The same, but it signs nothing before so many validators of the height have told what they hold of
    /// its key ([`Input::Signatures`]), the key itself counted, that no quorum is without them: a journal
    /// that was rolled back with its store does not know what this key has signed, but a peer may. One that
    /// had committed the height does not count, for it holds nothing of that any more. Where the
    /// validators change, those that told may not be enough of the new ones: it waits for the others.
    pub fn unasked(mut self) -> Self {
        self.told = Told::nothing();
        self.weigh_told();
        self
    }

    /// The same node's core under another key, with that key's journal, on the block that this core
    /// has asked to be committed: instead of [`Input::Committed`]. What peers have said about the
    /// next height is kept, so that a key is changed without a pause. As after [`Core::new`], the
    /// first input should be [`Input::Tick`].
    pub fn under(
        self,
        signer: Option<SigningKey>,
        committed: Committed,
        recovered: Vec<Entry>,
    ) -> Self {
        let mut core = Self::blank(Config { signer, ..self.config }, committed, recovered);
        core.tip_validators = Some(self.height.validators);
        (core.early, core.pace, core.ahead) = (self.early, self.pace, self.ahead);
        (core.halted, core.now) = (self.halted, self.now);
        (core.told, core.planted) = (self.told.of_another_key(), self.planted);
        core.weigh_told();
        core.recall();
        core
    }

    /// Takes one input, applies the rules until none applies, and says what is to be done.
    pub fn step(&mut self, now: Now, input: Input) -> Ready {
        if self.halted {
            return Ready::default();
        }
        self.now = Now { monotonic_ms: now.monotonic_ms.max(self.now.monotonic_ms), ..now };
        if !self.started {
            self.started = true;
            self.start_timers();
            self.tell_tip();
            self.resend();
            self.take_up_early();
        }
        let ballot = match &input {
            Input::Message { message: Message::Vote(vote), .. } => Some(vote.ballot),
            _ => None,
        };
        self.take(input);
        self.settle();
        if !self.halted
            && ballot.is_some_and(|ballot| self.has_sent_certificate_of(&ballot))
            && self.out.effects.reception == Some(Reception::Accepted)
        {
            self.out.effects.reception = Some(Reception::Contained);
        }
        self.set_timers();
        let mut ready = std::mem::take(&mut self.out);
        if self.halted {
            // What was signed before the contradiction showed is as durable as ever; but nothing
            // more is said.
            ready.effects.messages.clear();
        } else {
            ready.effects.wake_at = self.wake_at();
        }
        ready
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Tick => self.tick(),
            Input::Message { from, message } => {
                let reception = self.receive(from, message);
                self.out.effects.reception = Some(reception);
            }
            Input::Signatures { from, agency, tip_height, held } => {
                let reception = self.take_signatures(from, held);
                self.take_teller((agency, from), tip_height);
                self.out.effects.reception = Some(reception);
            }
            Input::Connected(peer) => self.greet(peer),
            Input::Work { pending } => self.take_work(pending),
            Input::Built { view, block } => self.take_built(view, block),
            Input::Validated { height, view, block_hash, verdict } => {
                self.take_verdict(height, view, block_hash, verdict);
            }
            Input::Fetched { block } => self.take_fetched(block),
            Input::Committed { committed, pending } => self.take_committed(committed, pending),
            Input::Certified { from, block, finalization } => {
                self.take_certified(from, block, finalization);
            }
        }
    }

    /// Applies the six rules until none applies. Once a block is handed to the ledger, nothing
    /// more is signed at its height.
    fn settle(&mut self) {
        while !self.halted && self.height.committing.is_none() {
            let moved = self.commit() //        rule 6
                || self.finalize() //           rule 5
                || self.enter() //              rule 4
                || self.nullify() //            rule 3
                || self.propose() //            rule 1
                || self.notarize(); //          rule 2
            if !moved {
                break;
            }
        }
    }

    /// Where there is nothing after all, the block that was to include something is asked for again
    /// when there is.
    fn take_work(&mut self, pending: bool) {
        self.pending = pending;
        if self.height.built.is_none() {
            let _unwanted = self.height.build.take_if(|build| !pending && !build.may_be_empty);
        }
    }

    fn take_built(&mut self, view: u64, block: Block) {
        let Some(build) = self.height.build.as_ref().filter(|build| build.view == view) else {
            return; // The view has passed.
        };
        let header = &block.header;
        let asked = (build.height, build.view, build.time_ms, build.parent_hash);
        let as_asked = (header.height, header.view, header.time_ms, header.parent_hash) == asked
            && header.proposer == *build.proposer.as_bytes();
        debug_assert!(as_asked, "the shell built another block than it was asked for");
        if as_asked && self.height.built.is_none() {
            self.height.store(block.clone(), true);
            self.height.built = Some(block);
        }
    }

    fn take_verdict(&mut self, height: u64, view: u64, block_hash: Hash, verdict: BlockVerdict) {
        if height != self.height.number {
            return;
        }
        let Some(held) = self.height.proposals.get_mut(&view) else { return };
        if held.block_hash != block_hash || held.check != Check::Asked {
            return;
        }
        match verdict {
            BlockVerdict::Valid => {
                held.check = Check::Open;
                let (block, new) = (held.proposal.block.clone(), held.proposal.parent_view == 0);
                self.height.store(block, new);
            }
            BlockVerdict::Invalid => held.check = Check::Failed,
            BlockVerdict::Unavailable => held.check = Check::Unavailable,
        }
    }

    fn take_fetched(&mut self, block: Block) {
        if self.height.fetching_blocks.remove(&block.hash()) {
            self.height.store(block, false);
        }
    }

    fn take_committed(&mut self, committed: Committed, pending: bool) {
        let (height, hash) = (committed.header.height, committed.header.hash());
        if height < self.height.number {
            return;
        }
        let decided = self.height.committing;
        if height > self.height.number || decided != Some(hash) {
            return self.halt(HaltReason::WrongCommit { height, decided, committed: hash });
        }
        if committed.header.validators_hash != committed.header.next_validators_hash {
            self.told.weigh_again();
        }
        let next = Height::after(&committed);
        let last = std::mem::replace(&mut self.height, next);
        self.weigh_told();
        self.tip_validators = Some(last.validators);
        self.tip = committed;
        self.tip_hash = hash;
        self.pending = pending;
        self.start_height_timers();
        self.recall();
        self.take_up_early();
    }

    /// What was heard about this height before it began.
    fn take_up_early(&mut self) {
        self.recall_tip();
        for kept in self.early.take() {
            self.take_kept(kept);
        }
    }

    fn take_certified(&mut self, from: PeerTag, block: Block, finalization: Certificate) {
        if block.header.height != self.height.number || self.height.committing.is_some() {
            return;
        }
        let ballot = finalization.ballot;
        let named = (ballot.kind, ballot.height, ballot.block_hash);
        let outcome = if named == (VoteKind::Finalize, self.height.number, block.hash()) {
            self.take_certificate(finalization)
        } else {
            Err(Refusal::Certificate)
        };
        match outcome {
            // Its finalization may be known by then, and the block be all that was missing.
            Ok(()) | Err(Refusal::Known) => self.height.store(block, false),
            Err(reason) => self.refuse(from, reason),
        }
    }

    /// Something was wrong that this peer handed over, now or earlier.
    pub(crate) fn refuse(&mut self, peer: PeerTag, reason: Refusal) {
        if reason.is_fault() {
            self.out.act(Action::Refused { peer, reason });
        }
    }

    pub(crate) fn halt(&mut self, reason: HaltReason) {
        if !std::mem::replace(&mut self.halted, true) {
            self.out.act(Action::Halt { reason });
        }
    }

    pub(crate) fn stop_signing(&mut self, reason: StopReason) {
        if self.signer.take().is_some() {
            // Nothing is signed up to the last height there is: it holds after a restart too.
            self.out.entries.push(Entry::Watermark(u64::MAX));
            self.out.act(Action::StoppedSigning { reason });
        }
    }

    fn tell_tip(&mut self) {
        if let Some(tip) = self.tip() {
            self.out.send_all(Message::Tip(tip));
        }
    }

    fn greet(&mut self, peer: PeerTag) {
        if let Some(tip) = self.tip() {
            self.out.send(peer, Message::Tip(tip));
        }
    }

    /// The newest committed block; none at height 0, which has no certificate.
    pub fn tip(&self) -> Option<CertifiedTip> {
        let finalization = self.tip.finalization.clone()?;
        Some(CertifiedTip { header: self.tip.header.clone(), finalization })
    }

    /// The committed state that the height in progress rests on.
    pub fn committed(&self) -> &Committed {
        &self.tip
    }

    /// The height in progress.
    pub fn height(&self) -> u64 {
        self.height.number
    }

    /// The view of the height in progress.
    pub fn view(&self) -> u64 {
        self.height.view
    }

    /// Key of the leader of the current view.
    pub fn leader(&self) -> PublicKey {
        self.height.leader(self.height.view)
    }

    /// The block of the height in progress that is known to be decided.
    pub fn decided(&self) -> Option<Hash> {
        self.height.finalization.as_ref().map(|finalization| finalization.ballot.block_hash)
    }

    /// Whether this height is known to be decided already, and this node only follows: a tip ahead says
    /// so, or this node's own journal, which knows of later heights than the store.
    pub fn is_catching_up(&self) -> bool {
        let height = self.height.number;
        self.ahead.as_ref().is_some_and(|tip| tip.header.height >= height)
            || self.memory.knows_of_more_than(height)
    }

    /// Whether this node signs at this height: it has a key that has not been stopped, the key is
    /// a validator's, the journal remembers nothing of a later height, and the height is not known
    /// to be decided.
    pub fn is_signing(&self) -> bool {
        self.signing_key().is_some()
    }

    /// Whether the core has halted.
    pub fn is_halted(&self) -> bool {
        self.halted
    }

    /// The certificates held of a view of the height in progress, to answer a peer that asks.
    pub fn certificates(&self, height: u64, view: u64) -> Vec<Certificate> {
        if height != self.height.number {
            return Vec::new();
        }
        let kinds = [VoteKind::Notarize, VoteKind::Nullify, VoteKind::Finalize];
        kinds.iter().filter_map(|&kind| self.height.certificate(kind, view)).cloned().collect()
    }

    /// What is held of how the height in progress comes to be decided. Whoever commits the height,
    /// or halts at it, keeps that with it, so that liars who divide a chain can be named.
    pub fn grounds(&self) -> Grounds {
        let held = self.height.notarizations.values().chain(self.height.nullifications.values());
        let claims = self.height.claims.values().cloned().collect();
        Grounds { certificates: held.cloned().collect(), claims }
    }

    /// A block of the height in progress that is stored here, to answer a peer that asks.
    pub fn block(&self, block_hash: &Hash) -> Option<&Block> {
        self.height.blocks.get(block_hash).map(|stored| &stored.block)
    }
}
