//! Receipts from after a change of the validators, verified by the program without a network.

use std::{collections::BTreeMap, fs, path::Path, process::Command, sync::Arc};

use customhouse_ledger::{
    certificate::Certificate,
    chain::{BlockContext, Chain},
    genesis::Genesis,
    hash::Hash,
    keys::SigningKey,
    record::{ValidRecord, dedupe_key},
    registry::{InSync, RegistryChange, RegistryProposal},
    store::StoreOptions,
    transaction::VerifiedTransaction,
    vote::{Ballot, Vote, VoteKind},
};
use customhouse_node::layout::{AgencyFile, genesis_of};
use customhouse_proto::v1::{self, registry_entry::Entry};
use prost::Message as _;

const TIME_MS: u64 = 1_700_000_000_000;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

/// One agency, whose validator's key is of seed 1.
fn genesis() -> Genesis {
    let json = serde_json::json!({
        "agency": "NL-DOUANE",
        "name": "Douane",
        "country": "NL",
        "validators": [key(1).public()],
        "peers": [key(2).public()],
        "signing_keys": [{ "public_key": key(3).public(), "role": "node" }],
    });
    let agency: AgencyFile = serde_json::from_value(json).expect("an agency");
    genesis_of("test", TIME_MS, 8, &[agency], &BTreeMap::new()).expect("valid")
}

/// Commits a transaction, finalized by this key.
fn commit(chain: &mut Chain, transaction: VerifiedTransaction, validator: &SigningKey) {
    let tip = chain.tip();
    let height = tip.header.height + 1;
    let context = BlockContext {
        view: 1,
        proposer: tip.leaders.leader(&tip.validators, height, 1),
        time_ms: tip.header.time_ms + 1000,
        bytes_max: u64::MAX,
    };
    let candidate = chain.prepare(&context, [Arc::new(transaction)]).expect("readable");
    assert_eq!(candidate.refused, []);
    let block_hash = candidate.staged.block().hash();
    let ballot = Ballot { kind: VoteKind::Finalize, height, view: 1, block_hash };
    let vote = Vote::sign(ballot, &chain.chain_id(), validator);
    let certificate = Certificate::from_votes(ballot, &[vote], &tip.validators).expect("a quorum");
    chain.commit(candidate.staged, certificate).expect("committed");
}

fn record(chain: &Chain, mrn: &str) -> (Hash, VerifiedTransaction) {
    let agency = "NL-DOUANE".parse().expect("a code");
    let inspection = v1::Inspection { mrn: mrn.into(), ..Default::default() };
    let record = v1::Record {
        salt: vec![7; 16],
        agency: "NL-DOUANE".into(),
        submitter: "broker".into(),
        body: Some(v1::record::Body::Inspection(inspection)),
        ..Default::default()
    };
    let record = ValidRecord::from_record(record).expect("valid");
    let (id, dedupe) = (record.id, dedupe_key(&agency, "broker", mrn));
    let (until, chain_id) = (TIME_MS + 3_600_000, chain.chain_id());
    let signed = VerifiedTransaction::sign(&[(record, dedupe)], agency, until, &chain_id, &key(3));
    (id, signed.expect("valid"))
}

/// The validator's key of seed 1 is exchanged for that of seed 4.
fn exchange(chain: &Chain) -> VerifiedTransaction {
    let (tip, chain_id) = (chain.tip(), chain.chain_id());
    let validator = |seed: u8| {
        let public_key = key(seed).public().as_bytes().to_vec();
        let entry = v1::ValidatorEntry { agency: "NL-DOUANE".into(), public_key };
        v1::RegistryEntry { entry: Some(Entry::Validator(entry)), ..Default::default() }
    };
    let (root, until) = (tip.registry.root(), TIME_MS + 3_600_000);
    let proposal = RegistryProposal::new(&root, until, vec![validator(4)], vec![validator(1)], "")
        .expect("one");
    let agency = "NL-DOUANE".parse().expect("a code");
    let in_sync = InSync::sign(&chain_id, &agency, tip.header.height, tip.hash, &key(4));
    let approval = proposal.approve(&chain_id, &key(1));
    let change = RegistryChange::new(proposal, vec![approval], Some(in_sync)).expect("valid");
    VerifiedTransaction::change_registry(&change, "op", agency, until, &chain_id, &key(3))
        .expect("valid")
}

/// Exit code and standard output.
fn verify(dir: &Path, arguments: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_customhouse"));
    command.current_dir(dir).args(["audit", "verify", "--genesis", "genesis.json"]);
    command.args(arguments.split_whitespace()).env_remove("CUSTOMHOUSE_PROFILE");
    let output = command.output().expect("the program runs");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_receipt_from_after_a_change_needs_the_validator_chain_and_one_from_before_does_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let genesis = genesis();
    let store = dir.path().join("store");
    let mut chain = Chain::open(&store, &genesis, &StoreOptions::default()).expect("opened");
    let (before, transaction) = record(&chain, "24NL1");
    commit(&mut chain, transaction, &key(1));
    let transaction = exchange(&chain);
    commit(&mut chain, transaction, &key(1));
    let (after, transaction) = record(&chain, "24NL2");
    commit(&mut chain, transaction, &key(4));

    let reader = chain.reader();
    let write =
        |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).expect("written");
    write("genesis.json", genesis.to_json().as_bytes());
    fs::create_dir(dir.path().join("receipts")).expect("made");
    for (name, id) in [("receipts/before.receipt", before), ("receipts/after.receipt", after)] {
        let receipt = reader.receipt(&id).expect("readable").expect("committed");
        write(name, &receipt.encode_to_vec());
    }
    let steps = reader.validator_changes(0, 10).expect("readable");
    let steps = steps.iter().map(|step| step.to_proto()).collect();
    let bytes = v1::ValidatorChain { steps }.encode_to_vec();
    write("steps", &bytes);

    assert_eq!(verify(dir.path(), "receipts/before.receipt").0, Some(0));
    let (code, stdout) = verify(dir.path(), "receipts");
    assert_eq!(code, Some(2), "{stdout}");
    assert!(stdout.contains("VALIDATOR_STEP_MISSING"), "{stdout}");
    assert!(stdout.contains("audit validator-chain"), "{stdout}");
    assert_eq!(verify(dir.path(), "receipts --validator-chain steps").0, Some(0));
    let mut damaged = bytes.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    write("steps", &damaged);
    assert_eq!(verify(dir.path(), "receipts --validator-chain steps").0, Some(2));
    write("receipts/validator.chain", &bytes);
    assert_eq!(verify(dir.path(), "receipts").0, Some(0), "beside the receipts");
    assert_eq!(verify(dir.path(), "receipts/after.receipt").0, Some(0), "beside the receipt");
}
