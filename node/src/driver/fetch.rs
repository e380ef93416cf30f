//! Tasks that get bytes from peers for the driver: bodies of transactions, blocks, certificates,
//! and, when this node is behind, committed blocks.
//!
//! However often the driver asks, there is one task that gathers blocks, with a bounded number of
//! requests ([`Gathering`]), one that catches up, and one for each [`Question`] to a peer.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use customhouse_ledger::{
    chain::ChainReader,
    finality::{certificate::Certificate, header::Block},
    hash::Hash,
    keys::PublicKey,
    transaction::VerifiedTransaction,
};
use customhouse_proto::v1::{self, sync_request::Request, sync_response::Response};
use tokio::{
    sync::{Notify, Semaphore, mpsc, oneshot},
    task::JoinSet,
};

use super::{
    DriverInput, Fetch, answers,
    catch_up::{self, Answer, Applied, Blocks, Doubt, Source},
    gather::{Ask, Gathering, Gave, Surroundings},
};
use crate::network::NetworkHandle;

/// Pause before the same peer is asked again.
const RETRY: Duration = Duration::from_millis(250);
/// While catching up: without an answer for this long, somebody else is asked.
const SLOW: Duration = Duration::from_secs(3);
/// How long a peer whose answer was wrong or late is asked for blocks last.
const DOUBTED: Duration = Duration::from_secs(60);
/// Questions to one peer that have no answer yet; more are dropped, and the core will ask again.
const QUESTIONS_MAX: usize = 32;

/// The fault of a peer that answers something else than it was asked.
const OTHER_ANSWER: &str = "OTHER_ANSWER";

/// A committed block of another node with its bodies and finalization.
#[derive(Debug)]
pub struct CertifiedBlock {
    /// The block.
    pub block: Block,
    /// Its transactions, in log order.
    pub transactions: Vec<Arc<VerifiedTransaction>>,
    /// Their encodings instead, where it is not known yet who decided the block: they are read when it
    /// is.
    pub unread: Vec<Bytes>,
    /// Its finalization.
    pub finalization: Certificate,
    /// Whether that has been verified. Only those can be whose validators are known.
    pub verified: bool,
}

impl CertifiedBlock {
    /// Its height.
    pub fn height(&self) -> u64 {
        self.block.header.height
    }

    /// Bytes of its transactions.
    pub(super) fn bytes(&self) -> u64 {
        let read = self.transactions.iter().map(|transaction| transaction.encoded());
        read.chain(&self.unread).map(|encoded| encoded.len() as u64).sum()
    }
}

/// Something that a peer is asked once at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Question {
    /// The certificates of a view of a height.
    Certificates(u64, u64),
    /// What it holds of this node's key.
    OwnSignatures(PublicKey),
}

/// Starts fetches. Cheap to clone into their tasks.
#[derive(Clone)]
pub(super) struct Fetcher {
    pub(super) chain_id: Hash,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) network: NetworkHandle,
    pub(super) inputs: mpsc::Sender<DriverInput>,
    pub(super) reader: ChainReader,
    pub(super) gathering: Arc<Mutex<Gathering>>,
    /// Tells the task that gathers of something new.
    pub(super) wanted: Arc<Notify>,
    /// Questions without an answer yet.
    pub(super) questions: Arc<Mutex<BTreeSet<(PublicKey, Question)>>>,
    /// Whether blocks are being asked for.
    pub(super) asking: Arc<AtomicBool>,
    /// Turns for checking an answer.
    pub(super) checking: Arc<Semaphore>,
    /// The newest height that is known to be decided, from a quorum; the heights asked for are
    /// anybody's claim.
    pub(super) decided: Arc<AtomicU64>,
    /// Peers whose answers were wrong or late when blocks were asked for, until when they are asked
    /// last.
    pub(super) doubted: Arc<Mutex<BTreeMap<PublicKey, Instant>>>,
}

/// A question's place, given back when it has been answered or given up.
struct Place {
    questions: Arc<Mutex<BTreeSet<(PublicKey, Question)>>>,
    question: (PublicKey, Question),
}

impl Drop for Place {
    fn drop(&mut self) {
        locked(&self.questions).remove(&self.question);
    }
}

/// A panic elsewhere cannot leave these half-changed.
fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fetcher {
    pub(super) fn start(&self, fetch: Fetch) {
        match fetch {
            Fetch::Bodies { purpose, missing, from } => {
                locked(&self.gathering).want_bodies(purpose, missing, from);
                self.wanted.notify_one();
            }
            Fetch::Block { height, block_hash, from } => {
                locked(&self.gathering).want_block(height, block_hash, from);
                self.wanted.notify_one();
            }
            Fetch::Certificates { height, view } => self.certificates(height, view),
            Fetch::OwnSignatures { peer, validator, from_height } => {
                self.own_signatures(peer, validator, from_height);
            }
            Fetch::CatchUp { height } => self.catch_up(height),
        }
    }

    pub(super) fn is_catching_up(&self) -> bool {
        self.asking.load(Ordering::Relaxed)
            && self.decided.load(Ordering::Relaxed) > self.reader.tip().header.height
    }

    /// Gathers blocks and bodies for as long as the driver runs.
    pub(super) async fn gather(self, started: Instant) {
        let (mut connected, mut network_runs) = (self.network.connected(), true);
        let mut answers = JoinSet::new();
        loop {
            let ms = || u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let (asks, told, wake_at) = {
                let peers = Fetcher::connected(&self);
                let tip = self.reader.tip().header.height;
                let mut gathering = locked(&self.gathering);
                let (asks, told) =
                    gathering.next(Surroundings { ms: ms(), tip, connected: &peers });
                (asks, told, gathering.wake_at())
            };
            for ask in asks {
                answers.spawn(self.clone().ask_for(ask));
            }
            for input in told {
                self.deliver(input).await;
            }
            let timer = async {
                match wake_at {
                    Some(at) => {
                        let at = started + Duration::from_millis(at);
                        tokio::time::sleep_until(at.into()).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.inputs.closed() => return,
                () = self.wanted.notified() => {}
                () = timer => {}
                changed = connected.changed(), if network_runs => network_runs = changed.is_ok(),
                Some(answer) = answers.join_next() => match answer {
                    Ok((ask, gave)) => locked(&self.gathering).answered(ask, gave),
                    // Whatever it was asked for would never be asked for again.
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_runtime_is_going_down) => return,
                },
            }
        }
    }

    async fn ask_for(self, ask: Ask) -> ((u64, Hash), Option<Gave>) {
        let Ask { number, peer, block_hash, request } = ask;
        let gave = match self.ask(peer, request.clone()).await {
            None => None,
            Some(response) => {
                let reader = self.reader.clone();
                let read = move || answers::gave(response, &request, &block_hash, &reader);
                // Off the async workers.
                Some(match tokio::task::spawn_blocking(read).await {
                    Ok(gave) => gave,
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_runtime_is_going_down) => Gave::Nothing,
                })
            }
        };
        ((number, block_hash), gave)
    }

    /// Asks every connected peer for the certificates of a view.
    fn certificates(&self, height: u64, view: u64) {
        let request = v1::CertificateRequest { height, view };
        for peer in self.connected() {
            let Some(place) = self.place((peer, Question::Certificates(height, view))) else {
                continue;
            };
            let (fetcher, request) = (self.clone(), Request::Certificate(request));
            self.runtime.spawn(async move {
                let _place = place;
                let answer = match fetcher.ask(peer, request).await {
                    Some(Response::Certificate(answer)) => answer,
                    Some(_) => return fetcher.network.charge(peer, OTHER_ANSWER),
                    None => return,
                };
                for message in answers::certificates(&answer) {
                    let input = DriverInput::Message { from: peer, message, judgement: None };
                    fetcher.deliver(input).await;
                }
            });
        }
    }

    /// Asks a peer, while it is connected, which signatures of this node's key it holds: one that
    /// the journal lacks means that the key must not sign ([`customhouse_consensus::Journal`]).
    fn own_signatures(&self, peer: PublicKey, validator: PublicKey, from_height: u64) {
        let request = v1::JournalRequest { validator: validator.as_bytes().to_vec(), from_height };
        let Some(place) = self.place((peer, Question::OwnSignatures(validator))) else { return };
        let fetcher = self.clone();
        self.runtime.spawn(async move {
            let _place = place;
            while fetcher.connected().contains(&peer) && !fetcher.inputs.is_closed() {
                match fetcher.ask(peer, Request::Journal(request.clone())).await {
                    Some(Response::Journal(answer)) => {
                        let (tip_height, signed) =
                            (answer.tip_height, answers::signatures(&answer));
                        let told =
                            DriverInput::OwnSignatures { peer, validator, tip_height, signed };
                        return fetcher.deliver(told).await;
                    }
                    Some(_) => fetcher.network.charge(peer, OTHER_ANSWER),
                    None => {}
                }
                tokio::time::sleep(RETRY).await;
            }
        });
    }

    /// A place for a question; none where it is being asked, or too many others are.
    fn place(&self, question: (PublicKey, Question)) -> Option<Place> {
        let mut questions = locked(&self.questions);
        let of_peer = questions.iter().filter(|(peer, _)| *peer == question.0).count();
        let own = matches!(question.1, Question::OwnSignatures(_));
        if (of_peer >= QUESTIONS_MAX && !own) || !questions.insert(question) {
            return None;
        }
        Some(Place { questions: Arc::clone(&self.questions), question })
    }

    /// Fetches committed blocks up to a height that a peer claims, unless that is under way.
    fn catch_up(&self, height: u64) {
        if self.asking.swap(true, Ordering::Relaxed) {
            return;
        }
        let fetcher = self.clone();
        self.runtime.spawn(async move {
            catch_up::catch_up(fetcher.clone(), height).await;
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
            None => return Answer::Nothing,
            Some(Response::Blocks(answer)) if answer.blocks.is_empty() => return Answer::Nothing,
            Some(Response::Blocks(answer)) if answer.blocks.len() as u64 <= count => answer,
            Some(_) => return Answer::Wrong,
        };
        // Few answers at a time, each on all cores: those that came first are ready first, and the
        // driver is left its share.
        let Ok(_turn) = self.checking.acquire().await else { return Answer::Nothing };
        let (chain_id, validators) = (self.chain_id, self.reader.tip().validators.clone());
        let read = move || answers::committed_blocks(answer, &chain_id, &validators);
        let read = tokio::task::spawn_blocking(read).await;
        // It fails only by a fault of this node's own.
        let Ok(read) = read else { return Answer::Nothing };
        let Some(blocks) = read else { return Answer::Wrong };
        let verified = blocks.iter().filter(|certified| certified.verified);
        if let Some(newest) = verified.map(CertifiedBlock::height).max() {
            self.decided.fetch_max(newest, Ordering::Relaxed);
        }
        Answer::Blocks(blocks)
    }

    /// Where the validators change in between, what comes after the change is verified with the
    /// validators that the change has brought.
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
            let read = move || answers::with_bodies_read(decided, &chain_id);
            let Ok(read) = tokio::task::spawn_blocking(read).await else {
                return Applied { tip: height, lied: false };
            };
            let Some(decided) = read else { return Applied { tip: height, lied: true } };
            let (reply, reached) = oneshot::channel();
            self.deliver(DriverInput::Committed { from, blocks: decided, reply }).await;
            let tip = reached.await.unwrap_or(0);
            if tip < last {
                return Applied { tip, lied: false };
            }
        }
    }

    fn decided(&self) -> u64 {
        self.decided.load(Ordering::Relaxed)
    }

    fn doubted(&self) -> BTreeSet<PublicKey> {
        let now = Instant::now();
        let mut doubted = locked(&self.doubted);
        doubted.retain(|_, until| *until > now);
        doubted.keys().copied().collect()
    }

    fn doubt(&self, peer: PublicKey, doubt: Doubt) {
        if doubt == Doubt::Lied {
            self.network.charge(peer, "BLOCKS");
        }
        locked(&self.doubted).insert(peer, Instant::now() + DOUBTED);
    }

    async fn patience(&self) {
        tokio::time::sleep(SLOW).await;
    }

    async fn pause(&self) {
        tokio::time::sleep(RETRY).await;
    }
}
