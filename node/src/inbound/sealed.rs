//! Peers' requests about sealed records.

use customhouse_ledger::{agency::AgencyCode, keys::PublicKey};
use customhouse_proto::v1::{self, sealed_request::Request, sealed_response::Response};
use prost::Message as _;
use tokio::{task::spawn_blocking, time::Instant};

use super::Inbound;
use crate::{
    network::Reply,
    sealed::{Holdings, error::SealedError},
};

/// What an answer costs beside its bytes, in the bytes that cost as much: each request, and each record in it.
const COST_OF_REQUEST: u64 = 16 << 10;
const COST_OF_RECORD: u64 = 2 << 10;

impl Inbound {
    /// Answers in the peer's turn. A node without a vault, one that is asked by no member, and one that is behind
    /// answer with nothing.
    pub(super) fn sealed(
        &self,
        from: PublicKey,
        request: v1::SealedRequest,
        reply: Reply<v1::SealedResponse>,
    ) {
        let (Some(holdings), Some(agency)) = (self.holdings.clone(), self.agency_of(&from)) else {
            return reply.send(v1::SealedResponse::default());
        };
        let inbound = self.clone();
        tokio::spawn(async move {
            inbound.pace.due(from).await;
            if !reply.is_open() {
                return;
            }
            let asked = cost_of(&request);
            let response = inbound.answer_sealed(holdings, (agency, from), request).await;
            let answer = v1::SealedResponse { response };
            let cost = asked + answer.encoded_len() as u64;
            inbound.pace.spent(from, cost, Instant::now());
            reply.send(answer);
        });
    }

    async fn answer_sealed(
        &self,
        holdings: Holdings,
        (agency, from): (AgencyCode, PublicKey),
        request: v1::SealedRequest,
    ) -> Option<Response> {
        let behind = self.driver.status().borrow().catching_up;
        let answer = spawn_blocking(move || match request.request? {
            Request::Push(push) => Some(
                holdings
                    .receive(agency, push)
                    .map(|received| (Response::Pushed(received.answer), received.fault)),
            ),
            // What it may have follows from what is committed, and a node that is behind does not know all of that.
            Request::Pull(_) if behind => None,
            Request::Pull(pull) => {
                Some(holdings.give(agency, &pull).map(|given| (Response::Pulled(given), None)))
            }
        });
        match answer.await.ok()?? {
            Ok((response, fault)) => {
                if let Some(fault) = fault {
                    tracing::warn!(%agency, fault, "a peer sent what is no sealed record of its agency's");
                    self.metrics.rejected("sealed", fault);
                    self.network.charge(from, "sealed record");
                }
                Some(response)
            }
            Err(error) => {
                self.note_sealed(&error);
                None
            }
        }
    }

    fn note_sealed(&self, error: &SealedError) {
        tracing::error!(%error, "a peer's request about sealed records could not be answered");
        self.metrics.rejected("sealed", "UNAVAILABLE");
    }

    /// Which member's node a peer is.
    fn agency_of(&self, key: &PublicKey) -> Option<AgencyCode> {
        let tip = self.reader.tip();
        let peers = tip.registry.peers_at(tip.header.height + 1);
        peers.into_iter().find(|(_, known)| known == key).map(|(agency, _)| agency)
    }
}

fn cost_of(request: &v1::SealedRequest) -> u64 {
    let records = match &request.request {
        Some(Request::Push(push)) => push.records.len(),
        Some(Request::Pull(pull)) => pull.record_ids.len(),
        None => 0,
    };
    COST_OF_REQUEST + COST_OF_RECORD * records as u64 + request.encoded_len() as u64
}
