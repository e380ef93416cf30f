//! The network on loopback: real sockets, deadlines instead of sleeps.

mod connections;
mod gossip;
mod judgements;
mod single;
mod sync;
mod wires;

use std::{future::Future, time::Duration};

use customhouse_ledger::{
    hash::Hash,
    keys::{PublicKey, SigningKey},
};
use customhouse_proto::v1;
use futures::StreamExt as _;
use libp2p::{Multiaddr, gossipsub::TopicHash, swarm::SwarmEvent};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Limits, NetworkConfig, NetworkEvent, NetworkHandle, NetworkMetrics, PeerConfig, behaviour,
    behaviour::BehaviourEvent, peers, peers::Peers, spawn,
};

const DEADLINE: Duration = Duration::from_secs(20);
const CHAIN: Hash = Hash([7; 32]);

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn public(seed: u8) -> PublicKey {
    key(seed).public()
}

fn loopback() -> Multiaddr {
    "/ip4/127.0.0.1/tcp/0".parse().expect("an address")
}

/// A peer to dial, or to wait for where there is no address.
fn peer(seed: u8, addresses: &[Multiaddr]) -> PeerConfig {
    let agency = format!("AGENCY-{seed}").parse().expect("a code");
    PeerConfig { agency, key: public(seed), addresses: addresses.to_vec() }
}

fn config(seed: u8, peers: Vec<PeerConfig>) -> NetworkConfig {
    NetworkConfig {
        identity: key(seed),
        chain_id: CHAIN,
        listen: vec![loopback()],
        peers,
        limits: Limits::default(),
    }
}

/// A node's network, and the events that it has not read yet.
struct Node {
    handle: NetworkHandle,
    events: mpsc::Receiver<NetworkEvent>,
    key: PublicKey,
    shutdown: CancellationToken,
    _guard: DropGuard,
}

impl Node {
    async fn start(config: NetworkConfig) -> Self {
        let key = config.identity.public();
        let shutdown = CancellationToken::new();
        let (handle, events) = spawn(config, shutdown.clone()).await.expect("starts");
        Self { handle, events, key, shutdown: shutdown.clone(), _guard: shutdown.drop_guard() }
    }

    fn addresses(&self) -> &[Multiaddr] {
        self.handle.listen_addresses()
    }

    fn metrics(&self) -> &NetworkMetrics {
        self.handle.metrics()
    }

    /// Reads events until `pick` takes one. Receipts that it drops are ignored messages.
    async fn expect<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(NetworkEvent) -> Option<T>,
    ) -> T {
        within(what, async {
            loop {
                let event = self.events.recv().await.expect("the network runs");
                if let Some(picked) = pick(event) {
                    return picked;
                }
            }
        })
        .await
    }

    async fn connected_to(&mut self, peer: PublicKey) {
        self.expect("a connection", |event| {
            matches!(event, NetworkEvent::Connected(key) if key == peer).then_some(())
        })
        .await;
    }

    async fn disconnected_from(&mut self, peer: PublicKey) {
        self.expect("a disconnection", |event| {
            matches!(event, NetworkEvent::Disconnected(key) if key == peer).then_some(())
        })
        .await;
    }

    /// Waits for this vote by gossip, and accepts it and what comes before it.
    async fn receives(&mut self, height: u64) {
        self.expect(&format!("vote {height}"), |event| {
            let NetworkEvent::Consensus { message, judgement, .. } = event else { return None };
            judgement.accept();
            (height_of(&message) == height).then_some(())
        })
        .await;
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        within("the stop", async { while self.events.recv().await.is_some() {} }).await;
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("no {what} in time"))
}

/// Waits until a condition holds.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    within(what, async {
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        while !condition() {
            tick.tick().await;
        }
    })
    .await;
}

/// `count` nodes with keys 1, 2, …, each connected to all others.
async fn full_mesh(count: u8, limits: &Limits) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for seed in 1..=count {
        let peers = (1..=count)
            .filter(|other| *other != seed)
            .map(|other| {
                peer(other, nodes.get(usize::from(other) - 1).map_or(&[], Node::addresses))
            })
            .collect();
        nodes.push(
            Node::start(NetworkConfig { limits: limits.clone(), ..config(seed, peers) }).await,
        );
    }
    for node in &nodes {
        let mut connected = node.handle.connected();
        let all = connected.wait_for(|peers| peers.len() == usize::from(count) - 1);
        within("a full mesh", all).await.expect("the network runs");
    }
    nodes
}

/// A consensus message that is told from others by its height.
fn vote(height: u64) -> v1::ConsensusMessage {
    padded_vote(height, 64)
}

fn padded_vote(height: u64, signature_bytes: usize) -> v1::ConsensusMessage {
    let vote = v1::Vote { height, signature: vec![9; signature_bytes], ..v1::Vote::default() };
    v1::ConsensusMessage { message: Some(v1::consensus_message::Message::Vote(vote)) }
}

fn height_of(message: &v1::ConsensusMessage) -> u64 {
    match &message.message {
        Some(v1::consensus_message::Message::Vote(vote)) => vote.height,
        other => panic!("a vote expected, not {other:?}"),
    }
}

/// A listed peer that says whatever it is told to: the same behaviours, without the rules.
struct Intruder {
    orders: mpsc::UnboundedSender<Order>,
}

enum Order {
    Gossip(TopicHash, Vec<u8>),
    Request(PublicKey, Box<v1::SyncRequest>),
}

impl Intruder {
    /// Starts it; ready once all its peers have subscribed to both topics.
    async fn start(config: NetworkConfig) -> Self {
        let peers = Peers::new(&config).expect("peers");
        let mut swarm =
            behaviour::swarm(&config, &peers, &NetworkMetrics::default()).expect("a swarm");
        for address in config.peers.iter().flat_map(|peer| &peer.addresses) {
            swarm.dial(address.clone()).expect("dials");
        }
        let mut subscriptions = 2 * config.peers.len();
        within("a subscription", async {
            while subscriptions > 0 {
                if let SwarmEvent::Behaviour(BehaviourEvent::Gossip(
                    libp2p::gossipsub::Event::Subscribed { .. },
                )) = swarm.select_next_some().await
                {
                    subscriptions -= 1;
                }
            }
        })
        .await;
        let (orders, mut receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = swarm.select_next_some() => {}
                    order = receiver.recv() => match order {
                        Some(Order::Gossip(topic, data)) => {
                            // Once cut off, there is nobody to publish to.
                            let _ = swarm.behaviour_mut().gossip.publish(topic, data);
                        }
                        Some(Order::Request(to, request)) => {
                            let to = peers::peer_id(&to);
                            swarm.behaviour_mut().sync.send_request(&to, Ok(*request));
                        }
                        None => return,
                    },
                }
            }
        });
        Self { orders }
    }

    fn order(&self, order: Order) {
        self.orders.send(order).expect("the intruder runs");
    }
}
