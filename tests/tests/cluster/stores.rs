//! The store of a node that is stopped is checked and rebuilt.

use std::{ffi::OsStr, fs, path::Path};

use customhouse_tests::{
    backup::Backup,
    cluster::Cluster,
    load::{Load, nothing_is_lost_though_wiped},
    program::{self, Answer},
};

/// `customhouse --output json store COMMAND --config …`.
pub(crate) fn store(cluster: &Cluster, node: usize, command: &str) -> Answer {
    let config = cluster.agency(node).config.file.clone();
    let config = config.to_str().expect("a path of this test");
    program::run(["--output", "json", "store", command, "--config", config])
}

/// The same check without what the signer's journal knows.
fn check_folder(cluster: &Cluster, node: usize) -> Answer {
    let (data_dir, genesis) = (&cluster.agency(node).config.data_dir, cluster.genesis_file());
    let mut all: Vec<_> = ["--output", "json", "store", "check"].map(OsStr::new).to_vec();
    all.extend(["--data-dir".as_ref(), data_dir.as_os_str()]);
    all.extend(["--genesis".as_ref(), genesis.as_os_str()]);
    program::run(all)
}

/// Flips a bit of the largest file with this extension, `hundredths` hundredths into it. Returns its name.
pub(crate) fn flip(folder: &Path, extension: &str, hundredths: usize) -> String {
    let files =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("readable").path());
    let files = files.filter(|path| path.extension().is_some_and(|found| found == extension));
    let file = files.max_by_key(|path| fs::metadata(path).expect("a file").len());
    let file = file.expect("there is one");
    let mut bytes = fs::read(&file).expect("readable");
    let at = bytes.len() * hundredths / 100;
    bytes[at] ^= 4;
    fs::write(&file, bytes).expect("writable");
    file.file_name().expect("a name").to_string_lossy().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_node_s_store_is_checked_and_rebuilt_and_the_node_goes_on() {
    let mut cluster = Cluster::start(4).await;
    let mut load = Load::start(&cluster, 1, "checked");
    load.more(30).await;
    let head = cluster.head(0).await;
    cluster.reaches(3, head.height).await;
    let running = store(&cluster, 3, "check").expect_code(2);
    assert!(running.stderr.contains("stop the node first"), "{}", running.stderr);
    // Nothing is put in the place of a store that the running node still writes into.
    let folder = cluster.agency(3).config.store_path();
    let away = folder.with_extension("away");
    fs::rename(&folder, &away).expect("one file system");
    for command in ["check", "rebuild", "restore"] {
        let running = store(&cluster, 3, command).expect_code(2);
        assert!(running.stderr.contains("stop the node first"), "{command}: {}", running.stderr);
        assert!(!folder.exists(), "{command} has made something");
    }
    fs::rename(&away, &folder).expect("one file system");
    let wrong = program::run(["store", "check"]).expect_code(64);
    assert!(wrong.stderr.contains("--config"), "{}", wrong.stderr);
    assert!(cluster.terminate(3).await.success());
    let report = store(&cluster, 3, "check").expect_code(0).json();
    assert_eq!(report["verdict"], "sound", "{report}");
    assert!(report["records"].as_u64() >= Some(20), "{report}");
    assert!(report["height"].as_u64() >= Some(head.height), "{report}");

    let backup = Backup::take(&cluster, 3);
    store(&cluster, 3, "rebuild").expect_code(0);
    let rebuilt = store(&cluster, 3, "check").expect_code(0).json();
    for field in ["height", "block_hash", "records", "index_rows"] {
        assert_eq!(report[field], rebuilt[field], "{field}");
    }
    cluster.restart(3).await;
    load.more(30).await;
    let head = cluster.head(0).await;
    cluster.reaches(3, head.height).await;
    assert!(cluster.terminate(3).await.success());

    // A store that was put back is sound, but its journal knows more.
    backup.restore_store(&cluster);
    let report = store(&cluster, 3, "check").expect_code(1).json();
    let what = report["damage"][0]["what"].as_str().expect("named").to_owned();
    assert!(what.contains("the signer's journal") && what.contains("ends at height"), "{what}");
    assert_eq!(report["damage_count"], 1, "{report}");
    check_folder(&cluster, 3).expect_code(0);

    // The write-ahead log as the node left it; what a rebuild flushed to files.
    // Of a table file the last hundredth is its footer, which is in no block.
    for (extension, at, is_rebuilt) in
        [("log", 50, false), ("blob", 50, true), ("sst", 50, true), ("sst", 99, true)]
    {
        backup.restore_store(&cluster);
        if is_rebuilt {
            store(&cluster, 3, "rebuild").expect_code(0);
        }
        check_folder(&cluster, 3).expect_code(0);
        let file = flip(&cluster.agency(3).config.store_path(), extension, at);
        let report = check_folder(&cluster, 3).expect_code(1).json();
        assert_eq!(report["verdict"], "damaged", "{extension}: {report}");
        assert!(report["damage"].to_string().contains(&file), "{file}: {report}");
    }
    fs::write(cluster.agency(3).config.store_path().join("CURRENT"), "MANIFEST-7\n")
        .expect("writable");
    let report = check_folder(&cluster, 3).expect_code(1).json();
    let what = report["not_opened"]["what"].as_str().expect("named").to_owned();
    assert!(what.contains("CURRENT") && what.contains("MANIFEST-0"), "{what}");
    backup.restore_store(&cluster);
    cluster.restart(3).await;
    let acknowledged = load.stop().await;
    cluster.same_head(&[0, 1, 2, 3], head.height).await;
    nothing_is_lost_though_wiped(&cluster, "checked", &acknowledged).await;
    cluster.nobody_lied();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_node_is_restored_and_the_node_catches_up_unaided() {
    let mut cluster = Cluster::start(4).await;
    let mut load = Load::start(&cluster, 2, "backup");
    let operator = cluster.profile(3, "operator");
    let operator = operator.to_str().expect("a path of this test").to_owned();
    let backup = || program::run(["--profile", &operator, "--output", "json", "store", "backup"]);
    let unnamed = backup().expect_code(2);
    assert!(unnamed.stderr.contains("[backup]"), "{}", unnamed.stderr);

    assert!(cluster.terminate(3).await.success());
    let config = cluster.agency(3).config.file.clone();
    let text = fs::read_to_string(&config).expect("a configuration");
    fs::write(&config, text + "\n[backup]\ndirectory = \"backups\"\n").expect("writable");
    cluster.restart(3).await;
    load.more(20).await;
    let first = backup().expect_code(0).json();
    load.more(20).await;
    let second = backup().expect_code(0).json();
    assert_eq!((&first["id"], &second["id"]), (&1.into(), &2.into()));
    assert!(first["height"].as_u64() < second["height"].as_u64(), "{first} {second}");
    let running = store(&cluster, 3, "backup").expect_code(2);
    assert!(running.stderr.contains("--profile"), "{}", running.stderr);
    load.more(20).await;

    cluster.kill(3);
    let used = store(&cluster, 3, "restore").expect_code(2);
    assert!(used.stderr.contains("not empty"), "{}", used.stderr);
    cluster.wipe(3);
    let restored = store(&cluster, 3, "restore").expect_code(0).json();
    assert_eq!((&restored["backup"], &restored["restored"]), (&2.into(), &true.into()));
    let agency = cluster.agency(3).config.agency.to_string();
    assert_eq!(restored["owner"]["agency"], agency, "{restored}");
    assert!(restored["report"]["height"].as_u64() >= second["height"].as_u64(), "{restored}");
    // The journal, which no backup has, still knows what was signed after it.
    let known = store(&cluster, 3, "check").expect_code(1).json();
    assert!(known["damage"][0]["what"].as_str().expect("named").contains("journal"), "{known}");
    let head = cluster.head(0).await;
    cluster.restart(3).await;
    cluster.reaches(3, head.height).await;
    assert!(cluster.log(3).contains("below what the signer's journal knows of"));
    // Three of four are needed: it signs.
    cluster.kill(1);
    load.more(10).await;
    cluster.restart(1).await;
    let acknowledged = load.stop().await;
    cluster.same_head(&[0, 1, 2, 3], head.height + 1).await;
    nothing_is_lost_though_wiped(&cluster, "backup", &acknowledged).await;
    cluster.nobody_lied();

    assert!(cluster.terminate(3).await.success());
    let third = store(&cluster, 3, "backup").expect_code(0).json();
    assert_eq!(third["id"], 3, "a stopped node's is made directly: {third}");

    // Another node's store is refused there, and so is going on where a shared file has rotted.
    let directory = third["directory"].as_str().expect("a path").to_owned();
    assert!(cluster.terminate(2).await.success());
    let other = cluster.agency(2).config.file.clone();
    let other = other.to_str().expect("a path of this test");
    let refused = program::run(["store", "backup", "--config", other, "--to", &directory]);
    let refused = refused.expect_code(2);
    assert!(refused.stderr.contains(&format!("{agency}'s store")), "{}", refused.stderr);
    let shared = Path::new(&directory).join("shared_checksum");
    let file = flip(&shared, "blob", 50);
    let damaged = store(&cluster, 3, "backup").expect_code(1);
    cluster.restart(3).await;
    for damaged in [damaged, backup().expect_code(1)] {
        for part in [&*file, "No older backup was removed"] {
            assert!(damaged.stderr.contains(part), "{part}: {}", damaged.stderr);
        }
    }
}
