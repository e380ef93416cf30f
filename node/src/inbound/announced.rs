//! Transactions that are too large to be gossiped: a peer tells of one by its header and signature, and it is
//! fetched of that peer where it could wait for a block here.
//!
//! The signature is checked before anything is fetched, so that nobody but a registered key makes nodes ask
//! for bytes. One is fetched of a peer at a time, and counts among what the peer has sent and nobody has
//! judged: peers hold no more of this node's memory for the largest transaction. One that several peers tell
//! of is fetched of one of them while that one answers.
//!
//! Whoever tells of one first may not have it, and gossip hands over nobody else's word of the same for a
//! while. So where it does not come, others are asked: those of its agency, which sent it into the world, and
//! a few more. Where nobody has it, it is told of again, because it still waits where it was made.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use customhouse_ledger::{
    agency::AgencyCode,
    hash::Hash,
    keys::{PublicKey, Signature},
    limits::TRANSACTION_BYTES_MAX,
    merkle,
    transaction::{TransactionHeader, VerifiedTransaction},
};
use customhouse_proto::v1::{self, sync_request::Request, sync_response::Response};
use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use super::{Inbound, KnownTransactions};
use crate::{
    driver::lock,
    network::{ConnectedPeer, PASSED_ON_WITHIN, PendingJudgement, UnjudgedRoom},
    priority::let_consensus_go_first,
};

/// Transactions that one peer has told of and that wait to be fetched; others are passed over.
const WAITING_MAX: usize = 64;
/// How long one is waited for that is being fetched of another peer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Without an answer for this long, somebody else is asked too.
const SLOW: Duration = Duration::from_secs(2);
/// Peers that are asked for one at once.
const ASKED_AT_ONCE: usize = 2;
/// Peers that are asked for one beside the one that told of it and those of its agency.
const OTHERS_MAX: usize = 3;
/// Peers that are remembered before those of whom nothing is fetched are forgotten.
const PEERS_MAX: usize = 512;

/// What is being fetched, and of whom.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    of_peers: Mutex<BTreeMap<PublicKey, Arc<OfPeer>>>,
    of_leaves: Mutex<BTreeMap<Hash, Arc<AsyncMutex<()>>>>,
}

#[derive(Debug)]
struct OfPeer {
    waiting: Arc<Semaphore>,
    turn: Arc<Semaphore>,
}

/// A transaction that a peer gave.
struct Taken {
    /// Whether it is here now, and was not before.
    is_new: bool,
    /// Whether it is as long as the peer has said that told of it; where not, it was verified.
    is_as_told: bool,
}

/// A transaction's place among those that a peer has told of.
struct Place {
    turn: Arc<Semaphore>,
    _waiting: OwnedSemaphorePermit,
    _of_peer: Arc<OfPeer>,
}

impl Fetches {
    fn place(&self, peer: PublicKey) -> Option<Place> {
        let mut of_peers = self.of_peers.lock().unwrap_or_else(PoisonError::into_inner);
        if of_peers.len() >= PEERS_MAX {
            of_peers.retain(|_, of_peer| Arc::strong_count(of_peer) > 1);
        }
        let semaphore = |places| Arc::new(Semaphore::new(places));
        let new = || Arc::new(OfPeer { waiting: semaphore(WAITING_MAX), turn: semaphore(1) });
        let of_peer = Arc::clone(of_peers.entry(peer).or_insert_with(new));
        let waiting = Arc::clone(&of_peer.waiting).try_acquire_owned().ok()?;
        Some(Place { turn: Arc::clone(&of_peer.turn), _waiting: waiting, _of_peer: of_peer })
    }

    /// Is locked while a transaction is fetched of one peer.
    fn of_leaf(&self, leaf_hash: Hash) -> Arc<AsyncMutex<()>> {
        let mut of_leaves = self.of_leaves.lock().unwrap_or_else(PoisonError::into_inner);
        of_leaves.retain(|_, fetched| Arc::strong_count(fetched) > 1);
        Arc::clone(of_leaves.entry(leaf_hash).or_default())
    }
}

/// What a peer has told of.
#[derive(Clone, Debug)]
struct Announced {
    header: TransactionHeader,
    signature: Signature,
    leaf_hash: Hash,
    bytes: usize,
}

impl Announced {
    /// Reads it. `None` where no honest peer tells of such a thing.
    fn read(announced: &v1::AnnouncedTransaction) -> Option<Self> {
        let header = TransactionHeader::decode(&announced.header).ok()?;
        let signature = Signature::from_slice(&announced.signature).ok()?;
        let bytes = usize::try_from(announced.bytes).ok();
        let bytes = bytes.filter(|bytes| *bytes <= TRANSACTION_BYTES_MAX)?;
        let leaf_hash = merkle::leaf_hash(&header.leaf(&signature));
        Some(Self { header, signature, leaf_hash, bytes })
    }

    fn request(&self) -> v1::SyncRequest {
        let leaves = vec![self.leaf_hash.0.to_vec()];
        let bytes_max = u32::try_from(self.bytes).unwrap_or(u32::MAX);
        let request = v1::TransactionsRequest { leaves, bytes_max };
        v1::SyncRequest { request: Some(Request::Transactions(request)) }
    }

    /// The transaction, where an answer has it; nothing where the peer has it no more. That it is as long as was
    /// told is not asked: nobody has signed the length, and who gives what was signed is not at fault.
    fn found_in(&self, response: Option<Response>) -> Result<Option<Bytes>, &'static str> {
        let Some(Response::Transactions(answer)) = response else { return Err("OTHER_ANSWER") };
        match &answer.transactions[..] {
            [] => Ok(None),
            [one] => {
                let leaf_hash = VerifiedTransaction::leaf_hash_unchecked(one);
                (leaf_hash == Some(self.leaf_hash))
                    .then(|| one.clone())
                    .ok_or("OTHER_ANSWER")
                    .map(Some)
            }
            _ => Err("OTHER_ANSWER"),
        }
    }
}

impl KnownTransactions<'_> {
    /// Whether a transaction could wait for a block here and does not; `rejected` is told why it could not.
    fn wants(&self, announced: &Announced, rejected: impl FnOnce(&'static str)) -> bool {
        let Announced { header, leaf_hash, bytes, .. } = announced;
        if lock(self.mempool).by_leaf(leaf_hash).is_some() {
            return false;
        }
        match self.reader.log_index(&header.id()) {
            Ok(None) => {}
            // A failing store is the driver's to report.
            Ok(Some(_)) | Err(_) => return false,
        }
        let refused = self.may_wait(header, *bytes).err();
        if let Some(error) = &refused {
            rejected(error.code());
        }
        refused.is_none()
    }
}

impl Inbound {
    /// Fetches what a peer has told of, where it is of use, beside all else that comes.
    pub(super) fn announced(
        &self,
        from: PublicKey,
        announced: &v1::AnnouncedTransaction,
        judgement: PendingJudgement,
        room: UnjudgedRoom,
    ) {
        let Some(announced) = Announced::read(announced) else {
            self.metrics.rejected("gossip", "ANNOUNCED");
            return judgement.reject("not what a transaction is told of by");
        };
        let Some(place) = self.fetches.place(from) else {
            self.metrics.rejected("gossip", "TOO_MANY_ANNOUNCED");
            return judgement.ignore();
        };
        let (inbound, began, leaf_hash) = (self.clone(), Instant::now(), announced.leaf_hash);
        tokio::spawn(async move {
            let (is_new, told) = inbound.fetch_announced(from, announced, (place, room)).await;
            let is_passed_on = told.is_ok() && began.elapsed() < PASSED_ON_WITHIN;
            match told {
                Ok(()) if is_new => judgement.accept(),
                Ok(()) => judgement.ignore(),
                Err(code) => judgement.reject(code),
            }
            if is_new && !is_passed_on {
                inbound.tell_of(&leaf_hash);
            }
        });
    }

    /// Whether it is here now, and was not before; and what the peer that told of it did wrong.
    async fn fetch_announced(
        &self,
        from: PublicKey,
        announced: Announced,
        (place, room): (Place, UnjudgedRoom),
    ) -> (bool, Result<(), &'static str>) {
        if !self.is_wanted(&announced).await {
            return (false, Ok(()));
        }
        if announced.header.verify(&announced.signature).is_err() {
            let code = "BAD_SIGNATURE";
            self.metrics.rejected("gossip", code);
            return (false, Err(code));
        }
        let _turn = Arc::clone(&place.turn).acquire_owned().await;
        let fetched = self.fetches.of_leaf(announced.leaf_hash);
        let _by_one = timeout(PATIENCE, fetched.lock_owned()).await;
        if !self.is_wanted(&announced).await {
            return (false, Ok(()));
        }
        let _until_it_is_judged = room.hold(announced.bytes).await;
        let connected = self.network.connected().borrow().clone();
        let sources = sources(from, &announced.header.agency, &announced.leaf_hash, &connected);
        self.ask_for(from, &announced, sources).await
    }

    /// Asks one peer after the other, until it is here; says the same as [`Self::fetch_announced`].
    async fn ask_for(
        &self,
        from: PublicKey,
        announced: &Announced,
        sources: Vec<PublicKey>,
    ) -> (bool, Result<(), &'static str>) {
        let ask = async |peer| (peer, self.network.request(peer, announced.request()).await);
        let (mut sources, mut told) = (sources.into_iter(), Ok(()));
        let mut asked = FuturesUnordered::new();
        loop {
            if asked.len() < ASKED_AT_ONCE {
                asked.extend(sources.next().map(ask));
            }
            let Ok(answer) = timeout(SLOW, asked.next()).await else { continue };
            let Some((peer, answer)) = answer else { return (false, told) };
            let Ok(answer) = answer else { continue };
            match self.take_answer(from, announced, answer.response).await {
                Ok(None) => {}
                Ok(Some(Taken { is_new, is_as_told })) => {
                    if !is_as_told {
                        told = Err("ANNOUNCED");
                        self.metrics.rejected("gossip", "ANNOUNCED");
                    }
                    return (is_new, told);
                }
                Err(code) if peer == from => told = Err(code),
                Err(code) => self.network.charge(peer, code),
            }
        }
    }

    /// What was asked for; nothing where the peer has it not.
    async fn take_answer(
        &self,
        from: PublicKey,
        announced: &Announced,
        response: Option<Response>,
    ) -> Result<Option<Taken>, &'static str> {
        let found = announced.found_in(response);
        let found = found.inspect_err(|code| self.metrics.rejected("gossip", code));
        let Some(encoded) = found? else { return Ok(None) };
        let bytes = encoded.len();
        let is_as_told = bytes == announced.bytes;
        // Only what was verified is held against anybody.
        let unverified = Taken { is_new: false, is_as_told: true };
        let Some(turn) = self.batches.next(from).await else { return Ok(Some(unverified)) };
        let inbound = self.clone();
        let admitted = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let_consensus_go_first();
            // Of whoever told another length, or of whoever gives other bytes: the signature tells.
            let chain_id = inbound.reader.chain_id();
            if !is_as_told && VerifiedTransaction::from_bytes(encoded.clone(), &chain_id).is_err() {
                return Err("OTHER_ANSWER");
            }
            inbound.admit_all(vec![encoded])
        });
        // It fails only where the runtime is going down.
        match admitted.await {
            Ok(admitted) => admitted.map(|is_new| Some(Taken { is_new, is_as_told })),
            Err(_going_down) => Ok(Some(unverified)),
        }
    }

    /// Tells of one that waits here: gossip does not, where it came too late or who told of it is at fault.
    fn tell_of(&self, leaf_hash: &Hash) {
        let waiting = lock(&self.mempool).by_leaf(leaf_hash).map(|t| t.encoded().clone());
        waiting.into_iter().for_each(|encoded| self.network.publish_transaction(encoded));
    }

    /// Asks the store away from the async workers.
    async fn is_wanted(&self, announced: &Announced) -> bool {
        let (inbound, announced) = (self.clone(), announced.clone());
        let wants = move || {
            let (reader, mempool) = (&inbound.reader, &inbound.mempool);
            let known = KnownTransactions { reader, mempool, unix_ms: crate::clock::unix_ms() };
            known.wants(&announced, |code| inbound.metrics.rejected("gossip", code))
        };
        tokio::task::spawn_blocking(wants).await.unwrap_or(false)
    }
}

/// Whom to ask for a transaction of an agency, in order.
fn sources(
    from: PublicKey,
    agency: &AgencyCode,
    leaf_hash: &Hash,
    connected: &[ConnectedPeer],
) -> Vec<PublicKey> {
    let beside = || connected.iter().filter(|peer| peer.key != from);
    let of_agency = beside().filter(|peer| peer.agency == *agency).map(|peer| peer.key);
    let others: Vec<_> = beside().filter(|peer| peer.agency != *agency).collect();
    // Its own agency makes up as many as it likes: what it tells of and does not give, nobody has.
    let is_own = connected.iter().any(|peer| peer.key == from && peer.agency == *agency);
    let count = if is_own { 0 } else { OTHERS_MAX };
    // Not always the same ones.
    let first = usize::from(leaf_hash.0[0]);
    let others = others.iter().cycle().skip(first % others.len().max(1)).take(others.len());
    let others = others.map(|peer| peer.key).take(count);
    std::iter::once(from).chain(of_agency).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::keys::SigningKey;
    use futures::FutureExt as _;
    use prost::Message as _;

    use super::*;
    use crate::driver::answers::tests::transaction;

    fn peer(number: u8) -> PublicKey {
        SigningKey::from_seed(&[number; 32]).public()
    }

    /// What peers are told of a transaction.
    fn told_of(encoded: &Bytes) -> v1::AnnouncedTransaction {
        let parts = v1::Transaction::decode(encoded.clone()).expect("a transaction");
        let (header, signature) = (parts.header.to_vec(), parts.signature.to_vec());
        let bytes = u32::try_from(encoded.len()).expect("short");
        v1::AnnouncedTransaction { header, signature, bytes }
    }

    #[test]
    fn an_answer_is_the_very_transaction_that_was_told_of() {
        let (encoded, other) = (transaction(1, 100), transaction(2, 100));
        let announced = Announced::read(&told_of(&encoded)).expect("right");
        let found = |transactions: &[&Bytes]| {
            let transactions = transactions.iter().map(|bytes| (*bytes).clone()).collect();
            announced
                .found_in(Some(Response::Transactions(v1::TransactionsResponse { transactions })))
        };
        assert_eq!(found(&[&encoded]), Ok(Some(encoded.clone())));
        assert_eq!(found(&[]), Ok(None));
        for wrong in [&[&other][..], &[&encoded, &other], &[&encoded.slice(1..)]] {
            assert_eq!(found(wrong), Err("OTHER_ANSWER"));
        }
        assert_eq!(announced.found_in(None), Err("OTHER_ANSWER"));
        // Who tells another length is at fault, and not who gives what was signed.
        let longer = v1::AnnouncedTransaction { bytes: 7, ..told_of(&encoded) };
        let longer = Announced::read(&longer).expect("nothing is wrong with it yet");
        let given = v1::TransactionsResponse { transactions: vec![encoded.clone()] };
        assert_eq!(longer.found_in(Some(Response::Transactions(given))), Ok(Some(encoded.clone())));
        let large = v1::AnnouncedTransaction { bytes: u32::MAX, ..told_of(&encoded) };
        let short = v1::AnnouncedTransaction { header: vec![1; 9], ..told_of(&encoded) };
        assert!(Announced::read(&large).is_none() && Announced::read(&short).is_none());
    }

    #[tokio::test]
    async fn of_a_peer_a_bounded_number_waits_and_one_is_fetched_within_its_bytes() {
        let fetches = Fetches::default();
        let places: Vec<_> = std::iter::from_fn(|| fetches.place(peer(1))).take(1000).collect();
        assert_eq!(places.len(), WAITING_MAX);
        assert!(fetches.place(peer(2)).is_some(), "others have places of their own");
        let turn = Arc::clone(&places[0].turn).try_acquire_owned().expect("free");
        assert!(Arc::clone(&places[1].turn).try_acquire_owned().is_err(), "one at a time");
        drop((turn, places));
        assert!(fetches.place(peer(1)).is_some(), "given back");

        let bytes_max = 8 << 20;
        let room = UnjudgedRoom::new(bytes_max);
        let first = room.hold(TRANSACTION_BYTES_MAX).await;
        assert!(room.hold(TRANSACTION_BYTES_MAX).now_or_never().is_none(), "one of that size");
        drop(first);
        let _all = room.hold(usize::MAX).await;
    }

    #[test]
    fn where_it_does_not_come_its_own_agency_is_asked_and_then_a_few_others() {
        let connected = |(number, agency): (u8, &str)| ConnectedPeer {
            agency: agency.parse().expect("a code"),
            key: peer(number),
            address: "/ip4/127.0.0.1/tcp/1".parse().expect("an address"),
        };
        let agencies =
            [(1, "AA"), (2, "BB"), (3, "CC"), (4, "CC"), (5, "DD"), (6, "EE"), (7, "FF")];
        let all = agencies.map(connected);
        let asked = |from, leaf| sources(peer(from), &all[2].agency, &Hash([leaf; 32]), &all);
        assert_eq!(asked(1, 0), [1, 3, 4, 2, 5, 6].map(peer));
        assert_eq!(asked(1, 2), [1, 3, 4, 6, 7, 2].map(peer), "not always the same");
        assert_eq!(asked(4, 0), [4, 3].map(peer), "what its agency does not give, nobody has");
        assert_eq!(sources(peer(1), &all[2].agency, &Hash::ZERO, &[]), [peer(1)]);
    }
}
