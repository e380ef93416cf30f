//! What a crate may depend on, directly or through others.

use std::{path::Path, process::Command};

use crate::rules::Violation;

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
const ABOVE_PROTO: &[&str] = &["customhouse-ledger", "customhouse-consensus", "customhouse-node"];
const ABOVE_LEDGER: &[&str] = &["customhouse-consensus", "customhouse-node"];
const ABOVE_CONSENSUS: &[&str] = &["customhouse-node"];
const HASH_MAPS: &[&str] = &["hashbrown", "ahash", "rustc-hash", "fxhash"];

/// DESIGN §2.
pub(crate) const RULES: &[Rule] = &[
    Rule { package: "customhouse-proto", features: &[], never: ASYNC_AND_NETWORK },
    Rule { package: "customhouse-proto", features: &["services"], never: ABOVE_PROTO },
    Rule { package: "customhouse-ledger", features: &[], never: STORE },
    Rule { package: "customhouse-ledger", features: &["rocksdb"], never: ASYNC_AND_NETWORK },
    Rule { package: "customhouse-ledger", features: &["rocksdb"], never: RANDOMNESS },
    Rule { package: "customhouse-ledger", features: &["rocksdb"], never: ABOVE_LEDGER },
    Rule { package: "customhouse-consensus", features: &[], never: STORE },
    Rule { package: "customhouse-consensus", features: &[], never: ASYNC_AND_NETWORK },
    Rule { package: "customhouse-consensus", features: &[], never: RANDOMNESS },
    Rule { package: "customhouse-consensus", features: &[], never: HASH_MAPS },
    Rule { package: "customhouse-consensus", features: &[], never: ABOVE_CONSENSUS },
    Rule { package: "customhouse-node", features: &[], never: &["customhouse-tests"] },
];

/// Names of all packages that are compiled into a crate, itself included, as cargo resolves it.
pub(crate) fn graph(workspace: &Path, rule: &Rule) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(workspace)
        .args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none"])
        .args(["--format", "{p}", "--package", rule.package])
        .args(["--features", &rule.features.join(",")])
        .output()
        .expect("cargo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree: {errors}");
    names(&String::from_utf8_lossy(&output.stdout))
}

/// The first word of each line: `tokio v1.2.3 (*)`.
fn names(tree: &str) -> Vec<String> {
    let mut names: Vec<String> =
        tree.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
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
