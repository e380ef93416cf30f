//! The seeded simulator: whole nodes — the real core, driver, ledger and mempool — on a simulated
//! network, disk and clock, in virtual time, under faults and lies.
//!
//! One seed decides everything: how many validators, what breaks and how often, what is sent when.
//! Streams of randomness are apart from each other, and the same seed gives the same run, event for
//! event ([`Outcome::trace`]).
//!
//! | module | subject |
//! |---|---|
//! | `streams`, `swarm` | the seed's streams; what a run is like |
//! | `identity`, `endpoint`, `disk`, `world` | agencies and their nodes; what survives a process |
//! | `run`, `event`, `steps` | the order of events, and what each does |
//! | `links`, `faults`, `liar` | what breaks, and who lies |
//! | `gossip` | what is passed on, and who is blamed for what is not |
//! | `attacker`, `attack`, `forgery`, `overlarge` | liars by name, each with one thing that it does on purpose |
//! | `contest` | what an attacker costs the others, in throughput |
//! | `changes` | who joins, leaves and exchanges keys |
//! | `agreements` | who agrees with whom, and what is lodged under that, sealed |
//! | `fetching`, `serving` | requests between nodes |
//! | `oracle`, `summary` | what must hold; what was seen |
//! | `mutant`, `planted` | rules broken on purpose |
//!
//! Asserted on every run: one block a height, with the same roots everywhere; no transaction twice;
//! nothing sent before its journal entry is durable; no honest key signs a conflict, across crashes
//! and restored stores, nor at a height at which it has no vote; no honest node holds a fault against
//! another; evidence proves what it says and names liars only; a signing key is stopped only where its
//! journal was put back; and once all faults have ended, within [`HEALING_MS_MAX`], every node has
//! committed everything that was ever acknowledged, and its receipts verify with the genesis alone.
//!
//! Gossip is passed on as a node judges it, batch by batch, and a peer that hands over what is rejected
//! is cut off when the real network would. A process that is killed in the middle of a write leaves
//! entries in its journal that can be read and are not durable; a power cut later takes them.
//!
//! Not simulated: libp2p, gRPC, the submissions' worker, the asynchronous fetcher (its reading and
//! checking of answers is the real one), RocksDB. Those are tested as real processes
//! (`tests/cluster`).

mod agreements;
mod attack;
mod attacker;
mod changes;
mod contest;
mod disk;
mod endpoint;
mod event;
mod faults;
mod fetching;
mod forgery;
mod gossip;
mod identity;
mod liar;
mod links;
mod mutant;
mod oracle;
mod overlarge;
mod planted;
mod run;
mod serving;
mod steps;
mod streams;
mod summary;
mod swarm;
mod world;

use std::fmt;

pub use attacker::Attacker;
pub use contest::{Contest, Score};
pub use mutant::Mutant;
pub use run::HEALING_MS_MAX;
pub use summary::Summary;

/// What a run that held saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Counts.
    pub summary: Summary,
    /// Hash of all events in order.
    pub trace: u64,
}

/// A run in which something did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Gives the same run again.
    pub seed: u64,
    /// When, in virtual milliseconds.
    pub at_ms: u64,
    /// What did not hold.
    pub what: String,
    /// What the run was like.
    pub swarm: String,
}

/// Runs one seed.
///
/// # Errors
/// The first thing that does not hold.
pub fn run(seed: u64) -> Result<Outcome, Failure> {
    run::Simulation::new(seed, None).run(seed)
}

/// Runs one seed on nodes that break a rule.
///
/// # Errors
/// The first thing that does not hold: the mutant is found.
pub fn run_mutant(seed: u64, mutant: Mutant) -> Result<Outcome, Failure> {
    run::Simulation::new(seed, Some(mutant)).run(seed)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, at_ms, what, swarm } = self;
        writeln!(f, "seed {seed}, at {at_ms} ms: {what}")?;
        writeln!(f, "  {swarm}")?;
        write!(f, "  again: ./scripts/soak --seed {seed}")
    }
}
