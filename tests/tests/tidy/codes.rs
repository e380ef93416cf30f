//! The reason codes that clients meet, and the page that explains them.

use std::collections::BTreeSet;

use crate::source::Source;

/// Where a node's codes are given, beside those of the formats.
const GIVEN_IN: &[&str] = &[
    "node/src/serve/",
    "node/src/submissions/",
    "node/src/agreements/",
    "node/src/admission.rs",
    "node/src/tls/distinguished_name.rs",
    "node/client/src/contract.rs",
];

/// Capitals in those files that are no codes.
const OTHERS: &[&str] = &["CARGO_PKG_VERSION", "POST", "HEAD"];

/// Those that other pages explain.
const ELSEWHERE: &[&str] = &[
    "BAD_SIGNATURE",
    "KIND_NOT_OPEN",
    "RECORD_AUTHORITY",
    "RECORD_TOO_LARGE",
    "SLOT_COUNT",
    "TRANSACTION_TOO_LARGE",
];

/// The codes that files give, outside their tests.
pub(crate) fn given(sources: &[Source]) -> BTreeSet<String> {
    let files = sources.iter().filter(|source| {
        source.path.ends_with(".rs") && GIVEN_IN.iter().any(|place| source.path.starts_with(place))
    });
    let lines = files.flat_map(|source| source.shipped_code().map(|(_, line)| line));
    let words =
        lines.flat_map(|line| line.split('"').skip(1).step_by(2)).filter(|word| is_code(word));
    let other = |word: &&str| OTHERS.contains(word) || ELSEWHERE.contains(word);
    words.filter(|word| !other(word)).map(str::to_owned).collect()
}

/// The codes that the page has in its tables and its last sentence.
pub(crate) fn documented(page: &str) -> BTreeSet<String> {
    let rows =
        page.lines().filter(|line| line.starts_with('|')).filter_map(|line| line.split('|').nth(1));
    let last = page.rsplit("\n\n").next().unwrap_or_default();
    let words = rows.chain([last]).flat_map(|text| text.split('`').skip(1).step_by(2));
    words.filter(|word| is_code(word)).map(str::to_owned).collect()
}

fn is_code(word: &str) -> bool {
    word.len() > 3
        && word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

#[cfg(test)]
mod self_test {
    use super::*;

    #[test]
    fn a_code_that_the_page_lacks_is_found() {
        let text = "fn code() { \"NO_ROOM\" }\n#[cfg(test)]\nmod tests {\n    const T: &str = \"TEST\";\n}\n";
        let file = Source { path: "node/src/serve/some.rs".into(), text: text.into() };
        let other = Source { path: "node/src/other.rs".into(), text: text.into() };
        assert_eq!(given(&[file, other]), BTreeSet::from(["NO_ROOM".to_owned()]));
        let page = "| code | what |\n| `A_CODE`, `NO_ROOM` | `NONE` |\n\nAnd `LAST` it is.";
        let expected = ["A_CODE", "LAST", "NO_ROOM"].map(str::to_owned);
        assert_eq!(documented(page), BTreeSet::from(expected));
    }
}
