//! Backups are made, kept, and put back.

use std::{fs, path::PathBuf};

use super::{
    checked::{check_at, dump, lived},
    *,
};
use crate::store::{backups, restore};

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
    let first = reader.back_up(directory.path(), 2).expect("made");
    let then = chain.tip();
    let shared = files(&directory.path().join("shared_checksum"));
    commit(&mut chain, &[fixture.transaction(1, 300..304)]);
    let second = reader.back_up(directory.path(), 2).expect("made");
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
    let third = reader.back_up(directory.path(), 1).expect("made");
    assert_eq!(backups(directory.path()), Ok(vec![third]));
}

#[test]
fn a_damaged_backup_is_not_restored_and_another_that_is_sound_is() {
    let fixture = Fixture::new();
    let directory = tempfile::tempdir().expect("a folder");
    let chain = lived(&fixture);
    let backup = chain.reader().back_up(directory.path(), 9).expect("made");
    drop(chain);
    let genuine = dump(fixture.folder.path()).expect("readable");
    let all = files(directory.path());
    assert!(all.len() > 10, "{all:?}");
    for file in all {
        let bytes = fs::read(&file).expect("readable");
        if bytes.is_empty() {
            continue;
        }
        let mut damaged = bytes.clone();
        damaged[bytes.len() / 2] ^= 2;
        fs::write(&file, damaged).expect("written");
        let restored = tempfile::tempdir().expect("a folder");
        let is_restored = restore(directory.path(), backup.id, restored.path());
        assert!(is_restored.is_err(), "{}", file.display());
        fs::write(&file, bytes).expect("put back");
    }
    let restored = tempfile::tempdir().expect("a folder");
    restore(directory.path(), backup.id, restored.path()).expect("sound");
    assert_eq!(dump(restored.path()), Ok(genuine));
}
