//! What a vector file lists of a structure: bytes that are valid, and changed ones that are refused,
//! each for the one thing that was changed.

use serde_json::{Value, json};

use super::hex_of;

/// Bytes, or what stands for them where they would be long or are text.
pub(crate) enum Given {
    Bytes(Vec<u8>),
    /// Bytes, and behind them others, so many times.
    Repeated {
        bytes: Vec<u8>,
        repeated: Vec<u8>,
        times: usize,
    },
    Zeros(usize),
    Text(String),
}

impl From<Vec<u8>> for Given {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<&[u8]> for Given {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl From<String> for Given {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl Given {
    fn insert_into(self, case: &mut Value) {
        match self {
            Self::Bytes(bytes) => case["bytes"] = hex_of(bytes),
            Self::Repeated { bytes, repeated, times } => {
                case["bytes"] = hex_of(bytes);
                case["repeated"] = hex_of(repeated);
                case["times"] = times.into();
            }
            Self::Zeros(count) => case["zeros"] = count.into(),
            Self::Text(text) => case["text"] = text.into(),
        }
    }
}

/// The cases of one structure.
pub(crate) struct Cases {
    structure: &'static str,
    valid: Vec<Value>,
    refused: Vec<Value>,
}

impl Cases {
    pub(crate) fn new(structure: &'static str) -> Self {
        Self { structure, valid: Vec::new(), refused: Vec::new() }
    }

    pub(crate) fn valid(&mut self, name: &str, given: impl Into<Given>) -> &mut Value {
        let mut case = json!({ "structure": self.structure, "name": name });
        given.into().insert_into(&mut case);
        self.valid.push(case);
        self.valid.last_mut().expect("just added")
    }

    pub(crate) fn refused(
        &mut self,
        code: &str,
        change: &str,
        given: impl Into<Given>,
    ) -> &mut Value {
        let mut case = json!({ "structure": self.structure, "change": change, "code": code });
        given.into().insert_into(&mut case);
        self.refused.push(case);
        self.refused.last_mut().expect("just added")
    }
}

/// A file's description with the cases of its structures.
pub(crate) fn with_cases(mut file: Value, all: impl IntoIterator<Item = Cases>) -> Value {
    let (mut valid, mut refused) = (Vec::new(), Vec::new());
    for cases in all {
        valid.extend(cases.valid);
        refused.extend(cases.refused);
    }
    file["valid"] = valid.into();
    file["refused"] = refused.into();
    file
}

/// A published case's structure, bytes, and the validator chain to follow first.
pub(crate) fn read(case: &Value) -> (&str, Vec<u8>, Vec<u8>) {
    let hex = |value: &Value| hex::decode(value.as_str().expect("text")).expect("hexadecimal");
    let count = |value: &Value| value.as_u64().expect("a count") as usize;
    let bytes = match (&case["bytes"], &case["zeros"], &case["text"]) {
        (Value::String(_), ..) if case["times"].is_number() => {
            let repeated = hex(&case["repeated"]).repeat(count(&case["times"]));
            [hex(&case["bytes"]), repeated].concat()
        }
        (Value::String(_), ..) => hex(&case["bytes"]),
        (_, Value::Number(_), _) => vec![0; count(&case["zeros"])],
        (.., Value::String(text)) => text.clone().into_bytes(),
        _ => panic!("a case without bytes: {case}"),
    };
    let chain =
        if case["validator_chain"].is_null() { vec![] } else { hex(&case["validator_chain"]) };
    (case["structure"].as_str().expect("text"), bytes, chain)
}
