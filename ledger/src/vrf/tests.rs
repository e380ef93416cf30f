//! The function against RFC 9381, and what holds of it whatever the key, the text and the damage.

use std::collections::BTreeSet;

use curve25519_dalek::{constants::EIGHT_TORSION, edwards::CompressedEdwardsY};
use proptest::prelude::*;

use super::*;

fn secret(seed: u8) -> VrfSecretKey {
    VrfSecretKey::from_seed(&[seed; 32])
}

/// All encodings that are decoded to points of low order, whether or not they are the one encoding.
fn of_low_order() -> Vec<[u8; 32]> {
    let mut found = BTreeSet::new();
    for point in EIGHT_TORSION {
        found.insert(point.compress().to_bytes());
    }
    // Not reduced, and with the sign of an x that is 0.
    for first in 0xec..=0xff {
        for last in [0x7f, 0xff] {
            let mut bytes = [0xff; 32];
            (bytes[0], bytes[31]) = (first, last);
            found.insert(bytes);
        }
    }
    let mut minus_zero = [0; 32];
    (minus_zero[0], minus_zero[31]) = (1, 0x80);
    found.insert(minus_zero);
    let low = |bytes: &[u8; 32]| {
        CompressedEdwardsY(*bytes).decompress().is_some_and(|point| point.is_small_order())
    };
    found.into_iter().filter(low).collect()
}

#[test]
fn no_encoding_of_low_order_is_a_key_or_the_gamma_of_a_proof_that_verifies() {
    let encodings = of_low_order();
    assert_eq!(encodings.len(), 14);
    let (secret, alpha) = (secret(1), b"alpha");
    let genuine = secret.prove(alpha).expect("a point").to_bytes();
    let mut decoded = 0;
    for bytes in encodings {
        let refused = VrfPublicKey::from_slice(&bytes);
        assert_eq!(refused, Err(VrfError::Key(KeyError::LowOrder)), "{}", hex::encode(bytes));
        let mut proof = genuine;
        proof[..32].copy_from_slice(&bytes);
        match VrfProof::from_slice(&proof) {
            Ok(proof) => {
                decoded += 1;
                assert_eq!(secret.public().verify(alpha, &proof), Err(VrfError::Proof));
            }
            Err(error) => assert_eq!(error, VrfError::Gamma),
        }
    }
    assert_eq!(decoded, 8, "each point of low order has one encoding");
}

#[test]
fn a_key_has_one_encoding_where_the_ledger_s_other_keys_have_two() {
    let mut bytes = [0; 32];
    bytes[0] = 3;
    let mut above = [0xff; 32];
    (above[0], above[31]) = (0xed + 3, 0x7f);
    let (one, other) = (PublicKey::from_slice(&bytes), PublicKey::from_slice(&above));
    assert_eq!(one.expect("a key").point(), other.expect("a key").point());
    assert!(VrfPublicKey::from_slice(&bytes).is_ok());
    assert_eq!(VrfPublicKey::from_slice(&above), Err(VrfError::KeyEncoding));
}

#[test]
fn an_encoding_is_taken_exactly_where_it_is_what_its_point_is_encoded_as() {
    let mut edges: Vec<[u8; 32]> = of_low_order();
    for first in 0..=u8::MAX {
        for (middle, last) in [(0, 0), (0, 0x80), (0xff, 0x7f), (0xff, 0xff), (0xff, 0x7e)] {
            let mut bytes = [middle; 32];
            (bytes[0], bytes[31]) = (first, last);
            edges.push(bytes);
        }
    }
    let mut taken = 0;
    for bytes in edges {
        let decoded = CompressedEdwardsY(bytes).decompress();
        let one = decoded.filter(|point| point.compress().to_bytes() == bytes);
        assert_eq!(suite::point_of(&bytes), one, "{}", hex::encode(bytes));
        taken += usize::from(one.is_some());
    }
    assert!(taken > 300, "{taken}");
}

#[test]
fn a_point_is_looked_for_256_times_and_never_of_low_order() {
    let tried = std::cell::Cell::new(0);
    let none = |_| {
        tried.set(tried.get() + 1);
        // No x has y = 2.
        let mut bytes = [0; 32];
        bytes[0] = 2;
        bytes
    };
    assert_eq!(suite::first_point(none), Err(VrfError::NoPoint));
    assert_eq!(tried.get(), 256);
    let torsion = |counter: u8| EIGHT_TORSION[usize::from(counter) % 8].compress().to_bytes();
    assert_eq!(suite::first_point(torsion), Err(VrfError::NoPoint));
    let three = |counter: u8| {
        let mut bytes = [0; 32];
        bytes[0] = if counter == u8::MAX { 3 } else { 2 };
        bytes
    };
    let last = suite::first_point(three).expect("the last is one");
    assert!(last.is_torsion_free());
}

/// A point of low order on top of Gamma leaves beta as it is: where such a proof can be made to verify at all,
/// it is by whoever has the secret, and shows the same output.
#[test]
fn low_order_on_top_of_gamma_does_not_change_the_output() {
    let gamma = secret(1).prove(b"alpha").expect("a point").gamma;
    for torsion in EIGHT_TORSION {
        assert_eq!(suite::output_of(&(gamma + torsion)), suite::output_of(&gamma));
    }
}

#[test]
fn nothing_of_a_secret_or_an_output_is_shown() {
    let secret = secret(7);
    let output = secret.output(b"alpha").expect("a point");
    assert_eq!(format!("{secret:?} {output:?}"), "VrfSecretKey(…) VrfOutput(…)");
    assert_eq!(secret.with_seed(|seed| *seed), [7; 32]);
}

#[test]
fn a_proof_of_another_length_is_refused_with_it() {
    let proof = secret(1).prove(b"alpha").expect("a point").to_bytes();
    for length in (0..80).chain([81, 160]) {
        let bytes = &proof.repeat(2)[..length];
        let wrong = LengthError { expected: 80, found: length };
        assert_eq!(VrfProof::from_slice(bytes), Err(VrfError::ProofLength(wrong)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_proven_verifies_and_is_the_output(seed: [u8; 32], alpha: Vec<u8>, other: [u8; 32]) {
        let secret = VrfSecretKey::from_seed(&seed);
        let output = secret.output(&alpha)?;
        let bytes = secret.prove(&alpha)?.to_bytes();
        let proof = VrfProof::from_slice(&bytes)?;
        prop_assert_eq!(proof.to_bytes(), bytes);
        let public = VrfPublicKey::from_slice(secret.public().as_bytes())?;
        prop_assert_eq!(public.verify(&alpha, &proof), Ok(output));
        prop_assert_eq!(&output.first_half().0[..], &output.as_bytes()[..32]);
        let longer = [&alpha[..], &[0]].concat();
        prop_assert_eq!(public.verify(&longer, &proof), Err(VrfError::Proof));
        prop_assert_ne!(secret.output(&longer)?, output);
        prop_assume!(other != seed);
        let stranger = VrfSecretKey::from_seed(&other);
        prop_assert_eq!(stranger.public().verify(&alpha, &proof), Err(VrfError::Proof));
        prop_assert_ne!(stranger.output(&alpha)?, output);
    }

    #[test]
    fn a_proof_with_any_bit_flipped_is_refused(seed: [u8; 32], alpha: [u8; 20]) {
        let secret = VrfSecretKey::from_seed(&seed);
        let genuine = secret.prove(&alpha)?.to_bytes();
        for bit in 0..8 * genuine.len() {
            let mut flipped = genuine;
            flipped[bit / 8] ^= 1 << (bit % 8);
            let verified = VrfProof::from_slice(&flipped)
                .and_then(|proof| secret.public().verify(&alpha, &proof));
            prop_assert!(verified.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn no_bytes_surprise_the_decoders(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        if let Ok(key) = VrfPublicKey::from_slice(&bytes) {
            prop_assert_eq!(key.as_bytes(), &bytes[..]);
        }
        if let Ok(proof) = VrfProof::from_slice(&bytes) {
            prop_assert_eq!(&proof.to_bytes(), &bytes[..]);
            prop_assert!(secret(1).public().verify(b"alpha", &proof).is_err());
        }
    }
}
