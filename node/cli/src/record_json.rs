//! Records as JSON, in protobuf's own JSON form, with the published descriptors.

use std::{collections::BTreeSet, fmt};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use customhouse_proto::v1;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};

fn descriptor(name: &str) -> anyhow::Result<MessageDescriptor> {
    let pool = DescriptorPool::decode(customhouse_proto::DESCRIPTORS)
        .context("the descriptors that this program was built with")?;
    pool.get_message_by_name(name).with_context(|| format!("{name} is not in the descriptors"))
}

/// Reads a record. Unknown fields are refused, and so is one that stands twice in an object.
pub(crate) fn parse(text: &str) -> anyhow::Result<v1::Record> {
    serde_json::from_str::<OnceEach>(text)?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let message =
        DynamicMessage::deserialize(descriptor("customhouse.v1.Record")?, &mut deserializer)?;
    deserializer.end()?;
    let mut record: v1::Record = message.transcode_to()?;
    for reference in &mut record.references {
        in_hexadecimal(&mut reference.record_id);
    }
    Ok(record)
}

/// Commands print ids in hexadecimal, and protobuf's JSON has bytes in base64. An id of 64 hexadecimal digits is read
/// as that: as base64 it would have 48 bytes, which no id has.
fn in_hexadecimal(id: &mut Vec<u8>) {
    let written = STANDARD.encode(&*id);
    if written.len() == 64
        && let Ok(bytes) = hex::decode(&written)
    {
        *id = bytes;
    }
}

/// Any JSON in whose objects each field stands once, in one of the two spellings that protobuf's JSON has
/// for it. Readers take the last of two, and nobody knows which was meant.
struct OnceEach;

impl<'de> Deserialize<'de> for OnceEach {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for OnceEach {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self, A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(name) = fields.next_key::<String>()? {
            if !seen.insert(name.replace('_', "").to_ascii_lowercase()) {
                return Err(A::Error::custom(format_args!("the field {name:?} stands twice")));
            }
            fields.next_value::<Self>()?;
        }
        Ok(self)
    }
}

/// Any message of the interface as JSON: bytes in base64, enumerations by name.
pub(crate) fn of_message<M: prost::Message>(
    name: &str,
    message: &M,
) -> anyhow::Result<serde_json::Value> {
    let bytes = message.encode_to_vec();
    let message = DynamicMessage::decode(descriptor(name)?, &*bytes)?;
    Ok(serde_json::to_value(message)?)
}

/// A record's canonical bytes as JSON.
pub(crate) fn of_record(bytes: &[u8]) -> anyhow::Result<serde_json::Value> {
    of_message("customhouse.v1.Record", &v1::Record::decode(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_another_record_is_read_as_commands_print_it_and_as_protobuf_does() {
        let id: Vec<u8> = (0..32).map(|byte| byte * 7).collect();
        for written in [hex::encode(&id), STANDARD.encode(&id), hex::encode(&id).to_uppercase()] {
            let text = format!(r#"{{"references": [{{"recordId": "{written}"}}]}}"#);
            assert_eq!(parse(&text).expect("a record").references[0].record_id, id, "{written}");
        }
    }

    #[test]
    fn a_record_comes_back_from_its_json() {
        let text = r#"{
            "declaration": {
                "regime": "IMPORT", "reference": "LRN1",
                "items": [{"sequence": 1, "hsCode": "090111", "hsEdition": "2022"}]
            },
            "subjects": [{"scheme": "UCR", "id": "U1"}]
        }"#;
        let record = parse(text).expect("a record");
        let json = of_record(&record.encode_to_vec()).expect("JSON");
        assert_eq!(parse(&json.to_string()).expect("a record"), record);
        assert_eq!(json["declaration"]["items"][0]["hsCode"], "090111");
    }

    #[test]
    fn a_field_that_stands_twice_is_refused_by_name_however_it_is_spelt() {
        for (text, name) in [
            (r#"{"riskAlert": {"alertId": "7", "alertId": "8"}}"#, "alertId"),
            (r#"{"riskAlert": {"alertId": "7", "alert_id": "8"}}"#, "alert_id"),
            (r#"{"riskAlert": {"alertId": "7", "about": [], "about": [null]}}"#, "about"),
            (r#"{"subjects": [{"id": "A", "scheme": 4, "id": "B"}]}"#, "id"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(&format!("the field \"{name}\" stands twice")), "{error}");
        }
        let deep = "[".repeat(100_000);
        assert!(parse(&deep).expect_err("too deep").to_string().contains("recursion"));
    }

    #[test]
    fn a_misspelt_field_is_refused_by_name() {
        let error = parse(r#"{"declaraton": {}}"#).expect_err("refused").to_string();
        assert!(error.contains("declaraton"), "{error}");
    }
}
