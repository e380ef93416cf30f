//! Words and their one meaning, as the table "Words" in ARCHITECTURE.md gives them.

use std::collections::BTreeMap;

use crate::{rules::Violation, source::Source};

/// Names that say nothing, as a whole or at the end of a longer one.
const EMPTY_WORDS: [&str; 7] = ["manager", "helper", "helpers", "util", "utils", "common", "misc"];
/// Names that say too little by themselves.
const VAGUE_WORDS: [&str; 3] = ["shared", "members", "membership"];
/// Modules of the command line are named by what people type.
const COMMANDS: &str = "node/cli/src/";

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Word {
    line: usize,
    word: String,
    /// The files that may declare it: as a module of this name, or as a public type. Where there are none,
    /// nothing in the code is called so.
    homes: Vec<String>,
}

/// The table's rows.
pub(crate) fn table(page: &Source) -> Vec<Word> {
    let rows = page.lines().skip_while(|(_, line)| *line != "## Words").skip(1);
    let rows = rows.take_while(|(_, line)| !line.starts_with("## "));
    let rows = rows.skip_while(|(_, row)| !row.starts_with("|---")).skip(1);
    rows.filter_map(|(line, row)| {
        let cells: Vec<&str> = row.strip_prefix("| ")?.split(" | ").collect();
        let (word, homes) = (cells.first()?, cells.get(2)?);
        let homes = homes.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        Some(Word { line, word: (*word).to_owned(), homes })
    })
    .collect()
}

/// What a file declares by a name: itself as a module, and public types.
fn declared(source: &Source) -> Vec<(usize, String)> {
    let is_module = source.path.contains("/src/")
        && !source.path.contains("/tests/")
        && !source.path.starts_with(COMMANDS);
    let stem = source.path.rsplit('/').next().and_then(|name| name.strip_suffix(".rs"));
    let module = stem.filter(|stem| is_module && !["lib", "mod", "main"].contains(stem));
    let mut names: Vec<_> = module.map(|name| (0, name.to_owned())).into_iter().collect();
    names.extend(public_types(source).map(|(line, name)| (line, name.to_owned())));
    names
}

/// Public types of shipped code.
fn public_types(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    source.shipped_code().filter_map(|(line, code)| {
        let rest = code.trim_start().strip_prefix("pub ")?;
        let (kind, rest) = rest.split_once(' ')?;
        let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        ["struct", "enum", "trait", "type"].contains(&kind).then_some((line, &rest[..end]))
    })
}

/// Words that are declared elsewhere than the table says, and rows that name what is not there.
pub(crate) fn misplaced(table: &[Word], sources: &[&Source]) -> Vec<Violation> {
    let mut found = Vec::new();
    for Word { line, word, homes } in table {
        let says = |source: &Source| {
            let names = declared(source).into_iter();
            names.filter(|(_, name)| name.eq_ignore_ascii_case(word)).map(|(at, _)| at).next()
        };
        for source in sources {
            if let (Some(at), false) = (says(source), homes.contains(&source.path)) {
                let what = format!("declares `{word}`, whose meaning the table gives to {homes:?}");
                found.push(Violation { path: source.path.clone(), line: at, what });
            }
        }
        for home in homes {
            let is_there = sources.iter().any(|s| s.path == *home && says(s).is_some());
            if !is_there {
                let what = format!("`{home}` does not declare `{word}`");
                found.push(Violation { path: "ARCHITECTURE.md".to_owned(), line: *line, what });
            }
        }
    }
    found
}

/// Public types of one name: a reader who meets it in two crates takes one for the other.
pub(crate) fn declared_twice(sources: &[&Source]) -> Vec<Violation> {
    let mut first: BTreeMap<&str, &str> = BTreeMap::new();
    let mut found = Vec::new();
    for source in sources {
        for (line, name) in public_types(source) {
            let Some(elsewhere) = first.insert(name, &source.path) else { continue };
            let what = format!("a public type `{name}`, which {elsewhere} has too");
            found.push(Violation { path: source.path.clone(), line, what });
        }
    }
    found
}

/// Names that say nothing or too little, and getters that say that they are.
pub(crate) fn empty_words(source: &Source) -> Vec<Violation> {
    let violation = |line, what| Violation { path: source.path.clone(), line, what };
    let names = declared(source).into_iter().filter(|(_, name)| {
        let name = name.to_ascii_lowercase();
        EMPTY_WORDS.iter().any(|word| name.ends_with(word)) || VAGUE_WORDS.contains(&&*name)
    });
    let mut found: Vec<_> =
        names.map(|(line, name)| violation(line, format!("`{name}` says too little"))).collect();
    // The services' methods are named in the .proto files.
    let of_service = source.path.starts_with("node/src/serve/grpc/");
    let getters = source.shipped_code().filter(|(_, code)| code.contains("fn get_") && !of_service);
    found.extend(getters.map(|(line, _)| violation(line, "a name with `get_`".to_owned())));
    found
}

#[cfg(test)]
mod self_test {
    use super::*;

    fn file(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_word_that_is_given_a_second_meaning_is_found() {
        let page = "## Words\n\n| word | means | declared in |\n|---|---|---|\n\
                    | receipt | a proof | `ledger/src/receipt.rs`, `ledger/src/gone.rs` |\n\n## More\n\
                    | vote | x | `y` |\n";
        let table = table(&file("ARCHITECTURE.md", page));
        let homes = vec!["ledger/src/receipt.rs".to_owned(), "ledger/src/gone.rs".to_owned()];
        assert_eq!(table, [Word { line: 5, word: "receipt".to_owned(), homes }]);
        let home = file("ledger/src/receipt.rs", "");
        let module = file("node/src/network/receipt.rs", "");
        let public = file("node/src/other.rs", "x;\npub struct Receipt<T> {\n");
        let good = file("node/src/fine.rs", "struct Receipt;\npub struct ReceiptPath;\n");
        let command = file("node/cli/src/receipt.rs", "");
        let found = misplaced(&table, &[&home, &module, &public, &good, &command]);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("node/src/network/receipt.rs:0:"));
        assert!(found[1].starts_with("node/src/other.rs:2:"));
        assert!(found[2].starts_with("ARCHITECTURE.md:5: `ledger/src/gone.rs`"));
    }

    #[test]
    fn two_public_types_of_one_name_are_found() {
        let one = file("a/src/one.rs", "pub enum Tip {\n");
        let two = file("b/src/two.rs", "pub(crate) struct Other;\npub type Tip = u64;\n");
        assert_eq!(declared_twice(&[&one, &two]).len(), 1);
        assert!(declared_twice(&[&one, &file("b/src/two.rs", "enum Tip {}")]).is_empty());
    }

    #[test]
    fn names_that_say_nothing_are_found() {
        for bad in ["pub struct PeerManager;", "pub struct Shared;", "fn get_tip() {}"] {
            assert_eq!(empty_words(&file("a/src/one.rs", bad)).len(), 1, "{bad}");
        }
        assert_eq!(empty_words(&file("a/src/utils.rs", "")).len(), 1);
        assert!(empty_words(&file("a/src/one.rs", "pub struct SharedMempool;")).is_empty());
    }
}
