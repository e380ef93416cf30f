//! Raw messages in, records out: what the node makes of them, links, refuses and lodges.

use customhouse_client::contract::{IMPORT_BYTES_MAX, NOT_FOR_ROLE, TARGET_NOT_LODGED};
use customhouse_proto::v1::{
    import_link::Rule, import_options::Lodge, import_result::Outcome, imported_message::Kind,
    record::Body, reference::Ground, source::Mapping,
};

use h2::Reason;

use super::{
    fixture::{now_ms, refusal},
    raw::{GET_RECORD, Raw, USUAL_WINDOW, ended, framed, is},
    *,
};

const STREAM_IMPORT: &str = "/customhouse.v1.Import/StreamImport";

fn declaration(reference: &str) -> String {
    format!(
        "<Declaration><TypeCode>IMA</TypeCode>\
         <FunctionalReferenceID>{reference}</FunctionalReferenceID></Declaration>"
    )
}

fn status(reference: &str, mrn: &str) -> String {
    format!(
        "<Response><FunctionCode>01</FunctionCode><Declaration>\
         <FunctionalReferenceID>{reference}</FunctionalReferenceID><ID>{mrn}</ID></Declaration>\
         </Response>"
    )
}

fn message(label: &str, content: &str) -> v1::ImportMessage {
    let (label, content) = (label.to_owned(), content.as_bytes().to_vec());
    v1::ImportMessage { label, content, ..Default::default() }
}

fn options(lodge: Lodge) -> v1::ImportOptions {
    v1::ImportOptions {
        lodge: lodge as i32,
        wait: true,
        with_records: true,
        open: true,
        ..Default::default()
    }
}

fn imported(result: &v1::ImportResult) -> &v1::ImportedMessage {
    match &result.outcome {
        Some(Outcome::Imported(imported)) => imported,
        other => panic!("{}: {other:?}", result.label),
    }
}

fn lodged(result: &v1::ImportResult) -> &v1::RecordResult {
    imported(result).lodged.as_ref().expect("it was asked for")
}

fn hash(bytes: &[u8]) -> Hash {
    Hash::from_slice(bytes).expect("32 bytes")
}

async fn on_ledger(client: &Client, id: &[u8]) -> v1::Record {
    let answer = client.record(hash(id)).await.expect("on the ledger");
    v1::Record::decode(&answer.record[..]).expect("a record")
}

#[tokio::test(flavor = "multi_thread")]
async fn declarations_go_in_under_a_broker_and_answers_under_an_office() {
    let fixture = Fixture::start().await;
    let (broker, officer) =
        (fixture.client(Role::Broker).await, fixture.client(Role::Officer).await);
    // The answers come first, and one of them names no reference: its folder does.
    let sent = || {
        vec![
            message("a/notes/1.xml", &status("L1", "26NL0000000000001")),
            message("b/notes/2.xml", &status("OTHER", "26NL0000000000002")),
            message("a/declaration.xml", &declaration("L1")),
            message("b/declaration.xml", &declaration("L2")),
        ]
    };
    let first = broker.import_messages(options(Lodge::All), sent()).await.expect("taken");
    assert_eq!(
        first.iter().map(|r| (r.number, r.message)).collect::<Vec<_>>(),
        [(0, 0), (1, 1), (2, 2), (3, 3)]
    );
    for result in &first[..2] {
        assert_eq!(imported(result).kind(), Kind::Status);
        assert_eq!(lodged(result).phase(), Phase::Rejected);
        assert_eq!(lodged(result).reason_code, NOT_FOR_ROLE);
        let reason = &lodged(result).reason;
        assert!(
            reason.contains("speaks as broker may not state a") && reason.contains("office may")
        );
    }
    assert_eq!(fixture.counted(NOT_FOR_ROLE), 2);
    for result in &first[2..] {
        assert_eq!(lodged(result).phase(), Phase::Final, "{}", lodged(result).reason);
    }
    let mut again = sent();
    for (message, result) in again.iter_mut().zip(&first).skip(2) {
        message.record_id.clone_from(&lodged(result).record_id);
    }
    let second = officer.import_messages(options(Lodge::Answers), again).await.expect("taken");
    assert!(second[2..].iter().all(|result| imported(result).lodged.is_none()), "they are there");
    for (index, rule, ground) in
        [(0, Rule::Reference, Ground::ByReference), (1, Rule::Folder, Ground::ByFolder)]
    {
        let link = imported(&second[index]).link.as_ref().expect("linked");
        let target = &lodged(&first[index + 2]).record_id;
        assert_eq!((link.rule(), link.ground(), link.to), (rule, ground, Some(index as u32 + 2)));
        assert_eq!(&link.record_id, target);
        let record = on_ledger(&officer, &lodged(&second[index]).record_id).await;
        let [reference] = &record.references[..] else { panic!("{:?}", record.references) };
        assert_eq!((&reference.record_id, reference.ground()), (target, ground));
        let source = record.source.expect("a source");
        assert_eq!((source.mapping(), &*source.importer), (Mapping::Checked, "customhouse-wco/1"));
        assert_eq!(source.content, sent()[index].content, "byte for byte");
    }
    // Alone, an answer is linked to what is on the ledger.
    let late = vec![message("late.xml", &status("L2", "26NL0000000000003"))];
    let third = officer.import_messages(options(Lodge::All), late).await.expect("taken");
    let link = imported(&third[0]).link.as_ref().expect("linked");
    assert_eq!((link.rule(), link.to), (Rule::Ledger, None));
    assert_eq!(link.record_id, lodged(&first[3]).record_id);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_says_what_became_of_it_and_nothing_is_lodged_that_was_not_asked_for() {
    let fixture = Fixture::start().await;
    let broker = fixture.client(Role::Broker).await;
    let strange = "<Declaration><TypeCode>IMA</TypeCode>\n<GoodsShipment><UCR>\n  \
                   <TraderAssignedReferenceID>\u{e000}</TraderAssignedReferenceID></UCR>\
                   </GoodsShipment></Declaration>";
    let header = customhouse_formats::KOREAN_COLUMNS.join(",");
    let row = "1,2026-09-01,20,B,11,21,11,10,D1,IMP7,S1,,090111,KE,KE,2.0,A,E,18.0,57.0,0,0";
    let mut rows = message("r.csv", &format!("{header}\n{row}\nbad\n{row}\n"));
    rows.lines_before = 100;
    let sent = vec![
        message("a.xml", &declaration("L1")),
        message("b.xml", &declaration("L1").replace('>', ">\n")),
        message("c.xml", "<a>\n <b></a>"),
        message("d.xml", "<html/>"),
        message("e.xml", strange),
        message("f.edi", "UNB+UNOA:1"),
        rows,
        message("s.xml", &status("NONE", "")),
    ];
    let results =
        broker.import_messages(options(Lodge::Nothing), sent.clone()).await.expect("mapped");
    assert_eq!(results.len(), 10, "one a message, and three rows");
    let record = imported(&results[0]).record.as_ref().expect("asked for");
    let Some(Body::Declaration(declared)) = &record.body else { panic!("{record:?}") };
    assert_eq!((&*declared.reference, record.salt.len()), ("L1", 0));
    assert!(record.source.as_ref().is_some_and(|source| source.content.is_empty()));
    assert_eq!(results[1].outcome, Some(Outcome::DuplicateOf(0)));
    let Some(Outcome::Malformed(malformed)) = &results[2].outcome else { panic!("malformed") };
    assert_eq!(malformed.line, 2, "{}", malformed.reason);
    let Some(Outcome::Skipped(skipped)) = &results[3].outcome else { panic!("skipped") };
    assert_eq!(skipped.root, "html");
    let warnings = &imported(&results[4]).warnings;
    let place = (warnings[0].line, warnings[0].column, warnings[0].about_a_subject);
    assert_eq!(place, (3, 3, true), "{warnings:?}");
    let Some(Outcome::Malformed(unknown)) = &results[5].outcome else { panic!("unknown") };
    assert!(unknown.reason.contains("none of the formats"), "{}", unknown.reason);
    assert_eq!((results[6].message, results[6].line, &*results[6].label), (6, 102, "r.csv:102"));
    let Some(Outcome::Malformed(bad)) = &results[7].outcome else { panic!("malformed") };
    assert_eq!(bad.line, 103);
    assert_eq!(results[8].outcome, Some(Outcome::DuplicateOf(6)));
    let unlinked = imported(&results[9]).unlinked.as_ref().expect("nothing has its reference");
    assert_eq!(unlinked.reference, "NONE");
    // What the caller may not state is said before it is tried.
    assert_eq!(lodged(&results[9]).reason_code, NOT_FOR_ROLE);
    assert_eq!(fixture.counted(NOT_FOR_ROLE), 0);
    let header = broker.header(None).await.expect("the newest").0;
    assert_eq!(header.log_size, 0, "nothing was lodged");
    // Without records there are none.
    let plain = v1::ImportOptions { with_records: false, ..options(Lodge::Nothing) };
    let results = broker.import_messages(plain, sent).await.expect("mapped");
    assert!(imported(&results[0]).record.is_none() && !imported(&results[0]).record_left_out);
    fixture.stop().await;
}

fn piece(message: v1::ImportMessage, more: bool) -> v1::StreamImportRequest {
    v1::StreamImportRequest { options: None, message: Some(message), more }
}

async fn streamed(
    client: &Client,
    lodge: Lodge,
    mut requests: Vec<v1::StreamImportRequest>,
) -> Result<Vec<v1::ImportResult>, ClientError> {
    requests[0].options = Some(options(lodge));
    let answers = client.stream_import(stream::iter(requests)).await?;
    let results = timeout(DEADLINE, answers.try_collect::<Vec<_>>()).await.expect("in time");
    let mut results = results?;
    results.sort_by_key(|result| result.number);
    Ok(results)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_takes_a_larger_batch_and_messages_in_pieces() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Officer).await;
    let count = 600;
    let mut requests = Vec::new();
    for number in 0..count {
        let text = declaration(&format!("L{number}"));
        let (start, end) = text.split_at(20);
        requests.push(piece(message(&format!("{number}.xml"), start), true));
        requests.push(piece(message("", end), false));
        let status = status(&format!("L{number}"), "");
        requests.push(piece(message(&format!("{number}-status.xml"), &status), false));
    }
    let results = streamed(&client, Lodge::All, requests.clone()).await.expect("taken");
    assert_eq!(results.len(), 2 * count);
    for pair in results.chunks(2) {
        let [declared, answered] = pair else { panic!("two each") };
        assert_eq!(lodged(declared).phase(), Phase::Final, "{}", lodged(declared).reason);
        assert_eq!(lodged(answered).phase(), Phase::Final, "{}", lodged(answered).reason);
        let link = imported(answered).link.as_ref().expect("linked");
        assert_eq!(link.record_id, lodged(declared).record_id);
    }
    // An honest retry: the same records.
    let again = streamed(&client, Lodge::All, requests).await.expect("taken");
    let ids = |results: &[v1::ImportResult]| -> Vec<Vec<u8>> {
        results.iter().map(|result| lodged(result).record_id.clone()).collect()
    };
    assert_eq!(ids(&again), ids(&results));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_too_large_or_out_of_order_is_refused_and_nothing_of_it_is_lodged() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Officer).await;
    let declared = || piece(message("a.xml", &declaration("L1")), false);
    let large = "x".repeat(IMPORT_BYTES_MAX / 8);
    let mut too_large = vec![declared()];
    too_large.extend((0..9).map(|_| piece(message("", &large), true)));
    let refused = refusal(streamed(&client, Lodge::All, too_large).await);
    assert_eq!((refused.code, &*refused.reason_code), (Code::OutOfRange, "BATCH_TOO_LARGE"));
    let options_again =
        v1::StreamImportRequest { options: Some(options(Lodge::All)), ..declared() };
    for (requests, field) in [
        (vec![declared(), options_again], "options"),
        (vec![declared(), piece(message("b.xml", "<a>"), true)], "message"),
        (
            vec![piece(message("b.xml", "<a>"), true), piece(message("c.xml", "</a>"), false)],
            "message",
        ),
        (vec![piece(message(&"x".repeat(1025), "<a/>"), false)], "messages[0]"),
    ] {
        let refused = refusal(streamed(&client, Lodge::All, requests).await);
        assert_eq!(refused.code, Code::InvalidArgument);
        assert!(refused.message.starts_with(&format!("{field}: ")), "{}", refused.message);
    }
    let header = customhouse_formats::KOREAN_COLUMNS.join(",");
    let rows = format!("{header}\n{}", "x\n".repeat(1025));
    let refused =
        refusal(client.import_messages(options(Lodge::All), vec![message("r.csv", &rows)]).await);
    assert_eq!(&*refused.reason_code, "BATCH_TOO_LARGE", "{}", refused.message);
    let format = v1::ImportOptions { format: "edifact".into(), ..options(Lodge::All) };
    let refused = refusal(client.import_messages(format, vec![]).await);
    assert_eq!(&*refused.reason_code, "FORMAT");
    assert_eq!(client.header(None).await.expect("the newest").0.log_size, 0);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_that_was_not_sent_to_its_end_nothing_is_lodged() {
    let fixture = Fixture::start().await;
    let tls = fixture.tls(Role::Broker);
    let raw = Raw::connect(&fixture, &tls, USUAL_WINDOW).await;
    let unknown = v1::GetRecordRequest { record_id: vec![9; 32] }.encode_to_vec();
    for (number, how) in
        [Some(Reason::CANCEL), Some(Reason::NO_ERROR), Some(Reason::INTERNAL_ERROR), None]
            .into_iter()
            .enumerate()
    {
        let headers = [("grpc-timeout", "500m")];
        let headers = if how.is_some() { &[][..] } else { &headers[..] };
        let (response, mut body) = raw.begin(STREAM_IMPORT, headers).await;
        for index in 0..3 {
            let text = declaration(&format!("CUT-{number}-{index}"));
            let mut request = piece(message(&format!("{index}.xml"), &text), false);
            request.options = (index == 0).then(|| options(Lodge::All));
            body.send_data(framed(&request.encode_to_vec()), false).expect("open");
        }
        // What was sent before this is with the node when this is answered.
        assert_eq!(raw.call(GET_RECORD, &unknown).await, is(Code::NotFound, "NOT_FOUND"));
        match how {
            Some(reason) => body.send_reset(reason),
            None => {
                assert_eq!(ended(response).await, is(Code::DeadlineExceeded, "DEADLINE"));
                // Too late; HTTP/2 may have closed the stream.
                let _sent = body.send_data(bytes::Bytes::new(), true);
            }
        }
    }
    // A client has one such stream at a time: this one begins when the others are done with.
    let client = Client::connect(&fixture.endpoint, &tls).await.expect("connected");
    let whole = vec![piece(message("whole.xml", &declaration("WHOLE")), false)];
    let results = streamed(&client, Lodge::All, whole).await.expect("taken");
    assert_eq!(lodged(&results[0]).phase(), Phase::Final);
    let header = client.header(None).await.expect("the newest").0;
    assert_eq!(header.log_size, 1, "the whole one alone");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_does_not_go_on_is_ended() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Broker).await;
    let declared = piece(message("a.xml", &declaration("L1")), false);
    for begun in [vec![], vec![declared]] {
        let requests = stream::iter(begun).chain(stream::pending());
        let answers = client.stream_import(requests).await.expect("open");
        let ended = timeout(DEADLINE, answers.try_collect::<Vec<_>>()).await.expect("in time");
        let refused = refusal(ended.map_err(ClientError::from));
        assert_eq!(refused.code, Code::DeadlineExceeded);
        assert_eq!(refused.reason_code, "IMPORT_TIMEOUT");
    }
    assert_eq!(client.header(None).await.expect("the newest").0.log_size, 0);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_about_a_message_that_was_not_lodged_waits_for_it() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Officer).await;
    let sent = vec![
        message("a.xml", &declaration("L1")),
        message("s.xml", &status("L1", "26NL0000000000001")),
    ];
    let results = client.import_messages(options(Lodge::Answers), sent.clone()).await;
    let results = results.expect("taken");
    assert_eq!(lodged(&results[1]).reason_code, TARGET_NOT_LODGED);
    assert_eq!(lodged(&results[1]).phase(), Phase::Unspecified);
    // Lodged meanwhile, by whomever, it is found on the ledger.
    let declared = client.import_messages(options(Lodge::Declarations), sent.clone()).await;
    let declared = declared.expect("taken");
    assert_eq!(lodged(&declared[0]).phase(), Phase::Final);
    assert!(imported(&declared[1]).lodged.is_none());
    let results = client.import_messages(options(Lodge::Answers), sent).await.expect("taken");
    assert_eq!(lodged(&results[1]).phase(), Phase::Final, "{}", lodged(&results[1]).reason);
    let record = on_ledger(&client, &lodged(&results[1]).record_id).await;
    assert_eq!(record.references[0].record_id, lodged(&declared[0]).record_id);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_contradicts_its_source_is_refused_and_one_that_does_not_is_marked() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Broker).await;
    let sent = vec![message("a.xml", &declaration("L1"))];
    let results = client.import_messages(options(Lodge::Nothing), sent.clone()).await;
    let record = imported(&results.expect("mapped")[0]).record.clone().expect("asked for");
    let with = |change: &dyn Fn(&mut v1::Record)| {
        let mut record = record.clone();
        let source = record.source.as_mut().expect("a source");
        source.content.clone_from(&sent[0].content);
        source.mapping = 0;
        change(&mut record);
        record
    };
    let submit = |key: &str, record: v1::Record| {
        let submission = v1::RecordSubmission {
            record: Some(record),
            idempotency_key: key.to_owned(),
            open: true,
            agreement: Vec::new(),
        };
        client.submit_records(vec![submission], true)
    };
    let lying = with(&|record| {
        if let Some(Body::Declaration(declaration)) = &mut record.body {
            declaration.mrn = "26NL0000000000009".into();
        }
    });
    let refused = refusal(submit("lying", lying).await);
    assert_eq!((refused.code, &*refused.reason_code), (Code::InvalidArgument, "SOURCE_DIFFERS"));
    assert!(refused.message.contains("declaration.mrn"), "{}", refused.message);
    let unknown = |mapping: i32| {
        with(&move |record| {
            let source = record.source.as_mut().expect("a source");
            (source.importer, source.mapping) = ("another/1".into(), mapping);
        })
    };
    let refused = refusal(submit("claiming", unknown(1)).await);
    assert!(refused.message.starts_with("record.source.mapping: "), "{}", refused.message);
    for (key, record, mapping) in
        [("true", with(&|_| ()), Mapping::Checked), ("unknown", unknown(0), Mapping::NotChecked)]
    {
        let result = submit(key, record).await.expect("taken").remove(0);
        let source = on_ledger(&client, &result.record_id).await.source.expect("a source");
        assert_eq!(source.mapping(), mapping, "{key}");
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_has_signed_is_held_against_its_source_where_it_is_handed_in() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Broker).await;
    let sent = vec![message("a.xml", &declaration("L1"))];
    let results = client.import_messages(options(Lodge::Nothing), sent.clone()).await;
    let mapped = imported(&results.expect("mapped")[0]).record.clone().expect("asked for");
    let signed = |reference: &str, importer: &str| {
        let mut record = mapped.clone();
        let source = record.source.as_mut().expect("a source");
        (source.content, source.importer) = (sent[0].content.clone(), importer.into());
        source.set_mapping(Mapping::NotChecked);
        match &mut record.body {
            Some(Body::Declaration(declaration)) => declaration.reference = reference.into(),
            other => panic!("{other:?}"),
        }
        fixture.transaction_of(record, now_ms() + 60_000).parts().clone()
    };
    let lying = || signed("L2", "customhouse-wco/1");
    let refused = refusal(client.submit_transaction(lying(), true).await);
    assert_eq!((refused.code, &*refused.reason_code), (Code::InvalidArgument, "SOURCE_DIFFERS"));
    assert!(refused.message.contains("declaration.reference"), "{}", refused.message);
    let request = v1::SubmitTransactionRequest { transaction: Some(lying()), wait: true };
    let answers = client.stream_transactions(stream::iter(vec![request])).await.expect("open");
    let answers: Vec<_> = answers.try_collect().await.expect("answered");
    assert_eq!(&*answers[0].reason_code, "SOURCE_DIFFERS");
    // What says so itself goes in, and what another program has mapped.
    for (reference, importer) in [("L1", "customhouse-wco/1"), ("L2", "another/1"), ("L2", "")] {
        let answer = client.submit_transaction(signed(reference, importer), true).await;
        let answer = answer.expect("taken");
        assert_eq!(answer.phase(), Phase::Final, "{} {}", answer.reason_code, answer.reason);
    }
    fixture.stop().await;
}

/// All shared messages, if they are there, as one batch.
fn shared_messages() -> Option<Vec<v1::ImportMessage>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = folder.join("../../shared/data/wco-hmrc/examples");
    if !folder.is_dir() {
        eprintln!("skipped: {} absent", folder.display());
        return None;
    }
    let files = customhouse_formats::wco_paths(&[folder]).files;
    let read = |file: &std::path::PathBuf| {
        let (label, content) = customhouse_formats::message_file(file).expect("readable");
        v1::ImportMessage { label, content, ..Default::default() }
    };
    Some(files.iter().map(read).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn all_shared_messages_go_in_under_two_clients_linked_and_byte_for_byte() {
    let Some(mut messages) = shared_messages() else { return };
    let fixture = Fixture::start().await;
    let (broker, officer) =
        (fixture.client(Role::Broker).await, fixture.client(Role::Officer).await);
    let requests = |messages: &[v1::ImportMessage]| -> Vec<v1::StreamImportRequest> {
        messages.iter().map(|message| piece(message.clone(), false)).collect()
    };
    let first = streamed(&broker, Lodge::Declarations, requests(&messages)).await.expect("taken");
    let mut kinds = std::collections::BTreeMap::<_, usize>::new();
    for (message, result) in messages.iter_mut().zip(&first) {
        assert_eq!(message.label, result.label);
        match &result.outcome {
            Some(Outcome::Imported(imported)) => {
                *kinds.entry(imported.kind().as_str_name()).or_default() += 1;
                if imported.kind() != Kind::Status {
                    let lodged = lodged(result);
                    assert_eq!(lodged.phase(), Phase::Final, "{}: {}", result.label, lodged.reason);
                    message.record_id.clone_from(&lodged.record_id);
                }
            }
            Some(Outcome::Malformed(malformed)) => assert!(malformed.line > 0, "{malformed:?}"),
            Some(Outcome::Skipped(_) | Outcome::DuplicateOf(_)) | None => {}
        }
    }
    assert!(kinds["STATUS"] > 300 && kinds["DECLARATION"] > 200, "{kinds:?}");
    let second = streamed(&officer, Lodge::Answers, requests(&messages)).await.expect("taken");
    let mut rules = std::collections::BTreeMap::<_, usize>::new();
    for result in &second {
        let Some(Outcome::Imported(imported)) = &result.outcome else { continue };
        let message = &messages[result.message as usize];
        let id = match imported.kind() {
            Kind::Status => &lodged(result).record_id,
            _ => &message.record_id,
        };
        let record = on_ledger(&officer, id).await;
        let source = record.source.expect("a source");
        assert!(source.content == message.content, "{} comes back byte for byte", result.label);
        assert_eq!(source.mapping(), Mapping::Checked);
        if let Some(link) = &imported.link {
            *rules.entry(link.rule().as_str_name()).or_default() += 1;
            let [reference] = &record.references[..] else { panic!("{}", result.label) };
            assert_eq!((&reference.record_id, reference.ground), (&link.record_id, link.ground));
        }
    }
    eprintln!("{kinds:?}, linked {rules:?}");
    // As the importer's own tests count them, without those that say the same as another.
    assert!((60..=85).contains(&rules["FOLDER"]) && rules["REFERENCE"] > 250, "{rules:?}");
    fixture.stop().await;
}

/// A message that is larger than a record may be goes in whole: its source is an attachment.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_for_a_record_goes_in_with_its_source_beside_it() {
    let fixture = Fixture::start().await;
    let broker = fixture.client(Role::Broker).await;
    let items: String = (1..=999)
        .map(|number| {
            format!(
                "<GovernmentAgencyGoodsItem><SequenceNumeric>{number}</SequenceNumeric>{}\
                 </GovernmentAgencyGoodsItem>\n",
                " ".repeat(5_000)
            )
        })
        .collect();
    let text = format!(
        "<Declaration><TypeCode>IMA</TypeCode><FunctionalReferenceID>LARGE</FunctionalReferenceID>\
         <GoodsShipment>{items}</GoodsShipment></Declaration>"
    );
    assert!(text.len() > customhouse_ledger::limits::RECORD_BYTES_MAX);
    let mut requests = Vec::new();
    for (number, part) in text.as_bytes().chunks(1 << 19).enumerate() {
        let part = std::str::from_utf8(part).expect("ASCII");
        let label = if number == 0 { "large.xml" } else { "" };
        requests.push(piece(message(label, part), true));
    }
    requests.last_mut().expect("some").more = false;
    let results = streamed(&broker, Lodge::All, requests).await.expect("taken");
    let result = lodged(&results[0]);
    assert_eq!(result.phase(), Phase::Final, "{}", result.reason);
    let record = on_ledger(&broker, &result.record_id).await;
    let Some(Body::Declaration(declaration)) = &record.body else { panic!("a declaration") };
    assert_eq!(declaration.items.len(), 999);
    let source = record.source.expect("it has one");
    assert_eq!((source.content.len(), source.mapping()), (0, Mapping::Checked));
    let attachment = source.attachment.expect("beside it");
    let mut whole = Vec::new();
    let root = hash(&attachment.root);
    let path = std::path::Path::new("whole");
    broker.download_to(&root, path, &mut whole).await.expect("it is here");
    assert!(whole == text.as_bytes(), "byte for byte");
    fixture.stop().await;
}
