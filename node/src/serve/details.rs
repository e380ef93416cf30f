//! `grpc-status-details-bin`: the messages of Google's error model that Customhouse uses, as in
//! `google/rpc/status.proto` and `google/rpc/error_details.proto`.

use std::{collections::HashMap, time::Duration};

use prost::Message;

/// `ErrorInfo.domain` of every error.
const DOMAIN: &str = "customhouse";

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(map = "string, string", tag = "3")]
    metadata: HashMap<String, String>,
}

/// `google.rpc.BadRequest`.
#[derive(Clone, PartialEq, Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    field_violations: Vec<FieldViolation>,
}

/// `google.rpc.BadRequest.FieldViolation`.
#[derive(Clone, PartialEq, Message)]
struct FieldViolation {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
    #[prost(string, tag = "3")]
    reason: String,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<ProtoDuration>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct ProtoDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// Encodes a `google.rpc.Status` with an `ErrorInfo`, with a `BadRequest` where a field (and what
/// is wrong with it) is given, and a `RetryInfo` where a delay is.
pub(super) fn encode(
    code: i32,
    message: &str,
    reason_code: &str,
    field: Option<(&str, &str)>,
    retry_after: Option<Duration>,
) -> Vec<u8> {
    let info = ErrorInfo {
        reason: reason_code.to_owned(),
        domain: DOMAIN.to_owned(),
        metadata: HashMap::new(),
    };
    let mut details = vec![any("google.rpc.ErrorInfo", &info)];
    if let Some((field, description)) = field {
        let violation = FieldViolation {
            field: field.to_owned(),
            description: description.to_owned(),
            reason: reason_code.to_owned(),
        };
        let request = BadRequest { field_violations: vec![violation] };
        details.push(any("google.rpc.BadRequest", &request));
    }
    if let Some(delay) = retry_after {
        let retry_delay = Some(ProtoDuration {
            seconds: i64::try_from(delay.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(delay.subsec_nanos()).unwrap_or(0),
        });
        details.push(any("google.rpc.RetryInfo", &RetryInfo { retry_delay }));
    }
    RpcStatus { code, message: message.to_owned(), details }.encode_to_vec()
}

fn any(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_decode_as_the_error_model_says() {
        let field = Some(("record.salt", "must be empty"));
        let bytes = encode(3, "m", "FIELD", field, Some(Duration::from_millis(1250)));
        let status = RpcStatus::decode(&bytes[..]).expect("a status");
        assert_eq!((status.code, status.message.as_str()), (3, "m"));
        let urls: Vec<_> = status.details.iter().map(|any| any.type_url.as_str()).collect();
        assert_eq!(
            urls,
            [
                "type.googleapis.com/google.rpc.ErrorInfo",
                "type.googleapis.com/google.rpc.BadRequest",
                "type.googleapis.com/google.rpc.RetryInfo",
            ]
        );
        let info = ErrorInfo::decode(&status.details[0].value[..]).expect("decodes");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("FIELD", "customhouse"));
        let request = BadRequest::decode(&status.details[1].value[..]).expect("decodes");
        assert_eq!(request.field_violations[0].field, "record.salt");
        let retry = RetryInfo::decode(&status.details[2].value[..]).expect("decodes");
        assert_eq!(retry.retry_delay, Some(ProtoDuration { seconds: 1, nanos: 250_000_000 }));
    }
}
