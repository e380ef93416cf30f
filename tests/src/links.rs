//! The wires between a cluster's nodes: a forwarder on loopback for each ordered pair, which can
//! stop what flows one way or both, slow it down, and break connections.
//!
//! Each node dials another through the forwarder of that pair, so a connection between two nodes
//! runs through one of two forwarders, whoever dialled. A gate belongs to a direction, not to a
//! forwarder: it holds for all connections between the two.
//!
//! A cut link loses nothing and says nothing: bytes wait, and the end of a connection is not told,
//! as where packets are lost and sent again. What waited flows on when the link heals.
//!
//! A stranded connection says nothing either, and never comes back, while new ones work: as where a
//! firewall has lost its state, or the host at the other end.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// Most bytes on their way through a forwarder, each way of each connection.
const CHUNK_BYTES: usize = 64 * 1024;

/// How bytes flow from one node to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// At once.
    Open,
    /// After a pause for each chunk.
    Delayed(Duration),
    /// Not at all.
    Cut,
}

/// What a direction does, and how often its connections were broken and stranded.
#[derive(Clone, Copy, Debug)]
struct Gate {
    flow: Flow,
    broken: u64,
    stranded: u64,
}

/// Two nodes by their index: the bytes of the first to the second.
type Direction = (usize, usize);
type Gates = BTreeMap<Direction, watch::Sender<Gate>>;

/// All links of a cluster. Ends with them.
pub struct Links {
    gates: Gates,
    /// Where the first node of a pair dials the second.
    addresses: BTreeMap<Direction, SocketAddr>,
    _forwarders: JoinSet<()>,
}

impl Links {
    /// Lays the links of nodes that listen at these addresses. All are open.
    pub(crate) async fn lay(nodes: &[SocketAddr]) -> Self {
        let pairs = || {
            let all = (0..nodes.len()).flat_map(|from| (0..nodes.len()).map(move |to| (from, to)));
            all.filter(|(from, to)| from != to)
        };
        let open = Gate { flow: Flow::Open, broken: 0, stranded: 0 };
        let gates: Gates = pairs().map(|pair| (pair, watch::Sender::new(open))).collect();
        let (mut addresses, mut forwarders) = (BTreeMap::new(), JoinSet::new());
        for (from, to) in pairs() {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
            addresses.insert((from, to), listener.local_addr().expect("it is bound"));
            let (there, back) = (gates[&(from, to)].subscribe(), gates[&(to, from)].subscribe());
            forwarders.spawn(forward(listener, nodes[to], there, back));
        }
        Self { gates, addresses, _forwarders: forwarders }
    }

    /// The address where a node dials another.
    pub(crate) fn address(&self, from: usize, to: usize) -> SocketAddr {
        self.addresses[&(from, to)]
    }

    /// Sets how bytes flow one way.
    pub fn set(&self, from: usize, to: usize, flow: Flow) {
        self.gates[&(from, to)].send_modify(|gate| gate.flow = flow);
    }

    /// Sets how bytes flow between two nodes, both ways.
    pub fn set_both(&self, one: usize, other: usize, flow: Flow) {
        self.set(one, other, flow);
        self.set(other, one, flow);
    }

    /// Sets how the bytes of a node flow to all others.
    pub fn set_from(&self, node: usize, flow: Flow) {
        for (from, to) in self.gates.keys().filter(|(from, _)| *from == node) {
            self.set(*from, *to, flow);
        }
    }

    /// Sets how bytes flow on all links of a node, both ways.
    pub fn set_node(&self, node: usize, flow: Flow) {
        for (from, to) in self.gates.keys().filter(|(from, _)| *from == node) {
            self.set_both(*from, *to, flow);
        }
    }

    /// Cuts each link between these nodes and the others.
    pub fn part(&self, half: &[usize]) {
        for (from, to) in self.gates.keys() {
            if half.contains(from) != half.contains(to) {
                self.set(*from, *to, Flow::Cut);
            }
        }
    }

    /// Breaks the open connections between two nodes. They may connect again at once.
    pub fn break_connections(&self, one: usize, other: usize) {
        for pair in [(one, other), (other, one)] {
            self.gates[&pair].send_modify(|gate| gate.broken += 1);
        }
    }

    /// From now on nothing passes one way on the connections that are open between two nodes. Their ends
    /// are not told, and new connections work.
    pub fn strand(&self, from: usize, to: usize) {
        self.gates[&(from, to)].send_modify(|gate| gate.stranded += 1);
    }

    /// The same both ways.
    pub fn strand_both(&self, one: usize, other: usize) {
        self.strand(one, other);
        self.strand(other, one);
    }

    /// The same for all connections of a node.
    pub fn strand_node(&self, node: usize) {
        for (from, to) in self.gates.keys().filter(|(from, _)| *from == node) {
            self.strand_both(*from, *to);
        }
    }

    /// Opens all links.
    pub fn heal(&self) {
        for gate in self.gates.values() {
            gate.send_modify(|gate| gate.flow = Flow::Open);
        }
    }
}

/// Takes connections for a node and forwards each.
async fn forward(
    listener: TcpListener,
    to: SocketAddr,
    there: watch::Receiver<Gate>,
    back: watch::Receiver<Gate>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            taken = listener.accept() => {
                // The caller hung up, or this process has no descriptor left for now.
                let Ok((caller, _)) = taken else { continue };
                connections.spawn(carry(caller, to, there.clone(), back.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, until either end closes it or it is broken.
async fn carry(
    caller: TcpStream,
    to: SocketAddr,
    there: watch::Receiver<Gate>,
    back: watch::Receiver<Gate>,
) {
    // Before anything is connected: whoever sees the connection may break or strand it.
    let broken = there.borrow().broken;
    let stranded = [&there, &back].map(|gate| gate.borrow().stranded);
    // A node that is down: the caller sees its connection closed.
    let Ok(called) = TcpStream::connect(to).await else { return };
    for stream in [&caller, &called] {
        // Only speed depends on it.
        let _ = stream.set_nodelay(true);
    }
    let (caller_reads, caller_writes) = caller.into_split();
    let (called_reads, called_writes) = called.into_split();
    let mut until_broken = there.clone();
    tokio::select! {
        () = pump(caller_reads, called_writes, there, stranded[0]) => {}
        () = pump(called_reads, caller_writes, back, stranded[1]) => {}
        _ = until_broken.wait_for(|gate| gate.broken > broken) => {}
    }
}

/// Moves bytes one way. What was read before a cut waits for its end, and so does the news that
/// there are no more. Once the connection is stranded, both wait for ever, and the sender's buffers fill.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut gate: watch::Receiver<Gate>,
    stranded: u64,
) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk).await.unwrap_or(0);
        if !wait_for_passage(&mut gate, stranded).await
            || read == 0
            || to.write_all(&chunk[..read]).await.is_err()
        {
            return;
        }
    }
}

/// Waits until bytes may pass on a connection that was opened after `stranded` strandings. False where
/// the links are gone.
async fn wait_for_passage(gate: &mut watch::Receiver<Gate>, stranded: u64) -> bool {
    let passes = |gate: &Gate| gate.flow != Flow::Cut && gate.stranded == stranded;
    let Ok(open) = gate.wait_for(passes).await.map(|gate| gate.flow) else { return false };
    if let Flow::Delayed(pause) = open {
        tokio::time::sleep(pause).await;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::PATIENCE;

    /// Long enough for loopback to deliver what it will.
    const SHORT: Duration = Duration::from_millis(100);

    /// Node 0 has called node 1.
    async fn connected() -> (Links, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let links = Links::lay(&[address, address]).await;
        let caller = TcpStream::connect(links.address(0, 1)).await.expect("connected");
        let (called, _) = listener.accept().await.expect("forwarded");
        (links, caller, called)
    }

    /// Bytes that arrive within a time; `None` where none do.
    async fn arrives(stream: &mut TcpStream, limit: Duration) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 16];
        let read = tokio::time::timeout(limit, stream.read(&mut bytes)).await.ok()?;
        bytes.truncate(read.unwrap_or(0));
        Some(bytes)
    }

    #[tokio::test]
    async fn a_cut_holds_one_direction_until_it_heals() {
        let (links, mut caller, mut called) = connected().await;
        links.set(0, 1, Flow::Cut);
        caller.write_all(b"there").await.expect("sent");
        called.write_all(b"back").await.expect("sent");
        assert_eq!(arrives(&mut caller, PATIENCE).await, Some(b"back".to_vec()));
        assert_eq!(arrives(&mut called, SHORT).await, None, "it is cut");
        links.heal();
        assert_eq!(arrives(&mut called, PATIENCE).await, Some(b"there".to_vec()));
    }

    #[tokio::test]
    async fn the_end_of_a_connection_does_not_pass_a_cut() {
        let (links, caller, mut called) = connected().await;
        links.set(0, 1, Flow::Cut);
        drop(caller);
        assert_eq!(arrives(&mut called, SHORT).await, None, "nothing is told");
        links.set_both(0, 1, Flow::Delayed(SHORT));
        assert_eq!(arrives(&mut called, PATIENCE).await, Some(Vec::new()), "closed");
    }

    #[tokio::test]
    async fn a_stranded_connection_passes_nothing_one_way_and_new_ones_work() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let links = Links::lay(&[address, address]).await;
        let connect = async || {
            let caller = TcpStream::connect(links.address(0, 1)).await.expect("connected");
            (caller, listener.accept().await.expect("forwarded").0)
        };
        let (mut caller, mut called) = connect().await;
        links.strand(0, 1);
        links.heal();
        caller.write_all(b"there").await.expect("sent");
        called.write_all(b"back").await.expect("sent");
        assert_eq!(arrives(&mut caller, PATIENCE).await, Some(b"back".to_vec()));
        drop(caller);
        assert_eq!(arrives(&mut called, SHORT).await, None, "nor the end of it");
        let (mut caller, mut called) = connect().await;
        caller.write_all(b"new").await.expect("sent");
        assert_eq!(arrives(&mut called, PATIENCE).await, Some(b"new".to_vec()));
        links.strand_both(1, 0);
        drop(called);
        assert_eq!(arrives(&mut caller, SHORT).await, None, "both ways");
    }

    #[tokio::test]
    async fn broken_connections_end_at_both_sides() {
        let (links, mut caller, mut called) = connected().await;
        links.break_connections(1, 0);
        assert_eq!(arrives(&mut caller, PATIENCE).await, Some(Vec::new()));
        assert_eq!(arrives(&mut called, PATIENCE).await, Some(Vec::new()));
    }
}
