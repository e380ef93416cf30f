//! What an operator does with a vault, from a terminal.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
};

use serde_json::Value;

use crate::{
    desk::{Answer, Desk},
    processes::{Running, base_port},
};

/// An agency's keys and its configuration, which is the template with another section [vault].
struct Agency(Desk);

impl Agency {
    /// With a vault whose root key is under the passphrase `correct horse`, in a file.
    fn new() -> Self {
        let agency = Self(Desk::new());
        agency.passphrase("word", "correct horse");
        let keys = "keys new --agency NL-DOUANE --dir nl --vault file:word";
        agency.0.run(keys).exits(0);
        agency.configure("root_key = \"file:../word\"\nsingle_copy = true");
        agency
    }

    /// Without a passphrase, which costs time.
    fn plain() -> Self {
        let agency = Self(Desk::new());
        agency.0.run("keys new --agency NL-DOUANE --dir nl").exits(0);
        agency.configure("root_key = \"plain\"\nsingle_copy = true");
        agency
    }

    fn passphrase(&self, file: &str, text: &str) {
        self.0.write(file, text);
        self.mode(file, 0o600);
    }

    fn mode(&self, file: &str, mode: u32) {
        fs::set_permissions(self.0.path(file), Permissions::from_mode(mode)).expect("allowed");
    }

    /// Writes the configuration with these lines in its section [vault].
    fn configure(&self, lines: &str) {
        self.write_section(&format!("[vault]\ndirectory = \"vault\"\n{lines}\n"));
    }

    fn write_section(&self, section: &str) {
        let template = self.0.run("node template").exits(0).text();
        let begin = template.find("# The keys of sealed records").expect("in the template");
        let end = template.find("# All optional; these are the defaults.\n[limits]").expect("too");
        let text = format!("{}{section}\n{}", &template[..begin], &template[end..]);
        self.0.write("nl/node.toml", text);
    }

    fn run(&self, command: &str) -> Answer {
        self.0.run(&format!("vault {command} --config nl/node.toml"))
    }

    #[track_caller]
    fn json(&self, command: &str) -> Value {
        self.0.json(&format!("vault {command} --config nl/node.toml"), 0)
    }

    /// What a script is told of a command that is refused.
    #[track_caller]
    fn refused(&self, command: &str, code: &str, says: &[&str]) {
        let command = format!("--output json vault {command} --config nl/node.toml");
        let answer = self.0.run(&command).exits(1);
        let document = answer.json();
        assert_eq!(document["code"], code, "{command}: {document}");
        let said = answer.said();
        says.iter().for_each(|word| assert!(said.contains(word), "`{word}` is not in: {said}"));
    }
}

/// The text of a field.
#[track_caller]
fn text(of: &Value) -> String {
    of.as_str().unwrap_or_else(|| panic!("{of} is no text")).to_owned()
}

#[test]
fn a_vault_is_shown_with_what_is_registered_of_it_and_without_secrets() {
    let agency = Agency::new();
    let shown = agency.json("show");
    let public: Value = serde_json::from_str(&agency.0.read("nl/agency.json")).expect("JSON");
    let contents = &shown["contents"];
    assert_eq!(contents["encryption_keys"], public["encryption_keys"]);
    assert_eq!(contents["dedupe"][0]["check"], public["dedupe_check"]);
    assert_eq!((&shown["root_key"], &shown["mirror"]), (&"passphrase".into(), &Value::Null));
    let said = agency.run("show").exits(0).text();
    for word in [&text(&shown["vault"]), "single_copy", "none are made", "groups          0"] {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
    agency.passphrase("word", "wrong horse");
    agency.refused("show", "PASSPHRASE_WRONG", &["root.key", "passphrase is not that"]);
    fs::remove_file(agency.0.path("word")).expect("there");
    agency.refused("show", "PASSPHRASE_FILE", &["word", "No such file"]);
    agency.configure("root_key = \"plain\"\nsingle_copy = true");
    agency.refused("show", "PASSPHRASE_NEEDED", &["credential:"]);
}

#[test]
fn a_vault_that_others_may_reach_or_that_is_rubbish_is_refused_with_what_to_do() {
    let agency = Agency::plain();
    agency.mode("nl/vault", 0o750);
    agency.refused("show", "VAULT_PERMISSIONS", &["0750", "chmod go= nl/vault"]);
    agency.mode("nl/vault", 0o700);
    agency.mode("nl/vault/keys", 0o644);
    agency.refused("backup --to b", "VAULT_PERMISSIONS", &["keys", "0644"]);
    agency.mode("nl/vault/keys", 0o600);
    let keys = fs::read(agency.0.path("nl/vault/keys")).expect("there");
    agency.0.write("nl/vault/keys", "rubbish");
    agency.refused("show", "VAULT_TORN", &["restore it from a backup"]);
    agency.0.write("nl/vault/keys", keys);
    agency.0.write("nl/vault/root.key", "rubbish");
    agency.refused("encryption-key new", "VAULT_DAMAGED", &["root.key", "not a root key"]);
    fs::remove_dir_all(agency.0.path("nl/vault")).expect("there");
    agency.refused("show", "VAULT_MISSING", &["make a new vault"]);
    assert!(!agency.0.path("nl/vault").exists(), "nothing is left where there is nothing");
}

#[test]
fn a_vault_is_made_for_a_node_that_has_none_and_never_over_another() {
    let agency = Agency::plain();
    agency.refused("new", "VAULT_EXISTS", &["nl/vault", "never written over"]);
    let other = agency.run("new --root-key plain").exits(2);
    assert!(other.stderr.contains("without [vault]"), "{}", other.stderr);
    agency.write_section("");
    let none = agency.run("show").exits(2);
    assert!(none.stderr.contains("customhouse vault new --config"), "{}", none.stderr);
    agency.passphrase("word", "correct horse");
    let made = agency.json("new --directory nl/other --root-key file:word");
    let section = text(&made["section"]);
    agency.write_section(&section);
    let shown = agency.json("show");
    assert_eq!(shown["contents"]["encryption_keys"][0], made["encryption_key"]);
    let propose = text(&made["propose"]);
    let key = text(&made["encryption_key"]);
    let check = text(&made["dedupe_check"]);
    for option in
        [format!("--add NL-DOUANE:encryption={key}"), format!("--dedupe-check NL-DOUANE={check}")]
    {
        assert!(propose.contains(&option), "{propose}");
    }
    let mode = fs::metadata(agency.0.path("nl/other")).expect("made").permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
}

#[test]
fn a_vault_goes_under_another_passphrase_and_the_old_one_opens_it_no_more() {
    let agency = Agency::new();
    agency.passphrase("next", "battery staple");
    let changed = agency.json("passphrase --root-key file:next");
    let line = text(&changed["line"]);
    let path = agency.0.path("next").canonicalize().expect("there");
    assert!(line.contains(path.to_str().expect("a text")), "{line}");
    agency.refused("show", "PASSPHRASE_WRONG", &["root.key"]);
    agency.configure(&format!("{line}\nsingle_copy = true"));
    let shown = agency.json("show");
    assert_eq!(shown["root_key"], "passphrase");
    let said = agency.run("passphrase --root-key plain").exits(0).text();
    assert!(said.contains("nothing but the directory's mode"), "{said}");
    agency.refused("show", "PASSPHRASE_NOT_NEEDED", &["no passphrase is needed"]);
    let wrong = agency.run("passphrase --root-key secret").exits(2);
    assert!(wrong.stderr.contains("credential:NAME"), "{}", wrong.stderr);
}

#[test]
fn a_vault_is_put_back_from_a_backup_and_from_a_mirror_and_from_nothing_else() {
    let agency = Agency::new();
    let where_to = agency.run("backup").exits(2);
    assert!(where_to.stderr.contains("[vault.backup]"), "{}", where_to.stderr);
    agency.configure(
        "root_key = \"file:../word\"\nsingle_copy = true\n[vault.backup]\ndirectory = \"backups\"\nkeep = 1",
    );
    let none = agency.run("backups").exits(1);
    assert!(none.stderr.contains("no backup was made yet"), "{}", none.stderr);
    agency.run("backup").exits(0);
    let made = agency.json("backup");
    assert_eq!(made["number"], 2);
    let listed = agency.json("backups");
    assert_eq!(listed["backups"].as_array().map(Vec::len), Some(1), "the newest is kept");
    let before = agency.json("show");
    assert_eq!(before["backups"]["newest"]["number"], 2);
    agency.run("encryption-key new").exits(0);
    assert!(agency.run("show").exits(0).text().contains("OLDER than the vault"));

    let restore = |from: &str, into: &str| agency.0.run(&format!("vault restore {from} {into}"));
    let all = restore("nl/backups", "nl/back").exits(1);
    assert!(all.stderr.contains("name one of them, such as the newest"), "{}", all.stderr);
    let taken = restore("nl/backups/vault-000002", "nl/vault").exits(1);
    assert!(taken.stderr.contains("never written over"), "{}", taken.stderr);
    let no_copy = restore("nl/vault", "nl/back").exits(1);
    assert!(no_copy.stderr.contains("no backup of one"), "{}", no_copy.stderr);
    assert!(!agency.0.path("nl/back").exists());
    restore("nl/backups/vault-000002", "nl/back").exits(0);
    fs::rename(agency.0.path("nl/vault"), agency.0.path("nl/lost")).expect("moved");
    fs::rename(agency.0.path("nl/back"), agency.0.path("nl/vault")).expect("moved");
    let after = agency.json("show");
    assert_eq!(after["vault"], before["vault"]);
    assert_eq!(after["contents"]["encryption_keys"], before["contents"]["encryption_keys"]);

    agency.run("mirror second").exits(0);
    fs::remove_dir_all(agency.0.path("nl/vault")).expect("there");
    agency.0.run("vault restore second --config nl/node.toml").exits(0);
    assert_eq!(agency.json("show")["vault"], before["vault"]);
    agency.0.write("nl/backups/vault-000002/keys", "rubbish");
    let broken = agency.run("backups").exits(1);
    assert!(broken.text().contains("WRONG: "), "{}", broken.said());
}

#[test]
fn a_mirror_is_made_and_filled_and_what_changes_the_vault_needs_it() {
    let agency = Agency::plain();
    let made = agency.run("mirror second").exits(0).text();
    for word in ["without a backup of the vault it opens nothing", "mirror = \"/"] {
        assert!(made.contains(word), "`{word}` is not in: {made}");
    }
    assert_eq!(agency.json("mirror second")["was_there"], true);
    agency.configure("root_key = \"plain\"\nmirror = \"../second\"");
    let shown = agency.json("show");
    assert_eq!(shown["mirror"]["wrong"], Value::Null);
    assert_eq!(shown["mirror"]["generation"], shown["generation"]);
    agency.run("encryption-key new").exits(0);
    let shown = agency.json("show");
    assert_eq!(shown["mirror"]["generation"], shown["generation"], "it was brought up");

    let here = |name: &str| agency.0.path(name);
    fs::rename(here("second"), here("away")).expect("moved");
    agency.refused("encryption-key new", "MIRROR_MISSING", &["mounted?"]);
    let without = agency.json("show");
    assert_eq!(without["mirror"]["code"], "MIRROR_MISSING");
    assert_eq!(without["generation"], shown["generation"], "nothing was changed");
    let other = Agency::plain();
    other.run("mirror second").exits(0);
    fs::rename(other.0.path("second"), here("second")).expect("moved");
    assert_eq!(agency.json("show")["mirror"]["code"], "MIRROR_FOREIGN");
    agency.refused("dedupe-secret new", "MIRROR_FOREIGN", &["name this vault's own"]);
    fs::remove_dir_all(here("second")).expect("there");
    fs::create_dir(here("second")).expect("made");
    agency.0.write("second/file", "something else");
    agency.refused("mirror second", "VAULT_EXISTS", &["choose another directory"]);
    // An older vault that is put back in place of a newer one.
    agency.run("backup --to backups").exits(0);
    fs::remove_dir_all(here("second")).expect("there");
    agency.run("mirror second").exits(0);
    agency.run("encryption-key new").exits(0);
    fs::remove_dir_all(here("nl/vault")).expect("there");
    agency.0.run("vault restore backups/vault-000001 --config nl/node.toml").exits(0);
    agency.refused("encryption-key new", "MIRROR_AHEAD", &["Restore it from the mirror"]);
}

#[test]
fn keys_are_exchanged_with_the_command_that_registers_the_new_one_and_the_vault_keeps_the_old() {
    let agency = Agency::plain();
    let old = agency.json("show")["contents"]["encryption_keys"][0].clone();
    let said = agency.run("encryption-key new").exits(0).text();
    let end = format!("--end {}", text(&old));
    assert!(said.contains(&end) && said.contains("--add NL-DOUANE:encryption="), "{said}");
    let keys = agency.json("show")["contents"]["encryption_keys"].clone();
    assert_eq!((keys.as_array().map(Vec::len), &keys[1]), (Some(2), &old));
}

#[test]
fn the_nodes_of_an_agency_share_the_dedupe_secret_by_a_file_under_a_passphrase() {
    let (one, two) = (Agency::plain(), Agency::plain());
    one.passphrase("word", "correct horse");
    two.passphrase("word", "correct horse");
    two.passphrase("wrong", "wrong horse");
    let made = one.json("dedupe-secret new");
    one.run("dedupe-secret export dedupe.secret --passphrase file:word").exits(0);
    one.refused(
        "dedupe-secret export dedupe.secret --passphrase file:word",
        "DEDUPE_FILE_EXISTS",
        &["dedupe.secret"],
    );
    fs::copy(one.0.path("dedupe.secret"), two.0.path("dedupe.secret")).expect("handed over");
    let import = "dedupe-secret import dedupe.secret --passphrase";
    two.refused(&format!("{import} file:wrong"), "PASSPHRASE_WRONG", &["dedupe.secret"]);
    let own = two.json("show")["contents"]["dedupe"].clone();
    assert_eq!(own.as_array().map(Vec::len), Some(1), "nothing was changed");
    let taken = two.json(&format!("{import} file:word"));
    assert_eq!(taken["check"], made["check"]);
    let dedupe = two.json("show")["contents"]["dedupe"].clone();
    assert_eq!(dedupe[0]["check"], made["check"]);
    assert!(dedupe[0]["until_s"].is_null() && dedupe[1]["until_s"].is_u64(), "{dedupe}");
}

#[test]
fn the_vault_of_a_running_node_is_shown_from_outside_and_changed_by_nobody() {
    let agency = Agency(Desk::new());
    let new = "network new --agencies NL-DOUANE --dir net --history-bits 8 --base-port";
    agency.0.run(&format!("{new} {}", base_port())).exits(0);
    let of = "--config net/NL-DOUANE/node.toml";
    let before = agency.0.json(&format!("vault show {of}"), 0);
    let _node = Running::start(agency.0.command(&format!("node run {of}")));
    agency.0.run("network status --dir net --wait 60").exits(0);
    let running = agency.0.json(&format!("vault show {of}"), 0);
    assert_eq!((&running["vault"], &running["contents"]), (&before["vault"], &Value::Null));
    for command in
        ["encryption-key new", "backup --to b", "passphrase --root-key plain", "mirror m"]
    {
        let answer = agency.0.run(&format!("--output json vault {command} {of}")).exits(1);
        let document = answer.json();
        assert_eq!(document["code"], "VAULT_LOCKED", "{command}: {document}");
        assert!(text(&document["error"]).contains("stop the node first"), "{document}");
    }
    assert!(!agency.0.path("m").exists() && !agency.0.path("b").exists());
}
