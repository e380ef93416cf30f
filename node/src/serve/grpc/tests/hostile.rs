//! Clients with a valid certificate that mean no good, and clients of other makers: HTTP/2 by hand.

use axum::http::Request;
use bytes::Bytes;
use futures::future::join_all;
use h2::RecvStream;
use tokio::{net::TcpStream, time::interval};

use super::{
    fixture::{now_ms, refusal, submission},
    raw::{
        GET_HISTORY, GET_RECORD, Raw, SUBMIT_RECORDS, USUAL_WINDOW, ask, ended, framed, is,
        of_headers, ok, read, until,
    },
    *,
};

const SUBMIT_TRANSACTION: &str = "/customhouse.v1.Submission/SubmitTransaction";
const STREAM_RECORDS: &str = "/customhouse.v1.Submission/StreamRecords";
/// Records about one movement, of which a page has some three megabytes.
async fn long_history(fixture: &Fixture) -> Vec<u8> {
    let client = fixture.client(Role::Broker).await;
    let records = (0..60_u8).map(|number| {
        let mut submission = submission(&format!("k{number}"), 7);
        let content = vec![number; 50_000];
        let source = v1::Source { format: "test".into(), content, ..Default::default() };
        submission.record.as_mut().expect("there").source = Some(source);
        submission
    });
    let results = client.submit_records(records.collect(), true).await.expect("taken");
    assert!(results.iter().all(|result| result.phase() == Phase::Final), "{:?}", results[0]);
    let subject = v1::Subject { scheme: v1::subject::Scheme::Mrn as i32, id: "M7".into() };
    let request = v1::GetHistoryRequest {
        without_links: false,
        subject_or_key: Some(SubjectOrKey::Subject(subject)),
        page_size: 1000,
        page_token: Vec::new(),
    };
    request.encode_to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_not_read_are_of_the_client_s_own_share() {
    let fixture = Fixture::start().await;
    let question = long_history(&fixture).await;
    let officer = fixture.tls_named("greedy", Role::Officer);
    let mut asked = Vec::new();
    for _ in 0..2 {
        let raw = Raw::connect(&fixture, &officer, 0).await;
        for _ in 0..40 {
            let (response, mut body) = raw.begin(GET_HISTORY, &[]).await;
            ask(&mut body, &question);
            asked.push(response);
        }
    }
    // The others are served meanwhile.
    let other = Raw::connect(&fixture, &fixture.tls(Role::Officer), USUAL_WINDOW).await;
    assert_eq!(other.call(GET_HISTORY, &question).await, ok());
    fixture.client(Role::Operator).await.status().await.expect("served");
    // Nothing that was answered was read, so the connections end.
    until("the connections end", || fixture.counted("UNREAD") == 2).await;
    let heads: Vec<_> =
        timeout(DEADLINE, join_all(asked)).await.expect("in time").into_iter().collect();
    let of_answers = |head: &&Result<axum::http::Response<RecvStream>, h2::Error>| {
        head.as_ref().is_ok_and(|head| !head.headers().contains_key("grpc-status"))
    };
    let made = heads.iter().filter(of_answers).count();
    // Two at a time, and two more when a connection has ended.
    assert!((1..=4).contains(&made), "{made} answers of 3 MB were made for one client");
    // What was held is free again.
    let again = Raw::connect(&fixture, &officer, USUAL_WINDOW).await;
    assert_eq!(again.call(GET_HISTORY, &question).await, ok());
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_gets_its_whole_answer() {
    let fixture = Fixture::start().await;
    let question = long_history(&fixture).await;
    let officer = Raw::connect(&fixture, &fixture.tls(Role::Officer), 20_000).await;
    let (response, mut body) = officer.begin(GET_HISTORY, &[]).await;
    ask(&mut body, &question);
    let response = timeout(DEADLINE, response).await.expect("in time").expect("an answer");
    let (bytes, trailers) = read(response.into_body()).await;
    assert_eq!(of_headers(&trailers), ok());
    let page = v1::GetHistoryResponse::decode(&bytes[5..]).expect("whole");
    assert!(bytes.len() > 2_500_000 && !page.items.is_empty());
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_whose_bodies_do_not_come_leave_room_for_the_others() {
    let fixture = Fixture::start().await;
    let (officer, operator) =
        (fixture.client(Role::Officer).await, fixture.client(Role::Operator).await);
    let greedy = fixture.tls_named("greedy", Role::Officer);
    let mut calls = Vec::new();
    for _ in 0..20 {
        let raw = Raw::connect(&fixture, &greedy, USUAL_WINDOW).await;
        for _ in 0..55 {
            calls.push(raw.begin(GET_RECORD, &[]).await);
        }
    }
    for _ in 0..5 {
        operator.status().await.expect("served");
        let unknown = refusal(officer.record(Hash([9; 32])).await);
        assert_eq!(unknown.code, Code::NotFound, "{unknown}");
    }
    // Each ends by itself: those that had a place because nothing came.
    let (mut late, mut refused) = (0, 0);
    for (response, _body) in calls {
        match ended(response).await {
            found if found == is(Code::DeadlineExceeded, "MESSAGE_TIMEOUT") => late += 1,
            found if found == is(Code::ResourceExhausted, "OVERLOADED") => refused += 1,
            found => panic!("{found:?}"),
        }
    }
    assert!(late > 0 && refused > 0, "{late} came late, {refused} had no room");
    assert_eq!(fixture.counted("MESSAGE_TIMEOUT"), late);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_announced_and_do_not_come_leave_room_for_the_others() {
    // Longer than anything here waits for room.
    let fixture = Fixture::start_api_with(|api| api.patience.message = 2 * DEADLINE).await;
    let announced = customhouse_client::contract::REQUEST_BYTES_MAX;
    let prefix = u32::try_from(announced).expect("short").to_be_bytes();
    let mut announcing = Vec::new();
    // Together more than all may have.
    for number in 0..10 {
        let greedy = fixture.tls_named(&format!("greedy {number}"), Role::Broker);
        let raw = Raw::connect(&fixture, &greedy, USUAL_WINDOW).await;
        let (response, mut body) = raw.begin(SUBMIT_RECORDS, &[]).await;
        body.send_data([&[0][..], &prefix].concat().into(), false).expect("sent");
        announcing.push((response, body));
        // What was sent before this is with the node when this is answered.
        let unknown = v1::GetRecordRequest { record_id: vec![9; 32] }.encode_to_vec();
        assert_eq!(raw.call(GET_RECORD, &unknown).await, is(Code::NotFound, "NOT_FOUND"));
    }
    let broker = fixture.client(Role::Broker).await;
    let mut records: Vec<_> = (0..20).map(|n| submission(&format!("k{n}"), n)).collect();
    for record in &mut records {
        let content = vec![7; 50_000];
        let source = v1::Source { format: "test".into(), content, ..Default::default() };
        record.record.as_mut().expect("there").source = Some(source);
    }
    let results = broker.submit_records(records, true).await.expect("there is room");
    assert!(results.iter().all(|result| result.phase() == Phase::Final), "{:?}", results[0]);
    assert_eq!(fixture.counted("MESSAGE_TIMEOUT"), 0, "they are announced still");
    drop(announcing);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_drips_is_given_up() {
    let fixture = Fixture::start().await;
    let broker = Raw::connect(&fixture, &fixture.tls(Role::Broker), USUAL_WINDOW).await;
    for path in [SUBMIT_RECORDS, STREAM_RECORDS] {
        let (response, mut body) = broker.begin(path, &[]).await;
        body.send_data(Bytes::from_static(&[0, 0, 1, 0, 0]), false).expect("sent");
        let mut pace = interval(Duration::from_millis(50));
        let drip = async {
            while body.send_data(Bytes::from_static(&[0]), false).is_ok() {
                pace.tick().await;
            }
            // Reset; but not without a word.
            std::future::pending().await
        };
        let found = tokio::select! {
            found = ended(response) => found,
            found = drip => found,
        };
        assert_eq!(found, is(Code::DeadlineExceeded, "MESSAGE_TIMEOUT"), "{path}");
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_given_up_at_once_do_not_use_the_node_up() {
    let fixture = Fixture::start().await;
    let question = long_history(&fixture).await;
    let greedy = fixture.tls_named("greedy", Role::Officer);
    let officer = fixture.client(Role::Officer).await;
    for _ in 0..10 {
        let raw = Raw::connect(&fixture, &greedy, 0).await;
        for _ in 0..100 {
            let Ok(mut calls) = raw.calls.clone().ready().await else { break };
            let request = Request::post(format!("https://127.0.0.1{GET_HISTORY}"))
                .header("content-type", "application/grpc")
                .body(())
                .expect("a request");
            let Ok((_response, mut body)) = calls.send_request(request, false) else { break };
            ask(&mut body, &question);
            body.send_reset(h2::Reason::CANCEL);
        }
        let unknown = refusal(officer.record(Hash([9; 32])).await);
        assert_eq!(unknown.code, Code::NotFound, "{unknown}");
    }
    fixture.client(Role::Operator).await.status().await.expect("served");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_small_messages_is_held_back_and_not_cut_off() {
    let fixture = Fixture::start().await;
    let broker = Raw::connect(&fixture, &fixture.tls(Role::Broker), USUAL_WINDOW).await;
    let (response, mut body) = broker.begin(STREAM_RECORDS, &[]).await;
    // Each in a frame of its own, and no answer is read: they fill the window.
    let empty = framed(&field(1, &field(2, &[b'k'; 64])));
    let count = 5000;
    for _ in 0..count {
        body.send_data(empty.clone(), false).expect("open");
    }
    body.send_data(Bytes::new(), true).expect("open");
    let response = timeout(DEADLINE, response).await.expect("in time").expect("an answer");
    let (bytes, trailers) = read(response.into_body()).await;
    assert_eq!(of_headers(&trailers), ok());
    let mut framing = &bytes[..];
    let mut answers = 0;
    while let [_, a, b, c, d, rest @ ..] = framing {
        framing = &rest[u32::from_be_bytes([*a, *b, *c, *d]) as usize..];
        answers += 1;
    }
    assert_eq!(answers, count);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_call_as_what_it_is() {
    let fixture = Fixture::start().await;
    let broker = Raw::connect(&fixture, &fixture.tls(Role::Broker), USUAL_WINDOW).await;
    // No body comes; and of a stream no end.
    for path in [GET_RECORD, STREAM_RECORDS] {
        let (response, _body) = broker.begin(path, &[("grpc-timeout", "100m")]).await;
        assert_eq!(ended(response).await, is(Code::DeadlineExceeded, "DEADLINE"), "{path}");
    }
    let (response, _body) = broker.begin(GET_RECORD, &[("grpc-timeout", "soon")]).await;
    assert_eq!(ended(response).await, is(Code::InvalidArgument, "TIMEOUT"));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_may_be_compressed_within_the_same_limits() {
    use tonic::codec::CompressionEncoding::Gzip;
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Broker).await;
    let submissions = || {
        let client = v1::submission_client::SubmissionClient::new(client.channel());
        client.send_compressed(Gzip).max_encoding_message_size(usize::MAX)
    };
    let records = vec![submission("a", 1)];
    let request = v1::SubmitRecordsRequest { records, wait: true };
    let answer = submissions().submit_records(request).await.expect("taken").into_inner();
    assert_eq!(answer.results[0].phase(), Phase::Final);
    let items = stream::iter([v1::StreamRecordsRequest {
        submission: Some(submission("b", 2)),
        wait: true,
    }]);
    let answers = submissions().stream_records(items).await.expect("open").into_inner();
    let answers: Vec<_> = answers.try_collect().await.expect("no error");
    assert_eq!(answers[0].phase(), Phase::Final);
    // 64 MiB in some 64 KiB.
    let mut bomb = submission("c", 3);
    let content = vec![0; 64 * 1024 * 1024];
    let source = v1::Source { content, ..Default::default() };
    bomb.record.as_mut().expect("there").source = Some(source);
    let request = v1::SubmitRecordsRequest { records: vec![bomb.clone()], wait: false };
    let refused =
        ClientError::from(submissions().submit_records(request).await.expect_err("refused"));
    let refused = refused.refused().expect("a refusal");
    assert_eq!((refused.code, &*refused.reason_code), (Code::OutOfRange, "MESSAGE_TOO_LARGE"));
    let mut query = v1::query_client::QueryClient::new(client.channel()).send_compressed(Gzip);
    for (bytes, code) in [(32, Code::NotFound), (33 * 1024, Code::OutOfRange)] {
        let request = v1::GetRecordRequest { record_id: vec![9; bytes] };
        assert_eq!(query.get_record(request).await.expect_err("refused").code(), code);
    }
    let bomb = v1::StreamRecordsRequest { submission: Some(bomb), wait: false };
    let answers = submissions().stream_records(stream::iter([bomb])).await.expect("open");
    let refused = answers.into_inner().message().await.expect_err("refused");
    assert_eq!(refused.code(), Code::OutOfRange);
    fixture.stop().await;
}

/// A field that no version has yet.
const UNKNOWN: [u8; 5] = [0xc2, 0xbb, 0x01, 0x01, 0x07];

/// The bytes of a message in a field of another.
fn field(number: u8, message: &[u8]) -> Vec<u8> {
    let length = message.len();
    assert!((128..16_384).contains(&length) || length < 128);
    let key = number << 3 | 2;
    let low = u8::try_from(length & 0x7f).expect("seven bits");
    match u8::try_from(length >> 7).expect("14 bits") {
        0 => [&[key, low][..], message].concat(),
        high => [&[key, low | 0x80, high][..], message].concat(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_with_an_unknown_field_is_refused_on_every_way_in() {
    let fixture = Fixture::start().await;
    let broker = Raw::connect(&fixture, &fixture.tls(Role::Broker), USUAL_WINDOW).await;
    let refused = is(Code::InvalidArgument, "UNKNOWN_FIELD");
    let record = submission("a", 1).record.expect("there").encode_to_vec();
    let changed = [record, UNKNOWN.to_vec()].concat();
    let mut entry = field(1, &changed);
    entry.extend(field(2, b"key"));
    assert_eq!(broker.call(SUBMIT_RECORDS, &field(1, &entry)).await, refused);
    assert_eq!(broker.call(STREAM_RECORDS, &field(1, &entry)).await, refused);
    // Signed by the client: in the record, in the slot, in the transaction and beside it.
    let transaction = fixture.transaction(1, now_ms() + 60_000).parts().clone();
    let with = |change: &dyn Fn(&mut v1::Transaction)| {
        let mut changed = transaction.clone();
        change(&mut changed);
        changed.encode_to_vec()
    };
    let longer = |bytes: &Bytes| Bytes::from([bytes, &UNKNOWN[..]].concat());
    let in_record = with(&|t| t.records[0] = longer(&t.records[0]));
    let in_slot = with(&|t| t.slots[0] = longer(&t.slots[0]));
    for changed in [in_record, in_slot] {
        for path in [SUBMIT_TRANSACTION, "/customhouse.v1.Submission/StreamTransactions"] {
            let (response, mut body) = broker.begin(path, &[]).await;
            ask(&mut body, &field(1, &changed));
            let response = response.await.expect("an answer");
            let (head, body) = response.into_parts();
            if head.headers.contains_key("grpc-status") {
                assert_eq!(of_headers(&head.headers).0, Code::InvalidArgument, "{path}");
                continue;
            }
            let (bytes, _) = read(body).await;
            let answer = v1::SubmitTransactionResponse::decode(&bytes[5..]).expect("an answer");
            assert_eq!(answer.phase(), Phase::Rejected, "{}", answer.reason);
        }
    }
    let whole = transaction.encode_to_vec();
    let within = field(1, &[whole.clone(), UNKNOWN.to_vec()].concat());
    let beside = [field(1, &whole), UNKNOWN.to_vec()].concat();
    for changed in [within, beside] {
        assert_eq!(broker.call(SUBMIT_TRANSACTION, &changed).await, refused);
        let path = "/customhouse.v1.Submission/StreamTransactions";
        assert_eq!(broker.call(path, &changed).await, refused);
    }
    let tip = fixture.shared.upgrade().expect("it runs").reader.tip();
    assert_eq!(tip.header.log_size, 0, "nothing of it is on the ledger");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_certificate_is_refused_is_told_why_and_so_is_the_operator() {
    let fixture = Fixture::start().await;
    let foreign = |code: &str| {
        let authority = Authority::new(code.parse().expect("a code")).expect("made");
        fixture.tls_of(&authority, Role::Officer)
    };
    // Of the same name, but signed by another key; and of another name.
    let (namesake, foreign) = (foreign("NL-DOUANE"), foreign("KR-KCS"));
    let server = fixture.authority.server(&[]).expect("made");
    let of_server =
        ClientTls { authority: fixture.authority.certificate().to_owned(), own: server };
    let own = "its own agency's";
    for (tls, words) in [(namesake, own), (foreign, own), (of_server, "not for clients")] {
        let error = Client::connect(&fixture.endpoint, &tls).await.expect_err("refused");
        assert!(matches!(error, ClientError::Connect { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
        let lazy = Client::connect_lazily(&fixture.endpoint, &tls).expect("an endpoint");
        let error = refusal(lazy.header(None).await);
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(fixture.counted("CERTIFICATE"), 6);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_too_many_is_told_so() {
    let fixture = Fixture::start().await;
    // Of one client.
    let officer = fixture.tls(Role::Officer);
    let connections = (0..32).map(|_| Raw::connect(&fixture, &officer, USUAL_WINDOW));
    let held = join_all(connections).await;
    let client = Client::connect(&fixture.endpoint, &officer).await.expect("let in");
    let refused = refusal(client.header(None).await);
    assert_eq!((refused.code, &*refused.reason_code), (Code::ResourceExhausted, "OVERLOADED"));
    assert!(refused.message.contains("connections of this client"), "{refused}");
    assert!(refused.retry_after.is_some(), "{refused}");
    assert_eq!(fixture.counted("CLIENT_CONNECTIONS"), 1);
    fixture.client(Role::Operator).await.status().await.expect("served");
    drop(client);
    // A connection without a certificate takes nobody's place.
    let connect = |_| TcpStream::connect(&fixture.endpoint);
    let silent = join_all((0..300).map(connect)).await;
    fixture.client(Role::Operator).await.status().await.expect("served");
    drop((held, silent));
    fixture.stop().await;
}
