//! Clients that submit without pause and write down every acknowledgement, and the check that
//! nothing that was acknowledged is lost, changed or there twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use customhouse_client::{Client, ClientError};
use customhouse_ledger::hash::Hash;
use customhouse_proto::v1::{self, get_history_request::SubjectOrKey};
use prost::Message as _;
use tokio::{sync::watch, task::JoinSet};
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::{
    cluster::Cluster,
    records::{case_subject, normal, submission},
    wait::{self, PATIENCE},
};

/// Pause before a call that found no node is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// A call without an answer by then has none: its node was killed.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Where a record is on the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Height of its block.
    pub height: u64,
    /// Position of its transaction in the log.
    pub log_index: u64,
    /// Position of its slot in the transaction.
    pub slot_index: u32,
}

impl Place {
    /// A committed record's.
    pub fn of(place: &v1::RecordPlace) -> Self {
        Self { height: place.height, log_index: place.log_index, slot_index: place.slot_index }
    }
}

/// What a node has promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The event's id, which is also the idempotency key.
    pub event_id: String,
    /// The record's.
    pub record_id: Hash,
    /// Where it is, where the node said FINAL; `None` where it said ACCEPTED.
    pub place: Option<Place>,
}

impl Acknowledged {
    /// Reads a node's answer. `None` where it took nothing, for a reason that passes.
    ///
    /// # Panics
    /// Where the node says that the record has come to another end.
    pub fn read(result: &v1::RecordResult) -> Option<Self> {
        let &v1::RecordResult { height, log_index, slot_index, .. } = result;
        let place = match result.phase() {
            v1::Phase::Unspecified => return None,
            v1::Phase::Accepted => None,
            v1::Phase::Final => Some(Place { height, log_index, slot_index }),
            v1::Phase::Expired | v1::Phase::Rejected => panic!("refused: {result:?}"),
        };
        let record_id = Hash::from_slice(&result.record_id).expect("a record id");
        Some(Self { event_id: result.idempotency_key.clone(), record_id, place })
    }
}

/// Running clients.
pub struct Load {
    stop: watch::Sender<bool>,
    progress: watch::Sender<Progress>,
    clients: JoinSet<Vec<Acknowledged>>,
}

/// How acknowledgements come in.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// How many so far.
    pub count: u64,
    /// The longest time between two of them, from any node.
    pub longest_gap: Duration,
    last: Instant,
}

impl Progress {
    fn begin() -> Self {
        Self { count: 0, longest_gap: Duration::ZERO, last: Instant::now() }
    }

    fn one_more(&mut self) {
        let now = Instant::now();
        self.longest_gap = self.longest_gap.max(now - self.last);
        (self.count, self.last) = (self.count + 1, now);
    }
}

impl Load {
    /// Starts `clients_a_node` clients at each node; all their records are about one case. Each
    /// submits its next record when the last is acknowledged: every other one when it is final.
    pub fn start(cluster: &Cluster, clients_a_node: usize, case: &str) -> Self {
        let stop = watch::Sender::new(false);
        let progress = watch::Sender::new(Progress::begin());
        let mut clients = JoinSet::new();
        for node in 0..cluster.size() {
            for number in 0..clients_a_node {
                let submitter = Submitter {
                    client: cluster.client(node, "broker"),
                    case: case.to_owned(),
                    name: format!("{case}/{node}/{number}"),
                    stop: stop.subscribe(),
                    progress: progress.clone(),
                };
                clients.spawn(submitter.run());
            }
        }
        Self { stop, progress, clients }
    }

    /// Waits for this many more acknowledgements.
    ///
    /// # Panics
    /// Where they do not come, or a client was told something wrong.
    pub async fn more(&mut self, acknowledgements: u64) {
        let mut progress = self.progress.subscribe();
        let wanted = progress.borrow().count + acknowledgements;
        let enough = progress.wait_for(|progress| progress.count >= wanted);
        tokio::select! {
            waited = tokio::time::timeout(PATIENCE, enough) => {
                waited.expect("acknowledgements go on").expect("the sender is here");
            }
            Some(ended) = self.clients.join_next() => {
                panic!("a client ended: {:?}", ended.err());
            }
        }
    }

    /// How acknowledgements came in so far.
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Stops the clients and gives all that they were promised.
    ///
    /// # Panics
    /// Where a client was told something wrong.
    pub async fn stop(self) -> Vec<Acknowledged> {
        self.stop.send_replace(true);
        self.clients.join_all().await.into_iter().flatten().collect()
    }
}

struct Submitter {
    client: Client,
    case: String,
    name: String,
    stop: watch::Receiver<bool>,
    progress: watch::Sender<Progress>,
}

impl Submitter {
    async fn run(self) -> Vec<Acknowledged> {
        let mut all = Vec::new();
        for number in 0u64.. {
            let Some(acknowledged) = self.until_acknowledged(number).await else { break };
            all.push(acknowledged);
            self.progress.send_modify(Progress::one_more);
        }
        all
    }

    /// Submits one record again and again until it is acknowledged; `None` where the load stops
    /// before.
    async fn until_acknowledged(&self, number: u64) -> Option<Acknowledged> {
        let event_id = normal(&format!("{}/{number}", self.name));
        let deadline = Instant::now() + PATIENCE;
        while !*self.stop.borrow() {
            let records = vec![submission(&event_id, &self.case)];
            let call = self.client.submit_records(records, number.is_multiple_of(2));
            match tokio::time::timeout(CALL_LIMIT, call).await {
                Ok(Ok(results)) => {
                    assert_eq!(results.len(), 1, "{event_id}");
                    if let Some(acknowledged) = Acknowledged::read(&results[0]) {
                        assert_eq!(acknowledged.event_id, event_id);
                        return Some(acknowledged);
                    }
                }
                Ok(Err(error)) => assert!(passes(&error), "{event_id}: {error}"),
                Err(_) => {}
            }
            assert!(Instant::now() < deadline, "{event_id}: not taken within {PATIENCE:?}");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        None
    }
}

/// Whether an error says that a call may be tried again.
fn passes(error: &ClientError) -> bool {
    match error {
        // A connection that breaks is reported by the client's own side: with a code of its own
        // and without the node's reason.
        ClientError::Refused(refused) => {
            matches!(refused.code, Code::Unavailable | Code::ResourceExhausted)
                || refused.reason_code.is_empty()
                    && matches!(refused.code, Code::Unknown | Code::Internal | Code::Cancelled)
        }
        ClientError::Connect { .. } => true,
        ClientError::Endpoint { .. }
        | ClientError::Certificate(_)
        | ClientError::File { .. }
        | ClientError::Answer(_) => false,
    }
}

/// All events about a case that a node knows, in the ledger's order.
pub async fn events_about(client: &Client, case: &str) -> Vec<(String, Hash, Place)> {
    let history = client.history(SubjectOrKey::Subject(case_subject(case)));
    let items: Vec<_> = history.collect::<Result<_, _>>().await.expect("the node answers");
    let event = |item: v1::HistoryItem| {
        let record = v1::Record::decode(&*item.record).expect("a record");
        let Some(v1::record::Body::Event(event)) = record.body else { panic!("no event") };
        let id = Hash::from_slice(&item.record_id).expect("a record id");
        (event.event_id, id, Place::of(&item.place.expect("a place")))
    };
    items.into_iter().map(event).collect()
}

/// Waits for what was accepted a moment ago: a node that was away keeps it until it has caught up.
async fn all_are_committed(cluster: &Cluster, case: &str, acknowledged: &[Acknowledged]) {
    let client = cluster.client(0, "auditor");
    wait::until("all that was acknowledged is committed", PATIENCE, async || {
        let there = events_about(&client, case).await;
        let there: BTreeSet<_> = there.into_iter().map(|(event_id, ..)| event_id).collect();
        let lost = acknowledged.iter().find(|promise| !there.contains(&promise.event_id));
        lost.map_or(Ok(()), |promise| Err(format!("LOST, although acknowledged: {promise:?}")))
    })
    .await;
}

/// Checks that every acknowledged record is on the ledger of each node, once, and where it was said
/// to be; that a receipt of it verifies with the genesis, and the changes of validators since, alone;
/// and that no record is there twice.
///
/// # Panics
/// Where it is not so.
pub async fn nothing_is_lost(cluster: &Cluster, case: &str, acknowledged: &[Acknowledged]) {
    all_are_there(cluster, case, acknowledged, true).await;
}

/// The same where a node has lost its outbox. What it accepts again has another salt and so another id, and
/// may end as a repeat of what it had accepted before: only an answer that says FINAL names the record that
/// is on the ledger.
///
/// # Panics
/// Where it is not so.
pub async fn nothing_is_lost_though_wiped(
    cluster: &Cluster,
    case: &str,
    acknowledged: &[Acknowledged],
) {
    all_are_there(cluster, case, acknowledged, false).await;
}

async fn all_are_there(
    cluster: &Cluster,
    case: &str,
    acknowledged: &[Acknowledged],
    accepted_ids_hold: bool,
) {
    all_are_committed(cluster, case, acknowledged).await;
    // What a quorum has may be on its way to the others.
    let newest = acknowledged.iter().filter_map(|promise| promise.place).map(|place| place.height);
    let all: Vec<usize> = (0..cluster.size()).collect();
    cluster.same_head(&all, newest.max().unwrap_or(0)).await;
    let expected = events_about(&cluster.client(0, "auditor"), case).await;
    for node in 1..cluster.size() {
        let found = events_about(&cluster.client(node, "auditor"), case).await;
        assert_eq!(found, expected, "node {node} has the same records at the same places");
    }
    let ids: BTreeSet<_> = expected.iter().map(|(event_id, ..)| event_id).collect();
    assert_eq!(ids.len(), expected.len(), "no record is there twice");
    assert!(expected.is_sorted_by_key(|(_, _, place)| *place), "in the ledger's order");
    let places: BTreeMap<_, _> =
        expected.iter().map(|(event_id, id, place)| (event_id, (id, place))).collect();
    for promise in acknowledged {
        let (id, place) = places[&promise.event_id];
        if accepted_ids_hold || promise.place.is_some() {
            assert_eq!(*id, promise.record_id, "{promise:?}");
        }
        let said = promise.place.unwrap_or(*place);
        assert_eq!(*place, said, "{promise:?}");
    }
    receipts_verify(cluster, expected).await;
}

/// Fetches the receipt of each record, from one node after the other, and verifies it.
async fn receipts_verify(cluster: &Cluster, records: Vec<(String, Hash, Place)>) {
    let mut nodes = JoinSet::new();
    let verifier = cluster.verifier_by(0).await;
    for node in 0..cluster.size() {
        let (client, verifier) = (cluster.client(node, "auditor"), verifier.clone());
        let own: Vec<_> = records.iter().skip(node).step_by(cluster.size()).cloned().collect();
        nodes.spawn(async move {
            for (_, id, place) in own {
                let receipt = client.receipt(id, false).await.expect("a receipt");
                let receipt = verifier.verify_receipt(&receipt.encode_to_vec()).expect("verified");
                assert_eq!(receipt.slot.record_id, id);
                let (log_index, slot_index) = (receipt.log_index, receipt.slot_index);
                assert_eq!(Place { height: receipt.header.height, log_index, slot_index }, place);
            }
        });
    }
    nodes.join_all().await;
}
