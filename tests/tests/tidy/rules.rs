//! The rules about text.

use std::fmt;

use crate::source::Source;

/// Most lines of a file.
const FILE_LINES_MAX: usize = 600;
/// Most lines of a function outside tests, from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 80;

/// What the core must not name. `std::time::Duration` is a value and allowed.
pub(crate) const CORE_NEVER: &[&str] = &[
    "Instant",
    "SystemTime",
    "std::net",
    "std::fs",
    "std::io",
    "std::thread",
    "std::env",
    "std::process",
    "std::sync",
    "rand",
    "getrandom",
    "HashMap",
    "HashSet",
    "RandomState",
    "async",
    "await",
    "tokio",
    "println",
    "eprintln",
];

/// What the ledger must not name outside its store.
pub(crate) const LEDGER_NEVER: &[&str] = &[
    "Instant",
    "SystemTime",
    "std::net",
    "std::fs",
    "std::thread",
    "std::env",
    "std::process",
    "rand",
    "getrandom",
    "async",
    "await",
    "tokio",
];

/// What execution must not compute with.
pub(crate) const FLOATS: &[&str] = &["f32", "f64"];

/// Something that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) path: String,
    /// From 1; 0 for the whole.
    pub(crate) line: usize,
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

fn violation(source: &Source, line: usize, what: impl Into<String>) -> Violation {
    Violation { path: source.path.clone(), line, what: what.into() }
}

/// The ledger's module that does I/O.
pub(crate) fn is_store(path: &str) -> bool {
    path.starts_with("ledger/src/store/") || path == "ledger/src/store.rs"
}

/// Whether a line has a word or path of Rust, not as part of a longer one. `use std::{fs, …}` is
/// seen as `std::fs`.
fn names(line: &str, word: &str) -> bool {
    let boundary = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let whole = line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        boundary(before) && boundary(line[at + word.len()..].chars().next())
    });
    whole
        || word.strip_prefix("std::").is_some_and(|module| {
            let nested = line.trim_start().strip_prefix("use std::{");
            nested.is_some_and(|list| {
                list.split([',', ' ', '}']).any(|item| item.split("::").next() == Some(module))
            })
        })
}

/// Shipped code that names one of these words.
pub(crate) fn impure(source: &Source, never: &[&str]) -> Vec<Violation> {
    let code = join_uses(source);
    let found = code.iter().flat_map(|(number, line)| {
        never.iter().filter(|word| names(line, word)).map(move |word| (*number, word))
    });
    found.map(|(number, word)| violation(source, number, format!("names {word}"))).collect()
}

/// Shipped code with each `use` that spans lines joined to one.
fn join_uses(source: &Source) -> Vec<(usize, String)> {
    let mut joined: Vec<(usize, String)> = Vec::new();
    let mut inside = false;
    for (number, line) in source.shipped_code() {
        match joined.last_mut() {
            Some((_, statement)) if inside => {
                statement.push_str(line.trim());
                statement.push(' ');
            }
            _ => joined.push((number, line.to_owned())),
        }
        inside = (inside || line.trim_start().starts_with("use ")) && !line.contains(';');
    }
    joined
}

/// bincode anywhere but in the store.
pub(crate) fn bincode_outside_store(source: &Source) -> Vec<Violation> {
    let elsewhere = source.path.contains("/src/") && !is_store(&source.path);
    if elsewhere { impure(source, &["bincode"]) } else { Vec::new() }
}

/// English that a newcomer reads twice. In pieces, so that this file does not find itself.
const ODD_ENGLISH: [&str; 7] = [
    concat!("at the ", "most"),
    concat!("is none ", "of the"),
    concat!("for who ", "is"),
    concat!("by who ", "is"),
    concat!("of who ", "is"),
    concat!("to who ", "is"),
    concat!("from who ", "is"),
];

/// Phrases that are constructions of another language.
pub(crate) fn odd_english(source: &Source) -> Vec<Violation> {
    let found = source.lines().flat_map(|(number, line)| {
        let odd = ODD_ENGLISH.iter().filter(|phrase| line.contains(**phrase));
        odd.map(move |phrase| (number, phrase))
    });
    found.map(|(number, phrase)| violation(source, number, format!("`{phrase}`"))).collect()
}

/// The module that computes with the points of the curve, beside that of the keys.
fn is_vrf(path: &str) -> bool {
    path.starts_with("ledger/src/vrf/") || path == "ledger/src/vrf.rs"
}

/// Signatures that are checked in another way than by the one module that checks them strictly.
pub(crate) fn other_signature_checks(source: &Source) -> Vec<Violation> {
    let never: &[&str] = match source.path.as_str() {
        "ledger/src/keys.rs" => &[],
        path if is_vrf(path) => &["ed25519_dalek"],
        path if path.contains("/src/") => &["ed25519_dalek", "curve25519_dalek"],
        _ => &[],
    };
    let mut found = impure(source, never);
    found.extend(impure(source, &["verify_batch", "verify_prehashed", "raw_verify"]));
    found
}

/// Documents that readers of the repository do not have. In pieces, so that this file does not find itself.
const ABSENT_DOCUMENTS: [&str; 3] =
    [concat!("DESI", "GN"), concat!("DOMA", "IN.md"), concat!("DES", "K.md")];

/// What cites a document that is not in the repository.
pub(crate) fn absent_documents(source: &Source) -> Vec<Violation> {
    let found = source.lines().flat_map(|(number, line)| {
        let cited = ABSENT_DOCUMENTS.iter().filter(|name| line.contains(**name));
        cited.map(move |name| (number, name))
    });
    found.map(|(number, name)| violation(source, number, format!("cites {name}"))).collect()
}

/// Code that the compiler does not check, or leave for it, anywhere but in one module. The words are in
/// pieces so that this file does not find itself.
pub(crate) fn unchecked_code(source: &Source) -> Vec<Violation> {
    let words = [concat!("un", "safe"), concat!("un", "safe_code")];
    if source.path == "ledger/src/store/raw.rs" {
        return Vec::new();
    }
    let code = source.shipped_code().chain(source.test_code());
    let found = code.flat_map(|(number, line)| {
        words.iter().filter(|word| names(line, word)).map(move |word| (number, word))
    });
    found.map(|(number, word)| violation(source, number, format!("names {word}"))).collect()
}

/// The planted bugs of the consensus core, and the one file of it that asks for them.
const PLANTED_BUGS: &str = "consensus/src/core/mutants.rs";
const PLANTED_BUGS_ASKED: &str = "consensus/src/core/guards.rs";

/// Code of the consensus core that a planted bug interrupts: any that names them outside their file and
/// that which asks for them, and there inside of a function.
pub(crate) fn planted_bugs(source: &Source) -> Vec<Violation> {
    if source.path == PLANTED_BUGS {
        return Vec::new();
    }
    let declares = |line: &str| {
        let line = line.trim_end();
        source.path == "consensus/src/core.rs"
            && (line == "#[cfg(feature = \"mutants\")]" || line == "pub mod mutants;")
    };
    let interrupts = |line: &str| match source.path == PLANTED_BUGS_ASKED {
        true => line.starts_with(' ') && (line.contains("cfg") || names(line, "mutants")),
        false => {
            ["mutants", "Mutant"].iter().any(|word| names(line, word)) || line.contains("planted.")
        }
    };
    let found = source.shipped_code().filter(|(_, line)| interrupts(line) && !declares(line));
    found.map(|(number, _)| violation(source, number, "a planted bug")).collect()
}

/// Printing that panics where standard output or error is closed or full, in shipped code.
pub(crate) fn prints(source: &Source) -> Vec<Violation> {
    let words = ["println!", "eprintln!", "print!", "eprint!"];
    let found = source.shipped_code().flat_map(|(number, line)| {
        words.iter().filter(|word| names(line, word)).map(move |word| (number, word))
    });
    found.map(|(number, word)| violation(source, number, format!("uses {word}"))).collect()
}

/// More lines than one reads at a time.
pub(crate) fn long_file(source: &Source) -> Vec<Violation> {
    let lines = source.lines().count();
    if lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    vec![violation(source, 0, format!("{lines} lines, at most {FILE_LINES_MAX}: split by subject"))]
}

/// Functions outside tests that are too long. rustfmt puts the closing brace below the `fn`.
pub(crate) fn long_functions(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut open: Vec<(usize, usize, String)> = Vec::new();
    for (number, line) in source.shipped_code() {
        let indent = line.len() - line.trim_start().len();
        if let Some(name) = function_name(line).filter(|_| !line.trim_end().ends_with('}')) {
            open.push((number, indent, name.to_owned()));
        }
        let ends = line.trim_end() == format!("{}}}", " ".repeat(indent));
        let declared = line.trim_end().ends_with(';');
        if let Some((start, opened, name)) = open.last().filter(|(_, opened, _)| *opened == indent)
        {
            let lines = number + 1 - start;
            if ends && lines > FUNCTION_LINES_MAX {
                let what = format!("fn {name}: {lines} lines, at most {FUNCTION_LINES_MAX}");
                found.push(violation(source, *start, what));
            }
            // A trait's method may end without a body.
            if ends || (declared && number >= *start && indent == *opened) {
                open.pop();
            }
        }
    }
    found
}

/// The name that a line declares as a function.
fn function_name(line: &str) -> Option<&str> {
    let mut words = line.trim_start();
    for qualifier in ["pub(crate) ", "pub(super) ", "pub ", "const ", "async "] {
        words = words.strip_prefix(qualifier).unwrap_or(words);
    }
    let name = words.strip_prefix("fn ")?;
    name.split(['(', '<']).next()
}

/// Work that was put off, and tests that do not run. The words are in pieces so that this file
/// does not find itself.
pub(crate) fn left_undone(source: &Source) -> Vec<Violation> {
    let words = [
        concat!("to", "do!"),
        concat!("unimpl", "emented!"),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("#[ign", "ore"),
        concat!("#[allow(dead", "_code)]"),
    ];
    let found = source.lines().flat_map(|(number, line)| {
        words.iter().filter(|w| line.contains(**w)).map(move |w| (number, w))
    });
    found.map(|(number, word)| violation(source, number, *word)).collect()
}

/// A sleep in a test, outside a function that polls a condition until a deadline, whose name begins
/// with `wait` or `until`.
pub(crate) fn sleeps(source: &Source) -> Vec<Violation> {
    let call = concat!("sle", "ep(");
    let mut function = String::new();
    let mut found = Vec::new();
    for (number, line) in source.test_code() {
        if let Some(name) = function_name(line) {
            name.clone_into(&mut function);
        }
        if line.contains(call) && !["wait", "until"].iter().any(|w| function.starts_with(w)) {
            found.push(violation(source, number, format!("sleeps in {function}")));
        }
    }
    found
}

/// Directories of somebody's machine.
pub(crate) fn machine_paths(source: &Source) -> Vec<Violation> {
    let places = [
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/Use", "rs/"),
        concat!("/wo", "rk/"),
        concat!("C:\\", "Users"),
    ];
    let found = source.lines().flat_map(|(number, line)| {
        places.iter().filter(|p| is_path(line, p)).map(move |p| (number, p))
    });
    found.map(|(number, place)| violation(source, number, format!("names {place}"))).collect()
}

/// Whether a place begins a path there, and is not a part of one (as in an address).
fn is_path(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "_.-}$".contains(c))
    })
}

/// A dependency of a workspace without a comment above it. One comment may serve lines that follow each
/// other.
pub(crate) fn dependencies_without_reason(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    let (mut inside, mut explained, mut open) = (false, false, false);
    for (number, line) in source.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
            continue;
        }
        if !inside {
            continue;
        }
        if open {
            open = !line.contains("] }");
        } else if line.trim().is_empty() || line.starts_with("# ---") {
            explained = false;
        } else if line.starts_with('#') {
            explained = true;
        } else {
            let own = line.starts_with("customhouse-");
            if !explained && !own {
                found.push(violation(source, number, format!("no reason above: {line}")));
            }
            open = line.contains('[') && !line.contains(']');
        }
    }
    found
}

/// A dependency with a version or path of its own in a crate's manifest.
pub(crate) fn dependencies_declared_twice(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut inside = false;
    for (number, line) in source.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if inside && line.contains('=') && !line.contains("workspace = true") {
            found.push(violation(source, number, format!("not from the workspace: {line}")));
        }
    }
    found
}

/// Each rule finds a violation, and lets similar text that is right pass.
mod self_test {
    use super::*;

    fn file(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    fn rust(text: &str) -> Source {
        file("consensus/src/core.rs", text)
    }

    #[test]
    fn each_way_to_touch_the_outside_is_found() {
        for bad in [
            "let now = Instant::now();",
            "use std::time::{Duration, SystemTime};",
            "use std::{collections::BTreeMap, net::SocketAddr};",
            "use std::{\n    collections::BTreeMap,\n    fs,\n};",
            "std::thread::spawn(f);",
            "let map: HashMap<u8, u8>;",
            "use std::collections::{BTreeMap, HashSet};",
            "let x = rand::random();",
            "async fn f() {}",
            "x.await;",
            "#[cfg(test)]\nmod tests;\n\nuse std::fs;",
            "#[cfg(test)]\n#[path = \"x.rs\"]\nmod tests;\n\nuse std::fs;",
            "#[cfg(test)]\nfn f() {\n    x();\n}\n\nuse std::fs;",
        ] {
            assert!(!impure(&rust(bad), CORE_NEVER).is_empty(), "{bad}");
        }
        for good in [
            "use std::time::Duration;",
            "use std::{\n    collections::BTreeMap,\n    fmt,\n};",
            "let operand = brand + Instantly;",
            "// an Instant is not known here",
            "let x = 1;\n\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}",
        ] {
            assert_eq!(impure(&rust(good), CORE_NEVER), [], "{good}");
        }
        assert!(!impure(&rust("let x: f64 = 1.5;"), FLOATS).is_empty());
        assert!(impure(&rust("let x: u64 = 3;"), FLOATS).is_empty());
    }

    #[test]
    fn bincode_is_found_outside_the_store() {
        let text = "let x = bincode::encode(y);";
        assert!(!bincode_outside_store(&file("node/src/journal.rs", text)).is_empty());
        assert!(bincode_outside_store(&file("ledger/src/store/values.rs", text)).is_empty());
    }

    #[test]
    fn code_that_the_compiler_does_not_check_is_found_outside_its_module() {
        for text in [
            concat!("let x = un", "safe { *y };"),
            concat!("#![allow(un", "safe_code)]"),
            concat!("#[cfg(test)]\nmod tests {\n    un", "safe fn f() {}\n}"),
        ] {
            assert_eq!(unchecked_code(&rust(text)).len(), 1, "{text}");
            assert!(unchecked_code(&file("ledger/src/store/raw.rs", text)).is_empty());
        }
        let text = concat!("// un", "safe\nlet x = un", "safe_to_show;");
        assert!(unchecked_code(&rust(text)).is_empty());
    }

    #[test]
    fn a_citation_of_an_absent_document_is_found() {
        let text = concat!("//! What a vote says (DESI", "GN §4).\n//! As designed.\n");
        assert_eq!(absent_documents(&rust(text)).len(), 1);
    }

    #[test]
    fn a_phrase_of_another_language_is_found() {
        let bad = concat!("// Ten bytes at the ", "most.\n// Ten bytes at most.\n");
        assert_eq!(odd_english(&rust(bad)).len(), 1);
    }

    #[test]
    fn a_signature_that_is_checked_elsewhere_or_in_a_batch_is_found() {
        let other = |path: &str, text: &str| other_signature_checks(&file(path, text)).len();
        assert_eq!(other("node/src/a.rs", "use ed25519_dalek::VerifyingKey;"), 1);
        assert_eq!(other("ledger/src/keys.rs", "    ed25519_dalek::verify_batch(a, b, c)"), 1);
        assert_eq!(other("ledger/src/keys.rs", "use ed25519_dalek::VerifyingKey;"), 0);
        assert_eq!(other("node/src/a/tests.rs", "use curve25519_dalek::Scalar;"), 0);
        assert_eq!(other("node/src/a.rs", "use curve25519_dalek::Scalar;"), 1);
        assert_eq!(other("ledger/src/vrf/a.rs", "use curve25519_dalek::Scalar;"), 0);
        assert_eq!(other("ledger/src/vrf.rs", "use ed25519_dalek::VerifyingKey;"), 1);
    }

    #[test]
    fn a_planted_bug_is_found_where_it_interrupts_a_rule() {
        let feature = "#[cfg(feature = \"mutants\")]";
        for bad in [
            &format!("    {feature}"),
            "use crate::mutants::Planted;",
            "if self.has(Mutant::SmallQuorum) {",
            "    if self.planted.believes_early() {",
            "    let small = cfg!(feature = \"mutants\");",
            "pub mod mutants;",
        ] {
            let rules = file("consensus/src/core/rules.rs", bad);
            assert_eq!(planted_bugs(&rules).len(), 1, "{bad}");
            assert!(planted_bugs(&file(PLANTED_BUGS, bad)).is_empty(), "{bad}");
        }
        for good in ["core.planted = self.planted;", "// a planted. mutants", "let mutant = 1;"] {
            assert!(planted_bugs(&rust(good)).is_empty(), "{good}");
        }
        let module = format!("{feature}\npub mod mutants;\n");
        assert!(planted_bugs(&file("consensus/src/core.rs", &module)).is_empty());
        assert_eq!(
            planted_bugs(&file("consensus/src/core.rs", &format!("    {feature}"))).len(),
            1
        );
        // Where they are asked for, whole items are chosen, and nothing inside of one.
        let item = format!("{feature}\npub(crate) use crate::mutants::Planted;\n");
        assert!(planted_bugs(&file(PLANTED_BUGS_ASKED, &item)).is_empty());
        for inside in [format!("    {feature}"), "    crate::mutants::f();".to_owned()] {
            assert_eq!(planted_bugs(&file(PLANTED_BUGS_ASKED, &inside)).len(), 1, "{inside}");
        }
    }

    #[test]
    fn printing_that_may_panic_is_found() {
        assert_eq!(prints(&rust("    eprintln!(\"{error}\");")).len(), 1);
        assert_eq!(prints(&rust("    print!(\"a\");")).len(), 1);
        assert!(prints(&rust("let _nobody = writeln!(io::stderr(), \"a\");")).is_empty());
        assert!(prints(&rust("#[cfg(test)]\nmod tests {\n    println!();\n}")).is_empty());
    }

    #[test]
    fn a_long_file_and_a_long_function_are_found() {
        assert_eq!(long_file(&rust(&"\n".repeat(FILE_LINES_MAX + 1))).len(), 1);
        assert!(long_file(&rust(&"\n".repeat(FILE_LINES_MAX))).is_empty());
        let function = |lines: usize| {
            format!(
                "impl X {{\n    pub fn f(&self) {{\n{}    }}\n}}\n",
                "        x();\n".repeat(lines)
            )
        };
        assert_eq!(long_functions(&rust(&function(FUNCTION_LINES_MAX - 1))).len(), 1);
        assert!(long_functions(&rust(&function(FUNCTION_LINES_MAX - 2))).is_empty());
        let declared = "trait T {\n    fn f(&self);\n    fn g();\n}\n";
        assert!(long_functions(&rust(&declared.repeat(60))).is_empty());
    }

    #[test]
    fn what_is_put_off_is_found() {
        for word in
            [concat!("to", "do!()"), concat!("// TO", "DO: later"), concat!("#[ign", "ore]")]
        {
            assert_eq!(left_undone(&rust(word)).len(), 1, "{word}");
        }
        assert!(left_undone(&rust("// all done")).is_empty());
    }

    #[test]
    fn a_sleep_is_found_in_tests_only_and_a_polling_wait_may_pause() {
        let call = concat!("std::thread::sle", "ep(d);");
        let test =
            |name: &str| format!("#[cfg(test)]\nmod tests {{\n    fn {name}() {{\n{call}\n}}\n}}");
        assert_eq!(sleeps(&rust(&test("it_works"))).len(), 1);
        assert!(sleeps(&rust(&test("wait_until"))).is_empty());
        assert!(sleeps(&rust(&format!("fn back_off() {{\n{call}\n}}"))).is_empty());
        assert_eq!(sleeps(&file("tests/tests/a.rs", &format!("fn a() {{\n{call}\n}}"))).len(), 1);
    }

    #[test]
    fn a_path_of_a_machine_is_found() {
        let path = concat!("in /ho", "me/jan/x");
        assert_eq!(machine_paths(&rust(path)).len(), 1);
        let address = concat!("https://example.org/ho", "me/page");
        assert!(machine_paths(&rust(address)).is_empty());
    }

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let manifest =
            |text: &str| file("Cargo.toml", &format!("[workspace.dependencies]\n{text}"));
        let bad = "# Hashes.\nsha2 = \"1\"\n\nserde = \"1\"\n";
        assert_eq!(dependencies_without_reason(&manifest(bad)).len(), 1);
        let heading = "# --- formats\nserde = \"1\"\n";
        assert_eq!(dependencies_without_reason(&manifest(heading)).len(), 1);
        let of_a_crate = file("fuzz/Cargo.toml", "[dependencies]\nserde = \"1\"\n\n[workspace]\n");
        assert_eq!(dependencies_without_reason(&of_a_crate).len(), 1);
        let good = "# Net.\nlibp2p = { version = \"1\", features = [\n  \"a\",\n] }\n# Hashes.\nsha2 = \"1\"\n";
        assert!(dependencies_without_reason(&manifest(good)).is_empty());
    }

    #[test]
    fn a_version_in_a_crates_manifest_is_found() {
        let manifest = |text: &str| file("node/Cargo.toml", text);
        let bad = "[dependencies]\nserde = \"1\"\n";
        assert_eq!(dependencies_declared_twice(&manifest(bad)).len(), 1);
        let good = "[features]\na = [\"b\"]\n[dependencies]\nserde.workspace = true\n\
                    x = { workspace = true, features = [\"y\"] }\n";
        assert!(dependencies_declared_twice(&manifest(good)).is_empty());
    }
}
