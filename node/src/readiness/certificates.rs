//! Whether clients will accept the node's certificate: what a handshake would say, said before.

use std::{path::Path, time::SystemTime};

use customhouse_files::{pem::PEM_BYTES_MAX, readfile};
use rustls::{
    CertificateError, Error, InconsistentKeys, RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use x509_parser::{extensions::GeneralName, parse_x509_certificate, time::ASN1Time};
use zeroize::Zeroizing;

use super::{
    Findings,
    Severity::{Stops, Worth},
};
use crate::config::TlsPaths;

/// A certificate that ends within this many days is worth renewing.
const DAYS_WORTH: i64 = 30;
const DAY_SECONDS: i64 = 24 * 60 * 60;

const CA: &str = "api.tls.ca";
const CERT: &str = "api.tls.cert";
const KEY: &str = "api.tls.key";

/// Looks at the files of an endpoint, as of `now`.
pub(super) fn check(tls: &TlsPaths, now: SystemTime, findings: &mut Findings) {
    let authorities = certificates(CA, &tls.ca, findings);
    let chain = certificates(CERT, &tls.cert, findings);
    let key = private_key(&tls.key, findings);
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    for (field, path, list) in [(CA, &tls.ca, &authorities), (CERT, &tls.cert, &chain)] {
        list.iter().for_each(|der| check_period(field, path, der, seconds, findings));
    }
    if chain.is_empty() {
        return;
    }
    check_key(tls, &chain, key, findings);
    check_hosts(&tls.cert, &chain[0], findings);
    if !authorities.is_empty() {
        let now = UnixTime::since_unix_epoch(now);
        check_chain(tls, &chain, &authorities, now, findings);
    }
}

fn certificates(field: &str, path: &Path, findings: &mut Findings) -> Vec<CertificateDer<'static>> {
    let pem = match readfile::text(path, PEM_BYTES_MAX) {
        Ok(pem) => pem,
        Err(error) => {
            findings.add(Stops, field, Some(path), error.to_string());
            return Vec::new();
        }
    };
    match CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>() {
        Ok(found) if found.is_empty() => {
            let reason = "has no certificate: PEM with BEGIN CERTIFICATE is expected";
            findings.add(Stops, field, Some(path), reason);
            found
        }
        Ok(found) => found,
        Err(error) => {
            findings.add(Stops, field, Some(path), format!("is no PEM: {error}"));
            Vec::new()
        }
    }
}

fn private_key(path: &Path, findings: &mut Findings) -> Option<PrivateKeyDer<'static>> {
    let pem = match readfile::text(path, PEM_BYTES_MAX) {
        Ok(pem) => Zeroizing::new(pem),
        Err(error) => {
            findings.add(Stops, KEY, Some(path), error.to_string());
            return None;
        }
    };
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes());
    if key.is_err() {
        // Without the reader's words, which may quote the file.
        let reason =
            "has no private key: PEM with BEGIN PRIVATE KEY is expected, without a password";
        findings.add(Stops, KEY, Some(path), reason);
    }
    key.ok()
}

/// It must have begun and not have ended; that it ends soon is reported.
fn check_period(field: &str, path: &Path, der: &[u8], now: i64, findings: &mut Findings) {
    let Ok((_, certificate)) = parse_x509_certificate(der) else {
        findings.add(Stops, field, Some(path), "is not an X.509 certificate");
        return;
    };
    let period = certificate.validity();
    let shown = |time: ASN1Time| time.to_rfc2822().unwrap_or_else(|_| time.to_string());
    let (begin, end) = (period.not_before, period.not_after);
    if now < begin.timestamp() {
        let reason =
            format!("is not valid before {}: is this machine's clock right?", shown(begin));
        findings.add(Stops, field, Some(path), reason);
    } else if now > end.timestamp() {
        let reason = format!(
            "expired on {}: have the agency's authority make a new one (`customhouse keys server`)",
            shown(end)
        );
        findings.add(Stops, field, Some(path), reason);
    } else if now > end.timestamp() - DAYS_WORTH * DAY_SECONDS {
        let reason = format!("expires on {}: renew it before", shown(end));
        findings.add(Worth, field, Some(path), reason);
    }
}

/// A client looks for the host that it dialled among those of the certificate, whatever its subject says.
fn check_hosts(path: &Path, der: &[u8], findings: &mut Findings) {
    // What is not a certificate was reported already.
    let Ok((_, certificate)) = parse_x509_certificate(der) else { return };
    let names = certificate.subject_alternative_name().ok().flatten();
    let is_host = |name: &GeneralName<'_>| {
        matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_))
    };
    if !names.is_some_and(|names| names.value.general_names.iter().any(is_host)) {
        let reason = "names no host (subjectAltName), and clients look for the one that they dialled: \
                      have the authority make a new one (`customhouse keys server --host HOST`)";
        findings.add(Stops, CERT, Some(path), reason);
    }
}

fn check_key(
    tls: &TlsPaths,
    chain: &[CertificateDer<'static>],
    key: Option<PrivateKeyDer<'static>>,
    findings: &mut Findings,
) {
    let Some(key) = key else { return };
    match CertifiedKey::from_der(chain.to_vec(), key, &ring::default_provider()) {
        Ok(_) => {}
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            let reason = format!(
                "is not the key of the certificate {}: put the two together that were made together",
                tls.cert.display()
            );
            findings.add(Stops, KEY, Some(&tls.key), reason);
        }
        Err(error) => {
            findings.add(Stops, KEY, Some(&tls.key), format!("cannot be used: {error}"));
        }
    }
}

/// Checks as a client does that trusts the authorities, which also sign the clients' certificates.
fn check_chain(
    tls: &TlsPaths,
    chain: &[CertificateDer<'static>],
    authorities: &[CertificateDer<'static>],
    now: UnixTime,
    findings: &mut Findings,
) {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        if let Err(error) = roots.add(authority.clone()) {
            findings.add(Stops, CA, Some(&tls.ca), format!("is no authority's: {error}"));
        }
    }
    let (Some((own, between)), false) = (chain.split_first(), roots.is_empty()) else { return };
    let algorithms = ring::default_provider().signature_verification_algorithms.all;
    let verified = ParsedCertificate::try_from(own).and_then(|own| {
        verify_server_cert_signed_by_trust_anchor(&own, &roots, between, now, algorithms)
    });
    let reason = match verified {
        Ok(()) => return,
        // Reported with the dates.
        Err(Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )) => return,
        Err(Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => format!(
            "is not signed by an authority of {}, which is the one that clients trust; where another lies \
             between, its certificate belongs into this file, after the node's",
            tls.ca.display()
        ),
        Err(error) => format!("will be refused by clients: {error}"),
    };
    findings.add(Stops, CERT, Some(&tls.cert), reason);
}
