//! Validators that join, leave and change their keys while the network runs. Randomness comes from the
//! seed, which a failure names.

mod network;

use customhouse_consensus::{Committed, Config, Core, Entry};
use customhouse_ledger::{
    finality::validators::ValidatorSet, keys::SigningKey, registry::parameters::Parameters,
};
use network::{CALM, CrashPoint, Network, TIMING, Weather, key, node::MemoryJournal, set_of};
use rand::RngExt;

/// A second key of a node.
fn second(node: usize) -> SigningKey {
    SigningKey::from_seed(&[node as u8 + 101; 32])
}

fn first_keys(nodes: impl IntoIterator<Item = usize>) -> ValidatorSet {
    set_of(nodes.into_iter().map(|node| (node, key(node))))
}

fn network(validators: usize, followers: usize, seed: u64, weather: Weather) -> Network {
    let size = (validators, followers);
    Network::with_followers(Core::new, size, seed, weather, Parameters::default())
}

/// A transaction becomes final on all nodes; gives how long it took, in milliseconds.
fn one_final(network: &mut Network, limit_ms: u64) -> u64 {
    let (start, leaf) = (network.now, network.submit());
    network.run_until("final everywhere", limit_ms, |network| network.all_committed(&leaf));
    let took = network.now - start;
    // The ledgers have it; the cores are told a moment later.
    network.run_for(1);
    took
}

#[test]
fn a_joiner_votes_from_its_height_on_and_nobody_waits_for_a_timer() {
    // From two to three all three are needed: the joiner's vote decides its first height.
    for (before, after) in [(1, 2), (2, 3), (3, 4), (4, 5)] {
        let mut network = network(before, 1, 1, CALM);
        network.change(4, &first_keys(0..after));
        for height in 1..=8 {
            let core = network.nodes[before].core.as_ref().expect("it runs");
            assert_eq!(core.is_signing(), height >= 4, "height {height}");
            let took = one_final(&mut network, 100);
            assert!(took < TIMING.view_ms / 4, "n = {before}, height {height}: {took} ms");
        }
    }
}

#[test]
fn a_key_is_changed_without_a_pause() {
    // Where messages take longer, some of the next height come before the change is committed.
    let slow = Weather { delay_ms_max: 8, ..CALM };
    for (n, seed, weather) in
        [(1, 1, CALM), (2, 1, CALM), (4, 1, CALM), (2, 2, slow), (2, 3, slow), (4, 4, slow)]
    {
        let mut network = network(n, 0, seed, weather);
        let rotated =
            set_of((0..n).map(|node| if node == 0 { (0, second(0)) } else { (node, key(node)) }));
        network.change(4, &rotated);
        network.nodes[0].next = Some((second(0), MemoryJournal::default()));
        for height in 1..=8 {
            let took = one_final(&mut network, 100);
            assert!(took < TIMING.view_ms / 4, "n = {n}, height {height}: {took} ms");
            let expected = if height >= 3 { second(0) } else { key(0) };
            assert_eq!(network.nodes[0].key.public(), expected.public(), "after height {height}");
        }
    }
}

#[test]
fn one_that_left_follows_and_signs_no_more() {
    let mut network = network(4, 0, 1, CALM);
    network.change(4, &first_keys([0, 1, 3]));
    for _ in 1..=8 {
        one_final(&mut network, 2_000);
    }
    let core = network.nodes[2].core.as_ref().expect("it runs");
    assert_eq!((core.is_signing(), core.height()), (false, 9));
    let newest = network.nodes[2].journal.read();
    let votes = newest.iter().filter(|entry| matches!(entry, Entry::Vote(_)));
    assert_eq!(votes.map(Entry::height).max(), Some(3), "the last that it decided");
}

#[test]
fn a_node_far_behind_comes_back_over_several_changes() {
    let mut network = network(4, 2, 1, CALM);
    for (height, members) in [(3, vec![0, 1, 2, 3, 4]), (6, vec![0, 1, 3, 4]), (9, vec![0, 3, 4])] {
        network.change(height, &first_keys(members));
    }
    network.isolate(5);
    // One that has a vote, too: its tip is of other validators when it comes back.
    network.isolate(1);
    for _ in 1..=20 {
        let leaf = network.submit();
        network.run_until("final on the others", 5_000, |network| {
            [0, 3, 4].iter().all(|node| network.nodes[*node].ledger.has_committed(&leaf))
        });
    }
    network.heal();
    network.run_until("all are there", 20_000, |network| {
        [1, 2, 5].iter().all(|node| network.height_of(*node) >= 20)
    });
    one_final(&mut network, 5_000);
}

/// Five nodes, two of which follow at first: one joins, one leaves, one changes its key, one joins
/// again with the next key, while nodes crash at any point of any step and messages are lost.
fn stormy_changes(seed: u64) {
    let weather = Weather { delay_ms_max: 60, loss: 100, duplication: 100 };
    let mut network = network(4, 2, seed, weather);
    let keys = |members: &[(usize, bool)]| {
        set_of(
            members.iter().map(|&(node, new)| (node, if new { second(node) } else { key(node) })),
        )
    };
    let mut at = 2;
    for members in [
        &[(0, false), (1, false), (2, false), (3, false), (4, false)][..],
        &[(0, false), (1, true), (2, false), (3, false), (4, false)],
        &[(0, false), (1, true), (3, false), (4, false)],
        &[(0, false), (1, true), (3, true), (4, false)],
        &[(0, false), (1, true), (3, true), (4, false), (5, false)],
        &[(0, false), (1, true), (4, false), (5, false)],
    ] {
        at += network.rng.random_range(1..4);
        network.change(at, &keys(members));
    }
    for node in [1, 3] {
        network.nodes[node].next = Some((second(node), MemoryJournal::default()));
    }
    let last = at + 4;
    while network.height_of(0) < last {
        let leaf = network.submit();
        let node = network.rng.random_range(0..6);
        let points = [CrashPoint::BeforePersist, CrashPoint::AfterPersist, CrashPoint::AfterSend];
        let point = points[network.rng.random_range(0..3)];
        network.crash(node, point);
        let lasts = network.rng.random_range(10..400);
        network.run_for(lasts);
        network.revive(0);
        network.run_until("final after the crash", 120_000, |network| network.all_committed(&leaf));
    }
    for node in 0..6 {
        let signs = network.nodes[node].core.as_ref().is_some_and(Core::is_signing);
        assert_eq!(signs, [0, 1, 4, 5].contains(&node), "seed {seed}, node {node}");
    }
}

#[test]
fn changes_under_loss_and_crashes_cost_no_agreement_and_no_honest_word() {
    for seed in 0..24 {
        stormy_changes(seed);
    }
}

/// A core that waits for what peers hold of its key.
fn unasked(config: Config, committed: Committed, entries: Vec<Entry>) -> Core {
    Core::new(config, committed, entries).unasked()
}

/// Every node that runs tells each other what it holds of that one's key.
fn all_tell(network: &mut Network) {
    let count = network.nodes.len();
    for (by, node) in (0..count).flat_map(|by| (0..count).map(move |node| (by, node))) {
        if by != node {
            network.tell(by, node);
        }
    }
}

fn signing(network: &Network) -> Vec<usize> {
    let signs = |node: &usize| network.nodes[*node].core.as_ref().is_some_and(Core::is_signing);
    (0..network.nodes.len()).filter(signs).collect()
}

/// Four, of which 3 is down. 1 alone has committed height 2, and tells 0, which has just started; before it
/// can give the block its store is put back, and it keeps its journal. Whether it came to that.
fn put_back_after_it_told(seed: u64) -> bool {
    let mut network = Network::with_followers(unasked, (4, 0), seed, CALM, Parameters::default());
    all_tell(&mut network);
    one_final(&mut network, 5_000);
    network.run_for(300);
    let store = network.nodes[1].ledger.clone();
    network.kill(0);
    network.submit();
    network.cut(2, 3);
    network.run_until("one has committed", 5_000, |n| (1..4).any(|node| n.height_of(node) == 2));
    if (1..4).map(|node| network.height_of(node)).ne([2, 1, 1]) {
        return false;
    }
    network.isolate(1);
    network.kill(3);
    network.isolate(3);
    network.run_for(50);
    network.recover(0);
    network.tell(1, 0);
    network.kill(1);
    network.nodes[1].ledger = store;
    network.join_all();
    network.recover(1);
    all_tell(&mut network);
    network.heal();
    let leaf = network.submit();
    network.run_until("final", 600_000, |n| {
        (0..3).all(|node| n.nodes[node].ledger.has_committed(&leaf))
    });
    true
}

#[test]
fn one_whose_store_was_put_back_is_heard_again() {
    let came_to_it = (0..16).filter(|seed| put_back_after_it_told(*seed)).count();
    assert!(came_to_it > 0);
}

#[test]
fn those_who_told_of_a_key_may_not_be_enough_after_a_change() {
    let size = (3, 1);
    let mut network = Network::with_followers(unasked, size, 1, CALM, Parameters::default());
    network.change(3, &first_keys([0, 1, 3]));
    // The one that follows tells nobody.
    for (by, node) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        network.tell(by, node);
    }
    assert_eq!(signing(&network), [0, 1, 2]);
    one_final(&mut network, 100);
    one_final(&mut network, 100);
    assert!(signing(&network).is_empty(), "all three are needed, and the new one told nobody");
    let leaf = network.submit();
    network.run_for(2_000);
    assert!(!network.all_committed(&leaf));
    all_tell(&mut network);
    network.run_until("final", 1_000, |network| network.all_committed(&leaf));
    assert_eq!(signing(&network), [0, 1, 3]);
}

#[test]
fn those_who_told_before_a_change_count_after_it() {
    let size = (4, 1);
    let mut network = Network::with_followers(unasked, size, 1, CALM, Parameters::default());
    network.change(3, &first_keys(0..5));
    all_tell(&mut network);
    for _ in 1..=4 {
        one_final(&mut network, 100);
    }
    assert_eq!(signing(&network), [0, 1, 2, 3, 4]);
}

#[test]
fn another_key_of_a_node_waits_until_all_have_told_of_it_too() {
    let mut network = Network::with_followers(unasked, (2, 0), 1, CALM, Parameters::default());
    network.change(3, &set_of([(0, second(0)), (1, key(1))]));
    network.nodes[0].next = Some((second(0), MemoryJournal::default()));
    all_tell(&mut network);
    one_final(&mut network, 100);
    one_final(&mut network, 100);
    assert!(!signing(&network).contains(&0));
    let leaf = network.submit();
    network.run_for(2_000);
    assert!(!network.all_committed(&leaf));
    all_tell(&mut network);
    network.run_until("final", 1_000, |network| network.all_committed(&leaf));
    assert_eq!(signing(&network), [0, 1]);
}
