use std::{
    fs::{self, File},
    sync::Arc,
};

use super::*;
use crate::{
    pair::crash::broken_off_in,
    root_key::RootKey,
    sealed::SealedKind,
    vault::tests::{Place, attachment, month, opened, place, seal, sealed},
    vault::{Protection, Vault},
};

fn made(here: &Place, vault: &Vault) -> PathBuf {
    let directory = here.path("mirror");
    Mirror::create(&directory, vault.id()).expect("made");
    directory
}

fn entries(vault: &Vault, text: &str) -> Vec<MirrorEntry> {
    let whole = MirrorPart::Whole(sealed(vault, text.as_bytes()));
    let of = place(SealedKind::Attachment);
    let key = attachment(vault, of);
    let piece = key.seal_piece(3, text.as_bytes()).expect("sealed");
    vec![
        MirrorEntry { place: place(SealedKind::Record), part: whole },
        MirrorEntry { place: of, part: MirrorPart::Key(*key.wrapped()) },
        MirrorEntry { place: of, part: MirrorPart::Piece { index: 3, sealed: piece } },
    ]
}

fn read(directory: &Path) -> Result<Vec<MirrorEntry>, MirrorError> {
    let mut found = Vec::new();
    let count = Mirror::read_all(directory, |entry| {
        found.push(entry);
        Ok::<_, MirrorError>(())
    })?;
    assert_eq!(count, found.len() as u64);
    Ok(found)
}

fn code<T: std::fmt::Debug>(result: Result<T, MirrorError>) -> &'static str {
    result.expect_err("refused").code()
}

/// The newest segment.
fn newest(directory: &Path) -> PathBuf {
    let all = segment::all(&directory.join(RECORDS)).expect("listed");
    all.last().expect("there").1.clone()
}

#[test]
fn what_was_mirrored_is_read_in_order_and_after_each_opening() {
    let here = Place::new();
    let vault = here.plain();
    let directory = made(&here, &vault);
    assert_eq!(read(&directory).expect("whole"), []);
    let mut all = Vec::new();
    for round in 0..3 {
        let mirror = Mirror::open(&directory).expect("opened");
        assert_eq!(code(Mirror::open(&directory)), "MIRROR_LOCKED");
        for text in ["first", "second"] {
            let new = entries(&vault, &format!("{text} of {round}"));
            mirror.append(&new).expect("appended");
            all.extend(new);
            assert_eq!(read(&directory).expect("whole"), all);
        }
        mirror.append(&[]).expect("nothing to do");
    }
}

#[test]
fn a_lost_agency_is_restored_from_its_mirror_alone() {
    let here = Place::new();
    let vault = Vault::create(&here.vault(), &here.passphrase()).expect("made");
    let directory = made(&here, &vault);
    let mirror = Arc::new(Mirror::open(&directory).expect("opened"));
    vault.mirror_to(mirror.clone()).expect("followed");
    mirror.append(&entries(&vault, "before")).expect("appended");
    vault.renew_root(&[]).expect("renewed");
    let entry = entries(&vault, "after").remove(0);
    mirror.append(&[entry]).expect("appended");
    vault.new_encryption_key().expect("made");
    let generation = vault.generation();
    drop((vault, mirror));
    fs::remove_dir_all(here.vault()).expect("lost");

    Mirror::restore_vault(&directory, &here.vault()).expect("restored");
    let vault = Vault::open(&here.vault(), &here.passphrase()).expect("opened");
    assert_eq!(vault.generation(), generation + 1, "and it left a gap");
    assert_eq!(vault.encryption_keys().len(), 1);
    let mut texts = Vec::new();
    for entry in read(&directory).expect("whole") {
        if let MirrorPart::Whole(sealed) = entry.part {
            texts.push(opened(&vault, &sealed));
        }
    }
    assert_eq!(texts, [b"before".to_vec(), b"after".to_vec()]);
}

#[test]
fn an_unprotected_root_key_never_leaves_its_directory() {
    let here = Place::new();
    let vault = Vault::create(&here.vault(), &here.passphrase()).expect("made");
    let directory = made(&here, &vault);
    vault.mirror_to(Arc::new(Mirror::open(&directory).expect("opened"))).expect("followed");
    let there = || fs::read_dir(directory.join(VAULT)).expect("there").count();
    assert_eq!(there(), 2);
    vault.change_protection(&Protection::Plain).expect("changed");
    assert_eq!(there(), 1, "the keys alone");
    let error = Mirror::restore_vault(&directory, &here.path("restored")).expect_err("no root key");
    assert_eq!(error.code(), "VAULT_MISSING");
    vault.change_protection(&here.passphrase()).expect("changed");
    assert_eq!(there(), 2);
}

#[test]
fn a_vault_that_was_put_back_is_told_by_its_mirror_and_so_is_another_vault() {
    let here = Place::new();
    let vault = here.plain();
    let directory = made(&here, &vault);
    let old = fs::read(here.vault().join("keys")).expect("there");
    vault.mirror_to(Arc::new(Mirror::open(&directory).expect("opened"))).expect("followed");
    vault.new_encryption_key().expect("made");
    drop(vault);
    let vault = here.open();
    vault.mirror_to(Arc::new(Mirror::open(&directory).expect("opened"))).expect("as it was");
    drop(vault);
    fs::write(here.vault().join("keys"), old).expect("put back");
    let follow = |vault: &Vault| {
        let mirror = Arc::new(Mirror::open(&directory).expect("opened"));
        vault.mirror_to(mirror).expect_err("refused").code()
    };
    assert_eq!(follow(&here.open()), "MIRROR_AHEAD");
    assert_eq!(follow(&Place::new().plain()), "MIRROR_FOREIGN");
}

/// Has an empty directory in the mirror's place while something is done, as where its disk is not mounted.
fn unmounted<T>(here: &Place, directory: &Path, work: impl FnOnce() -> T) -> T {
    fs::rename(directory, here.path("unmounted")).expect("gone");
    fs::create_dir(directory).expect("an empty directory in its place");
    let answer = work();
    assert_eq!(fs::read_dir(directory).expect("there").count(), 0, "nothing is written there");
    fs::remove_dir(directory).expect("empty");
    fs::rename(here.path("unmounted"), directory).expect("back");
    answer
}

#[test]
fn a_mirror_that_fails_catches_up_under_the_root_key_of_then() {
    let here = Place::new();
    let vault = Vault::create(&here.vault(), &here.passphrase()).expect("made");
    let directory = made(&here, &vault);
    vault.mirror_to(Arc::new(Mirror::open(&directory).expect("opened"))).expect("followed");
    let record = sealed(&vault, b"bytes");
    unmounted(&here, &directory, || {
        assert_eq!(vault.renew_root(&[]).expect_err("gone").code(), "VAULT_MIRROR_BEHIND");
        let generation = vault.generation();
        assert_eq!(vault.new_encryption_key().expect_err("gone").code(), "MIRROR_MISSING");
        assert_eq!(vault.generation(), generation, "nothing was changed");
        assert_eq!(vault.encryption_keys().len(), 0);
    });
    vault.new_encryption_key().expect("made");
    drop(vault);
    Mirror::restore_vault(&directory, &here.path("restored")).expect("restored");
    let vault = Vault::open(&here.path("restored"), &here.passphrase()).expect("opened");
    assert_eq!(opened(&vault, &record), b"bytes");
    assert!(!vault.encryption_keys().is_empty());
}

#[test]
fn what_is_durable_in_the_vault_stays_done_where_the_mirror_fails() {
    let here = Place::new();
    let vault = Vault::create(&here.vault(), &here.passphrase()).expect("made");
    let directory = made(&here, &vault);
    vault.mirror_to(Arc::new(Mirror::open(&directory).expect("opened"))).expect("followed");
    let (place, august) = (place(SealedKind::Record), month("2031-08"));
    let purged = sealed(&vault, b"purged");
    let groups = [purged.key().group()];
    vault.close_groups(&groups, std::time::Duration::ZERO).expect("closed");
    let ended = |vault: &Vault| {
        let error = vault.open_sealed(place, &purged).expect_err("ended");
        assert_eq!(error.code(), "VAULT_ENDED");
    };
    let behind = |result: Result<(), VaultError>| {
        assert_eq!(result.expect_err("gone").code(), "VAULT_MIRROR_BEHIND");
    };
    unmounted(&here, &directory, || behind(vault.renew_root(&groups)));
    ended(&vault);
    here.choose("battery staple");
    vault.new_encryption_key().expect("brings the mirror up");
    unmounted(&here, &directory, || behind(vault.change_protection(&here.passphrase())));
    // A group is begun where the mirror cannot have it: nothing is sealed under it before it has.
    vault.new_encryption_key().expect("brings the mirror up");
    unmounted(&here, &directory, || {
        for code in ["VAULT_MIRROR_BEHIND", "MIRROR_MISSING"] {
            assert_eq!(seal(&vault, place, august, b"bytes").expect_err("gone").code(), code);
        }
    });
    let record = seal(&vault, place, august, b"bytes").expect("sealed").stored();
    assert_eq!(vault.groups().len(), 1);
    // The passphrase is the new one for every key that follows.
    vault.renew_root(&[]).expect("renewed");
    drop(vault);
    Mirror::restore_vault(&directory, &here.path("restored")).expect("restored");
    for place in [here.vault(), here.path("restored")] {
        let vault = Vault::open(&place, &here.passphrase()).expect("opened");
        ended(&vault);
        assert_eq!(opened(&vault, &record), b"bytes");
    }
}

#[test]
fn a_vault_that_was_restored_does_not_write_over_newer_keys_at_its_mirror() {
    let here = Place::new();
    let vault = here.plain();
    let directory = made(&here, &vault);
    let backup = vault.back_up(&here.path("backups"), 1).expect("backed up");
    vault.mirror_to(Arc::new(Mirror::open(&directory).expect("opened"))).expect("followed");
    let record = sealed(&vault, b"bytes");
    let newer = fs::read(directory.join(VAULT).join("keys")).expect("there");
    drop(vault);
    fs::remove_dir_all(here.vault()).expect("lost");
    backup::restore(&backup.path, &here.vault()).expect("restored");
    let vault = here.open();
    // However often the vault is written, to no end: it has not the group of the record.
    for _ in 0..3 {
        vault.new_encryption_key().expect("made");
        let mirror = Arc::new(Mirror::open(&directory).expect("opened"));
        assert_eq!(vault.mirror_to(mirror).expect_err("refused").code(), "MIRROR_AHEAD");
    }
    assert!(vault.open_sealed(place(SealedKind::Record), &record).is_err());
    assert_eq!(fs::read(directory.join(VAULT).join("keys")).expect("there"), newer);
}

/// A copy of the directory that was made by hand, of which nothing says that it is one.
#[test]
fn a_vault_that_goes_on_from_a_copy_of_its_directory_is_told_by_its_mirror() {
    let here = Place::new();
    let vault = here.plain();
    let directory = made(&here, &vault);
    let follow =
        |vault: &Vault| vault.mirror_to(Arc::new(Mirror::open(&directory).expect("opened")));
    follow(&vault).expect("followed");
    drop(vault);
    let old = fs::read(here.vault().join("keys")).expect("there");
    let vault = here.open();
    follow(&vault).expect("followed");
    vault.new_encryption_key().expect("made");
    drop(vault);
    fs::write(here.vault().join("keys"), old).expect("put back");
    let vault = here.open();
    for _ in 0..3 {
        vault.new_encryption_key().expect("made");
        assert_eq!(follow(&vault).expect_err("refused").code(), "MIRROR_AHEAD");
    }
}

#[test]
fn a_tail_that_was_cut_short_anywhere_is_cut_off_and_what_was_durable_stays() {
    let here = Place::new();
    let vault = here.plain();
    let directory = made(&here, &vault);
    let (first, last) = (entries(&vault, "first"), entries(&vault, "last"));
    {
        let mirror = Mirror::open(&directory).expect("opened");
        mirror.append(&first).expect("appended");
        mirror.append(&last).expect("appended");
    }
    let path = newest(&directory);
    let whole = fs::read(&path).expect("there");
    let tail: usize = last.iter().map(|entry| 12 + entry.encode().len()).sum::<usize>() + 16;
    for length in whole.len() - tail..whole.len() {
        fs::write(&path, &whole[..length]).expect("written");
        let found = read(&directory).expect("what was durable");
        assert!(found.starts_with(&first), "{length}");
        drop(Mirror::open(&directory).expect("opened"));
        let again = read(&directory).expect("whole");
        // What had no mark behind it is written once more.
        assert_eq!(again[..found.len()], found, "{length}");
        assert!(again[found.len()..].iter().all(|entry| last.contains(entry)), "{length}");
        for (_, path) in segment::all(&directory.join(RECORDS)).expect("listed").drain(1..) {
            fs::remove_file(path).expect("there");
        }
    }
    // Later pages of an append may be on the disk without earlier ones.
    let mut hole = whole.clone();
    hole.truncate(whole.len() - 16);
    let begin = whole.len() - tail;
    hole[begin + 4..begin + 40].fill(0);
    fs::write(&path, hole).expect("written");
    assert_eq!(read(&directory).expect("what was durable"), first);
}

#[test]
fn damage_to_what_was_durable_is_named() {
    let here = Place::new();
    let vault = here.plain();
    let directory = made(&here, &vault);
    Mirror::open(&directory).expect("opened").append(&entries(&vault, "text")).expect("appended");
    let path = newest(&directory);
    let whole = fs::read(&path).expect("there");
    for byte in 0..whole.len() - 16 {
        let mut changed = whole.clone();
        changed[byte] ^= 0x10;
        fs::write(&path, changed).expect("written");
        assert_eq!(code(read(&directory)), "MIRROR_DAMAGED", "byte {byte}");
    }
    fs::write(&path, &whole).expect("written");
    let name = directory.join(NAME);
    let bytes = fs::read(&name).expect("there");
    for length in 0..bytes.len() {
        fs::write(&name, &bytes[..length]).expect("written");
        assert_eq!(code(Mirror::open(&directory)), "MIRROR_DAMAGED", "{length}");
    }
    fs::remove_file(&name).expect("there");
    assert_eq!(code(Mirror::open(&directory)), "MIRROR_MISSING");
    assert_eq!(code(read(&here.path("nowhere"))), "MIRROR_MISSING");
}

#[test]
fn a_mirror_that_is_full_or_gone_says_so_and_goes_on_when_it_is_not() {
    let here = Place::new();
    let vault = here.plain();
    let directory = made(&here, &vault);
    let mirror = Mirror::open(&directory).expect("opened");
    let all: Vec<_> = (0..3).map(|number| entries(&vault, &number.to_string())).collect();
    mirror.append(&all[0]).expect("appended");
    let full = File::options().write(true).open("/dev/full").expect("there");
    mirror.segment.lock().expect("whole").as_mut().expect("begun").write_to(full);
    assert_eq!(code(mirror.append(&all[1])), "MIRROR_FULL");
    mirror.append(&all[1]).expect("room again");

    fs::rename(&directory, here.path("unmounted")).expect("gone");
    fs::create_dir(&directory).expect("an empty directory in its place");
    assert_eq!(code(mirror.append(&all[2])), "MIRROR_MISSING");
    assert_eq!(fs::read_dir(&directory).expect("there").count(), 0, "nothing is written there");
    fs::remove_dir(&directory).expect("empty");
    fs::rename(here.path("unmounted"), &directory).expect("back");
    mirror.append(&all[2]).expect("appended");
    assert_eq!(read(&directory).expect("whole"), all.concat());
}

#[test]
fn a_copy_of_the_keys_that_is_broken_off_still_restores_and_nothing_of_it_is_left() {
    for step in 0..=2 {
        let here = Place::new();
        let vault = Vault::create(&here.vault(), &here.passphrase()).expect("made");
        let directory = made(&here, &vault);
        let copy = directory.join(VAULT);
        vault.mirror_to(Arc::new(Mirror::open(&directory).expect("opened"))).expect("followed");
        let record = sealed(&vault, b"bytes");
        let error = broken_off_in(&copy, step, || vault.renew_root(&[])).expect_err("broken off");
        assert_eq!(error.code(), "VAULT_MIRROR_BEHIND", "{step}");
        drop(vault);
        // The process ended while a file was written, by the number that the next has too.
        let pid = std::process::id();
        for name in ["root.key", "root.key.new", "keys"] {
            fs::write(copy.join(format!(".{name}.{pid}.new")), "half").expect("written");
        }
        let restored = |name: &str| {
            let into = here.path(name);
            Mirror::restore_vault(&directory, &into).expect("restored");
            let vault = Vault::open(&into, &here.passphrase()).expect("opened");
            assert_eq!(opened(&vault, &record), b"bytes", "{step}");
        };
        restored("before");
        // With the vault lost, and then with the vault.
        drop(Mirror::open(&directory).expect("opened"));
        let mut names: Vec<_> = fs::read_dir(&copy)
            .expect("there")
            .map(|entry| entry.expect("there").file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["keys", "root.key"], "{step}");
        restored("after");
        let vault = Vault::open(&here.vault(), &here.passphrase()).expect("opened");
        vault.mirror_to(Arc::new(Mirror::open(&directory).expect("opened"))).expect("followed");
        vault.renew_root(&[]).expect("renewed");
        drop(vault);
        restored("at last");
    }
}

/// The mirror's disk fails in the middle of one copy, and the process ends in the middle of the next.
#[test]
fn the_root_key_of_a_copy_is_not_written_over_before_the_copy_is() {
    let here = Place::new();
    let vault = here.plain();
    let directory = made(&here, &vault);
    let mirror = Mirror::open(&directory).expect("opened");
    let copied = |generation| {
        let root = RootKey::random(vault.id()).expect("randomness");
        let name = KeysName { incarnation: 1, generation, file: [7; 16] };
        let keys = KeysFile::seal(&root, name, true, &Contents::new(1)).expect("sealed");
        let text = root.to_text(None).expect("randomness");
        mirror.keep_pair(Some(&text), &keys)
    };
    copied(1).expect("copied");
    broken_off_in(&directory, 2, || copied(2)).expect_err("broken off");
    broken_off_in(&directory, 1, || copied(3)).expect_err("broken off");
    drop(mirror);
    Mirror::restore_vault(&directory, &here.path("restored")).expect("restored");
    let restored = Vault::open(&here.path("restored"), &Protection::Plain).expect("opened");
    assert_eq!(restored.generation(), 3, "the second, and what its opening wrote");
}

#[test]
fn any_entry_is_decoded_or_refused() {
    let here = Place::new();
    let vault = here.plain();
    for entry in entries(&vault, "text") {
        let bytes = entry.encode();
        assert_eq!(MirrorEntry::decode(&bytes), Ok(entry));
        for length in 0..1 + 81 + 4 {
            assert!(MirrorEntry::decode(&bytes[..length]).is_err(), "{length}");
        }
        for (at, value) in [(0, 0), (0, 4), (1 + 32, 0xff), (1 + 80, 9)] {
            let mut changed = bytes.clone();
            changed[at] = value;
            assert!(MirrorEntry::decode(&changed).is_err(), "{at}");
        }
    }
}

#[test]
fn nothing_is_acknowledged_that_went_into_a_directory_which_was_moved_away() {
    let here = Place::new();
    let vault = here.plain();
    let directory = made(&here, &vault);
    let mirror = Mirror::open(&directory).expect("opened");
    let all: Vec<_> = (0..4).map(|number| entries(&vault, &number.to_string())).collect();
    mirror.append(&all[0]).expect("appended");
    // A copy of it has its place, as after a restoration of that machine.
    let away = here.path("away");
    fs::rename(&directory, &away).expect("moved");
    let copied = std::process::Command::new("cp").arg("-r").arg(&away).arg(&directory).status();
    assert!(copied.expect("it runs").success());
    assert_eq!(code(mirror.append(&all[1])), "MIRROR_REPLACED");
    fs::remove_dir_all(&directory).expect("removed");
    fs::rename(&away, &directory).expect("back");
    mirror.append(&all[2]).expect("appended");
    assert_eq!(read(&directory).expect("whole"), [&*all[0], &*all[2]].concat());
    // A segment alone.
    fs::remove_file(newest(&directory)).expect("removed");
    assert_eq!(code(mirror.append(&all[1])), "MIRROR_REPLACED");
    mirror.append(&all[3]).expect("appended to another");
    assert_eq!(read(&directory).expect("whole"), all[3]);
}

#[test]
fn what_reading_would_refuse_is_not_appended() {
    let here = Place::new();
    let vault = here.plain();
    let directory = made(&here, &vault);
    let mirror = Mirror::open(&directory).expect("opened");
    let mut new = entries(&vault, "text");
    mirror.append(&new).expect("appended");
    let of = place(SealedKind::Attachment);
    let sealed = vec![0; crate::attachment_key::SEALED_PIECE_BYTES_MAX + 1];
    new.push(MirrorEntry { place: of, part: MirrorPart::Piece { index: 0, sealed } });
    assert_eq!(code(mirror.append(&new)), "MIRROR_ENTRY");
    assert_eq!(read(&directory).expect("whole"), new[..3], "none of them");
}

#[test]
fn an_append_that_is_long_is_in_several_segments_of_which_each_can_be_read() {
    let here = Place::new();
    let vault = here.plain();
    let directory = made(&here, &vault);
    let mirror = Mirror::open(&directory).expect("opened");
    let text = "x".repeat(30_000);
    let all: Vec<_> = (0..20).flat_map(|_| entries(&vault, &text)).collect();
    mirror.append(&all).expect("appended");
    mirror.append(&all[..1]).expect("appended");
    assert_eq!(read(&directory).expect("whole"), [&*all, &all[..1]].concat());
    let segments = segment::all(&directory.join(RECORDS)).expect("listed");
    assert!(segments.len() >= 10, "{} segments", segments.len());
    for (_, path) in segments {
        let length = fs::metadata(&path).expect("there").len();
        assert!(length < 64 * 1024 + 31_000, "{length} bytes");
    }
}

#[test]
fn a_mirror_that_is_damaged_gives_what_is_whole_and_tells_of_the_rest() {
    let here = Place::new();
    let vault = here.plain();
    let directory = made(&here, &vault);
    let all: Vec<_> = (0..3).map(|number| entries(&vault, &number.to_string())).collect();
    for new in &all {
        Mirror::open(&directory).expect("opened").append(new).expect("appended");
    }
    let salvaged = || {
        let (mut found, mut reports) = (Vec::new(), Vec::new());
        let take = |entry| {
            found.push(entry);
            Ok::<_, MirrorError>(())
        };
        let count = Mirror::salvage(&directory, take, |error| reports.push(error.code()));
        assert_eq!(count.expect("a mirror"), found.len() as u64);
        (found, reports)
    };
    assert_eq!(salvaged(), (all.concat(), vec![]));
    let segments = segment::all(&directory.join(RECORDS)).expect("listed");
    let (_, second) = &segments[1];
    let whole = fs::read(second).expect("there");
    // In the first entry, and in the header.
    for (at, lost) in [(100, 1), (20, 0)] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(second, changed).expect("written");
        assert_eq!(code(read(&directory)), "MIRROR_DAMAGED");
        let (found, reports) = salvaged();
        assert_eq!(found, [&*all[0], &all[1][lost..], &*all[2]].concat(), "{at}");
        assert!(!reports.is_empty() && reports.iter().all(|code| *code == "MIRROR_DAMAGED"));
    }
}

#[test]
fn sealed_bytes_bring_their_own_key() {
    let here = Place::new();
    let vault = here.plain();
    let [whole, key, piece] = &entries(&vault, "text")[..] else { panic!("three") };
    let other = MirrorPart::Piece { index: 4, sealed: Vec::new() };
    let parts = [&whole.part, &key.part, &piece.part, &other];
    let voids = parts.map(|later| parts.map(|earlier| u8::from(later.voids(earlier))));
    assert_eq!(voids, [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]);
}

#[test]
fn a_mirror_is_looked_at_while_it_is_open_and_says_whether_a_vault_can_be_put_back_from_it() {
    let here = Place::new();
    let vault = here.plain();
    let directory = made(&here, &vault);
    let seen = Mirror::look(&directory).expect("a mirror");
    assert_eq!((seen.vault, seen.generation, seen.has_root_key), (vault.id(), None, false));
    vault.mirror_to(Arc::new(Mirror::open(&directory).expect("opened"))).expect("followed");
    let seen = Mirror::look(&directory).expect("open elsewhere");
    assert_eq!((seen.generation, seen.has_root_key), (Some(vault.generation()), false));
    vault.change_protection(&here.passphrase()).expect("changed");
    let seen = Mirror::look(&directory).expect("open elsewhere");
    assert_eq!((seen.generation, seen.has_root_key), (Some(vault.generation()), true));
    fs::write(directory.join("vault/keys"), "rubbish").expect("writable");
    assert_eq!(code(Mirror::look(&directory)), "MIRROR_KEYS");
    assert_eq!(code(Mirror::look(&here.path("elsewhere"))), "MIRROR_MISSING");
    fs::write(directory.join(NAME), "rubbish").expect("writable");
    assert_eq!(code(Mirror::look(&directory)), "MIRROR_DAMAGED");
}
