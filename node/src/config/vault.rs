//! The section `[vault]`: where the keys of sealed records are, what protects them, and their second place.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use customhouse_files::{folder::resolved, passphrase::PassphraseSource};
use customhouse_vault::vault::Protection;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{BackupSection, NodeConfig};

/// Months that a sealed record is kept where nothing says otherwise: ten years.
const RETENTION_MONTHS: u32 = 120;
/// A hundred years.
const RETENTION_MONTHS_MAX: u32 = 1200;

/// The keys of sealed records.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultSection {
    /// The vault's directory. Beside the signer's journal is best; never inside `data_dir`.
    pub directory: PathBuf,
    /// What protects its root key.
    pub root_key: RootKeyProtection,
    /// The second place of all that is sealed: a directory on a disk of another machine.
    #[serde(default)]
    pub mirror: Option<PathBuf>,
    /// Whether sealed records are accepted that are at this node only.
    #[serde(default)]
    pub single_copy: bool,
    /// Where backups of the vault go, which no backup of the store has. None are made where absent.
    #[serde(default)]
    pub backup: Option<BackupSection>,
    /// Months that a sealed record is kept, where no agreement says otherwise.
    #[serde(default = "retention_months")]
    pub retention_months: u32,
}

/// What protects a vault's root key: `plain`, or where its passphrase is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootKeyProtection(pub Protection);

const fn retention_months() -> u32 {
    RETENTION_MONTHS
}

impl VaultSection {
    pub(super) fn resolve_paths(&mut self, base: &Path) {
        self.directory = resolved(base, &self.directory);
        if let Some(mirror) = &mut self.mirror {
            *mirror = resolved(base, mirror);
        }
        if let Some(backup) = &mut self.backup {
            backup.directory = resolved(base, &backup.directory);
        }
        if let Protection::Passphrase(PassphraseSource::File(path)) = &mut self.root_key.0 {
            *path = resolved(base, path);
        }
    }

    /// What the types do not say. The error is the field and the reason.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let wrong = |field: &str, reason: &str| Err((format!("vault.{field}"), reason.to_owned()));
        if self.mirror.is_none() && !self.single_copy {
            let reason = "is missing: name a directory on another machine's disk, so that what is accepted is at \
                          two places; or set `single_copy = true`, and what this disk loses is lost";
            return wrong("mirror", reason);
        }
        if self.mirror.is_some() && self.single_copy {
            return wrong("single_copy", "is true, and there is a mirror: leave out one of them");
        }
        if self.backup.as_ref().is_some_and(|backup| backup.keep == 0) {
            return wrong("backup.keep", "0, at least 1 is needed: the newest is always kept");
        }
        if !(1..=RETENTION_MONTHS_MAX).contains(&self.retention_months) {
            return wrong("retention_months", "1 to 1200 expected");
        }
        Ok(())
    }
}

/// A text that says no protection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` protects no root key: `plain`, `prompt`, `file:PATH` or `credential:NAME` expected")]
pub struct RootKeyProtectionError(String);

impl FromStr for RootKeyProtection {
    type Err = RootKeyProtectionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = |_| RootKeyProtectionError(text.to_owned());
        Ok(Self(match text {
            "plain" => Protection::Plain,
            source => Protection::Passphrase(source.parse().map_err(unknown)?),
        }))
    }
}

impl RootKeyProtection {
    /// The same, with the path of a file that is right whatever directory it is read in.
    #[must_use]
    pub fn absolute(self) -> Self {
        match self.0 {
            Protection::Passphrase(PassphraseSource::File(path)) => {
                let path = std::path::absolute(&path).unwrap_or(path);
                Self(Protection::Passphrase(PassphraseSource::File(path)))
            }
            _ => self,
        }
    }
}

impl fmt::Display for RootKeyProtection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Protection::Passphrase(source) => source.fmt(f),
            _ => f.write_str("plain"),
        }
    }
}

impl<'de> Deserialize<'de> for RootKeyProtection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl NodeConfig {
    /// The directory of the terms of agreements, which the vault seals.
    pub fn terms_path(&self) -> PathBuf {
        self.data_dir.join("terms")
    }
}
