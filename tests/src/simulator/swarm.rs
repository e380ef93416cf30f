//! What a run is like. Every probability is drawn anew for each seed, many of them as zero: a run
//! with everything at once hides what a run with one thing shows ("swarm testing", Groce et al.).

use customhouse_consensus::Timing;
use rand::{RngExt as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;

use super::{attacker::Attacker, streams::Streams};

/// Shorter than a node's own, so that a run sees more views.
const TIMING: Timing =
    Timing { view_ms: 600, view_ms_max: 6_000, repropose_ms: 100, resend_ms: 400, tip_ms: 2_000 };

/// How a validator lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    /// The same key in two places, each running the unmodified code.
    Twins,
    /// Says nothing.
    Silent,
    /// Signs whatever it likes: two blocks in one view, nullify with finalize, forged
    /// justifications and certificates, blocks of its own making, views far in the future, garbage,
    /// and answers requests with anything.
    Liar,
    /// Does one thing, on purpose.
    Attacker(Attacker),
}

/// The settings of one run. Probabilities are per mille, times are milliseconds.
#[derive(Clone, Debug)]
pub(super) struct Swarm {
    pub(super) validators: usize,
    /// At most f, beside those that a restored backup makes untrustworthy.
    pub(super) lies: Vec<Lie>,
    pub(super) timing: Timing,
    /// Whether peers are cut off for their faults, as in the real network. Else liars are heard to
    /// the end.
    pub(super) cuts_off: bool,
    pub(super) delay_min: u64,
    pub(super) delay_max: u64,
    pub(super) loss: u32,
    pub(super) duplication: u32,
    /// A message that is held back for much longer than others.
    pub(super) straggler: u32,
    /// Between two partitions; 0: none.
    pub(super) partition_every: u64,
    pub(super) clog_every: u64,
    /// Between two nodes' connections that lead nowhere, with nobody being told.
    pub(super) half_open_every: u64,
    pub(super) crash_every: u64,
    /// A crash that strikes in the middle of a write.
    pub(super) fault_every: u64,
    pub(super) blackout_every: u64,
    pub(super) pause_every: u64,
    pub(super) wipe_every: u64,
    pub(super) restore_every: u64,
    pub(super) clock_every: u64,
    /// Between two changes of the registry.
    pub(super) change_every: u64,
    /// Agreements are changed, or something is lodged under one.
    pub(super) agree_every: u64,
    /// Agencies that are not in the genesis and may join.
    pub(super) spares: usize,
    pub(super) submit_every: u64,
    /// Transactions that a node's mempool holds.
    pub(super) mempool_max: usize,
    /// Chance that a client sends what it has sent before, to another node.
    pub(super) repeat: u32,
}

impl Swarm {
    /// A run in which nothing breaks.
    pub(super) fn calm() -> Self {
        Self {
            validators: 4,
            lies: Vec::new(),
            timing: TIMING,
            cuts_off: true,
            delay_min: 1,
            delay_max: 20,
            loss: 0,
            duplication: 0,
            straggler: 0,
            partition_every: 0,
            clog_every: 0,
            half_open_every: 0,
            crash_every: 0,
            fault_every: 0,
            blackout_every: 0,
            pause_every: 0,
            wipe_every: 0,
            restore_every: 0,
            clock_every: 0,
            change_every: 0,
            agree_every: 0,
            spares: 0,
            submit_every: 100,
            mempool_max: 10_000,
            repeat: 0,
        }
    }

    pub(super) fn draw(streams: &mut Streams) -> Self {
        let (rng, registry) = (&mut streams.swarm, &mut streams.registry);
        let change_every = every(registry, 1_000..8_000);
        let agree_every = every(&mut streams.agreements, 200..3_000);
        let validators = if rng.random_ratio(1, 4) { 7 } else { 4 };
        let liars = rng.random_range(0..=(validators - 1) / 3);
        let lies = [Lie::Twins, Lie::Silent, Lie::Liar];
        let mut lie = || match lies[rng.random_range(0..lies.len())] {
            Lie::Silent => attacker(&mut streams.attack),
            lie => lie,
        };
        let lies = (0..liars).map(|_| lie()).collect();
        let attack = &mut streams.attack;
        let (cuts_off, half_open_every) = (attack.random(), every(attack, 5_000..30_000));
        Self {
            validators,
            lies,
            cuts_off,
            half_open_every,
            delay_max: rng.random_range(1..=200),
            loss: sometimes(rng, 300) as u32,
            duplication: sometimes(rng, 500) as u32,
            straggler: sometimes(rng, 50) as u32,
            partition_every: every(rng, 2_000..20_000),
            clog_every: every(rng, 2_000..20_000),
            crash_every: every(rng, 1_000..15_000),
            fault_every: every(rng, 1_000..15_000),
            blackout_every: every(rng, 5_000..40_000),
            pause_every: every(rng, 2_000..20_000),
            wipe_every: every(rng, 10_000..40_000),
            restore_every: every(rng, 10_000..40_000),
            clock_every: every(rng, 3_000..20_000),
            change_every,
            agree_every,
            spares: if change_every > 0 { 2 } else { 0 },
            submit_every: rng.random_range(50..800),
            repeat: sometimes(rng, 200) as u32,
            ..Self::calm()
        }
    }
}

/// One that lies, silence included. What only strikes an honest node is a fault of its own.
fn attacker(rng: &mut ChaCha8Rng) -> Lie {
    // What weighs megabytes has contests of its own.
    let is_light = |attacker: &Attacker| *attacker != Attacker::ProposesTooMuch;
    let lies = Attacker::ALL.into_iter().filter(|attacker| attacker.lies());
    let all: Vec<_> = lies.filter(is_light).collect();
    match all.choose(rng) {
        Some(Attacker::Silent) | None => Lie::Silent,
        Some(attacker) => Lie::Attacker(*attacker),
    }
}

/// Zero in a third of all runs, else up to `max`.
fn sometimes(rng: &mut ChaCha8Rng, max: u64) -> u64 {
    if rng.random_ratio(1, 3) { 0 } else { rng.random_range(0..=max) }
}

/// Never in a third of all runs, else with a mean pause from the range.
fn every(rng: &mut ChaCha8Rng, range: std::ops::Range<u64>) -> u64 {
    if rng.random_ratio(1, 3) { 0 } else { rng.random_range(range) }
}
