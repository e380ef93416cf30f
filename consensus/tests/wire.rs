//! The bytes of messages and journal entries.

mod bench;

use bench::*;
use customhouse_consensus::{Entry, Message};
use customhouse_ledger::{
    finality::{header::Block, vote::VoteKind},
    hash::Hash,
    limits::{BLOCK_TRANSACTIONS_MAX, CERTIFICATE_BYTES_MAX},
};

fn a() -> Block {
    block(1, 'A')
}

#[test]
fn every_message_and_entry_round_trips() {
    let messages = [
        Message::Proposal(propose(3, 1, a())),
        Message::Vote(vote(VoteKind::Notarize, 1, 2, &a())),
        Message::Vote(vote(VoteKind::Nullify, 1, 2, &a())),
        Message::Vote(vote(VoteKind::Finalize, 1, 2, &a())),
        Message::Certificate(certificate(VoteKind::Nullify, &[0, 1, 3], 4, &a())),
        Message::Tip(customhouse_consensus::CertifiedTip {
            header: a().header,
            finalization: certificate(VoteKind::Finalize, &[0, 1, 3], 1, &a()),
        }),
    ];
    for message in messages {
        let bytes = message.encode();
        assert_eq!(Message::decode(&bytes), Ok(message.clone()));
        for length in 0..bytes.len() {
            assert_ne!(Message::decode(&bytes[..length]).ok(), Some(message.clone()));
        }
        let entry = match message {
            Message::Proposal(proposal) => Entry::Proposal(proposal),
            Message::Vote(vote) => Entry::Vote(vote),
            Message::Certificate(certificate) => Entry::Certificate(certificate),
            Message::Tip(_) => Entry::Watermark(7),
        };
        let bytes = entry.encode();
        assert_eq!(Entry::decode(&bytes).as_ref(), Ok(&entry));
        assert!(Entry::decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(Entry::decode(&[&[9], &bytes[1..]].concat()).is_err());
    }
    assert!(Entry::decode(&[]).is_err());
}

#[test]
fn no_bytes_make_decoding_panic() {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let tip = customhouse_consensus::CertifiedTip {
        header: a().header,
        finalization: certificate(VoteKind::Finalize, &[0, 1, 3], 1, &a()),
    };
    let whole = [
        Message::Proposal(propose(3, 1, a())).encode(),
        Message::Vote(vote(VoteKind::Notarize, 1, 2, &a())).encode(),
        Message::Certificate(tip.finalization.clone()).encode(),
        Message::Tip(tip).encode(),
    ];
    for _ in 0..20_000 {
        let mut bytes = whole[rng.random_range(0..whole.len())].clone();
        for _ in 0..rng.random_range(1..4) {
            let place = rng.random_range(0..bytes.len());
            bytes[place] = rng.random();
        }
        bytes.truncate(rng.random_range(0..=bytes.len()));
        if let Ok(message) = Message::decode(&bytes) {
            assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
        let _ = Entry::decode(&bytes);
    }
}

#[test]
fn what_is_too_large_is_refused_before_it_is_decoded() {
    use customhouse_consensus::{WireError, wire};
    let huge = vec![0; wire::MESSAGE_BYTES_MAX + 1];
    assert!(matches!(Message::decode(&huge), Err(WireError::TooLarge { .. })));
    let mut block = a();
    block.leaves = vec![Hash([1; 32]); BLOCK_TRANSACTIONS_MAX];
    let largest = Message::Proposal(propose(1, 0, block.clone()));
    assert_eq!(Message::decode(&largest.encode()), Ok(largest));
    block.leaves.push(Hash([1; 32]));
    let proto = wire::block_to_proto(&block);
    assert!(matches!(wire::block_from_proto(&proto), Err(WireError::TooLarge { .. })));
    let certificate = vec![0; CERTIFICATE_BYTES_MAX + 1];
    let refused = wire::certificate_from_bytes(&certificate);
    assert!(matches!(refused, Err(WireError::TooLarge { .. })));
}
