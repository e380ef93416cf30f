use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;

fn key(purpose: KeyPurpose) -> KeyFile {
    let agency = "NL-DOUANE".parse().expect("a code");
    KeyFile::generate(purpose, agency).expect("randomness")
}

#[test]
fn a_key_comes_back_from_its_file_and_only_its_owner_may_read_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("validator.key");
    let written = key(KeyPurpose::Validator);
    written.write(&path).expect("written");
    let mode = fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let read = KeyFile::read_for(&path, KeyPurpose::Validator, written.agency).expect("read");
    assert_eq!(read.key.public(), written.key.public());
}

#[test]
fn a_key_is_never_overwritten() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("peer.key");
    key(KeyPurpose::Peer).write(&path).expect("written");
    let before = fs::read(&path).expect("readable");
    let error = key(KeyPurpose::Peer).write(&path).expect_err("refused");
    assert!(matches!(error, KeyFileError::Exists(_)), "{error}");
    assert_eq!(fs::read(&path).expect("readable"), before);
    assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1, "nothing left behind");
}

#[test]
fn a_file_that_others_may_read_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("signing.key");
    key(KeyPurpose::Signing).write(&path).expect("written");
    for mode in [0o640, 0o604, 0o620, 0o601] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("allowed");
        let error = KeyFile::read(&path).expect_err("refused");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}

#[test]
fn a_key_of_another_purpose_or_agency_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("k");
    let written = key(KeyPurpose::Peer);
    written.write(&path).expect("written");
    let error = KeyFile::read_for(&path, KeyPurpose::Validator, written.agency);
    assert!(matches!(error, Err(KeyFileError::Purpose { .. })));
    let other = "BE-AADA".parse().expect("a code");
    let error = KeyFile::read_for(&path, KeyPurpose::Peer, other);
    assert!(matches!(error, Err(KeyFileError::Agency { .. })));
}

#[test]
fn damage_is_named_and_the_seed_is_not_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("k");
    let written = key(KeyPurpose::Peer);
    written.write(&path).expect("written");
    let text = fs::read_to_string(&path).expect("readable");
    let seed = written.key.with_seed(|seed| hex::encode(seed));
    let other = hex::encode([7; 32]);
    for (damaged, says) in [
        (text.replace(&seed, &other), "damaged"),
        (text.replace(&seed, &seed[1..]), "64 hexadecimal digits"),
        (text.replace("customhouse-key/1", "customhouse-key/2"), "format"),
        (text.replace("\"seed\"", "\"sead\""), "line"),
        (text[..text.len() / 2].to_owned(), "line"),
    ] {
        fs::write(&path, damaged).expect("writable");
        let error = KeyFile::read(&path).expect_err("refused").to_string();
        assert!(error.contains(says), "{error}");
        assert!(!error.contains(&seed[1..]), "{error}");
    }
}

#[test]
fn a_key_under_a_passphrase_comes_back_with_it_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("validator.key");
    let written = key(KeyPurpose::Validator);
    let given = |text: &str| Passphrase::new(text).expect("long enough");
    let (right, wrong) = (given("correct horse"), given("another"));
    written.write_protected(&path, Some(&right)).expect("written");
    let public = |read: Result<KeyFile, KeyFileError>| read.expect("read").key.public();
    assert_eq!(public(KeyFile::read_with(&path, Some(&right))), written.key.public());
    let seed = written.key.with_seed(|seed| hex::encode(seed));
    let text = fs::read_to_string(&path).expect("readable");
    assert!(!text.contains(&seed), "{text}");
    for (passphrase, code) in [(None, "PASSPHRASE_NEEDED"), (Some(&wrong), "PASSPHRASE_WRONG")] {
        match KeyFile::read_with(&path, passphrase).expect_err("refused") {
            KeyFileError::Wrapped { source, .. } => assert_eq!(source.code(), code),
            error => panic!("{error}"),
        }
    }

    let file = dir.path().join("passphrase");
    newfile::write(&file, b"correct horse\n", 0o600).expect("written");
    let source = PassphraseSource::File(file);
    assert_eq!(public(KeyFile::read_asking(&path, Some(&source))), written.key.public());
    let missing = PassphraseSource::File(dir.path().join("missing"));
    let error = KeyFile::read_asking(&path, Some(&missing)).expect_err("none");
    assert!(matches!(error, KeyFileError::Passphrase { .. }), "{error}");
    // Of a key that is under none, nobody is asked for one.
    let plain = dir.path().join("plain.key");
    written.write(&plain).expect("written");
    assert_eq!(public(KeyFile::read_asking(&plain, Some(&missing))), written.key.public());
}

#[test]
fn a_passphrase_is_changed_and_the_key_and_the_old_file_on_a_wrong_one_stay() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("validator.key");
    let written = key(KeyPurpose::Validator);
    written.write(&path).expect("written");
    let plain = fs::read(&path).expect("readable");
    let given = |text: &str| Passphrase::new(text).expect("long enough");
    let (one, two) = (given("one"), given("two"));
    KeyFile::protect(&path, None, Some(&one)).expect("protected");
    let before = fs::read(&path).expect("readable");
    KeyFile::protect(&path, Some(&two), None).expect_err("a wrong passphrase");
    assert_eq!(fs::read(&path).expect("readable"), before);
    KeyFile::protect(&path, Some(&one), Some(&two)).expect("changed");
    let read = KeyFile::read_with(&path, Some(&two)).expect("read");
    assert_eq!(read.key.public(), written.key.public());
    let mode = fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    KeyFile::protect(&path, Some(&two), None).expect("in clear");
    assert_eq!(fs::read(&path).expect("readable"), plain);
    assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1);
}

#[test]
fn a_changed_bit_of_a_wrapped_key_is_told_and_two_forms_of_a_key_are_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("k");
    let passphrase = Passphrase::new("one").expect("long enough");
    key(KeyPurpose::Peer).write_protected(&path, Some(&passphrase)).expect("written");
    let text = fs::read_to_string(&path).expect("readable");
    let body = text.find("KEY-----\\n").expect("a PEM") + "KEY-----\\n".len();
    // A few places in the salt, the first vector and each block of what is encrypted.
    for at in [60, 90, 120, 150, 170, 190] {
        let place = body + at;
        let mut changed = text.clone().into_bytes();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        fs::write(&path, changed).expect("writable");
        let error = KeyFile::read_with(&path, Some(&passphrase)).expect_err("refused");
        assert!(
            error.to_string().contains("damaged") || error.to_string().contains("PKCS"),
            "{error}"
        );
    }
    let seed = format!("{{\"seed\": \"{}\",", hex::encode([7; 32]));
    fs::write(&path, text.replacen('{', &seed, 1)).expect("writable");
    let error = KeyFile::read_with(&path, Some(&passphrase)).expect_err("refused").to_string();
    assert!(error.contains("one of seed and encrypted_key"), "{error}");
}

#[test]
fn what_is_public_is_read_without_the_passphrase_and_rubbish_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("validator.key");
    let written = key(KeyPurpose::Validator);
    written.write(&path).expect("written");
    let public = |is_protected| PublicKeyFile {
        purpose: KeyPurpose::Validator,
        agency: written.agency,
        public_key: written.key.public(),
        is_protected,
    };
    assert_eq!(KeyFile::read_public(&path).expect("read"), public(false));
    let word = Passphrase::new("correct horse").expect("long enough");
    KeyFile::protect(&path, None, Some(&word)).expect("protected");
    assert_eq!(KeyFile::read_public(&path).expect("read"), public(true));
    assert!(KeyFile::read(&path).is_err());
    let text = fs::read_to_string(&path).expect("readable");
    fs::write(&path, &text[..text.len() / 2]).expect("writable");
    assert!(matches!(KeyFile::read_public(&path), Err(KeyFileError::Malformed { .. })));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("allowed");
    assert!(matches!(KeyFile::read_public(&path), Err(KeyFileError::Permissions { .. })));
}
