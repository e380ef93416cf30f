//! Envelopes: bytes that one agency alone can open, sealed to its registered encryption key.
//!
//! It is HPKE (RFC 9180) in its base mode, with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and
//! ChaCha20-Poly1305. An envelope is the encapsulated key (32) ‖ ciphertext ‖ tag (16). What it is for is a typed
//! [`EnvelopeContext`], all of which is authenticated: there is no other way to seal one, so that no caller forgets
//! a part of it. Two envelopes of one context are not told apart: that an older one was exchanged for a newer
//! one is for whoever knows which is the newest. Nothing in it says who
//! sealed it: what must be known of that is signed inside or outside. Whoever gets hold of the
//! recipient's secret key later opens the envelopes of before, which is why agencies change that key.

use std::{convert::Infallible, fmt, io, str::FromStr};

use customhouse_files::secret::Secret;
use customhouse_ledger::{hash::LengthError, keys::on_wiped_stack};
use hpke::{
    Deserializable as _, HpkeError, Kem as _, OpModeR, OpModeS, Serializable as _,
    aead::ChaCha20Poly1305,
    kdf::HkdfSha256,
    kem::X25519HkdfSha256,
    rand_core::{TryCryptoRng, TryRng},
    single_shot_open, single_shot_seal_with_rng,
};
use zeroize::Zeroizing;

mod context;

pub use context::{EnvelopeContext, EnvelopeKind};

type Kem = X25519HkdfSha256;
type KemSecret = <Kem as hpke::Kem>::PrivateKey;
type KemPublic = <Kem as hpke::Kem>::PublicKey;

/// Bytes that an envelope has beside its content.
pub const ENVELOPE_OVERHEAD: usize = 32 + 16;

/// Why an envelope was not sealed or opened, or a key not taken.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Not 32 bytes.
    #[error("an encryption key: {0}")]
    Length(#[from] LengthError),
    /// Not hexadecimal.
    #[error("an encryption key is 64 hexadecimal digits")]
    Hex,
    /// Another spelling of a key: each has one.
    #[error("an encryption key that is not in its shortest form")]
    NotCanonical,
    /// Whatever is sealed to it, anybody can open.
    #[error("an encryption key of low order: anybody could open what is sealed to it")]
    LowOrder,
    /// It does not open.
    #[error(
        "the envelope does not open: it is damaged, or was sealed to another key or for another chain, agency, \
         record, agreement or epoch; ask who sent it for another"
    )]
    NotAuthentic,
    /// The system has no randomness to give.
    #[error("the system gives no randomness for an envelope: {0}")]
    Randomness(io::Error),
}

impl EnvelopeError {
    /// A stable code for clients and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Length(_) => "ENCRYPTION_KEY_LENGTH",
            Self::Hex => "ENCRYPTION_KEY_HEX",
            Self::NotCanonical => "ENCRYPTION_KEY_NOT_CANONICAL",
            Self::LowOrder => "ENCRYPTION_KEY_LOW_ORDER",
            Self::NotAuthentic => "ENVELOPE_NOT_AUTHENTIC",
            Self::Randomness(_) => "ENVELOPE_RANDOMNESS",
        }
    }
}

/// The X25519 key that envelopes are sealed to: 32 bytes, in the one spelling that it has, and not of low
/// order. Shown and read as 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecipientKey([u8; 32]);

impl RecipientKey {
    /// Reads 32 bytes.
    ///
    /// # Errors
    /// Another length, another spelling, or low order.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let array = bytes.try_into();
        let array: [u8; 32] =
            array.map_err(|_| LengthError { expected: 32, found: bytes.len() })?;
        if !is_below_p(&array) {
            return Err(EnvelopeError::NotCanonical);
        }
        let key = Self(array);
        // A key of low order makes nothing but zeros with any other (RFC 9180, section 7.1.4).
        let tried = Kem::encap_with_rng(&key.to_kem(), None, &mut Drawn::of([1; 32]));
        tried.map(|_| key).map_err(|_| EnvelopeError::LowOrder)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn to_kem(self) -> KemPublic {
        KemPublic::from_bytes(&self.0).expect("any 32 bytes")
    }
}

/// Whether these bytes, little-endian, are below 2^255 - 19.
fn is_below_p(bytes: &[u8; 32]) -> bool {
    let (low, high) = (bytes[0], bytes[31]);
    high < 0x7f || (high == 0x7f && (low < 0xed || bytes[1..31].iter().any(|byte| *byte != 0xff)))
}

impl fmt::Display for RecipientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for RecipientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", hex::encode(&self.0[..4]))
    }
}

impl FromStr for RecipientKey {
    type Err = EnvelopeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_slice(&hex::decode(text).map_err(|_| EnvelopeError::Hex)?)
    }
}

/// The secret half of a [`RecipientKey`].
#[derive(Clone, Debug)]
pub struct RecipientSecret(Secret);

impl RecipientSecret {
    /// Any 32 secret bytes are such a key.
    pub fn new(secret: Secret) -> Self {
        Self(secret)
    }

    /// The bytes, as they were drawn.
    pub fn as_secret(&self) -> &Secret {
        &self.0
    }

    /// The other half. It is never of low order: a clamped secret is no multiple of the group's.
    pub fn public(&self) -> RecipientKey {
        let public = self.with_kem(|secret| Kem::sk_to_pk(secret).to_bytes());
        RecipientKey(public.into())
    }

    fn with_kem<R>(&self, work: impl FnOnce(&KemSecret) -> R) -> R {
        self.0.with(|bytes| work(&KemSecret::from_bytes(bytes).expect("any 32 bytes")))
    }
}

/// Seals bytes to a recipient's key, for what the context says: it is authenticated with them, and they open for
/// the same only.
///
/// # Errors
/// No randomness.
pub fn seal(
    recipient: &RecipientKey,
    context: &EnvelopeContext,
    bytes: &[u8],
) -> Result<Vec<u8>, EnvelopeError> {
    on_wiped_stack(|| {
        let mut drawn = Zeroizing::new([0; 32]);
        let filled = getrandom::fill(&mut *drawn).map_err(io::Error::other);
        filled.map_err(EnvelopeError::Randomness)?;
        seal_with(recipient, &context.info(), b"", bytes, *drawn)
    })
}

/// Seals with randomness that was drawn, which is RFC 9180's `ikmE`.
fn seal_with(
    recipient: &RecipientKey,
    info: &[u8],
    bound: &[u8],
    bytes: &[u8],
    drawn: [u8; 32],
) -> Result<Vec<u8>, EnvelopeError> {
    let (encapsulated, ciphertext) =
        single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, Kem>(
            &OpModeS::Base,
            &recipient.to_kem(),
            info,
            bytes,
            bound,
            &mut Drawn::of(drawn),
        )
        .map_err(|error| match error {
            HpkeError::EncapError => EnvelopeError::LowOrder,
            error => EnvelopeError::Randomness(io::Error::other(error.to_string())),
        })?;
    Ok([&*encapsulated.to_bytes(), &*ciphertext].concat())
}

/// Opens an envelope that was sealed for this context.
///
/// # Errors
/// [`EnvelopeError::NotAuthentic`].
pub fn open(
    secret: &RecipientSecret,
    context: &EnvelopeContext,
    envelope: &[u8],
) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
    open_with(secret, &context.info(), b"", envelope)
}

fn open_with(
    secret: &RecipientSecret,
    info: &[u8],
    bound: &[u8],
    envelope: &[u8],
) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
    let (encapsulated, ciphertext) =
        envelope.split_at_checked(32).ok_or(EnvelopeError::NotAuthentic)?;
    let encapsulated = <Kem as hpke::Kem>::EncappedKey::from_bytes(encapsulated);
    let encapsulated = encapsulated.map_err(|_| EnvelopeError::NotAuthentic)?;
    let opened = secret.with_kem(|secret| {
        single_shot_open::<ChaCha20Poly1305, HkdfSha256, Kem>(
            &OpModeR::Base,
            secret,
            &encapsulated,
            info,
            ciphertext,
            bound,
        )
    });
    opened.map(Zeroizing::new).map_err(|_| EnvelopeError::NotAuthentic)
}

/// Randomness that was drawn before, where failing can be told. HPKE takes 32 bytes for an ephemeral key, once.
struct Drawn(Option<Zeroizing<[u8; 32]>>);

impl Drawn {
    fn of(bytes: [u8; 32]) -> Self {
        Self(Some(Zeroizing::new(bytes)))
    }
}

impl TryRng for Drawn {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unreachable!("HPKE draws bytes")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unreachable!("HPKE draws bytes")
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        let bytes = self.0.take().expect("HPKE draws once");
        to.copy_from_slice(&*bytes);
        Ok(())
    }
}

impl TryCryptoRng for Drawn {}

#[cfg(test)]
mod tests;
