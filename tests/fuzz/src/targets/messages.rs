//! Protobuf messages: what is signed, recorded and registered.

use customhouse_ledger::{
    agreement::AgreementChange,
    canonical,
    finality::{
        certificate::Certificate,
        decision::{self, Decision},
        evidence::Evidence,
    },
    proofs::fork,
    record::{self, ValidRecord},
    registry::{self, RegistryChange, RegistryProposal, genesis::Genesis},
    transaction::{Slot, VerifiedTransaction},
};
use prost::Message as _;

use super::{GENESIS, VERIFIERS, given_back, proves_nothing_new};

/// A record; whoever encodes the message gets the same bytes and the same id.
pub fn record(bytes: &[u8]) -> bool {
    let record = ValidRecord::from_bytes(bytes.to_vec().into()).ok();
    if let Some(record) = &record {
        let id = record::field_tree::record_id(bytes, &record.record.salt);
        assert_eq!(Ok(record.id), id);
        assert!(record.subject_keys.is_sorted_by(|a, b| a < b));
        assert_eq!(ValidRecord::from_record(record.record.clone()).as_ref(), Ok(record));
    }
    given_back(bytes, record.map(|record| record.record.encode_to_vec()))
}

/// How a transaction carries a record.
pub fn slot(bytes: &[u8]) -> bool {
    given_back(bytes, Slot::decode(bytes).ok().map(|slot| slot.encode()))
}

/// A signed transaction.
pub fn transaction(bytes: &[u8]) -> bool {
    proves_nothing_new("transaction", bytes)
}

pub(super) fn by_transaction(bytes: &[u8]) -> Option<Vec<String>> {
    let bytes = bytes.to_vec().into();
    let transaction = VerifiedTransaction::from_bytes(bytes, &GENESIS.chain_id()).ok()?;
    let encoded = transaction.encoded();
    assert_eq!(transaction.parts().encode_to_vec(), *encoded);
    assert_eq!(VerifiedTransaction::leaf_hash_unchecked(encoded), Some(transaction.leaf_hash()));
    let unchecked = VerifiedTransaction::header_unchecked(encoded);
    assert_eq!(unchecked, Some((transaction.header().clone(), transaction.leaf_hash())));
    let slots: Vec<_> = transaction.slots().iter().map(|slot| slot.encode()).collect();
    let signer = transaction.header().signer;
    Some(vec![format!("{signer} signs {}: {slots:?}", transaction.leaf_hash())])
}

/// A genesis, which its JSON form gives back.
pub fn genesis(bytes: &[u8]) -> bool {
    let genesis = Genesis::from_bytes(bytes).ok();
    if let Some(genesis) = &genesis {
        let again = Genesis::from_json(&genesis.to_json()).expect("its own JSON form");
        assert_eq!(again.encode(), bytes);
        assert!(genesis.validators().count() > 0);
    }
    given_back(bytes, genesis.map(|genesis| genesis.encode()))
}

/// An entry of the registry.
pub fn registry_entry(bytes: &[u8]) -> bool {
    given_back(bytes, registry::decode_entry(bytes).ok().map(|entry| entry.encode_to_vec()))
}

/// A proposal to change the registry; applied to that of the genesis, it makes one that has an encoding
/// too, or is refused.
pub fn registry_proposal(bytes: &[u8]) -> bool {
    let proposal = canonical::decode(bytes).ok().and_then(|p| RegistryProposal::from_proto(p).ok());
    if let Some(changed) = proposal.as_ref().and_then(|p| GENESIS.registry.apply(p, 1).ok()) {
        let entries = changed.entries().cloned().collect();
        let again = registry::Registry::new(entries).expect("its own entries");
        assert_eq!(again.members_root(), changed.members_root());
    }
    given_back(bytes, proposal.map(|proposal| proposal.to_proto().encode_to_vec()))
}

/// A change of the registry with its approvals. Nobody else can say what its signatures prove.
pub fn registry_change(bytes: &[u8]) -> bool {
    let change =
        canonical::decode(bytes).ok().and_then(|proto| RegistryChange::from_proto(&proto).ok());
    proves_nothing_new("registry_change", bytes);
    given_back(bytes, change.map(|change| change.to_proto().encode_to_vec()))
}

pub(super) fn by_registry_change(bytes: &[u8]) -> Option<Vec<String>> {
    let change = RegistryChange::from_proto(&canonical::decode(bytes).ok()?).ok()?;
    change.verify(&GENESIS.chain_id()).ok()?;
    let hash = change.proposal().hash();
    let approvals = change.approvals().iter();
    Some(approvals.map(|approval| format!("{} approves {hash}", approval.validator)).collect())
}

/// A change of an agreement with its approvals. Nobody else can say what its signatures prove; that somebody
/// leaves needs none beside the transaction's.
pub fn agreement_change(bytes: &[u8]) -> bool {
    let change =
        canonical::decode(bytes).ok().and_then(|proto| AgreementChange::from_proto(&proto).ok());
    proves_nothing_new("agreement_change", bytes);
    given_back(bytes, change.map(|change| change.to_proto().encode_to_vec()))
}

pub(super) fn by_agreement_change(bytes: &[u8]) -> Option<Vec<String>> {
    let change = AgreementChange::from_proto(&canonical::decode(bytes).ok()?).ok()?;
    change.verify(&GENESIS.chain_id()).ok()?;
    let AgreementChange::Epoch(proposal, approvals) = change else { return Some(Vec::new()) };
    let hash = proposal.hash();
    Some(approvals.iter().map(|approval| format!("{} approves {hash}", approval.signer)).collect())
}

/// Two statements of one key that contradict each other; only a key that signed both is ever named.
pub fn misbehaviour(bytes: &[u8]) -> bool {
    let evidence =
        canonical::decode(bytes).ok().and_then(|proto| Evidence::from_proto(&proto).ok());
    proves_nothing_new("misbehaviour", bytes);
    given_back(bytes, evidence.map(|evidence| evidence.to_proto().encode_to_vec()))
}

pub(super) fn by_misbehaviour(bytes: &[u8]) -> Option<Vec<String>> {
    let evidence = Evidence::from_proto(&canonical::decode(bytes).ok()?).ok()?;
    let proves = evidence.proves(&GENESIS.chain_id());
    proves.then(|| vec![format!("{} broke a rule at {:?}", evidence.culprit(), evidence.place())])
}

/// How nodes say that heights were decided. Nothing hashes this message, so what is taken need only mean
/// the same again; and whoever is found to have signed on both sides has done so.
pub fn decisions(bytes: &[u8]) -> bool {
    let Ok(decisions) = decision::decode(bytes) else { return false };
    assert_eq!(decision::decode(&decision::encode(&decisions)), Ok(decisions));
    proves_nothing_new("decisions", bytes);
    true
}

pub(super) fn by_decisions(bytes: &[u8]) -> Option<Vec<String>> {
    let decisions = decision::decode(bytes).ok()?;
    let published = ["/one", "/other"].map(|pointer| {
        let bytes = super::seeds::bytes("decisions.json", pointer);
        decision::decode(&bytes).expect("published").remove(0)
    });
    let all: Vec<&Decision> = published.iter().chain(&decisions).collect();
    let mut named: Vec<_> = decisions.iter().flat_map(finalized).collect();
    // What anybody says beside the two published sides of the fork accuses nobody else.
    if let Ok(examination) = fork::examine(1, &all, &GENESIS.chain_id(), &GENESIS.validators()) {
        named.extend(examination.keys().into_iter().map(|key| format!("{key} signed twice")));
    }
    Some(named)
}

fn finalized(decision: &Decision) -> Option<String> {
    let (header, certificate): &(_, Certificate) = decision.decided.as_ref()?;
    VERIFIERS[1].verify_final(&header.encode(), &certificate.encode()).ok()?;
    Some(format!("{} is final", header.hash()))
}
