//! What all tests of the vault share, and those of the vault itself.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use customhouse_files::{passphrase::PassphraseSource, secret::Secret};
use customhouse_ledger::hash::Hash;
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use tempfile::TempDir;

use crate::{
    attachment_key::AttachmentKey,
    error::VaultError,
    group::{GroupNumber, RetentionMonth},
    lease::Leased,
    named::EpochSecret,
    sealed::{SealedBytes, SealedKind, SealedPlace},
    vault::{Protection, Vault},
};

mod groups;
mod places;
mod rounds;
mod written;

/// Randomness of a test, whose seed is printed.
pub(crate) fn random() -> ChaCha20Rng {
    let seed = std::env::var("CUSTOMHOUSE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| {
        let mut drawn = [0; 8];
        getrandom::fill(&mut drawn).expect("randomness");
        u64::from_le_bytes(drawn)
    });
    eprintln!("CUSTOMHOUSE_SEED={seed}");
    ChaCha20Rng::seed_from_u64(seed)
}

/// A directory for a vault, its backups and mirror, and a passphrase in a file.
pub(crate) struct Place {
    pub(crate) directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self { directory: tempfile::tempdir().expect("a directory") };
        place.choose("correct horse");
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn vault(&self) -> PathBuf {
        self.path("vault")
    }

    /// Has this passphrase in the file.
    pub(crate) fn choose(&self, passphrase: &str) {
        fs::write(self.path("passphrase"), passphrase).expect("written");
        mode(&self.path("passphrase"), 0o600);
    }

    pub(crate) fn passphrase(&self) -> Protection {
        Protection::Passphrase(PassphraseSource::File(self.path("passphrase")))
    }

    /// A new vault without a passphrase, which costs time.
    pub(crate) fn plain(&self) -> Vault {
        Vault::create(&self.vault(), &Protection::Plain).expect("made")
    }

    pub(crate) fn open(&self) -> Vault {
        Vault::open(&self.vault(), &Protection::Plain).expect("opened")
    }

    pub(crate) fn code(&self, protection: &Protection) -> &'static str {
        Vault::open(&self.vault(), protection).expect_err("refused").code()
    }
}

impl Vault {
    /// Whether there is the key of a group.
    pub(crate) fn knows(&self, group: GroupNumber) -> Result<(), VaultError> {
        self.contents().group(group).map(drop)
    }
}

pub(crate) fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("allowed");
}

pub(crate) fn place(kind: SealedKind) -> SealedPlace {
    SealedPlace {
        chain_id: Hash([1; 32]),
        agency: "NL-DOUANE".parse().expect("a code"),
        record_id: Hash([2; 32]),
        kind,
    }
}

pub(crate) fn month(text: &str) -> RetentionMonth {
    text.parse().expect("a month")
}

pub(crate) fn sealed(vault: &Vault, bytes: &[u8]) -> SealedBytes {
    seal(vault, place(SealedKind::Record), month("2031-07"), bytes).expect("sealed").stored()
}

/// Seals where no intent is kept.
pub(crate) fn seal(
    vault: &Vault,
    place: SealedPlace,
    month: RetentionMonth,
    bytes: &[u8],
) -> Result<Leased<SealedBytes>, VaultError> {
    vault.seal(place, month, bytes, |_| Ok(()))
}

pub(crate) fn attachment(vault: &Vault, place: SealedPlace) -> AttachmentKey {
    let key = vault.new_attachment::<VaultError>(place, month("2031-07"), |_| Ok(()));
    key.expect("made").stored()
}

pub(crate) fn opened(vault: &Vault, sealed: &SealedBytes) -> Vec<u8> {
    vault.open_sealed(place(SealedKind::Record), sealed).expect("opened").to_vec()
}

fn epoch(byte: u8, until_s: u64) -> EpochSecret {
    EpochSecret {
        agreement: Hash([byte; 32]),
        epoch: 3,
        secret: Secret::new(&[byte ^ 0x80; 32]),
        until_s,
    }
}

#[test]
fn a_vault_opens_with_its_passphrase_and_with_no_other() {
    let place = Place::new();
    let protection = place.passphrase();
    let record = {
        let vault = Vault::create(&place.vault(), &protection).expect("made");
        assert_eq!(place.code(&protection), "VAULT_LOCKED");
        sealed(&vault, b"a declaration")
    };
    assert_eq!(place.code(&Protection::Plain), "PASSPHRASE_NEEDED");
    place.choose("another");
    assert_eq!(place.code(&protection), "PASSPHRASE_WRONG");
    place.choose("correct horse\n");
    let vault = Vault::open(&place.vault(), &protection).expect("opened");
    assert_eq!(opened(&vault, &record), b"a declaration");

    place.choose("battery staple");
    vault.change_protection(&protection).expect("changed");
    assert_eq!(opened(&vault, &record), b"a declaration");
    drop(vault);
    let vault = Vault::open(&place.vault(), &protection).expect("opened");
    assert_eq!(opened(&vault, &record), b"a declaration");
    vault.change_protection(&Protection::Plain).expect("changed");
    drop(vault);
    assert_eq!(place.code(&protection), "PASSPHRASE_NOT_NEEDED");
    assert_eq!(opened(&place.open(), &record), b"a declaration");
}

#[test]
fn a_vault_is_never_made_over_something() {
    let place = Place::new();
    assert_eq!(place.code(&Protection::Plain), "VAULT_MISSING");
    fs::create_dir(place.vault()).expect("made");
    drop(place.plain());
    let again = Vault::create(&place.vault(), &Protection::Plain).expect_err("taken");
    assert_eq!(again.code(), "VAULT_EXISTS");
    place.open();
    let there = fs::read_dir(place.directory.path()).expect("there").count();
    assert_eq!(there, 2, "the vault and the passphrase, and nothing beside them");
}

#[test]
fn others_may_neither_enter_nor_read_it() {
    let place = Place::new();
    drop(place.plain());
    for (path, allowed) in [("", 0o700), ("root.key", 0o600), ("keys", 0o600)] {
        let path = place.vault().join(path);
        let found = fs::metadata(&path).expect("there").permissions().mode() & 0o7777;
        assert_eq!(found, allowed, "{}", path.display());
        for bit in [0o040, 0o020, 0o010, 0o004, 0o002, 0o001] {
            mode(&path, allowed | bit);
            assert_eq!(place.code(&Protection::Plain), "VAULT_PERMISSIONS", "{}", path.display());
        }
        mode(&path, allowed);
    }
    place.open();
}

/// Root gives them away; who is not root owns what there is.
#[test]
fn a_vault_of_another_user_is_not_opened() {
    let place = Place::new();
    drop(place.plain());
    let vault = place.vault();
    for path in [vault.join("root.key"), vault.join("keys"), vault] {
        let give = |owner| std::os::unix::fs::chown(&path, Some(owner), None);
        let own = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&path).expect("there"));
        if give(65_534).is_ok() && own != 65_534 {
            assert_eq!(place.code(&Protection::Plain), "VAULT_OWNER", "{}", path.display());
            give(own).expect("taken back");
        }
    }
    place.open();
}

#[test]
fn named_secrets_are_there_after_a_restart() {
    let place = Place::new();
    let (public, old) = {
        let vault = place.plain();
        vault.put_epoch(epoch(1, 10)).expect("kept");
        vault.put_epoch(epoch(2, 20)).expect("kept");
        vault.put_epoch(epoch(2, 30)).expect("the same again, kept longer");
        let other = EpochSecret { secret: Secret::new(&[9; 32]), ..epoch(2, 40) };
        assert_eq!(vault.put_epoch(other).expect_err("another").code(), "VAULT_EPOCH_DIFFERS");
        vault.remove_epoch(&Hash([1; 32]), 3).expect("removed");
        for (byte, until) in [(1, 0), (2, 100), (2, 150), (3, 200)] {
            vault.put_dedupe(Secret::new(&[byte; 32]), until).expect("kept");
        }
        let old = vault.new_encryption_key().expect("made");
        (vault.new_encryption_key().expect("made"), old)
    };
    let vault = place.open();
    let kept = vault.epoch(&Hash([2; 32]), 3).expect("kept");
    assert!(kept.secret.is(&Secret::new(&[0x82; 32])) && kept.until_s == 30);
    assert!(vault.epoch(&Hash([1; 32]), 3).is_none() && vault.epochs().len() == 1);

    let until =
        |vault: &Vault| vault.dedupe_secrets().iter().map(|kept| kept.until_s).collect::<Vec<_>>();
    assert_eq!(until(&vault), [None, Some(200), Some(100)]);
    assert!(vault.dedupe_secrets()[0].secret.is(&Secret::new(&[3; 32])));
    vault.remove_dedupe_before(150).expect("removed");
    assert_eq!(until(&vault), [None, Some(200)]);

    let keys: Vec<_> = vault.encryption_keys().iter().map(|key| key.public).collect();
    assert_eq!(keys, [public, old]);
    assert_eq!(vault.encryption_key(&old).expect("kept").public(), old);
    vault.remove_encryption_key(&old).expect("removed");
    assert!(vault.encryption_key(&old).is_none());
}

#[test]
fn a_call_that_changes_nothing_writes_nothing_and_a_removal_makes_a_renewal_due() {
    let place = Place::new();
    let vault = place.plain();
    vault.put_epoch(epoch(1, 10)).expect("kept");
    vault.put_dedupe(Secret::new(&[1; 32]), 0).expect("kept");
    vault.put_dedupe(Secret::new(&[2; 32]), 100).expect("kept");
    let key = vault.new_encryption_key().expect("made");
    let generation = vault.generation();
    vault.put_epoch(epoch(1, 10)).expect("the same");
    vault.put_dedupe(Secret::new(&[2; 32]), 200).expect("the same");
    let secret = vault.encryption_key(&key).expect("kept");
    vault.put_encryption_key(secret).expect("the same");
    vault.remove_epoch(&Hash([9; 32]), 3).expect("nothing to remove");
    vault.remove_dedupe_before(5).expect("nothing to remove");
    assert_eq!(vault.generation(), generation);
    assert!(!vault.renewal_due());
    type Removal<'a> = &'a dyn Fn(&Vault) -> Result<(), VaultError>;
    let removals: [Removal<'_>; 3] = [
        &|vault| vault.remove_epoch(&Hash([1; 32]), 3),
        &|vault| vault.remove_dedupe_before(101),
        &|vault| vault.remove_encryption_key(&key),
    ];
    let mut vault = vault;
    for remove in removals {
        remove(&vault).expect("removed");
        drop(vault);
        vault = place.open();
        assert!(vault.renewal_due(), "after a restart too");
        vault.renew_root(&[]).expect("renewed");
        assert!(!vault.renewal_due());
    }
}

#[test]
fn nothing_secret_is_shown() {
    let place = Place::new();
    let vault = place.plain();
    vault.put_epoch(epoch(7, 1)).expect("kept");
    vault.new_encryption_key().expect("made");
    let record = sealed(&vault, b"a declaration");
    let shown = format!("{vault:?} {record:?} {:?} {:?}", vault.epochs(), vault.encryption_keys());
    assert!(!shown.contains("8787") && !shown.contains("135, 135"), "{shown}");
}

#[test]
fn a_month_is_read_as_it_is_written() {
    for text in ["0001-01", "2031-07", "9999-12"] {
        assert_eq!(month(text).to_string(), text);
        assert_eq!(RetentionMonth::from_number(month(text).to_number()), Some(month(text)));
    }
    for text in ["", "2031", "2031-13", "2031-00", "0000-01", "2031-7", "+2031-07", "10000-01"] {
        assert!(text.parse::<RetentionMonth>().is_err(), "{text}");
    }
    assert!(RetentionMonth::from_number(u32::MAX).is_none());
}
