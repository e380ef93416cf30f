//! A validator that breaks a rule: its key is found out by those who hear it, and the proof of it is
//! on the chain, once.

use customhouse_consensus::Message;
use customhouse_ledger::{
    chain::Chain,
    finality::{
        certificate::Certificate,
        evidence::Evidence,
        vote::{Ballot, Vote, VoteKind},
    },
    hash::Hash,
    proofs::fork::{self, Conclusion},
};
use customhouse_node::{config::NodeConfig, node::NodeParts};
use customhouse_proto::v1::{self, get_history_request::SubjectOrKey, subject::Scheme};
use customhouse_tests::{
    cluster::Cluster,
    listed_liar::ListedLiar,
    wait::{PATIENCE, until},
};
use prost::Message as _;
use tokio_stream::StreamExt as _;

use crate::agreement::submit_final;

/// The reports about a validator's key, as a node tells them.
async fn reports(cluster: &Cluster, node: usize, key: &str) -> Vec<Evidence> {
    let subject = v1::Subject { scheme: Scheme::ValidatorKey as i32, id: key.to_owned() };
    let client = cluster.client(node, "auditor");
    let history = client.history(SubjectOrKey::Subject(subject));
    let items: Vec<v1::HistoryItem> =
        history.collect::<Result<_, _>>().await.expect("the node answers");
    let report = |item: &v1::HistoryItem| {
        let record = v1::Record::decode(&*item.record).expect("a record");
        let Some(v1::record::Body::Misbehaviour(report)) = record.body else { panic!("another") };
        Evidence::from_proto(&report).expect("evidence")
    };
    items.iter().map(report).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_that_votes_for_two_blocks_is_recorded_once_and_can_be_looked_up() {
    let mut cluster = Cluster::start(4).await;
    submit_final(&cluster, 0, "before", "misbehaviour").await;
    assert!(cluster.terminate(3).await.success());
    let head = cluster.same_head(&[0, 1, 2], 1).await;
    let liar = ListedLiar::start(&cluster, 3).await;
    let vote = |block: u8| {
        let (kind, height, view) = (VoteKind::Notarize, head.height + 1, 1);
        let ballot = Ballot { kind, height, view, block_hash: Hash([block; 32]) };
        Message::Vote(Vote::sign(ballot, &liar.chain_id, &liar.validator))
    };
    liar.gossip(&[vote(1), vote(2)]);
    let key = liar.validator.public();
    for node in 0..3 {
        let found = until("the report", PATIENCE, async || {
            let found = reports(&cluster, node, &key.to_string()).await;
            if found.is_empty() { Err(format!("node {node}: none")) } else { Ok(found) }
        });
        let found = found.await;
        assert_eq!((found.len(), found[0].culprit()), (1, key), "node {node}");
        assert_eq!(found[0].place(), (head.height + 1, 1));
        assert!(found[0].proves(&liar.chain_id));
        assert!(cluster.metric(node, "customhouse_evidence_total") > 0);
    }
    drop(liar);
    submit_final(&cluster, 1, "after", "misbehaviour").await;
    assert_eq!(reports(&cluster, 0, &key.to_string()).await.len(), 1, "it is there once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_much_to_report_stops_when_it_is_asked_to() {
    const VIEWS: u64 = 5;
    let mut cluster = Cluster::start(4).await;
    submit_final(&cluster, 0, "before", "reports").await;
    assert!(cluster.terminate(3).await.success());
    let head = cluster.same_head(&[0, 1, 2], 1).await;
    let liar = ListedLiar::start(&cluster, 3).await;
    let vote = |view, block: u8| {
        let (kind, height, block_hash) = (VoteKind::Notarize, head.height + 1, Hash([block; 32]));
        let ballot = Ballot { kind, height, view, block_hash };
        Message::Vote(Vote::sign(ballot, &liar.chain_id, &liar.validator))
    };
    let votes: Vec<_> = (1..=VIEWS).flat_map(|view| [vote(view, 1), vote(view, 2)]).collect();
    liar.gossip(&votes);
    // The last in turn: it leaves each of them to the others for a while first.
    until("the breaches are seen", PATIENCE, async || {
        let seen = cluster.metric(2, "customhouse_evidence_total");
        if seen == VIEWS { Ok(()) } else { Err(format!("{seen} of {VIEWS}")) }
    })
    .await;
    let ended = cluster.terminate(2).await;
    assert!(ended.success(), "{ended}: {}", cluster.log(2));
}

/// Three of four keys in bad hands: a node that is shown a contradiction stops, and what it held
/// names the three.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_halts_keeps_what_names_those_who_made_it_halt() {
    let mut cluster = Cluster::start(4).await;
    submit_final(&cluster, 0, "before", "halt").await;
    assert!(cluster.terminate(3).await.success());
    let head = cluster.same_head(&[0, 1, 2], 1).await;
    let parts: Vec<_> = (0..4)
        .map(|node| {
            // One process at a time has the vault.
            let config = NodeConfig { vault: None, ..cluster.agency(node).config.clone() };
            NodeParts::read(&config).expect("its files")
        })
        .collect();
    let genesis = &parts[3].genesis;
    let (chain_id, validators) = (genesis.chain_id(), genesis.validators());
    let height = head.height + 1;
    let certificate = |kind, block_hash| {
        let ballot = Ballot { kind, height, view: 1, block_hash };
        let votes =
            parts[1..].iter().map(|parts| Vote::sign(ballot, &chain_id, &parts.validator.key));
        let votes: Vec<_> = votes.collect();
        let certificate = Certificate::from_votes(ballot, &votes, &validators).expect("a quorum");
        Message::Certificate(certificate)
    };
    let contradiction = [(VoteKind::Nullify, Hash::ZERO), (VoteKind::Finalize, Hash([1; 32]))];
    let liar = ListedLiar::start(&cluster, 3).await;
    liar.gossip(&contradiction.map(|(kind, hash)| certificate(kind, hash)));
    assert!(!cluster.exit(0).await.success());
    assert!(cluster.log(0).contains("audit decisions"), "it says what to do: {}", cluster.log(0));
    drop(liar);

    let chain = Chain::open(&parts[0].store, genesis, &parts[0].store_options).expect("its store");
    let decision = chain.reader().decision(height).expect("readable").expect("kept");
    assert_eq!(decision.decided, None, "it did not commit the height");
    let found =
        fork::examine(height, &[&decision], &chain_id, &validators).expect("no finalization");
    assert_eq!(found.conclusion, Conclusion::Proven);
    assert_eq!(found.keys(), parts[1..].iter().map(|parts| parts.validator.key.public()).collect());
}
