//! The log as the tools of transparency logs see it. What checks it here are the published crates
//! `signed_note` and `tlog_tiles`, unchanged; nothing of the node's own code does.

use std::{fs, io::Read as _, net::SocketAddr, path::Path};

use customhouse_client::ClientError;
use customhouse_ledger::{proofs::json::to_json, transaction::TransactionHeader};
use customhouse_proto::v1;
use customhouse_tests::{
    cluster::{Cluster, Head},
    http,
    program::{self, Answer},
    records::submission,
};
use flate2::read::GzDecoder;
use prost::Message as _;
use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::{
    Checkpoint, Error, Hash, HashReader as _, Tile, TileHashReader, TileReader, check_record,
    check_tree, prove_record, prove_tree, record_hash, stored_hash_index, tree_hash,
};
use tonic::Code;

use crate::{
    agreement::submit_final,
    stores::{flip, store},
};

/// Height of a tile in tlog-tiles, which the crate's paths name and those of a log do not.
const TILE_HEIGHT: u8 = 8;

/// A log behind an address, as a reader of tiles.
struct Log {
    address: SocketAddr,
    /// Turns one bit of every tile that it reads, as a lying or damaged log would.
    lies: bool,
}

impl Log {
    fn of(cluster: &Cluster, node: usize) -> Self {
        let tlog = cluster.agency(node).config.tlog.as_ref();
        Self { address: tlog.expect("the layout has it").listen, lies: false }
    }

    fn get(&self, path: &str) -> http::Response {
        http::get(self.address, path).expect("the log is served")
    }

    /// What must be there.
    fn found(&self, path: &str) -> Vec<u8> {
        let response = self.get(path);
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        response.body
    }

    /// The checkpoint, its note verified.
    fn checkpoint(&self, vkey: &str) -> Checkpoint {
        verified(&self.found("/checkpoint"), vkey).expect("a note of this node's")
    }

    /// The log's entries from their bundles, checked against the hashes of its tiles.
    fn entries(&self, checkpoint: &Checkpoint) -> Vec<Vec<u8>> {
        let size = checkpoint.size();
        let mut entries = Vec::new();
        for index in 0..size.div_ceil(256) {
            let width = u32::try_from((size - index * 256).min(256)).expect("at most 256");
            let mut bundle = &self.found(&bundle_path(index, width))[..];
            while let Some((length, rest)) = bundle.split_first_chunk() {
                let (entry, rest) = rest.split_at(u16::from_be_bytes(*length).into());
                entries.push(entry.to_vec());
                bundle = rest;
            }
        }
        assert_eq!(entries.len() as u64, size);
        let reader = TileHashReader::new(size, *checkpoint.hash(), self);
        let indexes: Vec<_> = (0..size).map(|index| stored_hash_index(0, index)).collect();
        let hashes = reader.read_hashes(&indexes).expect("tiles that lead to the root");
        assert!(entries.iter().map(|entry| record_hash(entry)).eq(hashes));
        entries
    }
}

impl TileReader for Log {
    fn height(&self) -> u8 {
        TILE_HEIGHT
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, Error> {
        let read = |tile: &Tile| {
            let mut bytes = self.found(&tile_path(tile));
            if self.lies {
                bytes[0] ^= 1;
            }
            bytes
        };
        Ok(tiles.iter().map(read).collect())
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

fn tile_path(tile: &Tile) -> String {
    tile.path().replacen("tile/8/", "/tile/", 1)
}

fn bundle_path(index: u64, width: u32) -> String {
    let tile = Tile::new(TILE_HEIGHT, 0, index, width, true);
    tile.path().replacen("tile/8/data/", "/tile/entries/", 1)
}

/// A note's checkpoint, where this key signed it.
fn verified(note: &[u8], vkey: &str) -> Option<Checkpoint> {
    let note = Note::from_bytes(note).ok()?;
    let verifier = StandardVerifier::new(vkey).expect("a verifier key");
    note.verify(&VerifierList::new(vec![Box::new(verifier)])).ok()?;
    Checkpoint::from_bytes(note.text()).ok()
}

/// What the program prints for whoever configures a tool.
fn verifier_key(cluster: &Cluster, node: usize) -> String {
    let key = cluster.agency(node).config.keys.checkpoint.clone().expect("the layout has it");
    let genesis = cluster.genesis_file();
    let arguments =
        ["--output", "json", "keys", "show", &shown(&key), "--genesis", &shown(&genesis)];
    let keys = program::run(arguments).expect_code(0).json();
    keys[0]["verifier_key"].as_str().expect("a verifier key").to_owned()
}

fn shown(path: &Path) -> String {
    path.to_str().expect("a path of ours").to_owned()
}

/// Transactions of one record each, at one node, without waiting for each to be final.
async fn submit_many(cluster: &Cluster, node: usize, count: usize) -> Head {
    let client = cluster.client(node, "broker");
    for number in 0..count {
        let records = vec![submission(&format!("many-{number}"), "tiles")];
        client.submit_records(records, false).await.expect("accepted");
    }
    let height = cluster.head(node).await.height;
    cluster.same_head(&[0, 1, 2, 3], height).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmodified_tool_audits_the_log_of_every_node() {
    let cluster = Cluster::start(4).await;
    let keys: Vec<_> = (0..4).map(|node| verifier_key(&cluster, node)).collect();
    let logs: Vec<_> = (0..4).map(|node| Log::of(&cluster, node)).collect();
    let first = logs[0].checkpoint(&keys[0]);
    // Each agency's own agreement.
    assert_eq!((first.size(), first.extension()), (4, ""));
    for number in 0..3 {
        submit_final(&cluster, number, &format!("first-{number}"), "tiles").await;
    }
    cluster.same_head(&[0, 1, 2, 3], 1).await;
    let older = logs[0].checkpoint(&keys[0]);
    let head = submit_many(&cluster, 1, 300).await;
    assert!(head.log_size > 256, "a full tile: {head:?}");
    let newer = logs[0].checkpoint(&keys[0]);
    assert_eq!((newer.size(), newer.hash().0), (head.log_size, head.log_root.0));
    assert_eq!(newer.origin(), format!("customhouse/test/{}", cluster.genesis().chain_id()));

    let entries = logs[0].entries(&newer);
    let tiles = Tile::new_tiles(TILE_HEIGHT, 0, newer.size());
    assert!(tiles.iter().any(|tile| tile.level() == 1), "{tiles:?}");
    for (log, key) in logs.iter().zip(&keys) {
        assert_eq!(log.checkpoint(key), newer, "one log, whoever signs");
        audits(log, &older, &newer, &entries);
        for path in tiles.iter().map(tile_path) {
            let (own, others) = (log.get(&path), logs[0].get(&path));
            assert_eq!((own.status, &own.body), (200, &others.body), "{path}");
        }
        assert_eq!(log.entries(&newer), entries);
    }
    let other = verified(&logs[0].found("/checkpoint"), &keys[1]);
    assert_eq!(other, None, "each node has a key of its own");
    what_is_not_there_is_not_found(&logs[0], &newer);
    entries_are_compressed_for_who_accepts_it(&logs[0], &newer);
    for path in ["/checkpoint", "/certified-checkpoint"] {
        assert_eq!(logs[0].get(path).header("cache-control"), Some("no-store"));
    }
    let response = logs[0].get("/tile/0/000");
    assert_eq!(response.header("content-type"), Some("application/octet-stream"));
    assert!(response.header("cache-control").is_some_and(|value| value.contains("immutable")));
}

/// The root from tiles, each entry's inclusion, and that the older log is a prefix.
fn audits(log: &Log, older: &Checkpoint, newer: &Checkpoint, entries: &[Vec<u8>]) {
    let (size, root) = (newer.size(), *newer.hash());
    let reader = TileHashReader::new(size, root, log);
    assert_eq!(tree_hash(size, &reader).expect("tiles that lead to the root"), root);
    for index in [0, 2, 255, 256, size - 1] {
        let proof = prove_record(size, index, &reader).expect("a proof");
        let leaf = record_hash(&entries[usize::try_from(index).expect("small")]);
        assert!(check_record(&proof, size, root, index, leaf).is_ok(), "{index}");
        assert!(check_record(&proof, size, root, index, record_hash(b"other")).is_err());
    }
    let proof = prove_tree(size, older.size(), &reader).expect("a proof");
    assert!(check_tree(&proof, size, root, older.size(), *older.hash()).is_ok());
    assert!(check_tree(&proof, size, root, older.size(), Hash([7; 32])).is_err());
    let liar = Log { address: log.address, lies: true };
    let refused = tree_hash(size, &TileHashReader::new(size, root, &liar));
    assert!(matches!(refused, Err(Error::InconsistentTile)), "{refused:?}");
}

/// `tlog-tiles`: bundles should be compressed, for clients that ask for it.
fn entries_are_compressed_for_who_accepts_it(log: &Log, checkpoint: &Checkpoint) {
    const GZIP: &str = "Accept-Encoding: gzip, identity\r\n";
    let get = |path: &str| http::get_with(log.address, path, GZIP).expect("the log is served");
    assert!(checkpoint.size() >= 256, "a full bundle");
    for path in [bundle_path(0, 256), bundle_path(0, 40)] {
        let plain = log.get(&path);
        assert_eq!(plain.header("content-encoding"), None, "nobody asked for it");
        let compressed = get(&path);
        assert_eq!(compressed.header("content-encoding"), Some("gzip"), "{path}");
        assert_eq!(compressed.header("content-type"), Some("application/octet-stream"));
        assert!(compressed.header("cache-control").is_some_and(|kept| kept.contains("immutable")));
        let (found, before) = (compressed.body.len(), plain.body.len());
        assert!(found < before * 3 / 4, "{found} of {before} bytes");
        let mut bytes = Vec::new();
        GzDecoder::new(&compressed.body[..]).read_to_end(&mut bytes).expect("gzip");
        assert!(bytes == plain.body, "{path}: the same entries");
    }
    assert_eq!(get("/tile/0/000").header("content-encoding"), None, "hashes do not compress");
}

fn what_is_not_there_is_not_found(log: &Log, checkpoint: &Checkpoint) {
    let size = checkpoint.size();
    assert!((256..511).contains(&size), "one full tile and a partial one");
    let beyond = size % 256 + 1;
    for path in [
        format!("/tile/0/001.p/{beyond}"),
        format!("/tile/entries/001.p/{beyond}"),
        "/tile/0/001".into(),
        "/tile/entries/001".into(),
        "/tile/1/000".into(),
        "/tile/1/000.p/2".into(),
        "/tile/2/000.p/1".into(),
        "/tile/0/0".into(),
        "/tile/0/%30%30%30".into(),
        "/tile/0/x000/000".into(),
        "/tile/data/000".into(),
        "/tile/8/0/000".into(),
        "/metrics".into(),
        "/".into(),
    ] {
        let response = log.get(&path);
        assert_eq!(response.status, 404, "{path}");
        assert_ne!(response.header("cache-control"), Some("immutable"), "{path}");
    }
}

/// The node goes on with a damaged transaction behind it. Whoever asks for that one is told so.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_in_a_store_is_an_error_and_never_the_log() {
    let mut cluster = Cluster::start(4).await;
    let head = submit_many(&cluster, 0, 40).await;
    let size = u32::try_from(head.log_size).expect("a small log");
    let bundle = bundle_path(0, size);
    let whole = Log::of(&cluster, 3).found(&bundle);
    assert!(cluster.terminate(3).await.success());
    // Into files, where a bit can turn.
    store(&cluster, 3, "rebuild").expect_code(0);
    flip(&cluster.agency(3).config.store_path(), "blob", 50);
    cluster.restart(3).await;

    let log = Log::of(&cluster, 3);
    let damaged = log.get(&bundle);
    assert_eq!(damaged.status, 500, "{}", damaged.text());
    assert!(damaged.text().contains("store is damaged there"), "{}", damaged.text());
    assert_eq!(damaged.header("cache-control"), Some("no-store"));
    log.found(&format!("/tile/0/000.p/{size}"));
    assert_eq!(Log::of(&cluster, 0).found(&bundle), whole, "another node has it");

    let client = cluster.client(3, "auditor");
    let mut refused = 0;
    // Two bytes of length, and a transaction's header and signature.
    for entry in whole.chunks(2 + 188) {
        let id = TransactionHeader::decode(&entry[2..126]).expect("a header").id();
        match client.transaction(id).await {
            Ok(answer) => assert_eq!(answer.transaction.expect("there").header, entry[2..126]),
            Err(ClientError::Refused(refusal)) => {
                assert_eq!(refusal.code, Code::DataLoss, "{refusal:?}");
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(refused, 1, "one bit damages one transaction");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmodified_tool_verifies_an_exported_proof() {
    let cluster = Cluster::start(4).await;
    for number in 0..5 {
        submit_final(&cluster, number % 4, &format!("{number}"), "proof").await;
    }
    let record = submit_final(&cluster, 1, "the-one", "proof").await;
    submit_final(&cluster, 2, "later", "proof").await;
    cluster.same_head(&[0, 1, 2, 3], 1).await;
    let receipt = cluster.client(3, "auditor").receipt(record.record_id, false).await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str| dir.path().join(name);
    let receipt = receipt.expect("a receipt").encode_to_vec();
    fs::write(file("a.receipt"), &receipt).expect("writable");
    let text = to_json::<v1::Receipt>(&receipt).expect("its JSON form");
    fs::write(file("b.receipt"), text).expect("writable");
    let key = verifier_key(&cluster, 3);
    let export = |receipt: &str, vkey: &str| {
        let profile = shown(&cluster.profile(3, "auditor"));
        let (receipt, leaf) = (file(receipt), file(receipt).with_extension("leaf"));
        let (receipt, leaf) = (shown(&receipt), shown(&leaf));
        let genesis = shown(&cluster.genesis_file());
        let command = ["--output", "json", "--profile", &profile, "audit", "tlog-proof", &receipt];
        let options = ["--genesis", &genesis, "--leaf", &leaf, "--vkey", vkey];
        program::run(command.into_iter().chain(options))
    };
    let answer = export("a.receipt", &key).expect_code(0).json();
    assert_eq!(answer["proves"]["record_id"], record.record_id.to_string());
    let again = export("a.receipt", &key).expect_code(2);
    assert!(again.stderr.contains("a.tlog-proof: a file is there already"), "{}", again.stderr);
    let another = export("b.receipt", &verifier_key(&cluster, 2)).expect_code(1).json();
    assert_eq!(another["code"], "NOTE_SIGNATURE", "another node's key");
    assert!(!file("b.tlog-proof").exists() && !file("b.leaf").exists());
    export("b.receipt", &key).expect_code(0);
    assert_eq!(
        fs::read(file("b.leaf")).expect("written"),
        fs::read(file("a.leaf")).expect("written")
    );

    let proof = fs::read_to_string(file("a.tlog-proof")).expect("written");
    let leaf = fs::read(file("a.leaf")).expect("written");
    assert!(proof_verifies(&proof, &leaf, &key));
    assert!(!proof_verifies(&proof, b"another leaf", &key));
    for (place, byte) in proof.bytes().enumerate() {
        // What the application put there is not a tool's business.
        let extra = proof.lines().nth(1).expect("a line").len();
        let opaque = "c2sp.org/tlog-proof@v1\n".len()..;
        if opaque.contains(&place) && place < opaque.start + extra {
            continue;
        }
        let mut damaged = proof.clone().into_bytes();
        damaged[place] = byte ^ 1 << (place % 7);
        let Ok(damaged) = String::from_utf8(damaged) else { continue };
        assert!(!proof_verifies(&damaged, &leaf, &key), "byte {place}");
    }
    the_program_checks_all_of_it(&cluster, &proof, &key);
    a_certified_checkpoint_is_a_head(&cluster);
}

/// A tlog-proof as its specification has it, checked by the crates.
fn proof_verifies(text: &str, leaf: &[u8], vkey: &str) -> bool {
    let Some((head, note)) = text.split_once("\n\n") else { return false };
    let mut lines = head.lines().peekable();
    if lines.next() != Some("c2sp.org/tlog-proof@v1") {
        return false;
    }
    lines.next_if(|line| line.starts_with("extra "));
    let index = lines.next().and_then(|line| line.strip_prefix("index "));
    let index = index.filter(|text| !text.starts_with('0')).and_then(|text| text.parse().ok());
    let path: Result<Vec<_>, _> = lines.map(Hash::parse_hash).collect();
    let (Some(index), Ok(path), Some(checkpoint)) = (index, path, verified(note.as_bytes(), vkey))
    else {
        return false;
    };
    let (size, root) = (checkpoint.size(), *checkpoint.hash());
    check_record(&path, size, root, index, record_hash(leaf)).is_ok()
}

fn the_program_checks_all_of_it(cluster: &Cluster, proof: &str, key: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("a.tlog-proof");
    let verify = |text: &str, with_key: bool| -> Answer {
        fs::write(&file, text).expect("writable");
        let (proof, genesis) = (shown(&file), shown(&cluster.genesis_file()));
        let command = ["--output", "json", "audit", "verify-tlog-proof", &proof];
        let vkey = ["--vkey", key].into_iter().filter(|_| with_key);
        program::run(command.into_iter().chain(["--genesis", &genesis]).chain(vkey))
    };
    for with_key in [false, true] {
        let answer = verify(proof, with_key).expect_code(0).json();
        assert_eq!(answer["verdict"], "verified");
    }
    for place in (0..proof.len()).step_by(proof.len() / 12) {
        let mut damaged = proof.as_bytes().to_vec();
        damaged[place] ^= 1;
        let damaged = String::from_utf8(damaged).expect("ASCII but for the dash");
        let answer = verify(&damaged, true).expect_code(1).json();
        assert!(answer["code"].as_str().is_some_and(|code| !code.is_empty()), "{answer}");
    }
}

/// What is fetched over HTTP is where an auditor's saved head may begin.
fn a_certified_checkpoint_is_a_head(cluster: &Cluster) {
    let dir = tempfile::tempdir().expect("a directory");
    let head = dir.path().join("network.head");
    fs::write(&head, Log::of(cluster, 0).found("/certified-checkpoint")).expect("writable");
    let (profile, genesis) =
        (shown(&cluster.profile(2, "auditor")), shown(&cluster.genesis_file()));
    let command = ["--profile", &profile, "audit", "consistency", "--genesis", &genesis];
    program::run(command.into_iter().chain(["--head", &shown(&head)])).expect_code(0);
}
