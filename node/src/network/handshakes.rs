//! Connections to this node that have not shown yet who they are.
//!
//! Anybody can open a connection to the peer port and say nothing, or begin a handshake a thousand times
//! a second. So places for those are few, few for each network that they come from, and not many are
//! taken in a second. A listed peer does not wait in that crowd: connections from where it is known to be
//! (its configured addresses, and the one that it last connected from) have places of their own. Strangers
//! may be there too, behind the same router. So there are more of those places, and whoever says nothing
//! leaves its place soon.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    io,
    net::IpAddr,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, ListenFailure, NetworkBehaviour, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm, behaviour::ConnectionEstablished, dummy,
    },
    tcp::tokio::TcpStream,
};
use tokio::time::Instant;

use super::{
    config::Limits,
    names::{Found, name_of},
    rate::Rate,
};

/// Places of each listed peer at an address: it dials once at a time, and may have broken off before.
const PLACES_PER_PEER: usize = 4;

/// Says who may try a handshake now.
#[derive(Debug)]
pub(super) struct Handshakes {
    familiar_max: usize,
    strangers_max: usize,
    prefix_max: usize,
    rate: Rate,
    /// Where listed peers are said to be.
    configured: HashMap<PeerId, Vec<Host>>,
    /// Where names say that they are.
    names: Found,
    /// Where they last connected from.
    seen: HashMap<PeerId, IpAddr>,
    /// Which place each has.
    pending: HashMap<ConnectionId, Place>,
    taken: BTreeMap<Place, usize>,
}

/// Where a peer is said to be.
#[derive(Debug)]
enum Host {
    At(IpAddr),
    Named(String),
}

/// A kind of places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// Places of the listed peers that are known to be at an address.
    Listed(IpAddr),
    /// Places of all such addresses together.
    Familiar,
    /// Places of all others of a network: 24 bits of an IPv4 address, 48 of an IPv6 address.
    Stranger([u8; 6]),
}

/// Nobody is taken in for this address now.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("too many connections that have not shown who they are")]
pub(super) struct Crowded;

impl Handshakes {
    pub(super) fn new(limits: &Limits, names: Found) -> Self {
        Self {
            names,
            familiar_max: limits.familiar_pending_max,
            strangers_max: limits.strangers_pending_max,
            prefix_max: limits.strangers_pending_per_prefix_max,
            rate: Rate::of(limits.strangers_a_second_max),
            configured: HashMap::new(),
            seen: HashMap::new(),
            pending: HashMap::new(),
            taken: BTreeMap::new(),
        }
    }

    /// Reserves places for a listed peer at its addresses, instead of those it had.
    pub(super) fn expect(&mut self, peer: PeerId, addresses: &[Multiaddr]) {
        self.configured.insert(peer, addresses.iter().filter_map(host_of).collect());
    }

    /// A peer is listed no longer.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.configured.remove(peer);
        self.seen.remove(peer);
    }

    fn begin(
        &mut self,
        connection: ConnectionId,
        from: IpAddr,
        now: Instant,
    ) -> Result<(), Crowded> {
        let (listed, peers) = (Place::Listed(from), self.peers_at(from));
        let place = if self.taken(listed) < PLACES_PER_PEER * peers {
            listed
        } else if peers > 0 && self.taken(Place::Familiar) < self.familiar_max {
            Place::Familiar
        } else {
            let stranger = Place::Stranger(prefix(from));
            let strangers: usize =
                self.taken.range(Place::Stranger([0; 6])..).map(|(_, n)| n).sum();
            if strangers >= self.strangers_max
                || self.taken(stranger) >= self.prefix_max
                || !self.rate.take(now)
            {
                return Err(Crowded);
            }
            stranger
        };
        *self.taken.entry(place).or_default() += 1;
        self.pending.insert(connection, place);
        Ok(())
    }

    /// A connection has shown who it is, or failed.
    fn ended(&mut self, connection: &ConnectionId) {
        let Some(place) = self.pending.remove(connection) else { return };
        if let Some(taken) = self.taken.get_mut(&place) {
            *taken -= 1;
            if *taken == 0 {
                self.taken.remove(&place);
            }
        }
    }

    fn taken(&self, place: Place) -> usize {
        self.taken.get(&place).copied().unwrap_or(0)
    }

    /// Listed peers known to be at an address.
    fn peers_at(&self, address: IpAddr) -> usize {
        let is_said = |host: &Host| match host {
            Host::At(ip) => *ip == address,
            Host::Named(name) => self.names.has(name, address),
        };
        let is_there = |(peer, configured): &(&PeerId, &Vec<Host>)| {
            configured.iter().any(is_said) || self.seen.get(peer) == Some(&address)
        };
        self.configured.iter().filter(is_there).count()
    }
}

/// Waits until whoever has connected says something.
///
/// # Errors
/// It hung up, or was silent for too long.
pub(super) async fn first_words(
    stream: TcpStream,
    endpoint: ConnectedPoint,
    silence_max: Duration,
) -> io::Result<TcpStream> {
    if endpoint.is_listener() {
        tokio::time::timeout(silence_max, stream.0.peek(&mut [0])).await??;
    }
    Ok(stream)
}

fn host_of(address: &Multiaddr) -> Option<Host> {
    ip_of(address).map(Host::At).or_else(|| name_of(address).map(Host::Named))
}

/// The address of a host, where a multiaddress has one.
fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.to_canonical()),
        _ => None,
    }
}

fn prefix(address: IpAddr) -> [u8; 6] {
    match address {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            // No IPv6 network begins like this.
            [0, 0, 4, a, b, c]
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, ..] = ip.octets();
            [a, b, c, d, e, f]
        }
    }
}

impl NetworkBehaviour for Handshakes {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        from: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let from = ip_of(from).ok_or_else(|| ConnectionDenied::new(Crowded))?;
        self.begin(connection, from, Instant::now()).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.ended(&connection);
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.ended(&connection_id);
            }
            // Only listed peers get so far.
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                endpoint: ConnectedPoint::Listener { send_back_addr, .. },
                ..
            }) if self.configured.contains_key(&peer_id) => {
                if let Some(ip) = ip_of(send_back_addr) {
                    self.seen.insert(peer_id, ip);
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshakes() -> Handshakes {
        let limits = Limits {
            familiar_pending_max: 10,
            strangers_pending_max: 20,
            strangers_pending_per_prefix_max: 8,
            strangers_a_second_max: 1000,
            ..Limits::default()
        };
        Handshakes::new(&limits, Found::default())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// How many of a hundred connections from an address are taken in.
    fn crowd(handshakes: &mut Handshakes, from: IpAddr, first: usize) -> usize {
        let now = Instant::now();
        let ids = (first..first + 100).map(ConnectionId::new_unchecked);
        ids.filter(|id| handshakes.begin(*id, from, now).is_ok()).count()
    }

    #[test]
    fn strangers_are_few_by_network_and_in_all_and_their_places_come_back() {
        let mut handshakes = handshakes();
        assert_eq!(crowd(&mut handshakes, ip("203.0.113.7"), 0), 8);
        assert_eq!(crowd(&mut handshakes, ip("203.0.113.8"), 100), 0, "the same network");
        assert_eq!(crowd(&mut handshakes, ip("2001:db8:1:2::1"), 200), 8);
        assert_eq!(crowd(&mut handshakes, ip("2001:db8:1:3::1"), 300), 0, "the same network");
        assert_eq!(crowd(&mut handshakes, ip("198.51.100.1"), 400), 4, "twenty in all");
        for id in 0..500 {
            handshakes.ended(&ConnectionId::new_unchecked(id));
        }
        assert!(handshakes.pending.is_empty() && handshakes.taken.is_empty());
        assert_eq!(crowd(&mut handshakes, ip("203.0.113.7"), 500), 8);
    }

    #[test]
    fn listed_peers_have_places_where_they_are_known_to_be_whatever_strangers_do() {
        let mut handshakes = handshakes();
        let [one, other] = [PeerId::random(), PeerId::random()];
        let address = |text: &str| text.parse::<Multiaddr>().expect("an address");
        handshakes.expect(one, &[address("/ip4/203.0.113.9/tcp/7000")]);
        handshakes.expect(other, &[]);
        handshakes.seen.insert(other, ip("192.0.2.1"));
        for (index, network) in (0..40).enumerate() {
            crowd(&mut handshakes, ip(&format!("198.18.{network}.1")), 100 * index);
        }
        assert_eq!(crowd(&mut handshakes, ip("203.0.113.10"), 10_000), 0, "not its neighbour");
        for (known, first, shared) in [("203.0.113.9", 10_100, 10), ("192.0.2.1", 10_200, 0)] {
            let taken = crowd(&mut handshakes, ip(known), first);
            assert_eq!(taken, PLACES_PER_PEER + shared, "{known}");
        }
        handshakes.forget(&one);
        assert_eq!(handshakes.peers_at(ip("203.0.113.9")), 0);
    }

    #[test]
    fn a_peer_that_has_a_name_has_its_places_as_soon_as_the_name_has_an_address() {
        let mut handshakes = handshakes();
        let address = "/dns/peer.example/tcp/7000".parse().expect("an address");
        handshakes.expect(PeerId::random(), &[address]);
        for (index, network) in (0..40).enumerate() {
            crowd(&mut handshakes, ip(&format!("198.18.{network}.1")), 100 * index);
        }
        let (first, then) = ("203.0.113.9", "203.0.113.77");
        assert_eq!(crowd(&mut handshakes, ip(first), 10_000), 0, "nobody has asked for it");
        let names = handshakes.names.clone();
        for (known, unknown, id) in [(first, then, 10_100), (then, first, 10_300)] {
            names.note("peer.example", &[(ip(known), 7000).into()]);
            assert!(crowd(&mut handshakes, ip(known), id) >= PLACES_PER_PEER, "{known}");
            assert_eq!(crowd(&mut handshakes, ip(unknown), id + 100), 0, "{unknown}");
        }
    }
}
