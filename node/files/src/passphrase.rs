//! Passphrases, and where an operator gives them: at a terminal, in a file, or as a credential of systemd.
//!
//! A passphrase protects a key file on a disk or backup that somebody else gets hold of. From a file on the
//! same disk it protects nothing, which is why the file is meant to be on another: a credential is kept in
//! memory by the system, and may be sealed to the machine's TPM (`systemd-creds encrypt`).

use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    hardening,
    readfile::{self, PrivateFileError},
};

mod terminal;

/// Most bytes of a passphrase.
const BYTES_MAX: usize = 1024;
/// Where systemd says the directory of a service's credentials.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// A passphrase: 1 to 1,024 bytes of UTF-8, wiped when dropped and never shown. It is alone on a page of
/// memory that is locked, as keys are: what renews a key keeps the passphrase for the next one.
pub struct Passphrase {
    /// Dropped first, and so while the page is still there.
    _lock: Option<region::LockGuard>,
    page: Box<PassphrasePage>,
    length: usize,
}

/// As large as a page and aligned like one.
#[repr(align(4096))]
struct PassphrasePage([u8; BYTES_MAX]);

impl Passphrase {
    /// Takes a text, without the end of line that an editor puts behind it.
    ///
    /// # Errors
    /// [`PassphraseError::Length`].
    pub fn new(text: &str) -> Result<Self, PassphraseError> {
        let line =
            text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
        let mut page = Box::new(PassphrasePage([0; BYTES_MAX]));
        let address: *const PassphrasePage = &raw const *page;
        let lock = hardening::lock_pages(address.cast(), size_of::<PassphrasePage>());
        match page.0.get_mut(..line.len()) {
            Some(place) if !line.is_empty() => place.copy_from_slice(line.as_bytes()),
            _ => return Err(PassphraseError::Length),
        }
        Ok(Self { _lock: lock, page, length: line.len() })
    }

    /// The bytes, for the derivation of a key.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.page.0[..self.length]
    }
}

impl Drop for Passphrase {
    fn drop(&mut self) {
        self.page.0.zeroize();
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// Why there is no passphrase. None shows any of it.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// Empty or too long.
    #[error("a passphrase has 1 to {BYTES_MAX} bytes, on one line")]
    Length,
    /// Nobody is there to be asked.
    #[error(
        "there is no terminal to ask for a passphrase ({0}): give it in a file (`file:PATH`) or as a \
         credential of systemd (`credential:NAME`)"
    )]
    NoTerminal(io::Error),
    /// The terminal failed or was closed.
    #[error("the passphrase could not be read from the terminal: {0}")]
    Terminal(io::Error),
    /// The two that were typed differ.
    #[error("the two passphrases are not the same: nothing was changed, try again")]
    Differ,
    /// The process has no credentials.
    #[error(
        "no credential {0}: {CREDENTIALS_DIRECTORY} is not set, so that systemd gave this process none; \
         the unit needs `LoadCredentialEncrypted={0}:…`"
    )]
    NoCredentials(String),
    /// The file could not be read, or is others' to read.
    #[error("passphrase file {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: PrivateFileError,
    },
}

impl PassphraseError {
    /// A stable code for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Length => "PASSPHRASE_LENGTH",
            Self::NoTerminal(_) => "PASSPHRASE_NO_TERMINAL",
            Self::Terminal(_) => "PASSPHRASE_TERMINAL",
            Self::Differ => "PASSPHRASE_DIFFERS",
            Self::NoCredentials(_) => "PASSPHRASE_NO_CREDENTIAL",
            Self::File { .. } => "PASSPHRASE_FILE",
        }
    }
}

/// Where a passphrase is asked for: `prompt`, `file:PATH` or `credential:NAME`, in configurations and on the
/// command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PassphraseSource {
    /// The terminal of the process, with what is typed not shown.
    Prompt,
    /// A file that its owner alone may read; one end of line after the passphrase is not part of it.
    File(PathBuf),
    /// A credential of systemd: the file of this name in `$CREDENTIALS_DIRECTORY`, which the system protects
    /// by means of its own.
    Credential(String),
}

impl PassphraseSource {
    /// Asks for the passphrase of `what`, a noun with its article for whoever is prompted.
    ///
    /// # Errors
    /// [`PassphraseError`].
    pub fn ask(&self, what: &str) -> Result<Passphrase, PassphraseError> {
        match self {
            Self::Prompt => terminal::ask(&format!("Passphrase of {what}: ")),
            Self::File(path) => Passphrase::new(&read(path, readfile::private)?),
            Self::Credential(name) => {
                let directory = std::env::var_os(CREDENTIALS_DIRECTORY)
                    .ok_or_else(|| PassphraseError::NoCredentials(name.clone()))?;
                Passphrase::new(&read(&Path::new(&directory).join(name), readfile::credential)?)
            }
        }
    }

    /// Asks for a passphrase that `what` is to have from now on: at a terminal, twice.
    ///
    /// # Errors
    /// [`PassphraseError`].
    pub fn choose(&self, what: &str) -> Result<Passphrase, PassphraseError> {
        if *self != Self::Prompt {
            return self.ask(what);
        }
        let chosen = terminal::ask(&format!("New passphrase of {what}: "))?;
        let again = terminal::ask("The same again: ")?;
        match chosen.as_bytes() == again.as_bytes() {
            true => Ok(chosen),
            false => Err(PassphraseError::Differ),
        }
    }
}

/// The text of a file.
fn read(
    path: &Path,
    how: impl FnOnce(&Path, usize) -> Result<Zeroizing<Vec<u8>>, PrivateFileError>,
) -> Result<Zeroizing<String>, PassphraseError> {
    let failed = |source| PassphraseError::File { path: path.to_owned(), source };
    let mut bytes = how(path, BYTES_MAX + 2).map_err(failed)?;
    String::from_utf8(std::mem::take(&mut *bytes)).map(Zeroizing::new).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        failed(io::Error::new(io::ErrorKind::InvalidData, "not a text of UTF-8").into())
    })
}

/// A text that names no source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` says no source of a passphrase: `prompt`, `file:PATH` or `credential:NAME` expected"
)]
pub struct PassphraseSourceError(String);

impl FromStr for PassphraseSource {
    type Err = PassphraseSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let of = |name: &str| {
            let plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
            plain.then(|| Self::Credential(name.to_owned()))
        };
        let source = match text.split_once(':') {
            None if text == "prompt" => Some(Self::Prompt),
            Some(("file", path)) if !path.is_empty() => Some(Self::File(path.into())),
            Some(("credential", name)) => of(name),
            _ => None,
        };
        source.ok_or_else(|| PassphraseSourceError(text.to_owned()))
    }
}

impl fmt::Display for PassphraseSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prompt => f.write_str("prompt"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Credential(name) => write!(f, "credential:{name}"),
        }
    }
}

impl Serialize for PassphraseSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PassphraseSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn text(passphrase: &Passphrase) -> &str {
        str::from_utf8(passphrase.as_bytes()).expect("a text")
    }

    #[test]
    fn a_file_gives_its_line_to_its_owner_only() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("passphrase");
        let source = PassphraseSource::File(path.clone());
        let missing = source.ask("it").expect_err("missing");
        assert_eq!(missing.code(), "PASSPHRASE_FILE");
        for (content, expected) in
            [("two words\n", "two words"), ("crlf\r\n", "crlf"), (" kept \n\n", " kept \n")]
        {
            fs::write(&path, content).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("allowed");
            assert_eq!(text(&source.choose("it").expect("read")), expected);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("allowed");
        let error = source.ask("it").expect_err("others may read it").to_string();
        assert!(error.contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("allowed");
        for content in ["", "\n", &"x".repeat(BYTES_MAX + 1)] {
            fs::write(&path, content).expect("written");
            assert!(matches!(source.ask("it"), Err(PassphraseError::Length)), "{content}");
        }
        fs::write(&path, b"secret\xff").expect("written");
        let error = format!("{:?}", source.ask("it").expect_err("no text"));
        assert!(!error.contains("secret") && !error.contains("115"), "{error}");
    }

    #[test]
    fn a_source_is_written_as_it_is_read_and_a_credential_stays_in_its_directory() {
        for source in ["prompt", "file:/etc/passphrase", "file:a:b", "credential:vault"] {
            let parsed: PassphraseSource = source.parse().expect("a source");
            assert_eq!(parsed.to_string(), source);
        }
        for wrong in
            ["", "prompt:", "file:", "credential:", "credential:../x", "credential:..", "x"]
        {
            assert!(wrong.parse::<PassphraseSource>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_of_a_passphrase_is_shown() {
        let passphrase = Passphrase::new("secret").expect("long enough");
        assert_eq!(format!("{passphrase:?}"), "Passphrase(…)");
    }
}
