//! Killed at any moment, a chain has every block that it said was committed.

use std::{
    env,
    io::{BufRead, BufReader, Write, stdout},
    process::{Command, Stdio},
};

use super::*;

const FOLDER: &str = "CUSTOMHOUSE_TEST_COMMIT_FOLDER";

/// Not a test by itself: the process that the test below starts and kills. It commits without end
/// and says so after each block.
#[test]
fn the_process_that_is_killed() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let fixture = Fixture::new();
    let mut chain = open_at(Path::new(&folder), &fixture.genesis).expect("a sound store");
    loop {
        let height = chain.tip().header.height;
        let first = height * 1000;
        let transactions: Vec<_> = (0..height % 7)
            .map(|i| fixture.transaction(1, first + i * 10..first + i * 10 + 5))
            .collect();
        let committed = commit(&mut chain, &transactions);
        let line = format!("committed {} {}\n", committed.header.height, committed.hash);
        stdout().write_all(line.as_bytes()).expect("the parent reads");
        stdout().flush().expect("the parent reads");
    }
}

#[test]
fn no_acknowledged_block_is_lost_when_the_process_is_killed() {
    let fixture = Fixture::new();
    let mut model = Model::new(&fixture.genesis);
    for round in 0..8u64 {
        // Kills at different heights, without a pause after the last acknowledgement.
        let target = model.header.height + 3 + round * 5;
        let mut child = Command::new(env::current_exe().expect("the test binary"))
            .args(["--exact", "chain::tests::durability::the_process_that_is_killed"])
            .arg("--nocapture")
            .env(FOLDER, fixture.folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the test binary starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut acknowledged = Vec::new();
        for line in lines {
            let line = line.expect("text");
            let Some((_, rest)) = line.split_once("committed ") else { continue };
            let (height, hash) = rest.split_once(' ').expect("height and hash");
            let height: u64 = height.parse().expect("a height");
            acknowledged.push((height, hash.parse::<Hash>().expect("a hash")));
            if height >= target {
                break;
            }
        }
        child.kill().expect("killed");
        child.wait().expect("ended");
        let chain = fixture.open();
        let reader = chain.reader();
        assert!(!acknowledged.is_empty(), "the child committed something");
        for (height, hash) in acknowledged {
            let found = reader.header(height).expect("readable").expect("acknowledged");
            assert_eq!(found.header.hash(), hash, "height {height}");
        }
        model.follow(&reader);
    }
}

#[test]
fn a_second_process_is_told_that_the_store_is_open() {
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
