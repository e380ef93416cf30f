//! Agencies that join, leave and exchange their keys while records flow.

use std::{ffi::OsStr, fs, path::PathBuf};

use customhouse_tests::{
    cluster::Cluster,
    load::{Load, nothing_is_lost_though_wiped},
    program,
    readers::Readers,
    records::submission,
    wait::{PATIENCE, until},
};

use crate::agreement::submit_final;

/// An agency's next validator key, in its directory.
const NEXT_KEY: &str = "keys-2/validator.key";

/// Runs `customhouse registry` as a node's operator.
fn registry<A: AsRef<OsStr>>(
    cluster: &Cluster,
    node: usize,
    arguments: impl IntoIterator<Item = A>,
) -> program::Answer {
    let profile = cluster.profile(node, "operator");
    let mut all = vec!["--profile".into(), profile.into_os_string()];
    all.extend(["--output", "json", "registry"].map(Into::into));
    all.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
    program::run(all)
}

/// A change as agencies make it: one proposes, all of `approving` approve, one submits.
pub(crate) struct Change<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) approving: &'a [usize],
    pub(crate) submitting: usize,
    pub(crate) joining_key: Option<PathBuf>,
}

impl Change<'_> {
    /// Gives the height from which it is in force.
    pub(crate) fn make<A: AsRef<OsStr>>(
        self,
        name: &str,
        what: impl IntoIterator<Item = A>,
    ) -> u64 {
        let dir = tempfile::tempdir().expect("a directory");
        let file = |name: String| dir.path().join(name).into_os_string();
        let proposal = file(format!("{name}.proposal"));
        let mut propose = vec!["propose".into(), "--out".into(), proposal.clone()];
        propose.extend(what.into_iter().map(|argument| argument.as_ref().to_owned()));
        registry(self.cluster, self.approving[0], propose).expect_code(0);
        let mut submit = vec!["submit".into(), proposal.clone()];
        for &node in self.approving {
            let key = voting_key(self.cluster, node);
            let approval = file(format!("{node}.approval"));
            let approve = ["approve".as_ref(), &*proposal, "--validator-key".as_ref()];
            let to = [key.as_os_str(), "--out".as_ref(), &*approval];
            let shown = registry(self.cluster, node, approve.into_iter().chain(to)).expect_code(0);
            assert_eq!(shown.json()["validators_before"], self.cluster_validators(node));
            submit.push(approval);
        }
        // One file may well be named twice.
        submit.extend(submit.last().cloned());
        if let Some(key) = self.joining_key {
            let without = registry(self.cluster, self.submitting, submit.clone()).expect_code(1);
            assert!(without.stderr.contains("--joining-key"), "{}", without.stderr);
            submit.extend(["--joining-key".into(), key.into_os_string()]);
        }
        let made = registry(self.cluster, self.submitting, submit).expect_code(0).json();
        made["height"].as_u64().expect("a height") + 1
    }

    fn cluster_validators(&self, node: usize) -> serde_json::Value {
        registry(self.cluster, node, ["show"]).expect_code(0).json()["validators"].clone()
    }
}

/// The key that votes for a node's agency: the next one, once there is one.
fn voting_key(cluster: &Cluster, node: usize) -> PathBuf {
    let agency = cluster.agency(node);
    let next = agency.dir.join(NEXT_KEY);
    if next.exists() { next } else { agency.config.keys.validator.clone() }
}

/// Waits until a node has a height, though it has no vote, and says so.
pub(crate) async fn follows(cluster: &Cluster, node: usize, height: u64) {
    until("the node follows", PATIENCE, async || {
        let status = cluster.status(node).await.map_err(|error| error.to_string())?;
        assert!(!status.signing, "it has no vote: {status:?}");
        let there = status.height >= height && status.signing_reason.contains("no vote");
        if there { Ok(()) } else { Err(format!("{height} is to be reached: {status:?}")) }
    })
    .await;
}

/// All that were started reach the same head again after each was restarted.
async fn restart_all(cluster: &mut Cluster, nodes: &[usize]) {
    for &node in nodes {
        assert!(cluster.terminate(node).await.success(), "{}", cluster.log(node));
    }
    for &node in nodes {
        cluster.start_node(node);
    }
    for &node in nodes {
        cluster.answers(node).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_agency_joins_two_while_records_flow_and_everything_can_be_had_from_genesis_on() {
    let mut cluster = Cluster::start(2).await;
    let readers = Readers::start(&cluster);
    let mut load = Load::start(&cluster, 2, "joining");
    load.more(20).await;
    let joiner = cluster.add_node();
    let agency = cluster.agency(joiner).dir.clone();
    // It may run before it is admitted: nobody talks to it yet.
    cluster.restart(joiner).await;
    assert_eq!(cluster.head(joiner).await.height, 0);

    let public = agency.join("agency.json").into_os_string();
    let join = Change { cluster: &cluster, approving: &[0, 1], submitting: 0, joining_key: None };
    let admitted = join.make("join", ["--join".as_ref(), &*public]);
    follows(&cluster, joiner, admitted).await;
    load.more(20).await;

    let key = cluster.agency(joiner).config.keys.validator.clone();
    let vote = Change {
        cluster: &cluster,
        approving: &[0, 1],
        submitting: joiner,
        joining_key: Some(key.clone()),
    };
    let votes_from = vote.make("vote", ["--vote".as_ref(), &*public]);
    cluster.reaches(joiner, votes_from).await;
    // From here on nothing is final without it.
    load.more(20).await;
    let status = cluster.status(0).await.expect("it runs");
    assert_eq!((status.validators, status.quorum), (3, 3));

    let acknowledged = load.stop().await;
    readers.stop().await;
    let all = [0, 1, joiner];
    let head = cluster.same_head(&all, votes_from).await;
    nothing_is_lost_though_wiped(&cluster, "joining", &acknowledged).await;
    cluster.nobody_lied();

    restart_all(&mut cluster, &all).await;
    for node in all {
        cluster.reaches(node, head.height).await;
    }
    let mut load = Load::start(&cluster, 1, "restarted");
    load.more(10).await;
    let restarted = load.stop().await;

    // A founding node and the joiner lose all but their keys: both come back over the changes.
    for node in [0, joiner] {
        assert!(cluster.terminate(node).await.success());
        cluster.wipe(node);
        cluster.restart(node).await;
        cluster.reaches(node, head.height).await;
    }
    let mut load = Load::start(&cluster, 1, "wiped");
    load.more(10).await;
    let wiped = load.stop().await;
    cluster.same_head(&all, head.height + 1).await;
    for (case, acknowledged) in
        [("joining", acknowledged), ("restarted", restarted), ("wiped", wiped)]
    {
        nothing_is_lost_though_wiped(&cluster, case, &acknowledged).await;
    }
    cluster.nobody_lied();
    nobody_was_suspected(&cluster);
    a_watch_keeps_what_leads_to_its_head(&mut cluster, &all).await;
}

/// Also while no node answers the head that was kept is known to be certified.
async fn a_watch_keeps_what_leads_to_its_head(cluster: &mut Cluster, nodes: &[usize]) {
    let dir = tempfile::tempdir().expect("a directory");
    let (profile, genesis) = (cluster.profile(0, "auditor"), cluster.genesis_file());
    let watch = || {
        let mut all: Vec<&OsStr> = ["--output", "json", "audit", "watch"].map(OsStr::new).into();
        all.extend([profile.as_os_str(), "--genesis".as_ref(), genesis.as_os_str()]);
        all.extend(["--looks".as_ref(), "1".as_ref(), "--dir".as_ref(), dir.path().as_os_str()]);
        program::run(all)
    };
    let seen = watch().expect_code(0).json();
    for &node in nodes {
        assert!(cluster.terminate(node).await.success(), "{}", cluster.log(node));
    }
    let kept = watch().expect_code(2).json();
    assert_eq!(kept["warning"], serde_json::Value::Null, "{kept}");
    assert_eq!(kept["rests_on"]["head_height"], seen["rests_on"]["head_height"], "{kept}");
}

/// A node that caught up over changes of validators has taken nobody for a liar for what it could not
/// verify yet.
fn nobody_was_suspected(cluster: &Cluster) {
    for node in 0..cluster.size() {
        let log = cluster.log(node);
        for words in ["sent wrong blocks", "sent forged blocks", "peer cut off"] {
            assert!(!log.contains(words), "node {node}: {words}");
        }
    }
}

/// Makes an agency's next validator key and names it in its node's configuration.
fn prepare_next_key(cluster: &Cluster, node: usize) -> PathBuf {
    let agency = cluster.agency(node);
    let key = agency.dir.join(NEXT_KEY);
    let dir = key.parent().expect("in a directory");
    let code = agency.code().to_string();
    let new = ["keys", "new", "--agency", &code, "--purpose", "validator", "--dir"];
    program::run(new.map(OsStr::new).into_iter().chain([dir.as_os_str()])).expect_code(0);
    let file = &agency.config.file;
    let text = fs::read_to_string(file).expect("the layout made it");
    let named = text.replace("[keys]\n", "[keys]\nnext_validator = \"keys-2/validator.key\"\n");
    fs::write(file, named).expect("the cluster's own directory");
    key
}

fn public_key(file: &std::path::Path) -> String {
    let show = ["--output", "json", "keys", "show"].map(OsStr::new);
    let shown = program::run(show.into_iter().chain([file.as_os_str()])).expect_code(0).json();
    shown[0]["public_key"].as_str().expect("a key").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_four_exchanges_its_key_and_one_leaves_and_follows_on_while_records_flow() {
    let mut cluster = Cluster::start(4).await;
    let next_key = prepare_next_key(&cluster, 1);
    assert!(cluster.terminate(1).await.success());
    cluster.restart(1).await;
    let head = cluster.head(0).await;
    cluster.reaches(1, head.height).await;
    let readers = Readers::start(&cluster);
    let mut load = Load::start(&cluster, 2, "rotating");
    load.more(20).await;

    let rotate = Change {
        cluster: &cluster,
        approving: &[0, 2, 3],
        submitting: 1,
        joining_key: Some(next_key.clone()),
    };
    let to = format!("{}={}", cluster.agency(1).code(), public_key(&next_key));
    let rotated_at = rotate.make("rotate", ["--rotate", &to]);
    cluster.reaches(1, rotated_at).await;
    assert!(cluster.log(1).contains("voting with the next key"), "{}", cluster.log(1));
    load.more(20).await;
    // Without the restarted node's own key there are three: with a fourth away, all of them count.
    cluster.kill(0);
    load.more(20).await;
    cluster.restart(0).await;
    let head = cluster.head(2).await;
    cluster.reaches(0, head.height).await;
    sees(&cluster, 0, 3).await;

    let leaving =
        Change { cluster: &cluster, approving: &[0, 2, 3], submitting: 0, joining_key: None };
    let code = cluster.agency(3).code().to_string();
    let left_at = leaving.make("end-vote", ["--end-vote", &*code]);
    follows(&cluster, 3, left_at).await;
    load.more(20).await;
    assert_eq!(cluster.status(3).await.expect("it runs").validators, 3);

    let acknowledged = load.stop().await;
    readers.stop().await;
    let all = [0, 1, 2, 3];
    let head = cluster.same_head(&all, left_at).await;
    nothing_is_lost_though_wiped(&cluster, "rotating", &acknowledged).await;
    cluster.nobody_lied();

    // By now the registry has the next key: the configuration may name it alone, or both.
    restart_all(&mut cluster, &all).await;
    for node in [0, 1, 2] {
        cluster.reaches(node, head.height).await;
    }
    follows(&cluster, 3, head.height).await;
    assert!(cluster.terminate(1).await.success());
    cluster.wipe(1);
    cluster.restart(1).await;
    cluster.reaches(1, head.height).await;
    let mut load = Load::start(&cluster, 1, "afterwards");
    load.more(10).await;
    let afterwards = load.stop().await;
    cluster.same_head(&all, head.height + 1).await;
    nothing_is_lost_though_wiped(&cluster, "rotating", &acknowledged).await;
    nothing_is_lost_though_wiped(&cluster, "afterwards", &afterwards).await;
    leaves_altogether(&cluster, 3).await;
    cluster.nobody_lied();
    nobody_was_suspected(&cluster);
}

/// Waits until a node is connected to this many others.
async fn sees(cluster: &Cluster, node: usize, others: u32) {
    until("the node sees who is there", PATIENCE, async || {
        let status = cluster.status(node).await.map_err(|error| error.to_string())?;
        let connected = status.peers_connected;
        if connected == others { Ok(()) } else { Err(format!("{connected} of {others} peers")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_that_is_there_is_not_removed_while_another_is_away_unless_that_one_is_named() {
    let mut cluster = Cluster::start(4).await;
    let code = |cluster: &Cluster, node: usize| cluster.agency(node).code().to_string();
    let (away, leaving) = (code(&cluster, 2), code(&cluster, 3));
    // Proposed while all are there, and submitted when one is not: the node asks anew.
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str| dir.path().join(name).display().to_string();
    let [before, other] = [file("before.proposal"), file("other.proposal")];
    registry(&cluster, 0, ["propose", "--end-vote", &leaving, "--out", &before]).expect_code(0);
    let approvals = [0, 1, 3].map(|node: usize| {
        let (key, to) = (voting_key(&cluster, node), file(&format!("{node}.approval")));
        let key = key.display().to_string();
        let approve = ["approve", &before, "--validator-key", &key, "--out", &to];
        registry(&cluster, node, approve).expect_code(0);
        to
    });
    let wrong = registry(&cluster, 0, ["submit", &before, &before]).expect_code(1);
    assert!(wrong.stderr.contains("before.proposal: its format is"), "{}", wrong.stderr);
    let third = file("third.proposal");
    registry(&cluster, 0, ["propose", "--end-vote", &away, "--out", &third]).expect_code(0);
    let wrong = registry(&cluster, 0, ["submit", &third, &approvals[0]]).expect_code(1);
    assert!(wrong.stderr.contains("0.approval: it approves another"), "{}", wrong.stderr);
    cluster.kill(2);
    sees(&cluster, 0, 2).await;

    let propose = ["propose", "--end-vote", &leaving, "--out", &other];
    let submit: Vec<&str> =
        ["submit", &before].into_iter().chain(approvals.iter().map(String::as_str)).collect();
    for refused in [propose.to_vec(), submit.clone()] {
        let said = registry(&cluster, 0, refused).expect_code(1).json()["error"].to_string();
        for word in [&*leaving, &*away, "stand still", "--although-absent"] {
            assert!(said.contains(word), "`{word}` is not in: {said}");
        }
    }
    let named = submit.into_iter().chain(["--although-absent", &away, "--patience", "60"]);
    registry(&cluster, 0, named).expect_code(0);
    // As was said.
    cluster.restart(2).await;
    submit_final(&cluster, 0, "back", "leaving").await;
}

/// An agency whose keys all end is asked for nothing and told nothing new, but its node is not cut off
/// at once.
async fn leaves_altogether(cluster: &Cluster, node: usize) {
    let leaving = Change { cluster, approving: &[0, 1, 2], submitting: 0, joining_key: None };
    let code = cluster.agency(node).code().to_string();
    let left_at = leaving.make("leave", ["--leave", &*code]);
    let shown = registry(cluster, 0, ["show"]).expect_code(0).json();
    let entries = shown["entries"].as_array().expect("a list");
    assert!(entries.iter().all(|entry| entry["agency"] != *code), "{shown}");
    let all = registry(cluster, 0, ["show", "--all"]).expect_code(0).json();
    let ended = all["entries"].as_array().expect("a list").iter();
    let ended = ended.filter(|entry| entry["agency"] == *code && entry["end_height"] == left_at);
    assert!(ended.count() >= 3, "agency, peer and signing key: {all}");
    submit_final(cluster, 0, "after-leaving", "leaving").await;
    follows(cluster, node, left_at).await;
    let client = cluster.client(node, "broker");
    let refused = client.submit_records(vec![submission("too-late", "leaving")], true).await;
    let error = refused.expect_err("its signing key has ended");
    assert!(error.to_string().contains("is not a registered signing key"), "{error}");
}
