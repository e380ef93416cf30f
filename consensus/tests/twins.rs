//! Systematic Twins scenarios (Bano et al., "Twins: BFT systems made robust"): one of four keys runs
//! unmodified in two places. For some rounds, a round a view, every way to part the five nodes in
//! two is tried, for each position of the twin among the leaders; then everything heals.
//! `CUSTOMHOUSE_TWINS_ROUNDS` sets the rounds.

mod network;

use network::{CALM, Network, TIMING};

const NODES: usize = 5;

/// Who is on the first node's side: bit i is node i.
type Side = u8;

/// All ways to part the nodes in two, or not at all.
fn partitions() -> impl Iterator<Item = Side> {
    (0..1 << NODES).filter(|side| side & 1 == 1)
}

/// Every sequence of `rounds` partitions.
fn scenarios(rounds: u32) -> impl Iterator<Item = Vec<Side>> {
    let all: Vec<Side> = partitions().collect();
    let count = all.len().pow(rounds);
    (0..count).map(move |mut number| {
        let round = |_| {
            let side = all[number % all.len()];
            number /= all.len();
            side
        };
        (0..rounds).map(round).collect()
    })
}

fn part(network: &mut Network, side: Side) {
    network.join_all();
    let is_in = |node: usize| side >> node & 1 == 1;
    for a in 0..NODES {
        for b in (0..a).filter(|&b| is_in(a) != is_in(b)) {
            network.cut(a, b);
        }
    }
}

/// Whether anybody committed before everything healed.
fn run(twin: usize, scenario: &[Side]) -> bool {
    let mut network = Network::with_twin(twin, CALM);
    network.submit();
    let mut view_ms = TIMING.view_ms;
    for &side in scenario {
        part(&mut network, side);
        network.run_for(view_ms);
        view_ms += view_ms / 2;
    }
    let early = (0..NODES).any(|node| network.height_of(node) > 0);
    network.heal();
    let leaf = network.submit();
    let what = format!("progress, twin {twin}, partitions {scenario:?}");
    network.run_until(&what, 60_000, |network| network.all_committed(&leaf));
    early
}

#[test]
fn a_twin_divides_nobody_whatever_the_partitions() {
    let rounds = std::env::var("CUSTOMHOUSE_TWINS_ROUNDS").ok();
    let rounds = rounds.map_or(2, |rounds| rounds.parse().expect("a number of rounds"));
    let (mut count, mut early) = (0, 0);
    for twin in 0..4 {
        for scenario in scenarios(rounds) {
            early += usize::from(run(twin, &scenario));
            count += 1;
        }
    }
    let line =
        format!("{count} twins scenarios of {rounds} rounds, {early} decided before healing");
    std::io::Write::write_all(&mut std::io::stderr(), format!("{line}\n").as_bytes())
        .expect("stderr is open");
    assert!(early > count / 10 && early < count, "{line}");
}
