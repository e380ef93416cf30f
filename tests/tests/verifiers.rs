//! Two verifiers, in two languages, the one written from docs/FORMATS.md alone, say the same.

use std::{env, fs, path::PathBuf};

use customhouse_ledger::registry::genesis::Genesis;
use customhouse_tests::python;
use rand::{Rng as _, RngExt as _, SeedableRng as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

#[path = "../../ledger/tests/vectors/outcome.rs"]
mod outcome;

use outcome::outcome;

/// Damaged forms of each published case.
const DAMAGED: usize = 8;

/// Most bytes of a case that is damaged: the larger ones are mostly zeros.
const BYTES_MAX: usize = 8192;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/vectors")
}

fn read(name: &str) -> Value {
    let text = fs::read_to_string(folder().join(name)).expect("a published vector");
    serde_json::from_str(&text).expect("JSON")
}

fn genesis_bytes() -> Vec<u8> {
    bytes_of(&read("genesis.json")["protobuf"])
}

fn bytes_of(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap_or_default()).expect("hexadecimal")
}

/// Bytes of a structure, and what they are verified with.
struct Given {
    structure: String,
    bytes: Vec<u8>,
    chain: Vec<u8>,
}

/// The published cases that are not large.
fn published() -> Vec<Given> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder()).expect("docs/vectors") {
        let name = entry.expect("an entry").file_name();
        let file = read(&name.to_string_lossy());
        let lists = ["valid", "refused"].map(|list| file.get(list).and_then(Value::as_array));
        for case in lists.into_iter().flatten().flatten() {
            let text = case["text"].as_str().map(|text| text.as_bytes().to_vec());
            all.push(Given {
                structure: case["structure"].as_str().expect("text").to_owned(),
                bytes: text.unwrap_or_else(|| bytes_of(&case["bytes"])),
                chain: bytes_of(&case["validator_chain"]),
            });
        }
    }
    all.retain(|given| given.bytes.len() <= BYTES_MAX);
    all.sort_by(|a, b| (&a.structure, &a.bytes).cmp(&(&b.structure, &b.bytes)));
    all
}

#[test]
fn the_python_verifier_takes_and_refuses_what_is_published() {
    let stdout = python::succeeded(&mut python::program("vectors_test.py"));
    eprintln!("{stdout}");
    for said in ["cases agree", "flipped bits refused"] {
        assert!(stdout.contains(said), "{said}: {stdout}");
    }
}

/// A few bytes flipped, set, cut out, put in, or taken from another case.
fn damaged(bytes: &[u8], others: &[Given], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.random_range(1..=2) {
        let at = random.random_range(0..=bytes.len());
        let end = bytes.len().min(at + random.random_range(1..=40));
        match random.random_range(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = (random.next_u32() & 0xff) as u8,
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => bytes.insert(at, (random.next_u32() & 0xff) as u8),
            _ => {
                let other = &others.choose(random).expect("not empty").bytes;
                let from = random.random_range(0..=other.len());
                let to = other.len().min(from + random.random_range(1..=80));
                bytes.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn both_verifiers_say_the_same_of_damaged_vectors() {
    let seed = env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let cases = published();
    assert!(cases.len() > 300, "{} cases", cases.len());
    let mut all = Vec::new();
    for given in &cases {
        for _ in 0..DAMAGED {
            let bytes = damaged(&given.bytes, &cases, &mut random);
            let (structure, chain) = (given.structure.clone(), given.chain.clone());
            all.push(Given { structure, bytes, chain });
        }
    }
    let line = |given: &Given| {
        let Given { structure, bytes, chain } = given;
        let (bytes, chain) = (hex::encode(bytes), hex::encode(chain));
        json!({ "structure": structure, "bytes": bytes, "validator_chain": chain }).to_string()
    };
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("damaged");
    fs::write(&file, all.iter().map(line).collect::<Vec<_>>().join("\n")).expect("written");
    let stdout = python::succeeded(python::program("vectors_test.py").arg("--outcomes").arg(&file));
    let genesis = Genesis::from_bytes(&genesis_bytes()).expect("a genesis");
    assert_eq!(stdout.lines().count(), all.len());
    let mut taken = 0;
    for (given, python) in all.iter().zip(stdout.lines()) {
        let ours = outcome(&genesis, &given.structure, &given.bytes, &given.chain);
        taken += usize::from(ours.is_ok());
        assert_eq!(ours.err().unwrap_or("-"), python, "{}", line(given));
    }
    eprintln!("{} damaged structures, {taken} of them still valid", all.len());
}

/// As an auditor runs it, on files.
#[test]
fn the_python_verifier_verifies_files_and_says_what_it_refuses() {
    let dir = tempfile::tempdir().expect("a directory");
    let write =
        |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).expect("written");
    let vector = |name: &str, field: &str| bytes_of(&read(name)[field]);
    write("genesis.json", read("genesis.json")["json"].to_string().as_bytes());
    write("genesis.bin", &genesis_bytes());
    write("chain", &vector("validator_chain.json", "chain"));
    write("consistency", &vector("consistency_proof.json", "proof"));
    write("history", &vector("history_proof.json", "proof"));
    write("receipt", &vector("receipt.json", "receipt"));
    write("sealed", &vector("sealed_history_proof.json", "proof"));
    let partial = read("sealed_history_proof.json")["valid"].as_array().expect("a list").clone();
    let partial = partial.iter().find(|case| case["answer"]["complete"] == false).expect("one");
    write("partial", &bytes_of(&partial["bytes"]));
    let json = &read("proof_json.json")["valid"][0];
    assert_eq!(json["structure"], "receipt_json");
    write("receipt.json", json["text"].as_str().expect("text").as_bytes());
    let later = read("receipt.json")["valid"].as_array().expect("a list").clone();
    let later = later.iter().find(|case| !case["validator_chain"].is_null()).expect("one");
    write("later", &bytes_of(&later["bytes"]));
    let mut forged = vector("receipt.json", "receipt");
    *forged.last_mut().expect("not empty") ^= 1;
    write("forged", &forged);
    let run = |genesis: &str, arguments: &str| {
        let mut command = python::program("verify.py");
        command.args(["--genesis", genesis]).args(arguments.split_whitespace());
        let output = python::output(command.current_dir(dir.path()));
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), stdout + &String::from_utf8_lossy(&output.stderr))
    };
    for (arguments, code, said) in [
        ("receipt receipt receipt.json", 0, "its bytes checked, stated by Broker & Sons as broker"),
        ("receipt receipt forged", 1, "forged: refused: RECEIPT_OUTCOME"),
        ("receipt later", 1, "VALIDATOR_STEP_MISSING"),
        ("--validator-chain chain receipt later", 0, "verified"),
        ("history history", 0, "are all"),
        ("--subject MRN:24NL1 history history", 1, "HISTORY_OTHER_SUBJECT"),
        ("consistency consistency", 0, "5 of 6 transactions"),
        ("sealed-history sealed", 0, "verified: complete"),
        ("sealed-history partial", 3, "not covered: epoch 2, BE-DOUANE"),
        ("--sealed-subject MRN:24NL1 sealed-history sealed", 1, "SEALED_HISTORY_OTHER_SUBJECT"),
        ("chain chain", 0, "2 changes"),
        ("chain receipt", 1, "STEP_MALFORMED"),
        ("receipt absent", 2, "absent"),
    ] {
        for genesis in ["genesis.json", "genesis.bin"] {
            let (found, text) = run(genesis, arguments);
            assert_eq!(found, Some(code), "{arguments}: {text}");
            assert!(text.contains(said), "{arguments}: {text}");
        }
    }
}
