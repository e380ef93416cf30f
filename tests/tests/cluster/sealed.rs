//! Sealed records among four processes: what is said in them is nowhere in clear, who may read them does, and nobody
//! else learns that there is one about a subject.

use std::{
    fs,
    path::{Path, PathBuf},
};

use customhouse_client::Client;
use customhouse_ledger::hash::Hash;
use customhouse_proto::v1::{
    self, get_history_request::SubjectOrKey, record::Body, sealed::Bytes, subject::Scheme,
};
use customhouse_tests::{cluster::Cluster, program, wait::PATIENCE, wait::until};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Records that are lodged sealed.
const RECORDS: usize = 12;

/// A word that is nowhere by chance, in the form that ids have.
fn canary(random: &mut ChaCha8Rng) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let letter = |_| char::from(LETTERS[random.random_range(0..LETTERS.len())]);
    format!("CNRY{}", (0..16).map(letter).collect::<String>())
}

/// A declaration with a canary in each of its texts.
fn declaration(canary: &mut impl FnMut() -> String) -> (v1::Record, String) {
    let mrn = canary();
    let declaration = v1::Declaration {
        regime: 1,
        mrn: mrn.clone(),
        reference: canary(),
        parties: vec![v1::Party { id: canary(), name: canary(), ..Default::default() }],
        items: vec![v1::GoodsItem { description: canary(), ..Default::default() }],
        ..Default::default()
    };
    let body = Some(Body::Declaration(declaration));
    let subjects = vec![v1::Subject { scheme: Scheme::Case as i32, id: canary() }];
    (v1::Record { subjects, body, ..Default::default() }, mrn)
}

/// All files under a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// The files that have one of these words in clear.
fn with_any(directory: &Path, words: &[String]) -> Vec<PathBuf> {
    let has = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap_or_default();
        // All begin alike, which is looked for first.
        let places = bytes.windows(4).enumerate().filter(|(_, window)| *window == b"CNRY");
        places
            .into_iter()
            .any(|(at, _)| words.iter().any(|w| bytes[at..].starts_with(w.as_bytes())))
    };
    files(directory).into_iter().filter(has).collect()
}

fn mrn(id: &str) -> SubjectOrKey {
    SubjectOrKey::Subject(v1::Subject { scheme: Scheme::Mrn as i32, id: id.to_owned() })
}

async fn by_mrn(client: &Client, id: &str) -> Vec<v1::HistoryItem> {
    client.history_page(mrn(id), 0, Vec::new()).await.expect("an answer").items
}

/// What a client is told of a record's bytes, and how many there are.
async fn seen(client: &Client, id: Hash) -> (Bytes, usize) {
    let found = client.record(id).await.expect("an answer");
    let sealed = found.place.expect("a place").sealed.expect("it is sealed");
    (sealed.bytes(), found.record.len())
}

/// Lodges the agreement that was laid out with the network, and gives its id.
async fn lodge(cluster: &Cluster, file: &Path) -> Hash {
    let operator = cluster.profile(0, "operator");
    let operator = operator.to_str().expect("a path of ours");
    let file = file.to_str().expect("a path of ours");
    program::run(["--profile", operator, "agreement", "lodge", file]).expect_code(0);
    let shown = program::run(["--profile", operator, "--output", "json", "agreement", "show"]);
    let shown = shown.expect_code(0).json();
    let of_two = shown.as_array().expect("a list").iter().find(|agreement| {
        agreement["parties"].as_array().is_some_and(|parties| parties.len() == 2)
    });
    let id = of_two.expect("the agreement")["agreement"].as_str().expect("an id").to_owned();
    id.parse().expect("64 digits")
}

/// Submits records under an agreement: waits until each is accepted. Gives their ids.
async fn submit(
    cluster: &Cluster,
    agreement: Hash,
    records: impl Iterator<Item = (v1::Record, String)>,
) -> Vec<Hash> {
    let broker = cluster.client(0, "broker");
    let mut ids = Vec::new();
    for (number, (record, _)) in records.enumerate() {
        let submission = v1::RecordSubmission {
            record: Some(record),
            idempotency_key: format!("sealed {number}"),
            open: false,
            agreement: agreement.0.to_vec(),
        };
        let result = until("the record is final", PATIENCE, async || {
            let results = broker.submit_records(vec![submission.clone()], true).await;
            let result = results.map_err(|error| error.to_string())?.pop().expect("one");
            match result.phase() {
                v1::Phase::Final => Ok(result),
                _ => Err(format!("{result:?}")),
            }
        })
        .await;
        ids.push(Hash::from_slice(&result.record_id).expect("an id"));
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sealed_records_say_is_in_no_file_and_read_by_its_parties_alone() {
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut canaries = Vec::new();
    let mut next = || {
        canaries.push(canary(&mut random));
        canaries.last().expect("pushed").clone()
    };
    let records: Vec<_> = (0..RECORDS).map(|_| declaration(&mut next)).collect();
    let (control, _) = declaration(&mut next);
    let sealed_canaries = canaries[..canaries.len() * RECORDS / (RECORDS + 1)].to_vec();
    let open_canaries = canaries[sealed_canaries.len()..].to_vec();

    let (mut cluster, file) = Cluster::start_agreed(4, 2).await;
    let agreement = lodge(&cluster, &file).await;
    let ids = submit(&cluster, agreement, records.iter().cloned()).await;
    for id in &ids {
        let answer = cluster.client(0, "officer").delivery(*id, 60_000).await.expect("an answer");
        let delivered = answer.parties.iter().map(|party| (party.agency.as_str(), party.state()));
        let other = cluster.agency(1).code();
        let held = v1::party_delivery::State::Delivered;
        assert!(delivered.eq([(other.as_str(), held)]), "{answer:?}");
    }
    // Who reads them, and who does not.
    let (id, (_, subject)) = (ids[0], &records[0]);
    until("the other party has it", PATIENCE, async || {
        match seen(&cluster.client(1, "officer"), id).await {
            (Bytes::Here, bytes) if bytes > 0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(matches!(seen(&cluster.client(0, "broker"), id).await, (Bytes::Here, 1..)));
    for (node, client, expected) in [
        (0, "carrier", Bytes::NotForCaller),
        (0, "auditor", Bytes::NotForCaller),
        (1, "broker", Bytes::NotForCaller),
        (1, "operator", Bytes::NotForCaller),
        (2, "officer", Bytes::NotShared),
        (3, "auditor", Bytes::NotShared),
    ] {
        let found = seen(&cluster.client(node, client), id).await;
        assert_eq!(found, (expected, 0), "{client} of node {node}");
    }
    // Found by its subject by those who read it; to all others a guess is answered with nothing.
    for (node, client, count) in [
        (0, "broker", 1),
        (0, "officer", 1),
        (1, "officer", 1),
        (0, "carrier", 0),
        (0, "auditor", 0),
        (1, "broker", 0),
        (1, "operator", 0),
        (2, "officer", 0),
    ] {
        let found = by_mrn(&cluster.client(node, client), subject).await;
        assert_eq!(found.len(), count, "{client} of node {node}");
    }
    // An open record, by which the search is seen to find what there is.
    let open = v1::RecordSubmission {
        record: Some(control),
        idempotency_key: "open".into(),
        open: true,
        agreement: Vec::new(),
    };
    let broker = cluster.client(0, "broker");
    let result = broker.submit_records(vec![open], true).await.expect("an answer").remove(0);
    assert_eq!(result.phase(), v1::Phase::Final, "{result:?}");
    cluster.same_head(&[0, 1, 2, 3], 1).await;

    // A party whose store is lost has it again; one that was killed has lost nothing.
    cluster.kill(0);
    cluster.restart(0).await;
    assert_eq!(cluster.terminate(1).await.code(), Some(0));
    fs::remove_dir_all(cluster.agency(1).config.data_dir.join("sealed")).expect("there");
    cluster.restart(1).await;
    for id in &ids {
        until("it is fetched again", PATIENCE, async || {
            match seen(&cluster.client(1, "officer"), *id).await {
                (Bytes::Here, _) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
    let config = cluster.agency(0).config.file.clone();
    let vault = cluster.directory().join("vault-backup");
    for node in 0..4 {
        assert_eq!(cluster.terminate(node).await.code(), Some(0), "node {node}");
    }
    let config = config.to_str().expect("a path of ours");
    let vault = vault.to_str().expect("a path of ours");
    program::run(["vault", "backup", "--config", config, "--to", vault]).expect_code(0);
    let store = cluster.directory().join("store-backup");
    let store = store.to_str().expect("a path of ours");
    program::run(["store", "backup", "--config", config, "--to", store]).expect_code(0);

    let clear = with_any(cluster.directory(), &sealed_canaries);
    assert!(clear.is_empty(), "in clear in {clear:?}");
    let found = with_any(cluster.directory(), &open_canaries);
    let store = cluster.agency(2).config.store_path();
    assert!(
        found.iter().any(|path| path.starts_with(&store)),
        "the search finds nothing: {found:?}"
    );
}
