//! What is refused, and by which name.

use customhouse_proto::v1;

use super::*;
use crate::{
    chain::{BlockInvalid, TransactionInvalid},
    finality::header::Block,
    limits::TRANSACTION_BYTES_MIN,
    registry::genesis::tests::genesis,
};

fn refusal(chain: &Chain, transaction: &Arc<VerifiedTransaction>) -> Option<TransactionInvalid> {
    let candidate = prepare(chain, std::slice::from_ref(transaction));
    assert_eq!(candidate.staged.transactions().len() + candidate.refused.len(), 1);
    candidate
        .refused
        .into_iter()
        .map(|(leaf, reason)| {
            assert_eq!(leaf, transaction.leaf_hash());
            reason
        })
        .next()
}

#[test]
fn a_transaction_that_cannot_be_in_the_block_is_refused_with_its_reason() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let chain_id = fixture.genesis.chain_id();
    let time_ms = context(&chain).time_ms;
    let made = |agency, key, not_after_ms, chain_id: &Hash| {
        transaction(agency, key, [(1, "key".to_owned())], not_after_ms, chain_id)
    };
    let code = |chain: &Chain, transaction| refusal(chain, &transaction).map(|r| r.code());
    assert_eq!(code(&chain, made(1, 129, time_ms, &chain_id)), None);
    assert_eq!(code(&chain, made(1, 129, time_ms - 1, &chain_id)), Some("EXPIRED"));
    let day = 24 * 60 * 60 * 1000;
    assert_eq!(code(&chain, made(1, 129, time_ms + day, &chain_id)), None);
    assert_eq!(code(&chain, made(1, 129, time_ms + 2 * day, &chain_id)), Some("LIVES_TOO_LONG"));
    assert_eq!(code(&chain, made(1, 129, u64::MAX, &chain_id)), Some("LIVES_TOO_LONG"));
    assert_eq!(code(&chain, made(1, 50, time_ms, &chain_id)), Some("UNKNOWN_SIGNER"));
    // A validator's key is not a signing key.
    assert_eq!(code(&chain, made(1, 1, time_ms, &chain_id)), Some("UNKNOWN_SIGNER"));
    assert_eq!(code(&chain, made(1, 130, time_ms, &chain_id)), Some("SIGNER_AGENCY"));
    let other = genesis(5).chain_id();
    assert_eq!(code(&chain, made(1, 129, time_ms, &other)), Some("WRONG_CHAIN"));

    let valid = made(1, 129, time_ms + day, &chain_id);
    let twice = prepare(&chain, &[valid.clone(), valid.clone()]);
    assert_eq!(twice.refused, [(valid.leaf_hash(), TransactionInvalid::TwiceInBlock)]);
    commit(&mut chain, std::slice::from_ref(&valid));
    assert_eq!(refusal(&chain, &valid), Some(TransactionInvalid::AlreadyCommitted(0)));
}

#[test]
fn a_block_with_a_transaction_that_a_leader_would_refuse_is_invalid() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let transaction = fixture.transaction(1, 0..1);
    let staged = prepare(&chain, std::slice::from_ref(&transaction)).staged;
    let twice = Block { leaves: vec![transaction.leaf_hash(); 2], ..staged.block().clone() };
    let invalid = chain.validate(&twice, &[transaction.clone(), transaction.clone()]);
    let expected = BlockInvalid::Transaction(1, TransactionInvalid::TwiceInBlock);
    assert_eq!(invalid.expect("readable").err(), Some(expected));
    commit(&mut chain, std::slice::from_ref(&transaction));
    let mut next = prepare(&chain, &[]).staged.block().clone();
    next.leaves = vec![transaction.leaf_hash()];
    let invalid = chain.validate(&next, std::slice::from_ref(&transaction)).expect("readable");
    let expected = BlockInvalid::Transaction(0, TransactionInvalid::AlreadyCommitted(0));
    assert_eq!(invalid.err(), Some(expected));
}

#[test]
fn each_false_field_of_a_header_is_named() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    commit(&mut chain, &[fixture.transaction(1, 0..2)]);
    let transactions = [fixture.transaction(1, 2..4), fixture.transaction(2, 4..5)];
    let genuine = prepare(&chain, &transactions).staged.block().clone();
    assert!(chain.validate(&genuine, &transactions).expect("readable").is_ok());
    let code = |change: &dyn Fn(&mut Block)| {
        let mut block = genuine.clone();
        change(&mut block);
        let invalid =
            chain.validate(&block, &transactions).expect("readable").expect_err("invalid");
        (invalid.code(), invalid.to_string())
    };
    let other = Hash([9; 32]);
    type Change<'a> = &'a dyn Fn(&mut Block);
    let cases: [(&str, &str, Change<'_>); 18] = [
        ("BLOCK_VERSION", "version", &|b| b.header.version = 2),
        ("WRONG_CHAIN", "chain", &|b| b.header.chain_id = other),
        ("BLOCK_HEIGHT", "height 3", &|b| b.header.height = 3),
        ("BLOCK_PARENT", "parent", &|b| b.header.parent_hash = other),
        ("BLOCK_TIME", "time", &|b| b.header.time_ms = chain.tip().header.time_ms),
        ("BLOCK_VIEW", "view 0", &|b| b.header.view = 0),
        ("BLOCK_PROPOSER", "proposer", &|b| b.header.proposer = [9; 32]),
        ("BLOCK_LEAVES", "transactions", &|b| b.leaves.truncate(1)),
        ("BLOCK_LEAVES", "transactions", &|b| b.leaves.swap(0, 1)),
        ("BLOCK_HEADER", "log_start", &|b| b.header.log_start += 1),
        ("BLOCK_HEADER", "log_size", &|b| b.header.log_size += 1),
        ("BLOCK_HEADER", "log_root", &|b| b.header.log_root = other),
        ("BLOCK_HEADER", "history_size", &|b| b.header.history_size += 1),
        ("BLOCK_HEADER", "history_root", &|b| b.header.history_root = other),
        ("BLOCK_HEADER", "registry_root", &|b| b.header.registry_root = other),
        ("BLOCK_HEADER", "header.validators_hash", &|b| b.header.validators_hash = other),
        ("BLOCK_HEADER", "next_validators_hash", &|b| b.header.next_validators_hash = other),
        ("BLOCK_TRANSACTION", "expired", &|b| b.header.time_ms += 3_600_000),
    ];
    for (expected, text, change) in cases {
        let (code, message) = code(change);
        assert_eq!(code, expected);
        assert!(message.contains(text), "{message}");
    }
}

#[test]
fn a_leader_fills_a_block_up_to_its_limits() {
    let fixture = Fixture::new();
    let chain = fixture.open();
    let large = fixture.transaction(1, 0..20);
    let small = fixture.transaction(1, 20..21);
    let bytes_max = small.encoded().len() as u64;
    let limited = BlockContext { bytes_max, ..context(&chain) };
    let candidate =
        chain.prepare(&limited, [large.clone(), small.clone()]).expect("a readable store");
    assert_eq!(candidate.staged.transactions(), [small], "what does not fit is passed over");
    assert_eq!(candidate.refused, [], "and stays for a later block");
    let early = BlockContext { time_ms: 0, ..context(&chain) };
    let header = chain.prepare(&early, []).expect("readable").staged.block().header.clone();
    assert_eq!(header.time_ms, fixture.genesis.time_ms + 1, "a slow clock does not stop a leader");
}

#[test]
fn the_networks_parameters_limit_transactions_and_blocks() {
    let fixture = Fixture::with_parameters(&[
        ("block_transactions_max", 2),
        ("block_bytes_max", 6 << 20),
        ("transaction_bytes_max", TRANSACTION_BYTES_MIN as u64),
        ("transaction_slots_max", 600),
        ("record_bytes_max", 1024),
    ]);
    let chain = fixture.open();
    let code = |transaction| {
        let refused = refusal(&chain, &transaction).map(|r| r.code());
        let checked = chain.reader().check_registered(&transaction, context(&chain).time_ms);
        let told = checked.expect("readable").err().map(|r| r.code());
        assert_eq!(told, refused, "nothing waits for a block that can be in none");
        refused
    };
    assert_eq!(code(fixture.transaction(1, 0..600)), None);
    assert_eq!(code(fixture.transaction(1, 0..601)), Some("SLOT_COUNT"));
    let long = |numbers: std::ops::Range<u64>, bytes: usize| {
        let name = "A001".parse().expect("a code");
        let records = numbers.map(|number| {
            let mut long = record("A001", number);
            long.source = Some(v1::Source { content: vec![7; bytes], ..Default::default() });
            let dedupe_key = Hash([u8::try_from(number).expect("few"); 32]);
            (ValidRecord::from_record(long).expect("valid"), dedupe_key)
        });
        let (key, chain_id) = (SigningKey::from_seed(&[129; 32]), fixture.genesis.chain_id());
        let (records, not_after_ms) =
            (records.collect::<Vec<_>>(), fixture.genesis.time_ms + 60_000);
        let signed = VerifiedTransaction::sign(&records, name, not_after_ms, &chain_id, &key);
        Arc::new(signed.expect("valid"))
    };
    assert_eq!(code(long(0..2, 5 << 19)), Some("TRANSACTION_TOO_LARGE"));
    assert_eq!(code(long(0..1, 1024)), Some("RECORD_TOO_LARGE"));

    let small: Vec<_> = (0..3).map(|n| fixture.transaction(1, n..n + 1)).collect();
    assert_eq!(prepare(&chain, &small).staged.transactions(), &small[..2]);
    let invalid = |transactions: &[Arc<VerifiedTransaction>]| {
        let leaves = transactions.iter().map(|transaction| transaction.leaf_hash()).collect();
        let block = Block { header: prepare(&chain, &[]).staged.block().header.clone(), leaves };
        chain.validate(&block, transactions).expect("readable").expect_err("invalid").code()
    };
    assert_eq!(invalid(&small), "BLOCK_TRANSACTION_COUNT");
    assert_eq!(invalid(&[long(0..1, 7 << 19), long(1..2, 7 << 19)]), "BLOCK_TOO_LARGE");
}
