//! The key of an attachment, whose pieces are sealed one by one, in any order.
//!
//! A sealed piece is nonce (24) ‖ ciphertext ‖ tag (16). Its number is authenticated with it, so that pieces
//! cannot be exchanged; that none is missing at the end is known by the attachment's root, which binds its
//! size and every piece.

use std::fmt;

use customhouse_files::secret::Secret;
use customhouse_ledger::limits::PIECE_BYTES;
use zeroize::Zeroizing;

use crate::{
    aead,
    error::VaultError,
    sealed::{SealedPlace, WrappedKey},
};

/// Most bytes of a sealed piece.
pub const SEALED_PIECE_BYTES_MAX: usize = PIECE_BYTES + aead::OVERHEAD;

/// The key of one attachment, opened. Wiped when dropped.
#[derive(Clone)]
pub struct AttachmentKey {
    place: SealedPlace,
    wrapped: WrappedKey,
    key: Secret,
}

impl AttachmentKey {
    pub(crate) fn new(place: SealedPlace, wrapped: WrappedKey, key: Secret) -> Self {
        Self { place, wrapped, key }
    }

    /// As it is kept beside the pieces.
    pub fn wrapped(&self) -> &WrappedKey {
        &self.wrapped
    }

    /// Seals the piece of this number, counted from 0; at most [`PIECE_BYTES`] bytes.
    ///
    /// # Errors
    /// [`VaultError::SealedForm`] for a longer one; where the system gives no randomness.
    pub fn seal_piece(&self, index: u32, bytes: &[u8]) -> Result<Vec<u8>, VaultError> {
        if bytes.len() > PIECE_BYTES {
            return Err(VaultError::SealedForm("longer than a piece"));
        }
        let mut sealed = Vec::new();
        let done = aead::seal(&self.key, &self.place.bound_of_piece(index), bytes, &mut sealed);
        done.map_err(VaultError::Randomness)?;
        Ok(sealed)
    }

    /// Opens the piece of this number.
    ///
    /// # Errors
    /// [`VaultError::NotAuthentic`]: damaged, another piece, or another attachment's.
    pub fn open_piece(&self, index: u32, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        if sealed.len() > SEALED_PIECE_BYTES_MAX {
            return Err(VaultError::SealedForm("longer than a piece"));
        }
        let opened = aead::open(&self.key, &self.place.bound_of_piece(index), sealed);
        opened.ok_or(VaultError::NotAuthentic { what: "a piece of an attachment" })
    }
}

impl fmt::Debug for AttachmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AttachmentKey({:?})", self.wrapped)
    }
}
