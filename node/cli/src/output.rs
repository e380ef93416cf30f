//! Answers on standard output.

use std::{
    borrow::Cow,
    fmt::Display,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use customhouse_ledger::text::is_visible;
use serde::{Serialize, Serializer};

use super::failure::Failure;

/// Form of the answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// For scripts: one JSON document for an answer, or for what went wrong where there is none.
    Json,
}

/// Where answers go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: OutputFormat,
}

impl Output {
    pub(crate) fn new(format: OutputFormat) -> Self {
        Self { format }
    }

    pub(crate) fn is_json(self) -> bool {
        self.format == OutputFormat::Json
    }

    /// Prints an answer: its `Display`, or its JSON, and a line end.
    pub(crate) fn print<T: Display + Serialize>(self, answer: &T) -> io::Result<()> {
        match self.format {
            OutputFormat::Text => line(&printable(&answer.to_string())),
            OutputFormat::Json => self.json(answer),
        }
    }

    /// Prints an answer for scripts; people were told otherwise.
    pub(crate) fn json<T: Serialize>(self, answer: &T) -> io::Result<()> {
        match self.format {
            OutputFormat::Text => Ok(()),
            OutputFormat::Json => line(&printable_json(&serde_json::to_string_pretty(answer)?)),
        }
    }

    /// Prints an answer's part: its `Display`, or its JSON on one line.
    pub(crate) fn line<T: Display + Serialize>(self, part: &T) -> io::Result<()> {
        match self.format {
            OutputFormat::Text => self.text(part),
            OutputFormat::Json => line(&printable_json(&serde_json::to_string(part)?)),
        }
    }

    /// Prints a part of an answer for people; scripts get all in one document.
    pub(crate) fn text<T: Display>(self, part: &T) -> io::Result<()> {
        match self.format {
            OutputFormat::Text => line(&printable(&part.to_string())),
            OutputFormat::Json => Ok(()),
        }
    }

    /// Says what went wrong: to people, and as a document for scripts.
    pub(crate) fn failed(self, error: &anyhow::Error) {
        note(&format!("customhouse: {}", super::failure::sentence(error)));
        // As elsewhere: that nobody reads it changes nothing.
        let _nobody = self.json(&Failure::of(error));
    }

    /// Prints bytes as they are, whatever the format.
    pub(crate) fn bytes(self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        read_or_not(stdout.write_all(bytes).and_then(|()| stdout.flush()))
    }
}

fn line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    read_or_not(writeln!(stdout, "{text}").and_then(|()| stdout.flush()))
}

/// A path in a document. Its bytes may not be UTF-8, and JSON has nothing else: those are shown as
/// U+FFFD, so that a file's name never keeps an answer back.
pub(crate) fn lossy<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}

/// As [`lossy`], of a path that may be absent.
pub(crate) fn lossy_option<S: Serializer>(
    path: &Option<PathBuf>,
    to: S,
) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| path.to_string_lossy()).serialize(to)
}

/// Whoever reads the answer may have seen enough, as in `customhouse … | head`. That changes
/// nothing about what was found: the exit code is the verdict's.
fn read_or_not(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Says something on standard error, whether or not anybody reads it. A process that runs for long has a
/// queue for that, and never waits for whoever reads it.
pub(crate) fn note(text: &str) {
    let line = format!("{}\n", printable(text));
    #[cfg(feature = "node")]
    if let Some(queue) = customhouse_node::logs::queue() {
        return queue.push(line.as_bytes());
    }
    let _nobody = io::stderr().write_all(line.as_bytes());
}

/// Shows what is not seen instead of sending it to the terminal: what records, files and peers say must
/// not move the cursor, colour a line, or turn the order of what stands beside it (control characters,
/// bidirectional and invisible ones). Line ends are the answers' own layout.
fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_unseen(c) && c != '\n')
}

/// A value that stands on a line of an answer or a note. A line end in what a record, a file or a
/// node says would begin a line that looks like the answer's own.
pub(crate) fn one_line(value: &str) -> Cow<'_, str> {
    escaped(value, is_unseen)
}

/// JSON that says the same, with what is not seen in its strings as `\u` escapes: its own characters
/// are all of ASCII.
fn printable_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unseen(c) && !c.is_ascii_control() || c == '\u{7f}' {
            let mut units = [0; 2];
            shown.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Whether a character is neither seen nor a plain space.
fn is_unseen(c: char) -> bool {
    c != ' ' && !is_visible(c)
}

fn escaped(text: &str, unsafe_to_show: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&unsafe_to_show) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if unsafe_to_show(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_record_says_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mRED\u{7}\nb\r"), "a\\u{1b}[31mRED\\u{7}\nb\\r");
        assert!(matches!(printable("plain é 貨物\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_turns_or_hides_text_is_shown_and_not_sent() {
        for (text, shown) in [
            ("a\u{202e}b", "a\\u{202e}b"),
            ("a\u{2066}b\u{2069}", "a\\u{2066}b\\u{2069}"),
            ("a\u{200b}b\u{feff}", "a\\u{200b}b\\u{feff}"),
            ("a\u{85}\u{9b}31m", "a\\u{85}\\u{9b}31m"),
            ("a\u{a0}b\u{e000}", "a\\u{a0}b\\u{e000}"),
        ] {
            assert_eq!(printable(text), shown);
            assert_eq!(one_line(text), shown);
        }
        let said = serde_json::json!({ "a": "x\u{202e}y\u{7f}\u{e0041}\n é" });
        let json = printable_json(&serde_json::to_string_pretty(&said).expect("JSON"));
        assert!(json.contains(r"x\u202ey\u007f\udb40\udc41\n é"), "{json}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).expect("JSON"), said);
    }

    #[test]
    fn a_value_stays_on_its_line() {
        assert_eq!(one_line("A\r\nmrn  B\u{2028}C"), "A\\r\\nmrn  B\\u{2028}C");
        assert!(matches!(one_line("plain é 貨物"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_reader_that_left_is_no_failure() {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(read_or_not(Err(gone())).is_ok());
        assert!(read_or_not(Err(io::Error::from(io::ErrorKind::StorageFull))).is_err());
    }
}
