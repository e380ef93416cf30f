//! Published vectors of the signature scheme: those of CCTV, read in place, and of Project Wycheproof,
//! which has none for SHA-256 by itself; and those that RFC 9381 has of the verifiable random function. Those
//! of the trees are in `merkle::tests`.

use std::{fs, path::Path};

use customhouse_ledger::{
    keys::{PublicKey, Signature},
    vrf::{VrfError, VrfProof, VrfPublicKey, VrfSecretKey},
};
use serde_json::Value;
use wycheproof::{
    TestResult,
    eddsa::{TestName, TestSet},
};

/// What a signature may be made of and still be accepted by every implementation.
const HARMLESS: [&str; 2] = ["low_order_component_A", "low_order_component_R"];

/// The accepted ones of the 914 of CCTV, on whichever processor: a signature that one validator accepts
/// and another does not divides them.
#[test]
fn of_the_edge_cases_of_ed25519_those_are_accepted_that_everybody_accepts() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/vectors/ed25519-cctv/ed25519vectors.json");
    let Ok(text) = fs::read_to_string(&file) else {
        eprintln!("skipped: no vectors at {}", file.display());
        return;
    };
    let vectors: Vec<Value> = serde_json::from_str(&text).expect("a list");
    let mut accepted = 0;
    for vector in &vectors {
        let bytes = |field: &str| hex::decode(vector[field].as_str().expect("text")).expect("hex");
        let signature = Signature::from_slice(&bytes("sig")).expect("64 bytes");
        let message = vector["msg"].as_str().expect("text");
        let key = PublicKey::from_slice(&bytes("key"));
        let verified = key.is_ok_and(|key| key.verify(message.as_bytes(), &signature).is_ok());
        let flags = vector["flags"].as_array().map(Vec::as_slice).unwrap_or_default();
        let harmless = |flag: &Value| flag.as_str().is_some_and(|flag| HARMLESS.contains(&flag));
        assert_eq!(verified, flags.iter().all(harmless), "{vector}");
        accepted += usize::from(verified);
    }
    assert_eq!((vectors.len(), accepted), (914, 43));
}

/// Every Ed25519 test of Project Wycheproof. None of them may go either way, and we judge none
/// differently; a signature of another length than 64 bytes is refused where it is read.
#[test]
fn of_wycheproof_all_valid_signatures_are_accepted_and_all_invalid_ones_refused() {
    let set = TestSet::load(TestName::Ed25519).expect("embedded");
    let (mut valid, mut invalid) = (0, 0);
    for group in &set.test_groups {
        let key = PublicKey::from_slice(&group.key.pk).expect("every key is a point");
        for test in &group.tests {
            let signature = Signature::from_slice(&test.sig);
            let verified = signature.is_ok_and(|s| key.verify(&test.msg, &s).is_ok());
            let name = format!("test {}: {}", test.tc_id, test.comment);
            match test.result {
                TestResult::Valid => assert!(verified, "{name}"),
                TestResult::Invalid => assert!(!verified, "{name}"),
                TestResult::Acceptable => panic!("{name}: decide which"),
            }
            valid += usize::from(verified);
            invalid += usize::from(!verified);
        }
    }
    assert_eq!((valid, invalid), (88, 63));
}

/// The three examples of RFC 9381 for our suite: keys, proofs and outputs byte by byte, from the secret keys
/// and from the public ones.
#[test]
fn the_verifiable_random_function_is_that_of_rfc_9381() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/ecvrf/rfc9381-b3.json");
    let Ok(text) = fs::read_to_string(&file) else {
        eprintln!("skipped: no vectors at {}", file.display());
        return;
    };
    let vectors: Value = serde_json::from_str(&text).expect("JSON");
    let vectors = vectors["vectors"].as_array().expect("a list");
    for (number, vector) in vectors.iter().enumerate() {
        let bytes = |field: &str| hex::decode(vector[field].as_str().expect("text")).expect("hex");
        let (alpha, pi, beta) = (bytes("alpha"), bytes("pi"), bytes("beta"));
        let secret = VrfSecretKey::from_seed(&bytes("sk").try_into().expect("32 bytes"));
        let public = VrfPublicKey::from_slice(&bytes("pk")).expect("a key");
        assert_eq!(*secret.public(), public);
        assert_eq!(secret.prove(&alpha).expect("a point").to_bytes(), pi[..]);
        assert_eq!(secret.output(&alpha).expect("a point").as_bytes(), &beta[..]);
        let proof = VrfProof::from_slice(&pi).expect("a proof");
        assert_eq!(public.verify(&alpha, &proof).expect("genuine").as_bytes(), &beta[..]);
        let another = vectors[(number + 1) % vectors.len()]["alpha"].as_str().expect("text");
        let another = hex::decode(another).expect("hex");
        assert_eq!(public.verify(&another, &proof), Err(VrfError::Proof));
    }
    assert_eq!(vectors.len(), 3);
}
