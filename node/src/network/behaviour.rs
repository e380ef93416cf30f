//! The libp2p behaviours that one connection carries, and the swarm that runs them.

use std::time::Duration;

use customhouse_ledger::keys::on_wiped_deep_stack;
use libp2p::{
    StreamProtocol, Swarm, SwarmBuilder, Transport as _,
    allow_block_list::{self, AllowedPeers},
    connection_limits::{self, ConnectionLimits},
    core::upgrade,
    gossipsub::{self, IdentityTransform, MessageAuthenticity, WhitelistSubscriptionFilter},
    identity::Keypair,
    noise, ping, request_response,
    swarm::NetworkBehaviour,
    tcp, yamux,
};
use zeroize::Zeroizing;

use super::{
    bounded_close::BoundedClose,
    codec::{SealedCodec, SyncCodec},
    config::{Limits, NetworkConfig, NetworkError},
    gossip::{self, Topics},
    handshakes::{Handshakes, first_words},
    metrics::NetworkMetrics,
    names::{Found, NamedTcp},
    peers::{Peers, peer_id},
    single::SingleConnection,
};

/// Streams of the sync protocol on one connection, both ways.
const SYNC_STREAMS_MAX: usize = 64;
/// Streams of the protocol of sealed records on one connection, both ways.
const SEALED_STREAMS_MAX: usize = 16;

/// The most stack that making the swarm takes.
const STACK_KIB: usize = 256;

/// Longer than any node runs: an idle connection is no reason to close it.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Gossip among subscribers of the chain's two topics only.
pub(super) type Gossip = gossipsub::Behaviour<IdentityTransform, WhitelistSubscriptionFilter>;

/// What runs on every connection. Those that refuse connections come first, in the order in which they
/// are to be asked: nobody but a listed peer replaces a connection.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) handshakes: Handshakes,
    dials: connection_limits::Behaviour,
    pub(super) allowed: allow_block_list::Behaviour<AllowedPeers>,
    single: SingleConnection,
    pub(super) gossip: Gossip,
    pub(super) sync: request_response::Behaviour<SyncCodec>,
    pub(super) sealed: request_response::Behaviour<SealedCodec>,
    pub(super) ping: ping::Behaviour,
}

impl Behaviour {
    fn new(
        config: &NetworkConfig,
        peers: &Peers,
        metrics: &NetworkMetrics,
        names: Found,
    ) -> Result<Self, NetworkError> {
        let limits = &config.limits;
        let mut allowed = allow_block_list::Behaviour::<AllowedPeers>::default();
        let mut handshakes = Handshakes::new(limits, names);
        for peer in peers.iter() {
            allowed.allow_peer(peer.id);
            handshakes.expect(peer.id, &peer.addresses);
        }
        let dials =
            ConnectionLimits::default().with_max_pending_outgoing(Some(limits.dials_pending_max));
        let own = peer_id(&config.identity.public());
        Ok(Self {
            handshakes,
            dials: connection_limits::Behaviour::new(dials),
            allowed,
            single: SingleConnection::new(own, limits.handshake_timeout),
            gossip: gossip(config, peers.len())?,
            sync: sync(config, metrics),
            sealed: sealed(config, metrics),
            ping: ping::Behaviour::new(
                ping::Config::new()
                    .with_interval(config.limits.ping_interval)
                    .with_timeout(config.limits.ping_interval),
            ),
        })
    }
}

fn gossip(config: &NetworkConfig, peers: usize) -> Result<Gossip, NetworkError> {
    let failed = |error: &dyn ToString| NetworkError::Gossip(error.to_string());
    let topics = Topics::new(&config.chain_id);
    let settings = gossip::gossip_config(&config.limits, &topics, peers);
    let settings = settings.map_err(|e| failed(&e))?;
    let filter =
        WhitelistSubscriptionFilter([topics.consensus, topics.transactions].into_iter().collect());
    // Anonymous: what is gossiped is signed by its author already, and a relay is not its author.
    let mut gossip =
        Gossip::new_with_subscription_filter(MessageAuthenticity::Anonymous, settings, filter)
            .map_err(|e| failed(&e))?;
    for topic in Topics::of(&config.chain_id) {
        gossip.subscribe(&topic).map_err(|e| failed(&format!("{e:?}")))?;
    }
    Ok(gossip)
}

fn sync(
    config: &NetworkConfig,
    metrics: &NetworkMetrics,
) -> request_response::Behaviour<SyncCodec> {
    let Limits { request_bytes_max, response_bytes_max, .. } = config.limits;
    let codec = SyncCodec::new((request_bytes_max, response_bytes_max), metrics.clone());
    requests(config, codec, "sync", SYNC_STREAMS_MAX)
}

/// The bytes of sealed records have streams and places of their own: consensus never waits for them.
fn sealed(
    config: &NetworkConfig,
    metrics: &NetworkMetrics,
) -> request_response::Behaviour<SealedCodec> {
    let Limits { sealed_request_bytes_max, response_bytes_max, .. } = config.limits;
    let codec = SealedCodec::new((sealed_request_bytes_max, response_bytes_max), metrics.clone());
    requests(config, codec, "sealed", SEALED_STREAMS_MAX)
}

/// A protocol of requests: `/customhouse/<chain id>/<name>/1`.
fn requests<C>(
    config: &NetworkConfig,
    codec: C,
    name: &str,
    streams_max: usize,
) -> request_response::Behaviour<C>
where
    C: request_response::Codec<Protocol = StreamProtocol> + Clone + Send + 'static,
{
    let settings = request_response::Config::default()
        .with_request_timeout(config.limits.request_timeout)
        .with_max_concurrent_streams(streams_max);
    let name = format!("/customhouse/{}/{name}/1", config.chain_id);
    let protocol = StreamProtocol::try_from_owned(name).expect("the name begins with a slash");
    let protocol = (protocol, request_response::ProtocolSupport::Full);
    request_response::Behaviour::with_codec(codec, [protocol], settings)
}

/// The swarm: TCP without Nagle's delay, Noise with the chain id in the handshake, Yamux.
pub(super) fn swarm(
    config: &NetworkConfig,
    peers: &Peers,
    metrics: &NetworkMetrics,
) -> Result<Swarm<Behaviour>, NetworkError> {
    let identity = |error: &dyn ToString| NetworkError::Identity(error.to_string());
    let names = Found::default();
    let behaviour = Behaviour::new(config, peers, metrics, names.clone())?;
    let prologue = format!("customhouse/{}", config.chain_id).into_bytes();
    let silence_max = config.limits.silence_timeout;
    // The library moves the key from one step of the making to the next, and needs it for its handshakes'
    // own key only, which it signs here.
    on_wiped_deep_stack(STACK_KIB, || {
        let keypair = config.identity.with_seed(|seed| {
            let mut seed = Zeroizing::new(*seed);
            Keypair::ed25519_from_bytes(seed.as_mut_slice())
        });
        let keypair = keypair.map_err(|e| identity(&e))?;
        let security = noise::Config::new(&keypair).map_err(|e| identity(&e))?;
        let transport = NamedTcp::new(tcp::Config::default().nodelay(true), names)
            .and_then(move |stream, endpoint| first_words(stream, endpoint, silence_max))
            .upgrade(upgrade::Version::V1Lazy)
            .authenticate(security.with_prologue(prologue))
            .multiplex(yamux::Config::default())
            .map(|(peer, muxer), _| (peer, BoundedClose::new(muxer)));
        let swarm = SwarmBuilder::with_existing_identity(keypair)
            .with_tokio()
            .with_other_transport(|_| transport)
            .map_err(|e| identity(&e))?
            .with_behaviour(|_| behaviour)
            .map_err(|e| identity(&e))?
            .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(NEVER))
            .with_connection_timeout(config.limits.handshake_timeout)
            .build();
        Ok(swarm)
    })
}
