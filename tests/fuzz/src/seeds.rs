//! What the fuzzer begins from: the cases and values of docs/vectors, by target.

use std::{collections::BTreeMap, sync::LazyLock};

use customhouse_proto::v1;
use prost::Message as _;
use serde_json::Value;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../docs/vectors/", $name)))),*]
    };
}

/// Every file of docs/vectors, and its text.
pub const FILES: &[(&str, &str)] = files![
    "agreement.json",
    "attachment.json",
    "authority.json",
    "consistency_proof.json",
    "decisions.json",
    "genesis.json",
    "header.json",
    "history.json",
    "history_proof.json",
    "keys.json",
    "merkle.json",
    "misbehaviour.json",
    "outcomes.json",
    "proof_json.json",
    "receipt.json",
    "record.json",
    "registry_change.json",
    "sealed_history_proof.json",
    "tags.json",
    "tlog.json",
    "transaction.json",
    "unicode.json",
    "validator_chain.json",
    "votes.json",
    "vrf.json",
];

static VECTORS: LazyLock<BTreeMap<&str, Value>> = LazyLock::new(|| {
    let parse = |text| serde_json::from_str(text).expect("docs/vectors is JSON");
    FILES.iter().map(|(name, text)| (*name, parse(text))).collect()
});

/// Bytes to begin from.
#[derive(Clone, Debug)]
pub struct Seed {
    /// What it is.
    pub name: String,
    /// What the published case says of it; `None` where it is not a case.
    pub valid: Option<bool>,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// The seeds of a target: the cases of the structure of its name, and what else of docs/vectors it
/// reads.
pub fn of(target: &str) -> Vec<Seed> {
    let mut seeds = cases(target);
    let others = values(target).into_iter().enumerate();
    seeds.extend(others.map(|(index, bytes)| {
        let name = format!("value {index} of docs/vectors");
        Seed { name, valid: None, bytes }
    }));
    seeds
}

/// Names of all structures that have cases.
pub fn structures() -> Vec<String> {
    let cases = VECTORS.values().flat_map(|file| list(&file["valid"]));
    let mut names: Vec<_> = cases.map(|case| text(&case["structure"]).to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

/// A value of a file of docs/vectors, by JSON pointer.
pub(crate) fn value(file: &str, pointer: &str) -> &'static Value {
    VECTORS[file].pointer(pointer).unwrap_or_else(|| panic!("{file} has no {pointer}"))
}

/// The same, as the bytes that its hexadecimal stands for.
pub(crate) fn bytes(file: &str, pointer: &str) -> Vec<u8> {
    from_hex(value(file, pointer))
}

fn cases(structure: &str) -> Vec<Seed> {
    let mut found = Vec::new();
    for (list_name, name, valid) in [("valid", "name", true), ("refused", "change", false)] {
        let all = VECTORS.values().flat_map(|file| list(&file[list_name]));
        found.extend(all.filter(|case| case["structure"] == structure).map(|case| Seed {
            name: format!("{list_name}: {}", text(&case[name])),
            // What is refused beside a chain of validators contradicts that one, and may hold by itself.
            valid: (valid || case["validator_chain"].is_null()).then_some(valid),
            bytes: given(case),
        }));
    }
    found
}

fn given(case: &Value) -> Vec<u8> {
    if let (Value::String(repeated), Some(times)) = (&case["repeated"], case["times"].as_u64()) {
        let times = usize::try_from(times).expect("a count");
        return [from_hex(&case["bytes"]), hex::decode(repeated).expect("hex").repeat(times)]
            .concat();
    }
    match (&case["zeros"], &case["text"]) {
        (Value::Number(count), _) => vec![0; count.as_u64().expect("a count") as usize],
        (_, Value::String(text)) => text.clone().into_bytes(),
        _ => from_hex(&case["bytes"]),
    }
}

fn values(target: &str) -> Vec<Vec<u8>> {
    match target {
        "block" => vec![block().encode_to_vec()],
        "consensus_message" => consensus_messages(),
        "transaction_header" => vec![bytes("transaction.json", "/header")],
        "history_entry" => each("header.json", "/history_entries", from_hex),
        "outcome" => outcomes(),
        "frontier" => vec![bytes("merkle.json", "/frontier_of_7")],
        "claim" => claims(),
        "misbehaviour" => vec![misbehaviour()],
        "registry_proposal" => vec![bytes("registry_change.json", "/proposal")],
        "merkle_inclusion" => inclusions(),
        "merkle_consistency" => each("merkle.json", "/consistency", |row| {
            let sizes = ["from", "to"].map(|name| row[name].as_u64().expect("a size") as u8);
            [&sizes[..], &path(&row["path"])].concat()
        }),
        "entry_bundle" => vec![bytes("tlog.json", "/entries")],
        "note" => notes(),
        "checkpoint" => notes().iter().map(|note| signed_text(note)).collect(),
        "tile_path" => each("tlog.json", "/paths", |row| as_bytes(&row["path"])),
        "verifier_key" => vec![as_bytes(value("tlog.json", "/verifier_key"))],
        "tlog_proof" => tlog_proofs(),
        _ => vec![],
    }
}

fn block() -> v1::Block {
    let header = bytes("header.json", "/header");
    v1::Block { header, leaves: each("header.json", "/leaves", from_hex) }
}

/// Some of each kind.
fn consensus_messages() -> Vec<Vec<u8>> {
    use v1::consensus_message::Message;
    let proposal = value("votes.json", "/proposal");
    let proposal = Message::Proposal(v1::Proposal {
        view: 3,
        parent_view: 1,
        block: Some(block()),
        leader: from_hex(&proposal["leader"]),
        signature: from_hex(&proposal["signature"]),
    });
    let vote = |vote: &Value| {
        let number = |field: &str| vote[field].as_u64().expect("a number");
        let kind = number("kind") as i32;
        let nullifies = kind == v1::vote::Kind::Nullify as i32;
        Message::Vote(v1::Vote {
            kind,
            height: number("height"),
            view: number("view"),
            block_hash: if nullifies { vec![] } else { from_hex(&vote["block_hash"]) },
            validator: from_hex(&vote["validator"]),
            signature: from_hex(&vote["signature"]),
        })
    };
    let certificate = |row: &Value| Message::Certificate(from_hex(&row["certificate"]));
    let certificate_bytes = bytes("votes.json", "/certificates/0/certificate");
    let tip = v1::Tip { header: bytes("header.json", "/header"), certificate: certificate_bytes };
    let mut messages = vec![proposal, Message::Tip(tip)];
    messages.extend(list(value("votes.json", "/votes")).iter().map(vote));
    messages.extend(list(value("votes.json", "/certificates")).iter().map(certificate));
    let encode = |message| v1::ConsensusMessage { message: Some(message) }.encode_to_vec();
    messages.into_iter().map(encode).collect()
}

fn claims() -> Vec<Vec<u8>> {
    let decisions = ["/one", "/other"].map(|pointer| bytes("decisions.json", pointer));
    let decode = |bytes: Vec<u8>| v1::Decisions::decode(&bytes[..]).expect("published");
    let all = decisions.into_iter().flat_map(|bytes| decode(bytes).decisions);
    all.flat_map(|decision| decision.proposals).collect()
}

fn outcomes() -> Vec<Vec<u8>> {
    let transactions = list(value("outcomes.json", "/transactions"));
    transactions.iter().flat_map(|transaction| list(&transaction["leaves"])).map(from_hex).collect()
}

fn misbehaviour() -> Vec<u8> {
    let [first, second] = ["/first", "/second"].map(|name| bytes("misbehaviour.json", name));
    v1::Misbehaviour { first, second }.encode_to_vec()
}

/// Index, size and path, for every leaf of every tree.
fn inclusions() -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for tree in list(value("merkle.json", "/trees")) {
        let size = tree["size"].as_u64().expect("a size") as u8;
        let paths = list(&tree["inclusion_paths"]).iter().zip(0u8..);
        found.extend(paths.map(|(elements, index)| [&[index, size], &path(elements)[..]].concat()));
    }
    found
}

fn path(elements: &Value) -> Vec<u8> {
    list(elements).iter().flat_map(from_hex).collect()
}

/// The published checkpoint, and those in the proofs.
fn notes() -> Vec<Vec<u8>> {
    let of_proof = |proof: &Vec<u8>| {
        let text = String::from_utf8(proof.clone()).expect("text");
        text.split_once("\n\n").expect("an empty line").1.as_bytes().to_vec()
    };
    let mut notes = vec![as_bytes(value("tlog.json", "/checkpoint"))];
    notes.extend(tlog_proofs().iter().map(of_proof));
    notes.sort();
    notes.dedup();
    notes
}

fn signed_text(note: &[u8]) -> Vec<u8> {
    let end = note.windows(2).rposition(|pair| pair == b"\n\n").expect("an empty line");
    note[..=end].to_vec()
}

fn tlog_proofs() -> Vec<Vec<u8>> {
    let mut proofs = vec![as_bytes(value("tlog.json", "/proof"))];
    proofs.extend(each("tlog.json", "/refused_proofs", |row| as_bytes(&row["proof"])));
    proofs
}

fn each(file: &str, pointer: &str, read: fn(&Value) -> Vec<u8>) -> Vec<Vec<u8>> {
    list(value(file, pointer)).iter().map(read).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

fn as_bytes(value: &Value) -> Vec<u8> {
    text(value).as_bytes().to_vec()
}

fn from_hex(value: &Value) -> Vec<u8> {
    hex::decode(text(value)).expect("hexadecimal")
}
