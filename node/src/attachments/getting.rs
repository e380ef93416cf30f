//! One attachment's way: which peers are asked for it, and its pieces from them, each verified before it counts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use customhouse_ledger::{
    agency::AgencyCode,
    attachment::{pieces_of, verify_piece},
    limits::PIECE_BYTES,
    merkle,
};
use customhouse_proto::v1::{self, sync_request::Request, sync_response::Response};
use tokio::time::timeout;

use super::{
    AttachmentRefusal, Claim, ExpectedFile, FileOwner, IncomingFile, answering::PIECES_MAX,
    fetching::Fetching, peers::Peers, unclaimed_until, wanted::Missing,
};
use crate::network::PeerKey;

/// For how long a question waits for those before it that the same peer was asked.
const PLACE_WITHIN: Duration = Duration::from_secs(3);
/// By when a peer has answered, which is less than the network would wait: a few pieces at the pace below which it is
/// slow.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// After how long an attachment gives its place to another that waits for one.
const LEASE: Duration = Duration::from_secs(10);
/// How many times as long as it took to read back what had come it keeps its place at least.
const LEASE_OF_READING: u32 = 4;

/// Why an attachment was not got.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// No peer that is connected has it.
    #[error("no connected peer has it")]
    Nowhere,
    /// No peer that is connected has more of it.
    #[error("no connected peer has more of it than came")]
    BrokeOff,
    /// It cannot be kept.
    #[error("{0}")]
    Refused(#[from] AttachmentRefusal),
}

/// How an attachment's way ended well.
#[derive(Clone, Copy, Debug)]
pub(super) enum Got {
    /// It is held, and stays.
    Held,
    /// No file is it.
    Never,
    /// Some of it has come, and others wait for its place.
    Part,
}

/// One attachment's way.
pub(super) struct Fetch {
    parts: Arc<Fetching>,
    peers: Arc<Peers>,
    missing: Missing,
    /// Whose records refer to it.
    agencies: Vec<AgencyCode>,
    /// Whether others wait for a place.
    others_wait: Arc<AtomicBool>,
    /// Until when it keeps its own all the same.
    lease: Instant,
    /// Bytes that had come before.
    before: u64,
    /// Where its bytes go. Nothing is set aside for it before a first piece is verified: what a record states
    /// may be a lie, of which nobody has a piece.
    incoming: Option<IncomingFile>,
}

impl Fetch {
    pub(super) fn new(
        parts: Arc<Fetching>,
        peers: Arc<Peers>,
        (missing, agencies): (Missing, Vec<AgencyCode>),
        others_wait: Arc<AtomicBool>,
    ) -> Self {
        let lease = Instant::now() + LEASE;
        Self { parts, peers, missing, agencies, others_wait, lease, before: 0, incoming: None }
    }

    pub(super) async fn run(mut self) -> Result<Got, FetchError> {
        let Missing { root, size, .. } = self.missing;
        let attachments = self.parts.attachments.clone();
        let look = move || {
            // A client may have brought it since its record was committed: it stays.
            let claim = attachments.claim(&root, size);
            let before = attachments.fetched(&root, size);
            if let Ok(Claim::Missing) = claim
                && before == 0
            {
                attachments.has_room(size)?;
            }
            let directory = attachments.inner.paths.directory();
            claim.map(|claim| (claim, before)).map_err(|error| attachments.io(directory, &error))
        };
        let claim;
        (claim, self.before) = apart(look).await??;
        match claim {
            Claim::Held => return Ok(Got::Held),
            Claim::Never => return Ok(Got::Never),
            Claim::Missing => {}
        }
        let connected = Arc::clone(&self.parts.network.connected().borrow());
        let order = self.peers.order(&connected, (&self.agencies, root.0[0]), Instant::now());
        let mut peers = order.into_iter();
        while self.come() < size {
            let has_come = self.incoming.is_some();
            match peers.next().filter(|_| !self.is_over()) {
                Some(peer) => self.ask(peer, peers.len() > 0).await?,
                None if has_come && self.is_over() => return Ok(Got::Part),
                None if has_come => return Err(FetchError::BrokeOff),
                None => return Err(FetchError::Nowhere),
            }
        }
        // It has none where nothing had to come.
        self.take(Vec::new()).await?;
        let Some(whole) = self.incoming else { return Err(FetchError::Nowhere) };
        let until = unclaimed_until(Duration::ZERO);
        apart(move || whole.finish(until)).await??;
        Ok(Got::Held)
    }

    /// Bytes that have come.
    fn come(&self) -> u64 {
        self.incoming.as_ref().map_or(self.before, IncomingFile::come)
    }

    /// Whether it gives its place to others that wait. What has come stays.
    fn is_over(&self) -> bool {
        self.others_wait.load(Ordering::Relaxed) && self.lease <= Instant::now()
    }

    /// Asks a peer for piece after piece, for as long as it gives them; where there are others to ask, for as long
    /// as it is not slow.
    async fn ask(&mut self, peer: PeerKey, has_others: bool) -> Result<(), FetchError> {
        while self.come() < self.missing.size && !self.is_over() {
            let first = self.come() / PIECE_BYTES as u64;
            let places = self.peers.places(peer);
            let Ok(Ok(place)) = timeout(PLACE_WITHIN, places.acquire_owned()).await else {
                return Ok(());
            };
            let asked = Instant::now();
            let pieces = self.pieces(peer, first).await;
            drop(place);
            let took = asked.elapsed();
            let bytes = pieces.iter().map(|piece| piece.data.len()).sum();
            let is_last = pieces.is_empty();
            if !is_last && !self.take(pieces).await? {
                let root = self.missing.root.short();
                tracing::warn!(%peer, attachment = %root, "a peer gave a wrong piece");
                self.parts.network.charge(peer, "attachment piece");
                return Ok(());
            }
            let is_slow = self.peers.answered(peer, bytes, took, Instant::now());
            if is_last || is_slow && has_others {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes the next pieces, where all of them are right.
    async fn take(&mut self, pieces: Vec<v1::Piece>) -> Result<bool, FetchError> {
        let (Missing { root, size, .. }, offset) = (self.missing, self.come());
        let (attachments, incoming) = (self.parts.attachments.clone(), self.incoming.take());
        let take = move || {
            let first = offset / PIECE_BYTES as u64;
            let good = pieces.iter().zip(first..).all(|(piece, index)| {
                merkle::read_path(&piece.path).is_ok_and(|path| {
                    verify_piece((&root, size), index, &piece.data, &path).is_ok()
                })
            });
            let began = Instant::now();
            if !good {
                return Ok((incoming, false, began));
            }
            let begin = || {
                let expected = ExpectedFile { size, root: Some(root), offset };
                attachments.begin(&FileOwner::peers(), expected)
            };
            let mut incoming = incoming.map_or_else(begin, Ok)?;
            // It is not to read back again and again what came before, and get no further.
            let lease = Instant::now() + began.elapsed() * LEASE_OF_READING;
            for piece in &pieces {
                incoming.push(&piece.data)?;
            }
            Ok::<_, AttachmentRefusal>((Some(incoming), true, lease))
        };
        let (incoming, good, lease) = apart(take).await??;
        self.incoming = incoming;
        self.lease = self.lease.max(lease);
        Ok(good)
    }

    /// Some pieces from a peer, unverified; none where it gives no answer, or more than it was asked for.
    async fn pieces(&self, peer: PeerKey, first: u64) -> Vec<v1::Piece> {
        let Missing { root, size, .. } = self.missing;
        let Ok(first_piece) = u32::try_from(first) else { return Vec::new() };
        // Over a slow line one may come where eight would not in time.
        let count_max = if self.peers.is_slow(&peer, Instant::now()) { 1 } else { PIECES_MAX };
        let request =
            v1::PiecesRequest { root: root.0.to_vec(), size, first: first_piece, count_max };
        let request = v1::SyncRequest { request: Some(Request::Pieces(request)) };
        let answer = timeout(ANSWER_WITHIN, self.parts.network.request(peer, request)).await;
        let Ok(Ok(v1::SyncResponse { response: Some(Response::Pieces(answer)) })) = answer else {
            return Vec::new();
        };
        let asked = u64::from(count_max).min(pieces_of(size).saturating_sub(first));
        if answer.pieces.len() as u64 > asked {
            self.parts.network.charge(peer, "attachment piece");
            return Vec::new();
        }
        answer.pieces
    }
}

/// Works with the disk, away from the async workers.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, FetchError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| FetchError::Nowhere)
}
