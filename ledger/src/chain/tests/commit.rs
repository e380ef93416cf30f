//! Committing: roots, outcomes, indexes, reopening, determinism.

use proptest::prelude::*;

use super::*;
use crate::{
    chain::{CommitError, SlotOutcome},
    proofs::receipt::tests::finalize,
};

#[test]
fn a_new_chain_begins_with_the_genesis_header() {
    let fixture = Fixture::new();
    let chain = fixture.open();
    let tip = chain.tip();
    assert_eq!(tip.header, fixture.genesis.header());
    assert_eq!((tip.certificate.clone(), tip.validators.count()), (None, 4));
    let first = chain.reader().header(0).expect("readable").expect("there");
    assert_eq!((first.header, first.certificate), (fixture.genesis.header(), None));
    assert_eq!(chain.reader().header(1), Ok(None));
}

#[test]
fn a_reopened_chain_goes_on_where_it_was() {
    let fixture = Fixture::new();
    let mut model = Model::new(&fixture.genesis);
    for round in 0..4 {
        let mut chain = fixture.open();
        assert_eq!(chain.tip().header.height, round * 3);
        for block in 0..3 {
            let first = (round * 3 + block) * 100;
            // More than a tile of transactions by the end, and one empty block a round.
            let count = if block == 1 { 0 } else { 50 };
            let transactions: Vec<_> =
                (first..first + count).map(|n| fixture.transaction(1, n..n + 1)).collect();
            commit(&mut chain, &transactions);
            model.follow(&chain.reader());
        }
    }
    assert_eq!(model.header.log_size, 400);
    Model::new(&fixture.genesis).follow(&fixture.open().reader());
}

#[test]
fn everything_committed_is_found_by_each_of_its_names() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    commit(&mut chain, &[]);
    let transactions = [fixture.transaction(1, 0..3), fixture.transaction(2, 3..5)];
    let committed = commit(&mut chain, &transactions);
    let reader = chain.reader();
    let block = reader.block(2).expect("readable").expect("committed");
    assert_eq!(block.block.header, committed.header);
    for (log_index, transaction) in (0..).zip(&transactions) {
        let leaf = transaction.leaf_hash();
        let found = reader.transaction(&transaction.id()).expect("readable").expect("committed");
        assert_eq!((found.log_index, &found.header), (log_index, &committed.header));
        assert_eq!(found.encoded, *transaction.encoded());
        assert_eq!(reader.transaction_at(log_index), Ok(Some(found.clone())));
        assert_eq!(reader.transaction_by_leaf(&leaf), Ok(Some(found)));
        assert_eq!(reader.body(&leaf), Ok(Some(transaction.encoded().clone())));
        assert_eq!(block.block.leaves[log_index as usize], leaf);
        let agency = transaction.header().agency;
        for (position, slot) in (0..).zip(transaction.slots()) {
            let record = reader.record(&slot.record_id).expect("readable").expect("committed");
            assert_eq!(record.bytes.as_ref(), transaction.parts().records.get(position as usize));
            let place = (record.place.log_index, record.place.position, record.place.agency);
            assert_eq!(place, (log_index, position, agency));
            assert_eq!((record.id, record.transaction_id), (slot.record_id, transaction.id()));
            assert_eq!(reader.record_at(log_index, position), Ok(Some(record)));
            let key = reader.dedupe(&agency, &slot.dedupe_key).expect("readable").expect("there");
            let first = (key.log_index, key.position, key.record_id);
            assert_eq!(first, (log_index, position, slot.record_id));
            let history = reader.history(&slot.subject_keys[0], None, 10).expect("readable");
            assert_eq!((history[0].log_index, history[0].position), (log_index, position));
        }
    }
    let unknown = Hash([9; 32]);
    assert_eq!(reader.transaction(&unknown), Ok(None));
    assert_eq!(reader.transaction_at(2), Ok(None));
    assert_eq!(reader.record(&unknown), Ok(None));
    assert_eq!(reader.record_at(0, 3), Ok(None));
    assert_eq!(reader.record_at(2, 0), Ok(None));
    assert_eq!(reader.body(&unknown), Ok(None));
    assert_eq!(reader.history(&unknown, None, 10), Ok(vec![]));
}

#[test]
fn a_repeated_key_or_record_is_a_no_op_that_points_to_the_first() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let keyed = |list: &[(u64, &str)]| {
        let list: Vec<_> = list.iter().map(|(number, key)| (*number, (*key).to_owned())).collect();
        fixture.transaction_with_keys(1, list)
    };
    let first = |log_index, position| SlotOutcome::Duplicate { log_index, position };
    let applied = SlotOutcome::Applied;
    let inside = keyed(&[(1, "a"), (2, "a"), (3, "b"), (3, "c")]);
    let beside = keyed(&[(4, "b"), (5, "d")]);
    let committed = commit(&mut chain, &[inside, beside]);
    assert_eq!(committed.outcomes[0], [applied, first(0, 0), applied, first(0, 2)]);
    assert_eq!(committed.outcomes[1], [first(0, 2), applied]);
    let later = keyed(&[(6, "a"), (1, "e"), (7, "f")]);
    let committed = commit(&mut chain, std::slice::from_ref(&later));
    assert_eq!(committed.outcomes[0], [first(0, 0), first(0, 0), applied]);
    // Where key and record lead to different places, the key counts; and the chain counts before the block.
    let both = keyed(&[(3, "a"), (8, "g"), (9, "h"), (8, "h"), (1, "g"), (9, "b")]);
    let committed = commit(&mut chain, &[both]);
    let expected = [first(0, 0), applied, applied, first(3, 2), first(0, 0), first(0, 2)];
    assert_eq!(committed.outcomes[0], expected);

    let reader = chain.reader();
    let no_op = &later.slots()[0];
    assert_eq!(reader.record(&no_op.record_id), Ok(None), "a no-op leaves no record");
    assert_eq!(reader.history(&no_op.subject_keys[0], None, 10), Ok(vec![]), "and no history");
    let agency = later.header().agency;
    assert_eq!(reader.dedupe(&agency, &later.slots()[1].dedupe_key), Ok(None), "and no key");
    Model::new(&fixture.genesis).follow(&reader);
}

#[test]
fn no_agency_can_use_up_the_keys_of_another() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let name = "A001".parse().expect("a code");
    let victim = fixture.transaction(1, 1..2);
    assert_eq!(victim.slots()[0].dedupe_key, dedupe_key(&name, "broker", "key 1"));
    // Agency 2 commits its own record under agency 1's dedupe key.
    let other = "A002".parse().expect("a code");
    let record = ValidRecord::from_record(record("A002", 9)).expect("valid");
    let key = SigningKey::from_seed(&[130; 32]);
    let (stolen, chain_id) = (victim.slots()[0].dedupe_key, fixture.genesis.chain_id());
    let not_after_ms = victim.header().not_after_ms;
    let squat =
        VerifiedTransaction::sign(&[(record, stolen)], other, not_after_ms, &chain_id, &key);
    let committed = commit(&mut chain, &[Arc::new(squat.expect("valid")), victim]);
    assert_eq!(committed.outcomes[1], [SlotOutcome::Applied]);
}

#[test]
fn a_block_is_committed_on_the_tip_and_with_its_own_finalization() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let first = prepare(&chain, &[fixture.transaction(1, 0..1)]).staged;
    let second = prepare(&chain, &[fixture.transaction(1, 1..2)]).staged;
    let header = first.block().header.clone();
    let of_second = finalization(&chain, &second.block().header);
    let refused = chain.commit(first.clone(), of_second.clone()).expect_err("another block's");
    assert!(matches!(refused, CommitError::Finality(_)), "{refused}");
    let notarized = finalize(&header, &fixture.genesis, VoteKind::Notarize);
    let refused = chain.commit(first.clone(), notarized).expect_err("no finalization");
    assert!(matches!(refused, CommitError::Finality(_)), "{refused}");
    assert_eq!(chain.tip().header.height, 0, "nothing was committed");
    let certificate = finalization(&chain, &header);
    chain.commit(first, certificate).expect("its own");
    let refused = chain.commit(second, of_second).expect_err("the tip moved");
    assert!(matches!(refused, CommitError::NotOnTip { .. }), "{refused}");
}

#[test]
fn a_reader_sees_a_history_in_pages() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    // The same declaration in records of different clients: one subject.
    let subject = fixture.transaction(1, 7..8).slots()[0].subject_keys[0];
    for round in 0..5u8 {
        let name = "A001".parse().expect("a code");
        let mut about = record("A001", 7);
        about.salt = vec![round; 32];
        let about = ValidRecord::from_record(about).expect("valid");
        let dedupe = dedupe_key(&name, "broker", &round.to_string());
        let key = SigningKey::from_seed(&[129; 32]);
        let (chain_id, not_after) = (fixture.genesis.chain_id(), fixture.genesis.time_ms + 60_000);
        let signed =
            VerifiedTransaction::sign(&[(about, dedupe)], name, not_after, &chain_id, &key);
        commit(&mut chain, &[Arc::new(signed.expect("valid"))]);
    }
    let reader = chain.reader();
    let all = reader.history(&subject, None, 100).expect("readable");
    assert_eq!(all.iter().map(|entry| entry.log_index).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    let (mut after, mut paged) = (None, Vec::new());
    loop {
        let page = reader.history(&subject, after, 2).expect("readable");
        let Some(last) = page.last() else { break };
        after = Some((last.log_index, last.position));
        paged.extend(page);
    }
    assert_eq!(paged, all);
}

#[test]
fn memory_and_disk_stay_in_proportion() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let mut bytes = 0;
    for block in 0..10 {
        let first = block * 2000;
        let transactions: Vec<_> = (0..20)
            .map(|n| fixture.transaction(1, first + n * 100..first + (n + 1) * 100))
            .collect();
        bytes += transactions.iter().map(|t| t.encoded().len() as u64).sum::<u64>();
        commit(&mut chain, &transactions);
    }
    chain.shared.store.flush().expect("flushed");
    let metrics = chain.metrics();
    let disk = metrics.table_file_bytes + metrics.blob_file_bytes;
    eprintln!("{bytes} bytes of transactions, {disk} on disk, {metrics:?}");
    assert!(metrics.blob_file_bytes > 0, "bodies are in blob files");
    assert!(disk < 3 * bytes, "{disk} bytes on disk for {bytes} of transactions");
    let memory = metrics.memtable_bytes + metrics.block_cache_bytes + metrics.table_reader_bytes;
    assert!(memory < 150 << 20, "{memory} bytes of memory");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn two_chains_and_the_model_agree_on_any_blocks(
        blocks in prop::collection::vec(
            prop::collection::vec((1u8..=4, prop::collection::vec((0u64..30, 0u8..30), 1..6)), 0..6),
            1..6,
        ),
    ) {
        let (leader, follower) = (Fixture::new(), Fixture::new());
        let (mut leading, mut following) = (leader.open(), follower.open());
        let mut model = Model::new(&leader.genesis);
        for transactions in &blocks {
            let transactions: Vec<_> = transactions
                .iter()
                .map(|(agency, records)| {
                    let records = records.iter().map(|(number, key)| (*number, key.to_string()));
                    leader.transaction_with_keys(*agency, records)
                })
                .collect();
            let Candidate { staged, refused } = prepare(&leading, &transactions);
            for (_, reason) in refused {
                let code = reason.code();
                prop_assert!(["ALREADY_COMMITTED", "TWICE_IN_BLOCK"].contains(&code), "{}", code);
            }
            let (block, bodies) = (staged.block().clone(), staged.transactions().to_vec());
            let certificate = finalization(&leading, &block.header);
            let led = leading.commit(staged, certificate.clone()).expect("committed");
            let staged = following.validate(&block, &bodies).expect("readable").expect("valid");
            let followed = following.commit(staged, certificate).expect("committed");
            prop_assert_eq!(led.outcomes, followed.outcomes);
            prop_assert_eq!(leading.tip(), following.tip());
            model.follow(&following.reader());
        }
        drop(following);
        prop_assert_eq!(follower.open().tip(), leading.tip());
    }
}
