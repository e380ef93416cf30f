//! An auditor's saved head, and the nodes that must continue it.

use std::{ffi::OsStr, fs, path::Path};

use customhouse_tests::{cluster::Cluster, program};

use crate::agreement::submit_final;

/// Asks a node to continue the head in a file.
fn consistency(cluster: &Cluster, node: usize, head: &Path, more: &[&str]) -> program::Answer {
    let (profile, genesis) = (cluster.profile(node, "auditor"), cluster.genesis_file());
    let mut all = vec!["--profile".as_ref(), profile.as_os_str()];
    all.extend(["--output", "json", "audit", "consistency", "--genesis"].map(OsStr::new));
    all.extend([genesis.as_os_str(), "--head".as_ref(), head.as_os_str()]);
    all.extend(more.iter().map(OsStr::new));
    program::run(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_head_is_continued_by_every_node_and_damaged_ones_are_refused() {
    let cluster = Cluster::start(4).await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("network.head");
    submit_final(&cluster, 0, "first", "heads").await;
    let first = consistency(&cluster, 0, &file, &[]).expect_code(0).json();
    assert_eq!((&first["verdict"], &first["written"]), (&"verified".into(), &true.into()));
    assert!(first["saved"].is_null(), "{first}");

    for node in 1..4 {
        let saved = fs::read(&file).expect("there is one");
        submit_final(&cluster, node, &format!("after {node}"), "heads").await;
        let kept = consistency(&cluster, node, &file, &["--keep"]).expect_code(0).json();
        assert_eq!((&kept["verdict"], &kept["written"]), (&"verified".into(), &false.into()));
        assert_eq!(fs::read(&file).expect("there is one"), saved, "it is kept");
        let answer = consistency(&cluster, node, &file, &[]).expect_code(0).json();
        let size = |place: &str| answer[place]["log_size"].as_u64().expect("a size");
        assert!(size("saved") < size("head") && answer["written"] == true, "{answer}");
    }
    let again = consistency(&cluster, 0, &file, &[]).expect_code(0).json();
    assert_eq!(again["written"], false, "nothing is newer: {again}");

    // One auditor has the proof written, another verifies it without a network, and has the head then.
    let (proof, old) = (dir.path().join("a.consistency"), dir.path().join("old.head"));
    fs::copy(&file, &old).expect("writable");
    submit_final(&cluster, 0, "later", "heads").await;
    let proof = proof.to_str().expect("a path of text");
    consistency(&cluster, 1, &file, &["--write-proof", proof]).expect_code(0);
    let offline = |head: &Path| consistency(&cluster, 0, head, &["--proof", proof]);
    assert_eq!(offline(&old).expect_code(0).json()["written"], true);
    assert_eq!(fs::read(&old).expect("there"), fs::read(&file).expect("there"));
    offline(&file).expect_code(2);
    let bytes = fs::read(proof).expect("written");
    for at in (0..bytes.len()).step_by(bytes.len() / 10) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs::write(proof, damaged).expect("writable");
        let code = offline(&dir.path().join("none.head")).code;
        assert!(code == Some(1) || code == Some(2), "byte {at}: {code:?}");
    }

    let saved = fs::read_to_string(&file).expect("there is one");
    let damaged = |from: &str, to: &str| {
        fs::write(&file, saved.replace(from, to)).expect("writable");
        consistency(&cluster, 0, &file, &[])
    };
    let said = |answer: program::Answer, code: i32, what: &str| {
        let answer = answer.expect_code(code).json();
        assert!(answer["reason"].as_str().is_some_and(|reason| reason.contains(what)), "{answer}");
    };
    said(damaged("\"header\": \"0001", "\"header\": \"0002"), 1, "not a certified head");
    said(damaged("\"log_size\": ", "\"log_size\": 1"), 1, "not those of its header");
    said(damaged("{", "["), 1, "network.head");
    // Of the same agencies on another network.
    let other = Cluster::start(4).await;
    fs::write(&file, &saved).expect("writable");
    said(consistency(&other, 0, &file, &[]), 1, "chain");
    assert_eq!(fs::read_to_string(&file).expect("there is one"), saved, "nothing is written");
}
