//! Lists and feeds of records, and receipts of many.

use std::collections::BTreeSet;

use customhouse_proto::v1::subscribe_request::From;
use tonic::Streaming;

use super::{
    fixture::{now_ms, record, refusal, submission},
    *,
};

const MINUTE_MS: u64 = 60_000;

/// A network with records in several transactions, some of them repeats; gives the ids of those that count.
async fn with_records(fixture: &Fixture, count: u64) -> BTreeSet<Vec<u8>> {
    let broker = fixture.client(Role::Broker).await;
    let mut ids = BTreeSet::new();
    for chunk in (0..count).collect::<Vec<_>>().chunks(20) {
        let records = chunk.iter().map(|n| submission(&format!("k{n}"), *n)).collect();
        let results = broker.submit_records(records, true).await.expect("taken");
        ids.extend(results.into_iter().map(|result| result.record_id));
    }
    // The same record in two transactions: the second is a no-op.
    for later in [1, 2] {
        let transaction = fixture.transaction(count, now_ms() + later * MINUTE_MS);
        ids.insert(transaction.slots()[0].record_id.0.to_vec());
        let parts = transaction.parts().clone();
        let answer = broker.submit_transaction(parts, true).await.expect("taken");
        assert_eq!(answer.phase(), Phase::Final, "{}", answer.reason);
    }
    ids
}

fn from_cursor(cursor: v1::Cursor) -> v1::SubscribeRequest {
    v1::SubscribeRequest { from: Some(From::Cursor(cursor)), ..Default::default() }
}

/// Reads a feed until it has given so many records.
async fn read(
    feed: &mut Streaming<v1::SubscribeResponse>,
    count: usize,
) -> (Vec<v1::ListedRecord>, v1::Cursor) {
    let (mut records, mut cursor) = (Vec::new(), v1::Cursor::default());
    while records.len() < count {
        let next = timeout(DEADLINE, feed.next()).await.expect("in time").expect("goes on");
        let message = next.expect("no error");
        assert!(message.encoded_len() < 1 << 20);
        records.extend(message.records);
        cursor = message.cursor.expect("always there");
    }
    (records, cursor)
}

fn places(records: &[v1::ListedRecord]) -> Vec<(u64, u32)> {
    let place = |r: &v1::ListedRecord| r.place.as_ref().map(|p| (p.log_index, p.slot_index));
    records.iter().map(|record| place(record).expect("there")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_gives_each_record_once_in_order_from_any_cursor() {
    let fixture = Fixture::start().await;
    let ids = with_records(&fixture, 100).await;
    let client = fixture.client(Role::Auditor).await;
    let mut feed = client.subscribe(v1::SubscribeRequest::default()).await.expect("open");
    let (all, end) = read(&mut feed, ids.len()).await;
    assert_eq!(all.len(), ids.len(), "a repeat is not listed");
    assert_eq!(all.iter().map(|r| r.record_id.clone()).collect::<BTreeSet<_>>(), ids);
    let in_order = places(&all);
    assert!(in_order.windows(2).all(|pair| pair[0] < pair[1]));
    for record in &all {
        assert_eq!((record.kind.as_str(), record.submitter.as_str()), ("declaration", "broker"));
        assert_eq!(
            customhouse_ledger::record::ValidRecord::from_bytes(record.record.clone().into())
                .expect("valid")
                .id
                .0[..],
            record.record_id
        );
        assert_eq!(record.record_bytes as usize, record.record.len());
    }
    for (place, record) in all.iter().enumerate().step_by(9) {
        let cursor = record.cursor.expect("there");
        let mut again = client.subscribe(from_cursor(cursor)).await.expect("open");
        let (rest, _) = read(&mut again, all.len() - place - 1).await;
        assert_eq!(rest, all[place + 1..]);
    }
    // From a height: the records of that block and later ones.
    let height = all[all.len() / 2].place.as_ref().expect("there").height;
    let request = v1::SubscribeRequest { from: Some(From::Height(height)), ..Default::default() };
    let expected: Vec<_> =
        all.iter().filter(|r| r.place.as_ref().is_some_and(|p| p.height >= height)).collect();
    let mut from_height = client.subscribe(request).await.expect("open");
    let (found, _) = read(&mut from_height, expected.len()).await;
    assert_eq!(found.iter().collect::<Vec<_>>(), expected);
    // What is committed later comes on the feeds that are open, and on one from the last cursor.
    let broker = fixture.client(Role::Broker).await;
    let mut later = client.subscribe(from_cursor(end)).await.expect("open");
    let more = broker.submit_records(vec![submission("more", 7_000)], true).await.expect("taken");
    for feed in [&mut feed, &mut later] {
        let (records, _) = read(feed, 1).await;
        assert_eq!(records[0].record_id, more[0].record_id);
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_says_how_far_it_is_and_waits_where_the_node_is_behind_its_cursor() {
    let fixture = Fixture::start().await;
    with_records(&fixture, 3).await;
    let client = fixture.client(Role::Auditor).await;
    let first = async |request| {
        let mut feed = client.subscribe(request).await.expect("open");
        let message = timeout(DEADLINE, feed.next()).await.expect("in time").expect("goes on");
        (message.expect("no error"), feed)
    };
    // A filter that takes nothing: the whole log is looked at, and the cursor is behind it.
    let filter = Some(v1::RecordFilter { kinds: vec!["event".into()], ..Default::default() });
    let (message, _) = first(v1::SubscribeRequest { filter, ..Default::default() }).await;
    let fresh = message.freshness.expect("there");
    assert_eq!((message.records.len(), message.height), (0, fresh.height));
    let end = message.cursor.expect("there");
    assert!(end.log_index >= 3 && end.position == 0, "{end:?}");
    // Of a node that has more: nothing comes until this node gets there.
    let ahead = v1::Cursor { log_index: end.log_index + 1, position: 0 };
    let (message, mut feed) = first(from_cursor(ahead)).await;
    assert_eq!((message.records.len(), message.cursor), (0, Some(ahead)));
    let broker = fixture.client(Role::Broker).await;
    let mut placed = Vec::new();
    for key in ["x", "y"] {
        let number = if key == "x" { 8_000 } else { 8_001 };
        let taken = broker.submit_records(vec![submission(key, number)], true).await;
        placed.extend(taken.expect("taken"));
    }
    assert_eq!(placed[0].log_index, end.log_index);
    let (records, _) = read(&mut feed, 1).await;
    assert_eq!(records[0].record_id, placed[1].record_id, "the one before the cursor is not given");
    // From a height that is to come: there is no place before it is committed.
    let from = Some(From::Height(1 << 40));
    let (message, _) = first(v1::SubscribeRequest { from, ..Default::default() }).await;
    assert_eq!((message.records.len(), message.cursor), (0, None));
    // A place that the log cannot have.
    for (cursor, now) in [
        (v1::Cursor { log_index: 0, position: 5_000 }, true),
        (v1::Cursor { log_index: placed[0].log_index, position: 2 }, false),
    ] {
        let code = match client.subscribe(from_cursor(cursor)).await {
            Err(ClientError::Refused(refused)) => refused.reason_code,
            Err(other) => panic!("{other}"),
            Ok(mut feed) => {
                assert!(!now);
                let end = timeout(DEADLINE, feed.next()).await.expect("in time").expect("an end");
                let refused = ClientError::from(end.expect_err("refused"));
                refused.refused().expect("a refusal").reason_code.clone()
            }
        };
        assert_eq!(code, "CURSOR");
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_stable_pages_in_both_orders() {
    let fixture = Fixture::start().await;
    let ids = with_records(&fixture, 60).await;
    let client = fixture.client(Role::Auditor).await;
    let broker = fixture.client(Role::Broker).await;
    let list = async |filter: Option<v1::RecordFilter>, newest_first, page_size| {
        let (mut records, mut from) = (Vec::new(), None);
        loop {
            let filter = filter.clone();
            let without_records = false;
            let request =
                v1::ListRecordsRequest { filter, newest_first, from, page_size, without_records };
            let page = client.list_records(request).await.expect("a page");
            assert!(page.records.len() <= page_size as usize);
            records.extend(page.records);
            if page.at_end {
                return records;
            }
            from = page.next;
        }
    };
    let oldest = list(None, false, 7).await;
    assert_eq!(oldest.iter().map(|r| r.record_id.clone()).collect::<BTreeSet<_>>(), ids);
    // A record that comes meanwhile changes no page of the newest.
    let request = v1::ListRecordsRequest { newest_first: true, page_size: 7, ..Default::default() };
    let page = client.list_records(request.clone()).await.expect("a page");
    broker.submit_records(vec![submission("new", 9_000)], true).await.expect("taken");
    let next = v1::ListRecordsRequest { from: page.next, ..request };
    let second = client.list_records(next).await.expect("a page");
    let backwards: Vec<_> = oldest.iter().rev().cloned().collect();
    assert_eq!([page.records, second.records].concat(), backwards[..14]);
    // Filters: by subject, by time, by what is not there.
    let subject = v1::Subject { scheme: v1::subject::Scheme::Mrn as i32, id: "M7".into() };
    let about = v1::RecordFilter { subjects: vec![subject], ..Default::default() };
    for newest_first in [false, true] {
        let found = list(Some(about.clone()), newest_first, 1).await;
        assert_eq!(found.len(), 1);
        let of = v1::Record::decode(&found[0].record[..]).expect("a record");
        assert_eq!(of.body, record(7).body);
    }
    let time = oldest[30].place.as_ref().expect("there").time_ms;
    let (earlier, later): (Vec<_>, Vec<_>) = oldest
        .iter()
        .cloned()
        .partition(|record| record.place.as_ref().is_some_and(|place| place.time_ms < time));
    let until = v1::RecordFilter { until_time_ms: time, ..Default::default() };
    assert_eq!(list(Some(until.clone()), false, 7).await, earlier);
    let backwards: Vec<_> = earlier.iter().rev().cloned().collect();
    assert_eq!(list(Some(until), true, 7).await, backwards);
    let from = v1::RecordFilter { from_time_ms: time, ..Default::default() };
    assert_eq!(list(Some(from.clone()), false, 7).await[..later.len()], later);
    let last = list(Some(from), true, 7).await;
    assert_eq!(last.last(), later.first());
    for nothing in [
        v1::RecordFilter { kinds: vec!["event".into()], ..Default::default() },
        v1::RecordFilter { agencies: vec!["DE-ZOLL".into()], ..Default::default() },
        v1::RecordFilter { submitters: vec!["nobody".into()], ..Default::default() },
        v1::RecordFilter { countries: vec!["NL".into()], ..Default::default() },
    ] {
        assert_eq!(list(Some(nothing), false, 100).await, []);
    }
    let wrong = v1::RecordFilter { hs_prefixes: vec!["09a".into()], ..Default::default() };
    let request = v1::ListRecordsRequest { filter: Some(wrong), ..Default::default() };
    assert_eq!(refusal(client.list_records(request).await).reason_code, "FILTER");
    let from = Some(v1::Cursor { log_index: 1 << 40, position: 0 });
    let request = v1::ListRecordsRequest { from, ..Default::default() };
    assert_eq!(refusal(client.list_records(request).await).reason_code, "FUTURE_CURSOR");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_of_many_come_together_as_they_become_final() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Broker).await;
    let records: Vec<_> = (0..700).map(|n| submission(&format!("k{n}"), n)).collect();
    let results = client.submit_records(records, false).await.expect("taken");
    let ids: Vec<_> =
        results.iter().map(|result| Hash::from_slice(&result.record_id).expect("an id")).collect();
    let unknown = Hash([9; 32]);
    let asked: Vec<_> = ids.iter().copied().chain([unknown]).collect();
    let verifier = Verifier::new(&fixture.genesis);
    let check = |result: &v1::ReceiptResult| {
        let bytes = result.receipt.as_ref().expect("a receipt").encode_to_vec();
        let verified = verifier.verify_receipt(&bytes).expect("verifies");
        assert_eq!(verified.slot.record_id.0[..], result.record_id);
    };
    let collect = async |batches: Streaming<v1::ReceiptBatch>| {
        let batches: Vec<_> =
            timeout(DEADLINE, batches.try_collect()).await.expect("in time").expect("no error");
        assert!(batches.iter().all(|batch: &v1::ReceiptBatch| batch.encoded_len() < 1 << 20));
        batches.into_iter().flat_map(|batch| batch.results).collect::<Vec<_>>()
    };
    let ended = collect(client.stream_receipts(&asked).await.expect("open")).await;
    let by_id: BTreeSet<_> = ended.iter().map(|result| result.record_id.clone()).collect();
    assert_eq!((ended.len(), by_id.len()), (asked.len(), asked.len()), "one result each");
    for result in &ended {
        if result.record_id[..] == unknown.0 {
            assert_eq!(result.reason_code, "NOT_FOUND");
        } else {
            check(result);
        }
    }
    // An id that is repeated has one result all the same, and so have many that nobody knows.
    let strange =
        |n: u16| Hash([[7; 30].as_slice(), &n.to_be_bytes()].concat().try_into().expect("32"));
    let repeated: Vec<_> = (0..2000).map(strange).chain((0..2000).map(strange)).collect();
    for batches in [client.stream_receipts(&repeated).await, client.receipts(&repeated).await] {
        let ended = collect(batches.expect("open")).await;
        assert!(ended.iter().all(|result| result.reason_code == "NOT_FOUND"));
        assert_eq!(ended.len(), 2000);
    }
    // On the ledger they are given in the order asked for.
    let backwards: Vec<_> = asked.iter().rev().copied().collect();
    let given = collect(client.receipts(&backwards).await.expect("open")).await;
    let given_ids: Vec<_> = given.iter().map(|result| result.record_id.clone()).collect();
    assert_eq!(given_ids, backwards.iter().map(|id| id.0.to_vec()).collect::<Vec<_>>());
    assert_eq!(given[0].reason_code, "NOT_FOUND");
    given[1..].iter().for_each(check);
    let single = client.receipt(ids[3], false).await.expect("known");
    assert_eq!(given[given.len() - 4].receipt, Some(single), "as by itself");
    assert_eq!(refusal(client.receipts(&[]).await).reason_code, "RECORD_COUNT");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_has_the_declaration_that_an_answer_with_the_number_is_about_and_what_amends_it()
{
    use v1::{record::Body, reference::Relation};
    let fixture = Fixture::start().await;
    let (broker, officer) =
        (fixture.client(Role::Broker).await, fixture.client(Role::Officer).await);
    let submit = async |client: &Client, key: &str, body, to: Option<(Relation, &[u8])>| {
        let reference = |(relation, id): (Relation, &[u8])| v1::Reference {
            relation: relation as i32,
            record_id: id.to_vec(),
            ..Default::default()
        };
        let references = to.map(reference).into_iter().collect();
        let record = Some(v1::Record { references, body: Some(body), ..Default::default() });
        let submission = v1::RecordSubmission {
            record,
            idempotency_key: key.into(),
            open: true,
            agreement: Vec::new(),
        };
        let results = client.submit_records(vec![submission], true).await.expect("taken");
        assert_eq!(results[0].phase(), Phase::Final, "{key}: {}", results[0].reason);
        results[0].record_id.clone()
    };
    let declaration = |type_code: &str, reference: &str| {
        Body::Declaration(v1::Declaration {
            regime: v1::declaration::Regime::Import as i32,
            type_code: type_code.into(),
            function_code: "9".into(),
            reference: reference.into(),
            ..Default::default()
        })
    };
    let first = submit(&broker, "d", declaration("IMA", "LRN1"), None).await;
    submit(&broker, "other", declaration("IMA", "LRN2"), None).await;
    let status = Body::DeclarationStatus(v1::DeclarationStatus {
        function_code: "01".into(),
        mrn: "26NL000000000001A0".into(),
        ..Default::default()
    });
    let answers = Some((Relation::RespondsTo, &first[..]));
    let status = submit(&officer, "s", status, answers).await;
    let amends = Some((Relation::Amends, &first[..]));
    let amendment = submit(&broker, "a", declaration("COR", "LRN1"), amends).await;
    let mrn =
        v1::Subject { scheme: v1::subject::Scheme::Mrn as i32, id: "26NL000000000001A0".into() };
    let subject = SubjectOrKey::Subject(mrn);
    let page = broker.linked_history_page(subject.clone(), 0, vec![]).await.expect("a page");
    let ids: Vec<_> = page.items.iter().map(|item| item.record_id.clone()).collect();
    assert_eq!((ids, page.links_cut), (vec![status.clone()], false));
    let links: Vec<_> = page
        .linked
        .iter()
        .map(|link| {
            let id = link.item.as_ref().expect("there").record_id.clone();
            (id, link.through_record_id.clone(), link.relation(), link.is_earlier)
        })
        .collect();
    let expected = [
        (first.clone(), status, Relation::RespondsTo, true),
        (amendment, first, Relation::Amends, false),
    ];
    assert_eq!(links, expected);
    let without = broker.history_page(subject, 0, vec![]).await.expect("a page");
    assert_eq!((without.items, without.linked), (page.items, vec![]));
    fixture.stop().await;
}
