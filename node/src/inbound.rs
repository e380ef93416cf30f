//! What peers send: gossip is checked before it is forwarded, requests are answered.

mod announced;
mod sealed;
pub mod serve;
mod transactions;
mod turns;

pub use transactions::KnownTransactions;

use std::sync::Arc;

use customhouse_consensus::Message;
use customhouse_ledger::{chain::ChainReader, keys::PublicKey};
use customhouse_proto::v1;
use tokio::{sync::mpsc, time::Instant};

use self::{
    announced::Fetches,
    turns::{Pace, Turns},
};
use crate::{
    admission::Admission,
    attachments::Attachments,
    driver::{DriverHandle, DriverInput, SharedMempool},
    health::Responder,
    metrics::Metrics,
    network::{NetworkEvent, NetworkHandle, PendingJudgement},
    sealed::Holdings,
};

/// Takes the network's events until it stops.
#[derive(Clone)]
pub struct Inbound {
    reader: ChainReader,
    admission: Admission,
    driver: DriverHandle,
    metrics: Metrics,
    mempool: SharedMempool,
    network: NetworkHandle,
    fetches: Arc<Fetches>,
    attachments: Attachments,
    holdings: Option<Holdings>,
    batches: Arc<Turns>,
    pace: Arc<Pace>,
}

impl Inbound {
    /// For this node's parts.
    pub fn new(
        (reader, admission, mempool): (ChainReader, Admission, SharedMempool),
        driver: DriverHandle,
        (network, metrics): (NetworkHandle, Metrics),
        (attachments, holdings): (Attachments, Option<Holdings>),
    ) -> Self {
        let (fetches, batches, pace) = Default::default();
        Self {
            reader,
            admission,
            driver,
            metrics,
            mempool,
            network,
            fetches,
            attachments,
            holdings,
            batches,
            pace,
        }
    }

    /// Runs until the network's events end.
    pub async fn run(self, mut events: mpsc::Receiver<NetworkEvent>, mut responder: Responder) {
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.take(event).await,
                    None => return,
                },
                () = responder.answer() => {}
            }
        }
    }

    async fn take(&self, event: NetworkEvent) {
        match event {
            NetworkEvent::Connected(peer) => {
                self.driver.input(DriverInput::Connected(peer)).await;
            }
            NetworkEvent::Disconnected(_) => {}
            NetworkEvent::Consensus { from, message, judgement } => {
                self.consensus(from, &message, judgement).await;
            }
            NetworkEvent::Pushed { from, message, judgement } => {
                self.consensus(from, &message, judgement).await;
            }
            NetworkEvent::Transactions { from, transactions, judgement } => {
                self.verify(from, transactions, judgement);
            }
            NetworkEvent::Announced { from, announced, judgement, room } => {
                self.announced(from, &announced, judgement, room);
            }
            NetworkEvent::Sealed { from, request, reply } => self.sealed(from, request, reply),
            NetworkEvent::Request { from, request, reply } => {
                let inbound = self.clone();
                tokio::spawn(async move {
                    inbound.pace.due(from).await;
                    if reply.is_open() {
                        let asked = serve::cost_of_request(&request);
                        let answer = inbound.answer(request).await;
                        let cost = asked + serve::cost_of_answer(&answer);
                        inbound.pace.spent(from, cost, Instant::now());
                        reply.send(answer);
                    }
                });
            }
        }
    }

    /// Hands a message to the core, which checks all of it; its judgement decides about forwarding, and
    /// whether its sender is at fault.
    async fn consensus(
        &self,
        from: PublicKey,
        message: &v1::ConsensusMessage,
        judgement: PendingJudgement,
    ) {
        match Message::from_proto(message) {
            Ok(message) => {
                let judgement = Some(judgement);
                self.driver.input(DriverInput::Message { from, message, judgement }).await;
            }
            Err(error) => {
                self.metrics.rejected("consensus", "MALFORMED");
                tracing::debug!(peer = %from, %error, "consensus message refused");
                judgement.reject("malformed");
            }
        }
    }
}
