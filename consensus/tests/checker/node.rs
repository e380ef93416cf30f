//! One node: a real core, stepped once for each of its states and each thing that may happen.

use std::{cell::RefCell, collections::HashMap, convert::Infallible};

use customhouse_consensus::{
    Action, BlockVerdict, Committed, Config, Core, Entry, Input, Journal, Message, Now, Signatures,
    Timing,
};
use customhouse_ledger::{
    finality::{
        certificate::Certificate,
        vote::{Ballot, Vote, VoteKind},
    },
    hash::Hash,
};

use super::{
    catalogue::{Catalogue, Facts},
    inputs::{Happening, Possible, Teller},
};
use crate::bench::{self, CHAIN, PEER, TIMING, UNIX_MS, after, agency, genesis, key, validators};

/// How a core is made: where a mutant is planted.
pub type MakeCore = fn(Config, Committed, Vec<Entry>) -> Core;

/// All of a node that can be seen, and all that its future depends on. Left out: the clock (a timer
/// that has fired has done what it can), votes of a ballot that is certified here, and votes and
/// proposals that have changed nothing yet, for those are held back until they do (see
/// [`super::search`]).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    pub view: u64,
    /// Signed and sent, over all lives.
    pub said: Facts,
    /// Certificates held.
    held: Facts,
    /// Votes and proposals in the journal; certificates in it.
    journal: (Facts, Facts),
    pub stopped: bool,
    pub committed: Option<(u64, usize)>,
    pub loss: Option<Loss>,
}

/// What has become of a node since it lost its journal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Loss {
    /// What it had signed and sent until then.
    pub before: Facts,
    /// What it has signed and sent since: it remembers that.
    pub since: Facts,
    /// Whether it waits for what others tell. Who has told, where they were not enough, is left out: they
    /// tell again together with those that make them enough.
    unasked: bool,
}

/// A node in one of its states.
#[derive(Clone)]
pub struct Node {
    key: usize,
    core: Core,
    entries: Vec<Entry>,
    now: Now,
    pub seen: Seen,
}

impl Journal for Node {
    type Error = Infallible;

    fn append(&mut self, entries: &[Entry]) -> Result<(), Self::Error> {
        self.entries.extend_from_slice(entries);
        Ok(())
    }
}

/// What the nodes of a model share.
pub struct Rig {
    pub catalogue: Catalogue,
    pub make: MakeCore,
    pub faulty: usize,
    pub views: u64,
    /// Whether nodes may restart: without that, what the journal holds decides nothing.
    pub restarts: bool,
    /// What was told of each key, by whom, and after what this key had said: it is asked often.
    pub told: RefCell<HashMap<(usize, usize, Teller, Facts), Input>>,
}

impl Node {
    /// Just started. `second`: the twin that proposes the other block.
    pub fn new(rig: &Rig, key_index: usize, second: bool) -> Result<Self, String> {
        let (journal, committed, loss) = ((0, 0), None, None);
        let seen = Seen { view: 1, said: 0, held: 0, journal, stopped: false, committed, loss };
        let now = Now { monotonic_ms: 0, unix_ms: UNIX_MS };
        let core = new_core(rig, key_index, Vec::new());
        let mut node = Self { key: key_index, core, entries: Vec::new(), now, seen };
        node.step(rig, Input::Work { pending: true }, second)?;
        node.look(rig)?;
        Ok(node)
    }

    /// What becomes of it.
    ///
    /// # Errors
    /// It does what no node may do.
    pub fn after(
        &self,
        rig: &Rig,
        possible: &Possible,
        said: &[Facts; 4],
        second: bool,
    ) -> Result<Self, String> {
        let mut node = self.clone();
        match possible.what {
            Happening::Timer => {
                node.now.monotonic_ms += 2;
                node.step(rig, Input::Tick, second)?;
            }
            Happening::Restart => {
                node.core = new_core(rig, node.key, node.entries.clone());
                if let Some(loss) = &mut node.seen.loss {
                    node.core = node.core.unasked();
                    loss.unasked = true;
                }
                node.step(rig, Input::Work { pending: true }, second)?;
            }
            Happening::Loss(_) => node.lose(rig, second)?,
            Happening::Told(tellers) => {
                let tellers = tellers.iter().enumerate();
                for (by, teller) in tellers.filter_map(|(by, teller)| Some((by, (*teller)?))) {
                    let told = node.told(rig, by, teller);
                    node.step(rig, told, second)?;
                }
                if node.core.is_unasked() && !node.seen.stopped {
                    return Ok(self.clone());
                }
            }
            _ => {
                for message in node.messages(rig, possible, said) {
                    node.step(rig, Input::Message { from: PEER, message }, second)?;
                }
            }
        }
        node.look(rig)?;
        Ok(node)
    }

    /// Whether it takes no notice of what happens: a journal is lost once, and others tell while the key
    /// waits for that.
    pub fn is_deaf_to(&self, possible: &Possible) -> bool {
        let loss = self.seen.loss.as_ref();
        match possible.what {
            Happening::Loss(_) => loss.is_some(),
            Happening::Told(_) => loss.is_none_or(|loss| !loss.unasked),
            _ => false,
        }
    }

    /// Starts from nothing. It will be told what others hold of its key.
    fn lose(&mut self, rig: &Rig, second: bool) -> Result<(), String> {
        self.entries.clear();
        self.core = new_core(rig, self.key, Vec::new()).unasked();
        self.seen.loss = Some(Loss { before: self.seen.said, since: 0, unasked: true });
        self.step(rig, Input::Work { pending: true }, second)
    }

    /// One of the others tells what it holds of this node's key: what a real core says that has heard all
    /// that this node has said, unless it lies.
    fn told(&self, rig: &Rig, by: usize, teller: Teller) -> Input {
        let asked = (self.key, by, teller, self.seen.said);
        let mut told = rig.told.borrow_mut();
        told.entry(asked).or_insert_with(|| self.tell(rig, by, teller)).clone()
    }

    fn tell(&self, rig: &Rig, by: usize, teller: Teller) -> Input {
        let own = key(self.key).public();
        let (tip_height, held) = match teller {
            Teller::Honest => {
                let mut teller = new_core(rig, by, Vec::new());
                let all = 0..rig.catalogue.facts.len();
                for number in all.filter(|number| self.seen.said >> number & 1 == 1) {
                    let message = rig.catalogue.signed(number, self.key);
                    let _ = teller.step(self.now, Input::Message { from: PEER, message });
                }
                (0, teller.signed_by(&own, 1))
            }
            Teller::Committed => {
                let block = &rig.catalogue.blocks[0];
                let finalization = bench::certificate(VoteKind::Finalize, &[0, 1, 2], 1, block);
                let teller = Core::new(config(by), after(block, finalization), Vec::new());
                (1, teller.signed_by(&own, 1))
            }
            Teller::Nothing => (0, Signatures::default()),
            Teller::Far => (u64::MAX, Signatures::default()),
            Teller::Forged => {
                let block_hash = Hash::ZERO;
                let ballot = Ballot { kind: VoteKind::Nullify, height: 1, view: 1, block_hash };
                let vote = Vote { validator: own, ..Vote::sign(ballot, &CHAIN, &key(by)) };
                (0, Signatures { votes: vec![vote], claims: Vec::new() })
            }
        };
        Input::Signatures { from: PEER, agency: agency(by), tip_height, held }
    }

    /// The messages of a happening.
    fn messages(&self, rig: &Rig, possible: &Possible, said: &[Facts; 4]) -> Vec<Message> {
        let Some(fact) = possible.fact else { return Vec::new() };
        let number = possible.bit.trailing_zeros() as usize;
        let signed = |by: usize| rig.catalogue.signed(number, by);
        match possible.what {
            Happening::Proposal => vec![signed(super::inputs::leader_of_fact(fact))],
            Happening::Forgery => {
                let others: Vec<_> = (0..4).filter(|by| *by != self.key).collect();
                let votes = others.iter().map(|&by| {
                    // The faulty key's own signature in everybody's name.
                    let Message::Vote(vote) = signed(rig.faulty) else { unreachable!("a ballot") };
                    customhouse_ledger::finality::vote::Vote { validator: key(by).public(), ..vote }
                });
                certificate(&votes.map(Message::Vote).collect::<Vec<_>>())
            }
            Happening::Certificate => {
                let votes: Vec<_> =
                    possible.signers(self.key, said).into_iter().map(signed).collect();
                certificate(&votes)
            }
            _ => possible.signers(self.key, said).into_iter().map(signed).collect(),
        }
    }

    fn step(&mut self, rig: &Rig, input: Input, second: bool) -> Result<(), String> {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let ready = self.core.step(self.now, input);
            let Ok(effects) = ready.persist(self);
            for outgoing in &effects.messages {
                let own = self.own(rig, &outgoing.message);
                self.seen.said |= own;
                self.seen.loss.iter_mut().for_each(|loss| loss.since |= own);
            }
            for action in effects.actions {
                inputs.extend(self.carry_out(rig, action, second)?);
            }
        }
        Ok(())
    }

    /// The fact that it has signed, if it has signed this message.
    fn own(&self, rig: &Rig, message: &Message) -> Facts {
        let me = key(self.key).public();
        match message {
            Message::Vote(vote) if vote.validator == me => rig.catalogue.of_ballot(&vote.ballot),
            Message::Proposal(proposal) if proposal.leader == me => {
                rig.catalogue.of_proposal(proposal)
            }
            _ => 0,
        }
    }

    fn carry_out(
        &mut self,
        rig: &Rig,
        action: Action,
        second: bool,
    ) -> Result<Option<Input>, String> {
        let blocks = &rig.catalogue.blocks;
        Ok(match action {
            Action::Build(build) => {
                let mut of_view = blocks.iter().filter(|block| block.header.view == build.view);
                let block = of_view.nth(usize::from(second)).cloned();
                block.map(|block| Input::Built { view: build.view, block })
            }
            Action::Validate(validate) => {
                let (height, block_hash) = (1, validate.block.hash());
                let verdict = BlockVerdict::Valid;
                Some(Input::Validated { height, view: validate.view, block_hash, verdict })
            }
            Action::FetchBlock { block_hash, .. } => {
                let block = rig.catalogue.number(&block_hash).map(|at| blocks[at].clone());
                block.map(|block| Input::Fetched { block })
            }
            Action::Commit { finalization, .. } => {
                let ballot = finalization.ballot;
                let block = rig.catalogue.number(&ballot.block_hash).ok_or("an unknown block")?;
                self.seen.committed = Some((ballot.view, block));
                None
            }
            // That it names nobody honest follows: both signatures are real, and no honest key
            // signs such a pair, which is checked by itself.
            Action::Evidence(evidence) if !evidence.proves(&CHAIN) => {
                return Err(format!("evidence that proves nothing: {evidence:?}"));
            }
            Action::Halt { reason } => return Err(format!("it halts: {reason}")),
            Action::StoppedSigning { reason }
                if self.key != rig.faulty && !self.has_forgotten() =>
            {
                return Err(format!("an honest node stops signing: {reason}"));
            }
            Action::StoppedSigning { .. } => {
                self.seen.stopped = true;
                None
            }
            _ => None,
        })
    }

    /// Whether it has signed something that it does not know of.
    fn has_forgotten(&self) -> bool {
        self.seen.loss.as_ref().is_some_and(|loss| loss.before & !loss.since != 0)
    }

    /// Whether nothing that happens to it matters any more.
    pub fn is_done(&self) -> bool {
        self.seen.committed.is_some() || (self.seen.loss.is_some() && self.seen.stopped)
    }

    /// Sees what has become of it.
    fn look(&mut self, rig: &Rig) -> Result<(), String> {
        let catalogue = &rig.catalogue;
        if let Some(fact) = catalogue.contradiction(self.seen.said) {
            return Err(format!("key {} signs {fact:?} and what contradicts it", self.key));
        }
        let seen = &mut self.seen;
        if seen.committed.is_some() {
            // It does nothing more; only what it has said matters to others.
            *seen = Seen { view: 0, held: 0, journal: (0, 0), ..seen.clone() };
            return Ok(());
        }
        if let Some(loss) = &mut seen.loss {
            loss.unasked = self.core.is_unasked();
            if seen.stopped {
                // It says nothing more, and what it could commit the others can too.
                *loss = Loss { before: 0, since: 0, unasked: false };
                *seen = Seen { view: 0, held: 0, journal: (0, 0), ..seen.clone() };
                return Ok(());
            }
        }
        seen.view = self.core.view();
        let held = (1..=rig.views).flat_map(|view| self.core.certificates(1, view));
        seen.held = held.fold(0, |set, held| set | catalogue.of_ballot(&held.ballot));
        seen.journal = (0, 0);
        for entry in self.entries.iter().filter(|_| rig.restarts) {
            match entry {
                Entry::Vote(vote) => seen.journal.0 |= catalogue.of_ballot(&vote.ballot),
                Entry::Proposal(proposal) => seen.journal.0 |= catalogue.of_proposal(proposal),
                Entry::Certificate(held) => seen.journal.1 |= catalogue.of_ballot(&held.ballot),
                Entry::Watermark(_) => {}
            }
        }
        Ok(())
    }
}

fn new_core(rig: &Rig, index: usize, entries: Vec<Entry>) -> Core {
    (rig.make)(config(index), genesis(), entries)
}

fn config(index: usize) -> Config {
    // A timer fires when the clock goes on at all.
    let timing = Timing { view_ms: 1, view_ms_max: 1, repropose_ms: 0, ..TIMING };
    Config { chain_id: CHAIN, signer: Some(key(index)), timing }
}

fn certificate(votes: &[Message]) -> Vec<Message> {
    let votes: Vec<_> = votes
        .iter()
        .filter_map(|message| match message {
            Message::Vote(vote) => Some(*vote),
            _ => None,
        })
        .collect();
    let nothing = Ballot { kind: VoteKind::Nullify, height: 1, view: 1, block_hash: Hash::ZERO };
    let ballot = votes.first().map_or(nothing, |vote| vote.ballot);
    let made = Certificate::from_votes(ballot, &votes, &validators(4));
    made.map(Message::Certificate).into_iter().collect()
}
