//! Canonical protobuf: bytes that decode, and encode again to themselves.
//!
//! Hashed protobuf is carried verbatim and hashed as received. One meaning must have one encoding,
//! so a message that does not encode to the bytes it came in is refused: unknown fields, other
//! field orders, spelled-out defaults and non-minimal integers.

use prost::Message;

/// Why bytes were refused as a canonical message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// Not the message at all.
    #[error("not a protobuf message of this type: {0}")]
    Decode(#[from] prost::DecodeError),
    /// The message, but not in its one encoding.
    #[error("not canonical: decoding and encoding again gives other bytes")]
    NotCanonical,
}

impl CanonicalError {
    /// A stable code for clients and scripts, where the structure has no code of its own for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Decode(_) => "MALFORMED",
            Self::NotCanonical => "NOT_CANONICAL",
        }
    }
}

/// Decodes a message whose bytes must be its canonical encoding.
///
/// # Errors
/// [`CanonicalError`].
pub fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, CanonicalError> {
    let message = M::decode(bytes)?;
    if message.encoded_len() != bytes.len() || message.encode_to_vec() != bytes {
        return Err(CanonicalError::NotCanonical);
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use customhouse_proto::v1;

    use super::*;

    #[test]
    fn one_meaning_has_one_encoding() {
        let subject = v1::Subject { scheme: 1, id: "X".into() };
        let bytes = subject.encode_to_vec();
        assert_eq!(decode(&bytes), Ok(subject));
        let reordered = [&bytes[2..], &bytes[..2]].concat();
        let unknown_field = [&bytes[..], &[0x78, 1]].concat();
        let long_integer = [&[0x08, 0x81, 0x00], &bytes[2..]].concat();
        for other in [reordered, unknown_field, long_integer] {
            assert_eq!(decode::<v1::Subject>(&other), Err(CanonicalError::NotCanonical));
        }
        assert!(matches!(decode::<v1::Subject>(&[0xff]), Err(CanonicalError::Decode(_))));
    }
}
