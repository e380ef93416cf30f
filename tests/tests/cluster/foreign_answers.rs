//! What one agency's office says of another agency's declaration.

use customhouse_client::Client;
use customhouse_proto::v1::{
    self, Phase, import_options::Lodge, import_result::Outcome, reference::Relation,
};
use customhouse_tests::cluster::Cluster;

const MRN: &str = "26NL00051004471RX3";

/// Imports a message and lodges it; what became of it.
async fn import(client: &Client, content: String) -> v1::ImportedMessage {
    let options = v1::ImportOptions {
        lodge: Lodge::All as i32,
        wait: true,
        open: true,
        ..Default::default()
    };
    let message = v1::ImportMessage { content: content.into_bytes(), ..Default::default() };
    let results = client.import_messages(options, vec![message]).await.expect("taken");
    match results.into_iter().next().and_then(|result| result.outcome) {
        Some(Outcome::Imported(imported)) => {
            let lodged = imported.lodged.as_ref().expect("it was asked for");
            assert_eq!(lodged.phase(), Phase::Final, "{}", lodged.reason);
            imported
        }
        other => panic!("{other:?}"),
    }
}

fn declaration(code: &str, reference: &str, mrn: &str) -> String {
    let mrn = if mrn.is_empty() { String::new() } else { format!("<ID>{mrn}</ID>") };
    format!(
        "<Declaration><FunctionCode>{code}</FunctionCode><TypeCode>IMA</TypeCode>\
         <FunctionalReferenceID>{reference}</FunctionalReferenceID>{mrn}</Declaration>"
    )
}

fn answer(code: &str, reference: &str) -> String {
    format!(
        "<Response><FunctionCode>{code}</FunctionCode><Declaration>\
         <FunctionalReferenceID>{reference}</FunctionalReferenceID><ID>{MRN}</ID>\
         </Declaration></Response>"
    )
}

/// A declaration gets its MRN by the answer of its agency's office. What that has said of its own declaration leads
/// others to it too, so that their answers refer to it and are known for their view.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_another_agency_s_declaration_finds_it_by_what_that_agency_has_answered() {
    let cluster = Cluster::start(2).await;
    let (home, abroad) = (1, 0);
    let home_code = cluster.agency(home).code().to_string();
    let declared = import(&cluster.client(home, "broker"), declaration("9", "L1", "")).await;
    let declared = declared.lodged.expect("final").record_id;
    import(&cluster.client(home, "officer"), answer("01", "L1")).await;
    cluster.same_head(&[home, abroad], 1).await;
    let view = import(&cluster.client(abroad, "officer"), answer("08", "")).await;
    let link = view.link.as_ref().unwrap_or_else(|| panic!("{view:?}"));
    assert_eq!((link.relation(), &link.record_id), (Relation::RespondsTo, &declared));
    let id = customhouse_ledger::hash::Hash::from_slice(&view.lodged.expect("final").record_id);
    let found = cluster.client(abroad, "auditor").record(id.expect("an id")).await.expect("there");
    let record = <v1::Record as prost::Message>::decode(&found.record[..]).expect("a record");
    assert_eq!(record.references[0].agency, home_code, "it is the view of another agency");
    // Nobody else amends what they find there, and is told why.
    let amendment = import(&cluster.client(home, "officer"), declaration("13", "", MRN)).await;
    assert!(amendment.link.is_some(), "an office of the agency may: {amendment:?}");
    let amendment = import(&cluster.client(abroad, "broker"), declaration("13", "", MRN)).await;
    let unlinked = amendment.unlinked.expect("it is not the broker's to amend");
    assert!(unlinked.reason.contains("who alone amend or cancel it"), "{}", unlinked.reason);
    cluster.nobody_lied();
}

/// What was lodged stands, also where more is known later: it is told as it stands.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_lodged_before_is_told_as_it_stands() {
    let cluster = Cluster::start(2).await;
    let officer = cluster.client(0, "officer");
    let early = import(&officer, answer("08", "L1")).await;
    assert!(early.link.is_none() && early.unlinked.is_some(), "{early:?}");
    import(&cluster.client(0, "broker"), declaration("9", "L1", "")).await;
    let options = v1::ImportOptions {
        lodge: Lodge::All as i32,
        wait: true,
        open: true,
        ..Default::default()
    };
    let content = answer("08", "L1").into_bytes();
    let message = v1::ImportMessage { content, ..Default::default() };
    let again = officer.import_messages(options, vec![message]).await.expect("taken");
    let Some(Outcome::Imported(again)) = &again[0].outcome else { panic!("{again:?}") };
    let (lodged, first) = (again.lodged.as_ref().expect("asked for"), early.lodged.expect("final"));
    assert_eq!((&*lodged.reason_code, &lodged.record_id), ("ALREADY_EXISTS", &first.record_id));
    assert!(again.link.is_none() && again.unlinked.is_some(), "{again:?}");
    cluster.nobody_lied();
}
