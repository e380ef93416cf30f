//! A node that decides nothing: calls whose client is gone before their end, and what one client may have waiting.

use customhouse_proto::v1::{import_options::Lodge, registry_entry::Entry};
use h2::Reason;

use super::{
    fixture::{agency, change_registry, now_ms, record, refusal, submission},
    raw::{Raw, USUAL_WINDOW, framed, until},
    *,
};
use crate::node::NodeParts;

const IMPORT: &str = "/customhouse.v1.Import/ImportMessages";
const STREAM_IMPORT: &str = "/customhouse.v1.Import/StreamImport";

/// A node that accepts and decides nothing, because the network's other validator is not there. Each client
/// has one call at a time.
pub(super) async fn start_without_quorum() -> Fixture {
    start_without_quorum_with(|_| ()).await
}

/// The same with another node.
pub(super) async fn start_without_quorum_with(change: impl FnOnce(&mut NodeParts)) -> Fixture {
    let absent = |entries: &mut Vec<v1::RegistryEntry>| {
        let other = "BE-AADA".to_owned();
        let public_key = SigningKey::from_seed(&[7; 32]).public().as_bytes().to_vec();
        let agency_entry = v1::AgencyEntry { agency: other.clone(), ..Default::default() };
        let validator = v1::ValidatorEntry { agency: other, public_key };
        let own_key = v1::SigningKeyEntry {
            agency: agency().to_string(),
            public_key: brokers_own_key().public().as_bytes().to_vec(),
            role: v1::Role::Broker as i32,
            submitter: "broker".into(),
            ..Default::default()
        };
        let keys = Entry::SigningKey(own_key);
        for entry in [Entry::Agency(agency_entry), Entry::Validator(validator), keys] {
            entries.push(v1::RegistryEntry { entry: Some(entry), ..Default::default() });
        }
    };
    let both = |parts: &mut NodeParts| {
        change_registry(parts, absent);
        change(parts);
    };
    Fixture::start_both(both, |api| api.calls_max = 4).await
}

/// A key that the broker signs with itself.
pub(super) fn brokers_own_key() -> SigningKey {
    SigningKey::from_seed(&[8; 32])
}

fn message(number: usize) -> v1::ImportMessage {
    let content = format!(
        "<Declaration><TypeCode>IMA</TypeCode>\
         <FunctionalReferenceID>GIVEN-UP-{number}</FunctionalReferenceID></Declaration>"
    );
    v1::ImportMessage { content: content.into_bytes(), ..Default::default() }
}

/// What an import has accepted becomes final without it, and it gives back what it holds when nobody waits
/// for its answer: the next is not kept out until the network decides again.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_given_up_before_its_records_are_final_gives_back_its_place() {
    let fixture = start_without_quorum().await;
    let tls = fixture.tls(Role::Broker);
    let options = v1::ImportOptions {
        lodge: Lodge::All as i32,
        wait: true,
        open: true,
        ..Default::default()
    };
    let node = fixture.shared.upgrade().expect("it runs");
    for number in 0..6 {
        let raw = Raw::connect(&fixture, &tls, USUAL_WINDOW).await;
        let message = message(number);
        let (path, request) = if number % 2 == 0 {
            let messages = vec![message];
            let request = v1::ImportMessagesRequest { options: Some(options.clone()), messages };
            (IMPORT, request.encode_to_vec())
        } else {
            let message = Some(message);
            let request =
                v1::StreamImportRequest { options: Some(options.clone()), message, more: false };
            (STREAM_IMPORT, request.encode_to_vec())
        };
        let (_response, mut body) = raw.begin(path, &[]).await;
        body.send_data(framed(&request), true).expect("the call is open");
        let accepted = || crate::driver::lock(&node.mempool).count() == number + 1;
        until(&format!("import {number} to be taken"), accepted).await;
        body.send_reset(Reason::CANCEL);
    }
    drop(node);
    fixture.stop().await;
}

/// A border post goes on lodging while the network decides nothing, whatever one broker sends: many calls of one
/// small record are many transactions, of which there is room for so many.
#[tokio::test(flavor = "multi_thread")]
async fn one_client_s_many_small_transactions_leave_room_for_the_others() {
    let fixture = start_without_quorum_with(|parts| parts.mempool.transactions_max = 200).await;
    let broker = fixture.client(Role::Broker).await;
    let mut taken = 0;
    let refused = loop {
        let key = format!("{taken}");
        match broker.submit_records(vec![submission(&key, taken)], false).await {
            Ok(results) => assert_eq!(results[0].phase(), Phase::Accepted, "{results:?}"),
            Err(error) => break refusal(Err::<(), _>(error)),
        }
        taken += 1;
        assert!(taken < 200, "it is not stopped");
    };
    assert_eq!(refused.reason_code, "EXHAUSTED", "after {taken}");
    assert!(refused.message.contains("of this client"), "{}", refused.message);
    let tls = fixture.tls_named("post", Role::Officer);
    let officer = Client::connect(&fixture.endpoint, &tls).await.expect("connected");
    for number in 0..5 {
        let key = format!("officer {number}");
        let results = officer.submit_records(vec![submission(&key, 1000 + number)], false).await;
        assert_eq!(results.expect("taken")[0].phase(), Phase::Accepted, "after {taken}");
    }
    fixture.stop().await;
}

/// What becomes of one transaction would say nothing of the record while another has it too.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_waits_is_not_taken_in_another_transaction() {
    let fixture = start_without_quorum().await;
    let client = fixture.client(Role::Broker).await;
    let record = v1::Record {
        salt: vec![7; 32],
        submitter_role: v1::Role::Broker as i32,
        agency: agency().to_string(),
        submitter: "broker".into(),
        ..record(1)
    };
    let record = customhouse_ledger::record::ValidRecord::from_record(record).expect("valid");
    let signed = |later_ms: u64| {
        let (not_after_ms, key) = (now_ms() + 60_000 + later_ms, record.id);
        let slots = [(record.clone(), key)];
        let chain_id = fixture.genesis.chain_id();
        let own = brokers_own_key();
        let signed = VerifiedTransaction::sign(&slots, agency(), not_after_ms, &chain_id, &own);
        signed.expect("valid").parts().clone()
    };
    let (first, second) = (signed(0), signed(1_000));
    let taken = client.submit_transaction(first.clone(), false).await.expect("taken");
    assert_eq!(taken.phase(), Phase::Accepted, "{taken:?}");
    let refused = refusal(client.submit_transaction(second, false).await);
    assert_eq!((refused.code, &*refused.reason_code), (Code::Aborted, "RECORD_WAITS"));
    let again = client.submit_transaction(first, false).await.expect("the same is the same");
    assert_eq!(again.transaction_id, taken.transaction_id);
    fixture.stop().await;
}
