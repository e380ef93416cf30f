//! Calls whose client is gone before their end.

use customhouse_proto::v1::{import_options::Lodge, registry_entry::Entry};
use h2::Reason;

use super::{
    fixture::change_registry,
    raw::{Raw, USUAL_WINDOW, framed, until},
    *,
};

const IMPORT: &str = "/customhouse.v1.Import/ImportMessages";
const STREAM_IMPORT: &str = "/customhouse.v1.Import/StreamImport";

/// A node that accepts and decides nothing, because the network's other validator is not there. Each client
/// has one call at a time.
async fn start_without_quorum() -> Fixture {
    let absent = |entries: &mut Vec<v1::RegistryEntry>| {
        let agency = "BE-AADA".to_owned();
        let public_key = SigningKey::from_seed(&[7; 32]).public().as_bytes().to_vec();
        let agency_entry = v1::AgencyEntry { agency: agency.clone(), ..Default::default() };
        let validator = v1::ValidatorEntry { agency, public_key };
        for entry in [Entry::Agency(agency_entry), Entry::Validator(validator)] {
            entries.push(v1::RegistryEntry { entry: Some(entry), ..Default::default() });
        }
    };
    Fixture::start_both(|parts| change_registry(parts, absent), |api| api.calls_max = 4).await
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
    let options = v1::ImportOptions { lodge: Lodge::All as i32, wait: true, ..Default::default() };
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
