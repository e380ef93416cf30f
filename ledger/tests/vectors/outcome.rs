//! What the public decoders and verifiers say of a structure, by its name in docs/vectors.

use bytes::Bytes;
use customhouse_ledger::{
    agency::AgencyCode,
    agreement::AgreementChange,
    canonical,
    finality::{certificate::Certificate, decision, header::Header},
    hash::Hash,
    keys::{PublicKey, Signature},
    proofs::{
        json,
        verifier::{FinalityError, Verifier},
    },
    record::ValidRecord,
    registry::{self, RegistryChange, genesis::Genesis},
    sealed_subject,
    transaction::{Slot, VerifiedTransaction},
    vrf::{VrfProof, VrfPublicKey},
};
use customhouse_proto::v1;

/// `Err` with the code of the refusal. `chain` is a validator chain that is followed before, where
/// one is needed.
pub(crate) fn outcome(
    genesis: &Genesis,
    structure: &str,
    bytes: &[u8],
    chain: &[u8],
) -> Result<(), &'static str> {
    by_itself(genesis, structure, bytes).unwrap_or_else(|| {
        let mut verifier = Verifier::new(genesis);
        verifier.follow_encoded(chain).map_err(|error| error.code())?;
        verified(&mut verifier, structure, bytes)
    })
}

/// `None` for what a verifier must check.
fn by_itself(genesis: &Genesis, structure: &str, bytes: &[u8]) -> Option<Result<(), &'static str>> {
    let shared = || Bytes::copy_from_slice(bytes);
    Some(match structure {
        "agency_code" => AgencyCode::from_slice(bytes).map(drop).map_err(|error| error.code()),
        "public_key" => PublicKey::from_slice(bytes).map(drop).map_err(|error| error.code()),
        "signature" => signature(bytes),
        "vrf_key" => VrfPublicKey::from_slice(bytes).map(drop).map_err(|error| error.code()),
        "vrf_proof" => vrf_proof(bytes),
        "sealed_subject" => sealed_subject(bytes),
        "genesis" => Genesis::from_bytes(bytes).map(drop).map_err(|error| error.code()),
        "genesis_json" => {
            let text = std::str::from_utf8(bytes).map_err(|_| "GENESIS_JSON");
            text.and_then(|text| Genesis::from_json(text).map(drop).map_err(|error| error.code()))
        }
        "registry_entry" => registry::decode_entry(bytes).map(drop).map_err(|error| error.code()),
        "registry_change" => registry_change(genesis, bytes),
        "agreement_change" => agreement_change(genesis, bytes),
        "record" => ValidRecord::from_bytes(shared()).map(drop).map_err(|error| error.code()),
        "slot" => Slot::decode(bytes).map(drop).map_err(|error| error.code()),
        "transaction" => VerifiedTransaction::from_bytes(shared(), &genesis.chain_id())
            .map(drop)
            .map_err(|error| error.code()),
        "header" => {
            Header::decode(bytes).map(drop).map_err(|error| FinalityError::from(error).code())
        }
        "certificate" => Certificate::decode(bytes)
            .and_then(|read| read.verify(&genesis.chain_id(), &genesis.validators()))
            .map_err(|error| error.code()),
        "decisions" => decision::decode(bytes).map(drop).map_err(|error| error.code()),
        _ => return None,
    })
}

fn verified(verifier: &mut Verifier, structure: &str, bytes: &[u8]) -> Result<(), &'static str> {
    match structure {
        "final_header" => {
            let (header, certificate) = bytes.split_at(bytes.len().min(Header::LENGTH));
            verifier.verify_final(header, certificate).map(drop).map_err(|error| error.code())
        }
        "validator_chain" => verifier.follow_encoded(bytes).map_err(|error| error.code()),
        "receipt" => verifier.verify_receipt(bytes).map(drop).map_err(|error| error.code()),
        "history_proof_of" => {
            let (asked, proof) = bytes.split_at(bytes.len().min(32));
            let asked = Hash::from_slice(asked).map_err(|_| "HISTORY_SUBJECT_KEY")?;
            verifier.verify_history_of(&asked, proof).map(drop).map_err(|error| error.code())
        }
        "history_proof" => verifier.verify_history(bytes).map(drop).map_err(|error| error.code()),
        "sealed_history_proof" => {
            verifier.verify_sealed_history([bytes]).map(drop).map_err(|error| error.code())
        }
        "sealed_history_proof_of" => sealed_history_of(verifier, bytes),
        "sealed_history_pages" => {
            let pages = pages(bytes).ok_or("SEALED_HISTORY_MALFORMED")?;
            verifier.verify_sealed_history(pages).map(drop).map_err(|error| error.code())
        }
        "consistency_proof" => {
            verifier.verify_consistency(bytes).map(drop).map_err(|error| error.code())
        }
        "receipt_json" => of_json::<v1::Receipt>(verifier, "receipt", bytes),
        "history_proof_json" => of_json::<v1::HistoryProof>(verifier, "history_proof", bytes),
        "sealed_history_proof_json" => {
            of_json::<v1::SealedHistoryProof>(verifier, "sealed_history_proof", bytes)
        }
        "consistency_proof_json" => {
            of_json::<v1::ConsistencyProof>(verifier, "consistency_proof", bytes)
        }
        "validator_chain_json" => of_json::<v1::ValidatorChain>(verifier, "validator_chain", bytes),
        _ => panic!("no structure is called {structure}"),
    }
}

fn of_json<M: json::JsonForm>(
    verifier: &mut Verifier,
    structure: &str,
    text: &[u8],
) -> Result<(), &'static str> {
    let binary = json::binary_of::<M>(text).map_err(|error| error.code())?;
    verified(verifier, structure, &binary)
}

/// Pages, each with its length before it, in four bytes. `None` where these are others.
pub(crate) fn pages(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut pages = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk()?;
        let (page, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        pages.push(page);
        bytes = rest;
    }
    Some(pages)
}

/// The subject that is asked for, as a scheme, the id's length and the id, and a proof.
fn sealed_history_of(verifier: &Verifier, bytes: &[u8]) -> Result<(), &'static str> {
    let read = || {
        let (scheme, rest) = bytes.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (id, proof) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        let (scheme, id) = (i32::from_be_bytes(*scheme), str::from_utf8(id).ok()?.to_owned());
        Some((v1::Subject { scheme, id }, proof))
    };
    let (subject, proof) = read().ok_or("VRF_SUBJECT")?;
    let history = verifier.verify_sealed_history_of(&subject, [proof]);
    history.map(drop).map_err(|error| error.code())
}

/// A key, a signature, and the message.
fn signature(bytes: &[u8]) -> Result<(), &'static str> {
    let (key, rest) = bytes.split_at(bytes.len().min(32));
    let (signature, message) = rest.split_at(rest.len().min(64));
    let key = PublicKey::from_slice(key).map_err(|error| error.code())?;
    let signature = Signature::from_slice(signature).map_err(|_| "BAD_SIGNATURE")?;
    key.verify(message, &signature).map_err(|error| error.code())
}

/// A key, a proof, and alpha.
fn vrf_proof(bytes: &[u8]) -> Result<(), &'static str> {
    let (key, rest) = bytes.split_at(bytes.len().min(32));
    let (proof, alpha) = rest.split_at(rest.len().min(VrfProof::LENGTH));
    let key = VrfPublicKey::from_slice(key).map_err(|error| error.code())?;
    let proof = VrfProof::from_slice(proof).map_err(|error| error.code())?;
    key.verify(alpha, &proof).map(drop).map_err(|error| error.code())
}

/// A key, an agency, a scheme, a proof, and an id.
fn sealed_subject(bytes: &[u8]) -> Result<(), &'static str> {
    let (key, rest) = bytes.split_at(bytes.len().min(32));
    let (agency, rest) = rest.split_at(rest.len().min(AgencyCode::LENGTH));
    let (scheme, rest) = rest.split_at(rest.len().min(4));
    let (proof, id) = rest.split_at(rest.len().min(VrfProof::LENGTH));
    let key = VrfPublicKey::from_slice(key).map_err(|error| error.code())?;
    let agency = AgencyCode::from_slice(agency).map_err(|error| error.code())?;
    let proof = VrfProof::from_slice(proof).map_err(|error| error.code())?;
    let scheme = scheme.try_into().map_err(|_| "VRF_SUBJECT")?;
    let id = str::from_utf8(id).map_err(|_| "VRF_SUBJECT")?;
    let subject = v1::Subject { scheme: i32::from_be_bytes(scheme), id: id.to_owned() };
    let key = sealed_subject::verify(&key, &agency, &subject, &proof);
    key.map(drop).map_err(|error| error.code())
}

fn registry_change(genesis: &Genesis, bytes: &[u8]) -> Result<(), &'static str> {
    let change = canonical::decode(bytes).map_err(|error| error.code())?;
    let change = RegistryChange::from_proto(&change).map_err(|error| error.code())?;
    change.verify(&genesis.chain_id()).map_err(|error| error.code())
}

fn agreement_change(genesis: &Genesis, bytes: &[u8]) -> Result<(), &'static str> {
    let change = canonical::decode(bytes).map_err(|error| error.code())?;
    let change = AgreementChange::from_proto(&change).map_err(|error| error.code())?;
    change.verify(&genesis.chain_id()).map_err(|error| error.code())
}
