//! A subscriber in another language that is killed again and again, while nodes are.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Child, Stdio},
    sync::{Arc, Mutex},
};

use customhouse_client::Client;
use customhouse_proto::v1::{self, Phase};
use customhouse_tests::{
    cluster::Cluster,
    python,
    records::submission,
    wait::{PATIENCE, until},
};
use tokio::{sync::watch, task::JoinSet};

/// How often the subscriber is killed; every so many times a node is, too.
const KILLS: usize = 50;
const NODE_EVERY: usize = 7;

/// Submits events at a node, one after the other, until it is told to stop; keeps the ids of what is final.
async fn submit(
    client: Client,
    name: String,
    stop: watch::Receiver<bool>,
    kept: Arc<Mutex<BTreeSet<String>>>,
) {
    for number in 0u64.. {
        let event_id = format!("FEED-{name}-{number}");
        while !*stop.borrow() {
            let call = client.submit_records(vec![submission(&event_id, "FEED")], true);
            // A node that is down is asked again when it may be up.
            if let Ok(Ok(results)) = tokio::time::timeout(PATIENCE, call).await
                && let Some(result) = results.first().filter(|r| r.phase() == Phase::Final)
            {
                kept.lock().expect("not poisoned").insert(hex::encode(&result.record_id));
                break;
            }
            tokio::task::yield_now().await;
        }
        if *stop.borrow() {
            return;
        }
    }
}

/// The whole lines of the subscriber's file: the place after each record, and its id.
fn lines(journal: &Path) -> Vec<((u64, u32), String)> {
    let text = fs::read_to_string(journal).unwrap_or_default();
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    let line = |line: &str| {
        let mut parts = line.split(' ');
        let mut next = || parts.next().expect("three parts");
        let place = (next().parse().expect("a number"), next().parse().expect("a number"));
        (place, next().to_owned())
    };
    text[..whole].lines().map(line).collect()
}

fn start(cluster: &Cluster, first: usize, dir: &Path) -> Child {
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
    let mut command = python::program("subscriber.py");
    command.arg("--protos").arg(protos).arg("--generated").arg(dir.join("generated"));
    command.arg("--journal").arg(dir.join("journal"));
    for node in 0..cluster.size() {
        command.arg(cluster.profile((first + node) % cluster.size(), "auditor"));
    }
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
}

/// All records that a node lists, in its order.
async fn listed(client: &Client) -> Vec<String> {
    let (mut ids, mut from) = (Vec::new(), None);
    loop {
        let request = v1::ListRecordsRequest {
            from,
            page_size: 1000,
            without_records: true,
            ..Default::default()
        };
        let page = client.list_records(request).await.expect("a page");
        ids.extend(page.records.iter().map(|record| hex::encode(&record.record_id)));
        if page.at_end {
            return ids;
        }
        from = page.next;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_is_killed_while_nodes_are_killed_and_wiped_sees_each_record_once_in_order()
 {
    let mut cluster = Cluster::start(4).await;
    let dir = tempfile::tempdir().expect("a directory");
    let journal = dir.path().join("journal");
    let (stop, stopping) = watch::channel(false);
    let kept = Arc::new(Mutex::new(BTreeSet::new()));
    let mut clients = JoinSet::new();
    for node in 0..4 {
        let (client, name) = (cluster.client(node, "officer"), node.to_string());
        clients.spawn(submit(client, name, stopping.clone(), Arc::clone(&kept)));
    }
    let mut down = None;
    for kill in 0..KILLS {
        // Each time it begins at another agency's node, with the place that it has from the one before.
        let mut subscriber = start(&cluster, kill % 4, dir.path());
        let before = lines(&journal).len();
        // Killed after one record or a few, in the midst of what it writes.
        let wanted = before + 1 + kill % 5;
        until("the subscriber goes on", PATIENCE, async || match lines(&journal).len() {
            now if now >= wanted => Ok(()),
            now => Err(format!("{now} of {wanted}")),
        })
        .await;
        subscriber.kill().expect("it runs");
        subscriber.wait().expect("it was killed");
        if kill % NODE_EVERY == 0 {
            if let Some(node) = down.take() {
                cluster.restart(node).await;
            }
            let node = (kill / NODE_EVERY) % 4;
            cluster.kill(node);
            // Every other one comes back with nothing, and without the place that a subscriber has.
            if (kill / NODE_EVERY) % 2 == 1 {
                cluster.wipe(node);
            }
            down = Some(node);
        }
    }
    if let Some(node) = down {
        cluster.restart(node).await;
    }
    stop.send_replace(true);
    clients.join_all().await;
    let head = cluster.same_head(&[0, 1, 2, 3], 1).await;
    let expected = listed(&cluster.client(2, "auditor")).await;
    let mut subscriber = start(&cluster, 1, dir.path());
    until("the subscriber has all", PATIENCE, async || match lines(&journal).len() {
        now if now >= expected.len() => Ok(()),
        now => Err(format!("{now} of {} at height {}", expected.len(), head.height)),
    })
    .await;
    subscriber.kill().expect("it runs");
    subscriber.wait().expect("it was killed");
    let seen = lines(&journal);
    assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0), "in the order of the ledger");
    let ids: Vec<_> = seen.into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids, expected, "each once, as another agency's node lists them");
    let kept = kept.lock().expect("not poisoned");
    let ids: BTreeSet<_> = ids.into_iter().collect();
    assert!(kept.is_subset(&ids), "what was said to be final is there");
    cluster.nobody_lied();
}
