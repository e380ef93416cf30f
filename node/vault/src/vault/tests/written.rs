//! What is in the files, what is not, and what damage to them is called.

use std::{fs, path::Path};

use customhouse_files::secret::Secret;

use super::{Place, attachment, epoch, place, sealed};
use crate::{
    keys_file::KeysFile,
    sealed::SealedKind,
    vault::{Protection, Vault},
};

/// Writes other bytes for the time of a look.
fn with<T>(path: &Path, bytes: &[u8], look: impl FnOnce() -> T) -> T {
    let before = fs::read(path).expect("there");
    fs::write(path, bytes).expect("written");
    let answer = look();
    fs::write(path, before).expect("written");
    answer
}

#[test]
fn every_changed_bit_and_every_cut_of_a_file_is_named() {
    let here = Place::new();
    let vault = Vault::create(&here.vault(), &here.passphrase()).expect("made");
    vault.put_epoch(epoch(7, 1)).expect("kept");
    drop(vault);
    for name in ["root.key", "keys"] {
        let path = here.vault().join(name);
        let bytes = fs::read(&path).expect("there");
        let code = |changed: &[u8]| with(&path, changed, || here.code(&here.passphrase()));
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let code = code(&changed);
            let named = ["VAULT_DAMAGED", "VAULT_TORN", "VAULT_VERSION"].contains(&code);
            assert!(named, "{name}, bit {bit}: {code}");
        }
        for length in 0..bytes.len() {
            let code = code(&bytes[..length]);
            let expected = if name == "keys" { "VAULT_TORN" } else { "VAULT_DAMAGED" };
            assert_eq!(code, expected, "{name} of {length} bytes");
        }
        assert_eq!(code(&[&*bytes, b"\n"].concat()), "VAULT_DAMAGED", "{name}, longer");
        assert_eq!(code(&vec![0; 1 << 25]), "VAULT_IO", "{name}, far too long");
        fs::rename(&path, here.path("away")).expect("moved");
        assert_eq!(here.code(&here.passphrase()), "VAULT_MISSING", "{name}");
        fs::rename(here.path("away"), &path).expect("moved");
    }
    Vault::open(&here.vault(), &here.passphrase()).expect("as it was");
}

#[test]
fn a_file_of_another_vault_is_told_as_that() {
    let (here, there) = (Place::new(), Place::new());
    drop((here.plain(), there.plain()));
    for name in ["root.key", "keys"] {
        let foreign = fs::read(there.vault().join(name)).expect("there");
        let path = here.vault().join(name);
        let code = with(&path, &foreign, || here.code(&Protection::Plain));
        assert_eq!(code, "VAULT_FOREIGN", "{name}");
    }
}

/// Whoever can compute a checksum can still not change what is sealed.
#[test]
fn keys_with_a_checksum_that_fits_are_refused_when_anything_in_them_was_changed() {
    let here = Place::new();
    drop(here.plain());
    let path = here.vault().join("keys");
    let bytes = fs::read(&path).expect("there");
    for bit in 64..(bytes.len() - 4) * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let (all, crc) = changed.split_last_chunk_mut::<4>().expect("long enough");
        *crc = crc32c::crc32c(all).to_be_bytes();
        let code = with(&path, &changed, || here.code(&Protection::Plain));
        let expected = match bit / 8 {
            8..24 => "VAULT_FOREIGN",
            24..40 => "VAULT_OTHER_ROOT",
            69..73 => "VAULT_TORN or VAULT_DAMAGED",
            _ => "VAULT_DAMAGED",
        };
        assert!(expected.contains(code), "bit {bit}: {code}");
    }
}

#[test]
fn no_file_has_a_key_or_bytes_that_were_sealed() {
    let here = Place::new();
    let canary = b"CANARY: ten tonnes of tulips, Aalsmeer to Busan";
    let vault = Vault::create(&here.vault(), &here.passphrase()).expect("made");
    let mut secrets = vec![canary.to_vec()];
    for byte in [0xa1, 0xb2] {
        vault.put_epoch(epoch(byte, 1)).expect("kept");
        vault.put_dedupe(Secret::new(&[byte + 1; 32]), 5).expect("kept");
        secrets.extend([vec![byte ^ 0x80; 32], vec![byte + 1; 32]]);
    }
    vault.new_encryption_key().expect("made");
    let key = vault.encryption_keys()[0].secret.as_secret().with(|bytes| bytes.to_vec());
    secrets.push(key);
    let record = sealed(&vault, canary);
    let key = attachment(&vault, place(SealedKind::Attachment));
    let piece = key.seal_piece(0, canary).expect("sealed");
    fs::write(here.path("record"), record.encode()).expect("written");
    fs::write(here.path("piece"), piece).expect("written");
    vault.back_up(&here.path("backups"), 2).expect("backed up");
    vault.renew_root(&[]).expect("renewed");

    let read = KeysFile::read(&here.vault().join("keys")).expect("whole");
    assert_eq!(read.name.generation, vault.generation());
    let mut looked_at = 0;
    let mut folders = vec![here.directory.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("there") {
            let path = entry.expect("there").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            looked_at += 1;
            let bytes = fs::read(&path).expect("there");
            for secret in &secrets {
                let found = bytes.windows(8).any(|part| secret.windows(8).any(|s| s == part));
                assert!(!found, "{}", path.display());
            }
        }
    }
    assert!(looked_at >= 8, "{looked_at} files");
}
