//! Keys of subjects: each of one agency, secret and subject, and proven of no other.

use std::collections::BTreeSet;

use customhouse_proto::v1::subject::Scheme;

use super::*;

fn secret(seed: u8) -> VrfSecretKey {
    VrfSecretKey::from_seed(&[seed; 32])
}

fn agency(code: &str) -> AgencyCode {
    code.parse().expect("a code")
}

fn subject(scheme: Scheme, id: &str) -> v1::Subject {
    v1::Subject { scheme: scheme as i32, id: id.to_owned() }
}

#[test]
fn another_agency_scheme_id_or_secret_gives_another_key() {
    let (agencies, ids) = (["NL-DOUANE", "NL", "DE-ZOLL"], ["24NL1", "24NL", "4NL1", "124NL1"]);
    let schemes = [Scheme::Mrn, Scheme::Ucr, Scheme::Container];
    let mut keys = BTreeSet::new();
    for seed in 1..=2 {
        for code in agencies {
            for (scheme, id) in schemes.iter().flat_map(|s| ids.iter().map(move |id| (s, id))) {
                let subject = subject(*scheme, id);
                let key = key_of(&secret(seed), &agency(code), &subject).expect("normal");
                assert!(keys.insert(key), "{code} {scheme:?} {id}");
            }
        }
    }
    assert_eq!(keys.len(), 2 * 3 * 3 * 4);
}

#[test]
fn what_is_proven_of_one_subject_is_refused_for_each_other() {
    let (secret, agency) = (secret(3), agency("NL-DOUANE"));
    let mrn = subject(Scheme::Mrn, "24NL1");
    let proof = prove(&secret, &agency, &mrn).expect("normal");
    let verify = |agency: &AgencyCode, subject: &v1::Subject| {
        super::verify(secret.public(), agency, subject, &proof)
    };
    assert_eq!(verify(&agency, &mrn), key_of(&secret, &agency, &mrn));
    let other: AgencyCode = "DE-ZOLL".parse().expect("a code");
    assert_eq!(verify(&other, &mrn), Err(VrfError::Proof.into()));
    assert_eq!(verify(&agency, &subject(Scheme::Ucr, "24NL1")), Err(VrfError::Proof.into()));
    assert_eq!(verify(&agency, &subject(Scheme::Mrn, "24NL2")), Err(VrfError::Proof.into()));
}

/// Otherwise whoever has the secret shows, with a genuine proof about `24nl1`, that there is nothing of 24NL1.
#[test]
fn nothing_is_proven_of_an_id_in_another_spelling() {
    let (secret, agency) = (secret(3), agency("NL-DOUANE"));
    let proof = secret.prove(b"alpha").expect("a point");
    for (scheme, id) in [
        (Scheme::Mrn, "24nl1"),
        (Scheme::Mrn, "24NL1 "),
        (Scheme::Mrn, ""),
        (Scheme::Container, "MSKU-1234565"),
        (Scheme::Unspecified, "24NL1"),
    ] {
        let spelt = subject(scheme, id);
        let refused = super::verify(secret.public(), &agency, &spelt, &proof);
        assert_eq!(refused.map_err(|error| error.code()), Err("VRF_SUBJECT"), "{id}");
        assert!(key_of(&secret, &agency, &spelt).is_err(), "{id}");
        assert!(prove(&secret, &agency, &spelt).is_err(), "{id}");
    }
}

#[test]
fn the_index_key_is_of_one_agreement_epoch_agency_and_subject() {
    let (nl, de) = (agency("NL-DOUANE"), agency("DE-ZOLL"));
    let (one, two) = (Hash([1; 32]), Hash([2; 32]));
    let keys = [
        index_key(&one, 1, &nl, &one),
        index_key(&two, 1, &nl, &one),
        index_key(&one, 2, &nl, &one),
        index_key(&one, 1, &de, &one),
        index_key(&one, 1, &nl, &two),
    ];
    assert_eq!(BTreeSet::from(keys).len(), keys.len());
}
