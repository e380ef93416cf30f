//! What peers answer, read and checked: nothing of it is believed.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use customhouse_consensus::{Message, wire};
use customhouse_ledger::{
    hash::Hash, header::Block, keys::PublicKey, transaction::VerifiedTransaction,
    validators::ValidatorSet, verifier::verify_finalization,
};
use customhouse_proto::v1;

use super::{CertifiedBlock, FetchedBlock};

/// Blocks asked for at once while catching up.
pub const BLOCKS_MAX: u32 = 128;

/// What a peer holds of a key, as messages. Bounded: it is a few views of one height.
pub fn signed_messages(answer: &v1::JournalResponse) -> Vec<Message> {
    const MESSAGES_MAX: usize = 64;
    let votes = answer.votes.iter().filter_map(|vote| wire::vote_from_proto(vote).ok());
    let proposals = answer.proposals.iter().filter_map(|p| wire::proposal_from_proto(p).ok());
    votes.map(Message::Vote).chain(proposals.map(Message::Proposal)).take(MESSAGES_MAX).collect()
}

/// The certificates of a view, as messages: at most a notarization and a nullification.
pub fn certificates(answer: &v1::CertificateResponse) -> Vec<Message> {
    let read = |bytes: &Vec<u8>| wire::certificate_from_bytes(bytes).ok();
    answer.certificates.iter().take(2).filter_map(read).map(Message::Certificate).collect()
}

/// The block of this hash.
pub fn block(answer: &v1::BlockResponse, block_hash: &Hash) -> Option<Block> {
    let block = answer.block.as_ref().and_then(|block| wire::block_from_proto(block).ok());
    block.filter(|block| block.hash() == *block_hash)
}

/// Committed blocks with their bodies and finalizations; `None` where anything of it is wrong.
/// Whether they follow on the tip is the driver's to see.
///
/// `validators` decide the height above the tip. Who decides a block beyond a change of them is not
/// known before that change is committed: such a block is not verified here but when its turn comes,
/// by [`decided_by`].
pub fn committed_blocks(
    answer: v1::BlocksResponse,
    from: PublicKey,
    chain_id: &Hash,
    validators: &ValidatorSet,
) -> Option<Vec<CertifiedBlock>> {
    let validators_hash = validators.hash();
    let mut blocks = Vec::new();
    for with_body in answer.blocks.into_iter().take(BLOCKS_MAX as usize) {
        let certified = with_body.block?;
        let block = wire::block_from_proto(&certified.block?).ok()?;
        let finalization = wire::certificate_from_bytes(&certified.certificate).ok()?;
        let verified = block.header.validators_hash == validators_hash;
        if verified {
            // Cheap to check before the bodies are: a peer that lies costs little.
            verify_finalization(&block.header, &finalization, chain_id, validators).ok()?;
        }
        let found = transactions(with_body.transactions, chain_id);
        let transactions = in_order(&block.leaves, found)?;
        let fetched = FetchedBlock { block, transactions, from };
        blocks.push(CertifiedBlock { fetched, finalization, verified });
    }
    Some(blocks)
}

/// How many of these blocks, from the first on, these validators have decided; none where the first
/// says that others have. The finalizations that were not verified yet are.
///
/// # Errors
/// The height of the first that does not verify: whoever sent it has lied.
pub fn decided_by(
    blocks: &[CertifiedBlock],
    chain_id: &Hash,
    validators: &ValidatorSet,
) -> Result<usize, u64> {
    let validators_hash = validators.hash();
    let header = |certified: &CertifiedBlock| certified.fetched.block.header.clone();
    let theirs = blocks.iter().take_while(|c| header(c).validators_hash == validators_hash);
    let mut count = 0;
    for certified in theirs {
        let header = header(certified);
        if !certified.verified {
            verify_finalization(&header, &certified.finalization, chain_id, validators)
                .map_err(|_| header.height)?;
        }
        count += 1;
    }
    Ok(count)
}

/// Checks encodings; those that break a rule are left out.
pub fn transactions(encodings: Vec<Bytes>, chain_id: &Hash) -> Vec<Arc<VerifiedTransaction>> {
    let verify = |bytes| VerifiedTransaction::from_bytes(bytes, chain_id);
    encodings.into_iter().map(verify).filter_map(Result::ok).map(Arc::new).collect()
}

/// The transactions of these leaves, in their order; `None` where one is missing.
pub fn in_order(
    leaves: &[Hash],
    found: Vec<Arc<VerifiedTransaction>>,
) -> Option<Vec<Arc<VerifiedTransaction>>> {
    let by_leaf: BTreeMap<Hash, _> = found.into_iter().map(|t| (t.leaf_hash(), t)).collect();
    leaves.iter().map(|leaf| by_leaf.get(leaf).cloned()).collect()
}
