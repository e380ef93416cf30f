//! Text files in an agency's folders.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use crate::newfile;

/// Why a file or directory could not be read or made. Each names it.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The system's answer.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing is made over something else.
    #[error("{0} exists: choose another name, or remove it first")]
    Exists(PathBuf),
    /// The content is not what it should be.
    #[error("{path}: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// What the system answered, of this file or directory.
pub fn io_error(path: &Path) -> impl FnOnce(io::Error) -> FolderError + '_ {
    move |source| FolderError::Io { path: path.to_owned(), source }
}

/// Makes a directory, and those that it is in, where they are not there.
///
/// # Errors
/// The system's answer.
pub fn create_dir(path: &Path) -> Result<(), FolderError> {
    create_durably(path, 0o777).map_err(io_error(path))
}

/// The same with permission bits for those that are made. Each is durable in the one that it is in: else what is
/// written to it and synced may be in a directory that is not there after a crash.
///
/// # Errors
/// The system's answer.
pub fn create_durably(path: &Path, mode: u32) -> io::Result<()> {
    let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.is_dir();
    let mut made: Vec<_> = path.ancestors().take_while(missing).collect();
    while let Some(path) = made.pop() {
        match DirBuilder::new().mode(mode).create(path) {
            // By another meanwhile.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            made => made?,
        }
        newfile::sync_directory(path)?;
    }
    Ok(())
}

/// Writes a new file that everyone may read.
///
/// # Errors
/// [`FolderError::Exists`], or the system's answer.
pub fn write_public(path: &Path, text: &str) -> Result<(), FolderError> {
    newfile::write(path, text.as_bytes(), 0o644).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => FolderError::Exists(path.to_owned()),
        _ => FolderError::Io { path: path.to_owned(), source },
    })
}

/// A path of a file in `base`: an absolute one stays what it is, `~/` is the user's home.
pub fn resolved(base: &Path, path: &Path) -> PathBuf {
    let home = path.strip_prefix("~").ok().zip(std::env::home_dir());
    home.map_or_else(|| base.join(path), |(rest, home)| home.join(rest))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn directories_are_made_with_those_that_they_are_in_and_left_as_they_are() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a/b/c");
        create_durably(&path, 0o700).expect("made");
        for path in path.ancestors().take(3) {
            let mode = fs::metadata(path).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", path.display());
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).expect("allowed");
        create_durably(&path.join("../c/./d"), 0o700).expect("made");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o750);
        fs::write(path.join("file"), "").expect("written");
        create_durably(&path.join("file/d"), 0o700).expect_err("a file is no directory");
        create_durably(&path.join("file"), 0o700).expect_err("a file is no directory");
    }
}
