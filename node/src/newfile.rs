//! Files that are written whole or not at all: new ones never over another, and such as take another's
//! place.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Writes a new file with the given permission bits and syncs it and its directory.
///
/// The bytes go to a file beside it first, which is then linked to its name: linking fails where
/// the name is taken, renaming would replace.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where there is one, or the system's answer.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let temporary = beside(path)?;
    let result = fill(&temporary, bytes, mode).and_then(|()| fs::hard_link(&temporary, path));
    let removed = fs::remove_file(&temporary);
    result?;
    removed?;
    sync_directory(path)
}

/// Writes a file in the place of the one that has its name, if there is one, and syncs it and its
/// directory. Whoever reads sees either of the two, whole.
///
/// # Errors
/// The system's answer; the file is then as it was.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = beside(path)?;
    let result = fill(&temporary, bytes, mode).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = result {
        // It may not be there; what went wrong first is what is told.
        let _left_behind = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_directory(path)
}

fn fill(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// `.<name>.<pid>.new`, in the same directory.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    Ok(path.with_file_name(format!(".{name}.{}.new", std::process::id())))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}
