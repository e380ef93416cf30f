use customhouse_ledger::{agency::AgencyCode, hash::Hash};

use super::*;
use crate::sealed::SealedKind;

/// RFC 9180, appendix A.2.1: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305, base mode.
const INFO: &str = "4f6465206f6e2061204772656369616e2055726e";
const IKM_E: &str = "909a9b35d3dc4713a5e72a4da274b55d3d3821a37e5d099e74a647db583a904b";
const PK_R: &str = "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a";
const SK_R: &str = "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb";
const ENC: &str = "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a";
const PT: &str = "4265617574792069732074727574682c20747275746820626561757479";
const AAD: &str = "436f756e742d30";
const CT: &str =
    "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28";

fn hex(digits: &str) -> Vec<u8> {
    hex::decode(digits).expect("digits")
}

fn recipient() -> RecipientSecret {
    RecipientSecret::new(Secret::new(&hex(SK_R).try_into().expect("32 bytes")))
}

#[test]
fn the_vector_of_the_rfc_is_sealed_and_opened() {
    let public: RecipientKey = PK_R.parse().expect("a key");
    assert_eq!(recipient().public(), public);
    let drawn = hex(IKM_E).try_into().expect("32 bytes");
    let (info, bound, bytes) = (hex(INFO), hex(AAD), hex(PT));
    let envelope = seal_with(&public, &info, &bound, &bytes, drawn).expect("sealed");
    assert_eq!(hex::encode(&envelope), [ENC, CT].concat());
    assert_eq!(*open_with(&recipient(), &info, &bound, &envelope).expect("opened"), bytes);
}

fn context() -> EnvelopeContext {
    EnvelopeContext {
        chain_id: Hash([1; 32]),
        from: "NL-DOUANE".parse().expect("a code"),
        to: "KR-KCS".parse().expect("a code"),
        kind: EnvelopeKind::Record,
        id: Hash([2; 32]),
        epoch: 3,
    }
}

/// Every context that differs in a single thing, and the two agencies exchanged.
fn others() -> [EnvelopeContext; 7] {
    let of = context();
    let other: AgencyCode = "BE-AADA".parse().expect("a code");
    [
        EnvelopeContext { chain_id: Hash([8; 32]), ..of },
        EnvelopeContext { from: other, ..of },
        EnvelopeContext { to: other, ..of },
        EnvelopeContext { from: of.to, to: of.from, ..of },
        EnvelopeContext { kind: EnvelopeKind::EpochSecret, ..of },
        EnvelopeContext { id: Hash([8; 32]), ..of },
        EnvelopeContext { epoch: 4, ..of },
    ]
}

#[test]
fn an_envelope_opens_for_its_recipient_context_and_bytes_only() {
    let public = recipient().public();
    let envelope = seal(&public, &context(), b"bytes").expect("sealed");
    assert_eq!(envelope.len(), ENVELOPE_OVERHEAD + 5);
    assert_ne!(seal(&public, &context(), b"bytes").expect("sealed"), envelope);
    assert_eq!(**open(&recipient(), &context(), &envelope).expect("opened"), *b"bytes");
    let refused = |secret: &RecipientSecret, context: &EnvelopeContext, envelope: &[u8]| {
        let error = open(secret, context, envelope).expect_err("refused");
        assert_eq!(error.code(), "ENVELOPE_NOT_AUTHENTIC");
    };
    let other = RecipientSecret::new(Secret::random().expect("randomness"));
    refused(&other, &context(), &envelope);
    others().iter().for_each(|other| refused(&recipient(), other, &envelope));
    for bit in 0..envelope.len() * 8 {
        let mut changed = envelope.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        refused(&recipient(), &context(), &changed);
    }
    for length in 0..envelope.len() {
        refused(&recipient(), &context(), &envelope[..length]);
    }
}

#[test]
fn a_context_has_one_layout_and_an_envelope_a_place_of_its_own_for_each_recipient() {
    let mut expected = vec![1; 32];
    expected.extend_from_slice(b"NL-DOUANE\0\0\0\0\0\0\0KR-KCS\0\0\0\0\0\0\0\0\0\0\x01");
    expected.extend_from_slice(&[2; 32]);
    expected.extend_from_slice(&[0, 0, 0, 3]);
    assert_eq!(context().to_bytes(), expected);
    assert_eq!(expected.len(), EnvelopeContext::LENGTH);
    let place = context().place();
    assert_eq!((place.agency, place.kind), (context().from, SealedKind::Envelope));
    assert!(others().iter().all(|other| other.place() != place));
}

/// The points of low order of Curve25519 and its twist, and every other spelling of them (RFC 7748, section 7).
#[test]
fn keys_of_low_order_and_other_spellings_are_refused() {
    let code = |digits: &str| digits.parse::<RecipientKey>().expect_err("refused").code();
    for low in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ] {
        assert_eq!(code(low), "ENCRYPTION_KEY_LOW_ORDER", "{low}");
    }
    for spelling in [
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c5966aa",
    ] {
        assert_eq!(code(spelling), "ENCRYPTION_KEY_NOT_CANONICAL", "{spelling}");
    }
    assert_eq!(code("00"), "ENCRYPTION_KEY_LENGTH");
    assert_eq!(code("no digits"), "ENCRYPTION_KEY_HEX");
    // An envelope whose encapsulated key is of low order opens for nobody.
    let envelope = [0; ENVELOPE_OVERHEAD];
    let error = open(&recipient(), &context(), &envelope).expect_err("refused");
    assert_eq!(error.code(), "ENVELOPE_NOT_AUTHENTIC");
}
