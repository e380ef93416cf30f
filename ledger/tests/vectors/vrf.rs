//! The verifiable random function, and the keys that sealed records are indexed under.

use curve25519_dalek::{
    EdwardsPoint, Scalar, constants::EIGHT_TORSION, edwards::CompressedEdwardsY,
    scalar::clamp_integer,
};
use customhouse_ledger::{
    agency::AgencyCode,
    hash::{Hash, Tag},
    sealed_subject,
    vrf::{VrfError, VrfProof, VrfPublicKey, VrfSecretKey},
};
use customhouse_proto::v1::{self, subject::Scheme};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

use super::{
    cases::{Cases, with_cases},
    damage, hex_of,
    signed::above_the_prime,
};

const ALPHA: &[u8] = b"customhouse";

pub(crate) fn vrf() -> Value {
    let file = json!({ "outputs": outputs(), "sealed_subjects": sealed_subjects() });
    with_cases(file, [keys(), proofs(), subject_proofs()])
}

fn secret(seed: u8) -> VrfSecretKey {
    VrfSecretKey::from_seed(&[seed; 32])
}

fn public(seed: u8) -> [u8; 32] {
    *secret(seed).public().as_bytes()
}

fn proof_of(seed: u8, alpha: &[u8]) -> Vec<u8> {
    secret(seed).prove(alpha).expect("a point").to_bytes().to_vec()
}

fn outputs() -> Vec<Value> {
    let long: Vec<u8> = (0..=u8::MAX).cycle().take(1000).collect();
    let of = |(seed, alpha): (u8, &[u8])| {
        json!({
            "seed": hex_of([seed; 32]),
            "public_key": hex_of(public(seed)),
            "alpha": hex_of(alpha),
            "beta": hex_of(secret(seed).output(alpha).expect("a point").as_bytes()),
            "proof": hex_of(proof_of(seed, alpha)),
        })
    };
    [(1, &b""[..]), (1, ALPHA), (2, ALPHA), (2, &[0]), (3, &long)].map(of).to_vec()
}

/// What is lodged, by whom and of what, each under seed, agreement and epoch.
fn lodged() -> Vec<(u8, u32, &'static str, v1::Subject)> {
    let of = |scheme: Scheme, id: &str| v1::Subject { scheme: scheme as i32, id: id.to_owned() };
    let mrn = || of(Scheme::Mrn, "24NL00000000000001");
    vec![
        (1, 1, "NL-DOUANE", mrn()),
        (1, 1, "DE-ZOLL", mrn()),
        (2, 2, "NL-DOUANE", mrn()),
        (1, 1, "NL-DOUANE", of(Scheme::Ucr, "24NL00000000000001")),
        (1, 1, "NL-DOUANE", of(Scheme::Container, "MSKU1234565")),
        (1, u32::MAX, "XI", of(Scheme::Epc, "urn:epc:id:sgtin:4012345.012345.Ab1")),
        (1, 1, "ABCDEFGHIJKLMNO9", of(Scheme::TransportDocument, "ÉTÉ/7")),
    ]
}

fn sealed_subjects() -> Vec<Value> {
    let of = |(seed, epoch, code, subject): (u8, u32, &str, v1::Subject)| {
        let agency: AgencyCode = code.parse().expect("a code");
        let key = sealed_subject::key_of(&secret(seed), &agency, &subject).expect("normal");
        let agreement = Hash([0xa0 + seed; 32]);
        let proof = sealed_subject::prove(&secret(seed), &agency, &subject).expect("normal");
        json!({
            "seed": hex_of([seed; 32]),
            "public_key": hex_of(public(seed)),
            "agency": code,
            "scheme": subject.scheme,
            "id": subject.id,
            "proof": hex_of(proof.to_bytes()),
            "key": key,
            "agreement": agreement,
            "epoch": epoch,
            "index_key": sealed_subject::index_key(&agreement, epoch, &agency, &key),
        })
    };
    lodged().into_iter().map(of).collect()
}

/// Encodings of points of low order: their one, and the others that decoders take for them.
fn of_low_order() -> Vec<(&'static str, [u8; 32])> {
    let names = [
        "the neutral element",
        "a point of order 8",
        "a point of order 4",
        "another point of order 8",
        "the point of order 2",
        "a third point of order 8",
        "another point of order 4",
        "a fourth point of order 8",
    ];
    names.into_iter().zip(EIGHT_TORSION.map(|point| point.compress().to_bytes())).collect()
}

fn of_low_order_in_other_encodings() -> Vec<(&'static str, [u8; 32])> {
    let with_sign = |mut bytes: [u8; 32]| {
        bytes[31] |= 0x80;
        bytes
    };
    let (neutral, second) = (EIGHT_TORSION[0].compress().0, EIGHT_TORSION[4].compress().0);
    vec![
        ("the neutral element with a sign", with_sign(neutral)),
        ("the neutral element, not reduced", above_the_prime(1)),
        ("the neutral element, not reduced and with a sign", with_sign(above_the_prime(1))),
        ("the point of order 2 with a sign", with_sign(second)),
        ("a point of order 4, not reduced", above_the_prime(0)),
        ("another point of order 4, not reduced", with_sign(above_the_prime(0))),
    ]
}

fn y_is(first: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0] = first;
    bytes
}

fn keys() -> Cases {
    let mut cases = Cases::new("vrf_key");
    cases.valid("of seed 1", &public(1)[..]);
    cases.valid("y is 3", &y_is(3)[..]);
    cases.valid("with a part of low order", &with_low_order(&public(1))[..]);
    cases.refused("KEY_LENGTH", "31 bytes", vec![3; 31]);
    cases.refused("KEY_LENGTH", "33 bytes", [&public(1)[..], &[0]].concat());
    cases.refused("KEY_LENGTH", "nothing", vec![]);
    cases.refused("KEY_NOT_A_POINT", "y is 2", &y_is(2)[..]);
    for (change, bytes) in of_low_order().into_iter().chain(of_low_order_in_other_encodings()) {
        cases.refused("KEY_LOW_ORDER", change, &bytes[..]);
    }
    let mut other = above_the_prime(3);
    cases.refused("KEY_NOT_CANONICAL", "y is 3, not reduced", &other[..]);
    other[31] |= 0x80;
    cases.refused("KEY_NOT_CANONICAL", "y is 3, not reduced, the other x", &other[..]);
    let mut largest = [0xff; 32];
    largest[31] = 0x7f;
    cases.refused("KEY_NOT_CANONICAL", "y is 18, not reduced", &largest[..]);
    cases
}

fn point(bytes: &[u8]) -> EdwardsPoint {
    CompressedEdwardsY::from_slice(bytes).expect("32 bytes").decompress().expect("a point")
}

fn with_low_order(bytes: &[u8]) -> [u8; 32] {
    (point(bytes) + EIGHT_TORSION[1]).compress().to_bytes()
}

/// Beta and proofs by one who has the secret and adds points of order 8 to Gamma and to the key that others are
/// given: a proof whose c is a multiple of 8, so that the equations hold, and one whose c is not.
struct WithLowOrder {
    key: [u8; 32],
    beta: Vec<u8>,
    hidden: Vec<u8>,
    shown: Vec<u8>,
}

impl WithLowOrder {
    fn of(seed: u8, alpha: &[u8], in_key: EdwardsPoint, in_gamma: EdwardsPoint) -> Self {
        let half = Sha512::digest([seed; 32])[..32].try_into().expect("32 bytes");
        let x = Scalar::from_bytes_mod_order(clamp_integer(half));
        let key = (EdwardsPoint::mul_base(&x) + in_key).compress().to_bytes();
        let h = point_of(&key, alpha);
        let gamma = h * x + in_gamma;
        let made = |nonce: u8| {
            let k = Scalar::from(nonce);
            let mut hasher = Sha512::new_with_prefix([3, 2]).chain_update(key);
            for point in [h, gamma, EdwardsPoint::mul_base(&k), h * k] {
                hasher.update(point.compress().as_bytes());
            }
            let c: [u8; 16] =
                hasher.chain_update([0]).finalize()[..16].try_into().expect("16 bytes");
            let s = k + Scalar::from(u128::from_le_bytes(c)) * x;
            (c[0].is_multiple_of(8), [gamma.compress().as_bytes(), &c[..], s.as_bytes()].concat())
        };
        let first = |hides: bool| {
            let mut found = (1..=u8::MAX).map(made).filter(|(hidden, _)| *hidden == hides);
            found.next().expect("an eighth of them").1
        };
        let beta = Sha512::new_with_prefix([3, 3])
            .chain_update((gamma * Scalar::from(8_u8)).compress().as_bytes());
        let beta = beta.chain_update([0]).finalize().to_vec();
        Self { key, beta, hidden: first(true), shown: first(false) }
    }
}

/// What stands for alpha under a key.
fn point_of(key: &[u8; 32], alpha: &[u8]) -> EdwardsPoint {
    let candidate = |counter: u8| {
        let hasher = Sha512::new_with_prefix([3, 1]).chain_update(key).chain_update(alpha);
        let hash = hasher.chain_update([counter, 0]).finalize();
        CompressedEdwardsY::from_slice(&hash[..32]).expect("32 bytes").decompress()
    };
    (0..=u8::MAX).find_map(candidate).expect("a point").mul_by_cofactor()
}

/// Key, proof and alpha one after the other.
fn proofs() -> Cases {
    let mut cases = Cases::new("vrf_proof");
    let given = |key: &[u8], proof: &[u8], alpha: &[u8]| [key, proof, alpha].concat();
    let (key, genuine) = (public(1), proof_of(1, ALPHA));
    for (name, seed, alpha) in
        [("of seed 1", 1, ALPHA), ("of nothing", 1, b""), ("of seed 2", 2, ALPHA)]
    {
        let beta = secret(seed).output(alpha).expect("a point");
        let bytes = given(&public(seed), &proof_of(seed, alpha), alpha);
        cases.valid(name, bytes)["beta"] = hex_of(beta.as_bytes());
    }
    let (none, some) = (EIGHT_TORSION[0], EIGHT_TORSION[1]);
    let in_gamma = WithLowOrder::of(1, ALPHA, none, some);
    assert_eq!(in_gamma.key, key);
    assert_eq!(in_gamma.beta, secret(1).output(ALPHA).expect("a point").as_bytes());
    let (in_key, in_both) =
        (WithLowOrder::of(1, ALPHA, some, none), WithLowOrder::of(1, ALPHA, some, some));
    for (place, made) in [("Gamma", &in_gamma), ("the key", &in_key), ("both", &in_both)] {
        let WithLowOrder { key, beta, hidden, shown } = made;
        let name = format!("a part of low order in {place}, which c takes away");
        cases.valid(&name, given(key, hidden, ALPHA))["beta"] = hex_of(beta);
        let name = format!("a part of low order in {place}");
        cases.refused("VRF_PROOF_INVALID", &name, given(key, shown, ALPHA));
    }
    let mut refused = |code: &str, change: &str, key: &[u8], proof: &[u8], alpha: &[u8]| {
        cases.refused(code, change, given(key, proof, alpha));
    };
    let invalid = "VRF_PROOF_INVALID";
    refused(invalid, "of another alpha", &key, &genuine, b"customhouses");
    refused(invalid, "of no alpha", &key, &genuine, b"");
    refused(invalid, "by another key", &public(2), &genuine, ALPHA);
    refused(invalid, "by the key with a part of low order", &with_low_order(&key), &genuine, ALPHA);
    let [gamma, other] = [&genuine[..32], &proof_of(1, b"other")[32..]];
    refused(invalid, "c and s of another proof", &key, &[gamma, other].concat(), ALPHA);
    refused(invalid, "all zeros", &key, &[0; 80], ALPHA);
    for (change, at) in [("c", 32), ("the end of c", 47), ("s", 48), ("the end of s", 78)] {
        let mut flipped = genuine.clone();
        flipped[at] ^= 1;
        refused(invalid, &format!("a bit of {change} flipped"), &key, &flipped, ALPHA);
    }
    for (code, change, flipped) in flipped_in_gamma(&genuine) {
        refused(code, change, &key, &flipped, ALPHA);
    }
    let with_gamma = |gamma: &[u8; 32]| [&gamma[..], &genuine[32..]].concat();
    for (change, gamma) in of_low_order() {
        let change = format!("Gamma is {change}");
        refused(invalid, &change, &key, &with_gamma(&gamma), ALPHA);
    }
    for (change, gamma) in of_low_order_in_other_encodings() {
        let change = format!("Gamma is {change}");
        refused("VRF_PROOF_GAMMA", &change, &key, &with_gamma(&gamma), ALPHA);
    }
    let unreduced = with_gamma(&above_the_prime(3));
    refused("VRF_PROOF_GAMMA", "y of Gamma is 3, not reduced", &key, &unreduced, ALPHA);
    for (change, s) in scalars_that_are_not_reduced(&genuine[48..]) {
        let proof = [&genuine[..48], &s].concat();
        refused("VRF_PROOF_SCALAR", change, &key, &proof, ALPHA);
    }
    refused("VRF_PROOF_LENGTH", "79 bytes of it", &key, &genuine[..79], b"");
    refused("VRF_PROOF_LENGTH", "none of it", &key, b"", b"");
    refused("KEY_LENGTH", "31 bytes of the key", &key[..31], b"", b"");
    refused("KEY_NOT_A_POINT", "by no key", &y_is(2), &genuine, ALPHA);
    refused("KEY_NOT_CANONICAL", "by a key not reduced", &above_the_prime(3), &genuine, ALPHA);
    refused("KEY_LOW_ORDER", "by a key of low order", &y_is(1), &genuine, ALPHA);
    let neutral = [&y_is(1)[..], &[0; 48]].concat();
    refused("KEY_LOW_ORDER", "all of low order", &y_is(1), &neutral, ALPHA);
    cases
}

/// The sign of Gamma flipped, and the first two bits of it after which it is another point, and none.
fn flipped_in_gamma(genuine: &[u8]) -> [(&'static str, &'static str, Vec<u8>); 3] {
    let flipped = |bit: usize| {
        let mut proof = genuine.to_vec();
        proof[bit / 8] ^= 1 << (bit % 8);
        proof
    };
    let is_point = |proof: &Vec<u8>| VrfProof::from_slice(proof).is_ok();
    let is_none = |proof: &Vec<u8>| VrfProof::from_slice(proof) == Err(VrfError::Gamma);
    let (other, none) = ((0..255).map(flipped).find(is_point), (0..255).map(flipped).find(is_none));
    [
        ("VRF_PROOF_INVALID", "the sign of Gamma flipped", flipped(255)),
        ("VRF_PROOF_INVALID", "a bit of Gamma flipped", other.expect("half of them")),
        ("VRF_PROOF_GAMMA", "a bit of Gamma flipped, which is no point", none.expect("the others")),
    ]
}

fn scalars_that_are_not_reduced(s: &[u8]) -> [(&'static str, Vec<u8>); 4] {
    let plus_order = |scalar: &[u8]| {
        let mut scalar = scalar.to_vec();
        damage::add_order(&mut scalar);
        scalar
    };
    let mut with_bit = s.to_vec();
    with_bit[31] |= 0x80;
    [
        ("s is not reduced", plus_order(s)),
        ("s is the order", plus_order(&[0; 32])),
        ("s has its highest bit", with_bit),
        ("s is as large as can be", vec![0xff; 32]),
    ]
}

/// Key, agency, scheme, proof and id one after the other.
fn subject_proofs() -> Cases {
    let mut cases = Cases::new("sealed_subject");
    let given = |key: &[u8; 32], code: &str, scheme: u32, proof: &[u8], id: &str| {
        let mut agency = code.as_bytes().to_vec();
        agency.resize(AgencyCode::LENGTH, 0);
        [&key[..], &agency, &scheme.to_be_bytes(), proof, id.as_bytes()].concat()
    };
    let proven = |seed: u8, code: &str, subject: &v1::Subject| {
        let agency: AgencyCode = code.parse().expect("a code");
        sealed_subject::prove(&secret(seed), &agency, subject).expect("normal").to_bytes()
    };
    for (number, (seed, _, code, subject)) in lodged().into_iter().enumerate() {
        let bytes = given(
            &public(seed),
            code,
            subject.scheme.cast_unsigned(),
            &proven(seed, code, &subject),
            &subject.id,
        );
        cases.valid(&format!("sealed_subjects[{number}]"), bytes);
    }
    let (_, _, code, mrn) = lodged().swap_remove(0);
    let (proof, scheme, id) = (proven(1, code, &mrn), mrn.scheme.cast_unsigned(), &*mrn.id);
    let key = public(1);
    let mut refused = |code: &str, change: &str, bytes: Vec<u8>| {
        cases.refused(code, change, bytes);
    };
    let invalid = "VRF_PROOF_INVALID";
    refused(invalid, "of another agency", given(&key, "DE-ZOLL", scheme, &proof, id));
    refused(invalid, "of another scheme", given(&key, code, Scheme::Ucr as u32, &proof, id));
    refused(invalid, "of another id", given(&key, code, scheme, &proof, "24NL00000000000002"));
    refused(invalid, "of another epoch's key", given(&public(2), code, scheme, &proof, id));
    for (change, scheme, id) in [
        ("an id in lower case", Scheme::Mrn, "24nl00000000000001"),
        ("a space behind the id", Scheme::Mrn, "24NL00000000000001 "),
        ("a container number with a hyphen", Scheme::Container, "MSKU-1234565"),
        ("no id", Scheme::Mrn, ""),
        ("no scheme", Scheme::Unspecified, "24NL00000000000001"),
    ] {
        // Genuine, as anybody with the secret can make it.
        let alpha = given(&key, code, scheme as u32, b"", id)[32..].to_vec();
        let alpha = Tag::SEALED_SUBJECT_ALPHA.message(&[&alpha]);
        let proof = proof_of(1, &alpha);
        refused("VRF_SUBJECT", change, given(&key, code, scheme as u32, &proof, id));
    }
    refused("VRF_SUBJECT", "an unknown scheme", given(&key, code, u32::MAX, &proof, id));
    let long = "X".repeat(257);
    refused(
        "VRF_SUBJECT",
        "an id of 257 bytes",
        given(&key, code, Scheme::Ucr as u32, &proof, &long),
    );
    let text = given(&key, code, scheme, &proof, "");
    refused("VRF_SUBJECT", "an id that is no text", [&text[..], &[0xff]].concat());
    refused("AGENCY_CODE", "an agency in lower case", given(&key, "nl-douane", scheme, &proof, id));
    refused(
        "AGENCY_CODE",
        "cut short in the agency",
        given(&key, code, scheme, &proof, id)[..40].to_vec(),
    );
    refused(
        "VRF_PROOF_LENGTH",
        "cut short in the scheme",
        given(&key, code, scheme, &proof, id)[..50].to_vec(),
    );
    refused(
        "VRF_PROOF_LENGTH",
        "cut short in the proof",
        given(&key, code, scheme, &proof, id)[..131].to_vec(),
    );
    let mut other = proof;
    other[..32].copy_from_slice(&y_is(2));
    refused("VRF_PROOF_GAMMA", "Gamma is no point", given(&key, code, scheme, &other, id));
    let mut other = proof;
    damage::add_order(&mut other[48..]);
    refused("VRF_PROOF_SCALAR", "s is not reduced", given(&key, code, scheme, &other, id));
    refused("KEY_LENGTH", "31 bytes of the key", key[..31].to_vec());
    refused("KEY_NOT_A_POINT", "by no key", given(&y_is(2), code, scheme, &proof, id));
    refused("KEY_LOW_ORDER", "by a key of low order", given(&y_is(1), code, scheme, &proof, id));
    let unreduced = given(&above_the_prime(3), code, scheme, &proof, id);
    refused("KEY_NOT_CANONICAL", "by a key not reduced", unreduced);
    cases
}

/// What the published file says beside its cases, by the public half alone.
pub(crate) fn check(vector: &Value) {
    let bytes = |value: &Value| hex::decode(value.as_str().expect("text")).expect("hexadecimal");
    for output in vector["outputs"].as_array().expect("a list") {
        let key = VrfPublicKey::from_slice(&bytes(&output["public_key"])).expect("a key");
        let proof = VrfProof::from_slice(&bytes(&output["proof"])).expect("a proof");
        let beta = key.verify(&bytes(&output["alpha"]), &proof).expect("genuine");
        assert_eq!(beta.as_bytes(), &bytes(&output["beta"])[..]);
    }
    for case in vector["valid"].as_array().expect("a list") {
        let Some(beta) = case["beta"].as_str() else { continue };
        let given = bytes(&case["bytes"]);
        let key = VrfPublicKey::from_slice(&given[..32]).expect("a key");
        let proof = VrfProof::from_slice(&given[32..112]).expect("a proof");
        let verified = key.verify(&given[112..], &proof).expect("genuine");
        assert_eq!(hex::encode(verified.as_bytes()), beta, "{}", case["name"]);
    }
}
