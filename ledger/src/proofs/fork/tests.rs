//! Four validators, of which the first two lie: A000 and A001. A quorum is three.

use crate::limits::{DECISIONS_BYTES_MAX, GROUNDS_BYTES_MAX, STATEMENTS_MAX};
use proptest::prelude::*;

use super::*;
use crate::finality::{
    decision,
    header::{Block, Header},
    validators::tests::{keys, set},
    vote::{Proposal, Proposed},
};

const CHAIN: Hash = Hash([1; 32]);
const HEIGHT: u64 = 7;
const LIARS: [usize; 2] = [0, 1];

/// Signers on the two sides of the fork.
const ONE: [usize; 3] = [0, 1, 2];
const OTHER: [usize; 3] = [0, 1, 3];

fn header(block: u8) -> Header {
    let set = set(4).hash();
    Header {
        chain_id: CHAIN,
        height: HEIGHT,
        time_ms: 1_700_000_000_000 + u64::from(block),
        validators_hash: set,
        next_validators_hash: set,
        ..crate::finality::header::tests::header()
    }
}

fn certificate(kind: VoteKind, view: u64, block: u8, signers: [usize; 3]) -> Certificate {
    let block_hash = if kind == VoteKind::Nullify { Hash::ZERO } else { header(block).hash() };
    let ballot = Ballot { kind, height: HEIGHT, view, block_hash };
    let keys = keys(4);
    let votes = signers.map(|index| Vote::sign(ballot, &CHAIN, &keys[index]));
    Certificate::from_votes(ballot, &votes, &set(4)).expect("a quorum")
}

fn notarized(view: u64, block: u8, signers: [usize; 3]) -> Certificate {
    certificate(VoteKind::Notarize, view, block, signers)
}

fn nullified(view: u64, signers: [usize; 3]) -> Certificate {
    certificate(VoteKind::Nullify, view, 0, signers)
}

fn claim(leader: usize, view: u64, block: u8) -> Claim {
    let key = &keys(4)[leader];
    let block = Block { header: header(block), leaves: Vec::new() };
    Claim::of(&Proposal::sign(block, view, 0, &CHAIN, key))
}

/// The block was finalized in this view by these, and its node held these certificates.
fn decided(view: u64, block: u8, by: [usize; 3], certificates: Vec<Certificate>) -> Decision {
    let finalization = certificate(VoteKind::Finalize, view, block, by);
    Decision {
        height: HEIGHT,
        decided: Some((header(block), finalization)),
        grounds: Grounds { certificates, claims: Vec::new() },
    }
}

fn to_examine(decisions: &[&Decision]) -> Option<u64> {
    let set = set(4);
    height_to_examine(decisions.iter().copied(), &CHAIN, |_| &set)
}

fn look_at(decisions: &[&Decision]) -> Examination {
    examine(HEIGHT, decisions, &CHAIN, &set(4)).expect("finalizations that verify")
}

fn named(examination: &Examination) -> Vec<usize> {
    let set = set(4);
    let index = |culprit: &Culprit| set.index_of(&culprit.validator.key).expect("a validator");
    examination.culprits.iter().map(index).collect()
}

/// Block 1 finalized in view 1; block 2 proposed anew after a nullification and finalized in view 2.
fn nullified_fork() -> [Decision; 2] {
    [
        decided(1, 1, ONE, vec![notarized(1, 1, ONE)]),
        decided(2, 2, OTHER, vec![nullified(1, OTHER), notarized(2, 2, OTHER)]),
    ]
}

/// Both blocks notarized in view 1; the second is proposed again, and finalized, in view 3.
fn reproposed_fork() -> [Decision; 2] {
    let certificates = vec![notarized(1, 2, OTHER), nullified(2, OTHER), notarized(3, 2, OTHER)];
    [decided(1, 1, ONE, vec![notarized(1, 1, ONE)]), decided(3, 2, OTHER, certificates)]
}

#[test]
fn those_who_signed_both_sides_are_named_with_their_signatures() {
    let same_view = [decided(4, 1, ONE, Vec::new()), decided(4, 2, OTHER, Vec::new())];
    for (what, [a, b]) in [
        ("finalized twice in one view", same_view),
        ("finalized and nullified a view", nullified_fork()),
        ("notarized two blocks in one view", reproposed_fork()),
    ] {
        for order in [[&a, &b], [&b, &a]] {
            let examination = look_at(&order);
            assert_eq!(examination.conclusion, Conclusion::Proven, "{what}");
            assert_eq!(named(&examination), LIARS, "{what}");
            assert!(!examination.parted_below && examination.left_out == 0, "{what}");
            for culprit in &examination.culprits {
                assert!(!culprit.evidence.is_empty(), "{what}");
                for evidence in &culprit.evidence {
                    assert!(evidence.proves(&CHAIN), "{what}");
                    assert_eq!(evidence.culprit(), culprit.validator.key, "{what}");
                }
            }
        }
    }
}

#[test]
fn what_is_missing_is_said_with_those_who_must_have_it() {
    let validators = |indexes: [usize; 3]| indexes.map(|i| *set(4).at(i).expect("one")).to_vec();
    let hash = |block: u8| header(block).hash();
    let without = |mut decisions: [Decision; 2], side: usize, index: usize| {
        decisions[side].grounds.certificates.remove(index);
        decisions
    };
    let bare =
        nullified_fork().map(|decision| Decision { grounds: Grounds::default(), ..decision });
    let justification =
        |view| MissingWhat::Justification { view, block_hash: hash(2), finalized_view: 1 };
    let notarization = |view, block| MissingWhat::Notarization { view, block_hash: hash(block) };
    for (what, decisions, missing, holders) in [
        ("nothing but the finalizations", bare, notarization(2, 2), OTHER),
        ("no nullification", without(nullified_fork(), 1, 0), justification(2), OTHER),
        ("no earlier notarization", without(reproposed_fork(), 1, 0), justification(3), OTHER),
        ("no notarization of the first", without(reproposed_fork(), 0, 0), notarization(1, 1), ONE),
    ] {
        let examination = look_at(&[&decisions[0], &decisions[1]]);
        let missing = Missing { what: missing, holders: validators(holders) };
        assert_eq!(examination.conclusion, Conclusion::NotEnough(missing), "{what}");
        assert_eq!(named(&examination), [0; 0], "{what}");
        assert_eq!(examination.finalized.len(), 2, "{what}");
    }
}

#[test]
fn a_third_file_gives_what_the_two_lack() {
    let [a, b] = reproposed_fork();
    let late = Decision { grounds: Grounds::default(), ..b.clone() };
    assert!(matches!(look_at(&[&a, &late]).conclusion, Conclusion::NotEnough(_)));
    let halted = Decision { decided: None, ..b };
    let examination = look_at(&[&a, &late, &halted]);
    assert_eq!(
        (examination.conclusion.clone(), named(&examination)),
        (Conclusion::Proven, LIARS.into())
    );
}

#[test]
fn one_node_that_halted_over_a_contradiction_is_enough() {
    let grounds = Grounds {
        certificates: vec![nullified(1, OTHER), certificate(VoteKind::Finalize, 1, 1, ONE)],
        claims: Vec::new(),
    };
    let halted = Decision { height: HEIGHT, decided: None, grounds };
    assert_eq!(to_examine(&[&halted]), Some(HEIGHT));
    let examination = look_at(&[&halted]);
    assert_eq!(
        (examination.conclusion.clone(), named(&examination)),
        (Conclusion::Proven, LIARS.into())
    );
}

#[test]
fn one_node_that_halted_at_its_newest_block_shows_the_fork_and_a_false_finalization_none() {
    let second = |signers| certificate(VoteKind::Finalize, 1, 2, signers);
    let halted = decided(1, 1, ONE, vec![notarized(1, 1, ONE), second(OTHER)]);
    assert_eq!(to_examine(&[&halted]), Some(HEIGHT));
    let examination = look_at(&[&halted]);
    assert_eq!(
        (examination.conclusion.clone(), named(&examination)),
        (Conclusion::Proven, LIARS.into())
    );
    let plain = decided(1, 1, OTHER, Vec::new());
    assert_eq!(to_examine(&[&plain, &halted]), Some(HEIGHT), "beside another");
    let mut false_one = second(OTHER);
    false_one.ballot.view = 2;
    for other in [false_one, notarized(1, 2, OTHER), certificate(VoteKind::Finalize, 2, 1, ONE)] {
        let honest = decided(1, 1, ONE, vec![other]);
        assert_eq!(to_examine(&[&plain, &honest]), None, "{honest:?}");
    }
}

#[test]
fn of_what_a_node_tells_only_what_verifies_is_kept_and_nothing_pushes_it_out() {
    let true_ones = vec![notarized(1, 1, ONE), nullified(2, OTHER)];
    let mut junk = certificate(VoteKind::Finalize, 3, 1, ONE);
    let mut certificates = vec![true_ones[0].clone(); 3];
    for view in (100..).take(STATEMENTS_MAX) {
        junk.ballot.view = view;
        certificates.push(junk.clone());
    }
    certificates.push(true_ones[1].clone());
    let mut forged = claim(3, 2, 1);
    forged.proposed.view = 3;
    let told = Grounds { certificates, claims: vec![claim(3, 2, 1), forged, claim(3, 2, 1)] };
    assert!(!told.clone().limited().certificates.contains(&true_ones[1]), "they are many");
    let kept = verified_grounds(told.clone(), HEIGHT, &CHAIN, &set(4));
    assert_eq!(kept, Grounds { certificates: true_ones, claims: vec![claim(3, 2, 1)] });
    assert!(verified_grounds(told, HEIGHT + 1, &CHAIN, &set(4)).is_empty());
}

#[test]
fn what_an_honest_validator_may_sign_accuses_nobody() {
    let finalize = |view, block| certificate(VoteKind::Finalize, view, block, ONE);
    for (what, certificates) in [
        ("notarize, then nullify", vec![notarized(1, 1, ONE), nullified(1, ONE)]),
        ("notarize one, finalize another", vec![notarized(1, 1, ONE), finalize(1, 2)]),
        ("finalize, then another in a later view", vec![finalize(1, 1), notarized(2, 2, ONE)]),
        ("finalize two in two views", vec![finalize(1, 1), finalize(2, 2)]),
        ("notarize again", vec![notarized(1, 1, ONE), nullified(2, ONE), notarized(3, 1, ONE)]),
    ] {
        let claims = vec![claim(2, 1, 1), claim(2, 2, 2)];
        let grounds = Grounds { certificates, claims };
        let decision = Decision { height: HEIGHT, decided: None, grounds };
        assert_eq!(look_at(&[&decision]).culprits, [], "{what}");
    }
}

#[test]
fn a_leader_that_proposed_two_blocks_is_named_too() {
    let [mut a, mut b] = reproposed_fork();
    a.grounds.claims.push(claim(3, 2, 1));
    b.grounds.claims.push(claim(3, 2, 2));
    assert_eq!(named(&look_at(&[&a, &b])), [0, 1, 3]);
    let [mut a, b] = reproposed_fork();
    // It notarized block 2 in view 3.
    a.grounds.claims.push(claim(3, 3, 1));
    assert_eq!(named(&look_at(&[&a, &b])), [0, 1, 3]);
    let stranger = crate::keys::SigningKey::from_seed(&[99; 32]);
    let mut foreign = claim(3, 2, 1);
    foreign.leader = stranger.public();
    let [mut a, b] = reproposed_fork();
    a.grounds.claims.push(foreign);
    let examination = look_at(&[&a, &b]);
    assert_eq!((named(&examination), examination.left_out), (LIARS.into(), 1));
}

#[test]
fn no_two_blocks_are_no_fork_and_a_lone_liar_is_named_all_the_same() {
    let [a, _] = nullified_fork();
    let mut again = decided(2, 1, OTHER, Vec::new());
    again.grounds.claims = vec![claim(0, 1, 1), claim(0, 1, 2)];
    assert_eq!(to_examine(&[&a, &again]), None);
    let examination = look_at(&[&a, &again]);
    assert_eq!(
        (examination.conclusion.clone(), named(&examination)),
        (Conclusion::NoFork, vec![0])
    );
}

#[test]
fn a_finalization_that_does_not_verify_is_no_input() {
    let [a, b] = nullified_fork();
    for (index, decisions, chain_id, n) in
        [(0, [&a, &b], Hash([2; 32]), 4), (0, [&a, &b], CHAIN, 5)]
    {
        let error = examine(HEIGHT, &decisions, &chain_id, &set(n)).expect_err("refused");
        assert_eq!(error.index, index);
    }
    let (header, _) = b.decided.clone().expect("decided");
    let notarization = notarized(2, 2, OTHER);
    let false_one = Decision { decided: Some((header, notarization)), ..b };
    let error = examine(HEIGHT, &[&a, &false_one], &CHAIN, &set(4)).expect_err("refused");
    assert_eq!((error.index, error.error), (1, FinalityError::Kind(VoteKind::Notarize)));
}

#[test]
fn the_lowest_height_at_which_blocks_differ_is_examined() {
    let at = |height: u64, block: u8| {
        let header = Header { height, ..header(block) };
        let finalization = certificate(VoteKind::Finalize, 1, block, ONE);
        Decision { height, decided: Some((header, finalization)), grounds: Grounds::default() }
    };
    let halted = |height| Decision { height, decided: None, grounds: Grounds::default() };
    for (decisions, expected) in [
        (vec![at(5, 1), at(6, 1), at(5, 1), at(6, 1)], None),
        (vec![at(5, 1), at(6, 1), at(6, 2), at(7, 2), at(7, 1)], Some(6)),
        (vec![halted(5), at(6, 1), at(6, 2)], Some(6)),
        (vec![halted(8), halted(5), at(6, 1)], Some(5)),
        (vec![], None),
    ] {
        assert_eq!(to_examine(&decisions.iter().collect::<Vec<_>>()), expected);
    }
}

/// What the bytes show with `others`, if they are decisions at all: an honest validator must never
/// be named.
fn look_at_bytes(bytes: &[u8], others: &[Decision], chain_id: &Hash) {
    for decision in decision::decode(bytes).iter().flatten() {
        let all: Vec<_> = others.iter().chain([decision]).collect();
        if let Ok(examination) = examine(decision.height, &all, chain_id, &set(4)) {
            let named = named(&examination);
            assert!(named.iter().all(|index| LIARS.contains(index)), "{examination:?}");
        }
    }
}

/// Both forks, some with more in them.
fn forks() -> [[Decision; 2]; 2] {
    let mut forks = [nullified_fork(), reproposed_fork()];
    forks[0][0].grounds.claims = vec![claim(0, 1, 1), claim(3, 2, 2)];
    forks[1][1].grounds.claims = vec![claim(3, 2, 2)];
    forks
}

#[test]
fn a_flipped_bit_never_accuses_the_honest() {
    for decision in forks().as_flattened() {
        let file = decision::encode(std::slice::from_ref(decision));
        for byte in 0..file.len() {
            let mut flipped = file.clone();
            flipped[byte] ^= 1 << (byte % 8);
            look_at_bytes(&flipped, &[], &CHAIN);
        }
    }
}

proptest! {
    #[test]
    fn mutilated_files_never_accuse_the_honest(
        fork in 0_usize..2,
        side in 0_usize..2,
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..80, any::<u8>()), 1..4),
    ) {
        let fork = &forks()[fork];
        let mut bytes = decision::encode(&fork[side..=side]);
        for (at, length, filled) in cuts {
            let at = at.index(bytes.len().max(1)).min(bytes.len());
            let end = (at + length).min(bytes.len());
            if filled < 128 {
                bytes.drain(at..end);
            } else {
                bytes[at..end].fill(filled);
            }
        }
        look_at_bytes(&bytes, fork, &CHAIN);
    }

    #[test]
    fn any_subset_of_what_was_held_names_liars_or_nobody(kept in any::<u16>(), which in 0_usize..2) {
        let mut decisions = if which == 0 { nullified_fork() } else { reproposed_fork() };
        let mut bit = 0;
        for decision in &mut decisions {
            decision.grounds.certificates.retain(|_| {
                bit += 1;
                kept >> bit & 1 == 1
            });
        }
        let examination = look_at(&[&decisions[0], &decisions[1]]);
        let named = named(&examination);
        match examination.conclusion {
            Conclusion::Proven => prop_assert_eq!(named, LIARS),
            Conclusion::NotEnough(missing) => {
                prop_assert_eq!(named.len(), 0);
                prop_assert_eq!(missing.holders.len(), 3);
            }
            Conclusion::NoFork => prop_assert!(false, "two blocks were finalized"),
        }
    }
}

#[test]
fn a_file_is_read_back_and_its_limits_hold() {
    let [first, second] = nullified_fork();
    let later = Decision { height: HEIGHT + 1, decided: None, grounds: Grounds::default() };
    let file = [first.clone(), later.clone()];
    assert_eq!(decision::decode(&decision::encode(&file)).as_deref(), Ok(&file[..]));
    for (what, file) in [
        ("a height twice", vec![first.clone(), second.clone()]),
        ("descending", vec![later, first.clone()]),
        ("a part of another height", vec![Decision { height: 9, ..first.clone() }]),
    ] {
        assert!(decision::decode(&decision::encode(&file)).is_err(), "{what}");
    }
    let many =
        Grounds { certificates: vec![nullified(1, ONE); STATEMENTS_MAX + 1], ..Grounds::default() };
    let many = Decision { grounds: many, ..first.clone() };
    assert!(decision::decode(&decision::encode(&[many])).is_err());
    assert!(decision::decode(&vec![0; DECISIONS_BYTES_MAX + 1]).is_err());
    let half = customhouse_proto::v1::Decision { certificate: Vec::new(), ..first.to_proto() };
    assert_eq!(Decision::from_proto(&half), Err(decision::DecisionError::Half(HEIGHT)));
}

#[test]
fn a_leader_that_signs_two_lists_of_leaves_for_one_block_is_named() {
    let block = |leaf| Block { header: header(1), leaves: vec![Hash([leaf; 32])] };
    let claim = |leaf| Claim::of(&Proposal::sign(block(leaf), 1, 0, &CHAIN, &keys(4)[0]));
    let mut decision = decided(1, 1, ONE, Vec::new());
    decision.grounds.claims = vec![claim(1), claim(1)];
    let named = |decision: &Decision| {
        let found = examine(HEIGHT, &[decision], &CHAIN, &set(4)).expect("it is final");
        found.culprits.len()
    };
    assert_eq!(named(&decision), 0, "the same twice");
    decision.grounds.claims.push(claim(2));
    assert_eq!(named(&decision), 1);
}

#[test]
fn what_is_kept_of_a_height_is_limited_and_keeps_what_matters_most() {
    let nullifications = (1..9_000).map(|view| {
        let ballot = Ballot { view, ..nullified(1, ONE).ballot };
        let votes = nullified(1, ONE).votes(&set(4));
        let votes = votes.into_iter().map(|vote| Vote { ballot, ..vote }).collect::<Vec<_>>();
        Certificate::from_votes(ballot, &votes, &set(4)).expect("a quorum")
    });
    let contradiction = certificate(VoteKind::Finalize, 3, 1, ONE);
    let mut certificates: Vec<_> = nullifications.collect();
    certificates.extend([notarized(5, 1, ONE), contradiction.clone()]);
    let claims = (1..2_000).map(|view| {
        let claim = claim(1, 1, 1);
        Claim { proposed: Proposed { view, ..claim.proposed }, ..claim }
    });
    let claims = claims.collect();
    let limited = Grounds { certificates, claims }.limited();
    assert_eq!(limited.certificates[..2], [contradiction, notarized(5, 1, ONE)]);
    assert_eq!(limited.certificates[2].ballot.view, 8_999, "the latest views first");
    assert_eq!(limited.certificates.len(), STATEMENTS_MAX);
    assert_eq!(limited.claims[0].proposed.view, 1_999);
    let bytes: usize = limited.certificates.iter().map(|c| c.encode().len()).sum();
    assert!(bytes <= GROUNDS_BYTES_MAX);
    assert_eq!(limited.clone().limited(), limited);
}
