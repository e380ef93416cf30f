//! A secret key under a passphrase, as a PEM that other tools open.
//!
//! The form is the EncryptedPrivateKeyInfo of PKCS #8 (RFC 5958) with PBES2 (RFC 8018): scrypt (RFC 7914)
//! makes a key of the passphrase, AES-256-CBC encrypts with it. It is what OpenSSL reads and writes, so that
//! an agency can open its keys without this program (`openssl pkey -in FILE -text`); age has none of that in
//! the tools that are on every machine. Inside is an Ed25519 or X25519 key as RFC 8410 has it.
//!
//! Nothing in this form authenticates what it holds: whoever unwraps a key knows by what he can tell it, its
//! public half or an id that was made of it, and checks that.

use std::io;

use customhouse_ledger::keys::on_wiped_deep_stack;
use pkcs8::{
    AlgorithmIdentifierRef, EncryptedPrivateKeyInfoRef, LineEnding, ObjectIdentifier,
    PrivateKeyInfoRef, SecretDocument,
    der::asn1::OctetStringRef,
    pkcs5::{
        EncryptionScheme,
        pbes2::{Kdf, Parameters},
        scrypt,
    },
};
use zeroize::Zeroizing;

use crate::{passphrase::Passphrase, secret::Secret};

/// scrypt's costs: N = 2^14 and r = 8, which is the 16 MiB of memory that OpenSSL gives it, and p = 5 in place
/// of the memory that it does not give. One of the equal choices of OWASP's *Password Storage*.
const LOG_N: u8 = 14;
const R: u32 = 8;
const P: u32 = 5;
/// What a file may ask for: memory and work of scrypt, and rounds of PBKDF2, which OpenSSL uses by default.
const MEMORY_MAX: u64 = 256 * 1024 * 1024;
const WORK_MAX: u64 = 8 * MEMORY_MAX;
/// Of scrypt: the blocks that are made before the work and held all along, 128 r p; the least N that is of any use
/// against guesses; and p.
const BLOCKS_MAX: u64 = 16 * 1024 * 1024;
const N_MIN: u64 = 1024;
const P_MAX: u16 = 64;
const ROUNDS_MAX: u32 = 10_000_000;
/// KiB of stack that unwrapping takes, so that they can be wiped.
const STACK_KIB: usize = 64;

/// The label of what is wrapped.
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
/// The label of what is not.
const CLEAR: &str = "PRIVATE KEY";

/// What kind of key it is: how tools call it, and how its public half is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// Signs.
    Ed25519,
    /// Agrees on secrets. Any 32 bytes are such a key, also those of a symmetric one, for which PKCS #8 has
    /// no name.
    X25519,
}

impl KeyAlgorithm {
    /// RFC 8410, section 3.
    fn oid(self) -> ObjectIdentifier {
        ObjectIdentifier::new_unwrap(match self {
            Self::Ed25519 => "1.3.101.112",
            Self::X25519 => "1.3.101.110",
        })
    }
}

/// Why a key was not unwrapped. None shows any of it.
#[derive(Debug, thiserror::Error)]
pub enum WrappedKeyError {
    /// Not the form above.
    #[error("not a PEM of a private key, PKCS #8: {0}")]
    Malformed(&'static str),
    /// It asks for more work or memory than any key of ours, or for none.
    #[error(
        "it asks for costs of scrypt or PBKDF2 that are out of all proportion: the file is damaged"
    )]
    Costs,
    /// What came out is no key.
    #[error("the passphrase is not that of this key, or the file is damaged")]
    Passphrase,
    /// It is under a passphrase, and none was given.
    #[error(
        "the key is encrypted: say where its passphrase is (`prompt`, `file:…` or `credential:…`)"
    )]
    Encrypted,
    /// It is under none, and one was given.
    #[error("the key is not encrypted: no passphrase is needed, and none protects it")]
    Clear,
}

impl WrappedKeyError {
    /// A stable code for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "WRAPPED_KEY_MALFORMED",
            Self::Costs => "WRAPPED_KEY_COSTS",
            Self::Passphrase => "PASSPHRASE_WRONG",
            Self::Encrypted => "PASSPHRASE_NEEDED",
            Self::Clear => "PASSPHRASE_NOT_NEEDED",
        }
    }
}

/// The PEM of a key, encrypted where there is a passphrase.
///
/// # Errors
/// Where the system gives no randomness.
pub fn wrap(
    algorithm: KeyAlgorithm,
    key: &Secret,
    passphrase: Option<&Passphrase>,
) -> io::Result<Zeroizing<String>> {
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    getrandom::fill(&mut salt).and_then(|()| getrandom::fill(&mut iv)).map_err(io::Error::other)?;
    let document = key.with(|bytes| {
        // The octet string of RFC 8410, section 7, inside that of PKCS #8.
        let mut octets = Zeroizing::new([0; 34]);
        octets[..2].copy_from_slice(&[0x04, 0x20]);
        octets[2..].copy_from_slice(bytes);
        let octets = OctetStringRef::new(&*octets).expect("34 bytes");
        let algorithm = AlgorithmIdentifierRef { oid: algorithm.oid(), parameters: None };
        let info = PrivateKeyInfoRef::new(algorithm, octets);
        let Some(passphrase) = passphrase else {
            return SecretDocument::encode_msg(&info).map_err(io::Error::other);
        };
        on_wiped_deep_stack(STACK_KIB, || {
            let costs = scrypt::Params::new(LOG_N, R, P).expect("within scrypt's bounds");
            let scheme = Parameters::generate_scrypt_aes256cbc(costs, &salt, iv);
            let scheme = scheme.map_err(io::Error::other)?;
            info.encrypt_with_params(scheme, passphrase.as_bytes()).map_err(io::Error::other)
        })
    })?;
    let label = if passphrase.is_some() { ENCRYPTED } else { CLEAR };
    document.to_pem(label, LineEnding::LF).map_err(io::Error::other)
}

/// Whether a PEM says that what it holds is under a passphrase.
pub fn is_encrypted(pem: &str) -> bool {
    pem.contains(&format!("-----BEGIN {ENCRYPTED}-----"))
}

/// The key of a PEM, with the passphrase that it is under. Text before the PEM is skipped.
///
/// # Errors
/// [`WrappedKeyError`]. Damage may also give another key, see above.
pub fn unwrap(
    algorithm: KeyAlgorithm,
    pem: &str,
    passphrase: Option<&Passphrase>,
) -> Result<Secret, WrappedKeyError> {
    on_wiped_deep_stack(STACK_KIB, || {
        let (label, document) = SecretDocument::from_pem(pem)
            .map_err(|_| WrappedKeyError::Malformed("no text of that form"))?;
        let malformed = WrappedKeyError::Malformed("not the structure that its label says");
        match (label, passphrase) {
            (CLEAR, None) => key_of(algorithm, &document).ok_or(malformed),
            (CLEAR, Some(_)) => Err(WrappedKeyError::Clear),
            (ENCRYPTED, None) => Err(WrappedKeyError::Encrypted),
            (ENCRYPTED, Some(passphrase)) => {
                let info = document.decode_msg::<EncryptedPrivateKeyInfoRef<'_>>();
                let info = info.map_err(|_| malformed)?;
                affordable(&info.encryption_algorithm)?;
                let opened = info.decrypt(passphrase.as_bytes());
                let opened = opened.map_err(|_| WrappedKeyError::Passphrase)?;
                key_of(algorithm, &opened).ok_or(WrappedKeyError::Passphrase)
            }
            _ => Err(WrappedKeyError::Malformed("the PEM of something else")),
        }
    })
}

/// Refuses what would take all memory or for ever.
fn affordable(scheme: &EncryptionScheme) -> Result<(), WrappedKeyError> {
    let EncryptionScheme::Pbes2(scheme) = scheme else {
        return Err(WrappedKeyError::Malformed("encrypted by a scheme of before PBES2"));
    };
    let within = match &scheme.kdf {
        Kdf::Scrypt(costs) => {
            let block = 128 * u64::from(costs.block_size);
            let memory = block.saturating_mul(costs.cost_parameter);
            let work = memory.saturating_mul(costs.parallelization.into());
            let blocks = block.saturating_mul(costs.parallelization.into());
            costs.cost_parameter >= N_MIN
                && (1..=P_MAX).contains(&costs.parallelization)
                && blocks <= BLOCKS_MAX
                && (1..=MEMORY_MAX).contains(&memory)
                && (1..=WORK_MAX).contains(&work)
        }
        Kdf::Pbkdf2(costs) => (1..=ROUNDS_MAX).contains(&costs.iteration_count),
        _ => false,
    };
    if within { Ok(()) } else { Err(WrappedKeyError::Costs) }
}

/// The key in what was unwrapped, if it is one of this algorithm.
fn key_of(algorithm: KeyAlgorithm, document: &SecretDocument) -> Option<Secret> {
    let info: PrivateKeyInfoRef<'_> = document.decode_msg().ok()?;
    let key = info.private_key.as_bytes().strip_prefix(&[0x04, 0x20])?;
    let is_such = info.algorithm.oid == algorithm.oid() && info.algorithm.parameters.is_none();
    is_such.then(|| key.try_into().ok().map(Secret::new))?
}

#[cfg(test)]
mod tests;
