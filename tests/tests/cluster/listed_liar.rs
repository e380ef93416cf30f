//! A listed peer that gossips and pushes what is wrong: it is found out and cut off, and it makes no honest
//! peer look as if it had done it.

use bytes::Bytes;
use customhouse_consensus::Message;
use customhouse_ledger::{
    hash::Hash,
    keys::SigningKey,
    record::{ValidRecord, dedupe_key},
    transaction::VerifiedTransaction,
    vote::{Ballot, Vote, VoteKind},
};
use customhouse_proto::v1;
use customhouse_tests::{
    cluster::Cluster,
    links::Flow,
    listed_liar::ListedLiar,
    load::nothing_is_lost,
    records::alert,
    wait::{PATIENCE, until},
};
use prost::Message as _;

use crate::agreement::submit_final;

/// Counts what a node's network dropped.
pub(crate) fn dropped(cluster: &Cluster, node: usize, reason: &str) -> u64 {
    let name = format!("customhouse_network_dropped_total{{reason=\"{reason}\"}}");
    cluster.metric_or_none(node, &name).unwrap_or(0)
}

async fn cuts_off(cluster: &Cluster, node: usize) {
    until("somebody is cut off", PATIENCE, async || {
        let count = dropped(cluster, node, "cut_off");
        if count > 0 { Ok(()) } else { Err(format!("node {node} has cut off nobody")) }
    })
    .await;
}

/// Pushes forged votes to a node until it hangs up.
async fn push_forged_votes(cluster: &Cluster, liar: &ListedLiar, node: usize) {
    // Of an honest validator, and not by it.
    let victim = cluster.genesis().validators().at(0).expect("four validators").key;
    let forger = SigningKey::from_seed(&[9; 32]);
    until("the node hangs up", PATIENCE, async || {
        if !liar.is_connected_to(node) {
            return Ok(());
        }
        let status = cluster.status(node).await.map_err(|error| error.to_string())?;
        // Of the height in progress, and of the next.
        for height in [status.height + 1, status.height + 2] {
            let block_hash = Hash([height as u8; 32]);
            let ballot = Ballot { kind: VoteKind::Notarize, height, view: 1, block_hash };
            let forged = Vote::sign(ballot, &liar.chain_id, &forger);
            liar.push(node, &Message::Vote(Vote { validator: victim, ..forged }));
        }
        Err("it listens".into())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_pushes_forged_votes_is_cut_off_by_each_node_and_the_honest_stay_connected() {
    let mut cluster = Cluster::start(4).await;
    let mut promises = vec![submit_final(&cluster, 0, "before", "pushes").await];
    assert!(cluster.terminate(3).await.success());
    let liar = ListedLiar::start(&cluster, 3).await;
    let attack = async {
        for node in 0..3 {
            push_forged_votes(&cluster, &liar, node).await;
        }
    };
    let work = async {
        let mut promises = Vec::new();
        for number in 0..30 {
            let alert_id = format!("during-{number}");
            promises.push(submit_final(&cluster, number % 3, &alert_id, "pushes").await);
        }
        promises
    };
    let ((), during) = tokio::join!(attack, work);
    promises.extend(during);
    for node in 0..3 {
        cuts_off(&cluster, node).await;
        let cut_off = dropped(&cluster, node, "cut_off");
        let peers = cluster.status(node).await.expect("it runs").peers_connected;
        assert_eq!((cut_off, peers), (1, 2), "node {node} has cut off the liar, and nobody else");
    }
    drop(liar);
    cluster.restart(3).await;
    nothing_is_lost(&cluster, "pushes", &promises).await;
}

/// A transaction of one record.
fn transaction(liar: &ListedLiar, agency: &str, key: &SigningKey, number: u64) -> Bytes {
    let record = v1::Record {
        salt: vec![9; 16],
        agency: agency.into(),
        submitter: "broker".into(),
        ..alert(&format!("liar-{number}"), "liar")
    };
    let record = ValidRecord::from_record(record).expect("valid");
    let agency = agency.parse().expect("a code");
    let slot = (record, dedupe_key(&agency, "broker", &format!("liar-{number}")));
    let signed = VerifiedTransaction::sign(&[slot], agency, in_a_minute(), &liar.chain_id, key);
    signed.expect("valid").encoded().clone()
}

fn in_a_minute() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(now.expect("after 1970").as_millis()).expect("long until then") + 60_000
}

/// The same name with another body.
fn with_junk(transaction: &Bytes, number: u8) -> Bytes {
    let mut parts = v1::Transaction::decode(&transaction[..]).expect("a transaction");
    parts.records = vec![vec![number; 100].into()];
    parts.encode_to_vec().into()
}

fn taken(cluster: &Cluster, node: usize) -> u64 {
    let name = "customhouse_network_messages_in_total{channel=\"transactions\"}";
    cluster.metric_or_none(node, name).unwrap_or(0)
}

/// Two honest nodes, of four, and a liar that is connected to the first of them alone.
async fn two_in_a_row() -> (Cluster, ListedLiar) {
    let mut cluster = Cluster::start_with_links(4).await;
    submit_final(&cluster, 0, "before", "row").await;
    cluster.same_head(&[0, 1, 2, 3], 1).await;
    // No quorum: what is admitted waits.
    cluster.kill(2);
    cluster.kill(3);
    cluster.links().set_both(3, 1, Flow::Cut);
    let liar = ListedLiar::beside(&cluster, 3).await;
    until("a connection", PATIENCE, async || {
        if liar.is_connected_to(0) { Ok(()) } else { Err("none".into()) }
    })
    .await;
    (cluster, liar)
}

/// Sends a transaction that the first node takes, and waits until the second has it too.
async fn passes(cluster: &Cluster, liar: &ListedLiar, number: u64) -> Bytes {
    let code = cluster.agency(3).code().to_string();
    let waiting = async || cluster.status(1).await.map(|status| status.mempool_transactions);
    let before = waiting().await.expect("it runs");
    let good = transaction(liar, &code, &liar.signing, number);
    liar.gossip_transaction(good.clone());
    until("the transaction passes", PATIENCE, async || {
        let now = waiting().await.map_err(|error| error.to_string())?;
        if now > before { Ok(()) } else { Err(format!("{now} are waiting")) }
    })
    .await;
    good
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_are_not_admitted_are_not_passed_on() {
    let (cluster, liar) = two_in_a_row().await;
    let before = taken(&cluster, 1);
    let code = cluster.agency(3).code().to_string();
    let unregistered = SigningKey::from_seed(&[77; 32]);
    for number in 0..200 {
        liar.gossip_transaction(transaction(&liar, &code, &unregistered, number));
        // Another agency's name, which it cannot sign for.
        let other = cluster.agency(1).code().to_string();
        liar.gossip_transaction(transaction(&liar, &other, &liar.signing, 1000 + number));
    }
    until("all have come", PATIENCE, async || {
        let refused = |reason: &str| {
            let labels = format!("{{surface=\"gossip\",reason=\"{reason}\"}}");
            cluster.metric_or_none(0, &format!("customhouse_rejected_total{labels}")).unwrap_or(0)
        };
        let count = refused("UNKNOWN_SIGNER").min(refused("OTHER_AGENCY"));
        if count == 200 { Ok(()) } else { Err(format!("{count} of 200")) }
    })
    .await;
    passes(&cluster, &liar, 5000).await;
    assert_eq!(taken(&cluster, 1), before + 1, "that one, and nothing before it");
    assert!(liar.is_connected_to(0), "registries differ: that is nobody's fault");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_transaction_with_another_body_is_held_against_who_sent_it_and_goes_no_further() {
    let (cluster, liar) = two_in_a_row().await;
    let waiting = passes(&cluster, &liar, 1).await;
    let before = taken(&cluster, 1);
    let faults = || dropped(&cluster, 0, "rejected");
    for number in 0.. {
        if dropped(&cluster, 0, "cut_off") > 0 {
            break;
        }
        let before = faults();
        liar.gossip_transaction(with_junk(&waiting, number));
        // One at a time: what is sent in quick succession travels together, and is one fault.
        until("the fault is counted", PATIENCE, async || {
            if faults() > before { Ok(()) } else { Err("not yet".into()) }
        })
        .await;
    }
    assert_eq!(taken(&cluster, 1), before, "nothing was passed on");
    assert_eq!(dropped(&cluster, 1, "rejected"), 0);
    assert_eq!(cluster.status(1).await.expect("it runs").peers_connected, 1);
}
