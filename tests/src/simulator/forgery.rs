//! What nobody honest has said.

use customhouse_consensus::Message;
use customhouse_ledger::{
    finality::{
        header::{Block, Header},
        vote::{Ballot, Proposal, Vote, VoteKind},
    },
    hash::Hash,
    keys::{PublicKey, Signature, SigningKey},
};
use rand::{RngExt as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;

/// A vote in somebody's name.
pub(super) fn vote(
    (height, view): (u64, u64),
    validator: PublicKey,
    rng: &mut ChaCha8Rng,
) -> Message {
    let ballot = ballot((height, view), rng);
    Message::Vote(Vote { ballot, validator, signature: signature(rng) })
}

/// A vote that is the signer's own, for a block that there is not.
pub(super) fn own_vote(
    (height, view): (u64, u64),
    chain_id: &Hash,
    key: &SigningKey,
    rng: &mut ChaCha8Rng,
) -> Message {
    Message::Vote(Vote::sign(ballot((height, view), rng), chain_id, key))
}

/// A proposal in somebody's name.
pub(super) fn proposal(
    tip: &Header,
    (height, view): (u64, u64),
    leader: PublicKey,
    rng: &mut ChaCha8Rng,
) -> Message {
    let header = Header {
        height,
        view,
        time_ms: tip.time_ms + 1,
        parent_hash: Hash(rng.random()),
        log_root: Hash(rng.random()),
        proposer: *leader.as_bytes(),
        ..tip.clone()
    };
    let block = Block { header, leaves: vec![Hash(rng.random())] };
    Message::Proposal(Proposal { view, parent_view: 0, block, leader, signature: signature(rng) })
}

/// A proposal with other leaves and the same signature.
pub(super) fn with_other_leaves(proposal: &Proposal, rng: &mut ChaCha8Rng) -> Message {
    let mut swapped = proposal.clone();
    match swapped.block.leaves.first_mut() {
        Some(first) => *first = Hash(rng.random()),
        None => swapped.block.leaves.push(Hash(rng.random())),
    }
    Message::Proposal(swapped)
}

fn ballot((height, view): (u64, u64), rng: &mut ChaCha8Rng) -> Ballot {
    let kind = *[VoteKind::Notarize, VoteKind::Finalize].choose(rng).unwrap_or(&VoteKind::Notarize);
    Ballot { kind, height, view, block_hash: Hash(rng.random()) }
}

fn signature(rng: &mut ChaCha8Rng) -> Signature {
    Signature(rng.random())
}
