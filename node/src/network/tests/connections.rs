use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use super::{
    wires::{free_port, proxy, socket},
    *,
};
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
async fn a_connection_that_says_nothing_or_does_not_show_who_it_is_is_closed() {
    let never = Duration::from_secs(3600);
    let soon = Duration::from_millis(300);
    // The beginning of a handshake, as it is really sent.
    let words = b"\x13/multistream/1.0.0\n\x07/noise\n";
    for (silence, handshake, words) in [(soon, never, &b""[..]), (never, soon, &words[..])] {
        let mut waiting = config(1, vec![peer(2, &[])]);
        (waiting.limits.silence_timeout, waiting.limits.handshake_timeout) = (silence, handshake);
        let node = Node::start(waiting).await;
        let mut caller = TcpStream::connect(socket(&node.addresses()[0])).await.expect("connects");
        caller.write_all(words).await.expect("sent");
        let hung_up = async { while caller.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {} };
        within("the end of the connection", hung_up).await;
        eventually("a count", || node.metrics().dropped(DropReason::Handshake) == 1).await;
    }
}

/// A connection from one of this host's other addresses.
async fn connect_from(ip: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((ip, 0).into()).expect("all of 127/8 is this host");
    socket.connect(to).await.expect("connects")
}

#[tokio::test]
async fn strangers_that_take_all_their_places_for_good_do_not_keep_a_listed_peer_out() {
    let nobody: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().expect("an address");
    let mut crowded = config(1, vec![peer(2, &[nobody])]);
    crowded.limits.handshake_timeout = Duration::from_secs(3600);
    crowded.limits.silence_timeout = Duration::from_secs(3600);
    let mut node = Node::start(crowded).await;
    let (mut silent, places) = (Vec::new(), Limits::default().strangers_pending_max);
    for number in 0..2 * places {
        let network = u8::try_from(number % 8).expect("small");
        silent.push(connect_from([127, 0, 8 + network, 1], socket(&node.addresses()[0])).await);
    }
    let refused = || node.metrics().dropped(DropReason::ConnectionLimit);
    eventually("the others are refused", || refused() == places as u64).await;
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
    let (through, wire) = proxy(socket(&a.addresses()[0])).await;
    let node = config(2, vec![peer(1, &[through])]);
    let mut b = Node::start(NetworkConfig { limits, ..node }).await;
    a.connected_to(public(2)).await;
    b.connected_to(public(1)).await;
    wire.freeze(true);
    a.disconnected_from(public(2)).await;
    b.disconnected_from(public(1)).await;
    assert!(a.metrics().dropped(DropReason::DeadConnection) > 0);
    wire.freeze(false);
    a.connected_to(public(2)).await;
    b.connected_to(public(1)).await;
}

#[tokio::test]
async fn a_peer_that_takes_nothing_does_not_hold_up_the_others() {
    let mut a = Node::start(config(1, vec![peer(2, &[]), peer(3, &[])])).await;
    let (through, wire) = proxy(socket(&a.addresses()[0])).await;
    let _stuck = Node::start(config(2, vec![peer(1, &[through])])).await;
    let mut c = Node::start(config(3, vec![peer(1, a.addresses())])).await;
    for _ in 0..2 {
        a.expect("both", |event| matches!(event, NetworkEvent::Connected(_)).then_some(())).await;
    }
    wire.freeze(true);
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
            if let NetworkEvent::Consensus { message, judgement, .. } = event {
                missing.retain(|height| *height != height_of(&message));
                judgement.accept();
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
    let refused = spawn(config, CancellationToken::new()).await.map(drop).expect_err("refused");
    let NetworkError::Listen { reason, .. } = &refused else { panic!("{refused}") };
    assert!(reason.contains("requested address"), "the system's words: {reason:?}");
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
