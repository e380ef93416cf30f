//! Blocks stored for voting.

use super::*;
use crate::store::Table;

fn stored_bodies(chain: &Chain) -> usize {
    chain.shared.store.scan_while(Table::Transactions, &[], |_| true).count()
}

#[test]
fn a_stored_block_and_its_bodies_survive_a_restart() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    commit(&mut chain, &[fixture.transaction(1, 0..2)]);
    let transaction = fixture.transaction(1, 2..4);
    let staged = prepare(&chain, std::slice::from_ref(&transaction)).staged;
    let (block, hash) = (staged.block().clone(), staged.block().hash());
    chain.store_pending(&block, staged.transactions()).expect("stored");
    chain.store_pending(&block, staged.transactions()).expect("stored already");
    drop(chain);
    let mut chain = fixture.open();
    let reader = chain.reader();
    assert_eq!(reader.pending_block(2, &hash), Some(block.clone()));
    assert_eq!(reader.pending_block(3, &hash), None);
    assert_eq!(reader.pending_blocks(), std::slice::from_ref(&block));
    assert_eq!(reader.body(&transaction.leaf_hash()), Ok(Some(transaction.encoded().clone())));
    assert_eq!(reader.transaction(&transaction.id()), Ok(None), "stored is not committed");
    let staged = chain.validate(&block, &[transaction]).expect("readable").expect("valid");
    let certificate = finalization(&chain, &block.header);
    chain.commit(staged, certificate).expect("committed");
    assert_eq!(reader.pending_blocks(), []);
}

#[test]
fn the_bodies_of_blocks_that_lost_are_removed() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let shared = fixture.transaction(1, 0..1);
    let lost = fixture.transaction(1, 1..2);
    let won = fixture.transaction(1, 2..3);
    let losing = prepare(&chain, &[shared.clone(), lost.clone()]).staged;
    let winning = prepare(&chain, &[won.clone(), shared.clone()]).staged;
    for staged in [&losing, &winning] {
        chain.store_pending(staged.block(), staged.transactions()).expect("stored");
    }
    assert_eq!(stored_bodies(&chain), 4);
    let certificate = finalization(&chain, &winning.block().header);
    chain.commit(winning, certificate).expect("committed");
    assert_eq!(stored_bodies(&chain), 2);
    let reader = chain.reader();
    assert_eq!(reader.body(&lost.leaf_hash()), Ok(None));
    for kept in [shared, won] {
        assert_eq!(reader.body(&kept.leaf_hash()), Ok(Some(kept.encoded().clone())));
    }
    drop((chain, reader));
    Model::new(&fixture.genesis).follow(&fixture.open().reader());
}

#[test]
fn a_block_that_was_never_stored_for_voting_is_committed_with_its_bodies() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let staged = prepare(&chain, &[fixture.transaction(1, 0..3)]).staged;
    let certificate = finalization(&chain, &staged.block().header);
    chain.commit(staged, certificate).expect("committed");
    Model::new(&fixture.genesis).follow(&chain.reader());
}

#[test]
fn only_a_block_on_the_tip_with_its_own_bodies_is_stored() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let staged = prepare(&chain, &[fixture.transaction(1, 0..1)]).staged;
    let others = [fixture.transaction(1, 1..2)];
    assert_eq!(chain.store_pending(staged.block(), &others), Err(StoreError::NotOnTip));
    commit(&mut chain, &[]);
    let late = chain.store_pending(staged.block(), staged.transactions());
    assert_eq!(late, Err(StoreError::NotOnTip));
    assert_eq!(stored_bodies(&chain), 0);
}
