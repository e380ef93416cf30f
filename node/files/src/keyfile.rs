//! Key files: one secret key each, readable by its owner only.
//!
//! ```json
//! {
//!   "format": "customhouse-key/1",
//!   "purpose": "validator",
//!   "agency": "NL-DOUANE",
//!   "public_key": "64 hexadecimal digits",
//!   "seed": "64 hexadecimal digits"
//! }
//! ```
//!
//! Where the operator wants it, the key is under a passphrase, and `encrypted_key` stands in the place of `seed`:
//! a PEM as a text ([`crate::wrapped_key`]), which other tools open
//! (`jq -r .encrypted_key validator.key | openssl pkey`). That is against whoever gets hold of a disk or a
//! backup of it, and not against whoever has the passphrase's file beside it.
//!
//! A key file is written once and never again: a key that is overwritten is lost, and a validator
//! key that exists twice may sign twice. Only its passphrase may change ([`KeyFile::protect`]).

use std::{
    borrow::Cow,
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use customhouse_ledger::{
    agency::AgencyCode,
    keys::{PublicKey, SigningKey, on_wiped_stack},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    hardening, newfile,
    passphrase::{Passphrase, PassphraseError, PassphraseSource},
    readfile::{self, PrivateFileError},
    secret::Secret,
    wrapped_key::{self, KeyAlgorithm, WrappedKeyError},
};

/// What the `format` of a key file must say.
pub const FORMAT: &str = "customhouse-key/1";
/// Most bytes of a key file.
const FILE_BYTES_MAX: usize = 4096;

/// What a key is for. A key has one purpose: the genesis refuses a key that is registered for two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyPurpose {
    /// Signs votes and proposals.
    Validator,
    /// The node's libp2p identity.
    Peer,
    /// Signs transactions for what the agency's clients submit.
    Signing,
    /// An integrator's own key: signs the transactions that it submits.
    Submitter,
    /// Signs the node's checkpoints of the log, for tools of transparency logs. Not in the registry: no
    /// proof of Customhouse rests on it.
    Checkpoint,
}

impl KeyPurpose {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Validator => "validator",
            Self::Peer => "peer",
            Self::Signing => "signing",
            Self::Submitter => "submitter",
            Self::Checkpoint => "checkpoint",
        }
    }
}

impl fmt::Display for KeyPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The word names no purpose.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no purpose of a key: validator, peer, signing, submitter or checkpoint expected")]
pub struct PurposeError(String);

impl FromStr for KeyPurpose {
    type Err = PurposeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Validator, Self::Peer, Self::Signing, Self::Submitter, Self::Checkpoint]
            .into_iter()
            .find(|purpose| purpose.as_str() == text)
            .ok_or_else(|| PurposeError(text.to_owned()))
    }
}

/// Why a key file was not read or written. Each names the file and never shows the seed.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The system's answer.
    #[error("key file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is one already, and it is kept.
    #[error(
        "key file {0} exists: a key is never overwritten; choose another place for the new one"
    )]
    Exists(PathBuf),
    /// Others than the owner may read or write it.
    #[error(
        "key file {path} has mode {mode:04o}: others than its owner may read or change it; \
         run `chmod 600 {path}` if nobody did, else make a new key"
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another user owns it.
    #[error("key file {path}: {source}")]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        source: PrivateFileError,
    },
    /// Not the form above. The reason quotes nothing of the file.
    #[error("key file {path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The key was not unwrapped: among others, a wrong passphrase, or none where one is needed.
    #[error("key file {path}: {source}")]
    Wrapped {
        /// The file.
        path: PathBuf,
        /// Why.
        source: WrappedKeyError,
    },
    /// There is no passphrase.
    #[error("key file {path}: {source}")]
    Passphrase {
        /// The file.
        path: PathBuf,
        /// Why.
        source: PassphraseError,
    },
    /// A key for something else.
    #[error("key file {path} holds a {found} key, a {expected} key is needed here")]
    Purpose {
        /// The file.
        path: PathBuf,
        /// What is needed.
        expected: KeyPurpose,
        /// What it is.
        found: KeyPurpose,
    },
    /// A key of another agency.
    #[error("key file {path} belongs to {found}, not to {expected}")]
    Agency {
        /// The file.
        path: PathBuf,
        /// The agency that is configured.
        expected: AgencyCode,
        /// The agency that the file names.
        found: AgencyCode,
    },
}

/// A secret key with what it is for. Wiped from memory when dropped.
#[derive(Clone, Debug)]
pub struct KeyFile {
    /// What for.
    pub purpose: KeyPurpose,
    /// Whose.
    pub agency: AgencyCode,
    /// The key, locked in memory.
    pub key: SigningKey,
}

/// The file's JSON, with one of the two forms of the key. The seed stays where the text is, so that there is no
/// copy of it to be wiped.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFileJson<'a> {
    format: &'a str,
    purpose: KeyPurpose,
    agency: AgencyCode,
    public_key: PublicKey,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<&'a str>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    encrypted_key: Option<Cow<'a, str>>,
}

/// What a key file says to whoever may read it and has no passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKeyFile {
    /// What the key is for.
    pub purpose: KeyPurpose,
    /// Whose.
    pub agency: AgencyCode,
    /// The public key, as the file says it: under a passphrase nobody has compared it with the key.
    pub public_key: PublicKey,
    /// Whether the key is under a passphrase.
    pub is_protected: bool,
}

impl KeyFile {
    /// A new key from the operating system's randomness.
    ///
    /// # Errors
    /// Where the system has none to give.
    pub fn generate(purpose: KeyPurpose, agency: AgencyCode) -> io::Result<Self> {
        let key = on_wiped_stack(|| {
            let mut seed = Zeroizing::new([0; 32]);
            getrandom::fill(&mut *seed).map_err(io::Error::other)?;
            Ok::<_, io::Error>(SigningKey::from_seed(&seed))
        })?;
        hardening::lock_in_memory(&key);
        Ok(Self { purpose, agency, key })
    }

    /// Writes the file, mode 0600, whole or not at all, and never over another.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`], or the system's answer.
    pub fn write(&self, path: &Path) -> Result<(), KeyFileError> {
        self.write_protected(path, None)
    }

    /// As [`KeyFile::write`], under a passphrase where there is one.
    ///
    /// # Errors
    /// As [`KeyFile::write`].
    pub fn write_protected(
        &self,
        path: &Path,
        passphrase: Option<&Passphrase>,
    ) -> Result<(), KeyFileError> {
        let written = self.text(passphrase).and_then(|text| newfile::write(path, &text, 0o600));
        written.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
            _ => KeyFileError::Io { path: path.to_owned(), source },
        })
    }

    /// Puts the key of a file under another passphrase, or under none: the file is replaced by one of the same
    /// key, which was read back from its text, and the old one is overwritten where it lay.
    ///
    /// # Errors
    /// As [`KeyFile::read_with`]; the file is as it was then.
    pub fn protect(
        path: &Path,
        from: Option<&Passphrase>,
        to: Option<&Passphrase>,
    ) -> Result<(), KeyFileError> {
        let io = |source| KeyFileError::Io { path: path.to_owned(), source };
        let before = Self::read_with(path, from)?;
        let text = before.text(to).map_err(io)?;
        Self::parse(path, &text, |_| Ok(to))?;
        newfile::replace_secret(path, &text).map_err(io)
    }

    fn text(&self, passphrase: Option<&Passphrase>) -> io::Result<Zeroizing<Vec<u8>>> {
        self.key.with_seed(|seed| {
            let mut digits = Zeroizing::new([0; 64]);
            let (seed, encrypted_key) = if passphrase.is_some() {
                let key = Secret::new(seed);
                let pem = wrapped_key::wrap(KeyAlgorithm::Ed25519, &key, passphrase)?;
                (None, Some(Cow::Owned(String::clone(&pem))))
            } else {
                hex::encode_to_slice(seed, &mut *digits).expect("two digits a byte");
                (Some(str::from_utf8(&*digits).expect("digits")), None)
            };
            let json = KeyFileJson {
                format: FORMAT,
                purpose: self.purpose,
                agency: self.agency,
                public_key: self.key.public(),
                seed,
                encrypted_key,
            };
            // Room for the whole at once: a buffer that grows leaves a copy behind.
            let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX));
            serde_json::to_writer_pretty(&mut *text, &json).expect("strings always serialise");
            text.push(b'\n');
            Ok(text)
        })
    }

    /// Reads what a file says without its passphrase. Of one that is under none the whole is read.
    ///
    /// # Errors
    /// As [`KeyFile::read`].
    pub fn read_public(path: &Path) -> Result<PublicKeyFile, KeyFileError> {
        let mut protected = None;
        let read = Self::read_by(path, |json| {
            let (purpose, agency, public_key) = (json.purpose, json.agency, json.public_key);
            protected = Some(PublicKeyFile { purpose, agency, public_key, is_protected: true });
            Ok(None)
        });
        match (read, protected) {
            (_, Some(found)) => Ok(found),
            (read, None) => read.map(|read| PublicKeyFile {
                purpose: read.purpose,
                agency: read.agency,
                public_key: read.key.public(),
                is_protected: false,
            }),
        }
    }

    /// Reads a file that only its owner may read, and that is under no passphrase.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        Self::read_with(path, None)
    }

    /// As [`KeyFile::read`], of a file that is under a passphrase where one is given.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn read_with(path: &Path, passphrase: Option<&Passphrase>) -> Result<Self, KeyFileError> {
        Self::read_by(path, |_| Ok(passphrase))
    }

    /// As [`KeyFile::read`], of a file that may be under a passphrase: it is asked for then, and only then.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn read_asking(
        path: &Path,
        source: Option<&PassphraseSource>,
    ) -> Result<Self, KeyFileError> {
        let failed = |source| KeyFileError::Passphrase { path: path.to_owned(), source };
        let mut asked = None;
        Self::read_by(path, |_| {
            if let Some(source) = source {
                let what = format!("the key {}", path.display());
                asked = Some(source.ask(&what).map_err(failed)?);
            }
            Ok(asked.as_ref())
        })
    }

    fn read_by<'a>(
        path: &Path,
        passphrase: impl FnOnce(&KeyFileJson<'_>) -> Result<Option<&'a Passphrase>, KeyFileError>,
    ) -> Result<Self, KeyFileError> {
        let read = on_wiped_stack(|| {
            let bytes = readfile::private(path, FILE_BYTES_MAX).map_err(|error| match error {
                PrivateFileError::Io(source) => KeyFileError::Io { path: path.to_owned(), source },
                PrivateFileError::Permissions(mode) => {
                    KeyFileError::Permissions { path: path.to_owned(), mode }
                }
                source @ PrivateFileError::Owner { .. } => {
                    KeyFileError::Owner { path: path.to_owned(), source }
                }
            })?;
            Self::parse(path, &bytes, passphrase)
        })?;
        hardening::lock_in_memory(&read.key);
        Ok(read)
    }

    /// Reads the content of a file. The error quotes nothing of it.
    fn parse<'a>(
        path: &Path,
        bytes: &[u8],
        passphrase: impl FnOnce(&KeyFileJson<'_>) -> Result<Option<&'a Passphrase>, KeyFileError>,
    ) -> Result<Self, KeyFileError> {
        let malformed = |reason| KeyFileError::Malformed { path: path.to_owned(), reason };
        let text =
            str::from_utf8(bytes).map_err(|_| malformed("not a text of UTF-8".to_owned()))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        // serde's own message could quote the file, so only the place is told.
        let json: KeyFileJson<'_> = serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            malformed(format!("not a {FORMAT} file (line {line}, column {column})"))
        })?;
        if json.format != FORMAT {
            return Err(malformed(format!("its format is not {FORMAT}")));
        }
        let key = match (json.seed, &json.encrypted_key) {
            (Some(digits), None) => {
                let mut seed = Zeroizing::new([0; 32]);
                hex::decode_to_slice(digits, &mut *seed)
                    .map_err(|_| malformed("seed: not 64 hexadecimal digits".to_owned()))?;
                SigningKey::from_seed(&seed)
            }
            (None, Some(pem)) => {
                let seed = wrapped_key::unwrap(KeyAlgorithm::Ed25519, pem, passphrase(&json)?);
                let wrapped = |source| KeyFileError::Wrapped { path: path.to_owned(), source };
                seed.map_err(wrapped)?.with(SigningKey::from_seed)
            }
            _ => return Err(malformed("one of seed and encrypted_key expected".to_owned())),
        };
        if key.public() != json.public_key {
            let reason = "public_key is not that of the key: the file is damaged";
            return Err(malformed(reason.to_owned()));
        }
        Ok(Self { purpose: json.purpose, agency: json.agency, key })
    }

    /// Reads a file and checks that it is this agency's key for this purpose.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn read_for(
        path: &Path,
        purpose: KeyPurpose,
        agency: AgencyCode,
    ) -> Result<Self, KeyFileError> {
        Self::read(path)?.of(path, purpose, agency)
    }

    /// The key, if it is this agency's for this purpose.
    ///
    /// # Errors
    /// [`KeyFileError::Purpose`] or [`KeyFileError::Agency`], which name the file that it is from.
    pub fn of(
        self,
        path: &Path,
        purpose: KeyPurpose,
        agency: AgencyCode,
    ) -> Result<Self, KeyFileError> {
        let path = path.to_owned();
        if self.purpose != purpose {
            return Err(KeyFileError::Purpose { path, expected: purpose, found: self.purpose });
        }
        if self.agency != agency {
            return Err(KeyFileError::Agency { path, expected: agency, found: self.agency });
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
