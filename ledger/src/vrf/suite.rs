//! The steps of RFC 9381 that the suite fixes: points, hashes, numbers (§5.4 and §5.5 there). Strings of
//! bytes and numbers are little-endian, as in RFC 8032.

use curve25519_dalek::{
    EdwardsPoint, Scalar,
    edwards::CompressedEdwardsY,
    scalar::clamp_integer,
    traits::{IsIdentity as _, VartimeMultiscalarMul as _},
};
use sha2::{Digest as _, Sha512};
use zeroize::{Zeroize, Zeroizing};

use super::{VrfError, VrfOutput};

/// Bytes of the challenge c.
pub(super) const CHALLENGE_BYTES: usize = 16;

/// ECVRF-EDWARDS25519-SHA512-TAI, which every hash begins with.
const SUITE: u8 = 0x03;
/// What follows it says what the hash is for; each but that of the nonce ends in [`BACK`].
const ENCODE_TO_CURVE: u8 = 0x01;
const CHALLENGE: u8 = 0x02;
const OUTPUT: u8 = 0x03;
const BACK: u8 = 0x00;

/// What a seed expands to: the secret scalar, and what nonces are derived from (RFC 8032 §5.1.5).
pub(super) struct Expanded {
    pub(super) scalar: Scalar,
    nonce_prefix: [u8; 32],
}

impl Expanded {
    pub(super) fn of(seed: &[u8; 32]) -> Self {
        let mut hashed: Zeroizing<[u8; 64]> = Zeroizing::new([0; 64]);
        hashed.copy_from_slice(&Sha512::digest(seed));
        let (mut scalar, mut nonce_prefix) = (Zeroizing::new([0; 32]), [0; 32]);
        scalar.copy_from_slice(&hashed[..32]);
        nonce_prefix.copy_from_slice(&hashed[32..]);
        // It multiplies points of the base point's order only, so it may be reduced by that.
        Self { scalar: Scalar::from_bytes_mod_order(clamp_integer(*scalar)), nonce_prefix }
    }

    /// The nonce of a point, the same each time (§5.4.2.2).
    pub(super) fn nonce(&self, h: &EdwardsPoint) -> Zeroizing<Scalar> {
        let hasher = Sha512::new_with_prefix(self.nonce_prefix);
        let mut hashed: Zeroizing<[u8; 64]> = Zeroizing::new([0; 64]);
        hashed.copy_from_slice(&hasher.chain_update(h.compress().as_bytes()).finalize());
        Zeroizing::new(Scalar::from_bytes_mod_order_wide(&hashed))
    }
}

impl Zeroize for Expanded {
    fn zeroize(&mut self) {
        self.scalar.zeroize();
        self.nonce_prefix.zeroize();
    }
}

/// The point of the base point's order that stands for alpha under a key: the first of 256 candidates that
/// is one (§5.4.1.1).
pub(super) fn encode_to_curve(key: &[u8; 32], alpha: &[u8]) -> Result<EdwardsPoint, VrfError> {
    let hasher = Sha512::new_with_prefix([SUITE, ENCODE_TO_CURVE]);
    let hasher = hasher.chain_update(key).chain_update(alpha);
    first_point(|counter| {
        let hash = hasher.clone().chain_update([counter, BACK]).finalize();
        let mut candidate = [0; 32];
        candidate.copy_from_slice(&hash[..32]);
        candidate
    })
}

/// The first candidate that is a point with a part of the base point's order: that part, times eight.
pub(super) fn first_point(candidate: impl Fn(u8) -> [u8; 32]) -> Result<EdwardsPoint, VrfError> {
    let points = (0..=u8::MAX).filter_map(|counter| point_of(&candidate(counter)));
    let mut cleared = points.map(|point| point.mul_by_cofactor());
    cleared.find(|point| !point.is_identity()).ok_or(VrfError::NoPoint)
}

/// The challenge over the key and the points H, Gamma, U and V (§5.4.3).
pub(super) fn challenge(key: &[u8; 32], points: &[EdwardsPoint; 4]) -> [u8; CHALLENGE_BYTES] {
    let mut hasher = Sha512::new_with_prefix([SUITE, CHALLENGE]);
    hasher.update(key);
    for point in EdwardsPoint::compress_batch(points) {
        hasher.update(point.as_bytes());
    }
    hasher.update([BACK]);
    let mut challenge = [0; CHALLENGE_BYTES];
    challenge.copy_from_slice(&hasher.finalize()[..CHALLENGE_BYTES]);
    challenge
}

/// A challenge as a number, which is below the order.
pub(super) fn scalar_of(challenge: &[u8; CHALLENGE_BYTES]) -> Scalar {
    Scalar::from(u128::from_le_bytes(*challenge))
}

/// Beta of Gamma (§5.2). Whatever of low order is in Gamma makes no difference to it.
pub(super) fn output_of(gamma: &EdwardsPoint) -> VrfOutput {
    let hasher = Sha512::new_with_prefix([SUITE, OUTPUT]);
    let hasher = hasher.chain_update(gamma.mul_by_cofactor().compress().as_bytes());
    VrfOutput(hasher.chain_update([BACK]).finalize().into())
}

/// The sum of two multiples, in a time that tells what they are.
pub(super) fn vartime_sum(
    (a, p): (&Scalar, &EdwardsPoint),
    (b, q): (&Scalar, &EdwardsPoint),
) -> EdwardsPoint {
    EdwardsPoint::vartime_multiscalar_mul([a, b], [p, q])
}

/// The point of an encoding, where it is that of RFC 8032 §5.1.3: y is reduced, and where x is 0 its sign
/// is not set.
pub(super) fn point_of(bytes: &[u8; 32]) -> Option<EdwardsPoint> {
    if !is_reduced(bytes) || is_minus_zero(bytes) {
        return None;
    }
    CompressedEdwardsY(*bytes).decompress()
}

/// Whether y, the low 255 bits, is below 2^255 − 19.
pub(super) fn is_reduced(bytes: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = bytes;
    last & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff) || *first < 0xed
}

/// Whether y is 1 or −1, so that x is 0, and the sign of x is set.
fn is_minus_zero(bytes: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = bytes;
    let all = |byte: u8| middle.iter().all(|other| *other == byte);
    matches!((first, last), (0x01, 0x80) if all(0))
        || matches!((first, last), (0xec, 0xff) if all(0xff))
}
