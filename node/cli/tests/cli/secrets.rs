//! Where the secrets of a running node are in its memory.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
};

use serde_json::Value;

use crate::{
    desk::{Desk, samples},
    processes::{Running, base_port},
};

/// Bytes that are read at a time.
const WINDOW_BYTES: usize = 4 << 20;

/// A node that has signed votes and transactions.
struct Node {
    desk: Desk,
    process: Running,
}

impl Node {
    fn start() -> Self {
        let desk = Desk::new();
        let new = "network new --agencies NL-DOUANE --dir net --history-bits 8 --base-port";
        desk.run(&format!("{new} {}", base_port())).exits(0);
        let process = Running::start(desk.command("node run --config net/NL-DOUANE/node.toml"));
        desk.run("network status --dir net --wait 60").exits(0);
        let broker = "--profile net/NL-DOUANE/clients/broker submit wco";
        let office = "--office-profile net/NL-DOUANE/clients/officer";
        desk.run(&format!("{broker} {} {office}", samples().display())).exits(0);
        Self { desk, process }
    }

    /// The seed of a key, as its file has it.
    fn seed(&self, purpose: &str) -> String {
        let file = self.desk.read(format!("net/NL-DOUANE/keys/{purpose}.key"));
        let json: Value = serde_json::from_str(&file).expect("JSON");
        json["seed"].as_str().expect("a seed").to_owned()
    }

    /// How often each of these is in the memory of the process.
    fn count(&self, secrets: &[Vec<u8>]) -> io::Result<Vec<usize>> {
        let process = format!("/proc/{}", self.process.id());
        let mut memory = File::open(format!("{process}/mem"))?;
        let mut counts = vec![0; secrets.len()];
        for line in fs::read_to_string(format!("{process}/maps"))?.lines() {
            let mut words = line.split_whitespace();
            let (range, rights) = (words.next().expect("a range"), words.next().expect("rights"));
            if !rights.starts_with("rw") {
                continue;
            }
            let (start, end) = range.split_once('-').expect("two ends");
            let address = |text| u64::from_str_radix(text, 16).expect("hexadecimal");
            count_in(&mut memory, address(start)..address(end), secrets, &mut counts);
        }
        Ok(counts)
    }
}

/// Counts in one mapping. Windows overlap by less than a secret, so that none is missed or seen twice.
fn count_in(
    memory: &mut File,
    range: std::ops::Range<u64>,
    secrets: &[Vec<u8>],
    counts: &mut [usize],
) {
    let mut kept = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let bytes = (range.end - at).min(WINDOW_BYTES as u64);
        let mut window = vec![0; usize::try_from(bytes).expect("a window")];
        let read = memory.seek(SeekFrom::Start(at)).and_then(|_| memory.read_exact(&mut window));
        at += bytes;
        // A page that cannot be read holds nothing that anybody could.
        if read.is_err() {
            kept.clear();
            continue;
        }
        let before = kept.len();
        kept.extend_from_slice(&window);
        for (secret, count) in secrets.iter().zip(&mut *counts) {
            let first = secret[0];
            let starts = kept.iter().enumerate().filter(|(_, byte)| **byte == first);
            let found = starts.filter(|(start, _)| kept[*start..].starts_with(secret));
            *count += found.filter(|(start, _)| start + secret.len() > before).count();
        }
        let keep = kept.len().saturating_sub(63);
        kept.drain(..keep);
    }
}

#[test]
fn a_running_node_has_each_of_its_keys_once_at_most_and_leaves_no_core_dump() {
    let node = Node::start();
    let process = format!("/proc/{}", node.process.id());
    let limits = fs::read_to_string(format!("{process}/limits")).expect("readable");
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    let core: Vec<_> = core.expect("a limit").split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"]);

    let purposes = ["validator", "signing", "peer", "checkpoint"];
    let seeds = purposes.map(|purpose| node.seed(purpose));
    let raw = seeds.iter().map(|seed| hex::decode(seed).expect("hexadecimal"));
    let digits = seeds.iter().map(|seed| seed.clone().into_bytes());
    let secrets: Vec<Vec<u8>> = raw.chain(digits).collect();
    match node.count(&secrets) {
        Ok(counts) => {
            // The peer key has signed the key of the handshakes, and is gone.
            assert_eq!(counts[..4], [1, 1, 0, 1], "raw copies of {purposes:?}");
            assert_eq!(counts[4..], [0; 4], "copies in hexadecimal of {purposes:?}");
            let status = fs::read_to_string(format!("{process}/status")).expect("readable");
            let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
            let locked =
                locked.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
            // A page each, in KiB.
            assert!(locked.is_some_and(|kib| kib >= 12), "{locked:?}");
        }
        // Only the superuser may look: that is the point.
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
    }
}
