//! Delivering this agency's records to those that share them.
//!
//! It goes on until there is nothing left: a record is delivered when its receiver has signed that it holds it. One
//! party's node that is away, slow or lying delays no other's.

use std::{collections::BTreeSet, time::Duration};

use customhouse_ledger::{
    agency::AgencyCode,
    keys::{PublicKey, Signature},
};
use customhouse_proto::v1::{self, sealed_request::Request, sealed_response::Response};
use futures::{StreamExt as _, stream::FuturesUnordered};
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use super::{
    error::{SealedError, SealedStoreError},
    holdings::Holdings,
    receiving::RECORDS_MAX,
    row::Delivery,
    store::Outgoing,
    turns::{Pause, apart, connected},
};
use crate::{clock, network::NetworkHandle};

/// Bytes of a push, beyond the first record.
const PUSH_BYTES: usize = 512 * 1024;

/// Time between two looks for an agency none of whose nodes is connected.
const AWAY: Duration = Duration::from_secs(1);

/// Delivers until the node stops.
///
/// # Errors
/// The store's.
pub(crate) async fn deliver(
    holdings: Holdings,
    network: NetworkHandle,
    stop: CancellationToken,
) -> Result<(), SealedStoreError> {
    let mut work = holdings.work();
    let mut busy: BTreeSet<AgencyCode> = BTreeSet::new();
    let mut deliveries = FuturesUnordered::new();
    loop {
        work.borrow_and_update();
        for to in holdings.0.store.recipients()? {
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
) -> Result<AgencyCode, SealedStoreError> {
    let (mut pause, mut work) = (Pause::new(), holdings.work());
    let mut after: Option<Outgoing> = None;
    // Whether anything was taken since the beginning of the list.
    let mut taken = false;
    loop {
        // Nothing is opened for nobody.
        let peers = connected(&network, &to);
        if peers.is_empty() {
            tokio::time::sleep(AWAY).await;
            continue;
        }
        let (of, from) = (holdings.clone(), after);
        let NextPush { scanned, push } = apart(move || of.next_push(to, from.as_ref())).await?;
        match (scanned, after) {
            (None, None) => return Ok(to),
            // At the end: what was refused is tried again from the beginning.
            (None, Some(_)) => {
                after = None;
                if std::mem::take(&mut taken) {
                    pause = Pause::new();
                }
                pause.wait(&mut work).await;
                continue;
            }
            (Some(last), _) => after = Some(last),
        }
        taken |= push_to(&holdings, &network, &peers, push).await?;
    }
}

/// Pushes records to an agency's nodes, one after the other, until one holds each. Whether any was taken.
async fn push_to(
    holdings: &Holdings,
    network: &NetworkHandle,
    peers: &[PublicKey],
    mut push: Vec<(Outgoing, v1::PushedRecord)>,
) -> Result<bool, SealedStoreError> {
    let mut taken = false;
    for peer in peers {
        if push.is_empty() {
            break;
        }
        let records = push.iter().map(|(_, record)| record.clone()).collect();
        let request = Request::Push(v1::SealedPush { records });
        let request = v1::SealedRequest { request: Some(request) };
        let Ok(answer) = network.request_sealed(*peer, request).await else { continue };
        let Some(Response::Pushed(pushed)) = answer.response else { continue };
        let of = holdings.clone();
        let outgoing: Vec<_> = push.iter().map(|(outgoing, _)| *outgoing).collect();
        let held = apart(move || of.note_held(&outgoing, pushed)).await?;
        taken |= !held.is_empty();
        push.retain(|(outgoing, _)| !held.contains(outgoing));
    }
    Ok(taken)
}

/// What is pushed next.
struct NextPush {
    /// The last that was looked at; `None` at the end of the list.
    scanned: Option<Outgoing>,
    push: Vec<(Outgoing, v1::PushedRecord)>,
}

impl Holdings {
    fn next_push(
        &self,
        to: AgencyCode,
        after: Option<&Outgoing>,
    ) -> Result<NextPush, SealedStoreError> {
        let waiting = self.0.store.outgoing(to, after, RECORDS_MAX)?;
        let mut next = NextPush { scanned: None, push: Vec::new() };
        let (mut bytes, mut gone) = (0, self.0.store.batch());
        for outgoing in waiting {
            let id = self.own(outgoing.record_id);
            match self.content(&id) {
                Ok(Some(content)) => {
                    let record = pushed(&outgoing, content);
                    bytes += record.encoded_len();
                    if bytes > PUSH_BYTES && !next.push.is_empty() {
                        break;
                    }
                    next.push.push((outgoing, record));
                }
                // It is fetched, and delivered then.
                Ok(None) if self.0.store.missing(&id)?.is_some() => {}
                // It expired, or was purged.
                Ok(None) => gone.end_outgoing(&outgoing),
                Err(SealedError::Store(error)) => return Err(error),
                Err(error) => {
                    tracing::error!(%error, record = %id.record_id.short(), "a record cannot be delivered");
                    self.reclaim(&id, &error).or_else(SealedError::unless_of_store)?;
                }
            }
            next.scanned = Some(outgoing);
        }
        if !gone.is_empty() {
            gone.commit_unsynced()?;
        }
        Ok(next)
    }

    /// Takes down who holds what: which of those that were pushed.
    fn note_held(
        &self,
        pushed: &[Outgoing],
        answer: v1::SealedPushed,
    ) -> Result<Vec<Outgoing>, SealedStoreError> {
        let (mut batch, mut all) = (self.0.store.batch(), Vec::new());
        for (outgoing, held) in pushed.iter().zip(answer.records) {
            let (record_id, to) = (outgoing.record_id, outgoing.to);
            if !held.reason_code.is_empty() {
                // A peer's word: only what a code may have is kept of it.
                let is_code = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'_';
                let code = held.reason_code.bytes().take_while(is_code);
                let code: String = code.map(char::from).collect();
                tracing::debug!(%code, %to, "a sealed record was not taken");
                self.note_refused(record_id, to, Some(code));
                continue;
            }
            let signed = PublicKey::from_slice(&held.signer)
                .ok()
                .zip(Signature::from_slice(&held.signature).ok())
                .filter(|(signer, signature)| {
                    self.is_signed((&self.own(record_id), &to), signer, signature)
                });
            let Some((signer, signature)) = signed else {
                tracing::warn!(%to, "what a node says that it holds is not signed by a key of its agency");
                continue;
            };
            let delivery = Delivery { at_ms: clock::unix_ms(), signer, signature };
            batch.put_delivered(&record_id, to, &delivery);
            batch.end_outgoing(outgoing);
            self.note_refused(record_id, to, None);
            all.push(*outgoing);
        }
        if !all.is_empty() {
            batch.commit()?;
        }
        Ok(all)
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
