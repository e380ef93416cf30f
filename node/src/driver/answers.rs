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

#[cfg(test)]
mod tests {
    use customhouse_ledger::{
        certificate::Certificate,
        header::Header,
        keys::SigningKey,
        validators::Validator,
        vote::{Ballot, Vote, VoteKind},
    };

    use super::*;

    const CHAIN: Hash = Hash([9; 32]);

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32])
    }

    fn set(seeds: &[u8]) -> ValidatorSet {
        let validator = |seed: &u8| {
            let agency = format!("A{seed:03}").parse().expect("a code");
            Validator { agency, key: key(*seed).public() }
        };
        ValidatorSet::new(seeds.iter().map(validator).collect()).expect("a set")
    }

    /// A block that says that the first decided it, finalized by the second.
    fn block(height: u64, of: &ValidatorSet, by: &[u8]) -> CertifiedBlock {
        let header = Header {
            version: Header::VERSION,
            chain_id: CHAIN,
            height,
            time_ms: height,
            parent_hash: Hash::ZERO,
            log_start: 0,
            log_size: 0,
            log_root: Hash::ZERO,
            history_size: 0,
            history_root: Hash::ZERO,
            registry_root: Hash::ZERO,
            validators_hash: of.hash(),
            next_validators_hash: of.hash(),
            proposer: [0; 32],
            view: 1,
        };
        let block = Block { header, leaves: Vec::new() };
        let block_hash = block.hash();
        let ballot = Ballot { kind: VoteKind::Finalize, height, view: 1, block_hash };
        let votes: Vec<_> = by.iter().map(|seed| Vote::sign(ballot, &CHAIN, &key(*seed))).collect();
        let finalization = Certificate::from_votes(ballot, &votes, &set(by)).expect("a quorum");
        let (transactions, from) = (Vec::new(), key(1).public());
        let fetched = FetchedBlock { block, transactions, from };
        CertifiedBlock { fetched, finalization, verified: false }
    }

    fn answer(blocks: &[CertifiedBlock]) -> v1::BlocksResponse {
        let with_body = |certified: &CertifiedBlock| {
            let block = Some(wire::block_to_proto(&certified.fetched.block));
            let certificate = certified.finalization.encode();
            let block = Some(v1::CertifiedBlock { block, certificate });
            v1::BlockWithBody { block, transactions: Vec::new() }
        };
        let blocks = blocks.iter().map(with_body).collect();
        v1::BlocksResponse { blocks, tip: None }
    }

    #[test]
    fn blocks_beyond_a_change_wait_until_it_is_known_who_decides() {
        let (old, new) = (set(&[1, 2]), set(&[1, 2, 3]));
        let sent = [
            block(5, &old, &[1, 2]),
            block(6, &old, &[1, 2]),
            block(7, &new, &[1, 2, 3]),
            block(8, &new, &[1, 2, 3]),
        ];
        let from = key(1).public();
        let read = committed_blocks(answer(&sent), from, &CHAIN, &old).expect("nothing is wrong");
        let verified: Vec<bool> = read.iter().map(|certified| certified.verified).collect();
        assert_eq!(verified, [true, true, false, false]);
        assert_eq!(decided_by(&read, &CHAIN, &old), Ok(2));
        assert_eq!(decided_by(&read, &CHAIN, &new), Ok(0), "the first is of others");
        assert_eq!(decided_by(&read[2..], &CHAIN, &new), Ok(2));
        // Asked by one that is beyond the change already.
        let later = committed_blocks(answer(&sent[2..]), from, &CHAIN, &new).expect("right");
        assert!(later.iter().all(|certified| certified.verified));
    }

    #[test]
    fn who_forges_a_finalization_is_found_at_once_or_when_it_is_known_who_decides() {
        let (old, new) = (set(&[1, 2]), set(&[1, 2, 3]));
        let from = key(1).public();
        let forged = [block(5, &old, &[1, 2]), block(6, &old, &[7, 8])];
        assert!(committed_blocks(answer(&forged), from, &CHAIN, &old).is_none());
        let forged = [block(5, &old, &[1, 2]), block(6, &new, &[7, 8, 9])];
        let read = committed_blocks(answer(&forged), from, &CHAIN, &old).expect("not known yet");
        assert_eq!(decided_by(&read, &CHAIN, &old), Ok(1));
        assert_eq!(decided_by(&read[1..], &CHAIN, &new), Err(6));
    }
}
