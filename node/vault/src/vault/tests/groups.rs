//! Groups: when one begins, is closed and ended, and what becomes of what was sealed.

use super::{Place, month, opened, place, sealed};
use crate::{
    group::{GroupNumber, RetentionMonth},
    pair::crash::broken_off,
    sealed::{SealedBytes, SealedKind},
    vault::{GROUP_KEYS_MAX, Protection, Vault},
};

fn group_of(vault: &Vault, month: RetentionMonth) -> GroupNumber {
    let place = place(SealedKind::Record);
    vault.seal(place, month, b"").expect("sealed").key().group()
}

#[test]
fn a_month_has_a_group_of_its_own_and_a_restart_begins_another() {
    let here = Place::new();
    let (july, august) = (month("2031-07"), month("2031-08"));
    let vault = here.plain();
    assert_eq!([group_of(&vault, july), group_of(&vault, july)], [GroupNumber(0); 2]);
    assert_eq!(group_of(&vault, august), GroupNumber(1));
    let record = sealed(&vault, b"before");
    drop(vault);
    let vault = here.open();
    assert_eq!(opened(&vault, &record), b"before");
    assert_eq!(group_of(&vault, july), GroupNumber(2));
    assert_eq!(
        vault.groups(),
        [(0, july), (1, august), (2, july)].map(|(n, m)| (GroupNumber(n), m))
    );
}

#[test]
fn a_group_that_is_full_is_followed_by_another() {
    let here = Place::new();
    let vault = here.plain();
    let july = month("2031-07");
    let place = place(SealedKind::Record);
    let wrapped = *vault.seal(place, july, b"").expect("sealed").key();
    // The first is taken; the last that there is room for is still in the group.
    for _ in 1..GROUP_KEYS_MAX {
        let key = vault.rewrap(place, july, &wrapped).expect("wrapped");
        assert_eq!(key.group(), GroupNumber(0));
    }
    assert_eq!(vault.generation(), 2, "nothing was written for these");
    assert_eq!(group_of(&vault, july), GroupNumber(1));
}

#[test]
fn what_was_sealed_under_a_group_that_was_ended_is_told_by_name() {
    let here = Place::new();
    let vault = here.plain();
    let (gone, kept) = (sealed(&vault, b"purged"), sealed(&vault, b"kept"));
    let place = place(SealedKind::Record);
    let touched = [gone.key().group()];
    vault.close_groups(&touched);
    let anew = vault.rewrap(place, month("2031-07"), kept.key()).expect("wrapped anew");
    assert_ne!(anew.group(), touched[0]);
    let kept = kept.with_key(anew);
    vault.end_groups(&touched).expect("ended");
    let look = |vault: &Vault| {
        let error = vault.open_sealed(place, &gone).expect_err("ended");
        assert_eq!(error.code(), "VAULT_ENDED");
        assert_eq!(opened(vault, &kept), b"kept");
        let error = vault.open_sealed(place, &forged(&gone, 1000)).expect_err("never made");
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
    group_of(&vault, month("2031-08"));
    let error = vault.open_sealed(place(SealedKind::Record), &forged(&record, 1));
    assert_eq!(error.expect_err("another").code(), "VAULT_NOT_AUTHENTIC");
}

#[test]
fn after_the_root_key_is_renewed_no_older_keys_open_and_none_that_are_newer_under_the_old_root() {
    let here = Place::new();
    let vault = here.plain();
    let (gone, kept) = (sealed(&vault, b"purged"), {
        let august = month("2031-08");
        vault.seal(place(SealedKind::Record), august, b"kept").expect("sealed")
    });
    let read = |name: &str| std::fs::read(here.vault().join(name)).expect("there");
    let (old_root, old_keys) = (read("root.key"), read("keys"));
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
        let before = std::fs::read(here.vault().join("root.key")).expect("there");
        broken_off(step, || vault.renew_root(&[])).expect_err("broken off");
        assert_eq!(opened(&vault, &record), b"bytes", "what is read goes on");
        let error = vault.renew_root(&[]).expect_err("not known what is there");
        assert_eq!(error.code(), "VAULT_BROKEN_OFF");
        let error = vault.end_groups(&[]).expect_err("nor here");
        assert_eq!(error.code(), "VAULT_BROKEN_OFF");
        drop(vault);
        // A crash while a file was being written leaves that too.
        std::fs::write(here.vault().join(".keys.1.new"), "half").expect("written");
        let vault = here.open();
        assert_eq!(opened(&vault, &record), b"bytes", "{step}");
        let after = std::fs::read(here.vault().join("root.key")).expect("there");
        assert_eq!(after == before, step < 2, "{step}");
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
fn a_group_that_could_not_be_kept_has_nothing_sealed_under_it() {
    let here = Place::new();
    let vault = here.plain();
    let place = place(SealedKind::Record);
    let error = broken_off(0, || vault.seal(place, month("2031-07"), b"bytes"));
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
                    assert_eq!(record.key().group(), GroupNumber(0));
                }
            });
        }
    });
}
