//! Strangers at the port where nodes meet.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use customhouse_tests::{
    cluster::Cluster,
    load::nothing_is_lost,
    wait::{PATIENCE, until},
};
use tokio::{
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

use crate::agreement::submit_final;

/// Connections that one stranger keeps open at a time.
const HELD: usize = 100;

/// Opens connections and says nothing on them, as fast as it can, from addresses of its own. What the node
/// takes in is held for as long as the node lets it; what it closes is counted.
async fn flood(to: SocketAddr, network: u8, closed: Arc<AtomicUsize>) {
    let mut held = Vec::new();
    for host in (1..=250).cycle() {
        let socket = TcpSocket::new_v4().expect("a socket");
        let own = Ipv4Addr::new(127, 1, network, host);
        socket.bind((own, 0).into()).expect("all of 127/8 is this host");
        let connected = tokio::time::timeout(Duration::from_secs(1), socket.connect(to)).await;
        held.extend(connected.into_iter().flatten());
        let before = held.len();
        held.retain(is_open);
        closed.fetch_add(before - held.len(), Ordering::Relaxed);
        held.truncate(HELD);
    }
}

fn is_open(connection: &TcpStream) -> bool {
    let read = connection.try_read(&mut [0]);
    read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_strangers_at_all_peer_ports_does_not_keep_a_restarted_node_alone() {
    let mut cluster = Cluster::start(4).await;
    let before = submit_final(&cluster, 0, "before", "strangers").await;
    let mut strangers = JoinSet::new();
    let closed: [Arc<AtomicUsize>; 4] = Default::default();
    for (node, closed) in closed.iter().enumerate() {
        for network in 0..4 {
            strangers.spawn(flood(cluster.peer_address(node), network, Arc::clone(closed)));
        }
    }
    until("all places of strangers are taken", PATIENCE, async || {
        let counts = closed.each_ref().map(|closed| closed.load(Ordering::Relaxed));
        if counts.iter().all(|count| *count > 500) { Ok(()) } else { Err(format!("{counts:?}")) }
    })
    .await;
    cluster.kill(0);
    cluster.restart(0).await;
    until("all its peers", PATIENCE, async || {
        let status = cluster.status(0).await.map_err(|error| error.to_string())?;
        if status.peers_connected == 3 { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    let after = submit_final(&cluster, 0, "after", "strangers").await;
    strangers.shutdown().await;
    cluster.same_head(&[0, 1, 2, 3], 1).await;
    nothing_is_lost(&cluster, "strangers", &[before, after]).await;
}
