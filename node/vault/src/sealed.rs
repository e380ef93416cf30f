//! Sealed bytes: a random key for each record, wrapped by the key of its group, beside the ciphertext.
//!
//! ```text
//! wrapped key = format 1 (1)  group number (8)  nonce (24)  the key, encrypted (32)  tag (16)
//! sealed      = wrapped key (81)  nonce (24)  ciphertext  tag (16)
//! ```
//!
//! The group's key authenticates the format, the group number and the place with the wrapped key; the
//! record's key authenticates the place with the ciphertext, and not the group: in a round that purges others,
//! what remains gets its key wrapped anew, and its ciphertext stays as it is.
//!
//! Within a place nothing says which of two is the newer: whoever can write to the store may put back what was
//! sealed there before, until its group is ended, and it opens.

use std::fmt;

use customhouse_files::secret::Secret;
use customhouse_ledger::{
    agency::AgencyCode,
    hash::{Hash, Tag},
    layout::{LayoutError, Reader, Writer},
    limits::RECORD_BYTES_MAX,
};
use zeroize::Zeroizing;

use crate::{aead, error::VaultError, group::GroupNumber};

const FORMAT: u8 = 1;
/// Most bytes that are sealed at once: a record, and what travels with it.
pub const CONTENT_BYTES_MAX: usize = RECORD_BYTES_MAX + 256 * 1024;
/// What is sealed as a whole, or as a numbered piece, is told apart by this byte.
const WHOLE: u8 = 0;
const PIECE: u8 = 1;

/// What sealed bytes are: bytes of one kind do not open as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedKind {
    /// A record, with its salt and whatever travels with it.
    Record,
    /// An attachment or a source, in pieces.
    Attachment,
    /// An envelope to another agency that has not been delivered.
    Envelope,
    /// What a node made of records: a projection, an entry of a log.
    Derived,
}

impl SealedKind {
    /// Its byte in the layout.
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Record => 1,
            Self::Attachment => 2,
            Self::Envelope => 3,
            Self::Derived => 4,
        }
    }

    /// The kind of a byte.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Record, Self::Attachment, Self::Envelope, Self::Derived]
            .into_iter()
            .find(|kind| kind.to_byte() == byte)
    }
}

/// What sealed bytes belong to. They open there and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedPlace {
    /// The chain.
    pub chain_id: Hash,
    /// The agency that lodged the record; ids are unique within it.
    pub agency: AgencyCode,
    /// The record; for an attachment its root, for an envelope that of
    /// [`EnvelopeContext::place`](crate::envelope::EnvelopeContext::place), which has the recipient in it; for what
    /// was derived an id that says what.
    pub record_id: Hash,
    /// What it is.
    pub kind: SealedKind,
}

impl SealedPlace {
    /// Bytes of the layout: chain id (32) ‖ agency (16) ‖ record id (32) ‖ kind (1).
    pub const LENGTH: usize = 32 + AgencyCode::LENGTH + 32 + 1;

    /// The layout.
    pub fn to_bytes(self) -> Vec<u8> {
        let out = Writer::with_capacity(Self::LENGTH).hash(&self.chain_id);
        let out = out.bytes(self.agency.as_bytes()).hash(&self.record_id);
        out.u8(self.kind.to_byte()).finish()
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let (chain_id, agency) = (reader.hash("chain")?, reader.agency("agency")?);
        let record_id = reader.hash("record id")?;
        let kind = SealedKind::from_byte(reader.u8("kind")?);
        let kind = kind.ok_or(LayoutError::Invalid("kind"))?;
        Ok(Self { chain_id, agency, record_id, kind })
    }

    /// What is authenticated with a whole.
    fn bound(self) -> Vec<u8> {
        Tag::VAULT_SEAL.message(&[&self.to_bytes(), &[WHOLE]])
    }

    /// What is authenticated with a piece.
    pub(crate) fn bound_of_piece(self, index: u32) -> Vec<u8> {
        Tag::VAULT_SEAL.message(&[&self.to_bytes(), &[PIECE], &index.to_be_bytes()])
    }
}

/// The key of a record or attachment, wrapped by that of its group. Kept beside the ciphertext; secret to
/// nobody who does not have the group's key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct WrappedKey([u8; Self::LENGTH]);

impl WrappedKey {
    /// Bytes of the layout.
    pub const LENGTH: usize = 1 + 8 + aead::OVERHEAD + Secret::LENGTH;

    pub(crate) fn wrap(
        place: SealedPlace,
        number: GroupNumber,
        group: &Secret,
        key: &Secret,
    ) -> Result<Self, VaultError> {
        let head = Writer::with_capacity(Self::LENGTH).u8(FORMAT).u64(number.0).finish();
        let bound = Tag::VAULT_WRAP.message(&[&head, &place.to_bytes()]);
        let mut bytes = head;
        let sealed = key.with(|key| aead::seal(group, &bound, key, &mut bytes));
        sealed.map_err(VaultError::Randomness)?;
        Ok(Self(bytes.try_into().expect("the parts of the layout")))
    }

    pub(crate) fn unwrap(&self, place: SealedPlace, group: &Secret) -> Result<Secret, VaultError> {
        let (head, sealed) = self.0.split_at(9);
        let bound = Tag::VAULT_WRAP.message(&[head, &place.to_bytes()]);
        let key = aead::open(group, &bound, sealed);
        let key = key.and_then(|key| key.as_slice().try_into().ok().map(Secret::new));
        key.ok_or(VaultError::NotAuthentic { what: "the wrapped key" })
    }

    /// Reads the layout.
    ///
    /// # Errors
    /// [`VaultError::SealedForm`] for another length or format.
    pub fn decode(bytes: &[u8]) -> Result<Self, VaultError> {
        match <[u8; Self::LENGTH]>::try_from(bytes) {
            Ok(bytes @ [FORMAT, ..]) => Ok(Self(bytes)),
            Ok(_) => Err(VaultError::SealedForm("another format of wrapped keys")),
            Err(_) => Err(VaultError::SealedForm("another length than that of a wrapped key")),
        }
    }

    /// The layout.
    pub fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    /// The group whose key opens it.
    pub fn group(&self) -> GroupNumber {
        let number = self.0[1..9].try_into().expect("eight bytes");
        GroupNumber(u64::from_be_bytes(number))
    }
}

impl fmt::Debug for WrappedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrappedKey(group {})", self.group())
    }
}

/// Sealed bytes and the wrapped key that opens them.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedBytes {
    key: WrappedKey,
    sealed: Vec<u8>,
}

impl SealedBytes {
    pub(crate) fn seal(
        place: SealedPlace,
        wrapped: WrappedKey,
        key: &Secret,
        bytes: &[u8],
    ) -> Result<Self, VaultError> {
        if bytes.len() > CONTENT_BYTES_MAX {
            return Err(VaultError::SealedForm("longer than what is sealed at once"));
        }
        let mut sealed = Vec::new();
        let done = aead::seal(key, &place.bound(), bytes, &mut sealed);
        done.map_err(VaultError::Randomness)?;
        Ok(Self { key: wrapped, sealed })
    }

    pub(crate) fn open(
        &self,
        place: SealedPlace,
        key: &Secret,
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let opened = aead::open(key, &place.bound(), &self.sealed);
        opened.ok_or(VaultError::NotAuthentic { what: "the ciphertext" })
    }

    /// Reads the layout: any bytes of a length that may be, whose format is known. Whether they are authentic
    /// is known when they are opened.
    ///
    /// # Errors
    /// [`VaultError::SealedForm`].
    pub fn decode(bytes: &[u8]) -> Result<Self, VaultError> {
        let (key, sealed) = bytes
            .split_at_checked(WrappedKey::LENGTH)
            .ok_or(VaultError::SealedForm("shorter than a wrapped key"))?;
        let key = WrappedKey::decode(key)?;
        match (aead::OVERHEAD..=CONTENT_BYTES_MAX + aead::OVERHEAD).contains(&sealed.len()) {
            true => Ok(Self { key, sealed: sealed.to_vec() }),
            false => Err(VaultError::SealedForm("a ciphertext that is too short or too long")),
        }
    }

    /// The layout.
    pub fn encode(&self) -> Vec<u8> {
        [self.key.as_bytes(), &*self.sealed].concat()
    }

    /// The wrapped key.
    pub fn key(&self) -> &WrappedKey {
        &self.key
    }

    /// The same ciphertext, with its key wrapped anew.
    #[must_use]
    pub fn with_key(self, key: WrappedKey) -> Self {
        Self { key, ..self }
    }
}

impl fmt::Debug for SealedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedBytes(group {}, {} bytes)", self.key.group(), self.sealed.len())
    }
}
