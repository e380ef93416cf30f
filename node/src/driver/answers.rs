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
    chain::ChainReader,
    finality::{header::Block, validators::ValidatorSet},
    hash::Hash,
    proofs::verifier::verify_finalization,
    transaction::VerifiedTransaction,
};
use customhouse_proto::v1::{self, sync_request::Request, sync_response::Response};

use super::{CertifiedBlock, gather::Gave};

/// Blocks of one answer, and so as many are asked for at once while catching up.
pub const BLOCKS_MAX: u32 = 128;

/// Bytes of transactions from which it is worth starting more than one thread.
const PARALLEL_BYTES_MIN: usize = 128 << 10;
/// Threads that check one answer.
const THREADS_MAX: usize = 16;

/// What a peer holds of a key, as much of it as it may tell.
pub fn signatures(answer: &v1::JournalResponse) -> Signatures {
    // The limits apply to what is looked at, not only to what is found.
    let votes = answer.votes.iter().take(VOTES_TOLD_MAX);
    let claims = answer.proposals.iter().take(CLAIMS_TOLD_MAX);
    Signatures {
        votes: votes.filter_map(|vote| wire::vote_from_proto(vote).ok()).collect(),
        claims: claims.filter_map(|bytes| Claim::decode(bytes).ok()).collect(),
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
            asked_for(request, answer, &reader.chain_id())
        }
        _ => Gave::Wrong,
    }
}

/// The transactions of an answer. It is wrong where it has anything that was not asked for, anything
/// twice, or anything that breaks a rule: no signature is checked more often than was asked for.
fn asked_for(
    request: &v1::TransactionsRequest,
    answer: v1::TransactionsResponse,
    chain_id: &Hash,
) -> Gave {
    let mut asked: HashSet<&[u8]> = request.leaves.iter().map(|leaf| &leaf[..]).collect();
    let mut is_asked = |encoded: &Bytes| {
        let leaf_hash = VerifiedTransaction::leaf_hash_unchecked(encoded);
        leaf_hash.is_some_and(|leaf_hash| asked.remove(&leaf_hash.0[..]))
    };
    let count = answer.transactions.len();
    if !answer.transactions.iter().all(&mut is_asked) {
        return Gave::Wrong;
    }
    let found = transactions(answer.transactions, chain_id);
    if found.len() == count { Gave::Transactions(found) } else { Gave::Wrong }
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
///
/// What is cheap comes first. A body is looked at where it is one of its block's leaves, and its
/// signature checked where the block's finalization has been: else a peer could make up blocks that
/// take every core for seconds.
pub fn committed_blocks(
    answer: v1::BlocksResponse,
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
            verify_finalization(&block.header, &finalization, chain_id, validators).ok()?;
        }
        let unread = with_body.transactions;
        if !are_bodies_of(&block, &unread) {
            return None;
        }
        let transactions = Vec::new();
        blocks.push(CertifiedBlock { block, transactions, unread, finalization, verified });
    }
    let (verified, later) = blocks.into_iter().partition(|certified| certified.verified);
    let mut blocks = with_bodies_read(verified, chain_id)?;
    blocks.extend(later);
    blocks.sort_by_key(CertifiedBlock::height);
    Some(blocks)
}

/// Whether these are encodings of a block's transactions, in order, by their names; and as many as its
/// header says.
fn are_bodies_of(block: &Block, encodings: &[Bytes]) -> bool {
    let header = &block.header;
    let stated = header.log_size.checked_sub(header.log_start);
    stated == Some(block.leaves.len() as u64)
        && block.leaves.len() == encodings.len()
        && block.leaves.iter().zip(encodings).all(|(leaf, encoded)| {
            VerifiedTransaction::leaf_hash_unchecked(encoded).is_some_and(|found| found == *leaf)
        })
}

/// Checks the bodies of blocks that are known to be decided; `None` where one breaks a rule.
pub fn with_bodies_read(
    mut blocks: Vec<CertifiedBlock>,
    chain_id: &Hash,
) -> Option<Vec<CertifiedBlock>> {
    let unread = blocks.iter_mut().flat_map(|certified| std::mem::take(&mut certified.unread));
    let by_leaf = by_leaf(transactions(unread.collect(), chain_id));
    for certified in &mut blocks {
        if certified.transactions.is_empty() {
            certified.transactions = of_leaves(&certified.block.leaves, &by_leaf)?;
        }
    }
    Some(blocks)
}

/// How many of these blocks, from the first on, these validators have decided; none where the first
/// says that others have. Finalizations that were not verified yet are verified here.
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
        finality::{
            certificate::Certificate,
            header::{Block, Header},
            validators::Validator,
            vote::{Ballot, Vote, VoteKind},
        },
        keys::SigningKey,
        record::{ValidRecord, dedupe_key},
    };
    use prost::Message as _;

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

    /// A block that says that `of` decided it, finalized by the keys `by`.
    fn block(height: u64, of: &ValidatorSet, by: &[u8]) -> CertifiedBlock {
        block_with(height, of, by, Vec::new())
    }

    /// The same, with encodings of transactions.
    fn block_with(height: u64, of: &ValidatorSet, by: &[u8], unread: Vec<Bytes>) -> CertifiedBlock {
        let header = Header {
            version: Header::VERSION,
            chain_id: CHAIN,
            height,
            time_ms: height,
            parent_hash: Hash::ZERO,
            log_start: 7,
            log_size: 7 + unread.len() as u64,
            log_root: Hash::ZERO,
            history_size: 0,
            history_root: Hash::ZERO,
            registry_root: Hash::ZERO,
            outcomes_root: Hash::ZERO,
            validators_hash: of.hash(),
            next_validators_hash: of.hash(),
            proposer: [0; 32],
            view: 1,
        };
        let leaf = |encoded| VerifiedTransaction::leaf_hash_unchecked(encoded).expect("encoded");
        let block = Block { header, leaves: unread.iter().map(leaf).collect() };
        let block_hash = block.hash();
        let ballot = Ballot { kind: VoteKind::Finalize, height, view: 1, block_hash };
        let votes: Vec<_> = by.iter().map(|seed| Vote::sign(ballot, &CHAIN, &key(*seed))).collect();
        let finalization = Certificate::from_votes(ballot, &votes, &set(by)).expect("a quorum");
        let transactions = Vec::new();
        CertifiedBlock { block, transactions, unread, finalization, verified: false }
    }

    fn answer(blocks: &[CertifiedBlock]) -> v1::BlocksResponse {
        let with_body = |certified: &CertifiedBlock| {
            let block = Some(wire::block_to_proto(&certified.block));
            let certificate = certified.finalization.encode();
            let block = Some(v1::CertifiedBlock { block, certificate });
            v1::BlockWithBody { block, transactions: certified.unread.clone() }
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

    #[test]
    fn no_body_is_read_before_it_is_known_that_its_block_was_decided() {
        let (known, others) = (set(&[1, 2]), set(&[7, 8]));
        let bodies = || (0..3).map(|number| transaction(number, 0)).collect::<Vec<_>>();
        let sent = [
            block_with(5, &known, &[1, 2], bodies()),
            // Made up: nobody can know who decides there.
            block_with(6, &others, &[7, 8], bodies()),
        ];
        let read = committed_blocks(answer(&sent), &CHAIN, &known).expect("nothing shows");
        let counts: Vec<_> = read.iter().map(|c| (c.transactions.len(), c.unread.len())).collect();
        assert_eq!(counts, [(3, 0), (0, 3)]);
        assert!(read[0].bytes() == read[1].bytes() && read[0].bytes() > 0);
        // When it is known that they have decided it.
        let read = with_bodies_read(read, &CHAIN).expect("valid");
        assert!(read.iter().all(|c| c.transactions.len() == 3 && c.unread.is_empty()));
        let mut broken = sent[1].unread[1].to_vec();
        // In the signature, after two tags, two lengths and the header.
        broken[150] ^= 1;
        let broken = block_with(6, &others, &[7, 8], vec![broken.into()]);
        assert!(with_bodies_read(vec![broken], &CHAIN).is_none());
    }

    #[test]
    fn bodies_that_are_not_a_blocks_leaves_in_their_order_are_not_looked_at() {
        let known = set(&[1, 2]);
        let bodies: Vec<_> = (0..3).map(|number| transaction(number, 0)).collect();
        let sent = |bodies: &[Bytes]| {
            let block = block_with(5, &known, &[1, 2], (0..3).map(|n| transaction(n, 0)).collect());
            committed_blocks(
                answer(&[CertifiedBlock { unread: bodies.to_vec(), ..block }]),
                &CHAIN,
                &known,
            )
        };
        assert!(sent(&bodies).is_some());
        let junk: Bytes = vec![9; 1000].into();
        for wrong in [
            vec![],
            bodies[..2].to_vec(),
            [&bodies[..], &bodies[..1]].concat(),
            [&bodies[..], std::slice::from_ref(&junk)].concat(),
            vec![bodies[0].clone(), bodies[0].clone(), bodies[2].clone()],
            vec![bodies[1].clone(), bodies[0].clone(), bodies[2].clone()],
            vec![bodies[0].clone(), junk, bodies[2].clone()],
        ] {
            assert!(sent(&wrong).is_none(), "{} bodies", wrong.len());
        }
        // More leaves than the header, which was finalized, has room for.
        let mut stuffed = block_with(5, &known, &[1, 2], bodies[..2].to_vec());
        stuffed.unread = bodies;
        stuffed.block.leaves =
            stuffed.unread.iter().filter_map(VerifiedTransaction::leaf_hash_unchecked).collect();
        assert!(committed_blocks(answer(&[stuffed]), &CHAIN, &known).is_none());
    }

    #[test]
    fn an_answer_has_what_was_asked_for_once_and_valid_or_it_is_wrong() {
        let bodies: Vec<_> = (0..3).map(|number| transaction(number, 0)).collect();
        let leaf = |encoded| VerifiedTransaction::leaf_hash_unchecked(encoded).expect("encoded");
        let leaves = bodies[..2].iter().map(|encoded| leaf(encoded).0.to_vec()).collect();
        let request = v1::TransactionsRequest { leaves, bytes_max: 0 };
        let gave = |transactions: &[Bytes]| {
            let transactions = transactions.to_vec();
            match asked_for(&request, v1::TransactionsResponse { transactions }, &CHAIN) {
                Gave::Transactions(found) => Some(found.len()),
                Gave::Wrong => None,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!([0, 1, 2].map(|count| gave(&bodies[..count])), [Some(0), Some(1), Some(2)]);
        let twice = vec![bodies[0].clone(); 10_000];
        assert_eq!((gave(&bodies), gave(&twice)), (None, None));
        // The name of one with the body of another.
        let parts = |encoded: &Bytes| v1::Transaction::decode(&encoded[..]).expect("encoded");
        let junk = v1::Transaction { records: parts(&bodies[2]).records, ..parts(&bodies[0]) };
        assert_eq!(gave(&[junk.encode_to_vec().into()]), None);
    }

    #[test]
    fn no_more_is_looked_at_of_what_is_held_of_a_key_than_may_be_told() {
        let wrong = v1::Vote::default();
        let right = block(5, &set(&[1]), &[1]).finalization.votes(&set(&[1]))[0];
        let mut votes = vec![wrong; VOTES_TOLD_MAX];
        votes[0] = wire::vote_to_proto(&right);
        votes.push(wire::vote_to_proto(&right));
        let told = signatures(&v1::JournalResponse { votes, ..Default::default() });
        assert_eq!(told.votes, [right]);
    }

    /// A transaction of one record, padded to a length.
    pub(crate) fn transaction(number: u64, padding: usize) -> Bytes {
        let declaration = v1::Declaration {
            regime: 1,
            mrn: format!("M{number}"),
            office: "x".repeat(padding),
            ..Default::default()
        };
        let record = v1::Record {
            salt: vec![0; 32],
            submitter_role: v1::Role::Broker as i32,
            submitter_certificate: vec![6; 32],
            agency: "NL".into(),
            submitter: "broker".into(),
            body: Some(v1::record::Body::Declaration(declaration)),
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
