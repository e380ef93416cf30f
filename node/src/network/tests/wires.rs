//! Wires between nodes that fail.

use std::{collections::BTreeSet, net::SocketAddr, sync::Mutex};

use libp2p::multiaddr::Protocol;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use super::*;

pub(super) fn socket(address: &Multiaddr) -> SocketAddr {
    let parts: Vec<_> = address.iter().collect();
    match parts[..] {
        [Protocol::Ip4(ip), Protocol::Tcp(port), ..] => SocketAddr::from((ip, port)),
        _ => panic!("an IPv4 address expected, not {address}"),
    }
}

/// A port that nobody listens at, and never the same one twice: libp2p binds with `SO_REUSEPORT`, so that two
/// nodes of one test that were given one port would share it, and neither be told.
pub(super) async fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let port = listener.local_addr().expect("bound").port();
        if GIVEN.lock().expect("no panic while it was held").insert(port) {
            return port;
        }
    }
}

/// What the connections through a proxy do.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Nothing is taken and nothing said, as by a host that is paused.
    frozen: bool,
    /// How often the connections of before were stranded: from the caller, and to it.
    stranded: [u64; 2],
}

/// The connections through a proxy.
pub(super) struct Wire(watch::Sender<State>);

impl Wire {
    pub(super) fn freeze(&self, frozen: bool) {
        self.0.send_modify(|state| state.frozen = frozen);
    }

    /// From now on the bytes from the caller, to it or both vanish on the connections that are open, and
    /// no end is told; new ones work.
    pub(super) fn strand(&self, from_caller: bool, to_caller: bool) {
        self.0.send_modify(|state| {
            state.stranded[0] += u64::from(from_caller);
            state.stranded[1] += u64::from(to_caller);
        });
    }
}

/// Forwards connections to `target`, as its wire lets it.
pub(super) async fn proxy(target: SocketAddr) -> (Multiaddr, Wire) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("bound").port();
    let (wire, state) = watch::channel(State::default());
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(target).await else { continue };
            let (near, far) = (near.into_split(), far.into_split());
            tokio::spawn(forward(near.0, far.1, 0, state.clone()));
            tokio::spawn(forward(far.0, near.1, 1, state.clone()));
        }
    });
    (format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address"), Wire(wire))
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    way: usize,
    mut state: watch::Receiver<State>,
) {
    let stranded = state.borrow().stranded[way];
    let passes = |state: &State| !state.frozen && state.stranded[way] == stranded;
    let mut buffer = vec![0; 16 << 10];
    loop {
        let length = from.read(&mut buffer).await.unwrap_or(0);
        // Also before the end is told.
        if state.wait_for(passes).await.is_err()
            || length == 0
            || to.write_all(&buffer[..length]).await.is_err()
        {
            return;
        }
    }
}
