//! A chain that is divided after its validators have changed.

use super::*;
use crate::{
    finality::decision::{Decision, Grounds},
    proofs::fork::{self, Conclusion},
};

/// A decision of the next height, at another time than the chain's, finalized in view 1 by these validators.
fn decided_by(chain: &Chain, time_ms: u64, seeds: &[u8]) -> Decision {
    let (tip, chain_id) = (chain.tip(), chain.chain_id());
    let header = Header { time_ms, ..prepare(chain, &[]).staged.block().header.clone() };
    let (height, block_hash) = (header.height, header.hash());
    let ballot = Ballot { kind: VoteKind::Finalize, height, view: 1, block_hash };
    let votes: Vec<_> =
        seeds.iter().map(|seed| Vote::sign(ballot, &chain_id, &key(*seed))).collect();
    let finalization = Certificate::from_votes(ballot, &votes, &tip.validators).expect("a quorum");
    Decision { height, decided: Some((header, finalization)), grounds: Grounds::default() }
}

/// One who was not there at the genesis, and one whose key was exchanged since, are among the liars.
#[test]
fn those_who_decide_after_a_change_are_named_with_the_steps_and_nobody_without() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    join(&mut chain);
    let old = registered(&chain, 2);
    apply(&mut chain, &[validator(2, 22)], &[old]);
    let tip = chain.tip();
    assert_eq!((tip.validators.count(), tip.validators.quorum()), (5, 4));
    let (one, other) = ([1, 4, 5, 22], [3, 4, 5, 22]);
    let time_ms = tip.header.time_ms + 1000;
    let (a, b) = (decided_by(&chain, time_ms, &one), decided_by(&chain, time_ms + 1, &other));
    let height = a.height;
    let mut verifier = Verifier::new(&fixture.genesis);
    let examine = |verifier: &Verifier| {
        fork::examine(height, &[&a, &b], &chain.chain_id(), verifier.validators_at(height))
    };
    let mut refusals = Vec::new();
    for step in chain.reader().validator_changes(0, usize::MAX).expect("readable") {
        refusals.push(examine(&verifier).expect_err("by others than these").error.code());
        verifier.follow(&step).expect("genuine");
    }
    assert_eq!(refusals, ["HEADER_VALIDATORS"; 2]);
    let examination = examine(&verifier).expect("finalizations that verify");
    assert_eq!(examination.conclusion, Conclusion::Proven);
    assert_eq!(examination.keys(), [4, 5, 22].map(|seed| key(seed).public()).into());
}
