//! What peers send: gossip is checked before it is forwarded, requests are answered.

pub mod serve;

use std::sync::Arc;

use bytes::Bytes;
use customhouse_consensus::Message;
use customhouse_ledger::{
    chain::ChainReader, hash::Hash, keys::PublicKey, transaction::VerifiedTransaction,
};
use customhouse_proto::v1;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{
    admission::{Admission, AdmissionError},
    driver::{DriverHandle, DriverInput},
    mempool::MempoolError,
    metrics::Metrics,
    network::{GossipReceipt, NetworkEvent},
};

/// Gossiped batches that are being verified at once; others wait.
const BATCHES_MAX: usize = 2;
/// Transactions of one gossiped batch at the most.
const BATCH_TRANSACTIONS_MAX: usize = 4096;

/// Takes the network's events until it stops.
#[derive(Clone)]
pub struct Inbound {
    reader: ChainReader,
    chain_id: Hash,
    admission: Admission,
    driver: DriverHandle,
    metrics: Metrics,
    mempool: crate::driver::SharedMempool,
    batches: Arc<Semaphore>,
}

impl Inbound {
    /// For this node's parts.
    pub fn new(
        reader: ChainReader,
        admission: Admission,
        mempool: crate::driver::SharedMempool,
        driver: DriverHandle,
        metrics: Metrics,
    ) -> Self {
        let batches = Arc::new(Semaphore::new(BATCHES_MAX));
        let chain_id = reader.chain_id();
        Self { reader, chain_id, admission, driver, metrics, mempool, batches }
    }

    /// Runs until the network's events end.
    pub async fn run(self, mut events: mpsc::Receiver<NetworkEvent>) {
        while let Some(event) = events.recv().await {
            self.take(event).await;
        }
    }

    async fn take(&self, event: NetworkEvent) {
        match event {
            NetworkEvent::Connected(peer) => {
                self.driver.input(DriverInput::Connected(peer)).await;
            }
            NetworkEvent::Disconnected(_) => {}
            NetworkEvent::Consensus { from, message, receipt } => {
                self.consensus(from, &message, Some(receipt)).await;
            }
            NetworkEvent::Pushed { from, message, .. } => {
                self.consensus(from, &message, None).await;
            }
            NetworkEvent::Transactions { transactions, receipt, .. } => {
                self.verify(transactions, receipt);
            }
            NetworkEvent::Request { request, reply, .. } => {
                let inbound = self.clone();
                tokio::spawn(async move { reply.send(inbound.answer(request).await) });
            }
        }
    }

    /// Hands a message to the core, which checks all of it; its verdict decides about forwarding.
    async fn consensus(
        &self,
        from: PublicKey,
        message: &v1::ConsensusMessage,
        receipt: Option<GossipReceipt>,
    ) {
        match Message::from_proto(message) {
            Ok(message) => self.driver.input(DriverInput::Message { from, message, receipt }).await,
            Err(error) => {
                self.metrics.rejected("consensus", "MALFORMED");
                tracing::debug!(peer = %from, %error, "consensus message refused");
                receipt.into_iter().for_each(|receipt| receipt.reject("malformed"));
            }
        }
    }

    /// Verifies a batch beside the consensus messages, which must not wait behind it. What waits
    /// for a turn is bounded by the network: a peer's messages that have no verdict yet count.
    fn verify(&self, transactions: Vec<Bytes>, receipt: GossipReceipt) {
        if transactions.len() > BATCH_TRANSACTIONS_MAX {
            self.metrics.rejected("gossip", "BATCH_TOO_LARGE");
            return receipt.reject("more transactions than a batch may have");
        }
        let inbound = self.clone();
        let admit = move |turn: OwnedSemaphorePermit| {
            tokio::task::spawn_blocking(move || {
                let _turn = turn;
                match inbound.admit_all(transactions) {
                    Ok(()) => receipt.accept(),
                    Err(code) => receipt.reject(code),
                }
            });
        };
        let turns = Arc::clone(&self.batches);
        match Arc::clone(&turns).try_acquire_owned() {
            Ok(turn) => admit(turn),
            Err(_) => {
                tokio::spawn(async move {
                    // The semaphore is never closed.
                    if let Ok(turn) = turns.acquire_owned().await {
                        admit(turn);
                    }
                });
            }
        }
    }

    /// Admits what is new. `Err` where the batch has something no honest peer forwards.
    fn admit_all(&self, transactions: Vec<Bytes>) -> Result<(), &'static str> {
        for encoded in transactions {
            let known = VerifiedTransaction::leaf_hash_unchecked(&encoded)
                .is_some_and(|leaf_hash| self.admission.is_waiting(&leaf_hash));
            if known {
                continue;
            }
            let transaction = VerifiedTransaction::from_bytes(encoded, &self.chain_id);
            let transaction = transaction.map_err(|error| {
                self.metrics.rejected("gossip", error.code());
                error.code()
            })?;
            match self.admission.admit(Arc::new(transaction)) {
                Ok(())
                | Err(AdmissionError::Committed(_))
                | Err(AdmissionError::Mempool(MempoolError::Present)) => {}
                // Not the sender's fault: clocks, registries and rooms differ between nodes.
                Err(error) => self.metrics.rejected("gossip", error.code()),
            }
        }
        Ok(())
    }
}
