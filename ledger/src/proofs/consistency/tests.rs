//! A proof between two heads of one log, and everything that must make it refused.

use prost::Message as _;

use super::*;
use crate::{
    finality::vote::VoteKind,
    hash::Hash,
    limits::CONSISTENCY_PROOF_BYTES_MAX,
    merkle::{Tree, leaf_hash},
    proofs::receipt::tests::finalize,
    registry::genesis::{Genesis, tests::genesis},
};

fn log(size: u8) -> Tree {
    Tree::new((0..size).map(|leaf| leaf_hash(&[leaf])).collect())
}

/// The header at a height, with a log of `log_size` leaves.
fn header(genesis: &Genesis, height: u64, log_size: u8) -> Header {
    Header {
        height,
        time_ms: genesis.time_ms + height,
        log_size: log_size.into(),
        log_root: log(log_size).root(),
        view: 1,
        ..genesis.header()
    }
}

/// The proof between these headers, which are both final.
fn between(genesis: &Genesis, from: &Header, to: &Header) -> v1::ConsistencyProof {
    let finalized = |header: &Header| match header.height {
        0 => Vec::new(),
        _ => finalize(header, genesis, VoteKind::Finalize).encode(),
    };
    let path = log(to.log_size as u8).consistency_path(from.log_size).unwrap_or_default();
    v1::ConsistencyProof {
        from_header: from.encode(),
        from_certificate: finalized(from),
        to_header: to.encode(),
        to_certificate: finalized(to),
        path: merkle::path_bytes(&path),
    }
}

/// The proof from 3 of the log's leaves to 7.
fn sample() -> (Genesis, v1::ConsistencyProof) {
    let genesis = genesis(4);
    let proof = between(&genesis, &header(&genesis, 1, 3), &header(&genesis, 2, 7));
    (genesis, proof)
}

#[test]
fn a_log_begins_with_every_earlier_one() {
    let genesis = genesis(4);
    let verifier = Verifier::new(&genesis);
    for (from, to) in (0..=9u8).flat_map(|to| (0..=to).map(move |from| (from, to))) {
        let (older, newer) = (header(&genesis, 1, from), header(&genesis, 2, to));
        let proof = between(&genesis, &older, &newer);
        assert_eq!(proof.path.is_empty(), from == 0 || from == to);
        let verified = verifier.verify_consistency(&proof.encode_to_vec()).expect("genuine");
        assert_eq!((verified.from, verified.to), (older, newer), "{from} to {to}");
        assert_eq!(verified.to_finalized_by, [0, 1, 2]);
    }
}

#[test]
fn the_genesis_and_a_head_itself_are_prefixes_too() {
    let genesis = genesis(4);
    let verifier = Verifier::new(&genesis);
    let (zero, one) = (genesis.header(), header(&genesis, 1, 3));
    for (from, to) in [(&zero, &zero), (&zero, &one), (&one, &one)] {
        let proof = between(&genesis, from, to).encode_to_vec();
        assert!(verifier.verify_consistency(&proof).is_ok(), "{} to {}", from.height, to.height);
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let (genesis, proof) = sample();
    let verifier = Verifier::new(&genesis);
    let bytes = proof.encode_to_vec();
    assert!(verifier.verify_consistency(&bytes).is_ok());
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(verifier.verify_consistency(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn every_other_length_is_refused() {
    let (genesis, proof) = sample();
    let verifier = Verifier::new(&genesis);
    let bytes = proof.encode_to_vec();
    for length in 0..bytes.len() {
        assert!(verifier.verify_consistency(&bytes[..length]).is_err(), "{length} bytes");
    }
    for extension in [&[0][..], &[0x78, 1], &bytes] {
        assert!(verifier.verify_consistency(&[&bytes, extension].concat()).is_err());
    }
    let large = vec![0; CONSISTENCY_PROOF_BYTES_MAX + 1];
    let refused = verifier.verify_consistency(&large);
    assert_eq!(refused, Err(ConsistencyError::TooLarge(large.len())));
}

#[test]
fn each_false_part_has_its_name() {
    let (genesis, genuine) = sample();
    let verifier = Verifier::new(&genesis);
    let code = |proof: &v1::ConsistencyProof| {
        verifier.verify_consistency(&proof.encode_to_vec()).expect_err("refused").code()
    };
    let changed = |change: &dyn Fn(&mut v1::ConsistencyProof)| {
        let mut proof = genuine.clone();
        change(&mut proof);
        code(&proof)
    };
    type Change<'a> = &'a dyn Fn(&mut v1::ConsistencyProof);
    let cases: [(&str, Change<'_>); 8] = [
        ("HEADER_MALFORMED", &|p| p.to_header.truncate(9)),
        ("CERTIFICATE_BLOCK_HASH", &|p| p.to_certificate[30] ^= 1),
        ("CERTIFICATE_HEIGHT", &|p| p.from_certificate.clone_from(&p.to_certificate)),
        ("CONSISTENCY_PATH_MALFORMED", &|p| p.path.truncate(31)),
        ("CONSISTENCY_PATH_LENGTH", &|p| p.path.truncate(p.path.len() - 32)),
        ("CONSISTENCY_PATH_LENGTH", &|p| p.path.extend([0; 32])),
        ("CONSISTENCY_FROM_ROOT", &|p| p.path[0] ^= 1),
        ("CONSISTENCY_TO_ROOT", &|p| p.path[32] ^= 1),
    ];
    for (expected, change) in cases {
        assert_eq!(changed(change), expected);
    }
    let (one, two) = (header(&genesis, 1, 3), header(&genesis, 2, 7));
    assert_eq!(code(&between(&genesis, &two, &one)), "CONSISTENCY_HEIGHTS");
    assert_eq!(code(&between(&genesis, &one, &header(&genesis, 1, 4))), "CONSISTENCY_FORK");
    assert_eq!(code(&between(&genesis, &two, &header(&genesis, 3, 6))), "CONSISTENCY_LOG_SIZES");
    let other = Header { log_root: Hash::ZERO, ..header(&genesis, 2, 3) };
    assert_eq!(code(&between(&genesis, &one, &other)), "CONSISTENCY_TO_ROOT");
}

#[test]
fn no_path_leads_from_the_empty_log() {
    let genesis = genesis(4);
    let (empty, full) = (header(&genesis, 1, 0), header(&genesis, 2, 7));
    let verifier = Verifier::new(&genesis);
    let code = |proof: v1::ConsistencyProof| {
        verifier.verify_consistency(&proof.encode_to_vec()).expect_err("refused").code()
    };
    let mut long = between(&genesis, &empty, &full);
    long.path.extend([0; 32]);
    assert_eq!(code(long), "CONSISTENCY_PATH_LENGTH");
    let not_empty = Header { log_root: Hash::ZERO, ..empty.clone() };
    assert_eq!(code(between(&genesis, &not_empty, &full)), "CONSISTENCY_FROM_ROOT");
    let not_empty = Header { height: 2, ..not_empty };
    assert_eq!(code(between(&genesis, &empty, &not_empty)), "CONSISTENCY_TO_ROOT");
}
