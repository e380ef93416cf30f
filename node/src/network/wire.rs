//! A look at protobuf bytes before they are decoded.

use bytes::Buf as _;
use prost::encoding::{self, WireType};

/// Fields that a message may have whatever its size.
const FIELDS_FREE: usize = 1024;
/// Bytes that a field must have on average beyond those.
const FIELD_BYTES_MIN: usize = 8;

/// Whether decoding these bytes takes memory in proportion to them.
///
/// Two bytes of input, an empty field, can make 32 bytes of `Bytes`, so that a frame of nothing but
/// those would take sixteen times its size. No honest message has many fields that small. `levels`
/// is how deep the messages of the schema reach that hold others; opaque bytes inside that happen to
/// look like a message are counted like one.
pub(super) fn is_proportionate(data: &[u8], levels: u32) -> bool {
    fields(data, levels).is_some_and(|fields| {
        fields.saturating_sub(FIELDS_FREE).saturating_mul(FIELD_BYTES_MIN) <= data.len()
    })
}

/// Counts the fields of a message, and of the messages in it down to `levels`. `None`: not a message.
fn fields(mut data: &[u8], levels: u32) -> Option<usize> {
    let mut count = 0;
    while data.has_remaining() {
        let (_, wire_type) = encoding::decode_key(&mut data).ok()?;
        let length = match wire_type {
            WireType::Varint => encoding::decode_varint(&mut data).map(|_| 0).ok()?,
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => encoding::decode_varint(&mut data).ok()?,
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        let (field, rest) = data.split_at_checked(usize::try_from(length).ok()?)?;
        count += 1;
        if levels > 0 && matches!(wire_type, WireType::LengthDelimited) {
            count += fields(field, levels - 1).unwrap_or(0);
        }
        data = rest;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use customhouse_proto::v1;
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_frame_of_empty_fields_is_found_at_every_level_it_can_hide_in() {
        let transactions = vec![bytes::Bytes::new(); 100_000];
        let batch = v1::TransactionBatch { transactions: transactions.clone(), announced: None };
        assert!(!is_proportionate(&batch.encode_to_vec(), 0));
        let blocks = vec![v1::BlockWithBody { block: None, transactions }];
        let response = v1::SyncResponse {
            response: Some(v1::sync_response::Response::Blocks(v1::BlocksResponse {
                blocks,
                tip: None,
            })),
        };
        assert!(!is_proportionate(&response.encode_to_vec(), 2));
    }

    #[test]
    fn a_full_answer_of_leaves_or_transactions_passes() {
        let leaves = vec![vec![0xff; 32]; 10_000];
        let request = v1::SyncRequest {
            request: Some(v1::sync_request::Request::Transactions(v1::TransactionsRequest {
                leaves,
                bytes_max: 1 << 20,
            })),
        };
        assert!(is_proportionate(&request.encode_to_vec(), 2));
        let batch =
            v1::TransactionBatch { transactions: vec![vec![7; 200].into(); 4096], announced: None };
        assert!(is_proportionate(&batch.encode_to_vec(), 0));
        assert!(is_proportionate(&[], 2));
    }

    #[test]
    fn pieces_of_a_file_pass_whatever_is_in_it() {
        let data = [0x0a, 0x00].repeat(32 * 1024);
        let piece = v1::Piece { data, path: vec![0x0a; 448] };
        let pieces = v1::PiecesResponse { pieces: vec![piece; 8] };
        let response =
            v1::SyncResponse { response: Some(v1::sync_response::Response::Pieces(pieces)) };
        assert!(is_proportionate(&response.encode_to_vec(), 2));
    }

    #[test]
    fn bytes_that_are_no_message_are_not_proportionate() {
        for bad in [&[0xff_u8; 20][..], &[0x0a, 5, 1], &[0x0b]] {
            assert!(!is_proportionate(bad, 2), "{bad:?}");
        }
    }
}
