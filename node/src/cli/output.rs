//! Answers on standard output.

use std::{
    borrow::Cow,
    fmt::Display,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use serde::{Serialize, Serializer};

use super::failure::Failure;

/// Form of the answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// For scripts: one JSON document an answer, also where there is none: what went wrong.
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

    /// Prints an answer: its `Display`, or its JSON, and a line end.
    pub(crate) fn print<T: Display + Serialize>(self, answer: &T) -> io::Result<()> {
        match self.format {
            OutputFormat::Text => line(&printable(&answer.to_string())),
            OutputFormat::Json => line(&serde_json::to_string_pretty(answer)?),
        }
    }

    /// Prints an answer for scripts; people were told otherwise.
    pub(crate) fn json<T: Serialize>(self, answer: &T) -> io::Result<()> {
        match self.format {
            OutputFormat::Text => Ok(()),
            OutputFormat::Json => line(&serde_json::to_string_pretty(answer)?),
        }
    }

    /// Says what went wrong: to people, and as a document for scripts.
    pub(crate) fn failed(self, error: &anyhow::Error) {
        note(&format!("customhouse: {}", super::sentence(error)));
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

/// A path in a document. Its bytes may be no UTF-8, which JSON has not: what is none is shown as U+FFFD,
/// so that a file's name never keeps an answer back.
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

/// Says something on standard error, whether or not anybody reads it.
pub(crate) fn note(text: &str) {
    let _nobody = writeln!(io::stderr(), "{}", printable(text));
}

/// Shows control characters instead of sending them to the terminal: what records, files and peers
/// say must not move the cursor or colour a line. Line ends are the answers' own layout.
fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c.is_control() && c != '\n')
}

/// A value that stands on a line of an answer or a note. A line end in what a record, a file or a
/// node says would begin a line that looks like the answer's own.
pub(crate) fn one_line(value: &str) -> Cow<'_, str> {
    escaped(value, |c| c.is_control() || LINE_SEPARATORS.contains(&c))
}

/// Line ends that are no control characters.
const LINE_SEPARATORS: [char; 2] = ['\u{2028}', '\u{2029}'];

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
