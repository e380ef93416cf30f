//! Transactions and their slots, changed in one thing.

use std::slice::from_ref;

use customhouse_ledger::{
    agreement::AgreementChange,
    finality::{
        evidence::Claim,
        vote::{Ballot, Proposed, Vote, VoteKind},
    },
    hash::{Hash, Tag},
    limits::{EPOCHS_MAX, TRANSACTION_BYTES_MAX},
    merkle::Tree,
    record::field_tree,
    transaction::{EpochId, Slot, TransactionHeader, VerifiedTransaction},
};
use customhouse_proto::v1::{self, record::Body, slot::Form};
use prost::Message as _;
use serde_json::{Value, json};

use super::{
    agreements,
    cases::{Cases, Given, with_cases},
    damage, hashes, hex_of, loads,
    records::{changed, subject_keys, with_body},
    sample::{NOT_AFTER_MS, Sample, key},
};

pub(crate) fn transaction(sample: &Sample) -> Value {
    let transaction = &sample.transactions[2];
    let (header, parts) = (transaction.header(), transaction.parts());
    let file = json!({
        "fields": {
            "chain_id": header.chain_id,
            "signer": header.signer,
            "agency": header.agency,
            "not_after_ms": header.not_after_ms,
            "slot_count": header.slot_count,
            "records_root": header.records_root,
        },
        "header": hex_of(header.encode()),
        "transaction_id": transaction.id(),
        "signed_message": hex_of(Tag::TRANSACTION_SIGNATURE.message(&[&header.encode()])),
        "signature": hex_of(transaction.signature().0),
        "leaf": hex_of(header.leaf(transaction.signature())),
        "leaf_hash": transaction.leaf_hash(),
        "slots": parts.slots.iter().map(hex_of).collect::<Vec<_>>(),
        "records": parts.records.iter().map(hex_of).collect::<Vec<_>>(),
        "transaction": hex_of(transaction.encoded()),
        "slots_of_an_epoch": of_epochs(),
    });
    with_cases(file, [slots(sample), transactions(sample)])
}

fn slots(sample: &Sample) -> Cases {
    let genuine = &sample.transactions[0].parts().slots[0];
    let slot = v1::Slot::decode(genuine.clone()).expect("a slot");
    let changed = |change: &dyn Fn(&mut v1::Slot)| {
        let mut slot = slot.clone();
        change(&mut slot);
        slot.encode_to_vec()
    };
    let mut cases = Cases::new("slot");
    cases.valid("an open slot", genuine.to_vec());
    cases.valid("about nothing", changed(&|s| s.subject_keys.clear()));
    let malformed: [(&str, Vec<u8>); 11] = [
        ("cut short", genuine[..genuine.len() - 1].to_vec()),
        ("a field more", [&genuine[..], &[0x98, 0x06, 1]].concat()),
        ("no form", changed(&|s| s.form = Form::Unspecified as i32)),
        ("an unknown form", changed(&|s| s.form = 4)),
        ("open, with an agreement", changed(&|s| s.agreement = vec![1; 32])),
        ("open, with an epoch", changed(&|s| s.epoch = 1)),
        ("an id of 31 bytes", changed(&|s| s.record_id.truncate(31))),
        ("a dedupe key of 33 bytes", changed(&|s| s.dedupe_key.push(0))),
        ("a subject key of 31 bytes", changed(&|s| s.subject_keys[1].truncate(31))),
        ("a subject key twice", changed(&|s| s.subject_keys[1] = s.subject_keys[0].clone())),
        ("subject keys that are not sorted", changed(&|s| s.subject_keys.reverse())),
    ];
    for (change, bytes) in malformed {
        cases.refused("SLOT_MALFORMED", change, bytes);
    }
    let of_epoch = [("a sealed slot", sealed(61)), ("a grant", granted(61))];
    for (name, slot) in of_epoch {
        slots_of_an_epoch(&mut cases, name, &slot);
    }
    cases
}

/// A slot that names an epoch, and what is wrong of its kind.
fn slots_of_an_epoch(cases: &mut Cases, name: &str, slot: &v1::Slot) {
    type Fault<'a> = (&'a str, &'a dyn Fn(&mut v1::Slot));
    cases.valid(name, slot.encode_to_vec());
    let last = v1::Slot { epoch: EPOCHS_MAX, ..slot.clone() };
    let faults: [Fault<'_>; 6] = [
        ("without an agreement", &|s| s.agreement.clear()),
        ("with an agreement of 31 bytes", &|s| s.agreement.truncate(31)),
        ("without an epoch", &|s| s.epoch = 0),
        ("of an epoch above the last", &|s| s.epoch = EPOCHS_MAX + 1),
        ("with an id of 33 bytes", &|s| s.record_id.push(0)),
        ("with subject keys that are not sorted", &|s| s.subject_keys.reverse()),
    ];
    for (change, make) in faults {
        let mut changed = slot.clone();
        make(&mut changed);
        cases.refused("SLOT_MALFORMED", &format!("{name} {change}"), changed.encode_to_vec());
    }
    if slot.form == Form::Sealed as i32 {
        cases.valid("a sealed slot of the last epoch", last.encode_to_vec());
        return;
    }
    // Its dedupe key follows from what it grants.
    cases.refused("SLOT_MALFORMED", "a grant under the key of another epoch", last.encode_to_vec());
    let other = v1::Slot { dedupe_key: vec![3; 32], ..slot.clone() };
    cases.refused("SLOT_MALFORMED", "a grant under a key of its own", other.encode_to_vec());
    let other = v1::Slot { record_id: vec![62; 32], ..slot.clone() };
    cases.refused("SLOT_MALFORMED", "a grant under another record's key", other.encode_to_vec());
}

/// The epoch that sealed slots and grants name.
fn epoch() -> EpochId {
    EpochId { agreement: Hash([0xa9; 32]), number: 7 }
}

/// A sealed slot whose record id is so many bytes of one value.
pub(crate) fn sealed(id: u8) -> v1::Slot {
    v1::Slot {
        record_id: vec![id; 32],
        form: Form::Sealed as i32,
        agreement: epoch().agreement.0.to_vec(),
        subject_keys: vec![vec![1; 32], vec![2; 32]],
        dedupe_key: vec![id + 1; 32],
        epoch: epoch().number,
    }
}

/// The grant of that record, under another epoch.
pub(crate) fn granted(id: u8) -> v1::Slot {
    let epoch = EpochId { agreement: Hash([0xb9; 32]), number: 1 };
    let slot = Slot::grant(Hash([id; 32]), epoch, vec![Hash([5; 32]), Hash([6; 32])]);
    v1::Slot::decode(&slot.encode()[..]).expect("a slot")
}

/// What a verifier computes of slots that name an epoch, beside what they are.
fn of_epochs() -> Value {
    let agency = "NL-DOUANE".parse().expect("a code");
    let described = |slot: v1::Slot| {
        let read = Slot::decode(&slot.encode_to_vec()).expect("a slot");
        json!({
            "slot": hex_of(slot.encode_to_vec()),
            "form": slot.form,
            "record_id": hex_of(&slot.record_id),
            "agreement": hex_of(&slot.agreement),
            "epoch": slot.epoch,
            "subject_keys": slot.subject_keys.iter().map(hex_of).collect::<Vec<_>>(),
            "dedupe_key": hex_of(&slot.dedupe_key),
            "agency": agency,
            "index_keys": hashes(&read.index_keys(&agency)),
        })
    };
    [sealed(61), granted(61)].map(described).to_vec().into()
}

/// Signs whatever slots and records there are.
pub(crate) fn signed(chain_id: Hash, slots: &[v1::Slot], records: &[Vec<u8>]) -> v1::Transaction {
    let slots: Vec<bytes::Bytes> = slots.iter().map(|slot| slot.encode_to_vec().into()).collect();
    let header = TransactionHeader {
        chain_id,
        signer: key(131).public(),
        agency: "NL-DOUANE".parse().expect("a code"),
        not_after_ms: NOT_AFTER_MS,
        slot_count: slots.len() as u32,
        records_root: Tree::of(&slots).root(),
    };
    let signature = key(131).sign(&Tag::TRANSACTION_SIGNATURE.message(&[&header.encode()]));
    v1::Transaction {
        header: header.encode().into(),
        signature: signature.0.to_vec().into(),
        slots,
        records: records.iter().map(|record| record.clone().into()).collect(),
    }
}

/// A slot for a record, under this dedupe key.
pub(crate) fn slot_of(record: &[u8], dedupe_key: &Hash) -> v1::Slot {
    let decoded = v1::Record::decode(record).unwrap_or_default();
    let keys = subject_keys(&decoded);
    let id = field_tree::record_id(record, &decoded.salt).unwrap_or_default();
    v1::Slot {
        record_id: id.0.to_vec(),
        form: Form::Open as i32,
        subject_keys: keys,
        dedupe_key: dedupe_key.0.to_vec(),
        ..Default::default()
    }
}

fn transactions(sample: &Sample) -> Cases {
    let chain_id = sample.genesis.chain_id();
    let bytes = sample.transactions[1].encoded();
    let genuine = sample.transactions[1].parts().clone();
    let slots: Vec<_> =
        genuine.slots.iter().map(|s| v1::Slot::decode(s.clone()).expect("a slot")).collect();
    let records: Vec<_> = genuine.records.iter().map(|record| record.to_vec()).collect();
    let mut cases = Cases::new("transaction");
    cases.valid("of two records", bytes.to_vec());
    cases.valid("of a change of the registry", sample.transactions[5].encoded().to_vec());
    let large = Given::Zeros(TRANSACTION_BYTES_MAX + 1);
    cases.refused("TRANSACTION_TOO_LARGE", "too many bytes", large);
    damage::encoding(&mut cases, bytes, "TRANSACTION");
    let mut refused = |code: &str, change: &str, make: &dyn Fn(&mut v1::Transaction)| {
        let mut transaction = genuine.clone();
        make(&mut transaction);
        cases.refused(code, change, transaction.encode_to_vec());
    };
    refused("TRANSACTION_HEADER", "a header cut short", &|t| drop(t.header.split_off(123)));
    refused("BAD_SIGNATURE", "a signature cut short", &|t| drop(t.signature.split_off(63)));
    refused("BAD_SIGNATURE", "another's signature", &|t| {
        t.signature = sample.transactions[2].parts().signature.clone();
    });
    refused("SLOT_COUNT", "a slot missing", &|t| drop(t.slots.pop()));
    refused("RECORDS_ROOT", "slots in another order", &|t| t.slots.reverse());
    refused("RECORD_COUNT", "a record missing", &|t| drop(t.records.pop()));
    refused("RECORD_COUNT", "a record too many", &|t| t.records.push(t.records[0].clone()));
    refused("RECORD_ID", "records in another order", &|t| t.records.reverse());
    refused("RECORD_SALT", "a record that breaks a rule", &|t| {
        t.records[1] = changed(|r| r.salt.clear()).into();
    });
    let mut signed_anew = |code: &str, change: &str, make: &dyn Fn(&mut [v1::Slot])| {
        let mut slots = slots.clone();
        make(&mut slots);
        cases.refused(code, change, signed(chain_id, &slots, &records).encode_to_vec());
    };
    signed_anew("SUBJECT_KEYS", "a subject key withheld", &|s| drop(s[1].subject_keys.pop()));
    signed_anew("SUBJECT_KEYS", "a subject key more", &|s| s[0].subject_keys.push(vec![0xff; 32]));
    signed_anew("SLOT_MALFORMED", "a slot with an agreement", &|s| s[0].agreement = vec![1]);
    signed_anew("RECORD_COUNT", "a record for a sealed slot", &|s| s[0] = sealed(61));
    let other = signed(Hash([1; 32]), &slots, &records).encode_to_vec();
    cases.refused("WRONG_CHAIN", "of another chain", other);
    cases.refused("SLOT_COUNT", "of no slot", signed(chain_id, &[], &[]).encode_to_vec());
    let theirs = changed(|r| r.agency = "DE-ZOLL".into());
    let slot = slot_of(&theirs, &Hash([1; 32]));
    let theirs = signed(chain_id, &[slot], &[theirs]).encode_to_vec();
    cases.refused("RECORD_AGENCY", "a record of another agency", theirs);
    mixed(&mut cases, &chain_id, &slots, &records);
    changes(&mut cases, sample);
    agreements(&mut cases, sample);
    loads::of_transactions(&mut cases, sample);
    cases
}

/// Open slots among others, which bring no record.
fn mixed(cases: &mut Cases, chain_id: &Hash, open: &[v1::Slot], records: &[Vec<u8>]) {
    let bytes =
        |slots: &[v1::Slot], records: &[Vec<u8>]| signed(*chain_id, slots, records).encode_to_vec();
    let [first, second] = open else { panic!("two") };
    let slots = [sealed(61), first.clone(), granted(61), second.clone(), sealed(71)];
    cases.valid("of open slots, sealed ones and a grant", bytes(&slots, records));
    cases.valid("of sealed slots alone", bytes(&[sealed(61), sealed(71)], &[]));
    cases.valid("of a grant alone", bytes(&[granted(61)], &[]));
    let count = "RECORD_COUNT";
    cases.refused(
        count,
        "a record of two missing among sealed slots",
        bytes(&slots, &records[..1]),
    );
    let more = [records, &records[..1]].concat();
    cases.refused(count, "a record more than open slots", bytes(&slots, &more));
    cases.refused(count, "a sealed slot that brings a record", bytes(&[sealed(61)], &records[..1]));
    let reversed = [records[1].clone(), records[0].clone()];
    cases.refused(
        "RECORD_ID",
        "records in another order among sealed slots",
        bytes(&slots, &reversed),
    );
    // The slots are gone through before it is asked how many of them are open.
    let mut unsealed = slots.clone();
    unsealed[0].form = Form::Open as i32;
    let change = "a slot that is open with an epoch";
    cases.refused("SLOT_MALFORMED", change, bytes(&unsealed, records));
    let mut other = slots;
    other[2].dedupe_key[0] ^= 1;
    cases.refused("SLOT_MALFORMED", "a grant under another key", bytes(&other, records));
}

/// Changes of the registry that are not alone, or that nobody signed.
fn changes(cases: &mut Cases, sample: &Sample) {
    let chain_id = sample.genesis.chain_id();
    let parts = sample.transactions[5].parts();
    let slot = v1::Slot::decode(parts.slots[0].clone()).expect("a slot");
    let record = parts.records[0].to_vec();
    let mut refused = |change: &str, slots: &[v1::Slot], records: &[Vec<u8>]| {
        let bytes = signed(chain_id, slots, records).encode_to_vec();
        cases.refused("RECORD_REGISTRY_CHANGE", change, bytes);
    };
    let other = v1::Slot { dedupe_key: vec![1; 32], ..slot.clone() };
    refused("a change of the registry under another dedupe key", &[other], from_ref(&record));
    let company = changed(|_| ());
    let both = [slot.clone(), slot_of(&company, &Hash([2; 32]))];
    refused("a change of the registry in company", &both, &[record.clone(), company]);
    let mut unsigned = v1::Record::decode(&record[..]).expect("a record");
    if let Some(Body::RegistryChange(change)) = &mut unsigned.body {
        change.approvals[0].signature[5] ^= 1;
    }
    let unsigned = unsigned.encode_to_vec();
    let key = Hash::from_slice(&slot.dedupe_key).expect("32 bytes");
    refused("a change with a damaged approval", &[slot_of(&unsigned, &key)], &[unsigned]);
}

/// Changes of an agreement, and those that are not alone, or that nobody signed.
fn agreements(cases: &mut Cases, sample: &Sample) {
    let (chain_id, agency) = (sample.genesis.chain_id(), "NL-DOUANE".parse().expect("a code"));
    let change = agreements::first(sample);
    let leave = AgreementChange::Leave { agreement: change.agreement(), epoch: 1 };
    for (name, change) in [("of an agreement's first epoch", &change), ("of who leaves", &leave)] {
        let signed = VerifiedTransaction::change_agreement(
            change,
            "operator",
            agency,
            NOT_AFTER_MS,
            &chain_id,
            &key(131),
        );
        cases.valid(name, signed.expect("valid").encoded().to_vec());
    }
    let mut refused = |change: &str, slots: &[v1::Slot], records: &[Vec<u8>]| {
        let bytes = signed(chain_id, slots, records).encode_to_vec();
        cases.refused("RECORD_AGREEMENT_CHANGE", change, bytes);
    };
    let record =
        |change: v1::AgreementChange| with_body(Body::AgreementChange(change)).encode_to_vec();
    let (genuine, own) = (record(change.to_proto()), change.dedupe_key(&agency));
    let slot = slot_of(&genuine, &own);
    let other = slot_of(&genuine, &Hash([1; 32]));
    refused("a change of an agreement under another dedupe key", &[other], from_ref(&genuine));
    let company = changed(|_| ());
    let both = [slot.clone(), slot_of(&company, &Hash([2; 32]))];
    refused("a change of an agreement in company", &both, &[genuine.clone(), company]);
    let with_sealed = [slot, sealed(61)];
    refused("a change of an agreement beside a sealed slot", &with_sealed, from_ref(&genuine));
    let mut unsigned = change.to_proto();
    unsigned.approvals[1].signature[5] ^= 1;
    let unsigned = record(unsigned);
    refused("a damaged approval of an epoch", &[slot_of(&unsigned, &own)], &[unsigned]);
    let leaving = record(leave.to_proto());
    let another = leave.dedupe_key(&"BE-DOUANE".parse().expect("a code"));
    refused("leaving under another's key", &[slot_of(&leaving, &another)], &[leaving]);
}

/// Reports of misbehaviour, as transactions. Two votes for two blocks in one view are one.
pub(crate) fn misbehaviour(sample: &Sample, file: Value) -> Value {
    let report = |seed: u8, kind: VoteKind, block: u8, height: u64| {
        let block_hash = if kind == VoteKind::Nullify { Hash::ZERO } else { Hash([block; 32]) };
        let vote = Vote::sign(
            Ballot { kind, height, view: 1, block_hash },
            &sample.genesis.chain_id(),
            &key(seed),
        );
        statement(&vote)
    };
    use VoteKind::{Finalize, Notarize, Nullify};
    let a = || report(1, Notarize, 1, 1);
    let b = || report(1, Notarize, 2, 1);
    let in_order = |first: Vec<u8>, second: Vec<u8>| {
        let (first, second) = if first < second { (first, second) } else { (second, first) };
        reported(sample, first, second)
    };
    let mut cases = Cases::new("transaction");
    cases.valid("two notarized", in_order(a(), b()));
    cases.valid("two finalized", in_order(report(1, Finalize, 1, 1), report(1, Finalize, 2, 1)));
    cases.valid("nullified and finalized", {
        in_order(report(1, Nullify, 0, 1), report(1, Finalize, 1, 1))
    });
    // Of this block with these leaves, resting on this view.
    let proposed = |block: u8, leaves: u8, parent_view: u64| {
        let (block_hash, leaves_hash) = (Hash([block; 32]), Hash([leaves; 32]));
        let proposed = Proposed { height: 1, view: 2, parent_view, block_hash, leaves_hash };
        let signature = key(1).sign(&proposed.message(&sample.genesis.chain_id()));
        Claim { proposed, leader: key(1).public(), signature }.encode()
    };
    cases.valid("two proposed", in_order(proposed(1, 1, 0), proposed(2, 1, 0)));
    cases.valid("one proposed with two lists of leaves", {
        in_order(proposed(1, 1, 0), proposed(1, 2, 0))
    });
    let reversed = reported(sample, a().max(b()), a().min(b()));
    cases.refused("RECORD_MISBEHAVIOUR", "the larger statement first", reversed);
    let mut refused = |change: &str, first: Vec<u8>, second: Vec<u8>| {
        cases.refused("RECORD_MISBEHAVIOUR", change, in_order(first, second));
    };
    refused("one statement twice", a(), a());
    refused("two keys", a(), report(2, Notarize, 2, 1));
    refused("two heights", a(), report(1, Notarize, 2, 2));
    refused("notarized and finalized", a(), report(1, Finalize, 2, 1));
    refused("notarized and nullified", a(), report(1, Nullify, 0, 1));
    refused("a statement cut short", a()[..184].to_vec(), b());
    refused("a statement of no kind", a(), [&[4], &b()[1..]].concat());
    refused("a vote with a parent view", a(), changed_at(b(), 24));
    refused("a vote with a leaves hash", a(), changed_at(b(), 57));
    refused("a vote by no key", a(), [&b()[..89], &[0; 32], &b()[121..]].concat());
    refused("a damaged signature", a(), changed_at(b(), 132));
    refused("one block proposed twice", proposed(1, 1, 0), proposed(1, 1, 1));
    refused(
        "a nullification of a block",
        changed_at(report(1, Nullify, 0, 1), 25),
        report(1, Finalize, 1, 1),
    );
    let own = own_key(&a(), &b());
    let mut another = |change: &str, slots: &[v1::Slot], records: &[Vec<u8>]| {
        let bytes = signed(sample.genesis.chain_id(), slots, records).encode_to_vec();
        cases.refused("RECORD_MISBEHAVIOUR", change, bytes);
    };
    let record = with_report(a().min(b()), a().max(b()));
    another("another dedupe key", &[slot_of(&record, &Hash([3; 32]))], from_ref(&record));
    let company = changed(|_| ());
    let slots = [slot_of(&record, &own), slot_of(&company, &Hash([4; 32]))];
    another("in company", &slots, &[record, company]);
    with_cases(file, [cases])
}

fn changed_at(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 1;
    bytes
}

/// A vote's layout as a statement.
fn statement(vote: &Vote) -> Vec<u8> {
    let Ballot { kind, height, view, block_hash } = vote.ballot;
    let numbers = [&[kind as u8][..], &height.to_be_bytes(), &view.to_be_bytes(), &[0; 8]].concat();
    let hashes = [block_hash.0, Hash::ZERO.0].concat();
    [&numbers[..], &hashes, vote.validator.as_bytes(), &vote.signature.0].concat()
}

fn with_report(first: Vec<u8>, second: Vec<u8>) -> Vec<u8> {
    with_body(Body::Misbehaviour(v1::Misbehaviour { first, second })).encode_to_vec()
}

/// The dedupe key of what the first statement is about.
fn own_key(first: &[u8], second: &[u8]) -> Hash {
    let first = if first.len() > 121 { first } else { second };
    Tag::MISBEHAVIOUR.hash(&[&first[89..121], &first[1..17]])
}

fn reported(sample: &Sample, first: Vec<u8>, second: Vec<u8>) -> Vec<u8> {
    let own = own_key(&first, &second);
    let record = with_report(first, second);
    signed(sample.genesis.chain_id(), &[slot_of(&record, &own)], &[record]).encode_to_vec()
}
