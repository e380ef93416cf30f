//! Addresses as people write them: `127.0.0.1:7400`, `[::1]:7400`, `node.douane.example:7400`, or libp2p's
//! form of the same, `/ip4/127.0.0.1/tcp/7400`.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use libp2p::{Multiaddr, multiaddr::Protocol};
use serde::{Deserialize as _, Deserializer, de::Error as _};

/// What is said of text that is not an address.
const EXPECTED: &str =
    "an address such as 10.1.2.3:7400, [fd00::17]:7400 or node.douane.example:7400 expected";

/// Networks that are for documentation: a template has them, and no machine.
const DOCUMENTATION: [(&str, u8); 4] =
    [("192.0.2.0", 24), ("198.51.100.0", 24), ("203.0.113.0", 24), ("2001:db8::", 32)];

/// Addresses to dial.
pub(super) fn peers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Multiaddr>, D::Error> {
    let list = Vec::<String>::deserialize(from)?;
    list.iter().map(|text| parse(text).map_err(D::Error::custom)).collect()
}

/// Addresses to listen on. A name is this machine's own, and is looked up once.
pub(super) fn listeners<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Multiaddr>, D::Error> {
    let list = Vec::<String>::deserialize(from)?;
    let parse = |text: &String| {
        let address = parse(text)?;
        let Some((name, port)) = name_of(&address) else { return Ok(address) };
        let found = look_up(&name, port)?;
        Ok(Multiaddr::from(found.ip()).with(Protocol::Tcp(found.port())))
    };
    list.iter().map(|text| parse(text).map_err(|reason: String| D::Error::custom(reason))).collect()
}

/// One address to listen on, likewise.
pub(super) fn listener<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    let (host, port) = split(&text).map_err(D::Error::custom)?;
    match host.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, port)),
        Err(_) => look_up(host, port).map_err(D::Error::custom),
    }
}

/// An address in either form. Whether a node can use it is another question.
fn parse(text: &str) -> Result<Multiaddr, String> {
    let text = text.trim();
    if text.starts_with('/') {
        return text.parse().map_err(|error| format!("`{text}` is not a multiaddress: {error}"));
    }
    let (host, port) = split(text)?;
    let host = match host.parse() {
        Ok(IpAddr::V4(ip)) => Protocol::Ip4(ip),
        Ok(IpAddr::V6(ip)) => Protocol::Ip6(ip),
        Err(_) => Protocol::Dns(host.into()),
    };
    Ok(Multiaddr::from(host).with(Protocol::Tcp(port)))
}

/// Host and port; an IPv6 address stands in brackets, because it has colons itself.
fn split(text: &str) -> Result<(&str, u16), String> {
    let wrong = || format!("`{text}`: {EXPECTED}");
    let (host, port) = text.trim().rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = bracketed.unwrap_or(host);
    let is_name = |host: &str| {
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
        !host.is_empty() && host.chars().all(letters)
    };
    let is_host = match bracketed {
        Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_name(host),
    };
    is_host.then_some((host, port)).ok_or_else(wrong)
}

fn look_up(name: &str, port: u16) -> Result<SocketAddr, String> {
    let found = (name, port).to_socket_addrs();
    let found = found.map_err(|error| format!("`{name}` was not found: {error}"))?.next();
    found.ok_or_else(|| format!("`{name}` has no address"))
}

fn name_of(address: &Multiaddr) -> Option<(String, u16)> {
    let parts: Vec<_> = address.iter().collect();
    match &parts[..] {
        [
            Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name),
            Protocol::Tcp(port),
        ] => Some((name.to_string(), *port)),
        _ => None,
    }
}

/// The socket of an address without a name.
pub(super) fn socket_of(address: &Multiaddr) -> Option<SocketAddr> {
    let parts: Vec<_> = address.iter().collect();
    match parts[..] {
        [Protocol::Ip4(ip), Protocol::Tcp(port)] => Some(SocketAddr::new(ip.into(), port)),
        [Protocol::Ip6(ip), Protocol::Tcp(port)] => Some(SocketAddr::new(ip.into(), port)),
        _ => None,
    }
}

/// Whether a peer can be at an address at all.
pub(super) fn check_peer(field: &str, addresses: &[Multiaddr]) -> Result<(), (String, String)> {
    check(field, addresses)?;
    for (index, address) in addresses.iter().enumerate() {
        let (ip, port) = match (socket_of(address), name_of(address)) {
            (Some(socket), _) => (Some(socket.ip()), socket.port()),
            (None, name) => (None, name.map_or(0, |(_, port)| port)),
        };
        let anywhere = ip.is_some_and(|ip| ip.is_unspecified());
        if anywhere || port == 0 {
            let what = if anywhere { "every address of a machine" } else { "any port" };
            let reason =
                format!("{address}: means {what}, where nobody can be reached: {EXPECTED}");
            return Err((format!("{field}[{index}]"), reason));
        }
    }
    Ok(())
}

/// Only TCP is spoken.
pub(super) fn check(field: &str, addresses: &[Multiaddr]) -> Result<(), (String, String)> {
    for (index, address) in addresses.iter().enumerate() {
        if socket_of(address).is_none() && name_of(address).is_none() {
            return Err((format!("{field}[{index}]"), format!("{address}: {EXPECTED}")));
        }
    }
    Ok(())
}

/// Whether an address is for documentation only, so that nobody can be there.
pub(crate) fn is_of_documentation(address: &Multiaddr) -> bool {
    if let Some((name, _)) = name_of(address) {
        let name = name.to_ascii_lowercase();
        let of = |domain: &str| name == domain || name.ends_with(&format!(".{domain}"));
        return ["example", "example.com", "example.net", "example.org", "invalid"]
            .map(of)
            .contains(&true);
    }
    let Some(ip) = socket_of(address).map(|socket| socket.ip()) else { return false };
    DOCUMENTATION.iter().any(|(network, bits)| {
        match (ip, network.parse().expect("a network of the list above")) {
            (IpAddr::V4(ip), IpAddr::V4(network)) => {
                (u32::from(ip) ^ u32::from(network)) >> (32 - u32::from(*bits)) == 0
            }
            (IpAddr::V6(ip), IpAddr::V6(network)) => {
                (u128::from(ip) ^ u128::from(network)) >> (128 - u32::from(*bits)) == 0
            }
            _ => false,
        }
    })
}

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The field that says so, for example `api.listen`.
    pub field: String,
    /// The socket.
    pub socket: SocketAddr,
    /// Whether `[::]` takes connections of IPv4 too. Those for peers do not: libp2p has a listener for each.
    pub both_families: bool,
}

impl Listener {
    /// Whether two listeners would take the same port from each other.
    pub(super) fn collides_with(&self, other: &Self) -> bool {
        let covers = |one: &Self, other: &Self| {
            let (all, of) = (one.socket.ip(), other.socket.ip());
            let same_family = all.is_ipv6() == of.is_ipv6();
            all.is_unspecified() && (same_family || all.is_ipv6() && one.both_families)
        };
        let (one, two) = (self.socket, other.socket);
        // Port 0 is any that is free.
        let same_port = one.port() == two.port() && one.port() != 0;
        same_port && (one.ip() == two.ip() || covers(self, other) || covers(other, self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_in_either_form() {
        for (text, expected) in [
            ("10.1.2.3:7400", "/ip4/10.1.2.3/tcp/7400"),
            (" [fd00::17]:7400 ", "/ip6/fd00::17/tcp/7400"),
            ("node.douane.example:7400", "/dns/node.douane.example/tcp/7400"),
            (" /ip4/10.1.2.3/tcp/7400", "/ip4/10.1.2.3/tcp/7400"),
            ("/dns6/node/tcp/1", "/dns6/node/tcp/1"),
        ] {
            let address = parse(text).expect(text);
            assert_eq!(address.to_string(), expected);
            check("peers", &[address]).expect(text);
        }
        for text in
            ["10.1.2.3", "fd00::17", "[10.1.2.3]:1", "node:", "node:x", ":7400", "a b:1", ""]
        {
            let refused = parse(text).expect_err(text);
            assert!(refused.contains(&format!("`{text}`")), "{refused}");
        }
    }

    #[test]
    fn addresses_of_documentation_are_known() {
        for (text, expected) in [
            ("192.0.2.17:7400", true),
            ("192.0.3.17:7400", false),
            ("[2001:db8:1::]:7400", true),
            ("[2001:db9::]:7400", false),
            ("node.douane.Example:7400", true),
            ("example.org:7400", true),
            ("counterexample.org:7400", false),
        ] {
            assert_eq!(is_of_documentation(&parse(text).expect(text)), expected, "{text}");
        }
    }

    #[test]
    fn listeners_collide_where_one_covers_the_other() {
        for (one, other, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", [true, true]),
            ("127.0.0.1:1", "127.0.0.1:2", [false, false]),
            ("127.0.0.1:0", "127.0.0.1:0", [false, false]),
            ("0.0.0.0:1", "127.0.0.1:1", [true, true]),
            ("[::]:1", "[::1]:1", [true, true]),
            ("127.0.0.1:1", "[::]:1", [true, false]),
            ("0.0.0.0:1", "[::]:1", [true, false]),
            ("127.0.0.1:1", "[::1]:1", [false, false]),
            ("0.0.0.0:1", "[::1]:1", [false, false]),
        ] {
            let listener = |text: &str, both_families| {
                let socket = text.parse().expect("a socket");
                Listener { field: "listen".to_owned(), socket, both_families }
            };
            let collide = [true, false].map(|both_families| {
                let (one, other) = (listener(one, both_families), listener(other, both_families));
                assert_eq!(one.collides_with(&other), other.collides_with(&one));
                one.collides_with(&other)
            });
            assert_eq!(collide, expected, "{one} {other}");
        }
    }
}
