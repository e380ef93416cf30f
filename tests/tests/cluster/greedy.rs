//! A member that asks for much and reads none of it.

use std::sync::Arc;

use bytes::Bytes;
use customhouse_node::{layout::Profile, tls::ClientTls};
use customhouse_proto::v1::{self, Phase, get_history_request::SubjectOrKey};
use customhouse_tests::{
    cluster::Cluster,
    wait::{PATIENCE, until},
};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use tonic::codegen::http::Request;

/// Calls in all, and of one connection.
const CALLS: usize = 800;
const CONNECTION_CALLS: usize = 50;
/// What an attack may cost while it lasts: one client's share of answers, the copies that are made of
/// them, and what the allocator keeps.
const PEAK_KIB: u64 = 96 * 1024;

/// Asks for histories over connections whose windows are closed, and gives them, unread.
async fn ask(
    endpoint: &str,
    tls: &ClientTls,
    question: &Bytes,
) -> Vec<tokio::task::JoinHandle<()>> {
    let mut open = Vec::new();
    for _ in 0..CALLS / CONNECTION_CALLS {
        let config = tls.client_config().expect("settings");
        let tcp = TcpStream::connect(endpoint).await.expect("connected");
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("let in");
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(0);
        let (mut calls, connection) = builder.handshake(tls).await.expect("HTTP/2");
        open.push(tokio::spawn(async move {
            // That the node ends it is what is hoped for.
            let _ended = connection.await;
        }));
        for _ in 0..CONNECTION_CALLS {
            let request = Request::post("https://localhost/customhouse.v1.Query/GetHistory")
                .header("content-type", "application/grpc")
                .body(())
                .expect("a request");
            let Ok(mut ready) = calls.clone().ready().await else { break };
            let Ok((_unread, mut body)) = ready.send_request(request, false) else { break };
            let _sent = body.send_data(question.clone(), true);
            calls = ready;
            std::mem::forget(_unread);
        }
    }
    open
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads_do_not_stay_in_memory() {
    let cluster = Cluster::start(1).await;
    let records = (0..60_u8).map(|number| {
        let inspection = v1::Inspection { mrn: "26NL00051004471RX3".into(), ..Default::default() };
        let content = vec![number; 50_000];
        let source = v1::Source { format: "test".into(), content, ..Default::default() };
        let body = Some(v1::record::Body::Inspection(inspection));
        let record = v1::Record { body, source: Some(source), ..Default::default() };
        v1::RecordSubmission { record: Some(record), idempotency_key: number.to_string() }
    });
    let broker = cluster.client(0, "broker");
    let results = broker.submit_records(records.collect(), true).await.expect("taken");
    assert!(results.iter().all(|result| result.phase() == Phase::Final), "{:?}", results[0]);
    let scheme = v1::subject::Scheme::Mrn as i32;
    let subject = SubjectOrKey::Subject(v1::Subject { scheme, id: "26NL00051004471RX3".into() });
    // What is read once is in the store's caches.
    let officer = cluster.client(0, "officer");
    for _ in 0..10 {
        officer.history_page(subject.clone(), 1000, Vec::new()).await.expect("a page");
    }
    let before = cluster.resident_kib(0);
    let request = v1::GetHistoryRequest {
        subject_or_key: Some(subject.clone()),
        page_size: 1000,
        page_token: Vec::new(),
    };
    let request = request.encode_to_vec();
    let length = u32::try_from(request.len()).expect("short").to_be_bytes();
    let question = Bytes::from([&[0][..], &length, &request].concat());
    let profile = Profile::read(&cluster.profile(0, "officer")).expect("the layout made it");
    let tls = ClientTls::read(&profile.ca, &profile.cert, &profile.key);
    let tls = tls.expect("the layout made them");
    let endpoint = cluster.agency(0).config.api.listen.to_string();
    let open = ask(&endpoint, &tls, &question).await;
    let mut peak = before;
    // Operators are served meanwhile, and it is the node that ends a connection on which nothing is read.
    // Those whose calls it has refused, since this client's share is taken, hold nothing and may stay.
    until("the node ends the connections that hold answers", 2 * PATIENCE, async || {
        peak = peak.max(cluster.resident_kib(0));
        cluster.status(0).await.expect("operators have room");
        let ended = open.iter().filter(|connection| connection.is_finished()).count();
        if ended > 0 { Ok(()) } else { Err(format!("all {} are open", open.len())) }
    })
    .await;
    assert!(peak < before + PEAK_KIB, "from {before} to {peak} KiB");
    officer.history_page(subject, 1000, Vec::new()).await.expect("a page");
    until("the memory goes back", PATIENCE, async || {
        let after = cluster.resident_kib(0);
        let back = after * 10 <= before * 12;
        if back { Ok(()) } else { Err(format!("{before} KiB before, {after} after")) }
    })
    .await;
}
