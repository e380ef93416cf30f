//! Directories of a vault, a backup and a mirror: for their owner only, and made whole or not at all.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

use customhouse_files::newfile;

use crate::error::VaultError;

/// There until a vault that was restored has been opened.
pub(crate) const RESTORED: &str = "restored";

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
    let name = directory.file_name().ok_or(io::ErrorKind::InvalidInput);
    let name = name.map_err(|kind| VaultError::io(directory)(kind.into()))?;
    let beside = directory.with_file_name(format!(".{}.new", name.to_string_lossy()));
    let io = VaultError::io(&beside);
    if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(VaultError::io(parent))?;
    }
    // What an earlier attempt has left.
    match fs::remove_dir_all(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(&beside).map_err(&io)?;
    let made = fill(&beside).and_then(|()| {
        // Over an empty directory, and over nothing else.
        fs::rename(&beside, directory).map_err(VaultError::io(directory))
    });
    if made.is_err() {
        let _left_behind = fs::remove_dir_all(&beside);
    }
    made?;
    newfile::sync_directory(directory).map_err(VaultError::io(directory))
}
