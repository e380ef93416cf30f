//! Text files in an agency's folders.

use std::{
    fs, io,
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
    fs::create_dir_all(path).map_err(io_error(path))
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
