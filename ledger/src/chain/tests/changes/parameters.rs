//! Parameters change while the chain goes on, and each block is checked by those of its height.

use super::*;
use crate::{
    authority::{ALWAYS_OPEN, RecordKind},
    registry::parameters::{KindNotOpen, Parameters},
};

/// The entry that has a parameter's value now.
fn open_value(chain: &Chain, name: &str) -> v1::RegistryEntry {
    let is_it = |entry: &&v1::RegistryEntry| matches!(&entry.entry, Some(Entry::Parameter(own)) if own.name == name);
    let tip = chain.tip();
    tip.registry.entries().filter(|e| e.end_height == 0).find(is_it).expect("set").clone()
}

fn code_of(chain: &Chain, transaction: &Arc<VerifiedTransaction>) -> Option<&'static str> {
    prepare(chain, slice::from_ref(transaction)).refused.first().map(|(_, reason)| reason.code())
}

#[test]
fn a_limit_counts_from_the_next_block_on_and_no_longer_than_it_is_set() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let slots = |numbers| fixture.transaction(1, numbers);
    let set = change(&chain, &[parameter("transaction_slots_max", 2)], &[]);
    let (large, small) = (slots(0..3), slots(3..5));
    // The block that carries the change is checked by what was before it.
    commit(&mut chain, &[set, large]);
    assert_eq!(chain.tip().parameters.transaction_slots_max, 2);
    let large = slots(10..13);
    assert_eq!(refused(&chain, Arc::clone(&large)).code(), "SLOT_COUNT");
    commit(&mut chain, &[small]);
    drop(chain);
    let mut chain = fixture.open();
    assert_eq!(code_of(&chain, &large), Some("SLOT_COUNT"), "after a restart as before it");
    let ended = open_value(&chain, "transaction_slots_max");
    apply(&mut chain, &[], &[ended]);
    assert_eq!(
        chain.tip().parameters,
        Parameters { heartbeat_ms: 60_000, ..Parameters::default() }
    );
    commit(&mut chain, &[large]);
}

#[test]
fn blocks_of_before_and_after_a_change_are_executed_again_by_the_parameters_of_their_heights() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    commit(&mut chain, &[fixture.transaction(1, 0..9)]);
    let set = [parameter("transaction_slots_max", 2), parameter("block_transactions_max", 2)];
    apply(&mut chain, &set, &[]);
    let two = [fixture.transaction(1, 20..22), fixture.transaction(2, 22..24)];
    commit(&mut chain, &two);
    let ended = [open_value(&chain, "transaction_slots_max")];
    apply(&mut chain, &[parameter("transaction_slots_max", 9)], &ended);
    commit(&mut chain, &[fixture.transaction(1, 30..39)]);
    let mut follower = Fixture { genesis: fixture.genesis.clone(), ..Fixture::new() }.open();
    let (reader, chain_id) = (chain.reader(), chain.chain_id());
    for height in 1..=chain.tip().header.height {
        let stored = reader.block(height).expect("readable").expect("committed");
        let read = |bytes: &bytes::Bytes| {
            Arc::new(VerifiedTransaction::from_bytes(bytes.clone(), &chain_id).expect("committed"))
        };
        let transactions: Vec<_> = stored.transactions.iter().map(read).collect();
        let staged = follower.validate(&stored.block, &transactions).expect("readable");
        let certificate = stored.certificate.expect("decided");
        follower.commit(staged.expect("valid at its height"), certificate).expect("committed");
    }
    assert_eq!(follower.tip(), chain.tip());
}

#[test]
fn a_value_is_added_where_none_stays_open_and_ends_as_it_stands() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let beside = refused(&chain, change(&chain, &[heartbeat(5000)], &[]));
    assert_eq!(beside.code(), "REGISTRY_TWO_OPEN", "{beside}");
    let unset = refused(&chain, change(&chain, &[], &[parameter("time_skew_ms_max", 30_000)]));
    assert!(matches!(unset, TransactionInvalid::Change(ApplyError::NotOpen(_))), "{unset}");
    let first = open_value(&chain, "heartbeat_ms");
    let other = v1::RegistryEntry { entry: heartbeat(5000).entry, ..first.clone() };
    let other = refused(&chain, change(&chain, &[heartbeat(6000)], &[other]));
    assert!(matches!(other, TransactionInvalid::Change(ApplyError::NotOpen(_))), "{other}");
    apply(&mut chain, &[heartbeat(5000)], std::slice::from_ref(&first));
    let twice = refused(&chain, change(&chain, &[heartbeat(6000)], &[first]));
    assert!(matches!(twice, TransactionInvalid::Change(ApplyError::NotOpen(_))), "{twice}");
    // A value may come again: it is another entry.
    let second = open_value(&chain, "heartbeat_ms");
    assert_eq!((second.from_height, chain.tip().parameters.heartbeat_ms), (2, 5000));
    apply(&mut chain, &[heartbeat(60_000)], &[second]);
    assert_eq!(chain.tip().parameters.heartbeat_ms, 60_000);
}

#[test]
fn open_records_of_a_kind_that_is_closed_are_in_no_block_and_the_members_can_open_it_again() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let closed = parameter("open_kinds", RecordKind::bits(ALWAYS_OPEN));
    let waiting = fixture.transaction(1, 0..2);
    apply(&mut chain, &[closed], &[]);
    let invalid = refused(&chain, Arc::clone(&waiting));
    let kind = KindNotOpen(RecordKind::Declaration);
    assert_eq!(invalid, TransactionInvalid::KindNotOpen { position: 0, refused: kind });
    assert_eq!(invalid.code(), "KIND_NOT_OPEN");
    let ended = open_value(&chain, "open_kinds");
    let kinds = [ALWAYS_OPEN, &[RecordKind::Declaration]].concat();
    apply(&mut chain, &[parameter("open_kinds", RecordKind::bits(&kinds))], &[ended]);
    commit(&mut chain, &[waiting]);
}
