//! A change of the registry, from its submission to the proof of it.

use customhouse_ledger::{
    chain::ChainReader,
    registry::{InSync, RegistryChange, RegistryProposal},
};
use customhouse_proto::v1::registry_entry::Entry;

use super::{
    fixture::{agency, now_ms},
    *,
};

const MINUTE_MS: u64 = 60_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_validators_is_submitted_and_then_proven_to_everybody() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Broker).await;
    assert_eq!(client.validator_chain().await.expect("served"), v1::ValidatorChain::default());
    let shared = fixture.shared.upgrade().expect("it runs");
    let (tip, change) = joining(&fixture, &shared.reader);
    drop(shared);
    let not_after_ms = now_ms() + MINUTE_MS;
    let (chain_id, key) = (fixture.genesis.chain_id(), &fixture.signing_key);
    let signed = VerifiedTransaction::change_registry(
        &change,
        "broker",
        agency(),
        not_after_ms,
        &chain_id,
        key,
    );
    let transaction = signed.expect("valid").parts().clone();
    let answer = client.submit_transaction(transaction, true).await.expect("taken");
    assert_eq!(answer.phase(), Phase::Final, "{}", answer.reason);
    let chain = fixture.client(Role::Officer).await.validator_chain().await.expect("served");
    let mut verifier = Verifier::new(&fixture.genesis);
    verifier.follow_chain(&chain).expect("certified");
    assert_eq!((chain.steps.len(), verifier.validators().count()), (1, 2));
    assert!(verifier.known_from() > tip + 1);
    fixture.stop().await;
}

/// A second agency gains its vote; its key is in sync with the tip, whose height is given.
fn joining(fixture: &Fixture, reader: &ChainReader) -> (u64, RegistryChange) {
    let (key, code) = (SigningKey::from_seed(&[7; 32]), "DE-ZOLL".to_owned());
    let entry = |entry| v1::RegistryEntry { entry: Some(entry), ..Default::default() };
    let public_key = key.public().as_bytes().to_vec();
    let own = v1::AgencyEntry { agency: code.clone(), ..Default::default() };
    let vote = v1::ValidatorEntry { agency: code.clone(), public_key };
    let added = vec![entry(Entry::Agency(own)), entry(Entry::Validator(vote))];
    let tip = reader.tip();
    let (root, not_after_ms) = (tip.registry.members_root(), now_ms() + MINUTE_MS);
    let proposal = RegistryProposal::new(&root, not_after_ms, added, vec![], "").expect("one");
    let (chain_id, height) = (fixture.genesis.chain_id(), tip.header.height);
    let code = code.parse().expect("a code");
    let in_sync = InSync::sign(&chain_id, &code, height, tip.hash, &key);
    let approval = proposal.approve(&chain_id, &fixture.validator_key);
    let change = RegistryChange::new(proposal, vec![approval], Some(in_sync)).expect("valid");
    (height, change)
}
