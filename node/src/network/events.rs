//! What the swarm reports: connections, gossip, requests.

use std::sync::Arc;

use customhouse_proto::v1;
use libp2p::{
    Multiaddr, PeerId,
    allow_block_list::NotAllowed,
    core::ConnectedPoint,
    gossipsub::{self, MessageAcceptance, MessageId, TopicHash},
    ping, request_response,
    swarm::{ConnectionDenied, ConnectionId, DialError, ListenError, SwarmEvent},
};
use prost::Message as _;
use tokio::{sync::OwnedSemaphorePermit, sync::mpsc::error::TrySendError, time::Instant};

use super::{
    behaviour::BehaviourEvent,
    codec::FrameFault,
    config::PeerKey,
    gossip::{self, Batch},
    handle::{Gossiped, JudgedMessage, NetworkEvent, Reply, RequestError, UnjudgedRoom},
    judgement::PendingJudgement,
    metrics::DropReason,
    peers::Connection,
    single::Second,
    task::{Asked, SHARE_BYTES_MIN, Task},
};

type SyncMessage = request_response::Message<Result<v1::SyncRequest, FrameFault>, v1::SyncResponse>;
type SyncEvent = request_response::Event<Result<v1::SyncRequest, FrameFault>, v1::SyncResponse>;

/// What waits to be judged. Each kind has bytes of its own, so that many transactions do not keep
/// votes out.
#[derive(Clone, Copy)]
enum Unjudged {
    Consensus,
    Transactions,
}

impl Task {
    pub(super) fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(event)) => self.on_gossip(event),
            SwarmEvent::Behaviour(BehaviourEvent::Sync(event)) => self.on_sync(event),
            SwarmEvent::Behaviour(BehaviourEvent::Sealed(event)) => self.on_sealed(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => self.on_ping(&event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connection(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                tracing::debug!(%peer_id, ?cause, "connection closed");
                self.on_connection_closed(&peer_id, connection_id);
            }
            SwarmEvent::IncomingConnectionError { error, send_back_addr, peer_id, .. } => {
                self.on_refused(peer_id, &error, &send_back_addr);
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
                self.on_dial_failed(peer_id, &error);
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::error!(?addresses, ?reason, "a listener has closed");
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a listener has failed to accept");
            }
            _ => {}
        }
    }

    fn on_connection(&mut self, id: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let Some(peer) = self.peers.find(&id) else {
            // The allow list has let nobody else in.
            self.swarm.close_connection(connection);
            return;
        };
        let address = endpoint.get_remote_address().clone();
        tracing::debug!(agency = %peer.agency, %address, "connection open");
        peer.redial.connected();
        // It is the only one: a second is refused before it gets here, see `single`.
        peer.connection = Some(Connection::new(connection, address, &self.limits, Instant::now()));
    }

    fn on_connection_closed(&mut self, id: &PeerId, connection: ConnectionId) {
        let Some(peer) = self.peers.find(id) else { return };
        let Some(closed) = peer.connection.take_if(|open| open.id == connection) else { return };
        let now = Instant::now();
        peer.redial.lost(closed.took_part(now), now);
        let lost = std::mem::take(&mut peer.pushes).len();
        let (key, agency, announced) = (peer.key, peer.agency, std::mem::take(&mut peer.announced));
        self.metrics.drop_many(DropReason::PushFailed, lost as u64);
        if announced {
            tracing::info!(%agency, "peer disconnected");
            self.publish_connected();
            self.tell(key, false);
        }
    }

    /// Tells the node of a peer that has become ready.
    fn announce(&mut self, id: &PeerId) {
        let Some(peer) = self.peers.find(id) else { return };
        if peer.announced || !peer.connection.as_ref().is_some_and(Connection::is_ready) {
            return;
        }
        peer.announced = true;
        let (key, agency) = (peer.key, peer.agency);
        tracing::info!(%agency, "peer connected");
        self.publish_connected();
        self.tell(key, true);
    }

    /// Tells the node of a peer's change now, or when there is room.
    pub(super) fn tell(&mut self, key: PeerKey, connected: bool) {
        self.untold.remove(&key);
        match self.events.try_send(change(key, connected)) {
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.untold.insert(key, connected);
            }
        }
    }

    pub(super) fn next_untold(&mut self) -> Option<NetworkEvent> {
        let key = *self.untold.keys().next()?;
        let connected = self.untold.remove(&key)?;
        Some(change(key, connected))
    }

    fn on_refused(&mut self, id: Option<PeerId>, error: &ListenError, address: &Multiaddr) {
        let reason = match error {
            ListenError::Denied { cause } => self.denied(id, cause),
            _ => DropReason::Handshake,
        };
        tracing::debug!(%address, reason = reason.as_str(), %error, "connection refused");
        self.metrics.drop_one(reason);
    }

    fn on_dial_failed(&mut self, id: Option<PeerId>, error: &DialError) {
        if matches!(error, DialError::DialPeerConditionFalse(_)) {
            return;
        }
        let reason = match error {
            DialError::Denied { cause } => Some(self.denied(id, cause)),
            DialError::WrongPeerId { .. } => Some(DropReason::UnlistedPeer),
            _ => None,
        };
        let Some(peer) = id.and_then(|id| self.peers.find(&id)) else { return };
        tracing::debug!(agency = %peer.agency, %error, "dial failed");
        if !peer.is_connected() {
            peer.redial.failed(Instant::now());
        }
        reason.into_iter().for_each(|reason| self.metrics.drop_one(reason));
    }

    /// Why a connection was denied. Where it was a second one, this may leave the next dial to the peer.
    fn denied(&mut self, id: Option<PeerId>, cause: &ConnectionDenied) -> DropReason {
        if let Some(second) = cause.downcast_ref::<Second>() {
            let peer = id.and_then(|id| self.peers.find(&id));
            if let Some(peer) = peer.filter(|_| second.leave_dialling) {
                peer.redial.leave_to_the_other(Instant::now());
            }
            return DropReason::SecondConnection;
        }
        if cause.downcast_ref::<NotAllowed>().is_some() {
            DropReason::UnlistedPeer
        } else {
            DropReason::ConnectionLimit
        }
    }

    /// Only success is looked at: libp2p reports a failed ping late, and the first one not at all.
    fn on_ping(&mut self, event: &ping::Event) {
        if event.result.is_ok() {
            self.alive(&event.peer, event.connection);
        }
    }

    pub(super) fn alive(&mut self, id: &PeerId, connection: ConnectionId) {
        let Some(peer) = self.peers.find(id) else { return };
        if let Some(open) = peer.connection.as_mut().filter(|open| open.id == connection) {
            open.alive = Instant::now();
        }
    }

    fn on_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                let gossipsub::Message { data, topic, .. } = message;
                self.on_message(propagation_source, message_id, &topic, data);
            }
            gossipsub::Event::Subscribed { peer_id, topic } => {
                self.on_subscription(&peer_id, &topic, true);
                self.announce(&peer_id);
            }
            gossipsub::Event::Unsubscribed { peer_id, topic } => {
                self.on_subscription(&peer_id, &topic, false);
            }
            gossipsub::Event::SlowPeer { peer_id, failed_messages } => {
                let failed = failed_messages.priority + failed_messages.non_priority;
                self.metrics.drop_many(DropReason::SlowPeer, failed as u64);
                self.on_full_queue(&peer_id);
            }
            gossipsub::Event::GossipsubNotSupported { peer_id } => {
                tracing::warn!(peer = %peer_id, "a listed peer does not speak gossipsub");
            }
        }
    }

    /// Makes the connection anew where a peer takes no gossip: gossipsub would go on waiting for its
    /// stream, and gives up a connection's streams for good after the fifth that failed.
    fn on_full_queue(&mut self, id: &PeerId) {
        let Some(peer) = self.peers.find(id) else { return };
        if peer.connection.as_mut().is_some_and(|open| open.backlog.add(Instant::now())) {
            tracing::warn!(agency = %peer.agency, "the peer takes no gossip: connecting anew");
            self.metrics.drop_one(DropReason::StuckConnection);
            // It can only fail where the peer is not connected any more.
            let _ = self.swarm.disconnect_peer_id(*id);
        }
    }

    fn on_subscription(&mut self, id: &PeerId, topic: &TopicHash, subscribed: bool) {
        let Some(open) = self.peers.find(id).and_then(|peer| peer.connection.as_mut()) else {
            return;
        };
        if *topic == self.topics.consensus {
            open.subscribed_to_consensus(subscribed, Instant::now());
        } else if *topic == self.topics.transactions {
            open.subscribed_to_transactions(subscribed, Instant::now());
        }
    }

    fn on_message(&mut self, source: PeerId, id: MessageId, topic: &TopicHash, data: Vec<u8>) {
        let consensus = *topic == self.topics.consensus;
        self.metrics.received(if consensus { "consensus" } else { "transactions" }, data.len());
        if data.len() > self.limits.gossip_bytes_max {
            self.settle(&source, &id, MessageAcceptance::Reject);
            self.fault(&source, DropReason::Oversize, "gossip");
            return;
        }
        let taken = if consensus {
            self.consensus_messages(source, &id, topic, data)
        } else {
            self.transaction_batch(source, &id, &data)
        };
        if let Err((reason, acceptance)) = taken {
            let rejected = matches!(acceptance, MessageAcceptance::Reject);
            self.settle(&source, &id, acceptance);
            if rejected {
                self.fault(&source, reason, "gossip");
            } else {
                self.metrics.drop_one(reason);
            }
        }
    }

    fn consensus_messages(
        &mut self,
        source: PeerId,
        id: &MessageId,
        topic: &TopicHash,
        data: Vec<u8>,
    ) -> Result<(), (DropReason, MessageAcceptance)> {
        let messages = gossip::decode_messages(&data)
            .ok_or((DropReason::Undecodable, MessageAcceptance::Reject))?;
        if messages.iter().all(|message| message.message.is_none()) {
            return Err((DropReason::UnknownKind, MessageAcceptance::Ignore));
        }
        let bytes = data.len().max(messages.len() * SHARE_BYTES_MIN);
        let (from, share) = self.share(&source, bytes, Unjudged::Consensus)?;
        // Bytes beside the messages are judged by nobody, and neither is a message of an unknown kind.
        let whole = !gossip::has_more_than(&data, &messages);
        let data = if whole && messages.len() == 1 { Vec::new() } else { data };
        let id_of =
            |message: &v1::ConsensusMessage| gossip::message_id(topic, &message.encode_to_vec());
        let ids: Vec<_> = messages.iter().map(id_of).collect();
        let gossip = Gossiped { id: id.clone(), whole, data, messages: ids.clone() };
        let judgement = self.judgement(source, ids.len(), Some(gossip), share);
        for (index, (message, own_id)) in (0..).zip(messages.into_iter().zip(&ids)) {
            // What was accepted a moment ago is on its way to everybody, in whatever batch it comes again.
            let now = Instant::now();
            let again = ids.iter().take(index as usize).any(|earlier| earlier == own_id)
                || self.recent.was_just_accepted(own_id, now);
            if message.message.is_none() || again {
                continue;
            }
            let judgement = judgement.another(index);
            self.recent.received(*own_id, now);
            // A receiver that is gone drops the judgement, which ignores the message.
            let _ = self.events.try_send(NetworkEvent::Consensus { from, message, judgement });
        }
        Ok(())
    }

    fn transaction_batch(
        &mut self,
        source: PeerId,
        id: &MessageId,
        data: &[u8],
    ) -> Result<(), (DropReason, MessageAcceptance)> {
        let batch = gossip::decode_batch(data, &self.limits)
            .ok_or((DropReason::Undecodable, MessageAcceptance::Reject))?;
        let (from, share) = self.share(&source, data.len(), Unjudged::Transactions)?;
        let (data, messages) = Default::default();
        let gossip = Gossiped { id: id.clone(), whole: true, data, messages };
        let judgement = self.judgement(source, 1, Some(gossip), share);
        let event = match batch {
            Batch::Transactions(transactions) => {
                NetworkEvent::Transactions { from, transactions, judgement }
            }
            Batch::Announced(announced) => {
                let peer = self.peers.find(&source);
                let peer = peer.ok_or((DropReason::ConsumerBehind, MessageAcceptance::Ignore))?;
                let left = Arc::clone(&peer.unjudged_transactions);
                let room = UnjudgedRoom { left, bytes_max: self.limits.unjudged_bytes_max };
                NetworkEvent::Announced { from, announced, judgement, room }
            }
        };
        let _ = self.events.try_send(event);
        Ok(())
    }

    /// A share of what a peer may have waiting to be judged.
    fn share(
        &mut self,
        source: &PeerId,
        bytes: usize,
        kind: Unjudged,
    ) -> Result<(PeerKey, OwnedSemaphorePermit), (DropReason, MessageAcceptance)> {
        let behind = (DropReason::ConsumerBehind, MessageAcceptance::Ignore);
        let bytes = u32::try_from(bytes.max(SHARE_BYTES_MIN)).map_err(|_| behind)?;
        let peer = self.peers.find(source).ok_or(behind)?;
        let shares = match kind {
            Unjudged::Consensus => &peer.unjudged_consensus,
            Unjudged::Transactions => &peer.unjudged_transactions,
        };
        let share = Arc::clone(shares).try_acquire_many_owned(bytes).map_err(|_| behind)?;
        Ok((peer.key, share))
    }

    fn judgement(
        &self,
        source: PeerId,
        count: usize,
        gossip: Option<Gossiped>,
        share: OwnedSemaphorePermit,
    ) -> PendingJudgement {
        let judged = self.judged.clone();
        PendingJudgement::told_to(count, move |judgement| {
            // Every judged message holds a share of the peer's budget, and the channel has room for all
            // shares: this fails only when the network has stopped.
            let _ = judged.try_send(JudgedMessage { source, judgement, gossip, _share: share });
        })
    }

    pub(super) fn settle(
        &mut self,
        source: &PeerId,
        id: &MessageId,
        acceptance: MessageAcceptance,
    ) {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.report_message_validation_result(id, source, acceptance);
    }

    fn on_sync(&mut self, event: SyncEvent) {
        match event {
            SyncEvent::Message { peer, message, connection_id } => {
                // Only an answer shows that what is sent on the connection arrives.
                if matches!(message, SyncMessage::Response { .. }) {
                    self.alive(&peer, connection_id);
                }
                self.on_sync_message(&peer, message);
            }
            SyncEvent::OutboundFailure { peer, request_id, error, .. } => {
                tracing::debug!(%peer, %error, "a request has failed");
                self.on_asked(&peer, request_id, Err(error));
            }
            SyncEvent::InboundFailure { peer, request_id, error, .. } => {
                tracing::debug!(%peer, %error, "a peer's request has failed");
                self.answering.remove(&request_id);
                self.on_unanswered(&error);
            }
            SyncEvent::ResponseSent { request_id, .. } => _ = self.answering.remove(&request_id),
        }
    }

    fn on_sync_message(&mut self, peer: &PeerId, message: SyncMessage) {
        match message {
            SyncMessage::Request { request_id, request, channel } => match request {
                Ok(request) => self.on_request(peer, request_id, request, channel),
                Err(fault) => self.frame_fault(peer, fault),
            },
            SyncMessage::Response { request_id, response } => {
                self.on_asked(peer, request_id, Ok(response));
            }
        }
    }

    pub(super) fn on_unanswered(&self, error: &request_response::InboundFailure) {
        match error {
            request_response::InboundFailure::Timeout => {
                self.metrics.drop_one(DropReason::Unanswered);
            }
            // Only this node's answer can be at fault: a bad request arrives as a value.
            request_response::InboundFailure::Io(error) if FrameFault::of(error).is_some() => {
                tracing::error!(%error, "an answer of this node is above the limit");
                self.metrics.drop_one(DropReason::Oversize);
            }
            // The reason was counted where the request was dropped, or the peer is gone.
            _ => {}
        }
    }

    pub(super) fn frame_fault(&mut self, peer: &PeerId, fault: FrameFault) {
        let reason = match fault {
            FrameFault::Oversize { .. } => DropReason::Oversize,
            FrameFault::Undecodable => DropReason::Undecodable,
        };
        self.fault(peer, reason, "requests");
    }

    fn on_request(
        &mut self,
        peer_id: &PeerId,
        id: request_response::InboundRequestId,
        request: v1::SyncRequest,
        channel: request_response::ResponseChannel<v1::SyncResponse>,
    ) {
        if let Some(v1::sync_request::Request::Push(message)) = request.request {
            self.on_push(peer_id, message, channel);
            return;
        }
        let Some(peer) = self.peers.find(peer_id) else { return };
        let Ok(place) = peer.answering.clone().try_acquire_owned() else {
            self.metrics.drop_one(DropReason::RequestLimit);
            return;
        };
        let from = peer.key;
        let reply = Reply { id, channel, place, answers: self.answers.clone() };
        if self.events.try_send(NetworkEvent::Request { from, request, reply }).is_err() {
            self.metrics.drop_one(DropReason::ConsumerBehind);
        }
    }

    fn on_push(
        &mut self,
        peer_id: &PeerId,
        message: v1::ConsensusMessage,
        channel: request_response::ResponseChannel<v1::SyncResponse>,
    ) {
        if message.message.is_none() {
            self.metrics.drop_one(DropReason::UnknownKind);
        } else {
            let share = self.share(peer_id, message.encoded_len(), Unjudged::Consensus);
            let queued = share.is_ok_and(|(from, share)| {
                let judgement = self.judgement(*peer_id, 1, None, share);
                self.events.try_send(NetworkEvent::Pushed { from, message, judgement }).is_ok()
            });
            if !queued {
                // No acknowledgement: the sender counts it as lost.
                self.metrics.drop_one(DropReason::ConsumerBehind);
                return;
            }
        }
        let pushed = v1::sync_response::Response::Pushed(v1::Pushed {});
        let response = v1::SyncResponse { response: Some(pushed) };
        // A sender that no longer waits needs no acknowledgement.
        let _ = self.swarm.behaviour_mut().sync.send_response(channel, response);
    }

    fn on_asked(
        &mut self,
        peer_id: &PeerId,
        id: request_response::OutboundRequestId,
        outcome: Result<v1::SyncResponse, request_response::OutboundFailure>,
    ) {
        match self.asked.remove(&id) {
            Some(Asked::Push) => {
                if outcome.is_err() {
                    self.metrics.drop_one(DropReason::PushFailed);
                }
                if let Some(peer) = self.peers.find(peer_id) {
                    peer.pushes_out = peer.pushes_out.saturating_sub(1);
                }
                self.send_pushes(peer_id);
            }
            Some(Asked::Request { answer, .. }) => {
                let outcome = outcome.map_err(|failure| self.request_error(peer_id, &failure));
                // A receiver that is gone has given the request up.
                let _ = answer.send(outcome);
            }
            None => {}
        }
    }

    pub(super) fn request_error(
        &mut self,
        peer: &PeerId,
        failure: &request_response::OutboundFailure,
    ) -> RequestError {
        match failure {
            request_response::OutboundFailure::Timeout => RequestError::Timeout,
            request_response::OutboundFailure::DialFailure => RequestError::NotConnected,
            request_response::OutboundFailure::Io(error) => match FrameFault::of(error) {
                Some(fault) => {
                    self.frame_fault(peer, fault);
                    match fault {
                        FrameFault::Oversize { .. } => RequestError::Oversize,
                        FrameFault::Undecodable => RequestError::Undecodable,
                    }
                }
                None => RequestError::Refused,
            },
            request_response::OutboundFailure::ConnectionClosed
            | request_response::OutboundFailure::UnsupportedProtocols => RequestError::Refused,
        }
    }
}

fn change(key: PeerKey, connected: bool) -> NetworkEvent {
    if connected { NetworkEvent::Connected(key) } else { NetworkEvent::Disconnected(key) }
}
