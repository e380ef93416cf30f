//! The files that the tables are in, each read whole: damage that no row shows.

use crate::{
    chain::check::{Damage, StoreCheck},
    store::{FileCheck, FileState},
};

/// Files that were compared whole with what was written.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) checked: u64,
    /// Those that have no checksum.
    pub(super) unchecked: Vec<String>,
}

impl StoreCheck {
    /// The files to read, each by itself and on any thread. None where the store does not tell which
    /// files it has, which is damage.
    pub fn files(&mut self) -> Vec<FileCheck> {
        self.chain.shared.store.files().unwrap_or_else(|error| {
            self.damage.push(error.into());
            Vec::new()
        })
    }

    /// Takes what reading a file has shown.
    pub fn add_file(&mut self, file: &FileCheck, state: FileState) {
        match state {
            FileState::Sound => self.files.checked += 1,
            FileState::Unchecked => self.files.unchecked.push(file.name().to_owned()),
            FileState::Damaged(error) => {
                self.files.checked += 1;
                self.damage.push(Damage::from(error));
            }
        }
    }
}
