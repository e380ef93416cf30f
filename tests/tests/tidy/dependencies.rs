//! What a crate may depend on, directly or through others.

use std::{path::Path, process::Command};

use crate::{rules::Violation, source::Source};

/// What a crate, built by itself with these features, must not have in its graph.
pub(crate) struct Rule {
    pub(crate) package: &'static str,
    features: &'static [&'static str],
    never: &'static [&'static str],
}

const ASYNC_AND_NETWORK: &[&str] =
    &["tokio", "futures", "libp2p", "tonic", "axum", "hyper", "mio", "async-std", "smol"];
const RANDOMNESS: &[&str] = &["rand", "rand_core", "getrandom", "rand_chacha", "fastrand"];
const STORE: &[&str] = &["rocksdb", "librocksdb-sys", "bincode"];
const GRPC_SERVER: &[&str] = &["tonic/server", "tonic/router", "axum"];
const COMMAND_LINE: &[&str] = &["clap", "indicatif"];
const HASH_MAPS: &[&str] = &["hashbrown", "ahash", "rustc-hash", "fxhash"];

/// What each is held to.
pub(crate) const RULES: &[Rule] = &[
    Rule { package: "customhouse-proto", features: &[], never: ASYNC_AND_NETWORK },
    Rule { package: "customhouse-ledger", features: &[], never: STORE },
    Rule { package: "customhouse-ledger", features: &["rocksdb"], never: ASYNC_AND_NETWORK },
    Rule { package: "customhouse-ledger", features: &["rocksdb"], never: RANDOMNESS },
    Rule { package: "customhouse-consensus", features: &[], never: STORE },
    Rule { package: "customhouse-consensus", features: &[], never: ASYNC_AND_NETWORK },
    Rule { package: "customhouse-consensus", features: &[], never: RANDOMNESS },
    Rule { package: "customhouse-consensus", features: &[], never: HASH_MAPS },
    Rule { package: "customhouse-files", features: &[], never: STORE },
    Rule { package: "customhouse-files", features: &[], never: ASYNC_AND_NETWORK },
    Rule { package: "customhouse-formats", features: &[], never: STORE },
    Rule { package: "customhouse-formats", features: &[], never: ASYNC_AND_NETWORK },
    Rule { package: "customhouse-trade", features: &[], never: STORE },
    Rule { package: "customhouse-trade", features: &[], never: ASYNC_AND_NETWORK },
    Rule { package: "customhouse-trade", features: &[], never: RANDOMNESS },
    Rule { package: "customhouse-vault", features: &[], never: STORE },
    Rule { package: "customhouse-vault", features: &[], never: ASYNC_AND_NETWORK },
    Rule { package: "customhouse-client", features: &[], never: STORE },
    Rule { package: "customhouse-client", features: &[], never: &["libp2p", "axum"] },
    Rule { package: "customhouse-audit", features: &[], never: STORE },
    Rule { package: "customhouse-audit", features: &[], never: &["libp2p", "axum"] },
    Rule { package: "customhouse-audit", features: &[], never: COMMAND_LINE },
    Rule { package: "customhouse-client", features: &[], never: GRPC_SERVER },
    Rule { package: "customhouse-audit", features: &[], never: GRPC_SERVER },
    Rule { package: "customhouse-node", features: &[], never: COMMAND_LINE },
    Rule { package: "customhouse-cli", features: &[], never: STORE },
    Rule { package: "customhouse-cli", features: &[], never: GRPC_SERVER },
    Rule { package: "customhouse-cli", features: &[], never: &["libp2p", "customhouse-node"] },
];

/// Who may import whom: each of our crates, and those that its manifest may name, for its tests too.
pub(crate) const WALLS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("ledger", &["proto"]),
    ("consensus", &["ledger", "proto"]),
    ("node/files", &["ledger"]),
    ("node/formats", &["files", "ledger", "proto"]),
    ("node/trade", &["formats", "ledger", "proto"]),
    ("node/client", &["files", "ledger", "proto"]),
    ("node/audit", &["client", "files", "ledger", "proto"]),
    ("node/vault", &["files", "ledger"]),
    ("node", &["client", "consensus", "files", "formats", "ledger", "proto", "vault"]),
    ("node/cli", &["audit", "client", "files", "formats", "ledger", "node", "proto"]),
    ("tests", &["client", "consensus", "files", "ledger", "node", "proto"]),
];

/// What a crate's manifest names of ours beyond what it may, and every crate that has no place in the table.
pub(crate) fn through_a_wall(manifest: &Source) -> Vec<Violation> {
    let folder = manifest.path.trim_end_matches("Cargo.toml").trim_end_matches('/');
    let violation = |line, what| Violation { path: manifest.path.clone(), line, what };
    let Some((_, may)) = WALLS.iter().find(|(of, _)| *of == folder) else {
        return vec![violation(0, "the table of walls does not have this crate".to_owned())];
    };
    let ours = manifest.lines().filter_map(|(number, line)| {
        let name = line.strip_prefix("customhouse-")?;
        Some((number, name.split(['.', ' ', '=']).next().unwrap_or(name)))
    });
    let beyond = ours.filter(|(_, name)| !may.contains(name));
    beyond.map(|(number, name)| violation(number, format!("may not import {name}"))).collect()
}

/// Names of all packages that are compiled into a crate, itself included, as cargo resolves it without the
/// features that the crate has by default; and of each its features, as `package/feature`.
pub(crate) fn graph(workspace: &Path, rule: &Rule) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(workspace)
        .args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none"])
        .args(["--format", "{p}\t{f}", "--package", rule.package, "--no-default-features"])
        .args(["--features", &rule.features.join(",")])
        .output()
        .expect("cargo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree: {errors}");
    names(&String::from_utf8_lossy(&output.stdout))
}

/// The first word of each line, and what stands after its tab: `tokio v1.2.3<tab>net,time (*)`.
fn names(tree: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in tree.lines() {
        let (package, features) = line.split_once('\t').unwrap_or((line, ""));
        let Some(name) = package.split_whitespace().next() else { continue };
        names.push(name.to_owned());
        let features = features.trim_end_matches("(*)").split(',').map(str::trim);
        names.extend(features.filter(|f| !f.is_empty()).map(|f| format!("{name}/{f}")));
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// What of a graph the rule forbids.
pub(crate) fn forbidden(rule: &Rule, graph: &[String]) -> Vec<Violation> {
    let found = graph.iter().filter(|name| rule.never.contains(&name.as_str()));
    found
        .map(|name| Violation {
            path: rule.package.to_owned(),
            line: 0,
            what: format!("has {name} in its dependencies, features {:?}", rule.features),
        })
        .collect()
}

#[test]
fn a_forbidden_dependency_is_found_behind_another() {
    let rule = Rule { package: "a", features: &[], never: &["tokio"] };
    let graph = names("a v0.1.0 (/x/a)\nb v1.0.0\ntokio v1.2.3\nb v1.0.0 (*)\n");
    assert_eq!(graph, ["a", "b", "tokio"]);
    assert_eq!(forbidden(&rule, &graph).len(), 1);
    assert!(forbidden(&rule, &names("a v0.1.0\ntokio-not v1\n")).is_empty());
    let rule = Rule { never: &["tonic/server"], ..rule };
    assert_eq!(forbidden(&rule, &names("tonic v1.2.3\tchannel,server (*)\n")).len(), 1);
    assert!(forbidden(&rule, &names("tonic v1.2.3\tchannel\n")).is_empty());
}

/// Planted bugs are for one crate's own tests: nothing that is built for use may have them.
#[test]
fn nobody_enables_planted_bugs() {
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["tree", "--offline", "--locked", "--workspace", "--prefix", "none"])
        .args(["--format", "{p} [{f}]"])
        .output()
        .expect("cargo runs");
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && tree.contains("customhouse-consensus"), "{tree}");
    assert!(!tree.contains("mutants"), "a crate enables the feature `mutants`");
}

#[test]
fn a_manifest_that_names_a_crate_behind_a_wall_is_found_and_so_is_a_crate_without_walls() {
    let manifest = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    let through =
        manifest("node/audit/Cargo.toml", "[dependencies]\ncustomhouse-node.workspace = true\n");
    assert_eq!(through_a_wall(&through)[0].line, 2);
    let feature = "customhouse-ledger = { workspace = true, features = [\"rocksdb\"] }\n";
    assert!(through_a_wall(&manifest("node/audit/Cargo.toml", feature)).is_empty());
    assert_eq!(through_a_wall(&manifest("node/new/Cargo.toml", "")).len(), 1);
}
