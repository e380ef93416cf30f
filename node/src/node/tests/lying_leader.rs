//! A leader that serves two nodes, and the third only just, lets its block be decided, and falls
//! silent: the third holds a finalization of a block that it does not have.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use customhouse_ledger::{
    chain::{BlockContext, Chain},
    finality::{header::Block, vote::Proposal},
    merkle::root_of_hashes,
};
use customhouse_proto::v1::{sync_request::Request, sync_response::Response};
use libp2p::Multiaddr;
use tokio::sync::Semaphore;

use super::{large::signed_large, *};
use crate::network::{NetworkHandle, Reply};

/// Transactions that nobody has but the leader.
const UNPUBLISHED: u64 = 40;
/// How long it takes for each body that it gives the third: less than a request may take.
const DRIP: Duration = Duration::from_secs(10);

/// How the leader treats the third.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Third {
    /// One body at a time, slowly.
    Drips,
    /// One body at a time, at once, and the same again.
    Repeats,
    /// No answer.
    Silence,
}

struct Leader {
    agency: usize,
    victim: PublicKey,
    third: Third,
    block: Block,
    bodies: HashMap<Vec<u8>, Bytes>,
    /// Closed when it falls silent.
    speaks: Arc<Semaphore>,
}

impl Leader {
    /// Its block of height 1, made on the store that its node has left.
    async fn new(network: &Network, agency: usize, victim: usize, third: Third) -> Self {
        let path = network.folder.path().join(format!("{agency}-store"));
        let open = || Chain::open(&path, &network.genesis, &StoreOptions::default()).ok();
        // Its last tasks may be reading it still.
        let opened = async {
            loop {
                match open() {
                    Some(chain) => return chain,
                    None => tokio::task::yield_now().await,
                }
            }
        };
        let chain = tokio::time::timeout(DEADLINE, opened).await.expect("the store it left");
        let chain_id = network.genesis.chain_id();
        let signed = |number| {
            let mrn = format!("UNPUBLISHED{number}");
            Arc::new(signed_record(chain_id, agency, (1_000 + number, &mrn)))
        };
        let context = BlockContext {
            view: 1,
            proposer: key(1, agency).public(),
            time_ms: crate::clock::unix_ms(),
            bytes_max: u64::MAX,
        };
        let staged = chain.prepare(&context, (0..UNPUBLISHED).map(signed)).expect("read").staged;
        let body = |t: &Arc<VerifiedTransaction>| (t.leaf_hash().0.to_vec(), t.encoded().clone());
        Self {
            agency,
            victim: key(2, victim).public(),
            third,
            block: staged.block().clone(),
            bodies: staged.transactions().iter().map(body).collect(),
            speaks: Arc::new(Semaphore::new(0)),
        }
    }

    /// Proposes its block, votes for it in every way, and answers.
    async fn run(
        self: Arc<Self>,
        network: NetworkHandle,
        mut events: mpsc::Receiver<NetworkEvent>,
    ) {
        while let Some(event) = events.recv().await {
            match event {
                NetworkEvent::Connected(peer) => {
                    for message in self.says() {
                        network.push(peer, message.to_proto());
                    }
                }
                NetworkEvent::Request { from, request, reply } => {
                    tokio::spawn(Arc::clone(&self).answer(from, request, reply));
                }
                _ => {}
            }
        }
    }

    fn says(&self) -> Vec<Message> {
        let (key, chain_id) = (key(1, self.agency), self.block.header.chain_id);
        let vote = |kind| {
            let ballot = Ballot { kind, height: 1, view: 1, block_hash: self.block.hash() };
            Message::Vote(Vote::sign(ballot, &chain_id, &key))
        };
        let proposal = Proposal::sign(self.block.clone(), 1, 0, &chain_id, &key);
        let votes = [VoteKind::Notarize, VoteKind::Finalize].map(vote);
        std::iter::once(Message::Proposal(proposal)).chain(votes).collect()
    }

    async fn answer(self: Arc<Self>, from: PublicKey, request: v1::SyncRequest, reply: Reply) {
        let Some(Request::Transactions(asked)) = request.request else {
            return self.fall_silent(reply).await;
        };
        let found = |leaf: &Vec<u8>| self.bodies.get(leaf).cloned();
        let mut transactions: Vec<_> = asked.leaves.iter().filter_map(found).collect();
        if from == self.victim {
            match self.third {
                Third::Repeats => transactions.truncate(1),
                Third::Silence => return self.fall_silent(reply).await,
                Third::Drips => {
                    transactions.truncate(1);
                    let _closed = tokio::time::timeout(DRIP, self.speaks.acquire()).await;
                }
            }
        }
        if self.speaks.is_closed() {
            return self.fall_silent(reply).await;
        }
        let answer = Response::Transactions(v1::TransactionsResponse { transactions });
        reply.send(v1::SyncResponse { response: Some(answer) });
    }

    /// Keeps whoever asked waiting.
    async fn fall_silent(&self, reply: Reply) {
        let _held = reply;
        std::future::pending::<()>().await;
    }
}

async fn a_leader_cannot_stop_the_third(third: Third) {
    let mut network = Network::start(4).await;
    let tip = network.shared(0).reader.tip();
    let leads = tip.leaders.leader(&tip.validators, 1, 1);
    let leader = (0..4).find(|i| key(1, *i).public() == leads).expect("one of them");
    let honest: Vec<usize> = (0..4).filter(|i| *i != leader).collect();
    network.stop_node(leader).await;
    let peer = |&i: &usize| PeerConfig {
        key: key(2, i).public(),
        agency: code(i),
        addresses: vec![network.addresses[i].clone()],
    };
    let shutdown = CancellationToken::new();
    let anywhere: Multiaddr = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
    let config = NetworkConfig {
        identity: key(2, leader),
        chain_id: network.genesis.chain_id(),
        listen: vec![anywhere],
        peers: honest.iter().map(peer).collect(),
        limits: Limits::default(),
    };
    let liar = Arc::new(Leader::new(&network, leader, honest[2], third).await);
    let (handle, events) = network::spawn(config, shutdown.clone()).await.expect("started");
    tokio::spawn(Arc::clone(&liar).run(handle, events));
    let two_commit = async {
        while honest[..2].iter().any(|i| network.shared(*i).reader.tip().header.height < 1) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, two_commit).await.expect("the two that it serves commit");
    liar.speaks.close();
    let record_id = network.submit(honest[0], 0).await;
    let end = network.finality(honest[0], record_id).await;
    assert!(matches!(end, End::Final { .. }), "{third:?}: {end:?}");
    for &i in &honest {
        let log_size = network.shared(i).reader.tip().header.log_size;
        assert!(log_size >= UNPUBLISHED, "{third:?}: node {i} has {log_size}");
    }
    shutdown.cancel();
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_drips_bodies_to_one_node_cannot_stop_it() {
    a_leader_cannot_stop_the_third(Third::Drips).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_gives_one_node_one_body_again_and_again_cannot_stop_it() {
    a_leader_cannot_stop_the_third(Third::Repeats).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_never_answers_one_node_cannot_stop_it() {
    a_leader_cannot_stop_the_third(Third::Silence).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_with_more_bodies_than_a_block_may_have_is_refused_before_they_are_here() {
    const BODIES: u64 = 48;
    /// Bodies of an answer, each above a quarter of what a block may have.
    const AT_ONCE: usize = 3;
    let mut network = Network::start(4).await;
    let tip = network.shared(0).reader.tip();
    let leads = tip.leaders.leader(&tip.validators, 1, 1);
    let leader = (0..4).find(|i| key(1, *i).public() == leads).expect("one of them");
    let victim = (0..4).find(|i| *i != leader).expect("another");
    network.stop_node(leader).await;
    let chain_id = network.genesis.chain_id();
    let bodies: Vec<_> = (0..BODIES).map(|number| signed_large(chain_id, leader, number)).collect();
    let mut block = Leader::new(&network, leader, victim, Third::Silence).await.block.clone();
    block.leaves = bodies.iter().map(|body| body.leaf_hash()).collect();
    block.header.log_size = BODIES;
    block.header.log_root = root_of_hashes(block.leaves.iter().copied());
    let encoded =
        |body: &VerifiedTransaction| (body.leaf_hash().0.to_vec(), body.encoded().clone());
    let bodies: HashMap<Vec<u8>, Bytes> = bodies.iter().map(encoded).collect();
    let proposal = Proposal::sign(block, 1, 0, &chain_id, &key(1, leader));
    let config = NetworkConfig {
        identity: key(2, leader),
        chain_id,
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")],
        peers: vec![PeerConfig {
            key: key(2, victim).public(),
            agency: code(victim),
            addresses: vec![network.addresses[victim].clone()],
        }],
        limits: Limits::default(),
    };
    let shutdown = CancellationToken::new();
    let (handle, mut events) = network::spawn(config, shutdown.clone()).await.expect("started");
    let gave = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&gave);
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            match event {
                NetworkEvent::Connected(peer) => {
                    handle.push(peer, Message::Proposal(proposal.clone()).to_proto());
                }
                NetworkEvent::Request { request, reply, .. } => {
                    let Some(Request::Transactions(asked)) = request.request else { continue };
                    let found = |leaf: &Vec<u8>| bodies.get(leaf).cloned();
                    let found = asked.leaves.iter().filter_map(found).take(AT_ONCE);
                    let found: Vec<Bytes> = found.collect();
                    counted.fetch_add(found.len(), Ordering::Relaxed);
                    let answer = v1::TransactionsResponse { transactions: found };
                    reply.send(v1::SyncResponse { response: Some(Response::Transactions(answer)) });
                }
                _ => {}
            }
        }
    });
    let refused = async {
        while !network.shared(victim).metrics.encode().contains("BLOCK_TOO_LARGE") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, refused).await.expect("it is refused");
    // Two answers are enough to know, and a third may have been on its way.
    let taken = gave.load(Ordering::Relaxed);
    assert!(taken <= 3 * AT_ONCE, "{taken} bodies were taken of one proposal");
    shutdown.cancel();
    network.stop().await;
}
