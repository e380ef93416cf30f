//! Killed at any moment, a chain has every block that it said was committed.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write, stdout},
    process::{Command, Stdio},
};

use super::{checked::check_at, *};
use crate::{
    chain::{CommitError, FORMAT},
    store::{Table, table::META_FORMAT, value},
};

const FOLDER: &str = "CUSTOMHOUSE_TEST_COMMIT_FOLDER";
const PROCESS: [&str; 3] =
    ["--exact", "chain::tests::durability::the_process_that_commits", "--nocapture"];

/// Not a test by itself: the process that the tests below start. It commits without end and says so
/// after each block, until it is killed or cannot.
#[test]
fn the_process_that_commits() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let fixture = Fixture::new();
    let mut chain = open_at(Path::new(&folder), &fixture.genesis).expect("a sound store");
    loop {
        let height = chain.tip().header.height;
        let first = height * 1000;
        let transactions: Vec<_> = (0..height % 7)
            .map(|i| fixture.transaction(1, first + i * 10..first + i * 10 + 5))
            .collect();
        let staged = prepare(&chain, &transactions).staged;
        let certificate = finalization(&chain, &staged.block().header);
        let stored = chain.store_pending(staged.block(), staged.transactions());
        let committed = stored.map_err(CommitError::from);
        let committed = committed.and_then(|()| chain.commit(staged.clone(), certificate.clone()));
        match committed {
            Ok(block) => say(&format!("committed {} {}", block.header.height, block.hash)),
            Err(CommitError::Store(error)) => {
                say(&format!("failed {}", error.code()));
                // However often it is tried, nothing is acknowledged any more.
                let again = chain.commit(staged, certificate).expect_err("after a failed write");
                assert_eq!(again, CommitError::Store(StoreError::Failed));
                return;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn say(line: &str) {
    stdout().write_all(format!("{line}\n").as_bytes()).expect("the parent reads");
    stdout().flush().expect("the parent reads");
}

/// The blocks that the process said were committed, up to a height, and why it stopped by itself.
fn acknowledged(output: impl Read, height_max: u64) -> (Vec<(u64, Hash)>, Option<String>) {
    let (mut blocks, mut stopped) = (Vec::new(), None);
    for line in BufReader::new(output).lines() {
        let line = line.expect("text");
        if let Some((_, reason)) = line.split_once("failed ") {
            stopped = Some(reason.to_owned());
        }
        let Some((_, rest)) = line.split_once("committed ") else { continue };
        let (height, hash) = rest.split_once(' ').expect("height and hash");
        let height = height.parse().expect("a height");
        blocks.push((height, hash.parse().expect("a hash")));
        if height >= height_max {
            break;
        }
    }
    (blocks, stopped)
}

/// Every acknowledged block is there, and everything committed is whole.
fn check(fixture: &Fixture, model: &mut Model, acknowledged: &[(u64, Hash)]) {
    assert!(!acknowledged.is_empty(), "the process committed something");
    let chain = fixture.open();
    for (height, hash) in acknowledged {
        let found = chain.reader().header(*height).expect("readable").expect("acknowledged");
        assert_eq!(found.header.hash(), *hash, "height {height}");
    }
    model.follow(&chain.reader());
}

#[test]
fn no_acknowledged_block_is_lost_when_the_process_is_killed() {
    let fixture = Fixture::new();
    let mut model = Model::new(&fixture.genesis);
    for round in 0..8u64 {
        // Kills at different heights, without a pause after the last acknowledgement.
        let target = model.header.height + 3 + round * 5;
        let mut child = Command::new(env::current_exe().expect("the test binary"))
            .args(PROCESS)
            .env(FOLDER, fixture.folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the test binary starts");
        let (blocks, stopped) = acknowledged(child.stdout.take().expect("piped"), target);
        assert_eq!(stopped, None);
        let locked = fixture.try_open().err();
        assert_eq!(locked, Some(StoreError::Locked(fixture.folder.path().to_owned())));
        child.kill().expect("killed");
        child.wait().expect("ended");
        check(&fixture, &mut model, &blocks);
    }
}

#[test]
fn a_failed_write_ends_acknowledgement_and_loses_nothing_acknowledged() {
    let fixture = Fixture::new();
    let mut model = Model::new(&fixture.genesis);
    // A limit of 256 KB a file stands for a full disk: the write-ahead log cannot grow.
    let script = "trap '' XFSZ; ulimit -f 512; exec \"$@\"";
    let mut child = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(env::current_exe().expect("the test binary"))
        .args(PROCESS)
        .env(FOLDER, fixture.folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the test binary starts");
    let (blocks, stopped) = acknowledged(child.stdout.take().expect("piped"), u64::MAX);
    assert_eq!(stopped.as_deref(), Some("STORE_IO"));
    assert!(child.wait().expect("ended").success(), "and it stays so");
    check(&fixture, &mut model, &blocks);
}

#[test]
fn a_second_handle_is_told_that_the_store_is_open() {
    let fixture = Fixture::new();
    let _open = fixture.open();
    let refused = fixture.try_open().err().expect("locked");
    assert_eq!(refused, StoreError::Locked(fixture.folder.path().to_owned()));
}

#[test]
fn a_store_of_another_genesis_is_refused() {
    let fixture = Fixture::new();
    drop(fixture.open());
    let other = genesis(5);
    let refused = open_at(fixture.folder.path(), &other).err().expect("another chain");
    let (expected, found) = (other.chain_id(), fixture.genesis.chain_id());
    assert_eq!(refused, StoreError::OtherGenesis { expected, found });
}

#[test]
fn a_store_of_an_earlier_format_is_refused_whatever_it_is_opened_for() {
    let fixture = Fixture::new();
    let chain = fixture.open();
    let earlier = FORMAT - 1;
    let mut batch = chain.shared.store.batch();
    batch.put(Table::Meta, META_FORMAT, value::encode(&earlier));
    batch.write().expect("written");
    drop(chain);
    let refused = Some(StoreError::Format { expected: FORMAT, found: earlier });
    assert_eq!(fixture.try_open().err(), refused);
    assert_eq!(check_at(fixture.folder.path(), &fixture.genesis).err(), refused);
}

#[test]
fn nothing_is_written_after_a_failed_write() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    chain.shared.store.fail_writes();
    let staged = prepare(&chain, &[fixture.transaction(1, 0..1)]).staged;
    let certificate = finalization(&chain, &staged.block().header);
    let stored = chain.store_pending(staged.block(), staged.transactions());
    assert_eq!(stored, Err(StoreError::Failed));
    assert!(chain.commit(staged, certificate).is_err());
    assert_eq!(chain.tip().header.height, 0);
}
