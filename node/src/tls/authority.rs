//! An agency's certificate authority, for a network that has no other: it signs the node's
//! certificate and those of the agency's clients.

use std::time::{Duration, SystemTime, SystemTimeError};

use customhouse_files::pem::KeyedCertificate;
use customhouse_ledger::agency::AgencyCode;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use tokio_rustls::rustls::pki_types::ServerName;
use x509_parser::pem::parse_x509_pem;
use zeroize::Zeroizing;

use super::distinguished_name::{self, IdentityError};
use crate::identity::Role;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const AUTHORITY_DAYS: u32 = 10 * 365;
const CERTIFICATE_DAYS: u32 = 2 * 365;
/// Names under which every server certificate holds, so that a network runs on one machine.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The key, a name or the signing.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The client's name.
    #[error("certificate: {0}")]
    Identity(#[from] IdentityError),
    /// Not what a client could dial.
    #[error(
        "certificate: `{0}` is no host: a name such as node.douane.example, or an address such as 10.1.2.3 \
         or fd00::17, without a port, is expected"
    )]
    Host(String),
    /// Certificate and key of something else.
    #[error(
        "certificate: what is given is not the authority of {0} with its key, as `customhouse keys \
         authority` makes it: nobody would take what it signs"
    )]
    NotItsOwn(AgencyCode),
    /// The machine's clock is before 1970.
    #[error("certificate: {0}")]
    Clock(#[from] SystemTimeError),
}

/// An agency's certificate authority.
pub struct Authority {
    agency: AgencyCode,
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes an authority with a new key.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn new(agency: AgencyCode) -> Result<Self, AuthorityError> {
        let key = new_key()?;
        let mut params = authority_params(agency);
        set_validity(&mut params, AUTHORITY_DAYS)?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { agency, certificate, issuer: Issuer::new(params, key) })
    }

    /// Restores an authority that [`Authority::new`] made, from its PEM.
    ///
    /// # Errors
    /// A key that is not one, and a certificate that is another agency's or another key's.
    pub fn restore(agency: AgencyCode, own: &KeyedCertificate) -> Result<Self, AuthorityError> {
        let (params, key) = (authority_params(agency), KeyPair::from_pem(&own.key)?);
        let expected = name_and_key(&params.self_signed(&key)?.pem());
        if expected.is_none() || name_and_key(&own.certificate) != expected {
            return Err(AuthorityError::NotItsOwn(agency));
        }
        let issuer = Issuer::new(params, key);
        Ok(Self { agency, certificate: own.certificate.clone(), issuer })
    }

    /// The authority's certificate, PEM: what nodes and clients trust.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Certificate and key, to be kept.
    pub fn keyed(&self) -> KeyedCertificate {
        let key = Zeroizing::new(self.issuer.key().serialize_pem());
        KeyedCertificate { certificate: self.certificate.clone(), key }
    }

    /// Makes the node's certificate: for the local machine, and for the host names or addresses
    /// given, each by itself or with commas between.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn server(&self, hosts: &[String]) -> Result<KeyedCertificate, AuthorityError> {
        let mut names: Vec<String> = LOCAL_NAMES.map(str::to_owned).to_vec();
        for host in hosts.iter().flat_map(|hosts| hosts.split(',')) {
            let host = host_of(host)?;
            if !names.contains(&host) {
                names.push(host);
            }
        }
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = distinguished_name(self.agency, "node", None);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// Makes a client's certificate.
    ///
    /// # Errors
    /// A name that no client may have; otherwise [`AuthorityError`].
    pub fn client(&self, name: &str, role: Role) -> Result<KeyedCertificate, AuthorityError> {
        distinguished_name::check_name(name)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(self.agency, name, Some(role));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> Result<KeyedCertificate, AuthorityError> {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, CERTIFICATE_DAYS)?;
        self.sign_verbatim(&params)
    }

    /// Signs whatever the parameters say. Tests make hostile certificates with it.
    pub(super) fn sign_verbatim(
        &self,
        params: &CertificateParams,
    ) -> Result<KeyedCertificate, AuthorityError> {
        let key = new_key()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(KeyedCertificate { certificate, key: Zeroizing::new(key.serialize_pem()) })
    }
}

/// A host as a client dials it: a name or an address, which may stand in brackets.
fn host_of(text: &str) -> Result<String, AuthorityError> {
    let host = text.trim().trim_start_matches('[').trim_end_matches(']').to_owned();
    match ServerName::try_from(host.clone()) {
        Ok(_) => Ok(host),
        Err(_) => Err(AuthorityError::Host(text.to_owned())),
    }
}

/// Whose a certificate is, and with which key, as it has both encoded.
fn name_and_key(pem: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    Some((certificate.subject().as_raw().to_vec(), certificate.public_key().raw.to_vec()))
}

fn new_key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
}

/// What every authority of this agency says of itself, whatever its key: so an issuer is restored
/// from the key alone.
fn authority_params(agency: AgencyCode) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(agency, "Customhouse authority", None);
    // It signs end certificates only: no authority below it.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn distinguished_name(agency: AgencyCode, name: &str, role: Option<Role>) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, agency.as_str());
    if let Some(role) = role {
        subject.push(DnType::OrganizationalUnitName, role.as_str());
    }
    subject.push(DnType::CommonName, name);
    subject
}

/// Makes it valid from an hour ago, for clocks that differ, to the given number of days from now.
fn set_validity(params: &mut CertificateParams, days: u32) -> Result<(), SystemTimeError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(Duration::from_secs(60 * 60));
    params.not_after = epoch + now + DAY * days;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agency(code: &str) -> AgencyCode {
        code.parse().expect("a code")
    }

    #[test]
    fn hosts_are_taken_as_people_write_them_and_what_is_none_is_refused() {
        let authority = Authority::new(agency("NL-DOUANE")).expect("made");
        for hosts in ["node.douane.example", " a.example, [fd00::17] ,10.1.2.3", "::1"] {
            authority.server(&[hosts.to_owned()]).expect(hosts);
        }
        for host in ["node.example:7401", "https://node.example", "10.1.2.3/8", "a b", "", "a,,b"] {
            let refused = authority.server(&[host.to_owned()]).err().expect(host).to_string();
            assert!(refused.contains("is no host"), "{refused}");
        }
    }

    #[test]
    fn an_authority_is_restored_for_its_own_agency_and_with_its_own_key_only() {
        let (one, other) = (Authority::new(agency("NL-DOUANE")), Authority::new(agency("BE-AADA")));
        let (one, other) = (one.expect("made").keyed(), other.expect("made").keyed());
        assert!(Authority::restore(agency("NL-DOUANE"), &one).is_ok());
        let mixed = KeyedCertificate { certificate: one.certificate.clone(), key: other.key };
        for (code, keyed) in [("BE-AADA", &one), ("NL-DOUANE", &mixed)] {
            let refused = Authority::restore(agency(code), keyed).err().expect(code).to_string();
            assert!(refused.contains(&format!("not the authority of {code}")), "{refused}");
        }
    }
}
