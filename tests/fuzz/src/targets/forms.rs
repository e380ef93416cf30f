//! JSON forms.

use customhouse_ledger::{
    proofs::json::{self, JsonForm},
    registry::genesis::Genesis,
};
use customhouse_proto::v1;

use super::{
    Target, consistency_proof, genesis, history_proof, receipt, sealed_history_proof,
    validator_chain,
};

/// A genesis in JSON: what is taken has a binary form, and is the same from either form.
pub fn genesis_json(bytes: &[u8]) -> bool {
    let text = str::from_utf8(bytes).ok();
    let Some(read) = text.and_then(|text| Genesis::from_json(text).ok()) else { return false };
    assert!(genesis(&read.encode()), "its binary form is refused");
    let again = Genesis::from_json(&read.to_json()).expect("its own JSON form");
    assert_eq!(again.encode(), read.encode());
    true
}

/// A receipt in JSON.
pub fn receipt_json(bytes: &[u8]) -> bool {
    of_json::<v1::Receipt>(bytes, receipt)
}

/// A history proof in JSON.
pub fn history_proof_json(bytes: &[u8]) -> bool {
    of_json::<v1::HistoryProof>(bytes, history_proof)
}

/// A page of a sealed history proof in JSON.
pub fn sealed_history_proof_json(bytes: &[u8]) -> bool {
    of_json::<v1::SealedHistoryProof>(bytes, sealed_history_proof)
}

/// A consistency proof in JSON.
pub fn consistency_proof_json(bytes: &[u8]) -> bool {
    of_json::<v1::ConsistencyProof>(bytes, consistency_proof)
}

/// A validator chain in JSON.
pub fn validator_chain_json(bytes: &[u8]) -> bool {
    of_json::<v1::ValidatorChain>(bytes, validator_chain)
}

/// JSON that is taken stands for one binary, which gives JSON that stands for it too. What the binary
/// proves is the verifier's to say.
fn of_json<M: JsonForm>(text: &[u8], verify: Target) -> bool {
    let Ok(binary) = json::from_json::<M>(text) else { return false };
    let again = json::to_json::<M>(&binary).expect("in its one encoding");
    assert_eq!(json::from_json::<M>(again.as_bytes()).expect("its JSON form"), binary);
    verify(&binary);
    true
}
