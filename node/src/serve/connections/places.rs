//! The places of a listener, and whose they are.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{descriptors::CLOSING_MAX, metrics::Metrics};

/// The surface that metrics count closed connections under.
const SURFACE: &str = "connections";

/// What the clients of a listener may have of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Connections of strangers.
    pub(crate) strangers_max: usize,
    /// Known connections of all clients, except those of operators that have a place of their own.
    pub(crate) known_max: usize,
    /// Known connections of operators that nobody else can take.
    pub(crate) operators_max: usize,
    /// Of one address: for IPv6 a /64, which one machine has.
    pub(crate) address_max: usize,
    /// Of one network: an IPv4 /24, an IPv6 /48.
    pub(crate) network_max: usize,
}

impl Shares {
    /// For `strangers_max` strangers, and nobody known.
    pub(crate) fn of_strangers(strangers_max: usize) -> Self {
        let (all, operators_max) = (usize::MAX, 0);
        Self { strangers_max, known_max: 0, operators_max, address_max: all, network_max: all }
    }

    /// For this many strangers and known connections. An eighth of the latter is for operators; of the
    /// others one network has at most half, and one address at most a quarter.
    pub(crate) fn of_known(strangers_max: usize, connections_max: usize) -> Self {
        let operators_max = connections_max / 8;
        let known_max = connections_max - operators_max;
        let share = |parts: usize| (known_max / parts).max(1);
        let (address_max, network_max) = (share(4), share(2));
        Self { strangers_max, known_max, operators_max, address_max, network_max }
    }
}

/// Which share a connection is above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve) enum TooMany {
    /// Its client's.
    Client,
    /// That of its address.
    Address,
    /// That of its network.
    Network,
    /// That of all clients together.
    All,
}

impl TooMany {
    /// What there are too many of.
    pub(in crate::serve) fn of_what(self) -> &'static str {
        match self {
            Self::Client => "connections of this client",
            Self::Address => "connections from this address",
            Self::Network => "connections from this network",
            Self::All => "connections of all clients",
        }
    }

    /// The reason that it is counted by.
    pub(in crate::serve) fn reason_code(self) -> &'static str {
        match self {
            Self::Client => "CLIENT_CONNECTIONS",
            Self::Address => "ADDRESS_CONNECTIONS",
            Self::Network => "NETWORK_CONNECTIONS",
            Self::All => "ALL_CONNECTIONS",
        }
    }
}

/// The places of a listener.
pub(super) struct Places {
    shares: Shares,
    metrics: Metrics,
    open: Mutex<Open>,
    /// A connection was closed.
    freed: Notify,
}

/// Open connections.
#[derive(Default)]
struct Open {
    /// All, those that are closing included.
    count: usize,
    /// By number, the oldest first.
    strangers: BTreeMap<u64, Stranger>,
    next: u64,
    /// Operators' own.
    operators: usize,
    /// The other known ones.
    known: usize,
    /// These by address and by network.
    addresses: HashMap<IpAddr, usize>,
    networks: HashMap<IpAddr, usize>,
}

struct Stranger {
    address: IpAddr,
    cut: CancellationToken,
}

impl Places {
    pub(super) fn new(shares: Shares, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self { shares, metrics, open: Mutex::default(), freed: Notify::new() })
    }

    /// Waits while too many connections are closing.
    pub(super) async fn room(&self) {
        let Shares { strangers_max, known_max, operators_max, .. } = self.shares;
        loop {
            let freed = self.freed.notified();
            if self.lock().count < strangers_max + known_max + operators_max + CLOSING_MAX {
                return;
            }
            freed.await;
        }
    }

    /// A stranger's place. Where all are taken, another stranger's connection is closed for it.
    pub(super) fn enter(self: &Arc<Self>, from: IpAddr, cut: CancellationToken) -> Place {
        let address = address_of(from);
        let mut open = self.lock();
        if open.strangers.len() >= self.shares.strangers_max
            && let Some(stranger) = open.in_the_way()
        {
            stranger.cut.cancel();
            self.metrics.rejected(SURFACE, "STRANGERS");
        }
        let number = open.next;
        open.next += 1;
        open.count += 1;
        open.strangers.insert(number, Stranger { address, cut: cut.clone() });
        Place { places: Arc::clone(self), number, address, cut, known: OnceLock::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Takes out the stranger whose place the next one gets.
    fn in_the_way(&mut self) -> Option<Stranger> {
        let mut networks: HashMap<IpAddr, usize> = HashMap::new();
        let mut addresses: HashMap<IpAddr, usize> = HashMap::new();
        for stranger in self.strangers.values() {
            *networks.entry(network_of(stranger.address)).or_default() += 1;
            *addresses.entry(stranger.address).or_default() += 1;
        }
        let held = |address: &IpAddr| (networks.get(&network_of(*address)), addresses.get(address));
        // Of equals the first is the oldest: `max_by_key` gives the last, so they come in reverse.
        let newest_first = self.strangers.iter().rev();
        let (number, _) = newest_first.max_by_key(|(_, stranger)| held(&stranger.address))?;
        let number = *number;
        self.strangers.remove(&number)
    }

    /// Makes a stranger known, or says which share is used up.
    fn make_known(
        &mut self,
        place: &Place,
        is_operator: bool,
        shares: &Shares,
    ) -> Result<Known, TooMany> {
        let known = match is_operator && self.operators < shares.operators_max {
            true => {
                self.operators += 1;
                Known::Operator
            }
            false => {
                self.take_share(place.address, shares)?;
                Known::Client
            }
        };
        self.strangers.remove(&place.number);
        Ok(known)
    }

    fn take_share(&mut self, address: IpAddr, shares: &Shares) -> Result<(), TooMany> {
        let network = network_of(address);
        let held = |of: &HashMap<IpAddr, usize>, key| of.get(key).copied().unwrap_or_default();
        for (full, share) in [
            (held(&self.addresses, &address) >= shares.address_max, TooMany::Address),
            (held(&self.networks, &network) >= shares.network_max, TooMany::Network),
            (self.known >= shares.known_max, TooMany::All),
        ] {
            if full {
                return Err(share);
            }
        }
        self.known += 1;
        *self.addresses.entry(address).or_default() += 1;
        *self.networks.entry(network).or_default() += 1;
        Ok(())
    }

    fn forget(&mut self, known: Known, address: IpAddr) {
        match known {
            Known::Operator => self.operators -= 1,
            Known::Client => self.give_share_back(address),
        }
    }

    fn give_share_back(&mut self, address: IpAddr) {
        self.known -= 1;
        let network = network_of(address);
        for (of, key) in [(&mut self.addresses, address), (&mut self.networks, network)] {
            if let Some(count) = of.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    of.remove(&key);
                }
            }
        }
    }
}

/// What one machine has of the address space.
fn address_of(ip: IpAddr) -> IpAddr {
    masked(ip, 32, 64)
}

/// What one network has of it.
fn network_of(ip: IpAddr) -> IpAddr {
    masked(ip, 24, 48)
}

fn masked(ip: IpAddr, v4_bits: u32, v6_bits: u32) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - v4_bits).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - v6_bits).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

/// A connection's place, given back when dropped.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    address: IpAddr,
    /// Ends this connection.
    pub(super) cut: CancellationToken,
    /// Set where it is a stranger's no longer.
    known: OnceLock<Known>,
}

/// Among whose places a known connection's is.
#[derive(Clone, Copy, Debug)]
enum Known {
    Operator,
    Client,
}

impl Place {
    /// How many connections are known of all clients, and how many in the operators' own places.
    #[cfg(test)]
    pub(super) fn known_and_operators(&self) -> (usize, usize) {
        let open = self.places.lock();
        (open.known, open.operators)
    }

    /// See [`super::Connection::become_known`].
    pub(super) fn become_known(&self, is_operator: bool) -> Result<(), TooMany> {
        let mut open = self.places.lock();
        // One that is cut off has lost its place.
        if self.known.get().is_none() && !self.cut.is_cancelled() {
            let known = open.make_known(self, is_operator, &self.places.shares)?;
            let _first = self.known.set(known);
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.lock();
        match self.known.get() {
            Some(known) => open.forget(*known, self.address),
            None => _ = open.strangers.remove(&self.number),
        }
        open.count -= 1;
        drop(open);
        self.places.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_and_networks_are_told_apart_by_their_prefixes() {
        for (ip, address, network) in [
            ("192.0.2.77", "192.0.2.77", "192.0.2.0"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::", "2001:db8:1::"),
        ] {
            let parsed = |text: &str| text.parse::<IpAddr>().expect("an address");
            assert_eq!(address_of(parsed(ip)), parsed(address));
            assert_eq!(network_of(parsed(ip)), parsed(network));
        }
    }
}
