//! The verifiable random function, and the subject keys of sealed records.

use customhouse_ledger::{
    agency::AgencyCode,
    sealed_subject,
    vrf::{VrfProof, VrfPublicKey},
};
use customhouse_proto::v1;

use super::{given_back, proves_nothing_new};

/// A public key of the function: one of the ledger's too, of which this is the one encoding.
pub fn vrf_key(bytes: &[u8]) -> bool {
    let key = VrfPublicKey::from_slice(bytes).ok();
    assert!(key.is_none() || super::public_key(bytes), "no key of the ledger");
    given_back(bytes, key.map(|key| key.as_bytes().to_vec()))
}

/// A key, a proof and what it is of.
pub fn vrf_proof(bytes: &[u8]) -> bool {
    proves_nothing_new("vrf_proof", bytes)
}

pub(super) fn by_vrf_proof(bytes: &[u8]) -> Option<Vec<String>> {
    let (key, rest) = bytes.split_at_checked(32)?;
    let (proof, alpha) = rest.split_at_checked(VrfProof::LENGTH)?;
    let key = VrfPublicKey::from_slice(key).ok()?;
    let beta = key.verify(alpha, &decoded(proof)?).ok()?;
    let (alpha, beta) = (hex::encode(alpha), hex::encode(beta.as_bytes()));
    Some(vec![format!("{key} gives {beta} for {alpha}")])
}

/// A key, an agency, a scheme, a proof and an id.
pub fn sealed_subject(bytes: &[u8]) -> bool {
    proves_nothing_new("sealed_subject", bytes)
}

pub(super) fn by_sealed_subject(bytes: &[u8]) -> Option<Vec<String>> {
    let (key, rest) = bytes.split_at_checked(32)?;
    let (agency, rest) = rest.split_at_checked(AgencyCode::LENGTH)?;
    let (scheme, rest) = rest.split_first_chunk()?;
    let (proof, id) = rest.split_at_checked(VrfProof::LENGTH)?;
    let key = VrfPublicKey::from_slice(key).ok()?;
    let agency = AgencyCode::from_slice(agency).ok()?;
    let id = str::from_utf8(id).ok()?.to_owned();
    let subject = v1::Subject { scheme: i32::from_be_bytes(*scheme), id };
    let found = sealed_subject::verify(&key, &agency, &subject, &decoded(proof)?).ok()?;
    Some(vec![format!("{key} gives {found} for {subject:?} of {agency}")])
}

/// A proof, which has one encoding.
fn decoded(bytes: &[u8]) -> Option<VrfProof> {
    let proof = VrfProof::from_slice(bytes).ok()?;
    assert_eq!(proof.to_bytes(), bytes, "taken, and given back otherwise");
    Some(proof)
}
