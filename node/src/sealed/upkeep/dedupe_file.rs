//! The file by which one node of an agency gives another the secret of dedupe keys, under a passphrase.
//!
//! ```text
//! customhouse-dedupe-secret/1 agency=NL-DOUANE check=<64 digits>
//! -----BEGIN ENCRYPTED PRIVATE KEY-----
//! ```
//!
//! The PEM is that of a vault's root key: an X25519 key of PKCS #8, which any 32 bytes are. The line says which secret
//! it is, so that a wrong passphrase that opens to something is not taken for a right one.

use std::{
    io,
    path::{Path, PathBuf},
};

use customhouse_files::{
    newfile,
    passphrase::Passphrase,
    readfile::{self, PrivateFileError},
    secret::Secret,
    wrapped_key::{self, KeyAlgorithm, WrappedKeyError},
};
use customhouse_ledger::{agency::AgencyCode, hash::Hash};
use customhouse_vault::dedupe::dedupe_check;

const FORMAT: &str = "customhouse-dedupe-secret/1";
/// Most bytes of the file.
const FILE_BYTES_MAX: usize = 4096;

/// Why the file was not written or read. None shows any of the secret.
#[derive(Debug, thiserror::Error)]
pub enum DedupeFileError {
    /// There is one already.
    #[error("{0} exists: choose another name, or remove it first")]
    Exists(PathBuf),
    /// The file could not be read or written, or is others' to read.
    #[error("{path}: {source}")]
    Private {
        /// Which.
        path: PathBuf,
        /// Why.
        source: PrivateFileError,
    },
    /// Not the form above, or damaged.
    #[error(
        "{path}: {reason}; have the other node export it again (`customhouse vault dedupe-secret export`)"
    )]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// Another agency's.
    #[error("{path}: the secret of {found}, not of {expected}")]
    Agency {
        /// Which.
        path: PathBuf,
        /// Whose node it is.
        expected: AgencyCode,
        /// Whose secret.
        found: AgencyCode,
    },
    /// It does not open.
    #[error("{path}: {source}")]
    Wrapped {
        /// Which.
        path: PathBuf,
        /// Why.
        source: WrappedKeyError,
    },
}

impl DedupeFileError {
    /// A stable code for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Exists(_) => "DEDUPE_FILE_EXISTS",
            Self::Private { .. } => "DEDUPE_FILE",
            Self::Malformed { .. } => "DEDUPE_FILE_MALFORMED",
            Self::Agency { .. } => "DEDUPE_FILE_AGENCY",
            Self::Wrapped { source, .. } => source.code(),
        }
    }
}

/// Writes a new file; the check value of the secret.
pub(super) fn write(
    path: &Path,
    agency: AgencyCode,
    secret: &Secret,
    passphrase: &Passphrase,
) -> Result<Hash, DedupeFileError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => DedupeFileError::Exists(path.to_owned()),
        _ => DedupeFileError::Private { path: path.to_owned(), source: source.into() },
    };
    let check = dedupe_check(secret, agency);
    let pem = wrapped_key::wrap(KeyAlgorithm::X25519, secret, Some(passphrase)).map_err(failed)?;
    // It is encrypted: no copy of it has to be wiped.
    let text = format!("{FORMAT} agency={agency} check={check}\n{}", *pem);
    newfile::write(path, text.as_bytes(), 0o600).map_err(failed)?;
    Ok(check)
}

/// Reads the secret of this agency.
pub(super) fn read(
    path: &Path,
    agency: AgencyCode,
    passphrase: &Passphrase,
) -> Result<Secret, DedupeFileError> {
    let malformed = |reason| DedupeFileError::Malformed { path: path.to_owned(), reason };
    let bytes = readfile::private(path, FILE_BYTES_MAX)
        .map_err(|source| DedupeFileError::Private { path: path.to_owned(), source })?;
    let text = str::from_utf8(&bytes).map_err(|_| malformed("not a text"))?;
    let (found, check) = first_line(text).ok_or_else(|| malformed("no file of a dedupe secret"))?;
    if found != agency {
        return Err(DedupeFileError::Agency { path: path.to_owned(), expected: agency, found });
    }
    let secret = wrapped_key::unwrap(KeyAlgorithm::X25519, text, Some(passphrase))
        .map_err(|source| DedupeFileError::Wrapped { path: path.to_owned(), source })?;
    match dedupe_check(&secret, agency) == check {
        true => Ok(secret),
        false => Err(malformed("what is in it is another secret than it says")),
    }
}

fn first_line(text: &str) -> Option<(AgencyCode, Hash)> {
    let (line, _) = text.split_once('\n')?;
    let mut words = line.strip_prefix(FORMAT)?.strip_prefix(' ')?.split(' ');
    let agency = words.next()?.strip_prefix("agency=")?.parse().ok()?;
    let check = words.next()?.strip_prefix("check=")?.parse().ok()?;
    words.next().is_none().then_some((agency, check))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_secret_comes_back_for_its_agency_and_passphrase_and_for_no_other() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("dedupe.secret");
        let agency = |code: &str| code.parse::<AgencyCode>().expect("a code");
        let word = |text: &str| Passphrase::new(text).expect("long enough");
        let secret = Secret::new(&[7; 32]);
        let check = write(&path, agency("NL-DOUANE"), &secret, &word("right")).expect("written");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let again = write(&path, agency("NL-DOUANE"), &secret, &word("right"));
        assert_eq!(again.expect_err("there").code(), "DEDUPE_FILE_EXISTS");
        let code = |agency: AgencyCode, passphrase: &str| {
            read(&path, agency, &word(passphrase)).map(|_| ()).expect_err("refused").code()
        };
        assert_eq!(code(agency("BE-AADA"), "right"), "DEDUPE_FILE_AGENCY");
        assert_eq!(code(agency("NL-DOUANE"), "wrong"), "PASSPHRASE_WRONG");
        let back = read(&path, agency("NL-DOUANE"), &word("right")).expect("read");
        assert!(back.is(&secret));
        let text = fs::read_to_string(&path).expect("readable");
        let other = text.replace(&check.to_string(), &"00".repeat(32));
        fs::write(&path, other).expect("writable");
        assert_eq!(code(agency("NL-DOUANE"), "right"), "DEDUPE_FILE_MALFORMED");
        for rubbish in ["", "rubbish", &text[..20], &text[1..]] {
            fs::write(&path, rubbish).expect("writable");
            assert_eq!(code(agency("NL-DOUANE"), "right"), "DEDUPE_FILE_MALFORMED", "{rubbish}");
        }
        fs::write(&path, &text[..text.len() - 40]).expect("writable");
        assert_eq!(code(agency("NL-DOUANE"), "right"), "WRAPPED_KEY_MALFORMED");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("allowed");
        assert_eq!(code(agency("NL-DOUANE"), "right"), "DEDUPE_FILE");
    }
}
