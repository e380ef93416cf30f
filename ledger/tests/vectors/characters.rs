//! The characters that names and ids may have, as ranges of code points.

use customhouse_ledger::text::{UNICODE_VERSION, is_lower, is_mark, is_visible};
use serde_json::{Value, json};

pub(crate) fn unicode() -> Value {
    let (major, minor, update) = UNICODE_VERSION;
    json!({
        "unicode": format!("{major}.{minor}.{update}"),
        "visible": ranges(is_visible),
        "lower": ranges(|c| is_visible(c) && is_lower(c)),
        "marks": ranges(|c| is_visible(c) && is_mark(c)),
    })
}

/// Ranges in hexadecimal, both ends included, one after the other.
fn ranges(is_in: impl Fn(char) -> bool) -> String {
    let mut found: Vec<(u32, u32)> = Vec::new();
    for point in ('\0'..=char::MAX).filter(|c| is_in(*c)).map(u32::from) {
        match found.last_mut() {
            Some((_, last)) if *last + 1 == point => *last = point,
            _ => found.push((point, point)),
        }
    }
    let range = |(first, last)| match first == last {
        true => format!("{first:x}"),
        false => format!("{first:x}-{last:x}"),
    };
    found.into_iter().map(range).collect::<Vec<_>>().join(" ")
}
