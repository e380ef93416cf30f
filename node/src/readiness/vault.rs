//! Whether the node has its vault, its passphrase and its second place, and nobody else has them.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use customhouse_files::{
    passphrase::PassphraseSource,
    readfile::{OTHERS, is_own},
};
use customhouse_ledger::registry::Registry;
use customhouse_vault::{closed::ClosedVault, mirror::Mirror, vault::Protection};

use super::{
    Findings,
    Severity::{Hinders, Stops, Worth},
    data, secrets,
};
use crate::{
    config::{NodeConfig, VaultSection},
    sealed::{keys::SealingKeys, upkeep},
};

const DIRECTORY: &str = "vault.directory";
const ROOT_KEY: &str = "vault.root_key";
const MIRROR: &str = "vault.mirror";
const BACKUP: &str = "vault.backup.directory";

/// Looks at the vault from outside: it may be open, and no passphrase is asked for at a terminal.
pub(super) fn check(config: &NodeConfig, findings: &mut Findings) {
    let Some(section) = &config.vault else { return };
    check_places(config, section, findings);
    let vault = check_directory(section, findings);
    check_protection(section, vault.as_ref(), findings);
    match &section.mirror {
        Some(mirror) => check_mirror(section, mirror, vault.as_ref(), findings),
        None => {
            let reason = "sealed records that this node accepts are at one place only: what this disk loses is \
                          lost; `customhouse vault mirror` makes a second place";
            findings.add(Worth, "vault.single_copy", None, reason);
        }
    }
    check_backups(section, vault.as_ref(), findings);
}

/// Copies of the store, and of its directory, go where those do not belong that can open what is in them.
fn check_places(config: &NodeConfig, section: &VaultSection, findings: &mut Findings) {
    let backup = config.backup.as_ref().map(|backup| &backup.directory);
    let of_store = [("data_dir", Some(&config.data_dir)), ("backup.directory", backup)];
    let of_vault = section.backup.as_ref().map(|backup| &backup.directory);
    let own = [
        (DIRECTORY, Some(&section.directory), Stops),
        (MIRROR, section.mirror.as_ref(), Hinders),
        (BACKUP, of_vault, Hinders),
    ];
    for (field, path, severity) in own {
        let Some(path) = path else { continue };
        let inside = |other: &Path| real(path).starts_with(real(other));
        for (name, other) in of_store {
            if let Some(other) = other.filter(|other| inside(other)) {
                let reason = format!(
                    "is inside {name}, {}: whoever gets a copy of that could open what is sealed in it; move it \
                     elsewhere",
                    other.display()
                );
                findings.add(severity, field, Some(path), reason);
            }
        }
        if field != DIRECTORY && inside(&section.directory) {
            let reason = "is inside the vault: what loses that loses this; name another directory";
            findings.add(Hinders, field, Some(path), reason);
        }
    }
}

/// A path as the system has it, through symbolic links where it is there.
fn real(path: &Path) -> PathBuf {
    let there = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    match there {
        Some((above, real)) => match path.strip_prefix(above) {
            Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
            _ => real,
        },
        None => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
    }
}

/// The vault, where there is one that can be read.
fn check_directory(section: &VaultSection, findings: &mut Findings) -> Option<ClosedVault> {
    let path = &*section.directory;
    let found = match path.metadata() {
        Ok(found) if found.is_dir() => found,
        Ok(_) => {
            findings.add(Stops, DIRECTORY, Some(path), "is no directory");
            return None;
        }
        Err(error) => {
            let reason = format!(
                "{error}: `customhouse vault restore` puts it back from a backup or a mirror; `customhouse vault \
                 new` makes one for a node that never had any"
            );
            findings.add(Stops, DIRECTORY, Some(path), reason);
            return None;
        }
    };
    secrets::check_directories(DIRECTORY, path, findings);
    let mode = found.mode() & 0o7777;
    if mode & OTHERS != 0 {
        let reason = format!(
            "has mode {mode:04o}: others than its owner may look into it; run `chmod 700 {}` if nobody did, else \
             exchange the secrets in it",
            path.display()
        );
        findings.add(Stops, DIRECTORY, Some(path), reason);
    }
    check_own(DIRECTORY, path, &found, findings);
    data::try_to_write(DIRECTORY, path, findings);
    match ClosedVault::read(path) {
        Ok(vault) => Some(vault),
        Err(error) => {
            findings.add(Stops, DIRECTORY, None, error.to_string());
            None
        }
    }
}

fn check_own(field: &str, path: &Path, found: &Metadata, findings: &mut Findings) {
    if let Err(error) = is_own(found) {
        findings.add(Stops, field, Some(path), error.to_string());
    }
}

fn check_protection(section: &VaultSection, vault: Option<&ClosedVault>, findings: &mut Findings) {
    let is_plain = section.root_key.0 == Protection::Plain;
    let how = match vault {
        Some(vault) if vault.is_wrapped && is_plain => {
            "says `plain`, and the root key is under a passphrase: say where that is"
        }
        Some(vault) if !vault.is_wrapped && !is_plain => {
            "says where a passphrase is, and the root key is under none: say `plain`, or put it under one by \
             `customhouse vault passphrase`"
        }
        _ => "",
    };
    if !how.is_empty() {
        findings.add(Stops, ROOT_KEY, None, how);
    }
    match &section.root_key.0 {
        Protection::Passphrase(source @ PassphraseSource::File(path)) => {
            secrets::check_directories(ROOT_KEY, path, findings);
            match source.ask("the vault") {
                Ok(_) if device(path) == device(&section.directory) => {
                    let reason = "is on the vault's own disk: whoever gets that has both";
                    findings.add(Worth, ROOT_KEY, Some(path), reason);
                }
                Ok(_) => {}
                Err(error) => findings.add(Stops, ROOT_KEY, None, error.to_string()),
            }
        }
        Protection::Plain => {
            let reason = "is plain: whoever gets the disk can open what is sealed; `customhouse vault passphrase` \
                          puts it under a passphrase";
            findings.add(Worth, ROOT_KEY, None, reason);
        }
        _ => {}
    }
}

/// Which disk a file or directory is on.
fn device(path: &Path) -> Option<u64> {
    path.metadata().ok().map(|found| found.dev())
}

fn check_mirror(
    section: &VaultSection,
    path: &Path,
    vault: Option<&ClosedVault>,
    findings: &mut Findings,
) {
    match Mirror::look(path) {
        Err(error) => {
            // Which says what to do but the command's name.
            let reason = format!("{error} (`customhouse vault mirror`)");
            findings.add(Stops, MIRROR, None, reason);
            return;
        }
        Ok(seen) => {
            if let Some(vault) = vault.filter(|vault| vault.vault != seen.vault) {
                let reason = format!(
                    "is the mirror of vault {}, and this is vault {}: name this vault's own",
                    seen.vault, vault.vault
                );
                findings.add(Stops, MIRROR, Some(path), reason);
            }
        }
    }
    check_mode(MIRROR, path, "the records in it", findings);
    data::try_to_write(MIRROR, path, findings);
    if device(path) == device(&section.directory) {
        let reason = "is on the vault's own disk: what that loses is lost at both places";
        findings.add(Worth, MIRROR, Some(path), reason);
    }
}

/// What is in it is sealed, so that others may look, and must not change it.
fn check_mode(field: &str, path: &Path, what: &str, findings: &mut Findings) {
    let Ok(found) = path.metadata() else { return };
    let mode = found.mode() & 0o7777;
    let (severity, may) = match mode {
        mode if mode & 0o022 != 0 && mode & 0o1000 == 0 => (Stops, "change"),
        mode if mode & 0o055 != 0 => (Worth, "count"),
        _ => return check_own(field, path, &found, findings),
    };
    let reason =
        format!("has mode {mode:04o}: others may {may} {what}; run `chmod 700 {}`", path.display());
    findings.add(severity, field, Some(path), reason);
    check_own(field, path, &found, findings);
}

fn check_backups(section: &VaultSection, vault: Option<&ClosedVault>, findings: &mut Findings) {
    let Some(backup) = &section.backup else {
        let reason = "is not there: no backups of the vault are made, and what loses the vault loses all that was \
                      sealed here; name a directory on another disk";
        findings.add(Worth, "vault.backup", None, reason);
        return;
    };
    let path = &*backup.directory;
    data::try_to_write(BACKUP, data::existing(path), findings);
    if !path.is_dir() {
        return;
    }
    check_mode(BACKUP, path, "the backups in it", findings);
    for found in upkeep::backups(path).into_iter().flatten().flatten() {
        if let Some(vault) = vault.filter(|vault| vault.vault.to_string() != found.vault) {
            let reason = format!(
                "has backups of vault {}, and this is vault {}: none is added there; name another directory",
                found.vault, vault.vault
            );
            findings.add(Hinders, BACKUP, Some(path), reason);
        }
    }
}

/// Opens the vault and its mirror, and looks whether the registry knows them at a height.
pub(super) fn try_out(
    config: &NodeConfig,
    registry: &Registry,
    height: u64,
    findings: &mut Findings,
) {
    let Some(section) = &config.vault else { return };
    let keys = match SealingKeys::open(section) {
        Ok(keys) => keys,
        Err(error) => {
            let hint = match error.is_open_elsewhere() {
                true => " (the node that runs? `--running` leaves it out)",
                false => "",
            };
            return findings.add(Stops, "vault", None, format!("{error}{hint}"));
        }
    };
    match keys.unregistered(&config.agency, registry, height) {
        Ok(reasons) => {
            reasons.into_iter().for_each(|reason| findings.add(Hinders, "vault", None, reason));
        }
        Err(error) => findings.add(Stops, "vault", None, error.to_string()),
    }
}
