//! ARCHITECTURE.md's tables, held to the code: who may import whom, and the code map.

use crate::{dependencies::WALLS, rules::Violation, source::Source};

/// A row of a table: its line, and its cells.
type Row<'a> = (usize, Vec<&'a str>);

/// The rows below a heading, without the table's own, up to the next heading.
fn rows<'a>(page: &'a Source, heading: &str) -> impl Iterator<Item = Row<'a>> {
    let below = page.lines().skip_while(move |(_, line)| *line != heading).skip(1);
    let below = below.take_while(|(_, line)| !line.starts_with("## "));
    let table = below.skip_while(|(_, line)| !line.starts_with("|---")).skip(1);
    let table = table.take_while(|(_, line)| line.starts_with('|'));
    table.map(|(line, row)| (line, row.trim_matches('|').split(" | ").map(str::trim).collect()))
}

fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Rows of the table of crates that say something else than [`WALLS`], and crates without a row.
pub(crate) fn other_walls(page: &Source, walls: &[(&str, &[&str])]) -> Vec<Violation> {
    let violation = |line, what| Violation { path: page.path.clone(), line, what };
    let mut found = Vec::new();
    let mut left: Vec<&str> = walls.iter().map(|(folder, _)| *folder).collect();
    for (line, cells) in rows(page, "## Bird's-eye view") {
        let folder = cells.first().and_then(|cell| quoted(cell).next()).unwrap_or("");
        let said = cells.get(1).map_or("", |cell| cell.trim_matches('–'));
        let mut said: Vec<&str> = said.split(", ").filter(|name| !name.is_empty()).collect();
        said.sort_unstable();
        left.retain(|other| *other != folder);
        match walls.iter().find(|(of, _)| *of == folder) {
            Some((_, may)) if said == *may => {}
            Some((_, may)) => found.push(violation(line, format!("`{folder}` may import {may:?}"))),
            None => found.push(violation(line, format!("`{folder}` is no crate"))),
        }
    }
    found.extend(left.iter().map(|folder| violation(0, format!("no row of walls for `{folder}`"))));
    found
}

/// Whether a crate has a module or a file of this name.
fn is_there(krate: &str, name: &str, sources: &[Source]) -> bool {
    let path = name.replace("::", "/");
    let places = [format!("{krate}/{path}"), format!("{krate}/src/{path}")];
    places.iter().any(|place| {
        let file = |path: &str| path == place || path.strip_suffix(".rs") == Some(place);
        let folder = format!("{}/", place.trim_end_matches("/*.proto"));
        sources.iter().any(|source| file(&source.path) || source.path.starts_with(&folder))
    })
}

/// What a row of the code map names, each below what stands before its colon.
fn named(cell: &str) -> Vec<String> {
    match cell.split_once("`: `") {
        Some((parent, names)) => {
            let parent = parent.trim_start_matches('`');
            let below = format!("`{names}");
            quoted(&below).map(|name| format!("{parent}::{name}")).collect()
        }
        None => quoted(cell).map(str::to_owned).collect(),
    }
}

/// Names of the code map that are not there, and modules at the top of a crate that the map does not name.
pub(crate) fn wrong_map(page: &Source, sources: &[Source]) -> Vec<Violation> {
    let violation = |line, what| Violation { path: page.path.clone(), line, what };
    let (mut found, mut mapped) = (Vec::new(), Vec::new());
    let mut krate = "";
    for (line, cells) in rows(page, "## Code map") {
        krate = quoted(cells[0]).next().unwrap_or(krate);
        let mut parent = String::new();
        for name in named(cells[1]) {
            // The rest of a list may be below the same module as what stands before it.
            let beside = format!("{parent}{name}");
            let full = if is_there(krate, &name, sources) { name } else { beside };
            if !is_there(krate, &full, sources) {
                found.push(violation(line, format!("`{krate}` has no `{full}`")));
            }
            parent = full.rsplit_once("::").map_or(String::new(), |(up, _)| format!("{up}::"));
            mapped.push(format!("{krate}/src/{}", full.split("::").next().unwrap_or("")));
        }
        let aside = quoted(cells.get(2).copied().unwrap_or(""))
            .map(|name| format!("{krate}/src/{}", name.split("::").next().unwrap_or(name)));
        mapped.extend(aside);
    }
    let tops = sources.iter().filter_map(|source| {
        let (folder, file) = source.path.rsplit_once('/')?;
        let krate = folder.strip_suffix("/src")?;
        let module = file.strip_suffix(".rs")?;
        let is_ours = WALLS.iter().any(|(of, _)| *of == krate) && krate != "tests";
        let is_module = module != "lib" && !module.ends_with("_tests") && module != "samples";
        (is_ours && is_module).then(|| format!("{folder}/{module}"))
    });
    let unmapped = tops.filter(|top| !mapped.contains(top));
    found.extend(unmapped.map(|top| violation(0, format!("the code map does not name {top}.rs"))));
    found
}

/// Files that the page names and the project does not have.
pub(crate) fn absent_files(page: &Source, sources: &[Source]) -> Vec<Violation> {
    let names = page.lines().flat_map(|(line, text)| quoted(text).map(move |name| (line, name)));
    let files = names.filter(|(_, name)| name.contains('/') && name.ends_with(".rs"));
    let absent = files.filter(|(_, name)| !sources.iter().any(|source| source.path == *name));
    let violation = |(line, name)| Violation {
        path: page.path.clone(),
        line,
        what: format!("there is no {name}"),
    };
    absent.map(violation).collect()
}

#[cfg(test)]
mod self_test {
    use super::*;

    fn file(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_row_that_says_something_else_than_the_walls_is_found() {
        let page = |row: &str| {
            let table = "## Bird's-eye view\n\n| crate | may import | never |\n|---|---|---|\n";
            file("ARCHITECTURE.md", &format!("{table}{row}\n\n## Code map\n"))
        };
        let walls: &[(&str, &[&str])] = &[("a", &["b", "c"])];
        let wrong = |row: &str| other_walls(&page(row), walls).len();
        assert_eq!(wrong("| `a` | c, b | x |"), 0);
        assert_eq!(wrong("| `a` | b | x |"), 1);
        assert_eq!(wrong("| `a` | – | x |"), 1);
        assert_eq!(wrong("| `other` | b, c | x |"), 2, "and none of a");
    }

    #[test]
    fn a_map_that_names_what_is_not_there_or_leaves_a_module_out_is_found() {
        let sources = ["ledger/src/one.rs", "ledger/src/one/two.rs", "ledger/src/one/three.rs"];
        let sources = sources.map(|path| file(path, ""));
        let wrong = |row: &str| {
            let table = "## Code map\n\n| crate | module | what it is |\n|---|---|---|\n";
            let page = file("ARCHITECTURE.md", &format!("{table}{row}\n"));
            wrong_map(&page, &sources).len()
        };
        for right in ["| `ledger` | `one` | |", "| `ledger` | `one::two`, `three` | |"] {
            assert_eq!(wrong(right), 0, "{right}");
        }
        assert_eq!(wrong("| `ledger` | `one`: `two`, `three` | |"), 0);
        assert_eq!(wrong("| `ledger` | `one`: `two`, `four` | |"), 1);
        assert_eq!(wrong("| `ledger` | `one`, `two` | |"), 1);
        assert_eq!(wrong("| `ledger` | – | |"), 1, "one is left out");
    }

    #[test]
    fn a_file_that_is_named_and_not_there_is_found() {
        let page = file("ARCHITECTURE.md", "See `a/b.rs`, `a/c.rs`, `b.rs` and `d/e`.\n");
        assert_eq!(absent_files(&page, &[file("a/b.rs", "")]).len(), 1);
    }
}
