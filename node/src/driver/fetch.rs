//! Tasks that get bytes from peers for the driver: bodies of transactions, blocks, certificates,
//! and, when this node is behind, committed blocks.

use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use customhouse_ledger::{
    agency::AgencyCode, certificate::Certificate, chain::ChainReader, hash::Hash, header::Block,
    keys::PublicKey, transaction::VerifiedTransaction,
};
use customhouse_proto::v1::{self, sync_request::Request, sync_response::Response};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{
    DriverInput, Fetch, Purpose, answers,
    catch_up::{self, Answer, Applied, Blocks, Source},
};
use crate::network::NetworkHandle;

/// Leaf hashes asked for at once.
const LEAVES_MAX: usize = 4096;
/// Pause before the same peers are asked again.
const RETRY: Duration = Duration::from_millis(250);
/// While catching up: without an answer for so long, somebody else is asked.
const SLOW: Duration = Duration::from_secs(3);

/// A block with all its bodies, from a peer. Its hash has been compared with the wanted one.
#[derive(Debug)]
pub struct FetchedBlock {
    /// The block.
    pub block: Block,
    /// Its transactions, in log order.
    pub transactions: Vec<Arc<VerifiedTransaction>>,
    /// Who sent it.
    pub from: PublicKey,
}

/// A committed block of another node with its finalization.
#[derive(Debug)]
pub struct CertifiedBlock {
    /// The block with its bodies.
    pub fetched: FetchedBlock,
    /// Its finalization.
    pub finalization: Certificate,
    /// Whether that has been verified. Only those can be whose validators are known.
    pub verified: bool,
}

impl CertifiedBlock {
    /// Its height.
    pub fn height(&self) -> u64 {
        self.fetched.block.header.height
    }

    /// Bytes of its transactions.
    pub(super) fn bytes(&self) -> u64 {
        self.fetched.transactions.iter().map(|transaction| transaction.encoded().len() as u64).sum()
    }
}

/// Starts fetches. Cheap to clone into their tasks.
#[derive(Clone)]
pub(super) struct Fetcher {
    pub(super) chain_id: Hash,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) network: NetworkHandle,
    pub(super) inputs: mpsc::Sender<DriverInput>,
    pub(super) reader: ChainReader,
    /// Whether blocks are being asked for.
    pub(super) asking: Arc<AtomicBool>,
    /// Turns for checking an answer.
    pub(super) checking: Arc<Semaphore>,
    /// Whether there is any that this node lacks: a quorum's word, where what is asked for is
    /// anybody's.
    pub(super) behind: Arc<AtomicBool>,
}

impl Fetcher {
    pub(super) fn start(&self, fetch: Fetch) {
        match fetch {
            Fetch::Bodies { purpose, missing, from } => self.bodies(purpose, missing, from),
            Fetch::Block { height, block_hash, from, avoid } => {
                self.block(height, block_hash, from, avoid);
            }
            Fetch::Certificates { height, view } => self.certificates(height, view),
            Fetch::OwnSignatures { peer, validator, from_height } => {
                self.own_signatures(peer, validator, from_height);
            }
            Fetch::CatchUp { height, .. } => self.catch_up(height),
        }
    }

    pub(super) fn is_catching_up(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// Gets bodies, from these validators first. For a commit it does not give up.
    fn bodies(&self, purpose: Purpose, missing: Vec<Hash>, from: Vec<PublicKey>) {
        let fetcher = self.clone();
        let persistent = matches!(purpose, Purpose::Commit { .. });
        self.runtime.spawn(async move {
            let transactions = fetcher.collect_bodies(missing, &from, persistent).await;
            fetcher.deliver(DriverInput::Bodies { purpose, transactions }).await;
        });
    }

    /// Gets a block by its hash with its bodies, from these validators first and from the peers to
    /// avoid last. Does not give up while the height is in progress.
    fn block(&self, height: u64, block_hash: Hash, from: Vec<PublicKey>, avoid: Vec<PublicKey>) {
        let fetcher = self.clone();
        self.runtime.spawn(async move {
            if let Some(found) = fetcher.find_block(height, block_hash, &from, &avoid).await {
                fetcher.deliver(DriverInput::Block(found)).await;
            }
        });
    }

    /// Asks every connected peer for the certificates of a view.
    fn certificates(&self, height: u64, view: u64) {
        let request = v1::CertificateRequest { height, view };
        for peer in self.connected() {
            let (fetcher, request) = (self.clone(), Request::Certificate(request));
            self.runtime.spawn(async move {
                let Some(Response::Certificate(answer)) = fetcher.ask(peer, request).await else {
                    return;
                };
                for message in answers::certificates(&answer) {
                    let input = DriverInput::Message { from: peer, message, receipt: None };
                    fetcher.deliver(input).await;
                }
            });
        }
    }

    /// Asks a peer, while it is connected, which signatures of this node's key it holds: one that
    /// the journal lacks means that the key must not sign (DESIGN §4).
    fn own_signatures(&self, peer: PublicKey, validator: PublicKey, from_height: u64) {
        let request = v1::JournalRequest { validator: validator.as_bytes().to_vec(), from_height };
        let fetcher = self.clone();
        self.runtime.spawn(async move {
            while fetcher.connected().contains(&peer) && !fetcher.inputs.is_closed() {
                let answer = fetcher.ask(peer, Request::Journal(request.clone())).await;
                if let Some(Response::Journal(answer)) = answer {
                    let (tip_height, signed) = (answer.tip_height, answers::signatures(&answer));
                    let told = DriverInput::OwnSignatures { peer, validator, tip_height, signed };
                    return fetcher.deliver(told).await;
                }
                tokio::time::sleep(RETRY).await;
            }
        });
    }

    /// Fetches committed blocks up to a height that a peer claims, unless that is under way.
    fn catch_up(&self, height: u64) {
        if self.asking.swap(true, Ordering::Relaxed) {
            return;
        }
        let fetcher = self.clone();
        self.runtime.spawn(async move {
            catch_up::catch_up(fetcher.clone(), height).await;
            fetcher.behind.store(false, Ordering::Relaxed);
            fetcher.asking.store(false, Ordering::Relaxed);
        });
    }

    async fn deliver(&self, input: DriverInput) {
        // Fails only when the driver has stopped.
        let _stopped = self.inputs.send(input).await;
    }

    async fn ask(&self, peer: PublicKey, request: Request) -> Option<Response> {
        let request = v1::SyncRequest { request: Some(request) };
        match self.network.request(peer, request).await {
            Ok(answer) => answer.response,
            Err(error) => {
                tracing::debug!(peer = %peer, %error, "a peer did not answer");
                None
            }
        }
    }

    fn connected(&self) -> Vec<PublicKey> {
        self.network.connected().borrow().iter().map(|peer| peer.key).collect()
    }

    /// Connected peers, those of the named validators first.
    fn sources(&self, first: &[PublicKey]) -> Vec<PublicKey> {
        let tip = self.reader.tip();
        let named = tip.validators.as_slice().iter().filter(|v| first.contains(&v.key));
        let agencies: Vec<AgencyCode> = named.map(|validator| validator.agency).collect();
        let connected = Arc::clone(&self.network.connected().borrow());
        let (preferred, others): (Vec<_>, Vec<_>) =
            connected.iter().partition(|peer| agencies.contains(&peer.agency));
        preferred.into_iter().chain(others).map(|peer| peer.key).collect()
    }

    async fn collect_bodies(
        &self,
        mut missing: Vec<Hash>,
        from: &[PublicKey],
        persistent: bool,
    ) -> Vec<Arc<VerifiedTransaction>> {
        let mut found = Vec::new();
        loop {
            for peer in self.sources(from) {
                while !missing.is_empty() {
                    let before = missing.len();
                    self.bodies_from(peer, &mut missing, &mut found).await;
                    if missing.len() == before {
                        break;
                    }
                }
            }
            if missing.is_empty() || !persistent || self.inputs.is_closed() {
                return found;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// One request to one peer; what it brings leaves `missing` and goes to `found`.
    async fn bodies_from(
        &self,
        peer: PublicKey,
        missing: &mut Vec<Hash>,
        found: &mut Vec<Arc<VerifiedTransaction>>,
    ) {
        let leaves = missing.iter().take(LEAVES_MAX).map(|leaf| leaf.0.to_vec()).collect();
        let request = Request::Transactions(v1::TransactionsRequest { leaves });
        let Some(Response::Transactions(answer)) = self.ask(peer, request).await else { return };
        let chain_id = self.chain_id;
        let verify = move || answers::transactions(answer.transactions, &chain_id);
        // Off the async workers.
        for transaction in tokio::task::spawn_blocking(verify).await.unwrap_or_default() {
            let leaf_hash = transaction.leaf_hash();
            if let Some(place) = missing.iter().position(|leaf| *leaf == leaf_hash) {
                missing.swap_remove(place);
                found.push(transaction);
            }
        }
    }

    async fn find_block(
        &self,
        height: u64,
        block_hash: Hash,
        from: &[PublicKey],
        avoid: &[PublicKey],
    ) -> Option<FetchedBlock> {
        let request = v1::BlockRequest { height, block_hash: block_hash.0.to_vec() };
        while self.reader.tip().header.height < height && !self.inputs.is_closed() {
            let mut sources = self.sources(from);
            sources.sort_by_key(|peer| avoid.contains(peer));
            for peer in sources {
                let Some(Response::Block(answer)) =
                    self.ask(peer, Request::Block(request.clone())).await
                else {
                    continue;
                };
                let Some(block) = answers::block(&answer, &block_hash) else { continue };
                let found = self.collect_bodies(block.leaves.clone(), &[], false).await;
                if let Some(transactions) = answers::in_order(&block.leaves, found) {
                    return Some(FetchedBlock { block, transactions, from: peer });
                }
            }
            tokio::time::sleep(RETRY).await;
        }
        None
    }
}

impl Source for Fetcher {
    fn tip(&self) -> u64 {
        self.reader.tip().header.height
    }

    fn connected(&self) -> Vec<PublicKey> {
        Fetcher::connected(self)
    }

    fn is_closed(&self) -> bool {
        self.inputs.is_closed()
    }

    async fn ask(&self, peer: PublicKey, heights: RangeInclusive<u64>) -> Answer {
        let from_height = *heights.start();
        let count = heights.end().saturating_sub(from_height).saturating_add(1);
        let count_max = u32::try_from(count).unwrap_or(u32::MAX);
        let request = Request::Blocks(v1::BlocksRequest { from_height, count_max });
        let answer = match Fetcher::ask(self, peer, request).await {
            Some(Response::Blocks(answer)) if !answer.blocks.is_empty() => answer,
            Some(Response::Blocks(_)) | None => return Answer::Nothing,
            Some(_) => return Answer::Wrong,
        };
        // Few answers at a time, each on all cores: those that came first are ready first, and the
        // driver is left its share.
        let Ok(_turn) = self.checking.acquire().await else { return Answer::Nothing };
        let (chain_id, validators) = (self.chain_id, self.reader.tip().validators.clone());
        let read = move || answers::committed_blocks(answer, peer, &chain_id, &validators);
        let read = tokio::task::spawn_blocking(read).await;
        // It fails only by a fault of this node's own.
        let Ok(read) = read else { return Answer::Nothing };
        let Some(blocks) = read else { return Answer::Wrong };
        let tip = self.reader.tip().header.height;
        if blocks.iter().any(|certified| certified.verified && certified.height() > tip) {
            self.behind.store(true, Ordering::Relaxed);
        }
        Answer::Blocks(blocks)
    }

    /// Where the validators change in between, what comes after the change is verified by those whom
    /// the change has brought.
    async fn apply(&self, from: PublicKey, mut blocks: Blocks) -> Applied {
        loop {
            let tip = self.reader.tip();
            let (height, validators, chain_id) =
                (tip.header.height, tip.validators.clone(), self.chain_id);
            let done = blocks.iter().take_while(|c| c.height() <= height).count();
            blocks.drain(..done);
            if blocks.is_empty() {
                return Applied { tip: height, lied: false };
            }
            let verify = move || (answers::decided_by(&blocks, &chain_id, &validators), blocks);
            // Off the async workers; most have been verified when they came.
            // It fails only where the runtime is going down.
            let Ok((verified, mut decided)) = tokio::task::spawn_blocking(verify).await else {
                return Applied { tip: height, lied: false };
            };
            let Ok(count @ 1..) = verified else {
                // They do not follow on the tip by its own validators.
                return Applied { tip: height, lied: true };
            };
            blocks = decided.split_off(count);
            let last = decided.last().map_or(height, CertifiedBlock::height);
            let (reply, reached) = oneshot::channel();
            self.deliver(DriverInput::Committed { from, blocks: decided, reply }).await;
            let tip = reached.await.unwrap_or(0);
            if tip < last {
                return Applied { tip, lied: false };
            }
        }
    }

    async fn patience(&self) {
        tokio::time::sleep(SLOW).await;
    }

    async fn pause(&self) {
        tokio::time::sleep(RETRY).await;
    }
}
