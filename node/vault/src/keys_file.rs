//! The file `keys`: all that a vault has, sealed under its root key.
//!
//! ```text
//! magic "CHVAULT1" (8)  vault id (16)  root id (16)  incarnation (4)  generation (8)  file id (16)
//! copy (1: 0 the vault's own, 1 a backup's or a mirror's)  length of what follows (4)
//! nonce (24)  ciphertext  tag (16)
//! crc32c of all before (4)
//! ```
//!
//! The first two lines are authenticated with the ciphertext. The checksum is of use to nobody who means harm: it
//! tells bytes that rotted from a file that was put here by mistake, under another root key or of another
//! vault. The generation counts up with each writing, and the file id is drawn for each: a digest of the file of before
//! would not do, because a copy of it has other bytes. What is a copy says so itself: however it is put back, the
//! vault that is opened from it begins another incarnation.

use std::path::Path;

use customhouse_files::readfile;
use customhouse_ledger::{
    hash::Tag,
    layout::{LayoutError, Reader, Writer},
};

use crate::{
    aead,
    contents::{Contents, KeysName},
    error::{VaultError, VaultId},
    root_key::{RootId, RootKey},
};

const MAGIC: &[u8; 8] = b"CHVAULT1";
/// What the files of all versions begin with.
const MAGIC_OF_ANY: &[u8; 7] = b"CHVAULT";
const HEADER_BYTES: usize = 8 + 16 + 16 + 4 + 8 + 16 + 1 + 4;
const CRC_BYTES: usize = 4;
/// Most bytes of the file: as many group keys and secrets as there may be, and some room.
const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A file of keys that was read: whole, but not opened.
#[derive(Clone, Debug)]
pub(crate) struct KeysFile {
    pub(crate) vault: VaultId,
    pub(crate) root: RootId,
    pub(crate) name: KeysName,
    /// Whether it is a backup's or a mirror's.
    pub(crate) is_copy: bool,
    pub(crate) bytes: Vec<u8>,
}

impl KeysFile {
    /// # Errors
    /// Where the system gives no randomness.
    pub(crate) fn seal(
        root: &RootKey,
        name: KeysName,
        is_copy: bool,
        contents: &Contents,
    ) -> Result<Self, VaultError> {
        let clear = contents.encode();
        let length = u32::try_from(clear.len() + aead::OVERHEAD).expect("contents are bounded");
        let header = Writer::with_capacity(HEADER_BYTES).bytes(MAGIC).bytes(&root.vault.0);
        let header = header.bytes(&root.id).u32(name.incarnation).u64(name.generation);
        let header = header.bytes(&name.file).u8(is_copy.into()).u32(length).finish();
        let bound = Tag::VAULT_KEYS.message(&[&header]);
        let mut bytes = header;
        let sealed = aead::seal(&root.key, &bound, &clear, &mut bytes);
        sealed.map_err(VaultError::Randomness)?;
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
        Ok(Self { vault: root.vault, root: root.id, name, is_copy, bytes })
    }

    /// # Errors
    /// [`VaultError`]: missing, others' to read, of another version, torn or damaged.
    pub(crate) fn read(path: &Path) -> Result<Self, VaultError> {
        let read = readfile::private(path, FILE_BYTES_MAX);
        let mut bytes = read.map_err(VaultError::private(path))?;
        Self::parse(path, std::mem::take(&mut *bytes))
    }

    fn parse(path: &Path, bytes: Vec<u8>) -> Result<Self, VaultError> {
        let damaged = |what| VaultError::Damaged { path: path.to_owned(), what };
        let torn = |expected| {
            let (path, found) = (path.to_owned(), bytes.len());
            VaultError::Torn { path, expected, found }
        };
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(torn(HEADER_BYTES + aead::OVERHEAD + CRC_BYTES));
        };
        if !header.starts_with(MAGIC) {
            let other = header.starts_with(MAGIC_OF_ANY) && header[7].is_ascii_digit();
            return Err(match other {
                true => VaultError::OtherVersion(path.to_owned()),
                false => damaged("not a vault's keys"),
            });
        }
        let (file, length) = fields(header).map_err(|_| damaged("its header"))?;
        let expected = HEADER_BYTES + length + CRC_BYTES;
        if bytes.len() < expected {
            return Err(torn(expected));
        }
        let crc = bytes.split_last_chunk::<CRC_BYTES>();
        let is_whole =
            crc.is_some_and(|(all, crc)| crc32c::crc32c(all) == u32::from_be_bytes(*crc));
        match is_whole && bytes.len() == expected {
            true => Ok(Self { bytes, ..file }),
            false => Err(damaged("checksum")),
        }
    }

    /// # Errors
    /// [`VaultError::Foreign`], [`VaultError::OtherRoot`] or [`VaultError::Damaged`].
    pub(crate) fn open(&self, path: &Path, root: &RootKey) -> Result<Contents, VaultError> {
        let damaged = |what| VaultError::Damaged { path: path.to_owned(), what };
        self.belongs(path, root.vault, root.id)?;
        let (header, rest) = self.bytes.split_at(HEADER_BYTES);
        let sealed = &rest[..rest.len() - CRC_BYTES];
        let clear = aead::open(&root.key, &Tag::VAULT_KEYS.message(&[header]), sealed);
        let clear = clear.ok_or_else(|| damaged("not what its root key sealed"))?;
        Contents::decode(&clear).map_err(|_| damaged("its contents"))
    }

    /// Whether it is of a vault and under a root key.
    pub(crate) fn belongs(
        &self,
        path: &Path,
        vault: VaultId,
        root: RootId,
    ) -> Result<(), VaultError> {
        if self.vault != vault {
            let path = path.to_owned();
            return Err(VaultError::Foreign { path, expected: vault, found: self.vault });
        }
        if self.root != root {
            return Err(VaultError::OtherRoot(path.to_owned()));
        }
        Ok(())
    }
}

/// What the header says, and the length of the next part.
fn fields(header: &[u8]) -> Result<(KeysFile, usize), LayoutError> {
    let mut reader = Reader::new(header);
    reader.take(MAGIC.len(), "magic")?;
    let vault = VaultId(reader.array("vault")?);
    let root = reader.array("root")?;
    let (incarnation, generation) = (reader.u32("incarnation")?, reader.u64("generation")?);
    let name = KeysName { incarnation, generation, file: reader.array("file")? };
    let is_copy = match reader.u8("copy")? {
        copy @ 0..=1 => copy == 1,
        _ => return Err(LayoutError::Invalid("copy")),
    };
    let length = reader.u32("length")? as usize;
    let file = KeysFile { vault, root, name, is_copy, bytes: Vec::new() };
    reader.finish().map(|()| (file, length))
}
