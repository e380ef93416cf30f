//! From a client certificate's subject to who the client is.

use customhouse_ledger::{
    agency::AgencyCode,
    limits::SUBMITTER_BYTES_MAX,
    text::{self, TextError},
};
use sha2::{Digest as _, Sha256};
use x509_parser::{
    certificate::X509Certificate, oid_registry::Oid, parse_x509_certificate, x509::X509Name,
};

use crate::identity::{ClientIdentity, Role, UnknownRole};

/// Why a certificate names no client of this agency.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The connection has no client certificate.
    #[error("no client certificate")]
    Missing,
    /// Not DER, or bytes after it.
    #[error("the client certificate is not an X.509 certificate")]
    Malformed,
    /// The subject lacks an attribute.
    #[error("the client certificate's subject has no {0}")]
    Absent(&'static str),
    /// The subject has an attribute twice, so that it could be read in two ways.
    #[error("the client certificate's subject has more than one {0}")]
    Repeated(&'static str),
    /// The attribute is not text.
    #[error("the {0} of the client certificate's subject is not UTF-8 text")]
    NotText(&'static str),
    /// `O` is another agency, or none.
    #[error("the client certificate's O is `{found}`, this node serves clients of {expected}")]
    Agency {
        /// This node's.
        expected: AgencyCode,
        /// The certificate's.
        found: String,
    },
    /// `OU` is not a role.
    #[error("the client certificate's OU: {0}")]
    Role(#[from] UnknownRole),
    /// `CN` is empty or too long.
    #[error("a client's name (CN) has 1 to {SUBMITTER_BYTES_MAX} bytes, {0} found")]
    NameLength(usize),
    /// `CN` is not a name that the chain takes.
    #[error("a client's name (CN): {0}")]
    NameCharacters(TextError),
}

impl IdentityError {
    /// A stable code for clients and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "CERTIFICATE_MISSING",
            Self::Malformed => "CERTIFICATE_MALFORMED",
            Self::Absent(_) | Self::Repeated(_) | Self::NotText(_) => "CERTIFICATE_SUBJECT",
            Self::Agency { .. } => "CERTIFICATE_AGENCY",
            Self::Role(_) => "CERTIFICATE_ROLE",
            Self::NameLength(_) | Self::NameCharacters(_) => "CERTIFICATE_NAME",
        }
    }
}

/// Who a certificate (DER) names, if it is a client of this agency. The handshake has checked that
/// the agency's authority signed it.
///
/// # Errors
/// The first rule that is broken.
pub fn identity_of(der: &[u8], agency: AgencyCode) -> Result<ClientIdentity, IdentityError> {
    let (rest, certificate) = parse_x509_certificate(der).map_err(|_| IdentityError::Malformed)?;
    if !rest.is_empty() {
        return Err(IdentityError::Malformed);
    }
    let mut identity = of_certificate(&certificate, agency)?;
    identity.certificate = Sha256::digest(der).into();
    Ok(identity)
}

fn of_certificate(
    certificate: &X509Certificate<'_>,
    agency: AgencyCode,
) -> Result<ClientIdentity, IdentityError> {
    use x509_parser::oid_registry::{
        OID_X509_COMMON_NAME, OID_X509_ORGANIZATION_NAME, OID_X509_ORGANIZATIONAL_UNIT,
    };
    let subject = certificate.subject();
    let organization = only(subject, &OID_X509_ORGANIZATION_NAME, "O")?;
    if organization != agency.as_str() {
        let found = organization.chars().take(SUBMITTER_BYTES_MAX).collect();
        return Err(IdentityError::Agency { expected: agency, found });
    }
    let role = role_of(subject, &OID_X509_ORGANIZATIONAL_UNIT)?;
    let name = only(subject, &OID_X509_COMMON_NAME, "CN")?;
    check_name(name)?;
    Ok(ClientIdentity { agency, name: name.to_owned(), role, certificate: [0; 32] })
}

/// The role among the organisational units. An authority may put units of its own beside it, such as a
/// department: exactly one of them is a role.
fn role_of(subject: &X509Name<'_>, oid: &Oid<'static>) -> Result<Role, IdentityError> {
    let units = subject.iter_attributes().filter(|attribute| attribute.attr_type() == oid);
    let texts: Vec<&str> = units
        .map(|unit| unit.as_str().map_err(|_| IdentityError::NotText("OU")))
        .collect::<Result<_, _>>()?;
    let mut roles = texts.iter().filter_map(|text| text.parse::<Role>().ok());
    match (roles.next(), roles.next()) {
        (Some(role), None) => Ok(role),
        (Some(_), Some(_)) => Err(IdentityError::Repeated("OU that is a role")),
        (None, _) if texts.is_empty() => Err(IdentityError::Absent("OU")),
        (None, _) => Err(IdentityError::Role(UnknownRole(texts.join("`, `")))),
    }
}

/// The one attribute of a kind.
fn only<'a>(
    subject: &'a X509Name<'_>,
    oid: &Oid<'static>,
    label: &'static str,
) -> Result<&'a str, IdentityError> {
    let mut found = subject.iter_attributes().filter(|attribute| attribute.attr_type() == oid);
    let first = found.next().ok_or(IdentityError::Absent(label))?;
    if found.next().is_some() {
        return Err(IdentityError::Repeated(label));
    }
    first.as_str().map_err(|_| IdentityError::NotText(label))
}

/// Checks that a client may have this name.
pub(super) fn check_name(name: &str) -> Result<(), IdentityError> {
    if !(1..=SUBMITTER_BYTES_MAX).contains(&name.len()) {
        return Err(IdentityError::NameLength(name.len()));
    }
    text::check_name(name).map_err(IdentityError::NameCharacters)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue};
    use x509_parser::pem::parse_x509_pem;

    use super::*;
    use crate::tls::Authority;

    /// `CN` and `OU` under another name to rcgen, which keeps one attribute a type.
    const SECOND_CN: [u64; 4] = [2, 5, 4, 3];
    const SECOND_OU: [u64; 4] = [2, 5, 4, 11];

    fn agency() -> AgencyCode {
        "NL-DOUANE".parse().expect("a code")
    }

    fn identity(subject: &[(DnType, DnValue)]) -> Result<ClientIdentity, IdentityError> {
        let mut name = DistinguishedName::new();
        subject.iter().for_each(|(kind, value)| name.push(kind.clone(), value.clone()));
        let mut params = CertificateParams::default();
        params.distinguished_name = name;
        let authority = Authority::new(agency()).expect("made");
        let signed = authority.sign_verbatim(&params).expect("signed");
        identity_of(&der(&signed.certificate), agency())
    }

    fn der(pem: &str) -> Vec<u8> {
        parse_x509_pem(pem.as_bytes()).expect("PEM").1.contents
    }

    fn o(text: &str) -> (DnType, DnValue) {
        (DnType::OrganizationName, text.into())
    }

    fn ou(text: &str) -> (DnType, DnValue) {
        (DnType::OrganizationalUnitName, text.into())
    }

    fn cn(text: &str) -> (DnType, DnValue) {
        (DnType::CommonName, text.into())
    }

    #[test]
    fn a_certificate_names_its_client() {
        let authority = Authority::new(agency()).expect("made");
        for role in Role::ALL {
            let made = authority.client("Broker & Söhne", role).expect("made");
            let found = identity_of(&der(&made.certificate), agency());
            let name = "Broker & Söhne".to_owned();
            assert_eq!(
                found,
                Ok(ClientIdentity { agency: agency(), name, role, certificate: [0; 32] })
            );
        }
    }

    #[test]
    fn a_restored_authority_signs_as_before() {
        let authority = Authority::new(agency()).expect("made");
        let restored = Authority::restore(agency(), &authority.keyed()).expect("its own");
        let made = restored.client("broker", Role::Officer).expect("made");
        let (client, issuer) = (der(&made.certificate), der(authority.certificate()));
        let (_, client) = parse_x509_certificate(&client).expect("DER");
        let (_, issuer) = parse_x509_certificate(&issuer).expect("DER");
        assert_eq!(client.issuer(), issuer.subject());
    }

    #[test]
    fn hostile_subjects_have_no_identity() {
        let good = [o("NL-DOUANE"), ou("officer"), cn("broker")];
        assert!(identity(&good).is_ok());
        let twice = (DnType::CustomDnType(SECOND_CN.to_vec()), "operator".into());
        let binary = DnValue::BmpString("broker".try_into().expect("BMP"));
        let other = |found: &str| IdentityError::Agency { expected: agency(), found: found.into() };
        let role = |text: &str| IdentityError::Role(UnknownRole(text.into()));
        let long = "n".repeat(65);
        let table = [
            (vec![ou("officer"), cn("broker")], IdentityError::Absent("O")),
            (vec![o("NL-DOUANE"), cn("broker")], IdentityError::Absent("OU")),
            (vec![o("NL-DOUANE"), ou("officer")], IdentityError::Absent("CN")),
            (vec![o("KR-KCS"), ou("officer"), cn("broker")], other("KR-KCS")),
            (vec![o("NL-DOUANE\0"), ou("officer"), cn("broker")], other("NL-DOUANE\0")),
            (vec![o("nl-douane"), ou("officer"), cn("broker")], other("nl-douane")),
            (vec![o("NL-DOUANE"), ou("root"), cn("broker")], role("root")),
            (vec![o("NL-DOUANE"), ou("Operator"), cn("broker")], role("Operator")),
            (vec![o("NL-DOUANE"), ou(""), cn("broker")], role("")),
            ([&good[..], &[twice]].concat(), IdentityError::Repeated("CN")),
            (vec![o("NL-DOUANE"), ou("officer"), cn("")], IdentityError::NameLength(0)),
            (vec![o("NL-DOUANE"), ou("officer"), cn(&long)], IdentityError::NameLength(65)),
            (
                vec![o("NL-DOUANE"), ou("officer"), cn("a\nb")],
                IdentityError::NameCharacters(TextError::Character('\n')),
            ),
            (
                vec![o("NL-DOUANE"), ou("officer"), cn(" a")],
                IdentityError::NameCharacters(TextError::Space),
            ),
            (
                vec![o("NL-DOUANE"), ou("officer"), (DnType::CommonName, binary)],
                IdentityError::NotText("CN"),
            ),
        ];
        for (subject, expected) in table {
            assert_eq!(identity(&subject), Err(expected), "{subject:?}");
        }
    }

    #[test]
    fn a_role_stands_among_other_units_and_alone_among_roles() {
        let units = |first: &str, second: &str| {
            let second = (DnType::CustomDnType(SECOND_OU.to_vec()), second.into());
            identity(&[o("NL-DOUANE"), ou(first), second, cn("broker")]).map(|found| found.role)
        };
        assert_eq!(units("Rotterdam", "officer"), Ok(Role::Officer));
        assert_eq!(units("auditor", "Rotterdam"), Ok(Role::Auditor));
        let repeated = IdentityError::Repeated("OU that is a role");
        assert_eq!(units("officer", "operator"), Err(repeated.clone()));
        assert_eq!(units("officer", "officer"), Err(repeated));
        let none = units("Rotterdam", "Import").expect_err("no role").to_string();
        assert!(none.contains("`Rotterdam`, `Import` is not a role"), "{none}");
    }

    #[test]
    fn damaged_bytes_are_refused_and_never_panic() {
        let authority = Authority::new(agency()).expect("made");
        let whole = der(&authority.client("broker", Role::Officer).expect("made").certificate);
        for length in 0..whole.len() {
            assert_eq!(identity_of(&whole[..length], agency()), Err(IdentityError::Malformed));
        }
        let trailing = [&whole[..], &[0]].concat();
        assert_eq!(identity_of(&trailing, agency()), Err(IdentityError::Malformed));
        for index in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[index] ^= 0x01;
            // Whatever it says, it says it without a panic; the handshake checks the signature.
            let _ = identity_of(&flipped, agency());
        }
    }

    #[test]
    fn no_certificate_is_made_for_a_name_that_would_be_refused() {
        let authority = Authority::new(agency()).expect("made");
        assert!(authority.client("", Role::Officer).is_err());
        assert!(authority.client("a\tb", Role::Officer).is_err());
    }
}
