//! Records that are much work for their bytes, and what the parameters ask of the network's own.

use bytes::Bytes;
use customhouse_proto::v1::{record::Body, reference::Relation};
use prost::Message as _;

use super::*;
use crate::{
    chain::BlockInvalid,
    limits::{BLOCK_REFERENCES_MAX, REFERENCES_MAX, SLOTS_MAX, TRANSACTION_REFERENCES_MAX},
    registry::{RegistryChange, RegistryProposal},
    transaction::TransactionError,
};

fn salted(number: usize, record: v1::Record) -> v1::Record {
    let mut salt = vec![7; 32];
    salt[..8].copy_from_slice(&number.to_be_bytes());
    v1::Record { salt, ..record }
}

fn signed(
    fixture: &Fixture,
    records: impl IntoIterator<Item = v1::Record>,
) -> Result<Arc<VerifiedTransaction>, TransactionError> {
    let agency = "A001".parse().expect("a code");
    let records: Vec<_> = records
        .into_iter()
        .map(|record| {
            let record = ValidRecord::from_record(record).expect("valid");
            let key = record.id;
            (record, key)
        })
        .collect();
    let (key, id) = (SigningKey::from_seed(&[129; 32]), fixture.genesis.chain_id());
    let not_after_ms = fixture.genesis.time_ms + 3_600_000;
    VerifiedTransaction::sign(&records, agency, not_after_ms, &id, &key).map(Arc::new)
}

/// Evidence for one record, said as often as a record may.
fn referring(number: usize, to: &Hash) -> v1::Record {
    let reference = v1::Reference {
        relation: Relation::Evidences as i32,
        record_id: to.0.to_vec(),
        ..Default::default()
    };
    salted(number, v1::Record { references: vec![reference; REFERENCES_MAX], ..record("A001", 1) })
}

#[test]
fn references_of_a_transaction_and_of_a_block_are_bounded_before_any_is_looked_up() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let target = record("A001", 7);
    let id = ValidRecord::from_record(target.clone()).expect("valid").id;
    commit(&mut chain, &[signed(&fixture, [target]).expect("valid")]);
    let full = TRANSACTION_REFERENCES_MAX / REFERENCES_MAX;
    let of = |first: usize, count| {
        signed(&fixture, (first..first + count).map(|number| referring(number, &id)))
    };
    assert_eq!(of(0, full + 1).expect_err("too many").code(), "TRANSACTION_REFERENCES");
    let transactions: Vec<_> = (0..4).map(|n| of(n * full, full).expect("as many")).collect();
    let candidate = prepare(&chain, &transactions);
    let taken = candidate.staged.transactions();
    assert_eq!((taken, candidate.refused.len()), (&transactions[..2], 0), "the others wait");
    assert_eq!(2 * TRANSACTION_REFERENCES_MAX, BLOCK_REFERENCES_MAX);
    // A leader that takes more has no valid block.
    let mut block = candidate.staged.block().clone();
    block.leaves.push(transactions[2].leaf_hash());
    let invalid = chain.validate(&block, &transactions[..3]).expect("readable");
    let references = 3 * TRANSACTION_REFERENCES_MAX;
    assert_eq!(invalid.expect_err("too many"), BlockInvalid::TooManyReferences(references));
    commit(&mut chain, &transactions[..2]);
    assert_eq!(prepare(&chain, &transactions[2..]).staged.transactions(), &transactions[2..]);
}

#[test]
fn records_that_may_be_each_alone_may_be_too_much_together() {
    let fixture = Fixture::new();
    let dense = |number| {
        let items = vec![v1::GoodsItem::default(); 4000];
        let body =
            v1::Declaration { regime: 1, reference: "LRN1".into(), items, ..Default::default() };
        salted(number, v1::Record { body: Some(Body::Declaration(body)), ..record("A001", 1) })
    };
    signed(&fixture, [dense(1)]).expect("each is valid");
    let refused = signed(&fixture, (0..8).map(dense)).expect_err("too many messages");
    assert_eq!(refused.code(), "TRANSACTION_LEAVES");
}

#[test]
fn a_forged_signature_is_refused_before_the_records_are_read() {
    let fixture = Fixture::new();
    let transaction = signed(&fixture, [record("A001", 1)]).expect("valid");
    let mut parts = transaction.parts().clone();
    parts.records = vec![Bytes::from_static(b"no record"); SLOTS_MAX];
    let read = |parts: &v1::Transaction| {
        let id = fixture.genesis.chain_id();
        VerifiedTransaction::from_bytes(parts.encode_to_vec().into(), &id).expect_err("refused")
    };
    assert_eq!(read(&parts).code(), "RECORD_COUNT");
    let mut signature = parts.signature.to_vec();
    signature[5] ^= 1;
    parts.signature = signature.into();
    assert_eq!(read(&parts).code(), "BAD_SIGNATURE");
}

#[test]
fn however_small_records_must_be_the_registry_can_change() {
    let plain = genesis(22);
    let parameter = v1::ParameterEntry { name: "record_bytes_max".into(), value: 1024 };
    let entry =
        v1::RegistryEntry { entry: Some(Entry::Parameter(parameter)), ..Default::default() };
    let entries = plain.registry.entries().cloned().chain([entry]).collect();
    let genesis = Genesis::new("test".into(), plain.time_ms, plain.history_bits, entries);
    let fixture = Fixture { genesis: genesis.expect("valid"), ..Fixture::new() };
    let chain = fixture.open();
    let tip = chain.tip();
    let is_ended = |entry: &&v1::RegistryEntry| matches!(&entry.entry, Some(Entry::Validator(validator)) if validator.agency == "A022");
    let ended = tip.registry.entries().find(is_ended).expect("a validator").clone();
    let (root, time_ms) = (tip.registry.members_root(), tip.header.time_ms);
    let proposal = RegistryProposal::new(&root, time_ms + 3_000_000, vec![], vec![ended], "left");
    let proposal = proposal.expect("valid");
    let approvals = (1..)
        .take(tip.validators.quorum())
        .map(|seed| proposal.approve(&chain.chain_id(), &SigningKey::from_seed(&[seed; 32])));
    let change = RegistryChange::new(proposal.clone(), approvals.collect(), None).expect("valid");
    let (agency, key) = ("A001".parse().expect("a code"), SigningKey::from_seed(&[129; 32]));
    let until = time_ms + 3_600_000;
    let id = chain.chain_id();
    let change =
        VerifiedTransaction::change_registry(&change, "operator", agency, until, &id, &key);
    let change = Arc::new(change.expect("valid"));
    assert!(change.parts().records[0].len() > 1024);
    assert_eq!(prepare(&chain, &[change]).refused, []);
    let large = v1::Source { content: vec![7; 2000], ..Default::default() };
    let large = signed(&fixture, [v1::Record { source: Some(large), ..record("A001", 1) }]);
    let refused = &prepare(&chain, &[large.expect("valid")]).refused[0].1;
    assert_eq!(refused.code(), "RECORD_TOO_LARGE");
}
