//! What an agency registers for records that travel sealed: the keys that they are encrypted to, and the check of the
//! secret that its nodes share.

use std::{cmp::Reverse, fmt, str::FromStr};

use customhouse_proto::v1::registry_entry::Entry;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Registry;
use crate::{
    agency::AgencyCode,
    hash::{Hash, LengthError},
};

/// 2^255 − 19, little-endian: coordinates are numbers below it.
const FIELD: [u8; 32] = {
    let mut field = [0xff; 32];
    (field[0], field[31]) = (0xed, 0x7f);
    field
};

/// The coordinates of low order, little-endian: with each of them the shared secret is 0 whatever the other key is
/// (RFC 7748, section 6.1). They are 0, 1, 2^255 − 20, and the two of order 8.
const LOW_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    {
        let mut minus_one = FIELD;
        minus_one[0] = 0xec;
        minus_one
    },
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ],
];

/// Why bytes are no key to encrypt to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncryptionKeyError {
    /// Not 32 bytes.
    #[error("{0}")]
    Length(#[from] LengthError),
    /// Not hexadecimal.
    #[error("not hexadecimal")]
    Hex,
    /// Another encoding of a key: there is one for each, so that none is registered twice.
    #[error("not the canonical form of an X25519 key: its number is 2^255 - 19 or more")]
    NotCanonical,
    /// A shared secret with it would be known to everybody.
    #[error("an X25519 key of low order")]
    LowOrder,
}

/// A public key of X25519 (RFC 7748) that is encrypted to: canonical, and not of low order. Ordered by its 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EncryptionPublicKey([u8; 32]);

impl EncryptionPublicKey {
    /// Parses 32 bytes.
    ///
    /// # Errors
    /// [`EncryptionKeyError`].
    pub fn from_slice(bytes: &[u8]) -> Result<Self, EncryptionKeyError> {
        let bytes = Hash::from_slice(bytes)?.0;
        // The most significant byte is the last.
        if bytes.iter().rev().ge(FIELD.iter().rev()) {
            return Err(EncryptionKeyError::NotCanonical);
        }
        if LOW_ORDER.contains(&bytes) {
            return Err(EncryptionKeyError::LowOrder);
        }
        Ok(Self(bytes))
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for EncryptionPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for EncryptionPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", hex::encode(&self.0[..4]))
    }
}

impl FromStr for EncryptionPublicKey {
    type Err = EncryptionKeyError;

    fn from_str(text: &str) -> Result<Self, EncryptionKeyError> {
        let bytes = hex::decode(text).map_err(|_| EncryptionKeyError::Hex)?;
        Self::from_slice(&bytes)
    }
}

impl Serialize for EncryptionPublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EncryptionPublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Registry {
    /// The keys that an agency can open what is sealed to at a height, newest first: the first is to be sealed to,
    /// the others are of an exchange that is under way. Of one height, in the order of their bytes.
    pub fn encryption_keys_at(&self, agency: &AgencyCode, height: u64) -> Vec<EncryptionPublicKey> {
        let own = self.open_at(height).filter_map(|entry| match &entry.entry {
            Some(Entry::EncryptionKey(own)) if own.agency == agency.as_str() => {
                let key = EncryptionPublicKey::from_slice(&own.public_key).ok()?;
                Some((Reverse(entry.from_height), key))
            }
            _ => None,
        });
        let mut keys: Vec<_> = own.collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, key)| key).collect()
    }

    /// By which an agency's nodes know at a height that they have the secret of its dedupe keys.
    pub fn dedupe_check_at(&self, agency: &AgencyCode, height: u64) -> Option<Hash> {
        self.open_at(height).find_map(|entry| match &entry.entry {
            Some(Entry::DedupeCheck(own)) if own.agency == agency.as_str() => {
                Hash::from_slice(&own.check).ok()
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A coordinate with a small number added to it, in 256 bits.
    fn plus(bytes: [u8; 32], mut carry: u16) -> [u8; 32] {
        bytes.map(|byte| {
            carry += u16::from(byte);
            let [low, high] = carry.to_le_bytes();
            carry = high.into();
            low
        })
    }

    #[test]
    fn a_key_of_low_order_is_refused_in_every_encoding() {
        let once = LOW_ORDER.map(|low| (low, EncryptionKeyError::LowOrder));
        // 0 and 1 again.
        let again = [FIELD, plus(FIELD, 1)].map(|low| (low, EncryptionKeyError::NotCanonical));
        for (low, expected) in once.into_iter().chain(again) {
            assert_eq!(EncryptionPublicKey::from_slice(&low), Err(expected));
            // X25519 does not look at the highest bit.
            let mut other = low;
            other[31] |= 0x80;
            assert_eq!(
                EncryptionPublicKey::from_slice(&other),
                Err(EncryptionKeyError::NotCanonical)
            );
        }
    }

    #[test]
    fn a_key_has_one_form() {
        let base = plus([0; 32], 9);
        let key = EncryptionPublicKey::from_slice(&base).expect("the base point");
        assert_eq!(key.to_string().parse(), Ok(key));
        for second in [plus(FIELD, 9), plus(FIELD, 18)] {
            assert_eq!(
                EncryptionPublicKey::from_slice(&second),
                Err(EncryptionKeyError::NotCanonical)
            );
        }
        let largest = [0xff; 32];
        assert_eq!(
            EncryptionPublicKey::from_slice(&largest),
            Err(EncryptionKeyError::NotCanonical)
        );
        assert!(matches!(
            EncryptionPublicKey::from_slice(&[9; 31]),
            Err(EncryptionKeyError::Length(_))
        ));
        assert_eq!("xy".parse::<EncryptionPublicKey>(), Err(EncryptionKeyError::Hex));
        let mut below = FIELD;
        below[0] -= 2;
        assert!(EncryptionPublicKey::from_slice(&below).is_ok());
    }
}
