//! A record's id: the root of a tree over its fields, each salted by itself, so that any field can be shown
//! later without the others (docs/FORMATS.md, *Record id*).
//!
//! The leaves are read from the record's one encoding, in its order, by the table of its fields
//! ([`customhouse_proto::shape`]): a leaf for every scalar that is there, for every element and every message,
//! and after the elements of a repeated field one with their number. The record's salt is no leaf: it is
//! what the leaves' salts are derived from, and whoever has it can guess every field.

use customhouse_proto::shape::{Field, FieldKind, SHAPES, Shape};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::{
    hash::{Hash, Tag},
    limits::RECORD_LEAVES_MAX,
    merkle::{self, Frontier},
};

/// In a path, the place of a field that is not an element of a repeated one.
pub const SINGULAR: u32 = u32::MAX;

/// The field of a record that is no leaf.
const SALT_FIELD: u32 = 1;

/// What a leaf holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafType {
    /// The bytes of a field or an element.
    Bytes = 1,
    /// The UTF-8 of a field or an element.
    Text = 2,
    /// A number, 8 bytes.
    Number = 3,
    /// A message that is there; its fields have leaves of their own. No value.
    Message = 4,
    /// How many elements a repeated field has, 8 bytes.
    Count = 5,
}

/// The bytes are not a record in its one encoding, or it has more than [`RECORD_LEAVES_MAX`] leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldTreeError {
    /// Not canonical.
    #[error("not a record in its one encoding")]
    Encoding,
    /// Too many.
    #[error("more than {RECORD_LEAVES_MAX} fields and elements, which a record may have")]
    TooManyLeaves,
}

/// The id of the record in these canonical bytes, under its salt.
///
/// # Errors
/// [`FieldTreeError`].
pub fn record_id(record: &[u8], salt: &[u8]) -> Result<Hash, FieldTreeError> {
    let mut tree = Frontier::default();
    let keyed = Hmac::<Sha256>::new_from_slice(salt).expect("HMAC takes a key of any length");
    walk(record, &mut |path, leaf_type, value| {
        if tree.size() >= RECORD_LEAVES_MAX as u64 {
            return Err(FieldTreeError::TooManyLeaves);
        }
        tree.push(leaf_hash(&leaf_salt(&keyed, path), path, leaf_type, value));
        Ok(())
    })?;
    let count = u32::try_from(tree.size()).map_err(|_| FieldTreeError::TooManyLeaves)?;
    Ok(Tag::RECORD.hash(&[&count.to_be_bytes(), tree.root().as_bytes()]))
}

/// Shows the leaves of a record in their order: path, type and value.
///
/// # Errors
/// [`FieldTreeError::Encoding`], and those of `show`.
pub fn walk<E: From<FieldTreeError>>(
    record: &[u8],
    show: &mut impl FnMut(&[u8], LeafType, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let shape = SHAPES.first().ok_or(FieldTreeError::Encoding)?;
    walk_message(record, shape, &mut Vec::with_capacity(64), show)
}

/// The salt of the leaf at a path, under a record's salt: HMAC-SHA-256.
pub fn leaf_salt_of(salt: &[u8], path: &[u8]) -> [u8; 32] {
    leaf_salt(&Hmac::new_from_slice(salt).expect("HMAC takes a key of any length"), path)
}

fn leaf_salt(keyed: &Hmac<Sha256>, path: &[u8]) -> [u8; 32] {
    let mut mac = keyed.clone();
    mac.update(path);
    mac.finalize().into_bytes().into()
}

/// The hash of one leaf: salt, length of the path (u16), path, type, value.
pub fn leaf_hash(salt: &[u8; 32], path: &[u8], leaf_type: LeafType, value: &[u8]) -> Hash {
    let length = u16::try_from(path.len()).expect("a path is as long as messages are deep");
    merkle::leaf_hash_of_parts(&[salt, &length.to_be_bytes(), path, &[leaf_type as u8], value])
}

fn walk_message<E: From<FieldTreeError>>(
    mut bytes: &[u8],
    shape: &Shape,
    path: &mut Vec<u8>,
    show: &mut impl FnMut(&[u8], LeafType, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let is_record = path.is_empty();
    // The repeated field whose elements are being read, and how many there were.
    let mut elements: Option<(u32, u32)> = None;
    while !bytes.is_empty() {
        let (number, wire_type) = tag(&mut bytes)?;
        let field = shape.field(number).ok_or(FieldTreeError::Encoding)?;
        let index = match elements {
            Some((open, count)) if open == number => count,
            open => {
                if let Some((field, count)) = open {
                    show_count(field, count, path, show)?;
                }
                elements = None;
                if field.repeated { 0 } else { SINGULAR }
            }
        };
        if field.repeated {
            elements = Some((number, index + 1));
        }
        let value = value(&mut bytes, field, wire_type)?;
        if is_record && number == SALT_FIELD {
            continue;
        }
        let length = path.len();
        push(path, number, index);
        match field.kind {
            FieldKind::Text => show(path, LeafType::Text, value.slice())?,
            FieldKind::Bytes => show(path, LeafType::Bytes, value.slice())?,
            FieldKind::Number => show(path, LeafType::Number, value.slice())?,
            FieldKind::Message(place) => {
                show(path, LeafType::Message, &[])?;
                let inner = SHAPES.get(place).ok_or(FieldTreeError::Encoding)?;
                walk_message(value.slice(), inner, path, show)?;
            }
        }
        path.truncate(length);
    }
    match elements {
        Some((field, count)) => show_count(field, count, path, show),
        None => Ok(()),
    }
}

fn show_count<E>(
    field: u32,
    count: u32,
    path: &mut Vec<u8>,
    show: &mut impl FnMut(&[u8], LeafType, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let length = path.len();
    push(path, field, SINGULAR);
    let shown = show(path, LeafType::Count, &u64::from(count).to_be_bytes());
    path.truncate(length);
    shown
}

fn push(path: &mut Vec<u8>, number: u32, index: u32) {
    path.extend_from_slice(&number.to_be_bytes());
    path.extend_from_slice(&index.to_be_bytes());
}

/// The bytes of a value: of the record, or of a number.
enum Value<'a> {
    Part(&'a [u8]),
    Number([u8; 8]),
}

impl Value<'_> {
    fn slice(&self) -> &[u8] {
        match self {
            Self::Part(bytes) => bytes,
            Self::Number(bytes) => bytes,
        }
    }
}

fn tag(bytes: &mut &[u8]) -> Result<(u32, u64), FieldTreeError> {
    let tag = varint(bytes)?;
    let number = u32::try_from(tag >> 3).map_err(|_| FieldTreeError::Encoding)?;
    Ok((number, tag & 7))
}

fn value<'a>(
    bytes: &mut &'a [u8],
    field: &Field,
    wire_type: u64,
) -> Result<Value<'a>, FieldTreeError> {
    match (field.kind, wire_type) {
        (FieldKind::Number, 0) => Ok(Value::Number(varint(bytes)?.to_be_bytes())),
        (FieldKind::Text | FieldKind::Bytes | FieldKind::Message(_), 2) => {
            let length = usize::try_from(varint(bytes)?).map_err(|_| FieldTreeError::Encoding)?;
            let (value, rest) = bytes.split_at_checked(length).ok_or(FieldTreeError::Encoding)?;
            *bytes = rest;
            Ok(Value::Part(value))
        }
        _ => Err(FieldTreeError::Encoding),
    }
}

fn varint(bytes: &mut &[u8]) -> Result<u64, FieldTreeError> {
    prost::encoding::decode_varint(bytes).map_err(|_| FieldTreeError::Encoding)
}

#[cfg(test)]
mod tests;
