//! A file that is coming: its bytes go to the disk as they come, its root is made meanwhile, and it is held
//! only when all of it is there, has the right root and is durable.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use customhouse_ledger::{attachment::AttachmentBuilder, hash::Hash, limits::PIECE_BYTES};

use super::{
    AttachmentRefusal, Attachments,
    paths::{FileOwner, make_directory},
};

/// After as many bytes the disk is made to write, so that the end does not wait for all of them at once.
const SYNC_BYTES: u64 = 16 << 20;

/// What is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectedFile {
    /// Bytes of the whole.
    pub size: u64,
    /// Its root, where that is known.
    pub root: Option<Hash>,
    /// How many of its bytes are here already.
    pub offset: u64,
}

/// A file that is coming. Dropped before its end, what has come of it stays where its root was stated, to be
/// resumed, and is removed where it was not.
#[derive(Debug)]
pub struct IncomingFile {
    attachments: Attachments,
    pub(super) owner: FileOwner,
    expected: ExpectedFile,
    pub(super) path: PathBuf,
    file: File,
    builder: AttachmentBuilder,
    leaves: Vec<Hash>,
    unsynced: u64,
    state: Coming,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coming {
    /// What has come may be resumed.
    Right,
    /// It is not what was said.
    Wrong,
    /// It is whole, and has its place.
    Whole,
}

impl IncomingFile {
    /// Opens the file of a part, whose room is taken, and reads again what is there of it.
    pub(super) fn open(
        attachments: &Attachments,
        owner: &FileOwner,
        expected: ExpectedFile,
        path: PathBuf,
    ) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            make_directory(parent)?;
        }
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path)?;
        file.set_len(expected.offset.min(file.metadata()?.len()))?;
        let (mut builder, mut leaves) = (AttachmentBuilder::default(), Vec::new());
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let count = file.read(&mut piece)?;
            if count == 0 {
                break;
            }
            builder.push_with(&piece[..count], |leaf| leaves.push(leaf));
        }
        file.seek(SeekFrom::End(0))?;
        let (attachments, owner) = (attachments.clone(), owner.clone());
        let (unsynced, state) = (0, Coming::Right);
        Ok(Self { attachments, owner, expected, path, file, builder, leaves, unsynced, state })
    }

    /// Bytes that have come.
    pub fn come(&self) -> u64 {
        self.builder.size()
    }

    /// Bytes of the whole.
    pub fn size(&self) -> u64 {
        self.expected.size
    }

    /// Takes the next bytes. May wait for the disk.
    ///
    /// # Errors
    /// [`AttachmentRefusal::Size`] where they are too many, which ends it, or the disk's.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), AttachmentRefusal> {
        if self.come() + bytes.len() as u64 > self.expected.size {
            self.state = Coming::Wrong;
            return Err(AttachmentRefusal::Size { size: self.expected.size, come: None });
        }
        self.write(bytes).map_err(|error| self.attachments.io(&self.path, &error))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        let leaves = &mut self.leaves;
        self.builder.push_with(bytes, |leaf| leaves.push(leaf));
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= SYNC_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// All bytes have come: the file is held, durably, when this returns. `until` is how long it stays where no
    /// committed record refers to it. May wait for the disk.
    ///
    /// # Errors
    /// [`AttachmentRefusal::Size`] and [`AttachmentRefusal::OtherRoot`], after which nothing is held of it, or
    /// the disk's.
    pub fn finish(mut self, until: SystemTime) -> Result<(Hash, u64), AttachmentRefusal> {
        let ExpectedFile { size, root, .. } = self.expected;
        if self.come() != size {
            // What is missing may follow.
            return Err(AttachmentRefusal::Size { size, come: Some(self.come()) });
        }
        let builder = std::mem::take(&mut self.builder);
        let leaves = &mut self.leaves;
        let (found, _) = builder.finish_with(|leaf| leaves.push(leaf));
        if root.is_some_and(|stated| stated != found) {
            self.state = Coming::Wrong;
            return Err(AttachmentRefusal::OtherRoot { stated: root.unwrap_or_default(), found });
        }
        // More than the file's own bytes may be behind them now.
        self.state = Coming::Wrong;
        let sealed = self.seal(&found, until);
        sealed.map_err(|error| self.attachments.io(&self.path, &error))?;
        self.state = Coming::Whole;
        Ok((found, size))
    }

    fn seal(&mut self, root: &Hash, until: SystemTime) -> io::Result<()> {
        let leaves: Vec<u8> = self.leaves.iter().flat_map(|leaf| leaf.0).collect();
        self.file.write_all(&leaves)?;
        self.file.set_modified(until)?;
        self.file.sync_all()?;
        self.attachments.came_whole(self, root, until)
    }
}

impl Drop for IncomingFile {
    fn drop(&mut self) {
        let stays = match self.state {
            Coming::Whole => false,
            Coming::Wrong => {
                // One that cannot be removed is at the next start.
                let _left = fs::remove_file(&self.path);
                false
            }
            Coming::Right => {
                let come = self.file.metadata().map_or(0, |found| found.len());
                let stays = self.expected.root.is_some() && come > 0;
                if !stays {
                    let _left = fs::remove_file(&self.path);
                }
                stays
            }
        };
        self.attachments.no_longer_comes(self, self.state == Coming::Whole, stays);
    }
}

/// For how long a file stays that no committed record refers to.
pub const UNCLAIMED_FOR: Duration = Duration::from_secs(24 * 3600);
