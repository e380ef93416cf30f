//! Prometheus metrics. Cheap to clone; every clone counts in the same place.

pub mod store;

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rejection {
    surface: String,
    reason: String,
}

type UnsignedGauge = Gauge<u64, AtomicU64>;

/// The node's counters and gauges.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    rejected: Family<Rejection, Counter>,
    height: UnsignedGauge,
    view: UnsignedGauge,
    transactions: Counter,
    records: Counter,
    accepted: Counter,
    evidence: Counter,
    store_corruptions: Counter,
    mempool_transactions: UnsignedGauge,
    mempool_bytes: UnsignedGauge,
    outbox_memtables: UnsignedGauge,
    clock_ahead_ms: Gauge,
    clock_wrong: UnsignedGauge,
}

impl Metrics {
    /// Registers the node's metrics, and what others add, under the prefix `customhouse`.
    pub fn new(add: impl FnOnce(&mut Registry)) -> Self {
        let mut registry = Registry::with_prefix("customhouse");
        let rejected = Family::default();
        let height = UnsignedGauge::default();
        let view = UnsignedGauge::default();
        let (transactions, records) = (Counter::default(), Counter::default());
        let (accepted, evidence) = (Counter::default(), Counter::default());
        let store_corruptions = Counter::default();
        let mempool_transactions = UnsignedGauge::default();
        let mempool_bytes = UnsignedGauge::default();
        registry.register("rejected", "Refused inputs by surface and reason", rejected.clone());
        registry.register("height", "Height of the newest committed block", height.clone());
        registry.register("view", "View in which the newest block was proposed", view.clone());
        registry.register("transactions", "Transactions committed", transactions.clone());
        registry.register("records", "Slots committed", records.clone());
        registry.register("accepted_records", "Records accepted from clients", accepted.clone());
        registry.register("evidence", "Validators caught breaking a rule", evidence.clone());
        let help = "Reads that found damaged data, and did not serve it";
        registry.register("store_corruptions", help, store_corruptions.clone());
        let help = "Transactions waiting for a block";
        registry.register("mempool_transactions", help, mempool_transactions.clone());
        registry.register("mempool_bytes", "Bytes of those", mempool_bytes.clone());
        let outbox_memtables = UnsignedGauge::default();
        let help = "Memory of the outbox's write buffers, seconds ago";
        let unit = Unit::Bytes;
        registry.register_with_unit("outbox_memtables", help, unit, outbox_memtables.clone());
        let clock_ahead_ms = Gauge::default();
        let clock_wrong = UnsignedGauge::default();
        let help =
            "Milliseconds by which the clock is ahead of the other validators', their median";
        registry.register("clock_ahead_ms", help, clock_ahead_ms.clone());
        let help = "1 where that is more than the chain's parameters allow";
        registry.register("clock_wrong", help, clock_wrong.clone());
        let help = "Lines of the log that could not be written";
        registry.register("log_lines_lost", help, crate::logs::lost_lines());
        add(&mut registry);
        Self {
            registry: Arc::new(registry),
            rejected,
            height,
            view,
            transactions,
            records,
            accepted,
            evidence,
            store_corruptions,
            mempool_transactions,
            mempool_bytes,
            outbox_memtables,
            clock_ahead_ms,
            clock_wrong,
        }
    }

    /// The Prometheus text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _infallible = encode(&mut text, &self.registry);
        text
    }

    /// Counts an input that was refused on a surface (`grpc`, `gossip`, `block`…), by reason code.
    pub fn rejected(&self, surface: &str, reason: &str) {
        let rejection = Rejection { surface: surface.to_owned(), reason: reason.to_owned() };
        self.rejected.get_or_create(&rejection).inc();
    }

    /// A block was committed.
    pub fn committed(&self, height: u64, view: u64, transactions: u64, records: u64) {
        self.height.set(height);
        self.view.set(view);
        self.transactions.inc_by(transactions);
        self.records.inc_by(records);
    }

    /// Records were accepted from clients.
    pub fn accepted(&self, records: u64) {
        self.accepted.inc_by(records);
    }

    /// How full the mempool is.
    pub fn mempool(&self, transactions: usize, bytes: usize) {
        self.mempool_transactions.set(transactions as u64);
        self.mempool_bytes.set(bytes as u64);
    }

    /// Memory of the outbox's write buffers, bytes.
    pub fn outbox_memtables(&self, bytes: u64) {
        self.outbox_memtables.set(bytes);
    }

    /// How the clock compares with others.
    pub fn clock(&self, ahead_ms: i64, wrong: bool) {
        self.clock_ahead_ms.set(ahead_ms);
        self.clock_wrong.set(wrong.into());
    }

    /// A validator was caught.
    pub fn evidence(&self) {
        self.evidence.inc();
    }

    /// A read for a client found damaged data.
    pub fn store_corruption(&self) {
        self.store_corruptions.inc();
    }
}
