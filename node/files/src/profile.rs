//! Client profiles: which node to talk to, and as whom.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    folder::{FolderError, io_error, resolved, write_public},
    readfile,
};

/// The file in a profile's directory.
const FILE: &str = "client.toml";
/// Most bytes of it.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// A client's profile: `client.toml`. Relative paths are relative to its directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The node's endpoint, `https://host:port`.
    pub node: String,
    /// Certificate of the agency's authority, PEM.
    pub ca: PathBuf,
    /// The client's certificate, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The genesis, for checking what the node answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis: Option<PathBuf>,
    /// A registered submitter's key file, for signing transactions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitter_key: Option<PathBuf>,
}

impl Profile {
    /// Reads a profile: its directory, or the file itself.
    ///
    /// # Errors
    /// Where there is none, or with unknown or missing fields.
    pub fn read(path: &Path) -> Result<Self, FolderError> {
        let file = if path.is_dir() { path.join(FILE) } else { path.to_owned() };
        let text = readfile::text(&file, FILE_BYTES_MAX).map_err(io_error(&file))?;
        let mut profile: Self = toml::from_str(&text).map_err(|error| {
            let reason = error.to_string().trim_end().to_owned();
            FolderError::Content { path: file.clone(), reason }
        })?;
        let base = file.parent().unwrap_or(Path::new(""));
        let given = [&mut profile.ca, &mut profile.cert, &mut profile.key];
        let optional = profile.genesis.iter_mut().chain(&mut profile.submitter_key);
        for path in given.into_iter().chain(optional) {
            *path = resolved(base, path);
        }
        Ok(profile)
    }

    /// Writes `client.toml` into a directory, with the paths as they are.
    ///
    /// # Errors
    /// Where there is one already, or it cannot be written.
    pub fn write(&self, dir: &Path) -> Result<(), FolderError> {
        let text = toml::to_string(self).expect("a table of strings always serialises");
        write_public(&dir.join(FILE), &text)
    }
}
