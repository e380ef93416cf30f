//! One height under the worst scheduler: any message ever sent may reach anyone at any moment, any
//! timer may fire, any honest node may crash and restart, and one of four validators signs whatever
//! it likes. Whatever happens, the honest nodes do not divide.
//!
//! There is no time and no fairness here, so nothing need ever be decided; but that most walks do
//! decide, some of them in later views, shows that the walks go somewhere.

mod bench;

use std::collections::{BTreeMap, BTreeSet};

use bench::*;
use customhouse_consensus::{
    Action, BlockVerdict, Config, Core, Entry, Input, Journal, Message, Now, Timing,
};
use customhouse_ledger::{
    finality::{
        header::Block,
        vote::{Ballot, Proposal, Vote, VoteKind},
    },
    hash::Hash,
    keys::PublicKey,
};
use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

const STEPS: usize = 400;

struct Honest {
    core: Core,
    journal: Vec<Entry>,
    now: Now,
    committed: Option<(u64, Hash)>,
    /// Which of the messages it has had.
    had: BTreeSet<usize>,
}

impl Journal for Honest {
    type Error = std::convert::Infallible;

    fn append(&mut self, entries: &[Entry]) -> Result<(), Self::Error> {
        self.journal.extend_from_slice(entries);
        Ok(())
    }
}

struct Walk {
    seed: u64,
    rng: ChaCha8Rng,
    liar: usize,
    honest: BTreeMap<usize, Honest>,
    /// While it is set, finalize votes reach this node only: it may decide alone, and the others
    /// know nothing of it. That is what the justification of later proposals must withstand.
    favoured: Option<usize>,
    /// Everything ever sent.
    said: Vec<Message>,
    /// Every block there is.
    blocks: Vec<Block>,
    /// What honest keys have signed.
    signed: BTreeMap<(PublicKey, u64, VoteKind), Hash>,
}

fn new_core(index: usize, journal: Vec<Entry>) -> Core {
    let timing = Timing { view_ms: 1, view_ms_max: 1, repropose_ms: 0, ..TIMING };
    Core::new(Config { chain_id: CHAIN, signer: Some(key(index)), timing }, genesis(), journal)
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let liar = rng.random_range(0..4);
        let now = Now { monotonic_ms: 0, unix_ms: UNIX_MS };
        let honest = |index: usize| Honest {
            core: new_core(index, Vec::new()),
            journal: Vec::new(),
            now,
            committed: None,
            had: BTreeSet::new(),
        };
        let others = (0..4).filter(|&index| index != liar);
        Self {
            seed,
            rng,
            liar,
            honest: others.map(|index| (index, honest(index))).collect(),
            favoured: None,
            said: Vec::new(),
            blocks: Vec::new(),
            signed: BTreeMap::new(),
        }
    }

    /// Runs to its end; gives the view in which a finalization was acted on, if one was.
    fn run(mut self) -> Option<u64> {
        for index in 0..4 {
            self.step(index, Input::Work { pending: true });
        }
        // Some walks are in a hurry, some are full of lies.
        let (timers, lies) = (self.rng.random_range(0..8), self.rng.random_range(0..10));
        if self.rng.random_range(0..2) == 0 {
            self.favoured = Some(self.rng.random_range(0..4));
        }
        for step in 0..STEPS {
            if step == STEPS * 3 / 4 {
                self.favoured = None;
            }
            let Some(&index) = self.open().choose(&mut self.rng) else { break };
            match self.rng.random_range(0..40) {
                0 => self.restart(index),
                n if n <= timers => self.fire_timer(index),
                n if n <= timers + lies => {
                    let lie = self.lie();
                    self.tell(index, lie);
                }
                _ => {
                    if let Some(message) = self.any_message(index) {
                        self.tell(index, message);
                    }
                }
            }
        }
        self.honest.values().filter_map(|node| node.committed).map(|(view, _)| view).max()
    }

    /// Mostly one that this node has not had yet, in any order; sometimes one again.
    fn any_message(&mut self, index: usize) -> Option<Message> {
        let had = self.honest.get(&index)?.had.clone();
        let withheld = self.favoured.is_some_and(|favoured| favoured != index);
        let is_finalize = |message: &Message| matches!(message, Message::Vote(vote) if vote.ballot.kind == VoteKind::Finalize);
        let all = self.said.iter().enumerate().filter(|(_, m)| !(withheld && is_finalize(m)));
        let all: Vec<_> = all.map(|(i, _)| i).collect();
        let new: Vec<_> = all.iter().copied().filter(|i| !had.contains(i)).collect();
        let chosen = match new.choose(&mut self.rng) {
            Some(&new) if self.rng.random_range(0..8) > 0 => new,
            _ => all.choose(&mut self.rng).copied()?,
        };
        self.honest.get_mut(&index)?.had.insert(chosen);
        self.said.get(chosen).cloned()
    }

    /// Honest nodes that have not committed.
    fn open(&self) -> Vec<usize> {
        let open = self.honest.iter().filter(|(_, node)| node.committed.is_none());
        open.map(|(&index, _)| index).collect()
    }

    fn tell(&mut self, index: usize, message: Message) {
        self.step(index, Input::Message { from: PEER, message });
    }

    fn fire_timer(&mut self, index: usize) {
        if let Some(node) = self.honest.get_mut(&index) {
            node.now.monotonic_ms += 2;
        }
        self.step(index, Input::Tick);
    }

    fn restart(&mut self, index: usize) {
        if let Some(node) = self.honest.get_mut(&index) {
            node.core = new_core(index, node.journal.clone());
        }
        self.step(index, Input::Work { pending: true });
    }

    fn step(&mut self, index: usize, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let Some(node) = self.honest.get_mut(&index) else { return };
            let ready = node.core.step(node.now, input);
            let Ok(effects) = ready.persist(node);
            for outgoing in effects.messages {
                self.hear(index, outgoing.message);
            }
            for action in effects.actions {
                inputs.extend(self.carry_out(index, action));
            }
        }
    }

    /// Keeps what was said; an honest key never contradicts itself, over all its lives.
    fn hear(&mut self, index: usize, message: Message) {
        if let Message::Vote(vote) = &message
            && vote.validator == key(index).public()
        {
            let ballot = vote.ballot;
            let at = |kind| (vote.validator, ballot.view, kind);
            let first = *self.signed.entry(at(ballot.kind)).or_insert(ballot.block_hash);
            let both = self.signed.contains_key(&at(VoteKind::Nullify))
                && self.signed.contains_key(&at(VoteKind::Finalize));
            assert!(first == ballot.block_hash && !both, "seed {}: {vote:?}", self.seed);
        }
        if !self.said.contains(&message) {
            self.said.push(message);
        }
    }

    fn carry_out(&mut self, index: usize, action: Action) -> Option<Input> {
        match action {
            Action::Build(build) => {
                let block = block(build.view, ['A', 'B', 'C'][index % 3]);
                let header = customhouse_ledger::finality::header::Header {
                    time_ms: build.time_ms,
                    ..block.header.clone()
                };
                let block = Block { header, ..block };
                self.blocks.push(block.clone());
                Some(Input::Built { view: build.view, block })
            }
            Action::Validate(validate) => {
                let (height, block_hash) = (1, validate.block.hash());
                let verdict = BlockVerdict::Valid;
                Some(Input::Validated { height, view: validate.view, block_hash, verdict })
            }
            Action::FetchBlock { block_hash, .. } => {
                let block = self.blocks.iter().find(|block| block.hash() == block_hash)?;
                Some(Input::Fetched { block: block.clone() })
            }
            Action::Commit { finalization, .. } => {
                let ballot = finalization.ballot;
                for node in self.honest.values().filter_map(|node| node.committed) {
                    assert_eq!(node.1, ballot.block_hash, "seed {}: divided", self.seed);
                }
                let node = self.honest.get_mut(&index)?;
                node.committed = Some((ballot.view, ballot.block_hash));
                None
            }
            Action::Evidence(evidence) => {
                assert!(evidence.proves(&CHAIN), "seed {}: {evidence:?}", self.seed);
                assert_eq!(evidence.culprit(), key(self.liar).public(), "seed {}", self.seed);
                None
            }
            Action::Halt { reason } => panic!("seed {}: {reason}", self.seed),
            Action::StoppedSigning { reason } => panic!("seed {}: {reason}", self.seed),
            _ => None,
        }
    }

    /// Something that the liar signs: about the views in which honest nodes are.
    fn lie(&mut self) -> Message {
        let views: Vec<_> = self.honest.values().map(|node| node.core.view()).collect();
        let newest = views.into_iter().max().unwrap_or(1);
        let view = self.rng.random_range(1..=newest);
        if genesis().leader(view) == key(self.liar).public() && self.rng.random_range(0..3) > 0 {
            let lie = Message::Proposal(self.lying_proposal(view));
            // So that others may get the same one.
            self.said.push(lie.clone());
            return lie;
        }
        let ballot = self.lying_ballot(view);
        let mut vote = Vote::sign(ballot, &CHAIN, &key(self.liar));
        if self.rng.random_range(0..8) == 0 {
            // In somebody else's name.
            vote.validator = key((self.liar + 1) % 4).public();
        }
        Message::Vote(vote)
    }

    /// Mostly what somebody else voted for, for that does the most harm: every side gets its vote.
    fn lying_ballot(&mut self, view: u64) -> Ballot {
        let said = self.said.iter().filter_map(|message| match message {
            Message::Vote(vote) => Some(vote.ballot),
            _ => None,
        });
        let said: Vec<_> = said.collect();
        match said.choose(&mut self.rng) {
            Some(ballot) if self.rng.random_range(0..8) > 0 => *ballot,
            _ => {
                let kinds = [VoteKind::Notarize, VoteKind::Nullify, VoteKind::Finalize];
                let kind = kinds[self.rng.random_range(0..3)];
                let any = self.blocks.choose(&mut self.rng).map_or(Hash([1; 32]), Block::hash);
                let block_hash = if kind == VoteKind::Nullify { Hash::ZERO } else { any };
                Ballot { kind, height: 1, view, block_hash }
            }
        }
    }

    fn lying_proposal(&mut self, view: u64) -> Proposal {
        let again = self.blocks.choose(&mut self.rng).cloned();
        let (block, parent_view) = match again {
            Some(block) if view > 1 && self.rng.random_range(0..2) == 0 => {
                (block, self.rng.random_range(1..view))
            }
            _ => (block(view, ['A', 'B', 'C'][self.rng.random_range(0..3)]), 0),
        };
        if !self.blocks.contains(&block) {
            self.blocks.push(block.clone());
        }
        Proposal::sign(block, view, parent_view, &CHAIN, &key(self.liar))
    }
}

#[test]
fn no_schedule_and_no_lie_divides_the_honest() {
    let mut decided: BTreeMap<Option<u64>, u32> = BTreeMap::new();
    for seed in 0..400 {
        *decided.entry(Walk::new(seed).run()).or_default() += 1;
    }
    let undecided = decided.remove(&None).unwrap_or(0);
    let later: u32 = decided.iter().filter(|(view, _)| **view > Some(1)).map(|(_, n)| n).sum();
    assert!(undecided < 200 && later > 60, "undecided {undecided}, by view {decided:?}");
}
