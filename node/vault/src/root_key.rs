//! The root key: the one key that everything else in the vault is under, and its file.
//!
//! ```text
//! customhouse-vault/1 vault=<32 digits> root=<32 digits> crc32c=<8 digits>
//! -----BEGIN ENCRYPTED PRIVATE KEY-----
//! ```
//!
//! What follows the line is a PEM that other tools open (`openssl pkey -in root.key -text`), of an X25519 key:
//! PKCS #8 has no name for a symmetric one, and any 32 bytes are such a key. The line says which vault it
//! is of and which root key, so that a file of keys finds the one that it is under before anybody is asked
//! for a passphrase; and the checksum (of the two ids and the PEM) tells a damaged file from a wrong passphrase.

use std::path::Path;

use customhouse_files::{
    passphrase::Passphrase,
    readfile,
    secret::Secret,
    wrapped_key::{self, KeyAlgorithm},
};
use customhouse_ledger::hash::Tag;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::{VaultError, VaultId};

/// Most bytes of the file.
const FILE_BYTES_MAX: usize = 4096;
/// What the line begins with; the version follows.
const FORMAT: &str = "customhouse-vault/";
const VERSION: &str = "1";

/// Tells one root key of a vault from another, and nothing else about it: the first 16 bytes of an HMAC
/// under it.
pub(crate) type RootId = [u8; 16];

/// A root key.
#[derive(Clone, Debug)]
pub(crate) struct RootKey {
    pub(crate) vault: VaultId,
    pub(crate) id: RootId,
    pub(crate) key: Secret,
}

impl RootKey {
    pub(crate) fn random(vault: VaultId) -> Result<Self, VaultError> {
        Ok(Self::of(vault, Secret::random().map_err(VaultError::Randomness)?))
    }

    fn of(vault: VaultId, key: Secret) -> Self {
        let code = key.with(|key| {
            let mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
            let mac = mac.chain_update(Tag::VAULT_ROOT.as_bytes()).chain_update(vault.0);
            <[u8; 32]>::from(mac.finalize().into_bytes())
        });
        let (id, _) = code.split_first_chunk().expect("32 bytes");
        Self { vault, id: *id, key }
    }

    /// The file's text, with the key wrapped where there is a passphrase.
    pub(crate) fn to_text(
        &self,
        passphrase: Option<&Passphrase>,
    ) -> Result<Zeroizing<String>, VaultError> {
        let pem = wrapped_key::wrap(KeyAlgorithm::X25519, &self.key, passphrase);
        Ok(text(self.vault, self.id, &pem.map_err(VaultError::Randomness)?))
    }
}

fn text(vault: VaultId, root: RootId, pem: &str) -> Zeroizing<String> {
    let crc = [&vault.0, &root, pem.as_bytes()].into_iter().fold(0, crc32c::crc32c_append);
    let line =
        format!("{FORMAT}{VERSION} vault={vault} root={} crc32c={crc:08x}\n", hex::encode(root));
    // Room for the whole at once: a text that grows leaves a copy behind.
    let mut whole = Zeroizing::new(String::with_capacity(line.len() + pem.len()));
    whole.push_str(&line);
    whole.push_str(pem);
    whole
}

/// A file of a root key that was read, still wrapped.
pub(crate) struct RootKeyFile {
    pub(crate) vault: VaultId,
    pub(crate) id: RootId,
    pub(crate) text: Zeroizing<String>,
    /// Where the PEM begins in the text.
    pem: usize,
}

impl RootKeyFile {
    /// # Errors
    /// [`VaultError`]: missing, others' to read, of another version, or damaged.
    pub(crate) fn read(path: &Path) -> Result<Self, VaultError> {
        let mut bytes =
            readfile::private(path, FILE_BYTES_MAX).map_err(VaultError::private(path))?;
        let damaged = |what| VaultError::Damaged { path: path.to_owned(), what };
        let text = String::from_utf8(std::mem::take(&mut *bytes)).map_err(|error| {
            drop(Zeroizing::new(error.into_bytes()));
            damaged("not a text")
        })?;
        let text = Zeroizing::new(text);
        let (vault, id, pem) = match Self::parse(&text) {
            Some((vault, id, pem)) if *self::text(vault, id, &text[pem..]) == *text => {
                (vault, id, pem)
            }
            Some(_) => return Err(damaged("checksum")),
            None => {
                let version = text.strip_prefix(FORMAT).and_then(|rest| rest.split(' ').next());
                let is_number = |version: &str| {
                    !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit())
                };
                return Err(match version {
                    Some(version) if version != VERSION && is_number(version) => {
                        VaultError::OtherVersion(path.to_owned())
                    }
                    _ => damaged("not a root key"),
                });
            }
        };
        Ok(Self { vault, id, text, pem })
    }

    fn parse(text: &str) -> Option<(VaultId, RootId, usize)> {
        let (line, _) = text.split_once('\n')?;
        let mut words =
            line.strip_prefix(FORMAT)?.strip_prefix(VERSION)?.strip_prefix(' ')?.split(' ');
        let mut id = |name: &str| {
            let mut id = [0; 16];
            hex::decode_to_slice(words.next()?.strip_prefix(name)?, &mut id).ok().map(|()| id)
        };
        Some((VaultId(id("vault=")?), id("root=")?, line.len() + 1))
    }

    /// Whether a passphrase is needed.
    pub(crate) fn is_encrypted(&self) -> bool {
        wrapped_key::is_encrypted(&self.text)
    }

    /// # Errors
    /// [`VaultError::RootKey`]: among others, a wrong passphrase; [`VaultError::Damaged`].
    pub(crate) fn unwrap(
        &self,
        path: &Path,
        passphrase: Option<&Passphrase>,
    ) -> Result<RootKey, VaultError> {
        let pem = &self.text[self.pem..];
        let key = wrapped_key::unwrap(KeyAlgorithm::X25519, pem, passphrase)
            .map_err(|source| VaultError::RootKey { path: path.to_owned(), source })?;
        let root = RootKey::of(self.vault, key);
        match root.id == self.id {
            true => Ok(root),
            false => {
                Err(VaultError::Damaged { path: path.to_owned(), what: "another key is in it" })
            }
        }
    }
}
