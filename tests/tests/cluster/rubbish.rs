//! Bytes that are not of any protocol, sent to every port of a node.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use customhouse_tests::{cluster::Cluster, load::nothing_is_lost};
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::agreement::submit_final;

/// What a node's memory may come to.
pub(crate) const RESIDENT_KIB_MAX: u64 = 500 * 1024;
/// What rubbish may cost beyond what the node had when it was warm.
const GROWTH_KIB_MAX: u64 = 100 * 1024;
const ROUNDS: usize = 150;
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// A node that neither answers nor hangs up by then has us wait; the next connection is made.
const ANSWER_LIMIT: Duration = Duration::from_millis(20);
/// Connections that are left open, saying nothing, on each port.
const SILENT: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_on_every_port_neither_stops_a_node_nor_fills_its_memory() {
    let cluster = Cluster::start(4).await;
    let mut promises = vec![submit_final(&cluster, 0, "before", "rubbish").await];
    let seed = u64::from(std::process::id());
    eprintln!("SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let config = &cluster.agency(0).config;
    let ports = [peer_port(&cluster), config.api.listen.port()];
    // Both ports once, so that what they need is there.
    for port in ports {
        send(port, &[0; 16]);
    }
    let warm = cluster.resident_kib(0);
    let mut silent = Vec::new();
    for port in ports {
        for _ in 0..SILENT {
            silent.extend(connect(port));
        }
        for round in 0..ROUNDS {
            send(port, &rubbish(&mut random, round));
        }
    }
    promises.push(submit_final(&cluster, 0, "after", "rubbish").await);
    let full = cluster.resident_kib(0);
    eprintln!("{warm} KiB warm, {full} KiB after {} connections", 2 * (ROUNDS + SILENT));
    assert!(full < RESIDENT_KIB_MAX && full < warm + GROWTH_KIB_MAX, "{warm} → {full} KiB");
    drop(silent);
    cluster.same_head(&[0, 1, 2, 3], 1).await;
    nothing_is_lost(&cluster, "rubbish", &promises).await;
    let status = cluster.status(0).await.expect("it runs");
    assert_eq!(status.peers_connected, 3, "no peer was thrown out");
}

fn peer_port(cluster: &Cluster) -> u16 {
    let address = cluster.agency(0).config.network.listen[0].to_string();
    let port = address.rsplit('/').next().expect("a multiaddress has parts");
    port.parse().expect("it ends in the port")
}

/// Random bytes, or the beginning of a protocol that somebody might speak by mistake.
fn rubbish(random: &mut ChaCha8Rng, round: usize) -> Vec<u8> {
    let beginning: &[u8] = match round % 4 {
        // HTTP/2 without TLS.
        0 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        1 => b"GET / HTTP/1.1\r\nHost: customs\r\n\r\n",
        // The name of libp2p's first protocol, as it is really sent.
        2 => b"\x13/multistream/1.0.0\n\x07/noise\n",
        _ => b"",
    };
    let mut bytes = vec![0; random.random_range(0..MESSAGE_BYTES_MAX)];
    random.fill_bytes(&mut bytes);
    [beginning, &bytes].concat()
}

/// `None` where the node takes no more connections, which it may.
fn connect(port: u16) -> Option<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(ANSWER_LIMIT)).expect("a limit above zero");
    stream.set_write_timeout(Some(ANSWER_LIMIT)).expect("a limit above zero");
    Some(stream)
}

/// Sends bytes and reads what comes, until the node hangs up or is silent.
fn send(port: u16, bytes: &[u8]) {
    let Some(mut stream) = connect(port) else { return };
    // A node that hangs up in the middle is right to.
    let _hung_up = stream.write_all(bytes);
    let mut answer = [0; 4096];
    while stream.read(&mut answer).is_ok_and(|read| read > 0) {}
}
