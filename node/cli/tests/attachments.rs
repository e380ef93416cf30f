//! Files that belong to records, as users of the program have them.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
};

use serde_json::Value;

struct Desk {
    dir: tempfile::TempDir,
}

struct Answer {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Desk {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, program: &str, arguments: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.dir.path()).args(arguments.split_whitespace());
        command.env_remove("CUSTOMHOUSE_PROFILE");
        command
    }

    fn run_program(&self, program: &str, arguments: &str) -> Answer {
        let output = self.command(program, arguments).output().expect("the program runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().expect("not killed");
        Answer { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    fn run(&self, arguments: &str) -> Answer {
        self.run_program(env!("CARGO_BIN_EXE_customhouse"), arguments)
    }

    /// A file of bytes that repeat only after long, and its root as the program says it.
    fn file(&self, name: &str, size: usize) -> String {
        let bytes: Vec<u8> = (0..size).map(|i| (i / 9 + i / 65_000) as u8).collect();
        fs::write(self.path(name), bytes).expect("written");
        let shown = self.run(&format!("--output json attach {name}")).exits(0).json();
        shown["root"].as_str().expect("text").to_owned()
    }
}

impl Answer {
    fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).expect("JSON on standard output")
    }
}

/// A network of one agency that runs as long as this is held.
struct Network(Child);

impl Network {
    fn start(desk: &Desk) -> Self {
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        let first = 42_000 + u16::try_from(std::process::id() % 40).expect("small") * 100;
        // Another test of this process must not find the same ports free.
        static NETWORKS: AtomicU16 = AtomicU16::new(0);
        let networks = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let mut ports = (0..80).map(|step| first + (step * 2 + networks % 2) * 20);
        let base = ports.find(|base| (0..10).all(|offset| free(base + offset)));
        let base = base.expect("free ports");
        let new = format!("network new --agencies NL-DOUANE --dir net --base-port {base}");
        desk.run(&format!("{new} --history-bits 8")).exits(0);
        let program = env!("CARGO_BIN_EXE_customhouse");
        let mut command = desk.command(program, "network run --dir net");
        let network = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let network = Self(network.expect("the program runs"));
        desk.run("network status --dir net --wait 60").exits(0);
        network
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _ended = self.0.wait();
    }
}

#[test]
fn a_file_is_held_against_its_root_without_a_network() {
    let desk = Desk::new();
    let root = desk.file("invoice.pdf", 250_000);
    let shown =
        desk.run("--output json attach invoice.pdf --media-type text/x-odd").exits(0).json();
    let attachment = &shown["attachment"];
    assert_eq!(attachment["mediaType"], "text/x-odd");
    assert_eq!(
        (&attachment["name"], &attachment["size"]),
        (&"invoice.pdf".into(), &"250000".into())
    );
    for program in [env!("CARGO_BIN_EXE_customhouse"), env!("CARGO_BIN_EXE_customhouse-audit")] {
        let audit = if program.ends_with("audit") { "" } else { "audit " };
        let check = |file: &str, root: &str| {
            desk.run_program(program, &format!("{audit}attachment {file} {root}"))
        };
        assert!(check("invoice.pdf", &root).exits(0).stdout.starts_with("verified"));
        assert!(check("invoice.pdf", &"7".repeat(64)).exits(1).stdout.contains(&root));
        assert!(check("nothing.pdf", &root).exits(2).stderr.contains("nothing.pdf"));
        check("invoice.pdf", "77").exits(64);
    }
}

#[test]
fn files_go_to_the_node_with_their_record_and_come_back() {
    let desk = Desk::new();
    let _network = Network::start(&desk);
    let (invoice, scan) = (desk.file("invoice.pdf", 250_000), desk.file("scan.tiff", 3_000_000));
    let record = r#"{"declaration": {"regime": "IMPORT", "reference": "LRN1"}}"#;
    fs::write(desk.path("record.json"), record).expect("written");
    let broker = "--profile net/NL-DOUANE/clients/broker";
    let submit = "--output json submit record record.json --receipts receipts";
    let attach = "--attach invoice.pdf --attach scan.tiff";
    desk.run(&format!("{broker} {submit} {attach}")).exits(0);
    let receipt = fs::read_dir(desk.path("receipts")).expect("there").next().expect("one");
    let receipt = receipt.expect("an entry").path();
    let id = receipt.file_stem().expect("a name").to_string_lossy().into_owned();
    let officer = "--profile net/NL-DOUANE/clients/officer";
    let shown = desk.run(&format!("{officer} query record {id}")).exits(0).stdout;
    assert!(shown.contains(&format!("{scan} (scan.tiff, image/tiff, 3000000 bytes)")), "{shown}");
    for (root, name) in [(&invoice, "invoice.pdf"), (&scan, "scan.tiff")] {
        let fetch = format!("{officer} query attachment {root} --out back-{name}");
        desk.run(&fetch).exits(0);
        let read = |name: &str| fs::read(desk.path(name)).expect("there");
        assert!(read(name) == read(&format!("back-{name}")), "{name} byte for byte");
        let taken = desk.run(&fetch).exits(1).stderr;
        assert!(taken.contains("is there already"), "{taken}");
    }
    let unknown = "7".repeat(64);
    let fetch = format!("{officer} query attachment {unknown} --out other");
    let refused = desk.run(&fetch).exits(1).stderr;
    assert!(refused.contains("ATTACHMENT_NOT_HERE"), "{refused}");
    assert!(!Path::new(&desk.path("other")).exists());
}

#[test]
fn a_source_larger_than_a_record_comes_back_byte_for_byte() {
    let desk = Desk::new();
    let _network = Network::start(&desk);
    let padding = "what is in no field ".repeat(250_000);
    let message = format!(
        "<Declaration><!--{padding}--><TypeCode>IMA</TypeCode><ID>26NL1</ID></Declaration>"
    );
    fs::create_dir(desk.path("messages")).expect("made");
    fs::write(desk.path("messages/large.xml"), &message).expect("written");
    let broker = "--profile net/NL-DOUANE/clients/broker";
    let submitted =
        desk.run(&format!("{broker} --output json submit wco messages")).exits(0).json();
    let id = submitted["records"][0]["record_id"].as_str().expect("text");
    let query = format!("--profile net/NL-DOUANE/clients/officer query record {id}");
    let shown = desk.run(&query).exits(0).stdout;
    assert!(shown.contains(&format!("{} bytes (--source), attachment", message.len())), "{shown}");
    assert!(desk.run(&format!("{query} --source")).exits(0).stdout == message, "byte for byte");
}
