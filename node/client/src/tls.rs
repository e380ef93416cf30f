//! TLS as clients and nodes speak it: both show a certificate of the agency's authority.

use std::{path::Path, sync::Arc};

use customhouse_files::pem::{self, KeyedCertificate, PemError};
use tokio_rustls::rustls::{
    self, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// HTTP/2, as a handshake names it.
pub const ALPN_HTTP2: &[u8] = b"h2";

/// A certificate, a key or an authority that TLS cannot be spoken with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

impl TlsError {
    /// An error from what a library says.
    pub fn from_text(error: &dyn std::error::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self(error.to_string())
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
    pub fn read(authority: &Path, certificate: &Path, key: &Path) -> Result<Self, PemError> {
        Ok(Self {
            authority: pem::read(authority)?,
            own: KeyedCertificate::read(certificate, key)?,
        })
    }

    /// The configuration of a connection.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn client_config(&self) -> Result<rustls::ClientConfig, TlsError> {
        let (chain, key) = chain_and_key(&self.own)?;
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
            .identity(Identity::from_pem(&self.own.certificate, self.own.key.as_bytes()))
    }
}

/// A certificate with those above it, and its key.
///
/// # Errors
/// [`TlsError`].
pub fn chain_and_key(
    own: &KeyedCertificate,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = certificates(&own.certificate, "the certificate")?;
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes());
    Ok((chain, key.map_err(|error| TlsError(format!("the private key: {error}")))?))
}

/// The cryptography that TLS uses.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The authority whose certificates are taken.
///
/// # Errors
/// [`TlsError`].
pub fn roots(authority: &str) -> Result<RootCertStore, TlsError> {
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
