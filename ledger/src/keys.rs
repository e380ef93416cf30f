//! Ed25519 keys and strict signature checks.
//!
//! Every signature that decides validity is checked one at a time with `verify_strict`: a batch's
//! answer on crafted signatures depends on randomness, which would fork the chain.

use std::{
    any::Any,
    cell::RefCell,
    fmt,
    hint::black_box,
    str::FromStr,
    sync::{Arc, OnceLock},
};

use curve25519_dalek::EdwardsPoint;
use ed25519_dalek::{Signer as _, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroize as _;

use crate::hash::{Hash, LengthError};

/// Why a key or signature was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not 32 bytes (key) or 64 bytes (signature).
    #[error("{0}")]
    Length(#[from] LengthError),
    /// Not hexadecimal.
    #[error("not hexadecimal")]
    Hex,
    /// The bytes are not a point of the curve.
    #[error("not a point of Curve25519")]
    NotAPoint,
    /// A key of low order signs anything; it is refused at registration.
    #[error("a key of low order")]
    LowOrder,
    /// The signature is not this key's over these bytes.
    #[error("the signature does not verify")]
    Signature,
}

impl KeyError {
    /// A stable code for clients and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Length(_) => "KEY_LENGTH",
            Self::Hex => "KEY_HEX",
            Self::NotAPoint => "KEY_NOT_A_POINT",
            Self::LowOrder => "KEY_LOW_ORDER",
            Self::Signature => "BAD_SIGNATURE",
        }
    }
}

/// Keys that a thread remembers.
const RECENT_MAX: usize = 64;

thread_local! {
    /// Keys parsed lately, each in the place that its first byte says. Finding the point of a key
    /// takes a tenth of a signature's check, and transaction after transaction names the same few.
    static RECENT: RefCell<Vec<Option<PublicKey>>> = RefCell::new(vec![None; RECENT_MAX]);
}

/// An Ed25519 public key: a point of the curve, not of low order. Ordered by its 32 bytes.
#[derive(Clone, Copy)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Parses 32 bytes.
    ///
    /// # Errors
    /// Another length, no point of the curve, or a point of low order.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes = Hash::from_slice(bytes)?.0;
        RECENT.with_borrow_mut(|recent| match recent.get_mut(usize::from(bytes[0]) % RECENT_MAX) {
            Some(Some(key)) if *key.as_bytes() == bytes => Ok(*key),
            Some(place) => Ok(*place.insert(Self::parse(&bytes)?)),
            None => Self::parse(&bytes),
        })
    }

    fn parse(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotAPoint)?;
        if key.is_weak() {
            return Err(KeyError::LowOrder);
        }
        Ok(Self(key))
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The point.
    pub(crate) fn point(&self) -> EdwardsPoint {
        self.0.to_edwards()
    }

    /// Checks a signature strictly (RFC 8032 without cofactor, canonical, no small-order points).
    ///
    /// # Errors
    /// [`KeyError::Signature`] where it does not verify.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), KeyError> {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        self.0.verify_strict(message, &signature).map_err(|_| KeyError::Signature)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for PublicKey {}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl std::hash::Hash for PublicKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", hex::encode(&self.as_bytes()[..4]))
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_slice(&hex::decode(text).map_err(|_| KeyError::Hex)?)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An Ed25519 signature, 64 bytes, unchecked until [`PublicKey::verify`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl Signature {
    /// Reads 64 bytes.
    ///
    /// # Errors
    /// [`LengthError`] for any other length.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, LengthError> {
        let array =
            bytes.try_into().map_err(|_| LengthError { expected: 64, found: bytes.len() })?;
        Ok(Self(array))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", hex::encode(&self.0[..4]))
    }
}

/// A secret key, never shown. Its seed is in one place of memory, alone on a page, however often the key
/// is cloned; it is wiped when the last clone is dropped.
#[derive(Clone)]
pub struct SigningKey(Arc<Held>);

/// The one place.
struct Held {
    page: Box<Page>,
    /// What keeps the page in memory, where it was locked.
    lock: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// As large as a page and aligned like one, so that a lock of the page covers the key and nothing
/// else. It has the key until it is dropped.
#[repr(align(4096))]
struct Page(Option<ed25519_dalek::SigningKey>);

impl Held {
    fn key(&self) -> &ed25519_dalek::SigningKey {
        self.page.0.as_ref().expect("full until it is dropped")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Wiped where it lies, before the lock is dropped.
        self.page.0 = None;
    }
}

impl SigningKey {
    /// The key of a 32-byte seed (RFC 8032).
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        on_wiped_stack(|| {
            let mut page = Box::new(Page(None));
            page.0 = Some(ed25519_dalek::SigningKey::from_bytes(seed));
            Self(Arc::new(Held { page, lock: OnceLock::new() }))
        })
    }

    /// Lets `work` see the seed where it lies: to write it to a key file, to derive another secret, to
    /// hand it to a library. What that leaves on the stack is wiped.
    pub fn with_seed<R>(&self, work: impl FnOnce(&[u8; 32]) -> R) -> R {
        on_wiped_stack(|| work(self.0.key().as_bytes()))
    }

    /// Has the page of the key locked in memory by whoever knows the system: `lock` is given the page's
    /// address and its bytes, and what it returns is kept for as long as the key.
    pub fn lock_with<L: Send + Sync + 'static>(&self, lock: impl FnOnce(*const u8, usize) -> L) {
        let page: *const Page = &raw const *self.0.page;
        self.0.lock.get_or_init(|| Box::new(lock(page.cast(), size_of::<Page>())));
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.key().verifying_key())
    }

    /// Signs; deterministic.
    pub fn sign(&self, message: &[u8]) -> Signature {
        on_wiped_stack(|| Signature(self.0.key().sign(message).to_bytes()))
    }
}

/// Frames of stack that are wiped, of [`FRAME_BYTES`] each: more than signing and reading a key file take.
const FRAMES: usize = 4;
const FRAME_BYTES: usize = 8 * 1024;

/// Runs something that holds a secret on the stack, and wipes the stack that it used: what a library
/// moves, hashes or spills stays there otherwise, until something else happens to be put in its place.
/// The answer must hold no secret by value.
pub fn on_wiped_stack<R>(work: impl FnOnce() -> R) -> R {
    let answer = apart(work);
    wipe_below(FRAMES);
    answer
}

/// As [`on_wiped_stack`], for work that goes deeper: it wipes `kib` KiB.
pub fn on_wiped_deep_stack<R>(kib: usize, work: impl FnOnce() -> R) -> R {
    let answer = apart(work);
    wipe_below((kib * 1024).div_ceil(FRAME_BYTES));
    answer
}

/// Runs in a frame of its own, which begins where those of [`wipe_below`] begin.
#[inline(never)]
fn apart<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[inline(never)]
fn wipe_below(frames: usize) {
    let mut frame = [0_u64; FRAME_BYTES / 8];
    frame.zeroize();
    if frames > 1 {
        wipe_below(frames - 1);
    }
    // Used after the next frame, so that this one is not taken down before.
    black_box(&mut frame);
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(public {:?})", self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_verifies_for_its_key_and_bytes_only() {
        let (a, b) = (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]));
        let signature = a.sign(b"message");
        assert_eq!(a.public().verify(b"message", &signature), Ok(()));
        assert_eq!(a.public().verify(b"messagf", &signature), Err(KeyError::Signature));
        assert_eq!(b.public().verify(b"message", &signature), Err(KeyError::Signature));
    }

    #[test]
    fn keys_of_low_order_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(PublicKey::from_slice(&identity), Err(KeyError::LowOrder));
        assert_eq!(PublicKey::from_slice(&[0; 32]), Err(KeyError::LowOrder));
        assert!(matches!(PublicKey::from_slice(&[0; 31]), Err(KeyError::Length(_))));
    }

    #[test]
    fn a_key_parsed_again_is_the_same_and_keys_that_share_a_place_are_not_mistaken() {
        let keys: Vec<_> =
            (0..=u8::MAX).map(|seed| SigningKey::from_seed(&[seed; 32]).public()).collect();
        for _ in 0..2 {
            for key in &keys {
                let mut bytes = *key.as_bytes();
                assert_eq!(PublicKey::from_slice(&bytes), Ok(*key));
                assert_eq!(PublicKey::from_slice(&bytes), Ok(*key));
                // Another encoding with the same first byte is parsed by itself.
                bytes[31] ^= 0x80;
                assert_ne!(PublicKey::from_slice(&bytes), Ok(*key));
            }
        }
    }

    #[test]
    fn a_key_is_in_one_place_however_often_it_is_cloned() {
        let key = SigningKey::from_seed(&[7; 32]);
        let place = |key: &SigningKey| key.with_seed(|seed| seed.as_ptr().addr());
        let clones = vec![key.clone(); 8];
        assert!(clones.iter().all(|clone| place(clone) == place(&key)));
        assert_eq!(key.with_seed(|seed| *seed), [7; 32]);
    }

    #[test]
    fn a_lock_covers_the_page_of_the_key_and_lasts_as_long_as_the_key() {
        let key = SigningKey::from_seed(&[7; 32]);
        let held = Arc::new(());
        let mut page = 0..0;
        let lock = |address: *const u8, bytes: usize| {
            page = address.addr()..address.addr() + bytes;
            Arc::clone(&held)
        };
        key.lock_with(lock);
        assert_eq!((page.start % 4096, page.len()), (0, 4096));
        assert!(key.with_seed(|seed| page.contains(&seed.as_ptr().addr())));
        let clone = key.clone();
        drop(key);
        assert_eq!(Arc::strong_count(&held), 2);
        drop(clone);
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn a_secret_is_never_shown() {
        let key = SigningKey::from_seed(&[7; 32]);
        assert!(!format!("{key:?}").contains(&hex::encode([7; 32])));
    }
}
