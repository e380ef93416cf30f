//! Backups are made, kept, and put back.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    checked::{check_at, dump, lived},
    *,
};
use crate::agency::AgencyCode;
use crate::store::{backup_owner, backups, restore};

/// The files under a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(directory).expect("a directory").map(|e| e.expect("an entry").path());
    let (folders, mut found): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    found.extend(folders.iter().flat_map(|folder| files(folder)));
    found.sort();
    found
}

#[test]
fn a_backup_has_the_state_of_its_moment_and_shares_files_with_the_others() {
    let fixture = Fixture::new();
    let directory = tempfile::tempdir().expect("a folder");
    assert_eq!(backups(directory.path()), Ok(Vec::new()));
    let mut chain = lived(&fixture);
    let reader = chain.reader();
    let first = reader.back_up(directory.path(), 2, None).expect("made");
    let then = chain.tip();
    let shared = files(&directory.path().join("shared_checksum"));
    commit(&mut chain, &[fixture.transaction(1, 300..304)]);
    let second = reader.back_up(directory.path(), 2, None).expect("made");
    let now = chain.tip();
    drop((chain, reader));
    let still = files(&directory.path().join("shared_checksum"));
    assert!(shared.iter().all(|file| still.contains(file)), "{shared:?} {still:?}");
    assert_eq!(backups(directory.path()), Ok(vec![first, second]));
    for (backup, tip) in [(first, then), (second, now)] {
        let restored = tempfile::tempdir().expect("a folder");
        restore(directory.path(), backup.id, restored.path()).expect("sound");
        let report = check_at(restored.path(), &fixture.genesis).expect("opened");
        assert_eq!((report.damage, report.block_hash), (vec![], tip.hash));
        let reopened = open_at(restored.path(), &fixture.genesis).expect("sound");
        assert_eq!(reopened.tip(), tip);
    }
    let reader = fixture.open().reader();
    let third = reader.back_up(directory.path(), 1, None).expect("made");
    assert_eq!(backups(directory.path()), Ok(vec![third]));
}

#[test]
fn backups_never_go_into_the_store_itself() {
    let fixture = Fixture::new();
    let chain = lived(&fixture);
    let link = tempfile::tempdir().expect("a folder");
    let link = link.path().join("link");
    std::os::unix::fs::symlink(fixture.folder.path(), &link).expect("made");
    let before = files(fixture.folder.path());
    for inside in
        [fixture.folder.path().to_owned(), fixture.folder.path().join("a/b"), link.join("c")]
    {
        let refused = chain.reader().back_up(&inside, 2, None).expect_err("refused");
        assert_eq!(refused.code(), "BACKUP_IN_STORE", "{refused}");
    }
    assert_eq!(files(fixture.folder.path()), before);
}

#[test]
fn a_restore_that_fails_names_where_it_was_to_go() {
    let fixture = Fixture::new();
    let directory = tempfile::tempdir().expect("a folder");
    let backup = lived(&fixture).reader().back_up(directory.path(), 2, None).expect("made");
    let file = directory.path().join("file");
    fs::write(&file, "in the way").expect("written");
    let to = file.join("store");
    let refused = restore(directory.path(), backup.id, &to).expect_err("refused").to_string();
    assert!(refused.contains(&format!(" to {}: ", to.display())), "{refused}");
}

#[test]
fn a_damaged_backup_is_not_restored_and_another_that_is_sound_is() {
    let fixture = Fixture::new();
    let directory = tempfile::tempdir().expect("a folder");
    let chain = lived(&fixture);
    let backup = chain.reader().back_up(directory.path(), 9, None).expect("made");
    drop(chain);
    let genuine = dump(fixture.folder.path()).expect("readable");
    let all = files(directory.path());
    assert!(all.len() > 10, "{all:?}");
    for file in all {
        let bytes = fs::read(&file).expect("readable");
        // The file that names the owner is not a part of the backup.
        if bytes.is_empty() || file.ends_with("OWNER") {
            continue;
        }
        let mut damaged = bytes.clone();
        damaged[bytes.len() / 2] ^= 2;
        fs::write(&file, damaged).expect("written");
        let restored = tempfile::tempdir().expect("a folder");
        let error = restore(directory.path(), backup.id, restored.path()).expect_err("damaged");
        let name = file.strip_prefix(directory.path()).expect("below").display().to_string();
        // A damaged list names what is not there.
        let is_named = error.to_string().contains(&name) || name.starts_with("meta");
        assert!(is_named, "{name}: {error}");
        assert!(error.is_corruption(), "{error}");
        fs::write(&file, bytes).expect("put back");
    }
    let restored = tempfile::tempdir().expect("a folder");
    restore(directory.path(), backup.id, restored.path()).expect("sound");
    assert_eq!(dump(restored.path()), Ok(genuine));
}

#[test]
fn a_shared_file_that_rots_fails_the_next_backup_and_nothing_is_removed() {
    let fixture = Fixture::new();
    let directory = tempfile::tempdir().expect("a folder");
    let mut chain = lived(&fixture);
    let reader = chain.reader();
    let first = reader.back_up(directory.path(), 9, None).expect("made");
    commit(&mut chain, &[fixture.transaction(1, 300..304)]);
    let shared = files(&directory.path().join("shared_checksum"));
    assert!(shared.len() > 10, "{shared:?}");
    for file in &shared[..3] {
        let before = backups(directory.path()).expect("read");
        let bytes = fs::read(file).expect("readable");
        let mut damaged = bytes.clone();
        damaged[bytes.len() - 30] ^= 1;
        fs::write(file, damaged).expect("written");
        let error = reader.back_up(directory.path(), 1, None).expect_err("damaged");
        let name = file.file_name().expect("a name").to_string_lossy();
        for part in [&*name, "CRC-32C", "No older backup was removed", "move the directory away"] {
            assert!(error.to_string().contains(part), "{error} lacks {part}");
        }
        assert!(matches!(error, StoreError::BackupDamaged(_)) && error.is_corruption());
        let left = backups(directory.path()).expect("read");
        assert_eq!(left[..before.len()], before);
        // Where a file is missing, the engine passes over all backups that share it.
        fs::remove_file(file).expect("removed");
        let error = reader.back_up(directory.path(), 1, None).expect_err("missing");
        assert!(error.to_string().contains(&*name), "{error}");
        fs::write(file, bytes).expect("put back");
        assert_eq!(backups(directory.path()).expect("read"), left);
    }
    let last = reader.back_up(directory.path(), 1, None).expect("sound again");
    assert_eq!(backups(directory.path()), Ok(vec![last]));
    assert!(last.id > first.id);
}

#[test]
fn a_directory_of_backups_is_one_stores_which_a_restored_one_is() {
    let (fixture, directory) = (Fixture::new(), tempfile::tempdir().expect("a folder"));
    let agency = |code: &str| Some(code.parse::<AgencyCode>().expect("a code"));
    assert_eq!(backup_owner(directory.path()), Ok(None));
    let chain = lived(&fixture);
    let first = chain.reader().back_up(directory.path(), 9, agency("NL")).expect("made");
    let owner = backup_owner(directory.path()).expect("read").expect("it says whose it is");
    assert_eq!((owner.chain_id, owner.agency), (fixture.genesis.chain_id(), agency("NL")));
    assert!(owner.store.len() > 30, "{owner}");
    chain.reader().back_up(directory.path(), 9, None).expect("the same store");

    let other = Fixture::new();
    let others = other.open().reader();
    for (reader, whose) in [(&others, agency("NL")), (&chain.reader(), agency("DE"))] {
        let error = reader.back_up(directory.path(), 1, whose).expect_err("another's");
        for part in ["NL's store", &*owner.store, "OWNER", "a directory of its own"] {
            assert!(error.to_string().contains(part), "{error} lacks {part}");
        }
        assert_eq!((error.code(), error.is_corruption()), ("BACKUP_OTHER_STORE", false));
    }
    drop(chain);

    let restored = tempfile::tempdir().expect("a folder");
    restore(directory.path(), first.id, restored.path()).expect("sound");
    let again = open_at(restored.path(), &fixture.genesis).expect("sound");
    again.reader().back_up(directory.path(), 9, agency("NL")).expect("the store that was put back");
    assert_eq!(backups(directory.path()).expect("read").len(), 3);

    let marker = directory.path().join("OWNER");
    fs::write(&marker, "{").expect("written");
    let error = again.reader().back_up(directory.path(), 1, None).expect_err("damaged");
    assert!(error.to_string().contains("OWNER") && error.is_corruption(), "{error}");
    fs::remove_file(&marker).expect("removed");
    others.back_up(directory.path(), 9, None).expect("taken over, as the error says");
}

#[test]
fn a_store_whose_file_is_damaged_is_not_copied() {
    let (fixture, directory) = (Fixture::new(), tempfile::tempdir().expect("a folder"));
    let chain = lived(&fixture);
    let file = files(fixture.folder.path())
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "blob"));
    let file = file.expect("there is one");
    let mut bytes = fs::read(&file).expect("readable");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, bytes).expect("written");
    let error = chain.reader().back_up(directory.path(), 9, None).expect_err("damaged");
    assert!(error.is_corruption() && error.to_string().contains(".blob"), "{error}");
    assert_eq!(backups(directory.path()), Ok(Vec::new()));
}

const FOLDER: &str = "CUSTOMHOUSE_TEST_BACKUP_FOLDER";
const PROCESS: [&str; 3] =
    ["--exact", "chain::tests::backups::the_process_that_backs_up", "--nocapture"];

/// Not a test by itself: the process that the test below kills.
#[test]
fn the_process_that_backs_up() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let (folder, fixture) = (Path::new(&folder), Fixture::new());
    let mut chain = open_at(&folder.join("store"), &fixture.genesis).expect("a sound store");
    loop {
        back_up_one_more(&fixture, &mut chain, folder);
    }
}

/// A backup with a block that the last did not have.
fn back_up_one_more(fixture: &Fixture, chain: &mut Chain, folder: &Path) -> u32 {
    let first = chain.tip().header.height * 1000;
    commit(chain, &[fixture.transaction(1, first..first + 20)]);
    let made = chain.reader().back_up(&folder.join("backups"), 3, None);
    made.expect("made").id
}

fn names(directory: &Path) -> BTreeSet<OsString> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(Result::ok).map(|entry| entry.file_name()).collect()
}

/// Waits until the contents of a directory have changed `times` times.
fn until_changed(directory: &Path, times: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let (mut seen, mut changes) = (names(directory), 0);
    while changes < times {
        let now = names(directory);
        changes += usize::from(now != seen);
        seen = now;
        assert!(Instant::now() < deadline, "{changes} changes in {}", directory.display());
    }
}

#[test]
fn a_kill_in_the_middle_of_a_backup_spoils_no_other_and_the_next_is_made() {
    let (fixture, folder) = (Fixture::new(), tempfile::tempdir().expect("a folder"));
    let (store, directory) = (folder.path().join("store"), folder.path().join("backups"));
    let restored_tip = |id| {
        let to = tempfile::tempdir().expect("a folder");
        restore(&directory, id, to.path()).expect("sound");
        open_at(to.path(), &fixture.genesis).expect("sound").tip()
    };
    for round in 0..9 {
        let mut child = Command::new(env::current_exe().expect("the test binary"))
            .args(PROCESS)
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the test binary starts");
        // Where names appear while shared files are copied, while private ones are, and when all are there.
        let place = directory.join(["shared_checksum", "private", "meta"][round % 3]);
        until_changed(&place, 1 + round / 3);
        child.kill().expect("killed");
        child.wait().expect("ended");
        for backup in backups(&directory).expect("a directory of backups") {
            restored_tip(backup.id);
        }
        let mut chain = open_at(&store, &fixture.genesis).expect("a sound store");
        let id = back_up_one_more(&fixture, &mut chain, folder.path());
        assert_eq!(restored_tip(id), chain.tip(), "round {round}");
        assert!(backups(&directory).expect("readable").len() <= 3, "round {round}");
    }
}
