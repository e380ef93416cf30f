//! A node that omits, forges, or shows what is old, before auditors who do not trust it.

use std::{ffi::OsStr, fs, path::Path};

use customhouse_ledger::{hash::Hash, subject::subject_key};
use customhouse_proto::v1::{Subject, subject::Scheme};
use customhouse_tests::{
    cluster::Cluster,
    lying_node::{Lie, LyingNode},
    program::{self, Answer},
};

use crate::agreement::submit_final;

/// The auditor of node 0, who talks to the liar without knowing it.
fn audit(cluster: &Cluster, liar: &LyingNode, command: &[&str]) -> Answer {
    let (profile, genesis) = (cluster.profile(0, "auditor"), cluster.genesis_file());
    let mut all = vec!["--profile".as_ref(), profile.as_os_str()];
    all.extend(["--node", &liar.endpoint, "--output", "json", "audit"].map(OsStr::new));
    all.extend(command.iter().map(OsStr::new));
    all.extend(["--genesis".as_ref(), genesis.as_os_str()]);
    program::run(all)
}

fn verdict(answer: &Answer) -> (String, String) {
    let json = answer.json();
    let text = |field: &str| json[field].as_str().unwrap_or_default().to_owned();
    (text("verdict"), text("reason"))
}

/// A network with a few records about one case, of which one is `omitted`, and a later one of another.
async fn network() -> (Cluster, Hash) {
    let cluster = Cluster::start(4).await;
    submit_final(&cluster, 0, "first", "smuggling").await;
    let omitted = submit_final(&cluster, 1, "omitted", "smuggling").await;
    submit_final(&cluster, 2, "last", "smuggling").await;
    submit_final(&cluster, 3, "of-another", "other").await;
    cluster.same_head(&[0, 1, 2, 3], 4).await;
    (cluster, omitted.record_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_omits_or_forges_a_record_is_caught() {
    let (cluster, omitted) = network().await;
    let client = cluster.client(0, "auditor");
    let other = client.receipt(omitted, false).await.expect("a receipt");
    let cases = [
        (Lie::OmitFromList(omitted), 2, "withheld"),
        (Lie::OmitFromProof(omitted), 1, "HISTORY_ROOT"),
        (Lie::EmptyBucket, 1, "HISTORY_ROOT"),
        (Lie::ForgeRecords, 1, "RECORD"),
        (Lie::SwapRecords(Box::new(other)), 1, "RECEIPT_SLOT_PATH"),
    ];
    for (lie, code, named) in cases {
        let name = format!("{lie:?}");
        let liar = LyingNode::start(&cluster, 0, lie).await;
        let answer = audit(&cluster, &liar, &["history", "case:smuggling"]).expect_code(code);
        let (verdict, reason) = verdict(&answer);
        assert!(verdict != "verified" && reason.contains(named), "{name}: {reason}");
    }
    // The same front without a lie about this: what it shows is taken.
    let honest = LyingNode::start(&cluster, 0, Lie::ForgeConsistency).await;
    let answer = audit(&cluster, &honest, &["history", "case:smuggling"]).expect_code(0).json();
    assert_eq!(answer["records"].as_array().map(Vec::len), Some(3), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_denies_records_or_shows_what_is_old_is_caught() {
    let (cluster, _) = network().await;
    let subject = Subject { scheme: Scheme::Case as i32, id: "later".to_owned() };
    let client = cluster.client(0, "auditor");
    let empty = client.history_proof(subject_key(&subject)).await.expect("a proof");
    let later = "case:later";
    let honest = LyingNode::start(&cluster, 0, Lie::ForgeConsistency).await;
    audit(&cluster, &honest, &["absent", later]).expect_code(0);
    submit_final(&cluster, 1, "now", "later").await;
    let height = cluster.same_head(&[0, 1, 2, 3], 5).await.height;

    let denies = LyingNode::start(&cluster, 0, Lie::EmptyBucket).await;
    let answer = audit(&cluster, &denies, &["absent", later]).expect_code(1);
    assert!(verdict(&answer).1.contains("HISTORY_ROOT"), "{}", answer.text());
    let answer = audit(&cluster, &honest, &["absent", later]).expect_code(1).json();
    assert_eq!(answer["records"].as_array().map(Vec::len), Some(1), "{answer}");

    // What was right once says as of when, and is too old for who asks for news.
    let old = LyingNode::start(&cluster, 0, Lie::OldProof(Box::new(empty))).await;
    let answer = audit(&cluster, &old, &["absent", later]).expect_code(0).json();
    assert_eq!(answer["as_of"]["height"].as_u64(), Some(height - 1), "{answer}");
    let answer = audit(&cluster, &old, &["absent", later, "--max-age", "0"]).expect_code(2);
    assert!(verdict(&answer).1.contains("old head as its newest"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_shows_an_old_head_or_another_log_is_caught() {
    let (cluster, _) = network().await;
    let height = cluster.head(0).await.height;
    let dir = tempfile::tempdir().expect("a directory");
    let head = dir.path().join("a.head");
    let head = head.to_str().expect("a path of text");
    let consistency = ["consistency", "--head", head];
    let honest = LyingNode::start(&cluster, 0, Lie::ForgeRecords).await;
    audit(&cluster, &honest, &consistency).expect_code(0);
    let old = LyingNode::start(&cluster, 0, Lie::OldHead(height - 2)).await;
    let answer = audit(&cluster, &old, &consistency).expect_code(2);
    assert!(verdict(&answer).1.contains("older than what was seen"), "{}", answer.text());
    let forged = LyingNode::start(&cluster, 0, Lie::ForgeHead).await;
    let answer = audit(&cluster, &forged, &consistency).expect_code(1);
    assert!(verdict(&answer).1.contains("not certified"), "{}", answer.text());
    submit_final(&cluster, 0, "one-more", "smuggling").await;
    let other = LyingNode::start(&cluster, 0, Lie::ForgeConsistency).await;
    let answer = audit(&cluster, &other, &consistency).expect_code(2);
    assert!(verdict(&answer).1.contains("does not show that its log continues"));

    // Beside an honest one, it stands still.
    let honest = cluster.profile(1, "auditor");
    let looked = watch(&cluster, &[&honest, &profile(&cluster, &old, dir.path())], dir.path());
    assert!(looked.contains("stands still, 3 blocks behind"), "{looked}");
    // By itself, it may not go back.
    let back = LyingNode::start(&cluster, 0, Lie::GoBack(height - 2)).await;
    let alone = tempfile::tempdir().expect("a directory");
    let looked = watch(&cluster, &[&profile(&cluster, &back, alone.path())], alone.path());
    assert!(looked.contains("older than what was seen"), "{looked}");
}

/// Two looks at nodes of which one lies about its newest head; what was said.
fn watch(cluster: &Cluster, profiles: &[&Path], dir: &Path) -> String {
    let (genesis, kept) = (cluster.genesis_file(), dir.join("kept"));
    let mut all = ["--output", "json", "audit", "watch"].map(OsStr::new).to_vec();
    all.extend(profiles.iter().map(|profile| profile.as_os_str()));
    all.extend(["--looks", "2", "--every", "1", "--dir"].map(OsStr::new));
    all.extend([kept.as_os_str(), "--genesis".as_ref(), genesis.as_os_str()]);
    program::run(all).expect_code(2).text()
}

/// A profile of node 0's auditor that leads to the liar.
fn profile(cluster: &Cluster, liar: &LyingNode, dir: &Path) -> std::path::PathBuf {
    let at = cluster.profile(0, "auditor");
    let mut profile = customhouse_node::layout::Profile::read(&at).expect("the layout made it");
    profile.node.clone_from(&liar.endpoint);
    let dir = dir.join("profile");
    fs::create_dir(&dir).expect("a new directory");
    profile.write(&dir).expect("writable");
    dir
}
