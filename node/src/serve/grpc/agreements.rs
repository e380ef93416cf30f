//! The `Agreements` service: for the agency's own operators.

use std::sync::Arc;

use customhouse_ledger::{agency::AgencyCode, agreement::AgreementChange, hash::Hash};
use customhouse_proto::v1::{self, agreements_server::Agreements};
use tonic::{Code, Request, Response, Status};

use super::submission::caller;
use crate::{
    agreements::{Draft, HeldAgreements, Offer, OfferError, sentences},
    clock,
    identity::ClientIdentity,
    serve::{
        quotas::Place,
        reads::{apart, holding},
        refused::Refused,
    },
    services::Services,
    submissions::Accepted,
};

/// How long an offer may be approved where nothing is said: two weeks, milliseconds.
const OFFER_MS: u64 = 14 * 24 * 60 * 60 * 1000;

#[derive(Clone)]
pub(super) struct AgreementsService {
    pub(super) node: Arc<Services>,
}

impl AgreementsService {
    /// Works with the vault, away from the async workers: it waits for disks.
    async fn held<T: Send + 'static>(
        &self,
        place: Option<Place>,
        work: impl FnOnce(&HeldAgreements) -> Result<T, OfferError> + Send + 'static,
    ) -> Result<T, Refused> {
        let held = self.node.agreements.clone();
        let work = apart(move || work(&held));
        let done = match place {
            Some(place) => holding(place, work).await,
            None => work.await,
        };
        Ok(done.ok_or_else(Refused::shutting_down)??)
    }

    async fn submit(
        &self,
        client: &ClientIdentity,
        change: &AgreementChange,
    ) -> Result<Accepted, Refused> {
        let accepted = self.node.submissions.submit_agreement_change(client, change).await;
        Ok(accepted?)
    }
}

#[tonic::async_trait]
impl Agreements for AgreementsService {
    async fn propose(
        &self,
        mut request: Request<v1::ProposeAgreementRequest>,
    ) -> Result<Response<v1::ProposeAgreementResponse>, Status> {
        let place = request.extensions_mut().remove::<Place>();
        let draft = draft_of(request.into_inner())?;
        let proposed = self.held(place, |held| held.propose(draft)).await;
        let (offer, terms) = proposed?;
        Ok(Response::new(v1::ProposeAgreementResponse {
            sentences: sentences(&terms, offer.proposal()),
            offer: Some(offer.to_proto()),
        }))
    }

    async fn open_offer(
        &self,
        mut request: Request<v1::OpenOfferRequest>,
    ) -> Result<Response<v1::OpenOfferResponse>, Status> {
        let place = request.extensions_mut().remove::<Place>();
        let offer = offer_of(request.into_inner().offer)?;
        let opened = self.held(place, move |held| {
            let opened = held.open(&offer)?;
            Ok(v1::OpenOfferResponse {
                sentences: sentences(&opened.terms, offer.proposal()),
                terms: Some(opened.terms.to_proto()),
                missing: codes(&offer.missing()),
                agreement: offer.proposal().agreement().0.to_vec(),
            })
        });
        Ok(Response::new(opened.await?))
    }

    async fn approve_offer(
        &self,
        mut request: Request<v1::ApproveOfferRequest>,
    ) -> Result<Response<v1::ApproveOfferResponse>, Status> {
        let place = request.extensions_mut().remove::<Place>();
        let offer = offer_of(request.into_inner().offer)?;
        let approved = self.held(place, |held| held.approve_offer(offer)).await?;
        Ok(Response::new(v1::ApproveOfferResponse {
            missing: codes(&approved.missing()),
            offer: Some(approved.to_proto()),
        }))
    }

    async fn lodge_offer(
        &self,
        mut request: Request<v1::LodgeOfferRequest>,
    ) -> Result<Response<v1::LodgeOfferResponse>, Status> {
        let place = request.extensions_mut().remove::<Place>();
        let client = caller(&request)?;
        let offer = offer_of(request.into_inner().offer)?;
        let agreement = offer.proposal().agreement().0.to_vec();
        let change = self.held(place, move |held| held.change_of(&offer)).await?;
        let Some(change) = change else {
            let agreed = true;
            return Ok(Response::new(v1::LodgeOfferResponse {
                agreed,
                agreement,
                ..Default::default()
            }));
        };
        let Accepted { record_id, transaction_id, .. } = self.submit(&client, &change).await?;
        Ok(Response::new(v1::LodgeOfferResponse {
            record_id: record_id.0.to_vec(),
            transaction_id: transaction_id.0.to_vec(),
            agreed: false,
            agreement,
        }))
    }

    async fn leave(
        &self,
        mut request: Request<v1::LeaveAgreementRequest>,
    ) -> Result<Response<v1::LeaveAgreementResponse>, Status> {
        let place = request.extensions_mut().remove::<Place>();
        let client = caller(&request)?;
        let agreement = id_of(&request.into_inner().agreement)?;
        let change = self.held(place, move |held| held.leave(agreement)).await?;
        let Accepted { record_id, transaction_id, .. } = self.submit(&client, &change).await?;
        Ok(Response::new(v1::LeaveAgreementResponse {
            record_id: record_id.0.to_vec(),
            transaction_id: transaction_id.0.to_vec(),
        }))
    }

    async fn list(
        &self,
        request: Request<v1::ListAgreementsRequest>,
    ) -> Result<Response<v1::ListAgreementsResponse>, Status> {
        let v1::ListAgreementsRequest { all, ended, after } = request.into_inner();
        let after = match after.is_empty() {
            true => None,
            false => Some(Hash::from_slice(&after).map_err(|e| wrong("after", e))?),
        };
        let listed = self.held(None, move |held| Ok(held.list(all, ended, after))).await;
        let (agreements, more) = listed?;
        Ok(Response::new(v1::ListAgreementsResponse { agreements, more }))
    }

    async fn show(
        &self,
        request: Request<v1::ShowAgreementRequest>,
    ) -> Result<Response<v1::ShowAgreementResponse>, Status> {
        let v1::ShowAgreementRequest { agreement, below } = request.into_inner();
        let id = id_of(&agreement)?;
        let below = (below != 0).then_some(below);
        let shown = self.held(None, move |held| Ok(held.show(&id, below))).await?;
        let (epochs, more) = shown.ok_or_else(|| Refused::not_found("agreement", &id))?;
        Ok(Response::new(v1::ShowAgreementResponse { epochs, more }))
    }
}

fn wrong(field: &str, reason: impl std::fmt::Display) -> Refused {
    Refused::field(field, "FIELD", reason)
}

fn id_of(bytes: &[u8]) -> Result<Hash, Refused> {
    Hash::from_slice(bytes).map_err(|error| wrong("agreement", error))
}

fn offer_of(offer: Option<v1::AgreementOffer>) -> Result<Offer, Refused> {
    let offer = offer.ok_or_else(|| Refused::field("offer", "OFFER_FIELD", "missing"))?;
    Ok(Offer::from_proto(offer)?)
}

fn codes(parties: &[AgencyCode]) -> Vec<String> {
    parties.iter().map(ToString::to_string).collect()
}

fn draft_of(request: v1::ProposeAgreementRequest) -> Result<Draft, Refused> {
    let now_ms = clock::unix_ms();
    let parties = request.parties.iter().map(|code| code.parse());
    let parties = parties.collect::<Result<Vec<AgencyCode>, _>>();
    let agreement = match request.agreement.is_empty() {
        true => None,
        false => Some(id_of(&request.agreement)?),
    };
    if request.terms.as_ref().is_some_and(|terms| !terms.salt.is_empty()) {
        return Err(wrong("terms.salt", "must be empty: the node draws it"));
    }
    let or = |stated_ms, default_ms| if stated_ms == 0 { default_ms } else { stated_ms };
    Ok(Draft {
        parties: parties.map_err(|error| wrong("parties", error))?,
        terms: request.terms,
        agreement,
        from_ms: or(request.from_ms, now_ms),
        until_ms: request.until_ms,
        not_after_ms: or(request.not_after_ms, now_ms + OFFER_MS),
    })
}

impl From<OfferError> for Refused {
    fn from(error: OfferError) -> Self {
        let code = match &error {
            OfferError::Field { .. }
            | OfferError::Approval(_)
            | OfferError::NoProposer(_)
            | OfferError::Envelope { .. }
            | OfferError::Secret
            | OfferError::OtherTerms
            | OfferError::Terms(_)
            | OfferError::Epoch(_) => Code::InvalidArgument,
            OfferError::Keep(_) if error.code() != "NO_VAULT" => Code::Internal,
            _ => Code::FailedPrecondition,
        };
        Self::new(code, error.code(), error.to_string())
    }
}
