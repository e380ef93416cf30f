//! Damage that every structure is tried with.

use super::cases::Cases;

/// A message's bytes that are cut short, and that are another encoding than the one. The codes are
/// the structure's prefix with `_MALFORMED` and `_NOT_CANONICAL`.
pub(crate) fn encoding(cases: &mut Cases, bytes: &[u8], prefix: &str) {
    let malformed = format!("{prefix}_MALFORMED");
    let not_canonical = format!("{prefix}_NOT_CANONICAL");
    cases.refused(&malformed, "the last byte missing", &bytes[..bytes.len() - 1]);
    cases.refused(&malformed, "a field of no number", [bytes, &[0x00, 0]].concat());
    cases.refused(
        &malformed,
        "a field of another wire type",
        [bytes, &[0x0d, 0, 0, 0, 0]].concat(),
    );
    cases.refused(&malformed, "a group that does not end", [bytes, &[0x7b]].concat());
    cases.refused(&not_canonical, "an unknown field", [bytes, &[0x98, 0x06, 1]].concat());
    cases.refused(&not_canonical, "a field twice", [bytes, &bytes[..first_field(bytes)]].concat());
    let (first, rest) = bytes.split_at(first_field(bytes));
    cases.refused(&not_canonical, "the first field last", [rest, first].concat());
    let long = [&bytes[..1], &lengthened(&bytes[1..])].concat();
    cases.refused(&not_canonical, "a length of more bytes than it needs", long);
}

/// Takes the last hash off a path.
pub(crate) fn shorter(path: &mut Vec<u8>) {
    path.truncate(path.len() - 32);
}

/// Bytes of the first field, which is length-delimited and has a tag of one byte.
fn first_field(bytes: &[u8]) -> usize {
    let mut rest = &bytes[1..];
    let length = prost::decode_length_delimiter(&mut rest).expect("a length");
    bytes.len() - rest.len() + length
}

/// The same number, by one byte longer, and what follows.
fn lengthened(bytes: &[u8]) -> Vec<u8> {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0).expect("a number");
    let mut long = bytes[..=end].to_vec();
    long[end] |= 0x80;
    long.push(0);
    long.extend(&bytes[end + 1..]);
    long
}

/// Adds the order of the base point to a scalar, little-endian: the same scalar, not reduced.
pub(crate) fn add_order(scalar: &mut [u8]) {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0;
    for (byte, order) in scalar.iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
}
