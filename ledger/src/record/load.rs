//! How much work a record is beside its bytes: told from its encoding before anything is decoded or hashed, so
//! that what is refused for it costs next to nothing.
//!
//! Two bytes can be a message that takes hundreds in memory, and a leaf that is hashed three times. What a record,
//! or the records of one transaction, may have of them grows with their bytes.

use std::ops::{Add, AddAssign};

use customhouse_proto::shape::{FieldKind, SHAPES, Shape};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::limits::{
    BYTES_PER_FIELD, BYTES_PER_MESSAGE, FIELDS_BASE, MESSAGES_BASE, RECORD_LEAVES_MAX,
    TRANSACTION_REFERENCES_MAX,
};

/// The number of `Record.references`.
const REFERENCES_FIELD: u32 = 4;

/// What records have to be decoded, hashed and looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Of their encodings.
    pub bytes: usize,
    /// Fields that are there, elements of repeated ones and messages included.
    pub fields: usize,
    /// Messages within them.
    pub messages: usize,
    /// References to other records.
    pub references: usize,
}

/// Records are more work than their bytes may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A record of more than [`RECORD_LEAVES_MAX`] fields, whatever its bytes.
    #[error("more than {RECORD_LEAVES_MAX} fields and elements")]
    TooManyFields,
    /// Too many fields for the bytes.
    #[error(
        "{0} fields and elements, at most {FIELDS_BASE} and one for each {BYTES_PER_FIELD} bytes are allowed"
    )]
    Fields(usize),
    /// Too many messages for the bytes.
    #[error(
        "{0} messages, at most {MESSAGES_BASE} and one for each {BYTES_PER_MESSAGE} bytes are allowed"
    )]
    Messages(usize),
    /// Too many references for one transaction.
    #[error("{0} references, at most {TRANSACTION_REFERENCES_MAX} in one transaction are allowed")]
    References(usize),
}

impl Load {
    /// Of a record's encoding, as far as a decoder would follow it: what comes after something that is no
    /// protobuf is not counted, because nothing is decoded then.
    ///
    /// # Errors
    /// [`LoadError::TooManyFields`].
    pub fn of(record: &[u8]) -> Result<Self, LoadError> {
        let mut load = Self { bytes: record.len(), ..Self::default() };
        if let Some(shape) = SHAPES.first() {
            load.message(record, shape, true)?;
        }
        Ok(load)
    }

    /// # Errors
    /// Too many fields or messages for so many bytes.
    pub fn check_density(&self) -> Result<(), LoadError> {
        if self.fields > FIELDS_BASE + self.bytes / BYTES_PER_FIELD {
            return Err(LoadError::Fields(self.fields));
        }
        if self.messages > MESSAGES_BASE + self.bytes / BYTES_PER_MESSAGE {
            return Err(LoadError::Messages(self.messages));
        }
        Ok(())
    }

    /// Whether the records with this load may be in one transaction.
    ///
    /// # Errors
    /// Too many fields or messages for so many bytes, or too many references.
    pub fn check_transaction(&self) -> Result<(), LoadError> {
        self.check_density()?;
        match self.references > TRANSACTION_REFERENCES_MAX {
            true => Err(LoadError::References(self.references)),
            false => Ok(()),
        }
    }

    fn message(
        &mut self,
        mut bytes: &[u8],
        shape: &Shape,
        is_record: bool,
    ) -> Result<(), LoadError> {
        while let Ok((number, wire_type)) = decode_key(&mut bytes) {
            self.fields += 1;
            if self.fields > RECORD_LEAVES_MAX {
                return Err(LoadError::TooManyFields);
            }
            let Ok(value) = value_of(&mut bytes, number, wire_type) else { return Ok(()) };
            self.references += usize::from(is_record && number == REFERENCES_FIELD);
            let kind = shape.field(number).map(|field| field.kind);
            if let (Some(value), Some(FieldKind::Message(place))) = (value, kind)
                && let Some(inner) = SHAPES.get(place)
            {
                self.messages += 1;
                self.message(value, inner, false)?;
            }
        }
        Ok(())
    }
}

/// Reads past a field's value as a decoder does, and gives it where it has a length.
fn value_of<'b>(
    bytes: &mut &'b [u8],
    number: u32,
    wire_type: WireType,
) -> Result<Option<&'b [u8]>, ()> {
    if wire_type != WireType::LengthDelimited {
        let skipped = skip_field(wire_type, number, bytes, DecodeContext::default());
        return skipped.map(|()| None).map_err(drop);
    }
    let length = decode_varint(bytes).map_err(drop)?;
    let length = usize::try_from(length).map_err(drop)?;
    let (value, rest) = bytes.split_at_checked(length).ok_or(())?;
    *bytes = rest;
    Ok(Some(value))
}

impl Add for Load {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            fields: self.fields + other.fields,
            messages: self.messages + other.messages,
            references: self.references + other.references,
        }
    }
}

impl AddAssign for Load {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

#[cfg(test)]
mod tests {
    use customhouse_proto::v1::{self, record::Body};
    use prost::Message as _;

    use super::*;

    fn declaration(items: Vec<v1::GoodsItem>) -> Vec<u8> {
        let body = v1::Declaration { items, reference: "LRN1".into(), ..Default::default() };
        let record = v1::Record { body: Some(Body::Declaration(body)), ..Default::default() };
        record.encode_to_vec()
    }

    #[test]
    fn fields_messages_and_references_are_counted_as_they_are_encoded() {
        let item =
            v1::GoodsItem { packages: vec![v1::Package::default(); 3], ..Default::default() };
        let mut bytes = declaration(vec![item]);
        // The declaration and its reference, the item and its packages.
        let load = Load { bytes: bytes.len(), fields: 6, messages: 5, references: 0 };
        assert_eq!(Load::of(&bytes), Ok(load));
        let references = vec![v1::Reference::default(); 2];
        let with = v1::Record { references, ..Default::default() };
        bytes.extend(with.encode_to_vec());
        let load = Load { bytes: bytes.len(), fields: 8, messages: 7, references: 2 };
        assert_eq!(Load::of(&bytes), Ok(load));
        // Nothing is decoded behind what is cut off.
        assert_eq!(Load::of(&bytes[..bytes.len() - 1]).map(|load| load.messages), Ok(6));
        // What is unknown is read past as a decoder reads past it: a number, and a group, with its end or without.
        for (unknown, fields) in
            [(&[0xf8, 0x7f, 1][..], 3), (&[0xfb, 0x7f, 8, 1, 0xfc, 0x7f], 3), (&[0xfb, 0x7f], 1)]
        {
            let bytes = [unknown, &declaration(vec![])].concat();
            assert_eq!(Load::of(&bytes).map(|load| load.fields), Ok(fields), "{unknown:?}");
        }
    }

    #[test]
    fn what_a_record_may_have_grows_with_its_bytes() {
        let of = |count| Load::of(&declaration(vec![v1::GoodsItem::default(); count]));
        let dense = of(5000).expect("measured");
        assert_eq!(dense.check_density(), Err(LoadError::Messages(5001)));
        assert_eq!(of(4000).expect("measured").check_density(), Ok(()));
        assert_eq!(of(RECORD_LEAVES_MAX), Err(LoadError::TooManyFields));
        let load = Load { bytes: 800, fields: FIELDS_BASE + 100, ..Load::default() };
        assert_eq!(load.check_density(), Ok(()));
        let more = load + Load { fields: 1, ..Load::default() };
        assert_eq!(more.check_density(), Err(LoadError::Fields(FIELDS_BASE + 101)));
        let referring = Load { references: TRANSACTION_REFERENCES_MAX + 1, ..Load::default() };
        assert_eq!(referring.check_density(), Ok(()));
        let refused = LoadError::References(TRANSACTION_REFERENCES_MAX + 1);
        assert_eq!(referring.check_transaction(), Err(refused));
    }
}
