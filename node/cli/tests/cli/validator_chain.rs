//! Receipts, heads and evidence from after a change of the validators, verified by the program without a
//! network.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use customhouse_files::agency_file::{AgencyFile, genesis_of};
use customhouse_ledger::{
    chain::{BlockContext, CertifiedHeader, Chain},
    finality::{
        certificate::Certificate,
        decision::{self, Decision, Grounds},
        header::Header,
        validators::{Validator, ValidatorSet},
        vote::{Ballot, Vote, VoteKind},
    },
    hash::Hash,
    keys::SigningKey,
    proofs::receipt::embed_steps,
    record::{ValidRecord, dedupe_key},
    registry::{InSync, RegistryChange, RegistryProposal, genesis::Genesis},
    store::StoreOptions,
    transaction::VerifiedTransaction,
};
use customhouse_proto::v1::{self, registry_entry::Entry};
use prost::Message as _;

use crate::desk::{Answer, PROGRAM, program_in};

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
    let declaration = v1::Declaration { regime: 1, mrn: mrn.into(), ..Default::default() };
    let record = v1::Record {
        salt: vec![7; 32],
        submitter_role: v1::Role::Broker as i32,
        submitter_certificate: vec![6; 32],
        agency: "NL-DOUANE".into(),
        submitter: "broker".into(),
        body: Some(v1::record::Body::Declaration(declaration)),
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
    let (root, until) = (tip.registry.members_root(), TIME_MS + 3_600_000);
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
    run(dir, &format!("audit verify --genesis genesis.json {arguments}"))
}

fn run(dir: &Path, arguments: &str) -> (Option<i32>, String) {
    let answer = Answer::of(program_in(dir, PROGRAM).args(arguments.split_whitespace()));
    (Some(answer.code), answer.text())
}

/// A validator chain of one change, and the certified header after it.
fn changed(dir: &Path) -> (Vec<u8>, Header, Certificate) {
    let genesis = genesis();
    fs::write(dir.join("genesis.json"), genesis.to_json()).expect("written");
    let store = tempfile::tempdir().expect("a directory");
    let mut chain = Chain::open(store.path(), &genesis, &StoreOptions::default()).expect("opened");
    let transaction = exchange(&chain);
    commit(&mut chain, transaction, &key(1));
    let (_, transaction) = record(&chain, "24NL2");
    commit(&mut chain, transaction, &key(4));
    let steps = chain.reader().validator_changes(0, 10).expect("readable");
    let steps = steps.iter().map(|step| step.to_proto()).collect();
    let tip = chain.tip();
    let certificate = tip.certificate.clone().expect("certified");
    (v1::ValidatorChain { steps }.encode_to_vec(), tip.header.clone(), certificate)
}

fn finalized(header: &Header, validator: &SigningKey) -> Certificate {
    let (height, block_hash) = (header.height, header.hash());
    let ballot = Ballot { kind: VoteKind::Finalize, height, view: 1, block_hash };
    let vote = Vote::sign(ballot, &header.chain_id, validator);
    let entry = Validator { agency: "NL-DOUANE".parse().expect("a code"), key: validator.public() };
    let validators = ValidatorSet::new(vec![entry]).expect("a set");
    Certificate::from_votes(ballot, &[vote], &validators).expect("a quorum")
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
    // With the steps in it, the receipt needs nothing but the genesis; with wrong ones it is invalid.
    let mut whole = reader.receipt(&after).expect("readable").expect("committed");
    let chain = v1::ValidatorChain::decode(&bytes[..]).expect("a chain");
    assert!(embed_steps(&mut whole, &chain.steps));
    assert_eq!(whole.steps, chain.steps);
    write("whole.receipt", &whole.encode_to_vec());
    assert_eq!(verify(dir.path(), "whole.receipt").0, Some(0));
    assert_eq!(verify(dir.path(), "whole.receipt --validator-chain steps").0, Some(0));
    let mut early = reader.receipt(&before).expect("readable").expect("committed");
    assert!(embed_steps(&mut early, &chain.steps));
    assert_eq!(early.steps, [], "those below its height only");
    *whole.steps[0].certificate.last_mut().expect("a signature") ^= 1;
    write("wrong.receipt", &whole.encode_to_vec());
    assert_eq!(verify(dir.path(), "wrong.receipt").0, Some(1));

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
    assert_eq!(verify(dir.path(), "receipts --validator-chain steps").0, Some(1));
    write("steps", &bytes);
    write("receipts/validator.chain", &bytes);
    assert_eq!(verify(dir.path(), "receipts").0, Some(0), "beside the receipts");
    assert_eq!(verify(dir.path(), "receipts/after.receipt").0, Some(0), "beside the receipt");
}

#[test]
fn evidence_of_a_fork_after_a_change_is_examined_with_the_genesis_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let (chain, header, certificate) = changed(dir.path());
    let other = Header { time_ms: header.time_ms + 1, ..header.clone() };
    let twin = finalized(&other, &key(4));
    let side = |header: &Header, certificate: &Certificate| {
        let decided = Some((header.clone(), certificate.clone()));
        let decision = Decision { height: header.height, decided, grounds: Grounds::default() };
        decision::encode(&[decision])
    };
    let sides = [side(&header, &certificate), side(&other, &twin)];
    for (name, sides, chain) in [("whole", &sides[..], Some(&chain)), ("chainless", &sides, None)]
        .into_iter()
        .chain([("half", &sides[..1], Some(&chain))])
    {
        let side = |decisions: &Vec<u8>| {
            let decisions = hex::encode(decisions);
            serde_json::json!({
                "from": "a", "height": 2, "block_hash": header.hash(), "decisions": decisions,
            })
        };
        let mut file = serde_json::json!({
            "format": "customhouse fork evidence 1",
            "chain_id": header.chain_id,
            "sides": sides.iter().map(side).collect::<Vec<_>>(),
        });
        if let Some(chain) = chain {
            file["validator_chain"] = hex::encode(chain).into();
        }
        fs::write(dir.path().join(name), file.to_string()).expect("written");
    }
    fs::write(dir.path().join("chain"), &chain).expect("written");
    fs::write(dir.path().join("decisions"), &sides[1]).expect("written");
    for (files, code) in [
        ("whole", 3),
        ("chainless", 2),
        ("chainless --validator-chain chain", 3),
        // The chain in one file serves the other, whichever comes first.
        ("half decisions", 3),
        ("decisions half", 3),
        ("half", 2),
        ("decisions", 2),
    ] {
        let (found, stdout) =
            run(dir.path(), &format!("audit fork --genesis genesis.json {files}"));
        assert_eq!(found, Some(code), "{files}: {stdout}");
        let said = if files == "chainless" { "VALIDATOR_STEP_MISSING" } else { "NL-DOUANE" };
        assert!(code == 2 && files != "chainless" || stdout.contains(said), "{files}: {stdout}");
    }
}

/// It tells finalizations but no block: nothing of it verifies without the chain, and that is not an answer.
#[test]
fn what_a_halted_node_tells_after_a_change_is_not_called_sound_without_the_chain() {
    let dir = tempfile::tempdir().expect("a directory");
    let (chain, header, certificate) = changed(dir.path());
    let other = Header { time_ms: header.time_ms + 1, ..header.clone() };
    let certificates = vec![certificate, finalized(&other, &key(4))];
    let grounds = Grounds { certificates, ..Grounds::default() };
    let halted = Decision { height: header.height, decided: None, grounds };
    fs::write(dir.path().join("halted"), decision::encode(&[halted])).expect("written");
    fs::write(dir.path().join("chain"), chain).expect("written");
    let fork =
        |more: &str| run(dir.path(), &format!("audit fork halted --genesis genesis.json {more}"));
    let (code, stdout) = fork("");
    assert_eq!(code, Some(2), "{stdout}");
    let (code, stdout) = fork("--validator-chain chain");
    assert_eq!(code, Some(3), "{stdout}");
}

/// The saved head agrees with both, so the evidence must have the two that do not agree.
#[test]
fn a_proof_between_two_blocks_of_one_height_leaves_evidence_of_both() {
    let dir = tempfile::tempdir().expect("a directory");
    let (chain, to, certificate) = changed(dir.path());
    let from = Header { time_ms: to.time_ms + 1, ..to.clone() };
    let proof = v1::ConsistencyProof {
        from_certificate: finalized(&from, &key(4)).encode(),
        from_header: from.encode(),
        to_header: to.encode(),
        to_certificate: certificate.encode(),
        path: vec![],
    };
    let genesis = genesis().header();
    let head = serde_json::json!({
        "height": 0, "time_ms": genesis.time_ms, "log_size": 0, "log_root": genesis.log_root,
        "header": hex::encode(genesis.encode()), "certificate": "",
    });
    fs::write(dir.path().join("a.head"), head.to_string()).expect("written");
    fs::write(dir.path().join("proof"), proof.encode_to_vec()).expect("written");
    fs::write(dir.path().join("chain"), chain).expect("written");
    for saved in ["a.head", "none.head"] {
        let command = format!(
            "--output json audit consistency --proof proof --head {saved} --genesis genesis.json \
             --validator-chain chain"
        );
        let (code, stdout) = run(dir.path(), &command);
        assert_eq!(code, Some(3), "{stdout}");
        let answer: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
        let evidence = answer["evidence"].as_str().expect("written");
        let command = format!("audit fork {evidence} --genesis genesis.json");
        let (code, stdout) = run(dir.path(), &command);
        assert_eq!(code, Some(3), "{saved}: {stdout}");
    }
}

/// The nodes are down, and the head that was kept is from after a change.
#[test]
fn a_watch_goes_on_from_a_head_after_a_change_with_the_chain_beside_it_and_waits_without() {
    let dir = tempfile::tempdir().expect("a directory");
    let (chain, header, certificate) = changed(dir.path());
    assert_eq!(run(dir.path(), "network new --agencies NL-DOUANE,BE-AADA --dir net").0, Some(0));
    let profile = dir.path().join("net/NL-DOUANE/clients/auditor/client.toml");
    // A port that nobody answers at.
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("free").local_addr();
    let port = port.expect("bound").port();
    let text = fs::read_to_string(&profile).expect("made");
    let named = text.lines().map(|line| match line.starts_with("node") {
        true => format!("node = \"https://127.0.0.1:{port}\""),
        false => line.to_owned(),
    });
    fs::write(&profile, named.collect::<Vec<_>>().join("\n")).expect("written");
    fs::create_dir(dir.path().join("kept")).expect("made");
    let head = serde_json::json!({
        "height": header.height,
        "time_ms": header.time_ms,
        "log_size": header.log_size,
        "log_root": header.log_root,
        "header": hex::encode(header.encode()),
        "certificate": hex::encode(certificate.encode()),
    });
    let newest = dir.path().join("kept/newest.head");
    fs::write(&newest, head.to_string()).expect("written");
    let watch = || {
        let command = "--output json audit watch net/NL-DOUANE/clients/auditor --dir kept \
                       --genesis genesis.json --looks 2 --every 1";
        let (code, stdout) = run(dir.path(), command);
        assert_eq!(code, Some(2), "{stdout}");
        serde_json::from_str::<serde_json::Value>(&stdout).expect("one answer: nothing changed")
    };
    let waits = watch();
    let warning = waits["warning"].as_str().expect("a warning");
    assert!(warning.contains("step is missing"), "{waits}");
    assert_eq!(waits["nodes"].as_array().map(Vec::len), Some(1), "{waits}");
    assert_eq!(waits["rests_on"]["head_height"], serde_json::Value::Null, "{waits}");
    fs::write(dir.path().join("kept/validator.chain"), chain).expect("written");
    let goes_on = watch();
    assert_eq!(goes_on["warning"], serde_json::Value::Null, "{goes_on}");
    assert_eq!(goes_on["rests_on"]["head_height"], header.height, "{goes_on}");
}

/// Exit code and standard output of `store check` with a head that was saved.
fn check_with(dir: &Path, arguments: &str) -> (Option<i32>, String) {
    let check = "--output json store check --data-dir . --genesis genesis.json";
    run(dir, &format!("{check} {arguments}"))
}

#[test]
fn a_saved_head_tells_of_lost_blocks_only_where_a_quorum_signed_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let genesis = genesis();
    let store = dir.path().join("store");
    let mut chain = Chain::open(&store, &genesis, &StoreOptions::default()).expect("opened");
    let transaction = exchange(&chain);
    commit(&mut chain, transaction, &key(1));
    let (_, transaction) = record(&chain, "24NL2");
    commit(&mut chain, transaction, &key(4));
    let reader = chain.reader();
    let CertifiedHeader { header, certificate } =
        reader.header(2).expect("readable").expect("committed");
    let head = |certificate: &str| {
        serde_json::json!({
            "height": 2, "time_ms": header.time_ms, "log_size": header.log_size,
            "log_root": header.log_root, "header": hex::encode(header.encode()),
            "certificate": certificate,
        })
    };
    let signed = hex::encode(certificate.expect("of height 2").encode());
    let mut flipped = signed.clone().into_bytes();
    let last = flipped.len() - 1;
    flipped[last] = if flipped[last] == b'0' { b'1' } else { b'0' };
    let flipped = String::from_utf8(flipped).expect("digits");
    let write = |name: &str, bytes: &[u8]| {
        fs::write(dir.path().join(name), bytes).expect("written");
    };
    write("genesis.json", genesis.to_json().as_bytes());
    let steps = reader.validator_changes(0, 10).expect("readable");
    let steps = steps.iter().map(|step| step.to_proto()).collect();
    write("steps", &v1::ValidatorChain { steps }.encode_to_vec());
    for (name, certificate) in [("good", &*signed), ("flipped", &*flipped), ("unsigned", "")] {
        write(name, head(certificate).to_string().as_bytes());
    }
    drop((chain, reader));

    let steps = "--validator-chain steps";
    let (code, answer) = check_with(dir.path(), &format!("--head good {steps}"));
    assert_eq!(code, Some(0), "{answer}");
    for (arguments, says) in [
        ("--head good".to_owned(), "VALIDATOR_STEP_MISSING"),
        (format!("--head flipped {steps}"), "CERTIFICATE_INVALID"),
        (format!("--head unsigned {steps}"), "CERTIFICATE_MALFORMED"),
    ] {
        let (code, answer) = check_with(dir.path(), &arguments);
        assert_eq!(code, Some(2), "{arguments}: {answer}");
        assert!(
            answer.contains(says) && !answer.contains("proof of a fork"),
            "{arguments}: {answer}"
        );
    }
    // Another chain of the same genesis is one to keep.
    fs::rename(&store, dir.path().join("first")).expect("moved");
    let mut chain = Chain::open(&store, &genesis, &StoreOptions::default()).expect("opened");
    for mrn in ["24NL3", "24NL4"] {
        let (_, transaction) = record(&chain, mrn);
        commit(&mut chain, transaction, &key(1));
    }
    drop(chain);
    let (code, answer) = check_with(dir.path(), &format!("--head good {steps}"));
    assert_eq!(code, Some(1), "{answer}");
    assert!(answer.contains("proof of a fork"), "{answer}");
}

#[test]
fn a_receipt_is_shown_with_its_record_and_says_whether_it_was_verified() {
    let dir = tempfile::tempdir().expect("a directory");
    let genesis = genesis();
    let store = dir.path().join("store");
    let mut chain = Chain::open(&store, &genesis, &StoreOptions::default()).expect("opened");
    let (id, transaction) = record(&chain, "24NL1");
    commit(&mut chain, transaction, &key(1));
    let receipt = chain.reader().receipt(&id).expect("readable").expect("committed");
    let file = dir.path().join("a.receipt");
    fs::write(&file, receipt.encode_to_vec()).expect("written");
    fs::write(dir.path().join("genesis.json"), genesis.to_json()).expect("written");
    let show = |more: &[&str]| {
        let mut command = program_in(dir.path(), PROGRAM);
        let answer = Answer::of(command.args(["audit", "show", "a.receipt"]).args(more));
        (Some(answer.code), answer.said())
    };
    let (code, said) = show(&["--genesis", "genesis.json"]);
    assert_eq!(code, Some(0), "{said}");
    for part in [&id.to_string()[..], "24NL1", "lodged by", "signed by", "height      1"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("NOT VERIFIED"), "{said}");
    let (code, said) = show(&[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("NOT VERIFIED") && said.contains("24NL1"), "{said}");
    let (code, said) = show(&["--genesis", "genesis.json", "--source", "source.xml"]);
    assert_ne!(code, Some(0), "{said}");
    assert!(said.contains("no source"), "{said}");
}
