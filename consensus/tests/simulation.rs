//! Networks of real cores in virtual time. Randomness comes from the seed, which a failure names.

mod network;

use customhouse_consensus::Core;
use customhouse_ledger::{finality::leaders::term, registry::parameters::Parameters};
use network::{CALM, CrashPoint, Lies, Network, Weather, progress::beside_a_liar};
use rand::RngExt;

const STORM: Weather = Weather { delay_ms_max: 60, loss: 150, duplication: 100 };

#[test]
fn one_transaction_on_an_idle_network_is_final_after_three_message_delays() {
    for n in [1, 2, 3, 4, 7] {
        let mut network = Network::new(n, 1, CALM);
        network.run_for(1_000);
        let start = network.now;
        let leaf = network.submit();
        network.run_until("final", 100, |network| network.all_committed(&leaf));
        // One for the transaction to spread, three for the votes; actions take no time.
        assert!(network.now - start <= 4, "n = {n}: {} ms", network.now - start);
        assert_eq!(network.height_of(0), 1);
    }
}

#[test]
fn an_idle_network_makes_no_blocks_but_the_heartbeat() {
    let parameters = Parameters { heartbeat_ms: 10_000, ..Parameters::default() };
    let mut network = Network::with_parameters(4, 1, CALM, parameters);
    network.run_for(9_900);
    assert_eq!(network.height_of(0), 0);
    network.run_for(200);
    assert_eq!(network.height_of(0), 1);
    network.run_for(9_700);
    assert_eq!(network.height_of(0), 1);
    network.run_for(500);
    assert_eq!(network.height_of(0), 2);
}

#[test]
fn a_silent_leader_is_passed_over() {
    for n in [4, 7] {
        let mut network = Network::new(n, 1, CALM);
        network.kill(1);
        // Among so many heights the dead one leads several first views.
        for _ in 0..2 * n {
            let leaf = network.submit();
            network.run_until("final on all others", 2_000, |network| {
                let mut alive = network.honest().filter(|(i, _)| *i != 1);
                alive.all(|(_, node)| node.ledger.has_committed(&leaf))
            });
        }
        network.recover(1);
        let leaf = network.submit();
        network.run_until("the dead one is back", 2_000, |n| n.all_committed(&leaf));
    }
}

#[test]
fn a_dead_leader_is_passed_over_once_a_term_and_leads_again_when_it_is_back() {
    let mut network = Network::new(4, 1, CALM);
    let term = term(network.nodes[0].ledger.validators());
    network.kill(1);
    network.make_blocks(2 * term + term / 2);
    let tried = network.passed_over();
    assert_eq!(tried.len(), 3, "at heights {tried:?}");
    for (number, height) in (0..).zip(&tried) {
        let of_term = height - number * term;
        assert!(of_term <= 4, "soon after the term began: {tried:?}");
    }
    network.recover(1);
    network.make_blocks(term);
    assert_eq!(network.passed_over(), tried, "it is tried again, and does not fail");
    let back = *network.nodes[1].key.public().as_bytes();
    let led =
        network.nodes[0].ledger.chain.iter().filter(|(block, _)| block.header.proposer == back);
    let last = led.map(|(block, _)| block.header.height).max();
    assert!(last > Some(3 * term), "it leads again: {last:?}");
}

#[test]
fn a_restarted_node_knows_who_is_passed_over() {
    let mut network = Network::new(4, 1, CALM);
    network.kill(1);
    network.make_blocks(20);
    for node in [0, 2, 3] {
        network.kill(node);
        network.recover(node);
    }
    let before = network.passed_over();
    network.make_blocks(20);
    assert_eq!(network.passed_over(), before);
}

#[test]
fn two_dead_of_four_stop_the_network_and_one_of_them_starts_it_again() {
    let mut network = Network::new(4, 1, CALM);
    let first = network.submit();
    network.run_until("final", 1_000, |network| network.all_committed(&first));
    network.kill(2);
    network.kill(3);
    let second = network.submit();
    network.run_for(60_000);
    assert!(network.nodes.iter().all(|node| !node.ledger.has_committed(&second)));
    network.recover(2);
    network.run_until("final on three", 30_000, |network| {
        network.nodes[..3].iter().all(|node| node.ledger.has_committed(&second))
    });
    network.recover(3);
    network.run_until("final on all", 30_000, |network| network.all_committed(&second));
}

#[test]
fn a_node_that_missed_a_hundred_heights_comes_back_unaided() {
    let mut network = Network::new(4, 1, CALM);
    network.isolate(0);
    for _ in 0..100 {
        let leaf = network.submit();
        network.run_until("final on three", 2_000, |network| {
            network.nodes[1..].iter().all(|node| node.ledger.has_committed(&leaf))
        });
    }
    assert_eq!(network.height_of(0), 0);
    network.heal();
    network.run_until("caught up", 10_000, |network| network.height_of(0) >= 100);
}

/// Loss, delay, duplication, reordering, cut links, crashes at every point of a step; then calm,
/// in which everything submitted becomes final everywhere.
fn chaos(seed: u64, n: usize, with_liar: bool) -> Network {
    let mut network = Network::new(n, seed, STORM);
    if with_liar {
        network.corrupt(n - 1, Lies::Contradict);
    }
    let faulty_max = (n - 1) / 3 - usize::from(with_liar);
    let mut leaves = Vec::new();
    for _ in 0..20 {
        let node = network.rng.random_range(0..n - usize::from(with_liar));
        let other = network.rng.random_range(0..n);
        match network.rng.random_range(0..8) {
            0 | 1 => leaves.push(network.submit()),
            2 => network.crash(node, CrashPoint::BeforePersist),
            3 => network.crash(node, CrashPoint::AfterPersist),
            4 => network.crash(node, CrashPoint::AfterSend),
            5 => network.isolate(node),
            6 if node != other => network.cut(node, other),
            _ => network.heal(),
        }
        let pause = network.rng.random_range(10..400);
        network.run_for(pause);
        if network.rng.random_range(0..2) == 0 {
            network.revive(faulty_max + 1);
        }
    }
    network.weather = CALM;
    network.heal();
    network.revive(0);
    leaves.push(network.submit());
    network.run_until("everything final everywhere", 120_000, |network| {
        leaves.iter().all(|leaf| network.all_committed(leaf))
    });
    network
}

#[test]
fn four_nodes_agree_whatever_happens_and_go_on_when_it_is_over() {
    for seed in 0..150 {
        chaos(seed, 4, false);
    }
}

#[test]
fn seven_nodes_agree_whatever_happens_and_go_on_when_it_is_over() {
    for seed in 0..40 {
        chaos(seed, 7, false);
    }
}

#[test]
fn who_forges_costs_no_view_but_those_it_leads_and_nobody_else_is_blamed() {
    for seed in 0..10 {
        let lost = beside_a_liar(Core::new, Lies::Forge, seed);
        assert!(lost.len() <= 1, "seed {seed}: {lost:?}");
    }
}

#[test]
fn who_swaps_the_leaves_of_proposals_costs_no_view_but_those_it_leads() {
    for seed in 0..10 {
        let lost = beside_a_liar(Core::new, Lies::SwapLeaves, seed);
        assert!(lost.len() <= 1, "seed {seed}: {lost:?}");
    }
}

#[test]
fn a_liar_divides_nobody_and_is_found_out() {
    let mut accused = 0;
    for seed in 0..60 {
        let network = chaos(seed, 4, true);
        let found = network.nodes.iter().any(|node| !node.evidence.is_empty());
        accused += usize::from(found);
    }
    assert!(accused > 50, "evidence in {accused} runs of 60");
}
