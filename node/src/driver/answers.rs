//! What peers answer, read and checked: nothing of it is believed.

use std::{
    collections::{HashMap, HashSet},
    num::NonZero,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use bytes::Bytes;
use customhouse_consensus::{CLAIMS_TOLD_MAX, Claim, Message, Signatures, VOTES_TOLD_MAX, wire};
use customhouse_ledger::{
    chain::ChainReader, hash::Hash, transaction::VerifiedTransaction, validators::ValidatorSet,
    verifier::verify_finalization,
};
use customhouse_proto::v1::{self, sync_request::Request, sync_response::Response};

use super::{CertifiedBlock, gather::Gave};

/// Blocks asked for at once while catching up.
pub const BLOCKS_MAX: u32 = 128;

/// Bytes of transactions from which on more threads than one are worth their start.
const PARALLEL_BYTES_MIN: usize = 128 << 10;
/// Threads that check one answer.
const THREADS_MAX: usize = 16;

/// What a peer holds of a key, as much of it as it may tell.
pub fn signatures(answer: &v1::JournalResponse) -> Signatures {
    let votes = answer.votes.iter().filter_map(|vote| wire::vote_from_proto(vote).ok());
    let claims = answer.proposals.iter().filter_map(|bytes| Claim::decode(bytes).ok());
    Signatures {
        votes: votes.take(VOTES_TOLD_MAX).collect(),
        claims: claims.take(CLAIMS_TOLD_MAX).collect(),
    }
}

/// The certificates of a view, as messages: at most a notarization and a nullification.
pub fn certificates(answer: &v1::CertificateResponse) -> Vec<Message> {
    let read = |bytes: &Vec<u8>| wire::certificate_from_bytes(bytes).ok();
    answer.certificates.iter().take(2).filter_map(read).map(Message::Certificate).collect()
}

/// What a peer gave of a block that is being gathered.
pub fn gave(
    response: Response,
    request: &Request,
    block_hash: &Hash,
    reader: &ChainReader,
) -> Gave {
    match (request, response) {
        (Request::Block(_), Response::Block(answer)) => {
            answer.block.map_or(Gave::Nothing, |found| block(&found, block_hash, reader))
        }
        (Request::Transactions(request), Response::Transactions(answer)) => {
            let asked: HashSet<&[u8]> = request.leaves.iter().map(|leaf| &leaf[..]).collect();
            // A signature is checked of what was asked for only.
            let is_asked = |encoded: &Bytes| {
                let leaf_hash = VerifiedTransaction::leaf_hash_unchecked(encoded);
                leaf_hash.is_some_and(|leaf_hash| asked.contains(&leaf_hash.0[..]))
            };
            let wanted = answer.transactions.into_iter().filter(is_asked).collect();
            Gave::Transactions(transactions(wanted, &reader.chain_id()))
        }
        _ => Gave::Nothing,
    }
}

/// Whether it is the block of this hash, with the leaves that its header says.
fn block(found: &v1::Block, block_hash: &Hash, reader: &ChainReader) -> Gave {
    let read = wire::block_from_proto(found).ok().filter(|block| block.hash() == *block_hash);
    let Some(block) = read else { return Gave::Wrong };
    match reader.has_leaves(&block) {
        Ok(true) => Gave::Block(Box::new(block)),
        Ok(false) => Gave::Wrong,
        // A store that cannot be read is the driver's to report.
        Err(_) => Gave::Nothing,
    }
}

/// Committed blocks with their bodies and finalizations; `None` where anything of it is wrong.
/// Whether they follow on the tip is the driver's to see.
///
/// `validators` decide the height above the tip. Who decides a block beyond a change of them is not
/// known before that change is committed: such a block is not verified here but when its turn comes,
/// by [`decided_by`].
pub fn committed_blocks(
    answer: v1::BlocksResponse,
    chain_id: &Hash,
    validators: &ValidatorSet,
) -> Option<Vec<CertifiedBlock>> {
    let validators_hash = validators.hash();
    let (mut blocks, mut bodies) = (Vec::new(), Vec::new());
    for with_body in answer.blocks.into_iter().take(BLOCKS_MAX as usize) {
        let certified = with_body.block?;
        let block = wire::block_from_proto(&certified.block?).ok()?;
        let finalization = wire::certificate_from_bytes(&certified.certificate).ok()?;
        let verified = block.header.validators_hash == validators_hash;
        if verified {
            // Cheap to check before the bodies are: a peer that lies costs little.
            verify_finalization(&block.header, &finalization, chain_id, validators).ok()?;
        }
        blocks.push((block, finalization, verified));
        bodies.extend(with_body.transactions);
    }
    let by_leaf = by_leaf(transactions(bodies, chain_id));
    let with_bodies = blocks.into_iter().map(|(block, finalization, verified)| {
        let transactions = of_leaves(&block.leaves, &by_leaf)?;
        Some(CertifiedBlock { block, transactions, finalization, verified })
    });
    with_bodies.collect()
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
    let header = |certified: &CertifiedBlock| certified.block.header.clone();
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

/// Checks encodings, in no order; those that break a rule are left out. Large answers are checked on all
/// cores.
pub fn transactions(encodings: Vec<Bytes>, chain_id: &Hash) -> Vec<Arc<VerifiedTransaction>> {
    let next = AtomicUsize::new(0);
    let check = || {
        let taken = std::iter::from_fn(|| encodings.get(next.fetch_add(1, Ordering::Relaxed)));
        let verified = taken.map(|bytes| VerifiedTransaction::from_bytes(bytes.clone(), chain_id));
        verified.filter_map(Result::ok).map(Arc::new).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        // Where the system gives no thread, the others do its share.
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, check).ok();
        let others: Vec<_> = (1..threads(&encodings)).filter_map(spawn).collect();
        let mut found = check();
        for other in others {
            found.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        found
    })
}

/// Threads that are worth their start.
fn threads(encodings: &[Bytes]) -> usize {
    let bytes: usize = encodings.iter().map(Bytes::len).sum();
    if bytes < PARALLEL_BYTES_MIN {
        return 1;
    }
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    cores.min(THREADS_MAX).min(encodings.len())
}

type ByLeaf = HashMap<Hash, Arc<VerifiedTransaction>>;

fn by_leaf(found: Vec<Arc<VerifiedTransaction>>) -> ByLeaf {
    found.into_iter().map(|transaction| (transaction.leaf_hash(), transaction)).collect()
}

fn of_leaves(leaves: &[Hash], by_leaf: &ByLeaf) -> Option<Vec<Arc<VerifiedTransaction>>> {
    leaves.iter().map(|leaf| by_leaf.get(leaf).cloned()).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use customhouse_ledger::{
        certificate::Certificate,
        header::{Block, Header},
        keys::SigningKey,
        record::{ValidRecord, dedupe_key},
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
        CertifiedBlock { block, transactions: Vec::new(), finalization, verified: false }
    }

    fn answer(blocks: &[CertifiedBlock]) -> v1::BlocksResponse {
        let with_body = |certified: &CertifiedBlock| {
            let block = Some(wire::block_to_proto(&certified.block));
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
        let read = committed_blocks(answer(&sent), &CHAIN, &old).expect("nothing is wrong");
        let verified: Vec<bool> = read.iter().map(|certified| certified.verified).collect();
        assert_eq!(verified, [true, true, false, false]);
        assert_eq!(decided_by(&read, &CHAIN, &old), Ok(2));
        assert_eq!(decided_by(&read, &CHAIN, &new), Ok(0), "the first is of others");
        assert_eq!(decided_by(&read[2..], &CHAIN, &new), Ok(2));
        // Asked by one that is beyond the change already.
        let later = committed_blocks(answer(&sent[2..]), &CHAIN, &new).expect("right");
        assert!(later.iter().all(|certified| certified.verified));
    }

    #[test]
    fn who_forges_a_finalization_is_found_at_once_or_when_it_is_known_who_decides() {
        let (old, new) = (set(&[1, 2]), set(&[1, 2, 3]));
        let forged = [block(5, &old, &[1, 2]), block(6, &old, &[7, 8])];
        assert!(committed_blocks(answer(&forged), &CHAIN, &old).is_none());
        let forged = [block(5, &old, &[1, 2]), block(6, &new, &[7, 8, 9])];
        let read = committed_blocks(answer(&forged), &CHAIN, &old).expect("not known yet");
        assert_eq!(decided_by(&read, &CHAIN, &old), Ok(1));
        assert_eq!(decided_by(&read[1..], &CHAIN, &new), Err(6));
    }

    /// A transaction of one record, padded to a length.
    pub(crate) fn transaction(number: u64, padding: usize) -> Bytes {
        let inspection = v1::Inspection {
            mrn: format!("M{number}"),
            findings: "x".repeat(padding),
            ..Default::default()
        };
        let record = v1::Record {
            salt: vec![0; 16],
            agency: "NL".into(),
            submitter: "broker".into(),
            body: Some(v1::record::Body::Inspection(inspection)),
            ..Default::default()
        };
        let record = ValidRecord::from_record(record).expect("valid");
        let agency = "NL".parse().expect("a code");
        let slot = (record, dedupe_key(&agency, "broker", &number.to_string()));
        let signed = VerifiedTransaction::sign(&[slot], agency, 1, &CHAIN, &key(1));
        signed.expect("valid").encoded().clone()
    }

    #[test]
    fn all_that_verify_are_found_on_one_core_and_on_many_and_no_other() {
        for (count, padding) in [(0, 0), (1, 0), (20, 0), (200, 2000)] {
            let genuine: Vec<_> = (0..count).map(|number| transaction(number, padding)).collect();
            let mut sent = genuine.clone();
            for (index, bytes) in sent.iter_mut().enumerate().filter(|(index, _)| index % 7 == 3) {
                let mut forged = bytes.to_vec();
                // In the signature, after two tags, two lengths and the header.
                forged[140 + index % 40] ^= 1;
                *bytes = forged.into();
            }
            let found = by_leaf(transactions(sent.clone(), &CHAIN));
            let expected: Vec<_> = sent.iter().filter(|bytes| genuine.contains(bytes)).collect();
            assert_eq!(found.len(), expected.len(), "{count} of {padding} bytes");
            let encodings: Vec<_> = found.values().map(|found| found.encoded()).collect();
            assert!(expected.iter().all(|bytes| encodings.contains(bytes)));
        }
    }
}
