//! The walks of ARCHITECTURE.md, held to the code: each step begins with a file and what is defined there, and
//! what else the step names is in that file's code.

use crate::{rules::Violation, source::Source};

/// How the heading of a walk begins.
const HEADING: &str = "## Walk ";
/// Walks that there are.
pub(crate) const WALKS: usize = 3;

/// A step: where it is, and what it names in `code`.
struct Step {
    line: usize,
    named: Vec<String>,
}

/// The steps of all walks, in order, and how many walks there are.
fn steps(page: &Source) -> (usize, Vec<Step>) {
    let (mut walks, mut inside) = (0, false);
    let mut steps: Vec<(usize, String)> = Vec::new();
    for (number, line) in page.lines() {
        if line.starts_with("## ") {
            inside = line.starts_with(HEADING);
            walks += usize::from(inside);
        } else if inside && line.starts_with(|c: char| c.is_ascii_digit()) {
            steps.push((number, line.to_owned()));
        } else if let Some((_, text)) = steps.last_mut().filter(|_| inside && line.starts_with(' '))
        {
            text.push(' ');
            text.push_str(line.trim());
        }
    }
    let named = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    (walks, steps.iter().map(|(line, text)| Step { line: *line, named: named(text) }).collect())
}

/// Steps whose file is not there, or lacks what they name.
pub(crate) fn led_astray(page: &Source, sources: &[Source]) -> Vec<Violation> {
    let (walks, steps) = steps(page);
    let violation = |line, what: String| Violation { path: page.path.clone(), line, what };
    let mut found = Vec::new();
    if walks != WALKS {
        found.push(violation(0, format!("{walks} walks, {WALKS} expected")));
    }
    for Step { line, named } in &steps {
        let file = named.first().map_or("", String::as_str);
        let Some(source) = sources.iter().find(|source| source.path == file) else {
            found.push(violation(*line, format!("`{file}` is no file")));
            continue;
        };
        let code: String = source.shipped_code().flat_map(|(_, line)| [line, "\n"]).collect();
        let lacks = named[1..].iter().filter(|name| !has_word(&code, name));
        found.extend(lacks.map(|name| violation(*line, format!("{file} has no `{name}`"))));
        if !named.get(1).is_some_and(|name| is_defined(&code, name)) {
            found.push(violation(
                *line,
                format!("{file} does not define what the step begins with"),
            ));
        }
    }
    found
}

/// Whether code defines a function, type or trait of this name.
fn is_defined(code: &str, name: &str) -> bool {
    ["fn", "struct", "enum", "trait"].iter().any(|kind| {
        let definition = format!("{kind} {name}");
        code.match_indices(&definition).any(|(at, _)| {
            let after = &code[at + definition.len()..];
            !after.starts_with(|c: char| c.is_alphanumeric() || c == '_')
        })
    })
}

/// Whether a text has the last part of a name as a word of its own.
fn has_word(text: &str, name: &str) -> bool {
    let word = name.rsplit("::").next().unwrap_or(name);
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        !before.ends_with(is_part) && !after.starts_with(is_part)
    })
}

#[test]
fn a_step_that_names_what_is_not_there_is_found() {
    let file = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    let sources = [file("a.rs", "fn take_vote() {}\n// comment\nfn count_all() { other() }")];
    let page = |steps: &str| {
        let text =
            format!("## Walk 1\n\n{steps}\n\n## Walk 2\n\n## Walk 3\n\n## Else\n\n1. `no`\n");
        file("ARCHITECTURE.md", &text)
    };
    let astray = |steps: &str| led_astray(&page(steps), &sources).len();
    assert_eq!(astray("1. `a.rs`: `take_vote` and `count_all`, and so on."), 0);
    assert_eq!(astray("1. `a.rs`: `take_vote`, and\n   `count`s it."), 1);
    assert_eq!(astray("1. `a.rs`: `other` is only called there, and `take_vote` is not."), 1);
    assert_eq!(astray("1. `a.rs`: `comment` is only written about."), 2);
    assert_eq!(astray("1. `b.rs`: `take_vote`."), 1);
    assert_eq!(astray("1. Without a file."), 1);
    assert_eq!(led_astray(&file("ARCHITECTURE.md", "## Walk 1\n"), &sources).len(), 1);
}
