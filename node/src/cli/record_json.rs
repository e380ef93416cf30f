//! Records as JSON, in protobuf's own JSON form, with the published descriptors.

use anyhow::Context as _;
use customhouse_proto::v1;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

fn descriptor(name: &str) -> anyhow::Result<MessageDescriptor> {
    let pool = DescriptorPool::decode(customhouse_proto::DESCRIPTORS)
        .context("the descriptors that this program was built with")?;
    pool.get_message_by_name(name).with_context(|| format!("{name} is not in the descriptors"))
}

/// Reads a record. Unknown fields are refused.
pub(crate) fn parse(text: &str) -> anyhow::Result<v1::Record> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let message =
        DynamicMessage::deserialize(descriptor("customhouse.v1.Record")?, &mut deserializer)?;
    deserializer.end()?;
    Ok(message.transcode_to()?)
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
    fn a_misspelt_field_is_refused_by_name() {
        let error = parse(r#"{"declaraton": {}}"#).expect_err("refused").to_string();
        assert!(error.contains("declaraton"), "{error}");
    }
}
