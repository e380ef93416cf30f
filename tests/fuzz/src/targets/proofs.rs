//! Certificates and proofs: what a quorum's signatures stand for.

use customhouse_ledger::{
    canonical,
    finality::{certificate::Certificate, header::Header},
    hash::Hash,
    history::bucket_of,
    proofs::{
        json::{self, JsonForm},
        receipt::VerifiedReceipt,
    },
};
use customhouse_proto::v1;

use super::{GENESIS, VERIFIERS, given_back, proves_nothing_new};

/// A certificate. One that verifies is made of a quorum's votes, each of which verifies by itself.
pub fn certificate(bytes: &[u8]) -> bool {
    proves_nothing_new("certificate", bytes);
    given_back(bytes, Certificate::decode(bytes).ok().map(|certificate| certificate.encode()))
}

pub(super) fn by_certificate(bytes: &[u8]) -> Option<Vec<String>> {
    let certificate = Certificate::decode(bytes).ok()?;
    let (chain_id, validators) = (GENESIS.chain_id(), GENESIS.validators());
    certificate.verify(&chain_id, &validators).ok()?;
    let votes = certificate.votes(&validators);
    assert!(votes.iter().all(|vote| vote.verify(&chain_id).is_ok()));
    let again = Certificate::from_votes(certificate.ballot, &votes, &validators);
    assert_eq!(again.as_ref(), Some(&certificate));
    Some(vec![format!("{:?}", certificate.ballot)])
}

/// A header and its finalization.
pub fn final_header(bytes: &[u8]) -> bool {
    proves_nothing_new("final_header", bytes)
}

pub(super) fn by_final_header(bytes: &[u8]) -> Option<Vec<String>> {
    let (header, certificate) = bytes.split_at_checked(Header::LENGTH)?;
    let final_for = |verifier: &customhouse_ledger::proofs::verifier::Verifier| {
        let (found, _) = verifier.verify_final(header, certificate).ok()?;
        assert_eq!(found.encode(), header);
        Some(format!("{} is final", found.hash()))
    };
    some(VERIFIERS.iter().filter_map(final_for).collect())
}

/// A receipt.
pub fn receipt(bytes: &[u8]) -> bool {
    proves_nothing_new("receipt", bytes)
}

pub(super) fn by_receipt(bytes: &[u8]) -> Option<Vec<String>> {
    let verified = VERIFIERS.iter().filter_map(|verifier| verifier.verify_receipt(bytes).ok());
    let proven = some(verified.map(|verified| receipt_says(&verified, bytes)).collect())?;
    has_both_forms::<v1::Receipt>(bytes);
    Some(proven)
}

/// The same with and without the record's bytes, which the slot names.
pub(super) fn receipt_says(verified: &VerifiedReceipt, bytes: &[u8]) -> String {
    if let Some(record) = &verified.record {
        assert_eq!(record.id, verified.slot.record_id);
    }
    let mut receipt: v1::Receipt = canonical::decode(bytes).expect("verified");
    receipt.record.clear();
    receipt.certificate.clear();
    // Who has followed the chain needs no steps, and takes those that do not lead all the way.
    receipt.steps.clear();
    format!("a receipt says {receipt:?}, signed by {:?}", verified.signer)
}

/// A history proof.
pub fn history_proof(bytes: &[u8]) -> bool {
    proves_nothing_new("history_proof", bytes)
}

pub(super) fn by_history_proof(bytes: &[u8]) -> Option<Vec<String>> {
    let of_case = VERIFIERS.iter().filter_map(|verifier| verifier.verify_history(bytes).ok());
    // The same bucket, whichever of its subjects is asked for.
    let says = |history: customhouse_ledger::proofs::history::VerifiedHistory| {
        assert!(history.entries.iter().all(|entry| entry.key == history.subject_key));
        let bucket = bucket_of(&history.subject_key, GENESIS.history_bits);
        let mut proof: v1::HistoryProof = canonical::decode(bytes).expect("verified");
        proof.subject_key.clear();
        proof.certificate.clear();
        format!("of bucket {bucket} is said {proof:?}")
    };
    let proven = some(of_case.map(says).collect())?;
    has_both_forms::<v1::HistoryProof>(bytes);
    Some(proven)
}

/// The subject that was asked for, and a history proof: taken where the proof is taken and about that
/// subject.
pub fn history_proof_of(bytes: &[u8]) -> bool {
    let Some((asked, proof)) = bytes.split_at_checked(32) else { return false };
    let asked = Hash::from_slice(asked).expect("32 bytes");
    let taken = VERIFIERS.each_ref().map(|verifier| {
        let about = verifier.verify_history(proof).map(|history| history.subject_key);
        let taken = verifier.verify_history_of(&asked, proof).is_ok();
        assert_eq!(taken, about == Ok(asked));
        taken
    });
    taken.contains(&true)
}

/// A consistency proof.
pub fn consistency_proof(bytes: &[u8]) -> bool {
    proves_nothing_new("consistency_proof", bytes)
}

pub(super) fn by_consistency_proof(bytes: &[u8]) -> Option<Vec<String>> {
    let verified = VERIFIERS.iter().filter_map(|verifier| verifier.verify_consistency(bytes).ok());
    let says = |proven: customhouse_ledger::proofs::consistency::VerifiedConsistency| {
        let (from, to) = (proven.from, proven.to);
        assert!(from.height <= to.height && from.log_size <= to.log_size);
        let mut proof: v1::ConsistencyProof = canonical::decode(bytes).expect("verified");
        proof.from_certificate.clear();
        proof.to_certificate.clear();
        format!("of consistency is said {proof:?}")
    };
    let proven = some(verified.map(says).collect())?;
    has_both_forms::<v1::ConsistencyProof>(bytes);
    Some(proven)
}

/// A validator chain.
pub fn validator_chain(bytes: &[u8]) -> bool {
    proves_nothing_new("validator_chain", bytes)
}

/// Which set decides from which height on. A chain that is refused in the middle was followed up to
/// there, and no further than its signatures lead.
pub(super) fn by_validator_chain(bytes: &[u8]) -> Option<Vec<String>> {
    let mut verifier = VERIFIERS[0].clone();
    verifier.follow_encoded(bytes).ok()?;
    has_both_forms::<v1::ValidatorChain>(bytes);
    let chain: v1::ValidatorChain = canonical::decode(bytes).expect("verified");
    let mut steps = VERIFIERS[0].clone();
    let set = |verifier: &customhouse_ledger::proofs::verifier::Verifier| {
        format!("{} decide from {}", verifier.validators().hash(), verifier.known_from())
    };
    let follow = |step: v1::ValidatorStep| {
        steps.follow_chain(&v1::ValidatorChain { steps: vec![step] }).expect("verified");
        set(&steps)
    };
    let followed: Vec<_> = chain.steps.into_iter().map(follow).collect();
    assert_eq!(followed.last().cloned().unwrap_or_else(|| set(&VERIFIERS[0])), set(&verifier));
    Some(followed)
}

/// What verifies comes back from its JSON form.
pub(super) fn has_both_forms<M: JsonForm>(binary: &[u8]) {
    let json = json::to_json::<M>(binary).expect("verified, so in its one encoding");
    assert_eq!(json::from_json::<M>(json.as_bytes()).expect("its JSON form"), binary);
}

pub(super) fn some(facts: Vec<String>) -> Option<Vec<String>> {
    (!facts.is_empty()).then_some(facts)
}
