//! Whose backups are in a directory: a file beside them says it. The backup engine would mix those of two
//! stores, count them as one's, and remove the other's as old.

use std::{
    fmt,
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
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
        let (path, made) = (directory.join(FILE), directory.join(format!("{FILE}.{}", self.store)));
        let written = File::create(&made).and_then(|file| fill(file, &json));
        let named = written.and_then(|()| give_name(&made, &path, &json));
        // If the file was not made, that is the error which is told.
        let removed = fs::remove_file(&made);
        let synced = || File::open(directory)?.sync_all();
        named.and(removed).and_then(|()| synced()).map_err(|error| super::failed(directory, error))
    }
}

fn fill(mut file: File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()
}

/// Puts a file at a free name, whole or not at all; and of two that come at once, one finds the other's.
/// Where the file system has no second names for a file (exFAT, many a share), it is made there, and a
/// crash may leave a part of it, which is told as damage.
fn give_name(made: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::hard_link(made, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            fill(File::create_new(path)?, bytes).inspect_err(|_| {
                // What went wrong first is what is told.
                let _left_behind = fs::remove_file(path);
            })
        }
        named => named,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_claimed_where_the_file_system_has_no_links_and_never_twice() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(FILE);
        // Across file systems a link cannot be made, as on one that has none.
        let elsewhere =
            Path::new("/dev/shm").join(format!("customhouse-owner-{}", std::process::id()));
        fs::write(&elsewhere, "owner").expect("written");
        give_name(&elsewhere, &path, b"owner").expect("made");
        assert_eq!(fs::read(&path).expect("there"), b"owner");
        let again = give_name(&elsewhere, &path, b"another").expect_err("taken");
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("there"), b"owner");
        fs::remove_file(&elsewhere).expect("there");
    }

    #[test]
    fn nothing_is_left_beside_the_file_that_says_whose_a_directory_is() {
        let directory = tempfile::tempdir().expect("a directory");
        let owner = BackupOwner { chain_id: Hash([1; 32]), store: "one".into(), agency: None };
        owner.claim(directory.path()).expect("nobody's");
        owner.claim(directory.path()).expect("its own");
        let names =
            fs::read_dir(directory.path()).expect("there").map(|e| e.expect("there").file_name());
        assert_eq!(names.collect::<Vec<_>>(), [FILE]);
        let other = BackupOwner { store: "two".into(), ..owner };
        let refused = other.claim(directory.path()).expect_err("another's");
        assert!(matches!(refused, StoreError::OtherBackups { .. }), "{refused}");
    }
}
