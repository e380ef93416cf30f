//! What peers send each other. These messages are not hashed as they came, so that their bytes may be
//! of another encoding: what is taken is the same message when it is encoded and read again.

use customhouse_consensus::{
    Message,
    wire::{self, MESSAGE_BYTES_MAX},
};
use customhouse_ledger::limits::{BLOCK_TRANSACTIONS_MAX, CERTIFICATE_BYTES_MAX};
use customhouse_proto::v1;
use prost::Message as _;

/// A proposal, vote, certificate or tip.
pub fn consensus_message(bytes: &[u8]) -> bool {
    let Ok(message) = Message::decode(bytes) else { return false };
    let encoded = message.encode();
    assert!(encoded.len() <= MESSAGE_BYTES_MAX, "taken, and too large to send on");
    assert_eq!(Message::decode(&encoded).as_ref(), Ok(&message));
    if let Message::Certificate(certificate) = &message {
        assert!(certificate.encode().len() <= CERTIFICATE_BYTES_MAX);
    }
    true
}

/// A block: its header, and the leaf hashes of its transactions.
pub fn block(bytes: &[u8]) -> bool {
    let Ok(message) = v1::Block::decode(bytes) else { return false };
    let Ok(block) = wire::block_from_proto(&message) else { return false };
    assert!(block.leaves.len() <= BLOCK_TRANSACTIONS_MAX);
    assert_eq!(wire::block_to_proto(&block), message);
    true
}
