//! TCP to peers whose address is a name. Names are asked for anew at every dial, by the system's own
//! resolver: what a name says is believed for a dial and no longer. Whoever answers there shows its
//! key, as at any address. What a name said last is where its peer is expected to come from
//! ([`Found`]): every peer that is not connected is dialled again and again, from the node's start on.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures::future::select_ok;
use libp2p::{
    Multiaddr,
    core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent},
    multiaddr::Protocol,
    tcp,
};
use tokio::sync::Semaphore;

/// Questions to the resolver at a time. It may take half a minute to say that it does not know, and each
/// keeps a thread.
const LOOKUPS_MAX: usize = 16;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

type Tcp = tcp::tokio::Transport;

/// TCP, which knows addresses and names.
pub(super) struct NamedTcp {
    tcp: Arc<Mutex<Tcp>>,
    lookups: Arc<Semaphore>,
    found: Found,
}

/// The addresses that each name had when it was last asked for. Only names in the configuration are asked
/// for. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Found(Arc<Mutex<HashMap<String, Vec<IpAddr>>>>);

impl Found {
    /// Whether a name has an address.
    pub(super) fn has(&self, name: &str, address: IpAddr) -> bool {
        self.lock().get(name).is_some_and(|addresses| addresses.contains(&address))
    }

    /// What a name says now.
    pub(super) fn note(&self, name: &str, addresses: &[SocketAddr]) {
        let addresses = addresses.iter().map(|address| address.ip().to_canonical()).collect();
        self.lock().insert(name.to_owned(), addresses);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<IpAddr>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name that a multiaddress has instead of an IP address.
pub(super) fn name_of(address: &Multiaddr) -> Option<String> {
    Named::of(address).map(|named| named.name)
}

impl NamedTcp {
    /// Tells what names said.
    pub(super) fn new(config: tcp::Config, found: Found) -> Self {
        let tcp = Arc::new(Mutex::new(Tcp::new(config)));
        Self { tcp, lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)), found }
    }

    fn with_tcp<R>(&self, work: impl FnOnce(&mut Tcp) -> R) -> R {
        work(&mut self.tcp.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Transport for NamedTcp {
    type Output = <Tcp as Transport>::Output;
    type Error = io::Error;
    type ListenerUpgrade = <Tcp as Transport>::ListenerUpgrade;
    type Dial = <Tcp as Transport>::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        self.with_tcp(|tcp| tcp.listen_on(id, address))
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.with_tcp(|tcp| tcp.remove_listener(id))
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        let Some(named) = Named::of(&address) else {
            return self.with_tcp(|tcp| tcp.dial(address, options));
        };
        let (tcp, lookups) = (Arc::clone(&self.tcp), Arc::clone(&self.lookups));
        let (name, noted) = (named.name.clone(), self.found.clone());
        Ok(Box::pin(async move {
            let found = named.resolve(lookups).await?;
            noted.note(&name, &found);
            let dial = |address: SocketAddr| {
                let address = Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()));
                tcp.lock().unwrap_or_else(PoisonError::into_inner).dial(address, options)
            };
            let dials = found.into_iter().filter_map(|address| dial(address).ok());
            select_ok(dials.collect::<Vec<_>>()).await.map(|(stream, _)| stream)
        }))
    }

    fn poll(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        self.with_tcp(|tcp| Pin::new(tcp).poll(context))
    }
}

/// Which addresses of a name are meant.
type Family = fn(&IpAddr) -> bool;

/// A name and a port.
struct Named {
    name: String,
    port: u16,
    family: Family,
}

impl Named {
    /// `None` where the address has no name.
    fn of(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let (name, family): (_, Family) = match parts.next()? {
            Protocol::Dns(name) => (name, |_| true),
            Protocol::Dns4(name) => (name, IpAddr::is_ipv4),
            Protocol::Dns6(name) => (name, IpAddr::is_ipv6),
            _ => return None,
        };
        let Some(Protocol::Tcp(port)) = parts.next() else { return None };
        Some(Self { name: name.into_owned(), port, family })
    }

    /// Its addresses, up to `ADDRESSES_MAX`.
    async fn resolve(self, lookups: Arc<Semaphore>) -> io::Result<Vec<SocketAddr>> {
        let Self { name, port, family } = self;
        let place = lookups.try_acquire_owned();
        let place = place.map_err(|_| io::Error::other("names take long to be found"))?;
        let looked_up = tokio::task::spawn_blocking(move || {
            // Kept by the thread: the caller may have given up.
            let _place = place;
            let found = (name.as_str(), port).to_socket_addrs()?;
            let found: Vec<_> =
                found.filter(|found| family(&found.ip())).take(ADDRESSES_MAX).collect();
            match found.is_empty() {
                true => Err(io::Error::other(format!("{name} has no address of this kind"))),
                false => Ok(found),
            }
        });
        looked_up.await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use libp2p::core::{Endpoint, transport::PortUse};
    use tokio::net::TcpListener;

    use super::*;

    const OPTIONS: DialOpts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };

    async fn dial(address: &str, found: &Found) -> io::Result<()> {
        let mut transport = NamedTcp::new(tcp::Config::default(), found.clone());
        let address = address.parse().expect("an address");
        match transport.dial(address, OPTIONS) {
            Ok(dialled) => dialled.await.map(drop),
            Err(error) => Err(io::Error::other(error.to_string())),
        }
    }

    #[tokio::test]
    async fn a_peer_is_reached_by_its_name_as_by_its_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let found = Found::default();
        for host in ["/ip4/127.0.0.1", "/dns4/localhost", "/dns/localhost"] {
            dial(&format!("{host}/tcp/{port}"), &found).await.expect(host);
        }
        let home = Ipv4Addr::LOCALHOST.into();
        assert!(found.has("localhost", home) && !found.has("elsewhere", home));
        let none = dial(&format!("/dns6/127.0.0.1/tcp/{port}"), &found).await;
        let none = none.expect_err("no IPv6");
        assert!(none.to_string().contains("no address of this kind"), "{none}");
    }

    #[tokio::test]
    async fn questions_to_the_resolver_are_limited() {
        let none = Arc::new(Semaphore::new(0));
        let address = "/dns/localhost/tcp/1".parse().expect("an address");
        let named = Named::of(&address).expect("a name");
        named.resolve(none).await.expect_err("no place");
    }
}
