//! One function a decoder or verifier. Each tells whether it took the bytes, and panics where a promise
//! is broken:
//! - what a decoder takes, it gives back as it came: a value has one encoding, but where peers send it;
//! - what a verifier takes proves nothing that the seeds do not prove: nobody has the keys to sign more.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use customhouse_ledger::{proofs::verifier::Verifier, registry::genesis::Genesis};

use super::seeds;

mod forms;
mod layouts;
mod messages;
mod outputs;
mod peers;
mod proofs;
mod sealed_histories;
mod texts;
mod trees;

pub use forms::{
    consistency_proof_json, genesis_json, history_proof_json, receipt_json,
    sealed_history_proof_json, validator_chain_json,
};
pub use layouts::{
    agency_code, claim, frontier, header, history_entry, outcome, public_key, signature,
    transaction_header,
};
pub use messages::{
    agreement_change, decisions, genesis, misbehaviour, record, registry_change, registry_entry,
    registry_proposal, slot, transaction,
};
pub use outputs::{sealed_subject, vrf_key, vrf_proof};
pub use peers::{block, consensus_message};
pub use proofs::{
    certificate, consistency_proof, final_header, history_proof, history_proof_of, receipt,
    validator_chain,
};
pub use sealed_histories::{sealed_history_pages, sealed_history_proof, sealed_history_proof_of};
pub use texts::{checkpoint, entry_bundle, note, tile_path, tlog_proof, verifier_key};
pub use trees::{merkle_consistency, merkle_inclusion};

/// A target: whether it takes the bytes.
pub type Target = fn(&[u8]) -> bool;

macro_rules! targets {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), $name as Target)),*] };
}

/// All of them, by name.
pub const TARGETS: &[(&str, Target)] = targets![
    agency_code,
    agreement_change,
    block,
    certificate,
    checkpoint,
    claim,
    consensus_message,
    consistency_proof,
    consistency_proof_json,
    decisions,
    entry_bundle,
    final_header,
    frontier,
    genesis,
    genesis_json,
    header,
    history_entry,
    history_proof,
    history_proof_json,
    history_proof_of,
    merkle_consistency,
    merkle_inclusion,
    misbehaviour,
    note,
    outcome,
    public_key,
    receipt,
    receipt_json,
    record,
    registry_change,
    registry_entry,
    registry_proposal,
    sealed_history_pages,
    sealed_history_proof,
    sealed_history_proof_json,
    sealed_history_proof_of,
    sealed_subject,
    signature,
    slot,
    tile_path,
    tlog_proof,
    transaction,
    transaction_header,
    validator_chain,
    validator_chain_json,
    verifier_key,
    vrf_key,
    vrf_proof,
];

/// What bytes prove, in words that compare; `None` where they are refused. For a proof these are all
/// its bytes except the signatures beyond those it needs: with fewer signatures it proves the same.
type Prove = fn(&[u8]) -> Option<Vec<String>>;

/// The verifiers, by target.
const PROVERS: &[(&str, Prove)] = &[
    ("agreement_change", messages::by_agreement_change),
    ("certificate", proofs::by_certificate),
    ("consistency_proof", proofs::by_consistency_proof),
    ("decisions", messages::by_decisions),
    ("final_header", proofs::by_final_header),
    ("history_proof", proofs::by_history_proof),
    ("misbehaviour", messages::by_misbehaviour),
    ("note", texts::by_note),
    ("receipt", proofs::by_receipt),
    ("registry_change", messages::by_registry_change),
    ("sealed_history_pages", sealed_histories::by_pages),
    ("sealed_history_proof", sealed_histories::by_page),
    ("sealed_subject", outputs::by_sealed_subject),
    ("signature", layouts::by_signature),
    ("tlog_proof", texts::by_tlog_proof),
    ("transaction", messages::by_transaction),
    ("validator_chain", proofs::by_validator_chain),
    ("vrf_proof", outputs::by_vrf_proof),
];

static GENESIS: LazyLock<Genesis> = LazyLock::new(|| {
    Genesis::from_bytes(&seeds::bytes("genesis.json", "/protobuf")).expect("published")
});

/// One that knows the genesis, and one that has followed the published validator chain too.
static VERIFIERS: LazyLock<[Verifier; 2]> = LazyLock::new(|| {
    let mut followed = Verifier::new(&GENESIS);
    let chain = seeds::bytes("validator_chain.json", "/chain");
    followed.follow_encoded(&chain).expect("published");
    [Verifier::new(&GENESIS), followed]
});

/// What the valid seeds of each verifier prove.
static PROVEN: LazyLock<BTreeMap<&str, BTreeSet<String>>> = LazyLock::new(|| {
    let proven = |(name, prove): &(&'static str, Prove)| {
        let seeds = seeds::of(name).into_iter().filter(|seed| seed.valid != Some(false));
        (*name, seeds.filter_map(|seed| prove(&seed.bytes)).flatten().collect())
    };
    PROVERS.iter().map(proven).collect()
});

/// Whether a verifier takes the bytes.
fn proves_nothing_new(name: &str, bytes: &[u8]) -> bool {
    let (_, prove) = PROVERS.iter().find(|(prover, _)| *prover == name).expect("a verifier");
    let Some(proven) = prove(bytes) else { return false };
    for fact in proven {
        assert!(PROVEN[name].contains(&fact), "{name}: nobody signed that {fact}");
    }
    true
}

/// Whether a decoder took the bytes, by what it gives back.
fn given_back(bytes: &[u8], encoded: Option<Vec<u8>>) -> bool {
    if let Some(encoded) = &encoded {
        assert!(encoded == bytes, "taken, and given back as {}", hex::encode(encoded));
    }
    encoded.is_some()
}
