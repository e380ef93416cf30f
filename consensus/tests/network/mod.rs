//! A network of real cores in virtual time. `cut`, `isolate`, `drop` and `recover` what you like;
//! every step checks what must always hold.

// Each test binary uses its own part of it.
#![allow(dead_code, unreachable_pub)]

mod gossip;
mod ledger;
mod liar;
pub mod node;
pub mod progress;
mod step;
mod witness;

use std::collections::{BTreeMap, BTreeSet};

use customhouse_consensus::{Committed, Config, Core, Entry, Input, Message, PeerTag, Timing};
use customhouse_ledger::{
    finality::validators::ValidatorSet,
    hash::{Hash, Tag},
    registry::parameters::Parameters,
};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use ledger::{CHAIN, GENESIS_TIME_MS, Ledger};
use liar::Liar;
pub use liar::Lies;
pub use node::{CrashPoint, Node, agency, key, set_of};
use witness::Witness;

pub const TIMING: Timing =
    Timing { view_ms: 200, view_ms_max: 5_000, repropose_ms: 20, resend_ms: 100, tip_ms: 500 };

/// How messages fare.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub delay_ms_max: u64,
    /// In a thousand.
    pub loss: u32,
    pub duplication: u32,
}

pub const CALM: Weather = Weather { delay_ms_max: 1, loss: 0, duplication: 0 };

/// How a core is made: where a mutant is planted.
pub type MakeCore = fn(Config, Committed, Vec<Entry>) -> Core;

enum Event {
    Message { from: usize, to: usize, bytes: Vec<u8> },
    Input { node: usize, life: u64, input: Box<Input> },
}

pub struct Network {
    pub seed: u64,
    pub rng: ChaCha8Rng,
    pub now: u64,
    pub weather: Weather,
    pub nodes: Vec<Node>,
    pub liar: Option<Liar>,
    pub witness: Witness,
    events: BTreeMap<(u64, u64), Event>,
    event_count: u64,
    cut: BTreeSet<(usize, usize)>,
    submitted: u64,
    make: MakeCore,
    gossips: bool,
    /// Whose keys the nodes after the validators have too, in this order.
    twins: Vec<usize>,
}

impl Network {
    pub fn new(n: usize, seed: u64, weather: Weather) -> Self {
        Self::with_parameters(n, seed, weather, Parameters::default())
    }

    pub fn with_parameters(n: usize, seed: u64, weather: Weather, parameters: Parameters) -> Self {
        Self::made_of(Core::new, n, seed, weather, parameters)
    }

    pub fn made_of(
        make: MakeCore,
        n: usize,
        seed: u64,
        weather: Weather,
        parameters: Parameters,
    ) -> Self {
        Self::with_followers(make, (n, 0), seed, weather, parameters)
    }

    /// `n` validators and `followers` more nodes that follow, each with a key that may be given a
    /// vote.
    pub fn with_followers(
        make: MakeCore,
        (n, followers): (usize, usize),
        seed: u64,
        weather: Weather,
        parameters: Parameters,
    ) -> Self {
        let set = set_of((0..n).map(|i| (i, key(i))));
        let node = |i| Node::new(key(i), Ledger::new(set.clone(), parameters));
        let nodes = (0..n + followers).map(node);
        let mut network = Self {
            seed,
            rng: ChaCha8Rng::seed_from_u64(seed),
            now: 0,
            weather,
            nodes: nodes.collect(),
            liar: None,
            witness: Witness::new(seed),
            events: BTreeMap::new(),
            event_count: 0,
            cut: BTreeSet::new(),
            submitted: 0,
            make,
            gossips: false,
            twins: Vec::new(),
        };
        for node in 0..n + followers {
            network.recover(node);
        }
        network
    }

    /// From this height on these validators decide.
    pub fn change(&mut self, height: u64, validators: &ValidatorSet) {
        for node in &mut self.nodes {
            node.ledger.change(height, validators.clone());
        }
    }

    /// Four validators, one of whose keys runs in a fifth node too, each unmodified. What that key
    /// does in both is nobody's fault but its own.
    pub fn with_twin(twin: usize, weather: Weather) -> Self {
        Self::with_twins(4, &[twin], 0, weather)
    }

    /// `n` validators, and for each of `twins` a second node with its key.
    pub fn with_twins(n: usize, twins: &[usize], seed: u64, weather: Weather) -> Self {
        let mut network = Self::new(n, seed, weather);
        network.twins = twins.to_vec();
        for (index, &twin) in (n..).zip(twins) {
            let of = &network.nodes[twin];
            let second = Node::new(of.key.clone(), of.ledger.clone());
            network.witness.forgive(second.key.public());
            network.nodes.push(second);
            network.recover(index);
        }
        network
    }

    // ------------------------------------------------------------ what a test does

    /// Nothing passes between these two any more.
    pub fn cut(&mut self, a: usize, b: usize) {
        self.cut.insert((a, b));
        self.cut.insert((b, a));
    }

    /// Nothing passes between this one and all others.
    pub fn isolate(&mut self, node: usize) {
        for other in (0..self.nodes.len()).filter(|&other| other != node) {
            self.cut(node, other);
        }
    }

    /// Every link works again.
    pub fn join_all(&mut self) {
        self.cut.clear();
    }

    /// Every link works again; peers connect anew.
    pub fn heal(&mut self) {
        self.join_all();
        for node in 0..self.nodes.len() {
            for peer in (0..self.nodes.len()).filter(|&peer| peer != node) {
                self.later(0, node, Input::Connected(PeerTag(peer as u64)));
            }
        }
    }

    /// Kills a node in its next step.
    pub fn crash(&mut self, node: usize, point: CrashPoint) {
        self.nodes[node].crash_at = Some(point);
    }

    /// Kills a node now.
    pub fn kill(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.core = None;
        node.life += 1;
        node.wake_at = None;
        node.sync = None;
        node.crash_at = None;
    }

    /// Starts a node from its journal and its ledger.
    pub fn recover(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.crash_at = None;
        if node.core.is_some() {
            return;
        }
        node.change_key();
        let config = Config { chain_id: CHAIN, signer: Some(node.key.clone()), timing: TIMING };
        let core = (self.make)(config, node.ledger.committed(), node.journal.read());
        node.core = Some(core);
        let pending = !node.ledger.pending.is_empty();
        self.step(index, Input::Tick);
        self.step(index, Input::Work { pending });
    }

    /// A node tells another what it holds of that one's key.
    pub fn tell(&mut self, by: usize, node: usize) {
        let Some(teller) = &self.nodes[by].core else { return };
        let held = teller.signed_by(&self.nodes[node].key.public(), self.height_of(node) + 1);
        let (from, agency) = (PeerTag(by as u64), agency(by));
        let tip_height = self.height_of(by);
        self.step(node, Input::Signatures { from, agency, tip_height, held });
    }

    /// This node's key falls into bad hands.
    pub fn corrupt(&mut self, index: usize, lies: Lies) {
        self.kill(index);
        self.liar = Some(Liar::new(index, self.nodes[index].key.clone(), lies));
    }

    /// Starts nodes until at most `down_max` are down, and takes back crashes to come.
    pub fn revive(&mut self, down_max: usize) {
        for node in &mut self.nodes {
            node.crash_at = None;
        }
        let down: Vec<_> =
            self.honest().filter(|(_, n)| n.core.is_none()).map(|(i, _)| i).collect();
        for &index in down.iter().skip(down_max) {
            self.recover(index);
        }
    }

    /// Gossips a new transaction to all nodes, up or down.
    pub fn submit(&mut self) -> Hash {
        self.submit_to(0..self.nodes.len())
    }

    /// Gives a new transaction to these nodes, up or down.
    pub fn submit_to(&mut self, nodes: impl IntoIterator<Item = usize>) -> Hash {
        self.submitted += 1;
        let leaf = Tag::TRANSACTION.hash(&[&self.submitted.to_be_bytes()]);
        for index in nodes {
            self.nodes[index].ledger.pending.insert(leaf);
            let delay = self.delay();
            self.later(delay, index, Input::Work { pending: true });
        }
        leaf
    }

    /// Runs until the condition holds; panics with the seed after `limit_ms` of virtual time.
    pub fn run_until(&mut self, what: &str, limit_ms: u64, done: impl Fn(&Self) -> bool) {
        let deadline = self.now + limit_ms;
        let mut steps = 0u32;
        while !done(self) {
            steps += 1;
            assert!(steps < 300_000, "seed {}: busy without end: {what}", self.seed);
            let next = self.next_event();
            assert!(
                next.is_some_and(|at| at <= deadline),
                "seed {}: not within {limit_ms} ms: {what}\n{}",
                self.seed,
                self.describe()
            );
            self.advance();
        }
    }

    /// Runs for `ms` of virtual time.
    pub fn run_for(&mut self, ms: u64) {
        let until = self.now + ms;
        while self.next_event().is_some_and(|at| at <= until) {
            self.advance();
        }
        self.now = until;
    }

    pub fn honest(&self) -> impl Iterator<Item = (usize, &Node)> {
        let liar = self.liar.as_ref().map(|liar| liar.index);
        let first_twin = self.nodes.len() - self.twins.len();
        let is_honest = move |i| Some(i) != liar && i < first_twin && !self.twins.contains(&i);
        self.nodes.iter().enumerate().filter(move |(i, _)| is_honest(*i))
    }

    pub fn all_committed(&self, leaf: &Hash) -> bool {
        self.honest().all(|(_, node)| node.ledger.has_committed(leaf))
    }

    pub fn height_of(&self, node: usize) -> u64 {
        self.nodes[node].ledger.tip().height
    }

    fn describe(&self) -> String {
        let line = |(i, node): (usize, &Node)| {
            let view = node.core.as_ref().map(|core| (core.height(), core.view()));
            format!("node {i}: tip {}, at {view:?}\n", node.ledger.tip().height)
        };
        self.honest().map(line).collect()
    }

    // ------------------------------------------------------------ time

    fn next_event(&self) -> Option<u64> {
        let wakes = self.nodes.iter().filter_map(|node| node.wake_at);
        let events = self.events.keys().next().map(|&(at, _)| at);
        wakes.chain(events).min().map(|at| at.max(self.now))
    }

    fn advance(&mut self) {
        let Some(at) = self.next_event() else { return };
        self.now = at;
        if let Some(entry) = self.events.first_entry()
            && entry.key().0 <= at
        {
            return match entry.remove() {
                Event::Message { from, to, bytes } => self.deliver(from, to, &bytes),
                Event::Input { node, life, input } => {
                    if self.nodes[node].life == life {
                        self.step(node, *input);
                    }
                }
            };
        }
        let due = self.nodes.iter().position(|node| node.wake_at.is_some_and(|wake| wake <= at));
        if let Some(node) = due {
            self.nodes[node].wake_at = None;
            self.step(node, Input::Tick);
        }
    }

    fn push(&mut self, delay: u64, event: Event) {
        self.event_count += 1;
        self.events.insert((self.now + delay, self.event_count), event);
    }

    fn later(&mut self, delay: u64, node: usize, input: Input) {
        let life = self.nodes[node].life;
        self.push(delay, Event::Input { node, life, input: Box::new(input) });
    }

    fn delay(&mut self) -> u64 {
        self.rng.random_range(1..=self.weather.delay_ms_max)
    }

    fn chance(&mut self, in_a_thousand: u32) -> bool {
        self.rng.next_u32() % 1000 < in_a_thousand
    }

    // ------------------------------------------------------------ messages

    pub fn send(&mut self, from: usize, to: usize, message: &Message) {
        if self.cut.contains(&(from, to)) || self.chance(self.weather.loss) {
            return;
        }
        let copies = if self.chance(self.weather.duplication) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = self.delay();
            self.push(delay, Event::Message { from, to, bytes: message.encode() });
        }
    }

    fn deliver(&mut self, from: usize, to: usize, bytes: &[u8]) {
        let message = Message::decode(bytes).expect("as encoded");
        if let Some(mut liar) = self.liar.take_if(|liar| liar.index == to) {
            for (to, message) in liar.hear(&message, &self.nodes, &mut self.rng) {
                self.send(liar.index, to, &message);
            }
            self.liar = Some(liar);
            return;
        }
        self.step(to, Input::Message { from: PeerTag(from as u64), message });
    }
}
