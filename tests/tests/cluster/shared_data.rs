//! All shared declarations and notifications on a live network, through the command line.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use customhouse_ledger::hash::Hash;
use customhouse_proto::v1::{self, record::Body};
use customhouse_tests::{
    cluster::Cluster,
    program,
    wait::{PATIENCE, until},
};
use prost::Message as _;
use serde_json::Value;

use crate::many_items;

/// Sources that are asked back for, from another agency's node.
const SOURCES: usize = 12;
/// The example that the large declaration is made from, and bytes that that has at least.
const EXAMPLE: &str = "TT_IM001d/TT_IM001d.xml";
const LARGE_BYTES_MIN: usize = 12_000_000;

/// The folder of shared messages, if it is there.
fn shared() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/wco-hmrc/examples");
    if path.is_dir() {
        return Some(path.canonicalize().expect("it is there"));
    }
    eprintln!("skipped: {} absent", path.display());
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn all_shared_declarations_are_committed_linked_proven_and_given_back() {
    let Some(folder) = shared() else { return };
    let cluster = Cluster::start(4).await;
    let dir = tempfile::tempdir().expect("a directory");
    let receipts = dir.path().join("receipts");
    let large = large_declaration(&folder, dir.path());
    let report = submit(&cluster, [&folder, &large], &receipts);
    everything_is_accounted_for(&report);
    receipts_verify(&cluster, &report, &receipts, &large);
    statuses_are_linked(&report);
    // First, because it waits until the other agency's node has fetched it.
    large_one_comes_back(&cluster, &report, &large).await;
    sources_come_back(&cluster, &report);
    cluster.same_head(&[0, 1, 2, 3], 1).await;
    // Again: nothing is there twice.
    let again = submit(&cluster, [&folder, &large], &receipts);
    assert_eq!(again["committed"], 0, "{}", again["problems"]);
    assert_eq!(again["already_there"], report["committed"]);
}

/// A declaration of as many items as there may be, in a file of its own: one of the examples, with more documents.
fn large_declaration(folder: &Path, dir: &Path) -> PathBuf {
    let example = fs::read_to_string(folder.join(EXAMPLE)).expect("one of the examples");
    let declaration = many_items::declaration(&example, many_items::DOCUMENTS);
    assert!(declaration.len() > LARGE_BYTES_MIN, "{} bytes", declaration.len());
    let file = dir.join("999-items.xml");
    fs::write(&file, declaration).expect("writable");
    file
}

fn submit(cluster: &Cluster, paths: [&Path; 2], receipts: &Path) -> Value {
    let (profile, office) = (cluster.profile(0, "broker"), cluster.profile(0, "officer"));
    let arguments = ["--profile", text(&profile), "--output", "json", "submit", "wco", "--open"];
    let rest =
        ["--allow-malformed", "--receipts", text(receipts), "--office-profile", text(&office)];
    let all = arguments.into_iter().chain(paths.map(text)).chain(rest);
    program::run(all).expect_code(0).json()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours")
}

fn count(report: &Value, field: &str) -> usize {
    let number = report[field].as_u64().unwrap_or_else(|| panic!("{field}: {}", report[field]));
    usize::try_from(number).expect("a small number")
}

fn list<'a>(report: &'a Value, field: &str) -> &'a [Value] {
    report[field].as_array().unwrap_or_else(|| panic!("{field}: {}", report[field]))
}

fn everything_is_accounted_for(report: &Value) {
    let ended =
        count(report, "committed") + count(report, "duplicates") + count(report, "malformed");
    assert_eq!(ended + list(report, "skipped").len(), count(report, "messages"), "{report}");
    assert_eq!((count(report, "refused"), count(report, "unfinished")), (0, 0));
    assert_eq!(count(report, "left_out"), 0);
    assert!(count(report, "committed") > 600, "{}", report["committed"]);
    let problems = list(report, "problems");
    let named: BTreeSet<_> = problems
        .iter()
        .map(|problem| {
            assert_eq!(problem["code"], "MALFORMED");
            let source = problem["source"].as_str().expect("a file");
            let name = source.rsplit('/').next().expect("a name");
            (name, problem["line"].as_u64(), problem["column"].as_u64())
        })
        .collect();
    let expected = [
        ("TT_EX022a_Declaration1_(Step1).xml", Some(52), Some(6)),
        ("TT_IM084a.xml", Some(164), Some(7)),
    ];
    assert_eq!(named, BTreeSet::from(expected));
}

/// `large` is the source that is not in its record, nor in its receipt.
fn receipts_verify(cluster: &Cluster, report: &Value, receipts: &Path, large: &Path) {
    let records = list(report, "records");
    let ids: BTreeSet<_> = records.iter().map(|record| record["record_id"].as_str()).collect();
    assert_eq!(ids.len(), count(report, "committed"), "one record a message");
    let files = fs::read_dir(receipts).expect("the command made it").count();
    assert_eq!(files, ids.len(), "one receipt a record");
    let genesis = cluster.genesis_file();
    let audit =
        ["--output", "json", "audit", "verify", text(receipts), "--genesis", text(&genesis)];
    let sources = ["--source", "--source-files", text(large)];
    let audit = program::run(audit.into_iter().chain(sources)).expect_code(0).json();
    assert_eq!(audit["verdict"], "verified");
    let proven = list(&audit, "receipts");
    assert!(proven.iter().all(|receipt| receipt["verdict"] == "verified"));
    assert!(proven.iter().all(|receipt| receipt["source"]["found"] == "CHECKED"), "{proven:?}");
    let proven: BTreeSet<_> =
        proven.iter().map(|receipt| receipt["proves"]["record_id"].as_str()).collect();
    assert_eq!(proven, ids);
}

fn statuses_are_linked(report: &Value) {
    let records = list(report, "records");
    let ids: BTreeSet<_> = records.iter().map(|record| record["record_id"].as_str()).collect();
    let statuses = records.iter().filter(|record| record["kind"] == "status");
    let (linked, unlinked): (Vec<_>, Vec<_>) =
        statuses.partition(|status| status["about"].is_string());
    assert!(linked.len() > 350, "{} are linked", linked.len());
    for status in linked {
        assert!(ids.contains(&status["about"].as_str()), "about a record of this run: {status}");
    }
    // A gallery of notifications without the declarations that they answer.
    for status in &unlinked {
        let source = status["source"].as_str().expect("a file");
        assert!(source.contains("/Example_DMS_notifications/"), "{status}");
    }
    assert_eq!(list(report, "unlinked").len(), unlinked.len());
}

fn sources_come_back(cluster: &Cluster, report: &Value) {
    let records = list(report, "records");
    let profile = cluster.profile(2, "officer");
    for record in records.iter().step_by(records.len() / SOURCES) {
        let id = record["record_id"].as_str().expect("an id");
        let arguments = ["--profile", text(&profile), "query", "record", id, "--source"];
        let answer = program::run(arguments).expect_code(0);
        let source = record["source"].as_str().expect("a file");
        assert!(answer.stdout == fs::read(source).expect("it was read before"), "{source}");
    }
}

/// The source of the large declaration is an attachment, and both agencies' nodes give it back byte for byte: the
/// other one may be fetching it still.
async fn large_one_comes_back(cluster: &Cluster, report: &Value, large: &Path) {
    let is_large = |record: &&Value| record["source"].as_str() == Some(text(large));
    let record = list(report, "records").iter().find(is_large).expect("it is committed");
    assert_eq!(record["kind"], "declaration");
    let id = record["record_id"].as_str().expect("an id");
    let content = fs::read(large).expect("it was written");
    for node in [0, 2] {
        let profile = cluster.profile(node, "officer");
        until("the node has the source", PATIENCE, async || {
            let arguments = ["--profile", text(&profile), "query", "record", id, "--source"];
            let answer = program::run(arguments);
            if answer.code != Some(0) {
                return Err(answer.stderr);
            }
            assert!(answer.stdout == content, "node {node} gives another source");
            Ok(())
        })
        .await;
        let hash = Hash::from_slice(&hex::decode(id).expect("digits")).expect("a record id");
        let answer = cluster.client(node, "officer").record(hash).await.expect("on the ledger");
        let record = v1::Record::decode(&answer.record[..]).expect("a record");
        let source = record.source.expect("a source");
        let attached = source.attachment.map(|attachment| attachment.size);
        assert_eq!((source.content.len(), attached), (0, Some(content.len() as u64)));
        let Some(Body::Declaration(declaration)) = record.body else { panic!("another kind") };
        assert_eq!(declaration.items.len(), many_items::ITEMS);
    }
}
