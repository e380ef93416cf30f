//! Answers on standard output.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use clap::ValueEnum;
use serde::Serialize;

/// Form of the answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// For scripts: one JSON document an answer.
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
            OutputFormat::Text => self.line(answer),
            OutputFormat::Json => self.line(&serde_json::to_string_pretty(answer)?),
        }
    }

    /// Prints bytes as they are, whatever the format.
    pub(crate) fn bytes(self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    }

    fn line(self, text: &dyn Display) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}")?;
        stdout.flush()
    }
}
