//! Key files under a passphrase.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::Value;

use crate::{
    desk::Desk,
    processes::{Running, base_port},
};

fn passphrase(desk: &Desk, file: &str, text: &str) {
    desk.write(file, text);
    fs::set_permissions(desk.path(file), fs::Permissions::from_mode(0o600)).expect("allowed");
}

#[test]
fn keys_go_under_a_passphrase_under_another_and_under_none_and_stay_what_they_are() {
    let desk = Desk::new();
    passphrase(&desk, "word", "correct horse");
    passphrase(&desk, "next", "battery staple");
    desk.run("keys new --agency NL-DOUANE --dir nl").exits(0);
    let files = "nl/keys/validator.key nl/keys/peer.key";
    let public = || {
        let shown = desk.json(&format!("keys show {files}"), 0);
        let of =
            |place: usize| (shown[place]["public_key"].clone(), shown[place]["protected"] == true);
        [of(0), of(1)]
    };
    let before = public();
    let is_kept = |protected| {
        let expected = before.clone().map(|(key, _)| (key, protected));
        assert_eq!(public(), expected);
    };
    let whole = desk.read("nl/keys/peer.key");
    let seed: Value = serde_json::from_str(&whole).expect("JSON");
    desk.run(&format!("keys protect {files} --passphrase file:word")).exits(0);
    is_kept(true);
    let text = desk.read("nl/keys/peer.key");
    assert!(!text.contains(seed["seed"].as_str().expect("a seed")), "{text}");
    assert!(text.contains("ENCRYPTED PRIVATE KEY"), "{text}");

    // All or none: the second is under another one.
    desk.run("keys protect nl/keys/peer.key --from file:word --passphrase file:next").exits(0);
    let wrong = desk.run(&format!("keys unprotect {files} --passphrase file:word")).exits(1);
    assert!(wrong.stderr.contains("peer.key: the passphrase is not that"), "{}", wrong.stderr);
    is_kept(true);
    let again = desk.run(&format!("keys protect {files} --passphrase file:next")).exits(1);
    assert!(again.stderr.contains("say where its passphrase is"), "{}", again.stderr);
    desk.run("keys unprotect nl/keys/validator.key --passphrase file:word").exits(0);
    desk.run("keys unprotect nl/keys/peer.key --passphrase file:next").exits(0);
    is_kept(false);
    assert_eq!(desk.read("nl/keys/peer.key"), whole);

    let twice = "keys protect nl/keys/peer.key nl/keys/../keys/peer.key --passphrase file:word";
    assert!(desk.run(twice).exits(2).stderr.contains("named twice"));
    desk.write("rubbish.key", "rubbish");
    let open = fs::Permissions::from_mode(0o600);
    fs::set_permissions(desk.path("rubbish.key"), open).expect("allowed");
    let rubbish = desk.run("keys protect nl/keys/peer.key rubbish.key --passphrase file:word");
    assert!(rubbish.exits(1).stderr.contains("rubbish.key: not a customhouse-key/1 file"));
    is_kept(false);
    fs::set_permissions(desk.path("word"), fs::Permissions::from_mode(0o644)).expect("allowed");
    let open = desk.run(&format!("keys protect {files} --passphrase file:word")).exits(1);
    assert!(open.stderr.contains("chmod 600"), "{}", open.stderr);
}

#[test]
fn a_node_runs_with_its_keys_and_its_vault_under_passphrases_and_its_status_tells_of_the_vault() {
    let desk = Desk::new();
    passphrase(&desk, "word", "correct horse");
    passphrase(&desk, "other", "battery staple");
    let new = "network new --agencies NL-DOUANE --dir net --history-bits 8 --base-port";
    desk.run(&format!("{new} {}", base_port())).exits(0);
    let keys = ["validator", "peer", "signing", "checkpoint"];
    let keys = keys.map(|purpose| format!("net/NL-DOUANE/keys/{purpose}.key")).join(" ");
    desk.run(&format!("keys protect {keys} --passphrase file:word")).exits(0);
    let config = "--config net/NL-DOUANE/node.toml";
    desk.run(&format!("vault passphrase {config} --root-key file:other")).exits(0);
    let without = desk.run(&format!("node check {config}")).exits(2);
    assert!(without.stderr.contains("keys.validator"), "{}", without.stderr);
    let text = desk.read("net/NL-DOUANE/node.toml");
    let text = text
        .replace("\n[keys]\n", "\n[keys]\npassphrase = \"file:../../word\"\n")
        .replace("root_key = \"plain\"", "root_key = \"file:../../other\"")
        .replace("single_copy = true", "single_copy = true\nbackup = { directory = \"backups\" }");
    desk.write("net/NL-DOUANE/node.toml", &text);
    let ready = desk.run(&format!("node check {config}")).exits(0);
    assert!(!ready.said().contains("horse"), "{}", ready.said());

    let _node = Running::start(desk.command(&format!("node run {config}")));
    desk.run("network status --dir net --wait 60").exits(0);
    let running = desk.run(&format!("node check --running {config}")).exits(0);
    assert!(running.stderr.contains("vault.single_copy"), "{}", running.stderr);
    let taken = desk.run(&format!("node check {config}")).exits(2);
    assert!(taken.stderr.contains("open in another process"), "{}", taken.stderr);
    // The node makes a backup by itself.
    desk.wait_for(&format!("vault backups {config}"), 0);
    let operator = "--profile net/NL-DOUANE/clients/operator";
    let status = desk.json(&format!("{operator} query status"), 0);
    let vault = &status["vault"];
    assert_eq!(
        (&vault["single_copy"], &vault["backups"]),
        (&true.into(), &true.into()),
        "{status}"
    );
    let shown = desk.json(&format!("vault show {config}"), 0);
    assert_eq!((&vault["id"], &vault["generation"]), (&shown["vault"], &shown["generation"]));
    let said = desk.run(&format!("{operator} query status")).exits(0).text();
    assert!(said.contains("SINGLE COPY"), "{said}");
}
