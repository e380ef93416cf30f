//! The members change the network's parameters while their nodes run.

use customhouse_ledger::authority::{ALWAYS_OPEN, RecordKind};

use super::*;

fn parameter(name: &str, value: u64) -> Entry {
    Entry::Parameter(v1::ParameterEntry { name: name.into(), value })
}

/// The entry that has a parameter's value now.
fn open_value(network: &Network, name: &str) -> v1::RegistryEntry {
    let is_it = |entry: &&v1::RegistryEntry| match &entry.entry {
        Some(Entry::Parameter(own)) => own.name == name && entry.end_height == 0,
        _ => false,
    };
    let registry = network.shared(0).reader.registry();
    registry.entries().find(is_it).expect("set").clone()
}

/// Two agencies, whose blocks have one transaction each.
async fn start_with_small_blocks() -> Network {
    let plain = genesis(2);
    let entry = Some(parameter("block_transactions_max", 1));
    let entry = v1::RegistryEntry { entry, ..Default::default() };
    let entries = plain.registry.entries().cloned().chain([entry]).collect();
    let genesis = Genesis::new("test".into(), 1, 10, entries).expect("valid");
    Network::start_of(genesis, 2).await
}

/// Has a change decided in the next block.
async fn decide(network: &Network, change: Arc<VerifiedTransaction>) {
    let client = ClientIdentity {
        agency: code(0),
        name: "operator".into(),
        role: ClientRole::Operator,
        certificate: [0; 32],
    };
    let (id, change) = (change.id(), VerifiedTransaction::clone(&change));
    let submissions = &network.shared(0).submissions;
    submissions.submit_transaction(&client, change).await.expect("accepted");
    let end = tokio::time::timeout(DEADLINE, submissions.wait_transaction(id)).await;
    assert!(matches!(end.expect("in time"), Ok(End::Final { .. })));
}

fn code_of(end: &End) -> &str {
    let End::Rejected { code, .. } = end else { panic!("{end:?}") };
    code
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_when_its_kind_is_closed_ends_by_name_and_may_come_again_when_it_is_open() {
    let mut network = start_with_small_blocks().await;
    let closes = parameter("open_kinds", RecordKind::bits(ALWAYS_OPEN));
    let closes = change_adding(&network, vec![closes]);
    for i in 0..2 {
        lock(&network.shared(i).mempool).insert(Arc::clone(&closes)).expect("room");
    }
    // It is the second of its key, and so for the block after the change.
    let waiting = network.submit(0, 7).await;
    let end = network.finality(0, waiting).await;
    assert_eq!(code_of(&end), "KIND_NOT_OPEN");
    let refused = network.submit_as(0, 7, "MRN7").await.expect_err("closed");
    assert_eq!(refused.code(), "KIND_NOT_OPEN", "{refused}");
    let tip = network.shared(0).reader.tip();
    assert_eq!((tip.header.height, tip.header.log_size), (1, 1), "it cost no block");
    network.stop_node(0).await;
    network.start_node(0).await;
    let again = network.finality(0, waiting).await;
    assert_eq!(code_of(&again), "KIND_NOT_OPEN", "told after a restart too");
    let opens = change_ending(&network, vec![], vec![open_value(&network, "open_kinds")]);
    decide(&network, opens).await;
    let taken = network.submit(0, 7).await;
    assert_ne!(taken, waiting);
    assert!(matches!(network.finality(0, taken).await, End::Final { .. }));
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_is_that_of_the_registry_from_the_next_height_on() {
    let network = Network::start(2).await;
    decide(&network, change_adding(&network, vec![parameter("heartbeat_ms", 1000)])).await;
    // By the default the next would come in ten minutes.
    network.agree(3).await;
    network.stop().await;
}
