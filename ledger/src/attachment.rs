//! Attachments: files that belong to records and whose bytes are not on the chain. A record has a file's
//! root, which binds its length and every byte; whoever holds the file shows it piece by piece
//! (docs/FORMATS.md, *Attachments*).

use std::collections::BTreeSet;

use bytes::Buf as _;
use customhouse_proto::v1;
use prost::{
    Message as _,
    encoding::{self, WireType},
};
use sha2::{Digest as _, Sha256};

use crate::{
    hash::{Hash, Tag},
    limits::{
        ATTACHMENT_BYTES_MAX, ATTACHMENTS_MAX, FILE_NAME_BYTES_MAX, MEDIA_TYPE_BYTES_MAX,
        PIECE_BYTES,
    },
    merkle::{self, Frontier, ProofError},
    text::{self, TextError},
};

/// Field numbers of `Record.source`, `Record.attachments` and `Source.attachment`.
const RECORD_SOURCE: u32 = 6;
const RECORD_ATTACHMENTS: u32 = 9;
const SOURCE_ATTACHMENT: u32 = 4;

/// Why the attachments of a record are refused. Each names the field, below `record`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachmentError {
    /// More than [`ATTACHMENTS_MAX`].
    #[error("attachments: {0}, at most {ATTACHMENTS_MAX} are allowed")]
    TooMany(usize),
    /// A root that is not 32 bytes.
    #[error("{0}.root: 32 bytes expected, {1} found")]
    Root(AttachmentField, usize),
    /// A file that is too large.
    #[error("{0}.size: {1} bytes, at most {ATTACHMENT_BYTES_MAX} are allowed")]
    Size(AttachmentField, u64),
    /// A media type that is too long.
    #[error("{0}.media_type: {1} bytes, at most {MEDIA_TYPE_BYTES_MAX} are allowed")]
    MediaTypeLength(AttachmentField, usize),
    /// A media type that is no text that the chain takes.
    #[error("{0}.media_type: {1}")]
    MediaType(AttachmentField, TextError),
    /// A name that is too long.
    #[error("{0}.name: {1} bytes, at most {FILE_NAME_BYTES_MAX} are allowed")]
    NameLength(AttachmentField, usize),
    /// A name that is no text that the chain takes.
    #[error("{0}.name: {1}")]
    Name(AttachmentField, TextError),
    /// One file twice.
    #[error("{0}.root: the record has this attachment already")]
    Repeated(AttachmentField),
    /// The source's bytes are in the record, and are an attachment too.
    #[error("source: has content and an attachment, one of them is allowed")]
    ContentAndAttachment,
}

/// Where in a record an attachment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachmentField {
    /// Among `attachments`, at this place.
    Attachments(usize),
    /// `source.attachment`.
    Source,
}

impl std::fmt::Display for AttachmentField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Attachments(index) => write!(f, "attachments[{index}]"),
            Self::Source => f.write_str("source.attachment"),
        }
    }
}

/// Checks what a record says of its attachments. Whether anybody has their bytes is not known to the chain.
///
/// # Errors
/// The first rule that is broken: those of the list in its order, then those of the source.
pub fn check_attachments(record: &v1::Record) -> Result<(), AttachmentError> {
    if record.attachments.len() > ATTACHMENTS_MAX {
        return Err(AttachmentError::TooMany(record.attachments.len()));
    }
    let mut roots = BTreeSet::new();
    for (index, attachment) in record.attachments.iter().enumerate() {
        check(attachment, AttachmentField::Attachments(index), &mut roots)?;
    }
    let Some(source) = &record.source else { return Ok(()) };
    let Some(attachment) = &source.attachment else { return Ok(()) };
    if !source.content.is_empty() {
        return Err(AttachmentError::ContentAndAttachment);
    }
    check(attachment, AttachmentField::Source, &mut roots)
}

fn check<'a>(
    attachment: &'a v1::Attachment,
    field: AttachmentField,
    roots: &mut BTreeSet<&'a [u8]>,
) -> Result<(), AttachmentError> {
    let v1::Attachment { root, size, media_type, name } = attachment;
    if root.len() != 32 {
        return Err(AttachmentError::Root(field, root.len()));
    }
    if *size > ATTACHMENT_BYTES_MAX {
        return Err(AttachmentError::Size(field, *size));
    }
    if media_type.len() > MEDIA_TYPE_BYTES_MAX {
        return Err(AttachmentError::MediaTypeLength(field, media_type.len()));
    }
    text::check_name(media_type).map_err(|error| AttachmentError::MediaType(field, error))?;
    if name.len() > FILE_NAME_BYTES_MAX {
        return Err(AttachmentError::NameLength(field, name.len()));
    }
    text::check_name(name).map_err(|error| AttachmentError::Name(field, error))?;
    if roots.insert(root) { Ok(()) } else { Err(AttachmentError::Repeated(field)) }
}

/// The attachments of a record, those of the list first, read out of its canonical bytes without decoding
/// the rest of it. Of bytes that are no record, whatever comes before that shows.
pub fn attachments_in(record: &[u8]) -> Vec<v1::Attachment> {
    let mut found = Vec::new();
    let mut of_source = None;
    for (number, field) in (Fields { rest: record }) {
        match number {
            RECORD_ATTACHMENTS => found.extend(v1::Attachment::decode(field).ok()),
            RECORD_SOURCE => {
                let mut inside = Fields { rest: field };
                let attachment = inside.find(|(number, _)| *number == SOURCE_ATTACHMENT);
                of_source = attachment.and_then(|(_, bytes)| v1::Attachment::decode(bytes).ok());
            }
            _ => {}
        }
    }
    found.extend(of_source);
    found
}

/// The fields of a message that have a length, by number. Ends where the bytes are no message.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while self.rest.has_remaining() {
            let (number, wire_type) = encoding::decode_key(&mut self.rest).ok()?;
            let length = match wire_type {
                WireType::Varint => encoding::decode_varint(&mut self.rest).map(|_| 0).ok()?,
                WireType::SixtyFourBit => 8,
                WireType::ThirtyTwoBit => 4,
                WireType::LengthDelimited => encoding::decode_varint(&mut self.rest).ok()?,
                WireType::StartGroup | WireType::EndGroup => return None,
            };
            let (field, rest) = self.rest.split_at_checked(usize::try_from(length).ok()?)?;
            self.rest = rest;
            if wire_type == WireType::LengthDelimited {
                return Some((number, field));
            }
        }
        None
    }
}

/// Pieces of a file of this many bytes. An empty file has none.
pub fn pieces_of(size: u64) -> u64 {
    size.div_ceil(PIECE_BYTES as u64)
}

/// Bytes of the piece at this place of a file, 0 where it has no such piece.
pub fn piece_bytes(size: u64, index: u64) -> usize {
    let before = index.saturating_mul(PIECE_BYTES as u64);
    usize::try_from(size.saturating_sub(before)).unwrap_or(usize::MAX).min(PIECE_BYTES)
}

/// The root of a file of this many bytes whose pieces have this Merkle root.
pub fn attachment_root(size: u64, pieces_root: &Hash) -> Hash {
    Tag::ATTACHMENT.hash(&[&size.to_be_bytes(), pieces_root.as_bytes()])
}

/// Makes a file's root as its bytes come, in memory that does not grow with the file.
#[derive(Clone, Debug)]
pub struct AttachmentBuilder {
    pieces: Frontier,
    size: u64,
    /// The leaf hash of the piece that is not whole yet, and the bytes of that.
    piece: Sha256,
    piece_bytes: usize,
}

impl Default for AttachmentBuilder {
    fn default() -> Self {
        Self { pieces: Frontier::default(), size: 0, piece: begun_leaf(), piece_bytes: 0 }
    }
}

impl AttachmentBuilder {
    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Takes the next bytes, however many.
    pub fn push(&mut self, bytes: &[u8]) {
        self.push_with(bytes, |_| ());
    }

    /// The same, and shows the leaf hash of each piece that they complete.
    pub fn push_with(&mut self, mut bytes: &[u8], mut completed: impl FnMut(Hash)) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE_BYTES - self.piece_bytes));
            self.piece.update(now);
            self.piece_bytes += now.len();
            self.size += now.len() as u64;
            if self.piece_bytes == PIECE_BYTES {
                completed(self.end_piece());
            }
            bytes = later;
        }
    }

    /// The root and the size, when all bytes have come.
    pub fn finish(self) -> (Hash, u64) {
        self.finish_with(|_| ())
    }

    /// The same, and shows the leaf hash of the last piece where that is shorter than the others.
    pub fn finish_with(mut self, mut completed: impl FnMut(Hash)) -> (Hash, u64) {
        if self.piece_bytes > 0 {
            completed(self.end_piece());
        }
        (attachment_root(self.size, &self.pieces.root()), self.size)
    }

    fn end_piece(&mut self) -> Hash {
        let leaf = Hash(std::mem::replace(&mut self.piece, begun_leaf()).finalize().into());
        self.pieces.push(leaf);
        self.piece_bytes = 0;
        leaf
    }
}

/// What a leaf's hash begins with, see [`merkle::leaf_hash`].
fn begun_leaf() -> Sha256 {
    Sha256::new_with_prefix([0x00])
}

/// Why a piece is not that of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PieceError {
    /// Another length than the piece at this place has.
    #[error("a piece of {expected} bytes expected, {found} found")]
    Length {
        /// Bytes that it has.
        expected: usize,
        /// Bytes there were.
        found: usize,
    },
    /// The path does not lead from the piece to the root.
    #[error("{0}")]
    Path(#[from] ProofError),
}

impl PieceError {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Length { .. } => "PIECE_LENGTH",
            Self::Path(_) => "PIECE_PATH",
        }
    }
}

/// Checks that a file with this root and size has this piece at this place.
///
/// # Errors
/// [`PieceError`]; the path must have exactly the length that index and size ask for.
pub fn verify_piece(
    (root, size): (&Hash, u64),
    index: u64,
    piece: &[u8],
    path: &[Hash],
) -> Result<(), PieceError> {
    let pieces = pieces_of(size);
    if index >= pieces {
        return Err(ProofError::Index { index, size: pieces }.into());
    }
    let expected = piece_bytes(size, index);
    if piece.len() != expected {
        return Err(PieceError::Length { expected, found: piece.len() });
    }
    let leaf = merkle::leaf_hash(piece);
    let pieces_root = merkle::root_from_inclusion(&leaf, index, pieces, path)?;
    if attachment_root(size, &pieces_root) == *root { Ok(()) } else { Err(ProofError::Root.into()) }
}

#[cfg(test)]
mod tests;
