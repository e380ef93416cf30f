//! What is said of the vault of a node that could not run, or not safely.

use std::fs;

use super::Node;

impl Node {
    /// Has these lines in the section [vault], below `directory`.
    fn configure(&self, lines: &str) {
        self.replace("root_key = \"plain\"", "").replace("single_copy = true", lines);
    }

    /// Exchanges a part of the configuration.
    fn replace(&self, old: &str, new: &str) -> &Self {
        let text = self.read("node.toml");
        assert!(text.contains(old), "`{old}` is not in: {text}");
        self.write("node.toml", &text.replace(old, new));
        self
    }

    fn vault(&self, command: &str) {
        let (code, said) = self.run(&format!("vault {command} --config net/NL-DOUANE/node.toml"));
        assert_eq!(code, Some(0), "{said}");
    }

    /// Ready, with something worth a look.
    fn is_worth(&self, says: &[&str]) {
        let (code, said) = self.check();
        assert_eq!(code, Some(0), "{said}");
        for word in says {
            assert!(said.contains(word), "`{word}` is not in: {said}");
        }
    }
}

#[test]
fn a_vault_that_others_may_reach_is_refused_and_so_is_none() {
    let node = Node::new();
    node.is_worth(&[
        "vault.root_key: is plain",
        "vault.single_copy: ",
        "vault.backup: is not there",
    ]);
    for (file, bad, good) in [("vault", 0o750, 0o700), ("vault/keys", 0o640, 0o600)] {
        node.set_mode(file, bad);
        node.is_refused(&["vault.directory", file, &format!("{bad:04o}")]);
        node.set_mode(file, good);
    }
    let keys = fs::read(node.path("vault/keys")).expect("there");
    node.write("vault/keys", "rubbish");
    node.is_refused(&["vault.directory", "vault/keys", "restore it from a backup"]);
    fs::write(node.path("vault/keys"), keys).expect("writable");
    fs::rename(node.path("vault"), node.path("away")).expect("moved");
    node.is_refused(&["vault.directory", "No such file", "vault restore", "vault new"]);
    node.write("vault", "a file");
    node.is_refused(&["vault.directory", "is no directory"]);
}

#[test]
fn a_vault_where_copies_of_the_store_go_is_refused() {
    let node = Node::new();
    node.replace("directory = \"vault\"", "directory = \"data/vault\"");
    fs::create_dir(node.path("data")).expect("made");
    node.set_mode("data", 0o700);
    fs::rename(node.path("vault"), node.path("data/vault")).expect("moved");
    node.is_refused(&["vault.directory", "is inside data_dir", "move it elsewhere"]);
    fs::rename(node.path("data/vault"), node.path("vault")).expect("moved");
    // By another name of the same place.
    std::os::unix::fs::symlink(node.path("vault"), node.path("data/vault")).expect("made");
    node.is_worth(&[]);
    node.replace("\n[vault]\n", "\n[backup]\ndirectory = \".\"\n\n[vault]\n");
    node.set_mode("", 0o700);
    node.is_refused(&["vault.directory", "is inside backup.directory"]);
    node.replace("\n[backup]\ndirectory = \".\"\n", "");
    node.replace("single_copy = true", "single_copy = true\nbackup = { directory = \"data/b\" }");
    node.is_not_ready(&["vault.backup.directory", "is inside data_dir"]);
}

#[test]
fn a_passphrase_that_is_not_there_not_private_or_not_the_vaults_is_refused() {
    let node = Node::new();
    let word = |file: &str, text: &str| {
        node.write(file, text);
        node.set_mode(file, 0o600);
    };
    word("word", "correct horse");
    word("wrong", "wrong horse");
    node.vault("passphrase --root-key file:net/NL-DOUANE/word");
    node.is_refused(&["vault.root_key", "says `plain`", "is under a passphrase"]);
    node.replace("root_key = \"plain\"", "root_key = \"file:word\"");
    node.is_worth(&["vault.root_key", "word", "vault's own disk"]);
    node.set_mode("word", 0o640);
    node.is_refused(&["vault.root_key", "word", "0640", "chmod 600"]);
    node.set_mode("word", 0o600);
    node.replace("file:word", "file:wrong");
    let (code, said) = node.check();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("passphrase is not that of this key"), "{said}");
    assert!(!said.contains("horse"), "{said}");
    node.replace("file:wrong", "file:none");
    node.is_refused(&["vault.root_key", "none", "No such file"]);
    node.replace("file:none", "credential:vault");
    let (code, said) = node.check();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("LoadCredentialEncrypted=vault"), "{said}");
}

#[test]
fn a_mirror_that_is_missing_anothers_or_not_writable_is_refused() {
    let node = Node::new();
    node.vault("mirror net/NL-DOUANE/second");
    node.configure("root_key = \"plain\"\nmirror = \"second\"");
    node.is_worth(&["vault.mirror", "vault's own disk"]);
    node.set_mode("second", 0o722);
    node.is_refused(&["vault.mirror", "0722", "chmod 700"]);
    node.set_mode("second", 0o700);
    fs::rename(node.path("second"), node.path("away")).expect("moved");
    node.is_refused(&["vault.mirror", "is not there", "mounted?", "vault mirror"]);
    let other = "vault mirror net/NL-DOUANE/second --config net/BE-AADA/node.toml";
    assert_eq!(node.run(other).0, Some(0));
    node.is_refused(&["vault.mirror", "is the mirror of vault", "name this vault's own"]);
    fs::remove_dir_all(node.path("second")).expect("there");
    node.write("second", "rubbish");
    node.is_refused(&["vault.mirror", "second"]);
}

#[test]
fn backups_of_another_vault_or_a_place_that_cannot_be_written_are_not_ready() {
    let node = Node::new();
    let other = "vault backup --to net/NL-DOUANE/backups --config net/BE-AADA/node.toml";
    assert_eq!(node.run(other).0, Some(0));
    node.replace("single_copy = true", "single_copy = true\nbackup = { directory = \"backups\" }");
    node.is_not_ready(&["vault.backup.directory", "has backups of vault"]);
    node.replace("\"backups\"", "\"fresh\"");
    node.is_worth(&[]);
    node.replace("\"fresh\"", "\"/proc/customhouse\"");
    node.is_refused(&["vault.backup.directory", "/proc", "cannot be written"]);
}

#[test]
fn a_vault_that_the_registry_does_not_know_is_not_ready_and_says_how_it_is_registered() {
    let node = Node::new();
    let away = |name: &str| fs::rename(node.path("vault"), node.path(name)).expect("moved");
    away("registered");
    node.vault("new");
    let (code, said) = node.check();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("none of its dedupe secrets is the one"), "{said}");
    away("other");
    // The registered secret, and a key that is not registered.
    fs::rename(node.path("registered"), node.path("vault")).expect("moved");
    node.write("word", "correct horse");
    node.set_mode("word", 0o600);
    let secret = "net/NL-DOUANE/secret --passphrase file:net/NL-DOUANE/word";
    node.vault(&format!("dedupe-secret export {secret}"));
    away("registered");
    fs::rename(node.path("other"), node.path("vault")).expect("moved");
    node.vault(&format!("dedupe-secret import {secret}"));
    node.is_not_ready(&["none of this vault's encryption keys", "--add NL-DOUANE:encryption="]);
}
