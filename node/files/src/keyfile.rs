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
//! A key file is written once and never again: a key that is overwritten is lost, and a validator
//! key that exists twice may sign twice.

use std::{
    fmt,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    str::FromStr,
};

use customhouse_ledger::{
    agency::AgencyCode,
    keys::{PublicKey, SigningKey, on_wiped_stack},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{hardening, newfile, readfile};

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
    /// Not the form above. The reason quotes nothing of the file.
    #[error("key file {path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
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

/// The file's JSON. The seed stays where the text is, so that there is no copy of it to be wiped.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFileJson<'a> {
    format: &'a str,
    purpose: KeyPurpose,
    agency: AgencyCode,
    public_key: PublicKey,
    seed: &'a str,
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
        let written = self.key.with_seed(|seed| {
            let mut digits = Zeroizing::new([0; 64]);
            hex::encode_to_slice(seed, &mut *digits).expect("two digits a byte");
            let json = KeyFileJson {
                format: FORMAT,
                purpose: self.purpose,
                agency: self.agency,
                public_key: self.key.public(),
                seed: str::from_utf8(&*digits).expect("digits"),
            };
            // Room for the whole at once: a buffer that grows leaves a copy behind.
            let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX));
            serde_json::to_writer_pretty(&mut *text, &json).expect("strings always serialise");
            text.push(b'\n');
            newfile::write(path, &text, 0o600)
        });
        written.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
            _ => KeyFileError::Io { path: path.to_owned(), source },
        })
    }

    /// Reads a file that only its owner may read.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let io = |source| KeyFileError::Io { path: path.to_owned(), source };
        let file = readfile::open(path).map_err(io)?;
        // Of the open file, so that what is checked is what is read.
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Permissions { path: path.to_owned(), mode });
        }
        let read = on_wiped_stack(|| {
            // Room for the whole at once, as above.
            let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX + 1));
            file.take(FILE_BYTES_MAX as u64).read_to_end(&mut bytes).map_err(io)?;
            Self::parse(&bytes)
                .map_err(|reason| KeyFileError::Malformed { path: path.to_owned(), reason })
        })?;
        hardening::lock_in_memory(&read.key);
        Ok(read)
    }

    /// Reads the content of a file. The error quotes nothing of it.
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = str::from_utf8(bytes).map_err(|_| "not a text of UTF-8".to_owned())?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        // serde's own message could quote the file, so only the place is told.
        let json: KeyFileJson<'_> = serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            format!("not a {FORMAT} file (line {line}, column {column})")
        })?;
        if json.format != FORMAT {
            return Err(format!("its format is not {FORMAT}"));
        }
        let mut seed = Zeroizing::new([0; 32]);
        hex::decode_to_slice(json.seed, &mut *seed)
            .map_err(|_| "seed: not 64 hexadecimal digits".to_owned())?;
        let key = SigningKey::from_seed(&seed);
        if key.public() != json.public_key {
            return Err("public_key is not that of the seed: the file is damaged".to_owned());
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
        let file = Self::read(path)?;
        let path = path.to_owned();
        if file.purpose != purpose {
            return Err(KeyFileError::Purpose { path, expected: purpose, found: file.purpose });
        }
        if file.agency != agency {
            return Err(KeyFileError::Agency { path, expected: agency, found: file.agency });
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn key(purpose: KeyPurpose) -> KeyFile {
        let agency = "NL-DOUANE".parse().expect("a code");
        KeyFile::generate(purpose, agency).expect("randomness")
    }

    #[test]
    fn a_key_comes_back_from_its_file_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("validator.key");
        let written = key(KeyPurpose::Validator);
        written.write(&path).expect("written");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let read = KeyFile::read_for(&path, KeyPurpose::Validator, written.agency).expect("read");
        assert_eq!(read.key.public(), written.key.public());
    }

    #[test]
    fn a_key_is_never_overwritten() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("peer.key");
        key(KeyPurpose::Peer).write(&path).expect("written");
        let before = fs::read(&path).expect("readable");
        let error = key(KeyPurpose::Peer).write(&path).expect_err("refused");
        assert!(matches!(error, KeyFileError::Exists(_)), "{error}");
        assert_eq!(fs::read(&path).expect("readable"), before);
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1, "nothing left behind");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("signing.key");
        key(KeyPurpose::Signing).write(&path).expect("written");
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("allowed");
            let error = KeyFile::read(&path).expect_err("refused");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn a_key_of_another_purpose_or_agency_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("k");
        let written = key(KeyPurpose::Peer);
        written.write(&path).expect("written");
        let error = KeyFile::read_for(&path, KeyPurpose::Validator, written.agency);
        assert!(matches!(error, Err(KeyFileError::Purpose { .. })));
        let other = "BE-AADA".parse().expect("a code");
        let error = KeyFile::read_for(&path, KeyPurpose::Peer, other);
        assert!(matches!(error, Err(KeyFileError::Agency { .. })));
    }

    #[test]
    fn damage_is_named_and_the_seed_is_not_shown() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("k");
        let written = key(KeyPurpose::Peer);
        written.write(&path).expect("written");
        let text = fs::read_to_string(&path).expect("readable");
        let seed = written.key.with_seed(|seed| hex::encode(seed));
        let other = hex::encode([7; 32]);
        for (damaged, says) in [
            (text.replace(&seed, &other), "damaged"),
            (text.replace(&seed, &seed[1..]), "64 hexadecimal digits"),
            (text.replace("customhouse-key/1", "customhouse-key/2"), "format"),
            (text.replace("\"seed\"", "\"sead\""), "line"),
            (text[..text.len() / 2].to_owned(), "line"),
        ] {
            fs::write(&path, damaged).expect("writable");
            let error = KeyFile::read(&path).expect_err("refused").to_string();
            assert!(error.contains(says), "{error}");
            assert!(!error.contains(&seed[1..]), "{error}");
        }
    }
}
