//! Records and transactions that are more work than their bytes may be: one thing, so often. Each stands
//! beside one that is as much as may be, which is refused for what is wrong with it otherwise.

use std::slice::from_ref;

use customhouse_ledger::{
    hash::Hash,
    limits::{RECORD_LEAVES_MAX, TRANSACTION_REFERENCES_MAX},
};
use prost::Message as _;

use super::{
    cases::{Cases, Given},
    records::changed,
    sample::Sample,
    transactions::{signed, slot_of},
};

/// A number in a field that no record has.
const UNKNOWN: &[u8] = &[0xf8, 0x7f, 1];
/// A reference that says nothing: a message of two bytes.
const EMPTY_REFERENCE: &[u8] = &[0x22, 0];
/// A reference of two fields in 20 bytes: few messages and fields for as many bytes.
const LONG_REFERENCE: &[u8] = b"\x22\x12\x12\x10 sixteen  bytes ";

/// A record of unknown fields alone may have 16,384 of them and one for each eight of its bytes.
const UNKNOWN_MAX: usize = 26_214;
/// One of empty references alone, 4,096 of them and one for each 32 of its bytes.
const EMPTY_REFERENCES_MAX: usize = 4369;

fn repeated(bytes: &[u8], repeated: &[u8], times: usize) -> Given {
    Given::Repeated { bytes: bytes.to_vec(), repeated: repeated.to_vec(), times }
}

/// How what a record has is counted, and that nothing of it is decoded before.
pub(crate) fn of_records(cases: &mut Cases) {
    let mut refused = |code: &str, change: &str, given: Given| {
        cases.refused(code, change, given);
    };
    let (leaves, fields) = ("RECORD_LEAVES", UNKNOWN_MAX + 1);
    let unknown = |before: &[u8]| repeated(before, UNKNOWN, fields);
    let most = repeated(&[], UNKNOWN, UNKNOWN_MAX);
    refused("RECORD_NOT_CANONICAL", "unknown fields, as many as may be", most);
    refused(leaves, "an unknown field more than may be", unknown(&[]));
    let most = repeated(&[], EMPTY_REFERENCE, EMPTY_REFERENCES_MAX);
    refused("RECORD_SALT", "messages, as many as may be", most);
    let more = repeated(&[], EMPTY_REFERENCE, EMPTY_REFERENCES_MAX + 1);
    refused(leaves, "a message more than may be", more);
    // Eight bytes each.
    let long = repeated(&[], b"\xfa\x7f\x05 long", RECORD_LEAVES_MAX + 1);
    refused(leaves, "more fields than any record has, in enough bytes", long);
    // The agency, as a number.
    refused(leaves, "too many fields behind one of another wire type", unknown(&[0x10, 1]));
    refused(leaves, "too many fields behind a message that is cut short", unknown(b"\x22\x01\xff"));
    let malformed = "RECORD_MALFORMED";
    refused(malformed, "too many fields behind one of no number", unknown(&[0, 0]));
    refused(malformed, "too many fields in a group that does not end", unknown(&[0xfb, 0x7f]));
    // A message with these bytes and the unknown fields behind them.
    let inside = |first: &[u8]| {
        let mut bytes = vec![EMPTY_REFERENCE[0]];
        prost::encode_length_delimiter(first.len() + fields * UNKNOWN.len(), &mut bytes)
            .expect("a vector grows");
        unknown(&[&bytes[..], first].concat())
    };
    refused(leaves, "too many fields in a message", inside(&[]));
    refused(malformed, "too many fields in a message, behind one of no number", inside(&[0, 0]));
}

/// Transactions of one record each, which is of one thing alone.
pub(crate) fn of_transactions(cases: &mut Cases, sample: &Sample) {
    let chain_id = sample.genesis.chain_id();
    let slot = slot_of(&changed(|_| ()), &Hash([1; 32]));
    let mut of = |code: &str, change: &str, thing: &[u8], times: usize| {
        let record = thing.repeat(times);
        let transaction = signed(chain_id, from_ref(&slot), from_ref(&record));
        // The record is what the message ends with.
        let mut bytes = transaction.encode_to_vec();
        assert!(bytes.ends_with(&record), "the records come last");
        bytes.truncate(bytes.len() - record.len());
        cases.refused(code, change, repeated(&bytes, thing, times));
    };
    let references = TRANSACTION_REFERENCES_MAX;
    of("RECORD_SALT", "references, as many as may be", LONG_REFERENCE, references);
    of("TRANSACTION_REFERENCES", "a reference more than may be", LONG_REFERENCE, references + 1);
    let change = "more references and messages than may be";
    of("TRANSACTION_LEAVES", change, EMPTY_REFERENCE, references + 1);
    let change = "a record with more fields than any has";
    of("RECORD_LEAVES", change, UNKNOWN, RECORD_LEAVES_MAX + 1);
}
