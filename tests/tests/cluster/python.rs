//! A stock gRPC client in another language.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use customhouse_ledger::merkle::leaf_hash;
use customhouse_tests::cluster::Cluster;

use crate::agreement::submit_final;

fn python_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

/// Runs a command to its end.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout
}

/// A Python with the packages of `requirements.txt`, made once for each content of that file.
fn interpreter() -> PathBuf {
    let requirements = python_dir().join("requirements.txt");
    let wanted = fs::read(&requirements).expect("it is beside the client");
    let home = || PathBuf::from(env::var_os("HOME").expect("a home directory")).join(".cache");
    let cache = env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("customhouse");
    let dir = cache.join(format!("venv-{}", leaf_hash(&wanted).short()));
    let python = dir.join("bin/python");
    let complete = dir.join("complete");
    if !complete.exists() {
        // What an interrupted installation left is of no use.
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir));
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
        run(Command::new(&python).args(pip).arg(&requirements));
        fs::write(&complete, "").expect("the directory was just made");
    }
    python
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_submits_a_transaction_it_signed_and_verifies_the_receipt_by_itself() {
    let python = interpreter();
    let cluster = Cluster::start(4).await;
    // Others' transactions before it, so that the paths are not empty.
    for number in 0..3 {
        submit_final(&cluster, number, &format!("{number}"), "python").await;
    }
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
    let stdout = run(Command::new(python)
        .arg(python_dir().join("client_test.py"))
        .arg("--protos")
        .arg(protos)
        .arg("--profile")
        .arg(cluster.profile(1, "broker"))
        .arg("--genesis")
        .arg(cluster.genesis_file()));
    eprintln!("{stdout}");
    let said = |what: &str| assert!(stdout.contains(what), "{what}: {stdout}");
    said("receipt verified");
    said("flipped bytes refused");
    said("another chain's genesis refused");
    // What it says it submitted is on the ledger of another node.
    let id = stdout.lines().find_map(|line| line.strip_prefix("record ")).expect("an id");
    let record = cluster.client(3, "officer");
    cluster.same_head(&[0, 1, 2, 3], 1).await;
    let id = customhouse_ledger::hash::Hash::from_slice(&hex::decode(id).expect("hexadecimal"));
    let found = record.record(id.expect("32 bytes")).await.expect("it is there");
    assert!(found.place.is_some());
}
