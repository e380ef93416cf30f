//! Who holds a sealed record, and sharing it with more parties.

use std::{sync::Arc, time::Duration};

use customhouse_ledger::{hash::Hash, transaction::SlotForm};
use customhouse_proto::v1::{self, party_delivery::State, sealed::Bytes as BytesState};
use tokio::time::{Instant, sleep_until};
use tonic::Code;

use crate::{
    identity::ClientIdentity,
    sealed::{PartyHolds, SealedId},
    serve::{
        reads::{apart, freshness, read},
        refused::Refused,
    },
    services::Services,
    view::View,
};

/// The longest that a call waits until all hold it; then the client asks again.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Which parties hold a record of this agency, by their own signed word; waits until all do, where that is asked for.
pub(super) async fn delivery(
    node: &Arc<Services>,
    view: View,
    request: v1::GetDeliveryRequest,
    id: Hash,
) -> Result<v1::GetDeliveryResponse, Refused> {
    let asked = Duration::from_millis(u64::from(request.wait_ms)).min(WAIT_MAX);
    let deadline = Instant::now() + asked;
    let of = view.clone();
    let own = read(node, move |_| own_sealed(&of, &id)).await?.ok_or_else(|| not_own(&id))?;
    loop {
        let (tip, view) = (node.reader.tip(), view.clone());
        let parties = read(node, move |_| view.parties(&own)).await?;
        let all = parties.iter().all(|party| party.delivery.is_some());
        if all || Instant::now() >= deadline {
            let parties = parties.into_iter().map(to_proto).collect();
            return Ok(v1::GetDeliveryResponse { parties, freshness: Some(freshness(node, &tip)) });
        }
        sleep_until(deadline.min(Instant::now() + LOOK)).await;
    }
}

/// A sealed record that this agency lodged and the caller may read.
fn own_sealed(
    view: &View,
    id: &Hash,
) -> Result<Option<SealedId>, customhouse_ledger::store::StoreError> {
    let Some((record, sealed)) = view.record_of_own(id)? else { return Ok(None) };
    let is_here = sealed.is_some_and(|sealed| sealed.bytes() == BytesState::Here);
    let is_sealed = !matches!(record.form, SlotForm::Open);
    let id = SealedId { agency: record.place.agency, record_id: record.id };
    Ok((is_here && is_sealed).then_some(id))
}

fn not_own(id: &Hash) -> Refused {
    let message = format!(
        "record {id} is no sealed record of this agency that is on the ledger, here, and the caller's to read"
    );
    Refused::new(Code::NotFound, "NOT_FOUND", message)
}

fn to_proto(party: PartyHolds) -> v1::PartyDelivery {
    let PartyHolds { agency, delivery, refused } = party;
    let (state, at_ms, signer, signature) = match delivery {
        None => (State::Pending, 0, Vec::new(), Vec::new()),
        Some(held) => (
            State::Delivered,
            held.at_ms,
            held.signer.as_bytes().to_vec(),
            held.signature.0.to_vec(),
        ),
    };
    v1::PartyDelivery {
        agency: agency.to_string(),
        state: state as i32,
        at_ms,
        signer,
        signature,
        reason_code: refused.unwrap_or_default(),
    }
}

/// Shares a record of this agency under another agreement too.
pub(super) async fn grant(
    node: &Arc<Services>,
    (view, client): (View, ClientIdentity),
    (id, agreement): (Hash, Hash),
) -> Result<v1::GrantResponse, Refused> {
    let found = read(node, move |_| own_sealed(&view, &id)).await?;
    let id = found.ok_or_else(|| not_own(&id))?;
    // A record of thousands of subjects takes a quarter of a second.
    let submissions = node.submissions.clone();
    let granted = apart(move || submissions.sign_grant(&id, &agreement)).await;
    let granted = granted.ok_or_else(Refused::shutting_down)??;
    let accepted = node.submissions.submit_transaction(&client, granted).await?;
    Ok(v1::GrantResponse {
        record_id: id.record_id.0.to_vec(),
        transaction_id: accepted.transaction_id.0.to_vec(),
    })
}
