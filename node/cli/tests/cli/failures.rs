//! What the program says and leaves behind where it gives no answer: exit codes, stable codes, one
//! document for scripts, and every file as it was.

use std::{ffi::OsString, fs, os::unix::ffi::OsStringExt as _, path::Path, process::Command};

use customhouse_ledger::{chain::Chain, registry::genesis::Genesis, store::StoreOptions};
use serde_json::{Value, json};

use crate::desk::{Desk, vector};

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("text")).expect("hexadecimal")
}

/// A desk with the published vectors as files.
fn desk_with_vectors() -> Desk {
    let desk = Desk::new();
    desk.write("genesis.json", vector("genesis.json")["json"].to_string());
    let receipts = vector("receipt.json");
    desk.write("receipt", bytes(&receipts["receipt"]));
    let later = receipts["valid"].as_array().expect("a list");
    let later = later.iter().find(|case| !case["validator_chain"].is_null()).expect("one");
    desk.write("later", bytes(&later["bytes"]));
    desk.write("chain", bytes(&vector("validator_chain.json")["chain"]));
    desk.write("consistency", bytes(&vector("consistency_proof.json")["proof"]));
    desk.write("tlog", vector("tlog.json")["proof"].as_str().expect("text"));
    desk
}

#[test]
fn what_is_invalid_is_told_from_what_cannot_be_read_with_its_code() {
    let desk = desk_with_vectors();
    let chain = fs::read(desk.path("chain")).expect("written");
    let mut flipped = chain.clone();
    *flipped.last_mut().expect("not empty") ^= 1;
    desk.write("flipped", flipped);
    desk.write("cut", &chain[..chain.len() - 1]);
    desk.write("brace", "{");
    for folder in ["binary", "text", "large", "empty"] {
        fs::create_dir(desk.path(folder)).expect("made");
    }
    desk.write("binary/history.proof", [7, 7]);
    desk.write("text/history.proof", "{}");
    desk.write_large("large/history.proof");
    desk.write_large("zeros");
    desk.run("network new --agencies NL-DOUANE,BE-AADA --dir net").exits(0);
    let pipe = Command::new("mkfifo").arg(desk.path("pipe")).status().expect("it runs");
    assert!(pipe.success());

    let genesis = "--genesis genesis.json";
    let consistency = format!("audit consistency {genesis} --proof");
    let history = format!("audit history mrn:24NL1 {genesis} --files");
    let verify = format!("audit verify later {genesis} --validator-chain");
    let foreign = "audit verify receipt --genesis net/genesis.json --validator-chain chain";
    for (command, exit, code) in [
        (format!("{verify} flipped"), 1, "STEP_VALIDATORS"),
        (format!("{verify} cut"), 1, "STEP_MALFORMED"),
        (format!("{verify} brace"), 1, "PROOF_JSON"),
        (format!("{verify} zeros"), 1, "STEP_MALFORMED"),
        (format!("{verify} absent"), 2, ""),
        (format!("{verify} pipe"), 2, ""),
        (foreign.to_owned(), 1, "WRONG_CHAIN"),
        ("audit verify receipt --genesis brace".to_owned(), 1, "GENESIS_JSON"),
        ("audit verify receipt --genesis zeros".to_owned(), 1, "GENESIS_TOO_LARGE"),
        ("audit verify receipt --genesis absent".to_owned(), 2, ""),
        (format!("{history} text"), 1, "PROOF_JSON"),
        (format!("{history} large"), 1, "HISTORY_PROOF_TOO_LARGE"),
        (format!("{history} empty"), 2, ""),
        (format!("{consistency} zeros"), 1, "CONSISTENCY_PROOF_TOO_LARGE"),
        (format!("{consistency} brace"), 1, "PROOF_JSON"),
        (format!("{consistency} consistency --head brace"), 1, "SAVED_HEAD"),
        (format!("audit verify-tlog-proof zeros {genesis}"), 1, "TLOG_PROOF_MALFORMED"),
        (format!("audit verify-tlog-proof absent {genesis}"), 2, ""),
    ] {
        let found = desk.json(&command, exit);
        let expected = if exit == 1 { "invalid" } else { "not_enough_evidence" };
        assert_eq!(found["verdict"], expected, "{command}");
        assert_eq!(found["code"].as_str().unwrap_or_default(), code, "{command}: {found}");
        let said = desk.run(&command).stderr;
        assert!(said.contains(code), "{command}: {said}");
    }
    let malformed = desk.json(&format!("{history} binary"), 1);
    let reason = malformed["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("HISTORY_PROOF_MALFORMED"), "{malformed}");
    let large = desk.json(&format!("audit verify zeros {genesis}"), 1);
    assert_eq!(large["receipts"][0]["code"], "RECEIPT_TOO_LARGE");
    let missing = desk.json(&format!("audit verify later {genesis}"), 2);
    assert_eq!(missing["receipts"][0]["code"], "VALIDATOR_STEP_MISSING");
    let piped = desk.json(&format!("audit verify pipe {genesis}"), 2);
    let reason = piped["receipts"][0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("a pipe"), "{piped}");
}

#[test]
fn wrong_arguments_are_64_where_exit_codes_are_verdicts() {
    let desk = desk_with_vectors();
    let genesis = "--genesis genesis.json";
    for (command, says) in [
        (format!("audit history mrn:24NL1 {genesis}"), "--profile"),
        (format!("audit consistency {genesis} --node https://127.0.0.1:1"), "--profile"),
        (format!("audit watch {genesis}"), "which nodes"),
        ("audit decisions --height 13 --to 3 --out a".to_owned(), "--to"),
        ("audit verify".to_owned(), "required"),
        (format!("audit absent mrn:24nl-1 {genesis} --files ."), "U+002D"),
        (
            format!("audit history declaration-reference:U.1 {genesis} --files ."),
            "AGENCY/REFERENCE",
        ),
        (
            format!("audit export history container:CSQU3054384 {genesis} --files . --out o"),
            "check digit",
        ),
        ("store backup --to b".to_owned(), "--to"),
        ("store backup --keep 0".to_owned(), "--keep"),
        (format!("store backup --data-dir d {genesis}"), "--to"),
        (format!("store restore --data-dir d {genesis}"), "--from"),
    ] {
        let found = desk.json(&command, 64);
        let error = found["error"].as_str().expect("an error");
        assert!(desk.run(&command).stderr.contains(says), "{command}");
        assert!(!error.is_empty() && found.get("verdict").is_none(), "{command}: {found}");
    }
    desk.json("query status", 2);
    desk.json("query", 2);
}

#[test]
fn every_failure_is_one_document_for_scripts() {
    let desk = desk_with_vectors();
    desk.run("network new --agencies NL-DOUANE,BE-AADA --dir net").exits(0);
    let config = "--config net/NL-DOUANE/node.toml";
    desk.write("brace", "{");
    let other = "ab".repeat(32);
    for (command, exit, code) in [
        (format!("store check {config}"), 2, json!("STORE_MISSING")),
        (format!("store rebuild {config}"), 2, json!("STORE_MISSING")),
        (format!("store backup {config} --to b"), 2, json!("STORE_MISSING")),
        (format!("store restore {config} --from b"), 2, Value::Null),
        ("store check --config absent".to_owned(), 2, Value::Null),
        ("store check --data-dir d --genesis brace".to_owned(), 2, json!("GENESIS_JSON")),
        ("genesis show brace".to_owned(), 1, json!("GENESIS_JSON")),
        ("genesis verify absent".to_owned(), 1, Value::Null),
        (format!("genesis verify genesis.json --chain-id {other}"), 1, Value::Null),
        ("network status --dir absent".to_owned(), 1, Value::Null),
        ("--profile net/NL-DOUANE/clients/officer query status".to_owned(), 1, Value::Null),
        ("node run --config absent".to_owned(), 2, Value::Null),
        ("keys show absent".to_owned(), 1, Value::Null),
    ] {
        let found = desk.json(&command, exit);
        assert!(
            found["error"].as_str().is_some_and(|error| !error.is_empty()),
            "{command}: {found}"
        );
        assert_eq!(found["code"], code, "{command}: {found}");
    }
}

#[test]
fn nothing_that_is_there_is_written_over() {
    let desk = desk_with_vectors();
    desk.run("network new --agencies NL-DOUANE,BE-AADA --dir net").exits(0);
    let node = "--profile net/NL-DOUANE/clients/auditor";
    let genesis = "--genesis genesis.json";
    desk.write("pk.key", "a secret");
    for command in [
        format!("{node} audit validator-chain {genesis} --out pk.key"),
        format!("{node} audit tlog-proof receipt {genesis} --out pk.key"),
        format!("{node} audit tlog-proof receipt {genesis} --out new --leaf pk.key"),
        format!("{node} audit consistency {genesis} --write-proof pk.key"),
        format!("{node} audit decisions --height 1 --out pk.key"),
    ] {
        let said = desk.run(&command).exits(2).stderr;
        assert!(said.contains("pk.key: a file is there already"), "{command}: {said}");
    }
    let head = format!("audit consistency {genesis} --proof consistency --head");
    desk.run(&format!("{head} pk.key")).exits(1);
    assert_eq!(desk.read("pk.key"), "a secret");
    assert!(!desk.path("new").exists());
    desk.run(&format!("{head} /dev/null")).exits(2);
    desk.run(&format!("{head} a.head")).exits(0);
    desk.run(&format!("{head} a.head")).exits(2);
}

#[test]
fn names_of_bytes_that_are_no_text_keep_no_answer_back() {
    let desk = desk_with_vectors();
    let name = OsString::from_vec(b"bad\xff.receipt".to_vec());
    fs::copy(desk.path("receipt"), desk.path(&name)).expect("copied");
    let mut arguments: Vec<OsString> =
        ["--output", "json", "audit", "verify", "--genesis", "genesis.json"].map(Into::into).into();
    arguments.push(name);
    let answer = desk.call(&arguments).exits(0);
    let found = answer.json();
    assert_eq!(found["receipts"][0]["file"], "bad\u{fffd}.receipt");
}

#[test]
fn nothing_is_said_that_was_not_found() {
    let desk = desk_with_vectors();
    let tlog = vector("tlog.json");
    let key = tlog["verifier_key"].as_str().expect("text");
    let genesis = "--genesis genesis.json";
    let verify = format!("audit verify-tlog-proof tlog {genesis}");
    let good = desk.run(&format!("{verify} --vkey {key}")).exits(0).text();
    assert!(good.contains("checkpoint signed by"), "{good}");
    let refused = tlog["refused_proofs"].as_array().expect("a list");
    let foreign = refused.iter().find(|case| case["code"] == "NOTE_SIGNATURE").expect("one");
    desk.write("foreign", foreign["proof"].as_str().expect("text"));
    let verify = format!("audit verify-tlog-proof foreign {genesis} --vkey {key}");
    let wrong = desk.run(&verify).exits(1).text();
    assert!(wrong.contains("NOTE_SIGNATURE") && !wrong.contains("checkpoint signed by"), "{wrong}");
    assert_eq!(desk.json(&verify, 1).get("verifier_key"), None);

    let proof = format!("audit consistency {genesis} --proof consistency --head a.head");
    let said = desk.run(&proof).exits(0).text();
    assert!(said.contains("proof  height"), "{said}");
    assert!(said.contains("the proof's head is saved") && !said.contains("node"), "{said}");
}

#[test]
fn a_store_check_asks_only_its_own_journal_and_certified_heads() {
    let desk = desk_with_vectors();
    desk.run("network new --agencies NL-DOUANE,BE-AADA --dir net").exits(0);
    let text = fs::read_to_string(desk.path("net/genesis.json")).expect("readable");
    let genesis = Genesis::from_json(&text).expect("valid");
    let store = desk.path("net/NL-DOUANE/data/store");
    fs::create_dir_all(&store).expect("made");
    drop(Chain::open(&store, &genesis, &StoreOptions::default()).expect("begun"));
    let config = "--config net/NL-DOUANE/node.toml";
    let check = format!("store check {config}");
    assert_eq!(desk.json(&check, 0).get("not_compared"), None);

    // A head that no quorum signed says nothing.
    let mut head = json!({
        "height": 0, "time_ms": genesis.time_ms, "log_size": 0,
        "log_root": genesis.header().log_root, "header": hex::encode(genesis.header().encode()),
        "certificate": "",
    });
    desk.write("a.head", head.to_string());
    desk.json(&format!("{check} --head a.head"), 0);
    head["time_ms"] = json!(genesis.time_ms + 1);
    desk.write("other.head", head.to_string());
    let mut header = genesis.header();
    header.time_ms += 1;
    head["header"] = json!(hex::encode(header.encode()));
    desk.write("forged.head", head.to_string());
    for (file, code) in [("other.head", "SAVED_HEAD"), ("forged.head", "HEADER_NOT_GENESIS")] {
        let refused = desk.json(&format!("{check} --head {file}"), 2);
        assert!(refused["error"].as_str().is_some_and(|error| error.contains(code)), "{refused}");
    }

    let inside = desk.json(&format!("store backup {config} --to net/NL-DOUANE/data/store/b"), 2);
    assert_eq!(inside["code"], "BACKUP_IN_STORE", "{inside}");
    assert!(!store.join("b").exists());
    let made = desk.json(&format!("store backup {config} --to b"), 0);
    assert_eq!(made["directory"].as_str().map(Path::new), Some(&*desk.path("b")), "{made}");

    let journal = |agency: &str| desk.path(format!("net/{agency}/keys/validator.journal"));
    fs::copy(journal("BE-AADA"), journal("NL-DOUANE")).expect("copied");
    let refused = desk.json(&check, 2);
    assert!(refused["error"].as_str().is_some_and(|e| e.contains("belongs to key")), "{refused}");
    fs::remove_file(journal("NL-DOUANE")).expect("there");
    let missing = desk.json(&check, 0);
    let told = missing["not_compared"][0].as_str().expect("told");
    assert!(told.contains("validator.journal"), "{missing}");
}
