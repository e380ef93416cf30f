//! Mutual TLS: an agency's certificate authority, and who a client is (DESIGN §7).
//!
//! Each agency has its own authority, and its node trusts that one only. A client's certificate
//! says who it is in its subject: `O` is the agency, `CN` the client's name, which becomes the
//! submitter of its records, and `OU` its role. Nobody without such a certificate gets further
//! than the handshake.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::rustls::{
    self, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};
use zeroize::Zeroizing;

use crate::readfile;

mod authority;
mod subject;

pub use authority::{Authority, AuthorityError};
pub use subject::{IdentityError, NAME_BYTES_MAX, identity_of};

/// Bytes of a certificate's or key's file at the most; an authority's may hold a chain.
pub const PEM_BYTES_MAX: usize = 1024 * 1024;
/// HTTP/2, as a handshake names it.
const ALPN_HTTP2: &[u8] = b"h2";

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
pub struct FileError {
    /// Which file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// A certificate, a key or an authority that TLS cannot be spoken with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self(error.to_string())
    }
}

impl KeyedCertificate {
    /// Reads both files.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, FileError> {
        Ok(Self { certificate: read(certificate)?, key: Zeroizing::new(read(key)?) })
    }

    /// Writes both files; the key's may be read by its owner only (mode 0600). Existing files are
    /// replaced.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, certificate: &Path, key: &Path) -> Result<(), FileError> {
        write_private(key, self.key.as_bytes())?;
        fs::write(certificate, &self.certificate).map_err(at(certificate))
    }

    fn to_identity(&self) -> Identity {
        Identity::from_pem(&self.certificate, self.key.as_bytes())
    }

    fn chain_and_key(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let chain = certificates(&self.certificate, "the certificate")?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes());
        Ok((chain, key.map_err(|error| TlsError(format!("the private key: {error}")))?))
    }
}

/// What a client needs to speak to a node.
pub struct ClientTls {
    /// Certificate of the agency's authority, PEM: the only one the node's may come from.
    pub authority: String,
    /// The client's own.
    pub own: KeyedCertificate,
}

impl ClientTls {
    /// Reads the three PEM files.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(authority: &Path, certificate: &Path, key: &Path) -> Result<Self, FileError> {
        Ok(Self { authority: read(authority)?, own: KeyedCertificate::read(certificate, key)? })
    }

    /// The configuration of a connection.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn client_config(&self) -> Result<rustls::ClientConfig, TlsError> {
        let (chain, key) = self.own.chain_and_key()?;
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(&self.authority)?)
            .with_client_auth_cert(chain, key)?;
        config.alpn_protocols.push(ALPN_HTTP2.to_vec());
        Ok(config)
    }

    /// The same for tonic's own channel.
    pub fn config(&self) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.authority))
            .identity(self.own.to_identity())
    }
}

/// What a node needs to serve its agency's clients.
pub struct ServerTls {
    /// Certificate of the agency's authority, PEM: the only one clients' may come from.
    pub authority: String,
    /// The node's own.
    pub own: KeyedCertificate,
}

impl ServerTls {
    /// Reads the three PEM files.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(authority: &Path, certificate: &Path, key: &Path) -> Result<Self, FileError> {
        Ok(Self { authority: read(authority)?, own: KeyedCertificate::read(certificate, key)? })
    }

    /// The configuration of the server: a client without a certificate of this authority is refused
    /// in the handshake.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn server_config(&self) -> Result<rustls::ServerConfig, TlsError> {
        let roots = Arc::new(roots(&self.authority)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
        let verifier = verifier.map_err(|error| TlsError(error.to_string()))?;
        let (chain, key) = self.own.chain_and_key()?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        config.alpn_protocols.push(ALPN_HTTP2.to_vec());
        // A session that is resumed has its client's certificate not looked at again, though it may have
        // expired since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// The same for tonic's own server.
    pub fn config(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(self.own.to_identity())
            .client_ca_root(Certificate::from_pem(&self.authority))
            .client_auth_optional(false)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(authority: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority, "the authority's certificate")? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

fn certificates(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(TlsError(format!("{what}: no certificate in it"))),
        Err(error) => Err(TlsError(format!("{what}: {error}"))),
    }
}

fn read(path: &Path) -> Result<String, FileError> {
    readfile::text(path, PEM_BYTES_MAX).map_err(at(path))
}

/// The file is made with mode 0600, so that there is no moment at which others could open it. One
/// that exists is removed first, because its mode would stay.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(path)(error)),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes)).map_err(at(path))
}

fn at(path: &Path) -> impl Fn(io::Error) -> FileError + '_ {
    move |source| FileError { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_private_key_is_readable_by_its_owner_only() {
        let directory = tempfile::tempdir().expect("a directory");
        let (certificate, key) = (directory.path().join("a.pem"), directory.path().join("a.key"));
        // A file with a looser mode stands where the key is to go.
        fs::write(&key, "old").expect("written");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("set");
        let authority = Authority::new("NL-DOUANE".parse().expect("a code")).expect("made");
        let server = authority.server(&[]).expect("made");
        server.write(&certificate, &key).expect("written");
        let mode = fs::metadata(&key).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let read = KeyedCertificate::read(&certificate, &key).expect("there");
        assert_eq!((read.certificate, read.key), (server.certificate, server.key));
    }
}
