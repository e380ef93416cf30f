//! The JSON forms of proofs, for people and for tools that read no protobuf (docs/FORMATS.md, "JSON
//! forms").
//!
//! One object a message, every field there under its name in the `.proto` file, bytes as lower-case
//! hexadecimal. A form stands for exactly one binary, and only that is ever verified.

use std::{borrow::Cow, fmt, marker::PhantomData};

use customhouse_proto::v1;
use prost::Message;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IntoDeserializer as _, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::{
    canonical::{self, CanonicalError},
    limits::{
        CONSISTENCY_PROOF_BYTES_MAX, HISTORY_PROOF_BYTES_MAX, RECEIPT_BYTES_MAX,
        SEALED_HISTORY_PROOF_BYTES_MAX, VALIDATOR_CHAIN_BYTES_MAX,
    },
};

#[cfg(test)]
mod tests;

/// Most bytes of JSON for one byte of a binary: two digits, and around short fields quotes,
/// indentation and names.
const JSON_FACTOR: usize = 4;

/// Why a message cannot be turned into its other form.
#[derive(Debug, thiserror::Error)]
pub enum ProofJsonError {
    /// More than [`JsonForm::JSON_BYTES_MAX`].
    #[error("{name}: {found} bytes of JSON, at most {max} are allowed")]
    TooLarge {
        /// The message.
        name: &'static str,
        /// Bytes there are.
        found: usize,
        /// Bytes there may be.
        max: usize,
    },
    /// Not the JSON form: no such field, a field missing or twice, or not lower-case hexadecimal.
    #[error("{0}: not its JSON form: {1}")]
    Json(&'static str, serde_json::Error),
    /// Not the message in its one encoding.
    #[error("{0}: {1}")]
    Canonical(&'static str, CanonicalError),
}

impl ProofJsonError {
    /// A stable code for clients and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "PROOF_JSON_TOO_LARGE",
            Self::Json(..) => "PROOF_JSON",
            Self::Canonical(_, error) => error.code(),
        }
    }
}

/// A message that has a JSON form.
pub trait JsonForm: Message + Default + Form {
    /// Its name, for errors.
    const NAME: &'static str;
    /// Most bytes of its JSON form: more than the largest binary needs.
    const JSON_BYTES_MAX: usize;
}

/// What is written as one JSON value: a message, or bytes.
pub trait Form: Sized {
    /// Writes the value.
    ///
    /// # Errors
    /// Those of the serializer.
    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error>;

    /// Reads the value.
    ///
    /// # Errors
    /// Those of the deserializer; whatever is not exactly the form.
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error>;
}

/// The JSON form of a message's canonical bytes, indented.
///
/// # Errors
/// [`ProofJsonError::Canonical`].
pub fn to_json<M: JsonForm>(binary: &[u8]) -> Result<String, ProofJsonError> {
    let message: M =
        canonical::decode(binary).map_err(|error| ProofJsonError::Canonical(M::NAME, error))?;
    let mut text = Vec::new();
    message
        .write(&mut serde_json::Serializer::pretty(&mut text))
        .expect("strings and numbers always serialise");
    text.push(b'\n');
    Ok(String::from_utf8(text).expect("JSON is UTF-8"))
}

/// The canonical bytes that a JSON form stands for.
///
/// # Errors
/// [`ProofJsonError`].
pub fn from_json<M: JsonForm>(text: &[u8]) -> Result<Vec<u8>, ProofJsonError> {
    let (found, max) = (text.len(), M::JSON_BYTES_MAX);
    if found > max {
        return Err(ProofJsonError::TooLarge { name: M::NAME, found, max });
    }
    let mut from = serde_json::Deserializer::from_slice(text);
    let message = Element::deserialize(&mut from).and_then(|message| from.end().map(|()| message));
    let message = message.map(|Element(message): Element<M>| message);
    Ok(message.map_err(|error| ProofJsonError::Json(M::NAME, error))?.encode_to_vec())
}

/// The canonical bytes of a file that has either form. JSON begins with a brace, which no binary
/// does: it would be a group of field 15.
///
/// # Errors
/// [`ProofJsonError`], of a JSON form; a binary is given back as it is.
pub fn binary_of<M: JsonForm>(file: &[u8]) -> Result<Cow<'_, [u8]>, ProofJsonError> {
    // White space before the brace is not skipped: most binaries begin with a line feed, 0x0a.
    match file {
        [b'{', ..] => from_json::<M>(file).map(Cow::Owned),
        _ => Ok(Cow::Borrowed(file)),
    }
}

impl JsonForm for v1::Receipt {
    const NAME: &'static str = "receipt";
    const JSON_BYTES_MAX: usize = JSON_FACTOR * RECEIPT_BYTES_MAX;
}

impl JsonForm for v1::HistoryProof {
    const NAME: &'static str = "history proof";
    const JSON_BYTES_MAX: usize = JSON_FACTOR * HISTORY_PROOF_BYTES_MAX;
}

impl JsonForm for v1::SealedHistoryProof {
    const NAME: &'static str = "sealed history proof";
    const JSON_BYTES_MAX: usize = JSON_FACTOR * SEALED_HISTORY_PROOF_BYTES_MAX;
}

impl JsonForm for v1::ConsistencyProof {
    const NAME: &'static str = "consistency proof";
    const JSON_BYTES_MAX: usize = JSON_FACTOR * CONSISTENCY_PROOF_BYTES_MAX;
}

impl JsonForm for v1::ValidatorChain {
    const NAME: &'static str = "validator chain";
    const JSON_BYTES_MAX: usize = JSON_FACTOR * VALIDATOR_CHAIN_BYTES_MAX;
}

/// A message's form is a struct with the same fields; `deny_unknown_fields` and the lack of defaults
/// make it the only one.
macro_rules! form_of {
    ($message:ident, $form:ident) => {
        impl Form for v1::$message {
            fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                $form::serialize(self, to)
            }

            fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                $form::deserialize(from)
            }
        }
    };
}

form_of!(Receipt, ReceiptForm);
form_of!(HistoryProof, HistoryForm);
form_of!(SealedHistoryProof, SealedHistoryProofForm);
form_of!(SealedHistory, SealedHistoryForm);
form_of!(ConsistencyProof, ConsistencyForm);
form_of!(ValidatorChain, ChainForm);
form_of!(ValidatorStep, StepForm);
form_of!(ValidatorEntry, ValidatorForm);

#[derive(Serialize, Deserialize)]
#[serde(remote = "v1::Receipt", deny_unknown_fields)]
struct ReceiptForm {
    #[serde(with = "bytes")]
    record: Vec<u8>,
    #[serde(with = "bytes")]
    slot: Vec<u8>,
    slot_index: u32,
    #[serde(with = "bytes")]
    slot_path: Vec<u8>,
    #[serde(with = "bytes")]
    transaction_header: Vec<u8>,
    #[serde(with = "bytes")]
    transaction_signature: Vec<u8>,
    log_index: u64,
    #[serde(with = "bytes")]
    log_path: Vec<u8>,
    #[serde(with = "bytes")]
    header: Vec<u8>,
    #[serde(with = "bytes")]
    certificate: Vec<u8>,
    #[serde(with = "bytes")]
    registry_entry: Vec<u8>,
    registry_index: u64,
    registry_count: u64,
    #[serde(with = "bytes")]
    registry_path: Vec<u8>,
    #[serde(with = "bytes")]
    agreements_root: Vec<u8>,
    #[serde(with = "bytes")]
    outcome_path: Vec<u8>,
    #[serde(with = "bytes")]
    outcomes_path: Vec<u8>,
    /// Left out where there are none, as most receipts have it.
    #[serde(with = "list", default, skip_serializing_if = "Vec::is_empty")]
    steps: Vec<v1::ValidatorStep>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "v1::HistoryProof", deny_unknown_fields)]
struct HistoryForm {
    #[serde(with = "bytes")]
    subject_key: Vec<u8>,
    #[serde(with = "bytes")]
    bucket_entries: Vec<u8>,
    #[serde(with = "bytes")]
    path: Vec<u8>,
    #[serde(with = "bytes")]
    header: Vec<u8>,
    #[serde(with = "bytes")]
    certificate: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "v1::SealedHistoryProof", deny_unknown_fields)]
struct SealedHistoryProofForm {
    #[serde(with = "bytes")]
    agreement_entry: Vec<u8>,
    agreement_index: u64,
    agreement_count: u64,
    #[serde(with = "bytes")]
    agreement_path: Vec<u8>,
    #[serde(with = "bytes")]
    agreements_head: Vec<u8>,
    #[serde(with = "bytes")]
    members_root: Vec<u8>,
    #[serde(with = "bytes")]
    header: Vec<u8>,
    #[serde(with = "bytes")]
    certificate: Vec<u8>,
    subject_scheme: u32,
    subject_id: String,
    page: u32,
    page_count: u32,
    #[serde(with = "list")]
    histories: Vec<v1::SealedHistory>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "v1::SealedHistory", deny_unknown_fields)]
struct SealedHistoryForm {
    epoch: u32,
    agency: String,
    #[serde(with = "bytes")]
    vrf_proof: Vec<u8>,
    from_entry: u64,
    #[serde(with = "bytes")]
    head_before: Vec<u8>,
    #[serde(with = "bytes")]
    bucket_entries: Vec<u8>,
    #[serde(with = "bytes")]
    path: Vec<u8>,
    #[serde(with = "bytes")]
    head_after: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "v1::ConsistencyProof", deny_unknown_fields)]
struct ConsistencyForm {
    #[serde(with = "bytes")]
    from_header: Vec<u8>,
    #[serde(with = "bytes")]
    from_certificate: Vec<u8>,
    #[serde(with = "bytes")]
    to_header: Vec<u8>,
    #[serde(with = "bytes")]
    to_certificate: Vec<u8>,
    #[serde(with = "bytes")]
    path: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "v1::ValidatorChain", deny_unknown_fields)]
struct ChainForm {
    #[serde(with = "list")]
    steps: Vec<v1::ValidatorStep>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "v1::ValidatorStep", deny_unknown_fields)]
struct StepForm {
    #[serde(with = "bytes")]
    header: Vec<u8>,
    #[serde(with = "bytes")]
    certificate: Vec<u8>,
    #[serde(with = "list")]
    validators: Vec<v1::ValidatorEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "v1::ValidatorEntry", deny_unknown_fields)]
struct ValidatorForm {
    agency: String,
    #[serde(with = "bytes")]
    public_key: Vec<u8>,
}

impl Form for Vec<u8> {
    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        bytes::serialize(self, to)
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        bytes::deserialize(from)
    }
}

/// A whole message, or an element of a list: an object or text. A list of a message's values would
/// be taken for the message otherwise.
struct Element<T>(T);

impl<T: Form> Serialize for Element<&T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.write(to)
    }
}

impl<'de, T: Form> Deserialize<'de> for Element<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ObjectOrText(PhantomData))
    }
}

struct ObjectOrText<T>(PhantomData<T>);

impl<'de, T: Form> Visitor<'de> for ObjectOrText<T> {
    type Value = Element<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or text")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::read(MapAccessDeserializer::new(map)).map(Element)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        T::read(text.into_deserializer()).map(Element)
    }
}

/// Bytes are lower-case hexadecimal, and no other.
mod bytes {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(value: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(value))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(D::Error::custom("upper-case hexadecimal, lower-case expected"));
        }
        hex::decode(text).map_err(|error| D::Error::custom(format!("hexadecimal: {error}")))
    }
}

/// How a repeated field is written.
mod list {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::{Element, Form};

    pub(super) fn serialize<T: Form, S: Serializer>(list: &[T], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(Element))
    }

    pub(super) fn deserialize<'de, T: Form, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<T>, D::Error> {
        let list = Vec::<Element<T>>::deserialize(from)?;
        Ok(list.into_iter().map(|element| element.0).collect())
    }
}
