//! Sealed slots, grants and changes of agreements, in blocks.

use prost::Message as _;

use super::*;
use crate::{
    agency::AgencyCode,
    agreement::{AgreementChange, EpochProposal, NOTICE_MS},
    authority::SlotRefused,
    chain::{BlockInvalid, SlotOutcome, TransactionInvalid},
    limits::BLOCK_AGREEMENT_CHANGES_MAX,
    merkle,
    proofs::verifier::Verifier,
    transaction::{DedupeScope, EpochId, NewSlot, Slot, SlotForm},
};

const DAY: u64 = 24 * 60 * 60 * 1000;

pub(super) fn code(agency: u8) -> AgencyCode {
    format!("A{agency:03}").parse().expect("a code")
}

pub(super) fn node(agency: u8) -> SigningKey {
    SigningKey::from_seed(&[128 + agency; 32])
}

fn epoch(agreement: Hash, number: u32) -> EpochId {
    EpochId { agreement, number }
}

fn sealed(id: u8, key: u8, under: EpochId, subjects: &[u8]) -> Slot {
    Slot {
        record_id: Hash([id; 32]),
        form: SlotForm::Sealed(under),
        subject_keys: subjects.iter().map(|subject| Hash([*subject; 32])).collect(),
        dedupe_key: Hash([key; 32]),
        scope: DedupeScope::Agency,
    }
}

impl Fixture {
    fn signed(
        &self,
        agency: u8,
        slots: &[NewSlot<'_>],
        key: &SigningKey,
    ) -> Arc<VerifiedTransaction> {
        let (not_after_ms, chain_id) = (self.genesis.time_ms + 3_600_000, self.genesis.chain_id());
        let signed =
            VerifiedTransaction::sign_slots(slots, code(agency), not_after_ms, &chain_id, key);
        let signed = signed.expect("valid");
        let read = VerifiedTransaction::from_bytes(signed.encoded().clone(), &chain_id);
        assert_eq!(read.as_ref(), Ok(&signed));
        Arc::new(signed)
    }

    pub(super) fn alone(&self, agency: u8, slots: &[Slot]) -> Arc<VerifiedTransaction> {
        let slots: Vec<_> = slots.iter().cloned().map(NewSlot::Alone).collect();
        self.signed(agency, &slots, &node(agency))
    }

    pub(super) fn changes(&self, agency: u8, change: &AgreementChange) -> Arc<VerifiedTransaction> {
        let (not_after_ms, chain_id) = (self.genesis.time_ms + 3_600_000, self.genesis.chain_id());
        let key = node(agency);
        let name = code(agency).to_string();
        let signed = VerifiedTransaction::change_agreement(
            change,
            &name,
            code(agency),
            not_after_ms,
            &chain_id,
            &key,
        );
        Arc::new(signed.expect("signed"))
    }

    /// An epoch of an agreement among these, approved by all.
    fn epoch(&self, agreement: Option<Hash>, number: u32, parties: &[u8]) -> AgreementChange {
        let (time_ms, chain_id) = (self.genesis.time_ms, self.genesis.chain_id());
        let key = SigningKey::from_seed(&[250 - u8::try_from(number).expect("small"); 32]);
        let proposal = EpochProposal::from_proto(v1::AgreementEpoch {
            agreement: agreement.map(|id| id.0.to_vec()).unwrap_or_default(),
            number,
            parties: parties.iter().map(|party| code(*party).to_string()).collect(),
            public_key: key.public().as_bytes().to_vec(),
            from_ms: time_ms,
            until_ms: time_ms + 30 * DAY,
            terms_hash: vec![9; 32],
            not_after_ms: time_ms + DAY,
            changes: number - 1,
        });
        let proposal = proposal.expect("well-formed");
        let approve = |party: &u8| proposal.approve(&chain_id, &node(*party));
        let approvals = parties.iter().map(approve).collect();
        AgreementChange::epoch(proposal, approvals).expect("one of each")
    }

    /// Commits an agreement among these.
    fn agree(&self, chain: &mut Chain, parties: &[u8]) -> Hash {
        let change = self.epoch(None, 1, parties);
        commit(chain, &[self.changes(parties[0], &change)]);
        change.agreement()
    }
}

/// An agreement, and sealed slots with a grant, for tests of whole stores.
pub(super) fn apply_sealed(fixture: &Fixture, chain: &mut Chain) {
    let (first, second) = (fixture.agree(chain, &[1, 2]), fixture.agree(chain, &[1, 3]));
    let slots = [sealed(61, 61, epoch(first, 1), &[1, 2]), sealed(62, 62, epoch(first, 1), &[])];
    let granted = Slot::grant(Hash([61; 32]), epoch(second, 1), vec![Hash([3; 32])]);
    commit(chain, &[fixture.alone(1, &slots), fixture.alone(1, &[granted])]);
}

fn outcomes(block: &BlockOutcome) -> Vec<SlotOutcome> {
    block.outcomes.concat()
}

fn refused(reason: SlotRefused) -> SlotOutcome {
    SlotOutcome::Refused(reason)
}

#[test]
fn a_sealed_slot_counts_is_found_and_proven_without_its_bytes() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let id = fixture.agree(&mut chain, &[1, 2]);
    let under = epoch(id, 1);
    let record = ValidRecord::from_record(record("A001", 1)).expect("valid");
    let open = NewSlot::Open(&record, dedupe_key(&code(1), "broker", "open"));
    let slots = [
        NewSlot::Alone(sealed(10, 10, under, &[1, 2])),
        open,
        NewSlot::Alone(sealed(11, 11, under, &[2])),
    ];
    let block = commit(&mut chain, &[fixture.signed(1, &slots, &node(1))]);
    assert_eq!(outcomes(&block), [SlotOutcome::Applied; 3]);
    let (reader, verifier) = (chain.reader(), Verifier::new(&fixture.genesis));
    for (slot, bytes) in [(Hash([10; 32]), None), (record.id, Some(&record.bytes))] {
        let found = reader.record(&slot).expect("readable").expect("committed");
        assert_eq!((found.id, found.bytes.as_ref()), (slot, bytes));
        let receipt = reader.receipt(&slot).expect("readable").expect("committed");
        assert_eq!(receipt.record.is_empty(), bytes.is_none());
        let verified = verifier.verify_receipt(&receipt.encode_to_vec()).expect("genuine");
        assert_eq!(verified.slot.form == SlotForm::Open, bytes.is_some());
    }
    // Under the key of its agency and epoch, and under no other that a copy of its keys gives.
    let key = under.index_key(&code(1), &Hash([2; 32]));
    let entries = reader.history(&key, None, 10).expect("readable");
    assert_eq!(entries.iter().map(|e| e.position).collect::<Vec<_>>(), [0, 2]);
    let proof = reader.history_proof(&key).expect("readable").encode_to_vec();
    assert_eq!(verifier.verify_history(&proof).expect("genuine").entries, entries);
    for other in [under.index_key(&code(2), &Hash([2; 32])), Hash([2; 32])] {
        assert_eq!(reader.history(&other, None, 10).expect("readable"), []);
    }
}

#[test]
fn nobody_takes_another_s_id_and_none_is_taken_twice() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let id = fixture.agree(&mut chain, &[1, 2]);
    let under = epoch(id, 1);
    // A party that has seen the id on its way commits it first, for its own agency.
    let copied = fixture.alone(2, &[sealed(10, 99, under, &[1])]);
    let first = fixture.alone(1, &[sealed(10, 10, under, &[1])]);
    // Two records for one commitment, two commitments under one key.
    let again = fixture.alone(1, &[sealed(10, 12, under, &[3]), sealed(13, 10, under, &[])]);
    let block = commit(&mut chain, &[copied, first, again]);
    let repeat = SlotOutcome::Duplicate { log_index: 2, position: 0 };
    let applied = SlotOutcome::Applied;
    assert_eq!(outcomes(&block), [applied, applied, repeat, repeat]);
    let reader = chain.reader();
    for (agency, log_index) in [(2, 1), (1, 2)] {
        let place = reader.place_of(&Hash([10; 32]), &code(agency)).expect("readable");
        assert_eq!(place.expect("committed").log_index, log_index);
    }
    // In a later block too.
    let block = commit(&mut chain, &[fixture.alone(1, &[sealed(10, 14, under, &[4])])]);
    assert_eq!(outcomes(&block), [repeat]);
}

#[test]
fn an_open_record_is_found_by_its_id_whoever_has_lodged_that_id_sealed_before() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let id = fixture.agree(&mut chain, &[1, 2]);
    let open = fixture.transaction(1, 1..2);
    let record_id = open.slots()[0].record_id;
    let mut squatting = sealed(0, 10, epoch(id, 1), &[1]);
    squatting.record_id = record_id;
    commit(&mut chain, &[fixture.alone(2, &[squatting])]);
    let reader = chain.reader();
    assert_eq!(reader.place(&record_id).expect("readable").map(|p| p.agency), Some(code(2)));
    commit(&mut chain, &[open]);
    let found = reader.record(&record_id).expect("readable").expect("committed");
    assert_eq!((found.place.agency, found.bytes.is_some()), (code(1), true));
    let receipt = reader.receipt(&record_id).expect("readable").expect("committed");
    let verified = Verifier::new(&fixture.genesis).verify_receipt(&receipt.encode_to_vec());
    assert_eq!(verified.expect("genuine").transaction.agency, code(1));
}

#[test]
fn a_block_carries_so_many_changes_of_agreements_and_the_next_one_the_others() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let begun = |agency: u8, number: u8| {
        let change = fixture.epoch(None, 1, &[agency, 4]);
        let AgreementChange::Epoch(proposal, _) = change else { panic!("an epoch") };
        let terms_hash = vec![number; 32];
        let proposal = v1::AgreementEpoch { terms_hash, ..proposal.to_proto() };
        let proposal = EpochProposal::from_proto(proposal).expect("well-formed");
        let chain_id = fixture.genesis.chain_id();
        let approvals = [agency, 4].map(|party| proposal.approve(&chain_id, &node(party)));
        let change = AgreementChange::epoch(proposal, approvals.to_vec()).expect("one of each");
        fixture.changes(agency, &change)
    };
    let all: Vec<_> = (0..35).flat_map(|n| [begun(1, n), begun(2, n)]).collect();
    let Candidate { staged, refused } = prepare(&chain, &all);
    assert_eq!((staged.transactions().len(), &refused[..]), (BLOCK_AGREEMENT_CHANGES_MAX, &[][..]));
    // Nobody votes for more.
    let mut larger = prepare(&chain, &all[..BLOCK_AGREEMENT_CHANGES_MAX]).staged.block().clone();
    let one_more = &all[..=BLOCK_AGREEMENT_CHANGES_MAX];
    larger.leaves = one_more.iter().map(|transaction| transaction.leaf_hash()).collect();
    let invalid = chain.validate(&larger, one_more).expect("readable").expect_err("too many");
    let many = TransactionInvalid::ManyAgreementChanges;
    assert_eq!(invalid, BlockInvalid::Transaction(BLOCK_AGREEMENT_CHANGES_MAX, many));
    let certificate = finalization(&chain, &staged.block().header);
    chain.commit(staged, certificate).expect("committed");
    commit(&mut chain, &all[BLOCK_AGREEMENT_CHANGES_MAX..]);
    assert_eq!(chain.reader().agreements().all().count(), 70);
}

#[test]
fn a_slot_of_no_epoch_in_force_takes_nothing_and_the_rest_counts() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let id = fixture.agree(&mut chain, &[1, 2]);
    let slots = |number| {
        let open = sealed(10, 10, epoch(id, number), &[1]);
        [open, sealed(11, 11, epoch(id, 1), &[])]
    };
    let unknown = fixture.alone(1, &slots(2));
    let stranger = fixture.alone(3, &[sealed(10, 10, epoch(id, 1), &[1])]);
    let nowhere = fixture.alone(1, &[sealed(12, 12, epoch(Hash([5; 32]), 1), &[])]);
    let block = commit(&mut chain, &[unknown, stranger, nowhere]);
    let none = refused(SlotRefused::AgreementUnknown);
    let party = refused(SlotRefused::AgreementParty);
    assert_eq!(outcomes(&block), [none, SlotOutcome::Applied, party, none]);
    // A party leaves: an hour later its epoch is over, and a slot under way is too late.
    let leave = AgreementChange::Leave { agreement: id, epoch: 1 };
    let left = commit(&mut chain, &[fixture.changes(2, &leave)]).header.time_ms;
    let at = |chain: &mut Chain, time_ms, transaction: &Arc<VerifiedTransaction>| {
        let context = BlockContext { time_ms, ..context(chain) };
        let Candidate { staged, refused } =
            chain.prepare(&context, [Arc::clone(transaction)]).expect("readable");
        assert_eq!(refused, []);
        let certificate = finalization(chain, &staged.block().header);
        outcomes(&chain.commit(staged, certificate).expect("committed"))
    };
    let until = left + 3 * NOTICE_MS;
    let last = fixture.signed_until(1, &[sealed(21, 21, epoch(id, 1), &[1])], until);
    assert_eq!(at(&mut chain, left + NOTICE_MS - 1, &last), [SlotOutcome::Applied]);
    let late = fixture.signed_until(1, &[sealed(20, 20, epoch(id, 1), &[1])], until);
    assert_eq!(at(&mut chain, left + NOTICE_MS, &late), [refused(SlotRefused::AgreementEpoch)]);
    // It took neither its id nor its key: under the agency's own agreement it counts.
    let own = crate::agreement::own_id(&code(1));
    let opened = fixture.epoch(Some(own), 1, &[1]);
    let opened = fixture.changes_until(1, &opened, until);
    at(&mut chain, left + NOTICE_MS + 1, &opened);
    let again = fixture.signed_until(1, &[sealed(20, 20, epoch(own, 1), &[1])], until);
    assert_eq!(at(&mut chain, left + NOTICE_MS + 2, &again), [SlotOutcome::Applied]);
}

impl Fixture {
    fn signed_until(&self, agency: u8, slots: &[Slot], until: u64) -> Arc<VerifiedTransaction> {
        let slots: Vec<_> = slots.iter().cloned().map(NewSlot::Alone).collect();
        let (chain_id, key) = (self.genesis.chain_id(), node(agency));
        let signed = VerifiedTransaction::sign_slots(&slots, code(agency), until, &chain_id, &key);
        Arc::new(signed.expect("valid"))
    }

    fn changes_until(
        &self,
        agency: u8,
        change: &AgreementChange,
        until: u64,
    ) -> Arc<VerifiedTransaction> {
        let (chain_id, key, own) = (self.genesis.chain_id(), node(agency), code(agency));
        let name = own.to_string();
        let signed =
            VerifiedTransaction::change_agreement(change, &name, own, until, &chain_id, &key);
        Arc::new(signed.expect("signed"))
    }
}

#[test]
fn a_grant_is_of_a_sealed_record_of_the_agency_and_counts_once() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let (first, second) = (fixture.agree(&mut chain, &[1, 2]), fixture.agree(&mut chain, &[1, 3]));
    let (under, with_third) = (epoch(first, 1), epoch(second, 1));
    let record_id = Hash([10; 32]);
    let grant = |keys: &[u8]| {
        Slot::grant(record_id, with_third, keys.iter().map(|key| Hash([*key; 32])).collect())
    };
    let open = fixture.transaction(1, 1..2);
    let of_open = Slot::grant(open.slots()[0].record_id, with_third, Vec::new());
    let early = fixture.alone(1, &[grant(&[5]), sealed(10, 10, under, &[1]), grant(&[5])]);
    let others = fixture.alone(1, &[grant(&[6]), of_open, grant(&[])]);
    let block = commit(&mut chain, &[open, early, others]);
    let applied = SlotOutcome::Applied;
    let repeat = SlotOutcome::Duplicate { log_index: 3, position: 2 };
    let nothing = refused(SlotRefused::GrantRecord);
    assert_eq!(outcomes(&block), [applied, nothing, applied, applied, repeat, nothing, repeat]);
    let theirs = fixture.alone(3, &[grant(&[])]);
    let block = commit(&mut chain, &[theirs]);
    assert_eq!(outcomes(&block), [nothing], "of another agency's record");
    let shared = chain.reader().shared_under(&record_id, &code(1)).expect("readable");
    let shared: Vec<_> = shared.into_iter().map(|(place, epoch)| (place.position, epoch)).collect();
    assert_eq!(shared, [(1, under), (2, with_third)]);
    // It is found under the other epoch's keys, and has a receipt of its own place.
    let key = with_third.index_key(&code(1), &Hash([5; 32]));
    assert_eq!(chain.reader().history(&key, None, 10).expect("readable").len(), 1);
}

#[test]
fn only_a_node_s_key_signs_what_is_sealed() {
    let office = SigningKey::from_seed(&[200; 32]);
    let plain = genesis(4);
    let entry = v1::SigningKeyEntry {
        agency: "A001".into(),
        public_key: office.public().as_bytes().to_vec(),
        role: v1::Role::Office as i32,
        submitter: "office".into(),
        ..Default::default()
    };
    let entry = v1::RegistryEntry { entry: Some(Entry::SigningKey(entry)), ..Default::default() };
    let entries = plain.registry.entries().cloned().chain([entry]).collect();
    let genesis = Genesis::new("test".into(), plain.time_ms, plain.history_bits, entries);
    let fixture = Fixture { genesis: genesis.expect("valid"), ..Fixture::new() };
    let mut chain = fixture.open();
    let id = fixture.agree(&mut chain, &[1, 2]);
    let slots = [NewSlot::Alone(sealed(10, 10, epoch(id, 1), &[]))];
    let transaction = fixture.signed(1, &slots, &office);
    let Candidate { refused, .. } = prepare(&chain, &[Arc::clone(&transaction)]);
    assert_eq!(refused.iter().map(|(_, why)| why.code()).collect::<Vec<_>>(), ["SIGNER_SEALED"]);
    let time_ms = chain.tip().header.time_ms;
    let registered = chain.reader().check_registered(&transaction, time_ms).expect("readable");
    assert_eq!(registered.map_err(|why| why.code()), Err("SIGNER_SEALED"));
}

#[test]
fn agreements_are_in_no_change_s_way_and_each_is_checked_at_the_door_and_in_the_block() {
    let fixture = Fixture::new();
    let mut chain = fixture.open();
    let members = chain.tip().registry.members_root();
    let change = fixture.epoch(None, 1, &[1, 2]);
    let transaction = fixture.changes(1, &change);
    commit(&mut chain, &[Arc::clone(&transaction)]);
    // A proposal to change the registry is bound to the members alone.
    assert_eq!(chain.tip().registry.members_root(), members);
    let root = chain.tip().header.registry_root;
    changes::apply_new_agency(&mut chain);
    assert_ne!(chain.tip().header.registry_root, root);
    // Two of one block follow each other; what does not apply is in no block.
    let id = change.agreement();
    let (second, third) =
        (fixture.epoch(Some(id), 2, &[1, 2]), fixture.epoch(Some(id), 3, &[1, 2, 3]));
    let stale = fixture.epoch(Some(id), 2, &[1, 2, 4]);
    let all = [&second, &stale, &third].map(|change| fixture.changes(1, change));
    let Candidate { staged, refused } = prepare(&chain, &all);
    let number = crate::agreement::AgreementInvalid::Number { agreement: id, next: 3, stated: 2 };
    let stale = TransactionInvalid::Agreement(number);
    assert_eq!(refused, [(all[1].leaf_hash(), stale)]);
    let certificate = finalization(&chain, &staged.block().header);
    chain.commit(staged, certificate).expect("committed");
    let reader = chain.reader();
    assert_eq!(reader.agreements().get(&id).expect("there").epochs.len(), 3);
    let late = fixture.changes(1, &fixture.epoch(Some(id), 3, &[1, 2]));
    let refused = reader.check_registered(&late, chain.tip().header.time_ms + 1).expect("readable");
    assert_eq!(refused.map_err(|why| why.code()), Err("AGREEMENT_STALE"));
    // What a proof of a signer rests on is as of its own block, whatever came later.
    let first = transaction.slots()[0].record_id;
    let receipt = reader.receipt(&first).expect("readable").expect("committed");
    let verified = Verifier::new(&fixture.genesis).verify_receipt(&receipt.encode_to_vec());
    assert!(verified.is_ok(), "{verified:?}");
    let entry = reader.agreements().prove(&id).expect("in the tree");
    let tree = merkle::root_from_inclusion(
        &merkle::leaf_hash(&entry.entry),
        entry.index,
        entry.count,
        &entry.path,
    );
    let agreements = crate::agreement::root(entry.count, &tree.expect("a path"), &entry.head);
    let registry = crate::registry::root(&chain.tip().registry.members_root(), &agreements);
    assert_eq!(registry, chain.tip().header.registry_root);
    // A restart finds them again.
    let (tip, agreements) = (chain.tip(), reader.agreements());
    drop((chain, reader));
    let chain = fixture.open();
    assert_eq!((chain.tip(), chain.reader().agreements()), (tip, agreements));
}
