//! What the design forbids stays forbidden: these tests read the sources and the dependency graph.
//!
//! Each rule is a function from text to violations, and each has a test that feeds it a violation,
//! because a check that finds nothing may also be a check that looks at nothing.

mod circles;
mod codes;
mod dependencies;
mod page;
mod rules;
mod source;
mod walks;
mod words;

use rules::Violation;
use source::{Source, sources, workspace};

/// Fails with the whole list, so that one run shows all there is to mend.
fn assert_none(rule: &str, violations: Vec<Violation>) {
    assert!(
        violations.is_empty(),
        "{rule}:\n{}",
        violations.iter().map(|v| format!("  {v}\n")).collect::<String>()
    );
}

fn check(rule: &str, wanted: impl Fn(&str) -> bool, find: impl Fn(&Source) -> Vec<Violation>) {
    let sources = sources();
    let looked_at: Vec<&Source> = sources.iter().filter(|source| wanted(&source.path)).collect();
    assert!(!looked_at.is_empty(), "{rule}: no file to look at");
    assert_none(rule, looked_at.into_iter().flat_map(find).collect());
}

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

#[test]
fn the_consensus_core_knows_no_clock_socket_file_thread_randomness_or_hash_map() {
    check(
        "the core is a pure state machine",
        |path| is_rust(path) && path.starts_with("consensus/src/"),
        |source| rules::impure(source, rules::CORE_NEVER),
    );
}

#[test]
fn the_ledger_outside_its_store_knows_no_clock_socket_or_file() {
    check(
        "the ledger is data and rules; I/O is the store's",
        |path| is_rust(path) && path.starts_with("ledger/src/") && !rules::is_store(path),
        |source| rules::impure(source, rules::LEDGER_NEVER),
    );
}

#[test]
fn what_records_mean_depends_on_no_clock_socket_or_file() {
    check(
        "what is told of records is told by them alone",
        |path| is_rust(path) && path.starts_with("node/trade/src/"),
        |source| rules::impure(source, rules::LEDGER_NEVER),
    );
}

#[test]
fn execution_has_no_floating_point() {
    check(
        "execution is deterministic",
        |path| {
            is_rust(path) && (path.starts_with("ledger/src/") || path.starts_with("consensus/src/"))
        },
        |source| rules::impure(source, rules::FLOATS),
    );
}

#[test]
fn every_reason_code_is_explained_and_none_that_there_is_not() {
    let sources = sources();
    let page = sources.iter().find(|source| source.path == "docs/CODES.md").expect("the page");
    let (given, documented) = (codes::given(&sources), codes::documented(&page.text));
    let missing: Vec<_> = given.difference(&documented).collect();
    assert!(given.len() > 50 && missing.is_empty(), "docs/CODES.md lacks {missing:?}");
    let places = sources.iter().filter(|s| is_rust(&s.path) && !s.path.starts_with("tests/"));
    let code: String = places.flat_map(Source::shipped_code).map(|(_, line)| line).collect();
    let known = |word: &&String| !code.contains(&format!("\"{word}\""));
    let unknown: Vec<_> = documented.iter().filter(known).collect();
    assert!(unknown.is_empty(), "no node gives {unknown:?}, which docs/CODES.md has");
}

#[test]
fn bincode_is_used_in_one_module() {
    check("bincode encodes values at rest only", is_rust, rules::bincode_outside_store);
}

#[test]
fn signatures_are_checked_one_by_one_in_one_module() {
    check("strict checks of signatures", is_rust, rules::other_signature_checks);
}

#[test]
fn code_that_the_compiler_does_not_check_is_in_one_module() {
    check("one module talks to RocksDB's C interface", is_rust, rules::unchecked_code);
}

#[test]
fn planted_bugs_interrupt_no_rule_of_consensus() {
    check(
        "the rules are read as they are",
        |path| is_rust(path) && path.starts_with("consensus/src/"),
        rules::planted_bugs,
    );
}

#[test]
fn nothing_that_is_said_can_panic_for_want_of_a_reader() {
    let shipped = ["node/", "consensus/src/", "ledger/src/"];
    check(
        "a closed standard output or error is no panic",
        |path| is_rust(path) && shipped.iter().any(|crate_of| path.starts_with(crate_of)),
        rules::prints,
    );
}

#[test]
fn files_and_functions_stay_readable() {
    check("file length", is_rust, rules::long_file);
    check("function length", is_rust, rules::long_functions);
}

#[test]
fn nothing_is_left_undone_and_no_test_is_ignored() {
    check("left undone", is_rust, rules::left_undone);
}

#[test]
fn tests_wait_for_conditions_instead_of_for_time() {
    check("sleep in a test", is_rust, rules::sleeps);
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    check("machine path", |_| true, rules::machine_paths);
}

#[test]
fn every_dependency_is_declared_once_with_its_reason() {
    let manifests: Vec<Source> =
        sources().into_iter().filter(|source| source.path.ends_with("Cargo.toml")).collect();
    let crates = dependencies::WALLS.len();
    assert_eq!(manifests.len(), crates + 2, "the workspace, its crates, and the fuzz targets");
    for manifest in &manifests {
        // The fuzz targets are a workspace of their own, so they declare what they use.
        let violations = if ["Cargo.toml", "tests/fuzz/Cargo.toml"].contains(&&*manifest.path) {
            rules::dependencies_without_reason(manifest)
        } else {
            rules::dependencies_declared_twice(manifest)
        };
        assert_none("dependencies", violations);
    }
}

#[test]
fn no_crate_imports_what_is_behind_a_wall() {
    let is_crate = |path: &str| path.ends_with("/Cargo.toml") && path != "tests/fuzz/Cargo.toml";
    check("who may import whom", is_crate, dependencies::through_a_wall);
}

#[test]
fn no_import_leads_in_a_circle_but_inside_one_subject() {
    let sources = sources();
    let folders = dependencies::WALLS.iter().map(|(folder, _)| folder);
    let circles = folders.flat_map(|folder| circles::between_subjects(folder, &sources));
    assert_none("circles", circles.collect());
    assert_none("inner walls", circles::through_inner_walls(circles::INNER_WALLS, &sources));
    let of_node = circles::imports("node", &sources);
    assert!(of_node.len() > 10, "the node's subjects import each other: {of_node:?}");
}

#[test]
fn a_word_has_one_meaning() {
    let sources = sources();
    let page = sources.iter().find(|source| source.path == "ARCHITECTURE.md");
    let table = words::table(page.expect("the page"));
    assert!(table.len() > 20, "the table of words: {table:?}");
    let shipped: Vec<&Source> =
        sources.iter().filter(|s| is_rust(&s.path) && !s.path.starts_with("tests/")).collect();
    assert_none("words", words::misplaced(&table, &shipped));
    assert_none("words", words::declared_twice(&shipped));
    assert_none("words", shipped.into_iter().flat_map(words::empty_words).collect());
}

#[test]
fn the_walks_through_the_code_lead_along_it() {
    let sources = sources();
    let page = sources.iter().find(|source| source.path == "ARCHITECTURE.md");
    let page = page.expect("the page");
    assert_none("walks", walks::led_astray(page, &sources));
    assert_none("files", page::absent_files(page, &sources));
}

#[test]
fn the_page_has_the_walls_and_the_modules_that_the_code_has() {
    let sources = sources();
    let page = sources.iter().find(|source| source.path == "ARCHITECTURE.md");
    let page = page.expect("the page");
    assert_none("walls", page::other_walls(page, dependencies::WALLS));
    assert_none("code map", page::wrong_map(page, &sources));
}

#[test]
fn sentences_are_understood_at_first_reading_as_far_as_a_test_can_tell() {
    check("odd English", |_| true, rules::odd_english);
}

#[test]
fn no_comment_cites_a_document_that_is_not_here() {
    check("a citation", |_| true, rules::absent_documents);
}

#[test]
fn no_crate_imports_what_the_design_forbids_it() {
    for rule in dependencies::RULES {
        let graph = dependencies::graph(&workspace(), rule);
        assert!(graph.iter().any(|name| name == rule.package), "{}: an empty graph", rule.package);
        assert_none(
            &format!("dependencies: {}", rule.package),
            dependencies::forbidden(rule, &graph),
        );
    }
}
