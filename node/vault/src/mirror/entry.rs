//! What is mirrored, and its bytes.

use customhouse_ledger::layout::{LayoutError, Reader, Writer};

use crate::{
    attachment_key::SEALED_PIECE_BYTES_MAX,
    sealed::{SealedBytes, SealedPlace, WrappedKey},
};

/// A part of what is kept at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MirrorPart {
    /// Sealed bytes with their wrapped key.
    Whole(SealedBytes),
    /// A wrapped key alone: an attachment's; or the one that takes the place of a record's, which was wrapped
    /// anew.
    Key(WrappedKey),
    /// A sealed piece of an attachment.
    Piece {
        /// Its number, from 0.
        index: u32,
        /// As it was sealed.
        sealed: Vec<u8>,
    },
}

impl MirrorPart {
    /// Whether what came earlier at the same place does not count any more, now that this has come. Sealed bytes as
    /// a whole have a wrapped key in them, and make one that came before void: it is of other bytes, or older.
    pub fn voids(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::Whole(_), Self::Whole(_) | Self::Key(_)) | (Self::Key(_), Self::Key(_)) => true,
            (Self::Piece { index, .. }, Self::Piece { index: other, .. }) => index == other,
            _ => false,
        }
    }
}

/// An entry of a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorEntry {
    /// What it belongs to.
    pub place: SealedPlace,
    /// What it is.
    pub part: MirrorPart,
}

impl MirrorEntry {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (part, index, bytes) = match &self.part {
            MirrorPart::Whole(sealed) => (1, 0, sealed.encode()),
            MirrorPart::Key(key) => (2, 0, key.as_bytes().to_vec()),
            MirrorPart::Piece { index, sealed } => (3, *index, sealed.clone()),
        };
        let out = Writer::with_capacity(1 + SealedPlace::LENGTH + 4 + bytes.len()).u8(part);
        out.bytes(&self.place.to_bytes()).u32(index).bytes(&bytes).finish()
    }

    pub(super) fn decode(payload: &[u8]) -> Result<Self, LayoutError> {
        let mut reader = Reader::new(payload);
        let part = reader.u8("part")?;
        let place = SealedPlace::read(&mut reader)?;
        let index = reader.u32("piece")?;
        let bytes = reader.rest();
        let invalid = |_| LayoutError::Invalid("bytes");
        let part = match (part, index) {
            (1, 0) => MirrorPart::Whole(SealedBytes::decode(bytes).map_err(invalid)?),
            (2, 0) => MirrorPart::Key(WrappedKey::decode(bytes).map_err(invalid)?),
            (3, index) if bytes.len() <= SEALED_PIECE_BYTES_MAX => {
                MirrorPart::Piece { index, sealed: bytes.to_vec() }
            }
            _ => return Err(LayoutError::Invalid("part")),
        };
        Ok(Self { place, part })
    }
}
