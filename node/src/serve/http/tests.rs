//! What a stranger can do to the server.

use std::{net::SocketAddr, time::Duration};

use axum::routing::get;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::health::probe;

const DEADLINE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: log\r\n\r\n";

fn limits() -> HttpLimits {
    HttpLimits::of_connections(64)
}

struct Served {
    address: SocketAddr,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Served {
    /// One page, under these limits.
    async fn start(limits: HttpLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let shutdown = CancellationToken::new();
        let router = Router::new().route("/", get(|| async { "page" }));
        let (listening, metrics) = ((listener, probe().1), Metrics::new(|_| ()));
        let serving = tokio::spawn(serve(listening, router, limits, metrics, shutdown.clone()));
        Self { address, shutdown, serving }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(DEADLINE, self.serving).await.expect("in time").expect("no panic");
    }
}

/// What comes until the server hangs up.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset is a way to hang up.
    let _ended = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("in time");
    String::from_utf8(answer).expect("text")
}

async fn answered(stream: &mut TcpStream) {
    stream.write_all(REQUEST).await.expect("sent");
    let mut answer = Vec::new();
    while !answer.ends_with(b"page") {
        let read = timeout(DEADLINE, stream.read_buf(&mut answer)).await.expect("in time");
        assert_ne!(read.expect("connected"), 0, "{}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let served = Served::start(limits()).await;
    let mut stream = served.connect().await;
    let head = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(2 * limits().head_bytes_max));
    stream.write_all(head.as_bytes()).await.expect("sent");
    // Where the system resets the connection, the answer may be lost.
    let answer = rest(&mut stream).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let mut another = served.connect().await;
    answered(&mut another).await;
    served.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_request_is_hung_up_on() {
    let served = Served::start(HttpLimits { head_timeout: SHORT, ..limits() }).await;
    for said in [&REQUEST[..7], b""] {
        let mut stream = served.connect().await;
        stream.write_all(said).await.expect("sent");
        let answer = rest(&mut stream).await;
        assert!(!answer.contains("200"), "{answer}");
    }
    served.stop().await;
}

#[tokio::test]
async fn an_old_connection_ends_and_a_new_one_is_taken() {
    let served = Served::start(HttpLimits { age_max: SHORT, ..limits() }).await;
    for _ in 0..2 {
        let mut stream = served.connect().await;
        answered(&mut stream).await;
        assert_eq!(rest(&mut stream).await, "");
    }
    served.stop().await;
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_who_says_nothing() {
    let served = Served::start(limits()).await;
    let mut idle = served.connect().await;
    answered(&mut idle).await;
    let _silent = served.connect().await;
    served.stop().await;
    assert_eq!(rest(&mut idle).await, "");
}
