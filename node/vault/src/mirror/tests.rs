use std::{
    fs::{self, File},
    sync::Arc,
};

use super::*;
use crate::{
    pair::crash::broken_off,
    sealed::SealedKind,
    vault::tests::{Place, month, opened, place, sealed},
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
    let key = vault.new_attachment(of, month("2031-07")).expect("made");
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

#[test]
fn a_mirror_that_fails_catches_up_under_the_root_key_of_then() {
    let here = Place::new();
    let vault = Vault::create(&here.vault(), &here.passphrase()).expect("made");
    let directory = made(&here, &vault);
    vault.mirror_to(Arc::new(Mirror::open(&directory).expect("opened"))).expect("followed");
    let record = sealed(&vault, b"bytes");
    fs::rename(&directory, here.path("unmounted")).expect("gone");
    fs::create_dir(&directory).expect("an empty directory in its place");
    assert_eq!(vault.renew_root(&[]).expect_err("gone").code(), "MIRROR_MISSING");
    assert_eq!(vault.new_encryption_key().expect_err("gone").code(), "MIRROR_MISSING");
    assert_eq!(fs::read_dir(&directory).expect("there").count(), 0, "nothing is written there");
    fs::remove_dir(&directory).expect("empty");
    fs::rename(here.path("unmounted"), &directory).expect("back");
    vault.new_encryption_key().expect("made");
    drop(vault);
    Mirror::restore_vault(&directory, &here.path("restored")).expect("restored");
    let vault = Vault::open(&here.path("restored"), &here.passphrase()).expect("opened");
    assert_eq!(opened(&vault, &record), b"bytes");
    assert!(!vault.encryption_keys().is_empty());
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
fn a_copy_of_the_keys_that_is_broken_off_still_restores() {
    for step in 0..=2 {
        let here = Place::new();
        let vault = Vault::create(&here.vault(), &here.passphrase()).expect("made");
        let directory = made(&here, &vault);
        let mirror = Mirror::open(&directory).expect("opened");
        vault.mirror_to(Arc::new(mirror)).expect("followed");
        let record = sealed(&vault, b"bytes");
        broken_off(step, || vault.renew_root(&[])).expect_err("broken off");
        drop(vault);
        let into = here.path("restored");
        Mirror::restore_vault(&directory, &into).expect("restored");
        let vault = Vault::open(&into, &here.passphrase()).expect("opened");
        assert_eq!(opened(&vault, &record), b"bytes", "{step}");
    }
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
