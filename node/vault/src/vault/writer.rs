//! What one at a time changes: the two files, and the mirror's copy of them.

use std::{collections::BTreeMap, sync::Arc};

use super::Wrapping;
use crate::{
    contents::{Contents, KeysName, Reserved},
    error::VaultError,
    group::RetentionMonth,
    keys_file::KeysFile,
    mirror::Mirror,
    pair::Pair,
    random,
    root_key::{RootId, RootKey},
};

pub(super) struct Writer {
    pair: Pair,
    pub(super) root: RootKey,
    pub(super) wrapping: Arc<Wrapping>,
    /// The text of `root.key`, where it is wrapped: that alone may be at a mirror.
    wrapped: Option<String>,
    /// Which writing of the keys the published contents are.
    pub(super) name: KeysName,
    /// The generation that was used last, also by a writing that failed: it may be on the disk all the same.
    generation: u64,
    /// What may be wrapped for each month without another writing.
    pub(super) reserved: BTreeMap<RetentionMonth, Reserved>,
    mirror: Option<Arc<Mirror>>,
    /// Under which root key the mirror's keys are.
    mirrored: Option<RootId>,
    /// Whether the mirror lacks the published contents.
    is_behind: bool,
    files: Files,
}

/// How the two files are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Files {
    Settled,
    /// The root key is in `root.key.new`, and the old one not destroyed.
    Unsettled,
    /// It is not known which root key the keys are under.
    Unknown,
}

impl Writer {
    pub(super) fn new(
        pair: Pair,
        root: RootKey,
        wrapping: Arc<Wrapping>,
        wrapped: Option<String>,
        name: KeysName,
    ) -> Self {
        let (reserved, files) = (BTreeMap::new(), Files::Settled);
        let (mirror, mirrored, is_behind) = (None, None, false);
        let generation = name.generation;
        Self {
            pair,
            root,
            wrapping,
            wrapped,
            name,
            generation,
            reserved,
            mirror,
            mirrored,
            is_behind,
            files,
        }
    }

    /// Has a mirror from here on, which has these contents.
    pub(super) fn follow(
        &mut self,
        mirror: Arc<Mirror>,
        contents: &Contents,
    ) -> Result<(), VaultError> {
        self.refuse_broken_off()?;
        mirror.precedes(self.root.vault, &self.name, contents)?;
        let before = self.mirror.replace(mirror);
        (self.mirrored, self.is_behind) = (None, true);
        self.bring_up(contents).inspect_err(|_| self.mirror = before)
    }

    /// Has the mirror take the published contents, if it lacks them.
    pub(super) fn bring_up(&mut self, contents: &Contents) -> Result<(), VaultError> {
        let Some(mirror) = self.mirror.as_ref().filter(|_| self.is_behind) else {
            return Ok(());
        };
        self.refuse_broken_off()?;
        let keys = KeysFile::seal(&self.root, self.name, true, contents)?;
        if self.mirrored == Some(keys.root) {
            mirror.keep_keys(&keys)?;
        } else {
            mirror.keep_pair(self.wrapped.as_deref(), &keys)?;
            self.mirrored = Some(keys.root);
        }
        self.is_behind = false;
        Ok(())
    }

    /// Writes the keys under the root key that is there; the caller publishes them.
    pub(super) fn write_keys(&mut self, contents: &mut Contents) -> Result<(), VaultError> {
        self.refuse_broken_off()?;
        let name = self.next(contents)?;
        let keys = KeysFile::seal(&self.root, name, false, contents)?;
        self.pair.write_keys(&keys)?;
        (self.name, self.is_behind) = (name, true);
        Ok(())
    }

    /// Writes both under a root key. It is the vault's when this returns, also with an error, if it is in `root`
    /// then: the caller publishes the contents.
    pub(super) fn write_both(
        &mut self,
        root: RootKey,
        wrapping: Arc<Wrapping>,
        contents: &mut Contents,
    ) -> Result<(), VaultError> {
        self.refuse_broken_off()?;
        // Else the file that has the present root key would be written over.
        self.settle()?;
        let text = root.to_text(wrapping.passphrase())?;
        let name = self.next(contents)?;
        let keys = KeysFile::seal(&root, name, false, contents)?;
        let written = self.pair.write(&text, &keys);
        let is_in_use = written.is_ok() || self.is_in_use(&root)?;
        if !is_in_use {
            return written;
        }
        self.wrapped = wrapping.passphrase().map(|_| String::clone(&text));
        (self.root, self.wrapping) = (root, wrapping);
        (self.name, self.is_behind) = (name, true);
        if written.is_err() {
            self.files = Files::Unsettled;
        }
        self.settle()
    }

    /// Whether the keys are under a root key whose writing failed.
    fn is_in_use(&mut self, root: &RootKey) -> Result<bool, VaultError> {
        match self.pair.read_keys() {
            Ok(keys) if keys.root == root.id => Ok(true),
            Ok(keys) if keys.root == self.root.id => {
                // What is left in `root.key.new` opens nothing, and is removed by the next renewal or opening.
                let _left_behind = self.pair.discard_new_root();
                Ok(false)
            }
            _ => {
                self.files = Files::Unknown;
                self.refuse_broken_off().map(|()| false)
            }
        }
    }

    /// Destroys the old root key, where that was not done.
    fn settle(&mut self) -> Result<(), VaultError> {
        if self.files == Files::Unsettled {
            self.pair.settle(&self.pair.new_root_path())?;
            self.files = Files::Settled;
        }
        Ok(())
    }

    fn next(&mut self, contents: &mut Contents) -> Result<KeysName, VaultError> {
        self.generation += 1;
        let (incarnation, generation) = (contents.incarnation(), self.generation);
        let name = KeysName { incarnation, generation, file: random()? };
        contents.note(&name);
        Ok(name)
    }

    pub(super) fn refuse_broken_off(&self) -> Result<(), VaultError> {
        match self.files {
            Files::Unknown => Err(VaultError::BrokenOff(self.pair.keys_path())),
            _ => Ok(()),
        }
    }
}
