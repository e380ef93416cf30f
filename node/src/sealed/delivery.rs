//! Delivering this agency's records to those that share them, and fetching what it lacks of theirs.
//!
//! Both go on until there is nothing left: a record is delivered when its receiver has signed that it holds it, and
//! fetched when its bytes are those of its id. Whom to ask, and when again, depends on nothing that a peer says.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use customhouse_ledger::{
    agency::AgencyCode,
    keys::{PublicKey, Signature},
};
use customhouse_proto::v1::{self, sealed_request::Request, sealed_response::Response};
use futures::{StreamExt as _, stream::FuturesUnordered};
use prost::Message as _;
use tokio::{task::spawn_blocking, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    SealedId,
    error::{SealedError, SealedStoreError},
    holdings::Holdings,
    receiving::RECORDS_MAX,
    row::Delivery,
    store::{Outgoing, SlotPlace},
};
use crate::{clock, network::NetworkHandle};

/// Bytes of a push, beyond the first record.
const PUSH_BYTES: usize = 512 * 1024;
/// First pause after nobody took or gave anything; it doubles up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long a record may be on its way before it is asked for: it is pushed as a rule.
const GRACE: Duration = Duration::from_secs(1);

/// Why the exchange of sealed records cannot go on.
pub(crate) type ExchangeError = SealedStoreError;

/// A pause that grows.
struct Pause(Duration);

impl Pause {
    fn new() -> Self {
        Self(PAUSE_FIRST)
    }

    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(PAUSE_MAX);
        pause
    }
}

/// Delivers until the node stops.
///
/// # Errors
/// The store's.
pub(crate) async fn deliver(
    holdings: Holdings,
    network: NetworkHandle,
    stop: CancellationToken,
) -> Result<(), ExchangeError> {
    let mut work = holdings.work();
    let mut busy: BTreeSet<AgencyCode> = BTreeSet::new();
    let mut deliveries = FuturesUnordered::new();
    loop {
        work.borrow_and_update();
        for to in holdings.recipients()? {
            if busy.insert(to) {
                deliveries.push(deliver_to(holdings.clone(), network.clone(), to));
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(done) = deliveries.next(), if !deliveries.is_empty() => {
                busy.remove(&done?);
            }
            changed = work.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

/// Delivers to one agency until nothing waits for it.
async fn deliver_to(
    holdings: Holdings,
    network: NetworkHandle,
    to: AgencyCode,
) -> Result<AgencyCode, ExchangeError> {
    let mut pause = Pause::new();
    let mut after: Option<Outgoing> = None;
    // Whether anything was taken since the beginning of the list.
    let mut taken = false;
    loop {
        let (of, from) = (holdings.clone(), after);
        let (next, push) = apart(move || of.next_push(to, from.as_ref())).await?;
        if push.is_empty() {
            if after.is_none() {
                return Ok(to);
            }
            // At the end: what was refused is tried again from the beginning.
            after = None;
            if !std::mem::take(&mut taken) {
                tokio::time::sleep(pause.next()).await;
            }
            continue;
        }
        let peers = connected(&network, &to);
        let mut some = false;
        for peer in peers {
            let records = push.iter().map(|(_, record)| record.clone()).collect();
            let request =
                v1::SealedRequest { request: Some(Request::Push(v1::SealedPush { records })) };
            let Ok(answer) = network.request_sealed(peer, request).await else { continue };
            let Some(Response::Pushed(pushed)) = answer.response else { continue };
            let (of, outgoing) =
                (holdings.clone(), push.iter().map(|(outgoing, _)| *outgoing).collect::<Vec<_>>());
            some = apart(move || of.note_held(&outgoing, pushed)).await? > 0;
            break;
        }
        if some {
            (taken, pause) = (true, Pause::new());
        }
        after = next;
        if !some && after.is_none() {
            tokio::time::sleep(pause.next()).await;
        }
    }
}

/// The keys of an agency's nodes that are connected.
fn connected(network: &NetworkHandle, agency: &AgencyCode) -> Vec<PublicKey> {
    let connected = network.connected();
    let connected: Arc<[_]> = Arc::clone(&connected.borrow());
    connected.iter().filter(|peer| peer.agency == *agency).map(|peer| peer.key).collect()
}

/// Works where it may wait. A panic ends the process; a runtime that ends takes no more.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ExchangeError> + Send + 'static,
) -> Result<T, ExchangeError> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => std::future::pending().await,
    }
}

/// What is pushed next, and where the list goes on; `None` at its end.
type NextPush = (Option<Outgoing>, Vec<(Outgoing, v1::PushedRecord)>);

impl Holdings {
    fn recipients(&self) -> Result<Vec<AgencyCode>, ExchangeError> {
        self.0.store.recipients()
    }

    fn next_push(
        &self,
        to: AgencyCode,
        after: Option<&Outgoing>,
    ) -> Result<NextPush, ExchangeError> {
        let waiting = self.0.store.outgoing(to, after, RECORDS_MAX)?;
        let (mut push, mut bytes, mut gone) = (Vec::new(), 0, self.0.store.batch());
        let mut last = None;
        for outgoing in waiting {
            let record = match self.content(&self.own(outgoing.record_id)) {
                Ok(Some(content)) => pushed(&outgoing, content),
                // It expired, or was purged.
                Ok(None) => {
                    gone.end_outgoing(&outgoing);
                    continue;
                }
                Err(SealedError::Store(error)) => return Err(error),
                Err(error) => {
                    tracing::error!(%error, "a record of this agency cannot be delivered");
                    continue;
                }
            };
            bytes += record.encoded_len();
            if bytes > PUSH_BYTES && !push.is_empty() {
                break;
            }
            last = Some(outgoing);
            push.push((outgoing, record));
        }
        if !gone.is_empty() {
            gone.commit_unsynced()?;
        }
        Ok((last, push))
    }

    /// Takes down who holds what: how many it were.
    fn note_held(
        &self,
        pushed: &[Outgoing],
        answer: v1::SealedPushed,
    ) -> Result<usize, ExchangeError> {
        let (mut batch, mut count) = (self.0.store.batch(), 0);
        for (outgoing, held) in pushed.iter().zip(answer.records) {
            let (record_id, to) = (outgoing.record_id, outgoing.to);
            if !held.reason_code.is_empty() {
                // A peer's word: only what a code may have is kept of it.
                let is_code = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
                let code = held.reason_code.bytes().take_while(|byte| is_code(*byte));
                let code: String = code.map(char::from).collect();
                tracing::debug!(%code, %to, "a sealed record was not taken");
                self.note_refused(record_id, to, Some(code));
                continue;
            }
            let signed = PublicKey::from_slice(&held.signer)
                .ok()
                .zip(Signature::from_slice(&held.signature).ok())
                .filter(|(signer, signature)| {
                    let id = self.own(outgoing.record_id);
                    self.is_signed((&id, &outgoing.to), signer, signature)
                });
            let Some((signer, signature)) = signed else {
                tracing::warn!(to = %outgoing.to, "what a node says that it holds is not signed by a key of its agency");
                continue;
            };
            let delivery = Delivery { at_ms: clock::unix_ms(), signer, signature };
            batch.put_delivered(&outgoing.record_id, outgoing.to, &delivery);
            batch.end_outgoing(outgoing);
            self.note_refused(record_id, to, None);
            count += 1;
        }
        if count > 0 {
            batch.commit()?;
        }
        Ok(count)
    }

    /// Those that are missing, behind one of them, of one lodging agency.
    fn next_pull(
        &self,
        after: Option<&SealedId>,
    ) -> Result<Vec<(SealedId, SlotPlace)>, ExchangeError> {
        let mut missing = self.0.store.missing_after(after, RECORDS_MAX)?;
        if let Some(agency) = missing.first().map(|(id, _)| id.agency) {
            missing.retain(|(id, _)| id.agency == agency);
        }
        Ok(missing)
    }

    /// Which agencies may hold a record: who lodged it first, then those it is shared with.
    fn holders(&self, id: &SealedId) -> Vec<AgencyCode> {
        let shared = self.0.reader.shared_under(&id.record_id, &id.agency).unwrap_or_default();
        let agreements = self.0.reader.agreements();
        let mut holders = vec![id.agency];
        for (_, epoch) in shared {
            let parties = agreements.parties(&epoch.agreement, epoch.number).unwrap_or_default();
            holders.extend(parties.iter().filter(|party| **party != id.agency));
        }
        holders.dedup();
        holders
    }
}

fn pushed(outgoing: &Outgoing, content: v1::SealedContent) -> v1::PushedRecord {
    v1::PushedRecord {
        record_id: outgoing.record_id.0.to_vec(),
        agreement: outgoing.epoch.agreement.0.to_vec(),
        epoch: outgoing.epoch.number,
        not_after_ms: outgoing.not_after_ms,
        content: Some(content),
    }
}

/// Fetches what is missing until the node stops.
///
/// # Errors
/// The store's.
pub(crate) async fn fetch(
    holdings: Holdings,
    network: NetworkHandle,
    stop: CancellationToken,
) -> Result<(), ExchangeError> {
    let mut work = holdings.work();
    let (mut after, mut pass, mut pause) = (None, 0_usize, Pause::new());
    let mut found = false;
    loop {
        work.borrow_and_update();
        let (of, from) = (holdings.clone(), after);
        let missing = apart(move || of.next_pull(from.as_ref())).await?;
        let Some((last, _)) = missing.last().copied() else {
            if after.take().is_none() {
                // Nothing is missing.
                pause = Pause::new();
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    changed = work.changed() => if changed.is_err() { return Ok(()) },
                }
                wait_until(Instant::now() + GRACE, &stop).await;
                continue;
            }
            // The end of a pass: the next asks others.
            pass += 1;
            if std::mem::take(&mut found) {
                pause = Pause::new();
            } else {
                wait_until(Instant::now() + pause.next(), &stop).await;
            }
            continue;
        };
        if stop.is_cancelled() {
            return Ok(());
        }
        found |= pull(&holdings, &network, &missing, pass).await? > 0;
        after = Some(last);
    }
}

async fn wait_until(time: Instant, stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep_until(time) => {}
    }
}

/// Asks one holder for records of one agency. Gives how many came.
async fn pull(
    holdings: &Holdings,
    network: &NetworkHandle,
    missing: &[(SealedId, SlotPlace)],
    pass: usize,
) -> Result<usize, ExchangeError> {
    let Some((first, _)) = missing.first().copied() else { return Ok(0) };
    let of = holdings.clone();
    let holders = apart(move || Ok(of.holders(&first))).await?;
    let peers: Vec<_> = holders.iter().flat_map(|agency| connected(network, agency)).collect();
    if peers.is_empty() {
        return Ok(0);
    }
    let peer = peers[pass % peers.len()];
    let agency = first.agency;
    let record_ids = missing.iter().map(|(id, _)| id.record_id.0.to_vec()).collect();
    let asked = v1::SealedPull { agency: agency.to_string(), record_ids };
    let request = v1::SealedRequest { request: Some(Request::Pull(asked)) };
    let Ok(answer) = network.request_sealed(peer, request).await else { return Ok(0) };
    let Some(Response::Pulled(pulled)) = answer.response else { return Ok(0) };
    let of = holdings.clone();
    let taken = apart(move || match of.take_pulled(agency, pulled) {
        Ok(taken) => Ok(taken),
        Err(SealedError::Store(error)) => Err(error),
        Err(error) => {
            tracing::error!(%error, "sealed records that were fetched could not be kept");
            Ok(Ok(0))
        }
    });
    match taken.await? {
        Ok(count) => Ok(count),
        Err(error) => {
            tracing::warn!(%peer, %error, "a peer gave something else than the sealed record that it was asked for");
            network.charge(peer, "sealed record");
            Ok(0)
        }
    }
}
