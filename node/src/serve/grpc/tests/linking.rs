//! What an imported message is linked to on the ledger, whoever has named its reference or MRN before.

use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicUsize, Ordering},
};

use customhouse_formats::DeclarationKey;
use customhouse_proto::v1::{
    import_link::Rule, import_options::Lodge, import_result::Outcome, record::Body, subject::Scheme,
};

use super::*;
use crate::{
    identity::ClientIdentity,
    imports::lookups::{Asker, Budget, Lookups, Whose},
    serve::reads::read_in_turns,
    view::View,
};

async fn named(fixture: &Fixture, name: &str, role: Role) -> Client {
    let tls = fixture.tls_named(name, role);
    Client::connect(&fixture.endpoint, &tls).await.expect("connected")
}

/// Lodges a declaration that says this, beside subjects that it does not say.
async fn lodge(
    client: &Client,
    (reference, mrn): (&str, &str),
    subjects: Vec<(Scheme, String)>,
) -> Vec<u8> {
    let declaration = v1::Declaration {
        regime: 1,
        type_code: "IMA".into(),
        reference: reference.into(),
        mrn: mrn.into(),
        ..Default::default()
    };
    let subjects =
        subjects.into_iter().map(|(scheme, id)| v1::Subject { scheme: scheme as i32, id });
    let record = v1::Record {
        body: Some(Body::Declaration(declaration)),
        subjects: subjects.collect(),
        ..Default::default()
    };
    let idempotency_key = format!("{reference}/{mrn}");
    let submission = v1::RecordSubmission {
        record: Some(record),
        idempotency_key,
        open: true,
        agreement: Vec::new(),
    };
    let lodged = client.submit_records(vec![submission], true).await.expect("taken").remove(0);
    assert_eq!(lodged.phase(), Phase::Final, "{}", lodged.reason);
    lodged.record_id
}

async fn import(client: &Client, content: String) -> v1::ImportedMessage {
    let options = v1::ImportOptions {
        lodge: Lodge::All as i32,
        wait: true,
        open: true,
        ..Default::default()
    };
    let message = v1::ImportMessage {
        label: "a.xml".into(),
        content: content.into_bytes(),
        ..Default::default()
    };
    let result = client.import_messages(options, vec![message]).await.expect("taken").remove(0);
    let Some(Outcome::Imported(imported)) = result.outcome else { panic!("{result:?}") };
    let lodged = imported.lodged.as_ref().expect("it was asked for");
    assert_eq!(lodged.phase(), Phase::Final, "{}", lodged.reason);
    imported
}

/// An answer that releases the goods.
fn release(reference: &str, mrn: &str) -> String {
    let element = |name: &str, text: &str| match text {
        "" => String::new(),
        text => format!("<{name}>{text}</{name}>"),
    };
    let (reference, mrn) = (element("FunctionalReferenceID", reference), element("ID", mrn));
    format!(
        "<Response><FunctionCode>08</FunctionCode><Declaration>{reference}{mrn}</Declaration></Response>"
    )
}

fn linked_to(imported: &v1::ImportedMessage) -> &[u8] {
    let link = imported.link.as_ref().unwrap_or_else(|| panic!("{imported:?}"));
    assert_eq!(link.rule(), Rule::Ledger);
    &link.record_id
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_names_a_reference_or_mrn_first_does_not_get_the_answer() {
    let fixture = Fixture::start().await;
    let broker = named(&fixture, "broker", Role::Broker).await;
    let squatter = named(&fixture, "squatter", Role::Broker).await;
    let officer = named(&fixture, "officer", Role::Officer).await;
    let squatted = vec![
        (Scheme::Mrn, "26NL1".to_owned()),
        (Scheme::DeclarationReference, "NL-DOUANE/TRUE".to_owned()),
    ];
    lodge(&squatter, ("OTHER", ""), squatted).await;
    // What is not on the ledger is not taken for what names it.
    let early = import(&officer, release("TRUE", "26NL1")).await;
    assert!(early.link.is_none() && early.warnings.is_empty(), "{early:?}");
    let by_reference = lodge(&broker, ("TRUE", ""), vec![]).await;
    let by_mrn = lodge(&broker, ("", "26NL1"), vec![]).await;
    let answer = import(&officer, release("TRUE", "")).await;
    assert_eq!(linked_to(&answer), by_reference);
    let answer = import(&officer, release("", "26NL1")).await;
    assert_eq!(linked_to(&answer), by_mrn);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_mrn_that_the_office_has_answered_under_is_of_what_it_has_answered() {
    let fixture = Fixture::start().await;
    let broker = named(&fixture, "broker", Role::Broker).await;
    let squatter = named(&fixture, "squatter", Role::Broker).await;
    let officer = named(&fixture, "officer", Role::Officer).await;
    // It has no MRN when it is lodged.
    let own = lodge(&broker, ("TRUE", ""), vec![]).await;
    assert_eq!(linked_to(&import(&officer, release("TRUE", "26NL1")).await), own);
    let taken = lodge(&squatter, ("OTHER", "26NL1"), vec![]).await;
    let answer = import(&officer, release("", "26NL1")).await;
    assert!(answer.link.is_none(), "{answer:?}");
    let [warning] = &answer.warnings[..] else { panic!("{answer:?}") };
    for id in [&taken, &own] {
        assert!(warning.text.contains(&hex::encode(id)), "{}", warning.text);
    }
    // Without anybody else who says it, that decides.
    let own = lodge(&broker, ("SECOND", ""), vec![]).await;
    assert_eq!(linked_to(&import(&officer, release("SECOND", "26NL2")).await), own);
    assert_eq!(linked_to(&import(&officer, release("", "26NL2")).await), own);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_two_submitters_declare_it_a_person_decides_and_what_amends_is_the_sender_s() {
    let fixture = Fixture::start().await;
    let broker = named(&fixture, "broker", Role::Broker).await;
    let squatter = named(&fixture, "squatter", Role::Broker).await;
    let officer = named(&fixture, "officer", Role::Officer).await;
    let taken = lodge(&squatter, ("TRUE", ""), vec![]).await;
    let own = lodge(&broker, ("TRUE", "26NL1"), vec![]).await;
    let answer = import(&officer, release("TRUE", "26NL1")).await;
    assert!(answer.link.is_none() && answer.unlinked.is_some(), "{answer:?}");
    let [warning] = &answer.warnings[..] else { panic!("{answer:?}") };
    for id in [&taken, &own] {
        assert!(warning.text.contains(&hex::encode(id)), "{}", warning.text);
    }
    // Its own reference says which one a sender amends.
    let amendment = "<Declaration><TypeCode>COR</TypeCode><FunctionCode>13</FunctionCode>\
                     <FunctionalReferenceID>TRUE</FunctionalReferenceID></Declaration>";
    for (client, id) in [(&broker, &own), (&squatter, &taken)] {
        let amended = import(client, amendment.to_owned()).await;
        assert_eq!(linked_to(&amended), id);
        assert!(amended.warnings.is_empty(), "{amended:?}");
    }
    fixture.stop().await;
}

/// Look-ups at their end, and the turns that they took.
fn in_turns(mut lookups: Lookups, node: &Services) -> (Lookups, usize) {
    let mut turns = 1;
    let view = View::open(node.reader.clone(), node.agency);
    while lookups.turn(&view).expect("readable").is_continue() {
        turns += 1;
    }
    (lookups, turns)
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_a_history_through_has_an_end_and_what_was_not_looked_at_is_said() {
    let fixture = Fixture::start().await;
    let broker = named(&fixture, "broker", Role::Broker).await;
    let flood = named(&fixture, "flood", Role::Broker).await;
    let own = lodge(&broker, ("TRUE", ""), vec![]).await;
    for number in 0..4 {
        let subject = (Scheme::DeclarationReference, "NL-DOUANE/TRUE".to_owned());
        lodge(&flood, (&format!("F{number}"), ""), vec![subject]).await;
    }
    let other = lodge(&broker, ("OTHER", ""), vec![]).await;
    let node = fixture.shared.upgrade().expect("it runs");
    let whole = Budget::OF_BATCH;
    let table = [
        (whole, true, true),
        (Budget { turn: Duration::ZERO, ..whole }, true, true),
        (Budget { records_of_subject: 5, ..whole }, true, true),
        (Budget { records_of_subject: 4, ..whole }, false, true),
        (Budget { records: 5, ..whole }, true, false),
        (Budget { bytes: 0, ..whole }, false, false),
        (Budget { time: Duration::ZERO, ..whole }, false, false),
    ];
    let officer = ClientIdentity {
        agency: fixture::agency(),
        name: "officer".into(),
        role: Role::Officer,
        certificate: [0; 32],
    };
    for (budget, finds_flooded, finds_other) in table {
        let mut lookups = Lookups::within(budget, Asker::of(&officer, officer.agency));
        let asked = [("TRUE", &own, finds_flooded), ("OTHER", &other, finds_other)];
        let key =
            |reference: &str| DeclarationKey { reference: reference.into(), mrn: String::new() };
        asked.iter().for_each(|(reference, ..)| lookups.ask(&key(reference)));
        let (lookups, turns) = in_turns(lookups, &node);
        // Two histories, and what a turn without time looks at: one thing.
        assert!(turns == 1 || budget.turn.is_zero() && turns > 2 + 5, "{budget:?}: {turns} turns");
        for (reference, id, is_found) in asked {
            match lookups.answer(&key(reference), Whose::Anybody) {
                Some(Ok(found)) => assert!(is_found && found.id.0 == id[..], "{budget:?}"),
                Some(Err(warning)) => {
                    let text = warning.to_string();
                    assert!(!is_found && text.contains(reference), "{budget:?}: {text}");
                    assert!(text.contains("too many records"), "{text}");
                }
                None => panic!("{budget:?}: {reference}"),
            }
        }
    }
    drop(node);
    fixture.stop().await;
}

/// Waits until nobody else holds it.
async fn until_alone<T>(held: &Arc<T>) {
    let alone = async {
        while Arc::strong_count(held) > 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, alone).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_reads_in_turns_ends_with_the_call_that_it_is_for() {
    let fixture = Fixture::start().await;
    let node = fixture.shared.upgrade().expect("it runs");
    let turns = Arc::new(AtomicUsize::new(0));
    let endless = read_in_turns(&node, Arc::clone(&turns), |turns, _| {
        turns.fetch_add(1, Ordering::SeqCst);
        Ok(ControlFlow::Continue(()))
    });
    let some = async {
        while turns.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = endless => panic!("it has no end"),
        () = some => {}
    }
    until_alone(&turns).await;
    drop(node);
    fixture.stop().await;
}
