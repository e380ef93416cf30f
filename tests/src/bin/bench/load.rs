//! Many records, through all nodes at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use customhouse_client::Client;
use customhouse_ledger::hash::Hash;
use customhouse_proto::v1::{self, Phase};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    cluster::{Cluster, Node},
    report::{Goal, Report, Section},
    usage::{Disk, Usage},
    work::{self, Kind, Signer},
};

/// Submissions that are not final yet, over all clients.
const IN_FLIGHT_MAX: usize = 8192;
/// Signed transactions that are made ready for a second of full load, over all nodes: more than
/// the machine can commit.
const SIGNED_PER_SECOND: u64 = 6000;
/// How long the signed transactions may be committed.
const LIFETIME: Duration = Duration::from_secs(3600);
/// Record ids kept, to ask for receipts.
const SAMPLES: usize = 50;
/// What is to be reached.
const CLIENT_SIGNED_GOAL: f64 = 2000.0;
const NODE_SIGNED_GOAL: f64 = 10_000.0;
const MEMORY_MB_GOAL: f64 = 500.0;

/// How fast it is submitted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As fast as it is taken.
    Full,
    /// This many a second over all nodes, evenly.
    Fixed {
        /// More than 0.
        per_second: f64,
    },
}

/// A load to run.
pub(crate) struct Load {
    pub(crate) kind: Kind,
    pub(crate) pace: Pace,
    /// How long records are submitted; what was submitted is then waited for.
    pub(crate) time: Duration,
    /// A node that is down and is started halfway.
    pub(crate) returns: Option<usize>,
}

/// What became of it.
pub(crate) struct Outcome {
    pub(crate) records: u64,
    /// From the first submission until all clients had all their answers.
    pub(crate) answered: Duration,
    /// From the first submission until all running nodes had committed the last.
    pub(crate) elapsed: Duration,
    /// The height that has the last.
    pub(crate) height: u64,
    /// Some of the records.
    pub(crate) samples: Vec<Hash>,
    pub(crate) blocks: u64,
    pub(crate) times_ms: Vec<f64>,
    before: Vec<Usage>,
    halfway: Vec<Usage>,
    after: Vec<Usage>,
    disk_before: Disk,
    disk_after: Disk,
}

/// What came back on one client's stream.
#[derive(Default)]
struct Answers {
    records: u64,
    height: u64,
    times_ms: Vec<f64>,
    samples: Vec<Hash>,
}

impl Load {
    pub(crate) async fn run(&self, cluster: &mut Cluster) -> anyhow::Result<Outcome> {
        let mut work = Vec::new();
        for node in cluster.running() {
            work.push(self.work_for(node, cluster).await?);
        }
        let first_height = newest_height(cluster).await?;
        let (before, disk_before) = (cluster.usage()?, cluster.disk());
        let begun = Instant::now();
        let share = work.len() as f64;
        let mut clients = JoinSet::new();
        for (node, work) in cluster.running().zip(work) {
            let pause = match self.pace {
                Pace::Full => None,
                Pace::Fixed { per_second } => Some(Duration::from_secs_f64(share / per_second)),
            };
            let in_flight_max = IN_FLIGHT_MAX / share as usize;
            let feed = Feed { begun, until: begun + self.time, pause, in_flight_max };
            clients.spawn(drive(node.broker.clone(), work, feed));
        }
        sleep_until(begun + self.time / 2).await;
        let halfway = cluster.usage()?;
        if let Some(node) = self.returns {
            cluster.start_node(node)?;
        }
        let mut answers = Vec::new();
        while let Some(ended) = clients.join_next().await {
            answers.push(ended??);
        }
        let answered = begun.elapsed();
        let height = answers.iter().map(|answers| answers.height).max().unwrap_or_default();
        cluster.reached(height).await?;
        let elapsed = begun.elapsed();
        let records = answers.iter().map(|answers| answers.records).sum();
        // More than were submitted anywhere.
        cluster.next_number += records + self.signed_count(1) + 1_000_000;
        Ok(Outcome {
            records,
            answered,
            elapsed,
            height,
            blocks: height - first_height,
            samples: answers.iter().flat_map(|answers| answers.samples.clone()).collect(),
            times_ms: answers.into_iter().flat_map(|answers| answers.times_ms).collect(),
            before,
            halfway,
            after: cluster.usage()?,
            disk_before,
            disk_after: cluster.disk(),
        })
    }

    /// Transactions that the client of one of `nodes` nodes signs ahead.
    fn signed_count(&self, nodes: u64) -> u64 {
        let per_second = match self.pace {
            Pace::Full => SIGNED_PER_SECOND,
            Pace::Fixed { per_second } => per_second.ceil() as u64,
        };
        (per_second * self.time.as_secs()).div_ceil(nodes) + 1
    }

    async fn work_for(&self, node: &Node, cluster: &Cluster) -> anyhow::Result<Work> {
        let from = cluster.next_number;
        if self.kind == Kind::NodeSigned {
            return Ok(Work::Records { agency: node.agency, next: from });
        }
        let status = node.operator.status().await?;
        let signer = Arc::new(Signer {
            agency: node.agency,
            key: node.submitter_key.clone(),
            chain_id: cluster.genesis.chain_id(),
            not_after_ms: unix_ms()?.max(status.time_ms) + u64::try_from(LIFETIME.as_millis())?,
        });
        let count = self.signed_count(cluster.running().count() as u64);
        let signing = tokio::task::spawn_blocking(move || signer.transactions(from, count));
        Ok(Work::Transactions(signing.await??.into_iter()))
    }
}

fn unix_ms() -> anyhow::Result<u64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(u64::try_from(now.as_millis())?)
}

async fn newest_height(cluster: &Cluster) -> anyhow::Result<u64> {
    let mut newest = 0;
    for node in cluster.running() {
        newest = newest.max(node.operator.status().await?.height);
    }
    Ok(newest)
}

/// What a client submits.
enum Work {
    Transactions(std::vec::IntoIter<(Hash, v1::Transaction)>),
    Records { agency: customhouse_ledger::agency::AgencyCode, next: u64 },
}

/// When a client submits.
#[derive(Clone, Copy)]
struct Feed {
    begun: Instant,
    until: Instant,
    pause: Option<Duration>,
    in_flight_max: usize,
}

impl Feed {
    /// Waits for the time of number `index`; `false` when the time is over.
    async fn due(&self, index: u32) -> bool {
        if let Some(pause) = self.pause {
            let at = self.begun + pause * index;
            // The timer is no finer than that.
            if at > Instant::now() + Duration::from_millis(1) {
                sleep_until(at).await;
            }
        }
        Instant::now() < self.until
    }
}

/// Submissions under way, by what their answer names.
#[derive(Default)]
struct UnderWay {
    since: Mutex<HashMap<Vec<u8>, Instant>>,
}

impl UnderWay {
    fn begin(&self, key: Vec<u8>) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.insert(key, Instant::now());
    }

    /// Milliseconds that it took.
    fn end(&self, key: &[u8]) -> Option<f64> {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        Some(since.remove(key)?.elapsed().as_secs_f64() * 1e3)
    }
}

/// Submits one client's work and takes the answers.
async fn drive(client: Client, work: Work, feed: Feed) -> anyhow::Result<Answers> {
    let under_way = Arc::new(UnderWay::default());
    let room = Arc::new(Semaphore::new(feed.in_flight_max));
    let (submitting, keeping) = (Arc::clone(&room), Arc::clone(&under_way));
    let begin = move |key: Vec<u8>| keeping.begin(key);
    match work {
        Work::Transactions(transactions) => {
            let items = transactions.map(|(id, transaction)| {
                let transaction = Some(transaction);
                (id.0.to_vec(), v1::SubmitTransactionRequest { transaction, wait: true })
            });
            let stream = submit(items, feed, submitting, begin);
            let mut answers = client.stream_transactions(stream).await?;
            let mut taken = Answers::default();
            while let Some(answer) = answers.message().await.context("the stream of answers")? {
                room.add_permits(1);
                anyhow::ensure!(answer.phase() == Phase::Final, "not final: {answer:?}");
                taken.take(under_way.end(&answer.transaction_id), answer.height, &[]);
            }
            Ok(taken)
        }
        Work::Records { agency, next } => {
            let items = (next..).map(move |number| {
                let submission = Some(work::submission(agency, number));
                let request = v1::StreamRecordsRequest { submission, wait: true };
                (work::key_of(number).into_bytes(), request)
            });
            let stream = submit(items, feed, submitting, begin);
            let mut answers = client.stream_records(stream).await?;
            let mut taken = Answers::default();
            while let Some(answer) = answers.message().await.context("the stream of answers")? {
                room.add_permits(1);
                anyhow::ensure!(answer.phase() == Phase::Final, "not final: {answer:?}");
                let time = under_way.end(answer.idempotency_key.as_bytes());
                taken.take(time, answer.height, &answer.record_id);
            }
            Ok(taken)
        }
    }
}

/// A stream of requests, each sent when it is due and there is room.
fn submit<T: Send + 'static>(
    items: impl Iterator<Item = (Vec<u8>, T)> + Send + 'static,
    feed: Feed,
    room: Arc<Semaphore>,
    begin: impl Fn(Vec<u8>) + Send + 'static,
) -> ReceiverStream<T> {
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        for (index, (key, item)) in (0..).zip(items) {
            if !feed.due(index).await {
                break;
            }
            let Ok(permit) = room.acquire().await else { break };
            // Given back with the answer.
            permit.forget();
            begin(key);
            if sender.send(item).await.is_err() {
                break;
            }
        }
    });
    ReceiverStream::new(receiver)
}

impl Answers {
    fn take(&mut self, time_ms: Option<f64>, height: u64, record_id: &[u8]) {
        self.records += 1;
        self.height = self.height.max(height);
        self.times_ms.extend(time_ms);
        if self.samples.len() < SAMPLES {
            self.samples.extend(Hash::from_slice(record_id));
        }
    }
}

impl Outcome {
    pub(crate) fn records_per_second(&self) -> f64 {
        self.records as f64 / self.elapsed.as_secs_f64()
    }

    /// The figures of full load.
    pub(crate) fn report(mut self, section: Section, report: &mut Report) -> Self {
        let goal = match section {
            Section::ClientSigned => CLIENT_SIGNED_GOAL,
            _ => NODE_SIGNED_GOAL,
        };
        let (records, seconds) = (self.records as f64, self.elapsed.as_secs_f64());
        let per_second = self.records_per_second();
        report.goal(
            section,
            "committed on all nodes",
            per_second,
            "records/s",
            Goal::AtLeast(goal),
        );
        report.figure(section, "records", records, "");
        report.figure(section, "time", seconds, "s");
        report.figure(section, "blocks", self.blocks as f64 / seconds, "/s");
        report.figure(section, "records in a block", records / self.blocks.max(1) as f64, "");
        report.times(section, "final, at full load", &mut self.times_ms, None);
        let cpu = |usage: &[Usage]| usage.iter().map(|usage| usage.cpu_s).sum::<f64>();
        let cpu_s = cpu(&self.after) - cpu(&self.before);
        report.figure(section, "processor time of 10,000 records", cpu_s / records * 1e4, "s");
        report.figure(section, "processors in use by the nodes", cpu_s / seconds, "");
        let nodes = self.after.len() as f64;
        let disk = |of: fn(&Disk) -> u64| {
            let more = of(&self.disk_after).saturating_sub(of(&self.disk_before));
            more as f64 / records / nodes
        };
        let (all, logs) = (disk(|disk| disk.all), disk(|disk| disk.logs));
        report.figure(section, "store, of one record", all, "bytes a node");
        report.figure(section, "of that, write-ahead logs", logs, "bytes a node");
        self.report_memory(section, report);
        self
    }

    fn report_memory(&self, section: Section, report: &mut Report) {
        let most =
            |usage: &[Usage], of: fn(&Usage) -> f64| usage.iter().map(of).fold(0.0, f64::max);
        let steps = [("before", &self.before), ("halfway", &self.halfway), ("after", &self.after)];
        for (step, usage) in steps {
            let most = most(usage, |usage| usage.resident_mb);
            report.figure(section, format!("memory of the largest node, {step}"), most, "MB");
        }
        let peak = most(&self.after, |usage| usage.peak_mb);
        let goal = Goal::Below(MEMORY_MB_GOAL);
        report.goal(section, "memory of the largest node, peak", peak, "MB", goal);
    }

    /// The figures of half the load.
    pub(crate) fn report_half(mut self, section: Section, report: &mut Report) {
        let per_second = self.records_per_second();
        report.figure(section, "submitted at half load", per_second, "records/s");
        report.times(section, "final, at half load", &mut self.times_ms, None);
    }
}
