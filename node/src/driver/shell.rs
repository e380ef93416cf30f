//! The world of a running node's driver: the network, the fetches, and those who listen.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use customhouse_consensus::{Evidence, Message, Now};
use customhouse_ledger::{agency::AgencyCode, chain::BlockOutcome, keys::PublicKey};
use tokio::sync::{broadcast, mpsc, watch};

use super::{ConsensusStatus, Fetch, Outside, fetch::Fetcher};
use crate::{
    clock::ClockStatus,
    driver::breaches::Breaches,
    metrics::Metrics,
    network::{Addresses, NetworkHandle},
};

pub(super) struct Shell {
    pub(super) network: NetworkHandle,
    pub(super) fetcher: Fetcher,
    pub(super) addresses: Addresses,
    pub(super) started: Instant,
    pub(super) committed: broadcast::Sender<Arc<BlockOutcome>>,
    pub(super) height: watch::Sender<u64>,
    pub(super) status: watch::Sender<ConsensusStatus>,
    pub(super) metrics: Metrics,
    pub(super) clock: ClockStatus,
    pub(super) breaches: Breaches,
    /// The way to the reporter.
    pub(super) evidence: mpsc::Sender<Evidence>,
}

impl Outside for Shell {
    fn now(&self) -> Now {
        let monotonic_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { monotonic_ms, unix_ms: crate::clock::unix_ms() }
    }

    fn clock_is_right(&self) -> bool {
        !self.clock.borrow().wrong
    }

    fn publish(&mut self, messages: Vec<Message>) {
        self.network.publish_consensus(messages.iter().map(Message::to_proto).collect());
    }

    fn push(&mut self, peer: PublicKey, message: Message) {
        self.network.push(peer, message.to_proto());
    }

    fn charge(&mut self, peer: PublicKey, reason: &'static str) {
        self.network.charge(peer, reason);
    }

    fn publish_transaction(&mut self, encoded: Bytes) {
        self.network.publish_transaction(encoded);
    }

    fn fetch(&mut self, fetch: Fetch) {
        self.fetcher.start(fetch);
    }

    fn is_catching_up(&self) -> bool {
        self.fetcher.is_catching_up()
    }

    fn committed(&mut self, block: Arc<BlockOutcome>) {
        self.height.send_replace(block.header.height);
        // That nobody listens is not a fault.
        let _listeners = self.committed.send(block);
    }

    fn listed(&mut self, peers: &[(AgencyCode, PublicKey)]) {
        self.network.list(self.addresses.of_all(peers));
    }

    fn evidence(&mut self, evidence: &Evidence) {
        self.metrics.evidence();
        if !self.breaches.is_news(evidence.culprit(), Instant::now()) {
            return;
        }
        tracing::error!(?evidence, "a validator has provably broken a rule");
        if self.evidence.try_send(evidence.clone()).is_err() {
            tracing::warn!("too much evidence waits to be reported: this piece is left to others");
        }
    }

    fn status(&mut self, status: ConsensusStatus) {
        self.status.send_if_modified(|old| {
            let changed = *old != status;
            if changed {
                *old = status;
            }
            changed
        });
    }
}
