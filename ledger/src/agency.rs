//! Agency codes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An agency's code: 2 to 16 of `A–Z`, `0–9` and `-`, for example `NL-DOUANE`.
///
/// Fixed layout: the ASCII bytes, padded with zeros to 16.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgencyCode([u8; 16]);

/// The text or bytes are not an agency code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an agency code is 2 to 16 of A-Z, 0-9 and -")]
pub struct AgencyCodeError;

impl AgencyCodeError {
    /// A stable code for clients and scripts.
    pub fn code(&self) -> &'static str {
        "AGENCY_CODE"
    }
}

impl AgencyCode {
    /// Bytes of the fixed layout.
    pub const LENGTH: usize = 16;

    /// The fixed layout.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads the fixed layout.
    ///
    /// # Errors
    /// Another length, other characters, or padding that is not zero.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, AgencyCodeError> {
        let array: [u8; 16] = bytes.try_into().map_err(|_| AgencyCodeError)?;
        let end = array.iter().position(|&b| b == 0).unwrap_or(16);
        let text = std::str::from_utf8(&array[..end]).map_err(|_| AgencyCodeError)?;
        let code: Self = text.parse()?;
        if code.0 != array {
            return Err(AgencyCodeError);
        }
        Ok(code)
    }

    /// The code as text.
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|&b| b == 0).unwrap_or(16);
        std::str::from_utf8(&self.0[..end]).expect("nothing but ASCII is ever stored")
    }
}

impl FromStr for AgencyCode {
    type Err = AgencyCodeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.as_bytes();
        let allowed = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'-';
        if !(2..=16).contains(&bytes.len()) || !bytes.iter().all(allowed) {
            return Err(AgencyCodeError);
        }
        let mut array = [0; 16];
        array[..bytes.len()].copy_from_slice(bytes);
        Ok(Self(array))
    }
}

impl fmt::Display for AgencyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for AgencyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for AgencyCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for AgencyCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_layout_of_a_code_is_read() {
        let code: AgencyCode = "NL-DOUANE".parse().expect("a code");
        assert_eq!(AgencyCode::from_slice(code.as_bytes()), Ok(code));
        for bad in [
            &b"NL\0X\0\0\0\0\0\0\0\0\0\0\0\0"[..],
            b"nl\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            b"NL",
            &[0; 16],
        ] {
            assert_eq!(AgencyCode::from_slice(bad), Err(AgencyCodeError), "{bad:?}");
        }
    }
}
