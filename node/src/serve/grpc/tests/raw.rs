//! A client of HTTP/2 with nothing above it.

use axum::http::{HeaderMap, Request};
use bytes::Bytes;
use customhouse_client::contract::REASON_CODE;
use h2::{RecvStream, SendStream, client::SendRequest};
use tokio::{net::TcpStream, time::sleep};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, pki_types::ServerName},
};

use super::*;

pub(super) const GET_RECORD: &str = "/customhouse.v1.Query/GetRecord";
pub(super) const GET_HISTORY: &str = "/customhouse.v1.Query/GetHistory";
pub(super) const SUBMIT_RECORDS: &str = "/customhouse.v1.Submission/SubmitRecords";
/// What HTTP/2 lets a client have of a stream before it has read any of it.
pub(super) const USUAL_WINDOW: u32 = 65_535;

/// A connection of HTTP/2 with nothing above it.
#[derive(Clone)]
pub(super) struct Raw {
    pub(super) calls: SendRequest<Bytes>,
}

impl Raw {
    pub(super) async fn connect(fixture: &Fixture, tls: &ClientTls, window: u32) -> Self {
        let config = tls.client_config().expect("settings");
        let tls = shake_hands(fixture, config).await;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window);
        let (calls, connection) = builder.handshake(tls).await.expect("HTTP/2");
        tokio::spawn(connection);
        Self { calls }
    }

    /// Begins a call; nothing of its body is sent.
    pub(super) async fn begin(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let mut request = Request::post(format!("https://127.0.0.1{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let mut calls = self.calls.clone().ready().await.expect("open");
        calls.send_request(request, false).expect("begun")
    }

    /// Makes a call with these bytes as its message, and reads how it ended.
    pub(super) async fn call(&self, path: &str, message: &[u8]) -> Ended {
        let (response, mut body) = self.begin(path, &[]).await;
        ask(&mut body, message);
        ended(response).await
    }
}

/// Sends this message as the whole of a call's body.
///
/// A node may refuse a call by its head alone. HTTP/2 then closes the stream, and whether that comes before
/// the message is sent is a matter of luck: a test goes by the answer, which is there either way.
pub(super) fn ask(body: &mut SendStream<Bytes>, message: &[u8]) {
    let _sent = body.send_data(framed(message), true);
}

/// A message with its length before it.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    [&[0][..], &length, message].concat().into()
}

/// How a call ended: gRPC's code, and the reason code where there is one.
pub(super) type Ended = (Code, String);

pub(super) async fn ended(response: h2::client::ResponseFuture) -> Ended {
    let response = timeout(DEADLINE, response).await.expect("in time").expect("an answer");
    let (head, body) = response.into_parts();
    match head.headers.contains_key("grpc-status") {
        true => of_headers(&head.headers),
        false => of_headers(&read(body).await.1),
    }
}

/// The rest of an answer: its bytes and its trailers.
pub(super) async fn read(mut body: RecvStream) -> (Vec<u8>, HeaderMap) {
    let mut bytes = Vec::new();
    while let Some(data) = timeout(DEADLINE, body.data()).await.expect("in time") {
        let data = data.expect("no reset");
        body.flow_control().release_capacity(data.len()).expect("it was held");
        bytes.extend_from_slice(&data);
    }
    let trailers = timeout(DEADLINE, body.trailers()).await.expect("in time");
    (bytes, trailers.expect("no reset").expect("there"))
}

pub(super) fn of_headers(headers: &HeaderMap) -> Ended {
    let text = |name: &str| {
        let value = headers.get(name).map(|value| value.to_str().expect("ASCII"));
        value.unwrap_or_default().to_owned()
    };
    (Code::from_bytes(text("grpc-status").as_bytes()), text(REASON_CODE))
}

pub(super) fn ok() -> Ended {
    (Code::Ok, String::new())
}

pub(super) fn is(code: Code, reason_code: &str) -> Ended {
    (code, reason_code.to_owned())
}

/// A connection of TLS on which nothing is said yet.
pub(super) async fn shake_hands(fixture: &Fixture, config: ClientConfig) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(&fixture.endpoint).await.expect("connected");
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("let in")
}

pub(super) async fn until(what: &str, mut met: impl FnMut() -> bool) {
    let poll = async {
        while !met() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, poll).await.expect(what);
}
