//! Free ports for a cluster's nodes.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

use customhouse_node::local_network::Ports;

/// Below the ports that systems give to outgoing connections: nothing takes a node's port while the
/// node is down.
const FIRST: u16 = 12_000;
const LAST: u16 = 32_000;
/// Ports tried by this process.
static TRIED: AtomicU16 = AtomicU16::new(0);

/// Ports that were free a moment ago, each given once by this process. Processes start at
/// different places, so that two of them seldom look at the same port at the same time.
pub(crate) fn free(nodes: usize) -> Vec<Ports> {
    let ports = || Ports { peer: next(), api: next(), metrics: next(), tlog: next() };
    (0..nodes).map(|_| ports()).collect()
}

fn next() -> u16 {
    let range = LAST - FIRST;
    // Any spread will do; 7919 is a prime of which the range is not a multiple.
    let start = u16::try_from(u64::from(std::process::id()) * 7919 % u64::from(range))
        .expect("the remainder is below the range");
    for _ in 0..range {
        let step = TRIED.fetch_add(1, Ordering::Relaxed) % range;
        let port = FIRST + (start + step) % range;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port between {FIRST} and {LAST} is free")
}
