//! Reading the registry, and changing it.

use customhouse_client::RegistryAt;
use customhouse_ledger::registry::{RegistryChange, RegistryProposal};

use super::{
    fixture::{now_ms, refusal},
    *,
};

const MINUTE_MS: u64 = 60_000;

fn joining(code: &str) -> v1::RegistryEntry {
    let agency = v1::AgencyEntry { agency: code.into(), name: "new".into(), country: "SE".into() };
    let entry = Some(v1::registry_entry::Entry::Agency(agency));
    v1::RegistryEntry { entry, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_taken_when_a_quorum_approves_the_present_registry_s() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Operator).await;
    let RegistryAt { height, registry, root } = client.registry().await.expect("served");
    assert_eq!((height, root), (0, fixture.genesis.registry.root_without_agreements()));

    let chain_id = fixture.genesis.chain_id();
    let proposal = |code: &str, not_after_ms| {
        let added = vec![joining(code)];
        RegistryProposal::new(&registry.members_root(), not_after_ms, added, Vec::new(), "")
            .expect("well-formed")
    };
    let approved = |proposal: RegistryProposal, key: &SigningKey| {
        let approval = proposal.approve(&chain_id, key);
        RegistryChange::new(proposal, vec![approval], None).expect("well-formed").to_proto()
    };
    let later = now_ms() + MINUTE_MS;
    let stranger = SigningKey::from_seed(&[77; 32]);
    for (change, code, reason) in [
        (v1::RegistryChange::default(), Code::InvalidArgument, "REGISTRY_CHANGE"),
        (
            approved(proposal("SE-TULL", later), &stranger),
            Code::FailedPrecondition,
            "REGISTRY_CHANGE_NOT_NOW",
        ),
        (
            approved(proposal("SE-TULL", now_ms() - 1), &fixture.validator_key),
            Code::FailedPrecondition,
            "REGISTRY_CHANGE_NOT_NOW",
        ),
    ] {
        let refused = refusal(client.submit_registry_change(change, &[]).await);
        assert_eq!((refused.code, &*refused.reason_code), (code, reason), "{}", refused.message);
    }

    let change = approved(proposal("SE-TULL", later), &fixture.validator_key);
    let record_id = client.submit_registry_change(change.clone(), &[]).await.expect("taken");
    let end = client.wait_receipt(record_id, None).await.expect("known");
    assert_eq!(end.phase(), Phase::Final, "{}", end.reason);
    let RegistryAt { height, registry: after, root: changed } =
        client.registry().await.expect("served");
    assert_eq!((height, after.count()), (1, registry.count() + 1));
    assert_ne!(changed, root);
    // The same once more, and another change, of the registry as it no longer is.
    assert_eq!(client.submit_registry_change(change, &[]).await.expect("told"), record_id);
    let late = approved(proposal("FI-TULLI", later), &fixture.validator_key);
    let refused = refusal(client.submit_registry_change(late, &[]).await);
    assert!(refused.message.contains("another change came first"), "{}", refused.message);
    fixture.stop().await;
}
