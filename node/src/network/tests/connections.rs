use std::net::SocketAddr;

use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::*;
use crate::network::{DropReason, NetworkError, RequestError};

#[tokio::test]
async fn a_key_that_the_registry_does_not_list_is_refused() {
    let node = Node::start(config(1, vec![peer(2, &[])])).await;
    let stranger = Node::start(config(3, vec![peer(1, node.addresses())])).await;
    eventually("two refusals", || node.metrics().dropped(DropReason::UnlistedPeer) >= 2).await;
    assert!(node.handle.connected().borrow().is_empty());
    assert!(stranger.handle.connected().borrow().is_empty());
}

#[tokio::test]
async fn who_is_listed_later_may_connect_and_who_is_off_the_list_is_disconnected() {
    let mut node = Node::start(config(1, vec![peer(2, &[])])).await;
    let _second = Node::start(config(2, vec![peer(1, node.addresses())])).await;
    let mut third = Node::start(config(3, vec![peer(1, node.addresses())])).await;
    node.connected_to(public(2)).await;
    eventually("a refusal", || node.metrics().dropped(DropReason::UnlistedPeer) > 0).await;

    node.handle.list(vec![peer(2, &[]), peer(3, &[])]);
    node.connected_to(public(3)).await;
    third.connected_to(public(1)).await;
    node.handle.publish_consensus(vec![vote(1)]);
    third.receives(1).await;
    let question = v1::SyncRequest { request: None };
    let asked = node.handle.request(public(3), question.clone());
    let answered = async {
        let reply = third.expect("a request", |event| match event {
            NetworkEvent::Request { reply, .. } => Some(reply),
            _ => None,
        });
        reply.await.send(v1::SyncResponse { response: None });
    };
    let (answer, ()) = tokio::join!(asked, answered);
    answer.expect("a peer that was listed later is asked like others");

    node.handle.list(vec![peer(3, &[])]);
    node.disconnected_from(public(2)).await;
    let connected = node.handle.connected().borrow().clone();
    assert_eq!(connected.iter().map(|peer| peer.key).collect::<Vec<_>>(), [public(3)]);
    let refused = node.handle.request(public(2), question).await;
    assert_eq!(refused.expect_err("unlisted"), RequestError::UnknownPeer);
    let before = node.metrics().dropped(DropReason::UnlistedPeer);
    eventually("refusals", || node.metrics().dropped(DropReason::UnlistedPeer) > before).await;
}

#[tokio::test]
async fn a_listed_key_of_another_chain_does_not_get_through_the_handshake() {
    let node = Node::start(config(1, vec![peer(2, &[])])).await;
    let mut other = config(2, vec![peer(1, node.addresses())]);
    other.chain_id = Hash([8; 32]);
    let other = Node::start(other).await;
    eventually("two refusals", || node.metrics().dropped(DropReason::Handshake) >= 2).await;
    assert!(node.handle.connected().borrow().is_empty());
    assert!(other.handle.connected().borrow().is_empty());
}

#[tokio::test]
async fn a_flood_of_silent_connections_does_not_keep_a_listed_peer_out_for_good() {
    let mut crowded = config(1, vec![peer(2, &[])]);
    crowded.limits.handshake_timeout = Duration::from_millis(500);
    let mut node = Node::start(crowded).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(socket(&node.addresses()[0])).await.expect("connects"));
    }
    eventually("a refusal", || node.metrics().dropped(DropReason::ConnectionLimit) > 0).await;
    let _other = Node::start(config(2, vec![peer(1, node.addresses())])).await;
    node.connected_to(public(2)).await;
}

#[tokio::test]
async fn both_sides_may_dial_at_once() {
    // Ports that are free now; both nodes know both addresses from the start.
    let ports = [free_port().await, free_port().await];
    let address = |port: u16| -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address")
    };
    let start = |own: usize, other: usize| {
        let mut config =
            config(own as u8 + 1, vec![peer(other as u8 + 1, &[address(ports[other])])]);
        config.listen = vec![address(ports[own])];
        Node::start(config)
    };
    let (mut a, mut b) = tokio::join!(start(0, 1), start(1, 0));
    a.connected_to(public(2)).await;
    b.connected_to(public(1)).await;
    a.handle.publish_consensus(vec![vote(1)]);
    b.receives(1).await;
    b.handle.publish_consensus(vec![vote(2)]);
    a.receives(2).await;
}

#[tokio::test]
async fn a_node_that_stops_and_comes_back_on_its_port_is_connected_again() {
    let mut a = Node::start(config(1, vec![peer(2, &[])])).await;
    let b = Node::start(config(2, vec![peer(1, a.addresses())])).await;
    a.connected_to(public(2)).await;
    let connected = a.handle.connected().borrow().clone();
    assert_eq!(connected[0].agency, "AGENCY-2".parse().expect("a code"));
    b.stop().await;
    a.disconnected_from(public(2)).await;
    assert!(a.handle.connected().borrow().is_empty());

    // The one that comes back dials.
    let b = Node::start(config(2, vec![peer(1, a.addresses())])).await;
    a.connected_to(public(2)).await;

    // The one that stays dials.
    let listen = a.addresses().to_vec();
    let mut b = b;
    b.connected_to(public(1)).await;
    a.stop().await;
    b.disconnected_from(public(1)).await;
    let mut again = config(1, vec![peer(2, &[])]);
    again.listen = listen;
    let mut a = Node::start(again).await;
    a.connected_to(public(2)).await;
    b.connected_to(public(1)).await;
    b.handle.publish_consensus(vec![vote(7)]);
    a.receives(7).await;
}

#[tokio::test]
async fn a_connection_whose_other_end_falls_silent_is_closed_and_made_anew() {
    let limits = Limits {
        ping_interval: Duration::from_millis(200),
        handshake_timeout: Duration::from_millis(500),
        ..Limits::default()
    };
    let node = config(1, vec![peer(2, &[])]);
    let mut a = Node::start(NetworkConfig { limits: limits.clone(), ..node }).await;
    let (through, frozen) = proxy(socket(&a.addresses()[0])).await;
    let node = config(2, vec![peer(1, &[through])]);
    let mut b = Node::start(NetworkConfig { limits, ..node }).await;
    a.connected_to(public(2)).await;
    b.connected_to(public(1)).await;
    frozen.send_replace(true);
    a.disconnected_from(public(2)).await;
    b.disconnected_from(public(1)).await;
    assert!(a.metrics().dropped(DropReason::DeadConnection) > 0);
    frozen.send_replace(false);
    a.connected_to(public(2)).await;
    b.connected_to(public(1)).await;
}

#[tokio::test]
async fn a_peer_that_takes_nothing_does_not_hold_up_the_others() {
    let mut a = Node::start(config(1, vec![peer(2, &[]), peer(3, &[])])).await;
    let (through, frozen) = proxy(socket(&a.addresses()[0])).await;
    let _stuck = Node::start(config(2, vec![peer(1, &[through])])).await;
    let mut c = Node::start(config(3, vec![peer(1, a.addresses())])).await;
    for _ in 0..2 {
        a.expect("both", |event| matches!(event, NetworkEvent::Connected(_)).then_some(())).await;
    }
    frozen.send_replace(true);
    // Far more than the sockets and the queue to the stuck peer take up.
    for height in 0..600 {
        a.handle.publish_consensus(vec![padded_vote(height, 64 << 10)]);
        c.receives(height).await;
    }
    eventually("a count", || a.metrics().dropped(DropReason::SlowPeer) > 0).await;
}

#[tokio::test]
async fn a_network_larger_than_its_mesh_hears_everything() {
    let mut nodes = full_mesh(12, &Limits::default()).await;
    nodes[5].handle.publish_consensus(vec![vote(1)]);
    nodes[11].handle.publish_consensus(vec![vote(2)]);
    for (index, node) in nodes.iter_mut().enumerate() {
        let mut missing = vec![1, 2];
        missing.retain(|height| (index, *height) != (5, 1) && (index, *height) != (11, 2));
        node.expect("both votes", |event| {
            if let NetworkEvent::Consensus { message, receipt, .. } = event {
                missing.retain(|height| *height != height_of(&message));
                receipt.accept();
            }
            missing.is_empty().then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_listened_on_is_an_error_at_the_start() {
    let mut config = config(1, Vec::new());
    // An address of no host (RFC 5737).
    config.listen = vec!["/ip4/203.0.113.1/tcp/1".parse().expect("an address")];
    assert!(matches!(
        spawn(config, CancellationToken::new()).await,
        Err(NetworkError::Listen { .. })
    ));
}

#[tokio::test]
async fn the_counters_are_registered() {
    let nodes = full_mesh(2, &Limits::default()).await;
    let mut registry = prometheus_client::registry::Registry::default();
    nodes[0].metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
    assert!(text.contains("network_connected_peers 1"), "{text}");
}

fn socket(address: &Multiaddr) -> SocketAddr {
    use libp2p::multiaddr::Protocol;
    let parts: Vec<_> = address.iter().collect();
    match parts[..] {
        [Protocol::Ip4(ip), Protocol::Tcp(port), ..] => SocketAddr::from((ip, port)),
        _ => panic!("an IPv4 address expected, not {address}"),
    }
}

async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    listener.local_addr().expect("bound").port()
}

/// Forwards connections to `target`; while frozen, takes nothing and says nothing, like a host that
/// is paused.
async fn proxy(target: SocketAddr) -> (Multiaddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("bound").port();
    let (frozen, state) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(target).await else { continue };
            let (near, far) = (near.into_split(), far.into_split());
            tokio::spawn(forward(near.0, far.1, state.clone()));
            tokio::spawn(forward(far.0, near.1, state.clone()));
        }
    });
    (format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address"), frozen)
}

async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut frozen: watch::Receiver<bool>,
) {
    use tokio::io::AsyncReadExt as _;
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let thawed = frozen.wait_for(|frozen| !frozen).await.is_ok();
        if !thawed || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
