//! Agencies join, leave and exchange keys while the chain goes on.

use std::slice;

use customhouse_proto::v1::Role;
use prost::Message as _;

use super::*;
use crate::{
    chain::{BlockInvalid, Tip, TransactionInvalid},
    finality::evidence::{Evidence, tests::vote_at},
    proofs::verifier::{FinalityError, StepError, Verifier},
    record::subject::subject_key,
    registry::{ApplyError, InSync, PEER_GRACE, Registry, RegistryChange, RegistryProposal},
    store::{Store, Table},
};

mod forks;
mod histories;
mod parameters;
mod steps;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn public(seed: u8) -> Vec<u8> {
    key(seed).public().as_bytes().to_vec()
}

/// The key as an error names it.
fn hash_of(seed: u8) -> Hash {
    Hash(*key(seed).public().as_bytes())
}

fn name(agency: u8) -> String {
    format!("A{agency:03}")
}

fn entry(entry: Entry) -> v1::RegistryEntry {
    v1::RegistryEntry { entry: Some(entry), ..Default::default() }
}

fn validator(agency: u8, seed: u8) -> v1::RegistryEntry {
    let public_key = public(seed);
    entry(Entry::Validator(v1::ValidatorEntry { agency: name(agency), public_key }))
}

fn peer(agency: u8, seed: u8) -> v1::RegistryEntry {
    let public_key = public(seed);
    entry(Entry::Peer(v1::PeerEntry { agency: name(agency), public_key }))
}

fn signing_key(agency: u8, seed: u8) -> v1::RegistryEntry {
    let role = Role::Node as i32;
    let public_key = public(seed);
    let signing =
        v1::SigningKeyEntry { agency: name(agency), public_key, role, ..Default::default() };
    entry(Entry::SigningKey(signing))
}

fn parameter(name: &str, value: u64) -> v1::RegistryEntry {
    entry(Entry::Parameter(v1::ParameterEntry { name: name.into(), value }))
}

fn heartbeat(value: u64) -> v1::RegistryEntry {
    parameter("heartbeat_ms", value)
}

fn open_heartbeat(registry: &Registry) -> Option<v1::RegistryEntry> {
    let is_it = |entry: &&v1::RegistryEntry| matches!(&entry.entry, Some(Entry::Parameter(own)) if own.name == "heartbeat_ms");
    registry.entries().filter(|entry| entry.end_height == 0).find(is_it).cloned()
}

/// The heartbeat is exchanged: its first value is the genesis's.
pub(super) fn apply_new_heartbeat(chain: &mut Chain) {
    let ended: Vec<_> = open_heartbeat(&chain.tip().registry).into_iter().collect();
    apply(chain, &[heartbeat(30_000)], &ended);
}

/// The agency with its peer and signing keys, as in the test genesis: all but the vote.
fn agency(agency: u8) -> Vec<v1::RegistryEntry> {
    let country = "NL".to_owned();
    let own = v1::AgencyEntry { agency: name(agency), name: name(agency), country };
    vec![entry(Entry::Agency(own)), peer(agency, 64 + agency), signing_key(agency, 128 + agency)]
}

/// An agency joins, without a vote.
pub(super) fn apply_new_agency(chain: &mut Chain) {
    apply(chain, &agency(5), &[]);
}

/// The entry of the registry that registers this key.
fn registered(chain: &Chain, seed: u8) -> v1::RegistryEntry {
    let key = public(seed);
    let has_key = |entry: &&v1::RegistryEntry| match &entry.entry {
        Some(Entry::Validator(validator)) => validator.public_key == key,
        Some(Entry::Peer(peer)) => peer.public_key == key,
        Some(Entry::SigningKey(signing)) => signing.public_key == key,
        _ => false,
    };
    let tip = chain.tip();
    tip.registry.entries().find(has_key).expect("registered").clone()
}

fn propose(
    tip: &Tip,
    added: &[v1::RegistryEntry],
    ended: &[v1::RegistryEntry],
) -> RegistryProposal {
    let not_after_ms = tip.header.time_ms + 3_000_000;
    let (added, ended) = (added.to_vec(), ended.to_vec());
    RegistryProposal::new(&tip.registry.members_root(), not_after_ms, added, ended, "agreed")
        .expect("a proposal")
}

/// The seeds of a quorum of the validators.
fn quorum(chain: &Chain) -> Vec<u8> {
    let tip = chain.tip();
    let decides = |seed: &u8| tip.validators.index_of(&key(*seed).public()).is_some();
    (1..=u8::MAX).filter(decides).take(tip.validators.quorum()).collect()
}

/// The statement that the key which the proposal adds is in sync with the tip.
fn in_sync(chain: &Chain, proposal: &RegistryProposal) -> Option<InSync> {
    let added = proposal.validator_added()?;
    let own = (1..=u8::MAX).map(key).find(|key| key.public() == added.key).expect("a seed");
    let tip = chain.tip();
    let (chain_id, height) = (chain.chain_id(), tip.header.height);
    Some(InSync::sign(&chain_id, &added.agency, height, tip.hash, &own))
}

fn approved(
    chain: &Chain,
    proposal: &RegistryProposal,
    approvers: &[u8],
    in_sync: Option<InSync>,
) -> RegistryChange {
    let approve = |seed: &u8| proposal.approve(&chain.chain_id(), &key(*seed));
    let approvals = approvers.iter().map(approve).collect();
    RegistryChange::new(proposal.clone(), approvals, in_sync).expect("a change")
}

/// Submitted by agency 1.
fn submitted(chain: &Chain, change: &RegistryChange) -> Arc<VerifiedTransaction> {
    let not_after_ms = chain.tip().header.time_ms + 3_600_000;
    let agency = "A001".parse().expect("a code");
    let signed = VerifiedTransaction::change_registry(
        change,
        "operator",
        agency,
        not_after_ms,
        &chain.chain_id(),
        &key(129),
    );
    Arc::new(signed.expect("signatures verify"))
}

/// A change by a quorum, in sync where it must be.
fn change(
    chain: &Chain,
    added: &[v1::RegistryEntry],
    ended: &[v1::RegistryEntry],
) -> Arc<VerifiedTransaction> {
    let proposal = propose(&chain.tip(), added, ended);
    let in_sync = in_sync(chain, &proposal);
    submitted(chain, &approved(chain, &proposal, &quorum(chain), in_sync))
}

/// Commits a change alone in its block.
fn apply(chain: &mut Chain, added: &[v1::RegistryEntry], ended: &[v1::RegistryEntry]) {
    let transaction = change(chain, added, ended);
    commit(chain, &[transaction]);
}

fn refused(chain: &Chain, transaction: Arc<VerifiedTransaction>) -> TransactionInvalid {
    let Candidate { staged, refused } = prepare(chain, slice::from_ref(&transaction));
    assert_eq!(staged.transactions(), []);
    // A voter says the same of a block that has it.
    let mut block = staged.block().clone();
    block.leaves = vec![transaction.leaf_hash()];
    let voter = chain
        .validate(&block, slice::from_ref(&transaction))
        .expect("readable")
        .expect_err("refused");
    let [(_, reason)] = &refused[..] else { panic!("{refused:?}") };
    assert_eq!(voter, BlockInvalid::Transaction(0, reason.clone()));
    // And so does a node that is asked to keep it for a block, except for what only the block can tell.
    let asked = chain.reader().check_registered(&transaction, block.header.time_ms);
    match asked.expect("readable") {
        Err(early) => assert_eq!(early, *reason),
        Ok(()) => assert!(
            matches!(
                reason,
                TransactionInvalid::InSyncHeight { height, newest, .. } if height > newest
            ) || matches!(reason, TransactionInvalid::Change(_))
                && reason.code() != "REGISTRY_ROOT"
        ),
    }
    reason.clone()
}

fn voters(chain: &Chain) -> Vec<String> {
    let tip = chain.tip();
    tip.validators.as_slice().iter().map(|validator| validator.agency.to_string()).collect()
}

/// Joins agency 5 in two changes.
fn join(chain: &mut Chain) {
    apply(chain, &agency(5), &[]);
    apply(chain, &[validator(5, 5)], &[]);
}

#[test]
fn an_agency_joins_votes_and_leaves() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    commit(&mut chain, &[]);
    apply(&mut chain, &agency(5), &[]);
    assert_eq!(voters(&chain).len(), 4, "it submits and follows, and has no vote yet");
    commit(&mut chain, &[fixture.transaction(5, 0..3)]);
    let joined = change(&chain, &[validator(5, 5)], &[]);
    let block = commit(&mut chain, &[joined]);
    let tip = chain.tip();
    assert_ne!(block.header.validators_hash, block.header.next_validators_hash);
    assert_eq!(block.header.next_validators_hash, tip.validators.hash());
    assert_eq!(block.header.registry_root, tip.registry.root_without_agreements());
    assert_eq!(voters(&chain), ["A001", "A002", "A003", "A004", "A005"]);
    let after = commit(&mut chain, &[fixture.transaction(5, 3..6)]);
    assert_eq!(after.header.validators_hash, after.header.next_validators_hash);
    let ended = [65, 129].map(|seed| registered(&chain, seed + 4));
    let leaving = [registered(&chain, 5)].into_iter().chain(ended).collect::<Vec<_>>();
    apply(&mut chain, &[], &leaving);
    assert_eq!(voters(&chain).len(), 4);
    let late = refused(&chain, fixture.transaction(5, 6..7));
    assert_eq!(late.code(), "UNKNOWN_SIGNER");
    let reader = chain.reader();
    let counts: Vec<_> =
        (1..=8).map(|height| reader.validators_at(height).map(|set| set.count())).collect();
    let some = [4, 4, 4, 4, 5, 5, 4].map(Some);
    assert_eq!(counts, [&some[..], &[None]].concat());
}

#[test]
fn a_key_is_exchanged_in_one_change_and_the_record_is_found_by_both_keys_and_the_agency() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let old = registered(&chain, 2);
    apply(&mut chain, &[validator(2, 22)], &[old]);
    assert_eq!(voters(&chain).len(), 4);
    let tip = chain.tip();
    assert!(tip.validators.index_of(&key(22).public()).is_some());
    assert!(tip.validators.index_of(&key(2).public()).is_none());
    commit(&mut chain, &[]);
    use v1::subject::Scheme;
    let keys = [2, 22].map(|seed| (Scheme::ValidatorKey, key(seed).public().to_string()));
    for (scheme, id) in keys.into_iter().chain([(Scheme::Agency, name(2))]) {
        let subject = v1::Subject { scheme: scheme as i32, id };
        let found = chain.reader().history(&subject_key(&subject), None, 10).expect("readable");
        assert_eq!(found.len(), 1, "{subject:?}");
    }
}

#[test]
fn a_change_is_found_by_its_proposal_and_is_on_the_chain_once() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let proposal = propose(&chain.tip(), &agency(5), &[]);
    let first = submitted(&chain, &approved(&chain, &proposal, &[1, 2, 3], None));
    // The same change with other approvals is another transaction and another record.
    let again = submitted(&chain, &approved(&chain, &proposal, &[2, 3, 4], None));
    commit(&mut chain, &[Arc::clone(&first)]);
    let place = chain.reader().registry_change(&proposal.hash()).expect("readable");
    assert_eq!(place.expect("recorded").record_id, first.slots()[0].record_id);
    let stale = refused(&chain, again);
    assert_eq!(stale.code(), "REGISTRY_ROOT");
    // Undone, the registry has yet another root: the change is not valid again.
    let ended: Vec<_> = [69, 133].map(|seed| registered(&chain, seed)).to_vec();
    apply(&mut chain, &[], &ended);
    let replayed = submitted(&chain, &approved(&chain, &proposal, &[1, 3, 4], None));
    assert_eq!(refused(&chain, replayed).code(), "REGISTRY_ROOT");
}

#[test]
fn a_second_change_waits_for_another_block_and_a_block_with_two_is_refused() {
    let fixture = Fixture::new();
    let chain = fixture.open();
    let (first, second) = (change(&chain, &agency(5), &[]), change(&chain, &agency(6), &[]));
    let both = [Arc::clone(&first), Arc::clone(&second)];
    let Candidate { staged, refused } = prepare(&chain, &both);
    assert_eq!((staged.transactions(), refused), (&both[..1], vec![]), "not refused");
    let mut block = staged.block().clone();
    block.leaves = both.iter().map(|transaction| transaction.leaf_hash()).collect();
    let invalid = chain.validate(&block, &both).expect("readable").expect_err("two");
    assert_eq!(invalid, BlockInvalid::Transaction(1, TransactionInvalid::SecondChange));
}

#[test]
fn what_a_change_leaves_without_a_block_is_known_before_a_leader_meets_it() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let leaves = [registered(&chain, 129 + 1)];
    let waiting = [
        change(&chain, &[], &leaves),
        change(&chain, &agency(6), &[]),
        fixture.transaction(2, 0..3),
        fixture.transaction(3, 0..3),
    ];
    let codes = |chain: &Chain| {
        let time_ms = chain.tip().header.time_ms + 1;
        let check = |transaction: &Arc<VerifiedTransaction>| {
            let checked = chain.reader().check_registered(transaction, time_ms);
            checked.expect("readable").map_err(|invalid| invalid.code())
        };
        waiting.iter().map(check).collect::<Vec<_>>()
    };
    assert_eq!(codes(&chain), [Ok(()); 4]);
    commit(&mut chain, &waiting[..1]);
    let (stale, ended) = (Err("REGISTRY_ROOT"), Err("UNKNOWN_SIGNER"));
    assert_eq!(codes(&chain), [stale, stale, ended, Ok(())]);
}

#[test]
fn only_a_quorum_of_the_present_validators_changes_the_registry() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let by = |chain: &Chain, approvers: &[u8]| {
        let proposal = propose(&chain.tip(), &agency(6), &[]);
        submitted(chain, &approved(chain, &proposal, approvers, None))
    };
    let few = refused(&chain, by(&chain, &[1, 2]));
    assert_eq!(few, TransactionInvalid::TooFewApprovals { approvals: 2, quorum: 3 });
    let foreign = refused(&chain, by(&chain, &[1, 2, 3, 9]));
    assert_eq!(foreign, TransactionInvalid::Approver(hash_of(9)));
    let signs_records = refused(&chain, by(&chain, &[1, 2, 129]));
    assert_eq!(signs_records, TransactionInvalid::Approver(hash_of(129)));
    join(&mut chain);
    let few = refused(&chain, by(&chain, &[1, 2, 3]));
    assert_eq!(few, TransactionInvalid::TooFewApprovals { approvals: 3, quorum: 4 });
    let old = registered(&chain, 1);
    apply(&mut chain, &[validator(1, 11)], &[old]);
    let exchanged = refused(&chain, by(&chain, &[1, 2, 3, 4]));
    assert_eq!(exchanged, TransactionInvalid::Approver(hash_of(1)));
    let all = by(&chain, &[2, 3, 4, 5, 11]);
    commit(&mut chain, &[all]);
}

#[test]
fn what_was_ever_registered_is_not_registered_again() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    join(&mut chain);
    let ended = [5, 69].map(|seed| registered(&chain, seed));
    apply(&mut chain, &[], &ended);
    for (added, what) in [
        (validator(5, 5), "the ended key"),
        (validator(5, 69), "the ended peer's key"),
        (peer(2, 5), "the ended key as another's peer key"),
        (signing_key(3, 1), "a key in use"),
        (agency(5).swap_remove(0), "an agency"),
    ] {
        let refused = refused(&chain, change(&chain, &[added], &[]));
        let known = matches!(refused, TransactionInvalid::Change(ApplyError::Known(_)));
        assert!(known, "{what}: {refused}");
    }
}

#[test]
fn entries_end_as_they_stand_and_once() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    apply(&mut chain, &agency(5), &[]);
    let end =
        |chain: &Chain, entry: v1::RegistryEntry| refused(chain, change(chain, &[], &[entry]));
    let own = registered(&chain, 69);
    let other = v1::RegistryEntry { from_height: 0, ..own.clone() };
    for wrong in [other, peer(2, 99)] {
        let refused = end(&chain, wrong);
        assert!(matches!(refused, TransactionInvalid::Change(ApplyError::NotOpen(_))), "{refused}");
    }
    apply(&mut chain, &[], slice::from_ref(&own));
    let twice = end(&chain, own);
    assert!(matches!(twice, TransactionInvalid::Change(ApplyError::NotOpen(_))), "{twice}");
    let with_keys = entry_of_agency(&chain, 5);
    let refused = end(&chain, with_keys);
    assert!(matches!(refused, TransactionInvalid::Change(ApplyError::AgencyNotOpen(_))));
}

fn entry_of_agency(chain: &Chain, agency: u8) -> v1::RegistryEntry {
    let is_it = |entry: &&v1::RegistryEntry| matches!(&entry.entry, Some(Entry::Agency(own)) if own.agency == name(agency));
    chain.tip().registry.entries().find(is_it).expect("registered").clone()
}

#[test]
fn validators_stay_a_set() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let second = refused(&chain, change(&chain, &[validator(2, 22)], &[]));
    assert!(matches!(second, TransactionInvalid::Change(ApplyError::Registry(_))), "{second}");
    let nobody = refused(&chain, change(&chain, &[validator(9, 9)], &[]));
    assert!(nobody.to_string().contains("agency A009 is not in the registry"), "{nobody}");
    for seed in [4, 3, 2] {
        let ended = [registered(&chain, seed)];
        apply(&mut chain, &[], &ended);
    }
    let last = [registered(&chain, 1)];
    let empty = refused(&chain, change(&chain, &[], &last));
    assert!(empty.to_string().contains("at least one validator"), "{empty}");
}

#[test]
fn a_joiner_shows_that_it_follows_this_chain_and_lately() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    apply(&mut chain, &agency(5), &[]);
    let signed = |chain: &Chain, height, hash| {
        let proposal = propose(&chain.tip(), &[validator(5, 5)], &[]);
        let agency = name(5).parse().expect("a code");
        let in_sync = InSync::sign(&chain.chain_id(), &agency, height, hash, &key(5));
        submitted(chain, &approved(chain, &proposal, &quorum(chain), Some(in_sync)))
    };
    let genesis = fixture.genesis.header().hash();
    let ahead = refused(&chain, signed(&chain, 2, Hash([2; 32])));
    assert_eq!(ahead, TransactionInvalid::InSyncHeight { height: 2, oldest: 0, newest: 1 });
    let foreign = refused(&chain, signed(&chain, 1, genesis));
    assert_eq!(foreign, TransactionInvalid::InSyncBlock { height: 1 });
    let first = chain.tip().hash;
    while chain.tip().header.height < 1000 {
        commit(&mut chain, &[]);
    }
    let old = refused(&chain, signed(&chain, 0, genesis));
    assert_eq!(old, TransactionInvalid::InSyncHeight { height: 0, oldest: 1, newest: 1000 });
    let oldest = signed(&chain, 1, first);
    commit(&mut chain, &[oldest]);
}

#[test]
fn a_proposal_is_committed_in_time_or_never() {
    let fixture = Fixture::new();
    let chain = fixture.open();
    let tip = chain.tip();
    let time_ms = tip.header.time_ms + 1000;
    for (not_after_ms, valid) in [(time_ms, true), (time_ms - 1, false)] {
        let root = tip.registry.members_root();
        let proposal = RegistryProposal::new(&root, not_after_ms, agency(5), vec![], "");
        let proposal = proposal.expect("a proposal");
        let late = submitted(&chain, &approved(&chain, &proposal, &[1, 2, 3], None));
        if valid {
            assert_eq!(prepare(&chain, &[late]).refused, []);
        } else {
            let expected = TransactionInvalid::ChangeExpired { not_after_ms, time_ms };
            assert_eq!(refused(&chain, late), expected);
        }
    }
}

#[test]
fn a_reopened_chain_has_the_same_members_and_leaders_whenever_it_is_reopened() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    for round in 0..40_u64 {
        let view = if round % 3 == 0 { 2 } else { 1 };
        let transaction = match round {
            5 => Some(change(&chain, &agency(5), &[])),
            6 => Some(change(&chain, &[validator(5, 5)], &[])),
            15 => {
                let old = registered(&chain, 3);
                Some(change(&chain, &[validator(3, 33)], &[old]))
            }
            30 => Some(change(&chain, &[], &[registered(&chain, 5)])),
            _ => None,
        };
        let candidate = chain.prepare(&context_in(&chain, view), transaction).expect("readable");
        assert_eq!(candidate.refused, [], "round {round}");
        let certificate = finalization(&chain, &candidate.staged.block().header);
        chain.commit(candidate.staged, certificate).expect("committed");
        let (tip, root) = (chain.tip(), chain.shared.members().root());
        drop(chain);
        chain = fixture.open();
        assert_eq!(chain.tip(), tip, "after round {round}");
        assert_eq!(chain.shared.members().root(), root);
    }
    assert!(!chain.tip().leaders.passed_over().is_empty());
}

#[test]
fn a_removed_peer_may_connect_for_a_while() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let ended = [registered(&chain, 66)];
    apply(&mut chain, &[], &ended);
    let reader = chain.reader();
    let admitted = |height| {
        let mut keys = reader.peers_at(height).into_iter().map(|(_, key)| key);
        keys.any(|peer| peer == key(66).public())
    };
    assert!(admitted(1) && admitted(2) && admitted(1 + PEER_GRACE));
    assert!(!admitted(2 + PEER_GRACE));
    assert_eq!(reader.registry().peers_at(2).len(), 3);
}

#[test]
fn a_breach_is_recorded_where_its_key_was_a_validators_at_its_height() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    commit(&mut chain, &[]);
    let old = registered(&chain, 2);
    apply(&mut chain, &[validator(2, 22)], &[old]);
    commit(&mut chain, &[]);
    let chain_id = chain.chain_id();
    let report = |seed: u8, height: u64| {
        let own = key(seed);
        let vote = |block| vote_at(height, &own, &chain_id, VoteKind::Notarize, block);
        let evidence = Evidence::Votes(vote(1), vote(2));
        let (agency, not_after_ms) =
            ("A001".parse().expect("a code"), fixture.genesis.time_ms + 3_600_000);
        let signed = VerifiedTransaction::report(
            &evidence,
            "node",
            agency,
            not_after_ms,
            &chain_id,
            &key(129),
        );
        Arc::new(signed.expect("evidence"))
    };
    for (seed, height) in [(2, 3), (22, 2), (9, 1), (64, 1)] {
        let culprit = TransactionInvalid::Culprit { key: hash_of(seed), height };
        assert_eq!(refused(&chain, report(seed, height)), culprit);
    }
    commit(&mut chain, &[report(2, 1), report(2, 2), report(22, 3), report(22, 4)]);
}

#[test]
fn a_damaged_registry_is_named_when_the_chain_is_opened() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    join(&mut chain);
    let row = |chain: &Chain| {
        let mut rows = chain.shared.store.scan_while(Table::Registry, &[], |_| true);
        rows.next().expect("a row").expect("readable")
    };
    let (key, value) = row(&chain);
    drop(chain);
    for damaged in [vec![0xff; 8], validator(5, 99).encode_to_vec(), Vec::new()] {
        let chain = fixture.open();
        let mut batch = chain.shared.store.batch();
        batch.put(Table::Registry, &key, &damaged);
        batch.write().expect("written");
        drop(chain);
        let error = fixture.try_open().map(|chain| chain.tip()).expect_err("damaged");
        assert!(error.to_string().contains("registry"), "{error}");
        let store = Store::open(fixture.folder.path(), &StoreOptions::default()).expect("opened");
        let mut batch = store.batch();
        batch.put(Table::Registry, &key, &value);
        batch.write().expect("written");
    }
    fixture.open();
}
