//! More validators lie than may, until a chain is divided: then the culprits that are named are
//! liars, and more than f.
//!
//! f + 1 keys run in two places, unmodified, and the network parts again and again at random moments,
//! so that honest nodes come to commit different blocks of one height: in one view, or in different
//! ones by either of the two ways that [`customhouse_ledger::proofs::fork`] argues from. What honest nodes
//! then tell of the height must be enough. `CUSTOMHOUSE_FORK_SEEDS` sets how many forks to make,
//! `CUSTOMHOUSE_FORK_SEED` the first seed.

mod network;

use std::collections::{BTreeMap, BTreeSet};

use customhouse_ledger::{
    finality::{
        decision::{self, Decision, Grounds},
        evidence::Evidence,
        vote::VoteKind,
    },
    keys::PublicKey,
    proofs::fork::{Conclusion, Examination, examine, height_to_examine},
};
use network::{CALM, CHAIN, CrashPoint, Network, TIMING, Weather};
use rand::{RngExt, seq::SliceRandom};

/// Partings of the network until a seed is given up: many end with twins that have met.
const ROUNDS: usize = 12;

struct Fork {
    network: Network,
    height: u64,
    liars: BTreeSet<PublicKey>,
}

/// Parts the nodes in two. The two places of a key are never on one side: they would find each
/// other's signatures, and stop.
fn part(network: &mut Network, n: usize, twins: &[usize]) {
    let mut side = vec![false; network.nodes.len()];
    for side in &mut side[..n] {
        *side = network.rng.random_range(0..2) == 0;
    }
    for (second, &first) in (n..).zip(twins) {
        side[second] = !side[first];
    }
    network.join_all();
    for a in 0..side.len() {
        for b in (0..a).filter(|&b| side[a] != side[b]) {
            network.cut(a, b);
        }
    }
    // Each side has its own to include, so that one leader in two places makes two blocks.
    for wanted in [false, true] {
        let nodes: Vec<_> = (0..side.len()).filter(|&i| side[i] == wanted).collect();
        network.submit_to(nodes);
    }
}

/// The lowest height at which honest nodes have committed two blocks.
fn divided(network: &Network) -> Option<u64> {
    let mut blocks = BTreeMap::new();
    let committed = network.honest().flat_map(|(_, node)| &node.ledger.chain);
    let differs = committed.filter(|(block, _)| {
        let hash = block.hash();
        *blocks.entry(block.header.height).or_insert(hash) != hash
    });
    differs.map(|(block, _)| block.header.height).min()
}

/// Drives f + 1 twins of n until honest nodes have committed two blocks of one height.
fn divide(n: usize, seed: u64) -> Option<Fork> {
    let mut indexes: Vec<usize> = (0..n).collect();
    let mut network = Network::with_twins(n, &[], seed, CALM);
    indexes.shuffle(&mut network.rng);
    let twins = indexes[..(n - 1) / 3 + 1].to_vec();
    // Lost messages keep a side from deciding in the view in which it notarized.
    let loss = network.rng.random_range(0..3) * 150;
    let weather = Weather { delay_ms_max: network.rng.random_range(1..6), loss, ..CALM };
    let mut network = Network::with_twins(n, &twins, seed, weather);
    network.witness.despair();
    let liars: BTreeSet<_> = twins.iter().map(|&i| network.nodes[i].key.public()).collect();
    for _ in 0..ROUNDS {
        part(&mut network, n, &twins);
        let ms_max = [12, TIMING.resend_ms, 3 * TIMING.view_ms][network.rng.random_range(0..3)];
        let ms = network.rng.random_range(1..ms_max);
        network.run_for(ms);
        // Honest nodes forget what is not durable.
        for index in 0..n {
            if network.rng.random_range(0..8) == 0 {
                network.crash(index, CrashPoint::AfterPersist);
            }
        }
        network.run_for(1);
        (0..network.nodes.len()).for_each(|index| network.recover(index));
        if let Some(height) = divided(&network) {
            return Some(Fork { network, height, liars });
        }
    }
    None
}

impl Fork {
    /// What honest nodes tell of the height, as files.
    fn files(&self) -> Vec<Vec<u8>> {
        let honest = self.network.honest();
        honest.map(|(_, node)| decision::encode(&[node.decision(self.height)])).collect()
    }

    fn examine(&self, decisions: &[Decision]) -> Examination {
        let seed = self.network.seed;
        let ledger = &self.network.nodes[0].ledger;
        let found = height_to_examine(decisions, &CHAIN, |height| ledger.validators_at(height));
        assert_eq!(found, Some(self.height), "seed {seed}");
        let decisions: Vec<_> = decisions.iter().collect();
        let validators = ledger.validators_at(self.height);
        let examination = examine(self.height, &decisions, &CHAIN, validators);
        examination.unwrap_or_else(|error| panic!("seed {seed}: {error}"))
    }

    fn accuses_liars_only(&self, examination: &Examination) {
        let seed = self.network.seed;
        assert!(examination.keys().is_subset(&self.liars), "seed {seed}: {examination:#?}");
        let evidence = examination.culprits.iter().flat_map(|culprit| &culprit.evidence);
        assert!(evidence.into_iter().all(|evidence| evidence.proves(&CHAIN)), "seed {seed}");
    }
}

/// Begins with two that only caught up, so that they have no more than block and finalization, and
/// asks those whom it is told to ask. Gives how many of these answered.
fn ask_around(fork: &Fork, told: &[Decision]) -> usize {
    let seed = fork.network.seed;
    let keys: Vec<_> = fork.network.honest().map(|(_, node)| node.key.public()).collect();
    let late = |decision: &Decision| Decision { grounds: Grounds::default(), ..decision.clone() };
    let late: Vec<Decision> = told.iter().filter(|d| d.decided.is_some()).map(late).collect();
    let mut asked = BTreeSet::<usize>::new();
    loop {
        let answers = asked.iter().map(|&index| told[index].clone());
        let files: Vec<Decision> = late.iter().cloned().chain(answers).collect();
        let examination = fork.examine(&files);
        fork.accuses_liars_only(&examination);
        let missing = match examination.conclusion {
            Conclusion::Proven => return asked.len(),
            Conclusion::NotEnough(missing) => missing,
            Conclusion::NoFork => panic!("seed {seed}: no fork"),
        };
        let holds = |key: &PublicKey| missing.holders.iter().any(|holder| holder.key == *key);
        let before = asked.len();
        asked.extend((0..told.len()).filter(|&index| holds(&keys[index])));
        assert!(asked.len() > before, "seed {seed}: nobody is left to ask: {missing:?}");
    }
}

/// The kinds of pairs by which a fork was proven, and whether it was in one view.
fn way(examination: &Examination) -> &'static str {
    let views: BTreeSet<_> = examination.finalized.iter().map(|f| f.view).collect();
    let kinds = |evidence: &Evidence| match evidence {
        Evidence::Votes(a, b) => Some((a.ballot.kind, b.ballot.kind)),
        _ => None,
    };
    let evidence = examination.culprits.iter().flat_map(|culprit| &culprit.evidence);
    let pairs: Vec<_> = evidence.filter_map(kinds).collect();
    let has = |a, b| pairs.iter().any(|pair| *pair == (a, b) || *pair == (b, a));
    match views.len() {
        1 => "finalized twice in one view",
        _ if has(VoteKind::Nullify, VoteKind::Finalize) => "nullified what was finalized",
        _ if has(VoteKind::Notarize, VoteKind::Notarize) => "notarized twice, finalized later",
        _ => "otherwise",
    }
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// Makes `count` forks, and counts them by the way they came about.
fn forks(n: usize, count: u64) -> BTreeMap<&'static str, u64> {
    let first = from_environment("CUSTOMHOUSE_FORK_SEED", 1);
    let count = from_environment("CUSTOMHOUSE_FORK_SEEDS", count);
    let (mut ways, mut forks, mut seed, mut asked) = (BTreeMap::new(), 0, first, 0);
    while forks < count {
        assert!(seed < first + 50 * count, "seeds {first}..{seed} of n = {n} gave {forks} forks");
        if let Some(fork) = divide(n, seed) {
            let files = fork.files();
            let read = |file: &Vec<u8>| decision::decode(file).expect("as encoded");
            let told: Vec<Decision> = files.iter().flat_map(read).collect();
            let examination = fork.examine(&told);
            fork.accuses_liars_only(&examination);
            assert_eq!(examination.conclusion, Conclusion::Proven, "seed {seed}: {examination:#?}");
            assert!(examination.culprits.len() > (n - 1) / 3, "seed {seed}");
            asked += usize::from(ask_around(&fork, &told) > 0);
            *ways.entry(way(&examination)).or_insert(0) += 1;
            forks += 1;
        }
        seed += 1;
    }
    let line = format!(
        "{forks} forks of {n} validators, seeds {first}..{seed}: {ways:?}, {asked} needed \
         more than the finalizations\n"
    );
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).expect("stderr is open");
    ways
}

#[test]
fn whoever_divides_four_validators_is_named_and_nobody_else() {
    let ways = forks(4, 200);
    assert_eq!(ways.len(), 3, "every way to divide was taken: {ways:?}");
}

#[test]
fn whoever_divides_seven_validators_is_named_and_nobody_else() {
    let ways = forks(7, 25);
    assert!(ways.len() > 1, "{ways:?}");
}
