//! Attachments: files that belong to records, beside the store, in files of their own.
//!
//! A client uploads a file ([`IncomingFile`]) before it submits the record that refers to it. When such a
//! record is committed, here or by another agency, the node finds that ([`scanning`]): what it holds is
//! *claimed* and stays, what it lacks is fetched from the peers ([`fetching`]). A file that no committed record
//! refers to is removed after a time. Consensus knows nothing of any of this, and never waits for it.
//!
//! | module | subject |
//! |---|---|
//! | `paths`, `room` | where the files are; how much they may take |
//! | `incoming`, `whole` | a file that is coming, and one that is there |
//! | `scanning`, `claiming` | what committed records refer to; what is held of it, which stays |
//! | `wanted`, `fetching` | what is missing of it, and what is fetched next |
//! | `getting`, `peers` | one attachment's way; whom it is asked of |
//! | `answering` | pieces for peers |

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use customhouse_ledger::{
    attachment::AttachmentBuilder,
    hash::Hash,
    limits::{ATTACHMENT_BYTES_MAX, PIECE_BYTES},
};

use self::{
    paths::{Paths, file_bytes, move_file, size_of_file},
    room::{Room, cost},
};

pub mod answering;
mod claiming;
pub mod fetching;
mod getting;
mod incoming;
mod paths;
mod peers;
mod room;
mod scanning;
mod sizes;
#[cfg(test)]
mod tests;
mod wanted;
mod whole;

pub(crate) use claiming::Claim;
pub use incoming::{ExpectedFile, IncomingFile, UNCLAIMED_FOR};
pub use paths::FileOwner;
pub use room::HeldFiles;
pub use sizes::register;
pub use whole::{WholeFile, WholeFileError};

/// How much attachments may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachmentLimits {
    /// Bytes of all files.
    pub bytes_max: u64,
    /// Bytes of one client's files that no committed record refers to.
    pub bytes_of_client_max: u64,
    /// The number of those.
    pub files_of_client_max: u64,
    /// Bytes of the disk that are left free.
    pub disk_reserve_bytes: u64,
}

/// Why an attachment is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachmentRefusal {
    /// It is larger than any may be.
    #[error("{0} bytes, an attachment has at most {ATTACHMENT_BYTES_MAX}")]
    TooLarge(u64),
    /// There is no room for it.
    #[error("no room: too many {0}. Files that no committed record refers to go after a day")]
    NoRoom(&'static str),
    /// The same client uploads it already.
    #[error("this client is uploading attachment {0} already")]
    UnderWay(Hash),
    /// It cannot begin there.
    #[error("offset: {stated}, where 0 or {uploaded} is expected: {uploaded} bytes are here")]
    Offset {
        /// What was asked for.
        stated: u64,
        /// Bytes that can be built on.
        uploaded: u64,
    },
    /// Other than as many bytes as were stated.
    #[error("{}", size_in_words(*size, *come))]
    Size {
        /// As stated.
        size: u64,
        /// How many came, where they were too few.
        come: Option<u64>,
    },
    /// Its root is another.
    #[error(
        "the root of these bytes is {found}, where {stated} was stated: nothing is held of them"
    )]
    OtherRoot {
        /// As stated.
        stated: Hash,
        /// As it is.
        found: Hash,
    },
    /// The disk failed.
    #[error("attachments: {0}")]
    Disk(String),
}

fn size_in_words(size: u64, come: Option<u64>) -> String {
    match come {
        Some(come) => format!("{come} bytes came of the {size} that were stated"),
        None => {
            format!("more bytes came than the {size} that were stated: nothing is held of them")
        }
    }
}

/// The directory of attachments cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the attachments' directory {}: {source}", path.display())]
pub struct AttachmentsError {
    path: PathBuf,
    source: io::Error,
}

/// What is held of an attachment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldAttachment {
    /// The size of the whole, where the whole is held.
    pub whole: Option<u64>,
    /// Bytes that its owner can build on, where it is not.
    pub uploaded: u64,
}

/// A store of attachments. Cheap to clone. Its methods may wait for the disk.
#[derive(Clone, Debug)]
pub struct Attachments {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    paths: Paths,
    state: Mutex<State>,
    /// Something that was held is no more: all records are to be looked at again.
    lost: AtomicBool,
    next_number: AtomicU64,
}

#[derive(Debug)]
struct State {
    room: Room,
    unclaimed: HashMap<Hash, Unclaimed>,
    parts: HashMap<PathBuf, Part>,
    /// The sizes that files of these roots are proven to have, where a record stated another.
    sizes: HashMap<Hash, u64>,
}

/// A whole file that no committed record refers to.
#[derive(Clone, Debug)]
struct Unclaimed {
    owner: FileOwner,
    size: u64,
    until: SystemTime,
}

/// What has come, or is coming, of a file.
#[derive(Clone, Debug)]
struct Part {
    owner: FileOwner,
    /// What it counts for.
    cost: u64,
    is_coming: bool,
}

impl Attachments {
    /// Opens a directory, which is made where it is not there, and counts what is in it.
    ///
    /// # Errors
    /// [`AttachmentsError`].
    pub fn open(directory: &Path, limits: AttachmentLimits) -> Result<Self, AttachmentsError> {
        let error = |source| AttachmentsError { path: directory.to_owned(), source };
        let paths = Paths::make(directory).map_err(error)?;
        let state = State::read(&paths, limits).map_err(error)?;
        let inner = Inner {
            paths,
            state: Mutex::new(state),
            lost: AtomicBool::default(),
            next_number: AtomicU64::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether all of an attachment is held.
    pub fn holds(&self, root: &Hash, size: u64) -> bool {
        let unclaimed = self.state().unclaimed.get(root).is_some_and(|file| file.size == size);
        unclaimed || self.is_held(root, size)
    }

    /// Whether all of it is held as what a committed record refers to, which stays.
    pub(crate) fn is_held(&self, root: &Hash, size: u64) -> bool {
        let found = fs::metadata(self.inner.paths.held_file(root));
        found.is_ok_and(|found| found.len() == file_bytes(size))
    }

    /// The same, and it is kept until then at least, also where no committed record refers to it.
    pub fn keep(&self, root: &Hash, size: u64, until: SystemTime) -> bool {
        let mut state = self.state();
        let Some(file) = state.unclaimed.get_mut(root).filter(|file| file.size == size) else {
            drop(state);
            return self.is_held(root, size);
        };
        self.extend(root, file, until);
        true
    }

    /// Keeps an unclaimed file until then at least.
    fn extend(&self, root: &Hash, file: &mut Unclaimed, until: SystemTime) {
        if file.until < until {
            let path = self.inner.paths.unclaimed_file(&file.owner, root);
            // A time that is not written counts while the node runs.
            let opened = fs::OpenOptions::new().write(true).open(path);
            let _unwritten = opened.and_then(|opened| opened.set_modified(until));
            file.until = until;
        }
    }

    /// Whether a file of this size, fetched from peers, would find room.
    ///
    /// # Errors
    /// [`AttachmentRefusal::NoRoom`].
    pub(crate) fn has_room(&self, size: u64) -> Result<(), AttachmentRefusal> {
        let (peers, mut state) = (FileOwner::peers(), self.state());
        state.room.take(&peers, size, self.inner.paths.directory())?;
        state.room.gone(&peers, cost(size), true);
        Ok(())
    }

    /// What is held of an attachment, and of what a client has uploaded of it.
    pub fn held(&self, owner: &FileOwner, root: &Hash) -> HeldAttachment {
        let unclaimed = self.state().unclaimed.get(root).map(|file| file.size);
        let held = || fs::metadata(self.inner.paths.held_file(root)).ok();
        let whole = unclaimed.or_else(|| size_of_file(held()?.len()));
        let part = || whole_pieces(&self.inner.paths.part_of_client(owner, root));
        let uploaded = if whole.is_some() { 0 } else { part() };
        HeldAttachment { whole, uploaded }
    }

    /// Bytes that have come from peers of a file, and can be built on.
    pub(crate) fn fetched(&self, root: &Hash, size: u64) -> u64 {
        let fetched = whole_pieces(&self.inner.paths.part_from_peers(root, size));
        // Behind a file that is almost held there are leaf hashes.
        if fetched > size { 0 } else { fetched }
    }

    /// Begins to take a file of an owner, or goes on with one.
    ///
    /// # Errors
    /// [`AttachmentRefusal`].
    pub fn begin(
        &self,
        owner: &FileOwner,
        expected: ExpectedFile,
    ) -> Result<IncomingFile, AttachmentRefusal> {
        let ExpectedFile { size, root, offset } = expected;
        if size > ATTACHMENT_BYTES_MAX {
            return Err(AttachmentRefusal::TooLarge(size));
        }
        let number = self.inner.next_number.fetch_add(1, Ordering::Relaxed);
        let paths = &self.inner.paths;
        let path = match &root {
            Some(root) if owner.is_peers() => paths.part_from_peers(root, size),
            Some(root) => paths.part_of_client(owner, root),
            None => paths.unnamed_part(owner, number),
        };
        let uploaded = root.map_or(0, |_| whole_pieces(&path));
        if offset != 0 && (offset != uploaded || offset > size) {
            return Err(AttachmentRefusal::Offset { stated: offset, uploaded });
        }
        {
            let mut state = self.state();
            if state.parts.get(&path).is_some_and(|part| part.is_coming) {
                return Err(AttachmentRefusal::UnderWay(root.unwrap_or_default()));
            }
            if let Some(before) = state.parts.remove(&path) {
                state.room.gone(&before.owner, before.cost, true);
            }
            let taken = state.room.take(owner, size, self.inner.paths.directory());
            if let Err(refusal) = taken {
                // What was there is still there.
                if let Some(part) = part_at(owner, &path) {
                    state.room.found(owner, part.cost, true);
                    state.parts.insert(path, part);
                }
                return Err(refusal);
            }
            let part = Part { owner: owner.clone(), cost: cost(size), is_coming: true };
            state.parts.insert(path.clone(), part);
        }
        IncomingFile::open(self, owner, expected, path.clone()).map_err(|error| {
            self.part_is_gone(&path);
            self.io(&path, &error)
        })
    }

    /// Takes a whole file of an owner, which is durable when this returns. One that is held already is kept on.
    ///
    /// # Errors
    /// [`AttachmentRefusal`].
    pub fn keep_whole(&self, owner: &FileOwner, bytes: &[u8]) -> Result<(), AttachmentRefusal> {
        let mut builder = AttachmentBuilder::default();
        builder.push(bytes);
        let (root, size) = builder.finish();
        let until = unclaimed_until(Duration::ZERO);
        if self.holds(&root, size) && self.keep(&root, size, until) {
            return Ok(());
        }
        let expected = ExpectedFile { size, root: Some(root), offset: 0 };
        let mut file = self.begin(owner, expected)?;
        file.push(bytes)?;
        file.finish(until).map(drop)
    }

    /// A file that is whole, open for reading; nothing where it is not held.
    ///
    /// # Errors
    /// [`WholeFileError`]. One that is damaged is set aside, and fetched again where a record refers to it.
    pub fn read(&self, root: &Hash) -> Result<Option<WholeFile>, WholeFileError> {
        self.read_of_size(root, None)
    }

    /// The same; nothing, for next to nothing, where it is to have another size than it has.
    fn read_of_size(
        &self,
        root: &Hash,
        expected: Option<u64>,
    ) -> Result<Option<WholeFile>, WholeFileError> {
        let unclaimed = self.state().unclaimed.get(root).cloned();
        let paths = &self.inner.paths;
        let held = paths.held_file(root);
        let unclaimed = unclaimed.map(|file| paths.unclaimed_file(&file.owner, root));
        // It may be claimed between the look and the opening.
        for path in unclaimed.into_iter().chain([held]) {
            match WholeFile::open(&path, root, expected) {
                Err(WholeFileError::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound => {}
                opened => return opened.inspect_err(|error| self.note(root, error)),
            }
        }
        Ok(None)
    }

    /// Tells of a file that cannot be read, and sets a damaged one aside.
    pub fn note(&self, root: &Hash, error: &WholeFileError) {
        tracing::error!(attachment = %root.short(), %error, "an attachment cannot be read");
        if let WholeFileError::Damaged(path) = error {
            let aside = path.with_extension("damaged");
            if let Err(error) = fs::rename(path, &aside) {
                tracing::error!(path = %path.display(), %error, "it cannot be set aside");
            }
            let mut state = self.state();
            if let Some(file) = state.unclaimed.remove(root) {
                state.room.gone(&file.owner, cost(file.size), false);
            }
            drop(state);
            self.inner.lost.store(true, Ordering::Relaxed);
        }
    }

    /// Removes the files that no committed record refers to and whose time is over, and what has come of files
    /// and was left for as long.
    pub fn remove_stale(&self, now: SystemTime) {
        let mut state = self.state();
        let over: Vec<_> = state
            .unclaimed
            .iter()
            .filter(|(_, file)| file.until < now)
            .map(|(root, _)| *root)
            .collect();
        for root in over {
            let Some(file) = state.unclaimed.remove(&root) else { continue };
            let path = self.inner.paths.unclaimed_file(&file.owner, &root);
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "an attachment cannot be removed");
            }
            state.room.gone(&file.owner, cost(file.size), false);
        }
        let left = |path: &Path| {
            let changed = fs::metadata(path).and_then(|found| found.modified());
            changed.map_or(true, |changed| changed + UNCLAIMED_FOR < now)
        };
        let idle = state.parts.iter().filter(|(path, part)| !part.is_coming && left(path));
        let idle: Vec<_> = idle.map(|(path, _)| path.clone()).collect();
        for path in idle {
            let _gone_already = fs::remove_file(&path);
            if let Some(part) = state.parts.remove(&path) {
                state.room.gone(&part.owner, part.cost, true);
            }
        }
    }

    /// All that is held, what is coming included, and what is coming alone.
    pub fn sizes(&self) -> (HeldFiles, HeldFiles) {
        let state = self.state();
        (state.room.all(), state.room.incoming())
    }

    /// Whether something was lost since this was last asked.
    fn take_lost(&self) -> bool {
        self.inner.lost.swap(false, Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk failed, which the log says with the place and the caller's answer without.
    fn io(&self, path: &Path, error: &io::Error) -> AttachmentRefusal {
        tracing::error!(path = %path.display(), %error, "an attachment cannot be written");
        AttachmentRefusal::Disk(error.kind().to_string())
    }

    /// Gives a file that has come whole its place.
    fn came_whole(
        &self,
        incoming: &IncomingFile,
        root: &Hash,
        until: SystemTime,
    ) -> io::Result<()> {
        let (owner, size, path) = (&incoming.owner, incoming.size(), &incoming.path);
        let mut state = self.state();
        if !owner.is_peers()
            && let Some(file) = state.unclaimed.get_mut(root)
        {
            // It stays for as long as whoever brought it last may need it.
            self.extend(root, file, until);
        }
        let is_there = match state.unclaimed.get(root).cloned() {
            Some(_) if !owner.is_peers() => true,
            // What is fetched stays, so what a client brought meanwhile does too.
            Some(file) if file.size == size => self.claim_unclaimed(&mut state, root, &file)?,
            _ => false,
        };
        if is_there || self.is_held(root, size) {
            // Another came first.
            fs::remove_file(path)?;
            state.room.gone(owner, cost(size), true);
        } else if owner.is_peers() {
            move_file(path, &self.inner.paths.held_file(root))?;
            state.room.came(cost(size));
            state.room.claimed(owner, cost(size));
        } else {
            move_file(path, &self.inner.paths.unclaimed_file(owner, root))?;
            state.room.came(cost(size));
            let file = Unclaimed { owner: owner.clone(), size, until };
            state.unclaimed.insert(*root, file);
        }
        state.parts.remove(path);
        Ok(())
    }

    /// A file has come to its end or is given up.
    fn no_longer_comes(&self, incoming: &IncomingFile, is_whole: bool, stays: bool) {
        if is_whole {
            return;
        }
        let path = &incoming.path;
        self.part_is_gone(path);
        // No more room is held for it than it takes.
        if let Some(part) = part_at(&incoming.owner, path).filter(|_| stays) {
            let mut state = self.state();
            state.room.found(&incoming.owner, part.cost, true);
            state.parts.insert(path.clone(), part);
        }
    }

    fn part_is_gone(&self, path: &Path) {
        let mut state = self.state();
        if let Some(part) = state.parts.remove(path) {
            state.room.gone(&part.owner, part.cost, true);
        }
    }
}

impl State {
    /// Counts what is there.
    fn read(paths: &Paths, limits: AttachmentLimits) -> io::Result<Self> {
        let mut room = Room::new(limits);
        for directory in fs::read_dir(paths.held())? {
            for file in fs::read_dir(directory?.path())? {
                let bytes = file?.metadata()?.len();
                room.found_held(size_of_file(bytes).map_or(bytes, cost));
            }
        }
        let mut unclaimed = HashMap::new();
        for (owner, root, path) in paths.unclaimed_files()? {
            let found = fs::metadata(&path)?;
            match size_of_file(found.len()) {
                Some(size) => {
                    room.found(&owner, cost(size), false);
                    let until = found.modified()?;
                    unclaimed.insert(root, Unclaimed { owner, size, until });
                }
                None => fs::remove_file(&path)?,
            }
        }
        let mut parts = HashMap::new();
        for (owner, _, path) in paths.parts()? {
            if let Some(part) = part_at(&owner, &path) {
                room.found(&owner, part.cost, true);
                parts.insert(path, part);
            }
        }
        Ok(Self { room, unclaimed, parts, sizes: HashMap::new() })
    }
}

/// Bytes of the whole pieces of a part.
fn whole_pieces(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len() / PIECE_BYTES as u64 * PIECE_BYTES as u64)
}

/// What a part that nobody writes counts for: what is there of it.
fn part_at(owner: &FileOwner, path: &Path) -> Option<Part> {
    let bytes = fs::metadata(path).ok()?.len();
    Some(Part { owner: owner.clone(), cost: cost(bytes), is_coming: false })
}

/// Until when a file stays that is uploaded now and that no committed record refers to.
pub fn unclaimed_until(more: Duration) -> SystemTime {
    SystemTime::now() + UNCLAIMED_FOR + more
}
