//! Getting the attachments of committed records that this node lacks, from whichever peer has them: in the
//! background, a few at a time, one small answer after the other of each.
//!
//! Each piece is verified against the root before it counts, so that a peer that gives anything else is found
//! out at the piece, and blamed. What has come stays when the node stops, and is built on afterwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use customhouse_ledger::{
    agency::AgencyCode,
    chain::{BlockOutcome, ChainReader},
    hash::Hash,
};
use serde::Deserialize;
use tokio::{sync::broadcast, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Attachments,
    getting::{Fetch, FetchError, Got},
    peers::Peers,
    scanning::{self, Scanned},
    wanted::{Missing, Wanted},
};
use crate::network::NetworkHandle;

/// Attachments that are fetched at a time. Each has one answer under way.
const UNDER_WAY_MAX: usize = 4;
/// How often the height is kept from which to go on after a restart, at most.
const POSITION_EVERY: Duration = Duration::from_secs(5);
/// How often what no record refers to is looked for.
const STALE_EVERY: Duration = Duration::from_secs(600);
/// The pause after the store or the disk failed.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// How often, at most, peers that come make what nobody had due again.
const HURRY_EVERY: Duration = Duration::from_secs(30);

/// Which attachments of open records a node fetches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FetchPolicy {
    /// Those of all agencies.
    #[default]
    All,
    /// Those of its own agency, which other nodes of it took.
    Own,
    /// None.
    None,
}

/// What fetching takes.
pub struct Fetching {
    /// Where to.
    pub attachments: Attachments,
    /// The committed ledger.
    pub reader: ChainReader,
    /// The peers.
    pub network: NetworkHandle,
    /// Whose node this is.
    pub agency: AgencyCode,
    /// Which.
    pub policy: FetchPolicy,
}

impl Fetching {
    /// Runs until `stop`. `committed` tells when there are blocks to look at.
    pub async fn run(
        self,
        committed: broadcast::Receiver<Arc<BlockOutcome>>,
        stop: CancellationToken,
    ) {
        let round = Round::new(self).await;
        round.run(committed, stop).await;
    }
}

/// What is under way.
struct Round {
    parts: Arc<Fetching>,
    peers: Arc<Peers>,
    /// Whether something waits for a place.
    others_wait: Arc<AtomicBool>,
    chain_id: Hash,
    wanted: Wanted,
    /// The next height to look at.
    next: u64,
    is_at_tip: bool,
    under_way: JoinSet<(Missing, Result<Got, FetchError>)>,
    position: u64,
    position_kept: Instant,
    stale_removed: Option<Instant>,
    hurried: Option<Instant>,
    not_before: Instant,
}

impl Round {
    async fn new(parts: Fetching) -> Self {
        let chain_id = parts.reader.chain_id();
        let attachments = parts.attachments.clone();
        let read = move || scanning::read_position(&attachments, &chain_id);
        let position = tokio::task::spawn_blocking(read).await.unwrap_or(1);
        let now = Instant::now();
        Self {
            parts: Arc::new(parts),
            peers: Arc::default(),
            others_wait: Arc::default(),
            chain_id,
            wanted: Wanted::default(),
            next: position,
            is_at_tip: false,
            under_way: JoinSet::new(),
            position,
            position_kept: now,
            stale_removed: None,
            hurried: None,
            not_before: now,
        }
    }

    async fn run(
        mut self,
        mut committed: broadcast::Receiver<Arc<BlockOutcome>>,
        stop: CancellationToken,
    ) {
        let mut connected = self.parts.network.connected();
        loop {
            if !self.is_at_tip && self.not_before <= Instant::now() {
                self.look().await;
            }
            self.start_fetches(&stop);
            self.keep_position(false).await;
            self.remove_stale().await;
            let pause = self.pause();
            tokio::select! {
                () = stop.cancelled() => break,
                // However many there were meanwhile: the ledger is looked at.
                told = committed.recv() => match told {
                    Err(broadcast::error::RecvError::Closed) => break,
                    _ => self.is_at_tip = false,
                },
                Some(ended) = self.under_way.join_next() => if let Ok((missing, ended)) = ended {
                    self.ended(&missing, ended);
                },
                Ok(()) = connected.changed() => self.hurry(),
                () = tokio::time::sleep(pause) => {}
            }
        }
        // What they hold of a file stays. A task that works with the disk ends first.
        self.under_way.shutdown().await;
        self.keep_position(true).await;
        stop.cancelled().await;
    }

    /// Until when there is nothing to do unless something happens.
    fn pause(&self) -> Duration {
        let now = Instant::now();
        if !self.is_at_tip {
            return self.not_before.saturating_duration_since(now);
        }
        let has_place = self.under_way.len() < UNDER_WAY_MAX;
        let due = self.wanted.next_due().filter(|_| has_place);
        // What is due and not begun waits for one of its agency to end.
        let due = due.map(|due| due.saturating_duration_since(now).max(Duration::from_millis(50)));
        due.unwrap_or(POSITION_EVERY).min(POSITION_EVERY)
    }

    /// Looks at the next blocks.
    async fn look(&mut self) {
        if self.parts.attachments.take_lost() {
            self.next = 1;
        }
        let (parts, from) = (Arc::clone(&self.parts), self.next);
        let scan = move || scanning::scan(&parts.reader, &parts.attachments, from);
        match tokio::task::spawn_blocking(scan).await {
            Ok(Ok(Scanned { missing, next, is_at_tip })) => {
                let (policy, own, now) = (self.parts.policy, self.parts.agency, Instant::now());
                let is_wanted = |missing: &Missing| match policy {
                    FetchPolicy::All => true,
                    FetchPolicy::Own => missing.agency == own,
                    FetchPolicy::None => false,
                };
                for missing in missing.into_iter().filter(is_wanted) {
                    self.wanted.add(missing, now);
                }
                (self.next, self.is_at_tip) = (next, is_at_tip);
                if is_at_tip && let Some(from) = self.wanted.take_skipped() {
                    (self.next, self.is_at_tip) = (from, false);
                }
            }
            Ok(Err(error)) => {
                tracing::error!(%error, height = from, "attachments of records cannot be looked for");
                self.not_before = Instant::now() + AFTER_FAILURE;
            }
            // The runtime is going down.
            Err(_) => self.not_before = Instant::now() + AFTER_FAILURE,
        }
    }

    fn start_fetches(&mut self, stop: &CancellationToken) {
        while self.under_way.len() < UNDER_WAY_MAX {
            let Some(missing) = self.wanted.next(Instant::now()) else { break };
            let what = (missing, self.wanted.agencies_of(&missing));
            let (parts, peers) = (Arc::clone(&self.parts), Arc::clone(&self.peers));
            let fetch = Fetch::new(parts, peers, what, Arc::clone(&self.others_wait));
            let stop = stop.clone();
            self.under_way.spawn(async move {
                tokio::select! {
                    fetched = fetch.run() => (missing, fetched),
                    () = stop.cancelled() => (missing, Err(FetchError::Nowhere)),
                }
            });
        }
        let others_wait = self.wanted.is_any_due(Instant::now());
        self.others_wait.store(others_wait, Ordering::Relaxed);
    }

    fn ended(&mut self, missing: &Missing, ended: Result<Got, FetchError>) {
        let root = missing.root.short();
        match ended {
            Ok(Got::Held) => {
                tracing::debug!(attachment = %root, bytes = missing.size, "attachment held");
                self.wanted.came(missing);
            }
            Ok(Got::Never) => {
                let (agency, size) = (missing.agency, missing.size);
                tracing::debug!(attachment = %root, %agency, size, "a record states a wrong size");
                self.wanted.never_comes(missing);
            }
            Ok(Got::Part) => {
                tracing::debug!(attachment = %root, "some of an attachment came");
                self.wanted.came_in_part(missing, Instant::now());
            }
            Err(error) => {
                tracing::debug!(attachment = %root, %error, "attachment not fetched yet");
                if let FetchError::BrokeOff = error {
                    self.wanted.came_in_part(missing, Instant::now());
                }
                self.wanted.failed(missing, Instant::now());
            }
        }
    }

    fn hurry(&mut self) {
        let now = Instant::now();
        if self.hurried.is_none_or(|hurried| now - hurried > HURRY_EVERY) {
            self.hurried = Some(now);
            self.wanted.hurry(now);
        }
    }

    /// Keeps the height below which nothing is missing, where it has changed, from time to time.
    async fn keep_position(&mut self, at_once: bool) {
        let position = self.wanted.lowest().map_or(self.next, |lowest| lowest.min(self.next));
        let due = at_once || self.position_kept.elapsed() > POSITION_EVERY;
        if position == self.position || !due {
            return;
        }
        let (attachments, chain_id) = (self.parts.attachments.clone(), self.chain_id);
        let write = move || scanning::write_position(&attachments, &chain_id, position);
        self.position_kept = Instant::now();
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => self.position = position,
            Ok(Err(error)) => tracing::error!(%error, "the attachments' position cannot be kept"),
            Err(_) => {}
        }
    }

    async fn remove_stale(&mut self) {
        // Not before all that is committed was looked at: a record may refer to what looks stale.
        let due = self.stale_removed.is_none_or(|removed| removed.elapsed() > STALE_EVERY);
        if !due || !self.is_at_tip {
            return;
        }
        self.stale_removed = Some(Instant::now());
        let attachments = self.parts.attachments.clone();
        let remove = move || attachments.remove_stale(SystemTime::now());
        let _going_down = tokio::task::spawn_blocking(remove).await;
    }
}
