//! Where the secrets of a running node are in its memory.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

/// Bytes that are read at a time.
const WINDOW_BYTES: usize = 4 << 20;

/// A node that has signed votes and transactions, and is killed when dropped.
struct Node {
    dir: TempDir,
    process: Child,
}

impl Node {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let base = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        // Three more above it.
        let base = base.expect("a free port").port().min(65_000);
        let new = "network new --agencies NL-DOUANE --dir net --history-bits 8 --base-port";
        run(dir.path(), &format!("{new} {base}"));
        let mut command = program(dir.path(), "node run --config net/NL-DOUANE/node.toml");
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let node = Self { dir, process: process.expect("the program runs") };
        run(node.dir.path(), "network status --dir net --wait 60");
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/samples");
        let broker = "--profile net/NL-DOUANE/clients/broker submit wco";
        let office = "--office-profile net/NL-DOUANE/clients/officer";
        run(node.dir.path(), &format!("{broker} {} {office}", samples.display()));
        node
    }

    /// The seed of a key, as its file has it.
    fn seed(&self, purpose: &str) -> String {
        let file = self.dir.path().join(format!("net/NL-DOUANE/keys/{purpose}.key"));
        let json: Value = serde_json::from_slice(&fs::read(file).expect("laid out")).expect("JSON");
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

impl Drop for Node {
    fn drop(&mut self) {
        let _killed = self.process.kill();
        let _ended = self.process.wait();
    }
}

fn program(dir: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_customhouse"));
    command.current_dir(dir).args(arguments.split_whitespace());
    command.env_remove("CUSTOMHOUSE_PROFILE");
    command
}

fn run(dir: &Path, arguments: &str) {
    let output = program(dir, arguments).output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {said}");
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
