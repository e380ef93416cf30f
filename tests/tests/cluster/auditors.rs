//! What auditors do with a network: watch it, take files home, and find out who divided it.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
};

use customhouse_tests::{
    backup::Backup,
    cluster::Cluster,
    program::{self, Answer},
};

use crate::agreement::submit_final;

/// `customhouse audit`, with the genesis.
fn audit<'a>(cluster: &Cluster, command: impl IntoIterator<Item = &'a OsStr>) -> Answer {
    let genesis = cluster.genesis_file();
    let mut all: Vec<OsString> = ["--output", "json", "audit"].map(Into::into).into();
    all.extend(command.into_iter().map(ToOwned::to_owned));
    all.extend(["--genesis".into(), genesis.into_os_string()]);
    program::run(all)
}

fn watch(cluster: &Cluster, dir: &Path) -> Answer {
    let profiles: Vec<PathBuf> = (0..4).map(|node| cluster.profile(node, "auditor")).collect();
    let mut all = vec![OsStr::new("watch")];
    all.extend(profiles.iter().map(|profile| profile.as_os_str()));
    all.extend(["--looks".as_ref(), "1".as_ref(), "--dir".as_ref(), dir.as_os_str()]);
    audit(cluster, all)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_network_is_one_chain_also_while_a_node_is_away() {
    let mut cluster = Cluster::start(4).await;
    let dir = tempfile::tempdir().expect("a directory");
    submit_final(&cluster, 0, "first", "watched").await;
    cluster.same_head(&[0, 1, 2, 3], 1).await;
    let answer = watch(&cluster, dir.path()).expect_code(0).json();
    assert_eq!(answer["nodes"].as_array().map(Vec::len), Some(4), "{answer}");
    cluster.kill(3);
    submit_final(&cluster, 0, "second", "watched").await;
    let answer = watch(&cluster, dir.path()).expect_code(2).json();
    assert_eq!(answer["nodes"][3]["verdict"], "not_enough_evidence", "{answer}");
    cluster.restart(3).await;
    cluster.same_head(&[0, 1, 2, 3], 2).await;
    let answer = watch(&cluster, dir.path()).expect_code(0).json();
    assert!(answer["rests_on"]["head_height"].as_u64() >= Some(2), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_and_an_absence_are_taken_home_as_files() {
    let mut cluster = Cluster::start(4).await;
    submit_final(&cluster, 0, "first", "exported").await;
    submit_final(&cluster, 1, "second", "exported").await;
    cluster.same_head(&[0, 1, 2, 3], 2).await;
    let dir = tempfile::tempdir().expect("a directory");
    let profile = cluster.profile(2, "auditor");
    let export = |subject: &str, out: &Path, form: &str| {
        let genesis = cluster.genesis_file();
        let mut all = vec!["--profile".as_ref(), profile.as_os_str()];
        all.extend(["--output", "json", "audit", "export", "history", subject].map(OsStr::new));
        all.extend(["--genesis".as_ref(), genesis.as_os_str(), "--out".as_ref(), out.as_os_str()]);
        all.extend(["--form", form].map(OsStr::new));
        program::run(all)
    };
    let (some, none) = (dir.path().join("some"), dir.path().join("none"));
    let json = dir.path().join("json");
    let written = export("case:exported", &some, "binary").expect_code(0).json();
    assert_eq!(written["files"], 3, "a proof and two receipts: {written}");
    assert_eq!(export("case:nobody", &none, "binary").expect_code(0).json()["files"], 1);
    export("case:exported", &json, "json").expect_code(0);
    for node in 0..4 {
        assert!(cluster.terminate(node).await.success());
    }

    let offline = |command: &str, subject: &str, files: &Path| {
        let all = [command.as_ref(), subject.as_ref(), "--files".as_ref(), files.as_os_str()];
        audit(&cluster, all)
    };
    let answer = offline("history", "case:exported", &some).expect_code(0).json();
    assert_eq!(answer["records"].as_array().map(Vec::len), Some(2), "{answer}");
    offline("absent", "case:nobody", &none).expect_code(0);
    let answer = offline("history", "case:exported", &json).expect_code(0).json();
    assert_eq!(answer["records"].as_array().map(Vec::len), Some(2), "{answer}");
    let answer = audit(&cluster, ["verify".as_ref(), json.as_os_str()]).expect_code(0).json();
    assert_eq!(answer["receipts"].as_array().map(Vec::len), Some(2), "{answer}");
    offline("absent", "case:exported", &some).expect_code(1);
    let of_another = offline("absent", "case:other", &none).expect_code(1);
    assert!(of_another.text().contains("another subject"), "{}", of_another.text());

    let mut files = fs::read_dir(&some).expect("written").map(|entry| entry.expect("read").path());
    let receipt = files.find(|path| path.extension() == Some("receipt".as_ref()));
    fs::remove_file(receipt.expect("there are two")).expect("removable");
    let answer = offline("history", "case:exported", &some).expect_code(2);
    assert!(answer.text().contains("withheld"), "{}", answer.text());
    let proof = some.join("history.proof");
    let mut bytes = fs::read(&proof).expect("written");
    bytes[100] ^= 1;
    fs::write(&proof, bytes).expect("writable");
    offline("history", "case:exported", &some).expect_code(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_of_one_height_show_no_fork_and_of_two_heights_nothing() {
    let cluster = Cluster::start(4).await;
    submit_final(&cluster, 0, "first", "decided").await;
    submit_final(&cluster, 0, "second", "decided").await;
    cluster.same_head(&[0, 1, 2, 3], 2).await;
    let dir = tempfile::tempdir().expect("a directory");
    let exported = |node: usize, height: &str| {
        let (profile, file) = (cluster.profile(node, "auditor"), dir.path().join(node.to_string()));
        let mut all = vec!["--profile".as_ref(), profile.as_os_str()];
        all.extend(["audit", "decisions", "--height", height, "--out"].map(OsStr::new));
        all.push(file.as_os_str());
        program::run(all).expect_code(0);
        file
    };
    let files = [exported(0, "1"), exported(1, "1"), exported(2, "2")];
    let fork = |files: [&PathBuf; 2]| {
        let names = files.map(|file| file.as_os_str());
        audit(&cluster, [&["fork".as_ref()], &names[..]].concat())
    };
    let answer = fork([&files[0], &files[1]]).expect_code(0).json();
    let reason = answer["reason"].as_str().expect("text");
    assert!(reason.starts_with("no fork: the same blocks at 1 heights"), "{reason}");
    let answer = fork([&files[0], &files[2]]).expect_code(2).json();
    let reason = answer["reason"].as_str().expect("text");
    for (file, height) in [(&files[0], 1), (&files[2], 2)] {
        assert!(reason.contains(&format!("{}: {height}", file.display())), "{reason}");
    }
}

/// All validators go back to the beginning, journals and all, and write another history: what a quorum
/// of liars can do.
#[tokio::test(flavor = "multi_thread")]
async fn two_histories_of_one_network_are_found_and_who_signed_both_is_named() {
    let mut cluster = Cluster::start(4).await;
    for node in 0..4 {
        assert!(cluster.terminate(node).await.success());
    }
    let beginnings: Vec<Backup> = (0..4).map(|node| Backup::take(&cluster, node)).collect();
    let dir = tempfile::tempdir().expect("a directory");
    history_of(&mut cluster, "true").await;
    watch(&cluster, &dir.path().join("watch")).expect_code(0);
    let head = dir.path().join("a.head");
    consistency(&cluster, &head).expect_code(0);
    for (node, beginning) in beginnings.iter().enumerate() {
        assert!(cluster.terminate(node).await.success());
        beginning.restore_all(&cluster);
    }
    history_of(&mut cluster, "false").await;
    submit_final(&cluster, 0, "one-more", "false").await;

    let answer = watch(&cluster, &dir.path().join("watch")).expect_code(3).json();
    named_by(&cluster, &answer);
    let answer = consistency(&cluster, &head).expect_code(3).json();
    assert_eq!(answer["written"], false, "the saved head stays: {answer}");
    named_by(&cluster, &answer);
}

async fn history_of(cluster: &mut Cluster, name: &str) {
    for node in 0..4 {
        cluster.restart(node).await;
    }
    submit_final(cluster, 0, "same-id", name).await;
    cluster.same_head(&[0, 1, 2, 3], 1).await;
}

fn consistency(cluster: &Cluster, head: &Path) -> Answer {
    let (profile, genesis) = (cluster.profile(1, "auditor"), cluster.genesis_file());
    let mut all = vec!["--profile".as_ref(), profile.as_os_str()];
    all.extend(["--output", "json", "audit", "consistency", "--genesis"].map(OsStr::new));
    all.extend([genesis.as_os_str(), "--head".as_ref(), head.as_os_str()]);
    program::run(all)
}

/// The evidence names at least two of four, and survives no damage.
fn named_by(cluster: &Cluster, answer: &serde_json::Value) {
    assert_eq!(answer["verdict"], "fork", "{answer}");
    let file = PathBuf::from(answer["evidence"].as_str().expect("a file"));
    let fork = |file: &Path| audit(cluster, ["fork".as_ref(), file.as_os_str()]);
    let named = fork(&file).expect_code(3).json();
    let culprits = named["culprits"].as_array().map_or(0, Vec::len);
    assert!(culprits >= 2, "{named}");
    let text = fs::read_to_string(&file).expect("written");
    let damaged = file.with_extension("damaged");
    // Of every side: what one of them may say wrong does not hide what the others show.
    for (from, to) in
        [("\"decisions\": \"0a", "\"decisions\": \"0b"), ("{", "[{"), ("chain_id", "x")]
    {
        fs::write(&damaged, text.replace(from, to)).expect("writable");
        fork(&damaged).expect_code(1);
    }
}
