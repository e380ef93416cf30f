use std::fs;

use super::*;
use crate::{
    sealed::SealedKind,
    vault::tests::{Place, mode, opened, place, seal, sealed},
    vault::{Protection, Vault},
};

/// The backups that can be read, by their numbers.
fn numbers(directory: &Path) -> Vec<u32> {
    let found = backups(directory).expect("listed").into_iter();
    found.filter_map(|backup| backup.ok().map(|backup| backup.number)).collect()
}

#[test]
fn a_backup_opens_what_was_sealed_before_it_and_the_vault_goes_on_behind_what_came_after() {
    let here = Place::new();
    let vault = Vault::create(&here.vault(), &here.passphrase()).expect("made");
    let before = sealed(&vault, b"before");
    let backup = vault.back_up(&here.path("backups"), 3).expect("backed up");
    assert_eq!((backup.number, backup.generation, backup.vault), (1, 2, vault.id()));
    let said = backup.to_string();
    assert!(said.contains("passphrase that the vault had then"), "{said}");
    // A group of after the backup.
    let later = "2031-08".parse().expect("a month");
    let after = seal(&vault, place(SealedKind::Record), later, b"after").expect("sealed").stored();
    drop(vault);

    let into = here.path("restored");
    restore(&backup.path, &into).expect("restored");
    for _ in 0..2 {
        let vault = Vault::open(&into, &here.passphrase()).expect("opened");
        assert_eq!(opened(&vault, &before), b"before");
        let error = vault.open_sealed(place(SealedKind::Record), &after).expect_err("later");
        assert_eq!(error.code(), "VAULT_GROUP_UNKNOWN", "lost, and not purged");
        let new = sealed(&vault, b"new");
        assert_ne!(new.key().group(), after.key().group());
        assert_ne!(new.key().group(), before.key().group());
        assert!(vault.open_sealed(place(SealedKind::Record), &after).is_err());
    }
    let error = restore(&backup.path, &into).expect_err("taken");
    assert_eq!(error.code(), "VAULT_EXISTS");
}

#[test]
fn the_newest_are_kept_and_none_goes_for_one_that_is_damaged() {
    let here = Place::new();
    let vault = here.plain();
    let directory = here.path("backups");
    for _ in 0..3 {
        vault.back_up(&directory, 2).expect("backed up");
    }
    assert_eq!(numbers(&directory), [2, 3]);
    fs::write(directory.join("vault-000003/keys"), b"rotten").expect("written");
    vault.back_up(&directory, 2).expect("backed up");
    assert_eq!(numbers(&directory), [2, 4], "2 is there for 3");
    let found = backups(&directory).expect("listed");
    let broken: Vec<_> = found.iter().filter_map(|found| found.as_ref().err()).collect();
    assert_eq!(broken.iter().map(|error| error.code()).collect::<Vec<_>>(), ["VAULT_TORN"]);
    vault.back_up(&directory, 2).expect("backed up");
    assert_eq!(numbers(&directory), [4, 5]);
    assert_eq!(fs::read_dir(&directory).expect("there").count(), 3, "and the lock");
    vault.back_up(&directory, 0).expect("backed up");
    assert_eq!(numbers(&directory), [6], "one at least");
}

#[test]
fn the_directory_of_another_vaults_backups_is_refused() {
    let (here, there) = (Place::new(), Place::new());
    let directory = here.path("backups");
    here.plain().back_up(&directory, 2).expect("backed up");
    let error = there.plain().back_up(&directory, 2).expect_err("another's");
    assert_eq!(error.code(), "VAULT_FOREIGN");
    assert_eq!(numbers(&directory), [1]);
}

#[test]
fn a_backup_that_is_damaged_or_open_to_others_is_not_restored() {
    let here = Place::new();
    let backup = here.plain().back_up(&here.path("backups"), 2).expect("backed up");
    let into = here.path("restored");
    for name in ["root.key", "keys"] {
        let path = backup.path.join(name);
        let bytes = fs::read(&path).expect("there");
        let mut changed = bytes.clone();
        changed[bytes.len() / 2] ^= 1;
        fs::write(&path, changed).expect("written");
        assert_eq!(restore(&backup.path, &into).expect_err("damaged").code(), "VAULT_DAMAGED");
        fs::write(&path, bytes).expect("written");
        mode(&path, 0o644);
        assert_eq!(restore(&backup.path, &into).expect_err("open").code(), "VAULT_PERMISSIONS");
        mode(&path, 0o600);
    }
    assert!(!into.exists());
    restore(&backup.path, &into).expect("restored");
    Vault::open(&into, &Protection::Plain).expect("opened");
}

#[test]
fn a_backup_that_is_broken_off_is_not_there_and_no_older_one_is_gone() {
    let here = Place::new();
    let vault = here.plain();
    let directory = here.path("backups");
    vault.back_up(&directory, 1).expect("backed up");
    for step in 0..=2 {
        let error = crate::pair::crash::broken_off(step, || vault.back_up(&directory, 1));
        assert_eq!(error.expect_err("broken off").code(), "VAULT_IO");
        assert_eq!(numbers(&directory), [1]);
    }
    vault.back_up(&directory, 1).expect("backed up");
    assert_eq!(numbers(&directory), [2]);
    assert_eq!(fs::read_dir(&directory).expect("there").count(), 2, "and the lock");
}

/// What a crash leaves, which a passing error does not.
#[test]
fn what_a_backup_that_was_broken_off_has_left_is_listed_and_goes_with_the_next() {
    let here = Place::new();
    let vault = here.plain();
    let directory = here.path("backups");
    let backup = vault.back_up(&directory, 1).expect("backed up");
    let left = directory.join(".vault-000007.new");
    fs::rename(&backup.path, &left).expect("moved");
    let copy = here.path("other name");
    fs::hard_link(left.join("root.key"), &copy).expect("another name");
    let found = backups(&directory).expect("listed");
    let codes: Vec<_> =
        found.iter().map(|found| found.as_ref().err().map(VaultError::code)).collect();
    assert_eq!(codes, [Some("VAULT_LEFT_BEHIND")]);
    vault.back_up(&directory, 1).expect("backed up");
    assert!(!left.exists());
    let bytes = fs::read(&copy).expect("there");
    assert!(bytes.iter().all(|byte| *byte == 0), "overwritten, and not only removed");
    // The same beside a vault that is put back.
    let beside = here.path(".restored.new");
    fs::rename(directory.join("vault-000001"), &beside).expect("moved");
    vault.back_up(&directory, 1).expect("backed up");
    restore(&directory.join("vault-000001"), &here.path("restored")).expect("restored");
    assert!(!beside.exists());
}

#[test]
fn two_backups_at_once_do_not_write_to_one_directory() {
    let here = Place::new();
    let vault = here.plain();
    let directory = here.path("backups");
    vault.back_up(&directory, 1).expect("backed up");
    let _held = DirectoryLock::take(&directory).expect("there").expect("free");
    assert_eq!(vault.back_up(&directory, 1).expect_err("held").code(), "VAULT_LOCKED");
}

#[test]
fn a_backup_that_is_put_back_by_hand_and_again_gives_out_no_group_twice() {
    let here = Place::new();
    let vault = here.plain();
    let backup = vault.back_up(&here.path("backups"), 1).expect("backed up");
    let mut groups = vec![sealed(&vault, b"bytes").key().group()];
    drop(vault);
    for _ in 0..3 {
        fs::remove_dir_all(here.vault()).expect("lost");
        fs::create_dir(here.vault()).expect("made");
        mode(&here.vault(), 0o700);
        for name in ["root.key", "keys"] {
            fs::copy(backup.path.join(name), here.vault().join(name)).expect("copied");
        }
        let vault = here.open();
        for group in &groups {
            let error = vault.knows(*group).expect_err("not known here");
            assert_eq!(error.code(), "VAULT_GROUP_UNKNOWN", "lost, and not purged");
        }
        groups.push(sealed(&vault, b"bytes").key().group());
    }
    groups.sort_unstable();
    groups.dedup();
    assert_eq!(groups.len(), 4);
    let error = restore(&here.vault(), &here.path("restored")).expect_err("no backup");
    assert_eq!(error.code(), "VAULT_NO_COPY");
}

/// A backup has what there was before a round or what there is after it, and says which.
#[test]
fn backups_that_are_made_during_rounds_are_of_the_generation_that_they_say() {
    let here = Place::new();
    let vault = here.plain();
    let directory = here.path("backups");
    let record = sealed(&vault, b"purged");
    let groups = [record.key().group()];
    vault.close_groups(&groups, std::time::Duration::ZERO).expect("closed");
    let ended_from = std::thread::scope(|scope| {
        let renewing = scope.spawn(|| {
            vault.renew_root(&groups).expect("renewed");
            vault.generation()
        });
        for _ in 0..5 {
            vault.back_up(&directory, 100).expect("backed up");
        }
        renewing.join().expect("no panic")
    });
    for backup in backups(&directory).expect("listed") {
        let backup = backup.expect("whole");
        let into = here.path(&format!("restored-{}", backup.number));
        restore(&backup.path, &into).expect("restored");
        let restored = Vault::open(&into, &Protection::Plain).expect("opened");
        let opens = restored.open_sealed(place(SealedKind::Record), &record).is_ok();
        assert_eq!(opens, backup.generation < ended_from, "{backup}");
    }
}
