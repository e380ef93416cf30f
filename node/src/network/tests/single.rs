//! One connection a peer, whatever has become of the other end of an old one.

use libp2p::{Swarm, SwarmBuilder, core::Transport as _, noise, ping, tcp, yamux};

use super::{
    wires::{Wire, free_port, proxy, socket},
    *,
};
use crate::network::DropReason;

/// Nothing is noticed for want of an answer to a ping.
fn without_pings() -> Limits {
    Limits { ping_interval: Duration::from_secs(3600), ..Limits::default() }
}

fn with(limits: Limits, seed: u8, peers: Vec<PeerConfig>) -> NetworkConfig {
    NetworkConfig { limits, ..config(seed, peers) }
}

/// The ends of the bytes that vanish.
const WAYS: [(bool, bool); 3] = [(true, true), (true, false), (false, true)];

/// Both hear each other.
async fn talk(a: &mut Node, b: &mut Node, height: u64) {
    a.handle.publish_consensus(vec![vote(height)]);
    b.receives(height).await;
    b.handle.publish_consensus(vec![vote(height + 1)]);
    a.receives(height + 1).await;
}

/// `b` has dialled `a` through a wire.
async fn dialled() -> (Node, Node, Multiaddr, Wire) {
    let mut a = Node::start(with(without_pings(), 1, vec![peer(2, &[])])).await;
    let (through, wire) = proxy(socket(&a.addresses()[0])).await;
    let peers = vec![peer(1, std::slice::from_ref(&through))];
    let mut b = Node::start(with(without_pings(), 2, peers)).await;
    a.connected_to(public(2)).await;
    b.connected_to(public(1)).await;
    (a, b, through, wire)
}

#[tokio::test]
async fn who_dials_anew_replaces_its_old_connection_that_seems_open_over_there() {
    let (mut a, mut b, through, wire) = dialled().await;
    for (round, (from_caller, to_caller)) in (1..).zip(WAYS) {
        wire.strand(from_caller, to_caller);
        // Its end of the connection is gone, as with its process; where the news passes, it is told.
        b.stop().await;
        let peers = vec![peer(1, std::slice::from_ref(&through))];
        b = Node::start(with(without_pings(), 2, peers)).await;
        b.connected_to(public(1)).await;
        a.disconnected_from(public(2)).await;
        a.connected_to(public(2)).await;
        talk(&mut a, &mut b, 100 * round).await;
    }
}

#[tokio::test]
async fn who_is_dialled_has_its_own_old_connection_replaced() {
    let mut b = Node::start(with(without_pings(), 2, vec![peer(1, &[])])).await;
    let (through, wire) = proxy(socket(&b.addresses()[0])).await;
    let port = free_port().await;
    let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address");
    let mut first = with(without_pings(), 1, vec![peer(2, &[through])]);
    first.listen = vec![address.clone()];
    let mut a = Node::start(first).await;
    a.connected_to(public(2)).await;
    b.connected_to(public(1)).await;
    for (round, (from_caller, to_caller)) in (1..).zip(WAYS) {
        let listen = b.addresses().to_vec();
        wire.strand(from_caller, to_caller);
        b.stop().await;
        let mut second = with(without_pings(), 2, vec![peer(1, std::slice::from_ref(&address))]);
        second.listen = listen;
        b = Node::start(second).await;
        b.connected_to(public(1)).await;
        a.disconnected_from(public(2)).await;
        a.connected_to(public(2)).await;
        talk(&mut a, &mut b, 100 * round).await;
    }
}

/// With full buffers nothing can be sent any more, not even that the connection ends.
#[tokio::test]
async fn a_connection_that_takes_nothing_does_not_keep_a_new_one_out() {
    let (mut a, b, through, wire) = dialled().await;
    wire.strand(true, true);
    // Each stream may have some bytes on their way: pushes have many streams.
    for height in 0..64 {
        a.handle.push(public(2), padded_vote(height, 1 << 20));
    }
    within("a full queue", async {
        for height in 0.. {
            a.handle.publish_consensus(vec![padded_vote(height, 100_000)]);
            tokio::task::yield_now().await;
            if a.metrics().dropped(DropReason::SlowPeer) > 0 {
                return;
            }
        }
    })
    .await;
    b.stop().await;
    let mut b = Node::start(with(without_pings(), 2, vec![peer(1, &[through])])).await;
    b.connected_to(public(1)).await;
    a.disconnected_from(public(2)).await;
    a.connected_to(public(2)).await;
    talk(&mut a, &mut b, u64::MAX - 1).await;
}

#[tokio::test]
async fn a_connection_on_which_nothing_passes_is_given_up_by_both_ends_and_made_anew() {
    let limits = Limits { ping_interval: Duration::from_millis(200), ..Limits::default() };
    for (from_caller, to_caller) in WAYS {
        let mut a = Node::start(with(limits.clone(), 1, vec![peer(2, &[])])).await;
        let (through, wire) = proxy(socket(&a.addresses()[0])).await;
        let mut b = Node::start(with(limits.clone(), 2, vec![peer(1, &[through])])).await;
        a.connected_to(public(2)).await;
        b.connected_to(public(1)).await;
        wire.strand(from_caller, to_caller);
        // One end may talk on and on; that it hears something says nothing about what it sends.
        for height in 0..10 {
            a.handle.push(public(2), vote(height));
            b.handle.push(public(1), vote(height));
        }
        a.disconnected_from(public(2)).await;
        b.disconnected_from(public(1)).await;
        a.connected_to(public(2)).await;
        b.connected_to(public(1)).await;
        talk(&mut a, &mut b, 100).await;
    }
}

/// Speaks Noise and answers pings, and does not subscribe.
fn mute(seed: u8) -> Swarm<ping::Behaviour> {
    let mut secret = key(seed).with_seed(|seed| *seed);
    let keypair = libp2p::identity::Keypair::ed25519_from_bytes(&mut secret[..]).expect("a key");
    let prologue = format!("customhouse/{CHAIN}").into_bytes();
    let security = noise::Config::new(&keypair).expect("a key").with_prologue(prologue);
    SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_other_transport(|_| {
            tcp::tokio::Transport::new(tcp::Config::default())
                .upgrade(libp2p::core::upgrade::Version::V1Lazy)
                .authenticate(security)
                .multiplex(yamux::Config::default())
        })
        .expect("a transport")
        .with_behaviour(|_| ping::Behaviour::default())
        .expect("a behaviour")
        .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(Duration::from_secs(3600)))
        .build()
}

#[tokio::test]
async fn a_peer_that_does_not_subscribe_is_not_connected_for_long() {
    let limits = Limits { ready_timeout: Duration::from_millis(300), ..Limits::default() };
    let node = Node::start(with(limits, 1, vec![peer(2, &[])])).await;
    let mut mute = mute(2);
    mute.dial(node.addresses()[0].clone()).expect("dials");
    let hung_up = async {
        while !matches!(mute.select_next_some().await, SwarmEvent::ConnectionClosed { .. }) {}
    };
    within("the end of the connection", hung_up).await;
    assert_eq!(node.metrics().dropped(DropReason::UnreadyConnection), 1);
    assert!(node.handle.connected().borrow().is_empty());
}

#[tokio::test]
async fn of_many_that_dial_each_other_at_once_all_are_connected_and_hear_each_other() {
    const NODES: u8 = 6;
    let mut ports = Vec::new();
    for _ in 0..NODES {
        ports.push(free_port().await);
    }
    let address = |seed: u8| -> Multiaddr {
        let port = ports[usize::from(seed) - 1];
        format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address")
    };
    let start = |seed: u8| {
        let others = (1..=NODES).filter(|other| *other != seed);
        let mut config = config(seed, others.map(|other| peer(other, &[address(other)])).collect());
        config.listen = vec![address(seed)];
        Node::start(config)
    };
    let mut nodes = futures::future::join_all((1..=NODES).map(start)).await;
    for node in &nodes {
        let mut connected = node.handle.connected();
        let all = connected.wait_for(|peers| peers.len() == usize::from(NODES) - 1);
        within("all others", all).await.expect("the network runs");
    }
    // Not only with one another for a moment.
    for speaker in 0..nodes.len() {
        let height = 100 + speaker as u64;
        nodes[speaker].handle.publish_consensus(vec![vote(height)]);
        for (_, node) in nodes.iter_mut().enumerate().filter(|(index, _)| *index != speaker) {
            node.receives(height).await;
        }
    }
}

#[tokio::test]
async fn of_two_processes_with_one_key_the_one_that_stays_is_connected_again() {
    let mut a = Node::start(with(without_pings(), 1, vec![peer(2, &[])])).await;
    let (its_way, its_wire) = proxy(socket(&a.addresses()[0])).await;
    let mut stays = Node::start(with(without_pings(), 2, vec![peer(1, &[its_way])])).await;
    stays.connected_to(public(1)).await;
    a.connected_to(public(2)).await;
    // Which of two that both dial has the connection is luck: it stands still until the second has it.
    its_wire.freeze(true);
    let (through, wire) = proxy(socket(&a.addresses()[0])).await;
    let mut second = Node::start(with(without_pings(), 2, vec![peer(1, &[through])])).await;
    second.connected_to(public(1)).await;
    a.disconnected_from(public(2)).await;
    a.connected_to(public(2)).await;
    // It is killed, and its packets with it.
    wire.strand(true, true);
    second.stop().await;
    its_wire.freeze(false);
    stays.disconnected_from(public(1)).await;
    stays.connected_to(public(1)).await;
    a.disconnected_from(public(2)).await;
    a.connected_to(public(2)).await;
    talk(&mut a, &mut stays, 100).await;
}
