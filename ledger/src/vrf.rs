//! A verifiable random function: ECVRF-EDWARDS25519-SHA512-TAI of RFC 9381 (suite `0x03`), with keys
//! validated (docs/FORMATS.md, *Verifiable random function*).
//!
//! Whoever has the secret key turns a text, *alpha*, into 64 bytes, *beta*, that nobody else can tell from
//! random ones; and can prove of any alpha, to whoever has the public key, that its beta is the only one
//! there is. The chain indexes sealed records by such bytes ([`crate::sealed_subject`]): who has no key cannot try
//! guesses, and who has one cannot give a subject a second key.
//!
//! What is done with the secret takes the same time whatever the secret is. It does not take the same time
//! whatever alpha is: candidates for a point are tried until one is, two on average. Whoever can time a
//! single call learns how many were tried, which is some two bits about alpha; RFC 9381 says so of every
//! suite that tries.

use std::fmt;

use curve25519_dalek::{EdwardsPoint, Scalar};
use zeroize::Zeroizing;

use crate::{
    hash::{Hash, LengthError},
    keys::{KeyError, PublicKey, SigningKey},
};

mod suite;
#[cfg(test)]
mod tests;

use suite::{CHALLENGE_BYTES, Expanded};

/// Why a key or a proof was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VrfError {
    /// Not a key that the ledger takes for anything.
    #[error("VRF key: {0}")]
    Key(#[from] KeyError),
    /// A key whose y is not below 2^255 − 19: the same key has another encoding, and other outputs.
    #[error("VRF key: not in its one encoding, ask the agency for the key that it registered")]
    KeyEncoding,
    /// Not 80 bytes.
    #[error("VRF proof: {0}")]
    ProofLength(#[from] LengthError),
    /// The first 32 bytes of a proof are no point, or not in the one encoding of RFC 8032.
    #[error("VRF proof: its first 32 bytes are not a point of Curve25519 in its one encoding")]
    Gamma,
    /// The last 32 bytes of a proof are not below the order of the base point.
    #[error("VRF proof: its last 32 bytes are a number that is not reduced")]
    Scalar,
    /// The proof is not this key's, or not of this alpha.
    #[error("VRF proof: does not verify, it is by another key or about something else")]
    Proof,
    /// None of 256 candidates was a point. Of no key and alpha is this known; of 2^256 of them it is expected
    /// of one.
    #[error("VRF: none of 256 tries gave a point, this text has no output under this key")]
    NoPoint,
}

impl VrfError {
    /// A stable code for clients and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Key(error) => error.code(),
            Self::KeyEncoding => "KEY_NOT_CANONICAL",
            Self::ProofLength(_) => "VRF_PROOF_LENGTH",
            Self::Gamma => "VRF_PROOF_GAMMA",
            Self::Scalar => "VRF_PROOF_SCALAR",
            Self::Proof => "VRF_PROOF_INVALID",
            Self::NoPoint => "VRF_NO_POINT",
        }
    }
}

/// The secret key: a seed of 32 bytes, from which RFC 8032 derives the scalar and the public key. Never
/// shown. It lies where [`SigningKey`] keeps a seed, alone on a page, wiped when the last clone is dropped;
/// that type's signatures are out of reach here, so that no key serves both.
#[derive(Clone)]
pub struct VrfSecretKey {
    seed: SigningKey,
    public: VrfPublicKey,
}

impl VrfSecretKey {
    /// The key of a seed, which the caller drew at random and wipes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let seed = SigningKey::from_seed(seed);
        // What RFC 8032 derives is in one encoding, and never of low order.
        let public = VrfPublicKey(seed.public());
        Self { seed, public }
    }

    /// The public half.
    pub fn public(&self) -> &VrfPublicKey {
        &self.public
    }

    /// Lets `work` see the seed where it lies, to seal it for another party; as [`SigningKey::with_seed`].
    pub fn with_seed<R>(&self, work: impl FnOnce(&[u8; 32]) -> R) -> R {
        self.seed.with_seed(work)
    }

    /// Has the key's page locked in memory; as [`SigningKey::lock_with`].
    pub fn lock_with<L: Send + Sync + 'static>(&self, lock: impl FnOnce(*const u8, usize) -> L) {
        self.seed.lock_with(lock);
    }

    /// Beta of `alpha`, without a proof: one multiplication of a point, and for each candidate that is tried
    /// a square root. That is less than half of the work of [`Self::prove`], and about a signature's check.
    ///
    /// # Errors
    /// [`VrfError::NoPoint`].
    pub fn output(&self, alpha: &[u8]) -> Result<VrfOutput, VrfError> {
        let h = suite::encode_to_curve(self.public.as_bytes(), alpha)?;
        Ok(self.with_expanded(|expanded| suite::output_of(&(h * expanded.scalar))))
    }

    /// Proves beta of `alpha`; deterministic.
    ///
    /// # Errors
    /// [`VrfError::NoPoint`].
    pub fn prove(&self, alpha: &[u8]) -> Result<VrfProof, VrfError> {
        let h = suite::encode_to_curve(self.public.as_bytes(), alpha)?;
        Ok(self.with_expanded(|expanded| {
            let gamma = h * expanded.scalar;
            let nonce = expanded.nonce(&h);
            let (u, v) = (EdwardsPoint::mul_base(&nonce), h * *nonce);
            let challenge = suite::challenge(self.public.as_bytes(), &[h, gamma, u, v]);
            let response = *nonce + suite::scalar_of(&challenge) * expanded.scalar;
            VrfProof { gamma, challenge, response }
        }))
    }

    /// Lets `work` see what the seed expands to, on a stack that is wiped.
    fn with_expanded<R>(&self, work: impl FnOnce(&Expanded) -> R) -> R {
        self.with_seed(|seed| work(&Zeroizing::new(Expanded::of(seed))))
    }
}

impl fmt::Debug for VrfSecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VrfSecretKey(…)")
    }
}

/// A public key, validated as RFC 9381 §5.4.5 asks: a point in its one encoding and not of low order. It
/// is a [`PublicKey`] of the ledger, of which y is reduced too: that type takes both encodings of the few
/// keys that have two, and each would have outputs of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VrfPublicKey(PublicKey);

impl VrfPublicKey {
    /// Parses 32 bytes.
    ///
    /// # Errors
    /// [`VrfError::Key`] with what is wrong with any [`PublicKey`]; then [`VrfError::KeyEncoding`].
    pub fn from_slice(bytes: &[u8]) -> Result<Self, VrfError> {
        let key = PublicKey::from_slice(bytes)?;
        if !suite::is_reduced(key.as_bytes()) {
            return Err(VrfError::KeyEncoding);
        }
        Ok(Self(key))
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Checks a proof of `alpha` by this key (RFC 9381 §5.3), and gives beta, which this key and alpha
    /// alone determine. Takes time by what it is given, all of which is public.
    ///
    /// # Errors
    /// [`VrfError::Proof`] where it does not verify; [`VrfError::NoPoint`].
    pub fn verify(&self, alpha: &[u8], proof: &VrfProof) -> Result<VrfOutput, VrfError> {
        let h = suite::encode_to_curve(self.as_bytes(), alpha)?;
        let VrfProof { gamma, challenge, response } = proof;
        let c = suite::scalar_of(challenge);
        // The points are made negative and not c: L − c times a part of low order is not −c times it.
        let key = -self.0.point();
        let u = EdwardsPoint::vartime_double_scalar_mul_basepoint(&c, &key, response);
        let v = suite::vartime_sum((response, &h), (&c, &-gamma));
        if suite::challenge(self.as_bytes(), &[h, *gamma, u, v]) != *challenge {
            return Err(VrfError::Proof);
        }
        Ok(suite::output_of(gamma))
    }
}

impl fmt::Display for VrfPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for VrfPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A proof, 80 bytes: Gamma (a point, 32) ‖ c (16, little-endian) ‖ s (32, little-endian). It says
/// nothing until [`VrfPublicKey::verify`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VrfProof {
    gamma: EdwardsPoint,
    challenge: [u8; CHALLENGE_BYTES],
    response: Scalar,
}

impl VrfProof {
    /// Bytes of a proof.
    pub const LENGTH: usize = 32 + CHALLENGE_BYTES + 32;

    /// Reads a proof, strictly: each has one encoding.
    ///
    /// # Errors
    /// Another length, then [`VrfError::Gamma`], then [`VrfError::Scalar`].
    pub fn from_slice(bytes: &[u8]) -> Result<Self, VrfError> {
        let wrong = || LengthError { expected: Self::LENGTH, found: bytes.len() };
        let (gamma, rest) = bytes.split_first_chunk().ok_or_else(wrong)?;
        let (challenge, rest) = rest.split_first_chunk().ok_or_else(wrong)?;
        let response: [u8; 32] = rest.try_into().map_err(|_| wrong())?;
        let gamma = suite::point_of(gamma).ok_or(VrfError::Gamma)?;
        let response = Option::from(Scalar::from_canonical_bytes(response));
        let response = response.ok_or(VrfError::Scalar)?;
        Ok(Self { gamma, challenge: *challenge, response })
    }

    /// The bytes.
    pub fn to_bytes(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        let (gamma, rest) = bytes.split_at_mut(32);
        let (challenge, response) = rest.split_at_mut(CHALLENGE_BYTES);
        gamma.copy_from_slice(self.gamma.compress().as_bytes());
        challenge.copy_from_slice(&self.challenge);
        response.copy_from_slice(self.response.as_bytes());
        bytes
    }
}

impl fmt::Debug for VrfProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VrfProof({}…)", hex::encode(&self.gamma.compress().as_bytes()[..4]))
    }
}

/// Beta, 64 bytes. Not shown: between those who share a key it may be kept from everybody else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VrfOutput([u8; 64]);

impl VrfOutput {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    /// The first 32 bytes.
    pub fn first_half(&self) -> Hash {
        let (half, _) = self.0.split_first_chunk().expect("64 bytes");
        Hash(*half)
    }
}

impl fmt::Debug for VrfOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VrfOutput(…)")
    }
}
