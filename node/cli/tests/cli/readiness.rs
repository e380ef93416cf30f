//! What `node check` and `node run` say of a node that could not run.

use std::{
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use crate::desk::{Desk, PROGRAM};

mod vault;

/// An agency's node in a directory of its own.
struct Node {
    desk: Desk,
}

/// What a command said, and its exit code.
type Said = (Option<i32>, String);

impl Node {
    /// Laid out as `network new` does it, on ports that were free a moment ago.
    fn new() -> Self {
        let node = Self { desk: Desk::new() };
        let new = "network new --agencies NL-DOUANE,BE-AADA --history-bits 8 --dir net";
        let (code, said) = node.run(new);
        assert_eq!(code, Some(0), "{said}");
        let ports = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let ports = ports.map(|listener| listener.local_addr().expect("bound").port());
        let own = |line: &str| line.starts_with("listen = ");
        let mut next = ports.into_iter();
        let line = |line: &str| match own(line) {
            true => {
                let port = next.next().expect("four listeners");
                let address = format!("\"127.0.0.1:{port}\"");
                let peers = line.contains('[');
                format!("listen = {}", if peers { format!("[{address}]") } else { address })
            }
            false => line.to_owned(),
        };
        let text = node.read("node.toml").lines().map(line).collect::<Vec<_>>().join("\n");
        node.write("node.toml", &text);
        node
    }

    fn path(&self, file: &str) -> PathBuf {
        self.desk.path("net/NL-DOUANE").join(file)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).expect("laid out")
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).expect("writable");
    }

    fn mode(&self, file: &str) -> u32 {
        fs::metadata(self.path(file)).expect("there").permissions().mode() & 0o7777
    }

    fn set_mode(&self, file: &str, mode: u32) {
        fs::set_permissions(self.path(file), Permissions::from_mode(mode)).expect("allowed");
    }

    fn run(&self, arguments: &str) -> Said {
        let answer = self.desk.run(arguments);
        (Some(answer.code), answer.said())
    }

    fn check(&self) -> Said {
        self.run("node check --config net/NL-DOUANE/node.toml")
    }

    /// Neither a check nor a run takes the node as it is, and both say this of it.
    fn is_refused(&self, says: &[&str]) {
        for command in ["check", "run"] {
            let (code, said) =
                self.run(&format!("node {command} --config net/NL-DOUANE/node.toml"));
            assert_eq!(code, Some(2), "{command}: {said}");
            for word in says.iter().chain(&["node.toml"]) {
                assert!(said.contains(word), "{command}: `{word}` is not in: {said}");
            }
        }
    }

    /// The check does not take it; a run would, without all that it is there for.
    fn is_not_ready(&self, says: &[&str]) {
        let (code, said) = self.check();
        assert_eq!(code, Some(2), "{said}");
        for word in says {
            assert!(said.contains(word), "`{word}` is not in: {said}");
        }
    }
}

#[test]
fn a_node_as_it_is_laid_out_is_ready_and_a_check_leaves_it_as_it_was() {
    let node = Node::new();
    let files = || {
        let mut found: Vec<_> = walk(&node.path("")).collect();
        found.sort();
        found
    };
    let before = files();
    let (code, said) = node.check();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("NL-DOUANE: ready to run"), "{said}");
    let lock = node.path("keys/validator.lock");
    let after: Vec<_> = files().into_iter().filter(|file| *file != lock).collect();
    assert_eq!(after, before);
}

fn walk(directory: &Path) -> Box<dyn Iterator<Item = PathBuf>> {
    let entries = fs::read_dir(directory).expect("readable").map(|e| e.expect("readable").path());
    Box::new(entries.flat_map(|path| match path.is_dir() {
        true => walk(&path),
        false => Box::new(std::iter::once(path)),
    }))
}

#[test]
fn secrets_are_made_for_their_owner_only_and_what_is_sent_to_others_is_not() {
    let node = Node::new();
    for secret in [
        "keys",
        "tls",
        "keys/validator.key",
        "keys/validator.journal",
        "tls/server.key",
        "tls/ca.key",
        "clients/broker/client.key",
        "clients/broker/submitter.key",
    ] {
        assert_eq!(node.mode(secret) & 0o077, 0, "{secret}");
    }
    let umask = Command::new("sh").args(["-c", "umask"]).output().expect("a shell").stdout;
    let umask = u32::from_str_radix(String::from_utf8_lossy(&umask).trim(), 8).expect("octal");
    assert_eq!(node.mode("agency.json"), 0o644 & !umask);
}

#[test]
fn secrets_that_others_may_reach_are_refused_with_what_to_do() {
    let node = Node::new();
    for (file, bad, good, says) in [
        ("tls/server.key", 0o644, 0o600, "api.tls.key"),
        ("keys/signing.key", 0o640, 0o600, "keys.signing"),
        ("keys", 0o777, 0o700, "keys.validator"),
        ("tls", 0o770, 0o700, "api.tls.key"),
        ("keys/validator.journal", 0o622, 0o600, "keys.validator"),
    ] {
        node.set_mode(file, bad);
        let chmod = format!("chmod {good:o}");
        node.is_refused(&[says, file, &chmod]);
        node.set_mode(file, good);
    }
    // Through a symbolic link it is the file behind it that counts, and its directory.
    let open = node.desk.dir().join("open");
    fs::create_dir(&open).expect("made");
    fs::set_permissions(&open, Permissions::from_mode(0o777)).expect("allowed");
    let (real, link) = (open.join("server.key"), node.path("tls/server.key"));
    fs::rename(&link, &real).expect("moved");
    symlink(&real, &link).expect("made");
    node.is_refused(&["api.tls.key", "open", "chmod 700"]);
    fs::set_permissions(&open, Permissions::from_mode(0o700)).expect("allowed");
    fs::set_permissions(&real, Permissions::from_mode(0o644)).expect("allowed");
    node.is_refused(&["api.tls.key", "0644"]);
}

#[test]
fn certificates_that_no_client_would_accept_are_refused() {
    let node = Node::new();
    let (certificate, key) = (node.read("tls/server.crt"), node.read("tls/server.key"));
    let other = |file: &str| {
        let path = node.desk.dir().join("net/BE-AADA/tls").join(file);
        fs::read_to_string(path).expect("laid out")
    };
    node.write("tls/server.key", &other("server.key"));
    node.is_refused(&["api.tls.key", "server.key", "is not the key of the certificate"]);
    node.write("tls/server.crt", &other("server.crt"));
    node.is_refused(&["api.tls.cert", "server.crt", "is not signed by an authority"]);
    node.write("tls/server.key", &key);
    node.write("tls/server.crt", "nothing");
    node.is_refused(&["api.tls.cert", "server.crt", "has no certificate"]);
    node.write("tls/server.crt", &certificate);
    node.write("tls/server.key", "nothing");
    node.is_refused(&["api.tls.key", "server.key", "has no private key"]);
    node.write("tls/server.key", &key);
    fs::remove_file(node.path("tls/ca.crt")).expect("there");
    node.is_refused(&["api.tls.ca", "ca.crt", "No such file"]);
}

#[test]
fn a_certificate_that_names_no_host_is_refused() {
    let node = Node::new();
    let tls = |name: &str| node.path("tls").join(name);
    // As an authority makes it that thinks of the subject only.
    let key = rcgen::KeyPair::from_pem(&node.read("tls/server.key")).expect("laid out");
    let authority = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&authority).expect("signed").pem();
    fs::write(tls("ca.crt"), certificate.replace('\n', "\r\n")).expect("writable");
    let issuer = rcgen::Issuer::new(params, authority);
    for (hosts, ready) in [(vec![], false), (vec!["node.douane.example".to_owned()], true)] {
        let params = rcgen::CertificateParams::new(hosts).expect("hosts");
        let certificate = params.signed_by(&key, &issuer).expect("signed").pem();
        fs::write(tls("server.crt"), certificate.replace('\n', "\r\n")).expect("writable");
        match ready {
            true => assert_eq!(node.check().0, Some(0), "{}", node.check().1),
            false => node.is_refused(&["api.tls.cert", "server.crt", "names no host"]),
        }
    }
}

#[test]
fn a_store_that_a_run_could_not_open_is_not_ready() {
    let node = Node::new();
    let store = node.path("data/store");
    fs::create_dir_all(&store).expect("made");
    fs::set_permissions(node.path("data"), Permissions::from_mode(0o700)).expect("allowed");
    assert_eq!(node.check().0, Some(0), "an empty one is begun");
    fs::write(store.join("MANIFEST-000001"), "").expect("writable");
    node.is_not_ready(&["data_dir", "store", "lost its CURRENT file"]);
    let (code, said) = node.run("node check --running --config net/NL-DOUANE/node.toml");
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_directory_that_anybody_may_replace_is_not_ready_and_scripts_are_told_all_that_is_said() {
    let node = Node::new();
    fs::set_permissions(node.desk.dir(), Permissions::from_mode(0o777)).expect("allowed");
    node.is_not_ready(&["keys.validator", "has mode 0777", "in the place of", "chmod o-w"]);
    fs::set_permissions(node.desk.dir(), Permissions::from_mode(0o700)).expect("allowed");
    fs::create_dir(node.path("data")).expect("made");
    node.set_mode("data", 0o755);
    let check = "--output json node check --config net/NL-DOUANE/node.toml";
    let program = Command::new(PROGRAM)
        .current_dir(node.desk.dir())
        .args(check.split(' '))
        .output()
        .expect("the program runs");
    let document: serde_json::Value = serde_json::from_slice(&program.stdout).expect("JSON");
    let worth = document["worth"][0].as_str().expect("a finding");
    assert!(document["ready"] == true && worth.contains("data_dir: "), "{document}");
}

#[test]
fn too_few_open_files_are_not_ready() {
    let node = Node::new();
    let program = PROGRAM;
    let few = format!("ulimit -n 300; {program} node check --config net/NL-DOUANE/node.toml");
    let output = Command::new("sh").current_dir(node.desk.dir()).args(["-c", &few]).output();
    let output = output.expect("a shell");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("open files: this process may open 300"), "{said}");
}

#[test]
fn a_genesis_that_is_not_there_is_named_with_its_field_and_what_to_do() {
    let node = Node::new();
    let text = node.read("node.toml");
    node.write("node.toml", &text.replace("../genesis.json", "genesis.json"));
    node.is_refused(&["genesis: ", "NL-DOUANE/genesis.json", "put the network's genesis there"]);
}

#[test]
fn a_data_directory_that_cannot_be_written_is_refused() {
    let node = Node::new();
    node.write("data", "a file");
    node.is_refused(&["data_dir", "is no directory"]);
    fs::remove_file(node.path("data")).expect("there");
    let text = node.read("node.toml");
    // Nobody writes there, whoever runs this.
    node.write("node.toml", &text.replace("\"data\"", "\"/proc/customhouse\""));
    node.is_refused(&["data_dir", "/proc", "cannot be written"]);
}

#[test]
fn a_key_that_the_genesis_knows_otherwise_is_refused() {
    let node = Node::new();
    let file = "keys/signing.key";
    let foreign = fs::read_to_string(node.desk.path("net/BE-AADA").join(file)).expect("laid out");
    node.write(file, &foreign.replace("BE-AADA", "NL-DOUANE"));
    node.is_refused(&["keys.signing", "registers this key for BE-AADA as a signing key"]);
    node.write(file, &foreign);
    node.is_refused(&["keys.signing", "belongs to BE-AADA"]);
    fs::write(node.path(file), b"\xff\xfe").expect("writable");
    node.is_refused(&["keys.signing", "signing.key", "UTF-8"]);
}

#[test]
fn a_taken_port_a_key_without_its_journal_and_the_templates_addresses_are_not_ready() {
    let node = Node::new();
    let text = node.read("node.toml");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let metrics =
        text.split("[metrics]\nlisten = \"").nth(1).and_then(|rest| rest.split('"').next());
    node.write("node.toml", &text.replace(metrics.expect("laid out"), &address));
    node.is_not_ready(&["metrics.listen", &format!("cannot listen on {address}: "), "in use"]);
    let (code, said) = node.run("node check --running --config net/NL-DOUANE/node.toml");
    assert_eq!(code, Some(0), "{said}");

    let peer = text.split("addresses = [\"").nth(1).and_then(|rest| rest.split('"').next());
    let peer = peer.expect("laid out");
    node.write("node.toml", &text.replace(peer, "192.0.2.17:7400"));
    node.is_not_ready(&["network.peers[0].addresses[0]", "address of the template", "BE-AADA"]);
    node.write("node.toml", &text);

    let journal = node.path("keys/validator.journal");
    let whole = fs::read(&journal).expect("laid out");
    let held = fs::File::create(node.path("keys/validator.lock")).expect("opened");
    held.lock().expect("locked");
    node.is_not_ready(&["keys.validator", "is locked: another process"]);
    drop(held);
    // In its header: an end that is cut short is what a power cut leaves.
    let mut flipped = whole;
    flipped[20] ^= 1;
    fs::write(&journal, flipped).expect("writable");
    node.is_not_ready(&["keys.validator", "is damaged"]);
    fs::remove_file(&journal).expect("there");
    node.is_not_ready(&["keys.validator", "is missing"]);
}
