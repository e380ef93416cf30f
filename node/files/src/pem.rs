//! Files of certificates and their keys, as PEM.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::readfile;

/// Most bytes of a certificate's or key's file; an authority's may hold a chain.
pub const PEM_BYTES_MAX: usize = 1024 * 1024;

/// A certificate and its private key, as PEM. The key is wiped when dropped and never shown.
pub struct KeyedCertificate {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS #8.
    pub key: Zeroizing<String>,
}

/// A certificate or key file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct PemError {
    /// Which file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl KeyedCertificate {
    /// Reads both files.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, PemError> {
        Ok(Self { certificate: read(certificate)?, key: Zeroizing::new(read(key)?) })
    }

    /// Writes both files; the key's may be read by its owner only (mode 0600). Existing files are
    /// replaced.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, certificate: &Path, key: &Path) -> Result<(), PemError> {
        write_private(key, self.key.as_bytes())?;
        fs::write(certificate, &self.certificate).map_err(at(certificate))
    }
}

/// Reads a file of certificates.
///
/// # Errors
/// A file that cannot be read.
pub fn read(path: &Path) -> Result<String, PemError> {
    readfile::text(path, PEM_BYTES_MAX).map_err(at(path))
}

/// The file is made with mode 0600, so that there is no moment at which others could open it. One
/// that exists is removed first, because its mode would stay.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), PemError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(path)(error)),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes)).map_err(at(path))
}

fn at(path: &Path) -> impl Fn(io::Error) -> PemError + '_ {
    move |source| PemError { path: path.to_owned(), source }
}
