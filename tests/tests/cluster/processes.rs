//! A node among what its process may meet: a log that cannot be written, few descriptors and many
//! strangers.

use std::net::{Ipv4Addr, SocketAddr};

use customhouse_node::descriptors::Descriptors;
use customhouse_proto::v1;
use customhouse_tests::{
    cluster::Cluster,
    load::Acknowledged,
    node_process::StandardError,
    records::submission,
    wait::{PATIENCE, until},
};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::net::{TcpSocket, TcpStream};

/// Records that are submitted to a node to see that it works.
const RECORDS: usize = 40;

/// Submits records to one node, one after the other, and waits until each is final.
pub(crate) async fn works(cluster: &Cluster, node: usize, case: &str) {
    let client = cluster.client(node, "broker");
    for number in 0..RECORDS {
        let record = submission(&format!("{case}/{number}"), case);
        until("the node takes a record, and it becomes final", PATIENCE, async || {
            let results = client.submit_records(vec![record.clone()], true).await;
            let results = results.map_err(|error| error.to_string())?;
            let acknowledged = Acknowledged::read(&results[0]).and_then(|taken| taken.place);
            acknowledged.map(|_| ()).ok_or_else(|| format!("{results:?}"))
        })
        .await;
    }
}

async fn lines_are_lost(cluster: &Cluster, node: usize) {
    until("lines of the log are lost", PATIENCE, async || {
        match cluster.metric(node, "customhouse_log_lines_lost_total") {
            0 => Err("none".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_log_cannot_be_written_works_on_and_counts_the_lines() {
    let mut cluster = Cluster::start(4).await;
    cluster.log_filter(2, "trace");
    for (standard_error, leaves) in
        [(StandardError::Full, false), (StandardError::Pipe, false), (StandardError::Pipe, true)]
    {
        let case = format!("{standard_error:?}/{leaves}");
        assert!(cluster.terminate(2).await.success(), "{case}");
        cluster.surroundings(2).standard_error = standard_error;
        cluster.restart(2).await;
        cluster.reaches(2, 0).await;
        if leaves {
            cluster.hang_up(2);
        }
        works(&cluster, 2, &case).await;
        // What waits for a reader is not lost yet.
        if leaves || standard_error == StandardError::Full {
            lines_are_lost(&cluster, 2).await;
        }
        works(&cluster, 2, &format!("{case}/then")).await;
        let health = cluster.health(2).expect("served");
        assert_eq!(health.status, 200, "{case}: {}", health.text());
    }
    // It ends as it should, though its last words are not heard.
    assert!(cluster.terminate(2).await.success());
    cluster.same_head(&[0, 1, 3], 1).await;
}

/// Idle connections to a port, from several addresses of one network and of others. Some may have been
/// closed by the node already.
async fn strangers(port: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for number in 0..count {
        let last = u8::try_from(2 + number % 4).expect("small");
        let network = u8::try_from(number % 3).expect("small");
        let socket = TcpSocket::new_v4().expect("this process may open more");
        socket.bind((Ipv4Addr::new(127, 0, network, last), 0).into()).expect("loopback");
        held.push(socket.connect(port).await.expect("the node listens"));
    }
    held
}

/// Some megabytes that do not compress, in records of one client.
async fn some_load(cluster: &Cluster, node: usize, case: &str) {
    const SEED: u64 = 7;
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let client = cluster.client(node, "broker");
    for call in 0..40 {
        let with_source = |number| {
            let mut submission = submission(&format!("{case}/{call}/{number}"), case);
            let mut content = vec![0; 30_000];
            rng.fill(&mut content[..]);
            if let Some(record) = &mut submission.record {
                record.source = Some(v1::Source { content, ..Default::default() });
            }
            submission
        };
        let records: Vec<_> = (0..10).map(with_source).collect();
        until("the node takes records, and they become final", PATIENCE, async || {
            let results = client.submit_records(records.clone(), true).await;
            let results = results.map_err(|error| error.to_string())?;
            let all =
                results.iter().all(|r| Acknowledged::read(r).is_some_and(|a| a.place.is_some()));
            if all { Ok(()) } else { Err(format!("{results:?}")) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_take_nothing_that_the_store_the_peers_or_the_operator_need() {
    // For this end of the connections.
    Descriptors::claim().expect("a test needs some thousand descriptors");
    let mut cluster = Cluster::start(4).await;
    assert!(cluster.terminate(2).await.success());
    cluster.surroundings(2).descriptors_max = Some(1024);
    cluster.restart(2).await;
    cluster.reaches(2, 0).await;
    let config = &cluster.agency(2).config;
    let (metrics, grpc) = (config.metrics.as_ref().expect("there").listen, config.api.listen);
    let mut held = strangers(metrics, 1_100).await;
    held.extend(strangers(grpc, 1_300).await);
    some_load(&cluster, 2, "strangers").await;
    held.extend(strangers(grpc, 300).await);
    works(&cluster, 2, "more strangers").await;
    let status = cluster.status(2).await.expect("the operator gets through");
    assert_eq!(status.peers_connected, 3, "{status:?}");
    let health = cluster.health(2).expect("served");
    assert_eq!(health.status, 200, "{}", health.text());
    drop(held);
    assert!(cluster.terminate(2).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_raises_a_low_limit_and_does_not_start_where_it_cannot() {
    let mut cluster = Cluster::start(4).await;
    assert!(cluster.terminate(1).await.success());
    cluster.surroundings(1).descriptors_at_first = Some(256);
    cluster.restart(1).await;
    works(&cluster, 1, "raised").await;
    assert!(cluster.terminate(1).await.success());
    cluster.surroundings(1).descriptors_max = Some(256);
    cluster.start_node(1);
    let ended = cluster.exit(1).await;
    assert_eq!(ended.code(), Some(1), "{}", cluster.log(1));
    assert!(cluster.log(1).contains("LimitNOFILE"), "{}", cluster.log(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_that_check_serve_and_seal_are_nicer_than_those_of_consensus() {
    let cluster = Cluster::start(4).await;
    // Node 0 checks what the others gossip.
    works(&cluster, 1, "nice").await;
    let threads = cluster.niceness(0);
    let of = |wanted: &str| -> Vec<i64> {
        let named = threads.iter().filter(|(name, _)| name == wanted);
        named.map(|(_, nice)| *nice).collect()
    };
    let consensus = of("driver");
    assert_eq!(consensus.len(), 1, "{threads:?}");
    let nicer = |nice: &i64| *nice > consensus[0];
    for name in ["servers", "submissions"] {
        assert!(!of(name).is_empty() && of(name).iter().all(nicer), "{name}: {threads:?}");
    }
    let network = of("tokio-rt-worker");
    assert!(network.iter().any(nicer) && !network.iter().all(nicer), "{threads:?}");
}
