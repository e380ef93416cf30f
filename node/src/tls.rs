//! Mutual TLS: an agency's certificate authority, and who a client is.
//!
//! Each agency has its own authority, and its node trusts that one only. A client's certificate
//! says who it is in its subject: `O` is the agency, `CN` the client's name, which becomes the
//! submitter of its records, and `OU` its role. Nobody without such a certificate gets further
//! than the handshake.

use std::{path::Path, sync::Arc};

use customhouse_client::tls::{ALPN_HTTP2, TlsError, chain_and_key, provider, roots};
use customhouse_files::pem::{self, KeyedCertificate, PemError};
use tokio_rustls::rustls::{
    self,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

mod authority;
mod distinguished_name;

pub use authority::{Authority, AuthorityError};
pub use distinguished_name::{IdentityError, identity_of};

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
    pub fn read(authority: &Path, certificate: &Path, key: &Path) -> Result<Self, PemError> {
        Ok(Self {
            authority: pem::read(authority)?,
            own: KeyedCertificate::read(certificate, key)?,
        })
    }

    /// The configuration of the server: a client without a certificate of this authority is refused
    /// in the handshake.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn server_config(&self) -> Result<rustls::ServerConfig, TlsError> {
        let roots = Arc::new(roots(&self.authority)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
        let verifier = verifier.map_err(|error| TlsError::from_text(&error))?;
        let (chain, key) = chain_and_key(&self.own)?;
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
            .identity(Identity::from_pem(&self.own.certificate, self.own.key.as_bytes()))
            .client_ca_root(Certificate::from_pem(&self.authority))
            .client_auth_optional(false)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

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
