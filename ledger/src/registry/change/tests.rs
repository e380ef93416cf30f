//! What a change is by itself, and every way to make it invalid.

use super::*;
use crate::registry::{genesis::tests::genesis, parameters::Parameters};

const CHAIN: Hash = Hash([1; 32]);

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn entry(entry: Entry) -> v1::RegistryEntry {
    v1::RegistryEntry { entry: Some(entry), ..Default::default() }
}

fn validator(agency: &str, seed: u8) -> v1::RegistryEntry {
    let public_key = key(seed).public().as_bytes().to_vec();
    entry(Entry::Validator(v1::ValidatorEntry { agency: agency.into(), public_key }))
}

fn peer(agency: &str, seed: u8) -> v1::RegistryEntry {
    let public_key = key(seed).public().as_bytes().to_vec();
    entry(Entry::Peer(v1::PeerEntry { agency: agency.into(), public_key }))
}

fn heartbeat(value: u64) -> v1::RegistryEntry {
    entry(Entry::Parameter(v1::ParameterEntry { name: "heartbeat_ms".into(), value }))
}

/// Agency 2 exchanges its validator's key and its peer's, approved by three.
fn change() -> RegistryChange {
    let root = genesis(4).registry.members_root();
    let added = vec![validator("A002", 22), peer("A002", 72)];
    let ended = vec![peer("A002", 66), validator("A002", 2)];
    let proposal = RegistryProposal::new(&root, 7, added, ended, "agreed").expect("valid");
    let approvals = [3, 1, 2].map(|seed| proposal.approve(&CHAIN, &key(seed))).to_vec();
    let agency = "A002".parse().expect("a code");
    let in_sync = InSync::sign(&CHAIN, &agency, 5, Hash([5; 32]), &key(22));
    RegistryChange::new(proposal, approvals, Some(in_sync)).expect("valid")
}

fn refused(alter: impl Fn(&mut v1::RegistryChange)) -> ChangeError {
    let mut proto = change().to_proto();
    alter(&mut proto);
    RegistryChange::from_proto(&proto).expect_err("refused")
}

fn refused_proposal(alter: impl Fn(&mut v1::RegistryProposal)) -> ChangeError {
    refused(|change| alter(change.proposal.as_mut().expect("there")))
}

/// What the signatures of an altered, well-formed change are found to be.
fn verified(alter: impl Fn(&mut v1::RegistryChange)) -> Result<(), ChangeError> {
    let mut proto = change().to_proto();
    alter(&mut proto);
    RegistryChange::from_proto(&proto).expect("well-formed").verify(&CHAIN)
}

#[test]
fn a_change_is_read_back_and_verifies_on_its_chain_only() {
    let change = change();
    assert_eq!(RegistryChange::from_proto(&change.to_proto()), Ok(change.clone()));
    assert_eq!(change.verify(&CHAIN), Ok(()));
    assert_eq!(change.verify(&Hash([2; 32])), Err(ChangeError::InSync));
    let shown = change.proposal().to_string();
    let expected = "adds a validator key of A002, a peer key of A002; \
                    ends a validator key of A002, a peer key of A002";
    assert_eq!(shown, expected);
}

#[test]
fn approvals_are_sorted_without_repeats_and_of_this_proposal() {
    let order = ChangeError::Order("approvals");
    assert_eq!(refused(|c| c.approvals.swap(0, 1)), order);
    assert_eq!(refused(|c| c.approvals[1] = c.approvals[0].clone()), order);
    assert_eq!(refused(|c| c.approvals.clear()), ChangeError::ApprovalCount(0));
    let many = |c: &mut v1::RegistryChange| c.approvals = vec![c.approvals[0].clone(); 257];
    assert_eq!(refused(many), ChangeError::ApprovalCount(257));
    let weak = refused(|c| c.approvals[0].validator_key = vec![0; 32]);
    assert!(matches!(weak, ChangeError::ApprovalKey(0, _)), "{weak}");
    let short = refused(|c| c.approvals[2].signature.truncate(63));
    assert!(matches!(short, ChangeError::ApprovalKey(2, _)), "{short}");
    let of_another = verified(|c| c.proposal.as_mut().expect("there").reason.push('!'));
    assert_eq!(of_another, Err(ChangeError::Approval(0)));
    assert_eq!(verified(|c| c.approvals[1].signature[0] ^= 1), Err(ChangeError::Approval(1)));
}

#[test]
fn a_new_validator_key_and_no_other_change_has_in_sync() {
    assert_eq!(refused(|c| c.in_sync = None), ChangeError::NoInSync);
    let without_key = |c: &mut v1::RegistryChange| {
        c.proposal.as_mut().expect("there").added.remove(0);
    };
    assert_eq!(refused(without_key), ChangeError::SuperfluousInSync);
    let short = refused(|c| c.in_sync.as_mut().expect("there").block_hash.truncate(31));
    assert_eq!(short, ChangeError::Field("in_sync.block_hash"));
    let by_another = |alter: &dyn Fn(&mut v1::InSync)| {
        verified(|change| alter(change.in_sync.as_mut().expect("there")))
    };
    assert_eq!(by_another(&|s| s.height += 1), Err(ChangeError::InSync));
    assert_eq!(by_another(&|s| s.block_hash[0] ^= 1), Err(ChangeError::InSync));
    assert_eq!(by_another(&|s| s.signature[0] ^= 1), Err(ChangeError::InSync));
}

#[test]
fn one_agency_at_a_time_has_its_vote_changed() {
    let second = refused_proposal(|p| p.added.insert(1, validator("A003", 23)));
    assert_eq!(second, ChangeError::Votes);
    let of_two = refused_proposal(|p| p.ended[0] = validator("A001", 1));
    assert_eq!(of_two, ChangeError::Votes);
    let two_ended = refused_proposal(|p| {
        p.added.remove(0);
        p.ended.insert(1, validator("A003", 3));
    });
    assert_eq!(two_ended, ChangeError::Votes);
}

#[test]
fn a_proposal_has_one_form() {
    let order = ChangeError::Order("proposal.added");
    assert_eq!(refused_proposal(|p| p.added.swap(0, 1)), order);
    assert_eq!(refused_proposal(|p| p.added.push(p.added[1].clone())), order);
    assert_eq!(refused_proposal(|p| p.added[1].from_height = 9), ChangeError::Heights);
    assert_eq!(refused_proposal(|p| p.ended[0].end_height = 9), ChangeError::Ended);
    assert_eq!(refused_proposal(|p| p.reason = "x".repeat(257)), ChangeError::Reason(257));
    let root = refused_proposal(|p| p.members_root.truncate(31));
    assert_eq!(root, ChangeError::Field("proposal.members_root"));
    let nothing = refused_proposal(|p| (p.added, p.ended) = (vec![], vec![]));
    assert_eq!(nothing, ChangeError::Empty);
    let many = |p: &mut v1::RegistryProposal| p.added = vec![p.added[0].clone(); 65];
    assert_eq!(refused_proposal(many), ChangeError::TooMany(67));
    let out_of_range = refused_proposal(|p| p.added.push(heartbeat(1)));
    assert_eq!(out_of_range.code(), "REGISTRY_PARAMETER");
    let two_values = refused_proposal(|p| p.added.extend([heartbeat(5000), heartbeat(6000)]));
    assert_eq!(two_values, order);
    let of_nobody = refused_proposal(|p| p.added[1] = peer("nobody", 72));
    assert!(matches!(of_nobody, ChangeError::Entry("proposal.added", _)), "{of_nobody}");
    assert_eq!(refused(|c| c.proposal = None), ChangeError::Field("proposal"));
}

#[test]
fn the_registry_before_follows_from_the_registry_after() {
    let before = genesis(4).registry;
    let after = before.apply(change().proposal(), 9).expect("applies");
    assert_ne!(after.root_without_agreements(), before.root_without_agreements());
    assert_eq!(after.as_of(8), before);
    assert_eq!(after.as_of(9), after);
    assert_eq!(after.change_heights().into_iter().collect::<Vec<_>>(), [9]);
    for (seed, height, decides) in
        [(2, 9, true), (2, 10, false), (22, 9, false), (22, 10, true), (66, 9, false)]
    {
        assert_eq!(after.is_validator_at(&key(seed).public(), height), decides, "{seed}, {height}");
    }
}

#[test]
fn a_parameter_has_one_value_at_each_height_and_every_earlier_one_stays() {
    let at_first = v1::RegistryEntry { from_height: 0, ..heartbeat(60_000) };
    let change = |registry: &Registry, height, added: &[_], ended: &[_]| {
        let root = registry.members_root();
        let proposal = RegistryProposal::new(&root, 7, added.to_vec(), ended.to_vec(), "");
        registry.apply(&proposal.expect("well-formed"), height)
    };
    let genesis = genesis(4).registry;
    let second = change(&genesis, 9, &[heartbeat(5000)], &[at_first]).expect("exchanged");
    let open = v1::RegistryEntry { from_height: 10, ..heartbeat(5000) };
    let without = change(&second, 12, &[], &[open]).expect("ended alone");
    let again = change(&without, 15, &[heartbeat(60_000)], &[]).expect("the first value again");
    let default = Parameters::default().heartbeat_ms;
    for (height, value) in [
        (0, 60_000),
        (9, 60_000),
        (10, 5000),
        (12, 5000),
        (13, default),
        (15, default),
        (16, 60_000),
    ] {
        assert_eq!(again.parameters_at(height).expect("valid").heartbeat_ms, value, "at {height}");
    }
    for (height, registry) in [(8, &genesis), (9, &second), (12, &without), (15, &again)] {
        assert_eq!(again.as_of(height), *registry, "after {height}");
    }
    assert_eq!(again.change_heights().into_iter().collect::<Vec<_>>(), [9, 12, 15]);
    let beside = change(&again, 16, &[heartbeat(7000)], &[]);
    assert_eq!(beside, Err(ApplyError::StaysOpen("parameter heartbeat_ms=7000".into())));
    // What a store says is held to the same.
    let from =
        |from_height, end_height| v1::RegistryEntry { from_height, end_height, ..heartbeat(5000) };
    for overlap in [[from(3, 0), from(5, 0)], [from(3, 6), from(5, 0)]] {
        let entries = genesis.entries().filter(|e| !matches!(e.entry, Some(Entry::Parameter(_))));
        let entries = entries.cloned().chain(overlap).collect();
        assert!(matches!(Registry::collect(entries), Err(RegistryError::TwoOpen(_))));
    }
}

#[test]
fn encryption_keys_overlap_and_a_dedupe_check_is_exchanged_at_once() {
    let agency: AgencyCode = "A002".parse().expect("a code");
    let sealed_to = |number: u8| {
        let public_key = vec![number; 32];
        entry(Entry::EncryptionKey(v1::EncryptionKeyEntry { agency: "A002".into(), public_key }))
    };
    let checked_by = |number: u8| {
        let check = vec![number; 32];
        entry(Entry::DedupeCheck(v1::DedupeCheckEntry { agency: "A002".into(), check }))
    };
    let since = |from_height, entry| v1::RegistryEntry { from_height, ..entry };
    let change = |registry: &Registry, height, added: &[_], ended: &[_]| {
        let root = registry.members_root();
        let proposal = RegistryProposal::new(&root, 7, added.to_vec(), ended.to_vec(), "");
        registry.apply(&proposal.expect("well-formed"), height)
    };
    let genesis = genesis(4).registry;
    let first = change(&genesis, 1, &[sealed_to(9), checked_by(1)], &[]).expect("added");
    let both = change(&first, 4, &[sealed_to(8)], &[]).expect("an exchange begins");
    let ended = [since(2, sealed_to(9)), since(2, checked_by(1))];
    let last = change(&both, 6, &[checked_by(2)], &ended).expect("and ends");
    for (height, keys, check) in [
        (1, &[][..], None),
        (2, &[9], Some(1)),
        (5, &[8, 9], Some(1)),
        (6, &[8, 9], Some(1)),
        (7, &[8], Some(2)),
    ] {
        let known = last.encryption_keys_at(&agency, height);
        assert!(known.iter().map(|key| *key.as_bytes()).eq(keys.iter().map(|n| [*n; 32])));
        let expected = check.map(|number| Hash([number; 32]));
        assert_eq!(last.dedupe_check_at(&agency, height), expected, "{height}");
    }
    assert_eq!((last.as_of(4), last.as_of(0)), (both, genesis));
    let another = change(&last, 8, &[checked_by(3)], &[]);
    assert_eq!(another, Err(ApplyError::StaysOpen("a dedupe check of A002".into())));
    let before = change(&last, 8, &[checked_by(1)], &[since(7, checked_by(2))]);
    assert!(matches!(before, Err(ApplyError::Known(_))), "{before:?}");
    let elsewhere = v1::EncryptionKeyEntry { agency: "A003".into(), public_key: vec![9; 32] };
    let elsewhere = change(&last, 8, &[entry(Entry::EncryptionKey(elsewhere))], &[]);
    assert!(matches!(elsewhere, Err(ApplyError::Known(_))), "{elsewhere:?}");
    let agency_of = |entry: &&v1::RegistryEntry| match &entry.entry {
        Some(Entry::Agency(own)) => own.agency == "A002",
        _ => false,
    };
    let own = last.entries().find(agency_of).expect("there").clone();
    let keys = [validator("A002", 2), peer("A002", 66)].map(|key| since(0, key));
    let signing = last.entries().find(|entry| match &entry.entry {
        Some(Entry::SigningKey(own)) => own.agency == "A002",
        _ => false,
    });
    let ended = [&keys[..], &[own, signing.expect("there").clone()]].concat();
    let alone = change(&last, 8, &[], &ended);
    assert_eq!(alone, Err(ApplyError::AgencyNotOpen(agency)), "something of it stays open");
}
