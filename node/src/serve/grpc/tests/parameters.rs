//! What a network's registry lets its blocks carry, as the clients of a node meet it that signs for them.

use customhouse_proto::v1::registry_entry::Entry;

use super::{
    fixture::{change_registry, refusal, submission},
    *,
};

/// A node of a network whose registry has other entries.
async fn start_with(change: impl FnOnce(&mut Vec<v1::RegistryEntry>)) -> Fixture {
    Fixture::start_with(|parts| change_registry(parts, change)).await
}

/// The network's records have at most 1,024 bytes. One client submits a larger one in the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_no_block_may_carry_is_refused_and_stops_nobody_else_s() {
    let fixture = start_with(|entries| {
        let parameter = v1::ParameterEntry { name: "record_bytes_max".into(), value: 1024 };
        let entry = Some(Entry::Parameter(parameter));
        entries.push(v1::RegistryEntry { entry, ..Default::default() });
    })
    .await;
    let client = fixture.client(Role::Broker).await;
    let mut large = submission("large", 3);
    let source = v1::Source { content: vec![b'x'; 2000], ..Default::default() };
    large.record.as_mut().expect("a record").source = Some(source);
    let records = vec![submission("small", 2), large.clone()];
    let taken = client.submit_records(records, false).await.expect("taken");
    assert_eq!((taken[0].phase(), taken[1].phase()), (Phase::Accepted, Phase::Rejected));
    assert_eq!(taken[1].reason_code, "RECORD_TOO_LARGE");
    assert!(taken[1].reason.contains("at most 1024 are allowed in this network"), "{taken:?}");
    let id = Hash::from_slice(&taken[0].record_id).expect("an id");
    let end = client.wait_receipt(id, Some(DEADLINE)).await.expect("answered");
    assert_eq!(end.phase(), Phase::Final, "{end:?}");
    let alone = refusal(client.submit_records(vec![large], false).await);
    assert_eq!((alone.code, &*alone.reason_code), (Code::OutOfRange, "RECORD_TOO_LARGE"));
    fixture.stop().await;
}

/// The registry has the node's signing key as a broker's own, which speaks for nobody with a certificate.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_node_s_key_may_not_sign_is_refused_and_not_accepted_until_it_expires() {
    let fixture = start_with(|entries| {
        for entry in entries {
            if let Some(Entry::SigningKey(key)) = &mut entry.entry {
                (key.role, key.submitter) = (v1::Role::Broker as i32, "broker".into());
            }
        }
    })
    .await;
    let client = fixture.client(Role::Broker).await;
    let refused = refusal(client.submit_records(vec![submission("k", 1)], false).await);
    assert_eq!(
        (refused.code, &*refused.reason_code),
        (Code::PermissionDenied, "SIGNER_CERTIFICATE")
    );
    assert!(refused.message.contains("this node's signing key may not sign it"), "{refused}");
    fixture.stop().await;
}
