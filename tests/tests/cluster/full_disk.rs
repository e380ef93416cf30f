//! A disk without room.

use std::{fs, path::Path, process::Command};

use customhouse_tests::{
    cluster::Cluster,
    load::{Load, nothing_is_lost},
};

/// Room that is left when the disk fills up, in bytes.
const ROOM: u64 = 32 * 1024;
/// What the system says of a file at its limit.
const NO_ROOM: &str = "File too large";

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_room_stops_before_it_acknowledges_and_comes_back_with_room() {
    if Command::new("prlimit").arg("--version").output().is_err() {
        eprintln!("skipped: no `prlimit`");
        return;
    }
    let mut cluster = Cluster::start(4).await;
    let mut load = Load::start(&cluster, 1, "full");
    load.more(10).await;
    assert!(cluster.terminate(2).await.success());
    cluster.survive_full_disk(2);
    cluster.restart(2).await;
    load.more(20).await;
    let config = &cluster.agency(2).config;
    let largest = largest_file(&config.data_dir).max(bytes(&config.journal_path()));
    cluster.fill_disk(2, largest + ROOM);
    let ended = cluster.exit(2).await;
    assert!(ended.code().is_some_and(|code| code != 0), "{ended}: {}", cluster.log(2));
    let log = cluster.log(2);
    assert!(log.contains(NO_ROOM), "{log}");
    // The others go on.
    load.more(20).await;
    // The limit went with the process: there is room again.
    cluster.restart(2).await;
    let head = cluster.head(0).await;
    cluster.reaches(2, head.height).await;
    load.more(20).await;
    let acknowledged = load.stop().await;
    cluster.same_head(&[0, 1, 2, 3], head.height + 1).await;
    nothing_is_lost(&cluster, "full", &acknowledged).await;
    cluster.nobody_lied();
}

fn bytes(file: &Path) -> u64 {
    // A file of the store may go while one looks.
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}

fn largest_file(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).expect("the node made it");
    let paths = entries.flatten().map(|entry| entry.path());
    let sizes = paths.map(|path| if path.is_dir() { largest_file(&path) } else { bytes(&path) });
    sizes.max().unwrap_or(0)
}
