//! What is signed, certified and proven.

use customhouse_ledger::{
    evidence::Evidence,
    hash::{Hash, Tag},
    header::{Block, Header},
    history::bucket_of,
    merkle::Tree,
    record::dedupe_key,
    registry::{self, InSync, RegistryChange, RegistryProposal},
    subject,
    vote::{Ballot, Proposal, Vote, VoteKind},
};
use customhouse_proto::v1::{self, registry_entry::Entry};
use prost::Message as _;
use serde_json::{Value, json};

use super::{
    hashes, hex_of,
    sample::{self, CLIENT_KEY, SUBMITTER, Sample, certificate, key},
};

pub(crate) fn keys() -> Value {
    let vector = |seed: u8| {
        let message = Tag::VOTE.message(&[b"abc"]);
        let signature = key(seed).sign(&message);
        json!({
            "seed": hex_of([seed; 32]),
            "public_key": key(seed).public(),
            "message": hex_of(&message),
            "signature": hex_of(signature.0),
        })
    };
    [1, 2, 3, 4, 65, 131].map(vector).to_vec().into()
}

pub(crate) fn genesis(sample: &Sample) -> Value {
    let genesis = &sample.genesis;
    let entries: Vec<_> = genesis.registry.entries().map(|entry| entry.encode_to_vec()).collect();
    let tree = Tree::of(&entries);
    let validators = genesis.validators();
    let validator = |validator: &customhouse_ledger::validators::Validator| json!({ "agency": validator.agency, "public_key": validator.key });
    json!({
        "json": serde_json::from_str::<Value>(&genesis.to_json()).expect("JSON"),
        "protobuf": hex_of(genesis.encode()),
        "chain_id": genesis.chain_id(),
        "registry_entries": entries.iter().map(hex_of).collect::<Vec<_>>(),
        "registry_tree_root": tree.root(),
        "registry_root": registry::root(tree.size(), &tree.root()),
        "validators": validators.as_slice().iter().map(validator).collect::<Vec<_>>(),
        "validators_hash": validators.hash(),
        "header": hex_of(genesis.header().encode()),
        "block_hash": genesis.header().hash(),
    })
}

pub(crate) fn record(_: &Sample) -> Value {
    let valid = sample::record(7);
    let subject = |subject: &v1::Subject| {
        json!({
            "scheme": subject.scheme,
            "id": subject.id,
            "key": subject::subject_key(subject),
        })
    };
    let subjects: Vec<_> = subject::subjects(&valid.record).iter().map(subject).collect();
    json!({
        "record": hex_of(&valid.bytes),
        "record_id": valid.id,
        "subjects": subjects,
        "subject_keys": hashes(&valid.subject_keys),
        "agency": valid.agency,
        "agency_layout": hex_of(valid.agency.as_bytes()),
        "submitter": SUBMITTER,
        "client_key": CLIENT_KEY,
        "dedupe_key": dedupe_key(&valid.agency, SUBMITTER, CLIENT_KEY),
    })
}

pub(crate) fn transaction(sample: &Sample) -> Value {
    let transaction = &sample.transactions[2];
    let (header, parts) = (transaction.header(), transaction.parts());
    json!({
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
    })
}

pub(crate) fn header(sample: &Sample) -> Value {
    let Block { header, leaves } = &sample.block;
    json!({
        "fields": {
            "version": header.version,
            "chain_id": header.chain_id,
            "height": header.height,
            "time_ms": header.time_ms,
            "parent_hash": header.parent_hash,
            "log_start": header.log_start,
            "log_size": header.log_size,
            "log_root": header.log_root,
            "history_size": header.history_size,
            "history_root": header.history_root,
            "registry_root": header.registry_root,
            "validators_hash": header.validators_hash,
            "next_validators_hash": header.next_validators_hash,
            "proposer": hex_of(header.proposer),
            "view": header.view,
        },
        "header": hex_of(header.encode()),
        "block_hash": header.hash(),
        "leaves": hashes(leaves),
        "history_entries":
            sample.entries.iter().map(|entry| hex_of(entry.encode())).collect::<Vec<_>>(),
    })
}

pub(crate) fn votes(sample: &Sample) -> Value {
    let (chain_id, header) = (sample.genesis.chain_id(), &sample.block.header);
    let kinds = [VoteKind::Notarize, VoteKind::Nullify, VoteKind::Finalize];
    let vote = |kind: VoteKind| {
        let ballot = sample::ballot(header, kind);
        let vote = Vote::sign(ballot, &chain_id, &key(1));
        json!({
            "kind": kind as u8,
            "height": ballot.height,
            "view": ballot.view,
            "block_hash": ballot.block_hash,
            "signed_message": hex_of(ballot.message(&chain_id)),
            "validator": vote.validator,
            "signature": hex_of(vote.signature.0),
        })
    };
    let certificates = kinds.map(|kind| {
        let certificate = certificate(&sample.genesis, header, kind);
        let signers: Vec<_> = certificate.signers().collect();
        json!({ "kind": kind as u8, "signers": signers, "certificate": hex_of(certificate.encode()) })
    });
    let proposal = Proposal::sign(sample.block.clone(), 3, 1, &chain_id, &key(4));
    let message = Proposal::message(&chain_id, header.height, 3, 1, &header.hash());
    json!({
        "chain_id": chain_id,
        "votes": kinds.map(vote).to_vec(),
        "certificates": certificates.to_vec(),
        "proposal": {
            "height": header.height,
            "view": proposal.view,
            "parent_view": proposal.parent_view,
            "block_hash": header.hash(),
            "signed_message": hex_of(message),
            "leader": proposal.leader,
            "signature": hex_of(proposal.signature.0),
        },
    })
}

/// Two votes for two blocks in one view.
/// NL-DOUANE exchanges its validator's key, and three approve.
pub(crate) fn registry_change(sample: &Sample) -> Value {
    let (genesis, chain_id) = (&sample.genesis, sample.genesis.chain_id());
    let is_old = |entry: &&v1::RegistryEntry| {
        let of =
            |validator: &v1::ValidatorEntry| validator.public_key == key(1).public().as_bytes();
        matches!(&entry.entry, Some(Entry::Validator(validator)) if of(validator))
    };
    let old = genesis.registry.entries().find(is_old).expect("registered").clone();
    let Some(Entry::Validator(validator)) = &old.entry else { panic!("a validator") };
    let agency = validator.agency.parse().expect("a code");
    let public_key = key(5).public().as_bytes().to_vec();
    let added = v1::ValidatorEntry { public_key, ..validator.clone() };
    let added = v1::RegistryEntry { entry: Some(Entry::Validator(added)), ..old.clone() };
    let (root, not_after_ms) = (genesis.registry.root(), genesis.time_ms + 86_400_000);
    let proposal = RegistryProposal::new(&root, not_after_ms, vec![added], vec![old], "a new key")
        .expect("one");
    let approvals = [1, 2, 3].map(|seed| proposal.approve(&chain_id, &key(seed))).to_vec();
    let genesis_hash = genesis.header().hash();
    let in_sync = InSync::sign(&chain_id, &agency, 0, genesis_hash, &key(5));
    let change = RegistryChange::new(proposal.clone(), approvals, Some(in_sync)).expect("valid");
    change.verify(&chain_id).expect("signed");
    let after = genesis.registry.apply(&proposal, 1).expect("applies");
    json!({
        "chain_id": chain_id,
        "proposal": hex_of(proposal.to_proto().encode_to_vec()),
        "proposal_hash": proposal.hash(),
        "change": hex_of(change.to_proto().encode_to_vec()),
        "in_sync_agency": agency,
        "in_sync_block": genesis_hash,
        "committed_at_height": 1,
        "registry_root_after": after.root(),
        "validators_hash_after": after.validators_at(2).expect("a set").hash(),
    })
}

pub(crate) fn misbehaviour(sample: &Sample) -> Value {
    let (chain_id, header) = (sample.genesis.chain_id(), &sample.block.header);
    let vote = |block_hash| {
        let ballot = Ballot { block_hash, ..sample::ballot(header, VoteKind::Notarize) };
        Vote::sign(ballot, &chain_id, &key(1))
    };
    let evidence = Evidence::Votes(vote(header.hash()), vote(Hash([7; 32])));
    let report = evidence.to_proto();
    let (height, view) = evidence.place();
    json!({
        "chain_id": chain_id,
        "culprit": evidence.culprit(),
        "height": height,
        "view": view,
        "first": hex_of(report.first),
        "second": hex_of(report.second),
        "dedupe_key": evidence.dedupe_key(),
    })
}

fn receipt_message(sample: &Sample, log_index: usize, position: usize) -> v1::Receipt {
    let transaction = &sample.transactions[log_index];
    let parts = transaction.parts();
    let bytes = |path: Vec<Hash>| path.iter().map(|hash| hash.0.to_vec()).collect::<Vec<_>>();
    let slots = Tree::of(&parts.slots);
    let registry = sample.genesis.registry.prove_signer(&transaction.header().signer);
    let registry = registry.expect("registered");
    v1::Receipt {
        record: parts.records[position].to_vec(),
        slot: parts.slots[position].to_vec(),
        slot_index: position as u32,
        slot_path: bytes(slots.inclusion_path(position as u64).expect("a slot")),
        transaction_header: parts.header.to_vec(),
        transaction_signature: parts.signature.to_vec(),
        log_index: log_index as u64,
        log_path: bytes(sample.log.inclusion_path(log_index as u64).expect("a leaf")),
        header: sample.block.header.encode(),
        certificate: sample.certificate.encode(),
        registry_entry: registry.entry,
        registry_index: registry.index,
        registry_count: registry.count,
        registry_path: bytes(registry.path),
    }
}

pub(crate) fn receipt(sample: &Sample) -> Value {
    let genuine = receipt_message(sample, 2, 1);
    let other = receipt_message(sample, 3, 2);
    let header = &sample.block.header;
    let refused = |change: &str, code: &str, make: &dyn Fn(&mut v1::Receipt)| {
        let mut receipt = genuine.clone();
        make(&mut receipt);
        json!({ "change": change, "code": code, "receipt": hex_of(receipt.encode_to_vec()) })
    };
    let notarization = certificate(&sample.genesis, header, VoteKind::Notarize).encode();
    let later = Header { time_ms: header.time_ms + 1, ..header.clone() }.encode();
    json!({
        "receipt": hex_of(genuine.encode_to_vec()),
        "record_id": sample.transactions[2].slots()[1].record_id,
        "refused": [
            refused("another record", "RECORD_ID", &|r| r.record.clone_from(&other.record)),
            refused("another slot", "RECEIPT_SLOT_PATH", &|r| r.slot.clone_from(&other.slot)),
            refused("another position", "RECEIPT_SLOT_PATH", &|r| r.slot_index = 2),
            refused("another log index", "RECEIPT_LOG_PATH", &|r| r.log_index = 3),
            refused("a log index of no block", "RECEIPT_LOG_INDEX", &|r| r.log_index = 5),
            refused("another signature", "BAD_SIGNATURE", &|r| {
                r.transaction_signature.clone_from(&other.transaction_signature);
            }),
            refused("another header", "CERTIFICATE_BLOCK_HASH", &|r| r.header.clone_from(&later)),
            refused("a notarization", "CERTIFICATE_KIND", &|r| {
                r.certificate.clone_from(&notarization);
            }),
            refused("another registry count", "REGISTRY_PATH", &|r| r.registry_count += 1),
            refused("a byte after a path's hash", "RECEIPT_PATH_MALFORMED", &|r| {
                r.log_path[0].push(0);
            }),
        ],
    })
}

pub(crate) fn history_proof(sample: &Sample) -> Value {
    let subject_key = sample.transactions[2].slots()[1].subject_keys[0];
    let bits = sample.genesis.history_bits;
    let bucket = bucket_of(&subject_key, bits);
    let entries = sample.entries.iter().filter(|entry| bucket_of(&entry.key, bits) == bucket);
    let genuine = v1::HistoryProof {
        subject_key: subject_key.0.to_vec(),
        bucket_entries: entries.flat_map(|entry| entry.encode()).collect(),
        path: sample.history.path(bucket).iter().map(|hash| hash.0.to_vec()).collect(),
        header: sample.block.header.encode(),
        certificate: sample.certificate.encode(),
    };
    let refused = |change: &str, code: &str, make: &dyn Fn(&mut v1::HistoryProof)| {
        let mut proof = genuine.clone();
        make(&mut proof);
        json!({ "change": change, "code": code, "proof": hex_of(proof.encode_to_vec()) })
    };
    json!({
        "subject_key": subject_key,
        "bucket": bucket,
        "proof": hex_of(genuine.encode_to_vec()),
        "refused": [
            refused("the entries withheld", "HISTORY_ROOT", &|p| p.bucket_entries.clear()),
            refused("half an entry", "HISTORY_ENTRIES_MALFORMED", &|p| {
                p.bucket_entries.truncate(22);
            }),
            refused("a shorter path", "HISTORY_ROOT", &|p| p.path.truncate(7)),
            refused("the subject of another bucket", "HISTORY_OTHER_BUCKET", &|p| {
                p.subject_key[0] ^= 1;
            }),
        ],
    })
}
