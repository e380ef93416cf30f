//! What a key may sign, and what a record may refer to, in blocks.

use std::sync::Arc;

use customhouse_proto::v1::{
    self, Role,
    record::Body,
    reference::Relation::{self, *},
    registry_entry::Entry,
};
use prost::Message as _;

use super::*;
use crate::{
    authority::{RecordKind, SlotRefused},
    chain::{SlotOutcome, TransactionInvalid},
};

/// Seeds of submitters' keys: of agency A001 unless it is said otherwise.
const OFFICE: u8 = 200;
const BROKER: u8 = 201;
const OTHER_BROKER: u8 = 202;
const STATUSES_ONLY: u8 = 203;
const BROKER_OF_A002: u8 = 204;

/// A network whose registry has the keys above.
fn fixture() -> Fixture {
    let plain = genesis(4);
    let key = |seed: u8, agency: &str, role: Role, submitter: &str, kinds: &[RecordKind]| {
        let entry = v1::SigningKeyEntry {
            agency: agency.into(),
            public_key: SigningKey::from_seed(&[seed; 32]).public().as_bytes().to_vec(),
            role: role as i32,
            label: String::new(),
            submitter: submitter.into(),
            kinds: RecordKind::bits(kinds),
        };
        v1::RegistryEntry { entry: Some(Entry::SigningKey(entry)), ..Default::default() }
    };
    let keys = [
        key(OFFICE, "A001", Role::Office, "office", &[]),
        key(BROKER, "A001", Role::Broker, "broker", &[]),
        key(OTHER_BROKER, "A001", Role::Broker, "rival", &[]),
        key(STATUSES_ONLY, "A001", Role::Office, "machine", &[RecordKind::DeclarationStatus]),
        key(BROKER_OF_A002, "A002", Role::Broker, "broker", &[]),
    ];
    let entries = plain.registry.entries().cloned().chain(keys).collect();
    let genesis = Genesis::new("test".into(), plain.time_ms, plain.history_bits, entries);
    Fixture { genesis: genesis.expect("valid"), ..Fixture::new() }
}

/// Who signs: a submitter with a key of its own.
#[derive(Clone, Copy)]
struct By {
    key: u8,
    agency: &'static str,
    role: Role,
    name: &'static str,
}

const AS_OFFICE: By = By { key: OFFICE, agency: "A001", role: Role::Office, name: "office" };
const AS_BROKER: By = By { key: BROKER, agency: "A001", role: Role::Broker, name: "broker" };
const AS_RIVAL: By = By { key: OTHER_BROKER, agency: "A001", role: Role::Broker, name: "rival" };
const AS_FOREIGNER: By =
    By { key: BROKER_OF_A002, agency: "A002", role: Role::Broker, name: "broker" };

fn record_by(by: By, number: u64, body: Body) -> v1::Record {
    v1::Record {
        submitter: by.name.into(),
        submitter_role: by.role as i32,
        submitter_certificate: Vec::new(),
        body: Some(body),
        ..record(by.agency, number)
    }
}

fn declaration(number: u64) -> Body {
    record("A001", number).body.expect("a body")
}

fn status(reference: &str) -> Body {
    Body::DeclarationStatus(v1::DeclarationStatus {
        function_code: "08".into(),
        reference: reference.into(),
        declaration_reference: "LRN1".into(),
        ..Default::default()
    })
}

fn referring(record: v1::Record, relation: Relation, id: Hash, agency: &str) -> v1::Record {
    let reference = v1::Reference {
        relation: relation as i32,
        record_id: id.0.to_vec(),
        agency: agency.into(),
        ground: 0,
    };
    v1::Record { references: vec![reference], ..record }
}

fn signed(fixture: &Fixture, by: By, records: Vec<(v1::Record, &str)>) -> Arc<VerifiedTransaction> {
    let agency = by.agency.parse().expect("a code");
    let records: Vec<_> = records
        .into_iter()
        .map(|(record, key)| {
            let valid = ValidRecord::from_record(record).expect("valid by itself");
            let dedupe = dedupe_key(&agency, by.name, key);
            (valid, dedupe)
        })
        .collect();
    let not_after_ms = fixture.genesis.time_ms + 3_600_000;
    let (chain_id, key) = (fixture.genesis.chain_id(), SigningKey::from_seed(&[by.key; 32]));
    let signed = VerifiedTransaction::sign(&records, agency, not_after_ms, &chain_id, &key);
    Arc::new(signed.expect("valid by itself"))
}

fn refused(chain: &Chain, transaction: &Arc<VerifiedTransaction>) -> TransactionInvalid {
    let Candidate { staged, mut refused } = prepare(chain, std::slice::from_ref(transaction));
    assert_eq!(staged.transactions().len(), 0);
    let at_the_door = chain.reader().check_registered(transaction, 0).expect("readable");
    let (_, reason) = refused.pop().expect("refused");
    assert_eq!(at_the_door.expect_err("refused there too"), reason);
    reason
}

#[test]
fn a_key_signs_in_its_own_name_and_role_and_its_kinds_only() {
    let fixture = fixture();
    let chain = fixture.open();
    let refused_for = |by: By, record: v1::Record| match refused(
        &chain,
        &signed(&fixture, by, vec![(record, "k")]),
    ) {
        TransactionInvalid::SignerRecord { position: 0, refused } => refused.code(),
        other => panic!("{other}"),
    };
    let of_broker = || record_by(AS_BROKER, 1, declaration(1));
    let claimed = |change: &dyn Fn(&mut v1::Record)| {
        let mut record = of_broker();
        change(&mut record);
        refused_for(AS_BROKER, record)
    };
    assert_eq!(claimed(&|r| r.submitter = "operator".into()), "SIGNER_SUBMITTER");
    assert_eq!(claimed(&|r| r.submitter_role = Role::Office as i32), "SIGNER_ROLE");
    assert_eq!(claimed(&|r| r.submitter_role = Role::Trader as i32), "SIGNER_ROLE");
    assert_eq!(claimed(&|r| r.submitter_certificate = vec![1; 32]), "SIGNER_CERTIFICATE");
    assert_eq!(
        claimed(&|r| {
            let mapping = v1::source::Mapping::Checked as i32;
            r.source = Some(v1::Source { mapping, ..Default::default() });
        }),
        "SIGNER_MAPPING"
    );
    // A broker's `08 released`, in the name of the office.
    let status_as_office =
        v1::Record { submitter_role: Role::Office as i32, ..record_by(AS_BROKER, 1, status("R1")) };
    assert_eq!(refused_for(AS_BROKER, status_as_office), "SIGNER_ROLE");
    let machine = By { key: STATUSES_ONLY, name: "machine", ..AS_OFFICE };
    assert_eq!(refused_for(machine, record_by(machine, 1, declaration(1))), "SIGNER_KIND");
    // A node's key: what it signs for clients has their certificates.
    let node = By { key: 129, agency: "A001", role: Role::Broker, name: "broker" };
    assert_eq!(refused_for(node, of_broker()), "SIGNER_CERTIFICATE");
    // In a role that may not state the kind, a record is none.
    let broker_s = ValidRecord::from_record(record_by(AS_BROKER, 1, status("R1")));
    assert_eq!(broker_s.expect_err("refused").code(), "RECORD_AUTHORITY");
    let mut chain = chain;
    let allowed = signed(&fixture, machine, vec![(record_by(machine, 2, status("R2")), "k")]);
    let outcome = commit(&mut chain, &[allowed]);
    assert_eq!(outcome.outcomes, [[SlotOutcome::Applied]]);
}

#[test]
fn what_a_record_refers_to_exists_and_is_of_a_kind_and_an_owner_that_the_relation_allows() {
    let fixture = fixture();
    let mut chain = fixture.open();
    let first = record_by(AS_BROKER, 1, declaration(1));
    let id = ValidRecord::from_record(first.clone()).expect("valid").id;
    commit(&mut chain, &[signed(&fixture, AS_BROKER, vec![(first, "1")])]);
    let mut number = 10;
    let mut outcome = |by: By, body: Body, relation: Relation, id: Hash, agency: &str| {
        number += 1;
        let record = referring(record_by(by, number, body), relation, id, agency);
        let transaction = signed(&fixture, by, vec![(record, &number.to_string())]);
        commit(&mut chain, &[transaction]).outcomes[0][0]
    };
    let refused = |reason| SlotOutcome::Refused(reason);
    let elsewhere = Hash([9; 32]);
    for (expected, by, body, relation, id, agency) in [
        (SlotOutcome::Applied, AS_BROKER, declaration(2), Amends, id, ""),
        (SlotOutcome::Applied, AS_OFFICE, declaration(3), Cancels, id, ""),
        (SlotOutcome::Applied, AS_OFFICE, status("R1"), RespondsTo, id, ""),
        (SlotOutcome::Applied, AS_FOREIGNER, declaration(4), Evidences, id, "A001"),
        (refused(SlotRefused::Unknown), AS_BROKER, declaration(5), Amends, elsewhere, ""),
        (refused(SlotRefused::Unknown), AS_FOREIGNER, declaration(6), Evidences, id, ""),
        (refused(SlotRefused::Kind), AS_OFFICE, status("R2"), Corrects, id, ""),
        (refused(SlotRefused::Agency), AS_FOREIGNER, declaration(7), Amends, id, "A001"),
        (refused(SlotRefused::Agency), AS_FOREIGNER, declaration(8), Cancels, id, "A001"),
        (refused(SlotRefused::Submitter), AS_RIVAL, declaration(9), Amends, id, ""),
        (refused(SlotRefused::Submitter), AS_RIVAL, declaration(9), Cancels, id, ""),
    ] {
        assert_eq!(outcome(by, body, relation, id, agency), expected, "{relation:?}");
    }
}

#[test]
fn a_target_may_be_earlier_in_the_transaction_or_the_block_and_not_later() {
    let fixture = fixture();
    let mut chain = fixture.open();
    let declared = |number| record_by(AS_BROKER, number, declaration(number));
    let id_of = |record: &v1::Record| ValidRecord::from_record(record.clone()).expect("valid").id;
    let amending = |number, of: &v1::Record| referring(declared(number), Amends, id_of(of), "");
    let (one, two) = (declared(1), declared(2));
    let first = signed(
        &fixture,
        AS_BROKER,
        vec![
            (amending(11, &two), "11"),
            (one.clone(), "1"),
            (amending(12, &one), "12"),
            (two.clone(), "2"),
        ],
    );
    let second = signed(&fixture, AS_BROKER, vec![(amending(13, &two), "13")]);
    let outcome = commit(&mut chain, &[first, second]);
    let unknown = SlotOutcome::Refused(SlotRefused::Unknown);
    let applied = SlotOutcome::Applied;
    assert_eq!(outcome.outcomes, [vec![unknown, applied, applied, applied], vec![applied]]);
    // What was refused took neither its id nor its dedupe key: now it counts.
    let again = signed(&fixture, AS_BROKER, vec![(amending(11, &two), "11")]);
    assert_eq!(commit(&mut chain, &[again]).outcomes, [[applied]]);
}

#[test]
fn a_refused_slot_is_on_the_log_and_has_no_receipt_and_no_history() {
    let fixture = fixture();
    let mut chain = fixture.open();
    let record = record_by(AS_BROKER, 5, declaration(5));
    let record = referring(record, Amends, Hash([9; 32]), "");
    let valid = ValidRecord::from_record(record.clone()).expect("valid");
    commit(&mut chain, &[signed(&fixture, AS_BROKER, vec![(record, "5")])]);
    let reader = chain.reader();
    assert_eq!(reader.tip().header.log_size, 1);
    assert_eq!(reader.record(&valid.id).expect("readable"), None);
    assert_eq!(reader.receipt(&valid.id).expect("readable"), None);
    let history = reader.history(&valid.subject_keys[0], None, 10).expect("readable");
    assert_eq!(history, []);
    drop((chain, reader));
    // It is found again when the store is opened, checked and rebuilt.
    assert_eq!(fixture.open().tip().header.log_size, 1);
}

/// The client's key of a client that signs itself is its own: nobody else's submission is a repeat of it.
#[test]
fn a_dedupe_key_is_of_the_node_s_clients_together_and_of_each_own_key_by_itself() {
    let fixture = fixture();
    let mut chain = fixture.open();
    let spoiled = dedupe_key(&"A001".parse().expect("a code"), "rival", "k");
    let agency = "A001".parse().expect("a code");
    let sign = |by: By, number: u64| {
        let record = record_by(by, number, declaration(number));
        let valid = ValidRecord::from_record(record).expect("valid");
        let not_after_ms = fixture.genesis.time_ms + 3_600_000;
        let (chain_id, key) = (fixture.genesis.chain_id(), SigningKey::from_seed(&[by.key; 32]));
        let signed =
            VerifiedTransaction::sign(&[(valid, spoiled)], agency, not_after_ms, &chain_id, &key);
        Arc::new(signed.expect("valid"))
    };
    // The very dedupe key that the rival's submission at the node will have, used up by a broker.
    let outcome = commit(&mut chain, &[sign(AS_BROKER, 1), sign(AS_RIVAL, 2)]);
    assert_eq!(outcome.outcomes, [[SlotOutcome::Applied], [SlotOutcome::Applied]]);
    let by_node = v1::Record { submitter: "rival".into(), ..record("A001", 3) };
    let valid = ValidRecord::from_record(by_node).expect("valid");
    let (chain_id, key) = (fixture.genesis.chain_id(), SigningKey::from_seed(&[129; 32]));
    let not_after_ms = fixture.genesis.time_ms + 3_600_000;
    let by_node =
        VerifiedTransaction::sign(&[(valid, spoiled)], agency, not_after_ms, &chain_id, &key);
    let outcome = commit(&mut chain, &[Arc::new(by_node.expect("valid"))]);
    assert_eq!(outcome.outcomes, [[SlotOutcome::Applied]]);
    // With its own key once more, it is a repeat.
    let again = commit(&mut chain, &[sign(AS_BROKER, 4)]);
    assert_eq!(again.outcomes, [[SlotOutcome::Duplicate { log_index: 0, position: 0 }]]);
}

#[test]
fn a_block_that_takes_a_refused_slot_for_one_that_counts_is_invalid() {
    let fixture = fixture();
    let chain = fixture.open();
    let record = record_by(AS_BROKER, 5, declaration(5));
    let record = referring(record, Amends, Hash([9; 32]), "");
    let transaction = signed(&fixture, AS_BROKER, vec![(record, "5")]);
    let Candidate { staged, .. } = prepare(&chain, &[transaction]);
    let mut block = staged.block().clone();
    let applied = [SlotOutcome::Applied];
    block.header.outcomes_root = crate::transaction::outcome::block_root([&applied[..]]);
    let invalid = chain.validate(&block, staged.transactions()).expect("readable");
    assert_eq!(invalid.err(), Some(crate::chain::BlockInvalid::Header("outcomes_root")));
}

/// The registry takes a key with a role, a name and kinds that its role may state, and nothing else.
#[test]
fn a_signing_key_s_entry_is_bound_to_a_name_and_to_kinds_of_its_role() {
    let entry = |role: Role, submitter: &str, kinds: u64| {
        let entry = v1::SigningKeyEntry {
            agency: "A001".into(),
            public_key: SigningKey::from_seed(&[77; 32]).public().as_bytes().to_vec(),
            role: role as i32,
            label: String::new(),
            submitter: submitter.into(),
            kinds,
        };
        let entry =
            v1::RegistryEntry { entry: Some(Entry::SigningKey(entry)), ..Default::default() };
        crate::registry::decode_entry(&entry.encode_to_vec()).map_err(|error| error.code()).err()
    };
    assert_eq!(entry(Role::Node, "", 0), None);
    assert_eq!(entry(Role::Broker, "acme", 0), None);
    assert_eq!(entry(Role::Broker, "acme", 1 << 16 | 1 << 19), None);
    assert_eq!(entry(Role::Office, "office", 1 << 17), None);
    assert_eq!(entry(Role::Unspecified, "acme", 0), Some("REGISTRY_ENTRY_ROLE"));
    assert_eq!(entry(Role::Node, "acme", 0), Some("REGISTRY_ENTRY_SUBMITTER"));
    assert_eq!(entry(Role::Node, "", 1 << 16), Some("REGISTRY_ENTRY_SUBMITTER"));
    assert_eq!(entry(Role::Broker, "", 0), Some("REGISTRY_ENTRY_SUBMITTER"));
    assert_eq!(entry(Role::Broker, &"x".repeat(65), 0), Some("REGISTRY_ENTRY_SUBMITTER"));
    assert_eq!(entry(Role::Broker, "bro\nker", 0), Some("REGISTRY_ENTRY_NAME"));
    assert_eq!(entry(Role::Broker, "acme", 1 << 17), Some("REGISTRY_ENTRY_KINDS"));
    assert_eq!(entry(Role::Office, "office", 1 << 28), Some("REGISTRY_ENTRY_KINDS"));
    assert_eq!(entry(Role::Office, "office", 1), Some("REGISTRY_ENTRY_KINDS"));
}
