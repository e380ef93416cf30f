//! All shared declarations and notifications on a live network, through the command line.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use customhouse_tests::{cluster::Cluster, program};
use serde_json::Value;

/// Sources that are asked back for, from another agency's node.
const SOURCES: usize = 12;

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
    let report = submit(&cluster, &folder, &receipts);
    everything_is_accounted_for(&report);
    receipts_verify(&cluster, &report, &receipts);
    statuses_are_linked(&report);
    sources_come_back(&cluster, &report);
    cluster.same_head(&[0, 1, 2, 3], 1).await;
    // Again: nothing is there twice.
    let again = submit(&cluster, &folder, &receipts);
    assert_eq!(again["committed"], 0, "{}", again["problems"]);
    assert_eq!(again["already_there"], report["committed"]);
}

fn submit(cluster: &Cluster, folder: &Path, receipts: &Path) -> Value {
    let (profile, office) = (cluster.profile(0, "broker"), cluster.profile(0, "officer"));
    let arguments =
        ["--profile", text(&profile), "--output", "json", "submit", "wco", text(folder)];
    let rest =
        ["--allow-malformed", "--receipts", text(receipts), "--office-profile", text(&office)];
    program::run(arguments.into_iter().chain(rest)).expect_code(0).json()
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

fn receipts_verify(cluster: &Cluster, report: &Value, receipts: &Path) {
    let records = list(report, "records");
    let ids: BTreeSet<_> = records.iter().map(|record| record["record_id"].as_str()).collect();
    assert_eq!(ids.len(), count(report, "committed"), "one record a message");
    let files = fs::read_dir(receipts).expect("the command made it").count();
    assert_eq!(files, ids.len(), "one receipt a record");
    let genesis = cluster.genesis_file();
    let audit =
        ["--output", "json", "audit", "verify", text(receipts), "--genesis", text(&genesis)];
    let audit = program::run(audit.into_iter().chain(["--source"])).expect_code(0).json();
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
