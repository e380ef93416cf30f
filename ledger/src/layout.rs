//! Fixed-width big-endian layouts, written and read field by field.

use crate::{
    agency::AgencyCode,
    hash::Hash,
    keys::{PublicKey, Signature},
};

/// Why bytes are not a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The bytes end inside this field.
    #[error("the bytes end inside `{0}`")]
    Truncated(&'static str),
    /// Bytes are left after the last field.
    #[error("{0} bytes after the last field")]
    Trailing(usize),
    /// A field's bytes are not a value of its type.
    #[error("`{0}` is not a valid value")]
    Invalid(&'static str),
}

/// Writes a layout.
#[derive(Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// With room for so many bytes, so that what is written is not moved.
    pub fn with_capacity(length: usize) -> Self {
        Self(Vec::with_capacity(length))
    }

    /// Appends bytes as they are.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends one byte.
    pub fn u8(self, value: u8) -> Self {
        self.bytes(&[value])
    }

    /// Appends two bytes.
    pub fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends four bytes.
    pub fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends eight bytes.
    pub fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends a hash.
    pub fn hash(self, value: &Hash) -> Self {
        self.bytes(value.as_bytes())
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads a layout. Every method names the field, for the error.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// From the first byte on.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// [`LayoutError`], as all below.
    pub fn take(&mut self, n: usize, field: &'static str) -> Result<&'a [u8], LayoutError> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(LayoutError::Truncated(field))?;
        self.0 = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], LayoutError> {
        self.take(N, field)?.try_into().map_err(|_| LayoutError::Truncated(field))
    }

    /// One byte.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, LayoutError> {
        Ok(u8::from_be_bytes(self.array(field)?))
    }

    /// Two bytes.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, LayoutError> {
        Ok(u16::from_be_bytes(self.array(field)?))
    }

    /// Four bytes.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, LayoutError> {
        Ok(u32::from_be_bytes(self.array(field)?))
    }

    /// Eight bytes.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, LayoutError> {
        Ok(u64::from_be_bytes(self.array(field)?))
    }

    /// A hash.
    pub fn hash(&mut self, field: &'static str) -> Result<Hash, LayoutError> {
        Ok(Hash(self.array(field)?))
    }

    /// A signature, unchecked.
    pub fn signature(&mut self, field: &'static str) -> Result<Signature, LayoutError> {
        Ok(Signature(self.array(field)?))
    }

    /// A public key.
    pub fn public_key(&mut self, field: &'static str) -> Result<PublicKey, LayoutError> {
        PublicKey::from_slice(self.take(32, field)?).map_err(|_| LayoutError::Invalid(field))
    }

    /// An agency's code.
    pub fn agency(&mut self, field: &'static str) -> Result<AgencyCode, LayoutError> {
        let bytes = self.take(AgencyCode::LENGTH, field)?;
        AgencyCode::from_slice(bytes).map_err(|_| LayoutError::Invalid(field))
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Refuses what is left.
    pub fn finish(self) -> Result<(), LayoutError> {
        if self.0.is_empty() { Ok(()) } else { Err(LayoutError::Trailing(self.0.len())) }
    }
}
