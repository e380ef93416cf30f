//! A chain of two changes of the validators, and everything that must make it refused.

use prost::Message as _;

use super::*;
use crate::{
    finality::vote::{Ballot, Vote},
    keys::SigningKey,
    registry::genesis::tests::genesis,
};

/// Four validators; those of these seeds have votes.
fn set(seeds: [u8; 4]) -> ValidatorSet {
    let validator = |(index, seed): (usize, u8)| Validator {
        agency: format!("A{:03}", index + 1).parse().expect("a code"),
        key: SigningKey::from_seed(&[seed; 32]).public(),
    };
    ValidatorSet::new(seeds.into_iter().enumerate().map(validator).collect()).expect("a set")
}

/// The genesis's, then those after each change.
const SEEDS: [[u8; 4]; 3] = [[1, 2, 3, 4], [5, 2, 3, 4], [5, 6, 3, 4]];

/// The first height that one of [`SEEDS`] decides in the sample.
fn first_height(seeds: [u8; 4]) -> u64 {
    let place = SEEDS.iter().position(|known| *known == seeds);
    place.map_or(1, |place| [1, 4, 9][place])
}

/// The header at a height, decided by the first three of one set and announcing another.
fn head(genesis: &Genesis, height: u64, by: [u8; 4], next: [u8; 4]) -> (Header, Certificate) {
    head_by(genesis, height, (by, first_height(by)), next)
}

/// The same, where the set decides from a height on.
fn head_by(
    genesis: &Genesis,
    height: u64,
    (by, from): ([u8; 4], u64),
    next: [u8; 4],
) -> (Header, Certificate) {
    let decides = set(by).deciding_from(from);
    let follows = if next == by { from } else { height + 1 };
    let header = Header {
        height,
        time_ms: genesis.time_ms + height,
        validators_hash: decides.hash(),
        next_validators_hash: set(next).deciding_from(follows).hash(),
        view: 1,
        ..genesis.header()
    };
    let certificate = finalize(genesis, &header, by);
    (header, certificate)
}

/// A finalization by the first three of a set.
fn finalize(genesis: &Genesis, header: &Header, by: [u8; 4]) -> Certificate {
    let (kind, block_hash) = (VoteKind::Finalize, header.hash());
    let ballot = Ballot { kind, height: header.height, view: 1, block_hash };
    let vote = |seed| Vote::sign(ballot, &genesis.chain_id(), &SigningKey::from_seed(&[seed; 32]));
    let votes = [by[0], by[1], by[2]].map(vote);
    Certificate::from_votes(ballot, &votes, &set(by)).expect("a quorum")
}

fn step(genesis: &Genesis, height: u64, by: [u8; 4], next: [u8; 4]) -> ValidatorStep {
    step_by(genesis, height, (by, first_height(by)), next)
}

fn step_by(genesis: &Genesis, height: u64, by: ([u8; 4], u64), next: [u8; 4]) -> ValidatorStep {
    let (header, certificate) = head_by(genesis, height, by, next);
    ValidatorStep { header, certificate, validators: set(next).deciding_from(height + 1) }
}

fn encoded(steps: &[ValidatorStep]) -> Vec<u8> {
    v1::ValidatorChain { steps: steps.iter().map(ValidatorStep::to_proto).collect() }
        .encode_to_vec()
}

/// Steps announced at heights 3 and 8.
fn sample() -> (Genesis, [ValidatorStep; 2]) {
    let genesis = genesis(4);
    let first = step(&genesis, 3, SEEDS[0], SEEDS[1]);
    let second = step(&genesis, 8, SEEDS[1], SEEDS[2]);
    (genesis, [first, second])
}

fn followed(genesis: &Genesis, chain: &[u8]) -> Result<Verifier, StepError> {
    let mut verifier = Verifier::new(genesis);
    verifier.follow_encoded(chain).map(|()| verifier)
}

#[test]
fn a_chain_leads_from_the_genesis_to_the_newest_validators() {
    let (genesis, steps) = sample();
    let verifier = followed(&genesis, &encoded(&steps)).expect("genuine");
    assert_eq!(verifier.known_from(), 9);
    for (height, seeds) in [(1, 0), (3, 0), (4, 1), (8, 1), (9, 2), (1000, 2)] {
        let expected = set(SEEDS[seeds]).deciding_from(first_height(SEEDS[seeds]));
        assert_eq!(verifier.validators_at(height), &expected, "height {height}");
    }
}

#[test]
fn every_flipped_bit_of_a_chain_is_refused() {
    let (genesis, steps) = sample();
    let bytes = encoded(&steps);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(followed(&genesis, &flipped).is_err(), "bit {bit}");
    }
}

/// Between two steps a chain may end: what is left is the chain as it was before the later change.
/// It does not pass for the longer one, as no header after that change verifies with it.
#[test]
fn a_cut_chain_is_refused_or_an_older_one_that_proves_nothing_of_later_heights() {
    let (genesis, steps) = sample();
    let bytes = encoded(&steps);
    let boundaries = [0, encoded(&steps[..1]).len()];
    let (later, certificate) = head(&genesis, 9, SEEDS[2], SEEDS[2]);
    let (later, certificate) = (later.encode(), certificate.encode());
    let whole = followed(&genesis, &bytes).expect("genuine");
    assert!(whole.verify_final(&later, &certificate).is_ok());
    for length in 0..bytes.len() {
        let cut = followed(&genesis, &bytes[..length]);
        assert_eq!(cut.is_ok(), boundaries.contains(&length), "{length} bytes");
        if let Ok(older) = cut {
            let refused = older.verify_final(&later, &certificate).expect_err("of unknown ones");
            assert_eq!(refused.code(), "VALIDATOR_STEP_MISSING", "{length} bytes");
        }
    }
    for extension in [&[0][..], &[0x10, 1], &bytes] {
        assert!(followed(&genesis, &[&bytes, extension].concat()).is_err());
    }
}

#[test]
fn each_false_step_has_its_name() {
    let (genesis, [first, second]) = sample();
    let code =
        |steps: &[ValidatorStep]| followed(&genesis, &encoded(steps)).expect_err("refused").code();
    let of = |by, next, validators| {
        let (header, certificate) = head(&genesis, 3, by, next);
        ValidatorStep { header, certificate, validators: set(validators).deciding_from(4) }
    };
    let [old, new, other] = SEEDS;
    assert_eq!(code(&[second.clone(), first.clone()]), "VALIDATOR_STEP_MISSING");
    assert_eq!(code(&[first.clone(), first.clone()]), "STEP_ORDER");
    assert_eq!(code(&[first.clone(), second.clone(), first.clone()]), "STEP_ORDER");
    assert_eq!(code(&[step(&genesis, 0, old, old)]), "STEP_ORDER", "to the genesis's own");
    assert_eq!(code(&[of(old, old, old)]), "STEP_VALIDATORS");
    assert_eq!(code(&[of(old, new, other)]), "STEP_VALIDATORS");
    let unsigned = ValidatorStep { certificate: second.certificate.clone(), ..first.clone() };
    assert_eq!(code(&[unsigned]), "CERTIFICATE_HEIGHT");
    let version = Header { version: 2, ..first.header.clone() };
    assert_eq!(code(&[ValidatorStep { header: version, ..first }]), "HEADER_VERSION");
}

#[test]
fn a_step_that_is_known_is_taken_again_only_if_it_is_certified() {
    let (genesis, [first, second]) = sample();
    let mut verifier =
        followed(&genesis, &encoded(&[first.clone(), second.clone()])).expect("genuine");
    assert_eq!(verifier.follow(&first), Ok(()));
    assert_eq!(verifier.changes().collect::<Vec<_>>(), [(4, 3), (9, 3)]);
    let twice = v1::ValidatorChain { steps: vec![first.to_proto(), first.to_proto()] };
    assert_eq!(verifier.follow_chain(&twice), Err(StepError::Order { found: 3, from: 4 }));
    let forged = ValidatorStep { certificate: second.certificate, ..first };
    assert_eq!(verifier.follow(&forged), Err(StepError::Order { found: 3, from: 9 }));
}

#[test]
fn another_certified_step_at_a_known_height_is_the_proof_of_a_fork() {
    let (genesis, steps) = sample();
    let mut verifier = followed(&genesis, &encoded(&steps)).expect("genuine");
    // The same validators, announced by another block.
    let other_block = Header { log_size: 1, ..steps[0].header.clone() };
    let other_block = ValidatorStep {
        certificate: finalize(&genesis, &other_block, SEEDS[0]),
        header: other_block,
        ..steps[0].clone()
    };
    for other in [
        step(&genesis, 3, SEEDS[0], [7, 2, 3, 4]),
        step(&genesis, 8, SEEDS[1], SEEDS[0]),
        other_block,
    ] {
        let height = other.header.height;
        assert_eq!(verifier.follow(&other), Err(StepError::Fork(height)), "{height}");
    }
    // Where no other validators are known to be announced.
    let elsewhere = step(&genesis, 2, SEEDS[0], SEEDS[1]);
    assert_eq!(verifier.follow(&elsewhere), Err(StepError::Fork(2)));
    // By those who did not decide the height.
    let stranger = step(&genesis, 3, SEEDS[2], SEEDS[1]);
    assert_eq!(verifier.follow(&stranger), Err(StepError::Order { found: 3, from: 9 }));
}

/// A set that comes back is another: nobody can be led past the steps between.
#[test]
fn a_chain_that_lacks_steps_is_followed_by_nobody_though_a_set_came_back() {
    let genesis = genesis(4);
    let [first, other, last] = SEEDS;
    let away = step(&genesis, 3, first, other);
    let back = step_by(&genesis, 5, (other, 4), first);
    let change = step_by(&genesis, 8, (first, 6), last);
    let honest = [away, back, change.clone()];
    let cut = followed(&genesis, &encoded(&[change])).expect_err("by a set that is not known");
    assert_eq!(cut.code(), "VALIDATOR_STEP_MISSING");
    let mut whole = followed(&genesis, &encoded(&honest)).expect("genuine");
    whole.follow_encoded(&encoded(&honest[2..])).expect("what it has of it");
}
