//! The shape of a record: which fields its messages have, as a table. Whoever hashes a record field by field
//! reads its bytes by this table. It is made from the `.proto` files when the crate is compiled, which refuses
//! what a record may not have (maps, floats, optional scalars, repeated numbers, messages inside themselves).

/// A message: its fields, ascending by number.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// As in the `.proto` file.
    pub name: &'static str,
    /// Ascending by number.
    pub fields: &'static [Field],
}

/// A field of a message.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// As in the `.proto` file.
    pub name: &'static str,
    /// Its number.
    pub number: u32,
    /// Whether it may be there more than once.
    pub repeated: bool,
    /// What is in it.
    pub kind: FieldKind,
}

/// What is in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// UTF-8.
    Text,
    /// Bytes.
    Bytes,
    /// An unsigned number or an enumeration's.
    Number,
    /// The message at this place of [`SHAPES`].
    Message(usize),
}

impl Shape {
    /// The field of a number.
    pub fn field(&self, number: u32) -> Option<&'static Field> {
        let place = self.fields.binary_search_by_key(&number, |field| field.number).ok()?;
        self.fields.get(place)
    }
}

include!(concat!(env!("OUT_DIR"), "/shapes.rs"));
