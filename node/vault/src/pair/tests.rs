use std::{fs, path::Path};

use super::*;
use crate::vault::tests::{Place, mode};

/// A disk that fails, or too many open files, while the file is read again.
#[test]
fn the_only_root_key_is_not_destroyed_because_it_could_not_be_read_a_second_time() {
    let (here, pair) = left_at_the_last_step();
    let found = pair.read().expect("whole");
    assert_eq!(found.root_path, pair.new_root_path());
    mode(&found.root_path, 0o644);
    pair.settle(&found.root_path).expect("settled");
    mode(&pair.root_path(), 0o600);
    here.open();
}

/// The state between the second step and the third, as a crash there leaves it.
fn left_at_the_last_step() -> (Place, Pair) {
    let here = Place::new();
    drop(here.plain());
    let pair = Pair::new(&here.vault());
    fs::copy(pair.root_path(), here.path("new.key")).expect("copied");
    fs::rename(pair.root_path(), pair.new_root_path()).expect("moved");
    let other = Place::new();
    drop(other.plain());
    fs::copy(other.vault().join(ROOT_KEY), pair.root_path()).expect("copied");
    (here, pair)
}

#[test]
fn the_root_key_is_found_whatever_has_become_of_the_old_one() {
    let of_before: [&dyn Fn(&Path); 4] = [
        &|_| {},
        &|path| fs::remove_file(path).expect("removed"),
        &|path| fs::write(path, [0; 300]).expect("overwritten"),
        &|path| fs::write(path, "half").expect("overwritten"),
    ];
    for change in of_before {
        let (here, pair) = left_at_the_last_step();
        change(&pair.root_path());
        here.open();
        let found = pair.read().expect("whole");
        assert_eq!(found.root_path, pair.root_path(), "it was moved");
        assert!(!pair.new_root_path().exists());
        assert_eq!(
            fs::read(here.path("new.key")).expect("there"),
            fs::read(pair.root_path()).expect("there")
        );
    }
}

#[test]
fn a_root_key_that_cannot_be_read_is_told_and_nothing_is_removed() {
    let (here, pair) = left_at_the_last_step();
    mode(&pair.new_root_path(), 0o644);
    assert_eq!(pair.read().err().expect("not read").code(), "VAULT_PERMISSIONS");
    mode(&pair.new_root_path(), 0o600);
    here.open();
    // A renewal that did not come to its second step has left something that nobody needs to read.
    fs::write(pair.new_root_path(), "half").expect("written");
    fs::create_dir(here.vault().join(".other.new")).expect("made");
    here.open();
    assert!(!pair.new_root_path().exists() && here.vault().join(".other.new").exists());
}

#[test]
fn the_old_root_key_is_overwritten_before_it_goes() {
    let here = Place::new();
    drop(here.plain());
    let pair = Pair::new(&here.vault());
    let old = here.path("other name");
    fs::hard_link(pair.root_path(), &old).expect("another name");
    here.open().renew_root(&[]).expect("renewed");
    let bytes = fs::read(&old).expect("there");
    assert!(bytes.iter().all(|byte| *byte == 0), "under its other name too");
}
