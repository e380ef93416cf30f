//! Who leads, as the chain's own headers have it.

use super::*;
use crate::{chain::BlockInvalid, finality::leaders::Leaders};

/// Commits an empty block that was first proposed in this view.
fn commit_in(chain: &mut Chain, view: u64) {
    let context = context_in(chain, view);
    let staged = chain.prepare(&context, []).expect("readable").staged;
    let block = staged.block().clone();
    let staged = chain.validate(&block, &[]).expect("readable").expect("its leader's block");
    let certificate = finalization(chain, &block.header);
    chain.commit(staged, certificate).expect("committed");
}

#[test]
fn a_block_is_its_views_leaders() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    commit_in(&mut chain, 2);
    let tip = chain.tip();
    let leads = |view| tip.leaders.leader(&tip.validators, 2, view);
    for view in 1..=8 {
        for of in 1..=4 {
            let context = BlockContext { proposer: leads(of), ..context_in(&chain, view) };
            let staged = chain.prepare(&context, []).expect("readable").staged;
            let valid = chain.validate(staged.block(), &[]).expect("readable");
            if leads(view) == leads(of) {
                valid.expect("the leader's");
            } else {
                assert_eq!(valid.expect_err("another's"), BlockInvalid::Proposer);
            }
        }
    }
}

#[test]
fn a_reopened_chain_has_the_same_leaders_at_every_height() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let mut passed_over = 0;
    for height in 1..=290 {
        let view = if height % 41 == 0 { 3 } else { 1 };
        commit_in(&mut chain, view);
        let tip = chain.tip();
        passed_over += tip.leaders.passed_over().len();
        // Also where a term ends, at 256.
        if height % 40 == 1 || (254..=258).contains(&height) {
            drop(chain);
            chain = fixture.open();
            assert_eq!(chain.tip(), tip, "at height {height}");
        }
    }
    assert!(passed_over > 100, "some were passed over");
    assert_ne!(chain.tip().leaders, Leaders::default());
}
