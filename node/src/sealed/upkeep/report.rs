//! What is told of a vault: what it has, and where its copies are; never a secret.

use std::path::{Path, PathBuf};

use customhouse_ledger::{agency::AgencyCode, hash::Hash};
use customhouse_vault::{
    closed::ClosedVault, dedupe::dedupe_check, error::VaultError, mirror::Mirror, vault::Vault,
};
use serde::{Serialize, Serializer};

use super::{BackupReport, backups};
use crate::{config::VaultSection, sealed::keys::SealingKeysError};

/// A vault.
#[derive(Clone, Debug, Serialize)]
pub struct VaultReport {
    /// Where it is.
    #[serde(serialize_with = "lossy")]
    pub directory: PathBuf,
    /// Which, 32 hexadecimal digits.
    pub vault: String,
    /// How often its keys have been written.
    pub generation: u64,
    /// What protects its root key: `passphrase`, or `plain`.
    pub root_key: &'static str,
    /// What it has; nothing where another process has it open, which is told without its passphrase.
    pub contents: Option<ContentsReport>,
    /// Its second place, where the configuration names one.
    pub mirror: Option<MirrorReport>,
    /// Its backups, where the configuration says where they are.
    pub backups: Option<BackupsReport>,
}

/// What is in a vault.
#[derive(Clone, Debug, Serialize)]
pub struct ContentsReport {
    /// The groups whose keys it has.
    pub groups: Vec<GroupReport>,
    /// The epochs whose secrets it has.
    pub epochs: Vec<EpochReport>,
    /// The keys that others seal to, newest first, 64 hexadecimal digits each.
    pub encryption_keys: Vec<String>,
    /// The check values of the secrets of dedupe keys, newest first.
    pub dedupe: Vec<DedupeReport>,
    /// Whether something was removed that older copies of the keys still open.
    pub renewal_due: bool,
}

/// A group.
#[derive(Clone, Debug, Serialize)]
pub struct GroupReport {
    /// Its number, as a text: it has more digits than a number of JSON keeps.
    pub group: String,
    /// The month in which the retention of what it opens ends, as `2031-07`.
    pub month: String,
    /// Whether a round is about to end it.
    pub closed: bool,
}

/// The secret of an epoch.
#[derive(Clone, Debug, Serialize)]
pub struct EpochReport {
    /// The agreement.
    pub agreement: Hash,
    /// The epoch within it.
    pub epoch: u32,
    /// Until when it is kept, Unix seconds.
    pub until_s: u64,
}

/// A secret of dedupe keys.
#[derive(Clone, Debug, Serialize)]
pub struct DedupeReport {
    /// Its check value, as it is registered.
    pub check: Hash,
    /// Until when an old one counts, Unix seconds.
    pub until_s: Option<u64>,
}

/// A mirror.
#[derive(Clone, Debug, Serialize)]
pub struct MirrorReport {
    /// Where it is.
    #[serde(serialize_with = "lossy")]
    pub directory: PathBuf,
    /// What is wrong with it.
    pub wrong: Option<String>,
    /// A stable code of that.
    pub code: Option<&'static str>,
    /// The generation of the keys that it has.
    pub generation: Option<u64>,
    /// Whether a vault can be put back from it alone.
    pub has_root_key: bool,
}

/// The backups.
#[derive(Clone, Debug, Serialize)]
pub struct BackupsReport {
    /// Where they are.
    #[serde(serialize_with = "lossy")]
    pub directory: PathBuf,
    /// How many can be read.
    pub readable: usize,
    /// The newest of those.
    pub newest: Option<BackupReport>,
    /// What is wrong with each other, or with the directory.
    pub wrong: Vec<String>,
}

impl VaultReport {
    /// Looks at a vault and its copies. A vault that is open in another process is told of from outside; a passphrase
    /// is asked for only where it is not.
    ///
    /// # Errors
    /// A vault that is not there, is damaged, or does not open.
    pub fn of(section: &VaultSection, agency: AgencyCode) -> Result<Self, SealingKeysError> {
        let contents = match Vault::open(&section.directory, &section.root_key.0) {
            Ok(vault) => Some(ContentsReport::of(&vault, agency)),
            Err(VaultError::Locked(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let closed = ClosedVault::read(&section.directory)?;
        Ok(Self {
            directory: section.directory.clone(),
            vault: closed.vault.to_string(),
            generation: closed.generation,
            root_key: if closed.is_wrapped { "passphrase" } else { "plain" },
            contents,
            mirror: section.mirror.as_deref().map(|mirror| MirrorReport::of(mirror, &closed)),
            backups: section.backup.as_ref().map(|to| BackupsReport::of(&to.directory)),
        })
    }
}

impl ContentsReport {
    fn of(vault: &Vault, agency: AgencyCode) -> Self {
        let closed = vault.closed_groups();
        let groups = vault.groups().into_iter().map(|(number, month)| GroupReport {
            group: number.to_string(),
            month: month.to_string(),
            closed: closed.contains(&number),
        });
        let epochs = vault.epochs().into_iter().map(|kept| EpochReport {
            agreement: kept.agreement,
            epoch: kept.epoch,
            until_s: kept.until_s,
        });
        let dedupe = vault.dedupe_secrets().into_iter().map(|kept| DedupeReport {
            check: dedupe_check(&kept.secret, agency),
            until_s: kept.until_s,
        });
        let keys = vault.encryption_keys().into_iter().map(|key| key.public.to_string());
        Self {
            groups: groups.collect(),
            epochs: epochs.collect(),
            encryption_keys: keys.collect(),
            dedupe: dedupe.collect(),
            renewal_due: vault.renewal_due(),
        }
    }
}

impl MirrorReport {
    fn of(directory: &Path, vault: &ClosedVault) -> Self {
        let seen = Mirror::look(directory);
        let wrong = match &seen {
            Ok(seen) if seen.vault == vault.vault => None,
            Ok(seen) => Some((
                "MIRROR_FOREIGN",
                format!("it is of vault {}: name this vault's own", seen.vault),
            )),
            Err(error) => Some((error.code(), error.to_string())),
        };
        let (code, wrong) = wrong.unzip();
        Self {
            directory: directory.to_owned(),
            wrong,
            code,
            generation: seen.as_ref().ok().and_then(|seen| seen.generation),
            has_root_key: seen.is_ok_and(|seen| seen.has_root_key),
        }
    }
}

impl BackupsReport {
    fn of(directory: &Path) -> Self {
        let found = backups(directory).unwrap_or_else(|error| vec![Err(error)]);
        let (mut readable, mut wrong) = (Vec::new(), Vec::new());
        for one in found {
            match one {
                Ok(backup) => readable.push(backup),
                Err(error) => wrong.push(error.to_string()),
            }
        }
        let directory = directory.to_owned();
        Self { directory, readable: readable.len(), newest: readable.pop(), wrong }
    }
}

/// A path whose bytes may not be UTF-8, which is never why there is no report.
pub(super) fn lossy<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}
