//! A listed peer that lies: it has a member's keys and speaks the protocol, and what it gossips, pushes
//! and answers is the test's to say.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use customhouse_consensus::Message;
use customhouse_ledger::{
    agency::AgencyCode,
    hash::Hash,
    keys::{PublicKey, SigningKey},
};
use customhouse_node::{
    config::NodeConfig,
    network::{self, NetworkConfig, NetworkEvent, NetworkHandle},
    node::NodeParts,
};
use customhouse_proto::v1;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    cluster::Cluster,
    wait::{PATIENCE, until},
};

/// What is answered to a peer's request; `None` refuses it, and a peer that gets nothing waits.
pub type Answers = dyn Fn(PublicKey, &v1::SyncRequest) -> Answer + Send + Sync;

/// One answer.
#[derive(Debug)]
pub enum Answer {
    /// This.
    Say(Box<v1::SyncResponse>),
    /// None, and the peer is told so.
    Refuse,
    /// Nothing at all until its time is over.
    Silence,
}

/// A node's place on the network, taken with its keys. Gives it up when dropped.
pub struct ListedLiar {
    /// Its key in consensus.
    pub validator: SigningKey,
    /// Its key for transactions.
    pub signing: SigningKey,
    /// The chain that it lies to.
    pub chain_id: Hash,
    network: NetworkHandle,
    /// The other nodes' peer keys, by their number.
    peers: BTreeMap<usize, PublicKey>,
    answers: Arc<Mutex<Arc<Answers>>>,
    _running: DropGuard,
}

impl ListedLiar {
    /// Takes the place of a node that is not running, and waits until all others that run are connected.
    /// It refuses all requests, until [`ListedLiar::answer_with`].
    pub async fn start(cluster: &Cluster, node: usize) -> Self {
        assert!(!cluster.is_started(node), "one process at a time has a peer key");
        let others = (0..cluster.size()).filter(|other| cluster.is_started(*other)).count();
        let liar = Self::beside(cluster, node).await;
        until("the liar is connected", PATIENCE, async || {
            let connected = liar.network.connected().borrow().len();
            if connected >= others { Ok(()) } else { Err(format!("{connected} of {others}")) }
        })
        .await;
        liar
    }

    /// Uses a node's keys whether it runs or not, and waits for nothing. It only dials.
    pub async fn beside(cluster: &Cluster, node: usize) -> Self {
        // As it is now: where the others are dialled may have been changed.
        let config =
            NodeConfig::read(&cluster.agency(node).config.file).expect("the layout made it");
        // One process at a time has the vault.
        let config = NodeConfig { vault: None, ..config };
        let parts = NodeParts::read(&config).expect("its files");
        let listed = parts.genesis.registry.peers_at(1);
        let number = |code: &AgencyCode| {
            (0..cluster.size()).find(|node| cluster.agency(*node).code() == *code)
        };
        let peers = listed.iter().filter_map(|(code, key)| Some((number(code)?, *key)));
        let peers = peers.filter(|(other, _)| *other != node).collect();
        let config = NetworkConfig {
            listen: Vec::new(),
            peers: parts.addresses.of_all(&listed),
            ..parts.network
        };
        let shutdown = CancellationToken::new();
        let (network, mut events) =
            network::spawn(config, shutdown.clone()).await.expect("a network");
        let refuse: Arc<Answers> = Arc::new(|_, _| Answer::Refuse);
        let answers = Arc::new(Mutex::new(refuse));
        let said = Arc::clone(&answers);
        tokio::spawn(async move {
            let mut unanswered = Vec::new();
            while let Some(event) = events.recv().await {
                let NetworkEvent::Request { from, request, reply } = event else { continue };
                let answers = Arc::clone(&said.lock().unwrap_or_else(PoisonError::into_inner));
                match answers(from, &request) {
                    Answer::Say(response) => reply.send(*response),
                    Answer::Refuse => drop(reply),
                    Answer::Silence => unanswered.push(reply),
                }
            }
        });
        Self {
            validator: parts.validator.key,
            signing: parts.signing,
            chain_id: parts.genesis.chain_id(),
            network,
            peers,
            answers,
            _running: shutdown.drop_guard(),
        }
    }

    /// From now on answers requests with `answers`.
    pub fn answer_with(
        &self,
        answers: impl Fn(PublicKey, &v1::SyncRequest) -> Answer + Send + Sync + 'static,
    ) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(answers);
    }

    /// Sends a message to one node alone.
    pub fn push(&self, to: usize, message: &Message) {
        self.network.push(self.peers[&to], message.to_proto());
    }

    /// Sends messages to all nodes by gossip, in one batch where they fit.
    pub fn gossip(&self, messages: &[Message]) {
        self.network.publish_consensus(messages.iter().map(Message::to_proto).collect());
    }

    /// Sends what may be a transaction to all nodes by gossip. Those that are sent in quick succession
    /// travel in one batch.
    pub fn gossip_transaction(&self, encoded: impl Into<Bytes>) {
        self.network.publish_transaction(encoded.into());
    }

    /// A node's peer key.
    pub fn peer(&self, node: usize) -> PublicKey {
        self.peers[&node]
    }

    /// Whether a node has it as a peer now.
    pub fn is_connected_to(&self, node: usize) -> bool {
        let key = self.peers[&node];
        self.network.connected().borrow().iter().any(|peer| peer.key == key)
    }

    /// The network that it speaks through.
    pub fn network(&self) -> &NetworkHandle {
        &self.network
    }
}
