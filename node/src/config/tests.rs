use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
};

use customhouse_files::{
    keyfile::{KeyFile, KeyPurpose},
    passphrase::Passphrase,
};

use super::*;

fn parse(text: &str) -> Result<NodeConfig, ConfigError> {
    NodeConfig::parse(text, Path::new("/etc/customhouse/node.toml"))
}

fn refusal(text: &str) -> String {
    parse(text).expect_err("refused").to_string()
}

#[test]
fn the_template_is_a_valid_configuration_with_the_default_limits() {
    let config = parse(TEMPLATE).expect("valid");
    assert_eq!(config.limits, LimitsSection::default());
    assert_eq!(config.log, LogSection::default());
    assert_eq!(config.attachments, AttachmentsSection::default());
    assert_eq!(config.agency.as_str(), "NL-DOUANE");
    assert_eq!(config.network.peers.len(), 1);
}

#[test]
fn relative_paths_are_relative_to_the_file_and_absolute_ones_stay() {
    let text = TEMPLATE.replace("data_dir = \"data\"", "data_dir = \"/var/lib/customhouse\"");
    let config = parse(&text).expect("valid");
    assert_eq!(config.data_dir, Path::new("/var/lib/customhouse"));
    assert_eq!(config.keys.peer, Path::new("/etc/customhouse/keys/peer.key"));
    assert_eq!(config.api.tls.ca, Path::new("/etc/customhouse/tls/ca.crt"));
}

#[test]
fn the_next_validator_key_and_keys_of_peers_are_optional() {
    let key = customhouse_ledger::keys::SigningKey::from_seed(&[1; 32]).public();
    let text = TEMPLATE
        .replace("# next_validator", "next_validator")
        .replace("# keys = [\"ab12…\"]", &format!("keys = [\"{key}\"]"));
    let config = parse(&text).expect("valid");
    let next = config.keys.next_validator.expect("named");
    assert_eq!(next, Path::new("/etc/customhouse/keys/validator-2.key"));
    assert_eq!(config.network.peers[0].keys, [key]);
    let plain = parse(TEMPLATE).expect("valid");
    assert_eq!((plain.keys.next_validator, plain.network.peers[0].keys.len()), (None, 0));
    let wrong = text.replace(&key.to_string(), "ab12");
    assert!(refusal(&wrong).contains("`ab12` is not a public key"));
}

#[test]
fn limits_log_and_metrics_may_be_left_out() {
    let end = TEMPLATE.find("# Prometheus").expect("in the template");
    let config = parse(&TEMPLATE[..end]).expect("valid");
    assert_eq!(config.limits, LimitsSection::default());
    assert!(config.metrics.is_none() && config.tlog.is_none());
}

#[test]
fn each_mistake_names_the_file_and_the_field() {
    for (good, bad, says) in [
        ("mempool_bytes", "mempool_byte", "mempool_byte"),
        ("listen = [\"/ip4/0.0.0.0/tcp/7400\"]", "listen = []", "network.listen: needs"),
        ("[\"/ip4/0.0.0.0/tcp/7400\"]", "[\"0.0.0.0\"]", "`0.0.0.0`: an address such as"),
        ("\"127.0.0.1:7402\"", "\"127.0.0.1:7401\"", "metrics.listen: 127.0.0.1:7401: api.listen"),
        (
            "\"127.0.0.1:7403\"",
            "\"127.0.0.1:7400\"",
            "tlog.listen: 127.0.0.1:7400: network.listen[0]",
        ),
        ("filter = \"info\"", "filter = \"inof\"", "log.filter: `inof` is neither a level"),
        ("/ip4/0.0.0.0/tcp/7400", "/ip4/0.0.0.0/udp/7400", "network.listen[0]:"),
        ("agency = \"BE-AADA\"", "agency = \"NL-DOUANE\"", "network.peers[0].agency: is this"),
        (
            "192.0.2.17/tcp/7400",
            "192.0.2.17/tcp/0",
            "network.peers[0].addresses[0]: /ip4/192.0.2.17/tcp/0: means any port",
        ),
        ("192.0.2.17", "0.0.0.0", "means every address of a machine"),
        (
            "/ip4/192.0.2.17/tcp/7400",
            "node.aada.be:65536",
            "`node.aada.be:65536`: an address such as",
        ),
        (
            "/ip4/192.0.2.17/tcp/7400",
            "[fe80::1%eth0]:7400",
            "`[fe80::1%eth0]:7400`: an address such as",
        ),
        ("agency = \"BE-AADA\"", "agency = \"be\"", "an agency code is"),
        ("[\"/ip4/192.0.2.17/tcp/7400\"]", "[]", "network.peers[0].addresses: needs"),
        ("mempool_bytes = 67_108_864", "mempool_bytes = 5", "limits.mempool_bytes: 5, at least"),
        ("filter = \"info\"", "filter = \"a=b=c\"", "log.filter:"),
        ("format = \"text\"", "format = \"xml\"", "xml"),
        ("data_dir = \"data\"", "", "data_dir"),
        ("checkpoint = \"keys/checkpoint.key\"", "", "keys.checkpoint: is needed to serve [tlog]"),
        ("\"127.0.0.1:7401\"", "\"localhost\"", "listen = \"localhost\""),
        ("\"127.0.0.1:7401\"", "\"no-such.invalid:7401\"", "`no-such.invalid` was not found"),
    ] {
        assert!(TEMPLATE.contains(good), "{good}");
        let text = refusal(&TEMPLATE.replacen(good, bad, 1));
        assert!(text.contains(says), "{text}");
        assert!(text.starts_with("/etc/customhouse/node.toml: "), "{text}");
    }
}

#[test]
fn names_and_ipv6_are_addresses_and_the_tilde_is_home() {
    let text = TEMPLATE
        .replace("/ip4/192.0.2.17/tcp/7400", "node.aada.be:7400\", \" [fd00::17]:7400 ")
        .replace("/ip4/0.0.0.0/tcp/7400", "[::]:7400")
        .replace("127.0.0.1:7401", "[::1]:7401")
        .replace("127.0.0.1:7402", "localhost:7402")
        .replace("data_dir = \"data\"", "data_dir = \"~/data\"");
    let config = parse(&text).expect("valid");
    let peers: Vec<_> = config.network.peers[0].addresses.iter().map(ToString::to_string).collect();
    assert_eq!(peers, ["/dns/node.aada.be/tcp/7400", "/ip6/fd00::17/tcp/7400"]);
    assert_eq!(config.network.listen[0].to_string(), "/ip6/::/tcp/7400");
    assert_eq!(config.api.listen.to_string(), "[::1]:7401");
    assert!(config.metrics.expect("in the template").listen.ip().is_loopback());
    assert_eq!(config.data_dir, std::env::home_dir().expect("a home").join("data"));
}

#[test]
fn peers_are_listened_for_on_both_families_of_addresses() {
    let both = TEMPLATE.replace("[\"/ip4/0.0.0.0/tcp/7400\"]", "[\"0.0.0.0:7400\", \"[::]:7400\"]");
    assert_eq!(parse(&both).expect("libp2p has a listener for each").network.listen.len(), 2);
    let api = both.replace("127.0.0.1:7401", "[::]:7400");
    assert!(
        refusal(&api).contains("api.listen: [::]:7400: network.listen[0]"),
        "{}",
        refusal(&api)
    );
}

#[test]
fn at_least_one_backup_is_kept() {
    let with =
        |keep: u32| format!("{TEMPLATE}\n[backup]\ndirectory = \"backups\"\nkeep = {keep}\n");
    assert_eq!(parse(&with(1)).expect("valid").backup.map(|backup| backup.keep), Some(1));
    assert!(refusal(&with(0)).contains("backup.keep: 0, at least 1"), "{}", refusal(&with(0)));
}

#[test]
fn an_agency_is_listed_once() {
    let again = "[[network.peers]]\nagency = \"BE-AADA\"\naddresses = [\"/ip4/10.0.0.1/tcp/1\"]\n";
    let text = TEMPLATE.replace("[api]\n", &format!("{again}\n[api]\n"));
    assert!(refusal(&text).contains("network.peers[1].agency: is listed twice"));
}

#[test]
fn the_keys_of_a_node_may_be_under_one_passphrase_and_the_error_names_the_file_that_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let word = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("allowed");
        Passphrase::new(text).expect("long enough")
    };
    let (right, wrong) = (word("right", "correct horse"), word("wrong", "wrong horse"));
    fs::create_dir(dir.path().join("keys")).expect("made");
    let write = |purpose: KeyPurpose, passphrase| {
        let key = KeyFile::generate(purpose, "NL-DOUANE".parse().expect("a code"));
        let path = dir.path().join(format!("keys/{purpose}.key"));
        let key = key.expect("randomness");
        key.write_protected(&path, passphrase).expect("written");
        key.key.public()
    };
    let validator = write(KeyPurpose::Validator, Some(&right));
    write(KeyPurpose::Peer, Some(&right));
    write(KeyPurpose::Signing, None);
    write(KeyPurpose::Checkpoint, Some(&right));
    let file = dir.path().join("node.toml");
    let read = |text: &str| NodeConfig::parse(text, &file).expect("valid").read_keys();
    let missing = read(TEMPLATE).expect_err("no passphrase").to_string();
    assert!(missing.contains("keys.validator") && missing.contains("`credential:…`"), "{missing}");
    let with = |name| {
        let line = format!("passphrase = \"file:{name}\"");
        TEMPLATE.replace("# passphrase = \"credential:keys\"", &line)
    };
    let keys = read(&with("right")).expect("read");
    assert_eq!(keys.validator.key.public(), validator);
    let error = read(&with("wrong")).expect_err("another passphrase").to_string();
    assert!(error.contains("validator.key: the passphrase is not that"), "{error}");
    let error = read(&with("none")).expect_err("no such file").to_string();
    assert!(error.contains("keys.validator") && error.contains("none"), "{error}");
    KeyFile::protect(&dir.path().join("keys/peer.key"), Some(&right), Some(&wrong)).expect("put");
    let error = read(&with("right")).expect_err("one under another").to_string();
    assert!(error.contains("keys.peer") && !error.contains("horse"), "{error}");
    // Where no file needs it, nobody is asked.
    for (file, from) in [("validator", &right), ("peer", &wrong), ("checkpoint", &right)] {
        let path = dir.path().join(format!("keys/{file}.key"));
        KeyFile::protect(&path, Some(from), None).expect("taken from it");
    }
    read(&with("none")).expect("not asked");
}
