//! Whether the node can write where it keeps its data.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use super::{
    Findings,
    Severity::{Hinders, Stops, Worth},
    secrets,
};
use crate::config::NodeConfig;

/// Bytes that must be free: a node that starts with less stops within the hour.
const FREE_BYTES_MIN: u64 = 256 * 1024 * 1024;
/// Free bytes below which it is reported.
const FREE_BYTES_WORTH: u64 = 4 * 1024 * 1024 * 1024;

/// Looks at every directory that a node writes to.
pub(super) fn check(config: &NodeConfig, findings: &mut Findings) {
    check_directory("data_dir", &config.data_dir, findings);
    // A journal is written anew beside its key from time to time.
    let keys = [
        ("keys.validator", Some(&config.keys.validator)),
        ("keys.next_validator", config.keys.next_validator.as_ref()),
    ];
    let mut tried = BTreeSet::new();
    for (field, key) in keys {
        if let Some(directory) = key.and_then(|key| key.parent()).filter(|dir| tried.insert(*dir)) {
            try_to_write(field, directory, findings);
        }
    }
    if let Some(backup) = &config.backup {
        check_directory("backup.directory", &backup.directory, findings);
        let store = config.store_path();
        if backup.directory.starts_with(&store) {
            let reason = format!("is inside the store, {}: name another", store.display());
            findings.add(Stops, "backup.directory", Some(&backup.directory), reason);
        }
    }
}

fn check_directory(field: &str, path: &Path, findings: &mut Findings) {
    // A directory that is not there is made by the node, in the nearest that is.
    let existing = existing(path);
    if !existing.is_dir() {
        findings.add(Stops, field, Some(existing), "is no directory");
        return;
    }
    if try_to_write(field, existing, findings) {
        check_space(field, existing, findings);
    }
    let Some(mode) = secrets::directory_mode(path).ok() else { return };
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        let reason = format!(
            "has mode {mode:04o}: others may change the ledger in it; run `chmod 700 {}`",
            path.display()
        );
        findings.add(Stops, field, Some(path), reason);
    } else if mode & 0o055 != 0 {
        let reason = format!(
            "has mode {mode:04o}: others may look for trade data in it; `chmod 700 {}` keeps it to the node",
            path.display()
        );
        findings.add(Worth, field, Some(path), reason);
    }
}

/// The nearest directory above that is there, or the path itself.
pub(super) fn existing(path: &Path) -> &Path {
    let existing = path.ancestors().find(|path| path.symlink_metadata().is_ok());
    existing.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes, syncs and removes a file.
pub(super) fn try_to_write(field: &str, directory: &Path, findings: &mut Findings) -> bool {
    let file = directory.join(format!(".customhouse-check-{}", std::process::id()));
    let tried = write_and_sync(&file);
    let removed = fs::remove_file(&file);
    let failed = tried.err().or(removed.err());
    if let Some(error) = &failed {
        let reason = format!("cannot be written: {error}");
        findings.add(Stops, field, Some(directory), reason);
    }
    failed.is_none()
}

fn write_and_sync(file: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut opened = options.write(true).create(true).truncate(true).mode(0o600).open(file)?;
    opened.write_all(&[0; 4096])?;
    opened.sync_all()
}

fn check_space(field: &str, directory: &Path, findings: &mut Findings) {
    // A file system that does not tell is written to all the same.
    let Ok(found) = rustix::fs::statvfs(directory) else { return };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let mib = free / (1024 * 1024);
    if free < FREE_BYTES_MIN {
        let reason = format!("has {mib} MiB left: a node that runs out of space stops");
        findings.add(Hinders, field, Some(directory), reason);
    } else if free < FREE_BYTES_WORTH {
        findings.add(Worth, field, Some(directory), format!("has {mib} MiB left"));
    }
}
