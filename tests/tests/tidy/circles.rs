//! Import circles between the subjects of a crate.
//!
//! A *subject* is a module at the top of a crate, with all that is inside it. Its own files may know each
//! other; between subjects, imports lead one way. The crate's root counts as a subject too: what everybody
//! imports must not import everybody.

use std::collections::{BTreeMap, BTreeSet};

use crate::{rules::Violation, source::Source};

/// A module's path below its crate; empty for the root.
type Module = Vec<String>;

/// One import of a file, as a path below its crate's root.
struct Import {
    /// In which line the statement or path begins.
    line: usize,
    path: Module,
}

/// Between which subjects of a crate imports lead, and where one of them stands.
type Imports<'a> = BTreeMap<String, BTreeMap<String, (&'a str, usize)>>;

/// Walls inside a crate: a subject, and those of its crate that it never imports. What leads to them is
/// looked for in the subject itself: that the others keep their own walls does the rest.
pub(crate) const INNER_WALLS: &[(&str, &str, &[&str])] = &[
    ("ledger", "record", &["transaction", "proofs", "chain", "store"]),
    ("ledger", "registry", &["record", "transaction", "proofs", "chain", "store"]),
    ("ledger", "finality", &["registry", "record", "transaction", "proofs", "chain", "store"]),
    ("ledger", "proofs", &["chain", "store"]),
    ("ledger", "tlog", &["chain", "store"]),
    ("ledger", "store", &["chain", "proofs"]),
    ("consensus", "signed", &["core", "height", "votes"]),
    ("consensus", "height", &["core"]),
    ("consensus", "wire", &["core", "height"]),
    (
        "node",
        "network",
        &[
            "attachments",
            "driver",
            "inbound",
            "admission",
            "submissions",
            "serve",
            "services",
            "node",
        ],
    ),
    (
        "node",
        "attachments",
        &["driver", "inbound", "admission", "submissions", "serve", "services", "node"],
    ),
    (
        "node",
        "driver",
        &["attachments", "inbound", "admission", "submissions", "serve", "services", "node"],
    ),
    ("node", "inbound", &["submissions", "serve", "services", "node"]),
    ("node", "submissions", &["inbound", "serve", "services", "node"]),
    ("node", "serve", &["driver", "inbound", "admission", "node"]),
];

/// Imports through a wall inside a crate, and walls of subjects that are not there.
pub(crate) fn through_inner_walls(
    walls: &[(&str, &str, &[&str])],
    sources: &[Source],
) -> Vec<Violation> {
    let mut found = Vec::new();
    for (folder, from, never) in walls {
        let imports = imports(folder, sources);
        let is_there = |subject: &str| {
            let path = format!("{folder}/src/{subject}.rs");
            sources.iter().any(|source| source.path == path)
        };
        for name in std::iter::once(from).chain(*never).filter(|name| !is_there(name)) {
            let what = format!("a wall names `{name}`, which is not there");
            found.push(Violation { path: (*folder).to_owned(), line: 0, what });
        }
        let targets = imports.get(*from).into_iter().flatten();
        for (to, (path, line)) in targets.filter(|(to, _)| never.contains(&to.as_str())) {
            let what = format!("`{from}` may not import `{to}`");
            found.push(Violation { path: (*path).to_owned(), line: *line, what });
        }
    }
    found
}

/// Every import that is part of a circle between subjects of a crate; `folder` has the crate's `src`.
pub(crate) fn between_subjects(folder: &str, sources: &[Source]) -> Vec<Violation> {
    let imports = imports(folder, sources);
    let mut found = Vec::new();
    for (from, targets) in &imports {
        for (to, (path, line)) in targets {
            if reaches(&imports, to, from) {
                let what = format!("`{from}` imports `{to}`, which leads back to it");
                found.push(Violation { path: (*path).to_owned(), line: *line, what });
            }
        }
    }
    found
}

/// Imports between subjects of a crate.
pub(crate) fn imports<'a>(folder: &str, sources: &'a [Source]) -> Imports<'a> {
    let files: Vec<(Module, &Source)> = sources
        .iter()
        .filter_map(|source| Some((module_of(folder, &source.path)?, source)))
        .collect();
    let modules: BTreeSet<&Module> = files.iter().map(|(module, _)| module).collect();
    let mut imports: Imports = BTreeMap::new();
    for (module, source) in &files {
        for import in imports_of(source, module) {
            let target = (0..=import.path.len())
                .rev()
                .map(|length| import.path[..length].to_vec())
                .find(|path| modules.contains(path));
            let (from, to) = (subject(module), subject(&target.unwrap_or_default()));
            if from != to {
                let targets = imports.entry(from).or_default();
                targets.entry(to).or_insert((&source.path, import.line));
            }
        }
    }
    imports
}

fn reaches(imports: &Imports, from: &str, to: &str) -> bool {
    let (mut seen, mut left) = (BTreeSet::from([from]), vec![from]);
    while let Some(at) = left.pop() {
        if at == to {
            return true;
        }
        let next = imports.get(at).into_iter().flat_map(|targets| targets.keys());
        left.extend(next.map(String::as_str).filter(|next| seen.insert(next)));
    }
    false
}

fn subject(module: &[String]) -> String {
    module.first().cloned().unwrap_or_else(|| "the root".to_owned())
}

/// The module of a file that is part of a crate's library.
fn module_of(folder: &str, path: &str) -> Option<Module> {
    let inside = path.strip_prefix(folder)?.strip_prefix("/src/")?.strip_suffix(".rs")?;
    let mut module: Module = inside.split('/').map(str::to_owned).collect();
    if module[0] == "bin" || inside == "main" {
        return None;
    }
    if inside == "lib" || module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    Some(module)
}

/// What the shipped code of a file imports from its own crate: by `use`, or by a path in the code.
fn imports_of(source: &Source, module: &Module) -> Vec<Import> {
    let mut imports = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (line, code) in source.shipped_code() {
        let statement = code.trim_start().trim_start_matches("pub ").trim_start();
        let statement = match statement.strip_prefix("pub(") {
            Some(restricted) => restricted.split_once(") ").map_or(statement, |(_, rest)| rest),
            None => statement,
        };
        if let Some((_, text)) = &mut open {
            text.push_str(code.trim());
        } else if let Some(tree) = statement.strip_prefix("use ") {
            open = Some((line, tree.trim().to_owned()));
        } else {
            let paths =
                paths_in(code).into_iter().filter_map(|path| absolute(&path, module, false));
            imports.extend(paths.map(|path| Import { line, path }));
        }
        if let Some((begun, tree)) = open.take_if(|(_, text)| text.ends_with(';')) {
            let paths = leaves(tree.trim_end_matches(';'));
            let paths = paths.iter().filter_map(|path| absolute(path, module, true));
            imports.extend(paths.map(|path| Import { line: begun, path }));
        }
    }
    imports
}

/// All paths of a tree of `use`.
fn leaves(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((prefix, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or(tree);
        return vec![path.trim().trim_end_matches("::self").to_owned()];
    };
    let inside = rest.trim_end().strip_suffix('}').unwrap_or(rest);
    let (mut depth, mut branches, mut branch) = (0, Vec::new(), String::new());
    for character in inside.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                branches.push(std::mem::take(&mut branch));
                continue;
            }
            _ => {}
        }
        branch.push(character);
    }
    branches.push(branch);
    let branches = branches.iter().map(|branch| branch.trim()).filter(|branch| !branch.is_empty());
    branches.flat_map(|branch| leaves(&format!("{}{branch}", prefix.trim()))).collect()
}

/// Paths in a line of code that begin with `crate` or `super`.
fn paths_in(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || "_:$".contains(c)) {
                continue;
            }
            let path = code[at..].split(|c: char| !(c.is_alphanumeric() || "_:".contains(c)));
            found.extend(path.take(1).map(|path| path.trim_end_matches(':').to_owned()));
        }
    }
    found
}

/// A path from the crate's root, where it leads into this crate. In a `use`, a name that is not one of the
/// words for a crate may be a module inside this one.
fn absolute(path: &str, module: &Module, is_use: bool) -> Option<Module> {
    let mut parts = path.split("::").map(str::to_owned).peekable();
    let first = parts.next()?;
    let mut absolute = match &*first {
        "crate" => Vec::new(),
        "self" => module.clone(),
        "super" => {
            let mut up = module.clone();
            up.pop()?;
            while parts.next_if(|part| part == "super").is_some() {
                up.pop()?;
            }
            up
        }
        _ if is_use => [module.as_slice(), &[first]].concat(),
        _ => return None,
    };
    absolute.extend(parts);
    Some(absolute)
}

#[cfg(test)]
mod self_test {
    use super::*;

    fn sources(files: &[(&str, &str)]) -> Vec<Source> {
        let source = |(path, text): &(&str, &str)| Source {
            path: format!("a/b/src/{path}.rs"),
            text: (*text).to_owned(),
        };
        files.iter().map(source).collect()
    }

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        between_subjects("a/b", &sources(files)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_circle_is_found_however_its_imports_are_written() {
        let circle = circles(&[
            ("lib", "pub mod one;\nmod two;\nmod three;\n"),
            ("one", "use std::fmt;\nuse crate::{\n    two::{self, Two},\n};\n"),
            ("two", "use super::three::deep::{A, B as C};\n"),
            ("three", ""),
            ("three/deep", "fn f() -> crate::one::One {}\n"),
        ]);
        assert_eq!(
            circle,
            [
                "a/b/src/one.rs:2: `one` imports `two`, which leads back to it",
                "a/b/src/three/deep.rs:1: `three` imports `one`, which leads back to it",
                "a/b/src/two.rs:1: `two` imports `three`, which leads back to it",
            ]
        );
    }

    #[test]
    fn an_import_through_an_inner_wall_is_found_and_so_is_a_wall_of_nothing() {
        let files = sources(&[
            ("lib", "mod one;\nmod two;\n"),
            ("one", "use crate::two::Two;\n"),
            ("two", ""),
        ]);
        let through = |from, never| through_inner_walls(&[("a/b", from, never)], &files).len();
        assert_eq!(through("one", &["two"]), 1);
        assert_eq!(through("two", &["one"]), 0);
        assert_eq!(through("two", &["three"]), 1);
        assert_eq!(through("four", &["one"]), 1);
    }

    #[test]
    fn a_root_that_imports_what_imports_it_is_a_circle() {
        let of_root =
            [("lib", "mod one;\nuse one::One;\nstruct Two;\n"), ("one", "use crate::Two;\n")];
        assert_eq!(circles(&of_root).len(), 2);
        assert!(circles(&[("lib", "mod one;\nuse one::One;\n"), ("one", "")]).is_empty());
    }

    #[test]
    fn inside_a_subject_in_tests_and_of_other_crates_there_is_none() {
        let none = circles(&[
            ("lib", "mod one;\nmod two;\n"),
            ("one", "mod part;\nuse part::Part;\nuse crate::two::Two;\nuse other::two::Three;\n"),
            ("one/part", "use super::One;\n"),
            ("two", "use one_of::Them;\n#[cfg(test)]\nmod tests {\n    use crate::one::One;\n}\n"),
            ("two/tests", "use crate::one::One;\n"),
            ("bin/program", "use crate::one::One;\n"),
        ]);
        assert!(none.is_empty(), "{none:?}");
    }
}
