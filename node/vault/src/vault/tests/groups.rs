//! Groups: when one begins, is closed and ended, and what becomes of what was sealed.

use std::time::Duration;

use super::{Place, epoch, mode, month, opened, place, seal, sealed};
use crate::{
    contents::RESERVED,
    error::VaultError,
    group::{GROUP_KEYS_MAX, GroupNumber, RetentionMonth},
    pair::crash::broken_off,
    sealed::{SealedBytes, SealedKind, WrappedKey},
    vault::{Protection, Vault},
};

fn group_of(vault: &Vault, month: RetentionMonth) -> GroupNumber {
    let sealed = seal(vault, place(SealedKind::Record), month, b"").expect("sealed");
    sealed.stored().key().group()
}

/// The place of a group among those of the vault's first incarnation.
fn index(group: GroupNumber) -> u64 {
    group.0 & 0xffff_ffff
}

#[test]
fn a_month_has_a_group_of_its_own_which_a_restart_goes_on_with() {
    let here = Place::new();
    let (july, august) = (month("2031-07"), month("2031-08"));
    let mut vault = here.plain();
    let record = sealed(&vault, b"before");
    for _ in 0..GROUP_KEYS_MAX / RESERVED {
        assert_eq!(index(group_of(&vault, july)), 0);
        assert_eq!(index(group_of(&vault, august)), 1);
        drop(vault);
        vault = here.open();
        assert_eq!(opened(&vault, &record), b"before");
    }
    // Each restart has used up what was reserved.
    assert_eq!((index(group_of(&vault, july)), index(group_of(&vault, august))), (2, 3));
    let found: Vec<_> = vault.groups().into_iter().map(|(n, month)| (index(n), month)).collect();
    assert_eq!(found, [(0, july), (1, august), (2, july), (3, august)]);
}

#[test]
fn a_group_that_is_full_is_followed_by_another() {
    let here = Place::new();
    let vault = here.plain();
    let july = month("2031-07");
    let wrapped = *sealed(&vault, b"").key();
    // The first is taken; the last that there is room for is still in the group.
    for _ in 1..GROUP_KEYS_MAX {
        let key = rewrapped(&vault, july, &wrapped);
        assert_eq!(index(key.group()), 0);
    }
    let writings = u64::from(GROUP_KEYS_MAX / RESERVED);
    assert_eq!(vault.generation(), 1 + writings, "nothing else was written for these");
    assert_eq!(index(group_of(&vault, july)), 1);
}

pub(super) fn rewrapped(vault: &Vault, month: RetentionMonth, wrapped: &WrappedKey) -> WrappedKey {
    let anew = vault.rewrap::<VaultError>(place(SealedKind::Record), month, wrapped, |_| Ok(()));
    anew.expect("wrapped anew").stored()
}

pub(super) fn close(vault: &Vault, groups: &[GroupNumber]) {
    vault.close_groups(groups, Duration::ZERO).expect("closed");
}

#[test]
fn what_was_sealed_under_a_group_that_was_ended_is_told_by_name() {
    let here = Place::new();
    let vault = here.plain();
    let (gone, kept) = (sealed(&vault, b"purged"), sealed(&vault, b"kept"));
    let place = place(SealedKind::Record);
    let touched = [gone.key().group()];
    close(&vault, &touched);
    let anew = rewrapped(&vault, month("2031-07"), kept.key());
    assert_ne!(anew.group(), touched[0]);
    let kept = kept.with_key(anew);
    vault.end_groups(&touched).expect("ended");
    let look = |vault: &Vault| {
        let error = vault.open_sealed(place, &gone).expect_err("ended");
        assert_eq!(error.code(), "VAULT_ENDED");
        assert_eq!(opened(vault, &kept), b"kept");
        let error =
            vault.open_sealed(place, &forged(&gone, touched[0].0 + 1000)).expect_err("never made");
        assert_eq!(error.code(), "VAULT_GROUP_UNKNOWN");
    };
    look(&vault);
    drop(vault);
    look(&here.open());
}

/// The same bytes, as if of another group.
fn forged(sealed: &SealedBytes, group: u64) -> SealedBytes {
    let mut bytes = sealed.encode();
    bytes[1..9].copy_from_slice(&group.to_be_bytes());
    SealedBytes::decode(&bytes).expect("the form")
}

#[test]
fn a_key_does_not_open_as_one_of_another_group() {
    let here = Place::new();
    let vault = here.plain();
    let record = sealed(&vault, b"bytes");
    let other = group_of(&vault, month("2031-08"));
    let error = vault.open_sealed(place(SealedKind::Record), &forged(&record, other.0));
    assert_eq!(error.expect_err("another").code(), "VAULT_NOT_AUTHENTIC");
}

#[test]
fn after_the_root_key_is_renewed_no_older_keys_open_and_none_that_are_newer_under_the_old_root() {
    let here = Place::new();
    let vault = here.plain();
    let (gone, kept) = (sealed(&vault, b"purged"), {
        let august = month("2031-08");
        seal(&vault, place(SealedKind::Record), august, b"kept").expect("sealed").stored()
    });
    let read = |name: &str| std::fs::read(here.vault().join(name)).expect("there");
    let (old_root, old_keys) = (read("root.key"), read("keys"));
    close(&vault, &[gone.key().group()]);
    vault.renew_root(&[gone.key().group()]).expect("renewed");
    let error = vault.open_sealed(place(SealedKind::Record), &gone).expect_err("ended");
    assert_eq!(error.code(), "VAULT_ENDED");
    assert_eq!(opened(&vault, &kept), b"kept");
    drop(vault);
    let new_root = read("root.key");
    for (name, older) in [("keys", old_keys), ("root.key", old_root)] {
        let present = read(name);
        std::fs::write(here.vault().join(name), older).expect("written");
        assert_eq!(here.code(&Protection::Plain), "VAULT_OTHER_ROOT", "{name}");
        std::fs::write(here.vault().join(name), present).expect("written");
    }
    assert_eq!(read("root.key"), new_root);
    assert_eq!(opened(&here.open(), &kept), b"kept");
}

#[test]
fn a_renewal_that_is_broken_off_anywhere_leaves_a_vault_that_opens() {
    for step in 0..=2 {
        let here = Place::new();
        let vault = here.plain();
        let record = sealed(&vault, b"bytes");
        let read = |name: &str| std::fs::read(here.vault().join(name)).expect("there");
        let before = read("root.key");
        let renewed = broken_off(step, || vault.renew_root(&[]));
        // In its last step it is completed at once.
        assert_eq!(renewed.is_ok(), step == 2, "{step}");
        assert_eq!(read("root.key") == before, step < 2, "{step}");
        drop(vault);
        // A crash while a file was being written leaves that too.
        std::fs::write(here.vault().join(".keys.1.new"), "half").expect("written");
        let vault = here.open();
        assert_eq!(opened(&vault, &record), b"bytes", "{step}");
        let mut names: Vec<_> = std::fs::read_dir(here.vault())
            .expect("there")
            .map(|entry| entry.expect("there").file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["LOCK", "keys", "root.key"], "{step}");
        vault.renew_root(&[]).expect("renewed");
    }
}

#[test]
fn one_failed_writing_of_a_renewal_stops_nothing() {
    for step in 0..=2 {
        let here = Place::new();
        let vault = here.plain();
        let record = sealed(&vault, b"bytes");
        let _failed = broken_off(step, || vault.renew_root(&[]));
        let other = seal(&vault, place(SealedKind::Record), month("2031-08"), b"new group");
        let other = other.expect("a new group").stored();
        vault.renew_root(&[]).expect("renewed");
        drop(vault);
        let vault = here.open();
        assert_eq!(opened(&vault, &record), b"bytes", "{step}");
        assert_eq!(opened(&vault, &other), b"new group", "{step}");
    }
}

/// The new root key is in use then, and in a file that the next renewal writes.
#[test]
fn a_renewal_whose_last_step_fails_is_completed_before_the_next_begins() {
    let here = Place::new();
    let vault = here.plain();
    let purged = sealed(&vault, b"purged");
    let groups = [purged.key().group()];
    close(&vault, &groups);
    let error = broken_off(3, || vault.renew_root(&groups)).expect_err("not destroyed");
    assert_eq!(error.code(), "VAULT_IO");
    let look = |vault: &Vault| {
        let error = vault.open_sealed(place(SealedKind::Record), &purged).expect_err("ended");
        assert_eq!(error.code(), "VAULT_ENDED");
    };
    look(&vault);
    let record = sealed(&vault, b"bytes");
    broken_off(1, || vault.renew_root(&[])).expect_err("broken off");
    drop(vault);
    let vault = here.open();
    look(&vault);
    assert_eq!(opened(&vault, &record), b"bytes");
}

#[test]
fn a_vault_whose_keys_cannot_be_read_after_a_failed_writing_changes_nothing_any_more() {
    let here = Place::new();
    let vault = here.plain();
    let record = sealed(&vault, b"bytes");
    let keys = here.vault().join("keys");
    mode(&keys, 0o644);
    let error = broken_off(1, || vault.renew_root(&[])).expect_err("not known what is there");
    assert_eq!(error.code(), "VAULT_BROKEN_OFF");
    mode(&keys, 0o600);
    assert_eq!(opened(&vault, &record), b"bytes", "what is read goes on");
    for error in [vault.renew_root(&[]), vault.put_epoch(epoch(1, 2))] {
        assert_eq!(error.expect_err("not known what is there").code(), "VAULT_BROKEN_OFF");
    }
    let error = vault.back_up(&here.path("backups"), 1).expect_err("nor here");
    assert_eq!(error.code(), "VAULT_BROKEN_OFF");
    drop(vault);
    here.open().renew_root(&[]).expect("renewed");
}

#[test]
fn a_group_that_could_not_be_kept_has_nothing_sealed_under_it() {
    let here = Place::new();
    let vault = here.plain();
    let place = place(SealedKind::Record);
    let error = broken_off(0, || seal(&vault, place, month("2031-07"), b"bytes"));
    assert_eq!(error.expect_err("broken off").code(), "VAULT_IO");
    assert_eq!(vault.groups(), []);
    let record = sealed(&vault, b"bytes");
    drop(vault);
    assert_eq!(opened(&here.open(), &record), b"bytes");
}

#[test]
fn groups_that_others_seal_in_at_once_are_one() {
    let here = Place::new();
    let vault = here.plain();
    std::thread::scope(|scope| {
        for byte in 0..8_u8 {
            let vault = &vault;
            scope.spawn(move || {
                for _ in 0..50 {
                    let record = sealed(vault, &[byte; 100]);
                    assert_eq!(opened(vault, &record), [byte; 100]);
                    assert_eq!(index(record.key().group()), 0);
                }
            });
        }
    });
}
