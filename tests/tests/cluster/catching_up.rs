//! Nodes that lost their store or their journal, and keys that exist twice.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use customhouse_consensus::Message;
use customhouse_ledger::{
    finality::vote::{Ballot, Vote, VoteKind},
    hash::Hash,
};
use customhouse_proto::v1::{GetStatusResponse, sync_request::Request};
use customhouse_tests::{
    cluster::Cluster,
    links::Flow,
    listed_liar::{Answer, ListedLiar},
    load::nothing_is_lost_though_wiped,
    program,
    wait::{PATIENCE, until},
};

use crate::agreement::submit_final;

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_node_catches_up_unaided_to_the_same_roots_and_signs_again() {
    let mut cluster = Cluster::start(4).await;
    let mut promises = Vec::new();
    for number in 0..40 {
        promises.push(submit_final(&cluster, number % 4, &format!("{number}"), "wiped").await);
    }
    cluster.kill(1);
    cluster.wipe(1);
    cluster.restart(1).await;
    let head = cluster.same_head(&[0, 1, 2, 3], 40).await;
    until("the node knows that it has caught up", PATIENCE, async || {
        let status = cluster.status(1).await.map_err(|error| error.to_string())?;
        if status.signing && !status.catching_up { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    nothing_is_lost_though_wiped(&cluster, "wiped", &promises).await;
    // With another one dead, three of four are needed: the wiped one's votes count.
    cluster.kill(2);
    promises.push(submit_final(&cluster, 1, "voted", "wiped").await);
    assert!(cluster.same_head(&[0, 1, 3], head.height + 1).await.log_size > head.log_size);
    assert_eq!(cluster.metric(0, "customhouse_evidence_total"), 0);
}

/// Has a node ask for blocks that nobody has, and leaves it without an answer.
async fn claims_far_blocks(liar: &ListedLiar, node: usize) {
    let asked = Arc::new(AtomicBool::new(false));
    let was_asked = Arc::clone(&asked);
    liar.answer_with(move |_, request| match &request.request {
        Some(Request::Blocks(_)) => {
            was_asked.store(true, Ordering::Relaxed);
            Answer::Silence
        }
        _ => Answer::Refuse,
    });
    until("the liar is connected", PATIENCE, async || {
        if liar.is_connected_to(node) { Ok(()) } else { Err("not yet".into()) }
    })
    .await;
    let (kind, height, block_hash) = (VoteKind::Notarize, 1_000_000, Hash([1; 32]));
    let ballot = Ballot { kind, height, view: 1, block_hash };
    liar.push(node, &Message::Vote(Vote::sign(ballot, &liar.chain_id, &liar.validator)));
    until("the node asks for blocks", PATIENCE, async || {
        if asked.load(Ordering::Relaxed) { Ok(()) } else { Err("not yet".into()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_knows_that_it_has_caught_up_whatever_a_peer_claims_and_does_not_give() {
    let mut cluster = Cluster::start_with_links(4).await;
    let mut promises = vec![submit_final(&cluster, 0, "before", "claims").await];
    cluster.same_head(&[0, 1, 2, 3], 1).await;
    cluster.kill(2);
    for number in 0..5 {
        promises.push(submit_final(&cluster, 0, &format!("without-{number}"), "claims").await);
    }
    let head = cluster.same_head(&[0, 1, 3], 6).await;
    cluster.kill(3);
    // At first the liar alone can be asked.
    for other in [0, 1] {
        cluster.links().set_both(other, 2, Flow::Cut);
    }
    cluster.restart(2).await;
    let liar = ListedLiar::beside(&cluster, 3).await;
    claims_far_blocks(&liar, 2).await;
    for other in [0, 1] {
        cluster.links().set_both(other, 2, Flow::Open);
    }
    cluster.reaches(2, head.height).await;
    promises.push(submit_final(&cluster, 2, "after", "claims").await);
    drop(liar);
    cluster.restart(3).await;
    cluster.same_head(&[0, 1, 2, 3], head.height + 1).await;
    nothing_is_lost_though_wiped(&cluster, "claims", &promises).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_with_the_same_key_refuses_to_start() {
    let mut cluster = Cluster::start(4).await;
    submit_final(&cluster, 0, "before", "second").await;
    // The same keys with a store, ports and all else of its own.
    let config = &cluster.agency(0).config;
    let text = fs::read_to_string(&config.file).expect("a configuration");
    let spare = Cluster::lay_out(4);
    // Nor has it the vault, which one process at a time has too.
    let text = text.split("[vault]").next().expect("what stands before");
    let mut text = text.replace("data_dir = \"data\"", "data_dir = \"second\"");
    for (own, other) in [
        (port(&config.api.listen), port(&spare.agency(0).config.api.listen)),
        (metrics_port(&cluster), metrics_port(&spare)),
        (tlog_port(&cluster), tlog_port(&spare)),
        (peer_port(&cluster), peer_port(&spare)),
    ] {
        text = text.replace(&own, &other);
    }
    let second = config.file.with_file_name("second.toml");
    fs::write(&second, text).expect("writable");
    let run = ["node", "run", "--config", second.to_str().expect("a path of ours")];
    let answer = program::run(run).expect_code(1);
    assert!(answer.stderr.contains("validator.journal"), "{}", answer.stderr);
    assert!(answer.stderr.contains("another process"), "{}", answer.stderr);
    submit_final(&cluster, 0, "after", "second").await;
    assert!(cluster.terminate(0).await.success());
}

fn port(address: &std::net::SocketAddr) -> String {
    format!(":{}\"", address.port())
}

fn metrics_port(cluster: &Cluster) -> String {
    port(&cluster.agency(0).config.metrics.as_ref().expect("the layout has it").listen)
}

fn tlog_port(cluster: &Cluster) -> String {
    port(&cluster.agency(0).config.tlog.as_ref().expect("the layout has it").listen)
}

fn peer_port(cluster: &Cluster) -> String {
    let address = cluster.agency(0).config.network.listen[0].to_string();
    format!("{}\"", &address[address.rfind('/').expect("a port")..])
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_journal_a_key_does_not_sign_and_the_node_follows() {
    let mut cluster = Cluster::start(4).await;
    submit_final(&cluster, 0, "before", "journal").await;
    cluster.kill(3);
    let journal = cluster.agency(3).config.journal_path();
    let stale = fs::read(&journal).expect("there is one");
    fs::remove_file(&journal).expect("it is ours");
    cluster.restart(3).await;
    let status = follows_without_signing(&mut cluster, "missing").await;
    assert!(mentions(&status, &journal) && status.signing_reason.contains("missing"), "{status:?}");
    // Nor with one that is damaged in its middle.
    cluster.kill(3);
    let mut damaged = stale;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&journal, damaged).expect("writable");
    cluster.restart(3).await;
    let status = follows_without_signing(&mut cluster, "damaged").await;
    assert!(mentions(&status, &journal), "{status:?}");
}

fn mentions(status: &GetStatusResponse, path: &Path) -> bool {
    status.signing_reason.contains(&path.display().to_string())
}

/// The node follows the others and answers, and says why it does not sign.
async fn follows_without_signing(cluster: &mut Cluster, event_id: &str) -> GetStatusResponse {
    let promise = submit_final(cluster, 0, event_id, "journal").await;
    let through_it = submit_final(cluster, 3, &format!("{event_id}-3"), "journal").await;
    cluster.same_head(&[0, 1, 2, 3], 1).await;
    nothing_is_lost_though_wiped(cluster, "journal", &[promise, through_it]).await;
    let status = cluster.status(3).await.expect("it runs");
    assert!(!status.signing, "{status:?}");
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_old_journal_a_node_stops_signing_when_its_peers_remember_more() {
    let mut cluster = Cluster::start(4).await;
    submit_final(&cluster, 0, "first", "stale").await;
    cluster.same_head(&[0, 1, 2, 3], 1).await;
    let journal = cluster.agency(3).config.journal_path();
    cluster.kill(3);
    let old = fs::read(&journal).expect("there is one");
    cluster.restart(3).await;
    // Two of four: the height cannot be decided, and its votes stay with the peers.
    cluster.kill(1);
    cluster.kill(2);
    let client = cluster.client(0, "broker");
    let record = customhouse_tests::records::submission("open", "stale");
    client.submit_records(vec![record], false).await.expect("accepted");
    // When it signs for the second time, its first vote has left: 0 has it.
    let voted = grows(&journal, old.len()).await;
    grows(&journal, voted).await;
    cluster.kill(3);
    fs::write(&journal, &old).expect("writable");
    cluster.restart(3).await;
    until("the node stops signing", PATIENCE, async || {
        let status = cluster.status(3).await.map_err(|error| error.to_string())?;
        if status.signing { Err("it signs".into()) } else { Ok(()) }
    })
    .await;
    let status = cluster.status(3).await.expect("it runs");
    assert!(!status.signing_reason.is_empty());
    for node in [1, 2] {
        cluster.restart(node).await;
    }
    submit_final(&cluster, 0, "after", "stale").await;
    cluster.same_head(&[0, 1, 2, 3], 2).await;
    assert_eq!(cluster.metric(0, "customhouse_evidence_total"), 0, "it signed nothing twice");
}

/// Waits until a file has more bytes, and tells how many.
async fn grows(path: &Path, bytes: usize) -> usize {
    until("the journal grows", PATIENCE, async || {
        let now = fs::read(path).expect("there is one").len();
        if now > bytes { Ok(now) } else { Err(format!("{now} bytes")) }
    })
    .await
}
