//! What attackers cost the others, in throughput. A few clients of each other node submit one
//! transaction after another, each when the one before is final at its node, on a network that
//! loses nothing: whatever holds up a height, or one node, shows as less that is committed in the
//! same time.
//!
//! The same seed gives the same network and the same clients with and without the attack. What is
//! counted begins after one timeout of a view, which an attacker may cost.

use customhouse_consensus::Timing;
use rand::RngExt as _;

use super::{
    Failure, attacker::Attacker, event::Event, mutant::Mutant, run::Simulation, streams::Streams,
    summary::Summary, swarm::Swarm,
};

/// Clients of each node.
const CLIENTS: u64 = 3;
/// The longest that a client thinks before it submits again.
const THINK_MS: u64 = 300;
/// Transactions in a mempool: so few that one agency could fill it between two blocks.
pub(super) const MEMPOOL_MAX: usize = 200;
/// Nothing is counted until this long after the start: one timeout of a view, and what follows from it.
const BEGIN_MS: u64 = 4_000;

/// A network, and who attacks it.
#[derive(Clone, Copy, Debug)]
pub struct Contest {
    /// The seed of the network's delays, the clients' pauses and what the attackers draw.
    pub seed: u64,
    /// Validators.
    pub validators: usize,
    /// Attackers, at most f of them. With none of `attacker` their places are taken by nodes that
    /// do their part and have no clients: the control.
    pub attackers: usize,
    /// What they do.
    pub attacker: Option<Attacker>,
    /// A rule that the others' nodes break.
    pub mutant: Option<Mutant>,
    /// For how long it is counted, in virtual milliseconds.
    pub lasts_ms: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Score {
    /// Transactions of the others' clients that were final at their nodes in time.
    pub committed: u64,
    /// Heights decided in all.
    pub heights: u64,
    /// How often an honest node held something against another one.
    pub honest_blamed: u64,
    /// How often a node cut a peer off.
    pub cut_offs: u64,
    /// Most things that a node fetched at a time.
    pub fetches_max: u64,
    /// Most bytes of bodies that a node held for blocks that it gathered.
    pub held_max: u64,
    /// All that was seen.
    pub summary: Summary,
    /// Hash of all events in order.
    pub trace: u64,
}

impl Contest {
    /// One attacker of four, for half a minute.
    pub fn of(attacker: Attacker, seed: u64) -> Self {
        Self {
            seed,
            validators: 4,
            attackers: 1,
            attacker: Some(attacker),
            mutant: None,
            lasts_ms: 30_000,
        }
    }

    /// The same without the attack.
    pub fn control(self) -> Self {
        Self { attacker: None, mutant: None, ..self }
    }

    /// Plays it.
    ///
    /// # Errors
    /// What does not hold, whatever an attacker does: two blocks of one height, a conflict signed.
    pub fn run(self) -> Result<Score, Failure> {
        Simulation::for_contest(self).contest(self)
    }
}

impl Swarm {
    /// A network on which nothing breaks.
    fn of_contest(contest: Contest) -> Self {
        Self {
            validators: contest.validators,
            lies: Vec::new(),
            // Among countries. Near each other, so that the network is not slower by itself where a
            // quorum has to wait for one validator more.
            delay_min: 40,
            delay_max: 50,
            timing: Timing::default(),
            mempool_max: MEMPOOL_MAX,
            ..Self::calm()
        }
    }
}

impl Simulation {
    fn for_contest(contest: Contest) -> Self {
        let swarm = Swarm::of_contest(contest);
        let mut simulation = Self::with(swarm, Streams::new(contest.seed), contest.mutant);
        simulation.tolerates_blame = true;
        let first = contest.seed as usize % contest.validators;
        for place in (0..contest.attackers).map(|n| (first + n) % contest.validators) {
            match contest.attacker {
                Some(attacker) => simulation.place_attacker(place, attacker),
                None => _ = simulation.bystanders.insert(place),
            }
        }
        simulation
    }

    fn contest(mut self, contest: Contest) -> Result<Score, Failure> {
        let mut trace = std::hash::DefaultHasher::new();
        let fail = |simulation: &Self, what| Failure {
            seed: contest.seed,
            at_ms: simulation.now,
            what,
            swarm: format!("{contest:?}"),
        };
        match self.play_contest(contest, &mut trace) {
            Err(what) => Err(fail(&self, what)),
            Ok(()) => Ok(Score {
                committed: self.won,
                heights: self.oracle.height(),
                honest_blamed: self.summary.honest_blamed,
                cut_offs: self.summary.cut_offs,
                fetches_max: self.fetches_max,
                held_max: self.held_max,
                summary: self.summary,
                trace: std::hash::Hasher::finish(&trace),
            }),
        }
    }

    fn play_contest(
        &mut self,
        contest: Contest,
        trace: &mut std::hash::DefaultHasher,
    ) -> Result<(), String> {
        for index in 0..self.endpoints.len() {
            self.start(index)?;
        }
        self.begin_attacks();
        for at in self.honest().collect::<Vec<_>>() {
            for _ in 0..if self.bystanders.contains(&at) { 0 } else { CLIENTS } {
                let pause = self.streams.workload.random_range(1..=500);
                self.later(pause, Event::Client { at });
            }
        }
        let end_ms = BEGIN_MS + contest.lasts_ms;
        while let Some((at, event)) = self.next_event() {
            if at >= end_ms {
                return Ok(());
            }
            self.now = at;
            event.trace(at, trace);
            self.take(event)?;
        }
        Err("nothing is left to happen".to_owned())
    }

    /// A client submits. It does so again when this is final at its node, or could not be submitted.
    pub(super) fn client_submits(&mut self, at: usize) -> Result<(), String> {
        let encoded = self.transaction(at, 1);
        match self.accept(at, encoded)? {
            Some(id) => _ = self.waiting.insert(id, at),
            None => self.later(500, Event::Client { at }),
        }
        Ok(())
    }

    /// A transaction has become final at a node: perhaps one that a client of it waits for.
    pub(super) fn client_is_told(&mut self, at: usize, id: &customhouse_ledger::hash::Hash) {
        if self.waiting.get(id) != Some(&at) {
            return;
        }
        self.waiting.remove(id);
        if self.now >= BEGIN_MS {
            self.won += 1;
        }
        let pause = self.streams.workload.random_range(1..=THINK_MS);
        self.later(pause, Event::Client { at });
    }
}
