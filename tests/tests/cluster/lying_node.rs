//! A node that omits, forges, or shows what is old, before auditors who do not trust it.

use std::{ffi::OsStr, fs, path::Path};

use customhouse_ledger::{
    finality::{
        certificate::Certificate,
        header::Header,
        vote::{Ballot, Vote, VoteKind},
    },
    hash::Hash,
    record::subject::subject_key,
};
use customhouse_proto::v1;
use customhouse_tests::{
    cluster::Cluster,
    lying_node::{Lie, LyingNode},
    program::{self, Answer},
    records::case_subject,
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
    let subject = case_subject("later");
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

    // A proof that was right once says as of when, and is too old for anyone who asks for news.
    let old = LyingNode::start(&cluster, 0, Lie::OldProof(Box::new(empty))).await;
    let answer = audit(&cluster, &old, &["absent", later]).expect_code(0).json();
    assert_eq!(answer["as_of"]["height"].as_u64(), Some(height - 1), "{answer}");
    let answer = audit(&cluster, &old, &["absent", later, "--max-age", "0"]).expect_code(2);
    assert!(verdict(&answer).1.contains("old head as its newest"), "{}", answer.text());
}

/// A head that a node's honest front has shown, and the front.
async fn saved_head(cluster: &Cluster, dir: &Path) -> (LyingNode, String) {
    let head = dir.join("a.head").to_str().expect("a path of text").to_owned();
    let honest = LyingNode::start(cluster, 0, Lie::ForgeRecords).await;
    audit(cluster, &honest, &["consistency", "--head", &head]).expect_code(0);
    (honest, head)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_shows_an_old_head_or_another_log_is_caught() {
    let (cluster, _) = network().await;
    let height = cluster.head(0).await.height;
    let dir = tempfile::tempdir().expect("a directory");
    let (_, head) = saved_head(&cluster, dir.path()).await;
    let consistency = ["consistency", "--head", &head];
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

/// The block at a height with another history root, finalized by three of four: its log is the true one.
async fn with_another_history(cluster: &Cluster, height: u64) -> v1::GetHeaderResponse {
    let (header, _) = cluster.client(0, "auditor").header(Some(height)).await.expect("committed");
    let header = Header { history_root: Hash([7; 32]), ..header };
    let (kind, block_hash) = (VoteKind::Finalize, header.hash());
    let ballot = Ballot { kind, height, view: header.view, block_hash };
    let genesis = cluster.genesis();
    let vote = |node| {
        let keys = cluster.agency(node).config.read_keys().expect("the layout made them");
        Vote::sign(ballot, &genesis.chain_id(), &keys.validator.key)
    };
    let votes = [0, 1, 2].map(vote);
    let certificate = Certificate::from_votes(ballot, &votes, &genesis.validators());
    let certificate = certificate.expect("a quorum").encode();
    v1::GetHeaderResponse { header: header.encode(), certificate }
}

/// It proves that its log continues the saved one, and shows another history with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_block_with_the_same_log_is_the_proof_of_a_fork() {
    let (cluster, _) = network().await;
    let height = cluster.head(0).await.height;
    let dir = tempfile::tempdir().expect("a directory");
    let (honest, head) = saved_head(&cluster, dir.path()).await;
    let consistency = ["consistency", "--head", &head];
    let kept = fs::read(&head).expect("saved");
    submit_final(&cluster, 0, "one-more", "smuggling").await;
    let other = with_another_history(&cluster, height).await;
    let two_faced = LyingNode::start(&cluster, 0, Lie::OtherBlock(Box::new(other), height)).await;
    let answer = audit(&cluster, &two_faced, &consistency).expect_code(3);
    let (verdict, reason) = verdict(&answer);
    assert_eq!(verdict, "fork", "{reason}");
    assert!(reason.contains(&format!("another certified block at height {height}")), "{reason}");
    assert!(answer.json()["evidence"].is_string(), "{}", answer.text());
    assert_eq!(fs::read(&head).expect("there"), kept, "the saved head stays");
    audit(&cluster, &honest, &consistency).expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_of_a_node_is_endless_or_fills_the_memory() {
    let (cluster, _) = network().await;
    let endless = LyingNode::start(&cluster, 0, Lie::EndlessList).await;
    let answer = audit(&cluster, &endless, &["history", "case:smuggling"]).expect_code(2);
    assert!(verdict(&answer).1.contains("records beside the 3 of its own proof"));
    // Twice as many bytes as are taken, and two bytes each.
    let empty = LyingNode::start(&cluster, 0, Lie::EmptyChanges(4 << 20)).await;
    let answer = audit(&cluster, &empty, &["history", "case:smuggling"]).expect_code(2);
    assert!(verdict(&answer).1.contains("message length too large"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_chain_must_lead_to_a_certified_head() {
    let (cluster, other) = (Cluster::start(4).await, Cluster::lay_out(2));
    let dir = tempfile::tempdir().expect("a directory");
    let export = |of: &Cluster| {
        let (profile, genesis) = (cluster.profile(0, "auditor"), of.genesis_file());
        let out = dir.path().join("validator.chain");
        let mut all = vec!["--profile".as_ref(), profile.as_os_str()];
        all.extend(["audit", "validator-chain", "--out"].map(OsStr::new));
        all.extend([out.as_os_str(), "--genesis".as_ref(), genesis.as_os_str()]);
        program::run(all)
    };
    submit_final(&cluster, 0, "only", "smuggling").await;
    let refused = export(&other).expect_code(1);
    for said in ["WRONG_CHAIN", "not certified by these validators"] {
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
    assert!(!dir.path().join("validator.chain").exists());
    export(&cluster).expect_code(0);
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
    let mut profile = customhouse_files::profile::Profile::read(&at).expect("the layout made it");
    profile.node.clone_from(&liar.endpoint);
    let dir = dir.join("profile");
    fs::create_dir(&dir).expect("a new directory");
    profile.write(&dir).expect("writable");
    dir
}
