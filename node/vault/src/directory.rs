//! Directories of a vault, a backup and a mirror: for their owner only, and made whole or not at all.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use customhouse_files::{folder, newfile, readfile};

use crate::error::VaultError;

/// Refuses a directory that has something.
pub(crate) fn refuse_taken(directory: &Path) -> Result<(), VaultError> {
    let taken = || VaultError::Exists(directory.to_owned());
    match fs::read_dir(directory).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(taken()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(VaultError::io(directory)(error)),
    }
}

/// Makes a directory for the owner only, filled beside its name: after a crash it is there whole, or is not.
pub(crate) fn new_directory(
    directory: &Path,
    fill: impl FnOnce(&Path) -> Result<(), VaultError>,
) -> Result<(), VaultError> {
    let beside = beside(directory)?;
    let io = VaultError::io(&beside);
    if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_private(parent).map_err(VaultError::io(parent))?;
    }
    // What an earlier attempt has left.
    discard(&beside)?;
    DirBuilder::new().mode(0o700).create(&beside).map_err(&io)?;
    let made = fill(&beside).and_then(|()| {
        // Over an empty directory, and over nothing else.
        fs::rename(&beside, directory).map_err(VaultError::io(directory))
    });
    if made.is_err() {
        let _left_behind = discard(&beside);
    }
    made?;
    newfile::sync_directory(directory).map_err(VaultError::io(directory))
}

/// Where a directory is filled.
fn beside(directory: &Path) -> Result<PathBuf, VaultError> {
    let name = directory.file_name().ok_or(io::ErrorKind::InvalidInput);
    let name = name.map_err(|kind| VaultError::io(directory)(kind.into()))?;
    Ok(directory.with_file_name(format!(".{}.new", name.to_string_lossy())))
}

/// Removes what an attempt to make this directory has left beside it, which may open what is purged.
pub(crate) fn discard_unfinished(directory: &Path) -> Result<(), VaultError> {
    discard(&beside(directory)?)
}

/// Removes a directory, if it is there, and overwrites the files that it has.
///
/// # Errors
/// [`VaultError::Owner`] for another user's; a failing disk.
pub(crate) fn discard(directory: &Path) -> Result<(), VaultError> {
    // A symbolic link is not followed: what it leads to is not ours.
    match directory.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(found) if found.is_dir() => {
            readfile::is_own(&found).map_err(VaultError::private(directory))?;
        }
        Ok(_) => return fs::remove_file(directory).map_err(VaultError::io(directory)),
        Err(error) => return Err(VaultError::io(directory)(error)),
    }
    for entry in fs::read_dir(directory).map_err(VaultError::io(directory))? {
        let entry = entry.map_err(VaultError::io(directory))?;
        let (path, found) = (entry.path(), entry.file_type());
        match found.map_err(VaultError::io(&path))? {
            found if found.is_dir() => discard(&path)?,
            found if found.is_file() => {
                newfile::remove_secret(&path).map_err(VaultError::io(&path))?;
            }
            _ => fs::remove_file(&path).map_err(VaultError::io(&path))?,
        }
    }
    fs::remove_dir(directory)
        .and_then(|()| newfile::sync_directory(directory))
        .map_err(VaultError::io(directory))
}

/// Makes a directory for the owner only, and those that it is in where they are not there, durably.
pub(crate) fn make_private(directory: &Path) -> io::Result<()> {
    folder::create_durably(directory, 0o700)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_discarded_is_overwritten_and_no_link_is_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        fs::create_dir_all(path("vault/inner")).expect("made");
        fs::create_dir(path("elsewhere")).expect("made");
        for name in ["vault/keys", "vault/inner/keys", "elsewhere/keys"] {
            fs::write(path(name), "secret").expect("written");
        }
        fs::hard_link(path("vault/inner/keys"), path("other name")).expect("another name");
        symlink(path("elsewhere"), path("vault/link")).expect("made");
        discard(&path("vault")).expect("removed");
        assert!(!path("vault").exists());
        assert_eq!(fs::read(path("other name")).expect("there"), [0; 6]);
        symlink(path("elsewhere"), path("vault")).expect("made");
        discard(&path("vault")).expect("removed");
        assert!(path("vault").symlink_metadata().is_err());
        assert_eq!(fs::read(path("elsewhere/keys")).expect("there"), b"secret");
        discard(&path("vault")).expect("nothing to remove");
    }
}
