//! A member that asks for much and reads none of it.

use std::sync::Arc;

use bytes::Bytes;
use customhouse_client::tls::ClientTls;
use customhouse_files::profile::Profile;
use customhouse_proto::v1::{self, Phase, get_history_request::SubjectOrKey};
use customhouse_tests::{
    cluster::Cluster,
    wait::{PATIENCE, until},
};
use h2::{
    SendStream,
    client::{Connection, ResponseFuture, SendRequest},
};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};
use tokio_util::task::AbortOnDropHandle;
use tonic::codegen::http::Request;

/// Calls in all, and of one connection.
const CALLS: usize = 800;
pub(crate) const CONNECTION_CALLS: usize = 50;
/// What an attack may cost while it lasts: one client's share of answers, the copies that are made of
/// them, and what the allocator keeps.
const PEAK_KIB: u64 = 96 * 1024;

/// A question for all of a movement's history, as a message.
pub(crate) fn question(mrn: &str) -> Bytes {
    let request = v1::GetHistoryRequest {
        subject_or_key: Some(movement(mrn)),
        page_size: 1000,
        page_token: Vec::new(),
        without_links: true,
    };
    let request = request.encode_to_vec();
    let length = u32::try_from(request.len()).expect("short").to_be_bytes();
    Bytes::from([&[0][..], &length, &request].concat())
}

fn movement(mrn: &str) -> SubjectOrKey {
    let scheme = v1::subject::Scheme::Mrn as i32;
    SubjectOrKey::Subject(v1::Subject { scheme, id: mrn.into() })
}

/// A connection with its calls, until it ends or is dropped.
pub(crate) struct Open {
    pub(crate) connection: AbortOnDropHandle<()>,
    _calls: Vec<(ResponseFuture, SendStream<Bytes>)>,
}

/// Asks `calls` times over connections whose windows are closed, and gives these, unread.
pub(crate) async fn ask(
    endpoint: &str,
    tls: &ClientTls,
    question: &Bytes,
    calls: usize,
) -> Vec<Open> {
    call_often(endpoint, tls, Some(question), calls).await
}

/// Begins `calls` calls of which no message comes.
pub(crate) async fn begin(endpoint: &str, tls: &ClientTls, calls: usize) -> Vec<Open> {
    call_often(endpoint, tls, None, calls).await
}

async fn call_often(
    endpoint: &str,
    tls: &ClientTls,
    message: Option<&Bytes>,
    calls: usize,
) -> Vec<Open> {
    let mut open = Vec::new();
    for _ in 0..calls / CONNECTION_CALLS {
        let Some((mut calls, connection)) = connect(endpoint, tls).await else { continue };
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            // That the node ends it is what is hoped for.
            let _ended = connection.await;
        }));
        let mut begun = Vec::new();
        for _ in 0..CONNECTION_CALLS {
            let request = Request::post("https://localhost/customhouse.v1.Query/GetHistory")
                .header("content-type", "application/grpc")
                .body(())
                .expect("a request");
            let Ok(mut ready) = calls.clone().ready().await else { break };
            let Ok((unread, mut body)) = ready.send_request(request, false) else { break };
            if let Some(message) = message {
                let _sent = body.send_data(message.clone(), true);
            }
            calls = ready;
            begun.push((unread, body));
        }
        open.push(Open { connection, _calls: begun });
    }
    open
}

type Connected = (SendRequest<Bytes>, Connection<TlsStream<TcpStream>>);

/// `None` where the node takes no more, which it may.
async fn connect(endpoint: &str, tls: &ClientTls) -> Option<Connected> {
    let config = tls.client_config().expect("settings");
    let tcp = TcpStream::connect(endpoint).await.ok()?;
    let name = ServerName::try_from("localhost").expect("a name");
    let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.ok()?;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(0);
    builder.handshake(tls).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads_do_not_stay_in_memory() {
    let cluster = Cluster::start(1).await;
    let records = (0..60_u8).map(|number| {
        let declaration =
            v1::Declaration { regime: 1, mrn: "26NL00051004471RX3".into(), ..Default::default() };
        let content = vec![number; 50_000];
        let source = v1::Source { format: "test".into(), content, ..Default::default() };
        let body = Some(v1::record::Body::Declaration(declaration));
        let record = v1::Record { body, source: Some(source), ..Default::default() };
        v1::RecordSubmission {
            record: Some(record),
            idempotency_key: number.to_string(),
            open: true,
            agreement: Vec::new(),
        }
    });
    let broker = cluster.client(0, "broker");
    let results = broker.submit_records(records.collect(), true).await.expect("taken");
    assert!(results.iter().all(|result| result.phase() == Phase::Final), "{:?}", results[0]);
    let subject = movement("26NL00051004471RX3");
    // What is read once is in the store's caches.
    let officer = cluster.client(0, "officer");
    for _ in 0..10 {
        officer.history_page(subject.clone(), 1000, Vec::new()).await.expect("a page");
    }
    let before = cluster.resident_kib(0);
    let question = question("26NL00051004471RX3");
    let profile = Profile::read(&cluster.profile(0, "officer")).expect("the layout made it");
    let tls = ClientTls::read(&profile.ca, &profile.cert, &profile.key);
    let tls = tls.expect("the layout made them");
    let endpoint = cluster.agency(0).config.api.listen.to_string();
    let open = ask(&endpoint, &tls, &question, CALLS).await;
    let mut peak = before;
    // Operators are served meanwhile, and it is the node that ends a connection on which nothing is read.
    // Those whose calls it has refused, since this client's share is taken, hold nothing and may stay.
    until("the node ends the connections that hold answers", 2 * PATIENCE, async || {
        peak = peak.max(cluster.resident_kib(0));
        cluster.status(0).await.expect("operators have room");
        let ended = open.iter().filter(|open| open.connection.is_finished()).count();
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
