use curve25519_dalek::{EdwardsPoint, Scalar};
use customhouse_ledger::{
    hash::Tag,
    keys::SigningKey,
    record::{ValidRecord, dedupe_key},
};
use customhouse_proto::v1;
use prost::Message as _;
use sha2::{Digest as _, Sha512};

use super::*;

/// What a transaction of the tests is like.
#[derive(Clone, Copy)]
struct Of {
    agency: &'static str,
    signer: u8,
    not_after_ms: u64,
    padding: usize,
}

const NL: Of = Of { agency: "NL", signer: 1, not_after_ms: 100, padding: 0 };

fn of(agency: &'static str) -> Of {
    Of { agency, ..NL }
}

fn transaction(of: Of, number: u64) -> Arc<VerifiedTransaction> {
    let declaration = v1::Declaration {
        regime: 1,
        mrn: format!("M{number:06}"),
        office: "x".repeat(of.padding),
        ..Default::default()
    };
    let record = v1::Record {
        salt: vec![0; 32],
        submitter_role: v1::Role::Broker as i32,
        submitter_certificate: vec![6; 32],
        agency: of.agency.into(),
        submitter: "broker".into(),
        body: Some(v1::record::Body::Declaration(declaration)),
        ..Default::default()
    };
    let record = ValidRecord::from_record(record).expect("valid");
    let agency: AgencyCode = of.agency.parse().expect("a code");
    let slot = (record, dedupe_key(&agency, "broker", &number.to_string()));
    let key = SigningKey::from_seed(&[of.signer; 32]);
    let signed = VerifiedTransaction::sign(&[slot], agency, of.not_after_ms, &Hash::ZERO, &key);
    Arc::new(signed.expect("valid"))
}

fn limits(transactions_max: usize, bytes_max: usize) -> MempoolLimits {
    MempoolLimits { transactions_max, bytes_max }
}

/// Puts in as many as there is room for, up to `count`; gives how many, and why no more.
fn fill(mempool: &mut Mempool, of: Of, count: u64) -> (u64, Option<MempoolError>) {
    let from = mempool.arrivals * 1_000;
    for number in 0..count {
        if let Err(error) = mempool.insert(transaction(of, from + number)) {
            return (number, Some(error));
        }
    }
    (count, None)
}

#[test]
fn what_is_there_is_not_taken_twice_and_what_is_removed_is_gone() {
    let mut mempool = Mempool::new(MempoolLimits::default());
    let list: Vec<_> = (0..10).map(|n| transaction(NL, n)).collect();
    for transaction in &list {
        assert_eq!(mempool.insert(transaction.clone()), Ok(()));
    }
    assert_eq!(mempool.insert(list[3].clone()), Err(MempoolError::Present));
    mempool.remove(&list[0].leaf_hash());
    mempool.remove_id(&list[1].id());
    let left = list[2..].iter().map(|t| t.id()).collect::<Vec<_>>();
    assert_eq!(mempool.oldest_first().map(|t| t.id()).collect::<Vec<_>>(), left);
    assert_eq!(mempool.in_turns().map(|t| t.id()).collect::<Vec<_>>(), left);
}

#[test]
fn an_agency_may_hold_what_it_leaves_free_by_count_and_by_bytes() {
    let one = transaction(NL, 0).encoded().len();
    for limits in [limits(120, usize::MAX), limits(usize::MAX, 120 * one)] {
        let mut mempool = Mempool::new(limits);
        let keys = |signer| Of { signer, ..NL };
        let first: u64 = (1..=9).map(|signer| fill(&mut mempool, keys(signer), 100).0).sum();
        assert!((58..=60).contains(&first), "{limits:?}: half, not {first}");
        let (second, why) = fill(&mut mempool, of("KR"), 100);
        assert!((20..=30).contains(&second) && why.is_some(), "{limits:?}: {second}");
        let (third, _) = fill(&mut mempool, of("BE"), 100);
        assert!(third >= 10, "{limits:?}: {third}");
        assert!(mempool.used.is_within(mempool.limits));
    }
}

#[test]
fn a_greedy_agency_leaves_room_for_all_others_whatever_it_sends() {
    let one = transaction(NL, 0).encoded().len();
    let mut mempool = Mempool::new(limits(1_000, 1_000 * 2 * one));
    for signer in 1..=20 {
        fill(&mut mempool, Of { signer, ..NL }, 1_000);
    }
    for agency in ["KR", "BE", "DE", "FR", "SG"] {
        assert!(mempool.room(of(agency).agency.parse().expect("a code"), &key(1)).is_some());
        let (taken, _) = fill(&mut mempool, of(agency), 10);
        assert_eq!(taken, 10, "{agency}");
    }
    assert!(mempool.room("NL".parse().expect("a code"), &key(1)).is_none());
}

fn key(seed: u8) -> PublicKey {
    SigningKey::from_seed(&[seed; 32]).public()
}

#[test]
fn a_greedy_key_leaves_room_for_the_others_of_its_agency() {
    let mut mempool = Mempool::new(limits(400, usize::MAX));
    let (greedy, why) = fill(&mut mempool, NL, 400);
    assert_eq!((greedy, why), (150, Some(MempoolError::SignerFull(key(1)))));
    let other = Of { signer: 2, ..NL };
    assert!(mempool.room("NL".parse().expect("a code"), &key(2)).is_some());
    assert!(fill(&mut mempool, other, 400).0 >= 30);
    assert!(fill(&mut mempool, Of { signer: 3, ..NL }, 400).0 >= 5);
}

#[test]
fn a_mempool_of_any_size_takes_one() {
    let one = transaction(NL, 0).encoded().len();
    for limits in [limits(1, usize::MAX), limits(usize::MAX, 4 * one)] {
        let mut mempool = Mempool::new(limits);
        assert_eq!(mempool.insert(transaction(NL, 1)), Ok(()));
    }
    let mut few = Mempool::new(limits(1, usize::MAX));
    assert_eq!(few.insert(transaction(NL, 1)), Ok(()));
    assert_eq!(few.insert(transaction(of("KR"), 2)), Err(MempoolError::Full));
}

#[test]
fn a_block_is_filled_in_turns_by_agency_and_key() {
    let mut mempool = Mempool::new(MempoolLimits::default());
    fill(&mut mempool, NL, 1_000);
    fill(&mut mempool, Of { signer: 2, ..NL }, 3);
    fill(&mut mempool, of("KR"), 10);
    fill(&mut mempool, of("BE"), 1);
    let first: Vec<_> = mempool.in_turns().take(21).collect();
    let count = |agency: &str, signer: u8| {
        let of = |t: &&&Arc<VerifiedTransaction>| {
            t.header().agency.to_string() == agency && t.header().signer == key(signer)
        };
        first.iter().filter(of).count()
    };
    assert_eq!((count("KR", 1), count("BE", 1)), (10, 1));
    assert_eq!((count("NL", 1), count("NL", 2)), (7, 3));
    let all: Vec<_> = mempool.in_turns().collect();
    assert_eq!(all.len(), mempool.count(), "each once, and all");
    let ids: BTreeSet<_> = all.iter().map(|t| t.id()).collect();
    assert_eq!(ids.len(), all.len());
}

#[test]
fn turns_are_by_bytes_too() {
    let mut mempool = Mempool::new(MempoolLimits::default());
    fill(&mut mempool, Of { padding: 50_000, ..NL }, 50);
    fill(&mut mempool, of("KR"), 200);
    let first: Vec<_> = mempool.in_turns().take(60).collect();
    let large = first.iter().filter(|t| t.header().agency.to_string() == "NL").count();
    assert!((1..=2).contains(&large), "{large}");
}

#[test]
fn of_one_id_one_signature_waits() {
    let one = transaction(NL, 1);
    let again = another_signature(&one, [1; 32], &Hash::ZERO);
    assert_eq!((one.id(), one.leaf_hash() == again.leaf_hash()), (again.id(), false));
    let mut mempool = Mempool::new(MempoolLimits::default());
    assert_eq!(mempool.insert(Arc::clone(&one)), Ok(()));
    assert_eq!(mempool.insert(Arc::clone(&again)), Err(MempoolError::Present));
    assert!(mempool.by_leaf(&again.leaf_hash()).is_none());
    // The other one was committed.
    assert!(mempool.remove_id(&again.id()).is_some());
    assert_eq!(mempool.count(), 0);
}

/// The same transaction under another valid signature by the same key, whose seed this is: as of a signer
/// that draws its nonces.
pub(crate) fn another_signature(
    of: &VerifiedTransaction,
    seed: [u8; 32],
    chain_id: &Hash,
) -> Arc<VerifiedTransaction> {
    let mut parts = of.parts().clone();
    let message = Tag::TRANSACTION_SIGNATURE.message(&[&parts.header]);
    let hashed = |parts: &[&[u8]]| -> [u8; 64] {
        parts.iter().fold(Sha512::new(), |hash, part| hash.chain_update(part)).finalize().into()
    };
    let mut secret = [0; 32];
    secret.copy_from_slice(&hashed(&[&seed])[..32]);
    (secret[0], secret[31]) = (secret[0] & 248, secret[31] & 63 | 64);
    let secret = Scalar::from_bytes_mod_order(secret);
    let nonce = Scalar::from_bytes_mod_order_wide(&hashed(&[b"another nonce", &message]));
    let point = EdwardsPoint::mul_base(&nonce).compress();
    let key = SigningKey::from_seed(&seed).public();
    let challenge = hashed(&[point.as_bytes(), key.as_bytes(), &message]);
    let scalar = nonce + Scalar::from_bytes_mod_order_wide(&challenge) * secret;
    parts.signature = [*point.as_bytes(), scalar.to_bytes()].concat().into();
    let encoded = parts.encode_to_vec().into();
    Arc::new(VerifiedTransaction::from_bytes(encoded, chain_id).expect("valid"))
}

#[test]
fn it_knows_whether_something_can_be_included_for_a_while() {
    let mut mempool = Mempool::new(MempoolLimits::default());
    mempool.insert(transaction(Of { not_after_ms: 100, ..NL }, 1)).expect("room");
    mempool.insert(transaction(Of { not_after_ms: 500, ..NL }, 2)).expect("room");
    for (range, within) in [(0..=99, false), (0..=100, true), (101..=499, false), (101..=500, true)]
    {
        assert_eq!(mempool.ends_within(range.clone()), within, "{range:?}");
    }
}

#[test]
fn removal_gives_the_room_back() {
    let mut mempool = Mempool::new(MempoolLimits::default());
    let list: Vec<_> = (0..5).map(|n| transaction(Of { not_after_ms: 100 + n, ..NL }, n)).collect();
    for transaction in &list {
        mempool.insert(transaction.clone()).expect("room");
    }
    mempool.remove_expired(103);
    assert_eq!(mempool.count(), 2);
    for transaction in &list {
        mempool.remove(&transaction.leaf_hash());
    }
    assert_eq!((mempool.count(), mempool.bytes()), (0, 0));
    assert!(mempool.by_agency.is_empty() && mempool.by_expiry.is_empty());
    assert!(mempool.leaf_of_id.is_empty() && mempool.by_arrival.is_empty());
}

/// A room in bytes tells of the count too: as many of the least bytes fit as there may be transactions.
#[test]
fn a_room_in_bytes_is_no_larger_than_the_room_in_transactions() {
    let agency: AgencyCode = "NL".parse().expect("a code");
    let mut mempool = Mempool::new(limits(400, 4_000_000));
    assert_eq!(mempool.least_bytes(), 10_000);
    let before = mempool.room(agency, &key(2)).expect("room");
    fill(&mut mempool, NL, 150);
    let after = mempool.room(agency, &key(2)).expect("room");
    assert!(after * 3 < before, "{after} of {before} bytes, though the first have few");
    let (taken, _) = fill(&mut mempool, Of { signer: 2, ..NL }, 400);
    assert!(after as u64 / 10_000 <= taken, "{after} bytes for {taken}");
    // Where nothing but bytes is limited, nothing else is told.
    let unlimited = Mempool::new(limits(usize::MAX, 4_000_000));
    assert!(unlimited.room(agency, &key(2)).is_some_and(|room| room > 1_000_000));
}
