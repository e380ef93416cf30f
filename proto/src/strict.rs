//! The codec of the services: as protobuf's, and a request in which a field is unknown is refused.
//!
//! A decoder of protobuf drops what it does not know. In a record, that would be a part of what its
//! author meant, gone without a word. So the bytes of each request are compared with the published
//! descriptors before they are decoded: every field is known, none that may be there once is there twice,
//! and there are not so many messages that they would take many times the memory of the bytes they came
//! in.

use std::{
    collections::HashMap,
    marker::PhantomData,
    sync::{LazyLock, OnceLock},
};

use prost::{Message, Name};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use tonic::{
    Code, Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder},
    metadata::MetadataMap,
};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// Metadata of a refusal: its stable reason code.
pub const REASON_CODE: &str = "reason-code";
/// Most elements of one list; each list that may be long has its own, lower limit.
const LIST_MAX: usize = 8192;
/// Messages that a request may have: this many, and one more for each `MESSAGE_BYTES` of it.
const MESSAGES_MAX: usize = 4096;
const MESSAGE_BYTES: usize = 32;
/// Messages within messages, as far as a decoder follows them.
const DEPTH_MAX: usize = 100;

/// The codec that the services are generated with.
#[derive(Clone, Debug)]
pub struct StrictCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for StrictCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for StrictCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = StrictDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        StrictDecoder(ProstCodec::<T, U>::default().decoder())
    }
}

/// Decodes what is whole and known. Answers are decoded as they come: a newer node may say more.
#[derive(Debug)]
pub struct StrictDecoder<U>(ProstDecoder<U>);

impl<U: Message + Name + Default> Decoder for StrictDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        if U::NAME.ends_with("Request") {
            check(&U::full_name(), bytes::Buf::chunk(buffer)).map_err(Status::from)?;
        }
        self.0.decode(buffer)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

/// Why a message would not be what its sender meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unclear {
    /// A field that this version does not know, by path and number.
    Unknown(String, u32),
    /// A field, or two of which only one may be there.
    Twice(String),
    /// More elements than any list has, or more messages than such bytes have.
    TooMany(String),
    /// No protobuf, or not of this message.
    Malformed(String),
}

impl From<Unclear> for Status {
    fn from(unclear: Unclear) -> Self {
        let (reason_code, message) = match unclear {
            Unclear::Unknown(path, number) => (
                "UNKNOWN_FIELD",
                format!("{path}: field {number} is unknown to this node: it would be lost"),
            ),
            Unclear::Twice(path) => {
                ("REPEATED_FIELD", format!("{path}: more than once, and only one would be kept"))
            }
            Unclear::TooMany(path) => (
                "TOO_MANY_ELEMENTS",
                format!(
                    "{path}: a list of more than {LIST_MAX}, or more messages in this request than \
                     {MESSAGES_MAX} and one for each {MESSAGE_BYTES} bytes: send less at a time"
                ),
            ),
            Unclear::Malformed(path) => {
                ("MESSAGE_MALFORMED", format!("{path}: not the bytes of this message"))
            }
        };
        let mut metadata = MetadataMap::new();
        metadata.insert(REASON_CODE, reason_code.parse().expect("reason codes are ASCII"));
        Self::with_metadata(Code::InvalidArgument, message, metadata)
    }
}

/// Checks the bytes of a message, by its full name.
///
/// # Errors
/// [`Unclear`], by the path of the field.
pub fn check(name: &str, bytes: &[u8]) -> Result<(), Unclear> {
    let Some(&of) = LAYOUTS.by_name.get(name) else {
        return Err(Unclear::Malformed(name.to_owned()));
    };
    let left = MESSAGES_MAX + bytes.len() / MESSAGE_BYTES;
    Check { left }.message(&LAYOUTS.layouts[of], bytes, &Path { above: None, name: "" }, 0)
}

/// What is known of all messages.
struct Layouts {
    by_name: HashMap<String, usize>,
    layouts: Vec<Layout>,
}

struct Layout {
    /// Ascending by number.
    fields: Vec<Field>,
}

struct Field {
    number: u32,
    name: String,
    wire: Wire,
    /// A list: of numbers where `wire` is not [`Wire::Bytes`], which may then come packed.
    repeated: bool,
    /// The oneof that it belongs to, of which only one field may be there.
    oneof: Option<usize>,
    /// The layout that it has, where it is a message.
    message: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Varint,
    Fixed64,
    Bytes,
    Fixed32,
}

static LAYOUTS: LazyLock<Layouts> = LazyLock::new(|| {
    let files = FileDescriptorSet::decode(crate::DESCRIPTORS).expect("compiled in");
    Layouts::of(&files)
});

impl Layouts {
    fn of(files: &FileDescriptorSet) -> Self {
        let mut messages = Vec::new();
        for file in &files.file {
            for message in &file.message_type {
                within(file.package(), message, &mut messages);
            }
        }
        let names = messages.iter().enumerate();
        let by_name: HashMap<_, _> =
            names.map(|(index, (name, _))| (name.clone(), index)).collect();
        let layouts = messages.iter().map(|(_, message)| {
            let mut fields: Vec<_> =
                message.field.iter().map(|field| Field::of(field, &by_name)).collect();
            fields.sort_unstable_by_key(|field| field.number);
            assert!(fields.len() <= 64, "what was there is noted in 64 bits");
            Layout { fields }
        });
        let layouts = layouts.collect();
        Self { by_name, layouts }
    }
}

/// A message and those that are declared in it, by their full names.
fn within<'a>(
    scope: &str,
    message: &'a DescriptorProto,
    messages: &mut Vec<(String, &'a DescriptorProto)>,
) {
    let name = format!("{scope}.{}", message.name());
    for nested in &message.nested_type {
        within(&name, nested, messages);
    }
    messages.push((name, message));
}

impl Field {
    fn of(field: &FieldDescriptorProto, by_name: &HashMap<String, usize>) -> Self {
        let wire = match field.r#type() {
            Type::Fixed64 | Type::Sfixed64 | Type::Double => Wire::Fixed64,
            Type::Fixed32 | Type::Sfixed32 | Type::Float => Wire::Fixed32,
            Type::String | Type::Bytes | Type::Message => Wire::Bytes,
            Type::Group => panic!("groups are not of proto3"),
            _ => Wire::Varint,
        };
        // A fully qualified name begins with a dot.
        let message = by_name.get(field.type_name().trim_start_matches('.')).copied();
        Self {
            number: u32::try_from(field.number()).expect("positive"),
            name: field.name().to_owned(),
            wire,
            repeated: field.label() == Label::Repeated,
            oneof: field.oneof_index.and_then(|index| usize::try_from(index).ok()),
            message: message.filter(|_| field.r#type() == Type::Message),
        }
    }
}

/// Where a field is, for a refusal.
struct Path<'a> {
    above: Option<&'a Path<'a>>,
    name: &'a str,
}

impl Path<'_> {
    fn to(&self, name: &str) -> String {
        let mut names = vec![name];
        let mut path = Some(self);
        while let Some(Path { above, name }) = path {
            names.push(name);
            path = *above;
        }
        names.retain(|name| !name.is_empty());
        names.reverse();
        if names.is_empty() { "message".to_owned() } else { names.join(".") }
    }
}

struct Check {
    /// Messages that may still come.
    left: usize,
}

impl Check {
    fn message(
        &mut self,
        layout: &Layout,
        mut bytes: &[u8],
        path: &Path<'_>,
        depth: usize,
    ) -> Result<(), Unclear> {
        let malformed = || Unclear::Malformed(path.to(""));
        let (mut once, mut oneofs) = (0_u64, 0_u64);
        let mut lists: OnceLock<Vec<usize>> = OnceLock::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes).ok_or_else(malformed)?;
            let number = u32::try_from(key >> 3).map_err(|_| malformed())?;
            let Ok(index) = layout.fields.binary_search_by_key(&number, |field| field.number)
            else {
                return Err(Unclear::Unknown(path.to(""), number));
            };
            let field = &layout.fields[index];
            let value = value(&mut bytes, key & 7).ok_or_else(malformed)?;
            let packed = field.repeated && value.wire == Wire::Bytes;
            if value.wire != field.wire && !packed {
                return Err(Unclear::Malformed(path.to(&field.name)));
            }
            if field.repeated {
                lists.get_or_init(|| vec![0; layout.fields.len()]);
                let count = &mut lists.get_mut().expect("made above")[index];
                *count += 1;
                if *count > LIST_MAX {
                    return Err(Unclear::TooMany(path.to(&field.name)));
                }
            } else {
                let oneof = field.oneof.map_or(0, |oneof| 1 << oneof.min(63));
                if once & 1 << index != 0 || oneofs & oneof != 0 {
                    return Err(Unclear::Twice(path.to(&field.name)));
                }
                (once, oneofs) = (once | 1 << index, oneofs | oneof);
            }
            if let Some(of) = field.message {
                self.left = self
                    .left
                    .checked_sub(1)
                    .ok_or_else(|| Unclear::TooMany(path.to(&field.name)))?;
                if depth >= DEPTH_MAX {
                    return Err(Unclear::Malformed(path.to(&field.name)));
                }
                let path = Path { above: Some(path), name: &field.name };
                self.message(&LAYOUTS.layouts[of], value.bytes, &path, depth + 1)?;
            }
        }
        Ok(())
    }
}

struct Value<'a> {
    wire: Wire,
    /// Where [`Wire::Bytes`].
    bytes: &'a [u8],
}

/// Takes the value of a wire type.
fn value<'a>(bytes: &mut &'a [u8], wire_type: u64) -> Option<Value<'a>> {
    let mut take = |length: usize| {
        let (value, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        Some(value)
    };
    let (wire, value) = match wire_type {
        0 => (Wire::Varint, varint(bytes).map(|_| &[][..])?),
        1 => (Wire::Fixed64, take(8)?),
        2 => {
            let length = usize::try_from(varint(bytes)?).ok()?;
            let (value, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            (Wire::Bytes, value)
        }
        5 => (Wire::Fixed32, take(4)?),
        _ => return None,
    };
    Some(Value { wire, bytes: value })
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(place * 7).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    const NAME: &str = "customhouse.v1.SubmitRecordsRequest";

    fn request() -> v1::SubmitRecordsRequest {
        let parts = vec![v1::Subject { scheme: 1, id: "M1".into() }; 3];
        let alert = v1::RiskAlert { alert_id: "A".into(), ..Default::default() };
        let body = Some(v1::record::Body::RiskAlert(alert));
        let record = v1::Record { salt: vec![7; 16], subjects: parts, body, ..Default::default() };
        let of = |key: &str| v1::RecordSubmission {
            record: Some(record.clone()),
            idempotency_key: key.into(),
            open: true,
            agreement: Vec::new(),
        };
        v1::SubmitRecordsRequest { records: vec![of("a"), of("b")], wait: true }
    }

    /// A field of bytes.
    fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut all);
        prost::encoding::encode_varint(bytes.len() as u64, &mut all);
        [&all, bytes].concat()
    }

    #[test]
    fn what_is_known_passes() {
        assert_eq!(check(NAME, &request().encode_to_vec()), Ok(()));
        assert_eq!(check(NAME, &[]), Ok(()));
    }

    #[test]
    fn an_unknown_field_is_refused_however_deep_it_is() {
        let unknown = field(15_000, b"new");
        let record = request().records[0].record.clone().expect("there").encode_to_vec();
        let alert = field(500, b"x");
        let deep = [
            (unknown.clone(), "message"),
            (field(1, &unknown), "records"),
            (field(1, &field(1, &[record, unknown.clone()].concat())), "records.record"),
        ];
        for (bytes, path) in deep {
            let bytes = [request().encode_to_vec(), bytes].concat();
            assert_eq!(check(NAME, &bytes), Err(Unclear::Unknown(path.into(), 15_000)));
        }
        let name = "customhouse.v1.SubmitTransactionRequest";
        assert_eq!(
            check(name, &field(1, &alert)),
            Err(Unclear::Unknown("transaction".into(), 500))
        );
    }

    #[test]
    fn what_may_be_there_once_is_not_there_twice() {
        let record = request().records[0].record.clone().expect("there").encode_to_vec();
        let inspection = v1::Record {
            body: Some(v1::record::Body::Inspection(v1::Inspection::default())),
            ..Default::default()
        };
        let both = [&record[..], &inspection.encode_to_vec()].concat();
        for twice in [both, [&record[..], &record].concat()] {
            let found = check("customhouse.v1.Record", &twice).expect_err("refused");
            assert!(matches!(found, Unclear::Twice(_)), "{found:?}");
        }
    }

    #[test]
    fn a_few_bytes_are_not_blown_up_to_many_messages() {
        let empty = field(1, &[]).repeat(100_000);
        assert_eq!(check(NAME, &empty), Err(Unclear::TooMany("records".into())));
        // In many lists that are each short enough.
        let lists = field(1, &field(1, &field(5, &[]).repeat(4000)));
        let found = check(NAME, &lists.repeat(10));
        assert!(found.is_err(), "{found:?}");
    }

    #[test]
    fn a_declaration_of_999_items_passes_and_a_bomb_of_as_many_bytes_does_not() {
        let text = |length: usize| "x".repeat(length);
        let document = v1::DocumentReference {
            category: "Y".into(),
            type_code: text(4),
            id: text(12),
            ..Default::default()
        };
        let extension = v1::Extension { name: text(40), value: text(8) };
        let money = || Some(v1::Money { amount: text(7), currency: text(3) });
        let item = |sequence| v1::GoodsItem {
            sequence,
            hs_code: text(10),
            description: text(60),
            value: money(),
            statistical_value: money(),
            packages: vec![v1::Package { type_code: text(2), count: 3, marks: text(10) }; 2],
            previous_documents: vec![document.clone(); 3],
            supporting_documents: vec![document.clone(); 7],
            taxes: vec![v1::Tax { amount: money(), base: money(), ..Default::default() }; 3],
            parties: vec![v1::Party { role: text(9), id: text(14), ..Default::default() }; 2],
            extensions: vec![extension.clone(); 20],
            ..Default::default()
        };
        let declaration =
            v1::Declaration { items: (1..=999).map(item).collect(), ..Default::default() };
        let record = v1::Record {
            body: Some(v1::record::Body::Declaration(declaration)),
            ..Default::default()
        };
        let submission = v1::RecordSubmission {
            record: Some(record),
            idempotency_key: "k".into(),
            open: true,
            agreement: Vec::new(),
        };
        let bytes = v1::SubmitRecordsRequest { records: vec![submission], wait: true };
        let bytes = bytes.encode_to_vec();
        assert!((1 << 20..4 << 20).contains(&bytes.len()), "{}", bytes.len());
        assert_eq!(check(NAME, &bytes), Ok(()));
        // Empty items, in declarations whose lists are each short enough, as many bytes of them.
        let items = field(20, &[]).repeat(4000);
        let declaration = field(1, &field(1, &field(16, &items)));
        let bomb = declaration.repeat(bytes.len() / declaration.len());
        let found = check(NAME, &bomb);
        assert!(found.is_err(), "{found:?}");
    }

    #[test]
    fn no_bytes_are_followed_further_than_a_decoder_goes() {
        let bytes = request().encode_to_vec();
        for length in 0..bytes.len() {
            let whole = v1::SubmitRecordsRequest::decode(&bytes[..length]).is_ok();
            assert_eq!(check(NAME, &bytes[..length]).is_ok(), whole, "{length}");
        }
    }
}
