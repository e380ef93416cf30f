//! Where files of attachments are, and what their names and lengths say.
//!
//! ```text
//! attachments/
//!   held/ab/abcd…            whole, and a committed record refers to it
//!   unclaimed/OWNER/abcd…    whole, uploaded, and no committed record refers to it yet
//!   incoming/OWNER/abcd….part  what has come of a client's file
//!   incoming/peers/abcd…-SIZE.part  of one that is fetched; records may state several sizes of one root
//!   position                 see `scanning`
//! ```
//!
//! A whole file is the attachment's bytes, and behind them the leaf hashes of its pieces, 32 bytes each: so
//! that a piece is read and proven without reading the others. The length alone says how many of both there
//! are.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use customhouse_ledger::{attachment::pieces_of, hash::Hash, limits::PIECE_BYTES};
use sha2::{Digest as _, Sha256};

use crate::identity::ClientIdentity;

/// Bytes of a leaf hash.
const LEAF_BYTES: u64 = 32;

/// Whose share a file that no record refers to is of: the name of its directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileOwner(String);

impl FileOwner {
    /// What is fetched from peers.
    pub fn peers() -> Self {
        Self("peers".to_owned())
    }

    /// A client. Its name may have any characters, so a hash of it stands in the file system.
    pub fn client(client: &ClientIdentity) -> Self {
        let ClientIdentity { agency, name, role, .. } = client;
        let digest = Sha256::digest(format!("{agency}/{role}/{name}"));
        Self(hex::encode(&digest[..16]))
    }

    pub(super) fn is_peers(&self) -> bool {
        self.0 == "peers"
    }

    fn read(name: &str) -> Option<Self> {
        let is_hash = name.len() == 32 && hex::decode(name).is_ok();
        (is_hash || name == "peers").then(|| Self(name.to_owned()))
    }
}

/// The directories of a store of attachments.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    directory: PathBuf,
}

impl Paths {
    /// Makes the directories that are not there yet, for their owner alone.
    pub(super) fn make(directory: &Path) -> io::Result<Self> {
        let paths = Self { directory: directory.to_owned() };
        for path in [directory.to_owned(), paths.held(), paths.unclaimed(), paths.incoming()] {
            make_directory(&path)?;
        }
        Ok(paths)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn held(&self) -> PathBuf {
        self.directory.join("held")
    }

    fn unclaimed(&self) -> PathBuf {
        self.directory.join("unclaimed")
    }

    fn incoming(&self) -> PathBuf {
        self.directory.join("incoming")
    }

    /// A file that a committed record refers to.
    pub(super) fn held_file(&self, root: &Hash) -> PathBuf {
        let name = root.to_string();
        self.held().join(&name[..2]).join(name)
    }

    /// A whole file of a client that none refers to.
    pub(super) fn unclaimed_file(&self, owner: &FileOwner, root: &Hash) -> PathBuf {
        self.unclaimed().join(&owner.0).join(root.to_string())
    }

    /// What has come of a client's file whose root was stated.
    pub(super) fn part_of_client(&self, owner: &FileOwner, root: &Hash) -> PathBuf {
        self.incoming().join(&owner.0).join(format!("{root}.part"))
    }

    /// What has come from peers of a file of a root and a size. One that a record lied about has another.
    pub(super) fn part_from_peers(&self, root: &Hash, size: u64) -> PathBuf {
        self.incoming().join(FileOwner::peers().0).join(format!("{root}-{size}.part"))
    }

    /// What has come of a file whose root was not stated.
    pub(super) fn unnamed_part(&self, owner: &FileOwner, number: u64) -> PathBuf {
        self.incoming().join(&owner.0).join(format!("unnamed-{number}"))
    }

    /// The whole files of clients that none refers to: owner, root and path.
    pub(super) fn unclaimed_files(&self) -> io::Result<Vec<(FileOwner, Hash, PathBuf)>> {
        owned_files(&self.unclaimed(), |_, name| name.parse().ok())
    }

    /// What has come of files: owner, root and path. What has no root cannot be resumed, and is removed.
    pub(super) fn parts(&self) -> io::Result<Vec<(FileOwner, Hash, PathBuf)>> {
        owned_files(&self.incoming(), |owner, name| {
            let mut root = name.strip_suffix(".part")?;
            if owner.is_peers() {
                let (before, size) = root.split_once('-')?;
                // As it is written and no other way, so that one part has one name.
                size.parse::<u64>().ok().filter(|read| read.to_string() == size)?;
                root = before;
            }
            root.parse().ok()
        })
    }
}

/// The files of each owner in a directory. Files with other names are removed: they are left over.
fn owned_files(
    directory: &Path,
    root_of: impl Fn(&FileOwner, &str) -> Option<Hash>,
) -> io::Result<Vec<(FileOwner, Hash, PathBuf)>> {
    let mut found = Vec::new();
    for of_owner in fs::read_dir(directory)? {
        let of_owner = of_owner?;
        let Some(owner) = of_owner.file_name().to_str().and_then(FileOwner::read) else { continue };
        for file in fs::read_dir(of_owner.path())? {
            let file = file?;
            match file.file_name().to_str().and_then(|name| root_of(&owner, name)) {
                Some(root) => found.push((owner.clone(), root, file.path())),
                None => fs::remove_file(file.path())?,
            }
        }
    }
    Ok(found)
}

/// Makes a directory, durably, where it is not there yet. Its parent is.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Moves a file to its place in a directory that is made where it is not there, durably.
pub(super) fn move_file(from: &Path, to: &Path) -> io::Result<()> {
    make_directory(to.parent().unwrap_or(Path::new("")))?;
    fs::rename(from, to)?;
    sync_parent(to)?;
    sync_parent(from)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("")))?.sync_all()
}

/// Bytes of the whole file of an attachment of this size.
pub(super) fn file_bytes(size: u64) -> u64 {
    size + LEAF_BYTES * pieces_of(size)
}

/// The size of the attachment whose whole file has this many bytes; nothing where none has.
pub(super) fn size_of_file(bytes: u64) -> Option<u64> {
    let pieces = bytes.div_ceil(PIECE_BYTES as u64 + LEAF_BYTES);
    let size = bytes.checked_sub(LEAF_BYTES * pieces)?;
    (pieces_of(size) == pieces).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_file_says_the_size_of_the_attachment() {
        let piece = PIECE_BYTES as u64;
        for size in [0, 1, piece - 1, piece, piece + 1, 7 * piece, 7 * piece + 5, 1 << 30] {
            assert_eq!(size_of_file(file_bytes(size)), Some(size), "{size}");
        }
        for bytes in [1, 32, piece + 33, piece + 64] {
            assert_eq!(size_of_file(bytes), None, "{bytes}");
        }
    }

    #[test]
    fn a_client_s_directory_has_a_plain_name_whatever_the_client_s_is() {
        let agency = "NL-DOUANE".parse().expect("a code");
        let role = crate::identity::Role::Broker;
        let client = ClientIdentity { agency, name: "../../x".into(), role, certificate: [0; 32] };
        let owner = FileOwner::client(&client);
        assert_eq!(FileOwner::read(&owner.0), Some(owner));
        assert_eq!(FileOwner::read("../x"), None);
    }
}
