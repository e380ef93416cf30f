//! Requests about sealed records: a protocol beside that of consensus, with streams, places and bytes of its own.

use std::collections::HashMap;

use customhouse_proto::v1;
use libp2p::{
    PeerId,
    request_response::{Event, InboundRequestId, Message, OutboundRequestId},
};
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{
    codec::FrameFault,
    handle::{Answer, NetworkEvent, OpenRequest, Reply, RequestError},
    metrics::DropReason,
    peers,
    task::Task,
};

type SealedEvent = Event<Result<v1::SealedRequest, FrameFault>, v1::SealedResponse>;

/// A request whose answer is waited for, with its place among those to the peer.
type Waiting = (oneshot::Sender<Result<v1::SealedResponse, RequestError>>, OwnedSemaphorePermit);

/// What is under way.
pub(super) struct SealedLane {
    answers: mpsc::Sender<Answer<v1::SealedResponse>>,
    asked: HashMap<OutboundRequestId, Waiting>,
    /// Answers being written, with their places among the peer's requests in work.
    answering: HashMap<InboundRequestId, OwnedSemaphorePermit>,
}

impl SealedLane {
    pub(super) fn new(answers: mpsc::Sender<Answer<v1::SealedResponse>>) -> Self {
        Self { answers, asked: HashMap::new(), answering: HashMap::new() }
    }
}

impl Task {
    pub(super) fn request_sealed(
        &mut self,
        open: OpenRequest<v1::SealedRequest, v1::SealedResponse>,
    ) {
        let OpenRequest { peer, request, answer, place } = open;
        if answer.is_closed() {
            return;
        }
        let id = peers::peer_id(&peer);
        // A receiver that is gone has given the request up.
        if !self.peers.find(&id).is_some_and(|peer| peer.is_connected()) {
            let _ = answer.send(Err(RequestError::NotConnected));
        } else if request.encoded_len() > self.limits.sealed_request_bytes_max {
            let _ = answer.send(Err(RequestError::Oversize));
        } else {
            let request_id = self.swarm.behaviour_mut().sealed.send_request(&id, Ok(request));
            self.sealed.asked.insert(request_id, (answer, place));
        }
    }

    pub(super) fn on_sealed(&mut self, event: SealedEvent) {
        match event {
            Event::Message {
                peer,
                message: Message::Response { request_id, response },
                connection_id,
            } => {
                // Only an answer shows that what is sent on the connection arrives.
                self.alive(&peer, connection_id);
                if let Some((answer, _place)) = self.sealed.asked.remove(&request_id) {
                    let _ = answer.send(Ok(response));
                }
            }
            Event::Message {
                peer,
                message: Message::Request { request_id, request, channel },
                ..
            } => match request {
                Ok(request) => {
                    let answers = self.sealed.answers.clone();
                    let reply = |place| Reply { id: request_id, channel, place, answers };
                    self.take_sealed(&peer, request, reply);
                }
                Err(fault) => self.frame_fault(&peer, fault),
            },
            Event::OutboundFailure { peer, request_id, error, .. } => {
                tracing::debug!(%peer, %error, "a request about sealed records has failed");
                if let Some((answer, _place)) = self.sealed.asked.remove(&request_id) {
                    let _ = answer.send(Err(self.request_error(&peer, &error)));
                }
            }
            Event::InboundFailure { peer, request_id, error, .. } => {
                tracing::debug!(%peer, %error, "a peer's request about sealed records has failed");
                self.sealed.answering.remove(&request_id);
                self.on_unanswered(&error);
            }
            Event::ResponseSent { request_id, .. } => {
                self.sealed.answering.remove(&request_id);
            }
        }
    }

    fn take_sealed(
        &mut self,
        peer_id: &PeerId,
        request: v1::SealedRequest,
        reply: impl FnOnce(OwnedSemaphorePermit) -> Reply<v1::SealedResponse>,
    ) {
        let Some(peer) = self.peers.find(peer_id) else { return };
        let Ok(place) = peer.answering_sealed.clone().try_acquire_owned() else {
            self.metrics.drop_one(DropReason::RequestLimit);
            return;
        };
        let event = NetworkEvent::Sealed { from: peer.key, request, reply: reply(place) };
        if self.events.try_send(event).is_err() {
            self.metrics.drop_one(DropReason::ConsumerBehind);
        }
    }

    pub(super) fn on_sealed_answer(&mut self, answer: Answer<v1::SealedResponse>) {
        let Answer { id, channel, response, place } = answer;
        match self.swarm.behaviour_mut().sealed.send_response(channel, response) {
            Ok(()) => {
                self.sealed.answering.insert(id, place);
            }
            // Too late: the failure was reported when the time was over.
            Err(_) => tracing::debug!("an answer came too late"),
        }
    }
}
