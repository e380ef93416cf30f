//! One attachment's way: which peers are asked for it, and its pieces from them, each verified before it counts.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use customhouse_ledger::{
    attachment::{pieces_of, verify_piece},
    limits::PIECE_BYTES,
    merkle,
};
use customhouse_proto::v1::{self, sync_request::Request, sync_response::Response};
use tokio::sync::Semaphore;

use super::{
    AttachmentRefusal, Claim, ExpectedFile, FileOwner, IncomingFile, answering::PIECES_MAX,
    fetching::Fetching, unclaimed_until, wanted::Missing,
};
use crate::network::PeerKey;

/// Questions for pieces to one peer at a time, of those that it may be asked: consensus needs the others.
const OF_PEER_MAX: usize = 2;

/// Why an attachment was not got.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// No peer that is connected has it.
    #[error("no connected peer has it")]
    Nowhere,
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
}

/// Places for questions to each peer.
#[derive(Debug, Default)]
pub(super) struct Peers(Mutex<HashMap<PeerKey, Arc<Semaphore>>>);

impl Peers {
    fn of(&self, peer: PeerKey) -> Arc<Semaphore> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() > 512 {
            peers.retain(|_, places| Arc::strong_count(places) > 1);
        }
        let places = || Arc::new(Semaphore::new(OF_PEER_MAX));
        Arc::clone(peers.entry(peer).or_insert_with(places))
    }
}

/// One attachment's way.
pub(super) struct Fetch {
    parts: Arc<Fetching>,
    peers: Arc<Peers>,
    missing: Missing,
    /// Bytes that had come before.
    before: u64,
    /// Where its bytes go. Nothing is set aside for it before a first piece is verified: what a record states
    /// may be a lie, of which nobody has a piece.
    incoming: Option<IncomingFile>,
}

impl Fetch {
    pub(super) fn new(parts: Arc<Fetching>, peers: Arc<Peers>, missing: Missing) -> Self {
        Self { parts, peers, missing, before: 0, incoming: None }
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
        let mut peers = self.order().into_iter();
        while self.come() < size {
            let peer = peers.next().ok_or(FetchError::Nowhere)?;
            self.ask(peer).await?;
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

    /// The connected peers: those of the agency whose record it is first, the others so that not all nodes
    /// ask the same.
    fn order(&self) -> Vec<PeerKey> {
        let connected = self.parts.network.connected();
        let mut peers: Vec<_> =
            connected.borrow().iter().map(|peer| (peer.agency, peer.key)).collect();
        let turn = usize::from(self.missing.root.0[0]) % peers.len().max(1);
        peers.rotate_left(turn);
        peers.sort_by_key(|(agency, _)| *agency != self.missing.agency);
        peers.into_iter().map(|(_, key)| key).collect()
    }

    /// Asks a peer for piece after piece, for as long as it gives them.
    async fn ask(&mut self, peer: PeerKey) -> Result<(), FetchError> {
        while self.come() < self.missing.size {
            let first = self.come() / PIECE_BYTES as u64;
            let Some(pieces) = self.pieces(peer, first).await else { return Ok(()) };
            if pieces.is_empty() {
                return Ok(());
            }
            if !self.take(pieces).await? {
                let root = self.missing.root.short();
                tracing::warn!(%peer, attachment = %root, "a peer gave a wrong piece");
                self.parts.network.charge(peer, "attachment piece");
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
            if !good {
                return Ok((incoming, false));
            }
            let begin = || {
                let expected = ExpectedFile { size, root: Some(root), offset };
                attachments.begin(&FileOwner::peers(), expected)
            };
            let mut incoming = incoming.map_or_else(begin, Ok)?;
            for piece in &pieces {
                incoming.push(&piece.data)?;
            }
            Ok::<_, AttachmentRefusal>((Some(incoming), true))
        };
        let good;
        (self.incoming, good) = apart(take).await??;
        Ok(good)
    }

    /// Some pieces from a peer, unverified; nothing where it gives no answer, or more than it was asked for.
    async fn pieces(&self, peer: PeerKey, first: u64) -> Option<Vec<v1::Piece>> {
        let Missing { root, size, .. } = self.missing;
        let places = self.peers.of(peer);
        let _place = places.acquire_owned().await.ok()?;
        let request = v1::PiecesRequest {
            root: root.0.to_vec(),
            size,
            first: u32::try_from(first).ok()?,
            count_max: PIECES_MAX,
        };
        let request = v1::SyncRequest { request: Some(Request::Pieces(request)) };
        let answer = self.parts.network.request(peer, request).await.ok()?;
        let Some(Response::Pieces(answer)) = answer.response else { return None };
        let asked = u64::from(PIECES_MAX).min(pieces_of(size).saturating_sub(first));
        if answer.pieces.len() as u64 > asked {
            self.parts.network.charge(peer, "attachment piece");
            return None;
        }
        Some(answer.pieces)
    }
}

/// Works with the disk, away from the async workers.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, FetchError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| FetchError::Nowhere)
}
