//! Fetching what this agency is entitled to and lacks: what was withheld, what was pushed while this node was away, all
//! of it where its store was lost.
//!
//! Those who may hold it are asked in turn, and nothing that one answers is trusted: a record has come when its bytes
//! are those of its id. One agency's records that never come delay no other's.

use std::{collections::BTreeSet, time::Duration};

use customhouse_ledger::{agency::AgencyCode, keys::PublicKey};
use customhouse_proto::v1::{self, sealed_request::Request, sealed_response::Response};
use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio_util::sync::CancellationToken;

use super::{
    SealedId,
    error::{SealedError, SealedStoreError},
    holdings::Holdings,
    receiving::RECORDS_MAX,
    turns::{Pause, apart, connected},
};
use crate::network::NetworkHandle;

/// How long a record may be on its way before it is asked for: it is pushed as a rule.
const GRACE: Duration = Duration::from_secs(1);

/// Fetches what is missing until the node stops.
///
/// # Errors
/// The store's.
pub(crate) async fn fetch(
    holdings: Holdings,
    network: NetworkHandle,
    stop: CancellationToken,
) -> Result<(), SealedStoreError> {
    let mut work = holdings.work();
    let mut busy: BTreeSet<AgencyCode> = BTreeSet::new();
    let mut fetches = FuturesUnordered::new();
    loop {
        work.borrow_and_update();
        for of in holdings.0.store.lacking()? {
            if busy.insert(of) {
                fetches.push(fetch_of(holdings.clone(), network.clone(), of));
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(done) = fetches.next(), if !fetches.is_empty() => {
                busy.remove(&done?);
            }
            changed = work.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

/// Fetches the records of one lodging agency until none is missing.
async fn fetch_of(
    holdings: Holdings,
    network: NetworkHandle,
    agency: AgencyCode,
) -> Result<AgencyCode, SealedStoreError> {
    let mut work = holdings.work();
    tokio::time::sleep(GRACE).await;
    let (mut after, mut pass, mut pause) = (None::<SealedId>, 0_usize, Pause::new());
    let mut found = false;
    loop {
        let (of, from) = (holdings.clone(), after);
        let missing = move || {
            let missing = of.0.store.missing_of(agency, from.as_ref(), RECORDS_MAX)?;
            Ok(missing.into_iter().map(|(id, _)| id).collect::<Vec<_>>())
        };
        let missing = apart(missing).await?;
        match (missing.last().copied(), after) {
            (None, None) => return Ok(agency),
            // The end of a pass: the next asks others.
            (None, Some(_)) => {
                (after, pass) = (None, pass + 1);
                if std::mem::take(&mut found) {
                    pause = Pause::new();
                } else {
                    pause.wait(&mut work).await;
                }
            }
            (Some(last), _) => {
                found |= pull(&holdings, &network, &missing, pass).await? > 0;
                after = Some(last);
            }
        }
    }
}

/// Asks those who may hold any of these records for them, one after the other, until one gives some. Gives how many
/// came.
async fn pull(
    holdings: &Holdings,
    network: &NetworkHandle,
    missing: &[SealedId],
    pass: usize,
) -> Result<usize, SealedStoreError> {
    let Some(agency) = missing.first().map(|id| id.agency) else { return Ok(0) };
    let (of, ids) = (holdings.clone(), missing.to_vec());
    let holders = apart(move || Ok(of.holders(agency, &ids))).await?;
    let mut peers: Vec<_> = holders.iter().flat_map(|agency| connected(network, agency)).collect();
    if !peers.is_empty() {
        let first = pass % peers.len();
        peers.rotate_left(first);
    }
    for peer in peers {
        let count = pull_from(holdings, network, peer, missing).await?;
        if count > 0 {
            return Ok(count);
        }
    }
    Ok(0)
}

async fn pull_from(
    holdings: &Holdings,
    network: &NetworkHandle,
    peer: PublicKey,
    missing: &[SealedId],
) -> Result<usize, SealedStoreError> {
    let Some(agency) = missing.first().map(|id| id.agency) else { return Ok(0) };
    let record_ids = missing.iter().map(|id| id.record_id.0.to_vec()).collect();
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
            // Its words may have what the record says.
            let code = error.code();
            tracing::warn!(%peer, code, "a peer gave something else than the sealed record that it was asked for");
            if error.is_fault() {
                network.charge(peer, "sealed record");
            }
            Ok(0)
        }
    }
}

impl Holdings {
    /// Which agencies may hold any of an agency's records: who lodged them first, then those they are shared with.
    fn holders(&self, agency: AgencyCode, ids: &[SealedId]) -> Vec<AgencyCode> {
        let agreements = self.0.reader.agreements();
        let mut others = BTreeSet::new();
        for id in ids {
            let shared = self.0.reader.shared_under(&id.record_id, &id.agency).unwrap_or_default();
            for (_, epoch) in shared {
                let parties = agreements.parties(&epoch.agreement, epoch.number);
                others.extend(parties.unwrap_or_default().iter().copied());
            }
        }
        others.remove(&agency);
        std::iter::once(agency).chain(others).collect()
    }
}
