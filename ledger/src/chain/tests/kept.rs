//! What a decision rested on is kept with it, for a while.

use super::*;
use crate::{
    chain::{Staged, kept::Kept},
    finality::{
        decision::{Decision, Grounds},
        vote::{Ballot, Vote},
    },
    limits::KEPT_HEIGHTS_MAX,
    registry::genesis::tests::genesis,
    store::Store,
};

/// A nullification of a view, made by hand: what is kept is not verified.
fn grounds(height: u64, views: std::ops::Range<u64>) -> Grounds {
    let genesis = genesis(4);
    let set = genesis.validators();
    let certificate = |view| {
        let ballot = Ballot { kind: VoteKind::Nullify, height, view, block_hash: Hash::ZERO };
        let vote =
            |seed: u8| Vote::sign(ballot, &genesis.chain_id(), &SigningKey::from_seed(&[seed; 32]));
        let votes = [vote(1), vote(2), vote(3)];
        Certificate::from_votes(ballot, &votes, &set).expect("a quorum")
    };
    Grounds { certificates: views.map(certificate).collect(), claims: Vec::new() }
}

fn staged(chain: &Chain) -> (Staged, Certificate) {
    let staged = prepare(chain, &[]).staged;
    let certificate = finalization(chain, &staged.block().header);
    (staged, certificate)
}

fn read(chain: &Chain, height: u64) -> Option<Decision> {
    chain.reader().decision(height).expect("a sound store")
}

#[test]
fn what_a_decision_rested_on_is_there_after_a_restart() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let (first, certificate) = staged(&chain);
    let header = first.block().header.clone();
    chain.commit_with(first, certificate.clone(), grounds(1, 1..4)).expect("committed");
    let (second, _) = staged(&chain);
    let of_second = finalization(&chain, &second.block().header);
    chain.commit(second, of_second).expect("committed");
    drop(chain);
    let chain = fixture.open();
    let decided = Some((header, certificate));
    // Within the limits, late views come first.
    let kept = grounds(1, 1..4).limited();
    assert_eq!(read(&chain, 1), Some(Decision { height: 1, decided, grounds: kept }));
    let second = read(&chain, 2).expect("committed");
    assert!(
        second.decided.is_some() && second.grounds.is_empty(),
        "it caught up: no more is known"
    );
    assert_eq!((read(&chain, 0), read(&chain, 3)), (None, None), "nobody decided these");
}

#[test]
fn a_node_that_halts_keeps_what_it_held_and_later_what_it_committed_with() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    chain.keep(1, grounds(1, 1..2)).expect("kept");
    assert!(chain.keep(2, grounds(2, 1..2)).is_err(), "far from where it is");
    drop(chain);
    let mut chain = fixture.open();
    let halted = Decision { height: 1, decided: None, grounds: grounds(1, 1..2) };
    assert_eq!(read(&chain, 1), Some(halted));
    let (first, certificate) = staged(&chain);
    chain.commit_with(first, certificate, grounds(1, 2..3)).expect("committed");
    chain.keep(1, grounds(1, 3..4)).expect("kept");
    let kept = read(&chain, 1).expect("committed");
    assert!(kept.decided.is_some());
    let views: Vec<_> = kept.grounds.certificates.iter().map(|c| c.ballot.view).collect();
    assert_eq!(views, [3, 2], "the tip's may be added to");
}

#[test]
fn the_oldest_go_where_there_is_too_much() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path(), &StoreOptions::default()).expect("opened");
    let one = grounds(1, 1..2);
    let rows = |kept: &Kept| {
        let read = Kept::read(&store).expect("sound");
        assert_eq!(read, *kept, "what is counted is what is there");
        kept.heights()
    };
    let mut kept = Kept::default();
    let put = |kept: &mut Kept, heights_max, bytes_max, height, grounds: &Grounds| {
        let mut batch = store.batch();
        kept.put_within(heights_max, bytes_max, &mut batch, height, grounds.clone());
        batch.write().expect("written");
    };
    for height in 1..=5 {
        put(&mut kept, 3, usize::MAX, height, &one);
    }
    assert_eq!(rows(&kept), [3, 4, 5]);
    put(&mut kept, 3, usize::MAX, 6, &Grounds::default());
    assert_eq!(rows(&kept), [3, 4, 5], "nothing is no row");
    let of_one = kept.bytes() / 3;
    put(&mut kept, 10, of_one * 3, 7, &one);
    assert_eq!(rows(&kept), [4, 5, 7]);
    put(&mut kept, 10, of_one * 3, 7, &one);
    assert_eq!(rows(&kept), [4, 5, 7], "replaced, not added");
    put(&mut kept, 10, of_one * 3, 8, &grounds(1, 1..4));
    assert_eq!(rows(&kept), [8], "a large one takes the room of several");
    put(&mut kept, KEPT_HEIGHTS_MAX, of_one - 1, 9, &one);
    assert_eq!(rows(&kept), [0; 0], "what does not fit at all is not kept");
}
