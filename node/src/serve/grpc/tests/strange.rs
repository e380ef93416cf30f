//! Handshakes, frames and messages that no honest client sends, or not in such numbers.

use axum::http::{Method, Request};
use bytes::Bytes;
use futures::future::join_all;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value,
};
use tokio::io::AsyncWriteExt as _;

use super::{
    fixture::refusal,
    raw::{GET_RECORD, Raw, SUBMIT_RECORDS, USUAL_WINDOW, ask, ended, is, shake_hands, until},
    *,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_a_certificate_and_does_not_go_on_is_hung_up_on() {
    let fixture = Fixture::start().await;
    for said in [&b""[..], b"PRI"] {
        let config = fixture.tls(Role::Officer).client_config().expect("settings");
        let mut tls = shake_hands(&fixture, config).await;
        tls.write_all(said).await.expect("sent");
        // The node's own settings come first. A reset is a way to hang up.
        let _ended = timeout(DEADLINE, tls.read_to_end(&mut Vec::new())).await.expect("in time");
    }
    // The connection ends before that is counted.
    until("both are counted", || fixture.counted("HANDSHAKE_TIMEOUT") == 2).await;
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_s_connections_too_many_take_no_place_of_another_s() {
    // Fourteen of an address, four of a client.
    let fixture = Fixture::start_api_with(|api| api.connections_max = 64).await;
    let greedy = fixture.tls_named("greedy", Role::Officer);
    let connections = (0..60).map(|_| Raw::connect(&fixture, &greedy, USUAL_WINDOW));
    let held = join_all(connections).await;
    until("all are counted", || fixture.counted("CLIENT_CONNECTIONS") == 56).await;
    for number in 0..5 {
        let officer = fixture.tls_named(&format!("officer {number}"), Role::Officer);
        let officer = Client::connect(&fixture.endpoint, &officer).await.expect("let in");
        officer.header(None).await.expect("served");
    }
    drop(held);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_above_the_share_of_an_address_is_told_so_however_many_come_at_once() {
    // Two of an address, and one of an operator.
    let fixture = Fixture::start_api_with(|api| api.connections_max = 9).await;
    let served = async |number: usize| {
        let tls = fixture.tls_named(&format!("officer {number}"), Role::Officer);
        let client = Client::connect(&fixture.endpoint, &tls).await.expect("let in");
        (client.header(None).await, client)
    };
    let answers = join_all((0..20).map(served)).await;
    let (ok, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|(header, _)| header.is_ok());
    assert_eq!(ok.len(), 2);
    for (header, _client) in refused {
        let refused = refusal(header);
        assert_eq!((refused.code, &*refused.reason_code), (Code::ResourceExhausted, "OVERLOADED"));
        assert!(refused.message.contains("connections from this address"), "{refused}");
    }
    assert_eq!(fixture.counted("ADDRESS_CONNECTIONS"), 18);
    fixture.client(Role::Operator).await.status().await.expect("they have a place of their own");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_that_would_not_be_read_are_not_made() {
    // Longer than it would take to make them all.
    let piece = Duration::from_secs(12);
    let fixture = Fixture::start_api_with(|api| api.patience.piece = piece).await;
    let greedy = Raw::connect(&fixture, &fixture.tls(Role::Broker), 0).await;
    // Each is refused, and its result says so under its key: some 700 KB of them.
    let idempotency_key = "k".repeat(128);
    let records = vec![
        v1::RecordSubmission {
            record: None,
            idempotency_key,
            open: true,
            agreement: Vec::new()
        };
        4096
    ];
    let request = v1::SubmitRecordsRequest { records, wait: false }.encode_to_vec();
    let mut asked = Vec::new();
    for _ in 0..24 {
        let (response, mut body) = greedy.begin(SUBMIT_RECORDS, &[]).await;
        ask(&mut body, &request);
        asked.push(response);
    }
    until("the connection ends", || fixture.counted("UNREAD") == 1).await;
    let made = fixture.counted("FIELD") / 4096;
    assert!((1..=14).contains(&made), "{made} of 24 answers were made for who reads none");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_that_repeat_what_was_sent_are_an_answer_still() {
    let fixture = Fixture::start().await;
    let client = fixture.client(Role::Broker).await;
    // As many as a request may have, each refused for an id that is escaped where it is repeated.
    let record = |number: usize| {
        let event = v1::Event { epcs: vec!["\u{202e}".repeat(290)], ..Default::default() };
        let record =
            v1::Record { body: Some(v1::record::Body::Event(event)), ..Default::default() };
        v1::RecordSubmission {
            record: Some(record),
            idempotency_key: format!("{number:0>96}"),
            open: true,
            agreement: Vec::new(),
        }
    };
    let results = client.submit_records((0..4096).map(record).collect(), false).await;
    let results = results.expect("an answer that a client takes");
    assert!(results.iter().all(|result| result.reason_code == "RECORD_SUBJECT"));
    fixture.stop().await;
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Sends frames without an end and reads nothing, until the node hangs up or takes no more.
async fn flood(fixture: &Fixture, once: Vec<u8>, again: Vec<u8>) {
    const WRITES: usize = 200;
    let config = fixture.tls_named("greedy", Role::Officer).client_config().expect("settings");
    let mut tls = shake_hands(fixture, config).await;
    let chunk = again.repeat(64 * 1024 / again.len());
    let begin = [PREFACE, &frame(4, 0, 0, &[]), &once].concat();
    let flooding = async {
        tls.write_all(&begin).await?;
        for _ in 0..WRITES {
            tls.write_all(&chunk).await?;
        }
        std::io::Result::Ok(())
    };
    let _whatever_came_of_it = timeout(Duration::from_secs(2), flooding).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_frames_leave_room_for_the_others() {
    let fixture = Fixture::start().await;
    let (officer, operator) =
        (fixture.client(Role::Officer).await, fixture.client(Role::Operator).await);
    // `:method: GET`, by the static table.
    let (head, field) = ([0x82], [&[0, 1, b'x', 0x7f, 0x80, 0x7e][..], &[b'y'; 16_255]].concat());
    let nothing = Vec::new;
    for (what, once, again) in [
        ("PING", nothing(), frame(6, 0, 0, &[7; 8])),
        ("PING acknowledged", nothing(), frame(6, 1, 0, &[7; 8])),
        ("SETTINGS", nothing(), frame(4, 0, 0, &[0, 4, 0, 0, 255, 255])),
        ("SETTINGS of nothing", nothing(), frame(4, 0, 0, &[])),
        ("PRIORITY", nothing(), frame(2, 0, 3, &[0, 0, 0, 1, 9])),
        ("WINDOW_UPDATE", nothing(), frame(8, 0, 0, &[0, 0, 0, 1])),
        ("of no known kind", nothing(), frame(200, 0, 0, &[])),
        ("CONTINUATION", frame(1, 0, 1, &head), frame(9, 0, 1, &[0x82])),
        ("CONTINUATION of nothing", frame(1, 0, 1, &head), frame(9, 0, 1, &[])),
        ("a field without an end", frame(1, 0, 1, &head), frame(9, 0, 1, &field)),
        ("DATA of nothing", frame(1, 4, 1, &head), frame(0, 0, 1, &[])),
        ("RST_STREAM", frame(1, 4, 1, &head), frame(3, 0, 1, &[0, 0, 0, 8])),
        ("GOAWAY", nothing(), frame(7, 0, 0, &[0; 8])),
    ] {
        let others = async {
            for _ in 0..5 {
                operator.status().await.expect(what);
                let unknown = refusal(officer.record(Hash([9; 32])).await);
                assert_eq!(unknown.code, Code::NotFound, "{what}: {unknown}");
            }
        };
        let floods = (0..4).map(|_| flood(&fixture, once.clone(), again.clone()));
        let served = timeout(DEADLINE, others);
        let (served, _) = tokio::join!(served, join_all(floods));
        served.unwrap_or_else(|_| panic!("{what}: others wait"));
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_calls_come_to_an_end_and_the_next_is_answered() {
    let fixture = Fixture::start().await;
    let raw = Raw::connect(&fixture, &fixture.tls(Role::Officer), USUAL_WINDOW).await;
    let unknown = v1::GetRecordRequest { record_id: vec![9; 32] }.encode_to_vec();
    let at = |path: &str| format!("https://127.0.0.1{path}");
    let requests = [
        Request::builder().method(Method::CONNECT).uri("127.0.0.1:1"),
        Request::get(at(GET_RECORD)),
        Request::options(at("/")),
        Request::post(at(&format!("/{}", "x".repeat(8000)))),
        Request::post(at(GET_RECORD)).header("content-length", "7"),
        Request::post(at(GET_RECORD)).header("content-type", "text/plain"),
        Request::post(at(GET_RECORD)).header("grpc-encoding", "none-such"),
        Request::post(at(GET_RECORD)).header("grpc-timeout", "99999999H"),
        Request::post(at(GET_RECORD)).header("grpc-timeout", "0n"),
        (0..200).fold(Request::post(at(GET_RECORD)), |r, n| r.header(format!("x-{n}"), "y")),
    ];
    for request in requests {
        let request = request.body(()).expect("a request");
        let what = format!("{request:?}");
        let mut calls = raw.calls.clone().ready().await.expect("open");
        let (response, mut body) = calls.send_request(request, false).expect("begun");
        ask(&mut body, &unknown);
        let _refused = timeout(DEADLINE, response).await.unwrap_or_else(|_| panic!("{what}"));
        let next = raw.call(GET_RECORD, &unknown).await;
        assert_eq!(next, is(Code::NotFound, "NOT_FOUND"), "after {what}");
    }
    fixture.stop().await;
}

/// Numbers at their limits, bytes of odd lengths, texts that mean nothing: one of each, by number.
fn odd(kind: &Kind, number: usize, depth: usize) -> Value {
    let bytes = |lengths: [usize; 6]| vec![0xff; lengths[number % 6]];
    match kind {
        Kind::Uint32 | Kind::Fixed32 => Value::U32([0, 1, u32::MAX / 2, u32::MAX][number % 4]),
        Kind::Uint64 | Kind::Fixed64 => {
            Value::U64([0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX][number % 5])
        }
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            Value::I32([0, i32::MIN, i32::MAX][number % 3])
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            Value::I64([0, i64::MIN, i64::MAX][number % 3])
        }
        Kind::Double => Value::F64([0.0, f64::NAN, f64::MAX][number % 3]),
        Kind::Float => Value::F32([0.0, f32::NAN, f32::MAX][number % 3]),
        // No call must wait.
        Kind::Bool => Value::Bool(false),
        Kind::String => Value::String(
            ["", "\0", "NL-DOUANE", "\u{202e}", "1e308", &"é".repeat(300)][number % 6].into(),
        ),
        Kind::Bytes => Value::Bytes(bytes([0, 31, 32, 44, 65, 300]).into()),
        Kind::Enum(_) => Value::EnumNumber([0, 1, 2, 999, -1, i32::MAX][number % 6]),
        Kind::Message(message) => Value::Message(odd_message(message, number, depth + 1)),
    }
}

fn odd_message(of: &MessageDescriptor, number: usize, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(of.clone());
    if depth > 6 {
        return message;
    }
    // Of a oneof one field, and each field in some other combination with the rest.
    let chosen = |field: &FieldDescriptor| match field.containing_oneof() {
        Some(oneof) => oneof.fields().nth(number % oneof.fields().len()) == Some(field.clone()),
        None => true,
    };
    for (place, field) in of.fields().enumerate().filter(|(_, field)| chosen(field)) {
        let value = odd(&field.kind(), number + place * (number / 7), depth);
        let value = if field.is_list() { Value::List(vec![value]) } else { value };
        message.set_field(&field, value);
    }
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_ends_a_node() {
    const VARIANTS: usize = 30;
    let fixture = Fixture::start().await;
    let operator = Raw::connect(&fixture, &fixture.tls(Role::Operator), USUAL_WINDOW).await;
    let pool = DescriptorPool::decode(customhouse_proto::DESCRIPTORS).expect("compiled in");
    for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        for number in 0..VARIANTS {
            let request = odd_message(&method.input(), number, 0).encode_to_vec();
            let (response, mut body) = operator.begin(&path, &[("grpc-timeout", "2S")]).await;
            ask(&mut body, &request);
            let (code, reason_code) = ended(response).await;
            assert!(code == Code::Ok || !reason_code.is_empty(), "{path} {number}: {code:?}");
            // A panic would show as a refusal by the framework, if it showed at all.
            assert!(code != Code::Unknown && code != Code::Internal, "{path} {number}: {code:?}");
        }
    }
    let unknown = Bytes::from(v1::GetRecordRequest { record_id: vec![9; 32] }.encode_to_vec());
    assert_eq!(operator.call(GET_RECORD, &unknown).await, is(Code::NotFound, "NOT_FOUND"));
    fixture.stop().await;
}
