//! Whether secrets are their owner's only: their files, and the directories in which somebody else could
//! put other files in their place.

use std::{
    fs::Metadata,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use customhouse_files::passphrase::PassphraseSource;

use super::{
    Findings,
    Severity::{Hinders, Stops},
};
use crate::config::{NodeConfig, journal_path};

/// The bits of those who are not the owner.
const OTHERS: u32 = 0o077;
const WRITTEN_BY_OTHERS: u32 = 0o022;
const WRITTEN_BY_ALL: u32 = 0o002;
/// Set on a directory, it lets nobody remove or rename what is another's.
const STICKY: u32 = 0o1000;

/// Looks at every secret that the configuration names.
pub(super) fn check(config: &NodeConfig, findings: &mut Findings) {
    let keys = &config.keys;
    let passphrase = match &keys.passphrase {
        Some(PassphraseSource::File(path)) => Some(path),
        _ => None,
    };
    let named = [
        ("keys.validator", Some(&keys.validator)),
        ("keys.next_validator", keys.next_validator.as_ref()),
        ("keys.peer", Some(&keys.peer)),
        ("keys.signing", Some(&keys.signing)),
        ("keys.checkpoint", keys.checkpoint.as_ref()),
        ("keys.passphrase", passphrase),
        ("api.tls.key", Some(&config.api.tls.key)),
    ];
    for (field, path) in named {
        let Some(path) = path else { continue };
        check_file(field, path, OTHERS, findings);
        check_directories(field, path, findings);
    }
    // What a key has signed is not a secret, but nobody else may change it.
    for key in [Some(&keys.validator), keys.next_validator.as_ref()].into_iter().flatten() {
        let journal = journal_path(key);
        if journal.exists() {
            check_file("keys.validator", &journal, WRITTEN_BY_OTHERS, findings);
        }
    }
}

/// A file, through symbolic links, of which others may not have these permissions.
fn check_file(field: &str, path: &Path, never: u32, findings: &mut Findings) {
    match path.metadata() {
        // Whatever reads the file says what is wrong.
        Err(_) => {}
        Ok(found) if !found.is_file() => {
            findings.add(Stops, field, Some(path), "is no regular file");
        }
        Ok(found) => {
            let mode = found.mode() & 0o7777;
            if mode & never != 0 {
                let reason = format!(
                    "has mode {mode:04o}: others than its owner may read or change it; run \
                     `chmod 600 {}` if nobody did, else make a new one",
                    path.display()
                );
                findings.add(Stops, field, Some(path), reason);
            }
            check_owner(field, path, &found, findings);
        }
    }
}

/// The directory that has the file, and where it is a symbolic link, the one that has what it points to.
pub(super) fn check_directories(field: &str, path: &Path, findings: &mut Findings) {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    for file in [path, &real] {
        let directory = parent(file);
        let Ok(found) = directory.metadata() else { continue };
        let mode = found.mode() & 0o7777;
        if mode & WRITTEN_BY_OTHERS != 0 && mode & STICKY == 0 {
            let reason = format!(
                "has mode {mode:04o}: others than its owner may put another key in the place of one; run \
                 `chmod 700 {}`",
                directory.display()
            );
            findings.add(Stops, field, Some(&directory), reason);
        }
        check_owner(field, &directory, &found, findings);
        check_above(field, &directory, findings);
    }
}

/// Whoever may rename a directory can put another in its place: so none of those above may be writable to
/// everybody.
fn check_above(field: &str, directory: &Path, findings: &mut Findings) {
    let Ok(absolute) = std::path::absolute(directory) else { return };
    for above in absolute.ancestors().skip(1) {
        let Ok(mode) = directory_mode(above) else { continue };
        if mode & WRITTEN_BY_ALL != 0 && mode & STICKY == 0 {
            let reason = format!(
                "has mode {mode:04o}: anybody may put another directory in the place of {}; run `chmod o-w {}`",
                directory.display(),
                above.display()
            );
            findings.add(Hinders, field, Some(above), reason);
        }
    }
}

fn check_owner(field: &str, path: &Path, found: &Metadata, findings: &mut Findings) {
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != own && found.uid() != 0 {
        let reason = format!(
            "belongs to user {}, this process is user {own}: that user can read and change it; run \
             `chown {own} {}`",
            found.uid(),
            path.display()
        );
        findings.add(Stops, field, Some(path), reason);
    }
}

fn parent(path: &Path) -> PathBuf {
    let named = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    named.unwrap_or(Path::new(".")).to_owned()
}

/// What others may do with a directory that is to be this process's own.
///
/// # Errors
/// The system's answer.
pub(super) fn directory_mode(path: &Path) -> io::Result<u32> {
    Ok(path.metadata()?.mode() & 0o7777)
}
