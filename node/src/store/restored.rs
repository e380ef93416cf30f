//! Putting a backup back.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use customhouse_ledger::{
    chain::check::{CheckReport, StoreCheck},
    registry::genesis::Genesis,
    store::{self, StoreError, StoreOptions},
};

use super::{Progress, check};

/// A backup and where it is to go.
#[derive(Clone, Copy, Debug)]
pub struct Restore<'a> {
    /// The directory of backups.
    pub from: &'a Path,
    /// Which of them.
    pub id: u32,
    /// The store's folder: there is none yet, or it is empty.
    pub to: &'a Path,
    /// The network's.
    pub genesis: &'a Genesis,
    /// Of the store.
    pub options: &'a StoreOptions,
}

impl Restore<'_> {
    /// Copies the files, each checked against its checksum, beside the store's folder. Unless that is
    /// to be enough, the store that they make up is checked in full. Only where all is right does it
    /// get its name; otherwise the copy is removed.
    ///
    /// Returns the report of the check, where there was one.
    ///
    /// # Errors
    /// The backup is damaged or of another chain, or the folder is in use; a failing disk.
    pub fn run(
        &self,
        is_quick: bool,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Option<CheckReport>, StoreError> {
        let copy = self.to.with_extension("restoring");
        self.is_free()?;
        remove(&copy)?;
        let copied = store::restore(self.from, self.id, &copy);
        let options = self.options;
        let checked = copied.and_then(|()| match is_quick {
            true => opens(&copy, self.genesis, options, progress).map(|()| None),
            false => check(&copy, self.genesis, options, &[], progress).map(Some),
        });
        let is_right =
            checked.as_ref().is_ok_and(|report| report.as_ref().is_none_or(CheckReport::is_sound));
        match is_right {
            true => self.place(&copy)?,
            false => remove(&copy)?,
        }
        checked
    }

    fn is_free(&self) -> Result<(), StoreError> {
        let used = match fs::read_dir(self.to) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(failed(self.to, error)),
        };
        match used {
            true => Err(StoreError::NotEmpty(self.to.to_owned())),
            false => Ok(()),
        }
    }

    fn place(&self, copy: &Path) -> Result<(), StoreError> {
        let parent = self.to.parent().filter(|parent| !parent.as_os_str().is_empty());
        fs::rename(copy, self.to)
            .and_then(|()| File::open(parent.unwrap_or(Path::new(".")))?.sync_all())
            .map_err(|error| failed(self.to, error))
    }
}

/// Whether a store can be opened, and its files are as they were written.
fn opens(
    copy: &Path,
    genesis: &Genesis,
    options: &StoreOptions,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(), StoreError> {
    // No sums are made, so the key is of no use.
    let mut check = StoreCheck::open(copy, genesis, options, &[0; 32])?;
    super::check_files(&mut check, progress);
    check.first_damage().map_or(Ok(()), |damage| Err(damage.into()))
}

fn remove(copy: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(copy) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(copy, error)),
        _ => Ok(()),
    }
}

fn failed(path: &Path, error: impl std::fmt::Display) -> StoreError {
    StoreError::Io(format!("{}: {error}", path.display()))
}
