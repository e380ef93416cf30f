//! A breadth-first search of all that real cores can come to at one height, up to a bound of views.
//!
//! A state is what each node has come to; what may be delivered follows from it, since whatever was
//! said may reach anyone at any moment, any number of times, or never. A core is deterministic, so
//! it is stepped once for each of *its* states and each thing that may happen to it; the search
//! itself combines numbers. What makes it small enough, and why nothing is lost by it:
//!
//! - *Postponing.* A vote, proposal or certificate that changes nothing that can be seen is not
//!   delivered yet, but later, together with what makes it matter: so votes come in groups of up to
//!   three. No rule asks that something be *not* known, so what a node does with things it has had
//!   for long it also does with things that came just now; and the first vote of a kind stands, so
//!   having had less leaves more open.
//! - *Silence.* What a node takes in without saying anything concerns nobody else, and stays possible,
//!   since what was said stays said. So it happens right before the next thing that the node says;
//!   committing, which is silent for good, is looked at in every state and then taken back.
//! - *Whose votes.* Which of several quorums certified a ballot is forgotten: it only matters for
//!   whom to fetch from and whom else to accuse.
//! - *Atomic shells.* Blocks are built, validated and fetched at once. A later answer is like a
//!   later message.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
    time::Instant,
};

use super::{
    catalogue::{Catalogue, Facts, leader_of},
    inputs::{self, Possible},
    node::{MakeCore, Node, Rig, Seen},
};

/// Who takes part, and how far the search goes.
#[derive(Clone, Copy)]
pub struct Model {
    /// Views whose messages are delivered.
    pub views: u64,
    /// The faulty key. Its index decides which views it leads.
    pub faulty: usize,
    /// True: it runs unmodified in two places. False: it signs anything, to anyone.
    pub twins: bool,
    /// Whether nodes may crash and start again, at any moment and any number of times.
    pub restarts: bool,
    /// Whether certificates with made-up signatures are tried wherever they could matter.
    pub forgeries: bool,
    /// The honest key whose node loses its journal once, at any moment, and is told what the others hold
    /// of it. By then all that it said has come to the others: putting a machine back takes longer. What
    /// has come to nobody who answers cannot be known, and is no part of the model.
    pub loser: Option<usize>,
    pub make: MakeCore,
    /// States after which the search gives up.
    pub states_max: usize,
}

/// What was searched.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub states: usize,
    pub transitions: u64,
    pub depth: usize,
    /// States of single nodes, all nodes together.
    pub locals: usize,
    /// Steps of real cores, and those that changed something.
    pub core_steps: u64,
    /// States in which somebody can commit what was finalized in this view.
    pub decidable_in: [usize; 8],
    pub seconds: f64,
    /// Whether every state within the bound was visited.
    pub complete: bool,
    /// States of a node that has lost its journal: those in which its key was stopped for what others
    /// told, and those in which it has signed something since.
    pub after_loss: (usize, usize),
}

/// What must not be, and how it came to be.
#[derive(Debug)]
pub struct Violation {
    pub what: String,
    pub trace: Vec<String>,
    pub states: usize,
}

/// States of all nodes, by number, 25 bits each.
type State = u128;
const BITS: usize = 25;

/// One node: its states, and what leads from one to the next.
struct Actor {
    key: usize,
    second: bool,
    nodes: Vec<Node>,
    numbers: HashMap<Seen, u32>,
    said: Vec<Facts>,
    committed: Vec<Option<(u64, usize)>>,
    /// Of each state: what leads on, to which.
    edges: Vec<Vec<(u16, u32)>>,
    /// Of each state: what was not tried yet, because it was never possible.
    untried: Vec<Vec<u16>>,
}

impl Actor {
    fn new(rig: &Rig, key: usize, second: bool, all: &[u16]) -> Result<Self, String> {
        let mut actor = Self {
            key,
            second,
            nodes: Vec::new(),
            numbers: HashMap::new(),
            said: Vec::new(),
            committed: Vec::new(),
            edges: Vec::new(),
            untried: Vec::new(),
        };
        actor.number(Node::new(rig, key, second)?, all);
        Ok(actor)
    }

    fn number(&mut self, node: Node, all: &[u16]) -> u32 {
        let next = u32::try_from(self.said.len()).expect("fewer states than 2^25");
        assert!(next < 1 << BITS, "too many states of one node");
        let number = *self.numbers.entry(node.seen.clone()).or_insert(next);
        if number == next {
            self.said.push(node.seen.said);
            self.committed.push(node.seen.committed);
            self.untried.push(if node.is_done() { Vec::new() } else { all.to_vec() });
            self.edges.push(Vec::new());
            self.nodes.push(node);
        }
        number
    }
}

struct Search {
    rig: Rig,
    model: Model,
    possible: Vec<Possible>,
    all: Vec<u16>,
    actors: Vec<Actor>,
    core_steps: u64,
}

/// Visits every state.
///
/// # Errors
/// A state that must not be.
pub fn run(model: Model) -> Result<Report, Violation> {
    let started = Instant::now();
    let mut search =
        Search::new(model).map_err(|what| Violation { what, trace: Vec::new(), states: 0 })?;
    let mut report = Report { complete: true, ..Report::default() };
    let mut visited: HashSet<State, BuildHasherDefault<Mixer>> = HashSet::default();
    let mut levels = vec![vec![INITIAL]];
    visited.insert(INITIAL);
    let mut found = Vec::new();
    while let Some(level) = levels.last() {
        let mut next = Vec::new();
        for &state in level {
            found.clear();
            match search.expand(state, &mut found) {
                Ok(decisions) => report.note(&decisions),
                Err((how, what)) => {
                    let trace = search.trace(&levels, state, how);
                    return Err(Violation { what, trace, states: visited.len() });
                }
            }
            report.transitions += found.len() as u64;
            next.extend(found.iter().map(|(_, state)| *state).filter(|s| visited.insert(*s)));
        }
        report.depth = levels.len();
        report.complete = visited.len() <= model.states_max;
        if next.is_empty() || !report.complete {
            break;
        }
        levels.push(next);
    }
    report.states = visited.len();
    report.locals = search.actors.iter().map(|actor| actor.said.len()).sum();
    report.core_steps = search.core_steps;
    report.after_loss = search.after_loss();
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

impl Report {
    fn note(&mut self, decisions: &[(u64, usize)]) {
        for (view, count) in self.decidable_in.iter_mut().enumerate() {
            *count += usize::from(decisions.iter().any(|(of, _)| *of == view as u64));
        }
    }
}

/// Every node's state 0.
const INITIAL: State = 0;

/// A state of a node that it came to silently: its number, the place of the one before it in the
/// list, and what happened.
type Silent = (usize, usize, u16);

/// What happens to which node, after some silent steps to this state of it.
#[derive(Clone, Copy, Debug)]
struct Move {
    actor: usize,
    from: usize,
    input: Option<u16>,
}

impl Search {
    fn new(model: Model) -> Result<Self, String> {
        let catalogue = Catalogue::new(model.views, model.faulty);
        let possible = inputs::all(&catalogue, &model);
        let all: Vec<u16> = (0..possible.len() as u16).collect();
        let Model { make, faulty, views, restarts, .. } = model;
        let told = RefCell::default();
        let rig = Rig { catalogue, make, faulty, views, restarts, told };
        let mut nodes: Vec<_> = (0..4).filter(|&key| key != faulty).map(|k| (k, false)).collect();
        if model.twins {
            nodes.extend([(faulty, false), (faulty, true)]);
        }
        let actors = nodes.into_iter().map(|(key, second)| Actor::new(&rig, key, second, &all));
        let actors = actors.collect::<Result<_, _>>()?;
        Ok(Self { rig, model, possible, all, actors, core_steps: 0 })
    }

    fn of(state: State, actor: usize) -> usize {
        (state >> (actor * BITS)) as usize & ((1 << BITS) - 1)
    }

    fn with(state: State, actor: usize, local: u32) -> State {
        let cleared = state & !(((1u128 << BITS) - 1) << (actor * BITS));
        cleared | u128::from(local) << (actor * BITS)
    }

    /// What each key has said to a node. A twin does not hear its other half.
    fn heard(&self, state: State, by: usize) -> [Facts; 4] {
        let mut said = [0; 4];
        for (index, actor) in self.actors.iter().enumerate() {
            if actor.key != self.actors[by].key || index == by {
                said[actor.key] |= actor.said[Self::of(state, index)];
            }
        }
        if !self.model.twins {
            said[self.model.faulty] = Facts::MAX;
        }
        said
    }

    fn after_loss(&self) -> (usize, usize) {
        let nodes = || self.actors.iter().flat_map(|actor| &actor.nodes);
        let lost = |node: &&Node| node.seen.loss.is_some();
        let stopped = nodes().filter(lost).filter(|node| node.seen.stopped).count();
        let signed = |node: &&Node| node.seen.loss.as_ref().is_some_and(|loss| loss.since != 0);
        (stopped, nodes().filter(signed).count())
    }

    /// All states that one move leads to, and what can be decided here: in which view, which block.
    fn expand(
        &mut self,
        state: State,
        found: &mut Vec<(Move, State)>,
    ) -> Result<Vec<(u64, usize)>, (Move, String)> {
        let mut decisions: Vec<(u64, usize)> = Vec::new();
        for actor in 0..self.actors.len() {
            let said = self.heard(state, actor);
            let silent = self.silently(state, actor, &said)?;
            let of = &self.actors[actor];
            for &(from, _, _) in &silent {
                if let Some(decision) = of.committed[from] {
                    if decisions.iter().any(|(_, block)| *block != decision.1) {
                        let what = format!("block {} and another one: {decisions:?}", decision.1);
                        return Err((Move { actor, from, input: None }, what));
                    }
                    decisions.push(decision);
                }
                for &(input, target) in &of.edges[from] {
                    if of.said[target as usize] != of.said[from]
                        && self.possible[usize::from(input)].is_enabled(of.key, &said)
                    {
                        let how = Move { actor, from, input: Some(input) };
                        found.push((how, Self::with(state, actor, target)));
                    }
                }
            }
        }
        Ok(decisions)
    }

    /// The states that a node comes to without saying anything, the present one first.
    fn silently(
        &mut self,
        state: State,
        actor: usize,
        said: &[Facts; 4],
    ) -> Result<Vec<Silent>, (Move, String)> {
        let mut silent = vec![(Self::of(state, actor), 0, 0)];
        let mut at = 0;
        while at < silent.len() {
            let from = silent[at].0;
            self.try_new(actor, from, said)?;
            let of = &self.actors[actor];
            for &(input, target) in &of.edges[from] {
                let target = target as usize;
                if of.said[target] == of.said[from]
                    && silent.iter().all(|(known, _, _)| *known != target)
                    && self.possible[usize::from(input)].is_enabled(of.key, said)
                {
                    silent.push((target, at, input));
                }
            }
            at += 1;
        }
        Ok(silent)
    }

    /// Steps the real core with everything that is possible for the first time in this state of it.
    fn try_new(
        &mut self,
        actor: usize,
        from: usize,
        said: &[Facts; 4],
    ) -> Result<(), (Move, String)> {
        let (rig, possible, all) = (&self.rig, &self.possible, &self.all);
        let of = &mut self.actors[actor];
        let mut position = 0;
        while position < of.untried[from].len() {
            let input = of.untried[from][position];
            let happening = &possible[usize::from(input)];
            if !happening.is_enabled(of.key, said) {
                position += 1;
                continue;
            }
            of.untried[from].swap_remove(position);
            if of.nodes[from].is_deaf_to(happening) {
                continue;
            }
            self.core_steps += 1;
            let after = of.nodes[from].after(rig, happening, said, of.second);
            let after = after.map_err(|what| (Move { actor, from, input: Some(input) }, what))?;
            if after.seen != of.nodes[from].seen {
                let target = of.number(after, all);
                of.edges[from].push((input, target));
            }
        }
        Ok(())
    }

    /// What led to a state and this last move, found by going back level by level.
    fn trace(&mut self, levels: &[Vec<State>], mut state: State, last: Move) -> Vec<String> {
        let mut trace = self.in_words(state, last);
        let at = levels.iter().position(|level| level.contains(&state)).unwrap_or(0);
        for level in levels[..at].iter().rev() {
            let mut found = Vec::new();
            for &before in level {
                found.clear();
                // The searched levels are expanded already and hold no violation.
                let _ = self.expand(before, &mut found);
                if let Some((how, _)) = found.iter().find(|(_, after)| *after == state) {
                    let words = self.in_words(before, *how);
                    trace.splice(0..0, words);
                    state = before;
                    break;
                }
            }
        }
        trace
    }

    /// A move in words, the silent steps before it included.
    fn in_words(&mut self, state: State, how: Move) -> Vec<String> {
        let said = self.heard(state, how.actor);
        // What is wrong is tried once, and not again.
        let silent = loop {
            if let Ok(silent) = self.silently(state, how.actor, &said) {
                break silent;
            }
        };
        let mut inputs: Vec<u16> = how.input.into_iter().collect();
        let mut at = silent.iter().position(|(local, _, _)| *local == how.from).unwrap_or(0);
        while at > 0 {
            inputs.push(silent[at].2);
            at = silent[at].1;
        }
        let actor = &self.actors[how.actor];
        let half = if actor.second { "'" } else { "" };
        let words = inputs.into_iter().rev().map(|input| {
            let Possible { what, fact, .. } = self.possible[usize::from(input)];
            let about = fact.map_or(String::new(), |fact| format!(" {fact:?}"));
            format!("node {}{half}: {what:?}{about}", actor.key)
        });
        words.collect()
    }
}

/// The keys that lead the views of a model, for the printed line.
pub fn leaders(views: u64) -> Vec<usize> {
    (1..=views).map(leader_of).collect()
}

/// A quick hash of a state's numbers. States are numbers that this program has given itself.
#[derive(Default)]
pub struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u128(u128::from(*byte));
        }
    }

    fn write_u128(&mut self, value: u128) {
        let mixed = (value as u64 ^ self.0).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let folded = mixed ^ (mixed >> 32) ^ (value >> 64) as u64;
        let again = folded.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        self.0 = again ^ (again >> 29);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
