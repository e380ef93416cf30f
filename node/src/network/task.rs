//! The task that owns the swarm.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use customhouse_proto::v1;
use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::transport::ListenerId,
    gossipsub::{MessageAcceptance, PublishError, TopicHash},
    request_response::{InboundRequestId, OutboundRequestId},
    swarm::{
        SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use prost::Message as _;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    behaviour::{self, Behaviour, BehaviourEvent},
    config::{Limits, NetworkConfig, NetworkError, PeerConfig, PeerKey},
    gossip::{self, Batcher, Publication, Recent, Topics},
    handle::{
        Answer, Command, ConnectedPeer, Gossiped, JudgedMessage, NetworkEvent, NetworkHandle,
        OpenRequest, Outgoing, RequestError, RequestPlaces, Sender,
    },
    judgement::Judgement,
    metrics::{DropReason, NetworkMetrics},
    peers::{self, PEERS_MAX, Peers},
    sealed_lane::SealedLane,
};

/// Commands waiting for the task.
const COMMANDS_MAX: usize = 1024;
/// Transactions waiting to be published; their bytes are limited besides.
const TRANSACTIONS_MAX: usize = 16_384;
/// Transactions taken up at a time, so that the task looks after its connections in between.
const TRANSACTIONS_AT_A_TIME: usize = 1024;
/// Pushes to one peer under way.
const PUSHES_OUT_MAX: usize = 16;
/// Every received message counts as at least this much, so that small ones are bounded too.
pub(super) const SHARE_BYTES_MIN: usize = 4096;
/// A connection is dead after this many ping intervals without a sign of life.
const SILENT_PINGS_MAX: u32 = 3;
/// How often connections are looked at, at least.
const ROUND: Duration = Duration::from_secs(1);
/// How long listeners may take to come up.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Starts the network: returns once it listens. It runs until `shutdown` is cancelled; when it has
/// stopped and all connections are closed, the event receiver ends.
///
/// # Errors
/// See [`NetworkError`]. Peers that cannot be reached are not an error.
pub async fn spawn(
    config: NetworkConfig,
    shutdown: CancellationToken,
) -> Result<(NetworkHandle, mpsc::Receiver<NetworkEvent>), NetworkError> {
    let metrics = NetworkMetrics::default();
    let peers = Peers::new(&config)?;
    let mut swarm = behaviour::swarm(&config, &peers, &metrics)?;
    let (listening, early) = listen(&mut swarm, &config.listen).await?;

    let limits = config.limits;
    // The list may grow. Channels take memory only for what is in them.
    let shares = 2 * PEERS_MAX * (limits.unjudged_bytes_max / SHARE_BYTES_MIN + 1);
    let (commands_sender, commands) = mpsc::channel(COMMANDS_MAX);
    let (transactions_sender, transactions) = mpsc::channel(TRANSACTIONS_MAX);
    let (events, events_receiver) = mpsc::channel(shares + COMMANDS_MAX);
    let (judged_sender, judged) = mpsc::channel(shares.max(1));
    let (answers_sender, answers) = mpsc::channel((PEERS_MAX * limits.requests_inbound_max).max(1));
    let (listed_sender, listed) = watch::channel(config.peers);
    let (connected_sender, connected) = watch::channel(Arc::from([]));
    let queued_bytes = Arc::new(AtomicUsize::new(0));
    let sealed_answers_max = PEERS_MAX * limits.sealed_requests_max;
    let (sealed_answers_sender, sealed_answers) = mpsc::channel(sealed_answers_max.max(1));
    let places = || RequestPlaces::new(&limits);
    let handle = NetworkHandle(Arc::new(Sender {
        commands: commands_sender,
        transactions: transactions_sender,
        queued_bytes: Arc::clone(&queued_bytes),
        queued_bytes_max: limits.publish_queue_bytes_max,
        gossiped_bytes_max: limits.gossiped_transaction_bytes_max,
        requests: RwLock::new(peers.iter().map(|peer| (peer.key, places())).collect()),
        limits: limits.clone(),
        listed: listed_sender,
        connected,
        listening,
        metrics: metrics.clone(),
    }));
    let mut task = Task {
        swarm,
        peers,
        topics: Topics::new(&config.chain_id),
        recent: Recent::new(limits.duplicate_window),
        batcher: Batcher::new(&limits),
        limits,
        metrics,
        events,
        untold: HashMap::new(),
        judged: judged_sender,
        answers: answers_sender,
        connected: connected_sender,
        next_round: Instant::now(),
        queued_bytes,
        asked: HashMap::new(),
        answering: HashMap::new(),
        sealed: SealedLane::new(sealed_answers_sender),
    };
    for event in early {
        task.on_swarm(event);
    }
    let inputs = Inputs { commands, transactions, judged, answers, sealed_answers, listed };
    tokio::spawn(task.run(inputs, shutdown));
    Ok((handle, events_receiver))
}

/// Opens the listeners and waits for their addresses. Gives those, and what else happened meanwhile.
async fn listen(
    swarm: &mut Swarm<Behaviour>,
    addresses: &[Multiaddr],
) -> Result<(Vec<Multiaddr>, Vec<SwarmEvent<BehaviourEvent>>), NetworkError> {
    let mut early = Vec::new();
    let mut waiting: HashSet<ListenerId> = HashSet::new();
    for address in addresses {
        let id = swarm.listen_on(address.clone()).map_err(|error| NetworkError::Listen {
            address: address.clone(),
            reason: reason(&error),
        })?;
        waiting.insert(id);
    }
    let up = async {
        while !waiting.is_empty() {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, .. } => _ = waiting.remove(&listener_id),
                event => early.push(event),
            }
        }
    };
    tokio::time::timeout(LISTEN_TIMEOUT, up).await.map_err(|_| NetworkError::ListenTimeout)?;
    Ok((swarm.listeners().cloned().collect(), early))
}

/// What the system said: the library's own error has no words around it.
fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut said: Vec<String> = causes.map(ToString::to_string).collect();
    said.retain(|words| !words.is_empty());
    said.dedup();
    said.join(": ")
}

/// The ends of the channels that the task reads.
struct Inputs {
    commands: mpsc::Receiver<Command>,
    transactions: mpsc::Receiver<Outgoing>,
    judged: mpsc::Receiver<JudgedMessage>,
    answers: mpsc::Receiver<Answer>,
    sealed_answers: mpsc::Receiver<Answer<v1::SealedResponse>>,
    listed: watch::Receiver<Vec<PeerConfig>>,
}

/// What an open request is for.
pub(super) enum Asked {
    /// The node waits for the answer.
    Request {
        answer: oneshot::Sender<Result<v1::SyncResponse, RequestError>>,
        _place: OwnedSemaphorePermit,
    },
    /// A push; its acknowledgement makes room for the next.
    Push,
}

/// The state of the network task.
pub(super) struct Task {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) peers: Peers,
    pub(super) topics: Topics,
    pub(super) recent: Recent,
    batcher: Batcher,
    pub(super) limits: Limits,
    pub(super) metrics: NetworkMetrics,
    pub(super) events: mpsc::Sender<NetworkEvent>,
    /// Peers whose last change (true: connected) found the event queue full.
    pub(super) untold: HashMap<PeerKey, bool>,
    pub(super) judged: mpsc::Sender<JudgedMessage>,
    pub(super) answers: mpsc::Sender<Answer>,
    connected: watch::Sender<Arc<[ConnectedPeer]>>,
    /// When to look at the connections next.
    next_round: Instant,
    queued_bytes: Arc<AtomicUsize>,
    pub(super) asked: HashMap<OutboundRequestId, Asked>,
    /// Answers being written, with their places among the peer's requests in work.
    pub(super) answering: HashMap<InboundRequestId, OwnedSemaphorePermit>,
    pub(super) sealed: SealedLane,
}

impl Task {
    async fn run(mut self, mut inputs: Inputs, shutdown: CancellationToken) {
        let events = self.events.clone();
        loop {
            let due = self.due();
            tokio::select! {
                () = shutdown.cancelled() => break,
                event = self.swarm.select_next_some() => self.on_swarm(event),
                Some(judged) = inputs.judged.recv() => self.on_judged(judged),
                Some(answer) = inputs.answers.recv() => self.on_answer(answer),
                Some(answer) = inputs.sealed_answers.recv() => self.on_sealed_answer(answer),
                Some(command) = inputs.commands.recv() => self.on_command(command),
                Ok(()) = inputs.listed.changed() => {
                    let listed = inputs.listed.borrow_and_update().clone();
                    self.on_list(&listed);
                }
                Some(first) = inputs.transactions.recv() => {
                    self.on_transactions(first, &mut inputs.transactions);
                }
                () = tokio::time::sleep_until(due), if due > Instant::now() => {}
                () = std::future::ready(()), if due <= Instant::now() => {}
                Ok(room) = events.reserve(), if !self.untold.is_empty() => {
                    if let Some(event) = self.next_untold() {
                        room.send(event);
                    }
                }
            }
            self.on_time(Instant::now());
        }
        tracing::debug!("the network stops");
    }

    /// When something is to be done next without an input. At least at every heartbeat: gossipsub
    /// asks to be woken for one heartbeat only, and does the next when it is polled for another
    /// reason, which on an idle network is this.
    fn due(&self) -> Instant {
        let heartbeat = Instant::now() + gossip::HEARTBEAT;
        [Some(self.next_round), self.batcher.due(), self.peers.due()]
            .into_iter()
            .flatten()
            .fold(heartbeat, Instant::min)
    }

    /// Sends the batch, dials, and lets in again, whatever is due.
    fn on_time(&mut self, now: Instant) {
        if let Some(batch) = self.batcher.take_due(now) {
            self.publish_batch(&batch);
        }
        if self.next_round <= now {
            self.next_round = now + self.limits.ping_interval.min(ROUND);
            self.close_useless_connections(now);
        }
        if self.peers.due().is_none_or(|due| due > now) {
            return;
        }
        for peer in self.peers.iter_mut() {
            if peer.faults.ended(now) {
                tracing::info!(agency = %peer.agency, "the peer may connect again");
                self.swarm.behaviour_mut().allowed.allow_peer(peer.id);
            }
            if peer.faults.cut_off_until.is_some()
                || peer.is_connected()
                || peer.addresses.is_empty()
                || !peer.redial.start(now)
            {
                continue;
            }
            // Not from the listening port: two nodes dialling each other from their listening
            // ports would meet in one TCP connection on which both are the initiator.
            let dial = DialOpts::peer_id(peer.id)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(peer.addresses.clone())
                .allocate_new_port()
                .build();
            if let Err(error) = self.swarm.dial(dial) {
                tracing::debug!(agency = %peer.agency, %error, "cannot dial");
                peer.redial.failed(now);
            }
        }
    }

    /// Closes what shows no sign of life, and what is alive but of no use: its other end knows of
    /// another connection, and subscribed on that.
    fn close_useless_connections(&mut self, now: Instant) {
        let silence = SILENT_PINGS_MAX * self.limits.ping_interval;
        for peer in self.peers.iter() {
            let Some(connection) = &peer.connection else { continue };
            let reason = if now.duration_since(connection.alive) > silence {
                DropReason::DeadConnection
            } else if connection.unready(now).is_some_and(|time| time > self.limits.ready_timeout) {
                DropReason::UnreadyConnection
            } else {
                continue;
            };
            if self.swarm.close_connection(connection.id) {
                tracing::info!(agency = %peer.agency, reason = reason.as_str(), "closing a connection");
                self.metrics.drop_one(reason);
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Publish(messages) => self.publish_consensus(messages),
            Command::Push(key, message) => self.push(&key, message),
            Command::Request(request) => self.request(request),
            Command::RequestSealed(request) => self.request_sealed(request),
            Command::Charge(key, reason) => {
                self.fault(&peers::peer_id(&key), DropReason::Rejected, reason);
            }
            Command::Ping(reply) => _ = reply.send(()),
        }
    }

    /// Lets in the peers that are new on the list, and disconnects those that are off it.
    fn on_list(&mut self, listed: &[PeerConfig]) {
        for id in self.peers.beside(listed) {
            self.remove(&id);
        }
        for peer in listed {
            if let Some(id) = self.peers.add(peer, &self.limits) {
                tracing::info!(agency = %peer.agency, key = %peer.key, "a peer is listed");
                self.swarm.behaviour_mut().allowed.allow_peer(id);
            }
        }
        for peer in self.peers.iter() {
            self.swarm.behaviour_mut().handshakes.expect(peer.id, &peer.addresses);
        }
    }

    /// Forgets a peer. What was under way with it ends with its connections.
    fn remove(&mut self, id: &PeerId) {
        let Some(peer) = self.peers.find(id) else { return };
        let (key, agency, announced) = (peer.key, peer.agency, peer.announced);
        tracing::info!(%agency, %key, "a peer is listed no longer");
        self.swarm.behaviour_mut().allowed.disallow_peer(*id);
        self.swarm.behaviour_mut().handshakes.forget(id);
        self.peers.remove(id);
        if announced {
            self.publish_connected();
            self.tell(key, false);
        }
    }

    /// Publishes in one gossip message what fits into it; what is on its way already stays out.
    fn publish_consensus(&mut self, messages: Vec<v1::ConsensusMessage>) {
        let (mut together, mut bytes, mut repeat) = (Vec::new(), 0, false);
        for message in messages {
            let data = message.encode_to_vec();
            let id = gossip::message_id(&self.topics.consensus, &data);
            match self.recent.publish(id, Instant::now()) {
                Publication::First => {}
                Publication::Repeat => {
                    repeat = true;
                    self.push_to_all(&message);
                }
                Publication::OnItsWay => continue,
            }
            // Its tag and length, and the repeat's mark.
            let length = data.len() + 32;
            let full = bytes + length > self.limits.gossip_bytes_max
                || together.len() == gossip::CONSENSUS_BATCH_MAX;
            if full && !together.is_empty() {
                self.publish_together(std::mem::take(&mut together), repeat);
                bytes = 0;
            }
            bytes += length;
            together.push(message);
        }
        if !together.is_empty() {
            self.publish_together(together, repeat);
        }
    }

    fn publish_together(&mut self, messages: Vec<v1::ConsensusMessage>, repeat: bool) {
        let data = v1::ConsensusBatch { messages }.encode_to_vec();
        let data = if repeat { gossip::as_repeat(data) } else { data };
        self.publish(self.topics.consensus.clone(), data, "consensus");
    }

    /// Sends a message to every connected peer beside gossip: it is sent again because gossip may
    /// have failed it, for example where a peer's queue there does not empty.
    fn push_to_all(&mut self, message: &v1::ConsensusMessage) {
        let connected = self.peers.iter().filter(|peer| peer.is_connected());
        let keys: Vec<PeerKey> = connected.map(|peer| peer.key).collect();
        for key in keys {
            self.push(&key, message.clone());
        }
    }

    fn on_transactions(&mut self, first: Outgoing, queue: &mut mpsc::Receiver<Outgoing>) {
        let now = Instant::now();
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(transaction) = next {
            self.queued_bytes.fetch_sub(transaction.bytes(), Ordering::Relaxed);
            let batch = match transaction {
                Outgoing::Whole(transaction) => self.batcher.add(transaction, now),
                Outgoing::Announced(announced) => Some(gossip::batch_announcing(announced)),
            };
            if let Some(batch) = batch {
                self.publish_batch(&batch);
            }
            taken += 1;
            next = if taken < TRANSACTIONS_AT_A_TIME { queue.try_recv().ok() } else { None };
        }
    }

    fn publish_batch(&mut self, batch: &v1::TransactionBatch) {
        let topic = self.topics.transactions.clone();
        let data = batch.encode_to_vec();
        let id = gossip::message_id(&topic, &data);
        let data = match self.recent.publish(id, Instant::now()) {
            Publication::First => data,
            Publication::Repeat | Publication::OnItsWay => gossip::as_repeat(data),
        };
        self.publish(topic, data, "transactions");
    }

    fn publish(&mut self, topic: TopicHash, data: Vec<u8>, channel: &'static str) {
        let length = data.len();
        if length > self.limits.gossip_bytes_max {
            tracing::error!(channel, length, "a message of this node is above the limit");
            self.metrics.drop_one(DropReason::Oversize);
            return;
        }
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        let published = match gossip.publish(topic.clone(), data.clone()) {
            // It came from a peer, and was of no use then: before its time, or when the node was behind.
            Err(PublishError::Duplicate) => gossip.publish(topic, gossip::as_repeat(data)),
            published => published,
        };
        match published {
            Ok(_) => self.metrics.sent(channel, length),
            Err(PublishError::NoPeersSubscribedToTopic) => {
                self.metrics.drop_one(DropReason::NoPeers);
            }
            Err(error) => {
                tracing::debug!(channel, %error, "not published");
                self.metrics.drop_one(DropReason::SlowPeer);
            }
        }
    }

    fn push(&mut self, key: &PeerKey, message: v1::ConsensusMessage) {
        if message.encoded_len() > self.limits.gossip_bytes_max {
            tracing::error!("a message of this node is above the limit");
            self.metrics.drop_one(DropReason::Oversize);
            return;
        }
        let id = peers::peer_id(key);
        let max = self.limits.push_queue_max;
        match self.peers.find(&id) {
            Some(peer) if peer.is_connected() && peer.pushes.len() < max => {
                peer.pushes.push_back(message);
            }
            Some(peer) if peer.is_connected() => self.metrics.drop_one(DropReason::QueueFull),
            _ => self.metrics.drop_one(DropReason::NoPeers),
        }
        self.send_pushes(&id);
    }

    /// Sends what waits to be pushed, as far as there is room.
    pub(super) fn send_pushes(&mut self, id: &PeerId) {
        let Some(peer) = self.peers.find(id) else { return };
        while peer.pushes_out < PUSHES_OUT_MAX {
            let Some(message) = peer.pushes.pop_front() else { return };
            let request =
                v1::SyncRequest { request: Some(v1::sync_request::Request::Push(message)) };
            let request_id = self.swarm.behaviour_mut().sync.send_request(id, Ok(request));
            self.asked.insert(request_id, Asked::Push);
            peer.pushes_out += 1;
        }
    }

    fn request(&mut self, open: OpenRequest) {
        let OpenRequest { peer, request, answer, place } = open;
        if answer.is_closed() {
            return;
        }
        let id = peers::peer_id(&peer);
        // A receiver that is gone has given the request up.
        if !self.peers.find(&id).is_some_and(|peer| peer.is_connected()) {
            let _ = answer.send(Err(RequestError::NotConnected));
        } else if request.encoded_len() > self.limits.request_bytes_max {
            let _ = answer.send(Err(RequestError::Oversize));
        } else {
            let request_id = self.swarm.behaviour_mut().sync.send_request(&id, Ok(request));
            self.asked.insert(request_id, Asked::Request { answer, _place: place });
        }
    }

    fn on_judged(&mut self, judged: JudgedMessage) {
        let JudgedMessage { source, judgement, gossip, _share } = judged;
        if let Some(Gossiped { id, whole, data, messages }) = gossip {
            let accepted = judgement.accepted();
            let acceptance = match judgement {
                Judgement::Rejected(..) => MessageAcceptance::Reject,
                Judgement::Accepted if whole => MessageAcceptance::Accept,
                _ => MessageAcceptance::Ignore,
            };
            let goes_on_as_it_came = matches!(acceptance, MessageAcceptance::Accept);
            self.settle(&source, &id, acceptance);
            self.recent.judged(messages, accepted, Instant::now());
            if accepted != 0 && !goes_on_as_it_came {
                self.pass_on(&data, accepted);
            }
        }
        if let Judgement::Rejected(reason, _) = judgement {
            self.fault(&source, DropReason::Rejected, reason);
        }
    }

    /// Gossips those of the consensus messages that travelled together whose bit is set.
    fn pass_on(&mut self, data: &[u8], accepted: u64) {
        let Some(messages) = gossip::decode_messages(data) else { return };
        let bits = (0..u64::BITS).map(|index| accepted >> index & 1 == 1);
        let together = messages.into_iter().zip(bits).filter_map(|(m, bit)| bit.then_some(m));
        let data = v1::ConsensusBatch { messages: together.collect() }.encode_to_vec();
        let (topic, length) = (self.topics.consensus.clone(), data.len());
        // It fails where others have passed on the same, or nobody is there.
        if self.swarm.behaviour_mut().gossip.publish(topic, data).is_ok() {
            self.metrics.sent("consensus", length);
        }
    }

    fn on_answer(&mut self, answer: Answer) {
        let Answer { id, channel, response, place } = answer;
        match self.swarm.behaviour_mut().sync.send_response(channel, response) {
            Ok(()) => {
                self.answering.insert(id, place);
            }
            // Too late: the failure was reported when the time was over.
            Err(_) => tracing::debug!("an answer came too late"),
        }
    }

    /// Counts a fault of a peer, and cuts it off when there are too many.
    pub(super) fn fault(&mut self, id: &PeerId, reason: DropReason, detail: &str) {
        self.metrics.drop_one(reason);
        let Some(peer) = self.peers.find(id) else { return };
        tracing::debug!(agency = %peer.agency, reason = reason.as_str(), detail, "a peer's fault");
        if peer.faults.add(Instant::now()) {
            tracing::warn!(agency = %peer.agency, reason = reason.as_str(), "peer cut off");
            self.metrics.drop_one(DropReason::CutOff);
            // Closes its connections too.
            self.swarm.behaviour_mut().allowed.disallow_peer(*id);
        }
    }

    /// Makes the list of connected peers known.
    pub(super) fn publish_connected(&self) {
        let mut connected: Vec<ConnectedPeer> = self
            .peers
            .iter()
            .filter(|peer| peer.announced)
            .filter_map(|peer| {
                let address = peer.connection.as_ref()?.address.clone();
                let (agency, key) = (peer.agency, peer.key);
                Some(ConnectedPeer { agency, key, address })
            })
            .collect();
        connected.sort_by_key(|peer| (peer.agency, peer.key));
        self.metrics.connected(connected.len());
        self.connected.send_replace(connected.into());
    }
}
