//! What is left for the others while strangers or one greedy member do all that they can to a node.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use customhouse_client::{Client, tls::ClientTls};
use customhouse_files::pem::KeyedCertificate;
use customhouse_node::{identity::Role, tls::Authority};
use customhouse_proto::v1::{self, Phase};
use customhouse_tests::{
    cluster::Cluster,
    records::submission,
    wait::{PATIENCE, until},
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use crate::{
    greedy::{self, CONNECTION_CALLS},
    rubbish::RESIDENT_KIB_MAX,
};

/// Records that are offered at each node, one every so often, whatever became of those before.
const OFFERED: usize = 100;
const PACE: Duration = Duration::from_millis(200);
/// How long after the last was offered they may take to be final.
const GRACE: Duration = Duration::from_secs(40);
/// Strangers' new connections: this many to a port every `NEW_PACE`, 1,200 a second to three ports.
const NEW_CONNECTIONS: usize = 8;
const NEW_PACE: Duration = Duration::from_millis(20);
/// How many of these a port's strangers keep open.
const HELD: usize = 400;
/// What a greedy member submits with a call: records, and the bytes of each; many, or large.
const GREEDY: [(usize, usize); 2] = [(500, 1000), (60, 60_000)];

/// What the write buffers of a node's two stores may hold without being worth writing out.
const BUFFERS_KIB: u64 = 2 * 8 * 1024;

/// What became of what was offered.
#[derive(Debug)]
struct Outcome {
    offered: usize,
    committed: usize,
    median: Duration,
    slowest: Duration,
}

/// Offers records at all nodes at a steady pace.
async fn offer(cluster: &Cluster, case: &'static str) -> Outcome {
    let mut nodes = JoinSet::new();
    let deadline = Instant::now() + PACE * u32::try_from(OFFERED).expect("few") + GRACE;
    for node in 0..cluster.size() {
        let client = cluster.client(node, "broker");
        nodes.spawn(async move {
            let mut calls = JoinSet::new();
            let mut pace = interval(PACE);
            pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for number in 0..OFFERED {
                pace.tick().await;
                let (client, id) = (client.clone(), format!("{case}-{node}-{number}"));
                calls.spawn(async move { final_after(&client, &id, case, deadline).await });
            }
            calls.join_all().await
        });
    }
    let all: Vec<_> = nodes.join_all().await.into_iter().flatten().collect();
    let mut times: Vec<_> = all.iter().copied().flatten().collect();
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or(GRACE);
    let slowest = times.last().copied().unwrap_or(GRACE);
    let outcome = Outcome { offered: all.len(), committed: times.len(), median, slowest };
    let Outcome { offered, committed, median, slowest } = &outcome;
    eprintln!(
        "{case}: {committed} of {offered} final, {median:?} in the median, {slowest:?} at most"
    );
    outcome
}

/// Submits a record as an honest client does, which tries again, and gives how long it took.
async fn final_after(client: &Client, id: &str, case: &str, deadline: Instant) -> Option<Duration> {
    let began = Instant::now();
    let submit = async {
        loop {
            let results = client.submit_records(vec![submission(id, case)], true).await;
            if results.is_ok_and(|results| results[0].phase() == Phase::Final) {
                return began.elapsed();
            }
            sleep_until(Instant::now() + PACE).await;
        }
    };
    tokio::time::timeout_at(deadline, submit).await.ok()
}

impl Outcome {
    fn is_nine_tenths(&self) {
        assert!(self.committed * 10 >= self.offered * 9, "{self:?}");
    }
}

/// Opens connections from addresses of its own, far faster than they are served. Every fourth says something.
async fn strangers(to: SocketAddr, network: u8, words: &'static [u8]) {
    let mut held = std::collections::VecDeque::new();
    let mut pace = interval(NEW_PACE);
    for host in (1..=250).cycle() {
        pace.tick().await;
        for number in 0..NEW_CONNECTIONS {
            let socket = TcpSocket::new_v4().expect("a socket");
            let own = Ipv4Addr::new(127, 1, network, host);
            socket.bind((own, 0).into()).expect("all of 127/8 is this host");
            let connected = timeout(NEW_PACE, socket.connect(to)).await;
            let Ok(Ok(mut stream)) = connected else { continue };
            if number % 4 == 0 {
                let _hung_up = timeout(NEW_PACE, stream.write_all(words)).await;
            }
            held.push_back(stream);
        }
        while held.len() > HELD {
            held.pop_front();
        }
    }
}

/// Handshakes without a certificate, one after the other: each costs the node a signature.
async fn strange_handshakes(to: SocketAddr, tls: Arc<ClientTls>) {
    let mut pace = interval(NEW_PACE);
    loop {
        pace.tick().await;
        // The greedy one's key is another authority's here: it is refused at the end of the handshake.
        let config = tls.client_config().expect("settings");
        let Ok(Ok(tcp)) = timeout(NEW_PACE, TcpStream::connect(to)).await else { continue };
        let name = ServerName::try_from("localhost").expect("a name");
        let _refused =
            timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, tcp)).await;
    }
}

/// A certificate of a node's authority, or of one that has its name only.
fn certificate(cluster: &Cluster, name: &str, is_genuine: bool) -> ClientTls {
    let agency = cluster.agency(0);
    let files = &agency.config.api.tls;
    let keyed = KeyedCertificate::read(&files.ca, &files.ca.with_file_name("ca.key"));
    let keyed = keyed.expect("the layout made it");
    let authority = match is_genuine {
        true => Authority::restore(agency.code(), &keyed).expect("its own"),
        false => Authority::new(agency.code()).expect("made"),
    };
    let own = authority.client(name, Role::Broker).expect("made");
    ClientTls { authority: keyed.certificate, own }
}

/// Submits as much as it can, and waits for nothing.
async fn submit_without_end(client: Client, task: usize) {
    let (count, bytes) = GREEDY[task % GREEDY.len()];
    for call in 0.. {
        let record = |number: usize| {
            let mut submission = submission(&format!("G-{task}-{call}-{number}"), "greed");
            let content = vec![7; bytes];
            let source = v1::Source { format: "test".into(), content, ..Default::default() };
            submission.record.as_mut().expect("an event").source = Some(source);
            submission
        };
        let _taken_or_not = client.submit_records((0..count).map(record).collect(), false).await;
    }
}

/// Asks for what it does not read, and begins calls that it does not finish, over and over.
async fn ask_without_end(endpoint: String, tls: Arc<ClientTls>) {
    let question = greedy::question("GREED");
    loop {
        let mut open = greedy::ask(&endpoint, &tls, &question, 10 * CONNECTION_CALLS).await;
        open.extend(greedy::begin(&endpoint, &tls, 10 * CONNECTION_CALLS).await);
        // Those that the node does not end in a while are left for the next.
        let deadline = Instant::now() + Duration::from_secs(5);
        for open in &mut open {
            let _ended = tokio::time::timeout_at(deadline, &mut open.connection).await;
        }
    }
}

/// A node's memory, and what of it the buffers and caches of its stores fill, in KiB.
#[derive(Debug)]
struct Memory {
    all: u64,
    #[expect(dead_code, reason = "it is printed")]
    of_stores: u64,
}

impl Memory {
    fn of(cluster: &Cluster) -> Self {
        let bytes = |name: &str| cluster.metric(0, &format!("customhouse_{name}_bytes"));
        let parts = ["store_memtables", "store_block_cache", "outbox_memtables"];
        let of_stores = parts.into_iter().map(bytes).sum::<u64>() / 1024;
        let all = cluster.resident_kib(0);
        assert!(of_stores < all && all < RESIDENT_KIB_MAX, "{of_stores} of {all} KiB");
        Self { all, of_stores }
    }
}

/// Waits until a node has at most 1.2 times the memory that it had, and what small buffers hold.
async fn memory_goes_back(cluster: &Cluster, what: &str, before: &Memory) {
    let (at_once, ended) = (Memory::of(cluster), Instant::now());
    let after = until("the memory goes back", PATIENCE, async || {
        let after = Memory::of(cluster);
        let most = before.all * 12 / 10 + BUFFERS_KIB;
        if after.all <= most { Ok(after) } else { Err(format!("{before:?}, {after:?}")) }
    })
    .await;
    let time = ended.elapsed();
    eprintln!("{what}: KiB before {before:?}, at its end {at_once:?}, after {time:?} {after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_leave_the_others_what_they_offer_and_the_memory_as_it_was() {
    let cluster = Cluster::start(4).await;
    offer(&cluster, "control").await.is_nine_tenths();
    let before = Memory::of(&cluster);
    let config = &cluster.agency(0).config;
    let metrics = config.metrics.as_ref().expect("the layout has it").listen;
    let mut attack = JoinSet::new();
    attack.spawn(strangers(config.api.listen, 1, b"\x16\x03\x01"));
    attack.spawn(strangers(metrics, 2, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"));
    attack.spawn(strangers(cluster.peer_address(0), 3, b"\x13/multistream/1.0.0\n"));
    let foreign = Arc::new(certificate(&cluster, "stranger", false));
    attack.spawn(strange_handshakes(config.api.listen, foreign));
    offer(&cluster, "strangers").await.is_nine_tenths();
    attack.shutdown().await;
    memory_goes_back(&cluster, "strangers", &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greedy_member_leaves_the_others_what_they_offer_and_the_memory_as_it_was() {
    let cluster = Cluster::start(4).await;
    let greedy = Arc::new(certificate(&cluster, "greedy", true));
    let endpoint = cluster.agency(0).config.api.listen.to_string();
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(Client::connect(&endpoint, &greedy).await.expect("connected"));
    }
    // What the store's caches hold of so much is not part of the attack.
    let attack = |first: usize| {
        let mut attack = JoinSet::new();
        for task in first..first + 16 {
            attack.spawn(submit_without_end(clients[task % clients.len()].clone(), task));
        }
        attack
    };
    let mut warming = attack(0);
    offer(&cluster, "warming").await;
    warming.shutdown().await;
    cluster.same_head(&[0, 1, 2, 3], 1).await;
    offer(&cluster, "control").await.is_nine_tenths();
    let before = Memory::of(&cluster);
    let accepted = || cluster.metric(0, "customhouse_accepted_records_total");
    let accepted_before = accepted();
    let mut submitting = attack(16);
    offer(&cluster, "submissions").await.is_nine_tenths();
    submitting.shutdown().await;
    eprintln!("{} of the greedy member's were accepted meanwhile", accepted() - accepted_before);
    let mut attack = attack(32);
    attack.spawn(ask_without_end(endpoint, greedy));
    offer(&cluster, "greedy").await.is_nine_tenths();
    attack.shutdown().await;
    drop(clients);
    memory_goes_back(&cluster, "greedy", &before).await;
}
