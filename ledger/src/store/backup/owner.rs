//! Whose backups are in a directory: a file beside them says it. The backup engine would mix those of two
//! stores, count them as one's, and remove the other's as old.

use std::{
    fmt,
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{agency::AgencyCode, hash::Hash, store::StoreError};

/// The file, in a directory of backups.
const FILE: &str = "OWNER";

/// A store that has backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupOwner {
    /// The chain that it holds.
    pub chain_id: Hash,
    /// What RocksDB calls it: random, drawn when it was made, and kept by what is restored from a backup.
    pub store: String,
    /// Whose node has it, where that was known when the directory was first used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agency: Option<AgencyCode>,
}

impl BackupOwner {
    /// Writes itself down in a directory that belongs to nobody yet.
    ///
    /// # Errors
    /// [`StoreError::OtherBackups`] where it is another's.
    pub(super) fn claim(&self, directory: &Path) -> Result<(), StoreError> {
        let Some(found) = Self::read(directory)? else { return self.write(directory) };
        let are_two = |a: Option<AgencyCode>, b| a.zip(b).is_some_and(|(a, b)| a != b);
        let is_other = (self.chain_id, &self.store) != (found.chain_id, &found.store)
            || are_two(self.agency, found.agency);
        match is_other {
            true => Err(StoreError::OtherBackups {
                directory: directory.to_owned(),
                owner: found.to_string(),
                marker: directory.join(FILE),
            }),
            false => Ok(()),
        }
    }

    /// Whose a directory is; `None` where nothing says it.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, StoreError> {
        let path = directory.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                let path = path.display();
                StoreError::BackupDamaged(format!(
                    "{path}, which says whose backups these are, is damaged ({error}). If they are \
                     this store's, remove it: the next backup writes it anew"
                ))
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(super::failed(directory, error)),
        }
    }

    fn write(&self, directory: &Path) -> Result<(), StoreError> {
        let json = serde_json::to_vec_pretty(self).expect("strings are JSON");
        // Whole or not at all; and of two that come at once, one finds the file.
        let (path, made) = (directory.join(FILE), directory.join(format!("{FILE}.{}", self.store)));
        let written = File::create(&made).and_then(|mut file| {
            file.write_all(&json)?;
            file.sync_all()?;
            fs::hard_link(&made, path)?;
            fs::remove_file(&made)?;
            File::open(directory)?.sync_all()
        });
        written.map_err(|error| super::failed(directory, error))
    }
}

impl fmt::Display for BackupOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chain_id, store, agency } = self;
        if let Some(agency) = agency {
            write!(f, "{agency}'s ")?;
        }
        write!(f, "store {store} of chain {chain_id}")
    }
}
