//! What an operator does with the vault of a node that does not run: makes one, looks at it, backs it up, puts it
//! back, protects it in another way, gives it a mirror, and changes the secrets that agencies register.
//!
//! Whatever changes a vault has its mirror open too, where the configuration names one: else the mirror is behind a
//! vault that nobody may find again.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use customhouse_files::{passphrase::PassphraseSource, secret::Secret};
use customhouse_ledger::{
    agency::AgencyCode,
    hash::Hash,
    registry::{EncryptionKeyError, EncryptionPublicKey},
};
use customhouse_vault::{
    backup::{self, VaultBackup},
    dedupe::dedupe_check,
    error::{MirrorError, VaultError},
    mirror::Mirror,
    vault::{Protection, Vault},
};
use serde::Serialize;

use super::keys::{SealingKeys, SealingKeysError};
use crate::{
    clock,
    config::{BackupSection, VaultSection},
};

mod dedupe_file;
pub mod report;

pub use dedupe_file::DedupeFileError;

/// Seconds for which an exchanged dedupe secret counts, so that a retry is recognised: 400 days.
const OLD_DEDUPE_S: u64 = 400 * 24 * 60 * 60;

/// What an agency registers of a vault: others seal to the key, and its nodes know each other by the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Registrable {
    /// The key that others seal to.
    #[serde(serialize_with = "shown")]
    pub encryption_key: EncryptionPublicKey,
    /// The check value of the secret of dedupe keys.
    pub dedupe_check: Hash,
}

/// As it is registered: 64 hexadecimal digits.
fn shown<S: serde::Serializer>(key: &EncryptionPublicKey, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&hex::encode(key.as_bytes()))
}

impl Registrable {
    /// The options of `customhouse registry propose` that register it.
    pub fn options(&self, agency: AgencyCode) -> String {
        let key = hex::encode(self.encryption_key.as_bytes());
        format!("--add {agency}:encryption={key} --dedupe-check {agency}={}", self.dedupe_check)
    }
}

/// Makes a vault with a key that others can seal to, and the secret of the dedupe keys.
///
/// # Errors
/// Where the directory has something already; no passphrase; a failing disk.
pub fn create(
    directory: &Path,
    protection: &Protection,
    agency: AgencyCode,
) -> Result<Registrable, SealingKeysError> {
    let vault = Vault::create(directory, protection)?;
    let encryption_key = registrable(vault.new_encryption_key()?.as_bytes())?;
    let secret = Secret::random().map_err(VaultError::Randomness)?;
    let dedupe_check = dedupe_check(&secret, agency);
    vault.put_dedupe(secret, 0)?;
    Ok(Registrable { encryption_key, dedupe_check })
}

/// As the registry takes it.
fn registrable(key: &[u8]) -> Result<EncryptionPublicKey, EncryptionKeyError> {
    EncryptionPublicKey::from_slice(key)
}

/// A backup of a vault, as it was made or found.
#[derive(Clone, Debug, Serialize)]
pub struct BackupReport {
    /// Its number in the directory.
    pub number: u32,
    /// Where it is.
    #[serde(serialize_with = "report::lossy")]
    pub path: PathBuf,
    /// Of which vault, 32 hexadecimal digits.
    pub vault: String,
    /// The generation that it has.
    pub generation: u64,
    /// Whether it opens with a passphrase only: the one that the vault had then.
    pub passphrase: bool,
    #[serde(skip)]
    said: String,
}

impl fmt::Display for BackupReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  {}", self.said, self.path.display())
    }
}

impl From<VaultBackup> for BackupReport {
    fn from(made: VaultBackup) -> Self {
        let said = made.to_string();
        let VaultBackup { number, path, vault, generation, is_wrapped, .. } = made;
        let path = std::path::absolute(&path).unwrap_or(path);
        Self { number, path, vault: vault.to_string(), generation, passphrase: is_wrapped, said }
    }
}

/// Adds a backup of a vault to a directory of them.
///
/// # Errors
/// A vault that does not open, or a directory of another vault's backups; a failing disk.
pub fn back_up(
    section: &VaultSection,
    to: &BackupSection,
) -> Result<BackupReport, SealingKeysError> {
    let vault = Vault::open(&section.directory, &section.root_key.0)?;
    Ok(vault.back_up(&to.directory, to.keep)?.into())
}

/// The backups of a directory, oldest first: those that can be read, and what is wrong with each other.
///
/// # Errors
/// A directory that cannot be listed.
pub fn backups(
    directory: &Path,
) -> Result<Vec<Result<BackupReport, SealingKeysError>>, SealingKeysError> {
    let found = backup::backups(directory)?.into_iter();
    Ok(found.map(|one| one.map(Into::into).map_err(Into::into)).collect())
}

/// Puts a vault back from a backup, or from a mirror, into a directory that is not there yet or empty. Which vault
/// it is, 32 hexadecimal digits.
///
/// # Errors
/// What is no copy of a vault, or a damaged one; a directory that has something; a failing disk.
pub fn restore(from: &Path, into: &Path) -> Result<String, SealingKeysError> {
    let restored = match Mirror::look(from) {
        Ok(_) => Mirror::restore_vault(from, into)?,
        Err(MirrorError::Missing(_)) => backup::restore(from, into)?,
        Err(error) => return Err(error.into()),
    };
    Ok(restored.to_string())
}

/// Protects a vault in another way, or by another passphrase.
///
/// # Errors
/// As [`SealingKeys::open`] and [`Vault::change_protection`]: see [`SealingKeysError::was_done`].
pub fn protect(section: &VaultSection, protection: &Protection) -> Result<(), SealingKeysError> {
    let keys = SealingKeys::open(section)?;
    Ok(keys.vault.change_protection(protection)?)
}

/// What a mirror was given.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MirrorMade {
    /// The generation of the keys that it has now.
    pub generation: u64,
    /// Whether a vault can be put back from it alone: a root key without a passphrase never leaves its directory.
    pub has_root_key: bool,
    /// Whether it was there, and was brought up only.
    pub was_there: bool,
}

/// Makes a mirror of a vault in a directory, and fills it with the keys. A mirror of this vault that is there is
/// brought up.
///
/// # Errors
/// A vault that does not open; a directory that has something else; a mirror that fails.
pub fn mirror(section: &VaultSection, directory: &Path) -> Result<MirrorMade, SealingKeysError> {
    let vault = Vault::open(&section.directory, &section.root_key.0)?;
    let was_there = match Mirror::look(directory) {
        Ok(_) => true,
        Err(MirrorError::Missing(_)) => {
            Mirror::create(directory, vault.id())?;
            false
        }
        Err(error) => return Err(error.into()),
    };
    vault.mirror_to(Arc::new(Mirror::open(directory)?))?;
    let has_root_key = Mirror::look(directory)?.has_root_key;
    Ok(MirrorMade { generation: vault.generation(), has_root_key, was_there })
}

/// A key that others are to seal to from now on, and those of before.
#[derive(Clone, Debug, Serialize)]
pub struct EncryptionKeys {
    /// The new one, 64 hexadecimal digits.
    pub new: String,
    /// The others that the vault has, newest first.
    pub old: Vec<String>,
}

/// Makes the next key that others can seal to. Those of before stay in the vault.
///
/// # Errors
/// As [`SealingKeys::open`]; a failing disk or mirror.
pub fn new_encryption_key(section: &VaultSection) -> Result<EncryptionKeys, SealingKeysError> {
    let keys = SealingKeys::open(section)?;
    let new = keys.vault.new_encryption_key()?;
    let all = keys.vault.encryption_keys().into_iter().map(|key| key.public);
    let old = all.filter(|key| *key != new).map(|key| key.to_string());
    Ok(EncryptionKeys { new: new.to_string(), old: old.collect() })
}

/// When a dedupe secret that is exchanged now does not count any more, Unix seconds.
fn old_dedupe_until() -> u64 {
    clock::unix_ms() / 1000 + OLD_DEDUPE_S
}

/// Makes the next secret of dedupe keys; the one of before counts on for 400 days. Its check value, which is
/// registered.
///
/// # Errors
/// As [`SealingKeys::open`]; a failing disk or mirror.
pub fn new_dedupe_secret(
    section: &VaultSection,
    agency: AgencyCode,
) -> Result<Hash, SealingKeysError> {
    let keys = SealingKeys::open(section)?;
    let secret = Secret::random().map_err(VaultError::Randomness)?;
    let check = dedupe_check(&secret, agency);
    keys.vault.put_dedupe(secret, old_dedupe_until())?;
    Ok(check)
}

/// Writes the present secret of dedupe keys to a new file under a passphrase, for another node of the agency. Its
/// check value.
///
/// # Errors
/// A vault that does not open or has no such secret; a file that is there; no passphrase.
pub fn export_dedupe_secret(
    section: &VaultSection,
    agency: AgencyCode,
    file: &Path,
    passphrase: &PassphraseSource,
) -> Result<Hash, SealingKeysError> {
    let vault = Vault::open(&section.directory, &section.root_key.0)?;
    let present =
        vault.dedupe_secrets().into_iter().next().ok_or(SealingKeysError::NoDedupeSecret)?;
    let chosen = passphrase.choose("the file of the dedupe secret").map_err(VaultError::from)?;
    Ok(dedupe_file::write(file, agency, &present.secret, &chosen)?)
}

/// Takes the secret of dedupe keys that another node of the agency has exported as the present one; the one of before
/// counts on for 400 days. Its check value.
///
/// # Errors
/// A file that is damaged, another agency's, or under another passphrase; as [`SealingKeys::open`].
pub fn import_dedupe_secret(
    section: &VaultSection,
    agency: AgencyCode,
    file: &Path,
    passphrase: &PassphraseSource,
) -> Result<Hash, SealingKeysError> {
    let asked = passphrase.ask("the file of the dedupe secret").map_err(VaultError::from)?;
    let secret = dedupe_file::read(file, agency, &asked)?;
    let check = dedupe_check(&secret, agency);
    SealingKeys::open(section)?.vault.put_dedupe(secret, old_dedupe_until())?;
    Ok(check)
}
