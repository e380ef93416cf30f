//! One connection to a peer at a time.
//!
//! What gossip knows of a peer belongs to a connection: subscriptions go out when the *first* one to it
//! opens, and are expected on that. Where one end still has an old connection whose packets vanish (a
//! firewall that lost its state, a host that died) and a new one opens, that end would never subscribe on
//! the new one. So a second connection is never kept beside a first. It is refused, and the first is
//! closed with it, because whoever dials knows of no connection; the one that dialled does so again, and
//! finds room.
//!
//! Two nodes may dial each other at the same moment. Then both ends keep the one that the lower peer id
//! dialled. Where the other one was already open when it came, both are closed, and the higher peer id
//! leaves the next dial to the lower.
//!
//! Whoever connects again and again is let in at a pace: each connection has the whole node look at it.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    swarm::{
        CloseConnection, ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm,
        NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        behaviour::ConnectionEstablished, dummy,
    },
};
use tokio::time::Instant;

use super::rate::Rate;

/// Connections of a peer that are taken at once. One that redials for good reasons makes a few.
const CONNECTIONS_AT_ONCE: u32 = 16;
/// And then in a second.
const CONNECTIONS_A_SECOND: u32 = 1;
/// Peers that are remembered. They are listed ones.
const PEERS_MAX: usize = 1024;

/// Refuses and closes what would be a second connection to a peer.
#[derive(Debug)]
pub(super) struct SingleConnection {
    own: PeerId,
    /// Connections that open within this time of each other, one from each side, were dialled at once.
    simultaneous: Duration,
    open: HashMap<PeerId, Open>,
    /// How often each peer may connect.
    pace: HashMap<PeerId, Rate>,
    to_close: VecDeque<(PeerId, ConnectionId)>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    id: ConnectionId,
    dialled_by: PeerId,
    since: Instant,
    closing: bool,
}

/// Why a connection that the allow list let in was refused.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0} has connected too often")]
pub(super) struct TooOften(PeerId);

/// Why a connection that the allow list let in was refused.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a second connection to {peer}")]
pub(super) struct Second {
    peer: PeerId,
    /// Whether the next dial is the other side's, which is sure to make it.
    pub(super) leave_dialling: bool,
}

impl SingleConnection {
    pub(super) fn new(own: PeerId, simultaneous: Duration) -> Self {
        let (open, pace) = Default::default();
        Self { own, simultaneous, open, pace, to_close: VecDeque::new() }
    }

    /// Whether a peer may connect now.
    fn admit(&mut self, peer: PeerId, now: Instant) -> Result<(), TooOften> {
        if self.pace.len() >= PEERS_MAX && !self.pace.contains_key(&peer) {
            self.pace.clear();
        }
        let pace = || Rate::new(CONNECTIONS_AT_ONCE, CONNECTIONS_A_SECOND);
        let admitted = self.pace.entry(peer).or_insert_with(pace).take(now);
        if admitted { Ok(()) } else { Err(TooOften(peer)) }
    }

    /// Decides about a new connection, and marks the open one to be closed where it must go.
    fn decide(&mut self, peer: PeerId, dialled_by: PeerId, now: Instant) -> Result<(), Second> {
        let Some(open) = self.open.get_mut(&peer) else { return Ok(()) };
        let at_once = open.dialled_by != dialled_by
            && now.duration_since(open.since) <= self.simultaneous
            && !open.closing;
        let lower = self.own.min(peer);
        if !(open.closing || at_once && open.dialled_by == lower) {
            open.closing = true;
            self.to_close.push_back((peer, open.id));
        }
        let leave_dialling = if at_once { self.own != lower } else { dialled_by == peer };
        Err(Second { peer, leave_dialling })
    }

    fn opened(&mut self, peer: PeerId, id: ConnectionId, dialled_by: PeerId, now: Instant) {
        self.open.insert(peer, Open { id, dialled_by, since: now, closing: false });
    }

    fn closed(&mut self, peer: &PeerId, id: ConnectionId) {
        if self.open.get(peer).is_some_and(|open| open.id == id) {
            self.open.remove(peer);
        }
    }
}

impl NetworkBehaviour for SingleConnection {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let now = Instant::now();
        self.admit(peer, now).map_err(ConnectionDenied::new)?;
        self.decide(peer, peer, now).map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.decide(peer, self.own, Instant::now()).map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            }) => {
                let dialled_by = match endpoint {
                    ConnectedPoint::Dialer { .. } => self.own,
                    ConnectedPoint::Listener { .. } => peer_id,
                };
                self.opened(peer_id, connection_id, dialled_by, Instant::now());
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.closed(&peer_id, connection_id);
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

    /// What is to be closed was found while the swarm handled a connection; it polls after that.
    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.to_close.pop_front() {
            Some((peer_id, id)) => {
                let connection = CloseConnection::One(id);
                Poll::Ready(ToSwarm::CloseConnection { peer_id, connection })
            }
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Duration = Duration::from_secs(5);

    /// The lower and the higher of two ids.
    fn two_ids() -> [PeerId; 2] {
        let mut ids = [PeerId::random(), PeerId::random()];
        ids.sort_unstable();
        ids
    }

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    #[test]
    fn a_later_connection_closes_the_older_one_and_waits_until_that_is_gone() {
        let [own, peer] = two_ids();
        let start = Instant::now();
        for dialled_by in [own, peer] {
            let mut single = SingleConnection::new(own, AT_ONCE);
            assert!(single.decide(peer, dialled_by, start).is_ok());
            single.opened(peer, id(1), dialled_by, start);
            let later = start + 2 * AT_ONCE;
            let second = single.decide(peer, peer, later).expect_err("one at a time");
            assert!(second.leave_dialling, "the other side has just dialled");
            assert_eq!(single.to_close.pop_front(), Some((peer, id(1))));
            assert!(single.decide(peer, peer, later).is_err(), "it is not gone yet");
            assert!(single.to_close.is_empty(), "and closed once");
            single.closed(&peer, id(1));
            assert!(single.decide(peer, peer, later).is_ok());
        }
    }

    #[test]
    fn the_same_side_dialling_anew_has_lost_its_connection_however_young_it_is() {
        let [own, peer] = two_ids();
        let now = Instant::now();
        let mut single = SingleConnection::new(own, AT_ONCE);
        single.opened(peer, id(1), peer, now);
        assert!(single.decide(peer, peer, now).expect_err("one at a time").leave_dialling);
        assert_eq!(single.to_close.pop_front(), Some((peer, id(1))));
    }

    #[test]
    fn of_two_dialled_at_once_both_ends_keep_the_one_of_the_lower_id_or_none() {
        let [lower, higher] = two_ids();
        let now = Instant::now();
        for (own, peer) in [(lower, higher), (higher, lower)] {
            for (first, second) in [(own, peer), (peer, own)] {
                let mut single = SingleConnection::new(own, AT_ONCE);
                single.opened(peer, id(1), first, now);
                let refused = single.decide(peer, second, now).expect_err("one at a time");
                assert_eq!(refused.leave_dialling, own == higher);
                assert_eq!(single.to_close.is_empty(), first == lower, "{own} {first} {second}");
            }
        }
    }

    #[test]
    fn a_peer_says_nothing_about_the_connection_of_another() {
        let [own, peer] = two_ids();
        let now = Instant::now();
        let mut single = SingleConnection::new(own, AT_ONCE);
        single.opened(peer, id(1), peer, now);
        assert!(single.decide(PeerId::random(), own, now).is_ok());
        single.closed(&peer, id(2));
        assert!(single.decide(peer, peer, now).is_err());
    }

    #[test]
    fn who_connects_again_and_again_is_let_in_at_a_pace_and_nobody_else_waits_for_it() {
        let [own, peer] = two_ids();
        let start = Instant::now();
        let mut single = SingleConnection::new(own, AT_ONCE);
        let let_in = |single: &mut SingleConnection, peer, now| {
            (0..1000).filter(|_| single.admit(peer, now).is_ok()).count()
        };
        assert_eq!(let_in(&mut single, peer, start), 16);
        assert!(single.admit(PeerId::random(), start).is_ok());
        assert_eq!(let_in(&mut single, peer, start + Duration::from_secs(5)), 5);
    }
}
